//! Certificates and kubeconfigs on the fake machine: founded, looked at again, damaged, cut off, and touched by others.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use crate::config::node::Node;
use crate::config::{Wish, load};
use crate::engine::context::Context;
use crate::engine::ledger::Ledger;
use crate::engine::phase::{Change, Disruption, Drift, Fingerprint, Inputs, Kept, Phase, PhaseId};
use crate::engine::plan::Plan;
use crate::engine::progress::{Event, Listener, Progress, Status};
use crate::engine::run::run;
use crate::error::{Error, Kind, Result};
use crate::host::clock::Clock as _;
use crate::host::fake::{Loss, Machine};
use crate::k8s::kubeconfig::{Credentials, Kubeconfig};
use crate::k8s::names;
use crate::k8s::pki::{Certificate, Pair, PrivateKey, Profile, San, Validity, ca_hash};
use crate::phases::certs::renewal;
use crate::phases::kubeconfig::{Proof, for_user};
use crate::phases::kubelet_finalize;

const PKI: &str = "/etc/kubernetes/pki";
const YEAR: Duration = Duration::from_secs(8760 * 3600);

/// A phase of somebody else, in whose place nothing happens.
struct Nothing(&'static str, &'static [PhaseId]);

#[async_trait]
impl Phase for Nothing {
    fn id(&self) -> PhaseId {
        PhaseId(self.0)
    }
    fn summary(&self) -> &'static str {
        "nothing"
    }
    fn after(&self) -> &'static [PhaseId] {
        self.1
    }
    fn applies(&self, _node: &Node) -> bool {
        true
    }
    fn fingerprint(&self, _inputs: &Inputs<'_>) -> Fingerprint {
        Fingerprint::of(&())
    }
    async fn inspect(&self, _cx: &Context) -> Result<Drift> {
        Ok(Drift::none())
    }
    async fn apply(&self, _cx: &Context) -> Result<()> {
        Ok(())
    }
}

fn table() -> Vec<Box<dyn Phase>> {
    let mut table: Vec<Box<dyn Phase>> = vec![Box::new(Nothing("preflight", &[]))];
    let rows = crate::phases::table().into_iter().filter(|phase| {
        let id = phase.id().0;
        id.starts_with("certs/") || id.starts_with("kubeconfig/")
    });
    table.extend(rows);
    table.push(Box::new(Nothing("kubelet-start", &[PhaseId("kubeconfig")])));
    table.push(Box::new(Nothing("node-registered", &[PhaseId("kubelet-start")])));
    table.push(Box::new(kubelet_finalize::EnableClientCertRotation));
    table
}

/// What a run told.
#[derive(Debug, Default, Clone)]
struct Told {
    changes: Arc<Mutex<Vec<Change>>>,
    kept: Arc<Mutex<Vec<Kept>>>,
    said: Arc<Mutex<Vec<String>>>,
}

impl Listener for Told {
    fn hear(&self, event: &Event<'_>, _status: &Status) {
        match event {
            Event::Started(_, changes) => self.changes.lock().expect("no panic").extend_from_slice(changes),
            Event::Done(_, _, _, kept) => self.kept.lock().expect("no panic").extend_from_slice(kept),
            Event::Said(_, line) => self.said.lock().expect("no panic").push((*line).to_owned()),
            _ => {}
        }
    }
}

impl Told {
    fn changed(&self) -> Vec<String> {
        self.changes.lock().expect("no panic").iter().map(|change| change.subject.to_string()).collect()
    }
    fn kept(&self) -> Vec<String> {
        let kept = self.kept.lock().expect("no panic");
        kept.iter().map(|kept| format!("{}: {}", kept.subject, kept.difference)).collect()
    }
    fn disrupts(&self) -> Disruption {
        let changes = self.changes.lock().expect("no panic");
        changes.iter().map(|change| change.disrupts).max().unwrap_or(Disruption::Nothing)
    }
    fn said(&self) -> String {
        self.said.lock().expect("no panic").join("\n")
    }
}

/// The fake machine with a configuration.
struct Bench(Machine);

