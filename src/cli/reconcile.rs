//! `edgeboot reconcile`: makes the machine what its configuration says. In place as the boot's unit does it, or by starting
//! edgeboot-reconcile.service and following it.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::sync::watch;

use crate::config;
use crate::config::sources::kernel_command_line;
use crate::engine::ledger::Ledger;
use crate::engine::plan::{Plan, is_within};
use crate::engine::progress::RunResult;
use crate::error::{Error, Kind, Result};
use crate::host::lock::{self, Attempt};
use crate::host::{Deadline, Utf8Path, notify};
use crate::k8s::names;
use crate::phases;

use super::listeners::{Journal, StatusFile, Systemd, Terminal};
use super::session::{Ended, HELD, Prepared, Session, require_root, require_systemd, stop_signal};
use super::{Global, Output, failed, follow, print, print_error, print_value};

/// The phases whose files edgeboot-mend repairs before containerd and the kubelet start: from what is on the machine, without
/// network, packages or anybody's answer.
const LOCAL: [&str; 7] = [
    "certs",
    "kubeconfig",
    "etcd",
    "control-plane",
    "control-plane-prepare/certs",
    "control-plane-prepare/kubeconfig",
    "control-plane-prepare/control-plane",
];

/// How often a run follows a configuration that changes under it; then the 15-minute timer does.
const ROUNDS: u32 = 5;

/// How often a boot that waits for a configuration looks for one.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// `edgeboot reconcile`.
#[derive(Debug, Args)]
pub struct Reconcile {
    /// Runs in this process instead of edgeboot-reconcile.service.
    #[arg(long)]
    foreground: bool,
    /// Only mends torn or missing files of a node that was whole before, from what is on the machine; never fails (the boot's
    /// edgeboot-mend.service).
    #[arg(long)]
    local: bool,
    /// Makes ours again what somebody else changed: a subject as `edgeboot plan` names it, or `all`.
    #[arg(long, value_name = "SUBJECT", num_args = 0..=1, default_missing_value = "all", require_equals = true)]
    force: Vec<String>,
    /// Says that this machine is the node whose disk it has, in new hardware or with another machine-id: what tells it from others is
    /// recorded anew. Without it, the copy of a node's disk is refused. The machine of before must be off for good.
    #[arg(long, conflicts_with = "local")]
    adopt_machine: bool,
}

impl Reconcile {
    /// Runs it.
    pub async fn run(&self, global: &Global) -> ExitCode {
        let under_systemd = notify::is_wanted();
        if self.local {
            return self.mend().await;
        }
        if self.adopt_machine
            && let Err(error) = self.adopt(under_systemd).await
        {
            return failed(&error);
        }
        if !self.foreground && self.force.is_empty() && !under_systemd {
            return follow::reconcile(global).await;
        }
        match self.in_place(global, under_systemd).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) if under_systemd => ExitCode::from(error.kind().exit_code()),
            Err(error) => failed(&error),
        }
    }

    async fn in_place(&self, global: &Global, under_systemd: bool) -> Result<()> {
        let session = open(global, under_systemd)?;
        require_systemd(&session.host.root)?;
        let path = Utf8Path::new(names::LOCK);
        let _lock = match lock::attempt(path, "edgeboot reconcile")? {
            Attempt::Taken(lock) => lock,
            Attempt::Held(holder) if under_systemd => {
                // The other one does the work; this unit has nothing to add.
                return session.conclude(Ok(Ended::without_work(format!("edgeboot is at work already: {holder}"))));
            }
            Attempt::Held(holder) => return Err(holder.into_error(path)),
        };
        let result = session.conclude(converge(&session, &self.force, stop_signal()?).await);
        if global.output != Output::Text {
            print_value(global.output, &session.progress.status())?;
        }
        result
    }

    /// Records that this machine is the node whose state it has.
    async fn adopt(&self, under_systemd: bool) -> Result<()> {
        let session = Session::quiet()?;
        require_root(&session.host.root, "adopting the machine")?;
        let path = Utf8Path::new(names::LOCK);
        match lock::attempt(path, "edgeboot reconcile --adopt-machine")? {
            Attempt::Taken(_lock) => {
                let now = phases::identity::adopt(&session.host).await?;
                if !under_systemd {
                    print_error(&format!("this node is the machine with {now} from now on"));
                }
                Ok(())
            }
            Attempt::Held(holder) => Err(holder.into_error(path)),
        }
    }

    /// Mends what can be mended without anybody's answer. A boot goes on whatever comes of it: the exit code is 0.
    async fn mend(&self) -> ExitCode {
        if let Err(error) = mend().await {
            print_error(&format!("edgeboot: {}", error.render()));
        }
        ExitCode::SUCCESS
    }
}

