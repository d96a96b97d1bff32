//! `discovery`: where the cluster is, and that it is the right one. Its endpoints are asked side by side, the first verified answer wins.
//! What may pass by itself (nobody answers, no cluster-info, no signature yet) is waited for; what does not is named with its remedy.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use crate::config::node::{self, Endpoint, Etcd, Node, Pins, Role, Token};
use crate::engine::context::Context;
use crate::engine::file::File;
use crate::engine::phase::{Action, Change, Drift, Fingerprint, Inputs, Phase, PhaseId, Subject};
use crate::error::{Error, Kind, Result};
use crate::host::api::{Api, ObjectReference};
use crate::host::{Deadline, jittered, pause_after};
use crate::k8s::discovery::{ClusterInfo, Fault, judge, kubeconfig_of, pinned};
use crate::k8s::objects::KUBE_PUBLIC;
use crate::k8s::pki::{Certificate, ca_hash, spoken};
use crate::k8s::{cluster_info, introduction, names};
use crate::phases::clock::CLOCK;
use crate::phases::network::NETWORK;
use crate::phases::preflight::PREFLIGHT;

use super::{NEW_TOKEN, Standing, found, given_kubeconfig, standing, wish};

/// `discovery`.
#[derive(Debug)]
pub struct Discovery;

/// The endpoints are tried in a random order, each so much later than the one before: usually one answers before the next is asked.
const STAGGER: Duration = Duration::from_millis(250);
/// Between two tries of an endpoint; where nobody listens a try costs nobody anything.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(250);
pub(super) const MOST_PAUSE: Duration = Duration::from_secs(8);
const MOST_PAUSE_UNHEARD: Duration = Duration::from_secs(2);
/// A cluster that is being founded signs the tokens it was made with so soon after it is first heard.
const SOON: Duration = Duration::from_secs(10);
/// For so long a cluster may leave our token unsigned before that is taken for its last word, when no more time is left.
const UNSIGNED: Duration = Duration::from_secs(60);

#[async_trait]
impl Phase for Discovery {
    fn id(&self) -> PhaseId {
        PhaseId("discovery")
    }
    fn summary(&self) -> &'static str {
        "finds the cluster, and makes sure that it is the right one"
    }
    fn after(&self) -> &'static [PhaseId] {
        &[CLOCK, NETWORK, PREFLIGHT]
    }
    fn applies(&self, node: &Node) -> bool {
        node.join().is_some()
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        fingerprint(inputs.node)
    }

    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        match standing(cx)? {
            Standing::Joined(cluster) => {
                same_cluster(cx, &cluster)?;
                cx.compare(&[authority_file(cx, &cluster)])
            }
            Standing::Outside(_) => {
                refuse_control_plane(cx)?;
                match found(cx) {
                    Ok(cluster) if is_current(cx)? => cx.compare(&files(cx, &cluster)),
                    _ => Ok(Drift::one(Change::new(Subject::File(names::JOIN_CLUSTER.to_owned()), Action::Create))),
                }
            }
        }
    }

    async fn apply(&self, cx: &Context) -> Result<()> {
        if let Standing::Joined(cluster) = standing(cx)? {
            return cx.place(vec![authority_file(cx, &cluster)]).await.map(drop);
        }
        let cluster = match found(cx) {
            Ok(cluster) if is_current(cx)? => cluster,
            _ => discover(cx).await?,
        };
        same_as_before(cx, &cluster)?;
        cx.place(files(cx, &cluster)).await.map(drop)
    }
}

/// The wish that a discovery answers: which cluster, and by which address. Not the token, which goes when the machine has joined.
fn fingerprint(node: &Node) -> Fingerprint {
    let Some(join) = node.join() else { return Fingerprint::of(&()) };
    match &join.discovery {
        node::Discovery::Token { endpoints, pins, .. } => Fingerprint::of(&(endpoints, pins, join.keep_endpoint)),
        given => Fingerprint::of(given),
    }
}

