//! Control planes whose etcd, or whose CA's key, is somewhere else.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::Case;
use super::machine::{LIMIT, Machine, repository};

/// The cases of this file.
pub const CASES: [Case; 2] =
    [("a_control_plane_with_an_external_etcd_serves", etcd), ("a_control_plane_without_the_key_of_its_ca_serves", authority)];

/// Where etcd is.
const ETCD: &str = "10.77.0.21";
/// An authority, what it signs for etcd and for the API server; in the current folder.
const ETCD_KEYS: &str = "set -e
key() { openssl ecparam -genkey -name prime256v1 -noout -out $1.key; openssl req -new -key $1.key -subj /CN=$1 -out $1.csr; }
sign() { openssl x509 -req -in $1.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -extensions $1 -out $1.crt; }
printf '[ca]\\nbasicConstraints=critical,CA:true\\n[server]\\nsubjectAltName=IP:10.77.0.21\\nextendedKeyUsage=serverAuth,clientAuth\\n[client]\\nextendedKeyUsage=clientAuth\\n' > extensions
key ca; key server; key client
openssl x509 -req -in ca.csr -signkey ca.key -days 2 -extfile extensions -extensions ca -out ca.crt
sign server; sign client";
/// etcd with TLS, which knows its clients by their certificates.
const ETCD_UNIT: &str = "[Service]
Type=notify
ExecStart=/usr/local/bin/etcd --data-dir /var/lib/etcd --listen-client-urls https://10.77.0.21:2379 \\
  --advertise-client-urls https://10.77.0.21:2379 --listen-peer-urls http://127.0.0.1:2380 --client-cert-auth \\
  --trusted-ca-file /etc/etcd/ca.crt --cert-file /etc/etcd/server.crt --key-file /etc/etcd/server.key
[Install]
WantedBy=multi-user.target
";
const ETCD_DOCUMENT: &str = "apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
etcd:
  external:
    endpoints: [\"https://10.77.0.21:2379\"]
    caFile: /etc/etcd-client/ca.crt
    certFile: /etc/etcd-client/client.crt
    keyFile: /etc/etcd-client/client.key
";

fn shell(folder: &Path, script: &str) -> Result<()> {
    let output = Command::new("sh").args(["-c", script]).current_dir(folder).output()?;
    ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// A control plane's machine, off, whose configuration says this besides.
fn control_plane(document: &str) -> Result<Machine> {
    let machine = Machine::up("external", &["--off"])?;
    let config = machine.root()?.join("etc/edgeboot/config.yaml");
    let wish = fs::read_to_string(&config)?;
    // The file of the image is there, with its mode.
    fs::write(&config, format!("{wish}---\n{document}"))?;
    Ok(machine)
}

/// Boots it twice, and the second boot changes nothing.
fn boots(machine: &Machine) -> Result<()> {
    machine.on()?;
    machine.ready(LIMIT)?;
    machine.serves()?;
    machine.run("edgeboot plan --exit-code")?;
    machine.off()?;
    machine.on()?;
    machine.ready(LIMIT)?;
    machine.serves()?;
    machine.run("edgeboot plan --exit-code").map(drop)
}

fn etcd() -> Result<()> {
    let store = Machine::up("store", &["--bare", "--off", "--address", &format!("{ETCD}/24")])?;
    let keys = store.root()?.join("etc/etcd");
    fs::create_dir_all(&keys)?;
    shell(&keys, ETCD_KEYS)?;
    let program = repository().join("target/go/bin/etcd");
    fs::copy(&program, store.root()?.join("usr/local/bin/etcd")).with_context(|| program.display().to_string())?;
    fs::write(store.root()?.join("etc/systemd/system/etcd.service"), ETCD_UNIT)?;
    store.on()?;
    store.run("systemctl enable --now etcd")?;

    let machine = control_plane(ETCD_DOCUMENT)?;
    let client = machine.root()?.join("etc/etcd-client");
    fs::create_dir_all(&client)?;
    for file in ["ca.crt", "client.crt", "client.key"] {
        fs::copy(keys.join(file), client.join(file))?;
    }
    boots(&machine)?;
    for absent in ["/etc/kubernetes/manifests/etcd.yaml", "/etc/kubernetes/pki/etcd", "/var/lib/etcd/member"] {
        machine.run(&format!("! test -e {absent}"))?;
    }
    ensure!(machine.kubectl("get --raw /readyz/etcd")? == "ok", "the API server does not reach etcd");
    let held = store.run("du -s /var/lib/etcd/member/wal | cut -f1")?;
    ensure!(held.trim().parse::<u32>().is_ok_and(|kilobytes| kilobytes > 0), "etcd holds nothing: {held}");
    Ok(())
}

/// The holder of the CA makes everything with kubeadm, and keeps the key.
fn authority() -> Result<()> {
    let machine = control_plane("apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n")?;
    let kubeadm = repository().join("target/package-source/files/bin/kubeadm");
    let holder = tempfile::tempdir()?;
    let config = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nlocalAPIEndpoint: {advertiseAddress: 10.77.0.11}\n\
                  nodeRegistration: {name: external}\n---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n\
                  kubernetesVersion: v1.36.3\nencryptionAlgorithm: ECDSA-P256\n";
    fs::write(holder.path().join("kubeadm.yaml"), config)?;
    fs::create_dir_all(holder.path().join("tmp"))?;
    for phase in ["certs", "kubeconfig"] {
        let run = format!("{} init phase {phase} all --config=/kubeadm.yaml --rootfs .", kubeadm.display());
        shell(holder.path(), &run)?;
    }
    let made = machine.root()?.join("etc/kubernetes");
    fs::create_dir_all(&made)?;
    shell(&holder.path().join("etc/kubernetes"), &format!("rm pki/ca.key && cp -a . {}", made.display()))?;
    let before = machine.root()?.join("etc/kubernetes/pki/ca.crt");
    let certificate = fs::read(&before)?;

    boots(&machine)?;
    machine.run("! test -e /etc/kubernetes/pki/ca.key")?;
    ensure!(fs::read(machine.root()?.join("etc/kubernetes/pki/ca.crt"))? == certificate, "the CA was made again");
    let manager = machine.run("cat /etc/kubernetes/manifests/kube-controller-manager.yaml")?;
    ensure!(!manager.contains("ca.key"), "the controller manager is to sign with a key that is not there:\n{manager}");
    Ok(())
}
