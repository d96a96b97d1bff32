//! What every run of the phases has in common: the machine, one edgeboot at a time, the configuration, the memory, the listeners, and
//! how the end becomes a result that systemd and people understand.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::config::sources::Gathered;
use crate::config::{self, FailedSource, Wish};
use crate::engine::context::Context;
use crate::engine::ledger::{Found, Ledger};
use crate::engine::phase::Phase;
use crate::engine::plan::Plan;
use crate::engine::progress::{Failure, Listener, Progress, RunResult};
use crate::engine::run::{self, Outcome};
use crate::error::{Error, Kind, Result};
use crate::host::{Host, Root, kernel};
use crate::phases;

/// What is said of a machine that `reset` holds.
pub const HELD: &str = "held after a reset; `edgeboot init` or `edgeboot join` makes it a node again";

/// The machine and who listens.
#[derive(Debug)]
pub struct Session {
    /// The doors.
    pub host: Host,
    /// Where events go.
    pub progress: Progress,
}

/// What the configuration asks for, ready to run.
#[derive(Debug)]
pub enum Prepared {
    /// There is no configuration yet: what was looked for, and how long a boot waits before it has failed, where it is to fail.
    Unconfigured(String, Option<Duration>),
    /// `reset` holds the machine: nothing is built until `init` or `join`.
    Held,
    /// A node.
    Node(Box<PreparedNode>),
}

/// A node, ready to run.
#[derive(Debug)]
pub struct PreparedNode {
    /// What phases are given.
    pub cx: Context,
}

/// How a run that did not fail ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// In one word.
    pub result: RunResult,
    /// What is to be said besides; often empty.
    pub message: String,
}

impl Ended {
    /// There was nothing to do for this run, and why.
    pub fn without_work(message: impl Into<String>) -> Ended {
        Ended { result: RunResult::Unconfigured, message: message.into() }
    }
}

impl PreparedNode {
    /// The plan for this node.
    pub fn plan<'a>(&self, table: &'a [Box<dyn Phase>]) -> Result<Plan<'a>> {
        Plan::for_node(table, &self.cx.node)
    }
}

impl Session {
    /// The machine, with these listeners.
    pub fn open(listeners: impl FnOnce(&Root) -> Vec<Box<dyn Listener>>) -> Result<Session> {
        let host = Host::machine()?;
        let listeners = listeners(&host.root);
        Ok(Session::over(host, listeners))
    }

    /// Any machine, with these listeners: the tests have one made of memory.
    pub fn over(host: Host, listeners: Vec<Box<dyn Listener>>) -> Session {
        Session { host, progress: Progress::new(listeners) }
    }

    /// The machine, with nobody listening (`plan`, `preflight`).
    pub fn quiet() -> Result<Session> {
        Session::open(|_| Vec::new())
    }

    /// Reads the configuration and the memory. `told` is what a command was told: it stands above every other source.
    pub fn prepare(&self, told: &[Gathered], force: &[String]) -> Result<Prepared> {
        let outcome = config::load(&self.host.root, told)?;
        let node = match outcome.wish {
            Wish::Nothing { looked_for, fail_after } => {
                let is_held = fail_after.is_some() && Ledger::load(&self.host.root)?.0.state().held;
                let message = format!("no configuration yet; looked for {}", looked_for.join(", "));
                return Ok(if is_held { Prepared::Held } else { Prepared::Unconfigured(message, fail_after) });
            }
            Wish::Node { node, .. } => *node,
        };
        let node = phases::join::completed(&self.host.root, node)?;
        for warning in &outcome.warnings {
            self.progress.say(&warning.render());
        }
        let (ledger, found) = Ledger::load(&self.host.root)?;
        if ledger.state().held {
            return Ok(Prepared::Held);
        }
        phases::identity::settle(&self.host.root, &ledger, &self.progress)?;
        if found == Found::Damaged {
            self.progress.say(&format!("{} is damaged; asking the machine itself", crate::k8s::names::STATE));
        }
        let cx = Context::new(self.host.clone(), Arc::new(node), ledger, self.progress.clone(), force.to_vec());
        refuse_to_found_blindly(&cx, &outcome.failed_sources)?;
        Ok(Prepared::Node(Box::new(PreparedNode { cx })))
    }

