//! `control-plane/*`: the manifests of the control plane's static pods, as kubeadm writes them. They need no certificate to be written.
//! kube-apiserver's is in place before the kubelet starts; the controllers' follow when it answers: before that they could only ask for
//! it again and again, and on a small machine they would take the time from it that it needs to come up (src/decisions.md).

use async_trait::async_trait;
use camino::Utf8PathBuf;

use crate::config::node::Node;
use crate::engine::context::Context;
use crate::engine::file::File;
use crate::engine::phase::{Disruption, Drift, Fingerprint, Inputs, Phase, PhaseId};
use crate::error::Result;
use crate::k8s::static_pods::{CA_DIRS, Component, ControlPlane, EtcdCluster};

use super::patches;

/// `control-plane/apiserver`.
pub struct ApiServer;
/// `control-plane/controller-manager`.
pub struct ControllerManager;
/// `control-plane/scheduler`.
pub struct Scheduler;

/// The manifest of a component as a file of the node that founds a cluster.
pub(super) fn manifest(cx: &Context, component: Component) -> Result<File> {
    manifest_in(cx, component, EtcdCluster::New)
}

/// The same, for a member that comes to this etcd cluster.
pub(super) fn manifest_in(cx: &Context, component: Component, etcd: EtcdCluster<'_>) -> Result<File> {
    let version = cx.kubernetes_version()?;
    let node_name = cx.node_name()?;
    let existing_ca_dirs = existing_ca_dirs(cx)?;
    let patches = patches::load(cx)?;
    let control_plane = ControlPlane {
        node: &cx.node,
        version: &version,
        advertise_address: cx.advertise_address()?,
        node_name: &node_name,
        existing_ca_dirs: &existing_ca_dirs,
        etcd,
        external_ca: external_ca(cx)?,
        patches: &patches,
    };
    let text = control_plane.manifest_text(component)?;
    Ok(File::yaml(component.manifest_path(), 0o600, text).disrupting(Disruption::ControlPlane))
}

fn existing_ca_dirs(cx: &Context) -> Result<Vec<String>> {
    let mut existing = Vec::new();
    for dir in CA_DIRS {
        if cx.host.root.exists(dir)? {
            existing.push(dir.to_owned());
        }
    }
    Ok(existing)
}

/// kubeadm's external CA mode: the CA's certificate is here and its key never was. A key that we made and that is gone is another
/// matter, which `certs/ca` names.
fn external_ca(cx: &Context) -> Result<bool> {
    let path = |name| -> Utf8PathBuf { cx.node.cluster.certificates_dir.join(name) };
    let key = path("ca.key");
    Ok(cx.host.root.exists(path("ca.crt"))? && !cx.host.root.exists(&key)? && !cx.ledger.has_written(&key))
}

/// Everything a manifest is made from.
pub(super) fn fingerprint(inputs: &Inputs<'_>) -> Fingerprint {
    let (node, facts) = (inputs.node, inputs.facts);
    let package = facts.package.as_ref().map(|package| &package.kubernetes_version);
    Fingerprint::of(&(
        &node.cluster,
        &node.registration.name,
        &node.advertise_address,
        node.bind_port,
        &node.patches,
        &node.timeouts,
        (&facts.node_name, &facts.advertise_address, package),
    ))
}

/// Places a manifest.
pub(super) async fn place(cx: &Context, component: Component) -> Result<()> {
    cx.place(vec![manifest(cx, component)?]).await.map(drop)
}

#[async_trait]
impl Phase for ApiServer {
    fn id(&self) -> PhaseId {
        PhaseId("control-plane/apiserver")
    }
    fn summary(&self) -> &'static str {
        "writes the static pod manifest of kube-apiserver"
    }
    fn after(&self) -> &'static [PhaseId] {
        &[PhaseId("preflight")]
    }
    fn applies(&self, node: &Node) -> bool {
        node.founds()
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        fingerprint(inputs)
    }
    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        cx.compare(&[manifest(cx, Component::ApiServer)?])
    }
    async fn apply(&self, cx: &Context) -> Result<()> {
        place(cx, Component::ApiServer).await
    }
}

#[async_trait]
impl Phase for ControllerManager {
    fn id(&self) -> PhaseId {
        PhaseId("control-plane/controller-manager")
    }
    fn summary(&self) -> &'static str {
        "writes the static pod manifest of kube-controller-manager"
    }
    fn after(&self) -> &'static [PhaseId] {
        // Whether it signs depends on the CA's key.
        &[PhaseId("certs/ca"), PhaseId("images/controllers")]
    }
    fn applies(&self, node: &Node) -> bool {
        node.founds()
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        fingerprint(inputs)
    }
    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        cx.compare(&[manifest(cx, Component::ControllerManager)?])
    }
    async fn apply(&self, cx: &Context) -> Result<()> {
        place(cx, Component::ControllerManager).await
    }
}

#[async_trait]
impl Phase for Scheduler {
    fn id(&self) -> PhaseId {
        PhaseId("control-plane/scheduler")
    }
    fn summary(&self) -> &'static str {
        "writes the static pod manifest of kube-scheduler"
    }
    fn after(&self) -> &'static [PhaseId] {
        &[PhaseId("images/controllers")]
    }
    fn applies(&self, node: &Node) -> bool {
        node.founds()
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        fingerprint(inputs)
    }
    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        cx.compare(&[manifest(cx, Component::Scheduler)?])
    }
    async fn apply(&self, cx: &Context) -> Result<()> {
        place(cx, Component::Scheduler).await
    }
}
