//! The manifests, the kubelet and the waits on a machine of memory: done once, nothing is left to do; what an admin edits is kept, what
//! is torn is mended; and a kubelet never goes on with older files, whenever the run was cut.

use std::sync::Arc;
use std::time::Duration;

use super::{control_plane, etcd, kubelet_start, wait_control_plane};
use crate::config::node::{KeyAlgorithm, Node};
use crate::config::sample;
use crate::engine::context::Context;
use crate::engine::ledger::Ledger;
use crate::engine::phase::Phase;
use crate::engine::progress::Progress;
use crate::engine::state::PackageFacts;
use crate::error::{Kind, Result};
use crate::host::fake::{Loss, Machine};
use crate::k8s::names;

fn phases() -> Vec<Box<dyn Phase>> {
    vec![
        Box::new(etcd::Local),
        Box::new(control_plane::ApiServer),
        Box::new(control_plane::ControllerManager),
        Box::new(control_plane::Scheduler),
        Box::new(kubelet_start::KubeletStart),
        Box::new(wait_control_plane::Kubelet),
        Box::new(wait_control_plane::ControllerManager),
        Box::new(wait_control_plane::Scheduler),
    ]
}

fn machine() -> Machine {
    let machine = Machine::new();
    machine.files.bake("/etc/hostname", 0o644, b"box\n");
    machine.files.bake("/proc/sys/kernel/hostname", 0o644, b"box\n");
    machine
}

fn context(machine: &Machine, node: &Node) -> Result<Context> {
    let host = machine.host();
    let (ledger, _) = Ledger::load(&host.root)?;
    let package = PackageFacts {
        digest: "sha256:00".to_owned(),
        version: 1,
        kubernetes_version: "v1.36.3".to_owned(),
        architecture: "amd64".to_owned(),
        images: vec![],
    };
    ledger.learn(|facts| facts.package = Some(package));
    Ok(Context::new(host, Arc::new(node.clone()), ledger, Progress::new(vec![]), vec![]))
}

/// What the engine does: look, do, look again. What was changed and what was kept.
async fn converge(machine: &Machine, node: &Node) -> Result<(Vec<String>, Vec<String>)> {
    let cx = context(machine, node)?;
    let (mut changed, mut kept) = (Vec::new(), Vec::new());
    for phase in phases() {
        let cx = cx.for_phase(phase.id());
        let drift = phase.inspect(&cx).await?;
        if !drift.is_none() {
            changed.extend(drift.changes.iter().map(|change| format!("{:?} {}", change.action, change.subject)));
            phase.apply(&cx).await?;
        }
        let left = phase.inspect(&cx).await?;
        assert!(left.is_none(), "{}: {left:?}", phase.id());
        kept.extend(left.kept.iter().map(|kept| kept.subject.to_string()));
    }
    Ok((changed, kept))
}

fn kubelet_starts(machine: &Machine) -> usize {
    machine.services.take_writes().iter().filter(|write| *write == "StartUnit kubelet.service").count()
}

#[tokio::test]
async fn a_second_run_and_a_second_boot_change_nothing() {
    let (machine, node) = (machine(), sample::control_plane());
    let (changed, kept) = converge(&machine, &node).await.expect("converged");
    assert!(changed.contains(&"Create /etc/kubernetes/manifests/etcd.yaml".to_owned()), "{changed:?}");
    assert_eq!(kept, Vec::<String>::new());
    let modes = |path: &str| machine.files.tree().get(path).map(|(mode, _)| *mode);
    assert_eq!(modes("/etc/kubernetes/manifests/kube-apiserver.yaml"), Some(0o600));
    assert_eq!(modes("/etc/kubernetes/manifests/"), Some(0o700));
    assert_eq!(modes("/var/lib/etcd/"), Some(0o700));
    assert_eq!(modes("/var/lib/kubelet/"), Some(0o700));
    assert_eq!(modes(names::KUBELET_CONFIG), Some(0o644));
    assert_eq!(kubelet_starts(&machine), 1);
    for boot in [false, true] {
        if boot {
            machine.reboot(Loss::Nothing);
            machine.services.take_writes();
        }
        let before = machine.files.stamps();
        let (changed, _) = converge(&machine, &node).await.expect("converged");
        assert_eq!(changed, Vec::<String>::new());
        assert_eq!(machine.services.take_writes(), Vec::<String>::new());
        assert_eq!(machine.files.stamps(), before);
    }
}

