//! Secrets in a configuration: by value, in a file of their own, or as a credential by name. By value, the file that says it must be
//! for root alone; the other two are read here and put in their place, so that what follows knows values only.

use crate::config::findings::{Findings, Level, Place, SourceText};
use crate::config::layer::{Kind, Layer};
use crate::config::tree::{Tree, Value};
use crate::error::{Error, Result};
use crate::host::Root;
use crate::k8s::names;

use super::mode_of;

/// The three forms of a secret: by value, by reference, by file.
struct Forms {
    value: &'static str,
    reference: &'static str,
    file: &'static str,
}

const TOKEN: Forms = Forms { value: "token", reference: "tokenFrom", file: "tokenFile" };
const CERTIFICATE_KEY: Forms = Forms { value: "certificateKey", reference: "certificateKeyFrom", file: "certificateKeyFile" };

/// The scheme of a reference.
const CREDENTIAL: &str = "credential:";

/// Puts the secrets of a layer in their places. The error is that a credential which is needed is gone.
pub fn resolve(root: &Root, layer: &mut Layer, sources: &[SourceText], findings: &Findings) -> Result<()> {
    let mut outcome = Ok(());
    if let Some(init) = layer.get_mut(Kind::Init) {
        outcome = put(root, init, &CERTIFICATE_KEY, sources, findings);
        if let Some(Tree { value: Value::List(tokens), .. }) = init.field_mut("bootstrapTokens") {
            for token in tokens {
                outcome = outcome.and(put(root, token, &TOKEN, sources, findings));
            }
        }
    }
    outcome
}

fn put(root: &Root, owner: &mut Tree, forms: &Forms, sources: &[SourceText], findings: &Findings) -> Result<()> {
    let by_value = owner.field(forms.value).filter(|tree| tree.value != Value::Null).map(|tree| tree.place);
    if let Some(place) = by_value {
        judge_readers(place, forms.value, sources, findings);
    }
    let (reference, file) = (owner.field(forms.reference).cloned(), owner.field(forms.file).cloned());
    let mut said = by_value;
    for (name, form) in [(forms.reference, &reference), (forms.file, &file)] {
        let Some(tree) = form else { continue };
        if let Some(first) = said {
            let help = format!("the other stands in line {}", first.line);
            findings.error_with_help(tree.place, format!("`{name}` and another form of `{}` at once", forms.value), help);
            return Ok(());
        }
        said = Some(tree.place);
    }
    let (path, place, hint) = match (&reference, &file) {
        (Some(tree), _) => match credential(tree, forms, findings) {
            Some(name) => (format!("{}/{name}", names::CREDENTIALS_DIR), tree.place, "put it there again, or say it anew"),
            None => return Ok(()),
        },
        (None, Some(tree)) => match text(tree) {
            Some(path) if path.starts_with('/') => (path.to_owned(), tree.place, "put it there, 0600"),
            _ => {
                findings.error(tree.place, format!("`{}` takes an absolute path", forms.file));
                return Ok(());
            }
        },
        (None, None) => return Ok(()),
    };
    let Some(bytes) = root.read(&path)? else {
        return Err(Error::rejected(format!("reading the {} from {path}", forms.value)).because("it is not there").hint(hint));
    };
    if let Some(mode) = mode_of(root, &path)?.filter(|mode| mode & 0o077 != 0) {
        findings.error_with_help(
            place,
            format!("{path} holds a secret and others can read it (mode {mode:04o})"),
            format!("chmod 0600 {path}"),
        );
    }
    owner.set(forms.value, Tree::text(place, String::from_utf8_lossy(&bytes).trim()));
    Ok(())
}

fn text(tree: &Tree) -> Option<&str> {
    match &tree.value {
        Value::Text(text, _) => Some(text),
        _ => None,
    }
}

/// The name in `credential:NAME`.
fn credential<'a>(tree: &'a Tree, forms: &Forms, findings: &Findings) -> Option<&'a str> {
    let plain = |name: &&str| {
        !name.is_empty() && !name.starts_with('.') && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    let name = text(tree).and_then(|text| text.strip_prefix(CREDENTIAL)).filter(plain);
    if name.is_none() {
        findings.error(tree.place, format!("`{}` takes `{CREDENTIAL}NAME`", forms.reference));
    }
    name
}

/// A secret by value in a file that others can read is no secret.
fn judge_readers(place: Place, what: &str, sources: &[SourceText], findings: &Findings) {
    let Some(source) = sources.get(place.source.0) else { return };
    let Some(mode) = source.mode.filter(|mode| mode & 0o077 != 0) else { return };
    let message = format!("{} holds a secret (`{what}`) and others can read it (mode {mode:04o})", source.name);
    let level: Level = source.when_readable;
    findings.note(level, place, message, format!("chmod 0600 {}", source.name));
}
