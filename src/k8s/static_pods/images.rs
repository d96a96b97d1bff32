//! The images of the control plane by name (`cmd/kubeadm/app/images/images.go`).

use crate::config::node::{Cluster, KubernetesVersion, LocalEtcd};
use crate::k8s::names;

/// The image of a component that Kubernetes releases under its own version.
pub fn control_plane(cluster: &Cluster, version: &KubernetesVersion, name: &str) -> String {
    // A tag has no `+`.
    let tag: String =
        version.to_string().chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
    format!("{}/{name}:{tag}", cluster.image_repository)
}

/// etcd's image: the tag belongs to the Kubernetes version (the same one for v1.34 to v1.36).
pub fn etcd(cluster: &Cluster, local: &LocalEtcd) -> String {
    let or = |given: &str, otherwise: &str| if given.is_empty() { otherwise.to_owned() } else { given.to_owned() };
    format!("{}/etcd:{}", or(&local.image_repository, &cluster.image_repository), or(&local.image_tag, names::ETCD_TAG))
}
