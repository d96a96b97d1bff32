//! `addon/flannel`: the pod network of a cluster with more than one node; `cni/no-bridge`: where the network was `bridge` before, its
//! configuration goes, for the runtime would take it before flannel's, and its addresses in use are handed over.

use std::net::IpAddr;

use async_trait::async_trait;
use serde_json::Value;

use super::objects::{AFTER_API, apply_objects, inspect_objects};
use crate::components::{bridge, flannel};
use crate::config::node::{NetworkComponent, Node};
use crate::engine::context::Context;
use crate::engine::phase::{Action, Change, Drift, Fingerprint, Inputs, Kept, Phase, PhaseId, Subject};
use crate::error::Result;
use crate::host::root::Placement;
use crate::host::{Root, Utf8Path};
use crate::k8s::names;

/// `addon/flannel`.
#[derive(Debug)]
pub struct Flannel;
/// `cni/no-bridge`.
#[derive(Debug)]
pub struct NoBridge;

/// Where the plugin that gives addresses (`host-local`) keeps those in use: a folder for each network, a file for each address.
const ADDRESSES: &str = "/var/lib/cni/networks";

fn wishes(cx: &Context) -> Result<Vec<Value>> {
    flannel::objects(&cx.node, cx.advertise_address()?)
}

#[async_trait]
impl Phase for Flannel {
    fn id(&self) -> PhaseId {
        PhaseId("addon/flannel")
    }
    fn summary(&self) -> &'static str {
        "install flannel, the pod network"
    }
    fn after(&self) -> &'static [PhaseId] {
        AFTER_API
    }
    fn applies(&self, node: &Node) -> bool {
        node.founds() && node.network == NetworkComponent::Flannel
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        let (node, facts) = (inputs.node, inputs.facts);
        let server = (&node.cluster.control_plane_endpoint, &node.advertise_address, node.bind_port, facts.advertise_address);
        Fingerprint::of(&(&node.cluster.pod_subnets, node.kube_proxy_configuration.get("mode"), server))
    }
    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        inspect_objects(cx, &wishes(cx)?).await
    }
    async fn apply(&self, cx: &Context) -> Result<()> {
        let wishes = wishes(cx)?;
        // The others live in it.
        let (namespace, others) = wishes.split_at(1);
        apply_objects(cx, namespace).await?;
        apply_objects(cx, others).await
    }
}

fn left_over() -> String {
    format!("{}/{}", names::CNI_CONF_DIR, bridge::FILE)
}

#[async_trait]
impl Phase for NoBridge {
    fn id(&self) -> PhaseId {
        PhaseId("cni/no-bridge")
    }
    fn summary(&self) -> &'static str {
        "take the bridge network away where another is wished"
    }
    fn after(&self) -> &'static [PhaseId] {
        &[PhaseId("addon/flannel"), PhaseId("node-registered")]
    }
    fn applies(&self, node: &Node) -> bool {
        node.founds() && node.network != NetworkComponent::Bridge
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        Fingerprint::of(&inputs.node.network)
    }
    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        let path = left_over();
        let subject = Subject::File(path.clone());
        if cx.is_ours(&path)? {
            let why = "the network is another; pods that run keep their addresses until they are started again";
            return Ok(Drift::one(Change::new(subject, Action::Remove).because(why)));
        }
        let mut drift = Drift::none();
        if cx.ledger.has_written(Utf8Path::new(&path)) && cx.host.root.exists(&path)? {
            drift.kept.push(Kept { subject, difference: "the network is another, and this one comes before it".to_owned() });
        }
        Ok(drift)
    }
    async fn apply(&self, cx: &Context) -> Result<()> {
        let (root, to_flannel) = (cx.host.root.clone(), cx.node.network == NetworkComponent::Flannel);
        let path = left_over();
        if !cx.is_ours(&path)? {
            return Ok(());
        }
        let work = move || {
            if to_flannel {
                hand_over(&root, bridge::NAME, flannel::NAME)?;
            }
            root.remove(&path).map(drop)
        };
        cx.host.blocking(work).await
    }
}

/// Addresses that pods of one network have are in use in the other, which gives addresses of the same subnet.
fn hand_over(root: &Root, from: &str, to: &str) -> Result<()> {
    let mut placements = Vec::new();
    for name in root.list(format!("{ADDRESSES}/{from}"))?.unwrap_or_default() {
        let path = Utf8Path::new(ADDRESSES).join(to).join(&name);
        if name.parse::<IpAddr>().is_ok() && !root.exists(&path)? {
            let bytes = root.read(format!("{ADDRESSES}/{from}/{name}"))?.unwrap_or_default();
            placements.push(Placement { path, mode: 0o600, bytes });
        }
    }
    root.put_groups(&[placements]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sample;
    use crate::engine::ledger::Ledger;
    use crate::engine::progress::Progress;
    use crate::host::fake::Machine;
    use std::sync::Arc;

    fn context(machine: &Machine, network: NetworkComponent) -> Context {
        let host = machine.host();
        let (ledger, _) = Ledger::load(&host.root).expect("a ledger");
        let node = Node { network, ..sample::control_plane() };
        Context::new(host, Arc::new(node), ledger, Progress::new(vec![]), vec![])
    }

    #[tokio::test]
    async fn the_bridge_goes_with_its_addresses_and_one_that_somebody_changed_stays() {
        for (changed, network) in
            [(false, NetworkComponent::Flannel), (false, NetworkComponent::None), (true, NetworkComponent::Flannel)]
        {
            let machine = Machine::new();
            let before = context(&machine, NetworkComponent::Bridge);
            let bridge = before.for_phase(super::super::cni::Cni.id());
            super::super::cni::Cni.apply(&bridge).await.expect("a bridge");
            bridge.ledger.save(&bridge.host).await.expect("saved");
            machine.files.bake("/var/lib/cni/networks/edgeboot/10.244.0.2", 0o644, b"coredns eth0");
            machine.files.bake("/var/lib/cni/networks/edgeboot/last_reserved_ip.0", 0o644, b"10.244.0.2");
            if changed {
                machine.files.bake(&left_over(), 0o644, b"{\"name\": \"mine\"}");
            }
            let cx = context(&machine, network).for_phase(NoBridge.id());
            let drift = NoBridge.inspect(&cx).await.expect("looked");
            assert_eq!((drift.changes.len(), drift.kept.len()), if changed { (0, 1) } else { (1, 0) });
            NoBridge.apply(&cx).await.expect("applied");
            assert!(NoBridge.inspect(&cx).await.expect("looked").changes.is_empty());
            assert_eq!(cx.host.root.exists(left_over()).expect("looked"), changed);
            let handed = cx.host.root.list("/var/lib/cni/networks/cbr0").expect("looked").unwrap_or_default();
            let expected: &[&str] = if network == NetworkComponent::Flannel && !changed { &["10.244.0.2"] } else { &[] };
            assert_eq!(handed, expected, "{network:?}");
        }
    }
}
