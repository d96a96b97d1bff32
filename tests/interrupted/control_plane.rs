//! A further control plane's way into a cluster on another machine, cut at every single operation: the next boot carries on with the
//! member that was added, and in the end there is one node, one request, one member of etcd that votes, and neither token nor
//! certificate key outside the places where they belong.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use edgeboot::config::node::{CertificateKey, Cluster, KeyAlgorithm};
use edgeboot::error::Kind;
use edgeboot::host::fake::{Loss, Machine};
use edgeboot::k8s::certificate_upload;
use edgeboot::k8s::pki::{Pair, PrivateKey, Validity, ca_hash};
use serde_json::{Value, json};

use super::memory::{self, boot, boot_while};
use super::worker::{CREDENTIAL, TOKEN, YEAR, authority, count, now, objects_at, sign, status_after};
use super::{assert_alike, at_every_operation, boot_on, cut_boot, differing_lines, shape, touched, uncut};

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const KEY_CREDENTIAL: &str = "/var/lib/edgeboot/credentials/certificate-key";
const FOUNDER: &str = "10.77.0.21";
const US: &str = "https://10.77.0.11:2380";
const ETCD: &str = "/etc/kubernetes/manifests/etcd.yaml";

/// What the founder uploaded: each file sealed.
fn uploaded() -> &'static Value {
    static UPLOADED: OnceLock<Value> = OnceLock::new();
    UPLOADED.get_or_init(|| {
        let validity = || Validity::from_now(now(), YEAR * 10).expect("dates");
        let pair = |name: &str| Pair::new_authority(name, KeyAlgorithm::EcdsaP256, validity()).expect("a CA");
        let (proxy, etcd) = (pair("front-proxy-ca"), pair("etcd-ca"));
        let service = PrivateKey::generate(KeyAlgorithm::EcdsaP256).expect("a key");
        let certificate = |pair: &Pair| Some(pair.certificate.to_pem().into_bytes());
        let key = |key: &PrivateKey| Some(key.to_pem().expect("text").as_bytes().to_vec());
        let files = [
            ("ca.crt", certificate(authority())),
            ("ca.key", key(&authority().key)),
            ("front-proxy-ca.crt", certificate(&proxy)),
            ("front-proxy-ca.key", key(&proxy.key)),
            ("sa.pub", Some(service.public_pem().expect("text").into_bytes())),
            ("sa.key", key(&service)),
            ("etcd-ca.crt", certificate(&etcd)),
            ("etcd-ca.key", key(&etcd.key)),
        ];
        let owner = json!({"metadata": {"name": "bootstrap-token-x", "uid": "1"}});
        let sealed = CertificateKey::parse(KEY).expect("a key");
        certificate_upload::secret(&sealed, &files, &owner).expect("sealed")
    })
}

fn founder() -> Value {
    json!({"ID": "9372538179322589801", "name": "founder", "peerURLs": [format!("https://{FOUNDER}:2380")],
           "clientURLs": [format!("https://{FOUNDER}:2379")]})
}

fn objects() -> Vec<Value> {
    let mut objects = objects_at(FOUNDER, "v1.36.3", &format!("controlPlaneEndpoint: {FOUNDER}:6443\n"));
    objects.push(uploaded().clone());
    objects.push(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {
        "namespace": "kube-system", "name": "etcd-founder", "labels": {"component": "etcd", "tier": "control-plane"},
        "annotations": {"kubeadm.kubernetes.io/etcd.advertise-client-urls": format!("https://{FOUNDER}:2379")},
    }}));
    objects
}

pub(super) fn baked() -> Machine {
    let machine = memory::baked();
    let config = format!(
        "apiVersion: edgeboot.io/v1alpha1\nkind: NodeConfig\nrole: controlPlane\njoin:\n  endpoints: [\"{FOUNDER}:6443\"]\n  \
         tokenFrom: credential:token\n  caCertHashes: [\"{}\"]\n  certificateKeyFrom: credential:certificate-key\n",
        ca_hash(&authority().certificate)
    );
    machine.files.bake("/etc/edgeboot/config.yaml", 0o600, config.as_bytes());
    machine.files.bake(CREDENTIAL, 0o600, TOKEN.as_bytes());
    machine.files.bake(KEY_CREDENTIAL, 0o600, KEY.as_bytes());
    machine.root().sync_file_system("/").expect("flushed");
    machine
}

