//! Kubernetes as data: names, keys and certificates, kubeconfigs, manifests, objects. Pure: values in, bytes out.

pub mod arguments;
pub mod go_duration;
pub mod kubelet_config;
pub mod names;
pub mod patches;
pub mod static_pods;
pub mod subnets;
pub mod units;
pub mod yaml;