/// The first line of what is found says for which wish: another wish is another discovery.
fn heading(node: &Node) -> String {
    format!("# found for {}\n", fingerprint(node).0)
}

fn is_current(cx: &Context) -> Result<bool> {
    let text = cx.host.root.read_text(names::JOIN_CLUSTER)?;
    Ok(text.is_some_and(|text| text.starts_with(&heading(&cx.node))))
}

fn files(cx: &Context, cluster: &ClusterInfo) -> Vec<File> {
    let text = heading(&cx.node) + &cluster_info::kubeconfig(&cluster.server, &cluster.authority);
    vec![authority_file(cx, cluster), File::yaml(names::JOIN_CLUSTER, 0o600, text)]
}

fn authority_file(cx: &Context, cluster: &ClusterInfo) -> File {
    let path = cx.node.join().map_or_else(|| names::CA_CERT.into(), |join| join.ca_cert_path.clone());
    File::text(path, 0o644, cluster.authority.clone()).torn_when(|bytes| Certificate::chain_from_pem(bytes).is_err())
}

/// A worker has no etcd: where its data is, this is a control plane of some cluster, and joining another would bury it.
fn refuse_control_plane(cx: &Context) -> Result<()> {
    let Etcd::Local(etcd) = &cx.node.cluster.etcd else { return Ok(()) };
    let member = etcd.data_dir.join("member");
    if cx.node.role != Role::Worker || !cx.host.root.exists(&member)? {
        return Ok(());
    }
    Err(Error::config("joining a cluster as a worker")
        .because(format!("this machine is a control plane: etcd has data in {member}"))
        .hint("`edgeboot reset` ends its life as a control plane; or configure `role: controlPlane` again"))
}

/// A machine that has joined one cluster does not silently go to another.
fn same_cluster(cx: &Context, cluster: &ClusterInfo) -> Result<()> {
    let node::Discovery::Token { pins, .. } = &wish(cx)?.discovery else { return Ok(()) };
    match pinned(&cluster.authority, pins) {
        Ok(hashes) if hashes.is_empty() => Ok(()),
        Ok(hashes) => Err(other_cluster(&hashes.join(", "))),
        Err(fault) => Err(Error::host(format!("using {}", names::KUBELET_CONF)).because(fault.to_string())),
    }
}

fn same_as_before(cx: &Context, cluster: &ClusterInfo) -> Result<()> {
    let Some(before) = cx.ledger.cluster() else { return Ok(()) };
    let chain = Certificate::chain_from_pem(&cluster.authority).unwrap_or_default();
    if chain.iter().any(|certificate| ca_hash(certificate) == before.ca_cert_hash) {
        return Ok(());
    }
    Err(other_cluster(&before.ca_cert_hash))
}

fn other_cluster(joined: &str) -> Error {
    Error::config("joining the cluster that is configured")
        .because(format!("this machine has joined another one, whose CA is {joined}"))
        .hint("`edgeboot reset` and a new `edgeboot join` take it to another cluster; or configure the cluster it is in")
}

async fn discover(cx: &Context) -> Result<ClusterInfo> {
    match &wish(cx)?.discovery {
        node::Discovery::Token { endpoints, token, pins } => by_token(cx, endpoints, token.known()?, pins).await,
        given @ (node::Discovery::File(_) | node::Discovery::Url(_)) => given_kubeconfig::discover(cx, given).await,
    }
}

/// What the phase waits for, and what its endpoints said last: told whenever that changes.
pub(super) struct Wait<'a> {
    cx: &'a Context,
    pub(super) deadline: Deadline,
    told: Mutex<String>,
}

impl Wait<'_> {
    pub(super) fn new(cx: &Context, reason: String) -> Wait<'_> {
        cx.waiting_for(&reason);
        Wait { cx, deadline: Deadline::after(cx.node.timeouts.discovery, reason), told: Mutex::default() }
    }
    pub(super) fn tell(&self, error: &Error) {
        let line = format!("{}: {error}", self.deadline.reason());
        let mut told = self.told.lock().expect("no panic while it is held");
        if *told != line {
            self.cx.waiting_for(&line);
            *told = line;
        }
    }
}

