//! `check-etcd` and `etcd-join`: a further control plane's etcd becomes a member. It is added as a learner through those that vote, starts
//! with what they answered, and is promoted when it has caught up (kubeadm's `phases/etcd/local.go`). etcd takes one learner at a time:
//! machines that are switched on together wait for each other. Each step looks first, so that a run that was cut goes on with the
//! member it made.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::config::node::{Etcd, Node, OnExistingNode};
use crate::engine::context::Context;
use crate::engine::file::File;
use crate::engine::phase::{Action, Change, Drift, Fingerprint, Inputs, Phase, PhaseId, Subject};
use crate::engine::state::Effect;
use crate::error::{Error, Kind, Result};
use crate::host::Deadline;
use crate::host::api::ObjectReference;
use crate::host::etcd::{Answer, Identity};
use crate::k8s::etcd_members::{
    CLIENT_URLS, LIST, Member, Membership, REMOVE, initial_cluster, joined_cluster, members, membership, noted_client_urls,
    other_learner, voters,
};
use crate::k8s::names;
use crate::k8s::objects::KUBE_SYSTEM;
use crate::k8s::static_pods::{Component, EtcdCluster, with_port};
use crate::phases::control_plane::{self, manifest_in};
use crate::phases::etcd::{REQUEST, data_dir, identity, make_data_dir};

use super::{cluster_administrator, promotion, wish};

/// `check-etcd`.
#[derive(Debug)]
pub struct CheckEtcd;
/// `etcd-join`.
#[derive(Debug)]
pub struct EtcdJoin;

const JOIN: PhaseId = PhaseId("etcd-join");
const ADD: &str = "/v3/cluster/member/add";
/// Between two tries.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(100);
pub(super) const MOST_PAUSE: Duration = Duration::from_millis(700);

fn applies_to(node: &Node) -> bool {
    node.is_further_control_plane() && matches!(node.cluster.etcd, Etcd::Local(_))
}

/// This machine as a member.
pub(super) struct Us {
    pub(super) name: String,
    pub(super) peer_url: String,
    pub(super) has_data: bool,
}

impl Us {
    pub(super) fn of(cx: &Context) -> Result<Us> {
        let peer_url = format!("https://{}", with_port(cx.advertise_address()?, names::ETCD_PEER_PORT));
        let has_data = match data_dir(&cx.node) {
            Some(dir) => cx.host.root.exists(dir.join("member"))?,
            None => false,
        };
        Ok(Us { name: cx.node_name()?, peer_url, has_data })
    }
    pub(super) fn among(&self, members: &[Member]) -> Membership {
        membership(members, &self.name, &self.peer_url, self.has_data)
    }
}

/// The members that can be asked.
pub(super) struct Cluster {
    pub(super) identity: Identity,
    endpoints: Vec<String>,
}

impl Cluster {
    /// Finds them: by the notes on etcd's pods one of them, and from it all that vote, but this machine.
    async fn find(cx: &Context, us: &Us) -> Result<Cluster> {
        let finding = || Error::transient("finding the members of etcd");
        let pods = cluster_administrator(cx)?.list(&ObjectReference::new("v1", "Pod", "pods").namespaced(KUBE_SYSTEM)).await?;
        let ours = format!("https://{}", with_port(cx.advertise_address()?, names::ETCD_CLIENT_PORT));
        let mut endpoints = noted_client_urls(&pods);
        endpoints.retain(|url| *url != ours);
        if endpoints.is_empty() {
            return Err(finding().because(format!("no pod of etcd has the annotation {CLIENT_URLS} yet")));
        }
        let first = Cluster { identity: identity(cx)?, endpoints };
        let endpoints = voters(&first.members(cx).await?, &us.peer_url);
        if endpoints.is_empty() {
            return Err(finding().because("none but this machine votes"));
        }
        Ok(Cluster { endpoints, ..first })
    }

    /// Asks one after the other until one answers.
    pub(super) async fn call(&self, cx: &Context, path: &str, body: &Value) -> Result<Answer> {
        let mut last = Error::transient("asking etcd").because("there is nobody to ask");
        for endpoint in &self.endpoints {
            match cx.host.etcd.call(endpoint, path, body, &self.identity, REQUEST).await {
                Err(error) if error.kind() == Kind::Transient => last = error,
                answered => return answered,
            }
        }
        Err(last)
    }

