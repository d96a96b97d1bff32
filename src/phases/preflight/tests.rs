//! Preflight on the fake machine.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;

use super::*;
use crate::config::node::{Auto, RuntimeSource};
use crate::config::sample;
use crate::engine::ledger::Ledger;
use crate::engine::progress::Progress;
use crate::error::Kind;
use crate::host::Deadline;
use crate::host::fake::Machine;
use crate::host::net::{Interfaces, Listener, Net};

fn context(machine: &Machine, edit: impl FnOnce(&mut Node)) -> Context {
    let host = machine.host();
    let (ledger, _) = Ledger::load(&host.root).expect("read");
    let mut node = sample::control_plane();
    edit(&mut node);
    Context::new(host, Arc::new(node), ledger, Progress::new(vec![]), vec![])
}

async fn names_of(cx: &Context) -> Vec<String> {
    findings(cx).await.expect("looked").into_iter().map(|finding| finding.check).collect()
}

/// Somebody listens on every port.
#[derive(Debug)]
struct Busy(Listener);

#[async_trait]
impl Net for Busy {
    async fn interfaces(&self) -> Result<Interfaces> {
        Ok(Interfaces::default())
    }
    async fn changed(&self, _seen: &Interfaces, deadline: &Deadline) -> Result<Interfaces> {
        Err(deadline.exceeded())
    }
    async fn listener(&self, _port: u16) -> Result<Option<Listener>> {
        Ok(Some(self.0.clone()))
    }
}

#[tokio::test]
async fn a_fit_machine_has_no_findings() {
    let machine = Machine::new();
    assert_eq!(names_of(&context(&machine, |_| {})).await, Vec::<String>::new());
}

#[tokio::test]
async fn everything_that_is_wrong_is_said_at_once_with_kubeadms_names() {
    let machine = Machine::new();
    machine.files.bake("/proc/self/status", 0o444, b"Uid:\t1000\t1000\t1000\t1000\n");
    machine.files.bake("/sys/devices/system/cpu/online", 0o444, b"0\n");
    machine.files.bake("/proc/meminfo", 0o444, b"MemTotal: 1024000 kB\n");
    machine.files.bake("/proc/swaps", 0o444, b"Filename\n/dev/sda2 partition 1 0 -2\n");
    machine.files.bake("/etc/kubernetes/manifests/etcd.yaml", 0o600, b"kind: Pod\n");
    machine.files.bake("/etc/nsswitch.conf", 0o644, b"hosts: files dns\n");
    machine.files.erase("/usr/bin/losetup");
    machine.files.erase("/sys/fs/cgroup/cgroup.controllers");
    machine.files.bake("/proc/cgroups", 0o444, b"#subsys_name hierarchy num_cgroups enabled\ncpu 1 1 1\n");
    let cx = context(&machine, |node| node.runtime.source = RuntimeSource::Existing);
    let names = names_of(&cx).await;
    for name in [
        "IsPrivilegedUser",
        "NumCPU",
        "Mem",
        "Swap",
        "FileExisting-losetup",
        "Hostname",
        "SystemVerification",
        "FileAvailable--etc-kubernetes-manifests-etcd.yaml",
    ] {
        assert!(names.iter().any(|found| found == name), "{name} in {names:?}");
    }
    let error = Preflight.inspect(&cx).await.expect_err("unfit");
    assert_eq!(error.kind(), Kind::Host);
    let text = error.render();
    assert!(text.contains("\n  [NumCPU] there are 1 processors, a control plane needs 2"), "{text}");
    assert!(text.contains("ignorePreflightErrors: [IsPrivilegedUser, NumCPU, Mem, "), "{text}");
    assert!(!text.contains("[Swap]"), "a warning is no reason to stop");
}

