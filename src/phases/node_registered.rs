//! `node-registered`: the Node object exists; `node-ready`: it says Ready, where that is what counts as ready. The latter is waited
//! for once: afterwards a machine is up when its kubelet is healthy, whoever is not there.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use serde_json::Value;

use super::objects::AFTER_API;
use crate::config::node::{Node, ReadyWhen, Role};
use crate::engine::context::Context;
use crate::engine::phase::{Action, Change, Drift, Fingerprint, Inputs, Lasting, Phase, PhaseId, Subject};
use crate::error::{Kind, Result};
use crate::host::Deadline;
use crate::host::api::ObjectReference;

/// `node-registered`.
#[derive(Debug)]
pub struct NodeRegistered;
/// `node-ready`.
#[derive(Debug)]
pub struct NodeReady;

/// The Ready condition of a Node.
fn ready_condition(node: &Value) -> Option<&Value> {
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array)?;
    conditions.iter().find(|condition| condition["type"] == "Ready")
}

pub(super) fn is_ready(node: Option<&Value>) -> bool {
    node.and_then(ready_condition).is_some_and(|condition| condition["status"] == "True")
}

/// Whether the API server is on another machine.
pub(super) fn is_elsewhere(cx: &Context) -> bool {
    cx.node.role == Role::Worker
}

/// Why a Node is not Ready, in the kubelet's words.
fn unready_because(node: Option<&Value>) -> String {
    let Some(node) = node else { return "it is not registered".to_owned() };
    let message = ready_condition(node).and_then(|condition| condition["message"].as_str());
    message.filter(|message| !message.is_empty()).unwrap_or("the kubelet has not reported yet").to_owned()
}

/// Waits until the Node says Ready; meanwhile, and in the failure, the kubelet's own words why it does not.
pub async fn wait_node_ready(cx: &Context) -> Result<()> {
    let node = ObjectReference::node(&cx.node_name()?);
    let reason = format!("{node} to be Ready");
    let deadline = Deadline::after(cx.node.timeouts.control_plane_component_health_check, &reason);
    cx.waiting_for(&reason);
    let last = Mutex::new(String::new());
    let holds = |live: Option<&Value>| {
        if is_ready(live) {
            return true;
        }
        let why = unready_because(live);
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != why {
            cx.waiting_for(format!("{reason}: {why}"));
            *last = why;
        }
        false
    };
    let waited = cx.api()?.wait(&node, &holds, &deadline).await;
    waited.map(drop).map_err(|error| {
        let why = last.into_inner().unwrap_or_default();
        error.hint(format!("it said: {why}; `journalctl -u kubelet` says more"))
    })
}

#[async_trait]
impl Phase for NodeRegistered {
    fn id(&self) -> PhaseId {
        PhaseId("node-registered")
    }
    fn summary(&self) -> &'static str {
        "wait until the kubelet has registered the node"
    }
    fn after(&self) -> &'static [PhaseId] {
        AFTER_API
    }
    fn applies(&self, _node: &Node) -> bool {
        true
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        Fingerprint::of(&(&inputs.node.registration.name, &inputs.facts.node_name))
    }
    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        let node = ObjectReference::node(&cx.node_name()?);
        let live = match cx.api()?.read(&node).await {
            // A worker that was a node before is one without its control plane, too.
            Err(error) if is_elsewhere(cx) && error.kind() == Kind::Transient && cx.ledger.was_recorded(self.id()) => {
                cx.go_on_offline(&error);
                return Ok(Drift::none());
            }
            other => other?,
        };
        cx.found_online();
        Ok(match live {
            Some(_) => Drift::none(),
            None => Drift::one(Change::new(Subject::Object(node.to_string()), Action::Await)),
        })
    }
    async fn apply(&self, cx: &Context) -> Result<()> {
        let node = ObjectReference::node(&cx.node_name()?);
        let reason = format!("the kubelet to register {node}");
        let deadline = Deadline::after(cx.node.timeouts.kubelet_health_check, &reason);
        cx.waiting_for(reason);
        let waited = cx.api()?.wait(&node, &|live| live.is_some(), &deadline).await;
        waited.map(drop).map_err(|error| error.hint("`journalctl -u kubelet` says why the kubelet does not reach the API server"))
    }
}

#[async_trait]
impl Phase for NodeReady {
    fn id(&self) -> PhaseId {
        PhaseId("node-ready")
    }
    fn summary(&self) -> &'static str {
        "wait until the node is Ready, the first time"
    }
    fn after(&self) -> &'static [PhaseId] {
        &[PhaseId("node-registered"), PhaseId("cni/pod-cidr")]
    }
    fn lasting(&self) -> Lasting {
        Lasting::Once
    }
    fn applies(&self, node: &Node) -> bool {
        node.ready_when == ReadyWhen::NodeReady
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        Fingerprint::of(&(&inputs.node.registration.name, &inputs.facts.node_name))
    }
    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        let node = ObjectReference::node(&cx.node_name()?);
        let live = cx.api()?.read(&node).await?;
        if is_ready(live.as_ref()) {
            return Ok(Drift::none());
        }
        let change = Change::new(Subject::Object(node.to_string()), Action::Await);
        Ok(Drift::one(change.because(unready_because(live.as_ref()))))
    }
    async fn apply(&self, cx: &Context) -> Result<()> {
        wait_node_ready(cx).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn readiness_is_the_kubelets_own_word() {
        let node = |status: &str, message: &str| {
            json!({"status": {"conditions": [
                {"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": status, "message": message},
            ]}})
        };
        assert!(is_ready(Some(&node("True", "kubelet is posting ready status"))));
        let table = [
            (None, "it is not registered"),
            (Some(json!({})), "the kubelet has not reported yet"),
            (Some(node("False", "cni plugin not initialized")), "cni plugin not initialized"),
            (Some(node("Unknown", "")), "the kubelet has not reported yet"),
        ];
        for (live, why) in table {
            assert!(!is_ready(live.as_ref()));
            assert_eq!(unready_because(live.as_ref()), why);
        }
    }
}
