//! Kubernetes as data: names, keys and certificates, kubeconfigs, manifests, objects. Pure: values in, bytes out.

pub mod arguments;
pub mod names;
pub mod patches;
pub mod static_pods;
pub mod units;
pub mod yaml;
