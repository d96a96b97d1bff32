//! The cluster as kubeadm's `ClusterConfiguration` describes it, complete: a part of [`super::Node`].

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use camino::Utf8PathBuf;
use ipnet::IpNet;
use serde::Serialize;
use serde_json::Value;

use super::auto::Auto;

/// A Kubernetes version, `v1.36.3`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(into = "String")]
pub struct KubernetesVersion {
    /// Always 1 so far.
    pub major: u32,
    /// For instance 36.
    pub minor: u32,
    /// For instance 3.
    pub patch: u32,
    /// What follows the patch, for instance `-rc.0`; usually empty.
    pub suffix: String,
}

impl fmt::Display for KubernetesVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}.{}.{}{}", self.major, self.minor, self.patch, self.suffix)
    }
}

impl From<KubernetesVersion> for String {
    fn from(version: KubernetesVersion) -> String {
        version.to_string()
    }
}

impl std::str::FromStr for KubernetesVersion {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not a Kubernetes version such as v1.36.3");
        let bare = text.strip_prefix('v').unwrap_or(text);
        let mut parts = bare.splitn(3, '.');
        let number = |part: Option<&str>| part.and_then(|p| p.parse::<u32>().ok()).ok_or_else(wrong);
        let major = number(parts.next())?;
        let minor = number(parts.next())?;
        let rest = parts.next().ok_or_else(wrong)?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let patch = rest[..digits].parse().map_err(|_| wrong())?;
        let suffix = &rest[digits..];
        if !suffix.is_empty() && !suffix.starts_with(['-', '+']) {
            return Err(wrong());
        }
        Ok(KubernetesVersion { major, minor, patch, suffix: suffix.to_owned() })
    }
}

/// `host:port` of an API server or load balancer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct Endpoint {
    /// A DNS name or an address (without brackets).
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') { write!(f, "[{}]:{}", self.host, self.port) } else { write!(f, "{}:{}", self.host, self.port) }
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> String {
        endpoint.to_string()
    }
}

/// How keys are made: kubeadm's `encryptionAlgorithm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum KeyAlgorithm {
    /// kubeadm's default.
    #[serde(rename = "RSA-2048")]
    Rsa2048,
    /// RSA, 3072 bits.
    #[serde(rename = "RSA-3072")]
    Rsa3072,
    /// RSA, 4096 bits.
    #[serde(rename = "RSA-4096")]
    Rsa4096,
    /// edgeboot's default: twenty times faster to make.
    #[serde(rename = "ECDSA-P256")]
    EcdsaP256,
    /// ECDSA on P-384.
    #[serde(rename = "ECDSA-P384")]
    EcdsaP384,
}

impl KeyAlgorithm {
    /// kubeadm's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            KeyAlgorithm::Rsa2048 => "RSA-2048",
            KeyAlgorithm::Rsa3072 => "RSA-3072",
            KeyAlgorithm::Rsa4096 => "RSA-4096",
            KeyAlgorithm::EcdsaP256 => "ECDSA-P256",
            KeyAlgorithm::EcdsaP384 => "ECDSA-P384",
        }
    }
}

/// A name and a value, as kubeadm v1beta4 writes `extraArgs` and `extraEnvs` entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Arg {
    /// The flag without dashes.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// kubeadm's `extraVolumes` entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostPathMount {
    /// The volume's name.
    pub name: String,
    /// On the host.
    pub host_path: String,
    /// In the container.
    pub mount_path: String,
    /// Read-only in the container.
    pub read_only: bool,
    /// For instance `DirectoryOrCreate`; empty for unspecified.
    pub path_type: String,
}

/// What a control plane component is given beyond the defaults (kubeadm's `ControlPlaneComponent`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ControlPlaneComponent {
    /// Flags that replace or follow the defaults.
    pub extra_args: Vec<Arg>,
    /// More host folders.
    pub extra_volumes: Vec<HostPathMount>,
    /// Environment variables: Kubernetes `EnvVar` objects, passed through.
    pub extra_envs: Vec<Value>,
}

/// Where the cluster's data lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Etcd {
    /// A static pod of this machine.
    Local(LocalEtcd),
    /// Somebody else's.
    External(ExternalEtcd),
}

/// kubeadm's `etcd.local`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalEtcd {
    /// Empty: the cluster's image repository.
    pub image_repository: String,
    /// Empty: the tag that belongs to the Kubernetes version.
    pub image_tag: String,
    /// `/var/lib/etcd` by default.
    pub data_dir: Utf8PathBuf,
    /// Flags that replace or follow the defaults.
    pub extra_args: Vec<Arg>,
    /// Environment variables, passed through.
    pub extra_envs: Vec<Value>,
    /// More names and addresses in the server certificate.
    pub server_cert_sans: Vec<String>,
    /// More names and addresses in the peer certificate.
    pub peer_cert_sans: Vec<String>,
}

/// kubeadm's `etcd.external`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalEtcd {
    /// URLs.
    pub endpoints: Vec<String>,
    /// URLs for etcd's HTTP endpoints where they are separate (v1.36).
    pub http_endpoints: Vec<String>,
    /// Path; may be empty with http endpoints.
    pub ca_file: String,
    /// Path.
    pub cert_file: String,
    /// Path.
    pub key_file: String,
}

/// kubeadm's `ClusterConfiguration`, complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// `kubernetes` by default.
    pub name: String,
    /// Auto: the package's.
    pub kubernetes_version: Auto<KubernetesVersion>,
    /// The shared endpoint, where there is one.
    pub control_plane_endpoint: Option<Endpoint>,
    /// One or two (dual stack) subnets, `10.96.0.0/12` by default.
    pub service_subnets: Vec<IpNet>,
    /// None, one or two subnets. Has a default whenever a network component is on.
    pub pod_subnets: Vec<IpNet>,
    /// `cluster.local` by default.
    pub dns_domain: String,
    /// etcd.
    pub etcd: Etcd,
    /// kube-apiserver.
    pub api_server: ControlPlaneComponent,
    /// More names and addresses in the API server's certificate.
    pub cert_sans: Vec<String>,
    /// kube-controller-manager.
    pub controller_manager: ControlPlaneComponent,
    /// kube-scheduler.
    pub scheduler: ControlPlaneComponent,
    /// CoreDNS: repository and tag, empty for the default; not installed when `disabled`.
    pub dns: Addon,
    /// kube-proxy; not installed when `disabled`.
    pub proxy: Addon,
    /// `/etc/kubernetes/pki` by default.
    pub certificates_dir: Utf8PathBuf,
    /// `registry.k8s.io` by default.
    pub image_repository: String,
    /// kubeadm's feature gates, by name.
    pub feature_gates: BTreeMap<String, bool>,
    /// ECDSA-P256 by default.
    pub key_algorithm: KeyAlgorithm,
    /// A leaf's life, 8760 h by default.
    pub certificate_validity: Duration,
    /// A CA's life, 87600 h by default.
    pub ca_certificate_validity: Duration,
}

/// An add-on that can be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Addon {
    /// Not installed.
    pub disabled: bool,
    /// Empty: the cluster's.
    pub image_repository: String,
    /// Empty: the one that belongs to the Kubernetes version.
    pub image_tag: String,
}
