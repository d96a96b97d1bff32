//! `control-plane-prepare/*`: what a further control plane has of its own. The cluster's CAs and its service account key come sealed out of
//! the cluster, or were laid there by hand; from them its certificates and kubeconfigs are made as on the machine that founded the
//! cluster; and its static pods are written when etcd has taken it in.

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::future::try_join_all;
use serde_json::Value;

use crate::config::node::{CertificateKey, CertificatesFrom, Etcd, Node};
use crate::engine::context::Context;
use crate::engine::file::File;
use crate::engine::phase::{Action, Change, Disruption, Drift, Fingerprint, Inputs, Phase, PhaseId, Subject};
use crate::error::{Error, Kind, Result};
use crate::host::api::{Api, ObjectReference};
use crate::host::{Deadline, Utf8PathBuf};
use crate::k8s::certificate_upload::{self, SECRET};
use crate::k8s::objects::KUBE_SYSTEM;
use crate::k8s::pki::judge::{self, Part};
use crate::k8s::pki::{Authority, Certificate};
use crate::k8s::static_pods::{Component, EtcdCluster};
use crate::phases::certs::{self, LeafPhase, replacing};
use crate::phases::control_plane::{self, manifest_in};
use crate::phases::kubeconfig::{self, KubeconfigPhase};

use super::{found, newcomer, patiently, wish};

/// `control-plane-prepare/download-certs`.
#[derive(Debug)]
pub struct DownloadCerts;
/// `control-plane-prepare/certs`.
#[derive(Debug)]
pub struct Certs;
/// `control-plane-prepare/kubeconfig`.
#[derive(Debug)]
pub struct Kubeconfigs;
/// `control-plane-prepare/control-plane`.
#[derive(Debug)]
pub struct ControlPlane;

const DOWNLOAD: PhaseId = PhaseId("control-plane-prepare/download-certs");
const CERTS: PhaseId = PhaseId("control-plane-prepare/certs");

/// How the keys come to this machine when they are not there.
const BRING_KEYS: &str = "give the `certificateKey` that `edgeboot init phase upload-certs` (or `kubeadm init phase upload-certs \
--upload-certs`) printed on a control plane, or copy the CAs and sa.key, sa.pub from there";

const LEAVES: [&LeafPhase; 7] = [
    &certs::API_SERVER,
    &certs::API_SERVER_KUBELET_CLIENT,
    &certs::FRONT_PROXY_CLIENT,
    &certs::ETCD_SERVER,
    &certs::ETCD_PEER,
    &certs::ETCD_HEALTHCHECK_CLIENT,
    &certs::API_SERVER_ETCD_CLIENT,
];

const KUBECONFIGS: [&KubeconfigPhase; 3] = [&kubeconfig::ADMIN, &kubeconfig::CONTROLLER_MANAGER, &kubeconfig::SCHEDULER];

const STATIC_PODS: [Component; 3] = [Component::ApiServer, Component::ControllerManager, Component::Scheduler];

fn has_etcd(node: &Node) -> bool {
    matches!(node.cluster.etcd, Etcd::Local(_))
}

/// What all control planes of the cluster share, by its key in the Secret, and where it lies here.
fn shared(node: &Node) -> Vec<(&'static str, Utf8PathBuf)> {
    let files = certificate_upload::files(&node.cluster).into_iter();
    files.filter(|(_, path)| !path.is_empty()).map(|(name, path)| (name, path.into())).collect()
}

/// Those that are missing or torn. When nothing is but keys of CAs that we never wrote, these are kept elsewhere (external CA).
fn missing(cx: &Context) -> Result<Vec<(&'static str, Utf8PathBuf)>> {
    let (mut missing, mut elsewhere) = (Vec::new(), true);
    for (name, path) in shared(&cx.node) {
        let bytes = cx.host.root.read(&path)?;
        if !is_whole(name, bytes.as_deref()) {
            elsewhere &= bytes.is_none() && name.ends_with("ca.key") && !cx.ledger.has_written(&path);
            missing.push((name, path));
        }
    }
    Ok(if elsewhere { Vec::new() } else { missing })
}

