//! `SystemVerification`: the kernel's release, its control groups and what it was built with (k8s.io/system-validators v1.12.1,
//! `types_unix.go`). kubeadm reads the kernel's configuration and nothing else; here a feature also counts when the running kernel
//! shows it, since small images carry no copy of the configuration.

use std::collections::BTreeMap;

use super::{Check, Finding, Look, always};
use crate::engine::context::Context;
use crate::error::Result;
use crate::host::Root;
use crate::host::kernel::{self, Cgroups, Module};

pub(super) const CHECKS: &[Check] = &[Check { name: NAME, applies: always, look: Look::AtFiles(verify) }];

const NAME: &str = "SystemVerification";
/// Release lines of the 5.x series that are maintained; from 6.0 on all will do.
const LONG_TERM: &[(u32, u32)] = &[(5, 4), (5, 10), (5, 15)];
/// From this kubelet on control groups of the first version are an error unless `failCgroupV1` is false.
const REFUSES_CGROUPS_V1: u32 = 35;
const CONTROLLERS_V1: &[&str] = &["cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids"];
const CONTROLLERS_V2: &[&str] = &["cpu", "cpuset", "devices", "freezer", "memory", "pids"];

/// How a running kernel shows that it has an option.
#[derive(Debug, Clone, Copy)]
enum Shows {
    /// By a path; without it the option is missing.
    Path(&'static str),
    /// By a controller; without it the option is missing.
    Controller(&'static str),
    /// By a module; without it nothing is known.
    Module(&'static str),
    /// By a file system; without it nothing is known.
    FileSystem(&'static str),
    /// Not at all.
    Nowhere,
}

/// Options and the older names of some.
type Options = &'static [(&'static [&'static str], Shows)];

const REQUIRED: Options = &[
    (&["NAMESPACES"], Shows::Path("/proc/self/ns")),
    (&["NET_NS"], Shows::Path("/proc/self/ns/net")),
    (&["PID_NS"], Shows::Path("/proc/self/ns/pid")),
    (&["IPC_NS"], Shows::Path("/proc/self/ns/ipc")),
    (&["UTS_NS"], Shows::Path("/proc/self/ns/uts")),
    (&["CPUSETS"], Shows::Controller("cpuset")),
    (&["MEMCG"], Shows::Controller("memory")),
    (&["INET"], Shows::Path("/proc/sys/net/ipv4")),
    (&["EXT4_FS"], Shows::FileSystem("ext4")),
    (&["PROC_FS"], Shows::Path("/proc/self")),
    (&["NETFILTER_XT_TARGET_REDIRECT", "IP_NF_TARGET_REDIRECT"], Shows::Module("xt_REDIRECT")),
    (&["NETFILTER_XT_MATCH_COMMENT"], Shows::Module("xt_comment")),
    (&["FAIR_GROUP_SCHED"], Shows::Controller("cpu")),
    (&["CGROUPS"], Shows::Path("/sys/fs/cgroup")),
    (&["CGROUP_PIDS"], Shows::Controller("pids")),
    (&["CGROUP_SCHED"], Shows::Controller("cpu")),
];
const REQUIRED_V1: Options = &[
    (&["CGROUP_CPUACCT"], Shows::Controller("cpuacct")),
    (&["CGROUP_DEVICE"], Shows::Controller("devices")),
    (&["CGROUP_FREEZER"], Shows::Controller("freezer")),
];
const REQUIRED_V2: Options = &[(&["CGROUP_BPF"], Shows::Nowhere)];

fn verify(cx: &Context) -> Result<Vec<Finding>> {
    let root = &cx.host.root;
    let release = kernel::release(root)?;
    if release.is_empty() {
        return Ok(Vec::new());
    }
    let mut findings = Vec::new();
    if !is_supported(&release) {
        findings.push(Finding::warning(
            NAME,
            format!("nobody tests Kubernetes with the kernel {release}"),
            "use 5.4, 5.10, 5.15 or a 6.x kernel; for control groups v2 at least 5.10",
        ));
    }
    let version = kernel::cgroups(root)?;
    let controllers = kernel::controllers(root)?;
    let (wanted, options) = match version {
        Cgroups::V2 => (CONTROLLERS_V2, REQUIRED_V2),
        Cgroups::V1 => (CONTROLLERS_V1, REQUIRED_V1),
    };
    if version == Cgroups::V1 {
        findings.push(first_version(cx));
    }
    let absent: Vec<&str> = wanted.iter().copied().filter(|wanted| !controllers.iter().any(|there| there == wanted)).collect();
    if !absent.is_empty() {
        let message = format!("control groups lack {}", absent.join(", "));
        findings.push(Finding::error(NAME, message, "enable these controllers on the kernel command line (`cgroup_enable=…`)"));
    }
    let built = kernel::configuration(root)?;
    let mut missing = Vec::new();
    for (names, shows) in REQUIRED.iter().chain(options) {
        if !has(root, built.as_ref(), names, *shows, &controllers)? {
            missing.push(format!("CONFIG_{}", names[0]));
        }
    }
    if !missing.is_empty() {
        let message = format!("the kernel was built without {}", missing.join(" "));
        findings.push(Finding::error(NAME, message, "use a kernel that has them, built in or as modules"));
    }
    Ok(findings)
}

fn is_supported(release: &str) -> bool {
    let mut numbers = release.split(['.', '-', '+', '_']).map_while(|part| part.parse::<u32>().ok());
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else { return false };
    major >= 6 || LONG_TERM.contains(&(major, minor))
}

/// kubelet 1.35 and newer refuse to start there, unless they are told not to; then it is the user's choice.
fn first_version(cx: &Context) -> Finding {
    let message = "the machine uses control groups v1, which Kubernetes is going to leave behind";
    let remedy = "boot with `systemd.unified_cgroup_hierarchy=1`, or set `failCgroupV1: false` in the KubeletConfiguration";
    let allowed = cx.node.kubelet_configuration.get("failCgroupV1") == Some(&false.into());
    let tolerant = cx.kubernetes_version().is_ok_and(|version| version.minor < REFUSES_CGROUPS_V1);
    if allowed || tolerant { Finding::warning(NAME, message, remedy) } else { Finding::error(NAME, message, remedy) }
}

fn has(root: &Root, built: Option<&BTreeMap<String, bool>>, names: &[&str], sign: Shows, controllers: &[String]) -> Result<bool> {
    if built.is_some_and(|built| names.iter().any(|name| built.get(*name) == Some(&true))) {
        return Ok(true);
    }
    let (seen, tells_all) = match sign {
        Shows::Path(path) => (root.exists(path)?, true),
        Shows::Controller(name) => (controllers.iter().any(|controller| controller == name), true),
        Shows::Module(name) => (kernel::module(root, name)? != Module::Unseen, false),
        Shows::FileSystem(name) => (kernel::has_file_system(root, name)? || kernel::module(root, name)? != Module::Unseen, false),
        Shows::Nowhere => (false, false),
    };
    // Where nothing says so and nothing says otherwise, the kernel gets the benefit of the doubt.
    Ok(seen || (built.is_none() && !tells_all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_judged_as_kubeadm_does() {
        for (release, expected) in [
            ("6.12.30-amd64", true),
            ("10.0.1", true),
            ("5.15.0-91-generic", true),
            ("5.4.0", true),
            ("5.14.0-427.el9.x86_64", false),
            ("4.19.0", false),
            ("unknown", false),
        ] {
            assert_eq!(is_supported(release), expected, "{release}");
        }
    }
}