pub(super) fn in_sight_of_cluster(machine: Machine) -> Machine {
    machine.services.cluster_elsewhere(objects(), sign);
    machine.services.set_members(vec![founder()]);
    machine
}

pub(super) fn is_voter(machine: &Machine) -> bool {
    let members = machine.services.members();
    members.len() == 2 && members.iter().any(|member| member["peerURLs"][0] == US && member["isLearner"] == false)
}

#[test]
fn a_control_plane_joins_and_further_boots_change_nothing_and_need_nobody() {
    let machine = in_sight_of_cluster(baked());
    boot(&machine).unwrap_or_else(|error| panic!("{}", error.render()));
    assert!(is_voter(&machine), "{:?}", machine.services.members());
    let tree = machine.files.tree();
    for path in [CREDENTIAL, KEY_CREDENTIAL, "/etc/kubernetes/bootstrap-kubelet.conf", "/etc/kubernetes/super-admin.conf"] {
        assert!(!tree.contains_key(path), "{path} is there");
    }
    let text = |path: &str| String::from_utf8_lossy(&tree[path].1).into_owned();
    let etcd = text(ETCD);
    assert!(etcd.contains(&format!("--initial-cluster=founder=https://{FOUNDER}:2380,node-1={US}\n")), "{etcd}");
    assert!(etcd.contains("--initial-cluster-state=existing\n"), "{etcd}");
    assert!(text("/etc/kubernetes/kubelet.conf").contains("server: https://10.77.0.11:6443"));
    assert!(text("/etc/kubernetes/admin.conf").contains(&format!("server: https://{FOUNDER}:6443")));
    assert_eq!(tree["/etc/kubernetes/pki/ca.key"].0, 0o600);
    let node = machine.services.objects()["Node node-1"].clone();
    assert!(node["metadata"]["labels"].get("node-role.kubernetes.io/control-plane").is_some(), "{node}");

    let (stamps, state) = (machine.files.stamps(), tree["/var/lib/edgeboot/state.json"].1.clone());
    machine.services.take_writes();
    for reachable in [true, false] {
        machine.services.reach(reachable);
        machine.reboot(Loss::Everything);
        boot(&machine).unwrap_or_else(|error| panic!("reachable {reachable}: {}", error.render()));
        assert_eq!(machine.services.take_writes(), Vec::<String>::new());
        assert_eq!(touched(&stamps, &machine), Vec::<String>::new());
        assert_eq!(differing_lines(&state, &machine.files.tree()["/var/lib/edgeboot/state.json"].1), Vec::<String>::new());
    }
}

#[test]
fn a_control_planes_join_cut_at_any_operation_is_carried_on_by_the_next() {
    let (operations, expected) = uncut(&in_sight_of_cluster(baked()));
    assert!(operations > 200, "only {operations} operations: the fuse does not see what it should");
    let baked = baked();
    at_every_operation(operations, |n, loss| {
        let history = format!("cut at operation {n}, losing {loss:?}");
        let machine = in_sight_of_cluster(baked.duplicate());
        cut_boot(&machine, n, loss, &history);
        boot_on(&machine, &history);
        assert_alike(&expected, &shape(&machine), &history);
        assert_eq!((count(&machine, "Node"), count(&machine, "CertificateSigningRequest")), (1, 1), "{history}");
        assert!(is_voter(&machine), "{history}: {:?}", machine.services.members());
    });
}

/// A member hears of its own publication, or it does not and would be deaf to its clients for seven seconds.
#[test]
fn a_learner_that_missed_its_own_publication_is_started_again_before_it_votes() {
    for (missed, starts) in [(false, 0), (true, 1)] {
        let machine = in_sight_of_cluster(baked());
        if missed {
            machine.services.miss_publication();
        }
        boot(&machine).unwrap_or_else(|error| panic!("{}", error.render()));
        let writes = machine.services.take_writes();
        let at = |what: &str| writes.iter().position(|write| write.starts_with(what));
        let stopped = writes.iter().filter(|write| *write == "StopPodSandbox etcd-node-1").count();
        assert_eq!(stopped, starts, "missed: {missed}: {writes:#?}");
        assert!(at("StopPodSandbox etcd-node-1") <= at("member/promote"), "missed: {missed}: {writes:#?}");
        assert!(is_voter(&machine), "{:?}", machine.services.members());
    }
}

