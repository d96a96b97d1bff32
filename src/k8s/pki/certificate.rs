//! A certificate that was read or made: the fields that kubeadm judges by, and whether another one signed it.

use std::fmt;
use std::net::IpAddr;

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use jiff::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::asn1_rs::Oid;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry as oid;

use super::pem;

const LABEL: &str = "CERTIFICATE";

/// A name or address that a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum San {
    /// A DNS name, perhaps with a leading wildcard.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

impl San {
    /// A name or address as `certSANs` take it. `None` where kubeadm warns and leaves it out (`appendSANsToAltNames`): neither an
    /// address nor an RFC 1123 name, with or without `*.` before it.
    pub fn parse(text: &str) -> Option<San> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(San::Ip(address.to_canonical()));
        }
        let plain = |label: &str| {
            let inside = label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
            inside && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
        };
        let name = text.strip_prefix("*.").unwrap_or(text);
        (text.len() <= 253 && name.split('.').all(plain)).then(|| San::Dns(text.to_owned()))
    }

    /// Whether a certificate with `self` is valid for `wished` (Go's `VerifyHostname`).
    fn covers(&self, wished: &San) -> bool {
        match (self, wished) {
            (San::Ip(have), San::Ip(wish)) => have == wish,
            (San::Dns(have), San::Dns(wish)) if have.eq_ignore_ascii_case(wish) => true,
            (San::Dns(have), San::Dns(wish)) => {
                let below = have.strip_prefix("*.").zip(wish.split_once('.'));
                below.is_some_and(|(have, (_, wish))| have.eq_ignore_ascii_case(wish))
            }
            _ => false,
        }
    }
}

impl fmt::Display for San {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            San::Dns(name) => f.write_str(name),
            San::Ip(address) => address.fmt(f),
        }
    }
}

/// What a leaf may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// TLS server.
    Server,
    /// TLS client.
    Client,
}

/// A certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    /// The subject's common name; empty when there is none.
    pub common_name: String,
    /// The subject's organizations: what Kubernetes takes for groups.
    pub organizations: Vec<String>,
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until.
    pub not_after: Timestamp,
    /// Whether it may sign others.
    pub is_authority: bool,
    /// What it is for.
    pub sans: Vec<San>,
    /// How a TLS peer may use it.
    pub usages: Vec<Usage>,
    pub(super) subject: Vec<u8>,
    pub(super) subject_key_id: Option<Vec<u8>>,
    issuer: Vec<u8>,
    public_key_info: Vec<u8>,
}

impl Certificate {
    /// The certificates of a PEM file, the file's own first; the error says in words why there is none.
    pub fn chain_from_pem(bytes: &[u8]) -> Result<Vec<Certificate>, String> {
        if bytes.is_empty() {
            return Err("it is empty".to_owned());
        }
        let blocks = pem::blocks(bytes);
        let ours = blocks.iter().filter(|block| block.label == LABEL);
        let chain = ours.map(|block| Certificate::from_der(&block.contents)).collect::<Result<Vec<_>, _>>()?;
        if chain.is_empty() { Err("it holds no whole certificate".to_owned()) } else { Ok(chain) }
    }

    /// The first certificate of a PEM file.
    pub fn from_pem(bytes: &[u8]) -> Result<Certificate, String> {
        Ok(Certificate::chain_from_pem(bytes)?.swap_remove(0))
    }

    /// A certificate from its DER.
    pub fn from_der(der: &[u8]) -> Result<Certificate, String> {
        let (_, parsed) =
            x509_parser::parse_x509_certificate(der).map_err(|_| "it holds something that is no certificate".to_owned())?;
        let unreadable = || "it holds a certificate with unreadable fields".to_owned();
        let at = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).map_err(|_| unreadable());
        let constraints = parsed.basic_constraints().map_err(|_| unreadable())?;
        let key_usage = parsed.key_usage().map_err(|_| unreadable())?;
        let extended = parsed.extended_key_usage().map_err(|_| unreadable())?;
        let names = parsed.subject_alternative_name().map_err(|_| unreadable())?;
        let texts = |name: x509_parser::x509::AttributeTypeAndValue<'_>| name.as_str().ok().map(ToOwned::to_owned);
        Ok(Certificate {
            common_name: parsed.subject().iter_common_name().next().cloned().and_then(texts).unwrap_or_default(),
            organizations: parsed.subject().iter_organization().cloned().filter_map(texts).collect(),
            not_before: at(parsed.validity().not_before)?,
            not_after: at(parsed.validity().not_after)?,
            is_authority: constraints.is_some_and(|it| it.value.ca) && key_usage.is_none_or(|it| it.value.key_cert_sign()),
            sans: names.map(|it| it.value.general_names.iter().filter_map(san).collect()).unwrap_or_default(),
            usages: extended.map(|it| usages(it.value)).unwrap_or_default(),
            subject: parsed.subject().as_raw().to_vec(),
            subject_key_id: key_id(&parsed),
            issuer: parsed.issuer().as_raw().to_vec(),
            public_key_info: parsed.public_key().raw.to_vec(),
            der: der.to_vec(),
        })
    }

    /// As kubeadm writes it.
    pub fn to_pem(&self) -> String {
        pem::encode(LABEL, &self.der)
    }
    /// Its DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }
    /// Its SubjectPublicKeyInfo in DER.
    pub fn public_key_info(&self) -> &[u8] {
        &self.public_key_info
    }
    /// Those of `wished` that it is not valid for.
    pub fn missing_sans(&self, wished: &[San]) -> Vec<San> {
        wished.iter().filter(|wish| !self.sans.iter().any(|have| have.covers(wish))).cloned().collect()
    }

    /// Whether `issuer` may sign certificates and signed this one.
    pub fn is_signed_by(&self, issuer: &Certificate) -> bool {
        issuer.is_authority && self.issuer == issuer.subject && self.verifies_with(issuer).is_some()
    }

    fn verifies_with(&self, issuer: &Certificate) -> Option<()> {
        let (_, parsed) = x509_parser::parse_x509_certificate(&self.der).ok()?;
        let (_, signer) = x509_parser::parse_x509_certificate(&issuer.der).ok()?;
        let key = signer.public_key();
        let curve = key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
        let algorithm = verification(&parsed.signature_algorithm.algorithm, curve.as_ref())?;
        let key = UnparsedPublicKey::new(algorithm, &key.subject_public_key.data);
        key.verify(parsed.tbs_certificate.as_ref(), &parsed.signature_value.data).ok()
    }
}

