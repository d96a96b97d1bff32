//! `FileAvailable-*`, `DirAvailable-*` and `ExternalEtcdClientCertificates`: what stands where the node's files will.

use super::{Check, Finding, Look, is_node_here, is_written, on_control_plane};
use crate::config::node::{Etcd, Node, Role};
use crate::engine::context::Context;
use crate::error::Result;
use crate::k8s::names;

pub(super) const CHECKS: &[Check] = &[
    Check { name: "FileAvailable", applies: on_control_plane, look: Look::AtFiles(manifests) },
    Check { name: "FileAvailable", applies: is_worker, look: Look::AtFiles(credentials) },
    Check { name: "DirAvailable", applies: on_control_plane, look: Look::AtFiles(etcd_data) },
    Check { name: EXTERNAL_ETCD, applies: on_control_plane, look: Look::AtFiles(external_etcd) },
];

const EXTERNAL_ETCD: &str = "ExternalEtcdClientCertificates";
const MANIFESTS: &[&str] = &["kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"];
/// What mkfs puts into every ext4 file system.
const OF_THE_FILE_SYSTEM: &str = "lost+found";

fn is_worker(node: &Node) -> bool {
    node.role == Role::Worker
}

fn manifests(cx: &Context) -> Result<Vec<Finding>> {
    let paths = MANIFESTS.iter().map(|name| format!("{}/{name}.yaml", names::MANIFESTS_DIR));
    available(cx, paths)
}

fn credentials(cx: &Context) -> Result<Vec<Finding>> {
    let authority = cx.node.join().map_or_else(|| names::CA_CERT.to_owned(), |join| join.ca_cert_path.to_string());
    available(cx, [names::BOOTSTRAP_KUBELET_CONF.to_owned(), authority].into_iter())
}

/// Absent, empty, ours, or of the node that is here.
fn available(cx: &Context, paths: impl Iterator<Item = String>) -> Result<Vec<Finding>> {
    if is_node_here(cx)? {
        return Ok(Vec::new());
    }
    let mut findings = Vec::new();
    for path in paths {
        if is_written(cx, &path)? && !cx.is_ours(&path)? {
            let name = format!("FileAvailable-{}", path.replace('/', "-"));
            let message = format!("{path} is there, and not of a node that edgeboot knows");
            findings.push(Finding::error(name, message, "move it away, or run `edgeboot reset` if it is left over"));
        }
    }
    Ok(findings)
}

/// Data of etcd belongs to a cluster that is here, or to one whose keys are lost; the second is not to be buried silently.
fn etcd_data(cx: &Context) -> Result<Vec<Finding>> {
    let Etcd::Local(etcd) = &cx.node.cluster.etcd else { return Ok(Vec::new()) };
    let folder = &etcd.data_dir;
    let names = cx.host.root.list(folder)?.unwrap_or_default();
    let is_empty = names.iter().all(|name| name == OF_THE_FILE_SYSTEM);
    let is_used = is_node_here(cx)? || cx.host.root.exists(format!("{}/etcd.yaml", names::MANIFESTS_DIR))?;
    if is_empty || is_used {
        return Ok(Vec::new());
    }
    let name = format!("DirAvailable-{}", folder.as_str().replace('/', "-"));
    let message = format!("{folder} is not empty, and no node is here that it belongs to");
    let remedy = "bring back /etc/kubernetes of that cluster, or move the data away to begin a new one";
    Ok(vec![Finding::error(name, message, remedy)])
}

fn external_etcd(cx: &Context) -> Result<Vec<Finding>> {
    let Etcd::External(etcd) = &cx.node.cluster.etcd else { return Ok(Vec::new()) };
    let mut findings = Vec::new();
    for path in [&etcd.ca_file, &etcd.cert_file, &etcd.key_file].into_iter().filter(|path| !path.is_empty()) {
        if !is_written(cx, path)? {
            findings.push(Finding::error(
                EXTERNAL_ETCD,
                format!("{path} is not there"),
                "put the client's certificate for etcd there",
            ));
        }
    }
    Ok(findings)
}
