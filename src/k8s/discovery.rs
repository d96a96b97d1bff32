//! Which cluster is the right one, judged without asking anybody: what the ConfigMap cluster-info says, whether a bootstrap token signed
//! it, and whether its CA is one of those that are pinned (kubeadm's `discovery/token`, `cluster-bootstrap/token/jws`). Pure.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::config::node::{Pins, PublicKeyHash, Token};
use crate::k8s::kubeconfig::{Authority, cluster_of};
use crate::k8s::pki::{Certificate, ca_hash};

/// The ConfigMap's key that holds the kubeconfig.
const KUBECONFIG: &str = "kubeconfig";
/// What the keys of its signatures begin with; the token's id follows.
const SIGNATURE: &str = "jws-kubeconfig-";

/// Where a cluster is, and how it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterInfo {
    /// The URL of its API server.
    pub server: String,
    /// The CAs its API server is verified with, as PEM.
    pub authority: Vec<u8>,
}

/// Why a cluster-info is not believed, or not yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It holds no kubeconfig yet.
    Empty,
    /// It is of the right cluster, but the token has not signed it (yet): kube-controller-manager signs shortly after it knows a token,
    /// and takes the signature away when the token expires.
    Unsigned,
    /// The signature under the token's id is not the token's.
    Forged,
    /// It is no kubeconfig with a server and a CA.
    Malformed(String),
    /// Its CA is none of those that are pinned; the hashes of what it has.
    OtherAuthority(Vec<String>),
    /// What was fetched through verified TLS is not what was fetched first.
    Replaced,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Empty => f.write_str("its cluster-info holds no kubeconfig yet"),
            Fault::Unsigned => f.write_str("its cluster-info is not signed with our bootstrap token"),
            Fault::Forged => {
                f.write_str("the signature of its cluster-info was made with another secret than our bootstrap token's")
            }
            Fault::Malformed(why) => write!(f, "its cluster-info is of no use: {why}"),
            Fault::OtherAuthority(found) => {
                write!(f, "its CA is none of those that caCertHashes names: it has {}", found.join(", "))
            }
            Fault::Replaced => f.write_str("its cluster-info through verified TLS differs from the one fetched before"),
        }
    }
}

/// The detached JWS (RFC 7515, appendix F) of kube-controller-manager's bootstrap signer: HS256 over the kubeconfig's text. With a
/// symmetric key and a deterministic serialiser there is one only, so that to verify is to compare (as kubeadm does).
pub fn signature(token: &Token, kubeconfig: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"HS256","kid":"{}"}}"#, token.id));
    let key = hmac::Key::new(hmac::HMAC_SHA256, token.secret().as_bytes());
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(kubeconfig));
    let tag = hmac::sign(&key, signed.as_bytes());
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
}

/// The kubeconfig's text in the ConfigMap.
pub fn kubeconfig_of(config_map: &Value) -> Option<&str> {
    config_map["data"][KUBECONFIG].as_str().filter(|text| !text.is_empty())
}

/// Judges a ConfigMap cluster-info that came over a connection nobody has verified.
pub fn judge(config_map: &Value, token: &Token, pins: &Pins) -> Result<ClusterInfo, Fault> {
    let text = kubeconfig_of(config_map).ok_or(Fault::Empty)?;
    let found = config_map["data"][format!("{SIGNATURE}{}", token.id)].as_str().filter(|found| !found.is_empty());
    if let Some(found) = found
        && verify_slices_are_equal(found.as_bytes(), signature(token, text).as_bytes()).is_err()
    {
        return Err(Fault::Forged);
    }
    let info = cluster_info(text)?;
    let hashes = pinned(&info.authority, pins)?;
    match (found, hashes.is_empty()) {
        (Some(_), true) => Ok(info),
        (None, true) => Err(Fault::Unsigned),
        (_, false) => Err(Fault::OtherAuthority(hashes)),
    }
}

/// Whether a cluster's CA is one of those that are pinned; the hashes it has when it is not, otherwise nothing. Any certificate of the
/// bundle will do, as for kubeadm; every pair is compared, in constant time.
pub fn pinned(authority: &[u8], pins: &Pins) -> Result<Vec<String>, Fault> {
    let chain = Certificate::chain_from_pem(authority).map_err(|why| Fault::Malformed(format!("its CA: {why}")))?;
    let Pins::Sha256(pins) = pins else { return Ok(Vec::new()) };
    let mut known = false;
    for certificate in &chain {
        let hash: [u8; 32] = Sha256::digest(certificate.public_key_info()).into();
        for PublicKeyHash(pin) in pins {
            known |= verify_slices_are_equal(pin, &hash).is_ok();
        }
    }
    Ok(if known { Vec::new() } else { chain.iter().map(ca_hash).collect() })
}

