//! kube-proxy as kubeadm installs it: DaemonSet, rights, and its configuration: kubeadm's defaults, and the user's
//! KubeProxyConfiguration over them.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::{documents, fill};
use crate::config::node::{KubernetesVersion, Node};
use crate::error::Result;
use crate::k8s::kubelet_config::overlay;
use crate::k8s::objects::{self, Grantee, KUBE_SYSTEM};
use crate::k8s::{go_duration, images, names, yaml};

const DAEMON_SET: &str = include_str!("kube_proxy.yaml");
const CONFIGURATION: &str = include_str!("kube_proxy_configuration.yaml");

/// ServiceAccount, ConfigMap, Role and DaemonSet.
const NAME: &str = "kube-proxy";

/// The fields that are durations; Kubernetes' types write `1h` as `1h0m0s`.
const DURATIONS: &[&str] = &[
    "/configSyncPeriod",
    "/conntrack/tcpCloseWaitTimeout",
    "/conntrack/tcpEstablishedTimeout",
    "/conntrack/udpStreamTimeout",
    "/conntrack/udpTimeout",
    "/iptables/minSyncPeriod",
    "/iptables/syncPeriod",
    "/ipvs/minSyncPeriod",
    "/ipvs/syncPeriod",
    "/ipvs/tcpFinTimeout",
    "/ipvs/tcpTimeout",
    "/ipvs/udpTimeout",
    "/logging/flushFrequency",
    "/nftables/minSyncPeriod",
    "/nftables/syncPeriod",
];

/// Its objects. `server`: the URL under which every node reaches the API server.
pub fn objects(node: &Node, version: &KubernetesVersion, advertise_address: IpAddr, server: &str) -> Result<Vec<Value>> {
    let mut all = vec![
        objects::service_account(NAME),
        objects::cluster_role_binding("kubeadm:node-proxier", "system:node-proxier", &[Grantee::ServiceAccount(NAME)]),
        objects::role_to_read(KUBE_SYSTEM, NAME, "configmaps", NAME),
        objects::role_binding(KUBE_SYSTEM, NAME, &[Grantee::Group(names::GROUP_BOOTSTRAPPERS)]),
        config_map(node, advertise_address, server)?,
    ];
    for mut daemon_set in documents(NAME, DAEMON_SET)? {
        fill(&mut daemon_set, "@IMAGE@", &images::kubernetes(&node.cluster, version, NAME));
        all.push(daemon_set);
    }
    Ok(all)
}

fn config_map(node: &Node, advertise_address: IpAddr, server: &str) -> Result<Value> {
    let configuration = yaml::text(&configuration(node, advertise_address)?);
    let kubeconfig = yaml::text(&json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "default", "cluster": {
            "certificate-authority": "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt", "server": server,
        }}],
        "contexts": [{"name": "default", "context": {"cluster": "default", "namespace": "default", "user": "default"}}],
        "current-context": "default",
        "users": [{"name": "default", "user": {"tokenFile": "/var/run/secrets/kubernetes.io/serviceaccount/token"}}],
    }));
    let data = [("config.conf", configuration.trim_end()), ("kubeconfig.conf", kubeconfig.trim_end())];
    let mut config_map = objects::config_map(KUBE_SYSTEM, NAME, &data);
    config_map["metadata"]["labels"] = json!({"app": NAME});
    let generated = node.kube_proxy_configuration.is_empty();
    Ok(if generated { objects::signed(config_map) } else { config_map })
}

/// kubeadm's defaults, and the user's KubeProxyConfiguration over them.
pub fn configuration(node: &Node, advertise_address: IpAddr) -> Result<Value> {
    let mut fields = Map::new();
    for document in documents(NAME, CONFIGURATION)? {
        fields.extend(document.as_object().cloned().unwrap_or_default());
    }
    let subnets: Vec<String> = node.cluster.pod_subnets.iter().map(ToString::to_string).collect();
    fields.insert("bindAddress".to_owned(), json!(if advertise_address.is_ipv4() { "0.0.0.0" } else { "::" }));
    fields.insert("clusterCIDR".to_owned(), json!(subnets.join(",")));
    overlay(&mut fields, &node.kube_proxy_configuration);
    fields.insert("apiVersion".to_owned(), json!("kubeproxy.config.k8s.io/v1alpha1"));
    fields.insert("kind".to_owned(), json!("KubeProxyConfiguration"));
    let mut configuration = Value::Object(fields);
    for pointer in DURATIONS {
        let Some(value) = configuration.pointer_mut(pointer) else { continue };
        if let Some(duration) = value.as_str().and_then(go_duration::parse) {
            *value = json!(go_duration::text(duration));
        }
    }
    Ok(configuration)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sample;

    fn written(node: &Node) -> Vec<Value> {
        let version = "v1.36.3".parse().expect("a version");
        objects(node, &version, [10, 77, 0, 21].into(), "https://10.77.0.21:6443").expect("objects")
    }

    fn config_map(objects: &[Value]) -> &Value {
        objects.iter().find(|object| object["kind"] == "ConfigMap").expect("a ConfigMap")
    }

    #[test]
    fn the_users_configuration_lies_over_kubeadms() {
        let mut node = sample::control_plane();
        let user = json!({"mode": "nftables", "conntrack": {"maxPerCore": 0, "min": 0}, "iptables": {"syncPeriod": "30m"}, "bindAddress": ""});
        node.kube_proxy_configuration = user.as_object().expect("a mapping").clone();
        let objects = written(&node);
        let config_map = config_map(&objects);
        let text = config_map["data"]["config.conf"].as_str().expect("a configuration");
        let read: Value = serde_saphyr::from_str(text).expect("YAML");
        let expected = json!({
            "/mode": "nftables", "/conntrack/maxPerCore": 0, "/iptables/syncPeriod": "30m0s", "/bindAddress": "0.0.0.0",
            "/clusterCIDR": "10.244.0.0/16", "/clientConnection/kubeconfig": "/var/lib/kube-proxy/kubeconfig.conf",
        });
        for (pointer, value) in expected.as_object().expect("a table") {
            assert_eq!(read.pointer(pointer), Some(value), "{pointer}");
        }
        assert_eq!(config_map["metadata"].get("annotations"), None);
    }

    #[test]
    fn a_generated_configuration_is_marked_so() {
        let objects = written(&sample::control_plane());
        let annotations = &config_map(&objects)["metadata"]["annotations"];
        assert!(
            annotations["kubeadm.kubernetes.io/component-config.hash"].as_str().is_some_and(|hash| hash.starts_with("sha256:"))
        );
    }
}
