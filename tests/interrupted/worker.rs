//! A worker's way into a cluster on another machine, cut at every single operation: the next boot carries on with the same key and the
//! same request, and in the end there is one node, and no token and no key outside the kubelet's folder. A worker that has joined shows
//! its own certificate and nothing else, and comes up when nobody answers.

use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use edgeboot::config::node::{KeyAlgorithm, Token};
use edgeboot::engine::progress::Progress;
use edgeboot::error::Kind;
use edgeboot::host::Deadline;
use edgeboot::host::fake::{Loss, Machine, Shown};
use edgeboot::k8s::pki::{Pair, Profile, Validity, ca_hash};
use edgeboot::k8s::{cluster_info, discovery};
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer as _, X509CertificationRequest};

use super::memory::{self, boot, boot_while};
use super::{assert_alike, at_every_operation, boot_on, cut_boot, differing_lines, shape, touched, uncut};

pub const TOKEN: &str = "abcdef.0123456789abcdef";
pub const CREDENTIAL: &str = "/var/lib/edgeboot/credentials/token";
const KEY: &str = "/var/lib/edgeboot/join/kubelet-client.key";
const STATE: &str = "/var/lib/edgeboot/state.json";
pub const YEAR: Duration = Duration::from_secs(8760 * 3600);

fn token() -> Token {
    Token::parse(TOKEN).expect("a token")
}

pub fn now() -> jiff::Timestamp {
    "2026-11-21T09:00:00Z".parse().expect("a time")
}

/// The cluster's CA.
pub fn authority() -> &'static Pair {
    static AUTHORITY: OnceLock<Pair> = OnceLock::new();
    AUTHORITY.get_or_init(|| {
        let validity = Validity::from_now(now(), YEAR * 10).expect("dates");
        Pair::new_authority("kubernetes", KeyAlgorithm::EcdsaP256, validity).expect("a CA")
    })
}

fn config_map(namespace: &str, name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": namespace, "name": name}, "data": data})
}

fn objects(version: &str) -> Vec<Value> {
    objects_at("10.77.0.11", version, "")
}

/// What a cluster at this address shows to newcomers; `more` of its ClusterConfiguration.
pub fn objects_at(address: &str, version: &str, more: &str) -> Vec<Value> {
    let server = format!("https://{address}:6443");
    let kubeconfig = cluster_info::kubeconfig(&server, authority().certificate.to_pem().as_bytes());
    let signature = discovery::signature(&token(), &kubeconfig);
    let cluster = format!(
        "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: {version}\nnetworking: {{dnsDomain: cluster.local, serviceSubnet: 10.96.0.0/12}}\n{more}"
    );
    let kubelet = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 33\n";
    vec![
        config_map("kube-public", "cluster-info", &json!({"kubeconfig": kubeconfig, "jws-kubeconfig-abcdef": signature})),
        config_map("kube-system", "kubeadm-config", &json!({"ClusterConfiguration": cluster})),
        config_map("kube-system", "kubelet-config", &json!({"kubelet": kubelet})),
    ]
}

/// What kube-controller-manager makes of a request: approved and signed.
pub fn sign(object: &mut Value) {
    if object["kind"] != "CertificateSigningRequest" {
        return;
    }
    let text = STANDARD.decode(object["spec"]["request"].as_str().expect("a request")).expect("base64");
    let text = String::from_utf8(text).expect("PEM");
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = STANDARD.decode(body).expect("base64");
    let (_, request) = X509CertificationRequest::from_der(&der).expect("a request");
    let info = &request.certification_request_info;
    let name = info.subject.iter_common_name().next().and_then(|name| name.as_str().ok()).expect("a name");
    let profile = Profile::client(name, Some("system:nodes"));
    let validity = Validity::from_now(now(), YEAR).expect("dates");
    let certificate = authority().certify(info.subject_pki.raw, &profile, validity).expect("a certificate");
    object["status"] = json!({
        "conditions": [{"type": "Approved", "status": "True"}],
        "certificate": STANDARD.encode(certificate.to_pem()),
    });
}

