//! `ClusterConfiguration`, completed and checked.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;

use crate::config::findings::{At, Findings, did_you_mean};
use crate::config::kubeadm::{ClusterDocument, ExternalEtcdDocument, LocalEtcdDocument};
use crate::config::node::{
    Addon, Auto, Cluster, ControlPlaneComponent, Endpoint, Etcd, ExternalEtcd, KeyAlgorithm, KubernetesVersion, LocalEtcd,
    NetworkComponent,
};
use crate::k8s::names;

const HOUR: Duration = Duration::from_secs(3600);
/// kubeadm's `CertificateValidityPeriod`.
const CERTIFICATE_VALIDITY: Duration = Duration::from_secs(365 * 24 * HOUR.as_secs());
/// kubeadm's `CACertificateValidityPeriod`.
const CA_VALIDITY: Duration = Duration::from_secs(10 * CERTIFICATE_VALIDITY.as_secs());
/// kubeadm's `DefaultServicesSubnet`.
const SERVICE_SUBNET: &str = "10.96.0.0/12";
/// The pod subnet when a network component is on, by family.
const POD_SUBNET_V4: &str = "10.244.0.0/16";
const POD_SUBNET_V6: &str = "fd00:10:244::/56";
/// kubeadm's `MinimumAddressesInServiceSubnet`.
const MINIMUM_ADDRESSES: u128 = 10;
/// kubeadm's `MaximumBitsForServiceSubnet`.
const MAXIMUM_SERVICE_BITS: u8 = 20;
/// kubeadm's `PodSubnetNodeMaskMaxDiff`.
const MAXIMUM_MASK_DIFFERENCE: u8 = 16;
/// kubeadm's feature gates of v1.36 (`cmd/kubeadm/app/features/features.go`).
const ECDSA_GATE: &str = "PublicKeysECDSA";
const ROOTLESS_GATE: &str = "RootlessControlPlane";
const LOCAL_SOCKET_GATE: &str = "NodeLocalCRISocket";
const FEATURE_GATES: [&str; 3] = [ECDSA_GATE, LOCAL_SOCKET_GATE, ROOTLESS_GATE];

/// Completes and checks it.
pub fn check(said: &ClusterDocument, network: NetworkComponent, bind_port: u16, findings: &Findings) -> Cluster {
    let service_subnets = said.service_subnets.as_ref().map_or_else(|| vec![subnet(SERVICE_SUBNET)], |at| at.value.clone());
    if let Some(at) = &said.service_subnets {
        check_service_subnets(at, findings);
    }
    let pod_subnets = match &said.pod_subnets {
        Some(at) => at.value.clone(),
        None if network == NetworkComponent::None => Vec::new(),
        None => service_subnets.iter().map(|service| subnet(if is_v4(service) { POD_SUBNET_V4 } else { POD_SUBNET_V6 })).collect(),
    };
    if let Some(at) = &said.pod_subnets {
        check_pod_subnets(at, &said.controller_manager, findings);
    }
    check_overlap(said, &pod_subnets, &service_subnets, findings);
    let gates = feature_gates(said, findings);
    let component = |component: &ControlPlaneComponent| component.clone();
    let image_repository = said.image_repository.as_ref().map_or(names::IMAGE_REPOSITORY, |at| at.value.as_str()).to_owned();
    let cluster = Cluster {
        name: text(said.name.as_ref(), "kubernetes"),
        kubernetes_version: kubernetes_version(said, findings),
        control_plane_endpoint: said
            .control_plane_endpoint
            .as_ref()
            .map(|at| Endpoint { host: at.value.0.clone(), port: at.value.1.unwrap_or(bind_port) }),
        service_subnets,
        pod_subnets,
        dns_domain: text(said.dns_domain.as_ref(), "cluster.local"),
        etcd: etcd(said, findings),
        api_server: component(&said.api_server),
        cert_sans: said.cert_sans.clone(),
        controller_manager: component(&said.controller_manager),
        scheduler: component(&said.scheduler),
        dns: Addon { disabled: said.dns_disabled, image_repository: said.dns.repository.clone(), image_tag: said.dns.tag.clone() },
        proxy: Addon { disabled: said.proxy_disabled, ..Addon::default() },
        certificates_dir: said.certificates_dir.as_ref().map_or_else(|| names::PKI_DIR.into(), |at| at.value.clone()),
        image_repository,
        key_algorithm: key_algorithm(said, &gates),
        feature_gates: gates,
        certificate_validity: said.certificate_validity.as_ref().map_or(CERTIFICATE_VALIDITY, |at| at.value),
        ca_certificate_validity: said.ca_certificate_validity.as_ref().map_or(CA_VALIDITY, |at| at.value),
    };
    check_validity(said, &cluster, findings);
    cluster
}

