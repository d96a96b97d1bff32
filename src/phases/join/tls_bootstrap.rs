//! `kubelet-start/tls-bootstrap`: the kubelet's own credentials, got for it before its first start (kubeadm leaves that to the kubelet and
//! its bootstrap-kubelet.conf; here the bootstrap credentials never lie on a disk). The key is durable before the request is made, and
//! the request is named after the key: a run that was cut goes on with the same one. kubelet.conf comes last.

use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::config::node::{KeyAlgorithm, Node, Role};
use crate::engine::context::Context;
use crate::engine::phase::{Action, Change, Disruption, Drift, Fingerprint, Inputs, Phase, PhaseId, Subject};
use crate::engine::state::ClusterIdentity;
use crate::error::{Error, Kind, Result};
use crate::host::api::{Api, ObjectReference};
use crate::host::{Deadline, Utf8PathBuf};
use crate::k8s::discovery::ClusterInfo;
use crate::k8s::kubeconfig::{local_server, of_kubelet, with_server};
use crate::k8s::names;
use crate::k8s::pki::judge::leaf_of;
use crate::k8s::pki::request::{Answer, answer, node_user, signing_request};
use crate::k8s::pki::{Certificate, PrivateKey, ca_hash};
use crate::phases::certs::replacing;
use crate::phases::kubeconfig::client_current;
use crate::phases::kubelet_start::mark_stale;

use super::moved::new_server;
use super::{Standing, existing_node, found, newcomer, patiently, spent_credentials, standing};

/// `kubelet-start/tls-bootstrap`.
#[derive(Debug)]
pub struct TlsBootstrap;

/// What the kubelet itself takes.
const ALGORITHM: KeyAlgorithm = KeyAlgorithm::EcdsaP256;

#[async_trait]
impl Phase for TlsBootstrap {
    fn id(&self) -> PhaseId {
        PhaseId("kubelet-start/tls-bootstrap")
    }
    fn summary(&self) -> &'static str {
        "gets the kubelet its certificate from the cluster"
    }
    fn after(&self) -> &'static [PhaseId] {
        // What a further control plane was let in with is thrown away here: it has its keys then.
        &[PhaseId("discovery"), PhaseId("cluster-configuration"), PhaseId("control-plane-prepare/certs")]
    }
    fn applies(&self, node: &Node) -> bool {
        node.join().is_some()
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        Fingerprint::of(&(&inputs.node.registration.name, &inputs.facts.node_name))
    }

    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        let mut drift = Drift::none();
        match standing(cx)? {
            Standing::Outside(why) => {
                let action = if cx.host.root.exists(names::KUBELET_CONF)? { Action::Mend } else { Action::Create };
                let change = Change::new(Subject::File(names::KUBELET_CONF.to_owned()), action).because(why);
                drift.changes.push(if action == Action::Mend { change.disrupting(Disruption::Kubelet) } else { change });
            }
            Standing::Joined(cluster) => {
                if let Some(server) = new_server(cx, &cluster).await? {
                    let why = format!("the API server does not answer at {} any more, and does at {server}", cluster.server);
                    let change = Change::new(Subject::File(names::KUBELET_CONF.to_owned()), Action::Update);
                    drift.changes.push(change.because(why).disrupting(Disruption::Kubelet));
                }
                if cx.ledger.cluster().is_none() {
                    drift.changes.push(Change::new(Subject::Fact("cluster identity".to_owned()), Action::Create));
                }
                let spent = spent(cx)?.into_iter();
                drift.changes.extend(spent.map(|path| Change::new(Subject::File(path.into_string()), Action::Remove)));
            }
        }
        Ok(drift)
    }

    async fn apply(&self, cx: &Context) -> Result<()> {
        let cluster = match standing(cx)? {
            Standing::Joined(cluster) => follow(cx, cluster).await?,
            Standing::Outside(why) => {
                if cx.host.root.exists(names::KUBELET_CONF)? {
                    cx.say(format!("joins anew: {why}"));
                }
                bootstrap(cx).await?;
                found(cx)?
            }
        };
        // Only now: what belongs to this cluster is durable.
        if cx.ledger.cluster().is_none() {
            let authority =
                Certificate::from_pem(&cluster.authority).map_err(|why| Error::host("reading the cluster's CA").because(why))?;
            cx.ledger.set_cluster(ClusterIdentity { ca_cert_hash: ca_hash(&authority) });
            cx.ledger.save(&cx.host).await?;
        }
        let (root, spent) = (cx.host.root.clone(), spent(cx)?);
        cx.host.blocking(move || spent.iter().try_for_each(|path| root.remove(path).map(drop))).await
    }
}

/// Lets the kubelet speak to its cluster where that is now.
async fn follow(cx: &Context, cluster: ClusterInfo) -> Result<ClusterInfo> {
    let Some(server) = new_server(cx, &cluster).await? else { return Ok(cluster) };
    let reading = || Error::host(format!("reading {}", names::KUBELET_CONF));
    let bytes = cx.host.root.read(names::KUBELET_CONF)?.ok_or_else(|| reading().because("it is gone"))?;
    let conf = with_server(&bytes, &server).map_err(|why| reading().because(why))?;
    cx.say(format!("the cluster has moved from {} to {server}", cluster.server));
    mark_stale(cx).await?;
    cx.place(vec![replacing(names::KUBELET_CONF, 0o600, conf.as_bytes())]).await.map(drop)?;
    cx.forget_api(names::KUBELET_CONF);
    Ok(ClusterInfo { server, ..cluster })
}