    /// All members. etcd asks its quorum before it answers: that it does is the proof that it has one.
    pub(super) async fn members(&self, cx: &Context) -> Result<Vec<Member>> {
        let listing = || Error::transient("listing the members of etcd");
        match self.call(cx, LIST, &json!({"linearizable": true})).await? {
            Answer::Done(list) => members(&list).map_err(|why| listing().because(why)),
            Answer::Refused(why) => Err(listing().because(why)),
        }
    }
}

/// The members that can be asked, as soon as somebody tells.
async fn found(cx: &Context, us: &Us) -> Result<Cluster> {
    let deadline = Deadline::after(cx.node.timeouts.etcd_api_call, reason("tell its members"));
    deadline.until(FIRST_PAUSE, MOST_PAUSE, || async { Cluster::find(cx, us).await.map(Some) }).await
}

pub(super) fn reason(doing: &str) -> String {
    format!("etcd of the cluster to {doing}")
}

#[async_trait]
impl Phase for CheckEtcd {
    fn id(&self) -> PhaseId {
        PhaseId("check-etcd")
    }
    fn summary(&self) -> &'static str {
        "makes sure that etcd of the cluster has a quorum, before it gets a further member"
    }
    fn after(&self) -> &'static [PhaseId] {
        &[PhaseId("control-plane-prepare/kubeconfig")]
    }
    fn applies(&self, node: &Node) -> bool {
        applies_to(node)
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        Fingerprint::of(&inputs.node.cluster.control_plane_endpoint)
    }
    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        if cx.ledger.was_recorded(self.id()) {
            return Ok(Drift::none());
        }
        let us = Us::of(cx)?;
        let deadline = Deadline::after(cx.node.timeouts.etcd_api_call, reason("have a quorum"));
        cx.waiting_for(deadline.reason());
        let asked = deadline.until(FIRST_PAUSE, MOST_PAUSE, || async {
            Cluster::find(cx, &us).await?;
            Ok(Some(()))
        });
        let hint = "`kubectl -n kube-system get pods -l component=etcd` shows its members; one that is gone for good is taken out by \
                    `etcdctl member remove`";
        asked.await.map_err(|error| error.hint(hint))?;
        Ok(Drift::none())
    }
    async fn apply(&self, _cx: &Context) -> Result<()> {
        Ok(())
    }
}

/// The members that our manifest names, when it is whole.
fn standing_cluster(cx: &Context) -> Result<Option<String>> {
    let text = cx.host.root.read_text(Component::Etcd.manifest_path())?.unwrap_or_default();
    let manifest: Value = serde_saphyr::from_str(&text).unwrap_or_default();
    Ok(joined_cluster(&manifest))
}

fn manifest(cx: &Context, cluster: &str) -> Result<File> {
    manifest_in(cx, Component::Etcd, EtcdCluster::Existing(cluster))
}

fn subject(us: &Us) -> Subject {
    Subject::Other(format!("etcd member {}", us.name))
}

#[async_trait]
impl Phase for EtcdJoin {
    fn id(&self) -> PhaseId {
        JOIN
    }
    fn summary(&self) -> &'static str {
        "adds this machine's etcd to the cluster's, first as a learner"
    }
    fn after(&self) -> &'static [PhaseId] {
        // Its own certificates and images are there then, and a kubelet that does not come up is named as such.
        &[PhaseId("check-etcd"), PhaseId("wait-control-plane/kubelet")]
    }
    fn applies(&self, node: &Node) -> bool {
        applies_to(node)
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        control_plane::fingerprint(inputs)
    }

    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        let us = Us::of(cx)?;
        let Some(cluster) = standing_cluster(cx)? else {
            let path = Component::Etcd.manifest_path();
            let action = if cx.host.root.exists(&path)? { Action::Mend } else { Action::Create };
            let manifest = Change::new(Subject::File(path.into_string()), action);
            return Ok(Drift { changes: vec![Change::new(subject(&us), action), manifest], ..Drift::none() });
        };
        let drift = cx.compare(&[manifest(cx, &cluster)?])?;
        if cx.ledger.was_recorded(JOIN) {
            // It was promoted; whoever took it out since had a reason.
            return Ok(drift);
        }
        let members = Cluster::find(cx, &us).await?.members(cx).await?;
        Ok(match us.among(&members) {
            Membership::Voter(_) => drift,
            _ => drift.and(Drift::one(Change::new(subject(&us), Action::Await).because("it is not promoted yet"))),
        })
    }

    async fn apply(&self, cx: &Context) -> Result<()> {
        let us = Us::of(cx)?;
        if cx.ledger.was_recorded(JOIN) {
            return place(cx, &mended_cluster(cx, &us).await?).await;
        }
        let cluster = found(cx, &us).await?;
        let members = take_in(cx, &cluster, &us).await?;
        let named = match standing_cluster(cx)? {
            Some(named) if us.has_data => named,
            _ => initial_cluster(&members, &us.name, &us.peer_url),
        };
        place(cx, &named).await?;
        promotion::promote(cx, &cluster, &us).await
    }
}