fn text(said: Option<&At<String>>, default: &str) -> String {
    said.map_or_else(|| default.to_owned(), |at| at.value.clone())
}

fn subnet(text: &str) -> IpNet {
    text.parse().expect("the defaults are subnets")
}

fn is_v4(subnet: &IpNet) -> bool {
    matches!(subnet, IpNet::V4(_))
}

fn host_bits(subnet: &IpNet) -> u8 {
    subnet.max_prefix_len() - subnet.prefix_len()
}

fn check_service_subnets(said: &At<Vec<IpNet>>, findings: &Findings) {
    for subnet in &said.value {
        let bits = host_bits(subnet);
        if bits < 64 && 1u128 << bits < MINIMUM_ADDRESSES {
            let message =
                format!("`networking.serviceSubnet`: {subnet} has {} addresses; {MINIMUM_ADDRESSES} are needed", 1u128 << bits);
            findings.error(said.place, message);
        }
        if bits > MAXIMUM_SERVICE_BITS {
            let largest = subnet.max_prefix_len() - MAXIMUM_SERVICE_BITS;
            findings.error(said.place, format!("`networking.serviceSubnet`: {subnet} is too large; /{largest} is the largest"));
        }
    }
}

/// The mask of one node's pods, which the controller manager cuts out of the pod subnet.
fn node_mask(controller_manager: &ControlPlaneComponent, subnet: &IpNet) -> Result<u8, String> {
    let (flag, default) = if is_v4(subnet) { ("node-cidr-mask-size-ipv4", 24) } else { ("node-cidr-mask-size-ipv6", 64) };
    match argument(controller_manager, flag) {
        Some(value) => value.parse().map_err(|_| format!("the flag {flag} of the controller manager is not a number: `{value}`")),
        None => Ok(default),
    }
}

/// The last flag of that name wins (kubeadm's `GetArgValue`).
pub(super) fn argument<'a>(component: &'a ControlPlaneComponent, name: &str) -> Option<&'a str> {
    component.extra_args.iter().rev().find(|argument| argument.name == name).map(|argument| argument.value.as_str())
}

fn check_pod_subnets(said: &At<Vec<IpNet>>, controller_manager: &ControlPlaneComponent, findings: &Findings) {
    if argument(controller_manager, "allocate-node-cidrs") == Some("false") {
        return;
    }
    for subnet in &said.value {
        let mask = subnet.prefix_len();
        let why = match node_mask(controller_manager, subnet) {
            Err(why) => why,
            Ok(node) if mask > node => format!("{subnet} is smaller than the /{node} of a single node"),
            Ok(node) if node - mask > MAXIMUM_MASK_DIFFERENCE => {
                format!("{subnet} holds too many /{node} of single nodes; /{} is the largest", node - MAXIMUM_MASK_DIFFERENCE)
            }
            Ok(_) => continue,
        };
        findings.error(said.place, format!("`networking.podSubnet`: {why}"));
    }
}

fn check_overlap(said: &ClusterDocument, pods: &[IpNet], services: &[IpNet], findings: &Findings) {
    let Some(place) = said.pod_subnets.as_ref().or(said.service_subnets.as_ref()).map(|at| at.place) else { return };
    for pod in pods {
        for service in services.iter().filter(|service| pod.contains(*service) || service.contains(pod)) {
            findings.warning(place, format!("the pod subnet {pod} and the service subnet {service} overlap"));
        }
    }
}

/// A label needs the internet to become a version; the package knows its own.
fn kubernetes_version(said: &ClusterDocument, findings: &Findings) -> Auto<KubernetesVersion> {
    match &said.kubernetes_version {
        None => Auto::Auto,
        Some(At { value: Some(version), .. }) => Auto::Set(version.clone()),
        Some(At { value: None, place }) => {
            let message = "`kubernetesVersion`: what this label means only the internet knows; the package's version is used";
            findings.warning(*place, message);
            Auto::Auto
        }
    }
}

fn feature_gates(said: &ClusterDocument, findings: &Findings) -> BTreeMap<String, bool> {
    for (At { value: name, place }, on) in &said.feature_gates {
        if !FEATURE_GATES.contains(&name.as_str()) {
            let help = match did_you_mean(name, FEATURE_GATES) {
                Some(known) => format!("did you mean `{known}`?"),
                None => "these are kubeadm's own; Kubernetes' are flags of its components (`extraArgs`)".to_owned(),
            };
            findings.error_with_help(*place, format!("kubeadm v1.36 has no feature gate `{name}`"), help);
        }
        if name == ROOTLESS_GATE && *on {
            findings
                .error(*place, format!("`featureGates.{name}` is not part of this version of edgeboot (kubeadm is giving it up)"));
        }
        if name == LOCAL_SOCKET_GATE && !*on {
            findings.error(*place, format!("`featureGates.{name}` cannot be switched off any more"));
        }
    }
    said.feature_gates.iter().map(|(name, on)| (name.value.clone(), *on)).collect()
}