fn config(hash: &str) -> String {
    format!(
        "apiVersion: edgeboot.io/v1alpha1\nkind: NodeConfig\nrole: worker\njoin:\n  endpoints: [\"10.77.0.11:6443\", \"10.77.0.12:6443\"]\n  \
         tokenFrom: credential:token\n  caCertHashes: [\"{hash}\"]\n"
    )
}

pub(super) fn baked() -> Machine {
    let machine = memory::baked();
    let hash = ca_hash(&authority().certificate);
    machine.files.bake("/etc/edgeboot/config.yaml", 0o600, config(&hash).as_bytes());
    machine.files.bake(CREDENTIAL, 0o600, TOKEN.as_bytes());
    machine.root().sync_file_system("/").expect("flushed");
    machine
}

pub(super) fn in_sight_of_cluster(machine: Machine) -> Machine {
    machine.services.cluster_elsewhere(objects("v1.36.3"), sign);
    machine
}

/// How many objects of a kind the cluster has.
pub fn count(machine: &Machine, kind: &str) -> usize {
    machine.services.objects().keys().filter(|name| name.starts_with(&format!("{kind} "))).count()
}

#[test]
fn a_worker_joins_and_further_boots_change_nothing_and_need_nobody() {
    let machine = in_sight_of_cluster(baked());
    boot(&machine).expect("the first boot");
    assert_eq!(machine.services.take_shown(), [Shown::Nothing, Shown::Token, Shown::Certificate]);
    let tree = machine.files.tree();
    for path in [CREDENTIAL, KEY, "/etc/kubernetes/bootstrap-kubelet.conf", "/etc/kubernetes/pki/ca.key"] {
        assert!(!tree.contains_key(path), "{path} is there");
    }
    let has_token = |bytes: &[u8]| bytes.windows(16).any(|window| window == b"0123456789abcdef");
    let traces: Vec<&String> = tree.iter().filter(|(_, (_, bytes))| has_token(bytes)).map(|(path, _)| path).collect();
    assert!(traces.is_empty(), "the token is in {traces:?}");
    let kubelet = String::from_utf8_lossy(&tree["/var/lib/kubelet/config.yaml"].1).into_owned();
    assert!(kubelet.contains("maxPods: 33") && kubelet.contains("clusterDNS:\n- \"10.96.0.10\""), "{kubelet}");
    assert_eq!((count(&machine, "Node"), count(&machine, "CertificateSigningRequest")), (1, 1));
    let stamps = machine.files.stamps();
    let state = tree[STATE].1.clone();
    machine.services.take_writes();

    for reachable in [true, false] {
        machine.services.reach(reachable);
        machine.reboot(Loss::Everything);
        boot(&machine).unwrap_or_else(|error| panic!("reachable {reachable}: {}", error.render()));
        assert_eq!(machine.services.take_shown(), [Shown::Certificate]);
        assert_eq!(machine.services.take_writes(), Vec::<String>::new());
        assert_eq!(touched(&stamps, &machine), Vec::<String>::new());
        assert_eq!(differing_lines(&state, &machine.files.tree()[STATE].1), Vec::<String>::new());
    }
}

#[test]
fn a_worker_follows_its_cluster_to_another_address() {
    let kubelet_conf =
        |machine: &Machine| String::from_utf8_lossy(&machine.files.tree()["/etc/kubernetes/kubelet.conf"].1).into_owned();
    let wish =
        |endpoints: &str| config(&ca_hash(&authority().certificate)).replace("\"10.77.0.11:6443\", \"10.77.0.12:6443\"", endpoints);
    let machine = in_sight_of_cluster(baked());
    boot(&machine).expect("the first boot");
    assert!(kubelet_conf(&machine).contains("https://10.77.0.11:6443"));
    machine.services.move_to("https://10.77.0.21:6443");
    machine.services.take_writes();

    // The configuration knows nothing of it: the worker waits for its cluster.
    boot(&machine).expect("a boot without the cluster");
    assert!(kubelet_conf(&machine).contains("https://10.77.0.11:6443"));
    // It does, and names one more that does not answer.
    machine.files.bake("/etc/edgeboot/config.yaml", 0o600, wish("\"10.77.0.20:6443\", \"10.77.0.21:6443\"").as_bytes());
    boot(&machine).expect("the move");
    assert!(kubelet_conf(&machine).contains("server: https://10.77.0.21:6443"), "{}", kubelet_conf(&machine));
    assert!(machine.services.take_writes().contains(&"StartUnit kubelet.service".to_owned()));
    assert_eq!((count(&machine, "Node"), count(&machine, "CertificateSigningRequest")), (1, 1));

    boot(&machine).expect("reconcile");
    machine.reboot(Loss::Everything);
    boot(&machine).expect("the next boot");
    assert_eq!(machine.services.take_writes(), Vec::<String>::new());
}

