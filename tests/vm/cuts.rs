//! The power is cut while edgeboot makes a node: what was not flushed is gone, and yet no file is torn, and the next boot goes on.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::vm::Vm;
use super::whole;

/// Generous: QEMU translates each instruction, and the machine is shared.
const BEGUN: Duration = Duration::from_secs(300);
const READY: Duration = Duration::from_secs(900);

/// Seconds of edgeboot's run after which the power is cut, boot by boot: the package is unpacked and keys are made, manifests are
/// written, images are imported.
const MOMENTS: [u64; 5] = [1, 4, 9, 17, 30];

/// Waits for edgeboot's run, lets it work, and cuts its power; the phases that had begun.
fn cut_after(vm: &Vm, work: Duration) -> Result<Vec<String>> {
    vm.until("begun", BEGUN, |_| true)?;
    sleep(work);
    let begun = vm.status()?.as_ref().map(begun).unwrap_or_default();
    vm.cut()?;
    Ok(begun)
}

fn begun(status: &Value) -> Vec<String> {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let phases = status["phases"].as_array().into_iter().flatten().map(|phase| (word(&phase["id"]), word(&phase["state"])));
    phases.filter(|(_, state)| state != "pending").map(|(id, state)| format!("{id} {state}")).collect()
}

/// One cut, early; the next boot's run finds whole files and goes on.
pub fn once() -> Result<()> {
    let vm = Vm::up("cut", &[])?;
    cut_after(&vm, Duration::from_secs(5))?;
    whole::check(&vm)?;
    vm.on()?;
    vm.until("making keys", BEGUN, |status| begun(status).iter().any(|phase| phase.starts_with("certs/")))?;
    vm.cut()?;
    whole::check(&vm).map(drop)
}

/// Five cuts, each in the boot after the one before; the last boot is carried on to Ready.
pub fn five_times() -> Result<()> {
    let vm = Vm::up("cuts", &[])?;
    for moment in MOMENTS {
        let begun = cut_after(&vm, Duration::from_secs(moment))?;
        let found = whole::check(&vm)?;
        eprintln!("cut after {moment} s: {found} of our files on the disk; {}", begun.join(", "));
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
