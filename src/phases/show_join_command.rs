//! `show-join-command`: kubeadm's last phase. A boot has nobody to show it to; on a terminal the command line prints it. The phase is
//! there so that it can be named, skipped and listed.

use async_trait::async_trait;

use crate::config::node::Node;
use crate::engine::context::Context;
use crate::engine::phase::{Drift, Fingerprint, Inputs, Phase, PhaseId};
use crate::error::Result;

/// `show-join-command`.
#[derive(Debug)]
pub struct ShowJoinCommand;

#[async_trait]
impl Phase for ShowJoinCommand {
    fn id(&self) -> PhaseId {
        PhaseId("show-join-command")
    }
    fn summary(&self) -> &'static str {
        "say how to join, on a terminal"
    }
    fn after(&self) -> &'static [PhaseId] {
        &[PhaseId("bootstrap-token"), PhaseId("upload-certs")]
    }
    fn applies(&self, node: &Node) -> bool {
        node.founds()
    }
    fn fingerprint(&self, _: &Inputs<'_>) -> Fingerprint {
        Fingerprint::of(&())
    }
    async fn inspect(&self, _: &Context) -> Result<Drift> {
        Ok(Drift::none())
    }
    async fn apply(&self, _: &Context) -> Result<()> {
        Ok(())
    }
}