impl Bench {
    fn new(more: &str) -> Bench {
        let bench = Bench(Machine::new());
        bench.configure(more);
        bench
    }
    /// A machine whose control plane has run.
    async fn founded(more: &str) -> Bench {
        let bench = Bench::new(more);
        bench.run().await.expect("founded");
        bench.put("/var/lib/etcd/member/snap/db", b"data");
        bench
    }
    fn configure(&self, more: &str) {
        let text = format!(
            "apiVersion: edgeboot.io/v1alpha1\nkind: NodeConfig\nrole: controlPlane\n---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\n\
             localAPIEndpoint: {{advertiseAddress: 10.77.0.11}}\nnodeRegistration: {{name: node-1}}\n---\n\
             apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: v1.36.3\n{more}\n"
        );
        self.put(names::CONFIG, text.as_bytes());
    }
    fn put(&self, path: &str, bytes: &[u8]) {
        let mode = self.0.root().metadata(path).expect("metadata").map_or(0o600, |metadata| metadata.mode);
        self.0.files.bake(path, mode, bytes);
    }
    fn read(&self, path: &str) -> Vec<u8> {
        self.0.root().read(path).expect("readable").unwrap_or_else(|| panic!("{path} is not there"))
    }
    fn certificate(&self, base: &str) -> Certificate {
        Certificate::from_pem(&self.read(&format!("{PKI}/{base}.crt"))).expect("a certificate")
    }
    fn authority(&self) -> Pair {
        let key = PrivateKey::from_pem(&self.read(&format!("{PKI}/ca.key"))).expect("a key");
        Pair { certificate: self.certificate("ca"), key }
    }
    fn node(&self) -> Node {
        let outcome = load(&self.0.root(), &[]).unwrap_or_else(|error| panic!("{}", error.render()));
        match outcome.wish {
            Wish::Node { node, .. } => *node,
            Wish::Nothing { .. } => panic!("a role is given"),
        }
    }
    async fn run(&self) -> Result<Told> {
        self.run_with(&[]).await
    }
    async fn run_with(&self, force: &[&str]) -> Result<Told> {
        let (told, node) = (Told::default(), Arc::new(self.node()));
        let (ledger, _) = Ledger::load(&self.0.root())?;
        let force = force.iter().map(|&path| path.to_owned()).collect();
        let cx = Context::new(self.0.host(), node, ledger, Progress::new(vec![Box::new(told.clone())]), force);
        let table = table();
        let plan = Plan::for_node(&table, &cx.node)?;
        let (_stop, stopped) = tokio::sync::watch::channel(false);
        let mut outcome = run(&cx, &plan, stopped).await;
        match outcome.failed.pop() {
            Some((id, error)) => Err(error.while_doing(id.0)),
            None => cx.ledger.save(&cx.host).await.map(|()| told),
        }
    }
    /// A failure, and its words.
    async fn stops(&self) -> (Kind, String) {
        let error: Error = self.run().await.expect_err("it stops");
        (error.kind(), error.render())
    }
    async fn changes_nothing(&self) {
        let stamps = self.0.files.stamps();
        let told = self.run().await.expect("nothing to do");
        assert!(told.changed().is_empty(), "{:?}", told.changed());
        let differing = self.0.files.stamps().into_iter().filter(|(path, stamp)| stamps.get(path) != Some(stamp));
        assert_eq!(differing.map(|(path, _)| path).collect::<Vec<_>>(), Vec::<String>::new());
    }
    fn later(&self, duration: Duration) {
        let now = self.0.services.now().checked_add(duration).expect("a time");
        self.0.services.set_now(now);
    }
}

const KUBEADMS: &[(&str, u32)] = &[
    ("/etc/kubernetes/admin.conf", 0o600),
    ("/etc/kubernetes/controller-manager.conf", 0o600),
    ("/etc/kubernetes/kubelet.conf", 0o600),
    ("/etc/kubernetes/pki/apiserver-etcd-client.crt", 0o644),
    ("/etc/kubernetes/pki/apiserver-etcd-client.key", 0o600),
    ("/etc/kubernetes/pki/apiserver-kubelet-client.crt", 0o644),
    ("/etc/kubernetes/pki/apiserver-kubelet-client.key", 0o600),
    ("/etc/kubernetes/pki/apiserver.crt", 0o644),
    ("/etc/kubernetes/pki/apiserver.key", 0o600),
    ("/etc/kubernetes/pki/ca.crt", 0o644),
    ("/etc/kubernetes/pki/ca.key", 0o600),
    ("/etc/kubernetes/pki/etcd/ca.crt", 0o644),
    ("/etc/kubernetes/pki/etcd/ca.key", 0o600),
    ("/etc/kubernetes/pki/etcd/healthcheck-client.crt", 0o644),
    ("/etc/kubernetes/pki/etcd/healthcheck-client.key", 0o600),
    ("/etc/kubernetes/pki/etcd/peer.crt", 0o644),
    ("/etc/kubernetes/pki/etcd/peer.key", 0o600),
    ("/etc/kubernetes/pki/etcd/server.crt", 0o644),
    ("/etc/kubernetes/pki/etcd/server.key", 0o600),
    ("/etc/kubernetes/pki/front-proxy-ca.crt", 0o644),
    ("/etc/kubernetes/pki/front-proxy-ca.key", 0o600),
    ("/etc/kubernetes/pki/front-proxy-client.crt", 0o644),
    ("/etc/kubernetes/pki/front-proxy-client.key", 0o600),
    ("/etc/kubernetes/pki/sa.key", 0o600),
    ("/etc/kubernetes/pki/sa.pub", 0o600),
    ("/etc/kubernetes/scheduler.conf", 0o600),
    ("/etc/kubernetes/super-admin.conf", 0o600),
];

