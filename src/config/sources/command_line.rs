//! Flags as a source of the same pipeline: each flag sets one field of one kind, and a finding about that field shows the flag.

use crate::config::findings::{Place, SourceId};
use crate::config::layer::Kind;
use crate::config::tree::{Key, Tree, Value};

use super::{Found, Gathered};

/// The origin of findings about flags.
pub const ORIGIN: &str = "command line";

/// A flag that was given, and the field it sets.
#[derive(Debug, Clone)]
pub struct Flag {
    /// With its dashes, for instance `--pod-network-cidr`.
    pub flag: &'static str,
    /// As it was written; empty for a switch.
    pub written: String,
    /// The kind whose field it sets.
    pub kind: Kind,
    /// The path of the field.
    pub path: &'static [&'static str],
    /// What it is set to.
    pub value: FlagValue,
}

/// What a flag sets a field to.
#[derive(Debug, Clone)]
pub enum FlagValue {
    /// A text.
    Text(String),
    /// A list of texts.
    List(Vec<String>),
    /// A number.
    Number(i64),
    /// A switch.
    Bool(bool),
    /// Names and values.
    Map(Vec<(String, String)>),
    /// A list of one mapping.
    Item(Vec<(&'static str, FlagValue)>),
}

/// The flags as documents of the stream.
pub fn gathered(flags: &[Flag]) -> Gathered {
    let mut text = String::new();
    let mut documents: Vec<(Kind, Tree)> = Vec::new();
    for (index, flag) in flags.iter().enumerate() {
        let line = if flag.written.is_empty() { flag.flag.to_owned() } else { format!("{} {}", flag.flag, flag.written) };
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let column = if flag.written.is_empty() { 1 } else { flag.flag.len() + 2 };
        let length = line.chars().count() + 1 - column;
        let place = Place { source: SourceId(0), line: small(index + 1), column: small(column), length: small(length) };
        text.push_str(&line);
        text.push('\n');
        let position = documents.iter().position(|(kind, _)| *kind == flag.kind).unwrap_or_else(|| {
            documents.push((flag.kind, header(flag.kind, place)));
            documents.len() - 1
        });
        set(&mut documents[position].1, flag.path, flag.value.clone().tree(place));
    }
    Gathered {
        origin: ORIGIN.to_owned(),
        found: Found::Documents { text, documents: documents.into_iter().map(|(_, tree)| tree).collect() },
    }
}

fn header(kind: Kind, place: Place) -> Tree {
    let mut tree = Tree::empty_map(place);
    tree.set("apiVersion", Tree::text(place, kind.api_version()));
    tree.set("kind", Tree::text(place, kind.name()));
    tree
}

fn set(tree: &mut Tree, path: &[&str], value: Tree) {
    match path {
        [] => {}
        [name] => tree.set(name, value),
        [name, rest @ ..] => {
            let mut inner = tree.take(name).map_or_else(|| Tree::empty_map(value.place), |(_, inner)| inner);
            set(&mut inner, rest, value);
            tree.set(name, inner);
        }
    }
}

impl FlagValue {
    fn tree(self, place: Place) -> Tree {
        let fields = |pairs: Vec<(String, String)>| {
            let field = |(name, value): (String, String)| (Key { name, place }, Tree::text(place, value));
            Tree { place, value: Value::Map(pairs.into_iter().map(field).collect()) }
        };
        match self {
            FlagValue::Text(text) => Tree::text(place, text),
            FlagValue::List(texts) => {
                Tree { place, value: Value::List(texts.into_iter().map(|text| Tree::text(place, text)).collect()) }
            }
            FlagValue::Number(number) => Tree { place, value: Value::Number(number.into(), number.to_string()) },
            FlagValue::Bool(value) => Tree { place, value: Value::Bool(value) },
            FlagValue::Map(pairs) => fields(pairs),
            FlagValue::Item(fields) => {
                let field = |(name, value): (&str, FlagValue)| (Key { name: name.to_owned(), place }, value.tree(place));
                let item = Tree { place, value: Value::Map(fields.into_iter().map(field).collect()) };
                Tree { place, value: Value::List(vec![item]) }
            }
        }
    }
}
