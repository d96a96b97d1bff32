//! `addon/*`: CoreDNS and kube-proxy, unless the configuration leaves them out.

use async_trait::async_trait;
use serde_json::Value;

use super::objects::{AFTER_API, apply_objects, cluster_url, inspect_objects};
use super::patches;
use crate::components::{coredns, kube_proxy};
use crate::config::node::Node;
use crate::engine::context::Context;
use crate::engine::phase::{Drift, Fingerprint, Inputs, Phase, PhaseId};
use crate::error::Result;

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
        inspect_objects(cx, &kube_proxy_wishes(cx)?).await
    }
    async fn apply(&self, cx: &Context) -> Result<()> {
        apply_objects(cx, &kube_proxy_wishes(cx)?).await
    }
}
