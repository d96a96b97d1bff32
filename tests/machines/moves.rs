//! A control plane whose address changes: `plan` says what follows, `reconcile` makes it so, and the cluster serves at the new one.

use std::fs;

use anyhow::{Result, ensure};

use super::Case;
use super::boots::{ledger_stamps, unchanged};
use super::machine::{LIMIT, Machine};

/// The cases of this file.
pub const CASES: [Case; 1] = [("a_control_plane_moves_to_another_address_and_serves", moves)];

const BEFORE: &str = "10.77.0.11";
const AFTER: &str = "10.77.0.21";

/// Everything that names an address, in files and in the cluster.
const TRACES: &str = "grep -rl 10.77.0.11 /etc/kubernetes /var/lib/kubelet/config.yaml /var/lib/edgeboot 2>/dev/null;
export KUBECONFIG=/etc/kubernetes/admin.conf
for namespace in kube-system kube-public; do kubectl -n $namespace get configmaps -o yaml | grep 10.77.0.11; done
kubectl get endpointslices -A -o yaml | grep 10.77.0.11
true";

/// etcd's own word on where its peers find it.
const MEMBERS: &str = "cd /etc/kubernetes/pki/etcd; printf 'POST /v3/cluster/member/list HTTP/1.1\\r\\nHost: etcd\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\n{}' |
openssl s_client -quiet -connect 127.0.0.1:2379 -cert healthcheck-client.crt -key healthcheck-client.key 2>/dev/null | tail -n 1";

fn moves() -> Result<()> {
    let machine = Machine::up("moves", &["--address", &format!("{BEFORE}/24")])?;
    machine.ready(LIMIT)?;
    let authority = machine.digest("/etc/kubernetes/pki/ca.crt")?;

    let init =
        format!("apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nlocalAPIEndpoint: {{advertiseAddress: {AFTER}}}\n");
    // The path unit would take it at once, and `plan` is to say it first.
    machine.run("systemctl stop edgeboot.path")?;
    machine.run(&format!("ip address add {AFTER}/24 dev eth0"))?;
    fs::write(machine.root()?.join("etc/edgeboot/config.d/10-address.yaml"), init)?;
    let plan = machine.run("edgeboot plan")?;
    for line in [
        "pki/apiserver.crt (not valid for 10.77.0.21), restarts a component of the control plane",
        "pki/etcd/peer.crt (not valid for 10.77.0.21)",
        "kubelet.conf (its server is https://10.77.0.11:6443, not https://10.77.0.21:6443), restarts the kubelet",
        "update /etc/kubernetes/manifests/etcd.yaml",
    ] {
        ensure!(plan.contains(line), "`{line}` is not in the plan:\n{plan}");
    }

    machine.run(&format!("ip address delete {BEFORE}/24 dev eth0; ip address add {AFTER}/24 dev eth0 2>/dev/null; ip route replace default via 10.77.0.1"))?;
    machine.run("edgeboot reconcile --foreground")?;
    machine.settles(LIMIT)?;
    machine.serves()?;
    let members = machine.run(MEMBERS)?;
    ensure!(members.contains("\"peerURLs\":[\"https://10.77.0.21:2380\"]"), "{members}");
    let traces = machine.run(TRACES)?;
    ensure!(traces.trim().is_empty(), "the address of before is still in\n{traces}");
    ensure!(machine.digest("/etc/kubernetes/pki/ca.crt")? == authority, "the CA was made again");
    machine.kubectl("-n kube-system rollout status daemonset/kube-proxy --timeout=120s")?;
    machine.kubectl("-n kube-system rollout status deployment/coredns --timeout=120s")?;

    let stamps = ledger_stamps(&machine)?;
    machine.run("edgeboot reconcile --foreground && edgeboot plan --exit-code")?;
    unchanged("reconcile touched files of the ledger", &stamps, &ledger_stamps(&machine)?)
}
