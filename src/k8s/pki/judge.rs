//! What is to be thought of certificates and keys that stand on a disk: by their meaning, never by their bytes. kubeadm reports a PKI
//! with an empty or foreign key as fine (`faults-speed-security.md` 2.2); here both halves of a pair are read and held together.

use jiff::Timestamp;

use super::certificate::{Certificate, San, leads_to};
use super::key::{self, PrivateKey};
use super::spoken;

/// One of the two files of a pair.
#[derive(Debug)]
pub enum Part<T> {
    /// Not there.
    Absent,
    /// There, and unusable; why in words.
    Torn(String),
    /// Whole.
    Whole(T),
}

impl<T> Part<T> {
    fn read(bytes: Option<&[u8]>, parse: impl FnOnce(&[u8]) -> Result<T, String>) -> Part<T> {
        match bytes.map(parse) {
            None => Part::Absent,
            Some(Err(why)) => Part::Torn(why),
            Some(Ok(value)) => Part::Whole(value),
        }
    }
}

/// A certificate file, read.
pub fn certificate(bytes: Option<&[u8]>) -> Part<Vec<Certificate>> {
    Part::read(bytes, Certificate::chain_from_pem)
}

/// A key file, read.
pub fn private_key(bytes: Option<&[u8]>) -> Part<PrivateKey> {
    Part::read(bytes, PrivateKey::from_pem)
}

/// Whether a certificate is for this key.
pub fn belong_together(certificate: &Certificate, key: &PrivateKey) -> bool {
    key.public_key_info().is_ok_and(|public| public == certificate.public_key_info())
}

/// Whether sa.pub holds the public half of sa.key, perhaps among others.
pub fn is_public_half(public: &[u8], key: &PrivateKey) -> bool {
    key.public_key_info().is_ok_and(|info| key::public_keys(public).contains(&info))
}

/// What a leaf's two files are worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeafState {
    /// Neither is there.
    Absent,
    /// One is missing, empty or unreadable; which and why.
    Torn(String),
    /// The certificate is for another key.
    Mismatched,
    /// It has expired at this time.
    Expired(Timestamp),
    /// It is valid from this time on only.
    NotYetValid(Timestamp),
    /// This CA did not sign it.
    WrongIssuer,
    /// It can be used, but not under these names and addresses.
    MissingSans(Vec<San>),
    /// It can be used.
    Fine(Box<Certificate>),
}

impl LeafState {
    /// Whether nobody can use it: it is made again, whoever made it.
    pub fn is_broken(&self) -> bool {
        !matches!(self, LeafState::WrongIssuer | LeafState::MissingSans(_) | LeafState::Fine(_))
    }

    /// What is wrong, in words; empty when nothing is.
    pub fn fault(&self) -> String {
        match self {
            LeafState::Absent => "it is missing".to_owned(),
            LeafState::Torn(why) => why.clone(),
            LeafState::Mismatched => "the key is not the certificate's".to_owned(),
            LeafState::Expired(at) => format!("expired {}", spoken(*at)),
            LeafState::NotYetValid(from) => format!("not valid before {}", spoken(*from)),
            LeafState::WrongIssuer => "signed by another CA".to_owned(),
            LeafState::MissingSans(sans) => {
                let sans: Vec<String> = sans.iter().map(ToString::to_string).collect();
                format!("not valid for {}", sans.join(", "))
            }
            LeafState::Fine(_) => String::new(),
        }
    }
}

/// Judges a leaf from the bytes of its two files (the same bytes twice where one file holds both).
pub fn leaf(certificate: Option<&[u8]>, key: Option<&[u8]>, authority: &Certificate, sans: &[San], now: Timestamp) -> LeafState {
    let chain = match chain_of(certificate, key, now) {
        Ok(chain) => chain,
        Err(state) => return state,
    };
    let leaf = &chain[0];
    if !leads_to(&chain, authority) {
        return LeafState::WrongIssuer;
    }
    if now < leaf.not_before {
        return LeafState::NotYetValid(leaf.not_before);
    }
    let missing = leaf.missing_sans(sans);
    if missing.is_empty() { LeafState::Fine(Box::new(leaf.clone())) } else { LeafState::MissingSans(missing) }
}

/// The leaf in two files, when it is whole and not expired, whoever signed it: the client certificate that a cluster gave to a kubelet
/// may be of a signer that the machine does not know. The clock may be behind.
pub fn leaf_of(certificate: Option<&[u8]>, key: Option<&[u8]>, now: Timestamp) -> Result<Certificate, LeafState> {
    Ok(chain_of(certificate, key, now)?.swap_remove(0))
}

fn chain_of(certificate: Option<&[u8]>, key: Option<&[u8]>, now: Timestamp) -> Result<Vec<Certificate>, LeafState> {
    let torn = |part: &str, why: &str| Err(LeafState::Torn(format!("the {part}: {why}")));
    let (chain, key) = match (self::certificate(certificate), private_key(key)) {
        (Part::Absent, Part::Absent) => return Err(LeafState::Absent),
        (Part::Torn(why), _) => return torn("certificate", &why),
        (_, Part::Torn(why)) => return torn("key", &why),
        (Part::Absent, _) => return torn("certificate", "it is missing"),
        (_, Part::Absent) => return torn("key", "it is missing"),
        (Part::Whole(chain), Part::Whole(key)) => (chain, key),
    };
    if !belong_together(&chain[0], &key) {
        return Err(LeafState::Mismatched);
    }
    if now > chain[0].not_after {
        return Err(LeafState::Expired(chain[0].not_after));
    }
    Ok(chain)
}

