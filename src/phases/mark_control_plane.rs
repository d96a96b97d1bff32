//! `mark-control-plane`, and `control-plane-join/mark-control-plane` for a further one: the Node is labelled and tainted as a control plane. Once that has been so, a mark that is gone was taken
//! away by somebody, and stays away.

use async_trait::async_trait;
use serde_json::{Map, Value, json};

use super::objects::{patience, patiently};
use crate::config::node::{Node, Role, Taint};
use crate::engine::context::Context;
use crate::engine::phase::{Action, Change, Drift, Fingerprint, Inputs, Kept, Phase, PhaseId, Subject};
use crate::error::{Error, Result};
use crate::host::api::{Api, ObjectReference};
use crate::k8s::names;

/// The mark of a control plane.
#[derive(Debug)]
pub struct MarkControlPlane {
    id: PhaseId,
    /// It came into a cluster that was there.
    joined: bool,
}

/// `mark-control-plane`.
pub const FOUNDER: MarkControlPlane = MarkControlPlane { id: PhaseId("mark-control-plane"), joined: false };
/// `control-plane-join/mark-control-plane`.
pub const FURTHER: MarkControlPlane = MarkControlPlane { id: PhaseId("control-plane-join/mark-control-plane"), joined: true };

const LABELS: [&str; 2] = [names::LABEL_CONTROL_PLANE, names::LABEL_EXCLUDE_LOAD_BALANCERS];

/// The strategic merge patch that adds what is missing; `None` when nothing is. Labels are set to the empty text as kubeadm does;
/// taints are united with those of others, and guarded by the resourceVersion, for the list is replaced as a whole.
fn missing_marks(live: &Value, taints: &[Taint]) -> Option<Value> {
    let label = |name: &str| live["metadata"]["labels"].get(name).and_then(Value::as_str);
    let labels: Map<String, Value> =
        LABELS.iter().filter(|name| label(name) != Some("")).map(|name| ((*name).to_owned(), json!(""))).collect();
    let standing = live["spec"]["taints"].as_array().cloned().unwrap_or_default();
    let is = |taint: &Taint, other: &Value| {
        let text = |field: &str| other.get(field).and_then(Value::as_str).unwrap_or_default();
        (text("key"), text("value"), text("effect")) == (taint.key.as_str(), taint.value.as_str(), taint.effect.as_str())
    };
    let tainted = taints.iter().all(|taint| standing.iter().any(|other| is(taint, other)));
    if labels.is_empty() && tainted {
        return None;
    }
    let mut patch = json!({"metadata": {"labels": labels}});
    if !tainted {
        let others = standing.into_iter().filter(|other| !taints.iter().any(|taint| is(taint, other)));
        let united: Vec<Value> = taints.iter().map(|taint| json!(taint)).chain(others).collect();
        patch["spec"] = json!({"taints": united});
        patch["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
    }
    Some(patch)
}

/// What a patch would set, in words.
fn words(patch: &Value) -> String {
    let labels = patch["metadata"]["labels"].as_object().into_iter().flat_map(Map::keys).map(|name| format!("label {name}"));
    let taints = patch.pointer("/spec/taints").map(|_| "taints".to_owned());
    labels.chain(taints).collect::<Vec<_>>().join(", ")
}

async fn read(api: &dyn Api, node: &ObjectReference) -> Result<Value> {
    let live = api.read(node).await?;
    live.ok_or_else(|| Error::transient(format!("marking {node}")).because("it is not registered yet"))
}

#[async_trait]
impl Phase for MarkControlPlane {
    fn id(&self) -> PhaseId {
        self.id
    }
    fn summary(&self) -> &'static str {
        "label and taint the node as a control plane"
    }
    fn after(&self) -> &'static [PhaseId] {
        &[PhaseId("node-registered")]
    }
    fn applies(&self, node: &Node) -> bool {
        node.role == Role::ControlPlane && node.join().is_some() == self.joined
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        let registration = &inputs.node.registration;
        Fingerprint::of(&(&registration.name, &registration.taints, &inputs.facts.node_name))
    }
    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        let node = ObjectReference::node(&cx.node_name()?);
        let live = read(cx.api()?.as_ref(), &node).await?;
        let Some(patch) = missing_marks(&live, &cx.node.registration.taints) else { return Ok(Drift::none()) };
        let subject = Subject::Object(node.to_string());
        let fingerprint = self.fingerprint(&Inputs { node: &cx.node, facts: &cx.facts() });
        if cx.ledger.is_recorded(self.id(), &fingerprint) && !cx.is_forced(&subject) {
            let difference = format!("somebody removed: {}", words(&patch));
            return Ok(Drift { kept: vec![Kept { subject, difference }], ..Drift::none() });
        }
        Ok(Drift::one(Change::new(subject, Action::Update).because(words(&patch))))
    }
    async fn apply(&self, cx: &Context) -> Result<()> {
        let (api, node) = (cx.api()?, ObjectReference::node(&cx.node_name()?));
        // Labels and taints go with the Node: nothing for `reset` to remember.
        patiently(&patience(cx), || async {
            match missing_marks(&read(api.as_ref(), &node).await?, &cx.node.registration.taints) {
                Some(patch) => api.patch(&node, &patch).await.map(drop),
                None => Ok(()),
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taint(key: &str) -> Taint {
        Taint { key: key.to_owned(), value: String::new(), effect: "NoSchedule".to_owned() }
    }

    #[test]
    fn taints_are_united_with_those_of_others() {
        let live = json!({
            "metadata": {"resourceVersion": "7", "labels": {"a": "b"}},
            "spec": {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]},
        });
        let patch = missing_marks(&live, &[taint("node-role.kubernetes.io/control-plane")]).expect("a patch");
        let expected = json!({
            "metadata": {
                "labels": {"node-role.kubernetes.io/control-plane": "", "node.kubernetes.io/exclude-from-external-load-balancers": ""},
                "resourceVersion": "7",
            },
            "spec": {"taints": [
                {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"},
                {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"},
            ]},
        });
        assert_eq!(patch, expected);
    }

    #[test]
    fn a_marked_node_is_left_alone() {
        let marked = json!({
            "metadata": {"labels": {"node-role.kubernetes.io/control-plane": "", "node.kubernetes.io/exclude-from-external-load-balancers": ""}},
            "spec": {"taints": [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule", "timeAdded": null}]},
        });
        assert_eq!(missing_marks(&marked, &[taint("node-role.kubernetes.io/control-plane")]), None);
        assert_eq!(missing_marks(&marked, &[]), None);
    }

    #[test]
    fn without_a_taint_only_labels_are_set() {
        let patch = missing_marks(&json!({"metadata": {"resourceVersion": "7"}}), &[]).expect("a patch");
        assert_eq!(patch.get("spec"), None);
        assert_eq!(patch["metadata"].get("resourceVersion"), None);
    }
}
