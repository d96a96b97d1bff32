//! `bootstrap-token`: what is needed so that machines can join with a token: the ConfigMap cluster-info and kubeadm's rights, always;
//! and `bootstrap-token/tokens`: the configured tokens themselves, once, for they expire. What `edgeboot token` does is here, too: it
//! needs a client, and no machine.

use async_trait::async_trait;
use futures_util::future::try_join_all;
use jiff::Timestamp;
use serde_json::Value;

use super::objects::{AFTER_API, apply_objects, cluster_ca, cluster_url, inspect_objects, patience, patiently, put};
use crate::config::node::{BootstrapToken, Node};
use crate::engine::context::Context;
use crate::engine::phase::{Action, Change, Drift, Fingerprint, Inputs, Lasting, Phase, PhaseId, Subject};
use crate::engine::state::Effect;
use crate::error::{Error, Result};
use crate::host::Deadline;
use crate::host::api::{Api, ObjectReference, object_name};
use crate::k8s::objects::{Grantee, KUBE_SYSTEM, cluster_role, cluster_role_binding};
use crate::k8s::token::{self, StandingToken};
use crate::k8s::{cluster_info, names};

/// `bootstrap-token`.
#[derive(Debug)]
pub struct Access;
/// `bootstrap-token/tokens`.
#[derive(Debug)]
pub struct Tokens;

/// kubeadm's rights for those that join, for nodes, and for the API server towards kubelets.
pub(super) fn rights() -> Vec<Value> {
    let joining = [Grantee::Group(names::GROUP_BOOTSTRAPPERS)];
    let nodes = [Grantee::Group(names::GROUP_NODES)];
    let approval = "system:certificates.k8s.io:certificatesigningrequests";
    vec![
        cluster_role("kubeadm:get-nodes", &["nodes"], &["get"]),
        cluster_role_binding("kubeadm:get-nodes", "kubeadm:get-nodes", &joining),
        cluster_role_binding("kubeadm:kubelet-bootstrap", "system:node-bootstrapper", &joining),
        cluster_role_binding("kubeadm:node-autoapprove-bootstrap", &format!("{approval}:nodeclient"), &joining),
        cluster_role_binding("kubeadm:node-autoapprove-certificate-rotation", &format!("{approval}:selfnodeclient"), &nodes),
        cluster_role_binding(
            "kubeadm:apiserver-kubelet-client",
            "system:kubelet-api-admin",
            &[Grantee::User("kube-apiserver-kubelet-client")],
        ),
    ]
}

fn wishes(cx: &Context) -> Result<Vec<Value>> {
    let mut wishes = cluster_info::objects(&cluster_url(cx)?, &cluster_ca(cx)?);
    wishes.extend(rights());
    Ok(wishes)
}

/// Makes a token valid, or valid anew, through the administrator's client (`edgeboot init` on a terminal, `edgeboot token`).
pub async fn create_token(cx: &Context, token: &BootstrapToken) -> Result<()> {
    let secret = token::token_secret(token, cx.host.clock.now())?;
    put(cx.api()?.as_ref(), &secret, &patience(cx)).await
}

/// Makes new tokens valid. One whose id is taken is refused before any is made (kubeadm's `CreateNewTokens`).
pub async fn make_new(api: &dyn Api, tokens: &[BootstrapToken], now: Timestamp, deadline: &Deadline) -> Result<()> {
    for token in tokens {
        let secret = secret_of(token);
        if patiently(deadline, || api.read(&secret)).await?.is_some() {
            return Err(taken(token));
        }
    }
    for token in tokens {
        let secret = token::token_secret(token, now)?;
        if patiently(deadline, || api.create(&secret)).await?.is_yes() {
            continue;
        }
        // It was not there before: either somebody was quicker, or an answer to our own request was lost on the way.
        let reference = secret_of(token);
        let standing = patiently(deadline, || api.read(&reference)).await?;
        if standing.is_none_or(|standing| standing["data"] != secret["data"]) {
            return Err(taken(token));
        }
    }
    Ok(())
}

