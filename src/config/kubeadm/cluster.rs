//! `ClusterConfiguration`, as it is written.

use std::time::Duration;

use camino::Utf8PathBuf;
use ipnet::IpNet;

use crate::config::fields::{Fields, to_json};
use crate::config::findings::{At, Findings, Level};
use crate::config::node::{ControlPlaneComponent, HostPathMount, KeyAlgorithm, KubernetesVersion};
use crate::config::tree::Tree;
use crate::config::values;

use super::arguments;

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
