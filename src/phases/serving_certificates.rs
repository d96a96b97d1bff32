//! Serving certificates of kubelets from the cluster (`serverTLSBootstrap`): `kubelet-finalize/approve-serving-certs` lets
//! edgeboot-approve.timer run on a control plane while its KubeletConfiguration asks for them, and [`decide`] is what the timer does.
//! kubeadm leaves the requests to a person.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use crate::config::node::{Node, Role};
use crate::engine::context::Context;
use crate::engine::phase::{Action, Change, Drift, Fingerprint, Inputs, Kept, Phase, PhaseId, Subject};
use crate::engine::state::Effect;
use crate::error::{Error, Kind, Result};
use crate::host::api::{Api, ObjectReference};
use crate::host::{Deadline, Host};
use crate::k8s::names;
use crate::k8s::pki::San;
use crate::k8s::pki::serving_request::{approved, judge, node_of, undecided};

use super::runtime::enable_unit;

/// `kubelet-finalize/approve-serving-certs`.
#[derive(Debug, Clone, Copy)]
pub struct ApproveServingCerts;

/// Looks every twenty seconds.
const TIMER: &str = "edgeboot-approve.timer";
/// systemd only notes when it is due.
const START: Duration = Duration::from_secs(30);
/// The field of the KubeletConfiguration.
const FIELD: &str = "serverTLSBootstrap";

/// Whether this machine's kubelet, and with it the cluster's, asks the cluster for its serving certificate.
fn is_wished(cx: &Context) -> Result<bool> {
    let Some(text) = cx.host.root.read_text(names::KUBELET_CONFIG)? else { return Ok(false) };
    if !text.contains(FIELD) {
        return Ok(false);
    }
    let read: Value = serde_saphyr::from_str(&text)
        .map_err(|why| Error::host(format!("reading {}", names::KUBELET_CONFIG)).because(why.to_string()))?;
    Ok(read[FIELD] == true)
}

/// Whether an earlier run of ours enabled the timer.
fn is_noted(cx: &Context) -> bool {
    let is_timer = |effect: &Effect| matches!(effect, Effect::Unit { name, .. } if name == TIMER);
    cx.ledger.state().phases.values().any(|record| record.effects.iter().any(is_timer))
}

#[async_trait]
impl Phase for ApproveServingCerts {
    fn id(&self) -> PhaseId {
        PhaseId("kubelet-finalize/approve-serving-certs")
    }
    fn summary(&self) -> &'static str {
        "lets a control plane approve kubelets' requests for serving certificates, where they make them"
    }
    fn after(&self) -> &'static [PhaseId] {
        &[PhaseId("kubelet-start"), PhaseId("wait-control-plane/kube-apiserver")]
    }
    fn applies(&self, node: &Node) -> bool {
        node.role == Role::ControlPlane
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        Fingerprint::of(&inputs.node.kubelet_configuration)
    }

    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        let wished = is_wished(cx)?;
        if !wished && !is_noted(cx) {
            return Ok(Drift::none());
        }
        let unit = || Subject::Unit(TIMER.to_owned());
        let mut drift = Drift::none();
        let Some(status) = cx.host.systemd.status(TIMER).await? else {
            // A node without it is whole: a person can approve, as in a cluster of kubeadm's.
            let difference =
                "systemd does not know it, so nobody approves kubelets' serving certificates: this image has older units";
            drift.kept.push(Kept { subject: unit(), difference: difference.to_owned() });
            return Ok(drift);
        };
        let (enabled, active) = (status.is_enabled(), status.is_active());
        if wished && !enabled {
            drift.changes.push(Change::new(unit(), Action::Update).because("it does not start at boot"));
        }
        if wished && !active {
            drift.changes.push(Change::new(unit(), Action::Start));
        }
        if !wished && (enabled || active) {
            drift.changes.push(Change::new(unit(), Action::Remove).because(format!("{FIELD} is off")));
        }
        Ok(drift)
    }

    async fn apply(&self, cx: &Context) -> Result<()> {
        let deadline = Deadline::after(START, format!("{TIMER} to start"));
        if !is_wished(cx)? {
            cx.host.systemd.disable(TIMER).await.map(drop)?;
            return cx.host.systemd.stop(TIMER, &deadline).await.map(drop);
        }
        let status = cx.host.systemd.status(TIMER).await?;
        enable_unit(cx, TIMER, status.as_ref()).await?;
        cx.waiting_for(deadline.reason());
        cx.host.systemd.start(TIMER, &deadline).await.map(drop)
    }
}

