//! The way into a cluster that exists: `discovery` finds it and knows it for the right one, `cluster-configuration` reads what it says
//! about itself, and `kubelet-start/tls-bootstrap` gets the kubelet its certificate. A machine that has joined asks nobody any more: its
//! token may have expired long ago. Bootstrap credentials are kept in memory only.

mod cluster_configuration;
mod control_plane;
mod discovery;
mod etcd;
mod existing_node;
mod given_kubeconfig;
mod moved;
mod promotion;
mod tls_bootstrap;

pub use cluster_configuration::{CLUSTER_CONFIGURATION, ClusterConfiguration, kubelet_configuration};
pub use control_plane::{Certs, ControlPlane, DownloadCerts, Kubeconfigs};
pub use discovery::Discovery;
pub use etcd::{CheckEtcd, EtcdJoin};
pub use tls_bootstrap::TlsBootstrap;

use std::sync::Arc;
use std::time::Duration;

use crate::config;
use crate::config::node::{self, CertificatesFrom, Introduction, Join, Node};
use crate::engine::context::Context;
use crate::error::{Error, Kind, Result};
use crate::host::api::Api;
use crate::host::{Deadline, Root, Utf8PathBuf};
use crate::k8s::discovery::ClusterInfo;
use crate::k8s::kubeconfig::{Authority, Credentials, Kubeconfig, cluster_of, shared_server};
use crate::k8s::pki::judge::{LeafState, leaf_of};
use crate::k8s::pki::request::node_user;
use crate::k8s::{introduction, names};

/// What to do when a bootstrap token is not accepted.
const NEW_TOKEN: &str = "make a new token on a control plane (`edgeboot token create --print-join-command`) and put it into this machine's \
configuration; it is read again at the next try";

/// Between two tries as a newcomer.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MOST_PAUSE: Duration = Duration::from_secs(2);
/// While a cluster is being founded its newcomers get their rights after it can be found.
const GRACE: Duration = Duration::from_secs(20);

/// How far this machine has come.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    /// Its kubelet has credentials of its own, for this cluster.
    Joined(ClusterInfo),
    /// It has not, or cannot use them any more; why, in words.
    Outside(String),
}

/// How this machine joins; phases of this file apply to no other.
fn wish(cx: &Context) -> Result<&Join> {
    cx.node.join().ok_or_else(|| Error::internal("joining a cluster").because("this machine founds one"))
}

/// The files of ours that hold secrets of the wish and are still there: none of them is needed when the machine has joined.
fn spent_credentials(cx: &Context) -> Result<Vec<Utf8PathBuf>> {
    let join = wish(cx)?;
    let discovery = match &join.discovery {
        node::Discovery::Token { token, .. } => token.credential(),
        node::Discovery::File(_) | node::Discovery::Url(_) => None,
    };
    let introduction = match &join.introduction {
        Introduction::Token(token) => token.credential(),
        Introduction::OfKubeconfig => None,
    };
    let certificates = match &join.certificates {
        CertificatesFrom::Cluster(key) => key.credential(),
        CertificatesFrom::Disk => None,
    };
    let mut spent: Vec<Utf8PathBuf> = Vec::new();
    for path in [discovery, introduction, certificates].into_iter().flatten() {
        if cx.host.root.exists(path)? && !spent.iter().any(|known| known == path) {
            spent.push(path.to_owned());
        }
    }
    Ok(spent)
}

/// How far this machine has come: its kubelet.conf, judged by its meaning, whoever wrote it and whoever rotates its certificate.
fn standing(cx: &Context) -> Result<Standing> {
    let path = names::KUBELET_CONF;
    let outside = |why: String| Ok(Standing::Outside(format!("{path}: {why}")));
    let Some(bytes) = cx.host.root.read(path)? else { return outside("it is not there".to_owned()) };
    let config = match Kubeconfig::parse(&bytes) {
        Ok(config) => config,
        Err(why) => return outside(why),
    };
    let authority = match &config.authority {
        Authority::Embedded(pem) => Some(pem.clone()),
        Authority::File(file) => cx.host.root.read(file)?,
        Authority::None => None,
    };
    let Some(authority) = authority else { return outside("its CA is not there".to_owned()) };
    let (certificate, key) = match &config.credentials {
        Credentials::Embedded { certificate, key } => (Some(certificate.clone()), Some(key.to_vec())),
        Credentials::Files { certificate, key } => (cx.host.root.read(certificate)?, cx.host.root.read(key)?),
        Credentials::Token(_) | Credentials::Other => {
            return Ok(Standing::Joined(ClusterInfo { server: config.server, authority }));
        }
    };
    let user = node_user(&cx.node_name()?);
    match leaf_of(certificate.as_deref(), key.as_deref(), cx.host.clock.now()) {
        Ok(client) if client.common_name == user => Ok(Standing::Joined(ClusterInfo { server: config.server, authority })),
        Ok(client) => outside(format!("its client certificate is for {}, not {user}", client.common_name)),
        Err(LeafState::Absent) => outside("its client certificate is not there".to_owned()),
        Err(state) => outside(format!("its client certificate: {}", state.fault())),
    }
}

