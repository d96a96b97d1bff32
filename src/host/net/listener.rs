//! Who listens on a port: the kernel names the socket, and the processes are searched for the one that holds it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;

use super::{Listener, diagnosis};
use crate::error::{IoContext as _, Result};

/// The state `LISTEN` in /proc/net/tcp.
const LISTEN: &str = "0A";

/// The sockets that were seen in the hands of a process, or searched for in vain. An inode is not used again while its socket lives, so
/// that what was seen once stays true for as long as the kernel names the inode: one search answers for all ports.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    holders: Mutex<HashMap<u64, Option<u32>>>,
}

impl Sockets {
    pub(super) fn listener(&self, port: u16) -> Result<Option<Listener>> {
        let Some(inode) = listening_inode(port)? else { return Ok(None) };
        let mut holders = self.holders.lock().expect("no panic while it is held");
        if !holders.contains_key(&inode) {
            holders.extend(search());
        }
        let holder = *holders.entry(inode).or_default();
        Ok(Some(holder.map_or_else(unknown, describe)))
    }
}

/// A socket whose process is not to be seen: of the kernel, or in another PID namespace.
fn unknown() -> Listener {
    Listener { process: String::new(), pid: 0, cgroup: String::new() }
}

fn listening_inode(port: u16) -> Result<Option<u64>> {
    // Not every kernel can be asked directly.
    if let Ok(inode) = diagnosis::listening_inode(port) {
        return Ok(inode);
    }
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let found = match read(table) {
            Ok(text) => inode_in(&text, port),
            // A kernel without IPv6 has no tcp6.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).doing(|| format!("reading {table}")),
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// The inode of the socket that listens on `port`, from the text of /proc/net/tcp (proc_net_tcp.rst: the second column is the local
/// address and port, the fourth the state, the tenth the inode).
fn inode_in(table: &str, port: u16) -> Option<u64> {
    let port = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let listens = columns.get(1)?.ends_with(&port) && *columns.get(3)? == LISTEN;
        if listens { columns.get(9)?.parse().ok() } else { None }
    })
}

/// All sockets of all processes. A process that ends meanwhile is no failure.
fn search() -> HashMap<u64, Option<u32>> {
    let mut holders = HashMap::new();
    for pid in names("/proc".as_ref()).iter().filter_map(|name| name.parse::<u32>().ok()) {
        let descriptors = format!("/proc/{pid}/fd");
        for descriptor in names(descriptors.as_ref()) {
            let inode = link_target(&format!("{descriptors}/{descriptor}")).and_then(|target| socket_inode(&target));
            holders.extend(inode.map(|inode| (inode, Some(pid))));
        }
    }
    holders
}

fn socket_inode(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn describe(pid: u32) -> Listener {
    let text = |name: &str| read(&format!("/proc/{pid}/{name}")).unwrap_or_default();
    Listener { process: text("comm").trim().to_owned(), pid, cgroup: cgroup_in(&text("cgroup")).to_owned() }
}

/// The process's place in systemd's hierarchy: the unified one, or on cgroup v1 the one named `systemd`.
fn cgroup_in(text: &str) -> &str {
    let path = |prefix: &str| text.lines().find_map(|line| line.strip_prefix(prefix));
    let named = || text.lines().find_map(|line| line.split_once(":name=systemd:").map(|(_, path)| path));
    named().or_else(|| path("0::")).unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "the door to /proc")]
fn read(path: &str) -> std::io::Result<String> {
    std::fs::read_to_string(path)
}

#[expect(clippy::disallowed_methods, reason = "the door to /proc")]
fn link_target(path: &str) -> Option<String> {
    std::fs::read_link(path).ok()?.into_os_string().into_string().ok()
}

#[expect(clippy::disallowed_methods, reason = "the door to /proc")]
fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_named_with_its_process_and_a_free_port_is_free() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = socket.local_addr().expect("an address").port();
        let sockets = Sockets::default();
        let listener = sockets.listener(port).expect("looked").expect("this process listens");
        assert_eq!(listener.pid, std::process::id());
        assert!(!listener.process.is_empty());
        drop(socket);
        assert_eq!(sockets.listener(port).expect("looked"), None);
    }

    #[test]
    fn only_a_listening_socket_of_that_port_counts() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:192B 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 11 1 0 100 0 0 10 0\n   \
            1: 00000000:192B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 22 1 0 100 0 0 10 0\n";
        assert_eq!(inode_in(table, 6443), Some(22));
        assert_eq!(inode_in(table, 10250), None);
    }

    #[test]
    fn the_control_group_is_that_of_systemd() {
        assert_eq!(cgroup_in("0::/system.slice/kubelet.service\n"), "/system.slice/kubelet.service");
        assert_eq!(cgroup_in("12:cpu:/a\n1:name=systemd:/kubepods/pod1\n0::/\n"), "/kubepods/pod1");
    }
}
