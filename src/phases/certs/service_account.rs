//! The key that signs service account tokens. It is of the same class as the CAs: with a cluster here it is never made again, since
//! every token in that cluster would stop working. sa.pub is derived from it.

use async_trait::async_trait;

use crate::config::node::Node;
use crate::engine::context::Context;
use crate::engine::file::File;
use crate::engine::phase::{Action, Change, Drift, Fingerprint, Inputs, Phase, PhaseId};
use crate::error::Result;
use crate::host::Utf8PathBuf;
use crate::k8s::pki::PrivateKey;
use crate::k8s::pki::judge::{self, Part};

use super::{PREFLIGHT, Situation, owned, replacing, subject};

/// `certs/sa`.
#[derive(Debug, Clone, Copy)]
pub struct ServiceAccountPhase;

/// What is to be done about the key.
enum Verdict {
    Keep,
    Make(Action),
    Derive(PrivateKey, Action),
}

fn paths(cx: &Context) -> (Utf8PathBuf, Utf8PathBuf) {
    let dir = &cx.node.cluster.certificates_dir;
    (dir.join("sa.key"), dir.join("sa.pub"))
}

fn look(cx: &Context) -> Result<Verdict> {
    let (key_path, public_path) = paths(cx);
    let key = judge::private_key(cx.host.root.read(&key_path)?.as_deref());
    let situation = || Situation::of(cx, None, &[&key_path]);
    match key {
        Part::Whole(key) => Ok(match cx.host.root.read(&public_path)? {
            None => Verdict::Derive(key, Action::Create),
            Some(public) if judge::is_public_half(&public, &key) => Verdict::Keep,
            Some(_) => Verdict::Derive(key, Action::Mend),
        }),
        Part::Absent => match situation()? {
            situation if situation.here => Err(situation.stop(&key_path, "it is gone")),
            _ => Ok(Verdict::Make(Action::Create)),
        },
        Part::Torn(why) => match situation()? {
            situation if situation.ours && !situation.here => Ok(Verdict::Make(Action::Mend)),
            situation => Err(situation.stop(&key_path, &why)),
        },
    }
}

/// kubeadm gives both 0600.
fn standing(cx: &Context) -> Result<Vec<File>> {
    let (key, public) = paths(cx);
    let mut files = Vec::new();
    for path in [key, public] {
        let bytes = cx.host.root.read(&path)?;
        files.extend(bytes.map(|bytes| File::text(path, 0o600, bytes)));
    }
    owned(cx, files)
}

#[async_trait]
impl Phase for ServiceAccountPhase {
    fn id(&self) -> PhaseId {
        PhaseId("certs/sa")
    }
    fn summary(&self) -> &'static str {
        "make the key that signs service account tokens"
    }
    fn after(&self) -> &'static [PhaseId] {
        PREFLIGHT
    }
    fn applies(&self, node: &Node) -> bool {
        node.founds()
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        Fingerprint::of(&(&inputs.node.cluster.certificates_dir, inputs.node.cluster.key_algorithm))
    }

    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        let (key, public) = paths(cx);
        Ok(match look(cx)? {
            Verdict::Keep => cx.compare(&standing(cx)?)?,
            Verdict::Make(action) => Drift::one(Change::new(subject(&key), action)),
            Verdict::Derive(_, action) => {
                let disrupts = Situation::of(cx, None, &[])?.disrupts();
                Drift::one(Change::new(subject(&public), action).because("it is derived from sa.key").disrupting(disrupts))
            }
        })
    }

    async fn apply(&self, cx: &Context) -> Result<()> {
        let (key_path, public_path) = paths(cx);
        let (key, make) = match look(cx)? {
            Verdict::Keep => return cx.place(standing(cx)?).await.map(drop),
            Verdict::Derive(key, action) => {
                if action == Action::Mend {
                    cx.say(format!("made again: {public_path}, from sa.key"));
                }
                (key, false)
            }
            Verdict::Make(action) => {
                if action == Action::Mend {
                    cx.say(format!("made again: {key_path} was torn, and no cluster is here"));
                }
                let algorithm = cx.node.cluster.key_algorithm;
                (cx.host.blocking(move || PrivateKey::generate(algorithm)).await?, true)
            }
        };
        let public = replacing(public_path, 0o600, key.public_pem()?);
        let key = if make { Some(replacing(key_path, 0o600, key.to_pem()?.as_bytes())) } else { None };
        cx.place(key.into_iter().chain([public]).collect()).await.map(drop)
    }
}