/// Files and modes are those of a real `kubeadm init` of v1.36.3.
#[tokio::test]
async fn founding_makes_kubeadms_files_and_looking_again_changes_nothing() {
    let bench = Bench::new("");
    let told = bench.run().await.expect("founded");
    assert_eq!(told.disrupts(), Disruption::Nothing);
    let tree = bench.0.files.tree();
    let made = tree.iter().filter(|(path, _)| path.starts_with("/etc/kubernetes") && !path.ends_with('/'));
    assert_eq!(made.map(|(path, (mode, _))| (path.as_str(), *mode)).collect::<Vec<_>>(), KUBEADMS);
    let dated = "/var/lib/kubelet/pki/kubelet-client-2026-11-21-09-00-00.pem";
    assert_eq!(tree[names::KUBELET_CLIENT_CURRENT].1, format!("-> {dated}").into_bytes());
    assert_eq!(tree[dated].0, 0o600);
    let state: serde_json::Value = serde_json::from_slice(&bench.read(names::STATE)).expect("a state");
    assert_eq!(state["cluster"]["caCertHash"], ca_hash(&bench.certificate("ca")));
    bench.changes_nothing().await;
    bench.put("/var/lib/etcd/member/snap/db", b"data");
    bench.changes_nothing().await;
}

#[tokio::test]
async fn kubeconfigs_point_where_kubeadms_do() {
    let bench = Bench::new("controlPlaneEndpoint: api.example.com:8443\nclusterName: edge");
    bench.run().await.expect("founded");
    for (path, user, server) in [
        (names::ADMIN_CONF, "kubernetes-admin", "https://api.example.com:8443"),
        (names::SUPER_ADMIN_CONF, "kubernetes-super-admin", "https://api.example.com:8443"),
        (names::KUBELET_CONF, "system:node:node-1", "https://10.77.0.11:6443"),
        (names::CONTROLLER_MANAGER_CONF, "system:kube-controller-manager", "https://10.77.0.11:6443"),
        (names::SCHEDULER_CONF, "system:kube-scheduler", "https://10.77.0.11:6443"),
    ] {
        let config = Kubeconfig::parse(&bench.read(path)).expect("a kubeconfig");
        assert_eq!((config.user.as_str(), config.server.as_str(), config.cluster.as_str()), (user, server, "edge"), "{path}");
    }
    let sans = bench.certificate("apiserver").sans;
    assert!(sans.contains(&San::Dns("api.example.com".to_owned())));
}

/// The seven damages that `kubeadm init phase certs all` fails on for ever or calls fine, and more: the cluster serves again, or the
/// error names the file and says what to do.
#[tokio::test]
async fn every_damage_is_mended_or_named() {
    let bench = Bench::founded("").await;
    let whole = bench.0.files.tree();
    let whole = |path: &str| whole[path].1.clone();
    let foreign = PrivateKey::generate(crate::config::node::KeyAlgorithm::EcdsaP256).expect("a key").to_pem().expect("text");
    for base in [
        "apiserver",
        "apiserver-kubelet-client",
        "front-proxy-client",
        "etcd/server",
        "etcd/peer",
        "etcd/healthcheck-client",
        "apiserver-etcd-client",
    ] {
        let (certificate, key) = (format!("{PKI}/{base}.crt"), format!("{PKI}/{base}.key"));
        let damages: [(&str, &str, Option<&[u8]>); 7] = [
            ("certificate empty", &certificate, Some(b"")),
            ("certificate torn", &certificate, Some(&whole(&certificate)[..100])),
            ("certificate missing", &certificate, None),
            ("key empty", &key, Some(b"")),
            ("key of zero bytes", &key, Some(&[0; 227])),
            ("key missing", &key, None),
            ("key of another certificate", &key, Some(foreign.as_bytes())),
        ];
        for (damage, path, bytes) in damages {
            match bytes {
                Some(bytes) => bench.put(path, bytes),
                None => bench.0.files.erase(path),
            }
            let told = bench.run().await.unwrap_or_else(|error| panic!("{base} {damage}: {}", error.render()));
            assert_eq!(told.changed(), std::slice::from_ref(&certificate), "{base} {damage}");
            let consumed = base != "etcd/healthcheck-client";
            assert_eq!(told.disrupts(), if consumed { Disruption::ControlPlane } else { Disruption::Nothing }, "{base} {damage}");
            assert!(told.said().contains(&format!("made again: {certificate} (the ")), "{base} {damage}: {}", told.said());
            bench.changes_nothing().await;
        }
    }
    for (path, bytes) in [
        ("ca.crt", Some(&b""[..])),
        ("ca.crt", None),
        ("ca.key", Some(&b""[..])),
        ("ca.key", Some(foreign.as_bytes())),
        ("front-proxy-ca.crt", Some(&b""[..])),
        ("etcd/ca.key", Some(&b""[..])),
        ("sa.key", Some(&b""[..])),
        ("sa.key", None),
    ] {
        let path = format!("{PKI}/{path}");
        let before = whole(&path);
        match bytes {
            Some(bytes) => bench.put(&path, bytes),
            None => bench.0.files.erase(&path),
        }
        let damaged = bench.0.files.tree();
        let (kind, words) = bench.stops().await;
        assert_eq!(kind, Kind::Host);
        assert!(words.contains(&format!("using {path}")) && words.contains("hint: restore"), "{path}: {words}");
        let mut after = bench.0.files.tree();
        after.insert(names::STATE.to_owned(), damaged[names::STATE].clone());
        assert_eq!(after, damaged, "nothing is half made");
        bench.0.files.bake(&path, 0o600, &before);
        bench.0.files.bake(&path, if path.ends_with("crt") { 0o644 } else { 0o600 }, &before);
    }
    // sa.pub is derived.
    bench.put(&format!("{PKI}/sa.pub"), b"");
    bench.run().await.expect("derived");
    assert_eq!(bench.read(&format!("{PKI}/sa.pub")), whole(&format!("{PKI}/sa.pub")));
    bench.changes_nothing().await;
}

