//! The objects of a cluster as data that two clusters of one configuration have in common: what the server and the moment add is
//! taken away, certificates are told by what they say, what is sealed is opened, and random names are one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use edgeboot::config::node::CertificateKey;
use edgeboot::k8s::certificate_upload;
use edgeboot::k8s::objects::signed;
use serde_json::{Value, json};

use super::describe::describe;
use super::differences::{self, Difference};
use crate::machine::{LIMIT, Machine};

/// What is compared: all objects of these kinds, for what the API server makes by itself must be the same, too.
const KINDS: &str = "namespaces,configmaps,secrets,serviceaccounts,services,deployments,daemonsets,roles,rolebindings,clusterroles,\
                     clusterrolebindings,priorityclasses,nodes";
/// Of metadata: the server's, not the maker's.
const SERVERS: [&str; 4] = ["uid", "resourceVersion", "creationTimestamp", "managedFields"];
/// Of a described certificate: what differs between clusters.
const CERTIFICATES_OWN: [&str; 5] = ["validFrom", "validUntil", "key", "keySize", "signature"];
/// What says that a ConfigMap's content was generated.
const HASH: &str = "kubeadm.kubernetes.io/component-config.hash";
/// The taints of a node that is on its way.
const WAITS: &str = "node.kubernetes.io/";
/// The name of a bootstrap token's Secret, before its id.
const TOKEN: &str = "bootstrap-token-";
/// The key of its signature in cluster-info, before its id.
const SIGNATURE: &str = "jws-kubeconfig-";

/// By kind, namespace and name.
#[derive(Debug, PartialEq)]
pub struct Objects(BTreeMap<String, Value>);

impl Objects {
    /// The objects once the controllers have done their part: the node is Ready and known, each token has signed, and nothing changes.
    pub fn settled(machine: &Machine, stream: &str) -> Result<Objects> {
        let started = Instant::now();
        let mut last: Option<Objects> = None;
        while started.elapsed() < LIMIT {
            let text = machine.kubectl(&format!("get {KINDS} -A -o json"))?;
            let dump: Value = serde_json::from_str(&text)?;
            let items = dump["items"].as_array().context("a list")?;
            if is_settled(items) {
                let objects = Objects::of(items, stream)?;
                if last.as_ref() == Some(&objects) {
                    return Ok(objects);
                }
                last = Some(objects);
            }
            std::thread::sleep(Duration::from_secs(2));
        }
        bail!("the objects still change after {LIMIT:?}: {:?}", machine.kubectl("get nodes,pods -A")?)
    }

    fn of(items: &[Value], stream: &str) -> Result<Objects> {
        let mut objects = BTreeMap::new();
        for item in items {
            let subject = subject(item);
            let item = random_ids_as_one(&meant(item, stream)?, items, stream)?;
            // Told by what it is named after, so that the random one is found again.
            let subject = random_ids_as_one(&json!(subject), items, stream)?;
            let other = objects.insert(subject.as_str().unwrap_or_default().to_owned(), item);
            ensure!(other.is_none(), "{subject} is there twice");
        }
        Ok(Objects(objects))
    }

