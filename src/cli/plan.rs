//! `edgeboot plan`: what `reconcile` would change, and what each change disrupts, without changing anything.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::engine::phase::{Disruption, Drift, PhaseId};
use crate::engine::run;
use crate::error::Result;

use super::session::{Prepared, Session};
use super::{Global, Output, failed, print, print_value};

/// `edgeboot plan`.
#[derive(Debug, Args)]
pub struct PlanCommand {
    /// Exits with 2 when there is something to do, with 0 when there is not.
    #[arg(long)]
    exit_code: bool,
}

impl PlanCommand {
    /// Looks, and prints what it sees.
    pub async fn run(&self, global: &Global) -> ExitCode {
        match self.look(global).await {
            Ok(todo) if todo && self.exit_code => ExitCode::from(2),
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        }
    }

    async fn look(&self, global: &Global) -> Result<bool> {
        let session = Session::quiet()?;
        let Prepared::Node(prepared) = session.prepare(&[], &[])? else {
            print("no configuration: nothing to do");
            return Ok(false);
        };
        let table = crate::phases::table();
        let plan = prepared.plan(&table)?;
        let looked = run::look(&prepared.cx, &plan).await?;
        match global.output {
            output @ (Output::Json | Output::Yaml) => {
                let rows: Vec<_> = looked.iter().map(|(id, drift)| json!({ "phase": id.0, "drift": drift })).collect();
                print_value(output, &rows)?;
            }
            Output::Text => print(&render(&looked)),
        }
        Ok(looked.iter().any(|(_, drift)| !drift.is_none()))
    }
}

/// What a plan says, for people.
pub fn render(looked: &[(PhaseId, Drift)]) -> String {
    let mut text = String::new();
    for (id, drift) in looked.iter().filter(|(_, drift)| !drift.is_none() || !drift.kept.is_empty()) {
        let _ = writeln!(text, "{id}");
        for change in &drift.changes {
            let action = format!("{:?}", change.action).to_lowercase();
            let why = if change.reason.is_empty() { String::new() } else { format!(" ({})", change.reason) };
            let disrupts = match change.disrupts {
                Disruption::Nothing => "",
                Disruption::ControlPlane => ", restarts a component of the control plane",
                Disruption::Kubelet => ", restarts the kubelet",
                Disruption::Workloads => ", restarts pods",
            };
            let _ = writeln!(text, "  {action} {}{why}{disrupts}", change.subject);
        }
        if let Some(blocker) = &drift.blocked {
            let _ = writeln!(text, "  not known yet: {}", blocker.0);
        }
        for kept in &drift.kept {
            let _ = writeln!(text, "  keeps {}: {}", kept.subject, kept.difference);
        }
    }
    let todo = looked.iter().filter(|(_, drift)| !drift.is_none()).count();
    match todo {
        0 => text.push_str("nothing to do"),
        _ => {
            let _ = write!(text, "{todo} of {} phases have something to do", looked.len());
        }
    }
    text
}
