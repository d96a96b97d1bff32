//! What every Linux image brings, and a kernel of files: systemd's units that load modules and set sysctls write to it.

use super::FakeFiles;
use crate::host::kernel::sysctl_path;
use crate::host::root::{Files as _, Utf8Path};

/// Names of modules, one a line, that this kernel does not have.
pub const MISSING: &str = "/usr/lib/modules/missing";

const IMAGE: &[(&str, u32, &str)] = &[
    ("/usr/bin/losetup", 0o755, "\x7fELF"),
    ("/usr/bin/mount", 0o755, "\x7fELF"),
    ("/usr/bin/cp", 0o755, "\x7fELF"),
    ("/usr/lib/systemd/system/systemd-modules-load.service", 0o644, "[Service]\nType=oneshot\n"),
    ("/usr/lib/systemd/system/systemd-sysctl.service", 0o644, "[Service]\nType=oneshot\n"),
    ("/etc/nsswitch.conf", 0o644, "hosts: files myhostname dns\n"),
    ("/etc/hostname", 0o644, "box\n"),
    ("/run/systemd/system/README", 0o644, "systemd runs\n"),
    ("/proc/sys/kernel/osrelease", 0o444, "6.12.30\n"),
    ("/proc/sys/kernel/hostname", 0o644, "box\n"),
    ("/proc/sys/net/ipv4/ip_forward", 0o644, "0\n"),
    ("/proc/sys/net/ipv6/conf/all/forwarding", 0o644, "0\n"),
    ("/proc/sys/net/ipv6/conf/default/forwarding", 0o644, "0\n"),
    ("/proc/filesystems", 0o444, "nodev\tproc\n\text4\nnodev\toverlay\n"),
    ("/proc/meminfo", 0o444, "MemTotal:        4096000 kB\n"),
    ("/proc/swaps", 0o444, "Filename\tType\tSize\tUsed\tPriority\n"),
    ("/proc/self/status", 0o444, "Name:\tedgeboot\nUid:\t0\t0\t0\t0\n"),
    ("/proc/self/ns/net", 0o444, ""),
    ("/proc/self/ns/pid", 0o444, ""),
    ("/proc/self/ns/ipc", 0o444, ""),
    ("/proc/self/ns/uts", 0o444, ""),
    ("/sys/devices/system/cpu/online", 0o444, "0-3\n"),
    ("/sys/fs/cgroup/cgroup.controllers", 0o444, "cpuset cpu io memory hugetlb pids\n"),
];

/// Puts the image on an empty disk.
pub(super) fn bake(files: &FakeFiles) {
    for (path, mode, text) in IMAGE {
        files.bake(path, *mode, text.as_bytes());
    }
}

/// What one of systemd's own units does when it runs; the error is why it failed.
pub(super) fn run(files: &FakeFiles, unit: &str) -> Result<(), String> {
    match unit {
        "systemd-modules-load.service" => load_modules(files),
        "systemd-sysctl.service" => {
            set_sysctls(files);
            Ok(())
        }
        _ => Ok(()),
    }
}

fn load_modules(files: &FakeFiles) -> Result<(), String> {
    let missing = text(files, MISSING);
    let mut failed = Vec::new();
    for line in lines_of_folder(files, "/etc/modules-load.d") {
        if missing.lines().any(|name| name == line) {
            failed.push(line);
            continue;
        }
        files.bake(&format!("/sys/module/{line}/refcnt"), 0o444, b"0\n");
        if line == "br_netfilter" {
            for name in ["iptables", "ip6tables"] {
                files.bake(&format!("/proc/sys/net/bridge/bridge-nf-call-{name}"), 0o644, b"1\n");
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("failed to find module {}", failed.join(", "))) }
}

/// File by file in the order of their names, the last word wins, as sysctl.d(5) says.
fn set_sysctls(files: &FakeFiles) {
    for line in lines_of_folder(files, "/etc/sysctl.d") {
        let Some((key, value)) = line.split_once('=') else { continue };
        let path = sysctl_path(key.trim());
        if files.metadata(Utf8Path::new(&path)).ok().flatten().is_some() {
            files.bake(&path, 0o644, format!("{}\n", value.trim()).as_bytes());
        }
    }
}

fn lines_of_folder(files: &FakeFiles, folder: &str) -> Vec<String> {
    let names = files.list(Utf8Path::new(folder)).ok().flatten().unwrap_or_default();
    let texts = names.iter().map(|name| text(files, &format!("{folder}/{name}")));
    let lines = texts.flat_map(|text| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>());
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

fn text(files: &FakeFiles, path: &str) -> String {
    let bytes = files.read(Utf8Path::new(path)).ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
