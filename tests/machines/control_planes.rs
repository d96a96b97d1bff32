//! A further control plane comes into a cluster on another machine: switched on, it finds it, gets the keys, becomes a member of its etcd,
//! and goes on when the one that let it in is gone for a while.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use super::Case;
use super::boots::{ledger_stamps, unchanged, unit_starts};
use super::joins::{FOUNDER, TOKEN, ca_hash, configuration, put_private};
use super::machine::{LIMIT, Machine, repository};
use super::secrets;

/// The cases of this file.
pub const CASES: [Case; 1] = [("a_control_plane_joins_and_further_boots_change_nothing", control_plane_joins)];

/// The certificate key.
pub const KEY: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// A cluster of one machine, which has uploaded its keys and can get further control planes.
pub fn founder(name: &str) -> Result<Machine> {
    founder_at(name, &format!("{FOUNDER}:6443"))
}

/// The same, whose control planes share this endpoint.
pub fn founder_at(name: &str, endpoint: &str) -> Result<Machine> {
    let common = fs::read_to_string(repository().join("image/try.yaml"))?
        .replace("role: controlPlane\n", "role: controlPlane\nuploadCerts: true\n");
    let kubeadm = format!(
        "apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nbootstrapTokens:\n  - token: {TOKEN}\ncertificateKey: {KEY}\n---\n\
         apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\ncontrolPlaneEndpoint: {endpoint}\n"
    );
    let path = configuration(name, &format!("{common}---\n{kubeadm}"))?;
    let machine = Machine::up(name, &["--config", &path.to_string_lossy(), "--address", &format!("{FOUNDER}/24")])?;
    machine.ready(LIMIT)?;
    Ok(machine)
}

/// A machine that is to become a control plane of the founder's cluster, switched off. Its pods reach nobody: it only has to be Ready.
pub fn further(name: &str, address: &str, hash: &str) -> Result<Machine> {
    let common = fs::read_to_string(repository().join("image/try.yaml"))?;
    let kubelet = common.split("---\n").find(|document| document.contains("KubeletConfiguration")).context("kubelet settings")?;
    let node = common.split("---\n").next().context("a NodeConfig")?;
    let join = format!(
        "role: controlPlane\njoin:\n  endpoints: [\"{FOUNDER}:6443\"]\n  tokenFrom: credential:token\n  caCertHashes: [\"{hash}\"]\n  \
         certificateKeyFrom: credential:certificate-key\n"
    );
    let node = node.replace("role: controlPlane\n", &join).replace("network: {component: bridge}\n", "");
    let path = configuration(name, &format!("{node}---\n{kubelet}"))?;
    let machine = Machine::up(name, &["--config", &path.to_string_lossy(), "--address", address, "--off"])?;
    let root = machine.root()?;
    put_private(&root.join("var/lib/edgeboot/credentials/token"), TOKEN)?;
    put_private(&root.join("var/lib/edgeboot/credentials/certificate-key"), KEY)?;
    let network = fs::read_to_string(repository().join("tests/machines/parity/bridge.conflist"))?;
    fs::create_dir_all(root.join("etc/cni/net.d"))?;
    fs::write(root.join("etc/cni/net.d/10-test.conflist"), network.replace("10.244.0.", "10.244.9."))?;
    Ok(machine)
}

/// This machine's etcd votes, has a leader, and has one peer.
pub fn votes_with_one_peer(machine: &Machine) -> Result<()> {
    votes_with_peers(machine, 1)
}

/// The same with this many peers.
pub fn votes_with_peers(machine: &Machine, wished: usize) -> Result<()> {
    let script = "exec 3<>/dev/tcp/127.0.0.1/2381; printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
    let metrics = machine.run(&format!("bash -c \"{script}\""))?;
    let value = |name: &str| metrics.lines().filter(|line| line.starts_with(name)).collect::<Vec<_>>();
    ensure!(value("etcd_server_is_learner ") == ["etcd_server_is_learner 0"], "{:?}", value("etcd_server_is"));
    ensure!(value("etcd_server_has_leader ") == ["etcd_server_has_leader 1"], "{:?}", value("etcd_server_has"));
    let known = value("etcd_network_active_peers{");
    // One that was taken out is still counted, as none.
    let peers: Vec<_> = known.iter().filter(|line| !line.ends_with(" 0")).collect();
    ensure!(peers.len() == wished, "{known:?}");
    Ok(())
}

fn control_plane_joins() -> Result<()> {
    let founder = founder("cfounder")?;
    let further = further("cfurther", "10.77.0.12/24", &ca_hash(&founder)?)?;
    let token = TOKEN.split('.').nth(1).unwrap_or_default();
    let status = secrets::watched(KEY, || {
        further.on()?;
        further.ready(LIMIT)
    })?;
    ensure!(status["result"] == "ready", "{status:#}");
    secrets::joined(&further, &[KEY, token])?;
    let nodes = founder.kubectl("get node cfurther --no-headers")?;
    ensure!(nodes.contains(" Ready ") && nodes.contains("control-plane"), "{nodes}");
    votes_with_one_peer(&further)?;
    let made = further.run("kubeadm version >/dev/null 2>&1; ls /etc/kubernetes /etc/kubernetes/manifests")?;
    ensure!(!made.contains("super-admin.conf") && !made.contains("bootstrap-kubelet.conf"), "{made}");

    let traces = further.run(&format!(
        "grep -rlE '{KEY}|{token}' /etc /run /var/lib/edgeboot /var/lib/kubelet 2>/dev/null || true; journalctl --no-pager | grep -E '{KEY}' || true"
    ))?;
    ensure!(traces.is_empty(), "the secrets are still there: {traces}");

    let (stamps, starts) = (ledger_stamps(&further)?, unit_starts(&further)?);
    let state = further.run("cat /var/lib/edgeboot/state.json")?;
    further.run("edgeboot reconcile --foreground && edgeboot plan --exit-code")?;
    unchanged("reconcile touched files of the ledger", &stamps, &ledger_stamps(&further)?)?;
    unchanged("reconcile restarted a unit", &starts, &unit_starts(&further)?)?;

    further.cut()?;
    further.on()?;
    let status = further.ready(LIMIT)?;
    ensure!(status["result"] == "ready", "{status:#}");
    unchanged("a second boot touched files of the ledger", &stamps, &ledger_stamps(&further)?)?;
    unchanged("a second boot changed the state", &state, &further.run("cat /var/lib/edgeboot/state.json")?)?;
    votes_with_one_peer(&further)?;
    let nodes = founder.kubectl("get nodes --no-headers")?;
    ensure!(nodes.lines().count() == 2, "{nodes}");
    Ok(())
}
