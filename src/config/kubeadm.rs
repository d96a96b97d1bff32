//! kubeadm's documents (kubeadm.k8s.io/v1beta4; v1beta3 is first brought into that form) as they are written: every field optional,
//! every value valid by itself. Unknown fields are warnings, as in kubeadm; wrong types are errors. Field names and value rules come
//! from `cmd/kubeadm/app/apis/kubeadm/v1beta4/types.go` and `…/validation/validation.go` of v1.36.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use camino::Utf8PathBuf;
use ipnet::IpNet;

use super::fields::{Fields, to_json};
use super::findings::{At, Findings, Level};
use super::node::{Arg, CertificateKey, ControlPlaneComponent, HostPathMount, KeyAlgorithm, KubernetesVersion, Taint, Token};
use super::tree::Tree;
use super::values;

pub use super::v1beta3::from_v1beta3;

/// `InitConfiguration`.
#[derive(Debug, Default)]
pub struct InitDocument {
    /// `bootstrapTokens`.
    pub bootstrap_tokens: Vec<TokenDocument>,
    /// `dryRun`.
    pub dry_run: Option<At<bool>>,
    /// `nodeRegistration`.
    pub registration: RegistrationDocument,
    /// `localAPIEndpoint.advertiseAddress`.
    pub advertise_address: Option<At<IpAddr>>,
    /// `localAPIEndpoint.bindPort`.
    pub bind_port: Option<At<u16>>,
    /// `certificateKey`.
    pub certificate_key: Option<At<CertificateKey>>,
    /// `skipPhases`.
    pub skip_phases: Option<At<Vec<At<String>>>>,
    /// `patches.directory`.
    pub patches: Option<At<Utf8PathBuf>>,
    /// `timeouts`, by name.
    pub timeouts: BTreeMap<&'static str, Duration>,
}

/// An item of `bootstrapTokens`.
#[derive(Debug)]
pub struct TokenDocument {
    /// `token`.
    pub token: Option<At<Token>>,
    /// `description`.
    pub description: Option<At<String>>,
    /// `ttl`.
    pub ttl: Option<At<Duration>>,
    /// `usages`.
    pub usages: Option<At<Vec<At<String>>>>,
    /// `groups`.
    pub groups: Option<At<Vec<At<String>>>>,
    /// Where the item stands.
    pub place: super::findings::Place,
}

/// `nodeRegistration`.
#[derive(Debug, Default)]
pub struct RegistrationDocument {
    /// `name`.
    pub name: Option<At<String>>,
    /// `criSocket`.
    pub cri_socket: Option<At<String>>,
    /// `taints`; an empty list is said, nothing is not.
    pub taints: Option<At<Vec<Taint>>>,
    /// `kubeletExtraArgs`.
    pub kubelet_extra_args: Vec<Arg>,
    /// `ignorePreflightErrors`.
    pub ignore_preflight_errors: Option<At<Vec<At<String>>>>,
    /// `imagePullPolicy`.
    pub image_pull_policy: Option<At<&'static str>>,
    /// `imagePullSerial`.
    pub image_pull_serial: Option<At<bool>>,
}

/// `ClusterConfiguration`.
#[derive(Debug, Default)]
pub struct ClusterDocument {
    /// `etcd.local`.
    pub etcd_local: Option<At<LocalEtcdDocument>>,
    /// `etcd.external`.
    pub etcd_external: Option<At<ExternalEtcdDocument>>,
    /// `networking.serviceSubnet`.
    pub service_subnets: Option<At<Vec<IpNet>>>,
    /// `networking.podSubnet`.
    pub pod_subnets: Option<At<Vec<IpNet>>>,
    /// `networking.dnsDomain`.
    pub dns_domain: Option<At<String>>,
    /// `kubernetesVersion`; `None` inside for a label such as `stable-1`.
    pub kubernetes_version: Option<At<Option<KubernetesVersion>>>,
    /// `controlPlaneEndpoint`.
    pub control_plane_endpoint: Option<At<(String, Option<u16>)>>,
    /// `apiServer`.
    pub api_server: ControlPlaneComponent,
    /// `apiServer.certSANs`.
    pub cert_sans: Vec<String>,
    /// `controllerManager`.
    pub controller_manager: ControlPlaneComponent,
    /// `scheduler`.
    pub scheduler: ControlPlaneComponent,
    /// `dns`.
    pub dns: ImageDocument,
    /// `dns.disabled`.
    pub dns_disabled: bool,
    /// `proxy.disabled`.
    pub proxy_disabled: bool,
    /// `certificatesDir`.
    pub certificates_dir: Option<At<Utf8PathBuf>>,
    /// `imageRepository`.
    pub image_repository: Option<At<String>>,
    /// `featureGates`.
    pub feature_gates: Vec<(At<String>, bool)>,
    /// `clusterName`.
    pub name: Option<At<String>>,
    /// `encryptionAlgorithm`.
    pub key_algorithm: Option<At<KeyAlgorithm>>,
    /// `certificateValidityPeriod`.
    pub certificate_validity: Option<At<Duration>>,
    /// `caCertificateValidityPeriod`.
    pub ca_certificate_validity: Option<At<Duration>>,
}

