//! The certificates of a control plane: kubeadm's table (`phases/certs/certlist.go`, `GetAPIServerAltNames`, `getAltNames`).

use std::net::IpAddr;

use ipnet::IpNet;

use crate::k8s::subnets;

use super::certificate::{San, Usage};
use super::issue::Profile;

/// Who signs. None of them is ever renewed or replaced while a cluster is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Authority {
    /// The cluster's.
    Cluster,
    /// That of aggregated API servers.
    FrontProxy,
    /// etcd's.
    Etcd,
}

impl Authority {
    /// All of them, in kubeadm's order.
    pub const ALL: [Authority; 3] = [Authority::Cluster, Authority::FrontProxy, Authority::Etcd];

    /// The file below the certificates folder, without `.crt` and `.key`.
    pub fn base_name(self) -> &'static str {
        match self {
            Authority::Cluster => "ca",
            Authority::FrontProxy => "front-proxy-ca",
            Authority::Etcd => "etcd/ca",
        }
    }
    /// Its name, and its only DNS name.
    pub fn common_name(self) -> &'static str {
        match self {
            Authority::Cluster => "kubernetes",
            Authority::FrontProxy => "front-proxy-ca",
            Authority::Etcd => "etcd-ca",
        }
    }
}

/// What one of the CAs signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Leaf {
    /// kube-apiserver serves with it.
    ApiServer,
    /// kube-apiserver shows it to kubelets.
    ApiServerKubeletClient,
    /// kube-apiserver shows it to aggregated API servers.
    FrontProxyClient,
    /// etcd serves with it.
    EtcdServer,
    /// etcd's members talk with it.
    EtcdPeer,
    /// Probes and kubeadm talk to etcd with it.
    EtcdHealthcheckClient,
    /// kube-apiserver talks to etcd with it.
    ApiServerEtcdClient,
}

/// What the leaves are made from.
#[derive(Debug, Clone)]
pub struct Names<'a> {
    /// The node's name.
    pub node: &'a str,
    /// The API server's address on this machine.
    pub advertise_address: IpAddr,
    /// The cluster's service subnets, the primary first.
    pub service_subnets: &'a [IpNet],
    /// For instance `cluster.local`.
    pub dns_domain: &'a str,
    /// The host of the shared endpoint, where there is one.
    pub control_plane_host: Option<&'a str>,
    /// More for kube-apiserver.
    pub api_server_sans: &'a [String],
    /// More for etcd towards clients.
    pub etcd_server_sans: &'a [String],
    /// More for etcd towards peers.
    pub etcd_peer_sans: &'a [String],
}

impl Leaf {
    /// All of them, in kubeadm's order.
    pub const ALL: [Leaf; 7] = [
        Leaf::ApiServer,
        Leaf::ApiServerKubeletClient,
        Leaf::FrontProxyClient,
        Leaf::EtcdServer,
        Leaf::EtcdPeer,
        Leaf::EtcdHealthcheckClient,
        Leaf::ApiServerEtcdClient,
    ];

