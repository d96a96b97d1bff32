//! A machine that swaps, which the kubelet does not like.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::vm::{Vm, repository};

const LIMIT: Duration = Duration::from_secs(900);

fn swaps(vm: &Vm) -> Result<bool> {
    Ok(!vm.run("swapon --show --noheadings")?.trim().is_empty())
}

/// kubeadm's way: a warning.
pub fn kept() -> Result<()> {
    let vm = Vm::up("swap", &["--swap", "64M", "--append", "systemd.mask=edgeboot.service"])?;
    ensure!(swaps(&vm)?, "this machine does not swap");
    let preflight = vm.run("edgeboot preflight 2>&1 || true")?;
    ensure!(preflight.contains("Swap"), "{preflight}");
    ensure!(swaps(&vm)?, "swap was touched");
    Ok(())
}

/// `host: {swap: off}`.
pub fn off() -> Result<()> {
    let config = tempfile::NamedTempFile::new()?;
    let wish = std::fs::read_to_string(repository().join("image/vm.yaml"))?.replacen("\n---", "\nhost: {swap: off}\n---", 1);
    std::fs::write(config.path(), wish)?;
    let vm = Vm::up("swap", &["--swap", "64M", "--config", config.path().to_str().context("a path in UTF-8")?])?;
    vm.until("past the host", LIMIT, |status| {
        let phases = status["phases"].as_array().into_iter().flatten();
        phases.into_iter().any(|phase| phase["id"] == "host" && (phase["state"] == "done" || phase["state"] == "unchanged"))
    })?;
    ensure!(!swaps(&vm)?, "it still swaps");
    vm.cut()?;
    vm.on()?;
    vm.until("begun", LIMIT, |_| true)?;
    ensure!(!swaps(&vm)?, "after a boot it swaps again");
    Ok(())
}
