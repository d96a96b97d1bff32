//! The network as the fake machine has it.

use std::sync::Arc;

use super::*;
use crate::config::sample;
use crate::engine::ledger::Ledger;
use crate::engine::progress::Progress;
use crate::host::fake::Machine;
use crate::host::net::{DefaultRoute, Listener, Net};
use crate::k8s::kubeconfig::{Authority, Credentials};

fn address(interface: &str, ip: &str, global: bool) -> Address {
    Address { interface: interface.to_owned(), ip: ip.parse().expect("an address"), prefix: 24, global }
}

fn route(interface: &str, metric: u32, ipv6: bool) -> DefaultRoute {
    DefaultRoute { interface: interface.to_owned(), gateway: None, source: None, ipv6, metric }
}

fn context(machine: &Machine, edit: impl FnOnce(&mut Node)) -> Context {
    let host = machine.host();
    let (ledger, _) = Ledger::load(&host.root).expect("read");
    let mut node = sample::control_plane();
    node.registration.name = Auto::Auto;
    node.advertise_address = Auto::Auto;
    edit(&mut node);
    Context::new(host, Arc::new(node), ledger, Progress::new(vec![]), vec![])
}

fn named(name: &str) -> Machine {
    let machine = Machine::new();
    machine.files.bake("/proc/sys/kernel/hostname", 0o644, name.as_bytes());
    machine
}

#[test]
fn the_source_of_the_best_default_route_is_taken() {
    let interfaces = Interfaces {
        addresses: vec![
            address("lo", "127.0.0.1", false),
            address("eth0", "169.254.1.1", false),
            address("eth0", "10.0.0.5", true),
            address("eth0", "10.0.0.6", true),
            address("eth1", "10.1.0.5", true),
            address("eth1", "fd00::5", true),
        ],
        default_routes: vec![
            route("eth0", 100, false),
            route("eth1", 200, false),
            DefaultRoute { source: Some("10.0.0.6".parse().expect("an address")), ..route("eth0", 300, false) },
            route("eth1", 1024, true),
        ],
    };
    let chosen = |routes: &[usize], ipv6| {
        let default_routes = routes.iter().map(|index| interfaces.default_routes[*index].clone()).collect();
        source_of_default_route(&Interfaces { default_routes, ..interfaces.clone() }, ipv6).map(|ip| ip.to_string())
    };
    assert_eq!(chosen(&[0, 1, 3], false).as_deref(), Some("10.0.0.5"));
    assert_eq!(chosen(&[1, 0], false).as_deref(), Some("10.1.0.5"));
    assert_eq!(chosen(&[2], false).as_deref(), Some("10.0.0.6"));
    assert_eq!(chosen(&[0, 3], true).as_deref(), Some("fd00::5"));
    assert_eq!(chosen(&[3], false), None);
    assert_eq!(chosen(&[], false), None);
}

