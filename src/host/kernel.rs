//! What the kernel says about itself under /proc and /sys, and what it was built with. Pure functions over the tree: they only read,
//! and what a kernel or a sandbox does not show is a value, not a failure.

use std::collections::BTreeMap;

use super::{Root, Utf8PathBuf};
use crate::error::Result;

/// Where the kernel's configuration may stand in plain text; `{}` is the release (system-validators' `kernel_validator.go`).
const CONFIGURATIONS: &[&str] = &[
    "/boot/config-{}",
    "/usr/lib/modules/{}/config",
    "/usr/lib/kernel/config-{}",
    "/usr/lib/ostree-boot/config-{}",
    "/usr/src/linux-headers-{}/.config",
];

/// Features that show elsewhere than in /sys/module, where those built into the kernel without parameters do not appear.
const TRACES: &[(&str, &str)] = &[
    ("br_netfilter", "/proc/sys/net/bridge/bridge-nf-call-iptables"),
    ("nf_conntrack", "/proc/sys/net/netfilter/nf_conntrack_max"),
    ("ip_tables", "/proc/net/ip_tables_names"),
    ("ip_vs", "/proc/net/ip_vs"),
];

/// hostname(5).
const STATIC_HOSTNAME: &str = "/etc/hostname";

/// How a kernel feature is present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Module {
    /// It works now, as a module or built in.
    Present,
    /// The kernel has it as a module, which is not loaded.
    Loadable,
    /// Nothing shows it. (A sandbox may hide the modules' folder.)
    Unseen,
}

/// Which control group hierarchy systemd uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cgroups {
    /// The unified hierarchy.
    V2,
    /// One hierarchy for each controller, or both kinds at once.
    V1,
}

/// An active swap area.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwapArea {
    /// The device or file.
    pub path: String,
}

/// The kernel's release, for instance `6.12.30`.
pub fn release(root: &Root) -> Result<String> {
    Ok(text(root, "/proc/sys/kernel/osrelease")?.trim().to_owned())
}

/// The machine's name as the kernel has it.
pub fn hostname(root: &Root) -> Result<String> {
    Ok(text(root, "/proc/sys/kernel/hostname")?.trim().to_owned())
}

/// The name that systemd gives the machine at each boot (hostname(5)); empty where there is none.
pub fn static_hostname(root: &Root) -> Result<String> {
    let text = text(root, STATIC_HOSTNAME)?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.next().unwrap_or_default().to_owned())
}

/// Makes that name outlast a power cut.
pub fn flush_static_hostname(root: &Root) -> Result<()> {
    if root.exists(STATIC_HOSTNAME)? {
        root.sync(STATIC_HOSTNAME)?;
    }
    root.sync_dir("/etc")
}

/// The user this process acts as; `None` where /proc does not say.
pub fn effective_user(root: &Root) -> Result<Option<u32>> {
    let status = text(root, "/proc/self/status")?;
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    Ok(users.and_then(|users| users.split_ascii_whitespace().nth(1)?.parse().ok()))
}

/// Memory that the kernel has to give, in megabytes as kubeadm counts them; `None` where /proc does not say.
pub fn memory_megabytes(root: &Root) -> Result<Option<u64>> {
    let information = text(root, "/proc/meminfo")?;
    let total = information.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    Ok(total.and_then(|total| total.split_ascii_whitespace().next()?.parse::<u64>().ok()).map(|kilobytes| kilobytes / 1024))
}

/// Processors that are online; `None` where /sys does not say.
pub fn processors(root: &Root) -> Result<Option<usize>> {
    Ok(count_in_list(text(root, "/sys/devices/system/cpu/online")?.trim()))
}

/// How many numbers there are in the kernel's list format, `0-3,8`.
fn count_in_list(list: &str) -> Option<usize> {
    let count = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        (to.parse::<usize>().ok()? + 1).checked_sub(from.parse().ok()?)
    };
    list.split(',').map(count).sum()
}

/// Active swap areas.
pub fn swaps(root: &Root) -> Result<Vec<SwapArea>> {
    let table = text(root, "/proc/swaps")?;
    let paths = table.lines().skip(1).filter_map(|line| line.split_ascii_whitespace().next());
    // The kernel writes spaces in names in octal, as in /proc/mounts.
    Ok(paths.map(|path| SwapArea { path: path.replace("\\040", " ") }).collect())
}

/// Where something is mounted, in the order of mounting.
pub fn mounts(root: &Root) -> Result<Vec<Utf8PathBuf>> {
    let table = text(root, "/proc/self/mounts")?;
    Ok(table.lines().filter_map(|line| line.split(' ').nth(1)).map(|path| without_escapes(path).into()).collect())
}

