//! `edgeboot phase list`: the table of phases, as it is.

use clap::Subcommand;
use serde_json::json;

use crate::error::Result;
use crate::phases;

use super::{Global, Output, print, print_value};

/// `edgeboot phase …`
#[derive(Debug, Subcommand)]
pub enum PhaseCommand {
    /// Lists every phase in boot order: its id (for --skip-phases and `init phase`), what it does and what it waits for.
    List,
}

impl PhaseCommand {
    /// Prints the table.
    pub fn run(&self, global: &Global) -> Result<()> {
        let table = phases::table();
        match global.output {
            output @ (Output::Json | Output::Yaml) => {
                let rows: Vec<_> = table
                    .iter()
                    .map(|phase| {
                        let after: Vec<&str> = phase.after().iter().map(|id| id.0).collect();
                        json!({ "id": phase.id().0, "summary": phase.summary(), "after": after })
                    })
                    .collect();
                print_value(output, &rows)
            }
            Output::Text => {
                let width = table.iter().map(|phase| phase.id().0.len()).max().unwrap_or(0);
                for phase in &table {
                    print(&format!("{:width$}  {}", phase.id().0, phase.summary()));
                }
                Ok(())
            }
        }
    }
}
