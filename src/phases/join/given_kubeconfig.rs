//! A cluster that a kubeconfig names (kubeadm's `discovery.file`), from this machine or from behind an `https` URL.

use std::time::Duration;

use crate::config::node::Discovery;
use crate::engine::context::Context;
use crate::error::{Error, Kind, Result};
use crate::host::api::ObjectReference;
use crate::k8s::discovery::{ClusterInfo, kubeconfig_of};
use crate::k8s::introduction;
use crate::k8s::kubeconfig::{Authority, cluster_of};
use crate::k8s::objects::KUBE_PUBLIC;
use crate::k8s::pki::Certificate;

use super::discovery::{FIRST_PAUSE, MOST_PAUSE, Wait, untrusted, valid_now};

/// One document behind a URL.
const DOCUMENT: Duration = Duration::from_secs(20);

/// The kubeconfig that the wish names.
pub(super) async fn read(cx: &Context, discovery: &Discovery) -> Result<Vec<u8>> {
    match discovery {
        Discovery::File(path) => cx.host.root.read(path)?.ok_or_else(|| {
            Error::config(format!("reading the discovery's kubeconfig {path}"))
                .because("it is not there")
                .hint("put it there, 0600")
        }),
        Discovery::Url(url) => cx.host.http.document(url, DOCUMENT).await,
        Discovery::Token { .. } => Err(Error::config("introducing this machine").because("the discovery has no kubeconfig")),
    }
}

/// kubeadm's `discovery.file`: whoever gave the kubeconfig is believed, and the cluster is asked for the CA only where it has none.
pub(super) async fn discover(cx: &Context, given: &Discovery) -> Result<ClusterInfo> {
    let wait = Wait::new(cx, "the cluster of the discovery's kubeconfig".to_owned());
    wait.deadline
        .until(FIRST_PAUSE, MOST_PAUSE, || async {
            let answer = from_kubeconfig(cx, given).await;
            if let Err(error) = &answer {
                wait.tell(error);
            }
            answer.map(Some)
        })
        .await
}

async fn from_kubeconfig(cx: &Context, given: &Discovery) -> Result<ClusterInfo> {
    let wrong = |why: String| Error::config("reading the discovery's kubeconfig").because(why);
    let bytes = read(cx, given).await?;
    let (server, authority) = cluster_of(&bytes).map_err(wrong)?;
    let authority = match authority {
        Authority::Embedded(pem) => Some(pem),
        Authority::File(path) => Some(cx.host.root.read(&path)?.ok_or_else(|| wrong(format!("its CA {path} is not there")))?),
        Authority::None => None,
    };
    if let Some(pem) = &authority {
        Certificate::chain_from_pem(pem).map_err(|why| wrong(format!("its CA: {why}")))?;
        valid_now(cx, pem)?;
    }
    let api = cx.host.api.connect(&introduction::anonymous(&server, authority.as_deref()), &server)?;
    let reference = ObjectReference::new("v1", "ConfigMap", "configmaps").namespaced(KUBE_PUBLIC).named("cluster-info");
    let answer = match api.read(&reference).await {
        // Anonymous requests may be switched off; that the server was verified is enough.
        Err(error) if error.kind() == Kind::Rejected => None,
        other => other.map_err(|error| untrusted(error, &server))?,
    };
    let told = || {
        let (_, authority) = cluster_of(answer.as_ref().and_then(kubeconfig_of)?.as_bytes()).ok()?;
        if let Authority::Embedded(pem) = authority { Some(pem) } else { None }
    };
    match authority.or_else(told) {
        Some(authority) => Ok(ClusterInfo { server, authority }),
        None => Err(wrong("it holds no CA, and the cluster tells none".to_owned())),
    }
}