/// kubeadm's `EncryptionAlgorithmType`: the old gate goes before the field.
fn key_algorithm(said: &ClusterDocument, gates: &BTreeMap<String, bool>) -> KeyAlgorithm {
    if gates.get(ECDSA_GATE) == Some(&true) {
        return KeyAlgorithm::EcdsaP256;
    }
    said.key_algorithm.as_ref().map_or(KeyAlgorithm::EcdsaP256, |at| at.value)
}

fn check_validity(said: &ClusterDocument, cluster: &Cluster, findings: &Findings) {
    for (name, at, default) in [
        ("certificateValidityPeriod", &said.certificate_validity, CERTIFICATE_VALIDITY),
        ("caCertificateValidityPeriod", &said.ca_certificate_validity, CA_VALIDITY),
    ] {
        let Some(At { value, place }) = at else { continue };
        if value.is_zero() {
            findings.error(*place, format!("`{name}` is zero"));
        } else if *value > default {
            findings
                .warning(*place, format!("`{name}` is longer than the {} h that are usual", default.as_secs() / HOUR.as_secs()));
        }
    }
    if let Some(At { place, .. }) = said.certificate_validity.as_ref().or(said.ca_certificate_validity.as_ref())
        && cluster.certificate_validity > cluster.ca_certificate_validity
    {
        findings.warning(*place, "certificates would outlive the CA that signs them");
    }
}

fn etcd(said: &ClusterDocument, findings: &Findings) -> Etcd {
    match (&said.etcd_local, &said.etcd_external) {
        (Some(_), Some(external)) => {
            findings.error(external.place, "`etcd.local` and `etcd.external` exclude each other");
            external_etcd(external, findings)
        }
        (None, Some(external)) => external_etcd(external, findings),
        (local, None) => Etcd::Local(local_etcd(local.as_ref().map(|at| &at.value))),
    }
}

fn local_etcd(said: Option<&LocalEtcdDocument>) -> LocalEtcd {
    let default = || names::ETCD_DATA_DIR.into();
    LocalEtcd {
        image_repository: said.map(|etcd| etcd.image.repository.clone()).unwrap_or_default(),
        image_tag: said.map(|etcd| etcd.image.tag.clone()).unwrap_or_default(),
        data_dir: said.and_then(|etcd| etcd.data_dir.as_ref()).map_or_else(default, |at| at.value.clone()),
        extra_args: said.map(|etcd| etcd.component.extra_args.clone()).unwrap_or_default(),
        extra_envs: said.map(|etcd| etcd.component.extra_envs.clone()).unwrap_or_default(),
        server_cert_sans: said.map(|etcd| etcd.server_cert_sans.clone()).unwrap_or_default(),
        peer_cert_sans: said.map(|etcd| etcd.peer_cert_sans.clone()).unwrap_or_default(),
    }
}

/// kubeadm's `ValidateEtcd` and `SetDefaults_ExternalEtcd`.
fn external_etcd(At { value: said, place }: &At<ExternalEtcdDocument>, findings: &Findings) -> Etcd {
    let [ca, certificate, key] = [&said.ca_file, &said.cert_file, &said.key_file].map(|file| !file.is_empty());
    if said.endpoints.is_empty() {
        findings.error(*place, "`etcd.external.endpoints` needs at least one endpoint");
    }
    if certificate != key {
        findings.error(*place, "`etcd.external`: `certFile` and `keyFile` belong together");
    }
    if certificate && key && !ca {
        findings.error(*place, "`etcd.external`: `certFile` and `keyFile` need a `caFile`");
    }
    if ca || certificate || key {
        for endpoint in said.endpoints.iter().filter(|at| !at.value.starts_with("https://")) {
            findings
                .error(endpoint.place, format!("`etcd.external.endpoints`: with certificates, `{}` must be https", endpoint.value));
        }
    }
    let endpoints: Vec<String> = said.endpoints.iter().map(|at| at.value.clone()).collect();
    let http_endpoints = if said.http_endpoints.is_empty() { endpoints.clone() } else { said.http_endpoints.clone() };
    Etcd::External(ExternalEtcd {
        endpoints,
        http_endpoints,
        ca_file: said.ca_file.clone(),
        cert_file: said.cert_file.clone(),
        key_file: said.key_file.clone(),
    })
}
