//! `edgeboot version`.

use clap::Args;
use serde_json::json;

use crate::error::Result;

use super::{Global, Output, print, print_value};

/// `edgeboot version`.
#[derive(Debug, Args)]
pub struct Version {}

impl Version {
    /// Prints it.
    pub fn run(&self, global: &Global) -> Result<()> {
        let version = env!("CARGO_PKG_VERSION");
        match global.output {
            output @ (Output::Json | Output::Yaml) => {
                print_value(output, &json!({ "edgeboot": version, "architecture": std::env::consts::ARCH }))
            }
            Output::Text => {
                print(&format!("edgeboot {version} ({})", std::env::consts::ARCH));
                Ok(())
            }
        }
    }
}
