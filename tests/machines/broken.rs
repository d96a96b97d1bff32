//! What a torn write, a careless hand or time does to a node: after `edgeboot reconcile` the cluster serves, or the error names what
//! is broken and what to do.

use anyhow::{Context as _, Result, ensure};

use super::Case;
use super::machine::{LIMIT, Machine};

/// The cases of this file.
pub const CASES: [Case; 1] = [("whatever_is_broken_on_disk_is_mended_or_named", broken)];

/// Damage, and what `reconcile` says when it cannot mend it; empty: it mends it.
const DAMAGES: [(&str, &str); 18] = [
    (": > /etc/kubernetes/pki/apiserver.crt", ""),
    ("rm /etc/kubernetes/pki/apiserver.key", ""),
    (": > /etc/kubernetes/pki/apiserver.key", ""),
    ("cp /etc/kubernetes/pki/sa.key /etc/kubernetes/pki/apiserver.key", ""),
    (": > /etc/kubernetes/pki/apiserver-kubelet-client.key", ""),
    (EXPIRED, ""),
    (": > /etc/kubernetes/pki/sa.pub", ""),
    (": > /etc/kubernetes/manifests/kube-scheduler.yaml", ""),
    ("rm /etc/kubernetes/manifests/kube-controller-manager.yaml", ""),
    (": > /etc/kubernetes/kubelet.conf", ""),
    (": > /etc/kubernetes/controller-manager.conf", ""),
    (": > /var/lib/kubelet/pki/kubelet-client-current.pem", ""),
    (": > /var/lib/kubelet/config.yaml", ""),
    ("truncate -s 100 /var/lib/edgeboot/state.json", ""),
    (": > /etc/kubernetes/pki/ca.crt", "using /etc/kubernetes/pki/ca.crt: it is empty, and a cluster is here"),
    (": > /etc/kubernetes/pki/ca.key", "using /etc/kubernetes/pki/ca.key: it is empty, and a cluster is here"),
    (": > /etc/kubernetes/pki/sa.key", "using /etc/kubernetes/pki/sa.key: it is empty, and a cluster is here"),
    // Not damage but kubeadm's external CA; the last, for nothing is signed any more.
    ("rm /etc/kubernetes/pki/ca.key", ""),
];

/// Leaves of each CA that the years have passed by: a server's, and clients'.
const EXPIRED: &str = "set -e; cd /etc/kubernetes/pki
expire() { openssl x509 -in $1.crt -CA $2.crt -CAkey $2.key -not_before 20240101000000Z -not_after 20250101000000Z -out $1.old; cat $1.old > $1.crt; rm $1.old; }
expire apiserver ca; expire apiserver-kubelet-client ca; expire apiserver-etcd-client etcd/ca; expire etcd/server etcd/ca; expire front-proxy-client front-proxy-ca";

fn broken() -> Result<()> {
    let machine = Machine::up("broken", &[])?;
    machine.ready(LIMIT)?;
    machine.run("cp -a /etc/kubernetes/pki /root/whole")?;
    let authority = machine.digest("/etc/kubernetes/pki/ca.crt")?;
    for (damage, named) in DAMAGES {
        machine.run(damage)?;
        if named.is_empty() {
            machine.run("edgeboot plan")?;
        }
        let output = machine.attempt("edgeboot reconcile --foreground")?;
        let said = String::from_utf8_lossy(&output.stderr);
        if named.is_empty() {
            ensure!(output.status.success(), "after `{damage}`: {said}");
        } else {
            ensure!(output.status.code() == Some(69) && said.contains(named), "after `{damage}`: {}: {said}", output.status);
            ensure!(said.contains("hint: restore"), "no remedy after `{damage}`: {said}");
            machine.run("cp -a /root/whole/. /etc/kubernetes/pki/ && edgeboot reconcile --foreground")?;
        }
        machine.serves()?;
        machine.settles(LIMIT).with_context(|| format!("after `{damage}`"))?;
    }
    ensure!(machine.digest("/etc/kubernetes/pki/ca.crt")? == authority, "the CA was made again");

    half_extracted_package(&machine)
}

/// The package's folder without its last step: the next boot extracts it again.
fn half_extracted_package(machine: &Machine) -> Result<()> {
    machine.run("systemctl stop kubelet containerd edgeboot.service")?;
    machine.run("cd /var/lib/edgeboot/packages && d=$(readlink current) && mv $d .$d.partial && rm .$d.partial/bin/ctr")?;
    machine.cut()?;
    machine.on()?;
    machine.ready(LIMIT)?;
    machine.serves()?;
    ensure!(!machine.run("ls -A /var/lib/edgeboot/packages")?.contains("partial"), "the half-extracted package was left behind");
    Ok(())
}
