//! What a phase is given: the host, the wish, the facts, and verbs that note each effect in the ledger before it becomes visible. A
//! cheap clone.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::config;
use crate::config::node::{Auto, Cluster, KubernetesVersion, Node, Role};
use crate::error::{Error, Result};
use crate::host::api::Api;
use crate::host::{Changed, Host, Utf8Path};
use crate::k8s::kubeconfig::{Kubeconfig, local_server};
use crate::k8s::names;

use super::file::File;
use super::ledger::Ledger;
use super::phase::{Drift, PhaseId, Subject};
use super::progress::Progress;
use super::state::{Effect, Facts, PackageFacts};

/// What a phase is given.
#[derive(Debug, Clone)]
pub struct Context {
    /// The doors.
    pub host: Host,
    /// The wish.
    pub node: Arc<Node>,
    /// The phase this context belongs to.
    pub phase: PhaseId,
    /// What the machine told, and what was done to it.
    pub ledger: Ledger,
    /// Where events go.
    pub progress: Progress,
    /// What somebody else changed and is to be ours again: subjects, or `all`.
    pub force: Arc<Vec<String>>,
    clients: Arc<Mutex<HashMap<String, Arc<dyn Api>>>>,
    offline: Arc<AtomicBool>,
}

impl Context {
    /// A context for the phases of one run.
    pub fn new(host: Host, node: Arc<Node>, ledger: Ledger, progress: Progress, force: Vec<String>) -> Context {
        let (clients, offline) = (Arc::default(), Arc::default());
        Context { host, node, phase: PhaseId(""), ledger, progress, force: Arc::new(force), clients, offline }
    }
    /// The same for one phase.
    #[must_use]
    pub fn for_phase(&self, phase: PhaseId) -> Context {
        Context { phase, progress: self.progress.for_phase(phase), ..self.clone() }
    }

    /// What the machine told so far.
    pub fn facts(&self) -> Facts {
        self.ledger.facts()
    }
    /// Remembers what the machine told; durable with the phase's record.
    pub fn learn(&self, learn: impl FnOnce(&mut Facts)) {
        self.ledger.learn(learn);
    }
    /// The node's name: the configuration's, or the host's.
    pub fn node_name(&self) -> Result<String> {
        match &self.node.registration.name {
            Auto::Set(name) => Ok(name.clone()),
            Auto::Auto => self.facts().node_name.ok_or_else(|| unknown("the node's name", "network")),
        }
    }
    /// The API server's address on this machine: the configuration's, or the frozen fact.
    pub fn advertise_address(&self) -> Result<IpAddr> {
        match self.node.advertise_address {
            Auto::Set(address) => Ok(address),
            Auto::Auto => self.facts().advertise_address.ok_or_else(|| unknown("the advertise address", "network")),
        }
    }
    /// What the package says about itself.
    pub fn package(&self) -> Result<PackageFacts> {
        self.facts().package.ok_or_else(|| unknown("the package", "package"))
    }
    /// The Kubernetes version: the configuration's, or the package's.
    pub fn kubernetes_version(&self) -> Result<KubernetesVersion> {
        match &self.node.cluster.kubernetes_version {
            Auto::Set(version) => Ok(version.clone()),
            Auto::Auto => self
                .package()?
                .kubernetes_version
                .parse()
                .map_err(|why: String| Error::config("reading the Kubernetes version of the package").because(why)),
        }
    }
    /// The cluster: the wish of the machine that founds it; for one that joins, what the cluster says about itself.
    pub fn cluster(&self) -> Result<Cluster> {
        if self.node.join().is_none() {
            return Ok(self.node.cluster.clone());
        }
        let path = names::JOIN_CLUSTER_CONFIGURATION;
        let text = self.host.root.read_text(path)?;
        let text = text.ok_or_else(|| Error::transient(format!("reading {path}")).because("it has not been fetched yet"))?;
        config::fetched::cluster(&text, path)
    }

    /// Goes on without the API server, which cannot be reached: this machine was a node before. The run ends as `offline`.
    pub fn go_on_offline(&self, why: &Error) {
        self.say(format!("goes on without the API server: {why}"));
        self.offline.store(true, Ordering::Relaxed);
    }
    /// The API server answers after all: what was said before, by a look that came to nothing, does not count.
    pub fn found_online(&self) {
        self.offline.store(false, Ordering::Relaxed);
    }
    /// Whether any phase went on without the API server.
    pub fn is_offline(&self) -> bool {
        self.offline.load(Ordering::Relaxed)
    }

