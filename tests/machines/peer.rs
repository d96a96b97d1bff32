//! A machine of kubeadm's: no edgeboot, but containerd and the kubelet as edgeboot runs them, with the package's programs and images, so
//! that only what makes the node is another.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use edgeboot::k8s::{names, units};

use super::machine::{Machine, repository};

/// Where it sees what the package is made of.
const SOURCE: &str = "/package-source";
/// A container has no CAP_SYS_RESOURCE (see image/try.yaml).
pub const OVERRIDE: &str = "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\n  restrict_oom_score_adj = true\n";
/// kubeadm's network is the user's affair; this one is enough for one node.
const NETWORK: &str = include_str!("parity/bridge.conflist");

/// A machine with containerd, the kubelet's unit and the images; `prepare` lays what else it shall have into its root.
pub fn up(name: &str, address: &str, prepare: impl FnOnce(&Path) -> Result<()>) -> Result<Machine> {
    let source =
        repository().join("target/package-source").canonicalize().context("target/package-source; image/package makes it")?;
    let bind = format!("--bind-ro={}:{SOURCE}", source.display());
    let machine = Machine::up(name, &["--bare", "--off", "--address", &format!("{address}/24"), "--nspawn", &bind])?;
    let root = machine.root()?;
    lay_runtime(&root)?;
    let last = address.rsplit('.').next().unwrap_or("0");
    // The first one's pods are where kubeadm's tests look for them.
    let pods = if last == "11" { "0" } else { last };
    write(&root, "/etc/cni/net.d/10-bridge.conflist", &NETWORK.replace("10.244.0.", &format!("10.244.{pods}.")))?;
    prepare(&root)?;
    machine.on()?;
    machine.run("systemctl enable --now containerd kubelet")?;
    machine.run(&format!("for image in {SOURCE}/images/*.tar; do ctr -n k8s.io images import --local $image >&2 || exit; done"))?;
    Ok(machine)
}

/// A file of the machine, with its folder.
pub fn write(root: &Path, path: &str, text: &str) -> Result<()> {
    let path = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().context("a folder")?)?;
    fs::write(&path, text).with_context(|| path.display().to_string())
}

fn lay_runtime(root: &Path) -> Result<()> {
    let current = root.join(names::PACKAGES_DIR.trim_start_matches('/'));
    fs::create_dir_all(&current)?;
    std::os::unix::fs::symlink(format!("{SOURCE}/files"), current.join("current"))?;
    let kubelet = units::kubelet_unit_files("none");
    let runtime = [units::containerd_service("none"), units::containerd_config("registry.k8s.io/pause:3.10.2")];
    for file in kubelet.into_iter().chain(runtime) {
        write(root, &file.path, &file.text)?;
    }
    write(root, units::CONTAINERD_NODE_CONFIG, OVERRIDE)?;
    write(root, "/etc/sysctl.d/90-kubernetes.conf", "net.ipv4.ip_forward = 1\n")
}
