//! Both ways with kubeadm, the real one: its nodes join a cluster that edgeboot made, with edgeboot's tokens and certificate key; and nodes
//! of edgeboot join a cluster that kubeadm made.

use std::fs;

use anyhow::{Result, ensure};

use super::Case;
use super::control_planes::{KEY, founder, further, votes_with_one_peer};
use super::joins::{FOUNDER, TOKEN, ca_hash, worker};
use super::machine::{LIMIT, Machine};
use super::networks;
use super::peer::{self, write};

/// The cases of this file.
pub const CASES: [Case; 3] = [
    ("kubeadms_nodes_join_a_cluster_of_edgeboots", kubeadm_joins),
    ("edgeboots_nodes_join_a_cluster_of_kubeadms", edgeboot_joins),
    ("kubeadms_worker_gets_flannel_from_a_cluster_of_edgeboots", kubeadms_worker_gets_flannel),
];

/// What this host lacks: see image/try.yaml.
const SETTINGS: &str = "---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
conntrack: {maxPerCore: 0, min: 0}
";

/// Waits until the cluster calls the node Ready.
fn is_ready(cluster: &Machine, node: &str) -> Result<()> {
    cluster.kubectl(&format!("wait --for=condition=Ready node/{node} --timeout=120s")).map(drop)
}

fn kubeadm_joins() -> Result<()> {
    let founder = founder("mfounder")?;
    let hash = ca_hash(&founder)?;
    let join =
        format!("kubeadm join {FOUNDER}:6443 --token {TOKEN} --discovery-token-ca-cert-hash {hash} --ignore-preflight-errors=all");

    let worker = peer::up("mworker", "10.77.0.12", |_| Ok(()))?;
    worker.run(&format!("{join} 2>&1"))?;
    is_ready(&founder, "mworker")?;
    drop(worker);

    let control_plane = peer::up("mplane", "10.77.0.13", |_| Ok(()))?;
    control_plane.run(&format!("{join} --control-plane --certificate-key {KEY} 2>&1"))?;
    is_ready(&founder, "mplane")?;
    votes_with_one_peer(&control_plane)?;
    votes_with_one_peer(&founder)?;
    // The founder takes it as it is: nothing to do for a run of edgeboot.
    founder.run("edgeboot reconcile --foreground && edgeboot plan --exit-code").map(drop)
}

/// Its machine has neither flannel's plugin nor a network's configuration; flannel's images were imported with the others.
fn kubeadms_worker_gets_flannel() -> Result<()> {
    let founder = networks::founder("mfounder")?;
    let worker = peer::up("mworker", "10.77.0.12", |root| Ok(fs::remove_file(root.join("etc/cni/net.d/10-bridge.conflist"))?))?;
    let hash = ca_hash(&founder)?;
    worker.run(&format!(
        "kubeadm join {FOUNDER}:6443 --token {TOKEN} --discovery-token-ca-cert-hash {hash} --ignore-preflight-errors=all 2>&1"
    ))?;
    is_ready(&founder, "mworker")?;
    worker.run("test -x /opt/cni/bin/flannel -a -s /etc/cni/net.d/10-flannel.conflist")?;
    networks::deploy(&founder)?;
    networks::traffic(&founder, ["mfounder", "mworker"])
}

fn edgeboot_joins() -> Result<()> {
    let kubeadm = format!(
        "apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nbootstrapTokens:\n  - token: {TOKEN}\ncertificateKey: {KEY}\n---\n\
         apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: v1.36.3\ncontrolPlaneEndpoint: {FOUNDER}:6443\n{SETTINGS}"
    );
    let founder = peer::up("mfounder", FOUNDER, |root| write(root, "/root/kubeadm.yaml", &kubeadm))?;
    founder.run("kubeadm init --config /root/kubeadm.yaml --skip-phases=preflight --upload-certs 2>&1")?;
    let hash = ca_hash(&founder)?;

    let worker = worker("mworker", "10.77.0.12/24", &hash)?;
    worker.on()?;
    ensure!(worker.ready(LIMIT)?["result"] == "ready", "the worker is not ready");
    is_ready(&founder, "mworker")?;
    drop(worker);

    let control_plane = further("mplane", "10.77.0.13/24", &hash)?;
    control_plane.on()?;
    ensure!(control_plane.ready(LIMIT)?["result"] == "ready", "the control plane is not ready");
    is_ready(&founder, "mplane")?;
    votes_with_one_peer(&control_plane)?;
    // kubeadm's commands know it for one of theirs.
    for command in ["certs check-expiration", "token list", "upgrade node --dry-run --ignore-preflight-errors=SystemVerification"] {
        control_plane.run(&format!("kubeadm {command} 2>&1"))?;
    }
    control_plane.run("edgeboot reconcile --foreground && edgeboot plan --exit-code").map(drop)
}
