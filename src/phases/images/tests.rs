//! The images' phases on the machine of memory: what is imported, when, and what is left alone.

use std::sync::Arc;

use super::*;
use crate::config::node::NetworkComponent;
use crate::config::sample;
use crate::engine::ledger::Ledger;
use crate::engine::progress::Progress;
use crate::host::fake::Machine;
use crate::package::sample::package;

const ALL: [&str; 8] = [
    "registry.k8s.io/kube-apiserver:v1.36.3",
    "registry.k8s.io/kube-controller-manager:v1.36.3",
    "registry.k8s.io/kube-scheduler:v1.36.3",
    "registry.k8s.io/etcd:3.6.8-0",
    "registry.k8s.io/pause:3.10.2",
    "registry.k8s.io/kube-proxy:v1.36.3",
    "registry.k8s.io/coredns/coredns:v1.14.2",
    "example.net/own/thing:1",
];

const NETWORK: [&str; 2] = [images::FLANNEL, images::FLANNEL_PLUGIN];

struct Bench {
    machine: Machine,
    cx: Context,
}

impl Bench {
    fn with_network(self, network: NetworkComponent) -> Bench {
        let node = Node { network, ..(*self.cx.node).clone() };
        let cx = Context::new(self.machine.host(), Arc::new(node), self.cx.ledger, Progress::new(vec![]), vec![]);
        Bench { cx, ..self }
    }
}

/// A machine whose package with these images is installed.
async fn bench(images: &[&str], role: Role) -> Bench {
    let machine = Machine::new();
    machine.files.bake("/usr/lib/os-release", 0o644, b"");
    machine.files.bake("/var/lib/os", 0o644, b"");
    package(&machine.root(), names::PACKAGE_BAKED, 1, images);
    let host = machine.host();
    let (ledger, _) = Ledger::load(&host.root).expect("a state");
    let node = Node { role, ..sample::control_plane() };
    let cx = Context::new(host, Arc::new(node), ledger, Progress::new(vec![]), vec![]);
    install(&cx).await;
    Bench { machine, cx }
}

async fn install(cx: &Context) {
    let phase = super::super::package::Package;
    let cx = cx.for_phase(phase.id());
    phase.inspect(&cx).await.expect("looked");
    phase.apply(&cx).await.expect("installed");
}

async fn converge(bench: &Bench, phase: &dyn Phase) -> Result<Drift> {
    let cx = bench.cx.for_phase(phase.id());
    let drift = phase.inspect(&cx).await?;
    if !drift.changes.is_empty() {
        phase.apply(&cx).await?;
        assert!(phase.inspect(&cx).await?.is_none(), "it proves its own effect");
    }
    Ok(drift)
}

#[tokio::test]
async fn the_control_planes_images_come_first_in_one_archive_and_the_others_one_by_one() {
    let bench = bench(&ALL, Role::ControlPlane).await;
    bench.machine.services.take_writes();
    let drift = converge(&bench, &First).await.expect("imported");
    assert_eq!(drift.changes.len(), 3);
    let imports = |writes: &[String]| writes.iter().filter(|write| write.starts_with("Import")).count();
    assert_eq!(imports(&bench.machine.services.take_writes()), 1);
    assert_eq!(converge(&bench, &Controllers).await.expect("imported").changes.len(), 2);
    assert_eq!(imports(&bench.machine.services.take_writes()), 1);
    converge(&bench, &Others).await.expect("imported");
    assert_eq!(imports(&bench.machine.services.take_writes()), 3);
    let mut all = ALL.map(str::to_owned).to_vec();
    all.sort();
    assert_eq!(bench.machine.services.image_names(), all);
    for phase in [&First as &dyn Phase, &Controllers, &Others] {
        assert!(converge(&bench, phase).await.expect("looked").is_none());
    }
    assert!(bench.machine.services.take_writes().is_empty(), "nothing is done twice");
}

#[tokio::test]
async fn a_worker_takes_what_is_not_the_control_planes() {
    let bench = bench(&ALL, Role::Worker).await;
    converge(&bench, &First).await.expect("imported");
    assert_eq!(bench.machine.services.image_names(), ["registry.k8s.io/kube-proxy:v1.36.3", "registry.k8s.io/pause:3.10.2"]);
    converge(&bench, &Others).await.expect("imported");
    let names = bench.machine.services.image_names();
    assert_eq!(
        names,
        [
            "example.net/own/thing:1",
            "registry.k8s.io/coredns/coredns:v1.14.2",
            "registry.k8s.io/kube-proxy:v1.36.3",
            "registry.k8s.io/pause:3.10.2"
        ]
    );
}

