//! The kubelet rotates its client certificate by itself, shown with a signer whose certificates are short-lived; to edgeboot nothing has
//! happened that it would have to do anything about.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::Case;
use super::boots::{ledger_stamps, unchanged, unit_starts};
use super::joins::{FOUNDER, TOKEN, ca_hash, configuration, worker};
use super::machine::{LIMIT, Machine, repository};

/// The cases of this file.
pub const CASES: [Case; 1] = [("a_kubelet_rotates_its_certificate_and_edgeboot_finds_nothing_to_do", rotates)];

/// The signer dates back by five minutes, and the kubelet asks after 70 to 90 % of the whole: two to four minutes from now.
const SIGNED_FOR: &str = "5m0s";
const ROTATED_WITHIN: Duration = Duration::from_secs(420);

const CURRENT: &str = "readlink /var/lib/kubelet/pki/kubelet-client-current.pem";

fn founder() -> Result<Machine> {
    let common = fs::read_to_string(repository().join("image/try.yaml"))?;
    let kubeadm = format!(
        "apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nbootstrapTokens:\n  - token: {TOKEN}\n---\n\
         apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\ncontrollerManager:\n  extraArgs:\n  \
         - {{name: cluster-signing-duration, value: {SIGNED_FOR}}}\n"
    );
    let path = configuration("rfounder", &format!("{common}---\n{kubeadm}"))?;
    let machine = Machine::up("rfounder", &["--config", &path.to_string_lossy(), "--address", &format!("{FOUNDER}/24")])?;
    machine.ready(LIMIT)?;
    Ok(machine)
}

fn rotates() -> Result<()> {
    let founder = founder()?;
    let worker = worker("rworker", "10.77.0.12/24", &ca_hash(&founder)?)?;
    worker.on()?;
    worker.ready(LIMIT)?;
    let (first, state) = (worker.run(CURRENT)?, worker.run("cat /var/lib/edgeboot/state.json")?);
    let starts = unit_starts(&worker)?;
    worker.run("edgeboot plan --exit-code")?;

    let started = Instant::now();
    while worker.run(CURRENT)? == first {
        ensure!(started.elapsed() < ROTATED_WITHIN, "the kubelet still has {first}");
        std::thread::sleep(Duration::from_secs(2));
    }
    let stamps = ledger_stamps(&worker)?;
    worker.run("edgeboot plan --exit-code && edgeboot reconcile --foreground && edgeboot plan --exit-code")?;
    unchanged("reconcile touched files of the ledger", &stamps, &ledger_stamps(&worker)?)?;
    unchanged("reconcile restarted a unit", &starts, &unit_starts(&worker)?)?;
    unchanged("reconcile changed the state", &state, &worker.run("cat /var/lib/edgeboot/state.json")?)?;

    let second = worker.run(CURRENT)?;
    worker.off()?;
    worker.on()?;
    let status = worker.ready(LIMIT)?;
    ensure!(status["result"] == "ready", "{status:#}");
    ensure!(worker.run(CURRENT)? != first, "the boot went back to {first} from {second}");
    unchanged("a second boot changed the state", &state, &worker.run("cat /var/lib/edgeboot/state.json")?)?;
    let requests = founder.kubectl("get csr --no-headers -o name")?;
    ensure!(requests.lines().filter(|name| name.contains("/node-csr-")).count() == 1, "edgeboot asked again: {requests}");
    let nodes = founder.kubectl("get node rworker --no-headers")?;
    ensure!(nodes.contains(" Ready "), "{nodes}");
    Ok(())
}
