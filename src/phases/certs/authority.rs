//! The three CAs: used as they are, made where there are none, and never replaced while a cluster is here.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::config::node::{Cluster, Node};
use crate::engine::context::Context;
use crate::engine::phase::{Action, Change, Drift, Fingerprint, Inputs, Phase, PhaseId, Subject};
use crate::engine::state::ClusterIdentity;
use crate::error::{Error, Result};
use crate::k8s::pki::judge::{self, Part};
use crate::k8s::pki::{Authority, Certificate, Pair, PrivateKey, Validity, ca_hash, spoken};

use super::{Paths, Situation, belongs_to, now, subject};

/// One of the CAs.
#[derive(Debug, Clone, Copy)]
pub struct AuthorityPhase {
    pub(super) id: PhaseId,
    pub(super) summary: &'static str,
    pub(super) after: &'static [PhaseId],
    pub(super) authority: Authority,
}

/// Who signs, as it stands on this machine.
#[derive(Debug)]
pub enum Signer {
    /// Certificate and key.
    Ours(Box<Pair>),
    /// The certificate; its key is kept elsewhere (kubeadm's external CA).
    External(Box<Certificate>),
}

impl Signer {
    /// The CA's certificate.
    pub fn certificate(&self) -> &Certificate {
        match self {
            Signer::Ours(pair) => &pair.certificate,
            Signer::External(certificate) => certificate,
        }
    }
    /// The pair, or the failure of `doing`, which needs the key.
    pub fn pair(self, doing: &str) -> Result<Pair> {
        match self {
            Signer::Ours(pair) => Ok(*pair),
            Signer::External(_) => Err(keyless(doing)),
        }
    }
}

/// The failure of something that needs a CA's key, which is not on this machine.
pub(in crate::phases) fn keyless(doing: &str) -> Error {
    Error::host(doing)
        .because("the key of its CA is not on this machine (external CA)")
        .hint("have it made by the holder of the CA's key, as `kubeadm certs generate-csr` prepares, and put it there")
}

/// A CA as it stands on this machine; `None` when it cannot be used (its own phase says why).
pub fn signer(cx: &Context, authority: Authority) -> Result<Option<Signer>> {
    signer_of(cx, &cx.node.cluster, authority)
}

/// The same for any cluster.
pub(super) fn signer_of(cx: &Context, cluster: &Cluster, authority: Authority) -> Result<Option<Signer>> {
    let (certificate, key) = Paths::new(cluster, authority.base_name()).read(cx)?;
    let files = (judge::certificate(certificate.as_deref()), judge::private_key(key.as_deref()));
    Ok(match verdict(files, false, false, now(cx)) {
        Verdict::Use(signer) => Some(signer),
        _ => None,
    })
}

/// The CA that `path` is made from; a failure when it cannot be used.
pub(in crate::phases) fn required_signer(cx: &Context, authority: Authority, path: &str) -> Result<Signer> {
    required_signer_of(cx, &cx.node.cluster, authority, path)
}

/// The same for any cluster.
pub(in crate::phases) fn required_signer_of(cx: &Context, cluster: &Cluster, authority: Authority, path: &str) -> Result<Signer> {
    let certificate = Paths::new(cluster, authority.base_name()).certificate;
    let hint = "run the phase that makes it first (`edgeboot init phase certs`), or the whole: `edgeboot reconcile`";
    signer_of(cx, cluster, authority)?
        .ok_or_else(|| Error::host(format!("making {path}")).because(format!("its CA {certificate} cannot be used")).hint(hint))
}

/// What is to be done about a CA.
#[derive(Debug)]
enum Verdict {
    /// It can be used.
    Use(Signer),
    /// It is made.
    Make(Action),
    /// Its key is there; it gets a certificate.
    Certify(PrivateKey),
    /// Its key is what is wrong: stop and ask.
    StopAtKey(String),
    /// Its certificate is what is wrong: stop and ask.
    StopAtCertificate(String),
}

