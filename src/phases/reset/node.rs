//! The Node goes out of the cluster, where this machine has credentials that allow it. A worker's do not; then the command is named.

use std::time::Duration;

use super::{Reset, left};
use crate::engine::phase::{Kept, Subject};
use crate::engine::progress::Progress;
use crate::error::Result;
use crate::host::api::ObjectReference;
use crate::host::{Deadline, Utf8PathBuf, kernel};
use crate::k8s::kubeconfig::Kubeconfig;
use crate::k8s::names;

/// How long the API server may take: a reset goes on without it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Deletes the Node, or says how.
pub(super) async fn delete(reset: &Reset, progress: &Progress) -> Result<Vec<Kept>> {
    let root = &reset.host.root;
    let administrators = [names::SUPER_ADMIN_CONF, names::ADMIN_CONF].map(Utf8PathBuf::from);
    let mut found = None;
    for path in reset.options.kubeconfig.iter().chain(&administrators) {
        if found.is_none() {
            found = root.read(path)?.filter(|bytes| Kubeconfig::parse(bytes).is_ok());
        }
    }
    if found.is_none() && !root.exists(names::KUBELET_CONF)? {
        // It is in no cluster, or not yet.
        return Ok(Vec::new());
    }
    let name = match &reset.state.facts.node_name {
        Some(name) => name.clone(),
        None => kernel::hostname(root)?.to_lowercase(),
    };
    let node = ObjectReference::node(&name);
    let not_deleted = |why: &str| {
        let remedy = format!("{why}; on a control plane run `kubectl delete node {name}`");
        vec![left(Subject::Object(format!("Node {name}")), remedy)]
    };
    let Some(kubeconfig) = found else {
        return Ok(not_deleted("this machine's credentials may not delete it"));
    };
    let deadline = Deadline::after(PATIENCE, "the API server to answer");
    progress.waiting(deadline.reason());
    Ok(match delete_by(reset, &kubeconfig, &node, &deadline).await {
        Ok(()) => Vec::new(),
        Err(error) => not_deleted(&format!("not deleted ({error})")),
    })
}

async fn delete_by(reset: &Reset, kubeconfig: &[u8], node: &ObjectReference, deadline: &Deadline) -> Result<()> {
    let server = Kubeconfig::parse(kubeconfig).map(|parsed| parsed.server).unwrap_or_default();
    let api = reset.host.api.connect(&String::from_utf8_lossy(kubeconfig), &server)?;
    deadline.bound(api.delete(node)).await?.map(drop)
}