#[tokio::test]
async fn damaged_kubeconfigs_and_kubelet_certificates_are_mended() {
    let bench = Bench::founded("").await;
    for path in
        [names::ADMIN_CONF, names::SUPER_ADMIN_CONF, names::CONTROLLER_MANAGER_CONF, names::SCHEDULER_CONF, names::KUBELET_CONF]
    {
        for bytes in [Some(&b""[..]), Some(b"apiVersion: v1\nkind: Config\nclusters:\n- cl"), None] {
            match bytes {
                Some(bytes) => bench.put(path, bytes),
                None => bench.0.files.erase(path),
            }
            bench.later(Duration::from_secs(1));
            assert_eq!(bench.run().await.expect("mended").changed(), [path]);
            bench.changes_nothing().await;
        }
    }
    let current = names::KUBELET_CLIENT_CURRENT;
    let whole = bench.read(current);
    let target = bench.0.root().read_link(current).expect("readable").expect("a link");
    for (damage, act) in [
        ("empty", Box::new(|| bench.put(target.as_str(), b"")) as Box<dyn Fn()>),
        (
            "dangling",
            Box::new(|| bench.0.files.erase(bench.0.root().read_link(current).expect("readable").expect("a link").as_str())),
        ),
        ("gone", Box::new(|| bench.0.files.erase(current))),
        (
            "a plain file",
            Box::new(|| {
                bench.0.files.erase(current);
                bench.put(current, &whole);
            }),
        ),
    ] {
        act();
        bench.later(Duration::from_secs(1));
        assert_eq!(
            bench.run().await.unwrap_or_else(|error| panic!("{damage}: {}", error.render())).changed(),
            [current],
            "{damage}"
        );
        bench.changes_nothing().await;
        assert!(bench.0.root().read_link(current).expect("readable").is_some(), "{damage}");
    }
    let client = Certificate::from_pem(&bench.read(current)).expect("a certificate");
    assert_eq!((client.common_name.as_str(), client.organizations[0].as_str()), ("system:node:node-1", "system:nodes"));
    assert_eq!(client.not_before, bench.certificate("ca").not_before);
}

#[tokio::test]
async fn a_leaf_of_ours_is_renewed_ahead_and_follows_the_wish() {
    let bench = Bench::founded("").await;
    bench.configure("apiServer: {certSANs: [more.example.com]}");
    let told = bench.run().await.expect("followed");
    assert_eq!((told.changed(), told.disrupts()), (vec![format!("{PKI}/apiserver.crt")], Disruption::ControlPlane));
    assert!(told.said().contains("not valid for more.example.com"), "{}", told.said());
    bench.changes_nothing().await;
    bench.later(Duration::from_secs(340 * 24 * 3600));
    let told = bench.run().await.expect("renewed");
    assert_eq!(told.changed().len(), 7 + 4, "seven leaves and four kubeconfigs: {:?}", told.changed());
    assert!(told.said().contains("expires 2027-11-21T09:00:00Z"), "{}", told.said());
    bench.changes_nothing().await;
    // Expired, the kubelet's too.
    bench.later(YEAR * 2);
    assert_eq!(bench.run().await.expect("renewed").changed().len(), 7 + 4 + 1);
    bench.changes_nothing().await;
}