/// The cluster that the discovery found.
fn found(cx: &Context) -> Result<ClusterInfo> {
    let path = names::JOIN_CLUSTER;
    let reading = || Error::transient(format!("reading {path}"));
    let bytes = cx.host.root.read(path)?.ok_or_else(|| reading().because("the cluster has not been found yet"))?;
    match cluster_of(&bytes) {
        Ok((server, Authority::Embedded(authority))) => Ok(ClusterInfo { server, authority }),
        Ok(_) => Err(reading().because("it holds no CA")),
        Err(why) => Err(reading().because(why)),
    }
}

/// What was found is of no use: the next try looks for the cluster again, for it may have moved.
async fn forget_cluster(cx: &Context) -> Result<()> {
    let root = cx.host.root.clone();
    cx.host.blocking(move || root.remove(names::JOIN_CLUSTER).map(drop)).await
}

/// A client as the newcomer that this machine is.
async fn newcomer(cx: &Context) -> Result<Arc<dyn Api>> {
    let join = wish(cx)?;
    let ClusterInfo { server, authority } = found(cx)?;
    let name = format!("a newcomer at {server}");
    if let Some(api) = cx.kept_api(&name) {
        return Ok(api);
    }
    let kubeconfig = match &join.introduction {
        Introduction::Token(token) => introduction::with_token(&server, &authority, token.known()?),
        Introduction::OfKubeconfig => {
            let bytes = given_kubeconfig::read(cx, &join.discovery).await?;
            introduction::of_kubeconfig(&bytes, &server, &authority).map_err(|why| {
                Error::config("introducing this machine with the discovery's kubeconfig")
                    .because(why)
                    .hint("give a kubeconfig with credentials, or a `tlsBootstrapToken`")
            })?
        }
    };
    let api = cx.host.api.connect(&kubeconfig, &server)?;
    cx.keep_api(&name, &api);
    Ok(api)
}

/// The administrator at the address where the cluster was found: this machine's own API server may not be there yet. A machine that has
/// lost what it found asks at the address that all share.
fn cluster_administrator(cx: &Context) -> Result<Arc<dyn Api>> {
    let server = match (found(cx), &cx.node.cluster.control_plane_endpoint) {
        (Ok(cluster), _) => cluster.server,
        (Err(_), Some(endpoint)) => shared_server(Some(endpoint), cx.advertise_address()?, cx.node.bind_port),
        (Err(error), None) => return Err(error),
    };
    let name = format!("the administrator at {server}");
    if let Some(api) = cx.kept_api(&name) {
        return Ok(api);
    }
    let absent = || Error::transient(format!("reading {}", names::ADMIN_CONF)).because("it does not exist yet");
    let kubeconfig = cx.host.root.read_text(names::ADMIN_CONF)?.ok_or_else(absent)?;
    let api = cx.host.api.connect(&kubeconfig, &server)?;
    cx.keep_api(&name, &api);
    Ok(api)
}

/// What the cluster of a further control plane says about itself, once that is known: it takes the place of what the wish leaves open.
pub fn completed(root: &Root, mut node: Node) -> Result<Node> {
    if node.is_further_control_plane()
        && let Some(text) = root.read_text(names::JOIN_CLUSTER_CONFIGURATION)?
        && let Ok(cluster) = config::fetched::cluster(&text, names::JOIN_CLUSTER_CONFIGURATION)
    {
        node.cluster = cluster;
    }
    Ok(node)
}

/// Whether the rest of the plan is only known when the cluster has told its configuration.
pub fn awaits_cluster(root: &Root, node: &Node) -> Result<bool> {
    if !node.is_further_control_plane() {
        return Ok(false);
    }
    let text = root.read_text(names::JOIN_CLUSTER_CONFIGURATION)?;
    Ok(text.is_none_or(|text| config::fetched::cluster(&text, names::JOIN_CLUSTER_CONFIGURATION).is_err()))
}

/// A call as a newcomer, repeated while its failure may pass by itself.
async fn patiently<T, F>(cx: &Context, deadline: &Deadline, mut call: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    cx.waiting_for(deadline.reason());
    let grace = Deadline::after(GRACE, deadline.reason());
    let answered = deadline.until(FIRST_PAUSE, MOST_PAUSE, || {
        let answer = call();
        let early = !grace.passed();
        async move {
            match answer.await {
                Err(error) if early && error.kind() == Kind::Rejected => Err(error.with_kind(Kind::Transient)),
                other => other.map(Some),
            }
        }
    });
    match answered.await {
        Err(error) if error.kind() == Kind::Rejected => Err(error.hint(NEW_TOKEN)),
        Err(error) if error.kind() == Kind::Transient => {
            forget_cluster(cx).await?;
            Err(error.hint(
                "where the address that the cluster gives itself cannot be reached from here, say `join: {keepEndpoint: true}`",
            ))
        }
        other => other,
    }
}