#[tokio::test]
async fn name_and_address_are_told_by_the_machine_and_then_frozen() {
    let machine = named("Box.Example\n");
    let cx = context(&machine, |_| {});
    assert!(Network.inspect(&cx).await.expect("looked").is_none());
    assert_eq!(cx.node_name().expect("learned"), "box.example");
    assert_eq!(cx.advertise_address().expect("learned").to_string(), "10.77.0.11");

    machine.services.set_interfaces(Interfaces {
        addresses: vec![address("eth0", "10.9.9.9", true)],
        default_routes: vec![route("eth0", 0, false)],
    });
    let drift = Network.inspect(&cx).await.expect("looked");
    assert_eq!(drift.changes.len(), 1, "the frozen address is not followed");
    let error = Network.apply(&cx).await.expect_err("it does not come back");
    assert_eq!(error.kind(), Kind::Host);
    let text = error.render();
    for part in ["10.77.0.11", "eth0 10.9.9.9", "localAPIEndpoint: {advertiseAddress: 10.9.9.9}"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let mut cx = cx;
    cx.node = Arc::new(Node { advertise_address: Auto::Set([10, 9, 9, 9].into()), ..(*cx.node).clone() });
    assert!(Network.inspect(&cx).await.expect("looked").is_none(), "once the configuration names it");
    assert_eq!(cx.facts().advertise_address, Some([10, 9, 9, 9].into()));
}

#[tokio::test]
async fn without_a_default_route_only_a_configured_address_will_do() {
    let machine = named("box");
    machine.services.set_interfaces(Interfaces { addresses: vec![address("eth0", "10.0.0.5", true)], default_routes: vec![] });
    let error = Network.apply(&context(&machine, |_| {})).await.expect_err("nothing to choose by");
    let text = error.render();
    assert!(text.contains("no default route and no advertise address configured"), "{text}");
    assert!(text.contains("localAPIEndpoint: {advertiseAddress: 10.0.0.5}"), "{text}");
    let configured = context(&machine, |node| node.advertise_address = Auto::Set([10, 0, 0, 5].into()));
    assert!(Network.inspect(&configured).await.expect("looked").is_none());
    let elsewhere = context(&machine, |node| node.advertise_address = Auto::Set([10, 0, 0, 7].into()));
    let error = Network.apply(&elsewhere).await.expect_err("it is on no interface");
    assert!(error.to_string().contains("the advertise address 10.0.0.7 on an interface"), "{error}");
    let worker = context(&machine, |node| node.role = Role::Worker);
    assert!(Network.inspect(&worker).await.expect("looked").is_none());
    assert_eq!(worker.facts().advertise_address, None);
}

#[tokio::test]
async fn what_was_made_here_is_known_again_when_the_state_is_lost() {
    let machine = named("renamed");
    let manifest = format!("metadata:\n  annotations:\n    {ADVERTISE_ANNOTATION}: 10.77.0.99:6443\n");
    machine.files.bake("/etc/kubernetes/manifests/kube-apiserver.yaml", 0o600, manifest.as_bytes());
    let kubeconfig = Kubeconfig {
        cluster: "kubernetes".to_owned(),
        user: "system:node:box".to_owned(),
        server: "https://10.77.0.99:6443".to_owned(),
        authority: Authority::File("/etc/kubernetes/pki/ca.crt".to_owned()),
        credentials: Credentials::Files {
            certificate: names::KUBELET_CLIENT_CURRENT.to_owned(),
            key: names::KUBELET_CLIENT_CURRENT.to_owned(),
        },
    };
    machine.files.bake(names::KUBELET_CONF, 0o600, kubeconfig.render().as_bytes());
    let cx = context(&machine, |_| {});
    let drift = Network.inspect(&cx).await.expect("looked");
    assert!(drift.changes[0].reason.contains("10.77.0.99"), "{drift:?}");
    assert_eq!(cx.node_name().expect("learned"), "box");
}

#[test]
fn names_that_all_machines_share_are_refused_with_the_remedy() {
    for refused in ["", "(none)", "localhost", "LOCALHOST.localdomain", "a_b", "-a", "a..b", "a.", &"a".repeat(254)] {
        let error = host_name(refused).expect_err(refused);
        assert!(error.remedy().is_some_and(|hint| hint.contains("hostnamectl set-hostname")), "{refused}");
    }
    assert_eq!(host_name("Edge-01.Example.COM\n").expect("a name"), "edge-01.example.com");
}

#[tokio::test]
async fn a_wished_hostname_is_the_nodes_name_until_a_cluster_knows_another() {
    // The registration's name and the fact, where there are such, and whether there is a cluster; the name, and whether it is kept
    // against the wish.
    for (registration, fact, has_cluster, expected, kept) in [
        ("", "", false, "edge-7", false),
        ("", "box", false, "edge-7", false),
        ("", "box", true, "box", true),
        ("", "edge-7", true, "edge-7", false),
        ("node-9", "", false, "node-9", false),
        ("node-9", "box", true, "node-9", false),
    ] {
        let told = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let cx = context(&named("box"), |node| {
            node.host.hostname = Some("Edge-7".to_owned());
            node.registration.name = told(registration).map_or(Auto::Auto, Auto::Set);
        });
        cx.learn(|facts| facts.node_name = told(fact));
        if has_cluster {
            cx.ledger.set_cluster(crate::engine::state::ClusterIdentity { ca_cert_hash: "sha256:0".to_owned() });
        }
        let drift = Network.inspect(&cx).await.expect("looked");
        let found = (cx.node_name().expect("learned"), !drift.kept.is_empty());
        assert_eq!(found, (expected.to_owned(), kept), "{registration} {fact}");
    }
}

/// A network whose address comes with the first event.
#[derive(Debug)]
struct Late;

#[async_trait]
impl Net for Late {
    async fn interfaces(&self) -> Result<Interfaces> {
        Ok(Interfaces::default())
    }
    async fn changed(&self, _seen: &Interfaces, _deadline: &Deadline) -> Result<Interfaces> {
        Ok(Interfaces { addresses: vec![address("eth0", "10.0.0.5", true)], default_routes: vec![route("eth0", 0, false)] })
    }
    async fn listener(&self, _port: u16) -> Result<Option<Listener>> {
        Ok(None)
    }
}

#[tokio::test]
async fn an_address_that_comes_late_is_waited_for() {
    let mut cx = context(&named("box"), |_| {});
    cx.host.net = Arc::new(Late);
    assert_eq!(Network.inspect(&cx).await.expect("looked").changes[0].action, Action::Await);
    Network.apply(&cx).await.expect("it came");
    assert_eq!(cx.facts().advertise_address, Some([10, 0, 0, 5].into()));
}