async fn by_token(cx: &Context, endpoints: &[Endpoint], token: &Token, pins: &Pins) -> Result<ClusterInfo> {
    let named: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    let wait = Wait::new(cx, format!("the cluster at {}", named.join(", ")));
    let mut order: Vec<(Duration, &Endpoint)> =
        endpoints.iter().map(|endpoint| (jittered(Duration::ZERO, STAGGER), endpoint)).collect();
    order.sort_by_key(|(chance, _)| *chance);
    let ask = |(place, (_, endpoint)): (usize, &(Duration, &'_ Endpoint))| {
        let later = STAGGER * u32::try_from(place).unwrap_or(u32::MAX);
        let question = Question { endpoint: (*endpoint).clone(), token, pins };
        let wait = &wait;
        async move {
            wait.deadline.pause(later).await;
            question.ask(wait).await
        }
    };
    let mut answers: FuturesUnordered<_> = order.iter().enumerate().map(ask).collect();
    let mut errors = Vec::new();
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(cluster) => return Ok(cluster),
            Err(error) => errors.push(error),
        }
    }
    // One that does not pass by itself says more than one that may.
    let lasting = errors.iter().position(|error| error.kind() != Kind::Transient).unwrap_or_default();
    Err(errors.swap_remove(lasting))
}

/// What one endpoint is asked.
struct Question<'a> {
    endpoint: Endpoint,
    token: &'a Token,
    pins: &'a Pins,
}

impl Question<'_> {
    /// Asks until there is an answer that is believed, or one that will not change.
    async fn ask(&self, wait: &Wait<'_>) -> Result<ClusterInfo> {
        let server = format!("https://{}", self.endpoint);
        let api = wait.cx.host.api.connect(&introduction::unverified(&server), &server)?;
        let mut pause = FIRST_PAUSE;
        let mut unsigned_since = None;
        let mut before: Option<Error> = None;
        loop {
            let (error, most) = match wait.deadline.bound(self.once(wait.cx, &server, api.as_ref())).await {
                Ok(Ok(cluster)) => return Ok(cluster),
                Ok(Err(Unanswered::Said(Fault::Unsigned))) => {
                    let since = *unsigned_since.get_or_insert_with(Instant::now);
                    let most = if since.elapsed() < SOON { MOST_PAUSE_UNHEARD } else { MOST_PAUSE };
                    (self.fault(&Fault::Unsigned), most)
                }
                Ok(Err(Unanswered::Said(fault))) => (self.fault(&fault), MOST_PAUSE),
                Ok(Err(Unanswered::Failed(error))) => (error, MOST_PAUSE_UNHEARD),
                // No time is left, in the middle of a try: what the one before said says more.
                Err(late) => (before.take().unwrap_or(late), MOST_PAUSE),
            };
            if error.kind() != Kind::Transient {
                return Err(error);
            }
            if wait.deadline.passed() {
                let patience = UNSIGNED.min(wait.cx.node.timeouts.discovery / 2);
                let unknown = unsigned_since.is_some_and(|since: Instant| since.elapsed() >= patience);
                return Err(if unknown {
                    self.unknown_token()
                } else {
                    error.while_doing(format!("waiting for {}", wait.deadline.reason()))
                });
            }
            wait.tell(&error);
            wait.deadline.pause(pause_after(&error, jittered(FIRST_PAUSE, pause))).await;
            pause = (pause * 2).min(most.max(FIRST_PAUSE));
            before = Some(error);
        }
    }

    async fn once(&self, cx: &Context, server: &str, api: &dyn Api) -> Result<ClusterInfo, Unanswered> {
        let first = fetch(api).await.map_err(Unanswered::Failed)?.ok_or(Unanswered::Said(Fault::Empty))?;
        let mut cluster = judge(&first, self.token, self.pins).map_err(Unanswered::Said)?;
        if matches!(self.pins, Pins::Sha256(_)) {
            valid_now(cx, &cluster.authority).map_err(Unanswered::Failed)?;
            let kubeconfig = introduction::anonymous(server, Some(&cluster.authority));
            let verified = cx.host.api.connect(&kubeconfig, server).map_err(Unanswered::Failed)?;
            let second = fetch(verified.as_ref()).await.map_err(|error| Unanswered::Failed(untrusted(error, server)))?;
            if second.as_ref().and_then(kubeconfig_of) != kubeconfig_of(&first) {
                return Err(Unanswered::Said(Fault::Replaced));
            }
        }
        if wish(cx).is_ok_and(|join| join.keep_endpoint) {
            server.clone_into(&mut cluster.server);
        }
        Ok(cluster)
    }

    /// What a fault means: whether it may pass by itself, and what to do about one that does not.
    fn fault(&self, fault: &Fault) -> Error {
        let doing = format!("asking {} for its cluster-info", self.endpoint);
        let (kind, hint) = match fault {
            Fault::Empty | Fault::Unsigned => return Error::transient(doing).because(fault.to_string()),
            Fault::Forged => {
                (Kind::Rejected, format!("the token {} has another secret in this cluster: {NEW_TOKEN}", self.token.id))
            }
            Fault::OtherAuthority(_) => (
                Kind::Rejected,
                "correct the address, or put the hash of that cluster's CA into `caCertHashes` if it is the right one \
                 (`edgeboot token create --print-join-command` on a control plane prints it)"
                    .to_owned(),
            ),
            Fault::Malformed(_) => (Kind::Rejected, "the ConfigMap cluster-info in kube-public must be kubeadm's".to_owned()),
            Fault::Replaced => (Kind::Rejected, format!("look who answers at {}", self.endpoint)),
        };
        Error::new(kind, doing).because(fault.to_string()).hint(hint)
    }

    fn unknown_token(&self) -> Error {
        Error::rejected(format!("joining the cluster at {}", self.endpoint))
            .because(format!("it does not know the bootstrap token {}: it has expired, or was never made there", self.token.id))
            .hint(NEW_TOKEN)
    }
}

