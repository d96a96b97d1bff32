//! Machines that are switched on together, as `image/try --control-planes 3 --workers 1` does it: whoever comes up before there is a
//! cluster waits for it, the control planes become members of etcd one after the other, and the cluster outlives the one that founded it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use edgeboot::k8s::pki::{Certificate, ca_hash};

use super::Case;
use super::balancer::{Balancer, ENDPOINT};
use super::boots::{ledger_stamps, unchanged};
use super::control_planes::{KEY, votes_with_peers};
use super::joins::{TOKEN, configuration};
use super::machine::{LIMIT, Machine, binary, repository};

/// The cases of this file.
pub const CASES: [Case; 1] = [("three_control_planes_and_a_worker_switched_on_together_come_up", together)];

/// A pod on each node that answers with the node's name.
const PODS: &str = include_str!("networks/pods.yaml");
/// etcd's own client on a control plane that is left, as README says it.
const ETCDCTL: &str = "-n kube-system exec etcd-tsecond -- etcdctl --cacert /etc/kubernetes/pki/etcd/ca.crt \
    --cert /etc/kubernetes/pki/etcd/healthcheck-client.crt --key /etc/kubernetes/pki/etcd/healthcheck-client.key";

/// A CA that is made before there is any machine, and what it is known by.
fn authority() -> Result<(PathBuf, String)> {
    let folder = repository().join("target/test-machines/together-pki");
    let _ = fs::remove_dir_all(&folder);
    let made = Command::new(binary()).args(["init", "phase", "certs/ca", "--cert-dir"]).arg(&folder).output()?;
    ensure!(made.status.success(), "{made:?}");
    let certificate = Certificate::from_pem(&fs::read(folder.join("ca.crt"))?).map_err(anyhow::Error::msg)?;
    Ok((folder, ca_hash(&certificate)))
}

/// A machine that is still off. What it lacks as a container is a drop-in, so that its own configuration is what image/try bakes.
fn machine(name: &str, address: &str, config: &str) -> Result<Machine> {
    let path = configuration(name, config)?;
    let (token, key) = (format!("edgeboot.token={TOKEN}"), format!("edgeboot.certificate-key={KEY}"));
    let options =
        ["--off", "--address", address, "--config", &path.to_string_lossy(), "--credential", &token, "--credential", &key];
    let machine = Machine::up(name, &options)?;
    let root = machine.root()?;
    let lacking = fs::read_to_string(repository().join("image/try.yaml"))?.replace("role: controlPlane\n", "");
    fs::create_dir_all(root.join("etc/edgeboot/config.d"))?;
    let lacking = lacking.replace("network: {component: bridge}\n", "");
    fs::write(root.join("etc/edgeboot/config.d/10-container.yaml"), lacking)?;
    Ok(machine)
}

fn founder(name: &str) -> Result<(Machine, String)> {
    let config = format!(
        "apiVersion: edgeboot.io/v1alpha1\nkind: NodeConfig\nrole: controlPlane\nnetwork: {{component: flannel}}\nuploadCerts: true\n---\n\
         apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nbootstrapTokens:\n  - tokenFrom: credential:edgeboot.token\n\
         certificateKeyFrom: credential:edgeboot.certificate-key\n---\n\
         apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\ncontrolPlaneEndpoint: {ENDPOINT}\n"
    );
    let machine = machine(name, "10.77.0.11/24", &config)?;
    let (folder, hash) = authority()?;
    let pki = machine.root()?.join("etc/kubernetes/pki");
    fs::create_dir_all(&pki)?;
    for file in ["ca.key", "ca.crt"] {
        fs::copy(folder.join(file), pki.join(file))?;
    }
    Ok((machine, hash))
}

/// The eight lines of image/try's worker, or nine for a control plane.
fn joiner(name: &str, address: &str, role: &str, hash: &str) -> Result<Machine> {
    let key = if role == "worker" { "" } else { "  certificateKeyFrom: credential:edgeboot.certificate-key\n" };
    let config = format!(
        "apiVersion: edgeboot.io/v1alpha1\nkind: NodeConfig\nrole: {role}\njoin:\n  endpoints: [\"{ENDPOINT}\"]\n  \
         tokenFrom: credential:edgeboot.token\n  caCertHashes: [\"{hash}\"]\n{key}"
    );
    machine(name, address, &config)
}

fn at_once(machines: &[&Machine], act: impl Fn(&Machine) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let running: Vec<_> = machines.iter().map(|machine| scope.spawn(|| act(machine))).collect();
        running.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })
}