/// `imageRepository` and `imageTag`; empty for the default.
#[derive(Debug, Default)]
pub struct ImageDocument {
    /// The repository.
    pub repository: String,
    /// The tag.
    pub tag: String,
}

/// `etcd.local`.
#[derive(Debug)]
pub struct LocalEtcdDocument {
    /// `imageRepository` and `imageTag`.
    pub image: ImageDocument,
    /// `dataDir`.
    pub data_dir: Option<At<Utf8PathBuf>>,
    /// `extraArgs` and `extraEnvs`.
    pub component: ControlPlaneComponent,
    /// `serverCertSANs`.
    pub server_cert_sans: Vec<String>,
    /// `peerCertSANs`.
    pub peer_cert_sans: Vec<String>,
}

/// `etcd.external`.
#[derive(Debug)]
pub struct ExternalEtcdDocument {
    /// `endpoints`.
    pub endpoints: Vec<At<String>>,
    /// `httpEndpoints`.
    pub http_endpoints: Vec<String>,
    /// `caFile`.
    pub ca_file: String,
    /// `certFile`.
    pub cert_file: String,
    /// `keyFile`.
    pub key_file: String,
}

impl InitDocument {
    /// Reads the document.
    pub fn read(tree: Option<&Tree>, findings: &Findings) -> InitDocument {
        let Some(fields) = tree.and_then(|tree| Fields::of(tree, "", findings, Level::Warning)) else {
            return InitDocument::default();
        };
        let mut document = InitDocument {
            bootstrap_tokens: fields.sections("bootstrapTokens", token).map(|at| at.value).unwrap_or_default(),
            dry_run: fields.flag("dryRun"),
            registration: fields.section("nodeRegistration", registration).map(|at| at.value).unwrap_or_default(),
            certificate_key: fields.parsed("certificateKey", values::certificate_key),
            skip_phases: fields.texts("skipPhases"),
            patches: fields
                .section("patches", |patches| patches.parsed("directory", values::absolute_path))
                .and_then(|at| at.value),
            ..InitDocument::default()
        };
        fields.section("localAPIEndpoint", |endpoint| {
            document.advertise_address = endpoint.parsed("advertiseAddress", values::address);
            document.bind_port = endpoint.number("bindPort", values::port);
        });
        fields.section("timeouts", |timeouts| {
            for name in TIMEOUTS {
                document.timeouts.extend(timeouts.parsed(name, values::duration).map(|at| (name, at.value)));
            }
        });
        fields.finish();
        document
    }
}

/// The names in `timeouts`.
pub const TIMEOUTS: [&str; 7] = [
    "controlPlaneComponentHealthCheck",
    "kubeletHealthCheck",
    "kubernetesAPICall",
    "etcdAPICall",
    "tlsBootstrap",
    "discovery",
    "upgradeManifests",
];

fn token(item: &Fields<'_>) -> Option<TokenDocument> {
    if item.raw("expires").is_some() {
        let place = item.key_place("expires");
        item.findings().error_with_help(place, "`bootstrapTokens[].expires` is not part of this version of edgeboot", "say `ttl`");
    }
    Some(TokenDocument {
        token: item.parsed("token", values::token),
        description: item.text("description"),
        ttl: item.parsed("ttl", values::duration),
        usages: item.texts("usages"),
        groups: item.texts("groups"),
        place: item.place(),
    })
}

