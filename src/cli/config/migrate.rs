//! `edgeboot config migrate`: kubeadm's command of that name.

use clap::Args;

use crate::config::findings::{Finding, Level};
use crate::config::{failure, migrate};
use crate::error::{Error, Result};
use crate::host::Root;

use super::super::init::absolute;
use super::super::{print, print_error};

/// `edgeboot config migrate`.
#[derive(Debug, Clone, Args)]
pub struct Migrate {
    /// The configuration of before.
    #[arg(long, value_name = "FILE")]
    old_config: String,
    /// Where the new one is written, 0600; by default it is printed.
    #[arg(long, value_name = "FILE")]
    new_config: Option<String>,
}

impl Migrate {
    /// Writes or prints it.
    pub fn run(&self) -> Result<()> {
        let root = Root::machine()?;
        let text = self.text(&root)?;
        if let Some(path) = &self.new_config {
            // It may hold tokens.
            return root.put(absolute(path)?, 0o600, text.as_bytes()).map(drop);
        }
        print(text.trim_end());
        Ok(())
    }

    fn text(&self, root: &Root) -> Result<String> {
        let path = &self.old_config;
        let absent = || Error::usage(format!("reading {path}")).because("there is no such file");
        let bytes = root.read(absolute(path)?)?.ok_or_else(absent)?;
        let migrated = migrate::migrate(path, &bytes);
        let errors = migrated.findings.iter().filter(|finding| finding.level == Level::Error).count();
        if errors > 0 {
            return Err(failure(&migrated.findings, errors));
        }
        for warning in migrated.findings.iter().map(Finding::render) {
            print_error(&warning);
        }
        Ok(migrated.text)
    }
}
