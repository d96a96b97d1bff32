//! Making certificates as kubeadm and Go's `crypto/x509` make them: the same fields, the same extensions in the same order
//! (`util/pkiutil/pki_helpers.go`).

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::config::node::KeyAlgorithm;
use crate::error::{Error, Result};

use super::certificate::{Certificate, San, Usage};
use super::der;
use super::key::PrivateKey;

/// How far certificates are dated back, so that small jumps of the clock do no harm (kubeadm's `CertificateBackdate`).
pub const BACKDATE: Duration = Duration::from_secs(5 * 60);

const KEY_USAGE: [u32; 4] = [2, 5, 29, 15];
const EXTENDED_KEY_USAGE: [u32; 4] = [2, 5, 29, 37];
const BASIC_CONSTRAINTS: [u32; 4] = [2, 5, 29, 19];
const SUBJECT_KEY_ID: [u32; 4] = [2, 5, 29, 14];
const AUTHORITY_KEY_ID: [u32; 4] = [2, 5, 29, 35];
const SUBJECT_ALT_NAME: [u32; 4] = [2, 5, 29, 17];

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// From.
    pub not_before: Timestamp,
    /// Until.
    pub not_after: Timestamp,
}

impl Validity {
    /// From five minutes ago, for `life` from now.
    pub fn from_now(now: Timestamp, life: Duration) -> Result<Validity> {
        let not_before = now.checked_sub(BACKDATE);
        let not_before =
            not_before.map_err(|error| Error::host("dating a certificate").because(error).hint("set the machine's clock"))?;
        Validity { not_before, not_after: now }.until(now, life)
    }
    /// From the same moment as `authority`, for `life` from now: the client certificates of kubeconfigs.
    pub fn since(authority: &Certificate, now: Timestamp, life: Duration) -> Result<Validity> {
        Validity { not_before: authority.not_before, not_after: now }.until(now, life)
    }
    fn until(self, now: Timestamp, life: Duration) -> Result<Validity> {
        let not_after = now
            .checked_add(life)
            .map_err(|error| Error::config("dating a certificate").because(error).hint("shorten its validity period"))?;
        Ok(Validity { not_after, ..self })
    }
}

/// What a leaf says about its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The user name.
    pub common_name: String,
    /// The groups.
    pub organizations: Vec<String>,
    /// Server, client or both.
    pub usages: Vec<Usage>,
    /// Names (sorted, as kubeadm does), then addresses (in their order); each once.
    pub sans: Vec<San>,
}

impl Profile {
    /// A leaf without names or addresses.
    pub fn client(common_name: impl Into<String>, organization: Option<&str>) -> Profile {
        let organizations = organization.into_iter().map(ToOwned::to_owned).collect();
        Profile { common_name: common_name.into(), organizations, usages: vec![Usage::Client], sans: Vec::new() }
    }
    /// What a certificate says about its holder: how it is renewed (kubeadm's `certToConfig`).
    pub fn of(certificate: &Certificate) -> Profile {
        Profile {
            common_name: certificate.common_name.clone(),
            organizations: certificate.organizations.clone(),
            usages: certificate.usages.clone(),
            sans: certificate.sans.clone(),
        }
    }
    /// With names and addresses (`RemoveDuplicateAltNames`).
    #[must_use]
    pub fn for_sans(mut self, sans: impl IntoIterator<Item = San>) -> Profile {
        let (mut names, mut addresses) = (Vec::new(), Vec::new());
        for san in sans {
            let list = if matches!(san, San::Dns(_)) { &mut names } else { &mut addresses };
            if !list.contains(&san) {
                list.push(san);
            }
        }
        names.sort();
        self.sans = names.into_iter().chain(addresses).collect();
        self
    }
}

/// A certificate and its key.
#[derive(Debug)]
pub struct Pair {
    /// The certificate.
    pub certificate: Certificate,
    /// Its key.
    pub key: PrivateKey,
}

impl Pair {
    /// A new CA (`NewSelfSignedCACert`).
    pub fn new_authority(common_name: &str, algorithm: KeyAlgorithm, validity: Validity) -> Result<Pair> {
        Pair::authority_for(PrivateKey::generate(algorithm)?, common_name, validity)
    }

    /// A CA certificate for a key that is there already.
    pub fn authority_for(key: PrivateKey, common_name: &str, validity: Validity) -> Result<Pair> {
        let public = key.public_key_info()?;
        let subject = name(common_name, None);
        let extensions = [
            key_usage(true),
            basic_constraints(true),
            extension(&SUBJECT_KEY_ID, false, &der::octet_string(&key_id(&public))),
            alt_names(&[San::Dns(common_name.to_owned())]),
        ];
        let certificate = sign(&key, &subject, &subject, validity, &public, &extensions)?;
        Ok(Pair { certificate, key })
    }