#[test]
fn a_join_cut_at_any_operation_is_carried_on_by_the_next() {
    let (operations, expected) = uncut(&in_sight_of_cluster(baked()));
    let baked = baked();
    at_every_operation(operations, |n, loss| {
        let history = format!("cut at operation {n}, losing {loss:?}");
        let machine = in_sight_of_cluster(baked.duplicate());
        cut_boot(&machine, n, loss, &history);
        boot_on(&machine, &history);
        assert_alike(&expected, &shape(&machine), &history);
        let counted = (count(&machine, "Node"), count(&machine, "CertificateSigningRequest"));
        assert_eq!(counted, (1, 1), "{history}");
    });
}

/// Time passes, and what the status says then.
pub async fn status_after(seconds: u64, progress: &Progress) -> String {
    let time = Duration::from_secs(seconds);
    Deadline::after(time, "the test").pause(time).await;
    progress.status().line()
}

/// Machines are switched on together: there is no cluster, then one that has not signed our token yet, then there is.
#[test]
fn a_worker_that_comes_up_first_says_what_it_waits_for_and_joins_as_soon_as_it_exists() {
    let baked = baked();
    // The machines ask at random times: several of them, so that none is lucky.
    for _ in 0..8 {
        let machine = baked.duplicate();
        let outcome = boot_while(&machine, async |progress| {
            let said = status_after(100, &progress).await;
            assert!(said.contains("discovery waits for the cluster at 10.77.0.11:6443, 10.77.0.12:6443"), "{said}");
            assert!(said.contains("connection refused"), "{said}");
            let mut founded = objects("v1.36.3");
            founded[0]["data"]["jws-kubeconfig-abcdef"] = Value::Null;
            machine.services.cluster_elsewhere(founded, sign);
            let said = status_after(3, &progress).await;
            assert!(said.contains("its cluster-info is not signed with our bootstrap token"), "{said}");
            machine.services.cluster_elsewhere(objects("v1.36.3"), sign);
            let said = status_after(3, &progress).await;
            assert!(!said.contains("discovery"), "it did not look again soon: {said}");
        });
        outcome.unwrap_or_else(|error| panic!("{}", error.render()));
        assert_eq!((count(&machine, "Node"), count(&machine, "CertificateSigningRequest")), (1, 1));
    }
}

/// Each request is refused twice in another way, and the answer to each change is lost: one run gets through, and nothing is made twice.
#[test]
fn a_worker_joins_a_cluster_that_stumbles_at_every_request() {
    let plain = in_sight_of_cluster(baked());
    boot(&plain).expect("joined");
    for times in [1, 2, 3] {
        let machine = in_sight_of_cluster(baked());
        machine.services.stumble(times);
        boot(&machine).unwrap_or_else(|error| panic!("{times}: {}", error.render()));
        assert_alike(&shape(&plain), &shape(&machine), &format!("stumbling {times} times"));
        assert_eq!((count(&machine, "Node"), count(&machine, "CertificateSigningRequest")), (1, 1), "{times}");
    }
}

