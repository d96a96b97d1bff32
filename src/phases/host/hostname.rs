//! `host/hostname`: the machine's name, where the configuration says one. systemd-hostnamed sets it, for a sandboxed edgeboot may not;
//! the kernel's own name is another namespace's here, so /etc/hostname is what shows whether it is so: systemd names the machine by it at
//! each boot.

use async_trait::async_trait;

use crate::config::node::Node;
use crate::engine::context::Context;
use crate::engine::phase::{Action, Change, Drift, Fingerprint, Inputs, Phase, PhaseId, Subject};
use crate::engine::state::Effect;
use crate::error::{Error, Result};
use crate::host::kernel;
use crate::phases::preflight::PREFLIGHT;

/// The phase `host/hostname`.
#[derive(Debug)]
pub struct Hostname;

#[async_trait]
impl Phase for Hostname {
    fn id(&self) -> PhaseId {
        PhaseId("host/hostname")
    }
    fn summary(&self) -> &'static str {
        "names the machine, where the configuration says a name"
    }
    fn after(&self) -> &'static [PhaseId] {
        &[PREFLIGHT]
    }
    fn applies(&self, node: &Node) -> bool {
        node.host.hostname.is_some()
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        Fingerprint::of(&inputs.node.host.hostname)
    }

    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        let (wished, standing) = (wished(cx)?, kernel::static_hostname(&cx.host.root)?);
        if standing == wished {
            return Ok(Drift::none());
        }
        let is = if standing.is_empty() { "the machine has none".to_owned() } else { format!("it is '{standing}'") };
        Ok(Drift::one(Change::new(Subject::Other(format!("hostname {wished}")), Action::Update).because(is)))
    }

    async fn apply(&self, cx: &Context) -> Result<()> {
        let (wished, prior) = (wished(cx)?, kernel::static_hostname(&cx.host.root)?);
        cx.note(Effect::Hostname { ours: wished.clone(), prior }).await?;
        cx.waiting_for("systemd-hostnamed");
        cx.host.systemd.set_static_hostname(&wished).await?;
        let root = cx.host.root.clone();
        // hostnamed does not flush what it writes.
        cx.host.blocking(move || kernel::flush_static_hostname(&root)).await
    }
}

fn wished(cx: &Context) -> Result<String> {
    let wished = cx.node.host.hostname.clone();
    wished.ok_or_else(|| Error::internal("naming the machine").because("the configuration says no name"))
}