fn is_whole(name: &str, bytes: Option<&[u8]>) -> bool {
    match name.rsplit('.').next() {
        Some("crt") => matches!(judge::certificate(bytes), Part::Whole(_)),
        Some("key") => matches!(judge::private_key(bytes), Part::Whole(_)),
        _ => bytes.is_some_and(|bytes| bytes.trim_ascii_end().ends_with(b"-----END PUBLIC KEY-----")),
    }
}

/// The Secret, as soon as it is there.
async fn fetch(cx: &Context, api: &dyn Api) -> Result<Value> {
    let reference = ObjectReference::secret(KUBE_SYSTEM, SECRET);
    let deadline = Deadline::after(cx.node.timeouts.kubernetes_api_call, format!("the cluster to hand out {reference}"));
    let read = || async {
        let absent =
            || Error::transient(format!("reading {reference}")).because("it is not there, or not any more: it lives for two hours");
        api.read(&reference).await?.ok_or_else(absent)
    };
    let fetched = patiently(cx, &deadline, read).await;
    fetched.map_err(|error| match error.kind() {
        Kind::Transient => {
            error.hint("`edgeboot init phase upload-certs` on a control plane uploads it again, with a new `certificateKey`")
        }
        _ => error,
    })
}

/// What is missing here, opened. A file that the cluster keeps elsewhere is empty there.
fn opened(secret: &Value, key: &CertificateKey, missing: &[(&'static str, Utf8PathBuf)]) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for (name, path) in missing {
        let sealed = secret["data"][*name].as_str().unwrap_or_default();
        if sealed.is_empty() {
            continue;
        }
        let reading = || Error::rejected(format!("opening {name} of the Secret {SECRET}"));
        let sealed = BASE64.decode(sealed).map_err(|_| reading().because("it is not base64"))?;
        let bytes = certificate_upload::open(key, &sealed).map_err(|error| error.hint(BRING_KEYS))?;
        let mode = if path.extension() == Some("crt") { 0o644 } else { 0o600 };
        files.push(replacing(path, mode, bytes));
    }
    // A certificate is never visible before its key.
    files.sort_by_key(|file| file.path.extension() == Some("crt"));
    Ok(files)
}

/// The keys must be those of the cluster that the discovery proved to be the right one.
fn same_authority(cx: &Context, files: &[File]) -> Result<()> {
    let Some(file) = files.iter().find(|file| file.path.ends_with("ca.crt") && !file.path.as_str().ends_with("etcd/ca.crt")) else {
        return Ok(());
    };
    let reading = || Error::rejected(format!("using the Secret {SECRET}"));
    let downloaded = Certificate::from_pem(&file.bytes).map_err(|why| reading().because(why))?;
    let discovered =
        Certificate::from_pem(&found(cx)?.authority).map_err(|why| Error::host("reading the cluster's CA").because(why))?;
    if crate::k8s::pki::ca_hash(&downloaded) == crate::k8s::pki::ca_hash(&discovered) {
        return Ok(());
    }
    Err(reading()
        .because("its CA is not the one that the discovery proved")
        .hint("upload the certificates again on a control plane of this cluster"))
}

fn files_of(paths: &[(&'static str, Utf8PathBuf)], action: Action) -> Drift {
    let change = |(_, path): &(&str, Utf8PathBuf)| Change::new(Subject::File(path.to_string()), action);
    Drift { changes: paths.iter().map(change).collect(), ..Drift::none() }
}

#[async_trait]
impl Phase for DownloadCerts {
    fn id(&self) -> PhaseId {
        DOWNLOAD
    }
    fn summary(&self) -> &'static str {
        "downloads the keys that control planes share, and opens them with the certificate key"
    }
    fn after(&self) -> &'static [PhaseId] {
        &[PhaseId("cluster-configuration")]
    }
    fn applies(&self, node: &Node) -> bool {
        node.is_further_control_plane() && node.join().is_some_and(|join| matches!(join.certificates, CertificatesFrom::Cluster(_)))
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        Fingerprint::of(&certificate_upload::files(&inputs.node.cluster))
    }
    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        Ok(files_of(&missing(cx)?, Action::Create))
    }
    async fn apply(&self, cx: &Context) -> Result<()> {
        let CertificatesFrom::Cluster(key) = &wish(cx)?.certificates else { return Ok(()) };
        let (key, missing) = (key.known()?.clone(), missing(cx)?);
        let secret = fetch(cx, newcomer(cx).await?.as_ref()).await?;
        let files = cx.host.blocking(move || opened(&secret, &key, &missing)).await?;
        same_authority(cx, &files)?;
        cx.place(files).await.map(drop)
    }
}

