//! The host: kernel modules, sysctls and swap as Kubernetes needs them. Our files say it for every later boot; the loading and setting
//! is done by systemd's own units, since a sandboxed edgeboot may do neither, and what came of it is read back from the kernel.

mod hostname;
mod modules;
mod swap;
mod sysctls;

use std::time::Duration;

use async_trait::async_trait;

use crate::config::node::Node;
use crate::engine::context::Context;
use crate::engine::phase::{Drift, Fingerprint, Inputs, Phase, PhaseId};
use crate::error::Result;
use crate::host::Deadline;

use super::preflight::PREFLIGHT;

pub use hostname::Hostname;

/// The phase `host`.
#[derive(Debug)]
pub struct Host;

/// Its id.
pub const HOST: PhaseId = PhaseId("host");

/// How long one of systemd's own units may take.
const UNIT: Duration = Duration::from_secs(60);

#[async_trait]
impl Phase for Host {
    fn id(&self) -> PhaseId {
        HOST
    }
    fn summary(&self) -> &'static str {
        "loads kernel modules, sets sysctls, judges swap"
    }
    fn after(&self) -> &'static [PhaseId] {
        &[PREFLIGHT]
    }
    fn applies(&self, _node: &Node) -> bool {
        true
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        let wish = &inputs.node.host;
        let subnets = (&inputs.node.cluster.service_subnets, &inputs.node.cluster.pod_subnets);
        Fingerprint::of(&(&wish.modules, &wish.sysctls, wish.swap, subnets, &inputs.facts.absent_modules))
    }

    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        Ok(modules::inspect(cx)?.and(sysctls::inspect(cx)?).and(swap::inspect(cx)?))
    }

    async fn apply(&self, cx: &Context) -> Result<()> {
        modules::apply(cx).await?;
        sysctls::apply(cx).await?;
        swap::apply(cx).await
    }
}

/// Lets one of systemd's own units do its work once more. Its failure is not ours yet: the kernel is asked what came of it.
async fn run_again(cx: &Context, unit: &str) -> Option<String> {
    cx.waiting_for(unit);
    let done = cx.host.systemd.restart(unit, &Deadline::after(UNIT, unit)).await;
    done.err().map(|error| error.to_string())
}

#[cfg(test)]
mod tests;
