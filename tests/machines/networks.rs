//! flannel carries what pods on different nodes send each other, and what they send to Services; a worker learns all of it from the cluster.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result, ensure};

use super::Case;
use super::boots::{ledger_stamps, unchanged};
use super::joins::{FOUNDER, TOKEN, ca_hash, configuration, put_private};
use super::machine::{LIMIT, Machine, repository};

/// The cases of this file.
pub const CASES: [Case; 1] = [("pods_of_two_machines_reach_each_other_by_flannel", two_machines)];

const FOUNDING: &str = "nfounder";
const WORKER: &str = "nworker";

/// A cluster of one machine whose network is flannel.
pub fn founder(name: &str) -> Result<Machine> {
    let common = fs::read_to_string(repository().join("image/try.yaml"))?.replace("component: bridge", "component: flannel");
    let tokens = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nbootstrapTokens:\n";
    let path = configuration(name, &format!("{common}---\n{tokens}  - token: {TOKEN}\n"))?;
    let machine = Machine::up(name, &["--config", &path.to_string_lossy(), "--address", &format!("{FOUNDER}/24")])?;
    machine.ready(LIMIT)?;
    Ok(machine)
}

/// A worker that is told nothing about the network.
fn worker(hash: &str) -> Result<Machine> {
    let common = fs::read_to_string(repository().join("image/try.yaml"))?;
    let kubelet = common.split("---\n").find(|document| document.contains("KubeletConfiguration")).context("kubelet settings")?;
    let node = common.split("---\n").next().context("a NodeConfig")?;
    let join = format!(
        "role: worker\njoin:\n  endpoints: [\"{FOUNDER}:6443\"]\n  tokenFrom: credential:token\n  caCertHashes: [\"{hash}\"]\n"
    );
    let node = node.replace("role: controlPlane\n", &join).replace("network: {component: bridge}\n", "");
    let path = configuration(WORKER, &format!("{node}---\n{kubelet}"))?;
    let machine = Machine::up(WORKER, &["--config", &path.to_string_lossy(), "--address", "10.77.0.12/24", "--off"])?;
    put_private(&machine.root()?.join("var/lib/edgeboot/credentials/token"), TOKEN)?;
    Ok(machine)
}

const PODS: &str = include_str!("networks/pods.yaml");

/// Puts the pods on the cluster.
pub fn deploy(founder: &Machine) -> Result<()> {
    put_private(&founder.root()?.join("root/pods.yaml"), PODS)?;
    founder.kubectl("apply -f /root/pods.yaml")?;
    founder.kubectl("-n kube-system rollout status deployment/coredns --timeout=180s").map(drop)
}

/// The names of the pods on two nodes, and their addresses.
fn pods(founder: &Machine, nodes: [&str; 2]) -> Result<[(String, String); 2]> {
    founder.kubectl("rollout status daemonset/answer --timeout=180s")?;
    let listed = founder
        .kubectl("get pods -l app=answer --no-headers -o custom-columns=N:.spec.nodeName,P:.metadata.name,A:.status.podIP")?;
    let of = |node: &str| {
        let words = listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).find(|words| words[0] == node);
        words.map(|words| (words[1].to_owned(), words[2].to_owned())).with_context(|| format!("no pod on {node}: {listed}"))
    };
    Ok([of(nodes[0])?, of(nodes[1])?])
}

/// Pods of both nodes reach each other by their own addresses and by the Service's, and CoreDNS by its.
pub fn traffic(founder: &Machine, nodes: [&str; 2]) -> Result<()> {
    let [(here, here_at), (there, there_at)] = pods(founder, nodes)?;
    ensure!(here_at != there_at, "{here_at}");
    let service = founder.kubectl("get service answer -o jsonpath={.spec.clusterIP}")?;
    // `kubectl exec` goes to the node's kubelet; what the pod asks goes by flannel.
    let ask = |pod: &str, whom: &str| founder.kubectl(&format!("exec {pod} -- busybox wget -q -T 20 -O - http://{whom}"));
    for (pod, at, expected) in [(&here, &there_at, nodes[1]), (&there, &here_at, nodes[0])] {
        let said = ask(pod, &format!("{at}:8080"))?;
        ensure!(said.trim() == format!("answer of {expected}"), "{pod} asked {at}: {said}");
        // The Service has both pods behind it and chooses anew each time: also the one on the other node.
        let mut from = BTreeSet::new();
        for _ in 0..60 {
            from.insert(ask(pod, &service)?.trim().to_owned());
            if from.len() == 2 {
                break;
            }
        }
        ensure!(from.len() == 2, "{pod} reached only {from:?} by the Service");
    }
    // CoreDNS runs where the cluster was founded.
    let dns = founder.kubectl("-n kube-system get service kube-dns -o jsonpath={.spec.clusterIP}")?;
    let said = founder.kubectl(&format!("exec {there} -- busybox nslookup answer.default.svc.cluster.local {dns}"))?;
    ensure!(said.contains(&service), "{said}");
    Ok(())
}

fn two_machines() -> Result<()> {
    let founder = founder(FOUNDING)?;
    let worker = worker(&ca_hash(&founder)?)?;
    worker.on()?;
    let status = worker.ready(LIMIT)?;
    ensure!(status["result"] == "ready", "{status:#}");
    deploy(&founder)?;
    traffic(&founder, [FOUNDING, WORKER])?;
    let restarts = founder.kubectl("-n kube-flannel get pods -o jsonpath={.items[*].status.containerStatuses[*].restartCount}")?;
    ensure!(restarts == "0 0", "flannel did not find the API server at once: {restarts}");

    let stamps = ledger_stamps(&worker)?;
    let state = worker.run("cat /var/lib/edgeboot/state.json")?;
    worker.cut()?;
    worker.on()?;
    let status = worker.ready(LIMIT)?;
    ensure!(status["result"] == "ready", "{status:#}");
    unchanged("a second boot touched files of the ledger", &stamps, &ledger_stamps(&worker)?)?;
    unchanged("a second boot changed the state", &state, &worker.run("cat /var/lib/edgeboot/state.json")?)?;
    // What flannel keeps under /run is gone, and it is listed as before until the kubelet tells otherwise: this is a new container.
    let restarted = "--for=jsonpath={.status.containerStatuses[0].restartCount}=1 --timeout=180s";
    founder.kubectl(&format!("wait pod -l app=answer --field-selector spec.nodeName={WORKER} {restarted}"))?;
    traffic(&founder, [FOUNDING, WORKER])?;
    founder.run("edgeboot reconcile --foreground && edgeboot plan --exit-code").map(drop)
}