/// Stops where a shared key is not here, before anything is made without it.
fn require_shared(cx: &Context) -> Result<()> {
    let missing = missing(cx)?;
    let Some((_, path)) = missing.first() else { return Ok(()) };
    Err(Error::host(format!("using {path}"))
        .because("it is not there, or torn, and all control planes of a cluster share it")
        .hint(BRING_KEYS))
}

fn leaves(node: &Node) -> impl Iterator<Item = &'static LeafPhase> {
    let has_etcd = has_etcd(node);
    LEAVES.into_iter().filter(move |leaf| has_etcd || leaf.authority() != Authority::Etcd)
}

#[async_trait]
impl Phase for Certs {
    fn id(&self) -> PhaseId {
        CERTS
    }
    fn summary(&self) -> &'static str {
        "makes the certificates of this control plane"
    }
    fn after(&self) -> &'static [PhaseId] {
        &[DOWNLOAD]
    }
    fn applies(&self, node: &Node) -> bool {
        node.is_further_control_plane()
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        Fingerprint::of(&leaves(inputs.node).map(|leaf| leaf.fingerprint(inputs).0).collect::<Vec<_>>())
    }
    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        require_shared(cx)?;
        let looked = try_join_all(leaves(&cx.node).map(|leaf| leaf.inspect(cx))).await?;
        Ok(looked.into_iter().fold(Drift::none(), Drift::and))
    }
    async fn apply(&self, cx: &Context) -> Result<()> {
        require_shared(cx)?;
        try_join_all(leaves(&cx.node).map(|leaf| leaf.apply(cx))).await.map(drop)
    }
}

#[async_trait]
impl Phase for Kubeconfigs {
    fn id(&self) -> PhaseId {
        PhaseId("control-plane-prepare/kubeconfig")
    }
    fn summary(&self) -> &'static str {
        "makes the kubeconfigs of this control plane"
    }
    fn after(&self) -> &'static [PhaseId] {
        &[CERTS]
    }
    fn applies(&self, node: &Node) -> bool {
        node.is_further_control_plane()
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        Fingerprint::of(&KUBECONFIGS.map(|kubeconfig| kubeconfig.fingerprint(inputs).0))
    }
    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        let looked = try_join_all(KUBECONFIGS.map(|kubeconfig| kubeconfig.inspect(cx))).await?;
        Ok(looked.into_iter().fold(Drift::none(), Drift::and))
    }
    async fn apply(&self, cx: &Context) -> Result<()> {
        try_join_all(KUBECONFIGS.map(|kubeconfig| kubeconfig.apply(cx))).await.map(drop)
    }
}

/// The three manifests. etcd's own is `etcd-join`'s.
fn manifests(cx: &Context) -> Result<Vec<File>> {
    STATIC_PODS.into_iter().map(|component| manifest_in(cx, component, EtcdCluster::New)).collect()
}

#[async_trait]
impl Phase for ControlPlane {
    fn id(&self) -> PhaseId {
        PhaseId("control-plane-prepare/control-plane")
    }
    fn summary(&self) -> &'static str {
        "writes the static pod manifests of this control plane"
    }
    fn after(&self) -> &'static [PhaseId] {
        // Without its etcd, kube-apiserver would only fail, and the kubelet would wait longer from time to time.
        &[PhaseId("control-plane-prepare/kubeconfig"), PhaseId("images/first"), PhaseId("etcd-join")]
    }
    fn applies(&self, node: &Node) -> bool {
        node.is_further_control_plane()
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        control_plane::fingerprint(inputs)
    }
    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        let drift = cx.compare(&manifests(cx)?)?;
        let changes = drift.changes.into_iter();
        let changes = changes
            .map(|change| if change.action == Action::Create { change } else { change.disrupting(Disruption::ControlPlane) });
        Ok(Drift { changes: changes.collect(), ..drift })
    }
    async fn apply(&self, cx: &Context) -> Result<()> {
        cx.place(manifests(cx)?).await.map(drop)
    }
}
