//! After the kubelet has started: it proves itself with the certificate it rotates. edgeboot makes it so from the start, so this finds
//! something to do only where kubeadm was cut off before its own `kubelet-finalize`.

use std::time::Duration;

use async_trait::async_trait;

use crate::config::node::Node;
use crate::engine::context::Context;
use crate::engine::phase::{Action, Change, Disruption, Drift, Fingerprint, Inputs, Phase, PhaseId, Subject};
use crate::error::{Error, Result};
use crate::host::Deadline;
use crate::k8s::kubeconfig::{Credentials, Kubeconfig, with_client_file};
use crate::k8s::names;

use super::certs::replacing;
use super::kubeconfig::client_current;

const ID: PhaseId = PhaseId("kubelet-finalize/enable-client-cert-rotation");

/// `kubelet-finalize/enable-client-cert-rotation`.
#[derive(Debug, Clone, Copy)]
pub struct EnableClientCertRotation;

/// The kubelet.conf that holds a certificate although the kubelet has one that it rotates.
fn to_change(cx: &Context) -> Result<Option<Vec<u8>>> {
    if cx.host.root.read(client_current(&cx.node))?.is_none() {
        return Ok(None);
    }
    let bytes = cx.host.root.read(names::KUBELET_CONF)?;
    let embeds = |bytes: &Vec<u8>| matches!(Kubeconfig::parse(bytes), Ok(config) if matches!(config.credentials, Credentials::Embedded { .. }));
    Ok(bytes.filter(embeds))
}

#[async_trait]
impl Phase for EnableClientCertRotation {
    fn id(&self) -> PhaseId {
        ID
    }
    fn summary(&self) -> &'static str {
        "let the kubelet rotate its client certificate"
    }
    fn after(&self) -> &'static [PhaseId] {
        // A kubelet that is registered has written the certificate that it will rotate: looked for earlier, it might not be there yet,
        // and the next run would find something to do.
        &[PhaseId("kubeconfig/kubelet"), PhaseId("kubelet-start"), PhaseId("node-registered")]
    }
    fn applies(&self, node: &Node) -> bool {
        node.founds()
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        Fingerprint::of(&inputs.node.registration.kubelet_extra_args)
    }

    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        if to_change(cx)?.is_none() {
            return Ok(Drift::none());
        }
        let change = Change::new(Subject::File(names::KUBELET_CONF.to_owned()), Action::Update);
        Ok(Drift::one(change.because("it holds a certificate that is never rotated").disrupting(Disruption::Kubelet)))
    }

    async fn apply(&self, cx: &Context) -> Result<()> {
        let Some(bytes) = to_change(cx)? else { return Ok(()) };
        let text = with_client_file(&bytes, client_current(&cx.node).as_str())
            .map_err(|why| Error::host(format!("reading {}", names::KUBELET_CONF)).because(why))?;
        cx.place(vec![replacing(names::KUBELET_CONF, 0o600, text.as_bytes())]).await.map(drop)?;
        if cx.host.systemd.status(names::KUBELET_UNIT).await?.is_some_and(|status| status.is_active()) {
            let reason = format!("{} to start again", names::KUBELET_UNIT);
            cx.waiting_for(&reason);
            cx.host.systemd.restart(names::KUBELET_UNIT, &Deadline::after(Duration::from_secs(90), reason)).await?;
        }
        Ok(())
    }
}
