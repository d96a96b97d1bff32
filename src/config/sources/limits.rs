//! Which sources are asked: all of them, unless `sources:` on disk names some, or `edgeboot.source=` of the kernel command line, which
//! goes before it. Disk is where the one stands, and what `init` or `join` recorded is an operator's word: the one cannot exclude disk,
//! and neither excludes the record.

use crate::config::findings::Findings;
use crate::config::layer::Kind;
use crate::config::tree::Value;
use crate::config::{Stream, values};
use crate::host::Root;

use super::{Found, Gathered, Source, disk, kernel_command_line, recorded};

/// The sources that are asked, and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    names: Vec<String>,
    said_by: &'static str,
}

/// The names that may be written.
pub fn names() -> Vec<&'static str> {
    super::TABLE.iter().map(|source| source.name).filter(|name| *name != recorded::SOURCE.name).collect()
}

/// The name of a source that can be left out.
pub fn name(text: &str) -> Result<String, String> {
    let known: Vec<(&str, &str)> = names().into_iter().map(|name| (name, name)).collect();
    values::one_of(&known)(text).map(str::to_owned)
}

impl Limits {
    /// What `edgeboot.source=` says.
    pub fn of_command_line(root: &Root) -> Option<Limits> {
        let names = kernel_command_line::sources(root)?;
        Some(Limits { names, said_by: "`edgeboot.source=` of the kernel command line" })
    }

    /// What `sources:` on disk says.
    pub fn of_disk(gathered: &[Gathered]) -> Option<Limits> {
        // What is wrong there is found again, and told, when all is read.
        let documents = gathered.iter().filter(|gathered| matches!(gathered.found, Found::Bytes { .. })).cloned().collect();
        let stream = Stream::of(documents, &Findings::default());
        let said = stream.layer.get(Kind::Node)?.at(&["sources"])?;
        let Value::List(items) = &said.value else { return None };
        let text = |value: &Value| if let Value::Text(text, _) = value { Some(text.clone()) } else { None };
        Some(Limits { names: items.iter().filter_map(|item| text(&item.value)).collect(), said_by: "`sources:` on disk" })
    }

    /// Why a source is not asked.
    pub fn exclude(&self, source: &Source) -> Option<String> {
        let is_asked = source.name == recorded::SOURCE.name || self.names.iter().any(|name| name == source.name);
        (!is_asked).then(|| format!("{} names {}", self.said_by, self.listed()))
    }

    fn listed(&self) -> String {
        if self.names.is_empty() { disk::SOURCE.name.to_owned() + " alone" } else { self.names.join(", ") }
    }
}
