//! A worker whose cluster has moved: its kubelet.conf names an API server that does not answer any more, and the configuration names one
//! that does, and that the same CA stands for. It only needs the other address; token and certificate signing have nothing to do with
//! it. kubeadm leaves the file to the operator.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::config::node::{Discovery, Node, Role};
use crate::engine::context::Context;
use crate::error::{Kind, Result};
use crate::host::Deadline;
use crate::host::api::{Api, ObjectReference};
use crate::k8s::discovery::ClusterInfo;
use crate::k8s::names;

/// How long an API server may take: on a boot without the cluster nobody answers at all, and the boot waits for it.
const ANSWER: Duration = Duration::from_secs(3);

/// Where the configuration says that the cluster is.
fn servers(node: &Node) -> Vec<String> {
    let Some(Discovery::Token { endpoints, .. }) = node.join().map(|join| &join.discovery) else { return Vec::new() };
    endpoints.iter().map(|endpoint| format!("https://{endpoint}")).collect()
}

/// The address at which the API server answers now, when it does not at the one that this worker was given.
pub(super) async fn new_server(cx: &Context, given: &ClusterInfo) -> Result<Option<String>> {
    let configured = servers(&cx.node);
    // A cluster that all reach at a shared address is asked only there, and at most once.
    if cx.node.role != Role::Worker || configured.is_empty() || configured.contains(&given.server) {
        return Ok(None);
    }
    let own = ObjectReference::node(&cx.node_name()?);
    // Whoever refuses us is there: that is another matter.
    match asked(&cx.api()?, &own, &given.server).await {
        Err(error) if error.kind() == Kind::Transient => {}
        _ => return Ok(None),
    }
    let Some(kubeconfig) = cx.host.root.read_text(names::KUBELET_CONF)? else { return Ok(None) };
    let clients = configured.iter().map(|server| Ok((server, cx.host.api.connect(&kubeconfig, server)?)));
    let clients: Vec<(&String, Arc<dyn Api>)> = clients.collect::<Result<_>>()?;
    let answers = join_all(clients.iter().map(|(server, api)| asked(api, &own, server))).await;
    let answering = clients.iter().zip(answers).find(|(_, answer)| answer.is_ok());
    Ok(answering.map(|((server, _), _)| (*server).clone()))
}

/// Whether it knows us: it reads our Node with our certificate.
async fn asked(api: &Arc<dyn Api>, own: &ObjectReference, server: &str) -> Result<()> {
    let deadline = Deadline::after(ANSWER, format!("the API server at {server} to answer"));
    deadline.bound(api.glance(own)).await?.map(drop)
}