/// What `kubeadm certs renew` and an administrator do.
#[tokio::test]
async fn what_others_made_is_kept_and_reported_while_it_can_be_used() {
    let bench = Bench::founded("").await;
    let ca = bench.authority();
    let put = |profile: &Profile, life: Duration| {
        let validity = Validity::from_now(bench.0.services.now(), life).expect("dates");
        let pair = ca.issue(profile, crate::config::node::KeyAlgorithm::Rsa2048, validity).expect("a leaf");
        bench.put(&format!("{PKI}/apiserver.crt"), pair.certificate.to_pem().as_bytes());
        bench.put(&format!("{PKI}/apiserver.key"), pair.key.to_pem().expect("text").as_bytes());
    };
    let sans = bench.certificate("apiserver").sans;
    put(&Profile::client("kube-apiserver", None).for_sans(sans), YEAR);
    let told = bench.run().await.expect("kept");
    assert!(told.changed().is_empty());
    assert_eq!(told.kept(), [format!("{PKI}/apiserver.crt: renewed by somebody else, valid until 2027-11-21T09:00:00Z")]);

    put(&Profile::client("kube-apiserver", None).for_sans([San::Dns("other".to_owned())]), YEAR);
    let kept = bench.run().await.expect("kept").kept();
    assert!(kept[0].starts_with(&format!("{PKI}/apiserver.crt: not valid for ")), "{kept:?}");
    let forced = bench.run_with(&[&format!("{PKI}/apiserver.crt")]).await.expect("forced");
    assert_eq!(forced.changed(), [format!("{PKI}/apiserver.crt")]);
    bench.changes_nothing().await;

    put(&Profile::client("kube-apiserver", None), Duration::from_secs(60));
    bench.later(Duration::from_secs(3600));
    assert_eq!(bench.run().await.expect("made again").changed(), [format!("{PKI}/apiserver.crt")]);

    // The kubelet rotates its certificate by right.
    let profile = Profile::client("system:node:node-1", Some("system:nodes"));
    let validity = Validity::from_now(bench.0.services.now(), YEAR).expect("dates");
    let rotated = ca
        .issue(&profile, crate::config::node::KeyAlgorithm::EcdsaP256, validity)
        .expect("a leaf")
        .to_combined_pem()
        .expect("text");
    let target = "/var/lib/kubelet/pki/kubelet-client-2027-01-01-00-00-00.pem";
    bench.put(target, rotated.as_bytes());
    let _ = bench.0.root().link(names::KUBELET_CLIENT_CURRENT, target).expect("linked");
    bench.changes_nothing().await;
}

#[tokio::test]
async fn a_leaf_of_another_ca_is_made_again_only_when_it_is_ours() {
    let bench = Bench::founded("").await;
    let validity = Validity::from_now(bench.0.services.now(), YEAR).expect("dates");
    let algorithm = crate::config::node::KeyAlgorithm::EcdsaP256;
    let other = Pair::new_authority("kubernetes", algorithm, validity).expect("a CA");
    let pair = other.issue(&Profile::client("x", None), algorithm, validity).expect("a leaf");
    bench.put(&format!("{PKI}/apiserver.crt"), pair.certificate.to_pem().as_bytes());
    bench.put(&format!("{PKI}/apiserver.key"), pair.key.to_pem().expect("text").as_bytes());
    let (kind, words) = bench.stops().await;
    assert!(kind == Kind::Host && words.contains("signed by another CA") && words.contains("--force="), "{words}");
}

#[tokio::test]
async fn an_external_ca_works_as_kubeadms_does() {
    let bench = Bench::founded("").await;
    for base in ["ca", "front-proxy-ca", "etcd/ca"] {
        bench.0.files.erase(&format!("{PKI}/{base}.key"));
    }
    bench.changes_nothing().await;
    bench.later(Duration::from_secs(340 * 24 * 3600));
    assert!(bench.run().await.expect("nothing can be renewed").changed().is_empty());
    bench.put(&format!("{PKI}/apiserver.key"), b"");
    let (kind, words) = bench.stops().await;
    assert!(kind == Kind::Host && words.contains("apiserver.crt") && words.contains("external CA"), "{words}");
}

#[tokio::test]
async fn an_external_etcd_needs_no_certificates_of_ours() {
    let bench = Bench::new("etcd: {external: {endpoints: [\"https://10.0.0.9:2379\"], caFile: /a, certFile: /b, keyFile: /c}}");
    bench.run().await.expect("founded");
    assert!(!bench.0.files.tree().keys().any(|path| path.starts_with(&format!("{PKI}/etcd"))));
    assert!(!bench.0.files.tree().contains_key(&format!("{PKI}/apiserver-etcd-client.crt")));
    bench.changes_nothing().await;
}

/// CA files alone are not a cluster: they are used, and their leaves are made from them.
#[tokio::test]
async fn a_ca_that_was_put_there_is_used_and_a_lone_key_gets_a_certificate() {
    let algorithm = crate::config::node::KeyAlgorithm::Rsa2048;
    let bench = Bench::new("");
    let validity = Validity::from_now(bench.0.services.now(), YEAR).expect("dates");
    let ca = Pair::new_authority("Example CA", algorithm, validity).expect("a CA");
    let (certificate, key) = (ca.certificate.to_pem(), ca.key.to_pem().expect("text"));
    bench.put(&format!("{PKI}/ca.crt"), certificate.as_bytes());
    bench.put(&format!("{PKI}/ca.key"), key.as_bytes());
    bench.put(&format!("{PKI}/etcd/ca.key"), key.as_bytes());
    bench.run().await.expect("founded");
    assert_eq!(bench.read(&format!("{PKI}/ca.crt")), certificate.as_bytes());
    assert!(bench.certificate("apiserver").is_signed_by(&ca.certificate));
    assert_eq!(bench.read(&format!("{PKI}/etcd/ca.key")), key.as_bytes());
    assert_eq!(bench.certificate("etcd/ca").public_key_info(), ca.certificate.public_key_info());
    bench.changes_nothing().await;
}