/// Verified TLS failed: who answers has not the CA's certificate, whatever it told before.
pub(super) fn untrusted(error: Error, server: &str) -> Error {
    if error.kind() != Kind::Host {
        return error;
    }
    error.with_kind(Kind::Rejected).hint(format!(
        "what answers at {server} has no certificate of the cluster's CA for that address; look who answers there, and whether the \
         address is among the API server's certSANs"
    ))
}

/// Why there is no answer to believe.
enum Unanswered {
    /// The server said something that is not believed, or not yet.
    Said(Fault),
    /// It said nothing of use.
    Failed(Error),
}

/// The ConfigMap cluster-info; that anybody may read it is granted while a cluster is being founded, and until then refused.
async fn fetch(api: &dyn Api) -> Result<Option<serde_json::Value>> {
    let reference = ObjectReference::new("v1", "ConfigMap", "configmaps").namespaced(KUBE_PUBLIC).named("cluster-info");
    match api.read(&reference).await {
        Err(error) if error.kind() == Kind::Rejected => Err(error.with_kind(Kind::Transient)),
        other => other,
    }
}

/// A CA out of its time fails every connection: then the clock is what is wrong, or the cluster.
pub(super) fn valid_now(cx: &Context, authority: &[u8]) -> Result<()> {
    let now = cx.host.clock.now();
    let chain = Certificate::chain_from_pem(authority).unwrap_or_default();
    let Some(certificate) = chain.first() else { return Ok(()) };
    let wrong = match () {
        () if now < certificate.not_before => format!("is not valid before {}", spoken(certificate.not_before)),
        () if now > certificate.not_after => format!("expired {}", spoken(certificate.not_after)),
        () => return Ok(()),
    };
    Err(Error::transient("verifying the cluster's CA")
        .because(format!("it {wrong}, and the clock says {}", spoken(now)))
        .hint("set the clock of this machine"))
}
