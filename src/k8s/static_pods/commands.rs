//! The command lines of the control plane (`getAPIServerCommand` and its siblings in kubeadm's `manifests.go` and `local.go`).

use std::net::IpAddr;

use crate::config::node::{Arg, Etcd, ExternalEtcd, LocalEtcd};
use crate::k8s::arguments::{command_line, default, last, set};
use crate::k8s::names;

use super::{Component, ControlPlane, EtcdCluster, with_port};

/// kube-apiserver's.
pub fn api_server(control_plane: &ControlPlane<'_>) -> Vec<String> {
    let cluster = &control_plane.node.cluster;
    let certificate = |name| control_plane.certificate(name);
    let mut defaults = vec![
        default("advertise-address", control_plane.advertise_address.to_string()),
        default("allow-privileged", "true"),
        default("client-ca-file", certificate("ca.crt")),
        default("enable-admission-plugins", "NodeRestriction"),
        default("enable-bootstrap-token-auth", "true"),
        default("kubelet-client-certificate", certificate("apiserver-kubelet-client.crt")),
        default("kubelet-client-key", certificate("apiserver-kubelet-client.key")),
        default("kubelet-preferred-address-types", "InternalIP,ExternalIP,Hostname"),
        default("proxy-client-cert-file", certificate("front-proxy-client.crt")),
        default("proxy-client-key-file", certificate("front-proxy-client.key")),
        default("requestheader-allowed-names", "front-proxy-client"),
        default("requestheader-client-ca-file", certificate("front-proxy-ca.crt")),
        default("requestheader-extra-headers-prefix", "X-Remote-Extra-"),
        default("requestheader-group-headers", "X-Remote-Group"),
        default("requestheader-username-headers", "X-Remote-User"),
        default("secure-port", control_plane.node.bind_port.to_string()),
        default("service-account-issuer", format!("https://kubernetes.default.svc.{}", cluster.dns_domain)),
        default("service-account-key-file", certificate("sa.pub")),
        default("service-account-signing-key-file", certificate("sa.key")),
        default("service-cluster-ip-range", joined(&cluster.service_subnets)),
        default("tls-cert-file", certificate("apiserver.crt")),
        default("tls-private-key-file", certificate("apiserver.key")),
    ];
    match &cluster.etcd {
        Etcd::External(external) => external_etcd(&mut defaults, external),
        Etcd::Local(local) => {
            let here = format!("https://{}", with_port(control_plane.localhost(), names::ETCD_CLIENT_PORT));
            let servers = last(&local.extra_args, "advertise-client-urls").unwrap_or(&here);
            set(&mut defaults, "etcd-servers", servers);
            set(&mut defaults, "etcd-cafile", certificate("etcd/ca.crt"));
            set(&mut defaults, "etcd-certfile", certificate("apiserver-etcd-client.crt"));
            set(&mut defaults, "etcd-keyfile", certificate("apiserver-etcd-client.key"));
        }
    }
    let extra = &cluster.api_server.extra_args;
    // The two flags exclude each other.
    if last(extra, "authorization-config").is_none() {
        set(&mut defaults, "authorization-mode", "Node,RBAC");
    }
    program(Component::ApiServer, defaults, extra)
}

fn external_etcd(defaults: &mut Vec<Arg>, external: &ExternalEtcd) {
    set(defaults, "etcd-servers", external.endpoints.join(","));
    if !external.ca_file.is_empty() {
        set(defaults, "etcd-cafile", external.ca_file.as_str());
    }
    if !external.cert_file.is_empty() && !external.key_file.is_empty() {
        set(defaults, "etcd-certfile", external.cert_file.as_str());
        set(defaults, "etcd-keyfile", external.key_file.as_str());
    }
}

/// kube-controller-manager's.
pub fn controller_manager(control_plane: &ControlPlane<'_>) -> Vec<String> {
    let cluster = &control_plane.node.cluster;
    let certificate = |name| control_plane.certificate(name);
    let signing = |name| if control_plane.external_ca { String::new() } else { certificate(name) };
    let mut defaults = vec![
        default("authentication-kubeconfig", names::CONTROLLER_MANAGER_CONF),
        default("authorization-kubeconfig", names::CONTROLLER_MANAGER_CONF),
        default("bind-address", "127.0.0.1"),
        default("client-ca-file", certificate("ca.crt")),
        default("cluster-signing-cert-file", signing("ca.crt")),
        default("cluster-signing-key-file", signing("ca.key")),
        default("controllers", "*,bootstrapsigner,tokencleaner"),
        default("kubeconfig", names::CONTROLLER_MANAGER_CONF),
        default("leader-elect", "true"),
        default("requestheader-client-ca-file", certificate("front-proxy-ca.crt")),
        default("root-ca-file", certificate("ca.crt")),
        default("service-account-private-key-file", certificate("sa.key")),
        default("use-service-account-credentials", "true"),
    ];
    if !cluster.pod_subnets.is_empty() {
        set(&mut defaults, "allocate-node-cidrs", "true");
        set(&mut defaults, "cluster-cidr", joined(&cluster.pod_subnets));
        set(&mut defaults, "service-cluster-ip-range", joined(&cluster.service_subnets));
    }
    if !cluster.name.is_empty() {
        set(&mut defaults, "cluster-name", cluster.name.as_str());
    }
    program(Component::ControllerManager, defaults, &cluster.controller_manager.extra_args)
}

