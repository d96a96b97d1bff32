//! The wish: what this machine shall be. Only valid values are inside; nothing here can be unset. What the machine itself must tell
//! is [`Auto`] and becomes a fact. Made by `config::check` and by nothing else.

mod auto;
mod cluster;
mod join;
mod secret;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use camino::Utf8PathBuf;
use serde::Serialize;
use serde_json::{Map, Value};

pub use auto::Auto;
pub use cluster::{
    Addon, Arg, Cluster, ControlPlaneComponent, Endpoint, Etcd, ExternalEtcd, HostPathMount, KeyAlgorithm, KubernetesVersion,
    LocalEtcd,
};
pub use join::{CertificatesFrom, Discovery, Entry, Introduction, Join, OnExistingNode, Pins, PublicKeyHash};
pub use secret::{BootstrapToken, CertificateKey, Secret, Token};

/// What the machine becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Founds a cluster (or, later, joins one as a control plane).
    ControlPlane,
    /// Joins a cluster.
    Worker,
}

/// A taint (Kubernetes' own fields).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Taint {
    /// For instance `node-role.kubernetes.io/control-plane`.
    pub key: String,
    /// May be empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// kubeadm's `nodeRegistration`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRegistration {
    /// Auto: the host's name, lower case.
    pub name: Auto<String>,
    /// `unix:///var/run/containerd/containerd.sock` by default.
    pub cri_socket: String,
    /// The control plane's taint by default on a control plane; an empty list means none.
    pub taints: Vec<Taint>,
    /// Flags of the kubelet.
    pub kubelet_extra_args: Vec<Arg>,
    /// Preflight checks whose errors become warnings; lower case; `all` for all.
    pub ignore_preflight_errors: Vec<String>,
    /// `IfNotPresent` by default.
    pub image_pull_policy: String,
    /// One at a time; true by default.
    pub image_pull_serial: bool,
}

/// kubeadm's `timeouts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// 4 min.
    pub control_plane_component_health_check: Duration,
    /// 4 min.
    pub kubelet_health_check: Duration,
    /// 1 min.
    pub kubernetes_api_call: Duration,
    /// 2 min.
    pub etcd_api_call: Duration,
    /// 5 min.
    pub tls_bootstrap: Duration,
    /// 5 min.
    pub discovery: Duration,
    /// 5 min.
    pub upgrade_manifests: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        Timeouts {
            control_plane_component_health_check: minutes(4),
            kubelet_health_check: minutes(4),
            kubernetes_api_call: minutes(1),
            etcd_api_call: minutes(2),
            tls_bootstrap: minutes(5),
            discovery: minutes(5),
            upgrade_manifests: minutes(5),
        }
    }
}

/// The pod network of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum NetworkComponent {
    /// The reference bridge plugin from podCIDR: one node.
    Bridge,
    /// flannel: any number of nodes.
    Flannel,
    /// The user's own.
    None,
}

/// Where the container runtime comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RuntimeSource {
    /// The package's containerd, as edgeboot's unit.
    Package,
    /// One that the image brings and starts itself.
    Existing,
}

/// The container runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Runtime {
    /// Where it comes from.
    pub source: RuntimeSource,
    /// containerd TOML placed as a drop-in after ours; valid TOML; may be empty.
    pub config: String,
}

/// How long the clock may be waited for, and what then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TimePolicy {
    /// How long to wait for synchronisation when something tries to synchronise; 20 s by default.
    pub wait: Duration,
    /// Go on when it did not come (the clock is above the floor); true by default: an edge device may be offline for days.
    pub offline: bool,
}

/// What the host shall be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostWish {
    /// The machine's name, and the node's unless that is said; as it is where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// More kernel modules.
    pub modules: Vec<String>,
    /// More sysctls.
    pub sysctls: BTreeMap<String, String>,
    /// What to do about swap.
    pub swap: Swap,
    /// The clock.
    pub time: TimePolicy,
}

/// What to do about swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Swap {
    /// Leave it; preflight warns (kubeadm's way) unless the kubelet says `failSwapOn: false`.
    Keep,
    /// Stop and mask swap units.
    Off,
}

/// When the machine counts as ready for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadyWhen {
    /// The kubelet answers on its healthz port.
    KubeletHealthy,
    /// The Node object exists.
    NodeRegistered,
    /// The Node object says Ready.
    NodeReady,
}

/// What this machine shall be.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// What it becomes.
    pub role: Role,
    /// How it comes to its cluster.
    pub entry: Entry,
    /// The package folder or tar; `/usr/lib/edgeboot/package` by default.
    pub package: Utf8PathBuf,
    /// The cluster.
    pub cluster: Cluster,
    /// The node's registration.
    pub registration: NodeRegistration,
    /// The API server's address on this machine. Auto: the source of the default route.
    pub advertise_address: Auto<IpAddr>,
    /// The API server's port on this machine, 6443 by default.
    pub bind_port: u16,
    /// Tokens to make (only those that are configured).
    pub bootstrap_tokens: Vec<BootstrapToken>,
    /// Upload the control plane's certificates for further control planes.
    pub upload_certs: bool,
    /// The key that encrypts them. Auto: a random one.
    pub certificate_key: Auto<CertificateKey>,
    /// A folder of patches; empty for none.
    pub patches: Utf8PathBuf,
    /// Phase ids that are left out (a parent leaves out its children).
    pub skip_phases: Vec<String>,
    /// kubeadm's timeouts.
    pub timeouts: Timeouts,
    /// The pod network.
    pub network: NetworkComponent,
    /// The container runtime.
    pub runtime: Runtime,
    /// The host.
    pub host: HostWish,
    /// When the machine counts as ready.
    pub ready_when: ReadyWhen,
    /// KubeletConfiguration fields of the stream, passed through over the defaults; without apiVersion and kind.
    pub kubelet_configuration: Map<String, Value>,
    /// KubeProxyConfiguration fields of the stream, likewise.
    pub kube_proxy_configuration: Map<String, Value>,
}

impl Node {
    /// How it joins, when it does not found a cluster of its own.
    pub fn join(&self) -> Option<&Join> {
        match &self.entry {
            Entry::Init => None,
            Entry::Join(join) => Some(join),
        }
    }
    /// Whether it comes into a cluster as a further control plane.
    pub fn is_further_control_plane(&self) -> bool {
        self.role == Role::ControlPlane && self.join().is_some()
    }
    /// Whether it founds a cluster: what belongs to kubeadm's `init` alone is part of it.
    pub fn founds(&self) -> bool {
        self.role == Role::ControlPlane && self.join().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_never_shows_its_secret() {
        let token = Token::parse("abcdef.0123456789abcdef").expect("a token");
        assert_eq!(format!("{token:?}"), "abcdef.<redacted>");
        assert_eq!(serde_json::to_string(&token).expect("json"), "\"abcdef\"");
    }

    #[test]
    fn a_version_is_read_and_written_alike() {
        for text in ["v1.36.3", "v1.37.0-rc.0"] {
            assert_eq!(text.parse::<KubernetesVersion>().expect(text).to_string(), text);
        }
        for wrong in ["", "v1", "1.36", "v1.36.x", "v1.36.3garbage"] {
            assert!(wrong.parse::<KubernetesVersion>().is_err(), "{wrong}");
        }
    }
}
