//! The kubelet's files as kubeadm v1.36 writes them (`cmd/kubeadm/app/componentconfigs/kubelet.go`, `phases/kubelet`): config.yaml, the part
//! of it that is this node's own, the flags, and what the cluster keeps for all its kubelets. One thing differs on purpose:
//! `volumePluginDir` lies under /var, because the kubelet makes that folder and its default is under /usr.

use serde_json::{Map, Value, json};

use crate::config::node::{Cluster, Node, Role, Taint};
use crate::error::Result;

use super::arguments::{command_line, default, last};
use super::patches::{Patches, Target};
use super::{go_duration, names, subnets};

/// Where systemd-resolved keeps the name servers that are no loopback stub.
pub const RESOLVED_CONF: &str = "/run/systemd/resolve/resolv.conf";
/// The unit that makes [`RESOLVED_CONF`] the one to use.
pub const RESOLVED_UNIT: &str = "systemd-resolved.service";
/// Where the kubelet looks for volume plugins.
pub const VOLUME_PLUGIN_DIR: &str = "/var/lib/kubelet/volumeplugins";

/// What all kubelets of the cluster share: the content of the ConfigMap `kubelet-config`. `systemd_resolved`: that unit is active here.
pub fn cluster_kubelet_config(node: &Node, systemd_resolved: bool) -> Value {
    let mut config = always_written();
    overlay(&mut config, &defaults(&node.cluster, systemd_resolved));
    overlay(&mut config, &node.kubelet_configuration);
    finished(config)
}

fn finished(mut config: Map<String, Value>) -> Value {
    normalise_durations(&mut config);
    // kubeadm cannot tell an unset field from `false` here, and insists.
    config.insert("rotateCertificates".to_owned(), true.into());
    config.insert("apiVersion".to_owned(), "kubelet.config.k8s.io/v1beta1".into());
    config.insert("kind".to_owned(), "KubeletConfiguration".into());
    Value::Object(config)
}

/// This node's config.yaml: what the cluster shares, the user's patches, and what is this node's own.
pub fn node_kubelet_config(node: &Node, systemd_resolved: bool, patches: &Patches) -> Result<Value> {
    of_this_node(node, cluster_kubelet_config(node, systemd_resolved), patches)
}

/// The config.yaml of a node that joined: what the cluster keeps for its kubelets (`shared`), completed as kubeadm completes it, over it
/// what this node's configuration says, the user's patches, and what is this node's own.
pub fn joined_kubelet_config(
    node: &Node,
    cluster: &Cluster,
    shared: &Map<String, Value>,
    systemd_resolved: bool,
    patches: &Patches,
) -> Result<Value> {
    let mut config = always_written();
    overlay(&mut config, &defaults(cluster, systemd_resolved));
    overlay(&mut config, shared);
    overlay(&mut config, &node.kubelet_configuration);
    of_this_node(node, finished(config), patches)
}

fn of_this_node(node: &Node, config: Value, patches: &Patches) -> Result<Value> {
    let mut config = patches.apply(Target::KubeletConfiguration, config)?;
    config["containerRuntimeEndpoint"] = node.registration.cri_socket.clone().into();
    Ok(config)
}

/// instance-config.yaml: what an upgrade puts over the cluster's configuration again.
pub fn instance_config(node: &Node) -> String {
    format!("containerRuntimeEndpoint: {}\n", quoted(&node.registration.cri_socket))
}

/// kubeadm-flags.env. Taints are registered by flag on workers only: a control plane is tainted by `mark-control-plane`. The name is
/// given where it is not the host's own.
pub fn flags_env(node: &Node, node_name: &str, host_name: &str) -> String {
    let registration = &node.registration;
    let mut flags = Vec::new();
    if node.role == Role::Worker && !registration.taints.is_empty() {
        let taints: Vec<String> = registration.taints.iter().map(taint).collect();
        flags.push(default("register-with-taints", taints.join(",")));
    }
    let name = last(&registration.kubelet_extra_args, "hostname-override").unwrap_or(node_name);
    if name != host_name {
        flags.push(default("hostname-override", name));
    }
    let line = command_line(flags, &registration.kubelet_extra_args).join(" ");
    format!("KUBELET_KUBEADM_ARGS={}\n", quoted(&line))
}

/// Where the kubelet answers `/healthz`: address and port of its configuration; `None` when that is switched off.
pub fn healthz(config: &Value) -> Option<(String, u16)> {
    let address = config.get("healthzBindAddress").and_then(Value::as_str).filter(|address| !address.is_empty());
    let port = config.get("healthzPort").and_then(Value::as_u64).unwrap_or(names::KUBELET_HEALTHZ_PORT.into());
    let port = u16::try_from(port).ok().filter(|port| *port != 0)?;
    Some((address.unwrap_or("127.0.0.1").to_owned(), port))
}

