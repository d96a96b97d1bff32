//! The pod network of a cluster that is founded: which one it is when nothing is said, and what it needs of the cluster.

use crate::config::findings::{At, Findings, Place};
use crate::config::node::NetworkComponent;

use super::Documents;
use super::cluster::argument;

/// The network that is meant: flannel, which serves one node and many, unless something else is said, or the cluster gives its nodes no
/// subnets. Who joins has none: it is the cluster's.
pub fn component(documents: &Documents<'_>, findings: &Findings) -> NetworkComponent {
    if documents.layer.joins() {
        return NetworkComponent::None;
    }
    let Some(At { value: component, place }) = documents.node.network.as_ref() else {
        return if allocates(documents) { NetworkComponent::Flannel } else { NetworkComponent::None };
    };
    check_allocation(documents, *component, *place, findings);
    *component
}

/// Whether kube-controller-manager gives each node its part of the pod subnets.
fn allocates(documents: &Documents<'_>) -> bool {
    argument(&documents.cluster.controller_manager, "allocate-node-cidrs") != Some("false")
}

/// Both components give pods addresses from what kube-controller-manager gives to each node.
fn check_allocation(documents: &Documents<'_>, component: NetworkComponent, place: Place, findings: &Findings) {
    let needs = match component {
        NetworkComponent::Flannel => "flannel",
        NetworkComponent::Bridge => "bridge",
        NetworkComponent::None => return,
    };
    if !allocates(documents) {
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
