//! The machine itself: user, service manager, processors, memory, swap, programs, name, forwarding.

use super::{Check, Finding, Look, always, on_control_plane};
use crate::config::node::{Node, Swap};
use crate::engine::context::Context;
use crate::error::Result;
use crate::host::kernel::{self, sysctl_path};
use crate::phases::network::is_subdomain;

pub(super) const CHECKS: &[Check] = &[
    Check { name: "IsPrivilegedUser", applies: always, look: Look::AtFiles(user) },
    Check { name: "Systemd", applies: always, look: Look::AtFiles(service_manager) },
    Check { name: "NumCPU", applies: on_control_plane, look: Look::AtFiles(processors) },
    Check { name: "Mem", applies: on_control_plane, look: Look::AtFiles(memory) },
    Check { name: "Swap", applies: keeps_swap, look: Look::AtFiles(swap) },
    Check { name: "FileExisting", applies: always, look: Look::AtFiles(programs) },
    Check { name: "Hostname", applies: always, look: Look::AtFiles(name) },
    Check { name: "FileContent", applies: always, look: Look::AtFiles(forwarding) },
];

/// kubeadm's `ControlPlaneNumCPU`.
const CONTROL_PLANE_PROCESSORS: usize = 2;
/// kubeadm's `ControlPlaneMem`, in megabytes.
const CONTROL_PLANE_MEMORY: u64 = 1700;
/// What the kubelet, and kubeadm's etcd upgrade, run.
const PROGRAMS: &[&str] = &["losetup", "mount", "cp"];
/// Where units find programs (systemd.exec(5), the default of `$PATH`).
const PATH: &[&str] = &["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

fn user(cx: &Context) -> Result<Vec<Finding>> {
    let root_or_unknown = kernel::effective_user(&cx.host.root)?.is_none_or(|user| user == 0);
    Ok(only_if(!root_or_unknown, || Finding::error("IsPrivilegedUser", "edgeboot does not run as root", "run it as root")))
}

fn service_manager(cx: &Context) -> Result<Vec<Finding>> {
    let runs = cx.host.root.exists("/run/systemd/system")?;
    Ok(only_if(!runs, || {
        Finding::error("Systemd", "this machine does not run systemd", "edgeboot needs systemd 252 or newer as the service manager")
    }))
}

fn processors(cx: &Context) -> Result<Vec<Finding>> {
    let few = kernel::processors(&cx.host.root)?.filter(|there| *there < CONTROL_PLANE_PROCESSORS);
    Ok(few.map(processors_finding).into_iter().collect())
}

fn processors_finding(there: usize) -> Finding {
    let message = format!("there are {there} processors, a control plane needs {CONTROL_PLANE_PROCESSORS}");
    Finding::error("NumCPU", message, "give the machine more, or make it a worker")
}

fn memory(cx: &Context) -> Result<Vec<Finding>> {
    let little = kernel::memory_megabytes(&cx.host.root)?.filter(|there| *there < CONTROL_PLANE_MEMORY);
    let finding = |there: u64| {
        let message = format!("there are {there} MB of memory, a control plane needs {CONTROL_PLANE_MEMORY} MB");
        Finding::error("Mem", message, "give the machine more, or make it a worker")
    };
    Ok(little.map(finding).into_iter().collect())
}

/// The kubelet may be told to live with swap; and where it is to be off, the phase `host` turns it off.
fn keeps_swap(node: &Node) -> bool {
    let allowed = node.kubelet_configuration.get("failSwapOn") == Some(&false.into());
    node.host.swap == Swap::Keep && !allowed
}

fn swap(cx: &Context) -> Result<Vec<Finding>> {
    let areas = kernel::swaps(&cx.host.root)?;
    Ok(only_if(!areas.is_empty(), || {
        let paths: Vec<&str> = areas.iter().map(|area| area.path.as_str()).collect();
        let message = format!("swap is on ({}), and a kubelet that is not told otherwise refuses to start", paths.join(", "));
        Finding::warning(
            "Swap",
            message,
            "turn it off with `host: {swap: off}`, or allow it with `failSwapOn: false` in the KubeletConfiguration",
        )
    }))
}

fn programs(cx: &Context) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for program in PROGRAMS {
        let paths = PATH.iter().map(|folder| format!("{folder}/{program}"));
        let found = paths.map(|path| cx.host.root.exists(path)).collect::<Result<Vec<bool>>>()?.contains(&true);
        if !found {
            let name = format!("FileExisting-{program}");
            findings.push(Finding::error(
                name,
                format!("there is no program {program}"),
                "add it to the image (util-linux, coreutils or busybox)",
            ));
        }
    }
    Ok(findings)
}

/// The kubelet and the API server look the node's name up; no name server is asked here, for that may take long.
fn name(cx: &Context) -> Result<Vec<Finding>> {
    let name = cx.node_name()?;
    let mut findings = Vec::new();
    if !is_subdomain(&name) {
        let message = format!("'{name}' cannot be a node's name");
        findings.push(Finding::warning("Hostname", message, "only lower case letters, digits, '-' and '.' (RFC 1123)"));
    }
    let text = |path: &str| Ok(cx.host.root.read_text(path)?.unwrap_or_default());
    let in_hosts = text("/etc/hosts")?
        .lines()
        .any(|line| line.split('#').next().is_some_and(|line| line.split_whitespace().any(|word| word == name)));
    let switch = text("/etc/nsswitch.conf")?;
    let hosts = switch.lines().find_map(|line| line.trim().strip_prefix("hosts:")).unwrap_or_default();
    let by_itself = hosts.split_whitespace().any(|service| matches!(service, "myhostname" | "resolve"));
    if !in_hosts && !by_itself {
        let message = format!("'{name}' is not in /etc/hosts, and nothing else on this machine resolves its own name");
        findings.push(Finding::warning(
            "Hostname",
            message,
            "add it to /etc/hosts, or `myhostname` to the line `hosts:` of /etc/nsswitch.conf",
        ));
    }
    Ok(findings)
}

/// The phase `host` turns forwarding on; a finding only where that is left out, or where the kernel cannot forward.
fn forwarding(cx: &Context) -> Result<Vec<Finding>> {
    let cluster = &cx.node.cluster;
    let mut subnets = cluster.service_subnets.iter().chain(&cluster.pod_subnets);
    let ipv6 = subnets.any(|subnet| subnet.network().is_ipv6());
    let keys = [("net.ipv4.ip_forward", true), ("net.ipv6.conf.default.forwarding", ipv6)];
    let left_out = cx.node.skip_phases.iter().any(|phase| phase == "host");
    let mut findings = Vec::new();
    for (key, _) in keys.iter().filter(|(_, wanted)| *wanted) {
        let path = sysctl_path(key);
        let name = format!("FileContent-{}", path.replace('/', "-"));
        match kernel::sysctl(&cx.host.root, key)?.as_deref() {
            Some("1") => {}
            Some(_) if !left_out => {}
            Some(now) => {
                findings.push(Finding::error(name, format!("{path} is {now}, not 1"), format!("set it with `sysctl {key}=1`")));
            }
            None => findings.push(Finding::error(name, format!("this kernel has no {path}"), "use a kernel with that protocol")),
        }
    }
    Ok(findings)
}

fn only_if(wrong: bool, finding: impl FnOnce() -> Finding) -> Vec<Finding> {
    if wrong { vec![finding()] } else { Vec::new() }
}
