//! Following a run that systemd does: start edgeboot-reconcile.service, or join the boot's run that is under way, and show it from
//! /run/edgeboot/status.json as it is written.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use crate::engine::progress::{PhaseState, RunResult, Status};
use crate::error::{Error, Kind, Result};
use crate::host::watch::Watch;
use crate::host::{Deadline, Host, Root, Utf8Path};

use super::session::require_systemd;
use super::{Global, Output, failed, print_error, reconcile, status};

/// What a boot runs.
pub const BOOT_UNIT: &str = "edgeboot.service";
/// What everybody else starts.
pub const RECONCILE_UNIT: &str = "edgeboot-reconcile.service";
/// Longer than any run whose phases keep their own deadlines.
const LONGEST_RUN: Duration = Duration::from_secs(30 * 60);

/// Lets systemd reconcile, and follows.
pub async fn reconcile(global: &Global) -> ExitCode {
    match follow(global).await {
        Ok(status) => conclude(global, &status),
        Err(error) => failed(&error),
    }
}

/// Prints how a run ended, and passes its exit code on.
pub fn conclude(global: &Global, status: &Status) -> ExitCode {
    if let Err(error) = reconcile::report(global, status) {
        return failed(&error);
    }
    match (&status.result, &status.error) {
        (RunResult::Failed | RunResult::Interrupted, Some(failure)) => ExitCode::from(exit_code(&failure.kind)),
        (RunResult::Failed | RunResult::Interrupted | RunResult::Running, _) => ExitCode::from(75),
        _ => ExitCode::SUCCESS,
    }
}

fn exit_code(kind: &str) -> u8 {
    let kinds = [Kind::Usage, Kind::Config, Kind::Rejected, Kind::Transient, Kind::Host, Kind::Internal];
    let named = kinds.into_iter().find(|other| crate::engine::progress::kind_word(*other) == kind);
    named.unwrap_or(Kind::Internal).exit_code()
}

/// Starts the unit, or joins the boot's, and shows what it does until its job ends.
pub async fn follow(global: &Global) -> Result<Status> {
    let host = Host::machine()?;
    require_systemd(&host.root)?;
    let booting = host.systemd.status(BOOT_UNIT).await?.is_some_and(|unit| unit.active_state == "activating");
    let unit = if booting { BOOT_UNIT } else { RECONCILE_UNIT };
    let watch = watch_status(&host.root)?;
    let before = status::read(&host.root)?.map(|status| status.run);
    let deadline = Deadline::after(LONGEST_RUN, format!("{unit} to finish"));
    let job = host.systemd.start(unit, &deadline);
    tokio::pin!(job);
    let mut shown = Shown::default();
    let ended = loop {
        tokio::select! {
            ended = &mut job => break ended,
            () = watch.changed(Duration::from_secs(1)) => {
                if let Some(status) = status::read(&host.root)?.filter(|status| booting || Some(status.run) != before) {
                    shown.show(global, &status);
                }
            }
        }
    };
    let status = status::read(&host.root)?.filter(|status| booting || Some(status.run) != before);
    match (status, ended) {
        (Some(status), _) => {
            shown.show(global, &status);
            Ok(status)
        }
        (None, Err(error)) => Err(error),
        (None, Ok(_)) => Err(Error::host(format!("following {unit}"))
            .because("it ended without a word")
            .hint(format!("`journalctl -u {unit} -b` shows what it said"))),
    }
}

/// Shows the run that is under way, or the next one to start, until it ends; starts nothing.
pub async fn watch(global: &Global, most: Duration) -> Result<Status> {
    let root = Root::machine()?;
    let watch = watch_status(&root)?;
    let deadline = Deadline::after(most, "a run of edgeboot to end");
    let mut shown = Shown::default();
    loop {
        if let Some(status) = status::read(&root)? {
            shown.show(global, &status);
            if status.result != RunResult::Running {
                return Ok(status);
            }
        }
        if deadline.passed() {
            return Err(deadline.exceeded());
        }
        watch.changed(Duration::from_secs(1).min(deadline.left())).await;
    }
}

fn watch_status(root: &Root) -> Result<Watch> {
    let folder = Utf8Path::new("/run/edgeboot");
    if root.metadata(folder)?.is_none() {
        root.make_dir(folder, 0o755)?;
    }
    Watch::folder(folder)
}

/// What of a run was shown already.
#[derive(Debug, Default)]
struct Shown {
    done: BTreeSet<String>,
    waiting: BTreeSet<String>,
}

impl Shown {
    fn show(&mut self, global: &Global, status: &Status) {
        if global.output != Output::Text {
            return;
        }
        for phase in status.phases.iter().filter(|phase| phase.state == PhaseState::Done) {
            if self.done.insert(phase.id.clone()) {
                print_error(&format!("[{:6.1} s] {}: done ({:.1} s)", status.seconds, phase.id, phase.seconds));
            }
        }
        let waits = status.phases.iter().filter(|phase| phase.state == PhaseState::Running && !phase.waiting_for.is_empty());
        for phase in waits {
            if self.waiting.insert(format!("{} {}", phase.id, phase.waiting_for)) {
                print_error(&format!("[{:6.1} s] {} waits for {}", status.seconds, phase.id, phase.waiting_for));
            }
        }
    }
}
