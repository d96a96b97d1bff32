//! `etcd/local`: etcd's data directory and the manifest of its static pod. With an external etcd there is nothing to do.

use async_trait::async_trait;
use camino::Utf8Path;

use crate::config::node::{Etcd, Node};
use crate::engine::context::Context;
use crate::engine::phase::{Action, Change, Drift, Fingerprint, Inputs, Phase, PhaseId, Subject};
use crate::engine::state::Effect;
use crate::error::Result;
use crate::k8s::static_pods::Component;

use super::control_plane;

/// `etcd/local`.
pub struct Local;

/// Where etcd keeps its data on this machine; `None` with an external etcd.
pub(super) fn data_dir(node: &Node) -> Option<&Utf8Path> {
    match &node.cluster.etcd {
        Etcd::Local(local) => Some(&local.data_dir),
        Etcd::External(_) => None,
    }
}

#[async_trait]
impl Phase for Local {
    fn id(&self) -> PhaseId {
        PhaseId("etcd/local")
    }
    fn summary(&self) -> &'static str {
        "makes etcd's data directory and writes its static pod manifest"
    }
    fn after(&self) -> &'static [PhaseId] {
        &[
            PhaseId("preflight"),
            PhaseId("certs/etcd-ca"),
            PhaseId("certs/etcd-server"),
            PhaseId("certs/etcd-peer"),
            PhaseId("certs/etcd-healthcheck-client"),
        ]
    }
    fn applies(&self, node: &Node) -> bool {
        node.founds() && data_dir(node).is_some()
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        control_plane::fingerprint(inputs)
    }
    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        let mut drift = cx.compare(&[control_plane::manifest(cx, Component::Etcd)?])?;
        if let Some(dir) = data_dir(&cx.node)
            && !cx.host.root.exists(dir)?
        {
            drift.changes.insert(0, Change::new(Subject::File(dir.to_string()), Action::Create));
        }
        Ok(drift)
    }
    async fn apply(&self, cx: &Context) -> Result<()> {
        make_data_dir(cx).await?;
        control_plane::place(cx, Component::Etcd).await
    }
}

/// Makes the folder of etcd's data, for root alone, as kubeadm does.
pub(super) async fn make_data_dir(cx: &Context) -> Result<()> {
    let Some(dir) = data_dir(&cx.node).map(Utf8Path::to_owned) else { return Ok(()) };
    if cx.host.root.exists(&dir)? {
        return Ok(());
    }
    cx.note(Effect::Dir { path: dir.clone() }).await?;
    let root = cx.host.root.clone();
    cx.host.blocking(move || root.make_dirs(&dir, 0o700).map(drop)).await
}