#[tokio::test]
async fn a_torn_ca_of_ours_is_made_again_only_before_there_is_a_cluster() {
    let bench = Bench::new("");
    bench.put(&format!("{PKI}/ca.crt"), b"");
    let (kind, words) = bench.stops().await;
    assert!(kind == Kind::Host && words.contains("it is empty"), "somebody else's: {words}");
    let bench = Bench::founded("").await;
    let founded = bench.certificate("ca");
    // As if the power had gone before anything else was made: no kubeconfig, no etcd data, no identity.
    let mut state: serde_json::Value = serde_json::from_slice(&bench.read(names::STATE)).expect("a state");
    state.as_object_mut().expect("an object").remove("cluster");
    bench.put(names::STATE, state.to_string().as_bytes());
    for path in [
        names::ADMIN_CONF,
        names::KUBELET_CONF,
        "/var/lib/etcd/member/snap/db",
        "/var/lib/etcd/member/snap",
        "/var/lib/etcd/member",
    ] {
        bench.0.files.erase(path);
    }
    bench.put(&format!("{PKI}/ca.crt"), b"");
    bench.put(&format!("{PKI}/ca.key"), b"");
    bench.run().await.expect("made again");
    assert_ne!(bench.certificate("ca"), founded);
    bench.changes_nothing().await;
}

#[tokio::test]
async fn when_everything_but_the_state_is_gone_a_boot_stops_and_asks() {
    let bench = Bench::founded("").await;
    let paths: Vec<String> = bench
        .0
        .files
        .tree()
        .into_keys()
        .filter(|path| path.starts_with("/etc/kubernetes/") || path.starts_with("/var/lib/etcd/"))
        .collect();
    for path in paths.iter().rev() {
        bench.0.files.erase(path.trim_end_matches('/'));
    }
    let (kind, words) = bench.stops().await;
    assert!(kind == Kind::Host && words.contains("edgeboot init"), "{words}");
    assert!(!bench.0.files.tree().keys().any(|path| path.starts_with(PKI)), "nothing is half made");
}

#[tokio::test]
async fn another_ca_than_the_clusters_stops() {
    let bench = Bench::founded("").await;
    let validity = Validity::from_now(bench.0.services.now(), YEAR).expect("dates");
    let other = Pair::new_authority("kubernetes", crate::config::node::KeyAlgorithm::EcdsaP256, validity).expect("a CA");
    bench.put(&format!("{PKI}/ca.crt"), other.certificate.to_pem().as_bytes());
    bench.put(&format!("{PKI}/ca.key"), other.key.to_pem().expect("text").as_bytes());
    let (kind, words) = bench.stops().await;
    assert!(kind == Kind::Host && words.contains(&ca_hash(&other.certificate)), "{words}");
    bench.run_with(&[&format!("{PKI}/ca.crt")]).await.expect("replaced on purpose");
    assert!(bench.certificate("apiserver").is_signed_by(&other.certificate));
    bench.changes_nothing().await;
}

#[tokio::test]
async fn an_unfinished_init_of_kubeadm_is_finished() {
    let bench = Bench::founded("").await;
    let ca = bench.authority();
    let validity = Validity::since(&ca.certificate, bench.0.services.now(), YEAR).expect("dates");
    let profile = Profile::client("system:node:node-1", Some("system:nodes"));
    let client = ca.issue(&profile, crate::config::node::KeyAlgorithm::EcdsaP256, validity).expect("a leaf");
    let config = Kubeconfig::parse(&bench.read(names::KUBELET_CONF)).expect("a kubeconfig");
    let key = zeroize::Zeroizing::new(client.key.to_pem().expect("text").as_bytes().to_vec());
    let credentials = Credentials::Embedded { certificate: client.certificate.to_pem().into_bytes(), key };
    bench.put(names::KUBELET_CONF, Kubeconfig { credentials, ..config }.render().as_bytes());
    assert_eq!(bench.run().await.expect("finished").changed(), [names::KUBELET_CONF]);
    let config = Kubeconfig::parse(&bench.read(names::KUBELET_CONF)).expect("a kubeconfig");
    assert!(matches!(config.credentials, Credentials::Files { certificate, .. } if certificate == names::KUBELET_CLIENT_CURRENT));
    bench.changes_nothing().await;
}

