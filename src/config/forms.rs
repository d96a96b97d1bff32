//! Things that can be said in several forms: a secret by value, by name or in a file; where to join in NodeConfig's short form or in
//! kubeadm's JoinConfiguration. Inside a source two forms of one thing are a finding; across sources the higher one replaces the lower
//! one, whatever their forms.

use super::findings::Findings;
use super::layer::{Kind, Layer};
use super::tree::{Tree, Value};

/// Fields of one mapping that say the same thing.
const FORMS: &[&[&str]] = &[
    &["token", "tokenFrom", "tokenFile"],
    &["certificateKey", "certificateKeyFrom", "certificateKeyFile"],
    &["local", "external"],
];

/// A field, by kind and path.
pub type Word = (Kind, &'static [&'static str]);

/// The API servers by which the cluster is found.
pub const ENDPOINTS: &[Word] =
    &[(Kind::Node, &["join", "endpoints"]), (Kind::Join, &["discovery", "bootstrapToken", "apiServerEndpoint"])];
/// The kubeconfig by which it is found instead.
pub const FILE: &[Word] = &[(Kind::Node, &["join", "discoveryFile"]), (Kind::Join, &["discovery", "file"])];
/// Everything that belongs to finding it by its API servers.
const BY_TOKEN: &[Word] = &[
    (Kind::Node, &["join", "endpoints"]),
    (Kind::Node, &["join", "token"]),
    (Kind::Node, &["join", "tokenFrom"]),
    (Kind::Node, &["join", "tokenFile"]),
    (Kind::Node, &["join", "caCertHashes"]),
    (Kind::Node, &["join", "unsafeSkipCAVerification"]),
    (Kind::Join, &["discovery", "bootstrapToken"]),
];
/// What is replaced together: when a higher source says any of the first, the lower ones lose all of the second.
const REPLACED: &[(&[Word], &[Word])] = &[
    (ENDPOINTS, ENDPOINTS),
    (ENDPOINTS, FILE),
    (FILE, FILE),
    (FILE, BY_TOKEN),
    (TOKEN, TOKEN),
    (HASHES, HASHES),
    (UNSAFE, UNSAFE),
    (TLS_BOOTSTRAP_TOKEN, TLS_BOOTSTRAP_TOKEN),
    (CERTIFICATE_KEY, CERTIFICATE_KEY),
];
/// The token that signs what the cluster says of itself.
pub const TOKEN: &[Word] = &[
    (Kind::Node, &["join", "token"]),
    (Kind::Node, &["join", "tokenFrom"]),
    (Kind::Node, &["join", "tokenFile"]),
    (Kind::Join, &["discovery", "bootstrapToken", "token"]),
    (Kind::Join, &["discovery", "bootstrapToken", "tokenFrom"]),
    (Kind::Join, &["discovery", "bootstrapToken", "tokenFile"]),
];
/// The hashes of its CA.
pub const HASHES: &[Word] =
    &[(Kind::Node, &["join", "caCertHashes"]), (Kind::Join, &["discovery", "bootstrapToken", "caCertHashes"])];
const UNSAFE: &[Word] = &[
    (Kind::Node, &["join", "unsafeSkipCAVerification"]),
    (Kind::Join, &["discovery", "bootstrapToken", "unsafeSkipCAVerification"]),
];
const TLS_BOOTSTRAP_TOKEN: &[Word] = &[
    (Kind::Node, &["join", "tlsBootstrapToken"]),
    (Kind::Node, &["join", "tlsBootstrapTokenFrom"]),
    (Kind::Node, &["join", "tlsBootstrapTokenFile"]),
    (Kind::Join, &["discovery", "tlsBootstrapToken"]),
    (Kind::Join, &["discovery", "tlsBootstrapTokenFrom"]),
    (Kind::Join, &["discovery", "tlsBootstrapTokenFile"]),
];
const CERTIFICATE_KEY: &[Word] = &[
    (Kind::Node, &["join", "certificateKey"]),
    (Kind::Node, &["join", "certificateKeyFrom"]),
    (Kind::Node, &["join", "certificateKeyFile"]),
    (Kind::Join, &["controlPlane", "certificateKey"]),
    (Kind::Join, &["controlPlane", "certificateKeyFrom"]),
    (Kind::Join, &["controlPlane", "certificateKeyFile"]),
];

/// Whether these are two forms of one thing.
pub fn is_other_form(one: &str, other: &str) -> bool {
    one != other && FORMS.iter().any(|forms| forms.contains(&one) && forms.contains(&other))
}

/// Whether something is said, right or wrong; an empty text or list says nothing.
pub fn is_told(layer: &Layer, words: &[Word]) -> bool {
    let says = |tree: &Tree| match &tree.value {
        Value::Text(text, _) => !text.is_empty(),
        Value::List(items) => !items.is_empty(),
        _ => true,
    };
    words.iter().filter_map(|word| find(layer, word)).any(says)
}

/// Takes out of `lower` what `higher` says in any form.
pub fn drop_replaced(lower: &mut Layer, higher: &Layer) {
    for (_, lost) in REPLACED.iter().filter(|(said, _)| said.iter().any(|word| is_said(higher, word))) {
        for (kind, path) in *lost {
            if let Some(tree) = lower.get_mut(*kind) {
                tree.take_at(path);
            }
        }
    }
}

/// Inside one source, the short form and kubeadm's exclude each other.
pub fn refuse_both(layer: &Layer, findings: &Findings) {
    let discovery = [ENDPOINTS, FILE, TOKEN, HASHES, UNSAFE, TLS_BOOTSTRAP_TOKEN];
    let both: [&[&[Word]]; 2] = [&discovery, &[CERTIFICATE_KEY]];
    for words in both {
        let said = |of: Kind| words.iter().flat_map(|words| words.iter()).find(|word| word.0 == of && is_said(layer, word));
        let (Some(short), Some(long)) = (said(Kind::Node), said(Kind::Join)) else { continue };
        let (Some(short_tree), Some(long_tree)) = (find(layer, short), find(layer, long)) else { continue };
        findings.error_with_help(
            long_tree.place,
            format!("`{}` of JoinConfiguration and `{}` of NodeConfig say the same thing", long.1.join("."), short.1.join(".")),
            format!("the other stands in line {}: say it in one of the two", short_tree.place.line),
        );
    }
}

fn find<'a>(layer: &'a Layer, (kind, path): &Word) -> Option<&'a Tree> {
    layer.get(*kind)?.at(path)
}

fn is_said(layer: &Layer, word: &Word) -> bool {
    find(layer, word).is_some()
}
