//! Secrets in a configuration: by value, in a file of their own, or as a credential by name. By value, the file that says it must be
//! for root alone; the other two are read here and put in their place, so that what follows knows values only.

use camino::Utf8PathBuf;

use crate::config::fields::Fields;
use crate::config::findings::{At, Findings, Level, Place, SourceText};
use crate::config::layer::{Kind, Layer};
use crate::config::node::Secret;
use crate::config::placeholders::Hidden;
use crate::config::tree::{Tree, Value};
use crate::error::{Error, Result};
use crate::host::Root;
use crate::k8s::names;

use super::{credentials, kernel_command_line, mode_of};

/// The three forms of a secret: by value, by reference, by file.
#[derive(Debug)]
pub struct Forms {
    /// What it is called where a recorded one is kept.
    pub name: &'static str,
    /// The field that holds it.
    pub value: &'static str,
    /// The field that names a credential.
    pub reference: &'static str,
    /// The field that names a file.
    pub file: &'static str,
}

/// A bootstrap token.
pub const TOKEN: Forms = Forms { name: "token", value: "token", reference: "tokenFrom", file: "tokenFile" };
/// The token that a joining machine introduces itself with.
pub const TLS_BOOTSTRAP_TOKEN: Forms = Forms {
    name: "tls-bootstrap-token",
    value: "tlsBootstrapToken",
    reference: "tlsBootstrapTokenFrom",
    file: "tlsBootstrapTokenFile",
};
/// The key of the uploaded certificates.
pub const CERTIFICATE_KEY: Forms =
    Forms { name: "certificate-key", value: "certificateKey", reference: "certificateKeyFrom", file: "certificateKeyFile" };

/// Where the secrets of a joining machine stand: the kind, the path of the mapping, the secret.
pub const OF_JOIN: &[(Kind, &[&str], &Forms)] = &[
    (Kind::Node, &["join"], &TOKEN),
    (Kind::Node, &["join"], &TLS_BOOTSTRAP_TOKEN),
    (Kind::Node, &["join"], &CERTIFICATE_KEY),
    (Kind::Join, &["discovery", "bootstrapToken"], &TOKEN),
    (Kind::Join, &["discovery"], &TLS_BOOTSTRAP_TOKEN),
    (Kind::Join, &["controlPlane"], &CERTIFICATE_KEY),
];

/// Whether a field of this name holds a secret.
pub fn is_secret(field: &str) -> bool {
    [&TOKEN, &TLS_BOOTSTRAP_TOKEN, &CERTIFICATE_KEY].iter().any(|forms| forms.value == field)
}

/// Whether a field of this name holds a secret or says where it is.
pub fn is_form(field: &str) -> bool {
    let forms = [&TOKEN, &TLS_BOOTSTRAP_TOKEN, &CERTIFICATE_KEY];
    forms.iter().any(|forms| [forms.value, forms.reference, forms.file].contains(&field))
}

/// The scheme of a reference.
const CREDENTIAL: &str = "credential:";
/// Whether a secret can do without its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needed {
    /// Each time.
    Always,
    /// Once: a machine that has joined needs it no more.
    Once,
}

/// Where secrets are looked for, and who hears what is wrong with them.
struct Desk<'a> {
    root: &'a Root,
    sources: &'a [SourceText],
    /// What came from credentials stands in no file.
    hidden: &'a Hidden,
    findings: &'a Findings,
}

/// Puts the secrets of a layer in their places. The error is that a credential which is needed is gone.
pub fn resolve(root: &Root, layer: &mut Layer, sources: &[SourceText], hidden: &Hidden, findings: &Findings) -> Result<()> {
    let desk = Desk { root, sources, hidden, findings };
    if layer.joins() {
        return resolve_join(&desk, layer);
    }
    let Some(init) = layer.get_mut(Kind::Init) else { return Ok(()) };
    let mut outcome = desk.put(init, &CERTIFICATE_KEY, Needed::Always);
    if let Some(Tree { value: Value::List(tokens), .. }) = init.field_mut("bootstrapTokens") {
        for token in tokens {
            outcome = outcome.and(desk.put(token, &TOKEN, Needed::Always));
        }
    }
    outcome
}

fn resolve_join(desk: &Desk<'_>, layer: &mut Layer) -> Result<()> {
    let mut outcome = Ok(());
    for (kind, path, forms) in OF_JOIN {
        if let Some(owner) = layer.get_mut(*kind).and_then(|tree| tree.at_mut(path)) {
            outcome = outcome.and(desk.put(owner, forms, Needed::Once));
        }
    }
    outcome
}

