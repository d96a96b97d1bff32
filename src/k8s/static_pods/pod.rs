//! A Pod object around one control plane container (`cmd/kubeadm/app/util/staticpod/utils.go`), with the fields kubeadm's serialiser
//! would write: what is empty is left out.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::volumes::Volumes;

/// Where a component is probed.
pub struct ProbeAt {
    /// Empty: the pod's own address.
    pub host: String,
    /// `HTTP` or `HTTPS`.
    pub scheme: &'static str,
    /// How often the startup probe may fail, every ten seconds.
    pub startup_failures: u64,
}

impl ProbeAt {
    /// Restarts a component that hangs.
    pub fn liveness(&self, path: &str) -> Value {
        self.probe(path, 10, 8, 10)
    }
    /// Asks every second, from the start.
    pub fn readiness(&self, path: &str) -> Value {
        self.probe(path, 0, 3, 1)
    }
    /// Holds back liveness while a component comes up.
    pub fn startup(&self, path: &str) -> Value {
        self.probe(path, 10, self.startup_failures, 10)
    }
    fn probe(&self, path: &str, initial_delay: u64, failures: u64, period: u64) -> Value {
        let mut get = json!({ "path": path, "port": "probe-port", "scheme": self.scheme });
        if !self.host.is_empty() {
            get["host"] = self.host.clone().into();
        }
        let mut probe = json!({ "failureThreshold": failures, "httpGet": get, "periodSeconds": period, "timeoutSeconds": 15 });
        if initial_delay > 0 {
            probe["initialDelaySeconds"] = initial_delay.into();
        }
        probe
    }
}

/// A component's container and what its pod needs around it.
pub struct Component {
    /// Program, container and pod.
    pub name: &'static str,
    /// Its image.
    pub image: String,
    /// Program and flags.
    pub command: Vec<String>,
    /// Environment variables.
    pub env: Vec<Value>,
    /// Requested processor time.
    pub cpu: &'static str,
    /// Requested memory.
    pub memory: Option<&'static str>,
    /// The port that is probed.
    pub port: u16,
    /// Probe.
    pub liveness: Value,
    /// Probe; the controller manager has none.
    pub readiness: Option<Value>,
    /// Probe.
    pub startup: Value,
    /// Host folders and files.
    pub volumes: Volumes,
    /// An annotation others read the component's address from.
    pub annotation: Option<(&'static str, String)>,
}

impl Component {
    /// The Pod.
    pub fn pod(self) -> Value {
        let mut requests = json!({ "cpu": self.cpu });
        if let Some(memory) = self.memory {
            requests["memory"] = memory.into();
        }
        let mut container = json!({
            "command": self.command,
            "image": self.image,
            "imagePullPolicy": "IfNotPresent",
            "livenessProbe": self.liveness,
            "name": self.name,
            "ports": [{ "containerPort": self.port, "name": "probe-port", "protocol": "TCP" }],
            "resources": { "requests": requests },
            "startupProbe": self.startup,
            "volumeMounts": self.volumes.mounts,
        });
        if let Some(readiness) = self.readiness {
            container["readinessProbe"] = readiness;
        }
        if !self.env.is_empty() {
            container["env"] = self.env.into();
        }
        let mut metadata = json!({
            "labels": { "component": self.name, "tier": "control-plane" },
            "name": self.name,
            "namespace": "kube-system",
        });
        if let Some((key, value)) = self.annotation {
            metadata["annotations"] = json!({ key: value });
        }
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": {
                "containers": [container],
                "hostNetwork": true,
                "priority": 2_000_001_000,
                "priorityClassName": "system-node-critical",
                "securityContext": { "seccompProfile": { "type": "RuntimeDefault" } },
                "volumes": self.volumes.volumes,
            },
            "status": {},
        })
    }
}

/// The user's `EnvVar` objects: the last of a name counts, in order of names; an empty value is left out and a `fieldRef` gets its version,
/// as kubeadm's types do.
pub fn environment(extra: &[Value]) -> Vec<Value> {
    let mut merged = BTreeMap::new();
    for variable in extra {
        let name = variable.get("name").and_then(Value::as_str).unwrap_or_default();
        let mut variable = variable.clone();
        if let Some(fields) = variable.as_object_mut() {
            fields.retain(|key, value| !(value.is_null() || key == "value" && value.as_str() == Some("")));
        }
        if let Some(Value::Object(reference)) = variable.pointer_mut("/valueFrom/fieldRef") {
            reference.entry("apiVersion").or_insert_with(|| "v1".into());
        }
        merged.insert(name.to_owned(), variable);
    }
    merged.into_values().collect()
}

/// What kubeadm's typed serialiser makes of a patched Pod: no nulls and no directives that a patch left in what it replaced, quantities as
/// strings, fields that are always written.
pub fn as_written(mut pod: Value) -> Value {
    drop_what_has_no_type(&mut pod);
    for list in ["containers", "initContainers"] {
        let containers = pod.pointer_mut(&format!("/spec/{list}")).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
            let resources = container.entry("resources").or_insert_with(|| json!({}));
            for kind in ["requests", "limits"] {
                quantities_as_strings(resources.get_mut(kind));
            }
        }
    }
    if let Some(fields) = pod.as_object_mut() {
        fields.entry("status").or_insert_with(|| json!({}));
    }
    pod
}

fn quantities_as_strings(quantities: Option<&mut Value>) {
    let Some(quantities) = quantities.and_then(Value::as_object_mut) else { return };
    for quantity in quantities.values_mut() {
        if let Value::Number(number) = quantity {
            *quantity = Value::String(number.to_string());
        }
    }
}

fn drop_what_has_no_type(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let typed = |(key, value): &(String, Value)| !value.is_null() && !key.starts_with('$');
            *fields = std::mem::take(fields).into_iter().filter(typed).collect::<Map<_, _>>();
            fields.values_mut().for_each(drop_what_has_no_type);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_what_has_no_type),
        _ => {}
    }
}
