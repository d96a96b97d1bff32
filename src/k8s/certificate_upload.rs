//! The control plane's certificates as kubeadm carries them to further control planes: each file sealed by AES-256-GCM under the
//! certificate key, in the Secret kubeadm-certs, which a short-lived bootstrap token owns and so takes with it when it expires.

use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::names;
use super::objects::{self, Grantee, KUBE_SYSTEM};
use crate::config::node::{CertificateKey, Cluster, Etcd};
use crate::error::{Error, Result};

/// The Secret.
pub const SECRET: &str = "kubeadm-certs";
/// The Role that allows those that join to read it.
const ROLE: &str = "kubeadm:kubeadm-certs";
/// How long it stays (kubeadm's `DefaultCertTokenDuration`).
pub const LIFETIME: Duration = Duration::from_secs(2 * 3600);
/// What the token that owns it is described as.
pub const OWNER_DESCRIPTION: &str = "Proxy for managing TTL for the kubeadm-certs secret";

/// What is carried: the key in the Secret, and the path of the file.
pub fn files(cluster: &Cluster) -> Vec<(&'static str, String)> {
    let pki = |file: &str| format!("{}/{file}", cluster.certificates_dir);
    let mut files: Vec<(&'static str, String)> =
        ["ca.crt", "ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "sa.pub", "sa.key"].map(|file| (file, pki(file))).to_vec();
    match &cluster.etcd {
        Etcd::Local(_) => files.extend([("etcd-ca.crt", pki("etcd/ca.crt")), ("etcd-ca.key", pki("etcd/ca.key"))]),
        Etcd::External(etcd) => files.extend([
            ("external-etcd-ca.crt", etcd.ca_file.clone()),
            ("external-etcd.crt", etcd.cert_file.clone()),
            ("external-etcd.key", etcd.key_file.clone()),
        ]),
    }
    files
}

/// A key that nobody can guess.
pub fn random_key() -> Result<CertificateKey> {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    rand::fill(&mut *bytes).map_err(|_| Error::host("making a certificate key").because("the machine gives no random numbers"))?;
    let text = Zeroizing::new(hex::encode(*bytes));
    CertificateKey::parse(&text).ok_or_else(|| Error::internal("making a certificate key").because("it does not look like one"))
}

/// `nonce || ciphertext || tag`, without additional data.
pub fn seal(key: &CertificateKey, plain: &[u8]) -> Result<Vec<u8>> {
    let doing = "sealing a certificate for the upload";
    let mut sealed = plain.to_vec();
    let nonce = cipher(key, doing)?
        .seal_in_place_append_tag(Aad::empty(), &mut sealed)
        .map_err(|_| Error::internal(doing).because("AES-256-GCM failed"))?;
    Ok([nonce.as_ref(), sealed.as_slice()].concat())
}

/// What was sealed; `Rejected` when the key is another one.
pub fn open(key: &CertificateKey, sealed: &[u8]) -> Result<Vec<u8>> {
    let doing = "opening an uploaded certificate";
    let wrong = || Error::rejected(doing).because("the certificate key is not the one it was sealed with");
    let (nonce, rest) = sealed.split_at_checked(NONCE_LEN).ok_or_else(wrong)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| wrong())?;
    let mut rest = rest.to_vec();
    let plain = cipher(key, doing)?.open_in_place(nonce, Aad::empty(), &mut rest).map_err(|_| wrong())?;
    Ok(plain.to_vec())
}

fn cipher(key: &CertificateKey, doing: &str) -> Result<RandomizedNonceKey> {
    let bytes = Zeroizing::new(hex::decode(key.expose()).unwrap_or_default());
    RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| Error::internal(doing).because("the key is not one for AES-256"))
}

/// The Secret: each file sealed, or empty where there is none (a CA whose key is elsewhere); owned by the token's Secret.
pub fn secret(key: &CertificateKey, files: &[(&str, Option<Vec<u8>>)], owner: &Value) -> Result<Value> {
    let mut data = Map::new();
    for (name, content) in files {
        let sealed = match content {
            Some(content) => BASE64.encode(seal(key, content)?),
            None => String::new(),
        };
        data.insert((*name).to_owned(), json!(sealed));
    }
    let owner = json!({
        "apiVersion": "v1", "kind": "Secret", "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
        "controller": true, "blockOwnerDeletion": true,
    });
    Ok(json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": SECRET, "namespace": KUBE_SYSTEM, "ownerReferences": [owner]}, "data": data,
    }))
}

/// Those that join with a token may read it.
pub fn access() -> Vec<Value> {
    vec![
        objects::role_to_read(KUBE_SYSTEM, ROLE, "secrets", SECRET),
        objects::role_binding(KUBE_SYSTEM, ROLE, &[Grantee::Group(names::GROUP_BOOTSTRAPPERS)]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sample;
    use crate::error::Kind;

    #[test]
    fn what_is_sealed_can_be_opened_with_its_key_only() {
        let (key, other) = (random_key().expect("a key"), random_key().expect("a key"));
        let sealed = seal(&key, b"-----BEGIN CERTIFICATE-----").expect("sealed");
        assert_eq!(sealed.len(), NONCE_LEN + 27 + 16);
        assert_eq!(open(&key, &sealed).expect("opened"), b"-----BEGIN CERTIFICATE-----");
        for (key, sealed) in [(&other, sealed.as_slice()), (&key, &sealed[..20]), (&key, &sealed[..3])] {
            assert_eq!(open(key, sealed).expect_err("refused").kind(), Kind::Rejected);
        }
    }

    /// Sealed by Go's crypto/cipher in the way of kubeadm's `EncryptBytes`, with the nonce 0..12.
    #[test]
    fn kubeadms_sealing_is_opened() {
        let key = CertificateKey::parse("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f").expect("a key");
        let sealed = "000102030405060708090a0b2266b17ea78aad6f31e0054970c764dcfa24855fdcc5e317";
        let sealed = hex::decode(sealed).expect("hex");
        assert_eq!(open(&key, &sealed).expect("opened"), b"edgeboot");
    }

    #[test]
    fn the_files_are_kubeadms() {
        let names: Vec<&str> = files(&sample::control_plane().cluster).into_iter().map(|(name, _)| name).collect();
        assert_eq!(
            names,
            ["ca.crt", "ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "sa.pub", "sa.key", "etcd-ca.crt", "etcd-ca.key"]
        );
    }
}
