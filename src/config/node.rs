//! The wish: what this machine shall be. Only valid values are inside; nothing here can be unset. What the machine itself must tell
//! is [`Auto`] and becomes a fact. Made by `config::check` and by nothing else.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use camino::Utf8PathBuf;
use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::{Map, Value};

/// A value that is given, or that the machine shall tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Auto<T> {
    /// The machine tells (a fact).
    Auto,
    /// Said in the configuration.
    Set(T),
}

impl<T> Auto<T> {
    /// The value, where it is said.
    pub fn set(&self) -> Option<&T> {
        match self {
            Auto::Set(value) => Some(value),
            Auto::Auto => None,
        }
    }
}

/// What the machine becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Founds a cluster (or, later, joins one as a control plane).
    ControlPlane,
    /// Joins a cluster.
    Worker,
}

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

/// A bootstrap token `abcdef.0123456789abcdef`. The secret half is never printed.
#[derive(Clone)]
pub struct Token {
    /// The public half, six characters.
    pub id: String,
    secret: SecretString,
}

impl Token {
    /// A token from its halves; `None` when they do not look like one (`\A([a-z0-9]{6})\.([a-z0-9]{16})\z`).
    pub fn new(id: &str, secret: &str) -> Option<Token> {
        let plain =
            |text: &str, len: usize| text.len() == len && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        (plain(id, 6) && plain(secret, 16)).then(|| Token { id: id.to_owned(), secret: SecretString::from(secret.to_owned()) })
    }
    /// A token as it is written.
    pub fn parse(text: &str) -> Option<Token> {
        let (id, secret) = text.split_once('.')?;
        Token::new(id, secret)
    }
    /// The secret half, for the Secret object, the signature and the client's header only.
    pub fn secret(&self) -> &str {
        self.secret.expose_secret()
    }
    /// The whole, for a terminal or the client's header only.
    pub fn expose(&self) -> String {
        format!("{}.{}", self.id, self.secret.expose_secret())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.<redacted>", self.id)
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Token) -> bool {
        self.id == other.id && self.secret() == other.secret()
    }
}

impl Serialize for Token {
    /// Only the public half: a fingerprint, a plan or a state never holds the secret.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.id)
    }
}

/// kubeadm's `bootstrapTokens` entry.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BootstrapToken {
    /// The token.
    pub token: Token,
    /// For people.
    pub description: String,
    /// How long it lives; zero means for ever (kubeadm's `ttl: 0s`).
    pub ttl: Duration,
    /// `signing`, `authentication`.
    pub usages: Vec<String>,
    /// Groups a bearer belongs to.
    pub groups: Vec<String>,
}

/// A hex AES-256 key that encrypts the uploaded certificates. Never printed.
#[derive(Clone)]
pub struct CertificateKey(SecretString);

impl CertificateKey {
    /// From 64 hex digits.
    pub fn parse(text: &str) -> Option<CertificateKey> {
        (hex::decode(text).ok()?.len() == 32).then(|| CertificateKey(SecretString::from(text.to_owned())))
    }
    /// The 64 hex digits.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl PartialEq for CertificateKey {
    fn eq(&self, other: &CertificateKey) -> bool {
        self.expose() == other.expose()
    }
}

impl fmt::Debug for CertificateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl Serialize for CertificateKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("<redacted>")
    }
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