/// `here`: a cluster is here. `ours`: the ledger knows that we wrote it.
fn verdict((certificate, key): (Part<Vec<Certificate>>, Part<PrivateKey>), here: bool, ours: bool, now: Timestamp) -> Verdict {
    let replaceable = ours && !here;
    let certificate_fault = |why: String| if replaceable { Verdict::Make(Action::Mend) } else { Verdict::StopAtCertificate(why) };
    let key_fault = |why: String| if replaceable { Verdict::Make(Action::Mend) } else { Verdict::StopAtKey(why) };
    let chain = match (certificate, key) {
        (Part::Absent, Part::Absent) if here => return Verdict::StopAtCertificate("it is gone".to_owned()),
        (Part::Absent, Part::Absent) => return Verdict::Make(Action::Create),
        (Part::Absent, Part::Whole(key)) if !here => return Verdict::Certify(key),
        (Part::Torn(_), Part::Whole(key)) if replaceable => return Verdict::Certify(key),
        (Part::Absent, Part::Whole(_)) => return Verdict::StopAtCertificate("it is gone".to_owned()),
        (Part::Torn(why), _) => return certificate_fault(why),
        (Part::Absent | Part::Whole(_), Part::Torn(why)) => return key_fault(why),
        (Part::Whole(chain), Part::Whole(key)) if !judge::belong_together(&chain[0], &key) => {
            return key_fault("it is not the key of the certificate beside it".to_owned());
        }
        (Part::Whole(chain), key) => (chain, key),
    };
    let (mut chain, key) = chain;
    let certificate = chain.swap_remove(0);
    if !certificate.is_authority {
        return Verdict::StopAtCertificate("it is not a CA".to_owned());
    }
    if now > certificate.not_after {
        return certificate_fault(format!("it expired {}, and CAs are not renewed", spoken(certificate.not_after)));
    }
    if now < certificate.not_before {
        return certificate_fault(format!(
            "it is not valid before {}, and the clock says {}",
            spoken(certificate.not_before),
            spoken(now)
        ));
    }
    Verdict::Use(match key {
        Part::Whole(key) => Signer::Ours(Box::new(Pair { certificate, key })),
        _ => Signer::External(Box::new(certificate)),
    })
}

impl AuthorityPhase {
    fn paths(&self, cx: &Context) -> Paths {
        Paths::new(&cx.node.cluster, self.authority.base_name())
    }

    fn look(&self, cx: &Context) -> Result<Verdict> {
        let paths = self.paths(cx);
        let situation = Situation::of(cx, Some(self.authority), &[&paths.certificate, &paths.key])?;
        let (certificate, key) = paths.read(cx)?;
        let files = (judge::certificate(certificate.as_deref()), judge::private_key(key.as_deref()));
        match verdict(files, situation.here, situation.ours, now(cx)) {
            Verdict::StopAtCertificate(why) => Err(situation.stop(&paths.certificate, &why)),
            Verdict::StopAtKey(why) => Err(situation.stop(&paths.key, &why)),
            verdict => Ok(verdict),
        }
    }

    /// What the state says about the cluster, held against its CA. Nothing to say for the other CAs.
    fn identity_drift(&self, cx: &Context, certificate: &Certificate) -> Result<Drift> {
        if self.authority != Authority::Cluster {
            return Ok(Drift::none());
        }
        let fact = || Subject::Fact("cluster identity".to_owned());
        let path = self.paths(cx).certificate;
        let (recorded, standing) = (cx.ledger.cluster(), ca_hash(certificate));
        match recorded {
            None => Ok(Drift::one(Change::new(fact(), Action::Create))),
            Some(identity) if identity.ca_cert_hash == standing => Ok(Drift::none()),
            Some(_) if cx.is_forced(&subject(&path)) => Ok(Drift::one(Change::new(fact(), Action::Update))),
            Some(identity) => Err(Error::host(format!("using {path}"))
                .because(format!("it is {standing}, and this machine belongs to the cluster of {}", identity.ca_cert_hash))
                .hint(format!(
                    "restore the CA of that cluster; when it was replaced on purpose, run `edgeboot reconcile --force={path}`; `edgeboot reset` leaves the old cluster"
                ))),
        }
    }
}

