//! `upload-config/*`: the cluster's configuration and that of its kubelets, where kubeadm on further machines reads them.

use async_trait::async_trait;
use serde_json::Value;

use super::kubelet_start::systemd_resolved;
use super::objects::{AFTER_API, apply_objects, inspect_objects};
use crate::config::node::{KubernetesVersion, Node};
use crate::engine::context::Context;
use crate::engine::phase::{Drift, Fingerprint, Inputs, Phase, PhaseId};
use crate::error::Result;
use crate::k8s::cluster_configuration::cluster_configuration;
use crate::k8s::kubelet_config::cluster_kubelet_config;
use crate::k8s::objects::{Grantee, KUBE_SYSTEM, config_map, role_binding, role_to_read, signed};
use crate::k8s::{names, yaml};

/// `upload-config/kubeadm`.
#[derive(Debug)]
pub struct Kubeadm;
/// `upload-config/kubelet`.
#[derive(Debug)]
pub struct Kubelet;

/// The ConfigMap kubeadm-config, readable by those that join and by nodes.
pub(super) fn kubeadm_wishes(node: &Node, version: &KubernetesVersion) -> Vec<Value> {
    let (name, role) = ("kubeadm-config", "kubeadm:nodes-kubeadm-config");
    vec![
        config_map(KUBE_SYSTEM, name, &[("ClusterConfiguration", &cluster_configuration(&node.cluster, version))]),
        role_to_read(KUBE_SYSTEM, role, "configmaps", name),
        role_binding(KUBE_SYSTEM, role, &[Grantee::Group(names::GROUP_BOOTSTRAPPERS), Grantee::Group(names::GROUP_NODES)]),
    ]
}

/// The ConfigMap kubelet-config, likewise.
pub(super) fn kubelet_wishes(node: &Node, systemd_resolved: bool) -> Vec<Value> {
    let (name, role) = ("kubelet-config", "kubeadm:kubelet-config");
    let text = yaml::text(&cluster_kubelet_config(node, systemd_resolved));
    let config_map = config_map(KUBE_SYSTEM, name, &[("kubelet", &text)]);
    vec![
        if node.kubelet_configuration.is_empty() { signed(config_map) } else { config_map },
        role_to_read(KUBE_SYSTEM, role, "configmaps", name),
        role_binding(KUBE_SYSTEM, role, &[Grantee::Group(names::GROUP_NODES), Grantee::Group(names::GROUP_BOOTSTRAPPERS)]),
    ]
}

#[async_trait]
impl Phase for Kubeadm {
    fn id(&self) -> PhaseId {
        PhaseId("upload-config/kubeadm")
    }
    fn summary(&self) -> &'static str {
        "store the cluster's configuration in the ConfigMap kubeadm-config"
    }
    fn after(&self) -> &'static [PhaseId] {
        AFTER_API
    }
    fn applies(&self, node: &Node) -> bool {
        node.founds()
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        Fingerprint::of(&(&inputs.node.cluster, inputs.facts.package.as_ref().map(|package| &package.kubernetes_version)))
    }
    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        inspect_objects(cx, &kubeadm_wishes(&cx.node, &cx.kubernetes_version()?)).await
    }
    async fn apply(&self, cx: &Context) -> Result<()> {
        apply_objects(cx, &kubeadm_wishes(&cx.node, &cx.kubernetes_version()?)).await
    }
}

#[async_trait]
impl Phase for Kubelet {
    fn id(&self) -> PhaseId {
        PhaseId("upload-config/kubelet")
    }
    fn summary(&self) -> &'static str {
        "store the kubelets' configuration in the ConfigMap kubelet-config"
    }
    fn after(&self) -> &'static [PhaseId] {
        AFTER_API
    }
    fn applies(&self, node: &Node) -> bool {
        node.founds()
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        Fingerprint::of(&(&inputs.node.cluster, &inputs.node.kubelet_configuration))
    }
    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        inspect_objects(cx, &kubelet_wishes(&cx.node, systemd_resolved(cx).await?)).await
    }
    async fn apply(&self, cx: &Context) -> Result<()> {
        apply_objects(cx, &kubelet_wishes(&cx.node, systemd_resolved(cx).await?)).await
    }
}
