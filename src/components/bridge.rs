//! The pod network of one node: the reference `bridge` plugin, fed from the node's pod subnets. Its configuration is in place before
//! the kubelet starts, so that the node is Ready at once: the first node of a cluster gets the first part of each pod subnet.

use ipnet::IpNet;
use serde_json::{Value, json};

use crate::config::node::Cluster;
use crate::k8s::arguments;

/// The network's name.
pub const NAME: &str = "edgeboot";
/// The name of its file: early in the alphabet, for the runtime takes the first.
pub const FILE: &str = "10-edgeboot-bridge.conflist";

/// The pod subnets that kube-controller-manager gives to the first node: the first part of each, as large as its flags say.
pub fn first_node(cluster: &Cluster) -> Vec<IpNet> {
    let extra = &cluster.controller_manager.extra_args;
    let dual = cluster.pod_subnets.len() > 1;
    let size = |subnet: &IpNet| {
        let (own, default) = match subnet {
            IpNet::V4(_) => ("node-cidr-mask-size-ipv4", 24),
            IpNet::V6(_) => ("node-cidr-mask-size-ipv6", 64),
        };
        // With one family the plain flag counts; with two, only those of the families do.
        let plain = if dual { None } else { arguments::last(extra, "node-cidr-mask-size") };
        let given = arguments::last(extra, own).or(plain).and_then(|size| size.parse::<u8>().ok());
        given.unwrap_or(default).max(subnet.prefix_len())
    };
    cluster.pod_subnets.iter().filter_map(|subnet| IpNet::new(subnet.network(), size(subnet)).ok()).collect()
}

/// The network configuration for a node with these pod subnets.
pub fn conflist(pod_subnets: &[IpNet]) -> String {
    let ranges: Vec<Value> = pod_subnets.iter().map(|subnet| json!([{"subnet": subnet.to_string()}])).collect();
    let conflist = json!({
        "cniVersion": "1.0.0",
        "name": NAME,
        "plugins": [
            {
                // The default gateway brings the default route; one more in `ipam.routes` would collide with it.
                "type": "bridge", "bridge": "cni0", "isGateway": true, "isDefaultGateway": true, "ipMasq": true, "hairpinMode": true,
                "ipam": {"type": "host-local", "ranges": ranges},
            },
            {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true},
        ],
    });
    format!("{conflist:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::node::Arg;
    use crate::config::sample;

    #[test]
    fn the_first_node_gets_the_first_part_of_each_subnet() {
        type Row = (&'static [&'static str], &'static [(&'static str, &'static str)], &'static [&'static str]);
        let table: [Row; 6] = [
            (&["10.244.0.0/16"], &[], &["10.244.0.0/24"]),
            (&["10.244.0.0/16"], &[("node-cidr-mask-size", "25")], &["10.244.0.0/25"]),
            (&["10.244.0.0/16"], &[("node-cidr-mask-size-ipv4", "26")], &["10.244.0.0/26"]),
            (&["fd00:244::/56"], &[], &["fd00:244::/64"]),
            (&["10.244.0.0/16", "fd00:244::/56"], &[("node-cidr-mask-size-ipv6", "72")], &["10.244.0.0/24", "fd00:244::/72"]),
            (&["10.244.0.0/25"], &[], &["10.244.0.0/25"]),
        ];
        for (subnets, flags, expected) in table {
            let mut cluster = sample::control_plane().cluster;
            cluster.pod_subnets = subnets.iter().map(|subnet| subnet.parse().expect("a subnet")).collect();
            cluster.controller_manager.extra_args =
                flags.iter().map(|(name, value)| Arg { name: (*name).to_owned(), value: (*value).to_owned() }).collect();
            let first: Vec<String> = first_node(&cluster).iter().map(ToString::to_string).collect();
            assert_eq!(first, expected);
        }
    }

    #[test]
    fn the_configuration_names_every_subnet() {
        let subnets: Vec<IpNet> = ["10.244.0.0/24", "fd00::/64"].map(|subnet| subnet.parse().expect("a subnet")).to_vec();
        let read: Value = serde_json::from_str(&conflist(&subnets)).expect("JSON");
        assert_eq!(read["plugins"][0]["ipam"]["ranges"], json!([[{"subnet": "10.244.0.0/24"}], [{"subnet": "fd00::/64"}]]));
        assert_eq!(read["plugins"][0]["isDefaultGateway"], true);
    }
}