fn registration(fields: &Fields<'_>) -> RegistrationDocument {
    let policies = [("Always", "Always"), ("IfNotPresent", "IfNotPresent"), ("Never", "Never")];
    RegistrationDocument {
        name: fields.parsed("name", values::node_name),
        cri_socket: fields.parsed("criSocket", values::cri_socket),
        taints: fields.sections("taints", taint),
        kubelet_extra_args: arguments(fields, "kubeletExtraArgs"),
        ignore_preflight_errors: fields.texts("ignorePreflightErrors"),
        image_pull_policy: fields.parsed("imagePullPolicy", values::one_of(&policies)),
        image_pull_serial: fields.flag("imagePullSerial"),
    }
}

fn taint(item: &Fields<'_>) -> Option<Taint> {
    let effects = [("NoSchedule", "NoSchedule"), ("PreferNoSchedule", "PreferNoSchedule"), ("NoExecute", "NoExecute")];
    item.raw("timeAdded");
    let (key, value, effect) = (item.text("key"), item.text("value"), item.parsed("effect", values::one_of(&effects)));
    if key.is_none() || item.raw("effect").is_none() {
        item.findings().error(item.place(), format!("`{}` needs a `key` and an `effect`", item.path("").trim_end_matches('.')));
    }
    Some(Taint { key: key?.value, value: value.map(|at| at.value).unwrap_or_default(), effect: effect?.value.to_owned() })
}

fn plain_text(fields: &Fields<'_>, name: &'static str) -> String {
    fields.text(name).map(|at| at.value).unwrap_or_default()
}

fn arguments(fields: &Fields<'_>, name: &'static str) -> Vec<Arg> {
    let argument = |item: &Fields<'_>| {
        let (name, value) = (item.text("name"), plain_text(item, "value"));
        if name.is_none() {
            item.findings().error(item.place(), format!("`{}` needs a `name`", item.path("").trim_end_matches('.')));
        }
        Some(Arg { name: name?.value.trim_start_matches('-').to_owned(), value })
    };
    fields.sections(name, argument).map(|at| at.value).unwrap_or_default()
}

fn environment(fields: &Fields<'_>) -> Vec<serde_json::Value> {
    let items = fields.items("extraEnvs").map(|at| at.value).unwrap_or_default();
    for item in &items {
        if item.field("name").is_none() {
            fields.findings().error(item.place, format!("`{}` needs a `name`", fields.path("extraEnvs[]")));
        }
    }
    items.into_iter().map(|item| to_json(item, fields.findings())).collect()
}

fn mount(item: &Fields<'_>) -> Option<HostPathMount> {
    let types =
        ["DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"].map(|word| (word, word));
    let name = item.parsed("name", values::label);
    let (host_path, mount_path) = (item.parsed("hostPath", values::absolute_path), item.parsed("mountPath", values::absolute_path));
    let path_type = item.parsed("pathType", values::one_of(&types)).map_or("", |at| at.value).to_owned();
    let read_only = item.flag("readOnly").is_some_and(|at| at.value);
    if ["name", "hostPath", "mountPath"].into_iter().any(|field| item.raw(field).is_none()) {
        let path = item.path("");
        item.findings().error(item.place(), format!("`{}` needs `name`, `hostPath` and `mountPath`", path.trim_end_matches('.')));
    }
    let (host_path, mount_path) = (host_path?.value.into_string(), mount_path?.value.into_string());
    Some(HostPathMount { name: name?.value, host_path, mount_path, read_only, path_type })
}

fn component(fields: &Fields<'_>) -> ControlPlaneComponent {
    ControlPlaneComponent {
        extra_args: arguments(fields, "extraArgs"),
        extra_volumes: fields.sections("extraVolumes", mount).map(|at| at.value).unwrap_or_default(),
        extra_envs: environment(fields),
    }
}

fn names(fields: &Fields<'_>, name: &'static str) -> Vec<String> {
    fields.texts_parsed(name, values::certificate_name).map(|at| at.value).unwrap_or_default()
}

fn image(fields: &Fields<'_>) -> ImageDocument {
    ImageDocument {
        repository: fields.parsed("imageRepository", values::image_repository).map(|at| at.value).unwrap_or_default(),
        tag: fields.parsed("imageTag", values::image_tag).map(|at| at.value).unwrap_or_default(),
    }
}

/// A version, or `None` for a label that only the internet can resolve (kubeadm's `util/version.go`).
fn version(text: &str) -> Result<Option<KubernetesVersion>, String> {
    let is_label = ["stable", "latest", "ci/", "release/", "https://", "http://"].iter().any(|label| text.starts_with(label));
    if is_label { Ok(None) } else { text.parse().map(Some) }
}

