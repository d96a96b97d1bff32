//! What `edgeboot init` or `edgeboot join` was told, recorded so that every later boot wishes the same. It holds no secret: those lie beside it, 0600, and
//! are referred to by name.

use crate::config::findings::Findings;
use crate::config::layer::{Kind, Layer};
use crate::config::tree::{Tree, Value};
use crate::host::Root;
use crate::host::root::Placement;
use crate::k8s::names;

use super::secrets::{CERTIFICATE_KEY, Forms, OF_JOIN, TOKEN};
use super::{Gathered, Sort, Source, file};

/// Where it is recorded: in one place, since a later command takes the place of an earlier one.
pub const RECORDED: &str = "/var/lib/edgeboot/recorded/wish.yaml";

/// The source.
pub const SOURCE: Source = Source { name: "recorded", looks_for: &[RECORDED], gather };

fn gather(root: &Root) -> Vec<Gathered> {
    vec![file(root, RECORDED, Sort::Main)]
}

/// What is to be placed so that later boots wish the same: credentials first, then the stream that refers to them.
#[derive(Debug)]
pub struct Recording {
    /// Groups for [`Root::put_groups`]; all 0600.
    pub groups: Vec<Vec<Placement>>,
}

/// Records what a command was told. Secrets become credentials, named by what they are.
pub fn record(told: &Layer) -> Recording {
    let mut told = told.clone();
    let mut credentials = Vec::new();
    if let Some(init) = told.get_mut(Kind::Init) {
        hide(init, &CERTIFICATE_KEY, "init-certificate-key", &mut credentials);
        if let Some(Tree { value: Value::List(tokens), .. }) = init.field_mut("bootstrapTokens") {
            for (index, token) in tokens.iter_mut().enumerate() {
                hide(token, &TOKEN, &format!("init-token-{index}"), &mut credentials);
            }
        }
    }
    for (kind, path, forms) in OF_JOIN {
        if let Some(owner) = told.get_mut(*kind).and_then(|tree| tree.at_mut(path)) {
            hide(owner, forms, &format!("recorded-{}", forms.name), &mut credentials);
        }
    }
    let text = told.texts(&Findings::default()).join("---\n");
    let stream = Placement { path: RECORDED.into(), mode: 0o600, bytes: text.into_bytes() };
    Recording { groups: vec![credentials, vec![stream]] }
}

/// Whether a credential of this name was made by [`record`].
pub fn is_recorded_credential(name: &str) -> bool {
    ["init-certificate-key", "init-token-", "recorded-"].iter().any(|start| name.starts_with(start))
}

/// Moves a secret out of `owner` into a credential.
fn hide(owner: &mut Tree, forms: &Forms, name: &str, credentials: &mut Vec<Placement>) {
    let Some((_, Tree { place, value: Value::Text(secret, _) })) = owner.take(forms.value) else { return };
    owner.take(forms.file);
    owner.set(forms.reference, Tree::text(place, format!("credential:{name}")));
    let path = format!("{}/{name}", names::CREDENTIALS_DIR);
    credentials.push(Placement { path: path.into(), mode: 0o600, bytes: secret.into_bytes() });
}
