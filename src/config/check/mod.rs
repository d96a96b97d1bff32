//! Completes what was written and checks what belongs together, with kubeadm's defaults
//! (`cmd/kubeadm/app/apis/kubeadm/v1beta4/defaults.go`) and rules (`…/validation/validation.go`) of v1.36. All findings at once; only a
//! document without an error becomes a [`Node`].

pub mod cluster;
mod join;
mod network;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::k8s::names;

use super::document::NodeDocument;
use super::fields::to_json;
use super::findings::{At, Findings};
use super::kubeadm::{ClusterDocument, InitDocument, JoinDocument, MachineDocument, RegistrationDocument, TokenDocument};
use super::layer::{Kind, Layer};
use super::node::{
    Auto, BootstrapToken, Entry, HostWish, Node, NodeRegistration, ReadyWhen, Role, Runtime, RuntimeSource, Swap, Taint,
    TimePolicy, Timeouts, Token,
};

/// What was read.
#[derive(Debug)]
pub struct Documents<'a> {
    /// Ours.
    pub node: NodeDocument,
    /// kubeadm's.
    pub init: InitDocument,
    /// kubeadm's.
    pub cluster: ClusterDocument,
    /// kubeadm's.
    pub join: JoinDocument,
    /// The trees, for what is passed through.
    pub layer: &'a Layer,
}

impl Documents<'_> {
    /// What is said of this machine, whether it joins or founds.
    pub fn machine(&self) -> &MachineDocument {
        if self.layer.joins() { &self.join.machine } else { &self.init.machine }
    }
}

/// What came of it.
#[derive(Debug)]
pub enum Checked {
    /// A whole wish (to be used only when nobody found an error).
    Node(Box<Node>),
    /// No role (or none that is known): nothing is wished.
    Nothing,
    /// No wish can be made of it; the findings say why.
    Wrong,
}

/// How long a bootstrap token lives (kubeadm's `DefaultTokenDuration`).
pub const TOKEN_TTL: Duration = Duration::from_secs(24 * 3600);
/// How long the clock is waited for.
const TIME_WAIT: Duration = Duration::from_secs(20);

/// Checks the documents.
pub fn check(documents: &Documents<'_>, findings: &Findings) -> Checked {
    let Documents { node, init, cluster, layer, .. } = documents;
    let machine = documents.machine();
    let joins = layer.joins();
    let entry = if joins { join::entry(documents, findings) } else { founding(node, findings) };
    if joins {
        join::check_leftovers(documents, findings);
    }
    let role = node.role.as_ref().map_or(Role::ControlPlane, |role| role.value);
    let network = network::component(documents, findings);
    let bind_port = machine.bind_port.as_ref().map_or(names::API_SERVER_PORT, |at| at.value);
    let wish = Node {
        role,
        entry: entry.clone().unwrap_or(Entry::Init),
        package: node.package.as_ref().map_or_else(|| names::PACKAGE_BAKED.into(), |at| at.value.clone()),
        cluster: cluster::check(cluster, network, bind_port, findings),
        registration: registration(&machine.registration, role, findings),
        advertise_address: advertise_address(documents, findings),
        bind_port,
        bootstrap_tokens: init.bootstrap_tokens.iter().filter_map(|token| bootstrap_token(token, findings)).collect(),
        upload_certs: !joins && node.upload_certs.as_ref().is_some_and(|at| at.value),
        certificate_key: init.certificate_key.as_ref().map_or(Auto::Auto, |at| Auto::Set(at.value.clone())),
        patches: machine.patches.as_ref().map(|at| at.value.clone()).unwrap_or_default(),
        skip_phases: texts(machine.skip_phases.as_ref()),
        timeouts: timeouts(machine),
        network,
        runtime: Runtime {
            source: runtime_source(documents, findings),
            config: node.runtime_config.as_ref().map(|at| at.value.clone()).unwrap_or_default(),
        },
        host: host(node),
        ready_when: node.ready_when.as_ref().map_or(ReadyWhen::NodeReady, |at| at.value),
        kubelet_configuration: passed_through(layer, Kind::Kubelet, findings),
        kube_proxy_configuration: if joins { Map::new() } else { passed_through(layer, Kind::KubeProxy, findings) },
    };
    two_tokens(&init.bootstrap_tokens, findings);
    // Without a role all of it is checked nevertheless: it may be a part of a configuration, or a file for `edgeboot init --config`.
    match (&node.role, entry) {
        (Some(_), Some(_)) => Checked::Node(Box::new(wish)),
        (Some(_), None) => Checked::Wrong,
        (None, _) => Checked::Nothing,
    }
}