/// Whether the first certificate of a chain leads to `root`, directly or over the others (kubeadm's `VerifyCertChain`).
pub fn leads_to(chain: &[Certificate], root: &Certificate) -> bool {
    let Some((leaf, between)) = chain.split_first() else { return false };
    if leaf.is_signed_by(root) {
        return true;
    }
    let next = between.iter().position(|issuer| leaf.is_signed_by(issuer));
    next.is_some_and(|next| {
        let mut rest = between.to_vec();
        rest.swap(0, next);
        leads_to(&rest, root)
    })
}

/// A name or address of an extension; `None` for what is neither.
pub(super) fn san(name: &GeneralName<'_>) -> Option<San> {
    match name {
        GeneralName::DNSName(name) => Some(San::Dns((*name).to_owned())),
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(octets) => Some(San::Ip(IpAddr::from(octets))),
            Err(_) => <[u8; 16]>::try_from(*bytes).ok().map(|octets| San::Ip(IpAddr::from(octets).to_canonical())),
        },
        _ => None,
    }
}

fn usages(extended: &x509_parser::extensions::ExtendedKeyUsage<'_>) -> Vec<Usage> {
    let named = [(extended.server_auth || extended.any, Usage::Server), (extended.client_auth || extended.any, Usage::Client)];
    named.into_iter().filter(|(has, _)| *has).map(|(_, usage)| usage).collect()
}

fn key_id(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    use x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier;
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    })
}

/// How a signature is verified. SHA-1 is refused, as Go's verifier does.
fn verification(signature: &Oid<'_>, curve: Option<&Oid<'_>>) -> Option<&'static dyn VerificationAlgorithm> {
    let rsa: [(Oid<'_>, &'static dyn VerificationAlgorithm); 3] = [
        (oid::OID_PKCS1_SHA256WITHRSA, &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY),
        (oid::OID_PKCS1_SHA384WITHRSA, &signature::RSA_PKCS1_2048_8192_SHA384),
        (oid::OID_PKCS1_SHA512WITHRSA, &signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY),
    ];
    let ec: [(Oid<'_>, Oid<'_>, &'static dyn VerificationAlgorithm); 9] = [
        (oid::OID_EC_P256, oid::OID_SIG_ECDSA_WITH_SHA256, &signature::ECDSA_P256_SHA256_ASN1),
        (oid::OID_EC_P256, oid::OID_SIG_ECDSA_WITH_SHA384, &signature::ECDSA_P256_SHA384_ASN1),
        (oid::OID_EC_P256, oid::OID_SIG_ECDSA_WITH_SHA512, &signature::ECDSA_P256_SHA512_ASN1),
        (oid::OID_NIST_EC_P384, oid::OID_SIG_ECDSA_WITH_SHA256, &signature::ECDSA_P384_SHA256_ASN1),
        (oid::OID_NIST_EC_P384, oid::OID_SIG_ECDSA_WITH_SHA384, &signature::ECDSA_P384_SHA384_ASN1),
        (oid::OID_NIST_EC_P384, oid::OID_SIG_ECDSA_WITH_SHA512, &signature::ECDSA_P384_SHA512_ASN1),
        (oid::OID_NIST_EC_P521, oid::OID_SIG_ECDSA_WITH_SHA256, &signature::ECDSA_P521_SHA256_ASN1),
        (oid::OID_NIST_EC_P521, oid::OID_SIG_ECDSA_WITH_SHA384, &signature::ECDSA_P521_SHA384_ASN1),
        (oid::OID_NIST_EC_P521, oid::OID_SIG_ECDSA_WITH_SHA512, &signature::ECDSA_P521_SHA512_ASN1),
    ];
    let by_rsa = rsa.into_iter().find(|(name, _)| name == signature).map(|(_, algorithm)| algorithm);
    by_rsa.or_else(|| ec.into_iter().find(|(on, name, _)| Some(on) == curve && name == signature).map(|(.., algorithm)| algorithm))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_as_kubeadm_takes_them() {
        let dns = |name: &str| Some(San::Dns(name.to_owned()));
        for (text, wished) in [
            ("api.example.com", dns("api.example.com")),
            ("*.example.com", dns("*.example.com")),
            ("10.0.0.1", Some(San::Ip([10, 0, 0, 1].into()))),
            ("::1", Some(San::Ip("::1".parse().expect("an address")))),
            ("", None),
            ("Upper.example.com", None),
            ("-a.example.com", None),
            ("a..b", None),
            ("a_b", None),
        ] {
            assert_eq!(San::parse(text), wished, "{text}");
        }
    }

    #[test]
    fn a_wildcard_covers_one_label() {
        let wildcard = San::Dns("*.example.com".to_owned());
        assert!(wildcard.covers(&San::Dns("api.example.com".to_owned())));
        assert!(!wildcard.covers(&San::Dns("a.b.example.com".to_owned())));
        assert!(!wildcard.covers(&San::Dns("example.com".to_owned())));
    }
}
