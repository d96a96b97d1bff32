//! A YAML (or JSON) stream as values that know where they stand. Typed reading would stop at the first surprise; a tree lets every
//! finding be told at once, and lets layers be merged field by field while each value remembers its file, line and column.

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::findings::{Findings, Place, SourceId};

/// Larger files are not configuration; they are refused before they are parsed.
pub const MAX_BYTES: usize = 1 << 20;
/// Deeper documents are not configuration either.
const MAX_DEPTH: usize = 48;
/// Documents and nodes a stream may have.
const MAX_DOCUMENTS: usize = 64;
const MAX_NODES: usize = 50_000;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    /// Where it stands.
    pub place: Place,
    /// What it is.
    pub value: Value,
}

/// What a YAML node can be.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`, `~` or nothing: as if it were not said.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, with its text as written.
    Number(serde_json::Number, String),
    /// A text, and whether it stood in quotes or in a block (then nobody can take it for anything else).
    Text(String, Quoted),
    /// A list.
    List(Vec<Tree>),
    /// Fields in their order.
    Map(Vec<(Key, Tree)>),
}

/// Whether a text was marked as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quoted {
    /// In quotes or a block.
    Yes,
    /// Bare: older YAML may take `on` for a boolean.
    No,
}

/// A field's name and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// The name.
    pub name: String,
    /// Where it stands.
    pub place: Place,
}

impl Tree {
    /// A text at a place.
    pub fn text(place: Place, text: impl Into<String>) -> Tree {
        Tree { place, value: Value::Text(text.into(), Quoted::Yes) }
    }
    /// No fields yet.
    pub fn empty_map(place: Place) -> Tree {
        Tree { place, value: Value::Map(Vec::new()) }
    }
    /// Its fields, where it has such.
    pub fn fields(&self) -> Option<&[(Key, Tree)]> {
        match &self.value {
            Value::Map(fields) => Some(fields),
            _ => None,
        }
    }
    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<&Tree> {
        self.fields()?.iter().find(|(key, _)| key.name == name).map(|(_, tree)| tree)
    }
    /// The field of that name, to be changed.
    pub fn field_mut(&mut self, name: &str) -> Option<&mut Tree> {
        match &mut self.value {
            Value::Map(fields) => fields.iter_mut().find(|(key, _)| key.name == name).map(|(_, tree)| tree),
            _ => None,
        }
    }
    /// The field at the end of that path, when it is said.
    pub fn at(&self, path: &[&str]) -> Option<&Tree> {
        path.iter().try_fold(self, |tree, name| tree.field(name)).filter(|tree| tree.value != Value::Null)
    }
    /// The field at the end of that path, to be changed.
    pub fn at_mut(&mut self, path: &[&str]) -> Option<&mut Tree> {
        path.iter().try_fold(self, |tree, name| tree.field_mut(name))
    }
    /// Takes the field at the end of that path out.
    pub fn take_at(&mut self, path: &[&str]) -> Option<(Key, Tree)> {
        let (last, parents) = path.split_last()?;
        self.at_mut(parents)?.take(last)
    }
    /// Takes the field of that name out.
    pub fn take(&mut self, name: &str) -> Option<(Key, Tree)> {
        let Value::Map(fields) = &mut self.value else { return None };
        let index = fields.iter().position(|(key, _)| key.name == name)?;
        Some(fields.remove(index))
    }
    /// Sets a field, at its old position when there is one. What is no map becomes one.
    pub fn set(&mut self, name: &str, tree: Tree) {
        if !matches!(self.value, Value::Map(_)) {
            self.value = Value::Map(Vec::new());
        }
        let Value::Map(fields) = &mut self.value else { return };
        match fields.iter_mut().find(|(key, _)| key.name == name) {
            Some((_, old)) => *old = tree,
            None => fields.push((Key { name: name.to_owned(), place: tree.place }, tree)),
        }
    }
    /// The same tree in another source.
    #[must_use]
    pub fn moved_to(self, source: SourceId) -> Tree {
        let moved = |place: Place| Place { source, ..place };
        let value = match self.value {
            Value::List(items) => Value::List(items.into_iter().map(|item| item.moved_to(source)).collect()),
            Value::Map(fields) => {
                let field = |(key, tree): (Key, Tree)| (Key { place: moved(key.place), ..key }, tree.moved_to(source));
                Value::Map(fields.into_iter().map(field).collect())
            }
            scalar => scalar,
        };
        Tree { place: moved(self.place), value }
    }
    /// The value as a finding calls it.
    pub fn sort(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Number(..) => "a number",
            Value::Text(..) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "fields",
        }
    }
}