/// A path as the kernel writes it into its tables: what would end a column is a backslash and three octal digits.
fn without_escapes(path: &str) -> String {
    let mut parts = path.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        if let Some(byte) = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            plain.push(char::from(byte));
            plain.push_str(&part[3..]);
        } else {
            plain.push('\\');
            plain.push_str(part);
        }
    }
    plain
}

/// Which control group hierarchy systemd uses.
pub fn cgroups(root: &Root) -> Result<Cgroups> {
    Ok(if root.exists("/sys/fs/cgroup/cgroup.controllers")? { Cgroups::V2 } else { Cgroups::V1 })
}

/// The control group controllers there are; with the two that the unified hierarchy has without listing them.
pub fn controllers(root: &Root) -> Result<Vec<String>> {
    if cgroups(root)? == Cgroups::V2 {
        let listed = text(root, "/sys/fs/cgroup/cgroup.controllers")?;
        // The freezer is part of every group, devices are judged by eBPF programs.
        return Ok(listed.split_ascii_whitespace().chain(["freezer", "devices"]).map(str::to_owned).collect());
    }
    let table = text(root, "/proc/cgroups")?;
    let enabled = table.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        (columns.get(3)? != &"0").then(|| columns[0].to_owned())
    });
    Ok(enabled.collect())
}

/// How a module, or the feature it stands for, is present.
pub fn module(root: &Root, name: &str) -> Result<Module> {
    let name = name.replace('-', "_");
    if root.exists(format!("/sys/module/{name}"))? || has_file_system(root, &name)? || leaves_trace(root, &name)? {
        return Ok(Module::Present);
    }
    let folder = format!("/usr/lib/modules/{}", release(root)?);
    if lists_module(root, &format!("{folder}/modules.builtin"), &name)? {
        return Ok(Module::Present);
    }
    Ok(if lists_module(root, &format!("{folder}/modules.dep"), &name)? { Module::Loadable } else { Module::Unseen })
}

fn leaves_trace(root: &Root, name: &str) -> Result<bool> {
    match TRACES.iter().find(|(module, _)| *module == name) {
        Some((_, path)) => root.exists(path),
        None => Ok(false),
    }
}

/// Whether the kernel can mount this file system now.
pub fn has_file_system(root: &Root, name: &str) -> Result<bool> {
    Ok(text(root, "/proc/filesystems")?.lines().any(|line| line.split_ascii_whitespace().next_back() == Some(name)))
}

/// Whether modules.builtin or modules.dep (`kernel/fs/overlayfs/overlay.ko.zst: …`) names a module.
fn lists_module(root: &Root, path: &str, name: &str) -> Result<bool> {
    let list = text(root, path)?;
    let listed = |line: &str| {
        let file = line.split(':').next().and_then(|path| path.rsplit('/').next());
        let module = file.and_then(|file| file.split(".ko").next());
        module.is_some_and(|module| module.len() == name.len() && module.replace('-', "_") == name)
    };
    Ok(list.lines().any(listed))
}

