//! For tests: the smallest control plane, complete as `config::check` would make it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Map;

use super::node::{
    Addon, Auto, Cluster, ControlPlaneComponent, Entry, Etcd, HostWish, KeyAlgorithm, LocalEtcd, NetworkComponent, Node,
    NodeRegistration, ReadyWhen, Role, Runtime, RuntimeSource, Swap, Taint, TimePolicy, Timeouts,
};

/// A control plane `box` at 10.77.0.11 with kubeadm's defaults, P-256 keys and the pod subnet 10.244.0.0/16.
pub fn control_plane() -> Node {
    Node {
        role: Role::ControlPlane,
        entry: Entry::Init,
        package: "/usr/lib/edgeboot/package".into(),
        cluster: cluster(),
        registration: NodeRegistration {
            name: Auto::Set("box".to_owned()),
            cri_socket: "unix:///var/run/containerd/containerd.sock".to_owned(),
            taints: vec![Taint {
                key: "node-role.kubernetes.io/control-plane".to_owned(),
                value: String::new(),
                effect: "NoSchedule".to_owned(),
            }],
            kubelet_extra_args: vec![],
            ignore_preflight_errors: vec![],
            image_pull_policy: "IfNotPresent".to_owned(),
            image_pull_serial: true,
        },
        advertise_address: Auto::Set([10, 77, 0, 11].into()),
        bind_port: 6443,
        bootstrap_tokens: vec![],
        upload_certs: false,
        certificate_key: Auto::Auto,
        patches: "".into(),
        skip_phases: vec![],
        timeouts: Timeouts::default(),
        network: NetworkComponent::Bridge,
        runtime: Runtime { source: RuntimeSource::Package, config: String::new() },
        host: HostWish {
            hostname: None,
            modules: vec![],
            sysctls: BTreeMap::new(),
            swap: Swap::Keep,
            time: TimePolicy { wait: Duration::from_secs(20), offline: true },
        },
        ready_when: ReadyWhen::NodeReady,
        kubelet_configuration: Map::new(),
        kube_proxy_configuration: Map::new(),
    }
}

fn cluster() -> Cluster {
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    Cluster {
        name: "kubernetes".to_owned(),
        kubernetes_version: Auto::Set("v1.36.3".parse().expect("a version")),
        control_plane_endpoint: None,
        service_subnets: vec!["10.96.0.0/12".parse().expect("a subnet")],
        pod_subnets: vec!["10.244.0.0/16".parse().expect("a subnet")],
        dns_domain: "cluster.local".to_owned(),
        etcd: Etcd::Local(LocalEtcd {
            image_repository: String::new(),
            image_tag: String::new(),
            data_dir: "/var/lib/etcd".into(),
            extra_args: vec![],
            extra_envs: vec![],
            server_cert_sans: vec![],
            peer_cert_sans: vec![],
        }),
        api_server: ControlPlaneComponent::default(),
        cert_sans: vec![],
        controller_manager: ControlPlaneComponent::default(),
        scheduler: ControlPlaneComponent::default(),
        dns: Addon::default(),
        proxy: Addon::default(),
        certificates_dir: "/etc/kubernetes/pki".into(),
        image_repository: "registry.k8s.io".to_owned(),
        feature_gates: BTreeMap::new(),
        key_algorithm: KeyAlgorithm::EcdsaP256,
        certificate_validity: hours(8760),
        ca_certificate_validity: hours(87600),
    }
}