/// A configured time is the time that is waited: for each of kubeadm's `timeouts`, what stands still, and what is said in the end.
#[test]
fn each_timeout_is_the_one_that_is_configured() {
    type Prepare = fn(&Machine);
    type Case = (&'static str, &'static str, fn() -> Machine, Prepare, &'static str);
    let joining = "JoinConfiguration";
    let table: [Case; 5] = [
        (
            "tlsBootstrap",
            joining,
            || in_sight_of_cluster(baked()),
            |machine| machine.services.cluster_elsewhere(objects("v1.36.3"), |_| ()),
            "the cluster to sign",
        ),
        (
            "kubernetesAPICall",
            joining,
            || in_sight_of_cluster(baked()),
            |machine| machine.services.edit_object("ConfigMap kube-system/kubeadm-config", |object| object["data"] = json!({})),
            "the cluster to tell its configuration",
        ),
        (
            "etcdAPICall",
            joining,
            || super::control_plane::in_sight_of_cluster(super::control_plane::baked()),
            |machine| machine.services.silence("etcd", true),
            "make this machine a voting member",
        ),
        (
            "kubeletHealthCheck",
            joining,
            || in_sight_of_cluster(baked()),
            |machine| machine.services.silence(":10248/", true),
            "kubelet",
        ),
        (
            "controlPlaneComponentHealthCheck",
            "InitConfiguration",
            memory::baked,
            |machine| machine.services.silence(":10257/", true),
            "kube-controller-manager",
        ),
    ];
    for (knob, kind, machine, prepare, words) in table {
        let machine = machine();
        prepare(&machine);
        let config = String::from_utf8(machine.files.tree()["/etc/edgeboot/config.yaml"].1.clone()).expect("text");
        let kubeadm = format!("---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: {kind}\ntimeouts: {{{knob}: 41s}}\n");
        machine.files.bake("/etc/edgeboot/config.yaml", 0o600, (config + &kubeadm).as_bytes());
        let error = boot(&machine).expect_err(knob);
        let said = error.to_string();
        assert!(said.contains("not so after 41 s") && said.contains(words), "{knob}: {}", error.render());
        assert_eq!(error.kind(), Kind::Transient, "{knob}: {}", error.render());
    }
}

/// The discovery ends when its time is over, and says what it was told last.
#[test]
fn a_discovery_lasts_as_long_as_is_configured() {
    let machine = in_sight_of_cluster(baked());
    machine.services.reach(false);
    let kubeadm = "---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: JoinConfiguration\ntimeouts: {discovery: 41s}\n";
    let config = config(&ca_hash(&authority().certificate)) + kubeadm;
    machine.files.bake("/etc/edgeboot/config.yaml", 0o600, config.as_bytes());
    let outcome = boot_while(&machine, async |progress| {
        let said = status_after(40, &progress).await;
        assert!(said.contains("discovery waits"), "{said}");
        let said = status_after(5, &progress).await;
        assert!(!said.contains("discovery waits"), "{said}");
    });
    let error = outcome.expect_err("nobody answers");
    assert!(
        error.to_string().contains("waiting for the cluster at 10.77.0.11:6443") && error.to_string().contains("refused"),
        "{error}"
    );
}

/// A token that has expired is refused, and a fresh one at the next boot is enough, whatever it was that went wrong before.
#[test]
fn a_fresh_token_at_the_next_boot_is_enough() {
    let machine = in_sight_of_cluster(baked());
    machine.files.bake(CREDENTIAL, 0o600, b"zzzzzz.0123456789abcdef");
    let error = boot(&machine).expect_err("the token is not known");
    assert_eq!(error.kind(), Kind::Rejected, "{}", error.render());
    machine.reboot(Loss::Everything);
    machine.files.bake(CREDENTIAL, 0o600, TOKEN.as_bytes());
    boot(&machine).unwrap_or_else(|error| panic!("{}", error.render()));
    assert_eq!((count(&machine, "Node"), count(&machine, "CertificateSigningRequest")), (1, 1));
}

/// What goes wrong on the way in, by kind and words: what passes by itself is told from what does not.
#[test]
fn what_goes_wrong_is_told_apart() {
    type Prepare = fn(&Machine);
    let table: [(Prepare, Kind, &str); 8] = [
        (|machine| machine.services.reach(false), Kind::Transient, "connection refused"),
        (
            |machine| machine.services.edit_object("ConfigMap kube-public/cluster-info", |object| object["data"] = json!({})),
            Kind::Transient,
            "holds no kubeconfig yet",
        ),
        (
            |machine| {
                machine.services.edit_object("ConfigMap kube-public/cluster-info", |object| {
                    object["data"]["jws-kubeconfig-abcdef"] = Value::Null;
                });
            },
            Kind::Rejected,
            "does not know the bootstrap token abcdef",
        ),
        (
            |machine| machine.files.bake(CREDENTIAL, 0o600, b"abcdef.aaaaaaaaaaaaaaaa"),
            Kind::Rejected,
            "with another secret than our bootstrap token's",
        ),
        (
            |machine| {
                let hash = format!("sha256:{}", "0a".repeat(32));
                machine.files.bake("/etc/edgeboot/config.yaml", 0o600, config(&hash).as_bytes());
            },
            Kind::Rejected,
            "its CA is none of those that caCertHashes names",
        ),
        (
            |machine| machine.services.cluster_elsewhere(objects("v1.35.9"), sign),
            Kind::Config,
            "the package's kubelet v1.36.3 is newer than the cluster, which is v1.35.9",
        ),
        (
            |machine| {
                let node = json!({
                    "apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"},
                    "status": {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"machineID": "another"}},
                });
                let mut all = objects("v1.36.3");
                all.push(node);
                machine.services.cluster_elsewhere(all, sign);
            },
            Kind::Rejected,
            "has a Ready node of that name already",
        ),
        (
            |machine| {
                machine.services.cluster_elsewhere(objects("v1.36.3"), |object| {
                    object["status"] = json!({"conditions": [{"type": "Denied", "reason": "No", "message": "not you"}]});
                });
            },
            Kind::Rejected,
            "Denied (No): not you",
        ),
    ];
    let baked = baked();
    for (prepare, kind, words) in table {
        let machine = in_sight_of_cluster(baked.duplicate());
        prepare(&machine);
        let error = boot(&machine).expect_err(words);
        assert!(error.to_string().contains(words), "{words}: {}", error.render());
        assert_eq!(error.kind(), kind, "{}", error.render());
        assert!(error.kind() == Kind::Transient || error.remedy().is_some(), "{error}");
        let tree = machine.files.tree();
        assert!(!tree.contains_key("/etc/kubernetes/kubelet.conf"), "{words}: kubelet.conf is there");
        assert!(!tree.contains_key("/var/lib/kubelet/config.yaml"), "{words}: the kubelet is configured");
    }
}