#[tokio::test]
async fn errors_are_ignored_by_name_or_altogether() {
    let machine = Machine::new();
    machine.files.bake("/proc/meminfo", 0o444, b"MemTotal: 1024000 kB\n");
    for (ignored, fit) in [(vec![], false), (vec!["numcpu"], false), (vec!["mem"], true), (vec!["all"], true)] {
        let ignored: Vec<String> = ignored.into_iter().map(str::to_owned).collect();
        let cx = context(&machine, |node| node.registration.ignore_preflight_errors = ignored.clone());
        assert_eq!(Preflight.inspect(&cx).await.is_ok(), fit, "{ignored:?}");
    }
}

#[tokio::test]
async fn control_groups_v1_are_an_error_unless_the_kubelet_is_told_to_bear_them() {
    let machine = Machine::new();
    machine.files.erase("/sys/fs/cgroup/cgroup.controllers");
    let groups = ["cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids"].map(|name| format!("{name} 1 1 1\n"));
    machine.files.bake("/proc/cgroups", 0o444, groups.concat().as_bytes());
    let level = async |value: Option<bool>| {
        let cx = context(&machine, |node| {
            if let Some(value) = value {
                node.kubelet_configuration.insert("failCgroupV1".to_owned(), json!(value));
            }
        });
        let found = findings(&cx).await.expect("looked");
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].level
    };
    assert_eq!(level(None).await, Level::Error);
    assert_eq!(level(Some(true)).await, Level::Error);
    assert_eq!(level(Some(false)).await, Level::Warning);
}

#[tokio::test]
async fn a_port_is_free_or_held_by_what_was_put_there() {
    let listener = |process: &str, cgroup: &str| Listener { process: process.into(), pid: 7, cgroup: cgroup.into() };
    let machine = Machine::new();
    let taken = async |machine: &Machine, listener: Listener| {
        let mut cx = context(machine, |_| {});
        cx.host.net = Arc::new(Busy(listener));
        names_of(&cx).await
    };
    let stranger = taken(&machine, listener("nginx", "/system.slice/nginx.service")).await;
    assert_eq!(stranger, ["Port-10250", "Port-6443", "Port-10259", "Port-10257", "Port-2379", "Port-2380"]);
    let pod = listener("kube-controller", "/kubepods.slice/kubepods-burstable.slice/pod1");
    assert!(taken(&machine, pod.clone()).await.contains(&"Port-10257".to_owned()), "nobody put it there");
    machine.files.bake("/etc/kubernetes/manifests/kube-controller-manager.yaml", 0o600, b"");
    assert!(!taken(&machine, pod).await.contains(&"Port-10257".to_owned()));
    let hidden = Listener { process: String::new(), pid: 0, cgroup: String::new() };
    assert!(!taken(&machine, hidden.clone()).await.contains(&"Port-10257".to_owned()));
    assert!(taken(&machine, hidden).await.contains(&"Port-6443".to_owned()));
}

#[tokio::test]
async fn etcds_data_without_its_cluster_is_not_buried() {
    let machine = Machine::new();
    machine.files.bake("/var/lib/etcd/lost+found/x", 0o600, b"");
    assert_eq!(names_of(&context(&machine, |_| {})).await, Vec::<String>::new());
    machine.files.bake("/var/lib/etcd/member/snap/db", 0o600, b"data");
    assert_eq!(names_of(&context(&machine, |_| {})).await, ["DirAvailable--var-lib-etcd"]);
    machine.files.bake(names::KUBELET_CONF, 0o600, b"kind: Config\n");
    assert_eq!(names_of(&context(&machine, |_| {})).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_kubelet_newer_than_its_control_plane_is_refused() {
    let machine = Machine::new();
    for (wished, expected) in [("v1.35.9", vec!["KubeletVersion"]), ("v1.36.0", vec![]), ("v1.37.0", vec!["KubernetesVersion"])] {
        let cx = context(&machine, |node| node.cluster.kubernetes_version = Auto::Set(wished.parse().expect("a version")));
        cx.learn(|facts| {
            facts.package = Some(crate::engine::state::PackageFacts {
                digest: String::new(),
                version: 1,
                kubernetes_version: "v1.36.3".to_owned(),
                architecture: "amd64".to_owned(),
                images: vec![],
            });
        });
        assert_eq!(names_of(&cx).await, expected, "{wished}");
    }
}
