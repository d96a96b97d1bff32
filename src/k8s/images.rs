//! Which container images a node needs, by name: kubeadm's rules (`cmd/kubeadm/app/images/images.go`), with its overrides for etcd
//! and CoreDNS. The pause image named here is also containerd's sandbox image: they must be one.

use crate::config::node::{Cluster, Etcd, KubernetesVersion, LocalEtcd, NetworkComponent, Node, Role};

use super::names;

/// The programs of the control plane that Kubernetes releases under its own version.
pub const CONTROL_PLANE: [&str; 3] = [API_SERVER, "kube-controller-manager", "kube-scheduler"];
const API_SERVER: &str = "kube-apiserver";
/// Those that can do nothing before kube-apiserver answers.
const CONTROLLERS: [&str; 2] = ["kube-controller-manager", "kube-scheduler"];
/// flannel's images as upstream's manifest names them, in no registry of Kubernetes': the daemon, and the network plugin.
pub const FLANNEL: &str = "ghcr.io/flannel-io/flannel:v0.26.7";
/// The plugin that its pod lays on each node.
pub const FLANNEL_PLUGIN: &str = "ghcr.io/flannel-io/flannel-cni-plugin:v1.6.2-flannel1";
/// CoreDNS lies one folder deeper in the default registry only.
const COREDNS: &str = "coredns";

fn or<'a>(given: &'a str, otherwise: &'a str) -> &'a str {
    if given.is_empty() { otherwise } else { given }
}

/// The image of a component that Kubernetes releases under its own version: the control plane's, and kube-proxy.
pub fn kubernetes(cluster: &Cluster, version: &KubernetesVersion, name: &str) -> String {
    // A tag has no `+`.
    let tag: String =
        version.to_string().chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
    format!("{}/{name}:{tag}", cluster.image_repository)
}

/// etcd's image: the tag belongs to the Kubernetes version (the same one for v1.34 to v1.36).
pub fn etcd(cluster: &Cluster, local: &LocalEtcd) -> String {
    let repository = or(&local.image_repository, &cluster.image_repository);
    format!("{repository}/etcd:{}", or(&local.image_tag, names::ETCD_TAG))
}

/// CoreDNS' image (`GetDNSImage`).
pub fn coredns(cluster: &Cluster) -> String {
    let repository = or(&cluster.dns.image_repository, &cluster.image_repository);
    let folder = if repository == names::IMAGE_REPOSITORY { "/coredns" } else { "" };
    format!("{repository}{folder}/{COREDNS}:{}", or(&cluster.dns.image_tag, names::COREDNS_TAG))
}

/// The pause image, which is containerd's sandbox image too.
pub fn pause(cluster: &Cluster) -> String {
    format!("{}/pause:{}", cluster.image_repository, names::PAUSE_TAG)
}

/// What has to be there before the kubelet starts: pause, and on a control plane etcd and kube-apiserver. One that joins starts its
/// controllers with them: somebody else's are at work, and nothing waits for these.
pub fn first(node: &Node, version: &KubernetesVersion) -> Vec<String> {
    let cluster = &node.cluster;
    let mut images = vec![pause(cluster)];
    if node.role == Role::ControlPlane {
        if let Etcd::Local(local) = &cluster.etcd {
            images.push(etcd(cluster, local));
        }
        images.push(kubernetes(cluster, version, API_SERVER));
        if !node.founds() {
            images.extend(CONTROLLERS.map(|name| kubernetes(cluster, version, name)));
        }
    }
    images
}

/// What the machine that founds a cluster starts once its kube-apiserver answers: kube-controller-manager and kube-scheduler.
pub fn controllers(node: &Node, version: &KubernetesVersion) -> Vec<String> {
    let founder = if node.founds() { &CONTROLLERS[..] } else { &[] };
    founder.iter().map(|name| kubernetes(&node.cluster, version, name)).collect()
}

/// What the add-ons of this node's cluster need. A worker does not know them: its cluster may have another version and its own ideas.
pub fn addons(node: &Node, version: &KubernetesVersion) -> Vec<String> {
    let cluster = &node.cluster;
    let mut images = Vec::new();
    if node.role == Role::ControlPlane && !cluster.proxy.disabled {
        images.push(kubernetes(cluster, version, "kube-proxy"));
    }
    if node.role == Role::ControlPlane && !cluster.dns.disabled {
        images.push(coredns(cluster));
    }
    if node.network == NetworkComponent::Flannel {
        images.extend([FLANNEL, FLANNEL_PLUGIN].map(str::to_owned));
    }
    images
}

/// All that a control plane needs, in kubeadm's order (`GetControlPlaneImages`).
pub fn all(node: &Node, version: &KubernetesVersion) -> Vec<String> {
    let cluster = &node.cluster;
    let mut images: Vec<String> = CONTROL_PLANE.iter().map(|name| kubernetes(cluster, version, name)).collect();
    images.extend(addons(node, version));
    images.push(pause(cluster));
    if let Etcd::Local(local) = &cluster.etcd {
        images.push(etcd(cluster, local));
    }
    images
}