#[async_trait]
impl Phase for AuthorityPhase {
    fn id(&self) -> PhaseId {
        self.id
    }
    fn summary(&self) -> &'static str {
        self.summary
    }
    fn after(&self) -> &'static [PhaseId] {
        self.after
    }
    fn applies(&self, node: &Node) -> bool {
        belongs_to(self.authority, node)
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        let cluster = &inputs.node.cluster;
        Fingerprint::of(&(&cluster.certificates_dir, cluster.key_algorithm, cluster.ca_certificate_validity))
    }

    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        let paths = self.paths(cx);
        match self.look(cx)? {
            Verdict::Use(signer) => Ok(paths.mode_drift(cx)?.and(self.identity_drift(cx, signer.certificate())?)),
            Verdict::Make(action) => Ok(Drift::one(Change::new(subject(&paths.certificate), action))),
            Verdict::Certify(_) => {
                Ok(Drift::one(Change::new(subject(&paths.certificate), Action::Create).because("its key is there")))
            }
            Verdict::StopAtCertificate(why) | Verdict::StopAtKey(why) => Err(Error::internal("judging a CA").because(why)),
        }
    }

    async fn apply(&self, cx: &Context) -> Result<()> {
        let (paths, authority, cluster) = (self.paths(cx), self.authority, &cx.node.cluster);
        let (algorithm, life, now) = (cluster.key_algorithm, cluster.ca_certificate_validity, now(cx));
        let make = move |key: Option<PrivateKey>| {
            let validity = Validity::from_now(now, life)?;
            match key {
                Some(key) => Pair::authority_for(key, authority.common_name(), validity),
                None => Pair::new_authority(authority.common_name(), algorithm, validity),
            }
        };
        let certificate = match self.look(cx)? {
            Verdict::Use(signer) => {
                cx.place(paths.standing(cx)?).await.map(drop)?;
                signer.certificate().clone()
            }
            verdict => {
                if matches!(verdict, Verdict::Make(Action::Mend)) {
                    cx.say(format!("made again: {} was torn, and no cluster is here", paths.certificate));
                }
                let key = if let Verdict::Certify(key) = verdict { Some(key) } else { None };
                let keep_key = key.is_some();
                let pair = cx.host.blocking(move || make(key)).await?;
                // A key that was there keeps its bytes: it may be in another form than ours.
                let files = paths.files(&pair)?.into_iter().filter(|file| !keep_key || file.path != paths.key);
                cx.place(files.collect()).await.map(drop)?;
                pair.certificate
            }
        };
        if authority == Authority::Cluster {
            // Only now: the pair is durable.
            cx.ledger.set_cluster(ClusterIdentity { ca_cert_hash: ca_hash(&certificate) });
            cx.ledger.save(&cx.host).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::node::KeyAlgorithm;
    use std::time::Duration;

    const YEAR: Duration = Duration::from_secs(8760 * 3600);

    fn now() -> Timestamp {
        "2026-11-21T08:46:57Z".parse().expect("a time")
    }

    /// Every state of the two files, with and without a cluster, ours and not: what becomes of the CA.
    #[test]
    fn a_ca_is_never_replaced_while_a_cluster_is_here() {
        let pair = || Pair::new_authority("kubernetes", KeyAlgorithm::EcdsaP256, Validity::from_now(now(), YEAR).expect("dates"));
        let (one, other) = (pair().expect("a CA"), pair().expect("a CA"));
        let certificate = one.certificate.to_pem();
        let (key, foreign) = (one.key.to_pem().expect("text"), other.key.to_pem().expect("text"));
        let (certificate, key, foreign) = (Some(certificate.as_bytes()), Some(key.as_bytes()), Some(foreign.as_bytes()));
        let empty = Some(&b""[..]);
        // certificate, key: (alone and theirs, alone and ours, a cluster is here)
        for (certificate, key, wished) in [
            (None, None, ["Make", "Make", "StopAtCertificate"]),
            (certificate, key, ["Use", "Use", "Use"]),
            (certificate, None, ["Use", "Use", "Use"]),
            (None, key, ["Certify", "Certify", "StopAtCertificate"]),
            (empty, key, ["StopAtCertificate", "Certify", "StopAtCertificate"]),
            (empty, empty, ["StopAtCertificate", "Make", "StopAtCertificate"]),
            (empty, None, ["StopAtCertificate", "Make", "StopAtCertificate"]),
            (None, empty, ["StopAtKey", "Make", "StopAtKey"]),
            (certificate, empty, ["StopAtKey", "Make", "StopAtKey"]),
            (certificate, foreign, ["StopAtKey", "Make", "StopAtKey"]),
        ] {
            let given = |here, ours| {
                let files = (judge::certificate(certificate), judge::private_key(key));
                let verdict = format!("{:?}", verdict(files, here, ours, now()));
                verdict.split('(').next().unwrap_or_default().to_owned()
            };
            assert_eq!([given(false, false), given(false, true), given(true, true)], wished, "{certificate:?} {key:?}");
            assert_eq!(given(true, false), wished[2]);
        }
    }

    #[test]
    fn a_ca_out_of_its_time_stops() {
        let pair = Pair::new_authority("kubernetes", KeyAlgorithm::EcdsaP256, Validity::from_now(now(), YEAR).expect("dates"))
            .expect("a CA");
        let text = pair.certificate.to_pem();
        let at = |when: Timestamp| verdict((judge::certificate(Some(text.as_bytes())), Part::Absent), true, true, when);
        let early = now().checked_sub(YEAR).expect("a time");
        let late = now().checked_add(YEAR * 2).expect("a time");
        assert!(
            matches!(at(early), Verdict::StopAtCertificate(why) if why.starts_with("it is not valid before 2026-11-21T08:41:57Z"))
        );
        assert!(matches!(at(late), Verdict::StopAtCertificate(why) if why.starts_with("it expired 2027-11-21T08:46:57Z")));
    }
}