/// Makes the machine what its configuration says; once more when that has changed meanwhile, for systemd does not notice what changes
/// while the unit runs that it would start.
pub async fn converge(session: &Session, force: &[String], stop: watch::Receiver<bool>) -> Result<Ended> {
    let root = &session.host.root;
    if kernel_command_line::is_disabled(root) {
        return Ok(Ended::without_work(kernel_command_line::DISABLED));
    }
    let mut rounds = 1..=ROUNDS;
    let mut wait: Option<Deadline> = None;
    loop {
        let said = config::gather(root, &[]);
        let ended = match once(session, force, stop.clone()).await {
            Ok(Round::Ended(ended)) => Ok(ended),
            Ok(Round::Missing(message, after)) => {
                let deadline = wait.get_or_insert_with(|| Deadline::after(after, "a configuration"));
                session.progress.await_configuration(&message);
                await_configuration(deadline, &message, stop.clone()).await?;
                continue;
            }
            Err(error) => Err(error),
        };
        rounds.next();
        if config::gather(root, &[]) == said || rounds.is_empty() || *stop.borrow() {
            return ended;
        }
        session.progress.say("the configuration has changed meanwhile; once more");
    }
}

/// How one round of a run ended.
enum Round {
    /// It did.
    Ended(Ended),
    /// There is no configuration, and the boot is to wait for one so long: what was looked for.
    Missing(String, Duration),
}

/// Waits a while for a configuration, as long as there is time. The places are looked at: a source may be one that tells of nothing.
async fn await_configuration(deadline: &Deadline, message: &str, mut stop: watch::Receiver<bool>) -> Result<()> {
    if deadline.passed() {
        return Err(Error::config("waiting for a configuration, as `onMissing: {action: fail}` says")
            .because(format!("{message}, for {} s", deadline.total().as_secs()))
            .hint("give it one in any of these places; it is taken as soon as it is there"));
    }
    tokio::select! {
        () = deadline.pause(LOOK_AGAIN) => Ok(()),
        _ = stop.wait_for(|stopped| *stopped) => {
            Err(Error::new(Kind::Transient, "waiting for a configuration").because("stopped by a signal"))
        }
    }
}

async fn once(session: &Session, force: &[String], stop: watch::Receiver<bool>) -> Result<Round> {
    let prepared = match session.prepare(&[], force)? {
        Prepared::Node(prepared) => prepared,
        Prepared::Unconfigured(message, Some(after)) => return Ok(Round::Missing(message, after)),
        Prepared::Unconfigured(message, None) => return Ok(Round::Ended(Ended::without_work(message))),
        Prepared::Held => return Ok(Round::Ended(Ended::without_work(HELD))),
    };
    let (prepared, outcome) = session.converge(prepared, || session.prepare(&[], force), stop).await?;
    if outcome.interrupted {
        session.progress.conclude(RunResult::Interrupted, "", None);
        return Err(Error::new(Kind::Transient, "running the phases").because("stopped by a signal"));
    }
    let online = prepared.cx.host.net.interfaces().await.is_ok_and(|interfaces| !interfaces.default_routes.is_empty());
    let online = online && !prepared.cx.is_offline();
    let result = if online { RunResult::Ready } else { RunResult::Offline };
    Ok(Round::Ended(Ended { result, message: String::new() }))
}

async fn mend() -> Result<()> {
    let session = Session::open(|_| vec![Box::new(Journal)])?;
    if kernel_command_line::is_disabled(&session.host.root) {
        return Ok(());
    }
    let Attempt::Taken(_lock) = lock::attempt(Utf8Path::new(names::LOCK), "edgeboot reconcile --local")? else { return Ok(()) };
    if let Some(refusal) = phases::identity::refusal(&session.host.root, &Ledger::load(&session.host.root)?.0.state())? {
        phases::identity::keep_kubelet(&session.host).await?;
        return Err(refusal);
    }
    let Prepared::Node(prepared) = session.prepare(&[], &[])? else { return Ok(()) };
    if prepared.cx.ledger.cluster().is_none() {
        // Nothing was whole before; the boot's own run makes it.
        return Ok(());
    }
    let table = phases::table();
    let mut plan: Plan<'_> = prepared.plan(&table)?;
    // What was never proven is no damage: the boot's own run makes it, in its order.
    plan.steps.retain(|step| {
        LOCAL.iter().any(|name| is_within(step.phase.id().0, name)) && prepared.cx.ledger.was_recorded(step.phase.id())
    });
    let ids: std::collections::BTreeSet<_> = plan.ids().into_iter().collect();
    for step in &mut plan.steps {
        step.after.retain(|id| ids.contains(id));
    }
    session.run(&prepared.cx, &plan, stop_signal()?).await?;
    Ok(())
}

/// A session whose listeners fit the place it runs in: a unit has the journal and systemd, a shell has a terminal.
pub fn open(global: &Global, under_systemd: bool) -> Result<Session> {
    Session::open(|root| {
        let mut listeners: Vec<Box<dyn crate::engine::progress::Listener>> = vec![Box::new(StatusFile(root.clone()))];
        if under_systemd {
            listeners.push(Box::new(Journal));
            listeners.push(Box::new(Systemd));
        } else if global.output == Output::Text {
            listeners.push(Box::new(Terminal::default()));
        }
        listeners
    })
}

/// Prints how a run ended, for those who only followed it.
pub fn report(global: &Global, status: &crate::engine::progress::Status) -> Result<()> {
    match global.output {
        output @ (Output::Json | Output::Yaml) => print_value(output, status),
        Output::Text => {
            print(&super::status::render(status));
            Ok(())
        }
    }
}
