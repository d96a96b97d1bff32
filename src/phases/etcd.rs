//! `etcd/local`: etcd's data directory and the manifest of its static pod; `etcd-peer-urls`: the members know this one at the address
//! that it has now. With an external etcd there is nothing to do.

use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use camino::Utf8Path;
use serde_json::json;
use zeroize::Zeroizing;

use crate::config::node::{Etcd, Node, Role};
use crate::engine::context::Context;
use crate::engine::phase::{Action, Change, Drift, Fingerprint, Inputs, Phase, PhaseId, Subject};
use crate::engine::state::Effect;
use crate::error::{Error, Result};
use crate::host::api::ObjectReference;
use crate::host::etcd::{Answer, Identity};
use crate::k8s::etcd_members::{LIST, Member, UPDATE, members};
use crate::k8s::names;
use crate::k8s::static_pods::{Component, with_port};

use super::control_plane;

/// `etcd/local`.
pub struct Local;
/// `etcd-peer-urls`.
pub struct PeerUrls;

/// One request.
pub(super) const REQUEST: Duration = Duration::from_secs(5);

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

/// What etcd is asked with: the certificate of its health checks, as in kubeadm.
pub(super) fn identity(cx: &Context) -> Result<Identity> {
    let read = |name: &str| -> Result<Vec<u8>> {
        let path = cx.node.cluster.certificates_dir.join(name);
        let bytes = cx.host.root.read(&path)?;
        bytes.ok_or_else(|| Error::host(format!("reading {path}")).because("it is not there").hint("run `edgeboot reconcile`"))
    };
    let mut client = Zeroizing::new(read("etcd/healthcheck-client.crt")?);
    client.extend_from_slice(&Zeroizing::new(read("etcd/healthcheck-client.key")?));
    Ok(Identity { authority: read("etcd/ca.crt")?, client })
}

/// Calls this machine's own member.
async fn call(cx: &Context, path: &str, body: &serde_json::Value) -> Result<Answer> {
    let loopback = match cx.advertise_address()? {
        IpAddr::V4(_) => "127.0.0.1",
        IpAddr::V6(_) => "[::1]",
    };
    let member = format!("https://{loopback}:{}", names::ETCD_CLIENT_PORT);
    cx.host.etcd.call(&member, path, body, &identity(cx)?, REQUEST).await
}

/// This machine's member as the others know it.
async fn own_member(cx: &Context) -> Result<Member> {
    let listing = || Error::transient("listing the members of etcd");
    let name = cx.node_name()?;
    let known = match call(cx, LIST, &json!({"linearizable": true})).await? {
        Answer::Done(list) => members(&list).map_err(|why| listing().because(why))?,
        Answer::Refused(why) => return Err(listing().because(why)),
    };
    let own = known.into_iter().find(|member| member.name == name);
    own.ok_or_else(|| listing().because(format!("none is called {name}")))
}

/// Where the peers are to find this machine.
fn peer_url(cx: &Context) -> Result<String> {
    Ok(format!("https://{}", with_port(cx.advertise_address()?, names::ETCD_PEER_PORT)))
}

#[async_trait]
impl Phase for PeerUrls {
    fn id(&self) -> PhaseId {
        PhaseId("etcd-peer-urls")
    }
    fn summary(&self) -> &'static str {
        "tells the members of etcd this machine's address, when it has changed"
    }
    fn after(&self) -> &'static [PhaseId] {
        &[PhaseId("wait-control-plane/kube-apiserver")]
    }
    fn applies(&self, node: &Node) -> bool {
        node.role == Role::ControlPlane && data_dir(node).is_some()
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        Fingerprint::of(&(&inputs.facts.node_name, inputs.facts.advertise_address))
    }
    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        // Whoever changed it since had a reason, and etcd is not asked on each run.
        if cx.ledger.is_recorded(self.id(), &self.fingerprint(&Inputs { node: &cx.node, facts: &cx.facts() })) {
            return Ok(Drift::none());
        }
        let own = own_member(cx).await?;
        if own.peer_urls == [peer_url(cx)?] {
            return Ok(Drift::none());
        }
        let change = Change::new(Subject::Other(format!("etcd member {}", own.name)), Action::Update);
        Ok(Drift::one(change.because(format!("its peers know it at {}", own.peer_urls.join(", ")))))
    }
    async fn apply(&self, cx: &Context) -> Result<()> {
        let own = own_member(cx).await?;
        // The way to the others first: said while they are found, it is seen even when the power is cut after the change.
        name_those_left_behind(cx, &own).await?;
        match call(cx, UPDATE, &json!({"ID": own.id, "peerURLs": [peer_url(cx)?]})).await? {
            Answer::Done(_) => Ok(()),
            Answer::Refused(why) => {
                Err(Error::transient(format!("changing the address of the etcd member {}", own.name)).because(why))
            }
        }
    }
}

/// Without an address that all share, the other nodes speak to the one that this machine had.
async fn name_those_left_behind(cx: &Context, own: &Member) -> Result<()> {
    if cx.node.cluster.control_plane_endpoint.is_some() {
        return Ok(());
    }
    let before = own.peer_urls.first().and_then(|url| url.strip_prefix("https://")?.rsplit_once(':')).map_or("", |(host, _)| host);
    let now = with_port(cx.advertise_address()?, cx.node.bind_port);
    for node in cx.api()?.list(&ObjectReference::new("v1", "Node", "nodes")).await? {
        let name = node["metadata"]["name"].as_str().unwrap_or_default();
        if name != own.name {
            cx.say(format!(
                "node {name} may still speak to this API server at {before}: put {now} into `join.endpoints` there, or exchange the \
                 server in its /etc/kubernetes/kubelet.conf and restart its kubelet"
            ));
        }
    }
    Ok(())
}
