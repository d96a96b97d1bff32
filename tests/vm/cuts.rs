//! The power is cut while edgeboot makes a node: what was not flushed is gone, and yet no file is torn, and the next boot goes on.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::vm::Vm;
use super::whole;

/// Generous: QEMU translates each instruction, and the machine is shared.
const BEGUN: Duration = Duration::from_secs(900);
const READY: Duration = Duration::from_secs(3600);

/// Boot by boot, the phase that has begun and for how many seconds when the power is cut: while the package is unpacked, twice; while
/// keys are made; while these are used; while the state, the manifests and the first image go to the disk.
const MOMENTS: [(&str, u64); 5] = [("package", 1), ("package", 9), ("certs/ca", 0), ("kubeconfig/admin", 0), ("images/first", 3)];

/// Cuts the power when edgeboot has begun a phase and worked on it for so long; the phases that had begun.
fn cut_in(vm: &Vm, (phase, seconds): (&str, u64)) -> Result<Vec<String>> {
    let status = vm.begun(phase, seconds, BEGUN)?;
    vm.cut()?;
    Ok(begun(&status))
}

fn begun(status: &Value) -> Vec<String> {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let phases = status["phases"].as_array().into_iter().flatten().map(|phase| (word(&phase["id"]), word(&phase["state"])));
    phases.filter(|(_, state)| state != "pending").map(|(id, state)| format!("{id} {state}")).collect()
}

/// One cut, early; the next boot's run finds whole files and goes on.
pub fn once() -> Result<()> {
    let vm = Vm::up("cut", &[])?;
    cut_in(&vm, ("package", 5))?;
    whole::check(&vm)?;
    vm.on()?;
    cut_in(&vm, ("certs/ca", 0))?;
    whole::check(&vm).map(drop)
}

/// Five cuts, each in the boot after the one before; the last boot is carried on to Ready.
pub fn five_times() -> Result<()> {
    let vm = Vm::up("cuts", &[])?;
    for moment in MOMENTS {
        let begun = cut_in(&vm, moment)?;
        let found = whole::check(&vm)?;
        eprintln!("cut {} s after {}: {found} of our files on the disk; {}", moment.1, moment.0, begun.join(", "));
        vm.on()?;
    }
    let status = vm.until("ready", READY, |status| status["result"] == "ready")?;
    ensure!(status["error"].is_null(), "{status:#}");
    vm.serves()?;
    vm.off()?;
    let found = whole::check(&vm)?;
    ensure!(found > 30, "the ledger holds too little: {found} files");
    Ok(())
}
