//! Reads the fields of a mapping one by one: a wrong type or value is a finding and reads as "not said"; what nobody asked for is
//! reported at the end. Types are read as strictly as kubeadm reads them, so that no file means one thing here and another there.

use std::cell::RefCell;

use super::findings::{At, Findings, Level, Place, did_you_mean};
use super::tree::{Quoted, Tree, Value, is_ambiguous_number, old_boolean};

/// The fields of one mapping.
#[derive(Debug)]
pub struct Fields<'a> {
    tree: &'a Tree,
    path: String,
    findings: &'a Findings,
    unknown: Level,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Fields<'a> {
    /// The fields of `tree`, which stands at `path` (empty for a document); unknown ones are reported with that level.
    pub fn of(tree: &'a Tree, path: &str, findings: &'a Findings, unknown: Level) -> Option<Fields<'a>> {
        match &tree.value {
            Value::Map(_) => Some(Fields { tree, path: path.to_owned(), findings, unknown, asked: RefCell::default() }),
            Value::Null => None,
            _ => {
                findings.error(tree.place, format!("`{path}` takes fields, not {}", tree.sort()));
                None
            }
        }
    }

    /// Where the mapping stands.
    pub fn place(&self) -> Place {
        self.tree.place
    }
    /// The path of a field, as findings name it.
    pub fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
    /// Where findings go.
    pub fn findings(&self) -> &'a Findings {
        self.findings
    }

    /// The field as it stands, when it is said.
    pub fn raw(&self, name: &'static str) -> Option<&'a Tree> {
        #[cfg(test)]
        ASKED.with_borrow_mut(|asked| asked.insert(self.path(name)));
        self.field(name)
    }

    fn field(&self, name: &'static str) -> Option<&'a Tree> {
        self.asked.borrow_mut().push(name);
        self.tree.field(name).filter(|tree| tree.value != Value::Null)
    }

    /// A text; an empty one is not said, as in Go.
    pub fn text(&self, name: &'static str) -> Option<At<String>> {
        let tree = self.raw(name)?;
        self.text_of(tree, &self.path(name))
    }

    /// A text that `read` accepts.
    pub fn parsed<T>(&self, name: &'static str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<At<T>> {
        let At { value, place } = self.text(name)?;
        self.accepted(name, place, read(&value))
    }

    /// A boolean; bare `yes` and `on` are such, as to kubeadm.
    pub fn flag(&self, name: &'static str) -> Option<At<bool>> {
        let tree = self.raw(name)?;
        let value = match &tree.value {
            Value::Bool(value) => Some(*value),
            Value::Text(text, Quoted::No) => old_boolean(text),
            _ => None,
        };
        if value.is_none() {
            self.wrong_sort(tree, &self.path(name), "true or false");
        }
        value.map(|value| At { value, place: tree.place })
    }

    /// A whole number that `read` accepts.
    pub fn number<T>(&self, name: &'static str, read: impl FnOnce(i64) -> Result<T, String>) -> Option<At<T>> {
        let tree = self.raw(name)?;
        let number = match &tree.value {
            Value::Number(_, written) if is_ambiguous_number(written) => {
                self.ambiguous_number(tree, written);
                return None;
            }
            Value::Number(number, _) => number.as_i64(),
            _ => None,
        };
        let Some(number) = number else {
            self.wrong_sort(tree, &self.path(name), "a whole number");
            return None;
        };
        self.accepted(name, tree.place, read(number))
    }

    /// A list of texts.
    pub fn texts(&self, name: &'static str) -> Option<At<Vec<At<String>>>> {
        let path = self.path(name);
        let At { value, place } = self.items(name)?;
        let texts = value.into_iter().filter_map(|tree| self.text_of(tree, &path)).collect();
        Some(At { value: texts, place })
    }

    /// A list of texts, each of which `read` accepts.
    pub fn texts_parsed<T>(&self, name: &'static str, read: impl Fn(&str) -> Result<T, String>) -> Option<At<Vec<T>>> {
        let At { value, place } = self.texts(name)?;
        let values = value.into_iter().filter_map(|text| self.accepted(name, text.place, read(&text.value)).map(|at| at.value));
        Some(At { value: values.collect(), place })
    }

    /// The items of a list.
    pub fn items(&self, name: &'static str) -> Option<At<Vec<&'a Tree>>> {
        let tree = self.raw(name)?;
        if let Value::List(items) = &tree.value {
            return Some(At { value: items.iter().collect(), place: tree.place });
        }
        self.wrong_sort(tree, &self.path(name), "a list");
        None
    }

    /// Reads each mapping of a list.
    pub fn sections<T>(&self, name: &'static str, read: impl Fn(&Fields<'a>) -> Option<T>) -> Option<At<Vec<T>>> {
        let At { value, place } = self.items(name)?;
        let mut read_items = Vec::new();
        for (index, tree) in value.into_iter().enumerate() {
            let Some(fields) = Fields::of(tree, &format!("{}[{index}]", self.path(name)), self.findings, self.unknown) else {
                continue;
            };
            read_items.extend(read(&fields));
            fields.finish();
        }
        Some(At { value: read_items, place })
    }

    /// Reads a mapping inside this one; `read` need not finish it.
    pub fn section<T>(&self, name: &'static str, read: impl FnOnce(&Fields<'a>) -> T) -> Option<At<T>> {
        let tree = self.raw(name)?;
        let fields = Fields::of(tree, &self.path(name), self.findings, self.unknown)?;
        let value = read(&fields);
        fields.finish();
        Some(At { value, place: tree.place })
    }

    /// All fields of this mapping, where the names are the user's (sysctls, feature gates). Each value is a text, or, since there it
    /// cannot be mistaken, a number or a boolean.
    pub fn free(&self) -> Vec<(At<String>, At<String>)> {
        let mut pairs = Vec::new();
        for (key, tree) in self.tree.fields().unwrap_or_default() {
            let text = match &tree.value {
                Value::Text(text, _) => text.clone(),
                Value::Number(_, written) if is_ambiguous_number(written) => {
                    self.ambiguous_number(tree, written);
                    continue;
                }
                Value::Number(_, written) => written.clone(),
                Value::Bool(value) => value.to_string(),
                Value::Null => String::new(),
                Value::List(_) | Value::Map(_) => {
                    self.wrong_sort(tree, &self.path(&key.name), "a text");
                    continue;
                }
            };
            let name = At { value: key.name.clone(), place: key.place };
            pairs.push((name, At { value: text, place: tree.place }));
        }
        pairs
    }

    /// A field that exists in other versions of edgeboot.
    pub fn later(&self, name: &'static str, what: &str) {
        if self.field(name).is_some() {
            self.findings
                .error(self.key_place(name), format!("`{}`: {what} is not part of this version of edgeboot", self.path(name)));
        }
    }

    /// Where the name of a field stands.
    pub fn key_place(&self, name: &str) -> Place {
        let fields = self.tree.fields().unwrap_or_default();
        fields.iter().find(|(key, _)| key.name == name).map_or(self.tree.place, |(key, _)| key.place)
    }

    /// Reports what nobody asked for.
    pub fn finish(self) {
        let asked = self.asked.into_inner();
        for (key, _) in self.tree.fields().unwrap_or_default() {
            if asked.contains(&key.name.as_str()) {
                continue;
            }
            let path = if self.path.is_empty() { key.name.clone() } else { format!("{}.{}", self.path, key.name) };
            let help = did_you_mean(&key.name, asked.iter().copied()).map(|word| format!("did you mean `{word}`?"));
            self.findings.note(self.unknown, key.place, format!("unknown field `{path}`"), help.unwrap_or_default());
        }
    }

    fn accepted<T>(&self, name: &str, place: Place, read: Result<T, String>) -> Option<At<T>> {
        match read {
            Ok(value) => Some(At { value, place }),
            Err(why) => {
                self.findings.error(place, format!("`{}`: {why}", self.path(name)));
                None
            }
        }
    }

    fn text_of(&self, tree: &Tree, path: &str) -> Option<At<String>> {
        match &tree.value {
            Value::Text(text, Quoted::No) if self.is_kubeadms() && old_boolean(text).is_some() => {
                let message = format!("`{path}` takes a text, and a bare `{text}` is a boolean to kubeadm");
                self.findings.error_with_help(tree.place, message, format!("put it in quotes: \"{text}\""));
                None
            }
            Value::Text(text, _) => (!text.is_empty()).then(|| At { value: text.clone(), place: tree.place }),
            _ => {
                self.wrong_sort(tree, path, "a text");
                None
            }
        }
    }

    /// kubeadm reads such a document too, and must find the same in it.
    fn is_kubeadms(&self) -> bool {
        self.unknown == Level::Warning
    }

    fn wrong_sort(&self, tree: &Tree, path: &str, wanted: &str) {
        let help = match &tree.value {
            Value::Number(_, written) if wanted == "a text" => format!("put it in quotes: \"{written}\""),
            Value::Bool(value) if wanted == "a text" => format!("put it in quotes: \"{value}\""),
            Value::Text(..) if wanted == "a whole number" => "write it without quotes".to_owned(),
            _ => String::new(),
        };
        self.findings.note(Level::Error, tree.place, format!("`{path}` takes {wanted}, not {}", tree.sort()), help);
    }

    fn ambiguous_number(&self, tree: &Tree, written: &str) {
        let message = format!("`{written}` is octal to old YAML and decimal to new YAML");
        self.findings.error_with_help(tree.place, message, "write it without the leading zero, or in quotes");
    }
}

