//! `upload-certs`: the CAs and keys that a further control plane needs, sealed, for two hours. Done once: it is meant to go away. A
//! key that nobody gave is left for the terminal in a file that only root reads.

use std::time::Duration;

use async_trait::async_trait;
use camino::Utf8PathBuf;
use serde_json::Value;

use super::certs::replacing;
use super::objects::{AFTER_API, apply_objects, inspect_objects, patience, patiently, put};
use crate::config::node::{Auto, BootstrapToken, CertificateKey, Node};
use crate::engine::context::Context;
use crate::engine::phase::{Action, Change, Drift, Fingerprint, Inputs, Lasting, Phase, PhaseId, Subject};
use crate::engine::state::Effect;
use crate::error::{Error, Result};
use crate::host::Deadline;
use crate::host::api::{Api, ObjectReference, object_name};
use crate::k8s::objects::KUBE_SYSTEM;
use crate::k8s::{certificate_upload, names, token};

/// `upload-certs`.
#[derive(Debug)]
pub struct UploadCerts;

/// Where a key that was made here waits for whoever asks on a terminal.
pub fn key_path() -> Utf8PathBuf {
    Utf8PathBuf::from(names::CREDENTIALS_DIR).join("certificate-key")
}

/// The key that was made here, if one was: for a terminal only.
pub fn made_key(cx: &Context) -> Result<Option<CertificateKey>> {
    Ok(cx.host.root.read_text(key_path())?.and_then(|text| CertificateKey::parse(text.trim())))
}

/// The key of the last upload: for whoever asked for it.
pub fn key_in_use(cx: &Context) -> Result<CertificateKey> {
    if let Auto::Set(key) = &cx.node.certificate_key {
        return Ok(key.clone());
    }
    let absent = || Error::internal("asking for the certificate key").because("nothing was uploaded with one");
    made_key(cx)?.ok_or_else(absent)
}

/// The configured key; otherwise each upload has a new one, as kubeadm has it.
async fn key(cx: &Context) -> Result<CertificateKey> {
    if let Auto::Set(key) = &cx.node.certificate_key {
        return Ok(key.clone());
    }
    let key = certificate_upload::random_key()?;
    let placed = cx.place(vec![replacing(key_path(), 0o600, format!("{}\n", key.expose()))]).await;
    placed.map(|_| key)
}

/// A token that serves for nothing but to expire, and to take what it owns with it.
async fn make_owner(cx: &Context, api: &dyn Api, deadline: &Deadline) -> Result<Value> {
    let owner = BootstrapToken {
        token: token::random_token()?,
        description: certificate_upload::OWNER_DESCRIPTION.to_owned(),
        ttl: certificate_upload::LIFETIME,
        usages: vec![],
        groups: vec![],
    };
    put(api, &token::token_secret(&owner, cx.host.clock.now())?, deadline).await?;
    let reference = ObjectReference::secret(KUBE_SYSTEM, &token::secret_name(&owner.token.id));
    let standing = patiently(deadline, || api.read(&reference)).await?;
    standing.ok_or_else(|| Error::transient(format!("reading {reference}")).because("it has just gone"))
}

#[async_trait]
impl Phase for UploadCerts {
    fn id(&self) -> PhaseId {
        PhaseId("upload-certs")
    }
    fn summary(&self) -> &'static str {
        "upload the control plane's certificates, sealed, for further control planes"
    }
    fn after(&self) -> &'static [PhaseId] {
        AFTER_API
    }
    fn lasting(&self) -> Lasting {
        Lasting::Once
    }
    fn applies(&self, node: &Node) -> bool {
        node.founds() && node.upload_certs
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        // The key is 256 random bits: its digest tells nothing, and another key is another upload.
        let key = inputs.node.certificate_key.set().map(CertificateKey::expose);
        Fingerprint::of(&(certificate_upload::files(&inputs.node.cluster), key))
    }
    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        let secret = Subject::Object(ObjectReference::secret(KUBE_SYSTEM, certificate_upload::SECRET).to_string());
        let made = Change::new(secret, Action::Create).because(format!("for {}", hours(certificate_upload::LIFETIME)));
        Ok(Drift::one(made).and(inspect_objects(cx, &certificate_upload::access()).await?))
    }
    async fn apply(&self, cx: &Context) -> Result<()> {
        let (api, deadline) = (cx.api()?, patience(cx));
        let key = key(cx).await?;
        let mut files = Vec::new();
        for (name, path) in certificate_upload::files(&cx.node.cluster) {
            let content = if path.is_empty() { None } else { cx.host.root.read(&path)? };
            files.push((name, content));
        }
        let owner = make_owner(cx, api.as_ref(), &deadline).await?;
        let secret = cx.host.blocking(move || certificate_upload::secret(&key, &files, &owner)).await?;
        // What is sealed differs each time, and it expires: there is no digest to compare later.
        cx.note(Effect::Object { object: object_name(&secret), ours: String::new() }).await?;
        put(api.as_ref(), &secret, &deadline).await?;
        apply_objects(cx, &certificate_upload::access()).await
    }
}

fn hours(duration: Duration) -> String {
    format!("{} hours", duration.as_secs() / 3600)
}