#[tokio::test]
async fn an_edited_manifest_is_kept_and_a_torn_one_is_mended() {
    let (machine, mut node) = (machine(), sample::control_plane());
    converge(&machine, &node).await.expect("converged");
    let edited = "/etc/kubernetes/manifests/kube-apiserver.yaml";
    let torn = "/etc/kubernetes/manifests/kube-scheduler.yaml";
    let (_, ours) = machine.files.tree()[edited].clone();
    let theirs = String::from_utf8(ours).expect("text").replace("secure-port=6443", "secure-port=6444");
    machine.files.bake(edited, 0o600, theirs.as_bytes());
    machine.files.bake(torn, 0o600, b"");
    node.cluster.dns_domain = "plant.example".to_owned();
    let (changed, kept) = converge(&machine, &node).await.expect("converged");
    assert_eq!(kept, [edited]);
    assert!(changed.contains(&format!("Mend {torn}")), "{changed:?}");
    assert_eq!(machine.files.tree()[edited].1, theirs.as_bytes());
}

/// At every instant of a change of the kubelet's files the run is killed; the next one starts the kubelet with the new files.
#[tokio::test(start_paused = true)]
async fn a_kubelet_never_goes_on_with_older_files() {
    let mut cuts = 0;
    for cut_at in 1.. {
        let (machine, mut node) = (machine(), sample::control_plane());
        converge(&machine, &node).await.expect("converged");
        machine.services.take_writes();
        node.kubelet_configuration.insert("maxPods".to_owned(), 42.into());
        machine.fuse.arm(cut_at);
        let cut = converge(&machine, &node).await;
        machine.fuse.arm(0);
        cuts += u32::from(cut.is_err());
        converge(&machine, &node).await.expect("converged after a cut");
        assert!(kubelet_starts(&machine) >= 1, "cut at {cut_at}: the kubelet still runs with the older configuration");
        let (changed, _) = converge(&machine, &node).await.expect("converged");
        assert_eq!(changed, Vec::<String>::new(), "cut at {cut_at}");
        if cut.is_ok() {
            break;
        }
    }
    assert!(cuts > 3, "{cuts} cuts");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_come_up_is_named_with_advice() {
    let (machine, mut node) = (machine(), sample::control_plane());
    node.timeouts.control_plane_component_health_check = Duration::from_secs(7);
    node.timeouts.kubelet_health_check = Duration::from_secs(5);
    converge(&machine, &node).await.expect("converged");
    // The API server's manifest is gone, so nothing serves; the controller manager's container said why.
    machine.files.erase("/etc/kubernetes/manifests/kube-apiserver.yaml");
    let log = "/var/log/pods/kube-system_kube-controller-manager-box_1/kube-controller-manager/0.log";
    machine.files.bake(log, 0o640, b"2026-11-21T09:00:00Z stderr F E1121 no API server, leaving\n");
    let cx = context(&machine, &node).expect("a context");
    let error = wait_control_plane::ControllerManager.apply(&cx).await.expect_err("nothing answers");
    let text = error.render();
    assert_eq!(error.kind(), Kind::Transient);
    for part in [
        "kube-controller-manager",
        "https://127.0.0.1:10257/healthz",
        "after 7 s",
        "no API server, leaving",
        "crictl",
        "edgeboot reconcile",
    ] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
    let deadline = crate::host::Deadline::after(Duration::from_secs(1), "a stop");
    cx.host.systemd.stop(names::KUBELET_UNIT, &deadline).await.map(drop).expect("stopped");
    let error = wait_control_plane::Kubelet.apply(&cx).await.expect_err("the kubelet is stopped");
    let text = error.render();
    assert_eq!(error.kind(), Kind::Transient);
    for part in ["http://127.0.0.1:10248/healthz", "after 5 s", "systemctl status kubelet", "journalctl -xeu kubelet"] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
}

#[tokio::test]
async fn an_external_authority_takes_the_signing_away_and_a_lost_key_does_not() {
    let (machine, mut node) = (machine(), sample::control_plane());
    node.cluster.key_algorithm = KeyAlgorithm::EcdsaP256;
    machine.files.bake("/etc/kubernetes/pki/ca.crt", 0o644, b"a certificate");
    let manifest = |cx: &Context| {
        let file = control_plane::manifest(cx, crate::k8s::static_pods::Component::ControllerManager).expect("a manifest");
        String::from_utf8(file.bytes).expect("text")
    };
    let cx = context(&machine, &node).expect("a context");
    assert!(manifest(&cx).contains("--cluster-signing-key-file=\n"));
    let key = crate::engine::file::File::text("/etc/kubernetes/pki/ca.key", 0o600, "a key");
    cx.place(vec![key]).await.map(drop).expect("placed");
    machine.files.erase("/etc/kubernetes/pki/ca.key");
    assert!(manifest(&cx).contains("--cluster-signing-key-file=/etc/kubernetes/pki/ca.key\n"));
}
