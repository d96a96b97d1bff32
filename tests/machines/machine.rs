//! A machine of `image/machine`, as the tests use it.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// Generous: the host is shared; a wait that ends well is never judged by its length.
pub const LIMIT: Duration = Duration::from_secs(240);

/// The repository.
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The program under test.
pub fn binary() -> PathBuf {
    repository().join("target/x86_64-unknown-linux-gnu/release/edgeboot")
}

/// What machines need and this host has not.
pub fn missing() -> Option<String> {
    let needed = ["target/package/index.json", "target/x86_64-unknown-linux-gnu/release/edgeboot", "target/base"];
    let uid = Command::new("id").arg("-u").output().ok()?;
    if uid.stdout != b"0\n" {
        return Some("they need root".to_owned());
    }
    needed.iter().find(|path| !repository().join(path).exists()).map(|path| format!("{path} is missing; `tests/run` makes it"))
}

/// A machine; removed when dropped, unless the test fails and EDGEBOOT_KEEP_MACHINES is set.
#[derive(Debug)]
pub struct Machine {
    name: String,
}

fn machine(arguments: &[&str]) -> Command {
    let mut command = Command::new(repository().join("image/machine"));
    command.args(arguments).env("EDGEBOOT_MACHINES", repository().join("target/test-machines"));
    command
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

impl Machine {
    /// A new machine with these options of `image/machine up`.
    pub fn up(name: &str, options: &[&str]) -> Result<Machine> {
        let this = Machine { name: name.to_owned() };
        let mut arguments = vec!["up", name];
        arguments.extend(options);
        checked(machine(&arguments))?;
        Ok(this)
    }
    fn verb(&self, verb: &str, more: &[&str]) -> Result<String> {
        let mut arguments = vec![verb, &self.name];
        arguments.extend(more);
        checked(machine(&arguments))
    }
    /// Copies the package into it.
    pub fn copy_package(&self, to: &str) -> Result<()> {
        let to = self.root()?.join(to.trim_start_matches('/'));
        let mut command = Command::new("cp");
        command.arg("-a").arg(repository().join("target/package")).arg(to);
        checked(command).map(drop)
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
    /// Its network cable.
    pub fn link(&self, up: bool) -> Result<()> {
        self.verb("link", &[if up { "up" } else { "down" }]).map(drop)
    }
    /// Where its root is seen from outside.
    pub fn root(&self) -> Result<PathBuf> {
        Ok(PathBuf::from(self.verb("root", &[])?.trim()))
    }
    /// Runs a command inside, whatever comes of it.
    pub fn attempt(&self, command: &str) -> Result<Output> {
        Ok(machine(&["run", &self.name, "--", "sh", "-c", command]).output()?)
    }
    /// Runs a command inside that must succeed; its standard output.
    pub fn run(&self, command: &str) -> Result<String> {
        checked(machine(&["run", &self.name, "--", "sh", "-c", command]))
    }
    /// What edgeboot says about its last run; `None` when it has not run yet.
    pub fn status(&self) -> Result<Option<Value>> {
        let output = self.attempt("cat /run/edgeboot/status.json")?;
        Ok(serde_json::from_slice(&output.stdout).ok())
    }
    /// Waits until the boot's run is over, and gives its status.
    pub fn finished(&self, most: Duration) -> Result<Value> {
        let started = Instant::now();
        let mut last = None;
        while started.elapsed() < most {
            if let Some(status) = self.status()? {
                if status["result"] != "running" {
                    return Ok(status);
                }
                last = Some(status);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        let journal = self.attempt("journalctl -b -u 'edgeboot*' -u kubelet -u containerd --no-pager | tail -n 60")?;
        bail!("not finished after {most:?}: {last:#?}\n{}", String::from_utf8_lossy(&journal.stdout));
    }
    /// Waits until the boot's run ended well.
    pub fn ready(&self, most: Duration) -> Result<Value> {
        let status = self.finished(most)?;
        if status["result"] != "ready" && status["result"] != "offline" {
            let journal = self.attempt("journalctl -b -u 'edgeboot*' --no-pager | tail -n 60")?;
            bail!("{status:#}\n{}", String::from_utf8_lossy(&journal.stdout));
        }
        Ok(status)
    }
    /// Waits until nothing is left to do, with nobody doing anything: kube-controller-manager and kube-scheduler end themselves when
    /// kube-apiserver's restart outlasts their lease, and the kubelet starts them again.
    pub fn settles(&self, most: Duration) -> Result<()> {
        let started = Instant::now();
        loop {
            let output = self.attempt("edgeboot plan --exit-code")?;
            if output.status.success() {
                return Ok(());
            }
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            ensure!(started.elapsed() < most && said.contains("await "), "still to do after {:?}: {said}", started.elapsed());
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    /// `kubectl …` with the administrator's kubeconfig.
    pub fn kubectl(&self, command: &str) -> Result<String> {
        self.run(&format!("KUBECONFIG=/etc/kubernetes/admin.conf kubectl {command}"))
    }
    /// Whether the cluster serves: its API is ready and its node is Ready.
    pub fn serves(&self) -> Result<()> {
        ensure!(self.kubectl("get --raw /readyz")? == "ok", "the API server is not ready");
        let nodes = self.kubectl("get nodes --no-headers")?;
        ensure!(nodes.lines().count() == 1 && nodes.contains(" Ready "), "the node is not Ready: {nodes}");
        Ok(())
    }
    /// The SHA-256 of a file inside.
    pub fn digest(&self, path: &str) -> Result<String> {
        Ok(self.run(&format!("sha256sum {path}"))?.split_whitespace().next().unwrap_or_default().to_owned())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::env::var_os("EDGEBOOT_KEEP_MACHINES").is_none() {
            drop(machine(&["remove", &self.name]).output());
        }
    }
}
