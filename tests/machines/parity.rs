//! A cluster that kubeadm made and one that edgeboot made of the same configuration, on machines of the same name and address, one
//! after the other: their objects are compared as data, all of them, and what may differ is in `tests/parity/differences.yaml`. And
//! kubeadm's day-2 commands work on edgeboot's cluster.

#[path = "../parity/describe.rs"]
mod describe;
#[path = "../parity/differences.rs"]
mod differences;
mod objects;

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};

use super::Case;
use super::machine::{LIMIT, Machine};
use super::peer::{self, OVERRIDE, write};
use objects::Objects;

/// The cases of this file.
pub const CASES: [Case; 2] = [
    ("the_defaults_make_kubeadms_objects_and_kubeadm_works_on_them", defaults),
    ("most_options_at_once_make_kubeadms_objects", options),
];

/// What both are made of.
struct Cluster {
    /// As `tests/parity/differences.yaml` names it.
    name: &'static str,
    /// kubeadm's documents.
    stream: &'static str,
    /// edgeboot's own document says the rest: the pod network.
    component: &'static str,
    /// And whether the certificates are uploaded, which is a flag of kubeadm's.
    upload_certs: bool,
    /// The kubelet's flags in /etc/default/kubelet.
    kubelet_flags: &'static str,
}

const DEFAULTS: Cluster = Cluster {
    name: "live-defaults",
    stream: include_str!("parity/defaults.yaml"),
    component: "none",
    upload_certs: false,
    // This host may have cgroup v1, and little room on its disk: neither is kubeadm's to say.
    kubelet_flags: "--fail-cgroupv1=false --eviction-hard=nodefs.available<1%",
};
const OPTIONS: Cluster = Cluster {
    name: "live-options",
    stream: include_str!("parity/options.yaml"),
    component: "bridge",
    upload_certs: true,
    kubelet_flags: "",
};

/// The name of every machine here: it is in the objects.
const MACHINE: &str = "parity";

fn defaults() -> Result<()> {
    let theirs = DEFAULTS.by_kubeadm()?;
    let (machine, ours) = DEFAULTS.by_edgeboot()?;
    DEFAULTS.compare(&theirs, &ours)?;
    a_token_of_kubeadms_works(&machine)?;
    kubeadm_plans_an_upgrade(&machine)
}

fn options() -> Result<()> {
    let theirs = OPTIONS.by_kubeadm()?;
    let (_machine, ours) = OPTIONS.by_edgeboot()?;
    OPTIONS.compare(&theirs, &ours)
}

impl Cluster {
    /// The objects of kubeadm's cluster; its machine is gone afterwards, for the next one has its address.
    fn by_kubeadm(&self) -> Result<Objects> {
        let machine = peer::up(MACHINE, "10.77.0.11", |root| {
            self.surroundings(root)?;
            write(root, "/root/kubeadm.yaml", self.stream)
        })?;
        let upload = if self.upload_certs { "--upload-certs" } else { "" };
        machine.run(&format!("kubeadm init --config /root/kubeadm.yaml --skip-phases=preflight {upload}"))?;
        Objects::settled(&machine, self.stream)
    }

    /// edgeboot's machine, and the objects of its cluster.
    fn by_edgeboot(&self) -> Result<(Machine, Objects)> {
        let machine = Machine::up(MACHINE, &["--off"])?;
        let root = machine.root()?;
        self.surroundings(&root)?;
        if self.component == "none" {
            write(&root, "/etc/cni/net.d/10-bridge.conflist", include_str!("parity/bridge.conflist"))?;
        }
        let node = serde_json::json!({
            "apiVersion": "edgeboot.io/v1alpha1", "kind": "NodeConfig", "role": "controlPlane",
            "network": {"component": self.component}, "uploadCerts": self.upload_certs, "runtime": {"config": OVERRIDE},
        });
        // The file of the image is there, with its mode.
        fs::write(root.join("etc/edgeboot/config.yaml"), format!("{node}\n---\n{}", self.stream))?;
        machine.on()?;
        machine.ready(LIMIT)?;
        let objects = Objects::settled(&machine, self.stream)?;
        Ok((machine, objects))
    }

    /// What the configuration needs of a machine, whoever makes the cluster.
    fn surroundings(&self, root: &Path) -> Result<()> {
        let patch = include_str!("parity/corednsdeployment+strategic.yaml");
        write(root, "/etc/patches/corednsdeployment+strategic.yaml", patch)?;
        write(root, "/etc/default/kubelet", &format!("KUBELET_EXTRA_ARGS=\"{}\"\n", self.kubelet_flags))?;
        write(root, "/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n10.77.0.11 api.plant.example\n")
    }

    fn compare(&self, theirs: &Objects, ours: &Objects) -> Result<()> {
        let list = differences::wanted(|subject| !subject.starts_with('/'), &[DEFAULTS.name, OPTIONS.name]);
        let wrong = differences::judge(self.name, &list, &theirs.differences(ours));
        ensure!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
        Ok(())
    }
}

/// kubeadm makes, lists and deletes a token; what joins with it finds the cluster signed, and what it may read.
fn a_token_of_kubeadms_works(machine: &Machine) -> Result<()> {
    let token = machine.run("kubeadm token create --description kubeadms --ttl 1h")?;
    let token = token.trim();
    let id = token.split('.').next().unwrap_or_default();
    ensure!(machine.run("kubeadm token list")?.contains("kubeadms"), "the token is not listed");
    let signed =
        format!("kubectl -n kube-public wait configmap/cluster-info --timeout=60s --for=jsonpath={{.data.jws-kubeconfig-{id}}}");
    machine.run(&signed)?;
    let stranger =
        "kubectl --kubeconfig /dev/null --server https://10.77.0.11:6443 --certificate-authority /etc/kubernetes/pki/ca.crt";
    for map in ["kubeadm-config", "kubelet-config"] {
        machine.run(&format!("{stranger} --token {token} -n kube-system get configmap {map}"))?;
    }
    let refused = machine.attempt(&format!("{stranger} --token {token} -n kube-system get secrets"))?;
    ensure!(String::from_utf8_lossy(&refused.stderr).contains("forbidden"), "a token reads secrets");
    machine.run(&format!("kubeadm token delete {id}"))?;
    Ok(())
}

/// As far as it goes without a network: kubeadm takes the cluster for healthy, reads its configuration, finds the version, and would
/// write the manifests that are there.
fn kubeadm_plans_an_upgrade(machine: &Machine) -> Result<()> {
    let said = machine.run("kubeadm upgrade plan")?;
    for line in ["[upgrade/versions] Cluster version: 1.36.3", "[upgrade/versions] Target version: v1.36.3"] {
        ensure!(said.contains(line), "kubeadm upgrade plan: {said}");
    }
    let manifests = machine.run("kubeadm upgrade diff")?;
    let unquoted = |sign: char| {
        let lines = manifests.lines().filter(|line| !line.starts_with("---") && !line.starts_with("+++"));
        lines.filter_map(|line| line.strip_prefix(sign)).map(|line| line.replace(['"', '\''], "")).collect::<Vec<_>>()
    };
    ensure!(unquoted('-') == unquoted('+'), "more than quotes differs: {manifests}");
    Ok(())
}