async fn place(cx: &Context, cluster: &str) -> Result<()> {
    make_data_dir(cx).await?;
    cx.place(vec![manifest(cx, cluster)?]).await.map(drop)
}

/// The members for a manifest that is written again. etcd does not read them once it has data: when nobody can be asked, its own name
/// will do.
async fn mended_cluster(cx: &Context, us: &Us) -> Result<String> {
    if let Some(standing) = standing_cluster(cx)? {
        return Ok(standing);
    }
    let asked = async { Cluster::find(cx, us).await?.members(cx).await };
    Ok(match asked.await {
        Ok(members) => initial_cluster(&members, &us.name, &us.peer_url),
        Err(_) => format!("{}={}", us.name, us.peer_url),
    })
}

/// Makes this machine one of the members; they are what its etcd starts with.
async fn take_in(cx: &Context, cluster: &Cluster, us: &Us) -> Result<Vec<Member>> {
    cx.note(Effect::Member { name: us.name.clone() }).await?;
    let deadline = Deadline::after(cx.node.timeouts.etcd_api_call, reason("take this machine in"));
    cx.waiting_for(deadline.reason());
    deadline
        .until(FIRST_PAUSE, MOST_PAUSE, || async {
            let known = cluster.members(cx).await?;
            match us.among(&known) {
                Membership::Learner(_) | Membership::Voter(_) => Ok(Some(known)),
                Membership::Absent => add(cx, cluster, us, &known).await.map(Some),
                Membership::Lost(member) => remove(cx, cluster, us, &member).await.map(|()| None),
                Membership::NameTaken(member) => Err(name_taken(us, &member)),
            }
        })
        .await
}

async fn add(cx: &Context, cluster: &Cluster, us: &Us, known: &[Member]) -> Result<Vec<Member>> {
    let adding = || Error::transient(format!("adding {} to etcd", us.peer_url));
    match cluster.call(cx, ADD, &json!({"peerURLs": [us.peer_url], "isLearner": true})).await? {
        Answer::Done(answer) => members(&answer).map_err(|why| adding().because(why)),
        Answer::Refused(why) => Err(match other_learner(known, &us.peer_url) {
            Some(learner) => {
                let name = if learner.name.is_empty() { "not started yet" } else { learner.name.as_str() };
                let urls = learner.peer_urls.join(", ");
                cx.waiting_for(format!("the learner {urls} ({name}) to be promoted: etcd takes one at a time"));
                adding().because(format!("{why}; the learner is {urls} ({name})")).hint(format!(
                    "when that machine does not come back, `etcdctl member remove {:x}` takes its half-made member out",
                    learner.id.parse::<u64>().unwrap_or_default()
                ))
            }
            None => adding().because(why),
        }),
    }
}

/// Our member of an earlier life, whose data is gone: etcd would not take it back as it was.
async fn remove(cx: &Context, cluster: &Cluster, us: &Us, member: &Member) -> Result<()> {
    if wish(cx)?.on_existing_node == OnExistingNode::Fail {
        return Err(Error::rejected(format!("joining etcd as {}", us.name))
            .because("it has a member of this name and address already, and its data is not on this machine")
            .hint("take it out with `etcdctl member remove`, or leave `onExistingNode: fail` out"));
    }
    cx.say(format!("takes the etcd member {} of this machine's earlier life out: its data is gone", us.name));
    match cluster.call(cx, REMOVE, &json!({"ID": member.id})).await? {
        Answer::Done(_) => Ok(()),
        Answer::Refused(why) => Err(Error::transient(format!("taking the etcd member {} out", us.name)).because(why)),
    }
}

fn name_taken(us: &Us, member: &Member) -> Error {
    Error::rejected(format!("joining etcd as {}", us.name))
        .because(format!("it has a member of that name already, at {}", member.peer_urls.join(", ")))
        .hint(format!(
            "name this machine otherwise (`nodeRegistration: {{name: …}}`), or take the other one out with `etcdctl member remove {:x}`",
            member.id.parse::<u64>().unwrap_or_default()
        ))
}
