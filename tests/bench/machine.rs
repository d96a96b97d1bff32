//! A machine of `image/machine`, as the benchmark uses it: one at a time, always of the same name, because certificates hold it; beside it
//! the founder of a cluster that it joins, and where control planes come together a third one.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::options::repository;

/// The machine that is measured; a name has 1 to 13 letters.
pub const MEASURED: &str = "bench";
/// The founder.
pub const FOUNDER: &str = "founder";
/// One more, where three are switched on.
pub const THIRD: &str = "third";

/// A machine; removed when dropped.
#[derive(Debug)]
pub struct Machine {
    name: &'static str,
    target: PathBuf,
}

/// Runs a command that must succeed; its standard output.
pub fn checked(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

impl Machine {
    /// A new one, switched off, that sees `share` at /usr/lib/bench.
    pub fn new(name: &'static str, target: &Path, share: &Path, options: &[&str]) -> Result<Machine> {
        let this = Machine { name, target: target.to_owned() };
        let bind = format!("--bind-ro={}:/usr/lib/bench", share.display());
        let mut words = vec!["--off", "--nspawn", &bind];
        words.extend(options);
        this.verb("up", &words)?;
        Ok(this)
    }
    fn verb(&self, verb: &str, more: &[&str]) -> Result<String> {
        let mut command = Command::new(repository().join("image/machine"));
        command.args([verb, self.name]).args(more).env("EDGEBOOT_TARGET", &self.target);
        if std::env::var_os("EDGEBOOT_MACHINES").is_none() {
            command.env("EDGEBOOT_MACHINES", self.target.join("bench/machines"));
        }
        checked(&mut command)
    }
    /// Where it and its neighbours lie.
    pub fn folder(&self) -> PathBuf {
        std::env::var_os("EDGEBOOT_MACHINES").map_or_else(|| self.target.join("bench/machines"), PathBuf::from)
    }
    /// Where its root is seen from outside.
    pub fn root(&self) -> Result<PathBuf> {
        Ok(PathBuf::from(self.verb("root", &[])?.trim()))
    }
    /// Switches it on.
    pub fn on(&self) -> Result<()> {
        self.verb("on", &[]).map(drop)
    }
    /// Runs a script inside that must succeed; its standard output.
    pub fn run(&self, script: &str) -> Result<String> {
        let journal = || self.verb("run", &["--", "journalctl", "--boot", "--no-pager", "--lines=60"]).unwrap_or_default();
        self.verb("run", &["--", "bash", "-euc", script]).map_err(|error| error.context(journal()))
    }
    /// A number of /proc/uptime or of a file that holds one.
    pub fn seconds(&self, file: &str) -> Result<f64> {
        let text = self.run(&format!("cat {file}"))?;
        text.split_whitespace().next().unwrap_or_default().parse().with_context(|| format!("{file}: {text}"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // A machine that stays is removed by the next one of its name.
        let _ = self.verb("remove", &[]);
    }
}