/// `key[=value]:effect`, as the kubelet's flag reads it.
fn taint(taint: &Taint) -> String {
    let value = if taint.value.is_empty() { String::new() } else { format!("={}", taint.value) };
    let effect = if taint.effect.is_empty() { String::new() } else { format!(":{}", taint.effect) };
    format!("{}{value}{effect}", taint.key)
}

/// Go's `%q`, as far as flags need it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").replace('\t', "\\t"))
}

/// kubeadm's defaults.
fn defaults(cluster: &Cluster, systemd_resolved: bool) -> Map<String, Value> {
    let dns = subnets::service_address(&cluster.service_subnets, subnets::DNS_SERVICE);
    let mut defaults = object(json!({
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": cluster.certificates_dir.join("ca.crt") },
        },
        "authorization": { "mode": "Webhook" },
        "cgroupDriver": "systemd",
        "clusterDNS": [dns.map_or_else(|| "10.96.0.10".to_owned(), |address| address.to_string())],
        "clusterDomain": cluster.dns_domain,
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": names::KUBELET_HEALTHZ_PORT,
        "staticPodPath": names::MANIFESTS_DIR,
        "volumePluginDir": VOLUME_PLUGIN_DIR,
    }));
    if systemd_resolved {
        defaults.insert("resolvConf".to_owned(), RESOLVED_CONF.into());
    }
    defaults
}

/// Fields that Kubernetes' own serialiser writes even when nobody set them; zero means the kubelet's default.
fn always_written() -> Map<String, Value> {
    let mut fields = object(json!({
        "authentication": { "anonymous": {}, "webhook": { "cacheTTL": "0s" }, "x509": {} },
        "authorization": { "webhook": { "cacheAuthorizedTTL": "0s", "cacheUnauthorizedTTL": "0s" } },
        "containerRuntimeEndpoint": "",
        "crashLoopBackOff": {},
        "logging": {
            "flushFrequency": 0,
            "options": { "json": { "infoBufferSize": "0" }, "text": { "infoBufferSize": "0" } },
            "verbosity": 0,
        },
        "memorySwap": {},
    }));
    for duration in DURATIONS {
        fields.insert((*duration).to_owned(), "0s".into());
    }
    fields
}

/// The fields of the KubeletConfiguration that are durations and are written even when they are zero.
const DURATIONS: &[&str] = &[
    "cpuManagerReconcilePeriod",
    "evictionPressureTransitionPeriod",
    "fileCheckFrequency",
    "httpCheckFrequency",
    "imageMaximumGCAge",
    "imageMinimumGCAge",
    "nodeStatusReportFrequency",
    "nodeStatusUpdateFrequency",
    "runtimeRequestTimeout",
    "shutdownGracePeriod",
    "shutdownGracePeriodCriticalPods",
    "streamingConnectionIdleTimeout",
    "syncFrequency",
    "volumeStatsAggPeriod",
];
/// Durations elsewhere in it.
const OTHER_DURATIONS: &[&str] = &[
    "/authentication/webhook/cacheTTL",
    "/authorization/webhook/cacheAuthorizedTTL",
    "/authorization/webhook/cacheUnauthorizedTTL",
    "/containerLogMonitorInterval",
    "/cpuCFSQuotaPeriod",
    "/crashLoopBackOff/maxContainerRestartPeriod",
];

/// Puts `over` on top: objects merge, everything else is replaced; what says nothing (null, an empty text) changes nothing.
pub fn overlay(base: &mut Map<String, Value>, over: &Map<String, Value>) {
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (_, Value::Null) => {}
            (Some(Value::String(_)), Value::String(text)) if text.is_empty() => {}
            (Some(Value::Object(below)), Value::Object(above)) => overlay(below, above),
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

/// `1h` becomes `1h0m0s`, as every round through Kubernetes' types makes it.
fn normalise_durations(config: &mut Map<String, Value>) {
    let mut whole = Value::Object(std::mem::take(config));
    let fields = DURATIONS.iter().map(|field| format!("/{field}")).chain(OTHER_DURATIONS.iter().map(ToString::to_string));
    for pointer in fields {
        let Some(value) = whole.pointer_mut(&pointer) else { continue };
        if let Some(duration) = value.as_str().and_then(go_duration::parse) {
            *value = go_duration::text(duration).into();
        }
    }
    *config = object(whole);
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}
