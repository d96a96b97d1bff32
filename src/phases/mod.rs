//! The phases, in boot order: the wish meets the world. Ids are kubeadm's where kubeadm has the phase.

pub mod clock;
pub mod network;
mod runtime;

use crate::engine::phase::Phase;

/// Every phase of `init`, in boot order.
pub fn table() -> Vec<Box<dyn Phase>> {
    vec![
        Box::new(clock::Clock), //
        Box::new(network::Network),
        Box::new(runtime::Runtime),
    ]
}