    /// The three-way comparison of files: what is missing, torn or ours and different is a change; what parses and differs and is
    /// not ours is kept and reported, unless `--force` names it. A wrong mode on a file of ours is a change.
    pub fn compare(&self, files: &[File]) -> Result<Drift> {
        self.ledger.compare(&self.host.root, files, &self.force)
    }
    /// Places files through the ledger: one flush for the ledger and the temporaries, the ledger visible first. Files that somebody
    /// else changed are left alone as in [`Context::compare`]. Calls of phases that run at the same time share one flush.
    pub async fn place(&self, files: Vec<File>) -> Result<Changed> {
        self.ledger.place(&self.host, self.phase, files, &self.force).await
    }
    /// Places a symbolic link through the ledger.
    pub async fn place_link(&self, path: impl AsRef<Utf8Path>, target: impl AsRef<Utf8Path>) -> Result<Changed> {
        self.ledger.place_link(&self.host, self.phase, path.as_ref(), target.as_ref()).await
    }
    /// Notes an effect, durably, before it is made.
    pub async fn note(&self, effect: Effect) -> Result<()> {
        self.ledger.note(&self.host, self.phase, vec![effect]).await
    }
    /// Notes several effects with one flush.
    pub async fn note_all(&self, effects: Vec<Effect>) -> Result<()> {
        self.ledger.note(&self.host, self.phase, effects).await
    }
    /// Whether the content that stands at `path` was written by us.
    pub fn is_ours(&self, path: impl AsRef<Utf8Path>) -> Result<bool> {
        self.ledger.is_ours(&self.host.root, path.as_ref())
    }
    /// Whether `--force` names this subject.
    pub fn is_forced(&self, subject: &Subject) -> bool {
        super::ledger::is_forced(&self.force, subject)
    }
    /// Whether this phase's record says that its [`super::phase::Lasting::Once`] effect was made for these inputs.
    pub fn recorded_object(&self, object: &str) -> Option<String> {
        self.ledger.recorded_object(object)
    }

    /// Says what this phase waits for; shown in STATUS=, status.json and on the terminal until it ends or says something else.
    pub fn waiting_for(&self, reason: impl AsRef<str>) {
        self.progress.waiting(reason.as_ref());
    }
    /// Says something worth a line in the journal (`made again: expired 2026-10-01`).
    pub fn say(&self, line: impl AsRef<str>) {
        self.progress.say(line.as_ref());
    }

    /// A client from a kubeconfig on this machine (by path). On a control plane it talks to this machine's own API server, on a worker
    /// to the one that the kubeconfig names. Memoized per run.
    pub fn api_with(&self, kubeconfig: &str) -> Result<Arc<dyn Api>> {
        if let Some(api) = self.clients.lock().expect("no panic while it is held").get(kubeconfig) {
            return Ok(api.clone());
        }
        let text = self
            .host
            .root
            .read_text(kubeconfig)?
            .ok_or_else(|| Error::transient(format!("reading {kubeconfig}")).because("it does not exist yet"))?;
        let server = match self.node.role {
            Role::ControlPlane => local_server(self.advertise_address()?, self.node.bind_port),
            Role::Worker => {
                let parsed = Kubeconfig::parse(text.as_bytes());
                parsed.map_err(|why| Error::host(format!("reading {kubeconfig}")).because(why))?.server
            }
        };
        let api = self.host.api.connect(&text, &server)?;
        self.clients.lock().expect("no panic while it is held").insert(kubeconfig.to_owned(), api.clone());
        Ok(api)
    }
    /// A client that was made in this run under this name: phases share its connection.
    pub fn kept_api(&self, name: &str) -> Option<Arc<dyn Api>> {
        self.clients.lock().expect("no panic while it is held").get(name).cloned()
    }
    /// Forgets the client of a kubeconfig that has been replaced.
    pub fn forget_api(&self, name: &str) {
        self.clients.lock().expect("no panic while it is held").remove(name);
    }
    /// Keeps a client for the phases that follow in this run.
    pub fn keep_api(&self, name: &str, api: &Arc<dyn Api>) {
        self.clients.lock().expect("no panic while it is held").insert(name.to_owned(), api.clone());
    }
    /// The client with the most rights that this machine has: super-admin.conf where it is, then admin.conf; on a worker the kubelet's,
    /// which may read and change its own Node and little else.
    pub fn api(&self) -> Result<Arc<dyn Api>> {
        if self.node.role == Role::Worker {
            return self.api_with(names::KUBELET_CONF);
        }
        let path =
            if self.host.root.read(names::SUPER_ADMIN_CONF)?.is_some() { names::SUPER_ADMIN_CONF } else { names::ADMIN_CONF };
        self.api_with(path)
    }
    /// What an object is called in plans and in the ledger: `Kind namespace/name`.
    pub fn object_name(object: &Value) -> String {
        crate::host::api::object_name(object)
    }
}

fn unknown(what: &str, phase: &str) -> Error {
    Error::internal(format!("asking for {what}")).because(format!("the phase '{phase}' has not told it yet"))
}
