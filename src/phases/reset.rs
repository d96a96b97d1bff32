//! `edgeboot reset`: everything that edgeboot did on this machine is undone, in kubeadm's phases and by walking the ledger backwards. It
//! needs no valid configuration, no API server and no whole join; it may be cut at any point and done again. First the machine is held,
//! so that no boot builds in the meantime; last the state is forgotten. What others made is left and named.

mod cleanup;
mod etcd;
mod network;
mod node;
mod survey;

use tokio::time::Instant;

use crate::engine::identity::Recognised;
use crate::engine::ledger::{Found, Ledger};
use crate::engine::phase::{Kept, PhaseId, Subject};
use crate::engine::progress::{Event, Progress};
use crate::engine::state::{Record, SCHEMA, State};
use crate::error::{Error, Result};
use crate::host::root::UnmountFlag;
use crate::host::{Host, Utf8PathBuf, kernel};
use crate::k8s::names;
use crate::phases::identity;

pub use survey::Work;

/// The phases of reset, in order, and what they do: kubeadm's, and the Node besides.
pub const PHASES: [(PhaseId, &str); 4] = [
    (PREFLIGHT, "checks that it can be done"),
    (DELETE_NODE, "takes the Node out of the cluster, where this machine's credentials allow it"),
    (REMOVE_ETCD_MEMBER, "takes this machine's member out of etcd"),
    (CLEANUP_NODE, "stops the kubelet and all pods, and removes what edgeboot made"),
];
/// Checks.
const PREFLIGHT: PhaseId = PhaseId("preflight");
/// The Node object; kubeadm leaves it.
const DELETE_NODE: PhaseId = PhaseId("delete-node");
/// etcd's member.
const REMOVE_ETCD_MEMBER: PhaseId = PhaseId("remove-etcd-member");
/// Everything on this machine.
const CLEANUP_NODE: PhaseId = PhaseId("cleanup-node");

/// The check that kubeadm has here.
const IS_ROOT: &str = "IsPrivilegedUser";
/// The entry of the state, while a reset is under way, that says that it began without a ledger.
const WITHOUT_LEDGER: &str = "reset";

/// What was asked for; the flags are kubeadm's.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// A certificates folder that is to be emptied, whoever made what is in it.
    pub certificates_dir: Option<Utf8PathBuf>,
    /// The CRI socket, without `unix://`.
    pub cri_socket: Option<Utf8PathBuf>,
    /// How what is mounted below the kubelet's folder is taken away; empty: as edgeboot does it.
    pub unmount_flags: Vec<UnmountFlag>,
    /// Empties /etc/kubernetes/tmp.
    pub cleanup_tmp_dir: bool,
    /// The kubeconfig by which the Node is deleted.
    pub kubeconfig: Option<Utf8PathBuf>,
    /// Checks that do not count.
    pub ignore_preflight_errors: Vec<String>,
}

/// One reset.
#[derive(Debug)]
pub struct Reset {
    host: Host,
    progress: Progress,
    options: Options,
    state: State,
    /// The ledger says what is ours. Without it, kubeadm's folders are emptied as kubeadm empties them.
    has_ledger: bool,
    /// The disk is the copy of another machine's: what that one has in the cluster is not ours to take out.
    is_copy: bool,
}

/// Something that is left, and why.
fn left(subject: Subject, why: impl Into<String>) -> Kept {
    Kept { subject, difference: why.into() }
}

/// The ids of the phases that are to be done: `only` one, or all but those that are skipped.
pub fn selected(only: Option<&str>, skipped: &[String]) -> Result<Vec<PhaseId>> {
    let known = |name: &str| PHASES.iter().any(|(id, _)| id.0 == name);
    if let Some(unknown) = only.into_iter().chain(skipped.iter().map(String::as_str)).find(|name| !known(name)) {
        let all: Vec<&str> = PHASES.iter().map(|(id, _)| id.0).collect();
        return Err(
            Error::usage(format!("looking for the phase '{unknown}' of reset")).because(format!("there are {}", all.join(", ")))
        );
    }
    let ids = PHASES.iter().map(|(id, _)| *id);
    Ok(ids.filter(|id| only.is_none_or(|only| only == id.0) && !skipped.iter().any(|name| name == id.0)).collect())
}

impl Reset {
    /// Reads what edgeboot remembers; nothing is changed.
    pub fn open(host: Host, progress: Progress, options: Options) -> Result<Reset> {
        let (ledger, found) = Ledger::load(&host.root)?;
        let state = ledger.state();
        let has_ledger =
            found == Found::Whole && !state.phases.contains_key(WITHOUT_LEDGER) && (state.held || !state.phases.is_empty());
        let is_copy = identity::recognise(&host.root, &state)?.0 == Recognised::Copied;
        Ok(Reset { host, progress, options, state, has_ledger, is_copy })
    }

    /// What would be undone on this machine. Nothing is changed.
    pub fn survey(&self) -> Result<Work> {
        survey::survey(&self.host.root, &self.state, self.has_ledger, &self.options)
    }