/// Whether a node does without an image, should its package have it: a worker without the control plane's, and the machine that founds a
/// cluster without those of a network that is not the cluster's. Who joins does not know the cluster's network.
pub fn is_idle(node: &Node, name: &str) -> bool {
    (node.role == Role::Worker && is_control_plane(name))
        || (node.founds() && node.network != NetworkComponent::Flannel && is_network(name))
}

/// Whether an image is the pod network's, without which no node is Ready.
pub fn is_network(name: &str) -> bool {
    [FLANNEL, FLANNEL_PLUGIN].contains(&name)
}

/// Whether an image is a static pod's of a control plane, whatever registry it is in: a worker does without.
pub fn is_control_plane(name: &str) -> bool {
    let program = program(name);
    program == "etcd" || CONTROL_PLANE.contains(&program)
}

/// Whether an image is kube-proxy's, whatever registry it is in.
pub fn is_proxy(name: &str) -> bool {
    program(name) == "kube-proxy"
}

/// The last part of an image's name.
fn program(name: &str) -> &str {
    let last = name.rsplit('/').next().unwrap_or(name);
    last.split([':', '@']).next().unwrap_or(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::node::Addon;
    use crate::config::sample;

    #[test]
    fn names_and_tags_are_kubeadms() {
        let mut node = sample::control_plane();
        let version = "v1.36.3".parse().expect("a version");
        assert_eq!(
            first(&node, &version),
            ["registry.k8s.io/pause:3.10.2", "registry.k8s.io/etcd:3.6.8-0", "registry.k8s.io/kube-apiserver:v1.36.3",]
        );
        assert_eq!(
            controllers(&node, &version),
            ["registry.k8s.io/kube-controller-manager:v1.36.3", "registry.k8s.io/kube-scheduler:v1.36.3"]
        );
        assert_eq!(addons(&node, &version), ["registry.k8s.io/kube-proxy:v1.36.3", "registry.k8s.io/coredns/coredns:v1.14.2"]);
        // `kubeadm config images list` of v1.36.3.
        assert_eq!(
            all(&node, &version),
            [
                "registry.k8s.io/kube-apiserver:v1.36.3",
                "registry.k8s.io/kube-controller-manager:v1.36.3",
                "registry.k8s.io/kube-scheduler:v1.36.3",
                "registry.k8s.io/kube-proxy:v1.36.3",
                "registry.k8s.io/coredns/coredns:v1.14.2",
                "registry.k8s.io/pause:3.10.2",
                "registry.k8s.io/etcd:3.6.8-0",
            ]
        );
        node.cluster.image_repository = "registry.example/k8s".to_owned();
        assert_eq!(coredns(&node.cluster), "registry.example/k8s/coredns:v1.14.2");
        node.cluster.dns = Addon { disabled: false, image_repository: "other.example".to_owned(), image_tag: "v9".to_owned() };
        assert_eq!(coredns(&node.cluster), "other.example/coredns:v9");
        node.cluster.proxy.disabled = true;
        assert_eq!(addons(&node, &"v1.36.3+x".parse().expect("a version")), ["other.example/coredns:v9"]);
        assert_eq!(
            kubernetes(&node.cluster, &"v1.36.3+x".parse().expect("a version"), "kube-proxy"),
            "registry.example/k8s/kube-proxy:v1.36.3_x"
        );
        node.role = Role::Worker;
        assert_eq!(first(&node, &version), ["registry.example/k8s/pause:3.10.2"]);
        assert!(addons(&node, &version).is_empty());
    }

    #[test]
    fn the_package_is_built_with_the_networks_images() {
        let built = include_str!("../../image/images.json");
        for name in [FLANNEL, FLANNEL_PLUGIN] {
            assert!(built.contains(&format!("\"name\": \"{name}\"")), "{name}");
        }
        let mut node = sample::control_plane();
        node.network = NetworkComponent::Flannel;
        let addons = addons(&node, &"v1.36.3".parse().expect("a version"));
        assert_eq!(addons[2..], [FLANNEL, FLANNEL_PLUGIN]);
    }

    #[test]
    fn a_worker_does_without_the_control_planes_images() {
        for (name, is) in [
            ("registry.k8s.io/kube-apiserver:v1.36.3", true),
            ("mirror.example:5000/x/etcd:3.6.8-0", true),
            ("registry.k8s.io/kube-proxy:v1.36.3", false),
            ("registry.k8s.io/coredns/coredns:v1.14.2", false),
            ("example/etcd-operator:1", false),
        ] {
            assert_eq!(is_control_plane(name), is, "{name}");
        }
    }
}