/// A learner that is slow gets the time it needs as long as it gets on; one that does not gets what is configured.
#[test]
fn a_learner_has_time_while_its_snapshot_comes_in() {
    let machine = in_sight_of_cluster(baked());
    machine.services.silence("etcd", true);
    let outcome = boot_while(&machine, async |progress| {
        for part in 1..=8 {
            let said = status_after(100, &progress).await;
            assert!(said.contains("etcd-join waits for etcd of this machine to start and to catch up"), "{part}: {said}");
            machine.files.bake("/var/lib/etcd/member/snap/tmp1", 0o600, &vec![0; part]);
        }
        machine.services.silence("etcd", false);
    });
    outcome.unwrap_or_else(|error| panic!("{}", error.render()));
    assert!(is_voter(&machine), "{:?}", machine.services.members());
}

/// The API server and etcd's gateway refuse each request at first, and the answer to each change is lost: one run gets through.
#[test]
fn a_control_plane_joins_a_cluster_that_stumbles_at_every_request() {
    let plain = in_sight_of_cluster(baked());
    boot(&plain).expect("joined");
    for times in [1, 2, 3] {
        let machine = in_sight_of_cluster(baked());
        machine.services.stumble(times);
        boot(&machine).unwrap_or_else(|error| panic!("{times}: {}", error.render()));
        assert_alike(&shape(&plain), &shape(&machine), &format!("stumbling {times} times"));
        assert_eq!((count(&machine, "Node"), count(&machine, "CertificateSigningRequest")), (1, 1), "{times}");
        assert!(is_voter(&machine), "{times}: {:?}", machine.services.members());
    }
}

/// Members that were there before us: our own of an earlier life, a half-made one of ours, somebody else's.
#[test]
fn what_etcd_knows_already_is_met_or_named() {
    let ours = |name: Option<&str>, learner: bool| {
        let mut member = json!({"ID": "100", "peerURLs": [US], "isLearner": learner, "ours": true});
        if let Some(name) = name {
            member["name"] = json!(name);
        }
        member
    };
    for (what, member) in
        [("a learner that never started", ours(None, true)), ("a voter whose data is gone", ours(Some("node-1"), false))]
    {
        let machine = in_sight_of_cluster(baked());
        machine.services.set_members(vec![founder(), member]);
        boot(&machine).unwrap_or_else(|error| panic!("{what}: {}", error.render()));
        assert!(is_voter(&machine), "{what}: {:?}", machine.services.members());
    }
    let other = |name: Option<&str>, learner| {
        let mut member = json!({"ID": "255", "peerURLs": ["https://10.77.0.31:2380"], "isLearner": learner});
        if let Some(name) = name {
            member["name"] = json!(name);
        }
        member
    };
    for (member, kind, words) in [
        (other(Some("node-1"), false), Kind::Rejected, "it has a member of that name already, at https://10.77.0.31:2380"),
        (
            other(None, true),
            Kind::Transient,
            "too many learner members in cluster; the learner is https://10.77.0.31:2380 (not started yet)",
        ),
    ] {
        let machine = in_sight_of_cluster(baked());
        machine.services.set_members(vec![founder(), member]);
        let error = boot(&machine).expect_err(words);
        assert!(error.to_string().contains(words), "{words}: {}", error.render());
        assert_eq!(error.kind(), kind, "{}", error.render());
        assert!(error.remedy().is_some_and(|remedy| remedy.contains("etcdctl member remove ff")), "{}", error.render());
        assert!(!machine.files.tree().contains_key(ETCD), "{words}: etcd is configured");
    }
}

/// Machines are switched on together: etcd takes one learner at a time, and the next one waits for it.
#[test]
fn a_control_plane_waits_until_another_one_that_came_first_is_promoted() {
    let machine = in_sight_of_cluster(baked());
    let other = |learner| {
        json!({"ID": "255", "name": "node-2", "peerURLs": ["https://10.77.0.31:2380"], "isLearner": learner,
               "clientURLs": ["https://10.77.0.31:2379"]})
    };
    machine.services.set_members(vec![founder(), other(true)]);
    let outcome = boot_while(&machine, async |progress| {
        let said = status_after(90, &progress).await;
        let wished = "etcd-join waits for the learner https://10.77.0.31:2380 (node-2) to be promoted: etcd takes one at a time";
        assert!(said.contains(wished), "{said}");
        assert_eq!(machine.services.members().len(), 2, "it was added beside another learner");
        machine.services.set_members(vec![founder(), other(false)]);
    });
    outcome.unwrap_or_else(|error| panic!("{}", error.render()));
    let votes = machine.services.members().iter().filter(|member| member["isLearner"] == false).count();
    assert_eq!(votes, 2, "{:?}", machine.services.members());
    let manifest = String::from_utf8_lossy(&machine.files.tree()[ETCD].1).into_owned();
    assert!(manifest.contains(&format!("node-2=https://10.77.0.31:2380,node-1={US}")), "{manifest}");
}

