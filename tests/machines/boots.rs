//! A machine is switched on and becomes a cluster; switched on again, nothing changes; without a network it still works; with its power
//! cut at any moment it carries on.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Case;
use super::machine::{LIMIT, Machine};

/// The cases of this file.
pub const CASES: [Case; 3] = [
    ("a_machine_boots_to_ready_and_further_boots_change_nothing", boots_thrice),
    ("a_boot_whose_power_is_cut_at_ten_moments_is_carried_on", cut_at_ten_moments),
    ("init_on_a_stock_host_places_edgeboot_and_founds_a_cluster", stock_host),
];

/// Every file and link of the ledger with its inode, time of change and mode, as the machine has them. Not its folders: what lies in
/// them (etcd's data, packages) comes and goes.
pub(super) fn ledger_stamps(machine: &Machine) -> Result<String> {
    machine.run(
        "grep -o '\"path\": \"[^\"]*\"' /var/lib/edgeboot/state.json | cut -d'\"' -f4 | sort -u \
         | while read -r path; do [ -d \"$path\" -a ! -L \"$path\" ] || stat -c '%n %i %Y %a' \"$path\"; done",
    )
}

/// The lines in which two listings differ.
fn differing(before: &str, after: &str) -> String {
    let gone = before.lines().filter(|line| !after.lines().any(|other| other == *line)).map(|line| format!("- {line}\n"));
    let new = after.lines().filter(|line| !before.lines().any(|other| other == *line)).map(|line| format!("+ {line}\n"));
    gone.chain(new).collect()
}

pub(super) fn unchanged(what: &str, before: &str, after: &str) -> Result<()> {
    let difference = differing(before, after);
    ensure!(difference.is_empty(), "{what}:\n{difference}");
    Ok(())
}

/// The resourceVersion of every object that edgeboot wrote, less those whose status others write.
fn object_versions(machine: &Machine) -> Result<String> {
    machine.kubectl(
        "get configmaps,roles,rolebindings,clusterroles,clusterrolebindings,services,serviceaccounts -A \
         -o custom-columns=K:.kind,N:.metadata.name,V:.metadata.resourceVersion --no-headers",
    )
}

/// When containerd and the kubelet started, on the machine's monotonic clock.
pub(super) fn unit_starts(machine: &Machine) -> Result<String> {
    machine.run("systemctl show -p InvocationID containerd kubelet")
}

fn boots_thrice() -> Result<()> {
    let machine = Machine::up("boots", &[])?;
    let status = machine.ready(LIMIT)?;
    ensure!(status["result"] == "ready", "{status:#}");
    machine.serves()?;
    let security =
        machine.run("systemd-analyze security --offline=true --no-pager /usr/lib/systemd/system/edgeboot.service | tail -n 1")?;
    let exposure: f32 = security.split_whitespace().find_map(|word| word.parse().ok()).unwrap_or(10.0);
    ensure!(exposure <= 2.5, "edgeboot.service is exposed at {exposure}: {security}");
    machine.run("systemd-analyze verify /usr/lib/systemd/system/edgeboot*.service /usr/lib/systemd/system/edgeboot.path")?;

    let stamps = ledger_stamps(&machine)?;
    ensure!(stamps.lines().count() > 30, "the ledger holds too little:\n{stamps}");
    let state = machine.run("cat /var/lib/edgeboot/state.json")?;
    let (versions, starts) = (object_versions(&machine)?, unit_starts(&machine)?);
    machine.run("edgeboot reconcile --foreground && edgeboot plan --exit-code")?;
    machine.run("edgeboot reconcile")?;
    unchanged("reconcile touched files of the ledger", &stamps, &ledger_stamps(&machine)?)?;
    unchanged("reconcile restarted a unit", &starts, &unit_starts(&machine)?)?;
    unchanged("reconcile wrote to the API", &versions, &object_versions(&machine)?)?;

    machine.off()?;
    machine.on()?;
    machine.ready(LIMIT)?;
    machine.serves()?;
    unchanged("a second boot touched files of the ledger", &stamps, &ledger_stamps(&machine)?)?;
    unchanged("a second boot changed the state", &state, &machine.run("cat /var/lib/edgeboot/state.json")?)?;
    unchanged("a second boot wrote to the API", &versions, &object_versions(&machine)?)?;

    machine.off()?;
    machine.on()?;
    machine.link(false)?;
    machine.run("ip route del default; sed -i /nameserver/d /etc/resolv.conf || true")?;
    machine.run("systemctl restart edgeboot.service")?;
    let status = machine.ready(LIMIT)?;
    machine.serves()?;
    ensure!(status["result"] == "offline", "{status:#}");
    Ok(())
}

fn cut_at_ten_moments() -> Result<()> {
    let machine = Machine::up("cuts", &[])?;
    let mut authority: Option<String> = None;
    for moment in 1..=10 {
        // Spread over the boot: packages, keys, runtime, images, the control plane coming up, objects.
        std::thread::sleep(Duration::from_millis(900 * moment));
        machine.cut()?;
        machine.on()?;
        if let Some(known) = &authority {
            ensure!(machine.digest("/etc/kubernetes/pki/ca.crt")? == *known, "cut {moment}: the CA was made again");
        } else if machine.attempt("test -s /etc/kubernetes/pki/ca.crt -a -s /etc/kubernetes/pki/ca.key")?.status.success() {
            authority = Some(machine.digest("/etc/kubernetes/pki/ca.crt")?);
        }
    }
    machine.ready(LIMIT)?;
    machine.serves()?;
    if let Some(known) = &authority {
        ensure!(machine.digest("/etc/kubernetes/pki/ca.crt")? == *known, "the CA was made again");
    }
    let leftovers = machine.run(
        "find /etc/kubernetes /var/lib/edgeboot /var/lib/kubelet -maxdepth 2 -name '*.partial' -o -name '.*.edgeboot' | head",
    )?;
    ensure!(leftovers.is_empty(), "left behind: {leftovers}");
    machine.run("edgeboot plan --exit-code").map(drop)
}

/// Nothing baked: the binary and a package lie somewhere, and somebody types `edgeboot init`. No route leads away, so that the address
/// is configured.
fn stock_host() -> Result<()> {
    let machine = Machine::up("stock", &["--bare", "--gateway", "none"])?;
    machine.run("systemctl is-system-running --wait || true")?;
    let root = machine.root()?;
    let folder = root.join("root");
    std::fs::copy(super::machine::binary(), folder.join("edgeboot"))?;
    machine.copy_package("/root/package")?;
    let config = std::fs::read_to_string(super::machine::repository().join("image/try.yaml"))?;
    let config = config.replace("role: controlPlane", "role: controlPlane\npackage: /root/package");
    let address = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nlocalAPIEndpoint: {advertiseAddress: 10.77.0.11}\n";
    std::fs::write(folder.join("config.yaml"), format!("{config}---\n{address}"))?;
    let output =
        machine.attempt("chmod 600 /root/config.yaml; chmod 755 /root/edgeboot; /root/edgeboot init --config /root/config.yaml")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{said}");
    ensure!(said.contains("placed edgeboot at /var/lib/edgeboot/bin/edgeboot"), "it does not say what it placed: {said}");
    ensure!(!said.contains("--token"), "a pipe is no terminal: {said}");
    machine.serves()?;
    machine.off()?;
    machine.on()?;
    machine.ready(LIMIT)?;
    machine.serves()
}
