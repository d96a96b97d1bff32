//! Machines come into a cluster on another machine: switched on, they find it, join it, and need neither token nor cluster afterwards.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::Case;
use super::boots::{ledger_stamps, unchanged, unit_starts};
use super::machine::{LIMIT, Machine, repository};
use super::{secrets, serving};

/// The cases of this file.
pub const CASES: [Case; 1] = [("a_worker_joins_and_further_boots_change_nothing_and_need_nobody", worker_joins)];

pub const TOKEN: &str = "q7w2e9.k3j5h1g8f6d4s2a0";
const CREDENTIAL: &str = "var/lib/edgeboot/credentials/token";
pub const FOUNDER: &str = "10.77.0.11";

/// The hash of the cluster's CA, as whoever joins names it.
pub fn ca_hash(founder: &Machine) -> Result<String> {
    let line = founder.run("kubeadm token create --print-join-command --kubeconfig /etc/kubernetes/admin.conf")?;
    let hash = line.split_whitespace().find(|word| word.starts_with("sha256:"));
    Ok(hash.with_context(|| format!("no hash in {line}"))?.to_owned())
}

/// A file for root alone.
pub fn put_private(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().context("a path below something")?;
    fs::create_dir_all(folder)?;
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(())
}

pub fn configuration(name: &str, text: &str) -> Result<PathBuf> {
    let path = repository().join(format!("target/test-machines/{name}.yaml"));
    put_private(&path, text)?;
    Ok(path)
}

/// A cluster of one machine with the token, whose kubelets ask it for their serving certificates.
fn founder(name: &str) -> Result<Machine> {
    let common = fs::read_to_string(repository().join("image/try.yaml"))?;
    let common = common.replace("failCgroupV1: false\n", "failCgroupV1: false\nserverTLSBootstrap: true\n");
    let tokens = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nbootstrapTokens:\n";
    let path = configuration(name, &format!("{common}---\n{tokens}  - token: {TOKEN}\n"))?;
    let machine = Machine::up(name, &["--config", &path.to_string_lossy(), "--address", &format!("{FOUNDER}/24")])?;
    machine.ready(LIMIT)?;
    Ok(machine)
}

/// A machine that is to become a worker of the founder's cluster, switched off. The bridge network is for one node, and this one's pods
/// reach nobody: it only has to be Ready.
pub fn worker(name: &str, address: &str, hash: &str) -> Result<Machine> {
    let common = fs::read_to_string(repository().join("image/try.yaml"))?;
    let kubelet = common.split("---\n").find(|document| document.contains("KubeletConfiguration")).context("kubelet settings")?;
    let node = common.split("---\n").next().context("a NodeConfig")?;
    let join = format!(
        "role: worker\njoin:\n  endpoints: [\"{FOUNDER}:6443\"]\n  tokenFrom: credential:token\n  caCertHashes: [\"{hash}\"]\n"
    );
    let node = node.replace("role: controlPlane\n", &join).replace("network: {component: bridge}\n", "");
    let path = configuration(name, &format!("{node}---\n{kubelet}"))?;
    let machine = Machine::up(name, &["--config", &path.to_string_lossy(), "--address", address, "--off"])?;
    let root = machine.root()?;
    put_private(&root.join(CREDENTIAL), TOKEN)?;
    let network = fs::read_to_string(repository().join("tests/machines/parity/bridge.conflist"))?;
    fs::create_dir_all(root.join("etc/cni/net.d"))?;
    fs::write(root.join("etc/cni/net.d/10-test.conflist"), network.replace("10.244.0.", "10.244.9."))?;
    Ok(machine)
}

fn worker_joins() -> Result<()> {
    let founder = founder("jfounder")?;
    let worker = worker("jworker", "10.77.0.12/24", &ca_hash(&founder)?)?;
    let secret = TOKEN.split('.').nth(1).unwrap_or_default();
    let status = secrets::watched(secret, || {
        worker.on()?;
        worker.ready(LIMIT)
    })?;
    ensure!(status["result"] == "ready", "{status:#}");
    secrets::joined(&worker, &[secret])?;
    let nodes = founder.kubectl("get node jworker --no-headers")?;
    ensure!(nodes.contains(" Ready ") && nodes.contains("<none>"), "{nodes}");

    serving::certificates_are_the_nodes_own(&founder, &worker)?;

    let traces = worker.run(&format!(
        "grep -rl {secret} /etc /run /var/lib/edgeboot /var/lib/kubelet 2>/dev/null || true; \
         journalctl --no-pager | grep {secret} || true; ls /etc/kubernetes/bootstrap-kubelet.conf /{CREDENTIAL} 2>/dev/null || true"
    ))?;
    ensure!(traces.is_empty(), "the token is still there: {traces}");

    let stamps = ledger_stamps(&worker)?;
    ensure!(stamps.lines().count() > 15, "the ledger holds too little:\n{stamps}");
    let (state, starts) = (worker.run("cat /var/lib/edgeboot/state.json")?, unit_starts(&worker)?);
    // It has expired, as far as the worker can know.
    founder.kubectl("-n kube-system delete secret bootstrap-token-q7w2e9")?;
    worker.run("edgeboot reconcile --foreground && edgeboot plan --exit-code")?;
    unchanged("reconcile touched files of the ledger", &stamps, &ledger_stamps(&worker)?)?;
    unchanged("reconcile restarted a unit", &starts, &unit_starts(&worker)?)?;

    worker.off()?;
    worker.on()?;
    let status = worker.ready(LIMIT)?;
    ensure!(status["result"] == "ready", "{status:#}");
    unchanged("a second boot touched files of the ledger", &stamps, &ledger_stamps(&worker)?)?;
    unchanged("a second boot changed the state", &state, &worker.run("cat /var/lib/edgeboot/state.json")?)?;
    let requests = founder.kubectl("get csr --no-headers -o name")?;
    ensure!(requests.lines().filter(|name| name.contains("/node-csr-")).count() == 1, "one request is enough: {requests}");

    worker.cut()?;
    founder.cut()?;
    worker.on()?;
    let status = worker.ready(LIMIT)?;
    ensure!(status["result"] == "offline", "{status:#}");
    unchanged("a boot without the cluster touched files of the ledger", &stamps, &ledger_stamps(&worker)?)
}