/// Who is not told where to join founds a cluster; a worker cannot.
fn founding(node: &NodeDocument, findings: &Findings) -> Option<Entry> {
    let Some(role) = node.role.as_ref().filter(|role| role.value == Role::Worker) else { return Some(Entry::Init) };
    let help =
        "say `join: {endpoints: …, token: …, caCertHashes: …}`, or add a JoinConfiguration; `role: controlPlane` founds a cluster";
    findings.error_with_help(role.place, "a worker needs to know where to `join`", help);
    None
}

fn texts(said: Option<&At<Vec<At<String>>>>) -> Vec<String> {
    said.map(|at| at.value.iter().map(|text| text.value.clone()).collect()).unwrap_or_default()
}

/// A socket that is not containerd's belongs to a runtime that the image brings.
fn runtime_source(documents: &Documents<'_>, findings: &Findings) -> RuntimeSource {
    let socket = documents.machine().registration.cri_socket.as_ref();
    let foreign = socket.filter(|at| !is_our_socket(&at.value));
    match (&documents.node.runtime_source, foreign) {
        (Some(At { value: RuntimeSource::Package, .. }), Some(socket)) => {
            let message = format!("`runtime.source: package` is containerd, which does not listen at {}", socket.value);
            findings.error_with_help(socket.place, message, "leave `criSocket` out, or say `runtime: {source: existing}`");
            RuntimeSource::Package
        }
        (Some(source), _) => source.value,
        (None, Some(_)) => RuntimeSource::Existing,
        (None, None) => RuntimeSource::Package,
    }
}

fn is_our_socket(socket: &str) -> bool {
    socket == names::CRI_SOCKET || socket.strip_prefix("unix://") == Some(names::CONTAINERD_SOCKET)
}

fn registration(said: &RegistrationDocument, role: Role, findings: &Findings) -> NodeRegistration {
    let taint = || Taint { key: names::LABEL_CONTROL_PLANE.into(), value: String::new(), effect: "NoSchedule".into() };
    let default_taints = || if role == Role::ControlPlane { vec![taint()] } else { Vec::new() };
    let ignored: BTreeSet<String> = texts(said.ignore_preflight_errors.as_ref()).iter().map(|name| name.to_lowercase()).collect();
    if let Some(at) = &said.ignore_preflight_errors
        && ignored.contains("all")
        && ignored.len() > 1
    {
        findings.error(at.place, "`ignorePreflightErrors` names single checks beside `all`");
    }
    NodeRegistration {
        name: said.name.as_ref().map_or(Auto::Auto, |at| Auto::Set(at.value.clone())),
        cri_socket: said.cri_socket.as_ref().map_or_else(|| names::CRI_SOCKET.to_owned(), |at| at.value.clone()),
        taints: said.taints.as_ref().map_or_else(default_taints, |at| at.value.clone()),
        kubelet_extra_args: said.kubelet_extra_args.clone(),
        ignore_preflight_errors: ignored.into_iter().collect(),
        image_pull_policy: said.image_pull_policy.as_ref().map_or("IfNotPresent", |at| at.value).to_owned(),
        image_pull_serial: said.image_pull_serial.as_ref().is_none_or(|at| at.value),
    }
}

/// `0.0.0.0` and `::` mean: choose (kubeadm's `ChooseAPIServerBindAddress`).
fn advertise_address(documents: &Documents<'_>, findings: &Findings) -> Auto<IpAddr> {
    let Some(At { value, place }) = &documents.machine().advertise_address else { return Auto::Auto };
    let unusable = match value {
        address if address.is_unspecified() => return Auto::Auto,
        address if address.is_loopback() => "other machines do not reach this one by a loopback address",
        address if address.is_multicast() => "a multicast address is no machine's",
        IpAddr::V4(v4) if v4.is_link_local() || v4.is_broadcast() => "a link-local address is not for serving",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => "a link-local address is not for serving",
        address => return Auto::Set(*address),
    };
    let parent = if documents.layer.joins() { "controlPlane." } else { "" };
    findings.error(*place, format!("`{parent}localAPIEndpoint.advertiseAddress`: {unusable}"));
    Auto::Auto
}

/// Usages that a token may have (`cluster-bootstrap/token/api`).
const TOKEN_USAGES: [&str; 2] = ["signing", "authentication"];

