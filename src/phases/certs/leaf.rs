//! What the CAs sign. A leaf that nobody can use is made again, whoever made it; one of ours also when it lacks a name or is about to
//! expire; one of somebody else's is kept and reported.

use async_trait::async_trait;

use crate::config::node::{Etcd, Node};
use crate::engine::context::Context;
use crate::engine::phase::{Action, Change, Drift, Fingerprint, Inputs, Kept, Phase, PhaseId};
use crate::error::{Error, Result};
use crate::k8s::pki::certlist::Names;
use crate::k8s::pki::judge::{self, LeafState};
use crate::k8s::pki::{Authority, Leaf, Profile, Validity, spoken};

use super::super::stale;
use super::authority::{Signer, keyless, required_signer, signer};
use super::{Paths, Situation, belongs_to, now, subject};

/// One of the leaves.
#[derive(Debug, Clone, Copy)]
pub struct LeafPhase {
    pub(super) id: PhaseId,
    pub(super) summary: &'static str,
    pub(super) after: &'static [PhaseId],
    pub(super) leaf: Leaf,
}

/// What is to be done about a leaf.
enum Verdict {
    Keep(Drift),
    Issue(Change),
}

impl LeafPhase {
    /// Who signs it.
    pub fn authority(&self) -> Authority {
        self.leaf.authority()
    }

    fn profile(&self, cx: &Context) -> Result<Profile> {
        let (node_name, cluster) = (cx.node_name()?, &cx.node.cluster);
        let (server, peer): (&[String], &[String]) = match &cluster.etcd {
            Etcd::Local(etcd) => (&etcd.server_cert_sans, &etcd.peer_cert_sans),
            Etcd::External(_) => (&[], &[]),
        };
        Ok(self.leaf.profile(&Names {
            node: &node_name,
            advertise_address: cx.advertise_address()?,
            service_subnets: &cluster.service_subnets,
            dns_domain: &cluster.dns_domain,
            control_plane_host: cluster.control_plane_endpoint.as_ref().map(|endpoint| endpoint.host.as_str()),
            api_server_sans: &cluster.cert_sans,
            etcd_server_sans: server,
            etcd_peer_sans: peer,
        }))
    }

    fn paths(&self, cx: &Context) -> Paths {
        Paths::new(&cx.node.cluster, self.leaf.base_name())
    }

    fn look(&self, cx: &Context, profile: &Profile, signer: &Signer) -> Result<Verdict> {
        let paths = self.paths(cx);
        let (certificate, key) = paths.read(cx)?;
        let state = judge::leaf(certificate.as_deref(), key.as_deref(), signer.certificate(), &profile.sans, now(cx));
        let (subject, fault) = (subject(&paths.certificate), state.fault());
        let ours = cx.is_ours(&paths.certificate)?;
        let replaceable = ours || cx.is_forced(&subject);
        let has_key = matches!(signer, Signer::Ours(_));
        let issue = |action, why: &str| {
            let change = Change::new(subject.clone(), action).because(why);
            if action == Action::Create || self.leaf.consumers().is_empty() {
                return Ok(Verdict::Issue(change));
            }
            let disrupts = Situation::of(cx, Some(self.leaf.authority()), &[])?.disrupts();
            Ok(Verdict::Issue(change.disrupting(disrupts)))
        };
        let kept = |difference: String| {
            Ok(Verdict::Keep(Drift { kept: vec![Kept { subject: subject.clone(), difference }], ..Drift::none() }))
        };
        match &state {
            LeafState::Absent if has_key => issue(Action::Create, ""),
            state if state.is_broken() && has_key => issue(Action::Mend, &fault),
            state if state.is_broken() => Err(keyless(&format!("making {}, which cannot be used: {fault}", paths.certificate))),
            LeafState::WrongIssuer | LeafState::MissingSans(_) if replaceable && has_key => issue(Action::Update, &fault),
            LeafState::WrongIssuer => Err(wrong_issuer(&paths, fault)),
            LeafState::MissingSans(_) => kept(fault),
            LeafState::Fine(leaf) if ours && has_key && judge::is_due(leaf, now(cx)) => {
                issue(Action::Update, &format!("expires {}", spoken(leaf.not_after)))
            }
            LeafState::Fine(leaf) if !ours && cx.ledger.has_written(&paths.certificate) => {
                kept(format!("renewed by somebody else, valid until {}", spoken(leaf.not_after)))
            }
            _ => Ok(Verdict::Keep(paths.mode_drift(cx)?)),
        }
    }
}

fn wrong_issuer(paths: &Paths, fault: String) -> Error {
    let path = &paths.certificate;
    let hint =
        format!("put a certificate of this cluster's CA there, or run `edgeboot reconcile --force={path}` to have it made again");
    Error::host(format!("using {path}")).because(fault).hint(hint)
}

#[async_trait]
impl Phase for LeafPhase {
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
        belongs_to(self.leaf.authority(), node)
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        let (node, cluster) = (inputs.node, &inputs.node.cluster);
        let etcd = if self.leaf.authority() == Authority::Etcd { Some(&cluster.etcd) } else { None };
        let machine = (&node.registration.name, &node.advertise_address, &inputs.facts.node_name, &inputs.facts.advertise_address);
        let names = (&cluster.service_subnets, &cluster.dns_domain, &cluster.control_plane_endpoint, &cluster.cert_sans, etcd);
        Fingerprint::of(&(machine, names, &cluster.certificates_dir, cluster.key_algorithm, cluster.certificate_validity))
    }

    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        let Some(signer) = signer(cx, self.leaf.authority())? else {
            let certificate = self.paths(cx).certificate;
            return Ok(if cx.host.root.exists(&certificate)? {
                Drift::blocked(format!("{certificate} is judged once its CA is there"))
            } else {
                Drift::one(Change::new(subject(&certificate), Action::Create))
            });
        };
        match self.look(cx, &self.profile(cx)?, &signer)? {
            Verdict::Keep(drift) => Ok(drift),
            Verdict::Issue(change) => Ok(Drift::one(change)),
        }
    }

    async fn apply(&self, cx: &Context) -> Result<()> {
        let (paths, profile) = (self.paths(cx), self.profile(cx)?);
        let signer = required_signer(cx, self.leaf.authority(), paths.certificate.as_str())?;
        let change = match self.look(cx, &profile, &signer)? {
            Verdict::Keep(_) => return cx.place(paths.standing(cx)?).await.map(drop),
            Verdict::Issue(change) => change,
        };
        if change.action != Action::Create {
            let consumers = self.leaf.consumers().join(", ");
            let read_by = if consumers.is_empty() { String::new() } else { format!("; read by {consumers}") };
            cx.say(format!("made again: {} ({}){read_by}", paths.certificate, change.reason));
            stale::mark_components(cx, self.leaf.consumers()).await?;
        }
        let ca = signer.pair(&format!("making {}", paths.certificate))?;
        let (algorithm, validity) =
            (cx.node.cluster.key_algorithm, Validity::from_now(now(cx), cx.node.cluster.certificate_validity)?);
        let pair = cx.host.blocking(move || ca.issue(&profile, algorithm, validity)).await?;
        cx.place(paths.files(&pair)?).await.map(drop)
    }
}