/// What was decided about one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The CertificateSigningRequest.
    pub request: String,
    /// The node that it says it is from.
    pub node: String,
    /// Why it is left to a person; `None`: it is approved.
    pub left: Option<String>,
}

/// Approves the requests that are what they should be, or with `dry_run` says which ones those are. `reserved` are the API server's
/// names and addresses.
pub async fn decide(host: &Host, api: &dyn Api, reserved: &[San], dry_run: bool) -> Result<Vec<Decision>> {
    let kind = ObjectReference::new("certificates.k8s.io/v1", "CertificateSigningRequest", "certificatesigningrequests");
    let requests = api.list(&kind).await?;
    let undecided: Vec<&Value> = undecided(&requests).collect();
    if undecided.is_empty() {
        return Ok(Vec::new());
    }
    let nodes = api.list(&ObjectReference::new("v1", "Node", "nodes")).await?;
    let mut decisions = Vec::new();
    for request in undecided {
        let mut left = judge(request, &nodes, reserved).err();
        if left.is_none() && !dry_run {
            match api.approve(&approved(request, host.clock.now())).await {
                // Another control plane was quicker, or it is gone: the next look tells.
                Err(error) if error.kind() == Kind::Transient => left = Some(error.to_string()),
                other => other?,
            }
        }
        let request_name = request["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        decisions.push(Decision { request: request_name, node: node_of(request).to_owned(), left });
    }
    Ok(decisions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sample;
    use crate::engine::ledger::Ledger;
    use crate::engine::progress::Progress;
    use crate::host::fake::Machine;

    fn context(machine: &Machine) -> Context {
        let (ledger, _) = Ledger::load(&machine.root()).expect("a ledger");
        Context::new(machine.host(), sample::control_plane().into(), ledger, Progress::new(Vec::new()), Vec::new())
            .for_phase(ApproveServingCerts.id())
    }

    fn configure(cx: &Context, text: &str) {
        let _ = cx.host.root.put(names::KUBELET_CONFIG, 0o644, text.as_bytes()).expect("placed");
    }

    #[tokio::test]
    async fn the_timer_runs_while_the_kubelet_asks_for_certificates() {
        let machine = Machine::new();
        let cx = context(&machine);
        let unit = "[Timer]\nOnUnitInactiveSec=20s\n[Install]\nWantedBy=timers.target\n";
        let _ = cx.host.root.put(format!("/etc/systemd/system/{TIMER}"), 0o644, unit.as_bytes()).expect("placed");

        configure(&cx, "serverTLSBootstrap: false\n");
        assert!(ApproveServingCerts.inspect(&cx).await.expect("inspected").changes.is_empty());
        configure(&cx, "serverTLSBootstrap: true\n");
        assert_eq!(ApproveServingCerts.inspect(&cx).await.expect("inspected").changes.len(), 2);
        ApproveServingCerts.apply(&cx).await.expect("applied");
        assert!(ApproveServingCerts.inspect(&cx).await.expect("inspected").changes.is_empty());
        configure(&cx, "serverTLSBootstrap: false\n");
        assert_eq!(ApproveServingCerts.inspect(&cx).await.expect("inspected").changes[0].action, Action::Remove);
        ApproveServingCerts.apply(&cx).await.expect("applied");
        assert!(ApproveServingCerts.inspect(&cx).await.expect("inspected").changes.is_empty());
    }

    #[tokio::test]
    async fn an_image_without_the_timer_is_named() {
        let cx = context(&Machine::new());
        configure(&cx, "serverTLSBootstrap: true\n");
        let drift = ApproveServingCerts.inspect(&cx).await.expect("inspected");
        assert!(drift.changes.is_empty());
        assert!(drift.kept[0].difference.starts_with("systemd does not know it"), "{:?}", drift.kept);
    }
}