    /// All differences, by object.
    pub fn differences(&self, ours: &Objects) -> Vec<(String, Difference)> {
        let subjects: std::collections::BTreeSet<&String> = self.0.keys().chain(ours.0.keys()).collect();
        let of = |objects: &Objects, subject: &String| objects.0.get(subject).cloned().unwrap_or(Value::Null);
        let between = |subject: &String| differences::between("", &of(self, subject), &of(ours, subject));
        subjects.into_iter().flat_map(|subject| between(subject).into_iter().map(|found| (subject.clone(), found))).collect()
    }
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn subject(object: &Value) -> String {
    let words = ["/kind", "/metadata/namespace", "/metadata/name"].map(|pointer| text(object, pointer));
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn is_settled(items: &[Value]) -> bool {
    let of = |wanted: &'static str| items.iter().filter(move |item| item["kind"] == wanted);
    let nodes_ready = of("Node").all(|node| {
        let conditions = node["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let taints = node["spec"]["taints"].as_array().map(Vec::as_slice).unwrap_or_default();
        conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
            && !taints.iter().any(|taint| text(taint, "/key").starts_with(WAITS))
    });
    let seen =
        of("Deployment").chain(of("DaemonSet")).all(|one| one["status"]["observedGeneration"] == one["metadata"]["generation"]);
    let cluster_info = of("ConfigMap").find(|map| map["metadata"]["name"] == "cluster-info");
    let signs = |secret: &&Value| secret["data"].get("usage-bootstrap-signing").is_some();
    let all_signed = of("Secret").filter(signs).all(|secret| {
        let key = format!("{SIGNATURE}{}", text(secret, "/metadata/name").trim_start_matches(TOKEN));
        cluster_info.is_some_and(|map| map["data"].get(&key).is_some())
    });
    nodes_ready && seen && all_signed
}

/// What the object means.
fn meant(object: &Value, stream: &str) -> Result<Value> {
    let mut meant = object.clone();
    let fields = meant.as_object_mut().context("an object")?;
    fields.remove("status");
    let metadata = fields.get_mut("metadata").and_then(Value::as_object_mut).context("metadata")?;
    metadata.retain(|name, _| !SERVERS.contains(&name.as_str()));
    for owner in metadata.get_mut("ownerReferences").and_then(Value::as_array_mut).into_iter().flatten() {
        owner.as_object_mut().map(|owner| owner.remove("uid"));
    }
    if let Some(hash) = metadata.get_mut("annotations").and_then(|annotations| annotations.get_mut(HASH)) {
        // It is as long and as different as the content; what matters is that kubeadm takes the content for generated.
        let right = signed(object.clone())["metadata"]["annotations"][HASH].clone();
        *hash = json!(if *hash == right { "of the content" } else { "of something else" });
    }
    let key = stream.lines().find_map(|line| line.strip_prefix("certificateKey: ")).and_then(CertificateKey::parse);
    let made = text(object, "/metadata/creationTimestamp");
    for (name, value) in fields.get_mut("data").and_then(Value::as_object_mut).into_iter().flatten() {
        let encoded = value.as_str().unwrap_or_default();
        let bytes = match text(object, "/kind") {
            "Secret" => STANDARD.decode(encoded)?,
            _ => encoded.as_bytes().to_vec(),
        };
        let bytes = match &key {
            Some(key) if text(object, "/metadata/name") == certificate_upload::SECRET => {
                certificate_upload::open(key, &bytes).map_err(|error| anyhow::anyhow!(error.render()))?
            }
            _ => bytes,
        };
        *value = content(name, &bytes, made, stream)?;
    }
    Ok(meant)
}

/// What a piece of data means, by the name of its key.
fn content(name: &str, bytes: &[u8], made: &str, stream: &str) -> Result<Value> {
    let text = String::from_utf8_lossy(bytes);
    let mut value = match name {
        "kubelet" | "ClusterConfiguration" | "config.conf" => describe("content.yaml", bytes),
        "kubeconfig" | "kubeconfig.conf" => describe("content.conf", bytes),
        "expiration" => {
            let life = text.parse::<jiff::Timestamp>()?.as_second() - made.parse::<jiff::Timestamp>()?.as_second();
            json!(format!("{} min", (life + 30).div_euclid(60)))
        }
        "token-secret" if !stream.contains(&*text) => json!(format!("{} letters", text.len())),
        "since" => json!(format!("a date of {} letters", text.len())),
        _ if text.starts_with("-----BEGIN") => describe("content.pem", bytes),
        _ if name.starts_with(SIGNATURE) => signature(&text)?,
        _ => json!(text),
    };
    without_keys_and_moments(&mut value);
    Ok(value)
}

/// A detached JWS: its header, for the rest depends on the keys.
fn signature(text: &str) -> Result<Value> {
    let parts: Vec<&str> = text.split('.').collect();
    ensure!(parts.len() == 3 && parts[1].is_empty(), "no detached signature: {text}");
    Ok(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[0])?)?)
}

/// A certificate's times are those of its cluster's beginning, and its key is of the algorithm that kubeadm-config names; the parity of
/// files compares both.
fn without_keys_and_moments(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields.contains_key("validUntil") {
                fields.retain(|name, _| !CERTIFICATES_OWN.contains(&name.as_str()));
            }
            fields.values_mut().for_each(without_keys_and_moments);
        }
        Value::Array(items) => items.iter_mut().for_each(without_keys_and_moments),
        _ => {}
    }
}

/// The ids of tokens that nobody configured are random: RANDOM.
fn random_ids_as_one(value: &Value, items: &[Value], stream: &str) -> Result<Value> {
    let ids = items.iter().filter_map(|item| text(item, "/metadata/name").strip_prefix(TOKEN));
    let mut text = value.to_string();
    for id in ids.filter(|id| !stream.contains(id)) {
        text = text.replace(id, "RANDOM");
    }
    Ok(serde_json::from_str(&text)?)
}
