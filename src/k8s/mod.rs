//! Kubernetes as data: names, keys and certificates, kubeconfigs, manifests, objects. Pure: values in, bytes out.

pub mod names;
pub mod yaml;
