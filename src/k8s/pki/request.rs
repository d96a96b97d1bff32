//! The request for a kubelet's client certificate, as the kubelet makes it when it bootstraps itself
//! (`pkg/kubelet/certificate/bootstrap`): the PKCS#10 request, and the object that asks the cluster to sign it.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha512_256};

use crate::error::Result;
use crate::k8s::names;

use super::issue::name;
use super::key::PrivateKey;
use super::{der, pem};

const LABEL: &str = "CERTIFICATE REQUEST";
/// Who signs the client certificates of kubelets.
const SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// What the certificate is for. An RSA key would ask for `key encipherment` too; ours is none.
const USAGES: [&str; 2] = ["digital signature", "client auth"];

/// The user that a node of this name is.
pub fn node_user(node_name: &str) -> String {
    format!("system:node:{node_name}")
}

/// A PKCS#10 request (RFC 2986) without attributes, as Go's `x509.CreateCertificateRequest` makes it.
pub fn certificate_request(key: &PrivateKey, common_name: &str, organization: &str) -> Result<String> {
    let subject = name(common_name, [organization]);
    let to_sign = der::sequence(&[der::unsigned(&[0]), subject, key.public_key_info()?, der::explicit(0, &[])]);
    let signature = key.sign(&to_sign)?;
    let request = der::sequence(&[to_sign, key.signature_algorithm(), der::bit_string(0, &signature)]);
    Ok(pem::encode(LABEL, &request))
}

/// The CertificateSigningRequest for the client certificate of the kubelet `node_name`. Its name is made from the key and what is
/// asked for (the kubelet's `digestedName`), so that whoever asks again with the same key finds what was asked before.
pub fn signing_request(key: &PrivateKey, node_name: &str) -> Result<Value> {
    let user = node_user(node_name);
    let request = certificate_request(key, &user, names::GROUP_NODES)?;
    Ok(json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"name": digested_name(&key.public_key_info()?, &user)},
        "spec": {"request": STANDARD.encode(request), "signerName": SIGNER, "usages": USAGES},
    }))
}

fn digested_name(public: &[u8], user: &str) -> String {
    let mut hash = Sha512_256::new();
    for part in [public, user.as_bytes(), names::GROUP_NODES.as_bytes()].into_iter().chain(USAGES.map(str::as_bytes)) {
        hash.update(URL_SAFE_NO_PAD.encode(part));
        hash.update(b"|");
    }
    format!("node-csr-{}", URL_SAFE_NO_PAD.encode(hash.finalize()))
}

/// What has become of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nobody has decided, or nobody has signed yet.
    Waiting,
    /// It was denied, or signing failed; why in the cluster's words.
    Refused(String),
    /// The certificate, as PEM.
    Signed(Vec<u8>),
}

/// Reads what has become of a request.
pub fn answer(request: &Value) -> Answer {
    let conditions = request.pointer("/status/conditions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let refusal = conditions.iter().find(|condition| matches!(condition["type"].as_str(), Some("Denied" | "Failed")));
    if let Some(refusal) = refusal {
        let word = |field: &str| refusal[field].as_str().unwrap_or_default();
        return Answer::Refused(format!("{} ({}): {}", word("type"), word("reason"), word("message")));
    }
    let certificate = request.pointer("/status/certificate").and_then(Value::as_str).filter(|text| !text.is_empty());
    match certificate.and_then(|text| STANDARD.decode(text).ok()) {
        Some(pem) => Answer::Signed(pem),
        None => Answer::Waiting,
    }
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::FromDer as _;

    use super::*;
    use crate::config::node::KeyAlgorithm;

    #[test]
    fn a_request_is_named_after_what_it_asks() {
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).expect("a key");
        let (one, again) = (signing_request(&key, "box").expect("one"), signing_request(&key, "box").expect("again"));
        assert_eq!(one["metadata"]["name"], again["metadata"]["name"]);
        assert_ne!(one["metadata"]["name"], signing_request(&key, "other").expect("another")["metadata"]["name"]);
        let name = one["metadata"]["name"].as_str().expect("a name");
        assert!(name.starts_with("node-csr-") && name.len() == "node-csr-".len() + 43, "{name}");
    }

    #[test]
    fn a_request_says_who_asks_and_is_signed_by_it() {
        for algorithm in [KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP384, KeyAlgorithm::Rsa2048] {
            let key = PrivateKey::generate(algorithm).expect("a key");
            let text = certificate_request(&key, "system:node:box", "system:nodes").expect("a request");
            let blocks = pem::blocks(text.as_bytes());
            assert_eq!(blocks[0].label, LABEL);
            let (rest, request) =
                x509_parser::certification_request::X509CertificationRequest::from_der(&blocks[0].contents).expect("a request");
            let info = &request.certification_request_info;
            assert!(rest.is_empty());
            assert_eq!(info.subject.to_string(), "O=system:nodes, CN=system:node:box");
            assert_eq!(info.subject_pki.raw, key.public_key_info().expect("public"));
        }
    }

    #[test]
    fn an_answer_is_read() {
        let condition = |kind: &str| json!([{"type": kind, "reason": "R", "message": "m"}]);
        let table = [
            (json!({}), Answer::Waiting),
            (json!({"conditions": condition("Approved")}), Answer::Waiting),
            (json!({"conditions": condition("Denied")}), Answer::Refused("Denied (R): m".to_owned())),
            (json!({"conditions": condition("Failed"), "certificate": "eA=="}), Answer::Refused("Failed (R): m".to_owned())),
            (json!({"conditions": condition("Approved"), "certificate": "eA=="}), Answer::Signed(b"x".to_vec())),
        ];
        for (status, wished) in table {
            assert_eq!(answer(&json!({"status": status})), wished, "{status}");
        }
    }
}
