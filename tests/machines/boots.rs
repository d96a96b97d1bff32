//! A machine is switched on and becomes a cluster; switched on again, nothing changes; without a network it still works.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Case;
use super::machine::Machine;

/// Generous: the machine is shared; a wait that ends well is never judged by its length.
pub const LIMIT: Duration = Duration::from_secs(180);

/// The cases of this file.
pub const CASES: [Case; 1] = [("a_machine_boots_to_ready_and_a_second_boot_changes_nothing", boots_twice)];

/// Every path of the ledger with its inode and time of change, as the machine has them.
fn ledger_stamps(machine: &Machine) -> Result<String> {
    machine.run(
        "grep -o '\"path\": \"[^\"]*\"' /var/lib/edgeboot/state.json | cut -d'\"' -f4 | sort -u | xargs -d '\\n' stat -c '%n %i %Y %a'",
    )
}

fn boots_twice() -> Result<()> {
    let machine = Machine::up("boots", &[])?;
    machine.ready(LIMIT)?;
    machine.serves()?;
    let stamps = ledger_stamps(&machine)?;
    ensure!(stamps.lines().count() > 30, "the ledger holds too little:\n{stamps}");
    let state = machine.digest("/var/lib/edgeboot/state.json")?;

    machine.run("edgeboot reconcile --foreground")?;
    ensure!(ledger_stamps(&machine)? == stamps, "reconcile touched files of the ledger");

    machine.off()?;
    machine.on()?;
    machine.ready(LIMIT)?;
    machine.serves()?;
    ensure!(ledger_stamps(&machine)? == stamps, "a second boot touched files of the ledger");
    ensure!(machine.digest("/var/lib/edgeboot/state.json")? == state, "a second boot changed the state");

    machine.off()?;
    machine.on()?;
    machine.link(false)?;
    machine.run("ip route del default || true")?;
    let status = machine.ready(LIMIT)?;
    machine.serves()?;
    ensure!(status["result"] == "offline" || status["result"] == "ready", "{status:#}");
    Ok(())
}