/// What `edgeboot certs renew` does: new keys, the same meaning, ours as before, and the components that read it are to start again.
#[tokio::test]
async fn what_is_renewed_by_hand_says_the_same_and_stays_ours() {
    let bench = Bench::founded("apiServer: {certSANs: [api.example.com]}").await;
    bench.later(Duration::from_secs(24 * 3600));
    let cluster = bench.node().cluster;
    let (ledger, _) = Ledger::load(&bench.0.root()).expect("a ledger");
    let cx = Context::new(bench.0.host(), Arc::new(bench.node()), ledger, Progress::new(vec![]), vec![]);
    let (before, until) = (bench.0.files.tree(), bench.0.services.now().checked_add(YEAR).expect("a time"));
    let old = bench.certificate("apiserver");
    for one in renewal::of_cluster(&cluster) {
        let renewed = renewal::renew(&cx, &cluster, one).await.unwrap_or_else(|error| panic!("{}", error.render()));
        assert_eq!(renewed, renewal::Renewed::Until(until), "{}", one.name());
    }
    cx.ledger.save(&cx.host).await.expect("saved");
    let new = bench.certificate("apiserver");
    assert_eq!((&new.common_name, &new.sans, &new.usages), (&old.common_name, &old.sans, &old.usages));
    assert_ne!(new.public_key_info(), old.public_key_info());
    let config = Kubeconfig::parse(&bench.read(names::ADMIN_CONF)).expect("a kubeconfig");
    let Credentials::Embedded { certificate, .. } = config.credentials else { panic!("no certificate") };
    let client = Certificate::from_pem(&certificate).expect("a certificate");
    assert_eq!((client.organizations.as_slice(), client.not_after), (&[names::GROUP_ADMINS.to_owned()][..], until));
    for (path, (mode, bytes)) in bench.0.files.tree() {
        let is_renewed = renewal::of_cluster(&cluster).iter().any(|one| one.path(&cluster) == path.as_str());
        if let Some((mode_before, bytes_before)) = before.get(&path).filter(|_| path.starts_with("/etc/kubernetes")) {
            assert_eq!(*mode_before, mode, "{path}");
            assert_eq!(
                *bytes_before != bytes,
                is_renewed || path.contains(".key") && !IDENTITY_KEYS.contains(&path.as_str()),
                "{path}"
            );
        }
    }
    bench.changes_nothing().await;
    assert_eq!(bench.run().await.expect("looked").kept(), Vec::<String>::new());
}

/// Keys that are never made again.
const IDENTITY_KEYS: [&str; 4] = [
    "/etc/kubernetes/pki/ca.key",
    "/etc/kubernetes/pki/etcd/ca.key",
    "/etc/kubernetes/pki/front-proxy-ca.key",
    "/etc/kubernetes/pki/sa.key",
];

#[tokio::test]
async fn what_expires_is_told_from_the_files_alone() {
    let bench = Bench::founded("").await;
    let cluster = bench.node().cluster;
    let look = || renewal::expirations(&bench.0.root(), &cluster).expect("looked");
    let find = |name: &str| look().certificates.into_iter().find(|row| row.name == name).expect(name);
    assert_eq!((look().certificates.len(), look().authorities.len()), (11, 3));
    let year = bench.0.services.now().checked_add(YEAR).expect("a time");
    assert_eq!((find("apiserver").term, find("apiserver").authority), (renewal::Term::Until(year), Some("ca")));
    bench.put(&format!("{PKI}/etcd/peer.crt"), b"");
    let _ = bench.0.root().remove(names::SUPER_ADMIN_CONF).expect("removed");
    let _ = bench.0.root().remove(format!("{PKI}/front-proxy-ca.key")).expect("removed");
    assert_eq!(find("etcd-peer").term, renewal::Term::Unreadable("it is empty".to_owned()));
    assert_eq!(find("super-admin.conf").term, renewal::Term::Missing);
    assert!(find("front-proxy-client").external && look().authorities[2].external && !find("apiserver").external);

    let (ledger, _) = Ledger::load(&bench.0.root()).expect("a ledger");
    let cx = Context::new(bench.0.host(), Arc::new(bench.node()), ledger, Progress::new(vec![]), vec![]);
    for (name, wished) in [
        ("super-admin.conf", Ok(renewal::Renewed::Missing)),
        ("front-proxy-client", Ok(renewal::Renewed::External)),
        ("etcd-peer", Err(())),
    ] {
        let one = renewal::ALL.into_iter().find(|one| one.name() == name).expect(name);
        assert_eq!(renewal::renew(&cx, &cluster, one).await.map_err(drop), wished, "{name}");
    }
}

/// `edgeboot init phase certs --cert-dir FOLDER` on a control plane: for an image, or for another machine.
#[tokio::test]
async fn what_is_made_for_another_machine_is_not_this_ones() {
    let bench = Bench::founded("").await;
    let before = bench.0.files.tree();
    let mut node = bench.node();
    node.cluster.certificates_dir = "/image/pki".into();
    let make = async |ledger| {
        let cx = Context::new(bench.0.host(), Arc::new(node.clone()), ledger, Progress::new(vec![]), vec![]);
        let table = table();
        let (_stop, stopped) = tokio::sync::watch::channel(false);
        let mut outcome = run(&cx, &Plan::single(&table, &cx.node, "certs/ca")?, stopped).await;
        outcome.failed.pop().map_or(Ok(()), |(_, error)| Err(error))
    };
    let (ledger, _) = Ledger::load(&bench.0.root()).expect("a ledger");
    assert!(make(ledger).await.is_err(), "a second CA of this machine's");
    make(Ledger::apart()).await.unwrap_or_else(|error| panic!("{}", error.render()));
    let pair = bench.read("/image/pki/ca.crt");
    make(Ledger::apart()).await.expect("the pair that is there is used");
    assert_eq!(bench.read("/image/pki/ca.crt"), pair);
    let mut after = bench.0.files.tree();
    after.retain(|path, _| !path.starts_with("/image"));
    assert_eq!(after, before);
}