fn bootstrap_token(said: &TokenDocument, findings: &Findings) -> Option<BootstrapToken> {
    if !said.said {
        let help = "say `token`, `tokenFrom` or `tokenFile`; `edgeboot init` makes one by itself and prints it";
        findings.note(super::findings::Level::Warning, said.place, "a bootstrap token without a `token` is left out", help);
    }
    let token = said.token.as_ref()?;
    for usage in said.usages.iter().flat_map(|at| &at.value) {
        if !TOKEN_USAGES.contains(&usage.value.as_str()) {
            findings.error(
                usage.place,
                format!("`bootstrapTokens[].usages`: `{}` is neither `signing` nor `authentication`", usage.value),
            );
        }
    }
    let usages = match texts(said.usages.as_ref()) {
        empty if empty.is_empty() => TOKEN_USAGES.map(str::to_owned).to_vec(),
        usages => usages,
    };
    for group in said.groups.iter().flat_map(|at| &at.value) {
        if !is_bootstrap_group(&group.value) {
            findings.error(group.place, format!("`{}` is not a group such as system:bootstrappers:worker", group.value));
        }
    }
    if let Some(groups) =
        said.groups.as_ref().filter(|at| !at.value.is_empty() && !usages.iter().any(|usage| usage == "authentication"))
    {
        findings.error(groups.place, "`bootstrapTokens[].groups` needs the usage `authentication`");
    }
    let groups = match texts(said.groups.as_ref()) {
        empty if empty.is_empty() => vec![names::GROUP_BOOTSTRAPPERS.to_owned()],
        groups => groups,
    };
    Some(BootstrapToken {
        token: token.value.clone(),
        description: said.description.as_ref().map(|at| at.value.clone()).unwrap_or_default(),
        ttl: said.ttl.as_ref().map_or(TOKEN_TTL, |at| at.value),
        usages,
        groups,
    })
}

/// `\Asystem:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]\z` (`cluster-bootstrap/token/api`).
fn is_bootstrap_group(group: &str) -> bool {
    group.strip_prefix("system:bootstrappers:").is_some_and(|rest| {
        let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        (1..=256).contains(&rest.len())
            && rest.as_bytes().last().is_some_and(plain)
            && rest.as_bytes().iter().all(|b| plain(b) || *b == b':' || *b == b'-')
    })
}

fn two_tokens(tokens: &[TokenDocument], findings: &Findings) {
    let mut ids: BTreeSet<&str> = BTreeSet::new();
    for At { value, place } in tokens.iter().filter_map(|token| token.token.as_ref()) {
        let Token { id, .. } = value;
        if !ids.insert(id) {
            findings.error(*place, format!("two bootstrap tokens have the id `{id}`"));
        }
    }
}

fn timeouts(machine: &MachineDocument) -> Timeouts {
    let default = Timeouts::default();
    let said = |name: &str, default: Duration| machine.timeouts.get(name).copied().unwrap_or(default);
    Timeouts {
        control_plane_component_health_check: said(
            "controlPlaneComponentHealthCheck",
            default.control_plane_component_health_check,
        ),
        kubelet_health_check: said("kubeletHealthCheck", default.kubelet_health_check),
        kubernetes_api_call: said("kubernetesAPICall", default.kubernetes_api_call),
        etcd_api_call: said("etcdAPICall", default.etcd_api_call),
        tls_bootstrap: said("tlsBootstrap", default.tls_bootstrap),
        discovery: said("discovery", default.discovery),
        upgrade_manifests: said("upgradeManifests", default.upgrade_manifests),
    }
}

fn host(node: &NodeDocument) -> HostWish {
    HostWish {
        hostname: node.host.hostname.as_ref().map(|at| at.value.clone()),
        modules: node.host.modules.clone(),
        sysctls: node.host.sysctls.clone(),
        swap: node.host.swap.as_ref().map_or(Swap::Keep, |at| at.value),
        time: TimePolicy {
            wait: node.host.time_wait.as_ref().map_or(TIME_WAIT, |at| at.value),
            offline: node.host.time_offline.as_ref().is_none_or(|at| at.value),
        },
    }
}

fn passed_through(layer: &Layer, kind: Kind, findings: &Findings) -> Map<String, Value> {
    match layer.get(kind).map(|tree| to_json(tree, findings)) {
        Some(Value::Object(fields)) => fields.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        _ => Map::new(),
    }
}
