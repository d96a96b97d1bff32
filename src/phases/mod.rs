//! The phases, in boot order: the wish meets the world. Ids are kubeadm's where kubeadm has the phase.

pub mod certs;
pub mod clock;
pub mod cluster;
mod control_plane;
mod etcd;
pub mod kubeconfig;
pub mod kubelet_finalize;
mod kubelet_start;
pub mod network;
mod patches;
mod runtime;
mod wait_control_plane;

use crate::engine::phase::Phase;

/// Every phase of `init`, in boot order.
pub fn table() -> Vec<Box<dyn Phase>> {
    vec![
        Box::new(clock::Clock),
        Box::new(network::Network),
        Box::new(runtime::Runtime),
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
        Box::new(etcd::Local),
        Box::new(control_plane::ApiServer),
        Box::new(control_plane::ControllerManager),
        Box::new(control_plane::Scheduler),
        Box::new(kubelet_start::KubeletStart),
        Box::new(wait_control_plane::Kubelet),
        Box::new(wait_control_plane::ApiServer),
        Box::new(wait_control_plane::ControllerManager),
        Box::new(wait_control_plane::Scheduler),
        Box::new(kubelet_finalize::EnableClientCertRotation),
    ]
}
