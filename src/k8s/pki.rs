//! Keys and certificates as kubeadm writes them: what is made ([`certlist`], [`issue`]), how it is written ([`key`], [`certificate`]),
//! and what is to be thought of what stands on a disk ([`judge`]). Pure: bytes and "now" are parameters.
//!
//! Certificates are encoded here and not by a library, because the issuer must be the CA's subject byte for byte: a library that keeps
//! one value per name attribute cannot sign with a CA of `DC=example, DC=com`. aws-lc makes the keys and signatures.

pub mod certificate;
pub mod certlist;
mod der;
pub mod issue;
pub mod judge;
pub mod key;
mod pem;
pub mod request;
pub mod serving_request;

pub use certificate::{Certificate, San, Usage};
pub use certlist::{Authority, Leaf};
pub use issue::{Pair, Profile, Validity};
pub use key::PrivateKey;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

/// `sha256:<hex of the SHA-256 over the CA's SubjectPublicKeyInfo>`: what `--discovery-token-ca-cert-hash` takes and what a cluster is
/// known by (kubeadm's `util/pubkeypin`).
pub fn ca_hash(authority: &Certificate) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(authority.public_key_info())))
}

/// A time as messages say it: `2026-10-01T12:00:00Z`.
pub fn spoken(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