fn taken(token: &BootstrapToken) -> Error {
    let id = &token.token.id;
    Error::host(format!("making the bootstrap token {id}"))
        .because(format!("a token with id \"{id}\" already exists"))
        .hint(format!("take another one, or end that one by `edgeboot token delete {id}`"))
}

/// The tokens of a cluster, and why a Secret that is meant to be one is none.
pub async fn standing(api: &dyn Api, deadline: &Deadline) -> Result<Vec<Result<StandingToken, String>>> {
    let all = ObjectReference::secret(KUBE_SYSTEM, "");
    let secrets = patiently(deadline, || api.list(&all)).await?;
    Ok(secrets.iter().filter(|secret| token::is_token(secret)).map(token::from_secret).collect())
}

/// Ends a token.
pub async fn remove(api: &dyn Api, id: &str, deadline: &Deadline) -> Result<()> {
    let secret = ObjectReference::secret(KUBE_SYSTEM, &token::secret_name(id));
    if patiently(deadline, || api.delete(&secret)).await?.is_yes() {
        return Ok(());
    }
    let error = Error::host(format!("deleting the bootstrap token {id}")).because(format!("there is no {secret}"));
    Err(error.hint("`edgeboot token list` shows those that are there"))
}

fn secret_of(token: &BootstrapToken) -> ObjectReference {
    ObjectReference::secret(KUBE_SYSTEM, &token::secret_name(&token.token.id))
}

#[async_trait]
impl Phase for Access {
    fn id(&self) -> PhaseId {
        PhaseId("bootstrap-token")
    }
    fn summary(&self) -> &'static str {
        "publish the cluster's address and CA, and let machines join with a token"
    }
    fn after(&self) -> &'static [PhaseId] {
        AFTER_API
    }
    fn applies(&self, node: &Node) -> bool {
        node.founds()
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        let (node, facts) = (inputs.node, inputs.facts);
        let address = (&node.cluster.control_plane_endpoint, &node.advertise_address, facts.advertise_address, node.bind_port);
        Fingerprint::of(&(address, &node.cluster.certificates_dir))
    }
    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        inspect_objects(cx, &wishes(cx)?).await
    }
    async fn apply(&self, cx: &Context) -> Result<()> {
        apply_objects(cx, &wishes(cx)?).await
    }
}

#[async_trait]
impl Phase for Tokens {
    fn id(&self) -> PhaseId {
        PhaseId("bootstrap-token/tokens")
    }
    fn summary(&self) -> &'static str {
        "make the configured bootstrap tokens valid"
    }
    fn after(&self) -> &'static [PhaseId] {
        AFTER_API
    }
    fn lasting(&self) -> Lasting {
        Lasting::Once
    }
    fn applies(&self, node: &Node) -> bool {
        node.founds() && !node.bootstrap_tokens.is_empty()
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        Fingerprint::of(&inputs.node.bootstrap_tokens)
    }
    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        let made = |token| Change::new(Subject::Object(secret_of(token).to_string()), Action::Create);
        Ok(Drift { changes: cx.node.bootstrap_tokens.iter().map(made).collect(), ..Drift::none() })
    }
    async fn apply(&self, cx: &Context) -> Result<()> {
        let now = cx.host.clock.now();
        let secrets: Vec<Value> =
            cx.node.bootstrap_tokens.iter().map(|token| token::token_secret(token, now)).collect::<Result<_>>()?;
        // No digest: it would be one of a secret, and there is nothing to compare with what expires.
        let effect = |secret: &Value| Effect::Object { object: object_name(secret), ours: String::new() };
        cx.note_all(secrets.iter().map(effect).collect()).await?;
        let (api, deadline) = (cx.api()?, patience(cx));
        try_join_all(secrets.iter().map(|secret| put(api.as_ref(), secret, &deadline))).await.map(drop)
    }
}