    /// Makes the machine what was prepared. A further control plane learns from the cluster what the rest of its plan is made from:
    /// it goes so far first, and `again` prepares it with what it has learned.
    pub async fn converge(
        &self,
        prepared: Box<PreparedNode>,
        again: impl FnOnce() -> Result<Prepared>,
        stop: watch::Receiver<bool>,
    ) -> Result<(Box<PreparedNode>, Outcome)> {
        let table = phases::table();
        let host = &self.host;
        phases::identity::let_kubelet_start(host).await?;
        if !phases::join::awaits_cluster(&host.root, &prepared.cx.node)? {
            let outcome = self.run(&prepared.cx, &prepared.plan(&table)?, stop).await?;
            return Ok((prepared, outcome));
        }
        let first = prepared.plan(&table)?.until(phases::join::CLUSTER_CONFIGURATION);
        let outcome = self.run(&prepared.cx, &first, stop.clone()).await?;
        match again()? {
            Prepared::Node(prepared) if !outcome.interrupted => {
                let outcome = self.run(&prepared.cx, &prepared.plan(&table)?, stop).await?;
                Ok((prepared, outcome))
            }
            _ => Ok((prepared, outcome)),
        }
    }

    /// Runs a plan to its end, makes what was learned durable, and says how it ended.
    pub async fn run(&self, cx: &Context, plan: &Plan<'_>, stop: watch::Receiver<bool>) -> Result<Outcome> {
        let mut outcome = run::run(cx, plan, stop).await;
        let saved = cx.ledger.save(&cx.host).await;
        if let Ok(name) = cx.node_name() {
            self.progress.name_node(&name);
        }
        if let Some((_, error)) = first_failure(&mut outcome) {
            return Err(error);
        }
        saved.map(|()| outcome)
    }

    /// Says how a run ended, and passes its failure on.
    pub fn conclude(&self, ended: Result<Ended>) -> Result<()> {
        match ended {
            Ok(Ended { result, message }) => {
                self.progress.conclude(result, &message, None);
                Ok(())
            }
            Err(error) => {
                // A phase that failed has said so already; the picture keeps the first failure.
                let known = self.progress.status().error.is_some();
                let failure = (!known).then(|| Failure::of("", &error));
                self.progress.conclude(RunResult::Failed, "", failure);
                Err(error)
            }
        }
    }
}

/// Asks the machine what a phase that runs alone may be made from: the clock, the network, the package.
pub async fn ask_the_machine(cx: &Context) {
    let table = phases::table();
    for fact in ["clock", "network", "package"] {
        for step in Plan::single(&table, &cx.node, fact).map(|plan| plan.steps).unwrap_or_default() {
            // Not knowing is a failure only for one that asks.
            let _ = step.phase.inspect(&cx.for_phase(step.phase.id())).await;
        }
    }
}

/// `doing` needs root.
pub fn require_root(root: &Root, doing: &str) -> Result<()> {
    match kernel::effective_user(root)? {
        Some(0) | None => Ok(()),
        Some(user) => {
            let error = Error::host(doing).because(format!("it needs root, and this is user {user}"));
            Err(error.hint("run it as root, for instance by `sudo`"))
        }
    }
}

/// Refuses to work without systemd, before anything is touched: everything a run makes is started by it.
pub fn require_systemd(root: &Root) -> Result<()> {
    // sd_booted(3): the folder is there exactly when systemd is PID 1.
    if root.metadata("/run/systemd/system")?.is_some() {
        return Ok(());
    }
    Err(Error::host("looking for systemd")
        .because("it does not run here (/run/systemd/system is missing)")
        .hint("edgeboot needs systemd as the service manager; in a container, start it with systemd as PID 1"))
}

/// A source that failed may have held the wish to join: without a cluster here, none is founded while it cannot be asked. Who joins
/// makes no CA, and does not wait for it.
fn refuse_to_found_blindly(cx: &Context, failed: &[FailedSource]) -> Result<()> {
    let Some(source) = failed.first().filter(|_| cx.node.join().is_none()) else { return Ok(()) };
    if phases::cluster::cluster_is_here(cx)?.is_some() {
        return Ok(());
    }
    Err(Error::transient(format!("reading the configuration from {}", source.origin))
        .because(source.why.clone())
        .hint("no cluster is founded while a source cannot be asked; mend or remove it, then run `edgeboot reconcile`"))
}

/// The failure that decides the exit code: one that trying again does not mend comes before one that passes by itself.
fn first_failure(outcome: &mut Outcome) -> Option<(crate::engine::phase::PhaseId, Error)> {
    let lasting = outcome.failed.iter().position(|(_, error)| error.kind() != Kind::Transient);
    let index = lasting.or(if outcome.failed.is_empty() { None } else { Some(0) })?;
    let (id, error) = outcome.failed.swap_remove(index);
    Some((id, error.while_doing(id.0)))
}

/// Becomes true at SIGTERM or SIGINT: running phases finish, nothing new starts.
pub fn stop_signal() -> Result<watch::Receiver<bool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).map_err(|error| Error::host("listening for signals").because(error));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let (tell, told) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        // Nobody left to tell: the run is over.
        let _ = tell.send(true);
    });
    Ok(told)
}