#[cfg(test)]
thread_local! {
    /// The paths that were asked for.
    static ASKED: RefCell<std::collections::BTreeSet<String>> = RefCell::default();
}

/// What `read` reads, and the fields it asks for.
#[cfg(test)]
pub fn asked<T>(read: impl FnOnce() -> T) -> (T, std::collections::BTreeSet<String>) {
    ASKED.take();
    let value = read();
    (value, ASKED.take())
}

/// A tree as JSON, for what is passed through. Bare `yes`, `on` and the like are booleans, as to kubeadm.
pub fn to_json(tree: &Tree, findings: &Findings) -> serde_json::Value {
    match &tree.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Number(number, written) => {
            if is_ambiguous_number(written) {
                let message = format!("`{written}` is octal to old YAML and decimal to new YAML");
                findings.error_with_help(tree.place, message, "write it without the leading zero, or in quotes");
            }
            number.clone().into()
        }
        Value::Text(text, Quoted::No) => old_boolean(text).map_or_else(|| text.as_str().into(), Into::into),
        Value::Text(text, Quoted::Yes) => text.as_str().into(),
        Value::List(items) => items.iter().map(|item| to_json(item, findings)).collect(),
        Value::Map(fields) => {
            fields.iter().map(|(key, value)| (key.name.clone(), to_json(value, findings))).collect::<serde_json::Map<_, _>>().into()
        }
    }
}
