//! `edgeboot status`: how the last run stands or ended, from /run/edgeboot/status.json.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use crate::engine::progress::{PhaseState, RunResult, Status};
use crate::error::{Error, Result};
use crate::host::Root;
use crate::k8s::names;

use super::approve::{self, Left};
use super::{Global, Output, failed, follow, print, print_value};

/// `edgeboot status`.
#[derive(Debug, Args)]
pub struct StatusCommand {
    /// Shows the run that is under way, or the next one, until it ends; its exit code is that of the run.
    #[arg(long)]
    follow: bool,
    /// With --follow: how long at most, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
}

impl StatusCommand {
    /// Prints it.
    pub async fn run(&self, global: &Global) -> ExitCode {
        if self.follow {
            return match follow::watch(global, Duration::from_secs(self.timeout)).await {
                Ok(status) => follow::conclude(global, &status),
                Err(error) => failed(&error),
            };
        }
        match Self::print(global) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        }
    }

    fn print(global: &Global) -> Result<()> {
        let root = Root::machine()?;
        let Some(status) = read(&root)? else {
            return Err(Error::host(format!("reading {}", names::STATUS))
                .because("edgeboot has not run since this machine was switched on")
                .hint("`systemctl status edgeboot` says why; `edgeboot reconcile` runs it now"));
        };
        let left = approve::left(&root)?;
        match global.output {
            output @ (Output::Json | Output::Yaml) => print_value(output, &whole(&status, &left)?),
            Output::Text => {
                print(&render(&status));
                for Left { request, node, reason } in &left {
                    print(&format!("left to you: {request} of {node}: {reason}"));
                }
                Ok(())
            }
        }
    }
}

/// The status, and the certificate requests that are left to a person where there are any.
fn whole(status: &Status, left: &[Left]) -> Result<Value> {
    let failed = |error| Error::internal("writing the status").because(error);
    let mut value = serde_json::to_value(status).map_err(failed)?;
    if !left.is_empty() {
        value["certificateRequestsLeft"] = serde_json::to_value(left).map_err(failed)?;
    }
    Ok(value)
}

/// The last status; `None` when there was no run since boot.
pub fn read(root: &Root) -> Result<Option<Status>> {
    let Some(bytes) = root.read(names::STATUS)? else { return Ok(None) };
    let status =
        serde_json::from_slice(&bytes).map_err(|error| Error::host(format!("reading {}", names::STATUS)).because(error))?;
    Ok(Some(status))
}

/// The status for people.
pub fn render(status: &Status) -> String {
    let mut text = status.line();
    for phase in &status.phases {
        let word = match phase.state {
            PhaseState::Pending if status.result == RunResult::Running => "waits its turn".to_owned(),
            PhaseState::Pending => "not reached".to_owned(),
            PhaseState::Running if phase.waiting_for.is_empty() => format!("at work ({:.1} s)", phase.seconds),
            PhaseState::Running => format!("waits for {} ({:.1} s)", phase.waiting_for, phase.seconds),
            PhaseState::Done => format!("done ({:.1} s)", phase.seconds),
            PhaseState::Unchanged => "nothing to do".to_owned(),
            PhaseState::Failed => "failed".to_owned(),
        };
        let _ = write!(text, "\n  {:<40} {word}", phase.id);
        for kept in &phase.kept {
            let _ = write!(text, "\n    kept: {kept}");
        }
    }
    if let Some(failure) = &status.error {
        let _ = write!(text, "\nfailed ({}): {}", failure.kind, failure.message);
        if !failure.hint.is_empty() {
            let _ = write!(text, "\n  hint: {}", failure.hint);
        }
    }
    text
}
