//! The two verbs of all phases that write objects to the cluster: look at them, and make them so. An object is written once, by
//! server-side apply without force, and again only when this node's wish changed; what somebody else made of it meanwhile is theirs.
//! The ledger holds the digest of each wish: noted before an object is created, and after it was changed, so that a power cut between
//! the two leads to the same work again and never to an edit mistaken for ours.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::try_join_all;
use serde_json::Value;

use crate::engine::context::Context;
use crate::engine::phase::{Action, Change, Drift, Kept, PhaseId, Subject};
use crate::engine::state::Effect;
use crate::error::{Error, Result};
use crate::host::Deadline;
use crate::host::api::{Api, Applied, Apply, ObjectReference, object_name};
use crate::k8s::objects::{differences, digest};

/// Objects wait for the API server alone. The rights of the administrators (`admin-binding`) are made beside the other objects: those
/// use super-admin.conf until it is removed, and then admin.conf, whose rights are there by then.
pub(super) const AFTER_API: &[PhaseId] = &[PhaseId("wait-control-plane/kube-apiserver")];

/// Between two tries of a call that may be repeated.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MOST_PAUSE: Duration = Duration::from_millis(500);
/// How long looking waits for an API server that is restarting or electing; longer waits are other phases'.
const LOOK: Duration = Duration::from_secs(2);
/// How many differing fields a report names.
const NAMED: usize = 4;

/// What stands in the cluster, seen from the wish.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    /// Not there.
    Absent,
    /// It says what the wish says.
    Same,
    /// It says what an older wish of ours said.
    Outdated,
    /// Somebody else's, and `--force` names it.
    Forced,
    /// Somebody else's: how it differs.
    Theirs(String),
}

/// A wish with what stands in its place.
struct Judged {
    name: String,
    wish: Value,
    /// The digest of the wish as the ledger writes it.
    digest: String,
    standing: Standing,
}

/// Compares the objects with what stands in the cluster.
pub(super) async fn inspect_objects(cx: &Context, wishes: &[Value]) -> Result<Drift> {
    let mut drift = Drift::none();
    let deadline = Deadline::after(LOOK, "the API server to answer");
    for judged in judge_all(cx, wishes, &deadline).await? {
        let subject = Subject::Object(judged.name);
        let change = match judged.standing {
            Standing::Same => continue,
            Standing::Theirs(difference) => {
                drift.kept.push(Kept { subject, difference });
                continue;
            }
            Standing::Absent => Change::new(subject, Action::Create),
            Standing::Outdated => Change::new(subject, Action::Update).because("what edgeboot wishes has changed"),
            Standing::Forced => Change::new(subject, Action::Update).because("forced"),
        };
        drift.changes.push(change);
    }
    Ok(drift)
}

/// Makes the objects so, all at once.
pub(super) async fn apply_objects(cx: &Context, wishes: &[Value]) -> Result<()> {
    let deadline = patience(cx);
    cx.waiting_for(deadline.reason());
    let judged = judge_all(cx, wishes, &deadline).await?;
    let effect = |judged: &Judged| Effect::Object { object: judged.name.clone(), ours: judged.digest.clone() };
    let absent: Vec<Effect> = judged.iter().filter(|judged| judged.standing == Standing::Absent).map(effect).collect();
    if !absent.is_empty() {
        cx.note_all(absent).await?;
    }
    let api = cx.api()?;
    try_join_all(judged.iter().map(|judged| write(api.as_ref(), judged, &deadline))).await?;
    let changed = |judged: &&Judged| matches!(judged.standing, Standing::Outdated | Standing::Forced);
    let changed: Vec<Effect> = judged.iter().filter(changed).map(effect).collect();
    if changed.is_empty() { Ok(()) } else { cx.note_all(changed).await }
}

async fn write(api: &dyn Api, judged: &Judged, deadline: &Deadline) -> Result<()> {
    let how = match judged.standing {
        Standing::Same | Standing::Theirs(_) => return Ok(()),
        Standing::Absent | Standing::Outdated => Apply::Careful,
        Standing::Forced => Apply::Forced,
    };
    // A conflict here is somebody who was quicker than we: what they wrote stays, and the next look reports it.
    patiently(deadline, || api.apply(&judged.wish, how)).await.map(drop)
}

async fn judge_all(cx: &Context, wishes: &[Value], deadline: &Deadline) -> Result<Vec<Judged>> {
    let api = cx.api()?;
    try_join_all(wishes.iter().map(|wish| judge(cx, api.as_ref(), wish, deadline))).await
}

async fn judge(cx: &Context, api: &dyn Api, wish: &Value, deadline: &Deadline) -> Result<Judged> {
    let (name, digest) = (object_name(wish), digest(wish));
    let reference = ObjectReference::of(wish)?;
    let recorded = cx.recorded_object(&name);
    if recorded.as_ref() == Some(&digest) {
        // The usual case, on every run but the first: written as wished, and still so.
        let live = patiently(deadline, || api.glance(&reference)).await?;
        if live.is_some_and(|live| differences(&following(wish, &live), &live).is_empty()) {
            return Ok(Judged { name, wish: wish.clone(), digest, standing: Standing::Same });
        }
    }
    let live = patiently(deadline, || api.read(&reference)).await?;
    let wish = live.as_ref().map_or_else(|| wish.clone(), |live| following(wish, live));
    let forced = cx.is_forced(&Subject::Object(name.clone()));
    let standing = match first_look(&wish, live.as_ref(), recorded.as_deref(), &digest, forced) {
        // Ours, and the wish changed: whether somebody else has changed it as well, the server knows from its managed fields.
        Standing::Outdated => match patiently(deadline, || api.apply(&wish, Apply::DryRun)).await? {
            Applied::Object(_) => Standing::Outdated,
            Applied::Conflict(words) => Standing::Theirs(words),
        },
        standing => standing,
    };
    Ok(Judged { name, wish, digest, standing })
}

