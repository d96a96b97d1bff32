//! What runs on the cluster and is not the control plane: CoreDNS, kube-proxy, the pod network. One file and its objects each.

use serde_json::Value;

use crate::error::{Error, Result};

pub mod bridge;
pub mod coredns;
pub mod flannel;
pub mod kube_proxy;

/// The documents of a manifest that is part of this program.
fn documents(name: &str, yaml: &str) -> Result<Vec<Value>> {
    serde_saphyr::from_multiple(yaml).map_err(|error| Error::internal(format!("reading the manifests of {name}")).because(error))
}

/// Puts `value` in the place of each text that is exactly `placeholder`, and of each occurrence inside a longer text.
fn fill(object: &mut Value, placeholder: &str, value: &str) {
    match object {
        Value::String(text) if text.contains(placeholder) => *text = text.replace(placeholder, value),
        Value::Array(items) => items.iter_mut().for_each(|item| fill(item, placeholder, value)),
        Value::Object(fields) => fields.values_mut().for_each(|field| fill(field, placeholder, value)),
        _ => {}
    }
}
