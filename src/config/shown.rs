//! A configuration for people and editors: the documents as they were said, over all sources, each field with its origin, and without
//! the secrets.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::fields::to_json;
use super::findings::{Findings, Place, REDACTED, SourceText, looks_secret, without_secrets};
use super::layer::{Kind, Layer};
use super::placeholders::Hidden;
use super::schema;
use super::sources::secrets;
use super::tree::{Tree, Value};

/// Fields of kinds that are passed through, which hold a secret.
const SECRET_FIELDS: [&str; 1] = ["staticPodURLHeader"];

/// What is shown.
#[derive(Debug, Default)]
pub struct Shown {
    /// Each document, with its `apiVersion` and `kind`.
    pub documents: Vec<(Kind, Json)>,
    /// Where each field was said: `Kind.path` to `file:line:column`.
    pub origins: BTreeMap<String, String>,
}

impl Shown {
    /// What a layer says.
    pub fn of(layer: &Layer, texts: &[SourceText], hidden: &Hidden) -> Shown {
        // What is wrong is told when it is judged.
        let findings = Findings::default();
        let document = |(kind, tree): &(Kind, Tree)| {
            let mut tree = tree.clone();
            redact(&mut tree, hidden);
            if *kind == Kind::Node {
                schema::quote_texts(&mut tree);
            }
            let mut said = with_header(*kind);
            if let Json::Object(fields) = to_json(&tree, &findings) {
                said.extend(fields);
            }
            (*kind, Json::Object(said))
        };
        Shown { documents: layer.documents().iter().map(document).collect(), origins: origins(layer, texts) }
    }

    /// The same with what nobody said, from `defaults`.
    #[must_use]
    pub fn completed(mut self, defaults: Vec<Json>) -> Shown {
        for default in defaults {
            let kind = default.get("kind").and_then(Json::as_str).unwrap_or_default().to_owned();
            match self.documents.iter_mut().find(|(known, _)| known.name() == kind) {
                Some((_, said)) => complete(said, default),
                None => self.documents.extend(Kind::named(&kind).map(|kind| (kind, default))),
            }
        }
        self
    }

    /// Each field that has a value: its path, the value, and where it was said.
    pub fn lines(&self) -> Vec<(String, String, String)> {
        let mut lines = Vec::new();
        for (kind, document) in &self.documents {
            self.flatten(kind.name(), document, &mut lines);
        }
        lines
    }

    fn flatten(&self, path: &str, value: &Json, lines: &mut Vec<(String, String, String)>) {
        if let Json::Object(fields) = value
            && !fields.is_empty()
        {
            for (name, value) in fields.iter().filter(|(name, _)| !matches!(name.as_str(), "apiVersion" | "kind")) {
                self.flatten(&format!("{path}.{name}"), value, lines);
            }
            return;
        }
        let text = match value {
            Json::String(text) if !text.contains('\n') => text.clone(),
            other => other.to_string(),
        };
        let origin = self.origins.get(path).cloned().unwrap_or_else(|| "default".to_owned());
        lines.push((path.to_owned(), text, origin));
    }
}

fn with_header(kind: Kind) -> Map<String, Json> {
    let fields = [("apiVersion", kind.api_version()), ("kind", kind.name().to_owned())];
    fields.into_iter().map(|(name, text)| (name.to_owned(), text.into())).collect()
}

/// Adds what is not said.
fn complete(said: &mut Json, default: Json) {
    match (said, default) {
        (Json::Object(said), Json::Object(default)) => {
            for (name, value) in default {
                match said.get_mut(&name) {
                    Some(field) => complete(field, value),
                    None => drop(said.insert(name, value)),
                }
            }
        }
        (said @ Json::Null, default) => *said = default,
        _ => {}
    }
}

fn redact(tree: &mut Tree, hidden: &Hidden) {
    let place = tree.place;
    match &mut tree.value {
        Value::List(items) => items.iter_mut().for_each(|item| redact(item, hidden)),
        Value::Map(fields) => {
            for (key, value) in fields {
                let is_secret = secrets::is_secret(&key.name) || SECRET_FIELDS.contains(&key.name.as_str());
                if is_secret && value.value != Value::Null {
                    *value = Tree::text(value.place, REDACTED);
                } else {
                    redact(value, hidden);
                }
            }
        }
        Value::Text(text, _) if hidden.places.contains(&place) || looks_secret(text) => *tree = Tree::text(place, REDACTED),
        Value::Text(text, _) if text.contains('\n') => *text = without_secrets(text),
        _ => {}
    }
}

/// Where each field was said.
pub fn origins(layer: &Layer, texts: &[SourceText]) -> BTreeMap<String, String> {
    let mut origins = BTreeMap::new();
    for (kind, tree) in layer.documents() {
        note_origins(tree, kind.name(), texts, &mut origins);
    }
    origins
}

fn note_origins(tree: &Tree, path: &str, texts: &[SourceText], origins: &mut BTreeMap<String, String>) {
    if let Value::Map(fields) = &tree.value {
        for (key, value) in fields {
            note_origins(value, &format!("{path}.{}", key.name), texts, origins);
        }
        return;
    }
    let Place { source, line, column, .. } = tree.place;
    let origin = match texts.get(source.0) {
        Some(text) if text.numbered => format!("{}:{line}:{column}", text.name),
        Some(text) => text.name.clone(),
        None => return,
    };
    origins.insert(path.to_owned(), origin);
}
