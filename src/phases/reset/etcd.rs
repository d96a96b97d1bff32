//! `remove-etcd-member`: the other members of etcd are told that this one goes, before its data does; otherwise they would count it for
//! their quorum for ever. Who is who is read from etcd's manifest, and of a member that was added and never started from the ledger. The
//! last member is not removed: the cluster ends with it, and that is said.

use std::time::Duration;

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Reset, left};
use crate::engine::phase::{Kept, Subject};
use crate::engine::progress::Progress;
use crate::engine::state::{Effect, State};
use crate::error::{Error, Kind, Result};
use crate::host::api::ObjectReference;
use crate::host::etcd::{Answer, Identity};
use crate::host::{Deadline, Root, Utf8Path, Utf8PathBuf};
use crate::k8s::etcd_members::{LIST, Member, REMOVE, members, noted_client_urls, voters};
use crate::k8s::kubeconfig::Kubeconfig;
use crate::k8s::names;
use crate::k8s::objects::KUBE_SYSTEM;
use crate::k8s::static_pods::with_port;

/// One request.
const REQUEST: Duration = Duration::from_secs(3);
/// How long etcd may take: it refuses while it elects.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two tries.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const MOST_PAUSE: Duration = Duration::from_secs(2);
/// How long a person who is asked waits for the question.
const GLANCE: Duration = Duration::from_secs(4);

/// This machine's member, as far as this machine knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Us {
    peer_url: String,
    /// Where its cluster may answer: itself, and the peers that its manifest names.
    endpoints: Vec<String>,
    /// Where its certificates are.
    certificates: Utf8PathBuf,
}

/// What is to be done about our member.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    /// It is none, or no more.
    Gone,
    /// There is no other.
    Last,
    /// It goes, and these are asked.
    Member { id: String, endpoints: Vec<String> },
}

fn standing(members: &[Member], peer_url: &str) -> Standing {
    let Some(ours) = members.iter().find(|member| member.peer_urls.iter().any(|url| url == peer_url)) else {
        return Standing::Gone;
    };
    if members.len() == 1 {
        return Standing::Last;
    }
    Standing::Member { id: ours.id.clone(), endpoints: voters(members, peer_url) }
}

/// The value of a flag in a pod's command.
fn flag<'a>(pod: &'a Value, name: &str) -> Option<&'a str> {
    let command = pod.pointer("/spec/containers/0/command")?.as_array()?;
    command.iter().filter_map(Value::as_str).find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

/// What etcd's manifest says.
fn of_manifest(pod: &Value) -> Option<Us> {
    let peer_url = flag(pod, "--initial-advertise-peer-urls")?.split(',').next()?.to_owned();
    let own = flag(pod, "--advertise-client-urls").into_iter().flat_map(|urls| urls.split(','));
    let peers = flag(pod, "--initial-cluster").into_iter().flat_map(|cluster| cluster.split(','));
    let peers = peers.filter_map(|member| member.split_once('=')).map(|(_, url)| url).filter(|url| *url != peer_url);
    // Where a peer's clients ask is its own affair; these are the ports of every cluster that kubeadm or edgeboot made.
    let as_client = |url: &str| {
        let host = url.strip_suffix(&format!(":{}", names::ETCD_PEER_PORT))?;
        Some(format!("{host}:{}", names::ETCD_CLIENT_PORT))
    };
    let endpoints = own.map(str::to_owned).chain(peers.filter_map(as_client)).collect();
    let authority = Utf8Path::new(flag(pod, "--trusted-ca-file")?);
    Some(Us { peer_url, endpoints, certificates: authority.parent()?.to_owned() })
}

/// A member that was added and has no manifest yet.
fn of_ledger(state: &State) -> Option<Us> {
    let mut effects = state.phases.values().flat_map(|record| &record.effects);
    effects.find(|effect| matches!(effect, Effect::Member { .. }))?;
    Some(Us {
        peer_url: format!("https://{}", with_port(state.facts.advertise_address?, names::ETCD_PEER_PORT)),
        endpoints: Vec::new(),
        certificates: Utf8Path::new(names::PKI_DIR).join("etcd"),
    })
}

fn us(reset: &Reset) -> Result<Option<Us>> {
    let manifest = reset.host.root.read(format!("{}/etcd.yaml", names::MANIFESTS_DIR))?.unwrap_or_default();
    let pod: Value = serde_saphyr::from_slice(&manifest).unwrap_or_default();
    Ok(of_manifest(&pod).or_else(|| of_ledger(&reset.state)))
}

/// The certificate of the health checks, as in kubeadm; `None` when it is not there.
fn identity(root: &Root, folder: &Utf8Path) -> Result<Option<Identity>> {
    let read = |name: &str| root.read(folder.join(name));
    let (authority, certificate, key) = (read("ca.crt")?, read("healthcheck-client.crt")?, read("healthcheck-client.key")?);
    let (Some(authority), Some(certificate), Some(key)) = (authority, certificate, key) else { return Ok(None) };
    let (mut client, key) = (Zeroizing::new(certificate), Zeroizing::new(key));
    client.extend_from_slice(&key);
    Ok(Some(Identity { authority, client }))
}

