//! `edgeboot reset`, on a machine that joins again and again: afterwards its files, interfaces, mounts and packet filter are what they were
//! before, the cluster has neither its Node nor its member of etcd, and no boot builds anything until somebody asks for it.

use std::fs;

use anyhow::{Result, ensure};

use super::Case;
use super::control_planes::{KEY, founder, votes_with_one_peer};
use super::joins::{FOUNDER, TOKEN, ca_hash, configuration};
use super::machine::{LIMIT, Machine, repository};

/// The cases of this file.
pub const CASES: [Case; 1] = [("a_machine_joins_is_reset_and_joins_again_three_times_round", round)];

/// What edgeboot, the kubelet and the pods' network touch. The packages stay, and the memory that the machine is held.
const SURROUNDINGS: &str = "find /etc /opt /var/lib/cni /var/lib/etcd /var/lib/kubelet /var/lib/edgeboot /var/log/pods \
    -path /var/lib/edgeboot/packages -prune -o -path /var/lib/edgeboot/state.json -prune -o -path '/var/lib/edgeboot/.*' -prune -o \
    -printf '%p %y %m %l\\n' 2>/dev/null | sort; \
    ip -brief link | cut -d' ' -f1 | sort; \
    grep -E 'kubelet|containerd|netns' /proc/self/mounts | grep -v ' /var/lib/containerd ' || true; \
    nft list ruleset | grep -E 'KUBE|CNI|kube-proxy|FLANNEL' || true; \
    cat /proc/sys/net/ipv4/ip_forward";

/// A machine that wishes to be no node: what it becomes is said to it by commands.
fn undecided(name: &str) -> Result<Machine> {
    let common = fs::read_to_string(repository().join("image/try.yaml"))?;
    let node = common.split("---\n").next().unwrap_or_default();
    let node = node.replace("role: controlPlane\n", "").replace("network: {component: bridge}\n", "");
    let path = configuration(name, &node)?;
    let machine = Machine::up(name, &["--config", &path.to_string_lossy(), "--address", "10.77.0.12/24"])?;
    let network = fs::read_to_string(repository().join("tests/machines/parity/bridge.conflist"))?;
    fs::create_dir_all(machine.root()?.join("etc/cni/net.d"))?;
    fs::write(machine.root()?.join("etc/cni/net.d/10-test.conflist"), network.replace("10.244.0.", "10.244.9."))?;
    // Its boot has come so far that there is a system bus.
    machine.finished(LIMIT)?;
    Ok(machine)
}

fn round() -> Result<()> {
    let founder = founder("rfounder")?;
    let machine = undecided("rmachine")?;
    let join = format!(
        "edgeboot join {FOUNDER}:6443 --token {TOKEN} --discovery-token-ca-cert-hash {} --ignore-preflight-errors SystemVerification",
        ca_hash(&founder)?
    );
    // The first run installs the package, which stays.
    machine.run("edgeboot preflight >/dev/null 2>&1 || true")?;
    let before = machine.run(SURROUNDINGS)?;
    for round in 1..=3 {
        let is_control_plane = round == 2;
        let more = if is_control_plane { format!("--control-plane --certificate-key {KEY}") } else { String::new() };
        machine.run(&format!("{join} {more} 2>&1"))?;
        founder.kubectl("wait --for=condition=Ready node/rmachine --timeout=120s")?;
        if is_control_plane {
            votes_with_one_peer(&machine)?;
        }
        let refused = machine.attempt("edgeboot reset </dev/null 2>&1")?;
        ensure!(refused.status.code() == Some(64), "without a terminal it asks nobody and does nothing: {refused:?}");
        let said = machine.run("edgeboot reset --force 2>&1")?;
        let nodes = founder.kubectl("get nodes --no-headers")?;
        if is_control_plane {
            ensure!(!nodes.contains("rmachine"), "round {round}: the Node is there: {nodes}");
            ensure!(said.contains("took this machine's member out of etcd"), "round {round}: {said}");
            founder.kubectl("get --raw /readyz")?;
        } else {
            ensure!(said.contains("kubectl delete node rmachine"), "round {round}: {said}");
            founder.kubectl("delete node rmachine")?;
        }
        let after = machine.run(SURROUNDINGS)?;
        let new: Vec<&str> = after.lines().filter(|line| !before.contains(line)).collect();
        let gone: Vec<&str> = before.lines().filter(|line| !after.contains(line)).collect();
        ensure!(new.is_empty() && gone.is_empty(), "round {round}: new {new:#?}, gone {gone:#?}\n{said}");
        machine.run("edgeboot reset --force 2>&1")?;
    }
    held_until_asked(&founder)
}

/// The last control plane: its cluster ends, a boot builds nothing, and `edgeboot init` founds a new one.
fn held_until_asked(founder: &Machine) -> Result<()> {
    let authority = founder.digest("/etc/kubernetes/pki/ca.crt")?;
    let said = founder.run("edgeboot reset --force 2>&1")?;
    ensure!(said.contains("the cluster ends with it"), "{said}");
    founder.off()?;
    founder.on()?;
    let status = founder.finished(LIMIT)?;
    ensure!(status["result"] == "unconfigured", "{status:#}");
    let left = founder.run("ls /etc/kubernetes/pki 2>/dev/null || true")?;
    ensure!(left.is_empty(), "a boot after a reset made {left}");
    founder.run("edgeboot init 2>&1")?;
    founder.serves()?;
    ensure!(founder.digest("/etc/kubernetes/pki/ca.crt")? != authority, "the old CA is there again");
    Ok(())
}
