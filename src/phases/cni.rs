//! `cni/bridge`: the bridge network's configuration is in place before the kubelet starts, made for the pod subnets that the first node
//! of a cluster gets; `cni/pod-cidr`: once the Node has its subnets, the configuration is made for those, should they be others.

use async_trait::async_trait;
use ipnet::IpNet;
use serde_json::Value;

use crate::components::bridge;
use crate::config::node::{NetworkComponent, Node};
use crate::engine::context::Context;
use crate::engine::file::{File, empty};
use crate::engine::phase::{Action, Change, Drift, Fingerprint, Inputs, Phase, PhaseId, Subject};
use crate::error::{Kind, Result};
use crate::host::Deadline;
use crate::host::api::ObjectReference;
use crate::k8s::names;

use super::node_registered::is_elsewhere;

/// `cni/bridge`.
#[derive(Debug)]
pub struct Cni;
/// `cni/pod-cidr`.
#[derive(Debug)]
pub struct PodCidr;

fn files(pod_subnets: &[IpNet]) -> Vec<File> {
    let path = format!("{}/{}", names::CNI_CONF_DIR, bridge::FILE);
    vec![File::text(path, 0o644, bridge::conflist(pod_subnets)).torn_when(not_json)]
}

fn not_json(bytes: &[u8]) -> bool {
    empty(bytes) || serde_json::from_slice::<Value>(bytes).is_err()
}

/// The subnets that the Node told, or those that it will get.
fn known(cx: &Context) -> Vec<IpNet> {
    let told = cx.facts().pod_subnets;
    if told.is_empty() { bridge::first_node(&cx.node.cluster) } else { told }
}

/// The subnets that kube-controller-manager gave to a Node; empty while it has none.
fn given(node: &Value) -> Vec<IpNet> {
    let subnets = node.pointer("/spec/podCIDRs").and_then(Value::as_array);
    subnets.into_iter().flatten().filter_map(|subnet| subnet.as_str()?.parse().ok()).collect()
}

#[async_trait]
impl Phase for Cni {
    fn id(&self) -> PhaseId {
        PhaseId("cni/bridge")
    }
    fn summary(&self) -> &'static str {
        "configure the bridge network"
    }
    fn after(&self) -> &'static [PhaseId] {
        &[PhaseId("preflight")]
    }
    fn applies(&self, node: &Node) -> bool {
        // A further node's subnets are known when its Node has them.
        node.network == NetworkComponent::Bridge && node.founds()
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        let cluster = &inputs.node.cluster;
        // Not the fact that `cni/pod-cidr` learns later: the next run would find other inputs than this one.
        Fingerprint::of(&(&cluster.pod_subnets, &cluster.controller_manager.extra_args))
    }
    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        cx.compare(&files(&known(cx)))
    }
    async fn apply(&self, cx: &Context) -> Result<()> {
        cx.place(files(&known(cx))).await.map(drop)
    }
}

#[async_trait]
impl Phase for PodCidr {
    fn id(&self) -> PhaseId {
        PhaseId("cni/pod-cidr")
    }
    fn summary(&self) -> &'static str {
        "give the bridge network the pod subnets of this node"
    }
    fn after(&self) -> &'static [PhaseId] {
        &[PhaseId("node-registered")]
    }
    fn applies(&self, node: &Node) -> bool {
        node.network == NetworkComponent::Bridge
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        Fingerprint::of(&(&inputs.node.registration.name, &inputs.facts.node_name, &inputs.facts.pod_subnets))
    }
    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        let node = ObjectReference::node(&cx.node_name()?);
        let known = cx.facts().pod_subnets;
        let given = match cx.api()?.read(&node).await {
            Err(error) if is_elsewhere(cx) && error.kind() == Kind::Transient && !known.is_empty() => {
                cx.go_on_offline(&error);
                known
            }
            live => live?.as_ref().map(given).unwrap_or_default(),
        };
        if given.is_empty() {
            let change = Change::new(Subject::Object(node.to_string()), Action::Await);
            return Ok(Drift::one(change.because("it has no pod subnets yet")));
        }
        learn(cx, &given);
        cx.compare(&files(&given))
    }
    async fn apply(&self, cx: &Context) -> Result<()> {
        let node = ObjectReference::node(&cx.node_name()?);
        let reason = format!("kube-controller-manager to give {node} its pod subnets");
        let deadline = Deadline::after(cx.node.timeouts.control_plane_component_health_check, &reason);
        cx.waiting_for(reason);
        let has_subnets = |live: Option<&Value>| live.is_some_and(|live| !given(live).is_empty());
        let live = cx.api()?.wait(&node, &has_subnets, &deadline).await.map_err(|error| {
            error.hint(
                "the bridge network needs kube-controller-manager's --allocate-node-cidrs; or say `network: {component: none}`",
            )
        })?;
        let given = live.as_ref().map(given).unwrap_or_default();
        learn(cx, &given);
        cx.place(files(&given)).await.map(drop)
    }
}

/// A Node that was deleted and came back may have other subnets: the fact follows the Node.
fn learn(cx: &Context, given: &[IpNet]) {
    if cx.facts().pod_subnets != given {
        cx.learn(|facts| facts.pod_subnets = given.to_vec());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_nodes_subnets_are_read() {
        assert_eq!(given(&json!({"spec": {}})), Vec::<IpNet>::new());
        let subnets = given(&json!({"spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00::/64"]}}));
        assert_eq!(subnets.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.244.1.0/24", "fd00::/64"]);
    }

    #[test]
    fn half_a_configuration_is_torn() {
        let file = &files(&["10.244.0.0/24".parse().expect("a subnet")])[0];
        assert!(!(file.torn)(&file.bytes));
        assert!((file.torn)(&file.bytes[..40]) && (file.torn)(b""));
    }
}