    /// Whether the cluster ends with this machine: its etcd has no other member. `false` where that cannot be told in a moment.
    pub async fn ends_the_cluster(&self) -> bool {
        !self.is_copy && etcd::is_last(self).await
    }

    /// Does these phases; the answer is what is left.
    pub async fn run(&self, phases: &[PhaseId]) -> Result<Vec<Kept>> {
        self.progress.tell(&Event::Planned(phases));
        let mut all = Vec::new();
        for id in phases {
            let started = Instant::now();
            self.progress.tell(&Event::Started(*id, &[]));
            match self.phase(*id, phases).await {
                Ok(kept) => {
                    self.progress.tell(&Event::Done(*id, started.elapsed(), true, &kept));
                    all.extend(kept);
                }
                Err(error) => {
                    self.progress.tell(&Event::Failed(*id, started.elapsed(), &error));
                    return Err(error.while_doing(id.0));
                }
            }
        }
        Ok(all)
    }

    async fn phase(&self, id: PhaseId, selected: &[PhaseId]) -> Result<Vec<Kept>> {
        let progress = self.progress.for_phase(id);
        match id {
            PREFLIGHT => {
                self.preflight()?;
                if selected.contains(&CLEANUP_NODE) {
                    self.hold().await?;
                }
                Ok(Vec::new())
            }
            DELETE_NODE | REMOVE_ETCD_MEMBER if self.is_copy => Ok(self.of_the_original(id)),
            DELETE_NODE => node::delete(self, &progress).await,
            REMOVE_ETCD_MEMBER => etcd::remove(self, &progress).await,
            _ => {
                self.hold().await?;
                let left = cleanup::clean(self, &progress).await?;
                self.forget().await?;
                Ok(left)
            }
        }
    }

    /// What stays in the cluster, because it is the machine's from whose disk this one was copied.
    fn of_the_original(&self, id: PhaseId) -> Vec<Kept> {
        if self.state.cluster.is_none() {
            return Vec::new();
        }
        let node = self.state.facts.node_name.as_deref().unwrap_or("of this name");
        let (subject, remedy) = if id == DELETE_NODE {
            (Subject::Object(format!("Node {node}")), format!("`kubectl delete node {node}`"))
        } else if matches!(self.host.root.exists(format!("{}/etcd.yaml", names::MANIFESTS_DIR)), Ok(true)) {
            (Subject::Other(format!("etcd member of {node}")), "`etcdctl member remove`".to_owned())
        } else {
            return Vec::new();
        };
        let why = "that of the machine from which this disk was copied; if that one is gone for good";
        vec![left(subject, format!("{why}, {remedy} on another control plane takes it out"))]
    }

    fn preflight(&self) -> Result<()> {
        let ignored = self.options.ignore_preflight_errors.iter().any(|name| name.eq_ignore_ascii_case(IS_ROOT) || name == "all");
        match kernel::effective_user(&self.host.root)? {
            Some(user) if user != 0 && !ignored => Err(Error::host("resetting the machine")
                .because(format!("it needs root, and this is user {user} ({IS_ROOT})"))
                .hint("run it as root, for instance by `sudo`")),
            _ => Ok(()),
        }
    }

    /// From here on no boot builds anything.
    async fn hold(&self) -> Result<()> {
        let mut state = self.state.clone();
        state.held = true;
        if !self.has_ledger {
            let record = Record { fingerprint: "without a ledger".to_owned(), ..Record::default() };
            state.phases.insert(WITHOUT_LEDGER.to_owned(), record);
        }
        self.remember(state).await
    }

    /// What is left of the memory: which machine this is, and that it is held.
    async fn forget(&self) -> Result<()> {
        let (machine, unknown) = (self.state.machine.clone(), self.state.unknown.clone());
        self.remember(State { schema: SCHEMA, machine, unknown, held: true, ..State::default() }).await
    }

    async fn remember(&self, state: State) -> Result<()> {
        let root = self.host.root.clone();
        self.host.blocking(move || root.put(names::STATE, 0o600, &state.to_bytes()).map(drop)).await
    }
}

/// Whether a reset has begun on this machine and not come to its end.
pub fn is_under_way(state: &State) -> bool {
    state.held && (state.cluster.is_some() || !state.phases.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_chosen_by_kubeadms_names() {
        let ids = |only: Option<&str>, skipped: &[&str]| {
            let skipped: Vec<String> = skipped.iter().map(ToString::to_string).collect();
            selected(only, &skipped).map(|ids| ids.iter().map(|id| id.0).collect::<Vec<_>>()).map_err(|error| error.to_string())
        };
        assert_eq!(ids(None, &["delete-node"]).expect("known"), ["preflight", "remove-etcd-member", "cleanup-node"]);
        assert_eq!(ids(Some("cleanup-node"), &[]).expect("known"), ["cleanup-node"]);
        assert!(ids(None, &["etcd"]).expect_err("unknown").contains("'etcd'"));
    }
}
