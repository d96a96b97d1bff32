//! What becomes of a kubelet's request for a serving certificate (`serverTLSBootstrap`). kube-controller-manager signs such a request
//! but approves none: whether a node is what it says cannot be seen in the request. Here it is held against the node's own object, the
//! other nodes' and the API server's names; what does not hold is left to a person, with the reason.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;

use crate::k8s::names;

use super::San;
use super::certificate::san;
use super::pem;
use super::request::node_user;

/// Who signs the serving certificates of kubelets.
pub const SIGNER: &str = "kubernetes.io/kubelet-serving";
/// What a kubelet may ask for, sorted; with an RSA key also the third (`pkg/apis/certificates/helpers.go`).
const USAGES: [&[&str]; 2] = [&["digital signature", "server auth"], &["digital signature", "key encipherment", "server auth"]];

/// Those of these CertificateSigningRequests that ask for a kubelet's serving certificate and that nobody has decided.
pub fn undecided(requests: &[Value]) -> impl Iterator<Item = &Value> {
    let is_open = |request: &&Value| {
        let conditions = request.pointer("/status/conditions").and_then(Value::as_array);
        request["spec"]["signerName"] == SIGNER && conditions.is_none_or(Vec::is_empty)
    };
    requests.iter().filter(is_open)
}

/// The node that a request says it is from; empty when it is from none.
pub fn node_of(request: &Value) -> &str {
    request["spec"]["username"].as_str().and_then(|user| user.strip_prefix(&node_user(""))).unwrap_or_default()
}

/// Whether a request may be approved; otherwise why not. `reserved` are the names and addresses of the API server, which only a control
/// plane may have: a certificate for them from the cluster's CA would let a worker pass for it.
pub fn judge(request: &Value, nodes: &[Value], reserved: &[San]) -> Result<(), String> {
    let node_name = node_of(request);
    if node_name.is_empty() {
        return Err(format!("{} is no node", request["spec"]["username"].as_str().unwrap_or("its author")));
    }
    check_usages(request)?;
    let asked = names_of(request, node_name)?;
    let node = nodes.iter().find(|node| name(node) == node_name).ok_or_else(|| format!("there is no Node {node_name}"))?;
    let own = addresses(node);
    for asked in asked {
        if !own.contains(&asked) {
            return Err(format!("{asked} is no name or address of the Node {node_name}"));
        }
        // A kubelet writes its addresses into its Node itself: that they are there proves little while another has them, too.
        if let Some(other) = nodes.iter().find(|other| name(other) != node_name && addresses(other).contains(&asked)) {
            return Err(format!("{asked} is also the Node {}'s", name(other)));
        }
        if reserved.contains(&asked) && !is_control_plane(node) {
            return Err(format!("{asked} is the API server's, and {node_name} is no control plane"));
        }
    }
    Ok(())
}

