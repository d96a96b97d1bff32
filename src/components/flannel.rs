//! flannel as upstream's manifest installs it: the pod network of clusters with more than one node. Its pod lays the plugin and the
//! network's configuration on each node, whoever made that node, and carries what pods send to other nodes by VXLAN.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::{documents, fill};
use crate::config::node::{Cluster, Endpoint, Node};
use crate::error::Result;
use crate::k8s::images;

/// The network's name in the configuration that its pod lays on each node.
pub const NAME: &str = "cbr0";
const MANIFESTS: &str = include_str!("flannel.yaml");

/// Its objects; the first one is the namespace of the others.
pub fn objects(node: &Node, advertise_address: IpAddr) -> Result<Vec<Value>> {
    let ours = || Endpoint { host: advertise_address.to_string(), port: node.bind_port };
    let server = node.cluster.control_plane_endpoint.clone().unwrap_or_else(ours);
    let fillings = [
        ("@NET_CONF@", net_conf(&node.cluster, proxy_uses_nftables(node))),
        ("@IMAGE@", images::FLANNEL.to_owned()),
        ("@PLUGIN_IMAGE@", images::FLANNEL_PLUGIN.to_owned()),
        ("@HOST@", server.host),
        ("@PORT@", server.port.to_string()),
    ];
    let mut objects = documents("flannel", MANIFESTS)?;
    for object in &mut objects {
        for (placeholder, value) in &fillings {
            fill(object, placeholder, value);
        }
    }
    Ok(objects)
}

/// flannel's rules are made where kube-proxy's are: on a machine that has but one of the two kinds, that is the one it has.
fn proxy_uses_nftables(node: &Node) -> bool {
    node.kube_proxy_configuration.get("mode").is_some_and(|mode| mode == "nftables")
}

/// flannel's own configuration (`pkg/subnet/config.go`): IPv4 is on unless it is switched off.
fn net_conf(cluster: &Cluster, nftables: bool) -> String {
    let mut conf = json!({"EnableNFTables": nftables, "Backend": {"Type": "vxlan"}});
    if !cluster.pod_subnets.iter().any(|subnet| matches!(subnet, IpNet::V4(_))) {
        conf["EnableIPv4"] = json!(false);
    }
    for subnet in &cluster.pod_subnets {
        match subnet {
            IpNet::V4(subnet) => conf["Network"] = json!(subnet.to_string()),
            IpNet::V6(subnet) => {
                conf["EnableIPv6"] = json!(true);
                conf["IPv6Network"] = json!(subnet.to_string());
            }
        }
    }
    format!("{conf:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sample;

    fn made(node: &Node) -> Vec<Value> {
        objects(node, [10, 77, 0, 11].into()).expect("objects")
    }

    fn of_kind<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
        objects.iter().find(|object| object["kind"] == kind).expect("it is there")
    }

    #[test]
    fn flannel_is_told_every_pod_subnet_and_makes_rules_as_kube_proxy_does() {
        let v4 = json!({"EnableNFTables": false, "Backend": {"Type": "vxlan"}, "Network": "10.244.0.0/16"});
        let v6 = json!({"EnableNFTables": false, "Backend": {"Type": "vxlan"}, "EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fd00::/56"});
        let both = json!({
            "EnableNFTables": true, "Backend": {"Type": "vxlan"},
            "Network": "10.244.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00::/56",
        });
        for (subnets, mode, expected) in [
            (&["10.244.0.0/16"][..], "", v4.clone()),
            (&["10.244.0.0/16"], "iptables", v4),
            (&["fd00::/56"], "ipvs", v6),
            (&["10.244.0.0/16", "fd00::/56"], "nftables", both.clone()),
            (&["fd00::/56", "10.244.0.0/16"], "nftables", both),
        ] {
            let mut node = sample::control_plane();
            node.cluster.pod_subnets = subnets.iter().map(|subnet| subnet.parse().expect("a subnet")).collect();
            node.kube_proxy_configuration.insert("mode".to_owned(), json!(mode));
            let objects = made(&node);
            let text = of_kind(&objects, "ConfigMap")["data"]["net-conf.json"].as_str().expect("a text");
            assert_eq!(serde_json::from_str::<Value>(text).expect("JSON"), expected, "{subnets:?} {mode}");
        }
    }

    #[test]
    fn the_daemon_is_told_where_the_api_server_is() {
        let endpoint = |host: &str| Some(Endpoint { host: host.to_owned(), port: 443 });
        for (endpoint, host, port) in
            [(None, "10.77.0.11", "6443"), (endpoint("k8s.example"), "k8s.example", "443"), (endpoint("fd00::1"), "fd00::1", "443")]
        {
            let mut node = sample::control_plane();
            node.cluster.control_plane_endpoint = endpoint;
            let objects = made(&node);
            let environment = &of_kind(&objects, "DaemonSet")["spec"]["template"]["spec"]["containers"][0]["env"];
            let value = |name: &str| {
                let variable = environment.as_array().expect("variables").iter().find(|variable| variable["name"] == name);
                variable.expect("it is there")["value"].clone()
            };
            assert_eq!(value("KUBERNETES_SERVICE_HOST"), host);
            assert_eq!(value("KUBERNETES_SERVICE_PORT"), port);
        }
    }

    #[test]
    fn everything_is_filled_in_and_the_namespace_comes_first() {
        let objects = made(&sample::control_plane());
        assert!(!serde_json::to_string(&objects).expect("json").contains('@'));
        assert_eq!(objects[0]["kind"], "Namespace");
        let network = of_kind(&objects, "ConfigMap")["data"]["cni-conf.json"].as_str().expect("a text");
        let network: Value = serde_json::from_str(network).expect("JSON");
        assert_eq!(network["name"], NAME);
        assert_eq!(network["plugins"][0]["delegate"]["isDefaultGateway"], true);
    }
}