/// `edgeboot kubeconfig user`.
#[tokio::test]
async fn a_further_user_gets_a_kubeconfig_and_nothing_is_placed() {
    let bench = Bench::founded("controlPlaneEndpoint: api.example.com").await;
    let node = bench.node();
    let cluster = node.cluster.clone();
    let (ledger, _) = Ledger::load(&bench.0.root()).expect("a ledger");
    let cx = Context::new(bench.0.host(), Arc::new(node), ledger, Progress::new(vec![]), vec![]);
    let stamps = bench.0.files.stamps();
    let day = Duration::from_secs(24 * 3600);
    let proof = Proof::Certificate { organizations: vec!["ops".to_owned(), "dev".to_owned()], life: day };
    let text = for_user(&cx, &cluster, "foo", proof).await.expect("a kubeconfig");
    let config = Kubeconfig::parse(text.as_bytes()).expect("a kubeconfig");
    assert_eq!((config.user.as_str(), config.server.as_str()), ("foo", "https://api.example.com:6443"));
    let Credentials::Embedded { certificate, .. } = config.credentials else { panic!("no certificate") };
    let client = Certificate::from_pem(&certificate).expect("a certificate");
    assert!(client.is_signed_by(&bench.certificate("ca")));
    assert_eq!(client.organizations.len(), 2);
    assert_eq!(client.not_after, bench.0.services.now().checked_add(day).expect("a time"));
    let text =
        for_user(&cx, &cluster, "foo", Proof::Token("abcdef.0123456789abcdef".to_owned().into())).await.expect("a kubeconfig");
    assert!(text.contains("\n- name: foo\n  user:\n    token: abcdef.0123456789abcdef\n"), "{}", *text);
    assert_eq!(bench.0.files.stamps(), stamps);
}

/// The power is cut at every single operation of founding, and each kind of loss follows: the next boot carries on, and what was
/// durable of the cluster's identity is there byte for byte.
#[tokio::test]
async fn cut_at_every_step_the_next_boot_carries_on() {
    const IDENTITY: [&str; 4] = ["ca.key", "front-proxy-ca.key", "etcd/ca.key", "sa.key"];
    // The kinds of loss differ in the file tree, which has tests of its own: the milder ones are sampled.
    for (loss, step) in [(Loss::Everything, 1), (Loss::Data, 7), (Loss::Nothing, 11)] {
        for n in (1..).step_by(step) {
            let bench = Bench::new("");
            bench.0.fuse.arm(n);
            let finished = bench.run().await.is_ok();
            bench.0.reboot(loss);
            let durable = bench.0.files.tree();
            bench.run().await.unwrap_or_else(|error| panic!("cut at {n}, {loss:?}: {}", error.render()));
            for path in IDENTITY.map(|name| format!("{PKI}/{name}")) {
                if let Some((_, bytes)) = durable.get(&path) {
                    assert_eq!(&bench.read(&path), bytes, "cut at {n}, {loss:?}: {path}");
                }
            }
            bench.changes_nothing().await;
            if finished {
                assert!(n > 30, "{n} operations");
                break;
            }
        }
    }
}

/// Keys are private from the first instant, and neither state nor journal lines hold one.
#[tokio::test]
async fn no_key_is_in_the_state_or_in_what_is_said() {
    let bench = Bench::founded("").await;
    bench.put(&format!("{PKI}/apiserver.crt"), b"");
    let told = bench.run().await.expect("mended");
    let key = String::from_utf8(bench.read(&format!("{PKI}/apiserver.key"))).expect("text");
    let line = key.lines().nth(1).expect("a line");
    let state = String::from_utf8(bench.read(names::STATE)).expect("text");
    assert!(!state.contains(line) && !told.said().contains(line) && !state.contains("PRIVATE"));
    for (path, (mode, bytes)) in bench.0.files.tree() {
        if bytes.windows(11).any(|window| window == b"PRIVATE KEY") || path.starts_with("/etc/kubernetes/admin") {
            assert_eq!(mode, 0o600, "{path}");
        }
    }
}

#[test]
fn the_rows_are_kubeadms() {
    let rows: Vec<&str> =
        table().iter().map(|phase| phase.id().0).filter(|id| id.starts_with("certs/") || id.starts_with("kubeconfig/")).collect();
    assert_eq!(
        rows,
        [
            "certs/ca",
            "certs/apiserver",
            "certs/apiserver-kubelet-client",
            "certs/front-proxy-ca",
            "certs/front-proxy-client",
            "certs/etcd-ca",
            "certs/etcd-server",
            "certs/etcd-peer",
            "certs/etcd-healthcheck-client",
            "certs/apiserver-etcd-client",
            "certs/sa",
            "kubeconfig/admin",
            "kubeconfig/super-admin",
            "kubeconfig/kubelet",
            "kubeconfig/controller-manager",
            "kubeconfig/scheduler",
        ]
    );
}
