//! Private keys: made by algorithm, written as kubeadm writes them (RSA as PKCS#1, EC as SEC1) and read in any form that Kubernetes
//! reads (PKCS#1, SEC1 and PKCS#8; `client-go/util/keyutil`). Never shown: `Debug` names the algorithm only.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, EcPrivateKeyRfc5915Der, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use zeroize::Zeroizing;

use crate::config::node::KeyAlgorithm;
use crate::error::{Error, Result};

use super::{der, pem};

const RSA_LABEL: &str = "RSA PRIVATE KEY";
const EC_LABEL: &str = "EC PRIVATE KEY";
const PKCS8_LABEL: &str = "PRIVATE KEY";
const PUBLIC_LABEL: &str = "PUBLIC KEY";

/// A private key that can sign.
pub struct PrivateKey(Kind);

enum Kind {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair, &'static Curve),
}

struct Curve {
    name: &'static str,
    signing: &'static EcdsaSigningAlgorithm,
    signature: &'static [u32],
}

/// The curves and the digest Go's `crypto/x509` signs with on each.
static CURVES: [Curve; 3] = [
    Curve { name: "P-256", signing: &ECDSA_P256_SHA256_ASN1_SIGNING, signature: &[1, 2, 840, 10045, 4, 3, 2] },
    Curve { name: "P-384", signing: &ECDSA_P384_SHA384_ASN1_SIGNING, signature: &[1, 2, 840, 10045, 4, 3, 3] },
    Curve { name: "P-521", signing: &ECDSA_P521_SHA512_ASN1_SIGNING, signature: &[1, 2, 840, 10045, 4, 3, 4] },
];

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Rsa(pair) => write!(f, "PrivateKey(RSA-{})", pair.public_modulus_len() * 8),
            Kind::Ec(_, curve) => write!(f, "PrivateKey(ECDSA-{})", curve.name),
        }
    }
}

fn failed(doing: &'static str) -> impl Fn(aws_lc_rs::error::Unspecified) -> Error {
    move |_| Error::internal(doing).because("the cryptographic library refused")
}

impl PrivateKey {
    /// A new key. RSA takes long (0.1 to 3 s): call it where waiting is allowed.
    pub fn generate(algorithm: KeyAlgorithm) -> Result<PrivateKey> {
        let rsa = |size| RsaKeyPair::generate(size).map(Kind::Rsa);
        let ec = |curve: &'static Curve| EcdsaKeyPair::generate(curve.signing).map(|pair| Kind::Ec(pair, curve));
        let kind = match algorithm {
            KeyAlgorithm::Rsa2048 => rsa(KeySize::Rsa2048),
            KeyAlgorithm::Rsa3072 => rsa(KeySize::Rsa3072),
            KeyAlgorithm::Rsa4096 => rsa(KeySize::Rsa4096),
            KeyAlgorithm::EcdsaP256 => ec(&CURVES[0]),
            KeyAlgorithm::EcdsaP384 => ec(&CURVES[1]),
        };
        kind.map(PrivateKey).map_err(failed("making a private key"))
    }

    /// The first key of a PEM file; the error says in words why there is none, and never holds content.
    pub fn from_pem(bytes: &[u8]) -> Result<PrivateKey, String> {
        if bytes.is_empty() {
            return Err("it is empty".to_owned());
        }
        let blocks = pem::blocks(bytes);
        if let Some(kind) = blocks.iter().find_map(|block| parse(&block.label, &block.contents)) {
            return Ok(PrivateKey(kind));
        }
        let encrypted = b"ENCRYPTED";
        if bytes.windows(encrypted.len()).any(|window| window == encrypted) {
            return Err("it is encrypted with a passphrase".to_owned());
        }
        Err("it holds no whole RSA or ECDSA private key".to_owned())
    }

    /// As kubeadm writes it (`keyutil.MarshalPrivateKeyToPEM`).
    pub fn to_pem(&self) -> Result<Zeroizing<String>> {
        let refused = failed("writing a private key");
        let text = match &self.0 {
            Kind::Rsa(pair) => {
                let pkcs8: Pkcs8V1Der<'static> = pair.as_der().map_err(refused)?;
                let inner = inside_pkcs8(pkcs8.as_ref())
                    .ok_or_else(|| Error::internal("writing a private key").because("it is no PKCS#8"))?;
                pem::encode(RSA_LABEL, inner)
            }
            Kind::Ec(pair, _) => {
                let sec1: EcPrivateKeyRfc5915Der<'static> = pair.private_key().as_der().map_err(refused)?;
                pem::encode(EC_LABEL, sec1.as_ref())
            }
        };
        Ok(Zeroizing::new(text))
    }

