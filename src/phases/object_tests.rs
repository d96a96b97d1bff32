//! The phases that write objects, against what kubeadm v1.36.3 wrote on a real machine, and on a machine of memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    addon, admin_binding, bootstrap_token, cni, flannel, mark_control_plane, node_registered, upload_certs, upload_config,
};
use crate::components::{coredns, kube_proxy};
use crate::config::node::{Auto, BootstrapToken, CertificateKey, Node, Token};
use crate::config::sample;
use crate::engine::context::Context;
use crate::engine::ledger::Ledger;
use crate::engine::phase::{Action, Inputs, Phase};
use crate::engine::plan::Plan;
use crate::engine::progress::Progress;
use crate::host::api::{ObjectReference, object_name};
use crate::host::fake::{Loss, Machine};
use crate::k8s::objects::differences;
use crate::k8s::patches::Patches;
use crate::k8s::{certificate_upload, cluster_info};

/// Every object that kubeadm wrote, without what the server adds to its metadata. Its configuration: P-256, the pod subnet
/// 10.244.0.0/16, `failCgroupV1: false`, kube-proxy with nftables and without conntrack limits; the machine `km` at 10.77.0.21.
fn kubeadms() -> BTreeMap<String, Value> {
    let objects: Vec<Value> = serde_json::from_str(include_str!("../../tests/fixtures/kubeadm-objects.json")).expect("JSON");
    objects.into_iter().map(|object| (object_name(&object), object)).collect()
}

fn as_kubeadm_was_configured() -> Node {
    let mut node = sample::control_plane();
    node.registration.name = Auto::Set("km".to_owned());
    node.advertise_address = Auto::Set([10, 77, 0, 21].into());
    node.kubelet_configuration.insert("failCgroupV1".to_owned(), json!(false));
    node.kube_proxy_configuration.insert("mode".to_owned(), json!("nftables"));
    node.kube_proxy_configuration.insert("conntrack".to_owned(), json!({"maxPerCore": 0, "min": 0}));
    node
}

/// YAML and JSON inside of texts is compared as data.
fn with_texts_read(mut object: Value) -> Value {
    for text in object.get_mut("data").and_then(Value::as_object_mut).into_iter().flat_map(|data| data.values_mut()) {
        if let Some(read) = text.as_str().and_then(|text| serde_saphyr::from_str::<Value>(text).ok()).filter(Value::is_object) {
            *text = read;
        }
    }
    object
}

#[test]
fn every_object_is_kubeadms() {
    let (node, kubeadm) = (as_kubeadm_was_configured(), kubeadms());
    let (version, server) = ("v1.36.3".parse().expect("a version"), "https://10.77.0.21:6443");
    let info = kubeadm["ConfigMap kube-public/cluster-info"]["data"]["kubeconfig"].as_str().expect("a kubeconfig");
    let info: Value = serde_saphyr::from_str(info).expect("YAML");
    let ca = info["clusters"][0]["cluster"]["certificate-authority-data"].as_str().expect("a CA");
    let ca = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, ca).expect("base64");
    let mut wishes = admin_binding::wishes();
    wishes.extend(upload_config::kubeadm_wishes(&node, &version));
    wishes.extend(upload_config::kubelet_wishes(&node, true));
    wishes.extend(bootstrap_token::rights());
    wishes.extend(cluster_info::objects(server, &ca));
    wishes.extend(coredns::objects(&node.cluster, &Patches::none()).expect("CoreDNS"));
    wishes.extend(kube_proxy::objects(&node, &version, [10, 77, 0, 21].into(), server).expect("kube-proxy"));
    // On purpose: the default is below /usr (see k8s::kubelet_config).
    let wanted = [("ConfigMap kube-system/kubelet-config", "/data/kubelet/volumePluginDir")];
    let names: Vec<String> = wishes.iter().map(object_name).collect();
    assert_eq!(kubeadm.keys().filter(|name| !names.contains(name)).collect::<Vec<_>>(), Vec::<&String>::new());
    for wish in wishes {
        let name = object_name(&wish);
        let live = with_texts_read(kubeadm.get(&name).unwrap_or_else(|| panic!("kubeadm wrote no {name}")).clone());
        let differing: Vec<String> = differences(&with_texts_read(wish.clone()), &live)
            .into_iter()
            .filter(|pointer| !wanted.contains(&(name.as_str(), pointer.as_str())))
            .collect();
        assert_eq!(differing, Vec::<String>::new(), "{name}");
        // And nothing of kubeadm's is missing in what has no defaults.
        if ["ConfigMap", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"]
            .contains(&wish["kind"].as_str().expect("a kind"))
        {
            let missing = differences(&live, &with_texts_read(wish));
            assert_eq!(missing, Vec::<String>::new(), "{name} lacks");
        }
    }
}

