//! Components of the control plane that run with a certificate or kubeconfig of before: a mark is put under /run before such a file is
//! replaced, and the phase `control-plane-restart` stops the pods that are marked, which the kubelet starts again. /run is memory: a
//! power cut takes the marks away together with what ran.

use async_trait::async_trait;

use std::time::Duration;

use crate::config::node::{Node, Role};
use crate::engine::context::Context;
use crate::engine::phase::{Action, Change, Disruption, Drift, Fingerprint, Inputs, Phase, PhaseId, Subject};
use crate::error::Result;
use crate::host::Deadline;
use crate::k8s::names;

use super::runtime::socket;

/// The phase `control-plane-restart`.
#[derive(Debug)]
pub struct Restart;

/// Its id.
pub const RESTART: PhaseId = PhaseId("control-plane-restart");

/// The static pods that can be stale.
const COMPONENTS: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];
/// Longer than a component's termination grace period of 30 s.
const STOP: Duration = Duration::from_secs(60);

fn mark(component: &str) -> String {
    format!("/run/edgeboot/{component}-is-stale")
}

/// Says that these components are to start again, before what they read is replaced. Nothing while the kubelet does not run: what
/// starts later starts with the new files.
pub(super) async fn mark_components(cx: &Context, components: &[&str]) -> Result<()> {
    let runs = cx.host.systemd.status(names::KUBELET_UNIT).await?.is_some_and(|unit| unit.is_active());
    if !runs || components.is_empty() {
        return Ok(());
    }
    let (root, marks) = (cx.host.root.clone(), components.iter().map(|component| mark(component)).collect::<Vec<_>>());
    cx.host.blocking(move || marks.iter().try_for_each(|mark| root.mark(mark).map(drop))).await
}

fn marked(cx: &Context) -> Result<Vec<&'static str>> {
    let mut stale = Vec::new();
    for component in COMPONENTS {
        if cx.host.root.exists(mark(component))? {
            stale.push(component);
        }
    }
    Ok(stale)
}

#[async_trait]
impl Phase for Restart {
    fn id(&self) -> PhaseId {
        RESTART
    }
    fn summary(&self) -> &'static str {
        "restarts the components of the control plane that run with a certificate or kubeconfig of before"
    }
    fn after(&self) -> &'static [PhaseId] {
        &[
            PhaseId("certs"),
            PhaseId("kubeconfig"),
            PhaseId("control-plane-prepare/certs"),
            PhaseId("control-plane-prepare/kubeconfig"),
            PhaseId("kubelet-start"),
        ]
    }
    fn applies(&self, node: &Node) -> bool {
        node.role == Role::ControlPlane
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        Fingerprint::of(&inputs.node.registration.cri_socket)
    }
    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        let change = |component: &str| {
            Change::new(Subject::Other(format!("pod {component}")), Action::Restart)
                .disrupting(Disruption::ControlPlane)
                .because("what it reads at its start was replaced")
        };
        Ok(Drift { changes: marked(cx)?.into_iter().map(change).collect(), ..Drift::none() })
    }
    async fn apply(&self, cx: &Context) -> Result<()> {
        let socket = socket(cx);
        for component in marked(cx)? {
            let deadline = Deadline::after(STOP, format!("{component} to stop"));
            cx.waiting_for(deadline.reason());
            let pod = format!("{component}-{}", cx.node_name()?);
            let _ = cx.host.containers.stop_pod(&socket, "kube-system", &pod, &deadline).await?;
            let (root, mark) = (cx.host.root.clone(), mark(component));
            cx.host.blocking(move || root.remove(mark).map(drop)).await?;
        }
        Ok(())
    }
}