/// What is of no use to a machine that has joined: the key's first place, and the secrets that let it in.
fn spent(cx: &Context) -> Result<Vec<Utf8PathBuf>> {
    let mut spent = spent_credentials(cx)?;
    if cx.host.root.exists(names::JOIN_KEY)? {
        spent.push(names::JOIN_KEY.into());
    }
    Ok(spent)
}

async fn bootstrap(cx: &Context) -> Result<()> {
    let api = newcomer(cx).await?;
    let (key, ()) = futures_util::try_join!(private_key(cx), existing_node::settle(cx, api.as_ref()))?;
    let pem = request(cx, api.as_ref(), &key).await?;
    let client = match leaf_of(Some(&pem), Some(key.to_pem()?.as_bytes()), cx.host.clock.now()) {
        Ok(client) if client.common_name == node_user(&cx.node_name()?) => client,
        Ok(_) => return Err(useless(cx, "it is for somebody else").await),
        Err(state) => return Err(useless(cx, &state.fault()).await),
    };
    place(cx, &pem, &key, &client).await
}

/// The key that was made before this run was cut, or a new one, durable before anybody hears of it.
async fn private_key(cx: &Context) -> Result<PrivateKey> {
    let standing = cx.host.root.read(names::JOIN_KEY)?.map(Zeroizing::new);
    if let Some(Ok(key)) = standing.map(|pem| PrivateKey::from_pem(&pem)) {
        return Ok(key);
    }
    let key = cx.host.blocking(|| PrivateKey::generate(ALGORITHM)).await?;
    cx.place(vec![replacing(names::JOIN_KEY, 0o600, key.to_pem()?.as_bytes())]).await.map(drop)?;
    Ok(key)
}

async fn remove_key(cx: &Context) -> Result<()> {
    let root = cx.host.root.clone();
    cx.host.blocking(move || root.remove(names::JOIN_KEY).map(drop)).await
}

/// Asks the cluster to sign, and waits for the certificate.
async fn request(cx: &Context, api: &dyn Api, key: &PrivateKey) -> Result<Vec<u8>> {
    let object = signing_request(key, &cx.node_name()?)?;
    let reference = ObjectReference::of(&object)?;
    let deadline = Deadline::after(cx.node.timeouts.tls_bootstrap, format!("the cluster to sign {reference}"));
    patiently(cx, &deadline, || api.create(&object)).await.map(drop)?;
    let decided = |live: Option<&serde_json::Value>| live.is_none_or(|live| answer(live) != Answer::Waiting);
    let waited = api.wait(&reference, &decided, &deadline).await.map_err(|error| match error.kind() {
        Kind::Transient => error.hint(format!(
            "kube-controller-manager approves and signs it by itself where kubeadm's rights for newcomers are in place; \
             `kubectl certificate approve {}` does it by hand",
            reference.name
        )),
        _ => error,
    })?;
    match waited.as_ref().map(answer) {
        Some(Answer::Signed(pem)) => Ok(pem),
        Some(Answer::Refused(why)) => {
            remove_key(cx).await?;
            Err(Error::rejected(format!("asking the cluster to sign {reference}"))
                .because(why)
                .hint("ask those who run the cluster why; the next try makes a new request"))
        }
        Some(Answer::Waiting) | None => {
            Err(Error::transient(format!("waiting for {reference}")).because("it was deleted before it was signed"))
        }
    }
}

/// A certificate that cannot be used was made for a request of long ago: the next try makes a new one.
async fn useless(cx: &Context, why: &str) -> Error {
    let removed = remove_key(cx).await;
    removed.err().unwrap_or_else(|| Error::transient("reading the certificate that the cluster signed").because(why.to_owned()))
}

/// The certificate and its key as the kubelet keeps them, then kubelet.conf. The dated file is named after the certificate, so that a run
/// that was cut leaves no second one behind.
async fn place(cx: &Context, pem: &[u8], key: &PrivateKey, client: &Certificate) -> Result<()> {
    let current = client_current(&cx.node);
    let date = client.not_before.strftime("%Y-%m-%d-%H-%M-%S");
    let dated = current.with_file_name(format!("kubelet-client-{date}.pem"));
    let mut both = Zeroizing::new(pem.to_vec());
    both.extend_from_slice(key.to_pem()?.as_bytes());
    let cluster = found(cx)?;
    let server = match cx.node.role {
        Role::Worker => cluster.server,
        // Since 1.36 the kubelet of a control plane talks to its own machine's API server (`cmd/phases/join/kubelet.go`).
        Role::ControlPlane => local_server(cx.advertise_address()?, cx.node.bind_port),
    };
    let conf = of_kubelet(&server, &cluster.authority, current.as_str());
    // A kubelet that runs with older credentials does not read new ones by itself.
    mark_stale(cx).await?;
    cx.place(vec![replacing(&dated, 0o600, both.to_vec()), replacing(names::KUBELET_CONF, 0o600, conf)]).await.map(drop)?;
    cx.place_link(&current, &dated).await.map(drop)
}