impl ClusterDocument {
    /// Reads the document.
    pub fn read(tree: Option<&Tree>, findings: &Findings) -> ClusterDocument {
        let Some(fields) = tree.and_then(|tree| Fields::of(tree, "", findings, Level::Warning)) else {
            return ClusterDocument::default();
        };
        let mut document = ClusterDocument {
            kubernetes_version: fields.parsed("kubernetesVersion", version),
            control_plane_endpoint: fields.parsed("controlPlaneEndpoint", values::host_port),
            controller_manager: fields.section("controllerManager", component).map(|at| at.value).unwrap_or_default(),
            scheduler: fields.section("scheduler", component).map(|at| at.value).unwrap_or_default(),
            certificates_dir: fields.parsed("certificatesDir", values::absolute_path),
            image_repository: fields.parsed("imageRepository", values::image_repository),
            name: fields.text("clusterName"),
            key_algorithm: fields.parsed("encryptionAlgorithm", values::key_algorithm),
            certificate_validity: fields.parsed("certificateValidityPeriod", values::duration),
            ca_certificate_validity: fields.parsed("caCertificateValidityPeriod", values::duration),
            ..ClusterDocument::default()
        };
        fields.section("etcd", |etcd| {
            document.etcd_local = etcd.section("local", local_etcd);
            document.etcd_external = etcd.section("external", external_etcd);
        });
        fields.section("networking", |networking| {
            document.service_subnets = networking.parsed("serviceSubnet", values::subnets);
            document.pod_subnets = networking.parsed("podSubnet", values::subnets);
            document.dns_domain = networking.parsed("dnsDomain", values::subdomain);
        });
        fields.section("apiServer", |api_server| {
            document.api_server = component(api_server);
            document.cert_sans = names(api_server, "certSANs");
        });
        fields.section("dns", |dns| {
            dns.raw("type");
            document.dns = image(dns);
            document.dns_disabled = dns.flag("disabled").is_some_and(|at| at.value);
        });
        fields.section("proxy", |proxy| document.proxy_disabled = proxy.flag("disabled").is_some_and(|at| at.value));
        document.feature_gates = feature_gates(&fields, findings);
        fields.finish();
        document
    }
}

fn feature_gates(fields: &Fields<'_>, findings: &Findings) -> Vec<(At<String>, bool)> {
    let gates = fields.raw("featureGates").and_then(|tree| Fields::of(tree, "featureGates", findings, Level::Warning));
    let read = |(name, value): (At<String>, At<String>)| match value.value.as_str() {
        "true" => Some((name, true)),
        "false" => Some((name, false)),
        _ => {
            findings.error(value.place, format!("`featureGates.{}` takes true or false", name.value));
            None
        }
    };
    gates.map(|gates| gates.free().into_iter().filter_map(read).collect()).unwrap_or_default()
}

fn local_etcd(etcd: &Fields<'_>) -> LocalEtcdDocument {
    LocalEtcdDocument {
        image: image(etcd),
        data_dir: etcd.parsed("dataDir", values::absolute_path),
        component: ControlPlaneComponent {
            extra_args: arguments(etcd, "extraArgs"),
            extra_volumes: Vec::new(),
            extra_envs: environment(etcd),
        },
        server_cert_sans: names(etcd, "serverCertSANs"),
        peer_cert_sans: names(etcd, "peerCertSANs"),
    }
}

fn external_etcd(etcd: &Fields<'_>) -> ExternalEtcdDocument {
    let file = |name| etcd.parsed(name, values::absolute_path).map(|at| at.value.into_string()).unwrap_or_default();
    let endpoints = |name| {
        let urls = etcd.texts(name).map(|at| at.value).unwrap_or_default();
        urls.into_iter()
            .filter(|at| match values::url(&at.value) {
                Ok(_) => true,
                Err(why) => {
                    etcd.findings().error(at.place, format!("`{}`: {why}", etcd.path(name)));
                    false
                }
            })
            .collect::<Vec<_>>()
    };
    ExternalEtcdDocument {
        endpoints: endpoints("endpoints"),
        http_endpoints: endpoints("httpEndpoints").into_iter().map(|at| at.value).collect(),
        ca_file: file("caFile"),
        cert_file: file("certFile"),
        key_file: file("keyFile"),
    }
}