/// What goes wrong before etcd is asked, by kind and words.
#[test]
fn what_is_missing_for_a_control_plane_is_named() {
    type Prepare = fn(&Machine);
    let table: [(Prepare, Kind, &str); 5] = [
        (
            |machine| machine.services.cluster_elsewhere(objects_at(FOUNDER, "v1.36.3", ""), sign),
            Kind::Config,
            "no address that all its control planes share",
        ),
        (
            |machine| {
                machine.services.edit_object("Secret kube-system/kubeadm-certs", |secret| {
                    secret["data"]["ca.key"] = json!("AAAA");
                });
            },
            Kind::Rejected,
            "the certificate key is not the one it was sealed with",
        ),
        (
            |machine| machine.files.bake(KEY_CREDENTIAL, 0o600, "0a".repeat(32).as_bytes()),
            Kind::Rejected,
            "the certificate key is not the one it was sealed with",
        ),
        (
            |machine| {
                let mut without = objects();
                without.retain(|object| object["kind"] != "Secret");
                machine.services.forget_objects();
                machine.services.cluster_elsewhere(without, sign);
            },
            Kind::Transient,
            "it is not there, or not any more: it lives for two hours",
        ),
        (
            |machine| {
                machine.services.edit_object("Pod kube-system/etcd-founder", |pod| pod["metadata"]["annotations"] = json!({}));
            },
            Kind::Transient,
            "no pod of etcd has the annotation",
        ),
    ];
    for (prepare, kind, words) in table {
        let machine = in_sight_of_cluster(baked());
        prepare(&machine);
        let error = boot(&machine).expect_err(words);
        assert!(error.to_string().contains(words), "{words}: {}", error.render());
        assert_eq!(error.kind(), kind, "{}", error.render());
        assert!(error.remedy().is_some(), "{words}: {error}");
        assert!(!machine.files.tree().contains_key(ETCD), "{words}: etcd is configured");
        assert_eq!(machine.services.members().len(), 1, "{words}: a member was added");
    }
}

/// Without a certificate key the shared files lie there already; one that is missing is named before anything is made.
#[test]
fn keys_laid_there_by_hand_are_used() {
    let key = CertificateKey::parse(KEY).expect("a key");
    let by_hand = |leave_out: &str| {
        let machine = in_sight_of_cluster(baked());
        let config = machine.files.tree()["/etc/edgeboot/config.yaml"].1.clone();
        let config = String::from_utf8(config).expect("text").replace("  certificateKeyFrom: credential:certificate-key\n", "");
        machine.files.bake("/etc/edgeboot/config.yaml", 0o600, config.as_bytes());
        let cluster: Cluster =
            edgeboot::config::fetched::cluster("apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n", "the test")
                .expect("a cluster");
        for (name, path) in certificate_upload::files(&cluster).into_iter().filter(|(name, _)| *name != leave_out) {
            let sealed = uploaded()["data"][name].as_str().expect("sealed");
            let sealed = STANDARD.decode(sealed).expect("base64");
            machine.files.bake(&path, 0o600, &certificate_upload::open(&key, &sealed).expect("opened"));
        }
        machine
    };
    let machine = by_hand("none");
    boot(&machine).unwrap_or_else(|error| panic!("{}", error.render()));
    assert!(is_voter(&machine));
    for missing in ["sa.key", "etcd-ca.crt", "front-proxy-ca.crt"] {
        let error = boot(&by_hand(missing)).expect_err(missing);
        assert!(error.to_string().contains("all control planes of a cluster share it"), "{missing}: {}", error.render());
        assert!(error.remedy().is_some_and(|remedy| remedy.contains("certificateKey")), "{missing}");
    }
}
