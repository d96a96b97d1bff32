//! What the static pods see of the host (`cmd/kubeadm/app/phases/controlplane/volumes.go`): certificates, kubeconfigs, the host's CA
//! bundles and the user's own folders. A user's volume of the same name replaces ours.

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8Path;
use serde_json::{Value, json};

use crate::config::node::{Etcd, ExternalEtcd, HostPathMount, LocalEtcd};
use crate::k8s::names;

use super::ControlPlane;

/// Folders that files in /etc/ssl/certs may be links into; those that exist are mounted.
pub const CA_DIRS: [&str; 5] = [
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
];
const CA_CERTS: &str = "/etc/ssl/certs";
const DIRECTORY: &str = "DirectoryOrCreate";

/// A pod's volumes and its container's mounts.
pub struct Volumes {
    /// `spec.volumes`.
    pub volumes: Vec<Value>,
    /// `volumeMounts` of the container.
    pub mounts: Vec<Value>,
}

/// Volume and mount by name: names are unique, and kubeadm writes them in this order.
#[derive(Default)]
struct ByName(BTreeMap<String, (Value, Value)>);

impl ByName {
    fn add(&mut self, name: &str, host: &str, container: &str, read_only: bool, host_type: &str) {
        let mut mount = json!({ "mountPath": container, "name": name });
        if read_only {
            mount["readOnly"] = true.into();
        }
        // An unspecified type is written as an empty string: kubeadm has a pointer there.
        let volume = json!({ "hostPath": { "path": host, "type": host_type }, "name": name });
        self.0.insert(name.to_owned(), (volume, mount));
    }
    fn read_only(&mut self, name: &str, path: &str, host_type: &str) {
        self.add(name, path, path, true, host_type);
    }
    fn ca_bundles(&mut self, existing: &[String]) {
        self.read_only("ca-certs", CA_CERTS, DIRECTORY);
        for dir in CA_DIRS.iter().filter(|dir| existing.iter().any(|there| there == *dir)) {
            self.read_only(&dir[1..].replace('/', "-"), dir, DIRECTORY);
        }
    }
    fn with(mut self, extra: &[HostPathMount]) -> Volumes {
        for mount in extra {
            self.add(&mount.name, &mount.host_path, &mount.mount_path, mount.read_only, &mount.path_type);
        }
        let (volumes, mounts) = self.0.into_values().unzip();
        Volumes { volumes, mounts }
    }
}

/// kube-apiserver's.
pub fn api_server(control_plane: &ControlPlane<'_>) -> Volumes {
    let cluster = &control_plane.node.cluster;
    let mut volumes = ByName::default();
    volumes.read_only("k8s-certs", cluster.certificates_dir.as_str(), DIRECTORY);
    if let Etcd::External(etcd) = &cluster.etcd {
        for (index, dir) in external_etcd_dirs(etcd, &cluster.certificates_dir).iter().enumerate() {
            volumes.read_only(&format!("etcd-certs-{index}"), dir, DIRECTORY);
        }
    }
    volumes.ca_bundles(control_plane.existing_ca_dirs);
    volumes.with(&cluster.api_server.extra_volumes)
}

/// kube-controller-manager's.
pub fn controller_manager(control_plane: &ControlPlane<'_>) -> Volumes {
    let cluster = &control_plane.node.cluster;
    let mut volumes = ByName::default();
    volumes.read_only("k8s-certs", cluster.certificates_dir.as_str(), DIRECTORY);
    volumes.read_only("kubeconfig", names::CONTROLLER_MANAGER_CONF, "FileOrCreate");
    volumes.ca_bundles(control_plane.existing_ca_dirs);
    volumes.with(&cluster.controller_manager.extra_volumes)
}

/// kube-scheduler's.
pub fn scheduler(control_plane: &ControlPlane<'_>) -> Volumes {
    let mut volumes = ByName::default();
    volumes.read_only("kubeconfig", names::SCHEDULER_CONF, "FileOrCreate");
    volumes.with(&control_plane.node.cluster.scheduler.extra_volumes)
}

/// etcd's; kubeadm writes its mounts in this order.
pub fn etcd(control_plane: &ControlPlane<'_>, local: &LocalEtcd) -> Volumes {
    let certificates = format!("{}/etcd", control_plane.node.cluster.certificates_dir);
    let volume = |name: &str, path: &str| json!({ "hostPath": { "path": path, "type": DIRECTORY }, "name": name });
    let mount = |name: &str, path: &str| json!({ "mountPath": path, "name": name });
    Volumes {
        volumes: vec![volume("etcd-certs", &certificates), volume("etcd-data", local.data_dir.as_str())],
        mounts: vec![mount("etcd-data", local.data_dir.as_str()), mount("etcd-certs", &certificates)],
    }
}

/// The folders of an external etcd's certificates that no other volume shows already, without those that lie in another of them.
fn external_etcd_dirs(etcd: &ExternalEtcd, certificates_dir: &Utf8Path) -> BTreeSet<String> {
    let mut dirs: BTreeSet<String> = BTreeSet::new();
    for file in [&etcd.ca_file, &etcd.cert_file, &etcd.key_file] {
        let Some(dir) = Utf8Path::new(file).parent().map(Utf8Path::as_str).filter(|dir| !dir.is_empty()) else { continue };
        let shown = CA_DIRS.iter().any(|known| dir.starts_with(known))
            || dir.starts_with(CA_CERTS)
            || dir.starts_with(certificates_dir.as_str());
        if shown || dirs.iter().any(|known| dir.starts_with(known.as_str()) && !known.starts_with(dir)) {
            continue;
        }
        dirs.retain(|known| !known.starts_with(dir));
        dirs.insert(dir.to_owned());
    }
    dirs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folders_of_an_external_etcd_are_mounted_once() {
        let dirs = |ca: &str, cert: &str, key: &str| {
            let etcd = ExternalEtcd {
                endpoints: vec![],
                http_endpoints: vec![],
                ca_file: ca.into(),
                cert_file: cert.into(),
                key_file: key.into(),
            };
            external_etcd_dirs(&etcd, Utf8Path::new("/etc/kubernetes/pki")).into_iter().collect::<Vec<_>>()
        };
        let none: [&str; 0] = [];
        assert_eq!(dirs("", "", ""), none);
        assert_eq!(dirs("/etc/kubernetes/pki/etcd/ca.crt", "/etc/ssl/certs/x.crt", "/etc/ca-certificates/y"), none);
        assert_eq!(dirs("/a/ca.crt", "/a/c.crt", "/a/c.key"), ["/a"]);
        assert_eq!(dirs("/b/c/ca.crt", "/b/c.crt", "/d/c.key"), ["/b", "/d"]);
        assert_eq!(dirs("/b/ca.crt", "/b/c/c.crt", "/b/c/c.key"), ["/b"]);
    }
}