/// Where a sysctl stands, from its key as sysctl.d(5) takes it: dots, or slashes when a slash comes first, and then dots are dots.
pub fn sysctl_path(key: &str) -> String {
    let dots_separate = key.find(['.', '/']).is_none_or(|at| key.as_bytes()[at] == b'.');
    let swap = |character| match character {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let path: String = if dots_separate { key.chars().map(swap).collect() } else { key.to_owned() };
    format!("/proc/sys/{path}")
}

/// The value of a sysctl with its white space made plain; `None` when this kernel does not have it.
pub fn sysctl(root: &Root, key: &str) -> Result<Option<String>> {
    Ok(root.read_text(sysctl_path(key))?.map(|value| plain_value(&value)))
}

/// A sysctl's value as it is compared: the kernel separates by tabs what people separate by spaces.
pub fn plain_value(value: &str) -> String {
    value.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

/// What the running kernel was built with (`CONFIG_` left out; `y` or `m` as `true`); `None` where no plain text of it is installed.
pub fn configuration(root: &Root) -> Result<Option<BTreeMap<String, bool>>> {
    let release = release(root)?;
    for template in CONFIGURATIONS {
        let path = template.replace("{}", &release);
        if let Some(text) = root.read_text(&path)? {
            return Ok(Some(options(&text)));
        }
    }
    Ok(None)
}

fn options(text: &str) -> BTreeMap<String, bool> {
    let option = |line: &str| {
        let (name, value) = line.strip_prefix("CONFIG_")?.split_once('=')?;
        Some((name.to_owned(), value.starts_with(['y', 'm'])))
    };
    text.lines().filter_map(option).collect()
}

/// The text at a path of the kernel's; empty where this kernel, or the sandbox, does not show it.
fn text(root: &Root, path: &str) -> Result<String> {
    Ok(root.read_text(path)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().expect("a folder");
        let root = Root::at(folder.path().to_str().expect("UTF-8")).expect("a tree");
        for (path, text) in files {
            assert!(root.put(path, 0o644, text.as_bytes()).expect("placed").is_yes());
        }
        (folder, root)
    }

    #[test]
    fn a_feature_is_present_however_it_shows() {
        let (_folder, root) = root(&[
            ("/proc/sys/kernel/osrelease", "6.12.30\n"),
            ("/proc/filesystems", "nodev\tproc\n\text4\nnodev\toverlay\n"),
            ("/proc/sys/net/bridge/bridge-nf-call-iptables", "1\n"),
            ("/sys/module/nf_conntrack/parameters/hashsize", "1\n"),
            ("/usr/lib/modules/6.12.30/modules.builtin", "kernel/drivers/char/tpm/tpm-tis.ko\n"),
            ("/usr/lib/modules/6.12.30/modules.dep", "kernel/net/netfilter/ipvs/ip_vs.ko.xz: kernel/lib/libcrc32c.ko.xz\n"),
        ]);
        for (name, expected) in [
            ("overlay", Module::Present),
            ("br_netfilter", Module::Present),
            ("nf_conntrack", Module::Present),
            ("tpm_tis", Module::Present),
            ("ip_vs", Module::Loadable),
            ("libcrc32c", Module::Unseen),
            ("vs", Module::Unseen),
        ] {
            assert_eq!(module(&root, name).expect("looked"), expected, "{name}");
        }
    }

    #[test]
    fn the_kernels_tables_are_read() {
        let (_folder, root) = root(&[
            ("/proc/meminfo", "MemTotal:        2048000 kB\nMemFree: 1 kB\n"),
            ("/sys/devices/system/cpu/online", "0-3,8\n"),
            ("/proc/swaps", "Filename Type Size Used Priority\n/dev/dm\\0401 partition 1 0 -2\n"),
            ("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu memory\n"),
            ("/proc/self/mounts", "/dev/vda1 / ext4 rw 0 0\ntmpfs /var/lib/kubelet/pods/a\\040b\\134 tmpfs rw 0 0\n"),
            ("/proc/self/status", "Name:\tx\nUid:\t1000\t0\t0\t0\n"),
            ("/proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456\n"),
            ("/proc/sys/kernel/osrelease", "6.12.30\n"),
            ("/boot/config-6.12.30", "# CONFIG_A is not set\nCONFIG_B=y\nCONFIG_C=m\nCONFIG_D=\"x\"\n"),
        ]);
        assert_eq!(memory_megabytes(&root).expect("looked"), Some(2000));
        assert_eq!(processors(&root).expect("looked"), Some(5));
        assert_eq!(swaps(&root).expect("looked"), vec![SwapArea { path: "/dev/dm 1".to_owned() }]);
        assert_eq!(mounts(&root).expect("looked"), ["/", "/var/lib/kubelet/pods/a b\\"]);
        assert_eq!(cgroups(&root).expect("looked"), Cgroups::V2);
        assert!(controllers(&root).expect("looked").contains(&"devices".to_owned()));
        assert_eq!(effective_user(&root).expect("looked"), Some(0));
        assert_eq!(sysctl(&root, "net.ipv4.tcp_rmem").expect("looked").as_deref(), Some("4096 131072 6291456"));
        let built = configuration(&root).expect("looked").expect("installed");
        assert_eq!(
            (built.get("A"), built.get("B"), built.get("C"), built.get("D")),
            (None, Some(&true), Some(&true), Some(&false))
        );
    }

    #[test]
    fn control_groups_of_the_first_version_are_those_that_are_enabled() {
        let table = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t1\t1\t1\nmemory\t0\t1\t0\n";
        let (_folder, root) = root(&[("/proc/cgroups", table)]);
        assert_eq!(cgroups(&root).expect("looked"), Cgroups::V1);
        assert_eq!(controllers(&root).expect("looked"), vec!["cpuset".to_owned()]);
    }

    #[test]
    fn a_sysctl_is_named_with_dots_or_with_slashes() {
        for (key, path) in [
            ("net.ipv4.ip_forward", "/proc/sys/net/ipv4/ip_forward"),
            ("net.ipv4.conf.eth0/100.forwarding", "/proc/sys/net/ipv4/conf/eth0.100/forwarding"),
            ("net/ipv4/conf/eth0.100/forwarding", "/proc/sys/net/ipv4/conf/eth0.100/forwarding"),
        ] {
            assert_eq!(sysctl_path(key), path);
        }
    }
}
