//! The wish of a machine that joins a cluster: where the cluster is, how it is known for the right one, with what the machine
//! introduces itself, and what happens when its name is taken. A part of [`super::Node`]; made by `config::check`.

use camino::Utf8PathBuf;
use serde::Serialize;

use super::cluster::Endpoint;
use super::secret::{CertificateKey, Secret, Token};

/// How this machine comes to its cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Entry {
    /// It founds one: kubeadm's `init`.
    Init,
    /// It comes into one that exists: kubeadm's `join`.
    Join(Box<Join>),
}

/// How to join.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Join {
    /// How the cluster is found and known.
    pub discovery: Discovery,
    /// What the machine introduces itself with.
    pub introduction: Introduction,
    /// Where a control plane has the cluster's keys from; meaningless for a worker.
    pub certificates: CertificatesFrom,
    /// Where the cluster's CA certificate is placed: kubeadm's `caCertPath`, `/etc/kubernetes/pki/ca.crt` by default.
    pub ca_cert_path: Utf8PathBuf,
    /// Stay on the endpoint that was given, not on the one that the cluster names: sites behind NAT. False by default.
    pub keep_endpoint: bool,
    /// What to do when a node of our name is in the cluster and is not us. `Adopt` by default.
    pub on_existing_node: OnExistingNode,
}

/// How the cluster is found, and known for the right one (kubeadm's `discovery`).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Discovery {
    /// kubeadm's `bootstrapToken`: the cluster-info of any of the endpoints, signed with the token.
    Token {
        /// Tried side by side; at least one.
        endpoints: Vec<Endpoint>,
        /// Signs the cluster-info.
        token: Secret<Token>,
        /// Hashes of the CA's public key, any of which will do.
        pins: Pins,
    },
    /// kubeadm's `file`: a kubeconfig on this machine.
    File(Utf8PathBuf),
    /// kubeadm's `file`: a kubeconfig behind an `https` URL, verified with the machine's own trusted certificates.
    Url(String),
}

/// Which CA is the cluster's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Pins {
    /// `sha256:` hashes of the subject public key info (RFC 7469), as 32 bytes each; at least one.
    Sha256(Vec<PublicKeyHash>),
    /// kubeadm's `unsafeSkipCAVerification`: whoever has the token's signature is believed.
    Unsafe,
}

/// The SHA-256 of a CA's public key, written `sha256:<hex>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct PublicKeyHash(pub [u8; 32]);

impl PublicKeyHash {
    /// From `sha256:` and 64 hex digits of any case.
    pub fn parse(text: &str) -> Option<PublicKeyHash> {
        let mut hash = [0; 32];
        hex::decode_to_slice(text.strip_prefix("sha256:")?.to_ascii_lowercase(), &mut hash).ok()?;
        Some(PublicKeyHash(hash))
    }
}

impl std::fmt::Display for PublicKeyHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

impl From<PublicKeyHash> for String {
    fn from(hash: PublicKeyHash) -> String {
        hash.to_string()
    }
}

/// What the machine introduces itself with, until it has a certificate (kubeadm's `tlsBootstrapToken`).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Introduction {
    /// A bootstrap token: kubeadm's default is the one of the discovery.
    Token(Secret<Token>),
    /// The credentials in the kubeconfig of the discovery.
    OfKubeconfig,
}

/// Where a further control plane has the cluster's keys from.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum CertificatesFrom {
    /// They lie in the certificates folder already.
    Disk,
    /// The Secret `kubeadm-certs`, encrypted with this key (kubeadm's `certificateKey`).
    Cluster(Secret<CertificateKey>),
}

/// What happens when a node of our name is in the cluster already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum OnExistingNode {
    /// One that is not Ready is taken for this machine's earlier life, and goes on as it is; a Ready one is refused.
    Adopt,
    /// One that is not Ready is deleted first, where the credentials allow it; a Ready one is refused.
    Replace,
    /// Any is refused.
    Fail,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_written_as_it_is_read() {
        let text = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(PublicKeyHash::parse(&text).map(|hash| hash.to_string()), Some(text.clone()));
        assert_eq!(PublicKeyHash::parse(&text.to_uppercase().replace("SHA256", "sha256")).map(|hash| hash.to_string()), Some(text));
        for wrong in ["", "sha256:", "sha512:0a", "sha256:zz", &format!("sha256:{}", "0a".repeat(33))] {
            assert_eq!(PublicKeyHash::parse(wrong), None, "{wrong}");
        }
    }
}
