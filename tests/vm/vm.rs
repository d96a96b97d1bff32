//! A VM of `image/vm`, as the tests use it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// The repository.
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// What VMs need and this host has not.
pub fn missing() -> Option<String> {
    let prerequisites = Command::new(repository().join("image/prerequisites")).arg("--vm").output().ok()?;
    if !prerequisites.status.success() {
        return Some(String::from_utf8_lossy(&prerequisites.stderr).trim().to_owned());
    }
    let needed =
        ["target/package/index.json", "target/package-source/package.yaml", "target/x86_64-unknown-linux-gnu/release/edgeboot"];
    needed.iter().find(|path| !repository().join(path).exists()).map(|path| format!("{path} is missing; `tests/run` makes it"))
}

/// What edgeboot says about its run.
const STATUS: &str = "/run/edgeboot/status.json";

/// A VM; removed when dropped, unless EDGEBOOT_KEEP_MACHINES is set.
#[derive(Debug)]
pub struct Vm {
    name: &'static str,
    folder: PathBuf,
}

fn checked(mut command: Command) -> Result<String> {
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

impl Vm {
    /// A new VM with these options of `image/vm up`, switched on.
    pub fn up(name: &'static str, options: &[&str]) -> Result<Vm> {
        let this = Vm { name, folder: repository().join("target/test-vms") };
        this.verb("up", options)?;
        Ok(this)
    }

    fn command(&self, verb: &str, more: &[&str]) -> Command {
        let mut command = Command::new(repository().join("image/vm"));
        command.args([verb, self.name]).args(more).env("EDGEBOOT_VMS", &self.folder);
        command
    }

    fn verb(&self, verb: &str, more: &[&str]) -> Result<String> {
        checked(self.command(verb, more))
    }

    /// Switches it on again.
    pub fn on(&self) -> Result<()> {
        self.verb("on", &[]).map(drop)
    }

    /// Cuts its power.
    pub fn cut(&self) -> Result<()> {
        self.verb("cut", &[]).map(drop)
    }

    /// Shuts it down in order.
    pub fn off(&self) -> Result<()> {
        self.verb("off", &[]).map(drop)
    }

    /// Copies folders from the disk of a VM that is off, as its next boot will find them.
    pub fn files(&self, paths: &[&str]) -> Result<tempfile::TempDir> {
        let out = tempfile::tempdir()?;
        let mut arguments = vec![out.path().to_str().context("a path in UTF-8")?];
        arguments.extend(paths);
        self.verb("files", &arguments)?;
        Ok(out)
    }

    /// Runs a command inside; its standard output, `None` when it failed.
    pub fn attempt(&self, command: &str) -> Result<Option<String>> {
        let output = self.command("run", &["--", "sh", "-c", command]).output()?;
        Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    /// Runs a command inside that must succeed; its standard output.
    pub fn run(&self, command: &str) -> Result<String> {
        self.verb("run", &["--", "sh", "-c", command])
    }

    /// What edgeboot says about its run; `None` when it has not run since power-on.
    pub fn status(&self) -> Result<Option<Value>> {
        let text = self.attempt(&format!("cat {STATUS}"))?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Waits until the status is as it shall be, and gives it.
    pub fn until(&self, what: &str, most: Duration, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
        let started = Instant::now();
        let mut last = None;
        while started.elapsed() < most {
            if let Some(status) = self.status()? {
                if is_so(&status) {
                    return Ok(status);
                }
                last = Some(status);
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        let journal = self.attempt("journalctl -b -u 'edgeboot*' -u kubelet -u containerd --no-pager | tail -n 60")?;
        bail!("not {what} after {most:?}: {last:#?}\n{}\nconsole: {}", journal.unwrap_or_default(), self.console_end()?);
    }

    /// Waits until edgeboot has begun a phase and worked on it for so long; its status then. The waiting is done inside, so that what
    /// follows is not late by the questions and answers of a busy host.
    pub fn begun(&self, phase: &str, seconds: u64, most: Duration) -> Result<Value> {
        let begun = format!("grep -Eqs '\"id\":\"{phase}\",\"state\":\"[^p]' {STATUS}");
        let wait = format!("for i in $(seq 200); do {begun} && sleep {seconds} && exec cat {STATUS}; sleep 0.1; done; exit 1");
        let started = Instant::now();
        while started.elapsed() < most {
            if let Some(text) = self.attempt(&wait)? {
                return Ok(serde_json::from_str(&text)?);
            }
        }
        self.until(&format!("at {phase}"), Duration::from_secs(1), |_| false)
    }

    fn console_end(&self) -> Result<String> {
        let path = self.verb("console", &[])?;
        let text = String::from_utf8_lossy(&std::fs::read(Path::new(path.trim()))?).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        Ok(lines[lines.len().saturating_sub(20)..].join("\n"))
    }

    /// Whether the cluster serves: its API is ready and its node is Ready.
    pub fn serves(&self) -> Result<()> {
        ensure!(self.run("kubectl get --raw /readyz")? == "ok", "the API server is not ready");
        let nodes = self.run("kubectl get nodes --no-headers")?;
        ensure!(nodes.lines().count() == 1 && nodes.contains(" Ready "), "the node is not Ready: {nodes}");
        Ok(())
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if std::env::var_os("EDGEBOOT_KEEP_MACHINES").is_none() {
            drop(self.command("remove", &[]).output());
        }
    }
}
