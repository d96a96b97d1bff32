//! What the pods' network and kube-proxy made in the kernel: interfaces go by netlink; what else there is, is named.

use super::{Reset, left};
use crate::engine::phase::{Kept, Subject};

/// Interfaces of the bridge network, of flannel's VXLAN, and of kube-proxy's IPVS mode.
const LINKS: [&str; 4] = ["cni0", "flannel.1", "flannel-v6.1", "kube-ipvs0"];

/// Removes the interfaces. One that cannot be removed is no reason not to go on.
pub(super) async fn clear(reset: &Reset) -> Vec<Kept> {
    let mut kept = Vec::new();
    for name in LINKS {
        if let Err(error) = reset.host.net.remove_link(name).await {
            kept.push(left(Subject::Other(format!("interface {name}")), format!("{error}; `ip link delete {name}` removes it")));
        }
    }
    kept
}