#[tokio::test]
async fn the_networks_images_come_first_of_the_others_and_to_a_founder_only_where_they_are_its_network() {
    let images = [&ALL[..], &NETWORK].concat();
    for (role, network, expected) in [
        (Role::ControlPlane, NetworkComponent::Bridge, false),
        (Role::ControlPlane, NetworkComponent::None, false),
        (Role::ControlPlane, NetworkComponent::Flannel, true),
        // Who joins does not know.
        (Role::Worker, NetworkComponent::None, true),
    ] {
        let bench = bench(&images, role).await.with_network(network);
        converge(&bench, &First).await.expect("imported");
        let wanted = others(&bench.cx).expect("known").packaged;
        let names: Vec<&str> = wanted.iter().map(|image| image.name.as_str()).collect();
        assert_eq!(names.iter().any(|name| NETWORK.contains(name)), expected, "{role:?} {network:?}: {names:?}");
        assert_eq!(images::is_network(names[0]) && images::is_network(names[1]), expected, "{names:?}");
    }
}

#[tokio::test]
async fn a_package_without_its_network_is_named() {
    let bench = bench(&ALL, Role::ControlPlane).await.with_network(NetworkComponent::Flannel);
    let error = converge(&bench, &Others).await.expect_err("flannel").to_string();
    assert!(error.contains(&NETWORK.join(", ")), "{error}");
}

#[tokio::test]
async fn an_image_that_is_nowhere_is_named() {
    let bench = bench(&ALL[..4], Role::ControlPlane).await;
    let error = converge(&bench, &First).await.expect_err("pause").render();
    assert!(error.contains("neither the package nor the container runtime has registry.k8s.io/pause:3.10.2"), "{error}");
    assert!(error.contains("does not pull"), "{error}");
    let error = converge(&bench, &Others).await.expect_err("the add-ons").to_string();
    assert!(error.contains("kube-proxy:v1.36.3, registry.k8s.io/coredns/coredns:v1.14.2"), "{error}");
}

#[tokio::test]
async fn somebody_elses_image_is_kept_and_an_older_one_of_ours_is_replaced() {
    let bench = bench(&ALL, Role::ControlPlane).await;
    converge(&bench, &First).await.expect("imported");
    // The next package has other images under the same names.
    bench.machine.root().remove_all(names::PACKAGE_BAKED).map(drop).expect("removed");
    package(&bench.machine.root(), names::PACKAGE_BAKED, 2, &ALL);
    install(&bench.cx).await;
    let drift = converge(&bench, &First).await.expect("imported");
    assert!(drift.changes.iter().all(|change| change.action == Action::Update) && drift.changes.len() == 3, "{drift:?}");
    assert!(converge(&bench, &First).await.expect("looked").is_none());

    // The same machine without the ledger's entries: what stands there is nobody's that is known.
    bench.machine.root().remove_all(names::PACKAGE_BAKED).map(drop).expect("removed");
    package(&bench.machine.root(), names::PACKAGE_BAKED, 3, &ALL);
    bench.machine.files.erase(names::STATE);
    let (ledger, _) = Ledger::load(&bench.machine.root()).expect("a state");
    let cx = Context::new(bench.machine.host(), bench.cx.node.clone(), ledger, Progress::new(vec![]), vec![]);
    install(&cx).await;
    let drift = First.inspect(&cx.for_phase(First.id())).await.expect("looked");
    assert_eq!((drift.changes.len(), drift.kept.len()), (0, 3), "{drift:?}");
    assert!(drift.kept[0].difference.starts_with("the runtime has sha256:"));
}

#[tokio::test]
async fn a_damaged_package_imports_nothing_and_is_named() {
    let bench = bench(&ALL, Role::ControlPlane).await;
    let package = source(&bench.cx).await.expect("there");
    let layer = package.image_blobs(&package.images[0]).expect("read").pop().expect("a layer");
    let path = format!("{}/{}", names::PACKAGE_BAKED, layer.digest.blob_path());
    bench.machine.files.bake(&path, 0o644, &vec![b'x'; usize::try_from(layer.size).expect("small")]);
    let name = package.images[0].name.as_str();
    let phase: &dyn Phase =
        if images::first(&bench.cx.node, &bench.cx.kubernetes_version().expect("known")).contains(&name.to_owned()) {
            &First
        } else if images::is_control_plane(name) {
            &Controllers
        } else {
            &Others
        };
    let error = converge(&bench, phase).await.expect_err("damaged").render();
    assert!(error.contains("is damaged") && error.contains("edgeboot package verify"), "{error}");
    assert!(bench.machine.services.image_names().iter().all(|there| there != name));
}