    /// A new leaf, signed by this CA (`NewSignedCert`).
    pub fn issue(&self, profile: &Profile, algorithm: KeyAlgorithm, validity: Validity) -> Result<Pair> {
        let key = PrivateKey::generate(algorithm)?;
        let certificate = self.certify(&key.public_key_info()?, profile, validity)?;
        Ok(Pair { certificate, key })
    }

    /// A leaf for the holder of this public key (a SubjectPublicKeyInfo), signed by this CA.
    pub fn certify(&self, public: &[u8], profile: &Profile, validity: Validity) -> Result<Certificate> {
        let mut extensions = vec![key_usage(false), extended_key_usage(&profile.usages), basic_constraints(false)];
        if let Some(id) = &self.certificate.subject_key_id {
            let id = der::sequence(&[der::implicit(0, id)]);
            extensions.push(extension(&AUTHORITY_KEY_ID, false, &id));
        }
        if !profile.sans.is_empty() {
            extensions.push(alt_names(&profile.sans));
        }
        let subject = name(&profile.common_name, profile.organizations.iter().map(String::as_str));
        sign(&self.key, &self.certificate.subject, &subject, validity, public, &extensions)
    }

    /// Certificate and key in one file, as the kubelet's certificate store writes them.
    pub fn to_combined_pem(&self) -> Result<Zeroizing<String>> {
        Ok(Zeroizing::new(self.certificate.to_pem() + &self.key.to_pem()?))
    }
}

/// The certificate itself (RFC 5280 4.1).
fn sign(
    key: &PrivateKey,
    issuer: &[u8],
    subject: &[u8],
    validity: Validity,
    public: &[u8],
    extensions: &[Vec<u8>],
) -> Result<Certificate> {
    let algorithm = key.signature_algorithm();
    let to_sign = der::sequence(&[
        der::explicit(0, &der::unsigned(&[2])),
        der::unsigned(&serial()?),
        algorithm.clone(),
        issuer.to_vec(),
        der::sequence(&[der::time(validity.not_before), der::time(validity.not_after)]),
        subject.to_vec(),
        public.to_vec(),
        der::explicit(3, &der::sequence(extensions)),
    ]);
    let signature = key.sign(&to_sign)?;
    let certificate = der::sequence(&[to_sign, algorithm, der::bit_string(0, &signature)]);
    Certificate::from_der(&certificate).map_err(|why| Error::internal("making a certificate").because(why))
}

/// A random number in [1, 2^63), as kubeadm draws it.
fn serial() -> Result<[u8; 8]> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::host("drawing a random number").because("the system has none"))?;
    let number = u64::from_be_bytes(bytes) >> 1;
    Ok(number.max(1).to_be_bytes())
}

/// Organizations before common name, and all organizations in one set, as Go's `pkix.Name` writes them.
pub(super) fn name<'a>(common_name: &str, organizations: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let attribute = |arcs: &[u32], value: &str| der::sequence(&[der::object_identifier(arcs), der::text(value)]);
    let organizations: Vec<_> = organizations.into_iter().map(|value| attribute(&[2, 5, 4, 10], value)).collect();
    let mut parts = Vec::new();
    if !organizations.is_empty() {
        parts.push(der::set_of(organizations));
    }
    parts.push(der::set_of(vec![attribute(&[2, 5, 4, 3], common_name)]));
    der::sequence(&parts)
}

/// RFC 7093 method 1, as Go has it since 1.25: the left 160 bits of the SHA-256 over the key's bits.
fn key_id(public_key_info: &[u8]) -> Vec<u8> {
    let bits = || {
        let (_, content, _) = der::read(public_key_info)?;
        let (_, _, rest) = der::read(content)?;
        let (tag, bits, _) = der::read(rest)?;
        (tag == der::BIT_STRING).then(|| bits.get(1..))?
    };
    Sha256::digest(bits().unwrap_or(public_key_info))[..20].to_vec()
}

fn extension(arcs: &[u32], critical: bool, content: &[u8]) -> Vec<u8> {
    let flag = if critical { der::yes() } else { Vec::new() };
    der::sequence(&[der::object_identifier(arcs), flag, der::octet_string(content)])
}

/// digitalSignature and keyEncipherment; keyCertSign on a CA. Never cRLSign: kubeadm sets none.
fn key_usage(authority: bool) -> Vec<u8> {
    let bits = if authority { der::bit_string(2, &[0b1010_0100]) } else { der::bit_string(5, &[0b1010_0000]) };
    extension(&KEY_USAGE, true, &bits)
}

