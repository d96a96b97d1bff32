//! `addon/*`: CoreDNS and kube-proxy, unless the configuration leaves them out.

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;

use super::objects::{AFTER_API, apply_objects, cluster_url, inspect_objects};
use super::patches;
use crate::components::{coredns, kube_proxy};
use crate::config::node::Node;
use crate::engine::context::Context;
use crate::engine::phase::{Action, Change, Drift, Fingerprint, Inputs, Phase, PhaseId, Subject};
use crate::error::Result;
use crate::host::api::{FIELD_MANAGER, ObjectReference};
use crate::k8s::objects::KUBE_SYSTEM;

/// `addon/coredns`.
#[derive(Debug)]
pub struct CoreDns;
/// `addon/kube-proxy`.
#[derive(Debug)]
pub struct KubeProxy;

fn coredns_wishes(cx: &Context) -> Result<Vec<Value>> {
    coredns::objects(&cx.node.cluster, &patches::load(cx)?)
}

fn kube_proxy_wishes(cx: &Context) -> Result<Vec<Value>> {
    kube_proxy::objects(&cx.node, &cx.kubernetes_version()?, cx.advertise_address()?, &cluster_url(cx)?)
}

#[async_trait]
impl Phase for CoreDns {
    fn id(&self) -> PhaseId {
        PhaseId("addon/coredns")
    }
    fn summary(&self) -> &'static str {
        "install CoreDNS"
    }
    fn after(&self) -> &'static [PhaseId] {
        AFTER_API
    }
    fn applies(&self, node: &Node) -> bool {
        node.founds() && !node.cluster.dns.disabled
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        let cluster = &inputs.node.cluster;
        let service = (&cluster.dns_domain, &cluster.service_subnets);
        Fingerprint::of(&(&cluster.dns, &cluster.image_repository, service, &inputs.node.patches))
    }
    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        inspect_objects(cx, &coredns_wishes(cx)?).await
    }
    async fn apply(&self, cx: &Context) -> Result<()> {
        apply_objects(cx, &coredns_wishes(cx)?).await
    }
}

#[async_trait]
impl Phase for KubeProxy {
    fn id(&self) -> PhaseId {
        PhaseId("addon/kube-proxy")
    }
    fn summary(&self) -> &'static str {
        "install kube-proxy"
    }
    fn after(&self) -> &'static [PhaseId] {
        AFTER_API
    }
    fn applies(&self, node: &Node) -> bool {
        node.founds() && !node.cluster.proxy.disabled
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        let (node, facts) = (inputs.node, inputs.facts);
        let version = facts.package.as_ref().map(|package| &package.kubernetes_version);
        Fingerprint::of(&(
            &node.cluster,
            &node.kube_proxy_configuration,
            &node.advertise_address,
            node.bind_port,
            facts.advertise_address,
            version,
        ))
    }
    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        let mut drift = inspect_objects(cx, &kube_proxy_wishes(cx)?).await?;
        if drift.changes.is_empty()
            && !cx.ledger.is_recorded(self.id(), &self.fingerprint(&Inputs { node: &cx.node, facts: &cx.facts() }))
        {
            let stale = stale_proxies(cx).await?.into_iter();
            let restart = |pod: ObjectReference| Change::new(Subject::Object(pod.to_string()), Action::Restart);
            drift.changes.extend(stale.map(|pod| restart(pod).because("it started with the configuration of before")));
        }
        Ok(drift)
    }
    async fn apply(&self, cx: &Context) -> Result<()> {
        apply_objects(cx, &kube_proxy_wishes(cx)?).await?;
        for pod in stale_proxies(cx).await? {
            let _ = cx.api()?.delete(&pod).await?;
        }
        Ok(())
    }
}

/// The pods of kube-proxy that are older than what we last wrote into their configuration: they read it when they start, and the API
/// server's address is in it.
async fn stale_proxies(cx: &Context) -> Result<Vec<ObjectReference>> {
    let api = cx.api()?;
    let config_map = ObjectReference::new("v1", "ConfigMap", "configmaps").namespaced(KUBE_SYSTEM).named("kube-proxy");
    let Some(written) = api.read(&config_map).await?.as_ref().and_then(written_by_us) else { return Ok(Vec::new()) };
    let pods = ObjectReference::new("v1", "Pod", "pods").namespaced(KUBE_SYSTEM);
    let listed = api.list(&pods).await?;
    Ok(listed.iter().filter(|pod| is_older_proxy(pod, written)).filter_map(|pod| ObjectReference::of(pod).ok()).collect())
}

fn is_older_proxy(pod: &Value, written: Timestamp) -> bool {
    // One that is going already is followed by its successor.
    let is_going = pod["metadata"].get("deletionTimestamp").is_some();
    let created = pod["metadata"]["creationTimestamp"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    pod["metadata"]["labels"]["k8s-app"] == "kube-proxy" && !is_going && created.is_some_and(|created| created < written)
}

/// When we last changed an object, as the API server remembers it.
fn written_by_us(object: &Value) -> Option<Timestamp> {
    let managers = object["metadata"]["managedFields"].as_array()?;
    let ours = managers.iter().filter(|entry| entry["manager"] == FIELD_MANAGER);
    ours.filter_map(|entry| entry["time"].as_str()?.parse().ok()).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_proxy_that_is_older_than_its_configuration_is_stale() {
        let config_map = json!({"metadata": {"managedFields": [
            {"manager": "edgeboot", "time": "2026-11-21T10:00:00Z"},
            {"manager": "kubectl-edit", "time": "2026-11-21T12:00:00Z"},
        ]}});
        let written = written_by_us(&config_map).expect("a time");
        let pod = |name: &str, created: &str| json!({"metadata": {"labels": {"k8s-app": name}, "creationTimestamp": created}});
        assert!(is_older_proxy(&pod("kube-proxy", "2026-11-21T09:59:59Z"), written));
        assert!(!is_older_proxy(&pod("kube-proxy", "2026-11-21T10:00:00Z"), written));
        let mut going = pod("kube-proxy", "2026-11-21T09:59:59Z");
        going["metadata"]["deletionTimestamp"] = json!("2026-11-21T10:00:01Z");
        assert!(!is_older_proxy(&going, written));
        assert!(!is_older_proxy(&pod("kube-dns", "2026-11-21T09:00:00Z"), written));
        assert_eq!(written_by_us(&json!({})), None);
    }
}
