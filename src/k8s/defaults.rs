//! A node's wish as documents that say it: what `edgeboot config print` shows of the defaults. What the machine or the package tells by
//! itself (name, address, version) is not in them: a placeholder would have to be found and replaced.

use serde_json::{Map, Value, json};

use super::{cluster_configuration, go_duration};
use crate::config::node::{Node, NodeRegistration, Timeouts};

const KUBEADM: &str = "kubeadm.k8s.io/v1beta4";

/// kubeadm's placeholders of what only the operator knows: well-formed, and good for nothing.
const ENDPOINT: &str = "kube-apiserver:6443";
const TOKEN: &str = "abcdef.0123456789abcdef";
const HASH: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// What founds a cluster: NodeConfig, InitConfiguration and ClusterConfiguration.
pub fn of_init(node: &Node) -> Vec<Value> {
    let init = json!({
        "apiVersion": KUBEADM, "kind": "InitConfiguration",
        "localAPIEndpoint": {"bindPort": node.bind_port},
        "nodeRegistration": registration(&node.registration),
        "timeouts": timeouts(&node.timeouts),
    });
    let version = node.cluster.kubernetes_version.set();
    vec![node_config(node), init, cluster_configuration::value(&node.cluster, version)]
}

/// What joins a machine: NodeConfig and JoinConfiguration, with placeholders for what only the operator knows.
pub fn of_join(node: &Node, ca_cert_path: &str) -> Vec<Value> {
    let join = json!({
        "apiVersion": KUBEADM, "kind": "JoinConfiguration",
        "caCertPath": ca_cert_path,
        "discovery": {"bootstrapToken": {"apiServerEndpoint": ENDPOINT, "token": TOKEN, "caCertHashes": [HASH]}},
        "nodeRegistration": registration(&node.registration),
        "timeouts": timeouts(&node.timeouts),
    });
    vec![node_config(node), join]
}

/// The placeholders of [`of_join`]: endpoint, token, hash.
pub fn placeholders() -> [&'static str; 3] {
    [ENDPOINT, TOKEN, HASH]
}

fn node_config(node: &Node) -> Value {
    let time = &node.host.time;
    json!({
        "apiVersion": "edgeboot.io/v1alpha1", "kind": "NodeConfig",
        "role": node.role,
        "package": node.package,
        "network": {"component": node.network},
        "runtime": {"source": node.runtime.source},
        "host": {"swap": node.host.swap, "time": {"wait": go_duration::text(time.wait), "offline": time.offline}},
        "readyWhen": node.ready_when,
    })
}

fn registration(registration: &NodeRegistration) -> Value {
    json!({
        "criSocket": registration.cri_socket,
        "imagePullPolicy": registration.image_pull_policy,
        "imagePullSerial": registration.image_pull_serial,
        "taints": registration.taints,
    })
}

fn timeouts(timeouts: &Timeouts) -> Value {
    let rows = [
        ("controlPlaneComponentHealthCheck", timeouts.control_plane_component_health_check),
        ("kubeletHealthCheck", timeouts.kubelet_health_check),
        ("kubernetesAPICall", timeouts.kubernetes_api_call),
        ("etcdAPICall", timeouts.etcd_api_call),
        ("tlsBootstrap", timeouts.tls_bootstrap),
        ("discovery", timeouts.discovery),
        ("upgradeManifests", timeouts.upgrade_manifests),
    ];
    Value::Object(
        rows.into_iter().map(|(name, duration)| (name.to_owned(), json!(go_duration::text(duration)))).collect::<Map<_, _>>(),
    )
}
