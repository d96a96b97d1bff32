//! `edgeboot preflight`: looks whether this machine can become a node; all findings at once.

use std::process::ExitCode;

use clap::Args;

use crate::error::Result;
use crate::phases::preflight::{self, Level};

use super::session::{Prepared, Session};
use super::{Global, Output, failed, print, print_value};

/// `edgeboot preflight`.
#[derive(Debug, Args)]
pub struct Preflight {
    /// Checks whose errors are shown as warnings, by name, separated by commas; `all` for all.
    #[arg(long, value_name = "CHECK", value_delimiter = ',')]
    ignore_preflight_errors: Vec<String>,
}

impl Preflight {
    /// Runs the checks and prints what they find.
    pub async fn run(&self, global: &Global) -> ExitCode {
        match self.look(global).await {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(69),
            Err(error) => failed(&error),
        }
    }

    async fn look(&self, global: &Global) -> Result<bool> {
        let session = Session::quiet()?;
        let Prepared::Node(mut prepared) = session.prepare(&[], &[])? else {
            print("no configuration: nothing to check against");
            return Ok(true);
        };
        let node = std::sync::Arc::make_mut(&mut prepared.cx.node);
        node.registration.ignore_preflight_errors.extend(self.ignore_preflight_errors.iter().map(|name| name.to_lowercase()));
        let findings = preflight::findings(&prepared.cx).await?;
        match global.output {
            output @ (Output::Json | Output::Yaml) => print_value(output, &findings)?,
            Output::Text if findings.is_empty() => print("this machine can become a node"),
            Output::Text => {
                for finding in &findings {
                    print(&format!("{:?} {}", finding.level, finding.line()));
                }
            }
        }
        Ok(findings.iter().all(|finding| finding.level != Level::Error))
    }
}