/// What YAML 1.1, and so kubeadm, takes for a boolean although YAML 1.2 calls it a text.
pub fn old_boolean(text: &str) -> Option<bool> {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

/// A number that old and new YAML read differently: `0644` is 420 to one and 644 to the other.
pub fn is_ambiguous_number(text: &str) -> bool {
    let digits = text.trim_start_matches(['-', '+']);
    digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_')
}

/// The documents of a stream. What is not YAML is a finding, and an empty list.
pub fn parse(source: SourceId, text: &str, findings: &Findings) -> Vec<Tree> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_documents: MAX_DOCUMENTS,
            max_nodes: MAX_NODES,
            max_events: 4 * MAX_NODES,
            max_aliases: 1_000,
            max_anchors: 1_000,
        },
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    match serde_saphyr::from_multiple_with_options::<Raw>(text, options) {
        Ok(documents) => documents.into_iter().map(|raw| raw.into_tree(source, text)).collect(),
        Err(error) => {
            let place = error.location().map_or(Place::whole(source), |location| place_of(source, location));
            findings.error(place, why(&error));
            Vec::new()
        }
    }
}

/// What the parser says, without the place, which the finding shows, and without advice for programmers.
fn why(error: &serde_saphyr::Error) -> String {
    if let serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } = error.without_snippet() {
        return format!("this is not valid YAML: `{key}` stands twice in the same mapping");
    }
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    let line = line.split_once(" at line ").map_or(line, |(what, _)| what);
    format!("this is not valid YAML: {line}")
}

fn place_of(source: SourceId, location: Location) -> Place {
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Place { source, line: small(location.line()), column: small(location.column()), length: small(location.span().len()) }
}

/// A node as the parser gives it.
#[derive(Debug)]
struct Raw(Spanned<RawValue>);

#[derive(Debug)]
enum RawValue {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Raw>),
    Map(Vec<(Spanned<String>, Raw)>),
}

impl Raw {
    fn into_tree(self, source: SourceId, text: &str) -> Tree {
        let place = place_of(source, self.0.referenced);
        let written = written(text, self.0.defined);
        let value = match self.0.value {
            RawValue::Null => Value::Null,
            RawValue::Bool(value) => Value::Bool(value),
            RawValue::Number(number) => Value::Number(number, written.to_owned()),
            RawValue::Text(value) => {
                let quoted = if written == value { Quoted::No } else { Quoted::Yes };
                Value::Text(value, quoted)
            }
            RawValue::List(items) => Value::List(items.into_iter().map(|item| item.into_tree(source, text)).collect()),
            RawValue::Map(fields) => Value::Map(
                fields
                    .into_iter()
                    .map(|(key, raw)| {
                        (Key { place: place_of(source, key.referenced), name: key.value }, raw.into_tree(source, text))
                    })
                    .collect(),
            ),
        };
        Tree { place, value }
    }
}

/// A scalar as it stands in the file.
fn written(text: &str, location: Location) -> &str {
    let span = location.span();
    let slice = || {
        let start = usize::try_from(span.byte_offset()?).ok()?;
        let end = start.checked_add(usize::try_from(span.byte_len()?).ok()?)?;
        text.get(start..end)
    };
    slice().unwrap_or_default()
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Raw)
    }
}

impl<'de> Deserialize<'de> for RawValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = RawValue;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any value")
    }
    fn visit_unit<E>(self) -> Result<RawValue, E> {
        Ok(RawValue::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<RawValue, E> {
        Ok(RawValue::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<RawValue, E> {
        Ok(RawValue::Number(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<RawValue, E> {
        Ok(RawValue::Number(value.into()))
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<RawValue, E> {
        serde_json::Number::from_f64(value).map(RawValue::Number).ok_or_else(|| E::custom("a number must be finite"))
    }
    fn visit_str<E>(self, value: &str) -> Result<RawValue, E> {
        Ok(RawValue::Text(value.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<RawValue, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(RawValue::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<RawValue, A::Error> {
        let mut fields = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            fields.push(entry);
        }
        Ok(RawValue::Map(fields))
    }
}