fn extended_key_usage(usages: &[Usage]) -> Vec<u8> {
    let purpose = |usage: &Usage| der::object_identifier(&[1, 3, 6, 1, 5, 5, 7, 3, if *usage == Usage::Server { 1 } else { 2 }]);
    extension(&EXTENDED_KEY_USAGE, false, &der::sequence(&usages.iter().map(purpose).collect::<Vec<_>>()))
}

fn basic_constraints(authority: bool) -> Vec<u8> {
    let parts = if authority { vec![der::yes()] } else { Vec::new() };
    extension(&BASIC_CONSTRAINTS, true, &der::sequence(&parts))
}

pub(super) fn alt_names(sans: &[San]) -> Vec<u8> {
    let part = |san: &San| match san {
        San::Dns(name) => der::implicit(2, name.as_bytes()),
        San::Ip(IpAddr::V4(address)) => der::implicit(7, &address.octets()),
        San::Ip(IpAddr::V6(address)) => der::implicit(7, &address.octets()),
    };
    extension(&SUBJECT_ALT_NAME, false, &der::sequence(&sans.iter().map(part).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-21T08:46:57Z".parse().expect("a time")
    }

    #[test]
    fn a_certificate_says_what_its_profile_says() {
        let life = Duration::from_secs(8760 * 3600);
        let authority =
            Pair::new_authority("kubernetes", KeyAlgorithm::EcdsaP256, Validity::from_now(now(), life * 10).expect("dates"))
                .expect("a CA");
        assert!(authority.certificate.is_authority);
        assert!(authority.certificate.is_signed_by(&authority.certificate));
        let sans = ["b", "a", "10.0.0.2", "10.0.0.1", "a", "10.0.0.2"].map(|text| San::parse(text).expect("a name"));
        let profile = Profile { usages: vec![Usage::Server, Usage::Client], ..Profile::client("me", Some("us")) }.for_sans(sans);
        let leaf = authority
            .issue(&profile, KeyAlgorithm::EcdsaP256, Validity::since(&authority.certificate, now(), life).expect("dates"))
            .expect("a leaf");
        let read = leaf.certificate;
        assert_eq!((read.common_name.as_str(), read.organizations.as_slice()), ("me", &["us".to_owned()][..]));
        assert_eq!(read.sans, ["a", "b", "10.0.0.2", "10.0.0.1"].map(|text| San::parse(text).expect("a name")));
        assert_eq!(read.usages, [Usage::Server, Usage::Client]);
        assert_eq!(read.not_before, authority.certificate.not_before);
        assert_eq!(read.not_after, "2027-11-21T08:46:57Z".parse().expect("a time"));
        assert!(!read.is_authority && read.is_signed_by(&authority.certificate));
        let other = Pair::new_authority("kubernetes", KeyAlgorithm::EcdsaP256, Validity::from_now(now(), life).expect("dates"))
            .expect("a CA");
        assert!(!read.is_signed_by(&other.certificate), "the same name is not the same CA");
    }

    #[test]
    fn a_renewed_certificate_says_what_the_old_one_said() {
        let life = Duration::from_secs(8760 * 3600);
        let validity = Validity::from_now(now(), life).expect("dates");
        let authority = Pair::new_authority("kubernetes", KeyAlgorithm::EcdsaP256, validity).expect("a CA");
        let sans = ["a", "10.0.0.2", "::1"].map(|text| San::parse(text).expect("a name"));
        let organizations = ["us", "them", "a longer name"].map(str::to_owned).to_vec();
        let profile = Profile { usages: vec![Usage::Server], organizations, ..Profile::client("me", None) }.for_sans(sans.clone());
        let old = authority.issue(&profile, KeyAlgorithm::EcdsaP256, validity).expect("a leaf").certificate;
        // A set is sorted in DER; which of them is first means nothing.
        assert_eq!(old.organizations, ["us", "them", "a longer name"]);
        let new = authority.issue(&Profile::of(&old), KeyAlgorithm::EcdsaP256, validity).expect("a leaf").certificate;
        assert_eq!((&new.organizations, &new.sans, &new.usages), (&old.organizations, &old.sans, &old.usages));
        assert_ne!(new.public_key_info(), old.public_key_info());
    }

    #[test]
    fn serial_numbers_are_positive_and_differ() {
        let (one, two) = (serial().expect("one"), serial().expect("two"));
        assert_ne!(one, two);
        assert!(one[0] < 0x80 && two[0] < 0x80);
    }
}
