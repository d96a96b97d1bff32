//! What a phase is: a named step that can look at the machine, say what it would change, and change it, as often as one likes. The
//! engine knows nothing else about phases.

use std::fmt;

use async_trait::async_trait;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::config::node::Node;
use crate::error::Result;

use super::context::Context;
use super::state::Facts;

/// Stable: CLI word, checkpoint key, journal field. Never renamed, only retired. kubeadm's id where kubeadm has the phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhaseId(pub &'static str);

impl fmt::Display for PhaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A digest of what a phase reads: wish and facts. Two runs with the same inputs have the same fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fingerprint(pub String);

impl Fingerprint {
    /// The digest of anything that serialises (secrets serialise as their public half).
    pub fn of(value: &impl Serialize) -> Fingerprint {
        let bytes = serde_json::to_vec(value).expect("wish and facts have string keys and serialise");
        Fingerprint(hex::encode(&Sha256::digest(&bytes)[..16]))
    }
}

/// What a fingerprint is made from.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The wish.
    pub node: &'a Node,
    /// What the machine told.
    pub facts: &'a Facts,
}

/// How long the effect of a phase lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasting {
    /// The machine shows whether it is so: `inspect` decides.
    State,
    /// Its effect expires by design (a token, uploaded certificates): the record decides, per cluster and fingerprint.
    Once,
}

/// What a change or a report is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind", content = "name")]
pub enum Subject {
    /// A path.
    File(String),
    /// A systemd unit.
    Unit(String),
    /// A sysctl key.
    Sysctl(String),
    /// A kernel module.
    Module(String),
    /// A container image.
    Image(String),
    /// A Kubernetes object, `Kind namespace/name`.
    Object(String),
    /// A fact, for instance `advertise address`.
    Fact(String),
    /// Something else.
    Other(String),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::File(name) | Subject::Object(name) | Subject::Fact(name) | Subject::Other(name) => f.write_str(name),
            Subject::Unit(name) => write!(f, "unit {name}"),
            Subject::Sysctl(name) => write!(f, "sysctl {name}"),
            Subject::Module(name) => write!(f, "module {name}"),
            Subject::Image(name) => write!(f, "image {name}"),
        }
    }
}

/// What is done to a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// It is not there.
    Create,
    /// It is ours and differs from the wish.
    Update,
    /// It is missing half, empty or torn.
    Mend,
    /// A unit is not running.
    Start,
    /// A unit runs with something older.
    Restart,
    /// It is waited for.
    Await,
    /// It goes.
    Remove,
}

/// What else a change touches while it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Disruption {
    /// Nothing.
    Nothing,
    /// A component of the control plane restarts.
    ControlPlane,
    /// The kubelet restarts; pods go on.
    Kubelet,
    /// Pods restart.
    Workloads,
}

/// One thing that a phase would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What.
    pub subject: Subject,
    /// How.
    pub action: Action,
    /// What else it touches.
    pub disrupts: Disruption,
    /// Why, where that is not plain (`expired 2026-10-01`); may be empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl Change {
    /// A change that touches nothing else and needs no reason.
    pub fn new(subject: Subject, action: Action) -> Change {
        Change { subject, action, disrupts: Disruption::Nothing, reason: String::new() }
    }
    /// With a reason.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Change {
        self.reason = reason.into();
        self
    }
    /// With what it touches.
    #[must_use]
    pub fn disrupting(mut self, disrupts: Disruption) -> Change {
        self.disrupts = disrupts;
        self
    }
}

/// Somebody else's version of something we would write: reported, not touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// What.
    pub subject: Subject,
    /// How it differs, in words; never a secret.
    pub difference: String,
}

/// Why a phase cannot say yet what it would change (`plan` on an empty machine: no CA, no API server).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Blocker(pub String);

/// The difference between wish and world, as one phase sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// Ours to do; empty: nothing to apply.
    pub changes: Vec<Change>,
    /// Somebody else's; a report, not work.
    pub kept: Vec<Kept>,
    /// Cannot be known yet.
    pub blocked: Option<Blocker>,
}

impl Drift {
    /// Nothing to do.
    pub fn none() -> Drift {
        Drift::default()
    }
    /// One change.
    pub fn one(change: Change) -> Drift {
        Drift { changes: vec![change], ..Drift::default() }
    }
    /// Cannot be known yet.
    pub fn blocked(why: impl Into<String>) -> Drift {
        Drift { blocked: Some(Blocker(why.into())), ..Drift::default() }
    }
    /// Nothing to apply and nothing unknown.
    pub fn is_none(&self) -> bool {
        self.changes.is_empty() && self.blocked.is_none()
    }
    /// Both together.
    #[must_use]
    pub fn and(mut self, other: Drift) -> Drift {
        self.changes.extend(other.changes);
        self.kept.extend(other.kept);
        self.blocked = self.blocked.or(other.blocked);
        self
    }
}

/// A step of becoming a node.
#[async_trait]
pub trait Phase: Send + Sync {
    /// Its stable name.
    fn id(&self) -> PhaseId;
    /// What it does, in a line for help and status.
    fn summary(&self) -> &'static str;
    /// The phases it needs (an id, or a parent id for all its children); order is meaning, not accident. A phase that does not apply
    /// passes its edges through.
    fn after(&self) -> &'static [PhaseId];
    /// How long its effect lasts.
    fn lasting(&self) -> Lasting {
        Lasting::State
    }
    /// Whether it is part of this node, by role and options, never by state.
    fn applies(&self, node: &Node) -> bool;
    /// The digest of what it reads.
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint;
    /// Looks only. `edgeboot plan` prints what it says; after `apply` it must find no changes.
    async fn inspect(&self, cx: &Context) -> Result<Drift>;
    /// Makes it so. May be repeated at any time and be cut off at any instant; each effect is noted in the ledger first (the verbs of
    /// [`Context`] do that).
    async fn apply(&self, cx: &Context) -> Result<()>;
}