    /// The file below the certificates folder, without `.crt` and `.key`.
    pub fn base_name(self) -> &'static str {
        match self {
            Leaf::ApiServer => "apiserver",
            Leaf::ApiServerKubeletClient => "apiserver-kubelet-client",
            Leaf::FrontProxyClient => "front-proxy-client",
            Leaf::EtcdServer => "etcd/server",
            Leaf::EtcdPeer => "etcd/peer",
            Leaf::EtcdHealthcheckClient => "etcd/healthcheck-client",
            Leaf::ApiServerEtcdClient => "apiserver-etcd-client",
        }
    }

    /// Who signs it.
    pub fn authority(self) -> Authority {
        match self {
            Leaf::ApiServer | Leaf::ApiServerKubeletClient => Authority::Cluster,
            Leaf::FrontProxyClient => Authority::FrontProxy,
            Leaf::EtcdServer | Leaf::EtcdPeer | Leaf::EtcdHealthcheckClient | Leaf::ApiServerEtcdClient => Authority::Etcd,
        }
    }

    /// Which components of the control plane read it, and so have to start again when it is made again.
    pub fn consumers(self) -> &'static [&'static str] {
        match self {
            Leaf::ApiServer | Leaf::ApiServerKubeletClient | Leaf::FrontProxyClient | Leaf::ApiServerEtcdClient => {
                &["kube-apiserver"]
            }
            Leaf::EtcdServer | Leaf::EtcdPeer => &["etcd"],
            // Nothing keeps it: it is read each time it is used.
            Leaf::EtcdHealthcheckClient => &[],
        }
    }

    /// Its subject, usages, names and addresses. Since 1.36.1 apiserver-kubelet-client has no organization (kubernetes#138957).
    pub fn profile(self, names: &Names<'_>) -> Profile {
        match self {
            Leaf::ApiServer => server("kube-apiserver", &[Usage::Server]).for_sans(api_server_sans(names)),
            Leaf::ApiServerKubeletClient => Profile::client("kube-apiserver-kubelet-client", None),
            Leaf::FrontProxyClient => Profile::client("front-proxy-client", None),
            Leaf::EtcdServer => {
                server(names.node, &[Usage::Server, Usage::Client]).for_sans(etcd_sans(names, names.etcd_server_sans))
            }
            Leaf::EtcdPeer => server(names.node, &[Usage::Server, Usage::Client]).for_sans(etcd_sans(names, names.etcd_peer_sans)),
            Leaf::EtcdHealthcheckClient => Profile::client("kube-etcd-healthcheck-client", None),
            Leaf::ApiServerEtcdClient => Profile::client("kube-apiserver-etcd-client", None),
        }
    }
}

fn server(common_name: &str, usages: &[Usage]) -> Profile {
    Profile { usages: usages.to_vec(), ..Profile::client(common_name, None) }
}

fn api_server_sans(names: &Names<'_>) -> Vec<San> {
    let dns = |name: &str| San::Dns(name.to_owned());
    let mut sans = vec![dns(names.node), dns("kubernetes"), dns("kubernetes.default"), dns("kubernetes.default.svc")];
    if !names.dns_domain.is_empty() {
        sans.push(San::Dns(format!("kubernetes.default.svc.{}", names.dns_domain)));
    }
    sans.extend(subnets::service_address(names.service_subnets, subnets::API_SERVICE).map(San::Ip));
    sans.push(San::Ip(names.advertise_address));
    let more = names.control_plane_host.into_iter().chain(names.api_server_sans.iter().map(String::as_str));
    sans.extend(more.filter_map(San::parse));
    sans
}

fn etcd_sans(names: &Names<'_>, more: &[String]) -> Vec<San> {
    let dns = [names.node, "localhost"].map(|name| San::Dns(name.to_owned()));
    let addresses = [names.advertise_address, [127, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()].map(San::Ip);
    dns.into_iter().chain(addresses).chain(more.iter().filter_map(|text| San::parse(text))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_server_is_known_by_the_names_kubeadm_gives_it() {
        let subnets = ["10.96.0.0/12".parse().expect("a subnet")];
        let names = Names {
            node: "km",
            advertise_address: [10, 77, 0, 21].into(),
            service_subnets: &subnets,
            dns_domain: "cluster.local",
            control_plane_host: Some("api.example.com"),
            api_server_sans: &["203.0.113.7".to_owned(), "not_a_name".to_owned(), "km".to_owned()],
            etcd_server_sans: &["etcd.example.com".to_owned()],
            etcd_peer_sans: &[],
        };
        let sans = |leaf: Leaf| leaf.profile(&names).sans.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            sans(Leaf::ApiServer),
            [
                "api.example.com",
                "km",
                "kubernetes",
                "kubernetes.default",
                "kubernetes.default.svc",
                "kubernetes.default.svc.cluster.local",
                "10.96.0.1",
                "10.77.0.21",
                "203.0.113.7"
            ]
        );
        assert_eq!(sans(Leaf::EtcdServer), ["etcd.example.com", "km", "localhost", "10.77.0.21", "127.0.0.1", "::1"]);
        assert_eq!(sans(Leaf::EtcdPeer), ["km", "localhost", "10.77.0.21", "127.0.0.1", "::1"]);
        assert!(sans(Leaf::ApiServerKubeletClient).is_empty());
    }
}