    /// Its public half as a SubjectPublicKeyInfo in DER.
    pub fn public_key_info(&self) -> Result<Vec<u8>> {
        let der: std::result::Result<PublicKeyX509Der<'static>, _> = match &self.0 {
            Kind::Rsa(pair) => pair.public_key().as_der(),
            Kind::Ec(pair, _) => pair.public_key().as_der(),
        };
        Ok(der.map_err(failed("writing a public key"))?.as_ref().to_vec())
    }

    /// Its public half as kubeadm writes sa.pub.
    pub fn public_pem(&self) -> Result<String> {
        Ok(pem::encode(PUBLIC_LABEL, &self.public_key_info()?))
    }

    /// The algorithm identifier of its signatures, in DER.
    pub(super) fn signature_algorithm(&self) -> Vec<u8> {
        match &self.0 {
            // RFC 4055: the parameters of RSA are NULL, not absent.
            Kind::Rsa(_) => der::sequence(&[der::object_identifier(&[1, 2, 840, 113_549, 1, 1, 11]), vec![5, 0]]),
            Kind::Ec(_, curve) => der::sequence(&[der::object_identifier(curve.signature)]),
        }
    }

    /// Signs.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let random = SystemRandom::new();
        match &self.0 {
            Kind::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(failed("signing"))?;
                Ok(signature)
            }
            Kind::Ec(pair, _) => Ok(pair.sign(&random, message).map_err(failed("signing"))?.as_ref().to_vec()),
        }
    }
}

/// The public keys of a PEM file, as SubjectPublicKeyInfo: a sa.pub may hold several while keys are rotated.
pub fn public_keys(bytes: &[u8]) -> Vec<Vec<u8>> {
    let blocks = pem::blocks(bytes).into_iter();
    blocks.filter(|block| block.label == PUBLIC_LABEL).map(|block| block.contents.to_vec()).collect()
}

fn parse(label: &str, der: &[u8]) -> Option<Kind> {
    let ec = || {
        let pair = |curve: &'static Curve| Some(Kind::Ec(EcdsaKeyPair::from_private_key_der(curve.signing, der).ok()?, curve));
        CURVES.iter().find_map(pair)
    };
    match label {
        RSA_LABEL => RsaKeyPair::from_der(der).ok().map(Kind::Rsa),
        EC_LABEL => ec(),
        PKCS8_LABEL => ec().or_else(|| RsaKeyPair::from_pkcs8(der).ok().map(Kind::Rsa)),
        _ => None,
    }
}

/// The algorithm's own key inside PKCS#8 (RFC 5208: version, algorithm, octet string).
fn inside_pkcs8(pkcs8: &[u8]) -> Option<&[u8]> {
    let (_, content, _) = der::read(pkcs8)?;
    let (_, _, rest) = der::read(content)?;
    let (_, _, rest) = der::read(rest)?;
    let (tag, key, _) = der::read(rest)?;
    (tag == der::OCTET_STRING).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALGORITHMS: [KeyAlgorithm; 3] = [KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP384, KeyAlgorithm::Rsa2048];

    #[test]
    fn a_key_is_read_back_as_it_was_written() {
        for algorithm in ALGORITHMS {
            let key = PrivateKey::generate(algorithm).expect("a key");
            let text = key.to_pem().expect("text");
            let read = PrivateKey::from_pem(text.as_bytes()).expect("the same key");
            assert_eq!(*read.to_pem().expect("text"), *text);
            assert_eq!(read.public_key_info().expect("public"), key.public_key_info().expect("public"));
            assert_eq!(public_keys(key.public_pem().expect("text").as_bytes()), [key.public_key_info().expect("public")]);
        }
    }

    #[test]
    fn a_key_that_cannot_be_used_says_why_and_shows_nothing() {
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).expect("a key");
        let text = key.to_pem().expect("text");
        assert_eq!(PrivateKey::from_pem(b"").expect_err("empty"), "it is empty");
        for torn in
            [&text.as_bytes()[..text.len() / 2], &[0; 4096], b"-----BEGIN EC PRIVATE KEY-----\n-----END EC PRIVATE KEY-----\n"]
        {
            assert_eq!(PrivateKey::from_pem(torn).expect_err("torn"), "it holds no whole RSA or ECDSA private key");
        }
        let encrypted = text.replace("EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        assert_eq!(PrivateKey::from_pem(encrypted.as_bytes()).expect_err("encrypted"), "it is encrypted with a passphrase");
        assert_eq!(format!("{key:?}"), "PrivateKey(ECDSA-P-256)");
    }
}