fn machine() -> Machine {
    let machine = Machine::new();
    let files = &machine.files;
    files.bake("/etc/hostname", 0o644, b"box\n");
    files.bake("/etc/systemd/system/kubelet.service", 0o644, b"[Service]\n");
    files.bake("/etc/systemd/system/multi-user.target.wants/kubelet.service", 0o644, b"[Service]\n");
    for manifest in ["etcd", "kube-apiserver"] {
        files.bake(&format!("/etc/kubernetes/manifests/{manifest}.yaml"), 0o600, b"kind: Pod\n");
    }
    files.bake("/etc/kubernetes/super-admin.conf", 0o600, b"kind: Config\n");
    files.bake("/etc/kubernetes/pki/ca.crt", 0o644, b"a CA\n");
    machine.reboot(Loss::Nothing);
    machine
}

fn context(machine: &Machine, node: Node) -> Context {
    let host = machine.host();
    let (ledger, _) = Ledger::load(&host.root).expect("a ledger");
    Context::new(host, Arc::new(node), ledger, Progress::new(vec![]), vec![])
}

fn all() -> Vec<Box<dyn Phase>> {
    vec![
        Box::new(admin_binding::AdminBinding),
        Box::new(upload_config::Kubeadm),
        Box::new(upload_config::Kubelet),
        Box::new(bootstrap_token::Access),
        Box::new(addon::CoreDns),
        Box::new(addon::KubeProxy),
        Box::new(flannel::Flannel),
        Box::new(mark_control_plane::FOUNDER),
        Box::new(node_registered::NodeRegistered),
        Box::new(cni::Cni),
        Box::new(cni::PodCidr),
    ]
}

/// What the engine does: inspect, apply where there is drift, and record. The changes of all phases.
async fn converge(cx: &Context) -> Vec<String> {
    let mut changes = Vec::new();
    for phase in all() {
        let cx = cx.for_phase(phase.id());
        let drift = phase.inspect(&cx).await.expect("looked");
        changes.extend(drift.changes.iter().map(|change| format!("{:?} {}", change.action, change.subject)));
        if !drift.is_none() {
            phase.apply(&cx).await.expect("applied");
            assert_eq!(phase.inspect(&cx).await.expect("looked again").changes, vec![], "{} is not proven", phase.id());
        }
        let fingerprint = phase.fingerprint(&Inputs { node: &cx.node, facts: &cx.facts() });
        cx.ledger.record(&cx.host.root, phase.id(), &fingerprint).expect("recorded");
    }
    cx.ledger.save(&cx.host).await.expect("saved");
    changes
}

#[tokio::test]
async fn a_second_run_writes_nothing() {
    let machine = machine();
    let first = converge(&context(&machine, sample::control_plane())).await;
    assert!(first.contains(&"Create ConfigMap kube-system/kubeadm-config".to_owned()), "{first:?}");
    assert!(first.contains(&"Update Node box".to_owned()), "{first:?}");
    assert_eq!(machine.services.take_writes().len(), first.iter().filter(|change| !change.contains("/etc/cni")).count());
    assert_eq!(converge(&context(&machine, sample::control_plane())).await, Vec::<String>::new());
    assert_eq!(machine.services.take_writes(), Vec::<String>::new());
}