/// The three-way comparison, as far as it goes without asking the server about its managed fields.
fn first_look(wish: &Value, live: Option<&Value>, recorded: Option<&str>, digest: &str, forced: bool) -> Standing {
    let Some(live) = live else { return Standing::Absent };
    let differing = differences(wish, live);
    match (differing.is_empty(), forced, recorded) {
        (true, _, _) => Standing::Same,
        (false, true, _) => Standing::Forced,
        (false, false, Some(recorded)) if recorded != digest => Standing::Outdated,
        // As we wrote it once and edited since, or never ours (kubeadm's, or the state is lost).
        (false, false, _) => Standing::Theirs(named(&differing)),
    }
}

fn named(differing: &[String]) -> String {
    let more = if differing.len() > NAMED { format!(" and {} more", differing.len() - NAMED) } else { String::new() };
    let fields: Vec<&str> = differing.iter().take(NAMED).map(String::as_str).collect();
    format!("differs at {}{more}", fields.join(", "))
}

/// How many copies run is the operator's business once it stands there (kubeadm's `deployedDNSReplicas`).
fn following(wish: &Value, live: &Value) -> Value {
    let mut wish = wish.clone();
    if wish["kind"] == "Deployment"
        && let (Some(ours), Some(theirs)) = (wish.pointer_mut("/spec/replicas"), live.pointer("/spec/replicas"))
    {
        ours.clone_from(theirs);
    }
    wish
}

/// Calls that may be repeated are, while the failure passes by itself.
pub(super) async fn patiently<T, F>(deadline: &Deadline, mut call: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    deadline
        .until(FIRST_PAUSE, MOST_PAUSE, || {
            let answer = call();
            async { answer.await.map(Some) }
        })
        .await
}

/// How long writing waits for the API server (kubeadm's `kubernetesAPICall`).
pub(super) fn patience(cx: &Context) -> Deadline {
    Deadline::after(cx.node.timeouts.kubernetes_api_call, "the API server to take the objects")
}

/// Creates an object that expires by design, or replaces the one of its name.
pub(super) async fn put(api: &dyn Api, object: &Value, deadline: &Deadline) -> Result<()> {
    let reference = ObjectReference::of(object)?;
    patiently(deadline, || async {
        if api.create(object).await?.is_yes() {
            return Ok(());
        }
        let standing = api.read(&reference).await?;
        let version = standing.as_ref().and_then(|standing| standing.pointer("/metadata/resourceVersion"));
        let version = version.ok_or_else(|| Error::transient(format!("replacing {reference}")).because("it has just gone"))?;
        let mut object = object.clone();
        object["metadata"]["resourceVersion"] = version.clone();
        api.replace(&object).await
    })
    .await
}

/// The URL under which the whole cluster reaches its API server: the shared endpoint, or this machine's.
pub(super) fn cluster_url(cx: &Context) -> Result<String> {
    Ok(match (&cx.node.cluster.control_plane_endpoint, cx.advertise_address()?) {
        (Some(endpoint), _) => format!("https://{endpoint}"),
        (None, IpAddr::V4(address)) => format!("https://{address}:{}", cx.node.bind_port),
        (None, IpAddr::V6(address)) => format!("https://[{address}]:{}", cx.node.bind_port),
    })
}

/// The cluster's CA certificate.
pub(super) fn cluster_ca(cx: &Context) -> Result<Vec<u8>> {
    let path = cx.node.cluster.certificates_dir.join("ca.crt");
    cx.host.root.read(&path)?.ok_or_else(|| Error::transient(format!("reading {path}")).because("it does not exist yet"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_object_is_judged_by_wish_world_and_memory() {
        let wish = json!({"data": {"a": "1"}});
        let (same, edited) = (json!({"data": {"a": "1", "more": "x"}}), json!({"data": {"a": "2"}}));
        let theirs = Standing::Theirs("differs at /data/a".to_owned());
        let table = [
            (None, None, false, Standing::Absent),
            (None, Some("now"), false, Standing::Absent),
            (Some(&same), None, false, Standing::Same),
            (Some(&same), Some("before"), true, Standing::Same),
            (Some(&edited), Some("now"), false, theirs.clone()),
            (Some(&edited), Some("before"), false, Standing::Outdated),
            (Some(&edited), None, false, theirs),
            (Some(&edited), Some("now"), true, Standing::Forced),
        ];
        for (live, recorded, forced, expected) in table {
            assert_eq!(first_look(&wish, live, recorded, "now", forced), expected, "{live:?} {recorded:?} {forced}");
        }
    }

    #[test]
    fn a_report_names_a_few_fields() {
        let fields: Vec<String> = (0..6).map(|n| format!("/{n}")).collect();
        assert_eq!(named(&fields), "differs at /0, /1, /2, /3 and 2 more");
    }

    #[test]
    fn the_number_of_copies_is_the_operators() {
        let wish = json!({"kind": "Deployment", "spec": {"replicas": 2}});
        assert_eq!(following(&wish, &json!({"spec": {"replicas": 1}}))["spec"]["replicas"], 1);
        assert_eq!(following(&wish, &json!({"spec": {}}))["spec"]["replicas"], 2);
    }
}