/// Whether a leaf that we made is to be made again before it expires: 30 days ahead, or in the last third of a shorter life.
pub fn is_due(certificate: &Certificate, now: Timestamp) -> bool {
    const AHEAD: i64 = 30 * 24 * 3600;
    let life = certificate.not_after.as_second() - certificate.not_before.as_second();
    let left = certificate.not_after.as_second() - now.as_second();
    left < AHEAD.min(life / 3)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::node::KeyAlgorithm;
    use crate::k8s::pki::issue::{Pair, Profile, Validity};

    const YEAR: Duration = Duration::from_secs(8760 * 3600);

    fn now() -> Timestamp {
        "2026-11-21T08:46:57Z".parse().expect("a time")
    }
    fn ca() -> Pair {
        Pair::new_authority("kubernetes", KeyAlgorithm::EcdsaP256, Validity::from_now(now(), YEAR * 10).expect("dates"))
            .expect("a CA")
    }
    fn san(text: &str) -> San {
        San::parse(text).expect("a name")
    }

    #[test]
    fn a_leaf_is_judged_by_its_meaning() {
        let (ours, other) = (ca(), ca());
        let profile = Profile::client("me", None).for_sans([san("a"), san("10.0.0.1")]);
        let make = |ca: &Pair| {
            ca.issue(&profile, KeyAlgorithm::EcdsaP256, Validity::from_now(now(), YEAR).expect("dates")).expect("a leaf")
        };
        let (good, foreign) = (make(&ours), make(&other));
        let (certificate, key) = (good.certificate.to_pem(), good.key.to_pem().expect("text"));
        let (certificate, key) = (certificate.as_bytes(), key.as_bytes());
        let foreign_key = foreign.key.to_pem().expect("text");
        let foreign_certificate = foreign.certificate.to_pem();
        let judge = |certificate, key, sans: &[San], at: Timestamp| leaf(certificate, key, &ours.certificate, sans, at);
        let later = |duration: Duration| now().checked_add(duration).expect("a time");

        assert!(matches!(judge(Some(certificate), Some(key), &[san("a")], now()), LeafState::Fine(_)));
        assert_eq!(judge(None, None, &[], now()), LeafState::Absent);
        for (certificate, key, fault) in [
            (Some(&b""[..]), Some(key), "the certificate: it is empty"),
            (Some(&certificate[..200]), Some(key), "the certificate: it holds no whole certificate"),
            (None, Some(key), "the certificate: it is missing"),
            (Some(certificate), Some(&b""[..]), "the key: it is empty"),
            (Some(certificate), Some(&[0; 64][..]), "the key: it holds no whole RSA or ECDSA private key"),
            (Some(certificate), None, "the key: it is missing"),
            (Some(certificate), Some(foreign_key.as_bytes()), "the key is not the certificate's"),
        ] {
            let state = judge(certificate, key, &[], now());
            assert!(state.is_broken(), "{fault}");
            assert_eq!(state.fault(), fault);
        }
        assert_eq!(judge(Some(foreign_certificate.as_bytes()), Some(foreign_key.as_bytes()), &[], now()), LeafState::WrongIssuer);
        assert_eq!(
            judge(Some(certificate), Some(key), &[san("b"), san("a"), san("10.0.0.2")], now()),
            LeafState::MissingSans(vec![san("b"), san("10.0.0.2")])
        );
        assert_eq!(
            judge(Some(certificate), Some(key), &[], later(YEAR + Duration::from_secs(1))).fault(),
            "expired 2027-11-21T08:46:57Z"
        );
        let before = now().checked_sub(Duration::from_secs(3600)).expect("a time");
        assert_eq!(judge(Some(certificate), Some(key), &[], before).fault(), "not valid before 2026-11-21T08:41:57Z");
        assert!(!is_due(&good.certificate, now()));
        let days = |days: u64| Duration::from_secs(days * 24 * 3600);
        assert!(!is_due(&good.certificate, later(days(365 - 31))));
        assert!(is_due(&good.certificate, later(days(365 - 29))));
    }

    #[test]
    fn a_short_lived_leaf_is_not_due_at_once() {
        let ours = ca();
        let day = Duration::from_secs(24 * 3600);
        let leaf = ours
            .issue(&Profile::client("me", None), KeyAlgorithm::EcdsaP256, Validity::from_now(now(), day).expect("dates"))
            .expect("a leaf");
        assert!(!is_due(&leaf.certificate, now()));
        assert!(is_due(&leaf.certificate, now().checked_add(day * 3 / 4).expect("a time")));
    }

    #[test]
    fn a_public_file_may_hold_more_than_one_key() {
        let (one, two) = (
            PrivateKey::generate(KeyAlgorithm::EcdsaP256).expect("a key"),
            PrivateKey::generate(KeyAlgorithm::Rsa2048).expect("a key"),
        );
        let both = one.public_pem().expect("text") + &two.public_pem().expect("text");
        assert!(is_public_half(both.as_bytes(), &one) && is_public_half(both.as_bytes(), &two));
        assert!(!is_public_half(one.public_pem().expect("text").as_bytes(), &two));
        assert!(!is_public_half(b"", &one));
    }
}
