//! Kubernetes as data: names, keys and certificates, kubeconfigs, manifests, objects. Pure: values in, bytes out.

pub mod arguments;
pub mod certificate_upload;
pub mod cluster_configuration;
pub mod cluster_info;
pub mod defaults;
pub mod discovery;
pub mod etcd_members;
pub mod go_duration;
pub mod images;
pub mod introduction;
pub mod kubeconfig;
pub mod kubelet_config;
pub mod names;
pub mod objects;
pub mod patches;
pub mod pki;
pub mod static_pods;
pub mod subnets;
pub mod token;
pub mod units;
pub mod yaml;