/// Where etcd's pods say that they answer.
async fn of_pods(reset: &Reset) -> Result<Vec<String>> {
    let Some(kubeconfig) = reset.host.root.read(names::ADMIN_CONF)? else { return Ok(Vec::new()) };
    let server = Kubeconfig::parse(&kubeconfig).map(|parsed| parsed.server).unwrap_or_default();
    let api = reset.host.api.connect(&String::from_utf8_lossy(&kubeconfig), &server)?;
    let pods = api.list(&ObjectReference::new("v1", "Pod", "pods").namespaced(KUBE_SYSTEM)).await?;
    Ok(noted_client_urls(&pods))
}

/// Asks one after the other until one answers.
async fn call(reset: &Reset, endpoints: &[String], path: &str, body: &Value, identity: &Identity) -> Result<Value> {
    let mut last = Error::transient("asking etcd").because("there is nobody to ask");
    for endpoint in endpoints {
        match reset.host.etcd.call(endpoint, path, body, identity, REQUEST).await {
            Ok(Answer::Done(answer)) => return Ok(answer),
            Ok(Answer::Refused(why)) => last = Error::transient(format!("asking {endpoint}{path}")).because(why),
            Err(error) if error.kind() == Kind::Transient => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

async fn look(reset: &Reset, us: &Us, identity: &Identity) -> Result<Standing> {
    let mut endpoints = us.endpoints.clone();
    if endpoints.is_empty() {
        endpoints = of_pods(reset).await?;
    }
    let list = call(reset, &endpoints, LIST, &json!({"linearizable": true}), identity).await?;
    let members = members(&list).map_err(|why| Error::transient("listing the members of etcd").because(why))?;
    Ok(standing(&members, &us.peer_url))
}

/// Whether etcd of this machine is all that is left of its cluster, as far as that can be told in a moment.
pub(super) async fn is_last(reset: &Reset) -> bool {
    let Ok(Some(us)) = us(reset) else { return false };
    let Ok(Some(identity)) = identity(&reset.host.root, &us.certificates) else { return false };
    let deadline = Deadline::after(GLANCE, "etcd to answer");
    matches!(deadline.bound(look(reset, &us, &identity)).await, Ok(Ok(Standing::Last)))
}

/// Takes our member out, or says why it is still in.
pub(super) async fn remove(reset: &Reset, progress: &Progress) -> Result<Vec<Kept>> {
    let Some(us) = us(reset)? else { return Ok(Vec::new()) };
    let not_removed = |why: &str| {
        let remedy = "`etcdctl member list` and `etcdctl member remove` on another control plane take it out";
        vec![left(Subject::Other(format!("etcd member {}", us.peer_url)), format!("not taken out ({why}); {remedy}"))]
    };
    let Some(identity) = identity(&reset.host.root, &us.certificates)? else {
        return Ok(not_removed("its certificates are gone"));
    };
    let deadline = Deadline::after(PATIENCE, "etcd to take this machine's member out");
    progress.waiting(deadline.reason());
    let removal = deadline.until(FIRST_PAUSE, MOST_PAUSE, || async {
        match look(reset, &us, &identity).await? {
            Standing::Gone => Ok(Some(false)),
            Standing::Last => Ok(Some(true)),
            Standing::Member { id, endpoints } => {
                call(reset, &endpoints, REMOVE, &json!({"ID": id}), &identity).await?;
                progress.say("took this machine's member out of etcd");
                Ok(Some(false))
            }
        }
    });
    match removal.await {
        Ok(is_last) => {
            if is_last {
                progress.say("this machine's etcd is the last member: the cluster ends with it");
            }
            Ok(Vec::new())
        }
        Err(error) => Ok(not_removed(&error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str, host: &str, is_learner: bool) -> Member {
        let client_urls = if is_learner { Vec::new() } else { vec![format!("https://{host}:2379")] };
        Member { id: id.into(), name: String::new(), peer_urls: vec![format!("https://{host}:2380")], client_urls, is_learner }
    }

    #[test]
    fn a_member_goes_through_those_that_stay_and_the_last_one_stays() {
        let ours = "https://10.0.0.1:2380";
        let (us, other) = (member("1", "10.0.0.1", false), member("2", "10.0.0.2", false));
        let goes = |id: &str| Standing::Member { id: id.into(), endpoints: vec!["https://10.0.0.2:2379".into()] };
        assert_eq!(standing(std::slice::from_ref(&us), ours), Standing::Last);
        assert_eq!(standing(std::slice::from_ref(&other), ours), Standing::Gone);
        assert_eq!(standing(&[us, other.clone(), member("3", "10.0.0.3", true)], ours), goes("1"));
        assert_eq!(standing(&[member("9", "10.0.0.1", true), other], ours), goes("9"));
    }

    #[test]
    fn a_manifest_tells_who_we_are_and_whom_to_ask() {
        let command = [
            "etcd",
            "--advertise-client-urls=https://10.0.0.1:2379",
            "--initial-advertise-peer-urls=https://10.0.0.1:2380",
            "--initial-cluster=two=https://[fd00::2]:2380,one=https://10.0.0.1:2380",
            "--trusted-ca-file=/data/pki/etcd/ca.crt",
        ];
        let found = of_manifest(&json!({"spec": {"containers": [{"command": command}]}})).expect("a member");
        assert_eq!(found.peer_url, "https://10.0.0.1:2380");
        assert_eq!(found.endpoints, ["https://10.0.0.1:2379", "https://[fd00::2]:2379"]);
        assert_eq!(found.certificates, "/data/pki/etcd");
        assert_eq!(of_manifest(&json!({})), None);
    }
}