fn check_usages(request: &Value) -> Result<(), String> {
    let usages = request["spec"]["usages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut usages: Vec<&str> = usages.iter().filter_map(Value::as_str).collect();
    usages.sort_unstable();
    if USAGES.contains(&usages.as_slice()) { Ok(()) } else { Err(format!("it asks for {}", usages.join(", "))) }
}

/// The names and addresses that the PKCS#10 request is for; everything else in it must be as the kubelet of this node writes it.
fn names_of(request: &Value, node_name: &str) -> Result<Vec<San>, String> {
    let unreadable = || "it holds no readable certificate request".to_owned();
    let text = request["spec"]["request"].as_str().and_then(|text| STANDARD.decode(text).ok()).ok_or_else(unreadable)?;
    let block = pem::blocks(&text).into_iter().next().ok_or_else(unreadable)?;
    let (_, asked) = X509CertificationRequest::from_der(&block.contents).map_err(|_| unreadable())?;
    let subject = &asked.certification_request_info.subject;
    let common_names: Vec<&str> = subject.iter_common_name().filter_map(|part| part.as_str().ok()).collect();
    let organizations: Vec<&str> = subject.iter_organization().filter_map(|part| part.as_str().ok()).collect();
    if common_names != [node_user(node_name)] || organizations != [names::GROUP_NODES] {
        return Err(format!("its subject is {subject}"));
    }
    let alternatives = asked.requested_extensions().into_iter().flatten().find_map(|extension| match extension {
        ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
        _ => None,
    });
    let one = |name: &GeneralName<'_>| san(name).ok_or_else(|| format!("it asks for {name}"));
    let sans: Vec<San> = alternatives.into_iter().flatten().map(one).collect::<Result<_, _>>()?;
    if sans.is_empty() { Err("it asks for no name or address".to_owned()) } else { Ok(sans) }
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// What a Node says its names and addresses are.
fn addresses(node: &Value) -> Vec<San> {
    let listed = node.pointer("/status/addresses").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    listed.iter().filter_map(|one| San::parse(one["address"].as_str()?)).collect()
}

/// By the label that a kubelet may not give itself (the NodeRestriction admission plugin).
fn is_control_plane(node: &Value) -> bool {
    node["metadata"]["labels"].get(names::LABEL_CONTROL_PLANE).is_some()
}

/// The request with our approval, for its `approval` subresource.
pub fn approved(request: &Value, now: Timestamp) -> Value {
    let mut request = request.clone();
    let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = json!({
        "type": "Approved", "status": "True", "reason": "NodeAddressesMatch", "lastUpdateTime": now,
        "message": "edgeboot: the names and addresses are those of the Node that asks, and of no other",
    });
    request["status"]["conditions"] = json!([condition]);
    request
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::node::KeyAlgorithm;
    use crate::k8s::pki::{PrivateKey, der, issue};

    fn node(name: &str, addresses: &[&str]) -> Value {
        let addresses: Vec<Value> = addresses.iter().map(|address| json!({"type": "InternalIP", "address": address})).collect();
        json!({"metadata": {"name": name, "labels": {}}, "status": {"addresses": addresses}})
    }

    fn request(node_name: &str, sans: &[&str]) -> Value {
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).expect("a key");
        let sans: Vec<San> = sans.iter().map(|san| San::parse(san).expect("a name")).collect();
        // RFC 2985's extensionRequest, as Go's x509.CreateCertificateRequest writes it.
        let extensions = der::set_of(vec![der::sequence(&[issue::alt_names(&sans)])]);
        let attribute = der::sequence(&[der::object_identifier(&[1, 2, 840, 113_549, 1, 9, 14]), extensions]);
        let attributes = if sans.is_empty() { Vec::new() } else { attribute };
        let user = node_user(node_name);
        let parts = [
            der::unsigned(&[0]),
            issue::name(&user, [names::GROUP_NODES]),
            key.public_key_info().expect("public"),
            der::explicit(0, &attributes),
        ];
        let to_sign = der::sequence(&parts);
        let signature = key.sign(&to_sign).expect("signed");
        let whole = der::sequence(&[to_sign, key.signature_algorithm(), der::bit_string(0, &signature)]);
        let pem = pem::encode("CERTIFICATE REQUEST", &whole);
        json!({
            "metadata": {"name": "csr-1"},
            "spec": {"signerName": SIGNER, "username": user, "usages": USAGES[0], "request": STANDARD.encode(pem)},
        })
    }

    fn reserved() -> Vec<San> {
        ["kubernetes", "10.96.0.1", "10.0.0.9"].map(|text| San::parse(text).expect("a name")).to_vec()
    }

    #[test]
    fn a_request_is_approved_when_all_of_it_is_the_nodes_alone() {
        let mut founder = node("founder", &["founder", "10.0.0.9"]);
        founder["metadata"]["labels"][names::LABEL_CONTROL_PLANE] = json!("");
        let nodes = [
            node("one", &["one", "10.0.0.1", "fd00::1"]),
            node("two", &["two", "10.0.0.2"]),
            node("thief", &["thief", "10.0.0.2", "10.0.0.9", "kubernetes"]),
            founder,
        ];
        let table = [
            ("one", vec!["one", "10.0.0.1", "fd00:0::1"], ""),
            ("founder", vec!["founder"], ""),
            ("one", vec!["one", "10.0.0.3"], "10.0.0.3 is no name or address of the Node one"),
            ("two", vec!["two", "10.0.0.2"], "10.0.0.2 is also the Node thief's"),
            ("thief", vec!["thief", "10.0.0.2"], "10.0.0.2 is also the Node two's"),
            ("thief", vec!["kubernetes"], "kubernetes is the API server's, and thief is no control plane"),
            ("nobody", vec!["nobody"], "there is no Node nobody"),
            ("one", vec![], "it asks for no name or address"),
        ];
        for (node_name, sans, refusal) in table {
            let judged = judge(&request(node_name, &sans), &nodes, &reserved());
            assert_eq!(judged.err().unwrap_or_default(), refusal, "{node_name} {sans:?}");
        }
    }

    #[test]
    fn whoever_asks_for_another_or_for_more_is_left() {
        let nodes = [node("one", &["one"]), node("two", &["two"])];
        let good = request("one", &["one"]);
        let altered = |pointer: &str, value: Value| {
            let mut request = good.clone();
            *request.pointer_mut(pointer).expect("a field") = value;
            judge(&request, &nodes, &[]).expect_err("left")
        };
        assert!(judge(&good, &nodes, &[]).is_ok());
        assert_eq!(altered("/spec/username", json!("eve")), "eve is no node");
        assert!(altered("/spec/username", json!("system:node:two")).starts_with("its subject is"));
        assert_eq!(
            altered("/spec/usages", json!(["client auth", "digital signature"])),
            "it asks for client auth, digital signature"
        );
        assert_eq!(altered("/spec/request", json!("bm90aGluZw==")), "it holds no readable certificate request");
    }

    #[test]
    fn what_somebody_has_decided_is_not_decided_again() {
        let open = request("one", &["one"]);
        let mut denied = open.clone();
        denied["status"]["conditions"] = json!([{"type": "Denied"}]);
        let mut of_another_signer = open.clone();
        of_another_signer["spec"]["signerName"] = json!("kubernetes.io/kube-apiserver-client-kubelet");
        let approved = approved(&open, Timestamp::UNIX_EPOCH);
        assert_eq!(approved["status"]["conditions"][0]["lastUpdateTime"], "1970-01-01T00:00:00Z");
        let requests = [denied, of_another_signer, approved, open.clone()];
        assert_eq!(undecided(&requests).collect::<Vec<_>>(), [&open]);
    }
}