/// A second machine with the same token and CA: mended in its own time, and never without asking in another cluster.
#[test]
fn a_machine_that_has_joined_is_not_taken_elsewhere() {
    let machine = in_sight_of_cluster(baked());
    boot(&machine).expect("joined");
    let hash = format!("sha256:{}", "0a".repeat(32));
    machine.files.bake("/etc/edgeboot/config.yaml", 0o600, config(&hash).as_bytes());
    let error = boot(&machine).expect_err("another cluster");
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.to_string().contains("this machine has joined another one"), "{}", error.render());
}

/// A torn kubelet.conf with a token that is still good: the machine joins anew, as itself.
#[test]
fn what_is_torn_is_mended_or_the_machine_joins_anew() {
    for torn in ["/etc/kubernetes/pki/ca.crt", "/etc/kubernetes/kubelet.conf", "/var/lib/kubelet/config.yaml"] {
        let machine = in_sight_of_cluster(baked());
        boot(&machine).expect("joined");
        let expected = shape(&machine);
        machine.files.bake(CREDENTIAL, 0o600, TOKEN.as_bytes());
        machine.files.bake(torn, 0o644, b"");
        // It was the kubelet that made the node Ready.
        machine.services.edit_object("Node node-1", |node| node["status"]["conditions"][0]["status"] = json!("Unknown"));
        boot(&machine).unwrap_or_else(|error| panic!("{torn}: {}", error.render()));
        assert_alike(&expected, &shape(&machine), torn);
    }
}