#[tokio::test]
async fn what_others_changed_is_kept_and_reported() {
    let machine = machine();
    converge(&context(&machine, sample::control_plane())).await;
    machine.services.edit_object("ConfigMap kube-system/coredns", |object| object["data"]["Corefile"] = json!(".:53 { mine }"));
    machine.services.edit_object("Node box", |object| object["spec"]["taints"] = json!([]));
    machine.services.take_writes();
    let cx = context(&machine, sample::control_plane());
    assert_eq!(converge(&cx).await, Vec::<String>::new());
    assert_eq!(machine.services.take_writes(), Vec::<String>::new());
    let kept = addon::CoreDns.inspect(&cx).await.expect("looked").kept;
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].difference, "differs at /data/Corefile");
    let kept = mark_control_plane::FOUNDER.inspect(&cx).await.expect("looked").kept;
    assert_eq!(kept[0].difference, "somebody removed: taints");
}

#[tokio::test]
async fn a_changed_wish_is_written_and_a_lost_object_made_again() {
    let machine = machine();
    converge(&context(&machine, sample::control_plane())).await;
    machine.services.take_writes();
    let mut node = sample::control_plane();
    node.cluster.dns.image_tag = "v9".to_owned();
    machine.services.edit_object("Deployment kube-system/coredns", |object| object["spec"]["replicas"] = json!(1));
    let changes = converge(&context(&machine, node.clone())).await;
    assert_eq!(changes, ["Update ConfigMap kube-system/kubeadm-config", "Update Deployment kube-system/coredns"]);
    let deployment = &machine.services.objects()["Deployment kube-system/coredns"];
    assert_eq!(deployment["spec"]["replicas"], 1);
    assert_eq!(deployment["spec"]["template"]["spec"]["containers"][0]["image"], "registry.k8s.io/coredns/coredns:v9");
    let lost = ObjectReference::new("v1", "ConfigMap", "configmaps").namespaced("kube-public").named("cluster-info");
    let cx = context(&machine, node);
    assert!(cx.api().expect("a client").delete(&lost).await.expect("deleted").is_yes());
    assert_eq!(converge(&cx).await, ["Create ConfigMap kube-public/cluster-info"]);
    assert_eq!(converge(&cx).await, Vec::<String>::new());
}

#[tokio::test]
async fn the_network_follows_the_nodes_own_subnets() {
    let machine = machine();
    converge(&context(&machine, sample::control_plane())).await;
    machine.services.edit_object("Node box", |object| object["spec"]["podCIDRs"] = json!(["10.244.7.0/24"]));
    let path = "/etc/cni/net.d/10-edgeboot-bridge.conflist";
    assert_eq!(converge(&context(&machine, sample::control_plane())).await, [format!("Update {path}")]);
    let text = machine.host().root.read_text(path).expect("read").expect("it is there");
    assert!(text.contains("10.244.7.0/24"), "{text}");
    assert_eq!(converge(&context(&machine, sample::control_plane())).await, Vec::<String>::new());
}

