//! The pod network of a cluster that is founded: which one it is when nothing is said, and what it needs of the cluster.

use crate::config::findings::{At, Findings, Level, Place};
use crate::config::node::NetworkComponent;

use super::Documents;
use super::cluster::argument;

/// The network that is meant. Who joins has none: it is the cluster's.
pub fn component(documents: &Documents<'_>, findings: &Findings) -> NetworkComponent {
    if documents.layer.joins() {
        return NetworkComponent::None;
    }
    let said = documents.node.network.as_ref();
    let endpoint = documents.cluster.control_plane_endpoint.as_ref();
    let (component, place) = match (said, endpoint) {
        (Some(At { value, place }), _) => (*value, Some(*place)),
        // An endpoint is for several nodes, and it cannot be added later: no later change of the configuration changes the network.
        (None, Some(endpoint)) => (NetworkComponent::Flannel, Some(endpoint.place)),
        (None, None) => (NetworkComponent::Bridge, None),
    };
    if let (None, NetworkComponent::Bridge, Some((place, what))) = (said, component, invitation(documents)) {
        let help = "say `network: {component: flannel}` for a cluster of several nodes, or `bridge` to stay with one";
        findings.note(
            Level::Warning,
            place,
            format!("{what} is for further control planes, and the pod network is `bridge`, for one node"),
            help,
        );
    }
    if let Some(place) = place {
        check_allocation(documents, component, place, findings);
    }
    component
}

/// What speaks of further control planes. Not `bootstrapTokens`: kubeadm's own defaults have one.
fn invitation(documents: &Documents<'_>) -> Option<(Place, &'static str)> {
    let upload = documents.node.upload_certs.as_ref().filter(|at| at.value).map(|at| (at.place, "`uploadCerts`"));
    let key = documents.init.certificate_key.as_ref().map(|at| (at.place, "`certificateKey`"));
    upload.or(key)
}

/// Both components give pods addresses from what kube-controller-manager gives to each node.
fn check_allocation(documents: &Documents<'_>, component: NetworkComponent, place: Place, findings: &Findings) {
    let needs = match component {
        NetworkComponent::Flannel => "flannel",
        NetworkComponent::Bridge => "bridge",
        NetworkComponent::None => return,
    };
    if argument(&documents.cluster.controller_manager, "allocate-node-cidrs") == Some("false") {
        let message = format!(
            "`network.component: {needs}` needs pod subnets for each node, and `allocate-node-cidrs` of the controller manager is false"
        );
        findings.error_with_help(
            place,
            message,
            "leave the flag out, or say `network: {component: none}` and bring a network of your own",
        );
    }
}
