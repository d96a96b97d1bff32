//! `edgeboot config schema` and `edgeboot config explain`: the table of NodeConfig's fields, for editors and for people.

use std::fmt::Write as _;

use clap::Args;
use serde_json::{Value, json};

use crate::config::findings::did_you_mean;
use crate::config::schema::{FIELDS, Field, Takes, find, inside, json_schema};
use crate::error::{Error, Result};

use super::super::{Global, Output, print, print_value, table};

/// `edgeboot config explain`.
#[derive(Debug, Clone, Args)]
pub struct Explain {
    /// The field, with dots: for instance `join.tokenFrom`.
    #[arg(value_name = "FIELD")]
    field: Option<String>,
}

/// Prints the schema: JSON, unless YAML is asked for.
pub fn print_schema(global: &Global) -> Result<()> {
    let output = if global.output == Output::Yaml { Output::Yaml } else { Output::Json };
    print_value(output, &json_schema())
}

impl Explain {
    /// Prints what is known of it.
    pub fn run(&self, global: &Global) -> Result<()> {
        let Some(path) = self.field.as_deref().filter(|path| *path != "NodeConfig") else {
            match global.output {
                Output::Text => print(&overview(FIELDS.iter())),
                output => print_value(output, &FIELDS.iter().map(value).collect::<Vec<_>>())?,
            }
            return Ok(());
        };
        let field = find(path).ok_or_else(|| unknown(path))?;
        match global.output {
            Output::Text => print(&text(field)),
            output => print_value(output, &value(field))?,
        }
        Ok(())
    }
}

fn unknown(path: &str) -> Error {
    let error = Error::usage(format!("explaining {path}")).because("NodeConfig has no such field");
    let last = path.rsplit_once('.').map_or(path, |(_, name)| name);
    let meant = did_you_mean(path, FIELDS.iter().map(|field| field.path)).map(str::to_owned);
    let meant = meant.or_else(|| FIELDS.iter().find(|field| field.name() == last).map(|field| field.path.to_owned()));
    error.hint(match meant {
        Some(known) => format!("did you mean `{known}`?"),
        None => "`edgeboot config explain` lists all of them; kubeadm's kinds are explained where kubeadm is".to_owned(),
    })
}

fn overview<'a>(fields: impl Iterator<Item = &'a Field>) -> String {
    let takes: Vec<(&Field, String)> = fields.map(|field| (field, field.takes.words())).collect();
    let mut rows = vec![vec!["FIELD", "TAKES", "DEFAULT"]];
    rows.extend(takes.iter().map(|(field, takes)| vec![field.path, takes.as_str(), field.default]));
    table::render(&rows)
}

fn text(field: &Field) -> String {
    let mut text = format!("{}: {}\n\n  {}\n", field.path, field.takes.words(), field.meaning);
    if !field.default.is_empty() {
        let _ = write!(text, "\ndefault: {}", field.default);
    }
    if field.takes == Takes::Fields {
        let _ = write!(text, "\n{}", overview(inside(field.path)));
    } else {
        let _ = write!(text, "\nexample: {}", field.written());
    }
    text
}

fn value(field: &Field) -> Value {
    json!({
        "field": field.path, "takes": field.takes.words(), "default": field.default, "meaning": field.meaning,
        "example": if field.takes == Takes::Fields { String::new() } else { field.written() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_explained_and_one_that_is_misspelt_is_found() {
        let explained = text(find("NodeConfig.onMissing.after").expect("a field"));
        let expected = "onMissing.after: a duration such as 1m30s\n\n  How long `action: fail` waits.\n\ndefault: 5m\nexample: onMissing: {after: 10m}";
        assert_eq!(explained, expected);
        let explained = text(find("host.time").expect("a field"));
        assert!(explained.contains("host.time.wait") && explained.contains("host.time.offline"), "{explained}");
        for (path, meant) in [("join.tokenForm", "`join.tokenFrom`"), ("tokenFile", "`join.tokenFile`"), ("xyz", "lists all")] {
            let error = unknown(path);
            assert!(error.remedy().is_some_and(|hint| hint.contains(meant)), "{path}: {error}");
        }
    }
}
