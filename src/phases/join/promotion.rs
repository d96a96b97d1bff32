//! The end of `etcd-join`: our learner has started and caught up, serves clients, and is made to vote.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::engine::context::Context;
use crate::error::{Error, Kind, Result};
use crate::host::Deadline;
use crate::host::etcd::Answer;
use crate::k8s::etcd_members::Membership;
use crate::k8s::names;
use crate::k8s::objects::KUBE_SYSTEM;
use crate::k8s::static_pods::{Component, loopback, with_port};
use crate::phases::etcd::{REQUEST, data_dir};
use crate::phases::runtime::socket;

use super::etcd::{Cluster, FIRST_PAUSE, MOST_PAUSE, Us, reason};

const PROMOTE: &str = "/v3/cluster/member/promote";
/// A learner answers this one, too; nobody is answered before the member has published itself.
const STATUS: &str = "/v3/maintenance/status";
/// A member whose publication came back answers within milliseconds.
const ANSWER: Duration = Duration::from_millis(500);
/// The kubelet takes a second or two to start a pod again. Whoever is slower is promoted all the same.
const START: Duration = Duration::from_secs(20);

/// Waits until our etcd runs and has caught up, and makes it vote. As long as the leader's snapshot comes in, however slowly, its time
/// begins again: what a large one takes on a slow line nobody can know before.
pub(super) async fn promote(cx: &Context, cluster: &Cluster, us: &Us) -> Result<()> {
    loop {
        let before = received(cx)?;
        match promote_in_time(cx, cluster, us).await {
            Err(error) if error.kind() == Kind::Transient && received(cx)? != before => {
                cx.say("the snapshot of etcd still comes in: goes on waiting for this machine's member to catch up");
            }
            ended => return ended,
        }
    }
}

/// The files of etcd's snapshot, and how large they are by now. Not its log, which grows for ever.
fn received(cx: &Context) -> Result<Vec<(String, u64)>> {
    let Some(dir) = data_dir(&cx.node) else { return Ok(Vec::new()) };
    let folder = dir.join("member/snap");
    let names = cx.host.root.list(&folder)?.unwrap_or_default();
    let sized = |name: String| {
        let length = cx.host.root.metadata(folder.join(&name))?.map_or(0, |metadata| metadata.len);
        Ok((name, length))
    };
    names.into_iter().map(sized).collect()
}

async fn promote_in_time(cx: &Context, cluster: &Cluster, us: &Us) -> Result<()> {
    let deadline = Deadline::after(cx.node.timeouts.etcd_api_call, reason("make this machine a voting member"));
    let waiting = format!("etcd of this machine to start and to catch up, as {}", us.peer_url);
    cx.waiting_for(&waiting);
    let looked = AtomicBool::new(false);
    let promoted = deadline.until(FIRST_PAUSE, MOST_PAUSE, || async {
        let promoting = || Error::transient(format!("promoting the etcd member {}", us.name));
        // It has data as soon as it has started.
        match (Us { has_data: true, ..Us::of(cx)? }).among(&cluster.members(cx).await?) {
            Membership::Voter(_) => Ok(Some(())),
            Membership::Learner(member) if member.name.is_empty() => Err(promoting().because("it has not started yet")),
            Membership::Learner(member) => {
                if !looked.swap(true, Ordering::Relaxed) {
                    publish_again(cx, cluster, us).await?;
                    cx.waiting_for(&waiting);
                }
                match cluster.call(cx, PROMOTE, &json!({"ID": member.id})).await? {
                    Answer::Done(_) => Ok(Some(())),
                    Answer::Refused(why) => Err(promoting().because(why)),
                }
            }
            _ => Err(promoting().because("it is no member any more")),
        }
    });
    let hint =
        "`crictl ps -a --name etcd` and /var/log/pods show how this machine's etcd does; it must reach the peers on port 2380";
    promoted.await.map_err(|error| error.hint(hint))
}

/// Starts a learner again whose publication was lost. A new member publishes its name through the leader and serves clients when that
/// comes back. It never does when the leader's snapshot, which every new member gets, has it already; etcd tries again after its request
/// timeout of 7 s (`publishV3`). With the snapshot on its disk it publishes at once. Nobody's quorum counts on a learner.
async fn publish_again(cx: &Context, cluster: &Cluster, us: &Us) -> Result<()> {
    if !has_caught_up(cx).await? || serves_clients(cx, cluster).await? {
        return Ok(());
    }
    let deadline = Deadline::after(START, "etcd of this machine to start again: it missed the answer to its own publication");
    cx.waiting_for(deadline.reason());
    let pod = format!("{}-{}", Component::Etcd.name(), us.name);
    let _ = cx.host.containers.stop_pod(&socket(cx), KUBE_SYSTEM, &pod, &deadline).await?;
    // One that does not answer here may do so where its user told it to.
    let _ = deadline.until(FIRST_PAUSE, MOST_PAUSE, || async { Ok(serves_clients(cx, cluster).await?.then_some(())) }).await;
    Ok(())
}

/// etcd says it is healthy when it has read what the leader had committed. Where the user moved this endpoint, nobody answers.
async fn has_caught_up(cx: &Context) -> Result<bool> {
    let url = format!("http://{}/health", with_port(loopback(cx.advertise_address()?), names::ETCD_METRICS_PORT));
    Ok(cx.host.http.status(&url, REQUEST).await? == Some(200))
}

async fn serves_clients(cx: &Context, cluster: &Cluster) -> Result<bool> {
    let url = format!("https://{}", with_port(cx.advertise_address()?, names::ETCD_CLIENT_PORT));
    Ok(cx.host.etcd.call(&url, STATUS, &json!({}), &cluster.identity, ANSWER).await.is_ok())
}
