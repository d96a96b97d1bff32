//! The phases, in boot order: the wish meets the world. Ids are kubeadm's where kubeadm has the phase.

mod addon;
mod admin_binding;
pub mod bootstrap_token;
pub mod certs;
pub mod clock;
pub mod cluster;
mod cni;
mod control_plane;
mod etcd;
mod flannel;
pub mod host;
pub mod identity;
mod images;
pub mod join;
pub mod kubeconfig;
pub mod kubelet_finalize;
mod kubelet_start;
#[cfg(test)]
mod kubelet_tests;
mod mark_control_plane;
pub mod network;
pub mod node_registered;
mod objects;
mod package;
mod patches;
pub mod preflight;
pub mod reset;
mod runtime;
pub mod serving_certificates;
pub mod show_join_command;
pub mod stale;
pub mod upload_certs;
mod upload_config;
mod wait_control_plane;

use crate::engine::phase::Phase;

/// Every phase of `init` and of `join`, in boot order.
pub fn table() -> Vec<Box<dyn Phase>> {
    vec![
        Box::new(clock::Clock),
        Box::new(network::Network),
        Box::new(package::Package),
        Box::new(preflight::Preflight),
        Box::new(host::Hostname),
        Box::new(host::Host),
        Box::new(runtime::Runtime),
        Box::new(join::Discovery),
        Box::new(join::ClusterConfiguration),
        Box::new(join::DownloadCerts),
        Box::new(join::Certs),
        Box::new(join::Kubeconfigs),
        Box::new(join::CheckEtcd),
        Box::new(certs::CA),
        Box::new(certs::API_SERVER),
        Box::new(certs::API_SERVER_KUBELET_CLIENT),
        Box::new(certs::FRONT_PROXY_CA),
        Box::new(certs::FRONT_PROXY_CLIENT),
        Box::new(certs::ETCD_CA),
        Box::new(certs::ETCD_SERVER),
        Box::new(certs::ETCD_PEER),
        Box::new(certs::ETCD_HEALTHCHECK_CLIENT),
        Box::new(certs::API_SERVER_ETCD_CLIENT),
        Box::new(certs::SERVICE_ACCOUNT),
        Box::new(kubeconfig::ADMIN),
        Box::new(kubeconfig::SUPER_ADMIN),
        Box::new(kubeconfig::KUBELET),
        Box::new(kubeconfig::CONTROLLER_MANAGER),
        Box::new(kubeconfig::SCHEDULER),
        Box::new(images::First),
        Box::new(etcd::Local),
        Box::new(control_plane::ApiServer),
        Box::new(cni::Cni),
        Box::new(join::TlsBootstrap),
        Box::new(kubelet_start::KubeletStart),
        Box::new(stale::Restart),
        Box::new(wait_control_plane::Kubelet),
        Box::new(join::EtcdJoin),
        Box::new(join::ControlPlane),
        Box::new(wait_control_plane::ApiServer),
        Box::new(etcd::PeerUrls),
        Box::new(images::Controllers),
        Box::new(control_plane::ControllerManager),
        Box::new(control_plane::Scheduler),
        Box::new(images::Others),
        Box::new(wait_control_plane::ControllerManager),
        Box::new(wait_control_plane::Scheduler),
        Box::new(admin_binding::AdminBinding),
        Box::new(upload_config::Kubeadm),
        Box::new(upload_config::Kubelet),
        Box::new(upload_certs::UploadCerts),
        Box::new(node_registered::NodeRegistered),
        Box::new(mark_control_plane::FOUNDER),
        Box::new(mark_control_plane::FURTHER),
        Box::new(bootstrap_token::Access),
        Box::new(bootstrap_token::Tokens),
        Box::new(kubelet_finalize::EnableClientCertRotation),
        Box::new(serving_certificates::ApproveServingCerts),
        Box::new(addon::CoreDns),
        Box::new(addon::KubeProxy),
        Box::new(flannel::Flannel),
        Box::new(flannel::NoBridge),
        Box::new(cni::PodCidr),
        Box::new(node_registered::NodeReady),
        Box::new(show_join_command::ShowJoinCommand),
    ]
}

#[cfg(test)]
mod object_tests;