fn cluster_info(text: &str) -> Result<ClusterInfo, Fault> {
    match cluster_of(text.as_bytes()).map_err(Fault::Malformed)? {
        (server, Authority::Embedded(authority)) if server.starts_with("https://") => Ok(ClusterInfo { server, authority }),
        (server, Authority::Embedded(_)) => Err(Fault::Malformed(format!("its server {server} is no https URL"))),
        _ => Err(Fault::Malformed("it holds no CA".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Of a cluster that kubeadm v1.36.3 made; kube-controller-manager signed it.
    const CLUSTER_INFO: &str = include_str!("../../tests/fixtures/cluster-info.json");
    const TOKEN: &str = "dfwfq3.9e5o3ciync1qq1yv";
    const HASH: &str = "sha256:5a4621c7f5df33797caf8c3e9ccb7504e1493c1b3364a9b050a6dc1e2519ba63";

    fn config_map() -> Value {
        serde_json::from_str(CLUSTER_INFO).expect("JSON")
    }
    fn token(text: &str) -> Token {
        Token::parse(text).expect("a token")
    }
    fn pins(hashes: &[&str]) -> Pins {
        Pins::Sha256(hashes.iter().map(|hash| PublicKeyHash::parse(hash).expect("a hash")).collect())
    }

    #[test]
    fn a_cluster_info_of_kubeadm_is_believed() {
        let other = format!("sha256:{}", "0a".repeat(32));
        for pins in [pins(&[HASH]), pins(&[&other, HASH]), pins(&[HASH, &other]), Pins::Unsafe] {
            let info = judge(&config_map(), &token(TOKEN), &pins).expect("believed");
            assert_eq!(info.server, "https://10.77.0.21:6443");
            assert!(info.authority.starts_with(b"-----BEGIN CERTIFICATE-----"));
        }
    }

    #[test]
    fn what_is_not_believed_says_why() {
        let edited = |field: &str, value: Value| {
            let mut edited = config_map();
            edited["data"][field] = value;
            edited
        };
        let right = pins(&[HASH]);
        let text = kubeconfig_of(&config_map()).expect("a kubeconfig").to_owned();
        let moved = text.replace("10.77.0.21", "10.77.0.66");
        let signed = |text: &str| json!({"data": {"kubeconfig": text, "jws-kubeconfig-dfwfq3": signature(&token(TOKEN), text)}});
        let signature_field = "jws-kubeconfig-dfwfq3";
        let padded = format!("{}=", config_map()["data"][signature_field].as_str().expect("a signature"));
        let other = format!("sha256:{}", "0a".repeat(32));
        let table = [
            (json!({}), TOKEN, &right, Fault::Empty),
            (edited("kubeconfig", json!("")), TOKEN, &right, Fault::Empty),
            (edited(signature_field, Value::Null), TOKEN, &right, Fault::Unsigned),
            (edited(signature_field, json!("")), TOKEN, &right, Fault::Unsigned),
            (edited(signature_field, json!("a..b")), TOKEN, &right, Fault::Forged),
            (edited(signature_field, json!(padded)), TOKEN, &right, Fault::Forged),
            // Somebody between us and the cluster who does not know the token's secret.
            (edited("kubeconfig", json!(moved)), TOKEN, &right, Fault::Forged),
            (config_map(), "dfwfq3.0000000000000000", &right, Fault::Forged),
            (config_map(), "aaaaaa.9e5o3ciync1qq1yv", &right, Fault::Unsigned),
            // Somebody who knows it, and has a cluster of his own.
            (config_map(), TOKEN, &pins(&[&other]), Fault::OtherAuthority(vec![HASH.to_owned()])),
            (signed("a: ["), TOKEN, &right, Fault::Malformed("it is no YAML".to_owned())),
            (
                signed(&text.replace("https://", "http://")),
                TOKEN,
                &right,
                Fault::Malformed("its server http://10.77.0.21:6443 is no https URL".to_owned()),
            ),
            (
                signed(&text.replace("certificate-authority-data", "other")),
                TOKEN,
                &right,
                Fault::Malformed("it holds no CA".to_owned()),
            ),
        ];
        for (config_map, token_text, pins, fault) in table {
            assert_eq!(judge(&config_map, &token(token_text), pins), Err(fault), "{config_map} {token_text}");
        }
    }
}
