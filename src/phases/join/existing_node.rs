//! Whether the cluster has a node of our name already. One that is Ready and not us is refused: two machines under one name take each
//! other's pods and certificates. Our own return after a reinstall is let in.

use std::time::Duration;

use serde_json::Value;

use crate::config::node::OnExistingNode;
use crate::engine::context::Context;
use crate::error::{Error, Kind, Result};
use crate::host::Deadline;
use crate::host::api::{Api, ObjectReference};
use crate::phases::node_registered::is_ready;
use crate::phases::objects;

use super::{patiently, wish};

/// The cluster notices within this time that a kubelet is gone (kube-controller-manager's node monitor grace period of 50 s): a machine
/// that was reinstalled in less looks Ready until then.
const NOTICED: Duration = Duration::from_secs(60);
/// Between two looks; newcomers may read a Node and not watch it.
const PAUSE: Duration = Duration::from_secs(2);

/// What a Node of our name is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    /// There is none.
    Absent,
    /// It is this machine, by its machine-id and its hardware.
    Ours,
    /// It is not Ready: an earlier life of this machine, or one that died under this name.
    Gone,
    /// It lives.
    Another,
}

/// Goes on when there is no node of our name, or when it may be ours.
pub(super) async fn settle(cx: &Context, api: &dyn Api) -> Result<()> {
    let (name, policy) = (cx.node_name()?, wish(cx)?.on_existing_node);
    let reference = ObjectReference::node(&name);
    let us = Machine::of(cx)?;
    let deadline =
        Deadline::after(cx.node.timeouts.kubernetes_api_call, format!("the cluster to say whether it has a node {name}"));
    let look = || async { Ok(relation(api.read(&reference).await?.as_ref(), &us)) };
    let mut relation = patiently(cx, &deadline, look).await?;
    if relation == Relation::Another && policy != OnExistingNode::Fail {
        let noticed = Deadline::after(NOTICED, format!("the Ready node {name} in the cluster to be this machine's earlier life"));
        cx.waiting_for(noticed.reason());
        while relation == Relation::Another && !noticed.passed() {
            noticed.pause(PAUSE).await;
            // Each look has its own time: together they last as long as the cluster needs to notice.
            let deadline = Deadline::after(cx.node.timeouts.kubernetes_api_call, deadline.reason());
            relation = objects::patiently(&deadline, look).await?;
        }
    }
    match (relation, policy) {
        (Relation::Absent, _) | (Relation::Ours, OnExistingNode::Adopt | OnExistingNode::Replace) => Ok(()),
        (Relation::Another, _) | (_, OnExistingNode::Fail) => Err(taken(&name, relation)),
        (Relation::Gone, OnExistingNode::Adopt) => {
            cx.say(format!("goes on as the node {name}, which is in the cluster and not Ready"));
            Ok(())
        }
        (Relation::Gone, OnExistingNode::Replace) => replace(cx, api, &reference).await,
    }
}

async fn replace(cx: &Context, api: &dyn Api, reference: &ObjectReference) -> Result<()> {
    let deadline = Deadline::after(cx.node.timeouts.kubernetes_api_call, format!("the cluster to delete {reference}"));
    // Not as a newcomer, whose rights may come late: these will not.
    match objects::patiently(&deadline, || api.delete(reference)).await {
        Err(error) if error.kind() == Kind::Rejected => {
            cx.say(format!(
                "goes on as {reference}: these credentials may not delete it (`kubectl delete node {}`)",
                reference.name
            ));
            Ok(())
        }
        other => other.map(drop),
    }
}

fn taken(name: &str, relation: Relation) -> Error {
    let is = if relation == Relation::Another { "a Ready node" } else { "a node" };
    Error::rejected(format!("joining as the node {name}"))
        .because(format!("the cluster has {is} of that name already, and it is not this machine"))
        .hint(format!(
            "name this machine otherwise (`nodeRegistration: {{name: …}}`), or remove the other one with `kubectl delete node {name}`"
        ))
}

/// What the kubelet tells of the machine it runs on.
struct Machine {
    machine_id: String,
    system_uuid: String,
}

impl Machine {
    fn of(cx: &Context) -> Result<Machine> {
        let read = |path: &str| -> Result<String> { Ok(cx.host.root.read_text(path)?.unwrap_or_default().trim().to_lowercase()) };
        Ok(Machine { machine_id: read("/etc/machine-id")?, system_uuid: read("/sys/class/dmi/id/product_uuid")? })
    }
    /// A cloned disk has the same machine-id, and a reinstalled machine the same hardware: it takes both to be the same.
    fn is(&self, node: &Value) -> bool {
        let told = |field: &str| node.pointer(&format!("/status/nodeInfo/{field}")).and_then(Value::as_str).unwrap_or_default();
        let same = |ours: &str, told: &str| !ours.is_empty() && ours == told.to_lowercase();
        same(&self.machine_id, told("machineID")) && same(&self.system_uuid, told("systemUUID"))
    }
}

fn relation(node: Option<&Value>, us: &Machine) -> Relation {
    match node {
        None => Relation::Absent,
        Some(node) if us.is(node) => Relation::Ours,
        Some(node) if is_ready(Some(node)) => Relation::Another,
        Some(_) => Relation::Gone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_of_our_name_is_us_a_dead_one_or_another() {
        let node = |ready: &str, machine: &str, system: &str| {
            json!({"status": {
                "conditions": [{"type": "Ready", "status": ready}],
                "nodeInfo": {"machineID": machine, "systemUUID": system},
            }})
        };
        let us = Machine { machine_id: "aa".to_owned(), system_uuid: "bb-cc".to_owned() };
        let table = [
            (None, Relation::Absent),
            (Some(node("True", "aa", "BB-CC")), Relation::Ours),
            (Some(node("False", "aa", "bb-cc")), Relation::Ours),
            // A cloned disk; a reinstalled machine that the cluster has not missed yet.
            (Some(node("True", "aa", "dd")), Relation::Another),
            (Some(node("True", "ee", "bb-cc")), Relation::Another),
            (Some(node("Unknown", "ee", "bb-cc")), Relation::Gone),
            (Some(json!({})), Relation::Gone),
        ];
        for (live, wished) in table {
            assert_eq!(relation(live.as_ref(), &us), wished, "{live:?}");
        }
        let nobody = Machine { machine_id: String::new(), system_uuid: String::new() };
        assert_eq!(relation(Some(&node("True", "", "")), &nobody), Relation::Another);
    }
}