/// Reads a secret of a joining machine, after [`resolve`] put it in its place or found its file gone.
pub fn read<T>(
    fields: &Fields<'_>,
    forms: &Forms,
    accept: impl FnOnce(&str) -> std::result::Result<T, String>,
) -> Option<At<Secret<T>>> {
    let (reference, file) = (fields.raw(forms.reference), fields.raw(forms.file));
    let credential =
        reference.and_then(text).and_then(named).map(|name| Utf8PathBuf::from(format!("{}/{name}", names::CREDENTIALS_DIR)));
    if fields.raw(forms.value).is_some() {
        let At { value, place } = fields.parsed(forms.value, accept)?;
        return Some(At { value: Secret::Known { value, credential }, place });
    }
    let place = reference.or(file)?.place;
    let path = credential.or_else(|| file.and_then(text).map(Utf8PathBuf::from))?;
    Some(At { value: Secret::Gone { what: forms.value, path }, place })
}

impl Desk<'_> {
    fn put(&self, owner: &mut Tree, forms: &Forms, needed: Needed) -> Result<()> {
        let by_value = owner.field(forms.value).filter(|tree| tree.value != Value::Null).map(|tree| tree.place);
        if let Some(place) = by_value.filter(|place| !self.hidden.places.contains(place)) {
            judge_readers(place, forms.value, self.sources, self.findings);
        }
        let (reference, file) = (owner.field(forms.reference).cloned(), owner.field(forms.file).cloned());
        let mut said = by_value;
        for (name, form) in [(forms.reference, &reference), (forms.file, &file)] {
            let Some(tree) = form else { continue };
            if let Some(first) = said {
                let help = format!("the other stands in line {}", first.line);
                self.findings.error_with_help(tree.place, format!("`{name}` and another form of `{}` at once", forms.value), help);
                return Ok(());
            }
            said = Some(tree.place);
        }
        let (path, place, hint) = match (&reference, &file) {
            (Some(tree), _) => match credential(tree, forms, self.findings) {
                Some(name) => (self.path_of(name), tree.place, "put it there again, or say it anew"),
                None => return Ok(()),
            },
            (None, Some(tree)) => match text(tree) {
                Some(path) if path.starts_with('/') => (path.to_owned(), tree.place, "put it there, 0600"),
                _ => {
                    self.findings.error(tree.place, format!("`{}` takes an absolute path", forms.file));
                    return Ok(());
                }
            },
            (None, None) => return Ok(()),
        };
        let Some(bytes) = self.root.read(&path)? else {
            if needed == Needed::Once {
                return Ok(());
            }
            return Err(Error::rejected(format!("reading the {} from {path}", forms.value)).because("it is not there").hint(hint));
        };
        if let Some(mode) = mode_of(self.root, &path)?.filter(|mode| mode & 0o077 != 0) {
            self.findings.error_with_help(
                place,
                format!("{path} holds a secret and others can read it (mode {mode:04o})"),
                format!("chmod 0600 {path}"),
            );
        }
        owner.set(forms.value, Tree::text(place, String::from_utf8_lossy(&bytes).trim()));
        Ok(())
    }

    /// The file of a credential: systemd's, else edgeboot's own. One of systemd's that cannot be read is another unit's.
    fn path_of(&self, name: &str) -> String {
        credentials::find(self.root, name).unwrap_or_else(|| format!("{}/{name}", names::CREDENTIALS_DIR))
    }
}

fn text(tree: &Tree) -> Option<&str> {
    match &tree.value {
        Value::Text(text, _) => Some(text),
        _ => None,
    }
}

/// The name in `credential:NAME`.
fn credential<'a>(tree: &'a Tree, forms: &Forms, findings: &Findings) -> Option<&'a str> {
    let name = text(tree).and_then(named);
    if name.is_none() {
        findings.error(tree.place, format!("`{}` takes `{CREDENTIAL}NAME`", forms.reference));
    }
    name
}

fn named(reference: &str) -> Option<&str> {
    let plain = |name: &&str| {
        !name.is_empty() && !name.starts_with('.') && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    reference.strip_prefix(CREDENTIAL).filter(plain)
}

/// A secret by value in a file that others can read is no secret.
fn judge_readers(place: Place, what: &str, sources: &[SourceText], findings: &Findings) {
    let Some(source) = sources.get(place.source.0) else { return };
    let Some(mode) = source.mode.filter(|mode| mode & 0o077 != 0) else { return };
    if source.is_public {
        let message = format!("the kernel command line holds a secret (`{what}`), and every process can read it");
        findings.error_with_help(place, message, kernel_command_line::SECRET_HELP);
        return;
    }
    let message = format!("{} holds a secret (`{what}`) and others can read it (mode {mode:04o})", source.name);
    let level: Level = source.when_readable;
    findings.note(level, place, message, format!("chmod 0600 {}", source.name));
}