#[tokio::test]
async fn tokens_and_certificates_are_uploaded_without_a_trace_of_the_secrets() {
    let machine = machine();
    let mut node = sample::control_plane();
    node.upload_certs = true;
    node.bootstrap_tokens = vec![BootstrapToken {
        token: Token::parse("abcdef.0123456789abcdef").expect("a token"),
        description: String::new(),
        ttl: std::time::Duration::from_secs(3600),
        usages: vec!["signing".to_owned()],
        groups: vec![],
    }];
    let cx = context(&machine, node);
    for phase in [&bootstrap_token::Tokens as &dyn Phase, &upload_certs::UploadCerts] {
        let cx = cx.for_phase(phase.id());
        assert!(phase.inspect(&cx).await.expect("looked").changes.iter().any(|change| change.action == Action::Create));
        // A power cut after half of it leads to the same again.
        phase.apply(&cx).await.expect("applied");
        phase.apply(&cx).await.expect("applied again");
    }
    let key: CertificateKey = upload_certs::made_key(&cx).expect("read").expect("a key was made");
    let objects = machine.services.objects();
    assert_eq!(objects["Secret kube-system/bootstrap-token-abcdef"]["data"]["token-id"], "YWJjZGVm");
    let secret = &objects["Secret kube-system/kubeadm-certs"];
    let sealed = secret["data"]["ca.crt"].as_str().expect("a sealed file");
    let sealed = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, sealed).expect("base64");
    assert_eq!(certificate_upload::open(&key, &sealed).expect("opened"), b"a CA\n");
    assert_eq!(secret["data"]["ca.key"], "");
    assert!(secret["metadata"]["ownerReferences"][0]["name"].as_str().expect("an owner").starts_with("bootstrap-token-"));
    for (path, (mode, bytes)) in machine.files.tree() {
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("0123456789abcdef"), "{path}");
        assert!(
            !text.contains(key.expose()) || (path.ends_with("/credentials/certificate-key") && mode == 0o600),
            "{path} {mode:o}"
        );
    }
}

/// What `edgeboot token` does: a taken id is refused before anything is made, what is listed was made, and what is ended is gone.
#[tokio::test]
async fn tokens_come_and_go() {
    let machine = machine();
    let (api, now) = (machine.host().api.connect("", "").expect("a client"), "2026-11-21T08:46:57Z".parse().expect("a time"));
    let deadline = || crate::host::Deadline::after(std::time::Duration::from_millis(20), "the API server");
    let token = |text: &str| BootstrapToken {
        token: Token::parse(text).expect("a token"),
        description: "for a test".to_owned(),
        ttl: std::time::Duration::from_secs(60),
        usages: vec!["signing".to_owned()],
        groups: vec![],
    };
    let (one, two) = (token("aaaaaa.0123456789abcdef"), token("bbbbbb.0123456789abcdef"));
    bootstrap_token::make_new(api.as_ref(), std::slice::from_ref(&one), now, &deadline()).await.expect("made");
    let error = bootstrap_token::make_new(api.as_ref(), &[two.clone(), one], now, &deadline()).await.expect_err("taken").render();
    assert!(error.contains("a token with id \"aaaaaa\" already exists") && !error.contains("0123456789"), "{error}");
    bootstrap_token::make_new(api.as_ref(), &[two], now, &deadline()).await.expect("made");
    let standing = bootstrap_token::standing(api.as_ref(), &deadline()).await.expect("a list");
    let ids: Vec<String> = standing.into_iter().map(|token| token.expect("a token").token.id).collect();
    assert_eq!(ids, ["aaaaaa", "bbbbbb"]);
    bootstrap_token::remove(api.as_ref(), "aaaaaa", &deadline()).await.expect("ended");
    let error = bootstrap_token::remove(api.as_ref(), "aaaaaa", &deadline()).await.expect_err("gone").to_string();
    assert_eq!(error, "deleting the bootstrap token aaaaaa: there is no Secret kube-system/bootstrap-token-aaaaaa");
    assert_eq!(bootstrap_token::standing(api.as_ref(), &deadline()).await.expect("a list").len(), 1);
}

#[test]
fn every_phase_gets_its_turn() {
    let table = super::table();
    let mut node = sample::control_plane();
    node.upload_certs = true;
    let plan = Plan::for_node(&table, &node).expect("a plan");
    let mut done = std::collections::BTreeSet::new();
    while done.len() < plan.steps.len() {
        let next = plan.steps.iter().find(|step| !done.contains(&step.phase.id()) && step.after.is_subset(&done));
        done.insert(next.unwrap_or_else(|| panic!("the phases wait for each other; done: {done:?}")).phase.id());
    }
}