/// kube-scheduler's.
pub fn scheduler(control_plane: &ControlPlane<'_>) -> Vec<String> {
    let defaults = vec![
        default("authentication-kubeconfig", names::SCHEDULER_CONF),
        default("authorization-kubeconfig", names::SCHEDULER_CONF),
        default("bind-address", "127.0.0.1"),
        default("kubeconfig", names::SCHEDULER_CONF),
        default("leader-elect", "true"),
    ];
    program(Component::Scheduler, defaults, &control_plane.node.cluster.scheduler.extra_args)
}

/// etcd's (`getEtcdCommand`).
pub fn etcd(control_plane: &ControlPlane<'_>, local: &LocalEtcd) -> Vec<String> {
    let certificate = |name| control_plane.certificate(name);
    let url = |address: IpAddr, port| format!("https://{}", with_port(address, port));
    let (here, localhost) = (control_plane.advertise_address, control_plane.localhost());
    let client = url(here, names::ETCD_CLIENT_PORT);
    let peer = url(here, names::ETCD_PEER_PORT);
    let mut defaults = vec![
        default("advertise-client-urls", client.as_str()),
        default("cert-file", certificate("etcd/server.crt")),
        default("client-cert-auth", "true"),
        default("data-dir", local.data_dir.as_str()),
        default("feature-gates", "InitialCorruptCheck=true"),
        default("initial-advertise-peer-urls", peer.as_str()),
        default("initial-cluster", format!("{}={peer}", control_plane.node_name)),
        default("key-file", certificate("etcd/server.key")),
        default("listen-client-urls", format!("{},{client}", url(localhost, names::ETCD_CLIENT_PORT))),
        default("listen-metrics-urls", format!("http://{}", with_port(localhost, names::ETCD_METRICS_PORT))),
        default("listen-peer-urls", peer.as_str()),
        default("name", control_plane.node_name),
        default("peer-cert-file", certificate("etcd/peer.crt")),
        default("peer-client-cert-auth", "true"),
        default("peer-key-file", certificate("etcd/peer.key")),
        default("peer-trusted-ca-file", certificate("etcd/ca.crt")),
        default("snapshot-count", "10000"),
        default("trusted-ca-file", certificate("etcd/ca.crt")),
        default("watch-progress-notify-interval", "5s"),
    ];
    if let EtcdCluster::Existing(members) = control_plane.etcd {
        set(&mut defaults, "initial-cluster", members);
        set(&mut defaults, "initial-cluster-state", "existing");
    }
    program(Component::Etcd, defaults, &local.extra_args)
}

/// Where etcd tells its health: host, port and scheme of the first of the user's `listen-metrics-urls`, otherwise our own
/// (`GetEtcdProbeEndpoint`).
pub fn etcd_metrics(local: &LocalEtcd, localhost: IpAddr) -> (String, u16, &'static str) {
    let ours = (localhost.to_string(), names::ETCD_METRICS_PORT, "HTTP");
    let Some(url) = last(&local.extra_args, "listen-metrics-urls").and_then(|urls| urls.split(',').next()) else { return ours };
    let Some((scheme, rest)) = url.split_once("://") else { return ours };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (host, port) = match authority.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':').unwrap_or_default()),
        None => authority.rsplit_once(':').unwrap_or((authority, "")),
    };
    let port = port.parse().ok().filter(|port| *port != 0).unwrap_or(names::ETCD_METRICS_PORT);
    let host = if host.is_empty() { ours.0 } else { host.to_owned() };
    (host, port, if scheme == "https" { "HTTPS" } else { "HTTP" })
}

fn program(component: Component, defaults: Vec<Arg>, extra: &[Arg]) -> Vec<String> {
    std::iter::once(component.name().to_owned()).chain(command_line(defaults, extra)).collect()
}

fn joined(subnets: &[ipnet::IpNet]) -> String {
    subnets.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcd_is_probed_where_its_metrics_are() {
        let at = |urls: &str| {
            let local = LocalEtcd {
                image_repository: String::new(),
                image_tag: String::new(),
                data_dir: names::ETCD_DATA_DIR.into(),
                extra_args: vec![default("listen-metrics-urls", urls)],
                extra_envs: vec![],
                server_cert_sans: vec![],
                peer_cert_sans: vec![],
            };
            let (host, port, scheme) = etcd_metrics(&local, IpAddr::from([127, 0, 0, 1]));
            format!("{scheme} {host} {port}")
        };
        assert_eq!(at("https://10.0.0.1:2382,http://127.0.0.1:9"), "HTTPS 10.0.0.1 2382");
        assert_eq!(at("http://[fd00::1]:2383"), "HTTP fd00::1 2383");
        assert_eq!(at("http://10.0.0.1"), "HTTP 10.0.0.1 2381");
        assert_eq!(at("http://:2390/x"), "HTTP 127.0.0.1 2390");
        assert_eq!(at("nonsense"), "HTTP 127.0.0.1 2381");
    }
}
