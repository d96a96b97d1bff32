//! A way to the API server that fails for a while, as a site's balancer or router does when everything is switched on at once: it resets
//! connections, then lets them wait. A worker behind it comes in all the same, and stays on the address it was given.

use std::fs;

use anyhow::{Result, ensure};

use super::Case;
use super::balancer::{Balancer, Faults};
use super::joins::{FOUNDER, TOKEN, ca_hash, configuration, worker};
use super::machine::{LIMIT, Machine, repository};

/// The cases of this file.
pub const CASES: [Case; 1] = [("a_worker_joins_by_a_way_that_fails_at_first_and_stays_on_it", joins)];

/// Where the worker is told that the cluster is: the API server's certificate has it, the cluster itself names another.
const GIVEN: &str = "10.77.0.1";

fn founder() -> Result<Machine> {
    let common = fs::read_to_string(repository().join("image/try.yaml"))?;
    let config = format!(
        "{common}---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nbootstrapTokens:\n  - token: {TOKEN}\n---\n\
         apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\napiServer: {{certSANs: [{GIVEN}]}}\n"
    );
    let path = configuration("ffounder", &config)?;
    let machine = Machine::up("ffounder", &["--config", &path.to_string_lossy(), "--address", &format!("{FOUNDER}/24")])?;
    machine.ready(LIMIT)?;
    Ok(machine)
}

fn joins() -> Result<()> {
    let founder = founder()?;
    let worker = worker("fworker", "10.77.0.12/24", &ca_hash(&founder)?)?;
    let config = worker.root()?.join("etc/edgeboot/config.yaml");
    let told = fs::read_to_string(&config)?;
    let given =
        told.replace(&format!("endpoints: [\"{FOUNDER}:6443\"]"), &format!("endpoints: [\"{GIVEN}:6443\"]\n  keepEndpoint: true"));
    ensure!(given != told, "the configuration names no endpoint: {told}");
    fs::write(&config, given)?;

    let _balancer = Balancer::failing_before(&[&format!("{FOUNDER}:6443")], Faults { resets: 8, delays: 6 })?;
    worker.on()?;
    let status = worker.ready(LIMIT)?;
    ensure!(status["result"] == "ready", "{status:#}");
    founder.kubectl("wait --for=condition=Ready node/fworker --timeout=120s")?;
    let server = worker.run("grep server: /etc/kubernetes/kubelet.conf")?;
    ensure!(server.contains(&format!("https://{GIVEN}:6443")), "it left the address it was given: {server}");
    let journal = worker.run("journalctl -b -u edgeboot.service --no-pager")?;
    ensure!(journal.contains("reset"), "no connection was reset:\n{journal}");
    worker.run("edgeboot reconcile --foreground && edgeboot plan --exit-code").map(drop)
}
