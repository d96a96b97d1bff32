//! The power of a machine that joins is cut at ten moments of its way in: in the end it is one node, with one request for one
//! certificate and, as a control plane, one member of etcd; nothing is left over, and no secret.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::Case;
use super::control_planes::{KEY, founder, further, votes_with_one_peer};
use super::joins::{TOKEN, ca_hash, worker};
use super::machine::{LIMIT, Machine};

/// The cases of this file.
pub const CASES: [Case; 2] = [
    ("a_worker_whose_power_is_cut_at_ten_moments_of_its_join_comes_up", worker_cut),
    ("a_control_plane_whose_power_is_cut_at_ten_moments_of_its_join_comes_up", control_plane_cut),
];

/// Where a worker's power is cut: as soon as each of these has begun. A boot goes on where the last one was cut.
const WORKER: [&str; 10] = [
    "package",
    "host",
    "runtime",
    "discovery",
    "cluster-configuration",
    "images/first",
    "kubelet-start/tls-bootstrap",
    "kubelet-start",
    "wait-control-plane/kubelet",
    "node-registered",
];

/// Where a control plane's power is cut.
const CONTROL_PLANE: [&str; 10] = [
    "package",
    "discovery",
    "control-plane-prepare/download-certs",
    "control-plane-prepare/certs",
    "kubelet-start/tls-bootstrap",
    "images/first",
    "kubelet-start",
    "etcd-join",
    "wait-control-plane/kube-apiserver",
    "control-plane-join/mark-control-plane",
];

fn cut_ten_times(machine: &Machine, founder: &Machine, moments: [&str; 10]) -> Result<()> {
    for phase in moments {
        machine.on()?;
        has_begun(machine, phase)?;
        machine.cut()?;
    }
    machine.on()?;
    machine.ready(LIMIT)?;
    founder.kubectl("wait --for=condition=Ready nodes --all --timeout=120s").map(drop)
}

/// Waits until a phase is at work, or was found done.
fn has_begun(machine: &Machine, phase: &str) -> Result<()> {
    let started = Instant::now();
    while started.elapsed() < LIMIT {
        let status = machine.status()?.unwrap_or_default();
        let phases = status["phases"].as_array().cloned().unwrap_or_default();
        if phases.iter().any(|one| one["id"] == phase && one["state"] != "pending") {
            return Ok(());
        }
    }
    bail!("{phase} did not begin: {:#?}", machine.status()?)
}

fn one_of_each(machine: &Machine, founder: &Machine) -> Result<()> {
    let nodes = founder.kubectl("get nodes --no-headers")?;
    ensure!(nodes.lines().count() == 2 && !nodes.contains("NotReady"), "{nodes}");
    let requests = founder.kubectl("get csr --no-headers")?;
    let ours = requests.lines().filter(|line| line.contains("node-csr-"));
    ensure!(ours.count() == 1, "one request is enough: {requests}");

    let secrets = format!("{KEY}|{}", TOKEN.split('.').nth(1).unwrap_or_default());
    let traces = machine.run(&format!(
        "grep -rlE '{secrets}' /etc /run /var/lib/edgeboot /var/lib/kubelet 2>/dev/null || true; \
         journalctl --no-pager | grep -E '{secrets}' || true; \
         ls /etc/kubernetes/bootstrap-kubelet.conf /var/lib/edgeboot/join/kubelet-client.key 2>/dev/null || true"
    ))?;
    ensure!(traces.is_empty(), "secrets are still there: {traces}");
    let leftovers = machine.run(
        "find /etc/kubernetes /var/lib/edgeboot /var/lib/kubelet /etc/systemd -maxdepth 3 \
         \\( -name '*.partial' -o -name '.*.edgeboot*' \\) -not -path '*/packages/*' | head",
    )?;
    ensure!(leftovers.is_empty(), "left behind: {leftovers}");
    machine.settles(Duration::from_secs(60))
}

fn worker_cut() -> Result<()> {
    let founder = founder("wcfounder")?;
    let worker = worker("wcworker", "10.77.0.12/24", &ca_hash(&founder)?)?;
    cut_ten_times(&worker, &founder, WORKER)?;
    one_of_each(&worker, &founder)
}

fn control_plane_cut() -> Result<()> {
    let founder = founder("ccfounder")?;
    let further = further("ccfurther", "10.77.0.12/24", &ca_hash(&founder)?)?;
    cut_ten_times(&further, &founder, CONTROL_PLANE)?;
    one_of_each(&further, &founder)?;
    votes_with_one_peer(&further)?;
    votes_with_one_peer(&founder)
}
