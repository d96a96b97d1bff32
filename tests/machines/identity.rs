//! Which machine this is: the configuration names it and the node; a copy of its disk is refused, its kubelet does not start, and the
//! explicit word lets it in.

use std::fs;

use anyhow::{Result, ensure};

use super::Case;
use super::joins::configuration;
use super::machine::{LIMIT, Machine, repository};

/// The cases of this file.
pub const CASES: [Case; 1] = [("a_node_is_named_and_its_copy_stays_down_until_it_is_adopted", copied)];

const ANOTHER_ID: &str = "fedcba9876543210fedcba9876543210";

fn copied() -> Result<()> {
    let common = fs::read_to_string(repository().join("image/try.yaml"))?;
    let path = configuration("copied", &common.replace("role: controlPlane\n", "role: controlPlane\nhost: {hostname: Edge-7}\n"))?;
    let machine = Machine::up("copied", &["--config", &path.to_string_lossy()])?;
    machine.ready(LIMIT)?;
    let names = machine.run("cat /etc/hostname; hostname; KUBECONFIG=/etc/kubernetes/admin.conf kubectl get nodes -o name")?;
    ensure!(names == "Edge-7\nEdge-7\nnode/edge-7\n", "{names}");
    let flags = machine.run("cat /var/lib/kubelet/kubeadm-flags.env")?;
    ensure!(!flags.contains("hostname-override"), "{flags}");
    machine.run("edgeboot plan --exit-code")?;
    let authority = machine.digest("/etc/kubernetes/pki/ca.crt")?;
    machine.off()?;
    fs::write(machine.root()?.join("etc/machine-id"), format!("{ANOTHER_ID}\n"))?;
    machine.on()?;

    let status = machine.finished(LIMIT)?;
    ensure!(status["result"] == "failed", "{status:#}");
    let said = machine.run("edgeboot status")?;
    for word in ["copied from the node 'edge-7'", ANOTHER_ID, "edgeboot reset", "--adopt-machine"] {
        ensure!(said.contains(word), "`{word}` is not in the status:\n{said}");
    }
    let units =
        machine.run("systemctl show -p ActiveState -p ConditionResult kubelet; systemctl show -p ExecMainStatus edgeboot")?;
    ensure!(units.contains("ActiveState=inactive") && units.contains("ConditionResult=no"), "the kubelet of a copy runs: {units}");
    ensure!(units.contains("ExecMainStatus=78"), "{units}");
    for command in ["plan", "preflight", "reconcile --foreground"] {
        let output = machine.attempt(&format!("edgeboot {command} 2>&1"))?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.code() == Some(78) && said.contains(ANOTHER_ID), "`edgeboot {command}`: {} {said}", output.status);
    }

    machine.run("edgeboot reconcile --adopt-machine")?;
    machine.serves()?;
    machine.run("edgeboot plan --exit-code")?;
    ensure!(machine.digest("/etc/kubernetes/pki/ca.crt")? == authority, "the CA was made again");
    machine.off()?;
    machine.on()?;
    machine.ready(LIMIT)?;
    machine.serves()
}
