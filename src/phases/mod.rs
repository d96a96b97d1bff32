//! The phases, in boot order: the wish meets the world. Ids are kubeadm's where kubeadm has the phase.

pub mod clock;
mod control_plane;
mod etcd;
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
        Box::new(etcd::Local),
        Box::new(control_plane::ApiServer),
        Box::new(control_plane::ControllerManager),
        Box::new(control_plane::Scheduler),
        Box::new(kubelet_start::KubeletStart),
        Box::new(wait_control_plane::Kubelet),
        Box::new(wait_control_plane::ApiServer),
        Box::new(wait_control_plane::ControllerManager),
        Box::new(wait_control_plane::Scheduler),
    ]
}