/// What a boot may not touch, machine by machine.
fn stamps(machines: &[&Machine]) -> Result<String> {
    let of = |machine: &&Machine| {
        let state = machine.run("cat /var/lib/edgeboot/state.json")?;
        Ok(ledger_stamps(machine)? + &state)
    };
    machines.iter().map(of).collect::<Result<Vec<_>>>().map(|stamps| stamps.join("\n"))
}

fn together() -> Result<()> {
    let (founder, hash) = founder("tfounder")?;
    let second = joiner("tsecond", "10.77.0.12/24", "controlPlane", &hash)?;
    let third = joiner("tthird", "10.77.0.13/24", "controlPlane", &hash)?;
    let worker = joiner("tworker", "10.77.0.14/24", "worker", &hash)?;
    let (all, control_planes) = ([&worker, &third, &second, &founder], [&third, &second, &founder]);

    at_once(&all, Machine::on)?;
    let balancer = Balancer::before(&["10.77.0.11:6443", "10.77.0.12:6443", "10.77.0.13:6443"])?;
    at_once(&all, |machine| machine.ready(LIMIT).map(drop))?;
    third.kubectl("wait --for=condition=Ready nodes,pods --all -A --timeout=180s")?;
    let nodes = third.kubectl("get nodes --no-headers")?;
    ensure!(nodes.lines().count() == 4 && nodes.matches("control-plane").count() == 3, "{nodes}");
    at_once(&control_planes, |machine| votes_with_peers(machine, 2))?;
    reach_each_other(&third)?;

    let before = stamps(&all)?;
    at_once(&all, Machine::cut)?;
    at_once(&all, Machine::on)?;
    at_once(&all, |machine| machine.ready(LIMIT).map(drop))?;
    unchanged("a second boot of all at once changed something", &before, &stamps(&all)?)?;
    at_once(&control_planes, |machine| votes_with_peers(machine, 2))?;

    founder.cut()?;
    outlive(&second, &third, &worker)?;
    drop(balancer);
    Ok(())
}

/// A pod on the worker is answered by the pods of all nodes.
fn reach_each_other(machine: &Machine) -> Result<()> {
    fs::write(machine.root()?.join("root/pods.yaml"), PODS)?;
    machine.kubectl("apply -f /root/pods.yaml && kubectl rollout status daemonset/answer --timeout=180s")?;
    let column = |column: &str| machine.kubectl(&format!("get pods -l app=answer --no-headers -o custom-columns=C:{column}"));
    let asking = machine.kubectl("get pods -l app=answer --field-selector spec.nodeName=tworker -o name")?;
    let mut answers = Vec::new();
    for address in column(".status.podIP")?.split_whitespace() {
        let ask = format!("exec {} -- busybox wget -q -T 20 -O - http://{address}:8080", asking.trim());
        answers.push(machine.kubectl(&ask)?.trim().replace("answer of ", ""));
    }
    let mut nodes: Vec<String> = column(".spec.nodeName")?.split_whitespace().map(str::to_owned).collect();
    nodes.sort();
    answers.sort();
    ensure!(nodes.len() == 4 && answers == nodes, "{answers:?} of {nodes:?}");
    machine.kubectl("delete -f /root/pods.yaml").map(drop)
}

/// The machine that founded the cluster is gone for good: what is left serves, and forgets it.
fn outlive(second: &Machine, third: &Machine, worker: &Machine) -> Result<()> {
    second.kubectl("wait --for=condition=Ready=Unknown node/tfounder --timeout=180s")?;
    third.kubectl("create configmap proof --from-literal=alive=yes")?;
    third.kubectl("wait --for=condition=Ready node/tsecond node/tthird node/tworker --timeout=180s")?;
    worker.run("edgeboot reconcile --foreground && edgeboot plan --exit-code")?;

    // ID, status, name, and so on, separated by commas.
    let members = second.kubectl(&format!("{ETCDCTL} member list"))?;
    ensure!(members.lines().count() == 3, "{members}");
    let lost = members.lines().find(|line| line.contains("tfounder")).context("the lost one")?;
    let id = lost.split(',').next().context("its id")?;
    second.kubectl(&format!("{ETCDCTL} member remove {id}"))?;
    second.kubectl("delete node tfounder")?;
    at_once(&[second, third], |machine| {
        votes_with_peers(machine, 1)?;
        machine.settles(Duration::from_secs(60))
    })?;
    let nodes = third.kubectl("get nodes --no-headers")?;
    ensure!(nodes.lines().count() == 3, "{nodes}");
    Ok(())
}
