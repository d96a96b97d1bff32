//! Where configuration comes from, low to high. Each source answers for itself what it found: something, nothing, or that looking
//! failed, and why; a source that failed blocks making a cluster, one that is absent does not. A further source is one file here and
//! one row in [`TABLE`].

pub mod command_line;
pub mod credentials;
pub mod disk;
pub mod facts;
pub mod kernel_command_line;
pub mod limits;
pub mod recorded;
pub mod secrets;

use std::fmt;
use std::time::{Duration, Instant};

use crate::host::Root;

use super::findings::Place;
use super::tree::Tree;

use limits::Limits;

/// A source: its name, what it looks for (for people), and how it looks.
#[derive(Debug)]
pub struct Source {
    /// For `sources:` and messages.
    pub name: &'static str,
    /// The places it looks at.
    pub looks_for: &'static [&'static str],
    /// Looks.
    pub gather: fn(&Root) -> Vec<Gathered>,
}

/// All sources, low to high.
pub const TABLE: &[&Source] = &[&disk::SOURCE, &credentials::SOURCE, &kernel_command_line::SOURCE, &recorded::SOURCE];

/// What a source answered.
#[derive(Debug)]
pub struct Answer {
    /// Which source.
    pub source: &'static Source,
    /// Its places, low to high.
    pub gathered: Vec<Gathered>,
    /// How long it took.
    pub took: Duration,
}

/// Asks every source that is to be asked, low to high.
pub fn survey(root: &Root) -> Vec<Answer> {
    let by_command_line = Limits::of_command_line(root);
    let mut limits = by_command_line.clone();
    let mut answers = Vec::new();
    for source in TABLE {
        let begun = Instant::now();
        let gathered = match limits.as_ref().and_then(|limits| limits.exclude(source)) {
            Some(why) => source.skipped(root, why),
            None => (source.gather)(root),
        };
        if source.name == disk::SOURCE.name && by_command_line.is_none() {
            limits = Limits::of_disk(&gathered);
        }
        answers.push(Answer { source, gathered, took: begun.elapsed() });
    }
    answers
}

impl Source {
    /// What it says where it is not to be asked: a wrong word on the kernel command line stays wrong.
    fn skipped(&self, root: &Root, why: String) -> Vec<Gathered> {
        let mut gathered = vec![Gathered { origin: self.name.to_owned(), found: Found::Skipped(why) }];
        if self.name == kernel_command_line::SOURCE.name {
            gathered.extend(kernel_command_line::refused(root));
        }
        gathered
    }
}

/// What one place answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Gathered {
    /// The path, or for instance `command line`.
    pub origin: String,
    /// What is there.
    pub found: Found,
}

/// What a place holds.
#[derive(Clone, PartialEq)]
pub enum Found {
    /// A stream of documents.
    Bytes {
        /// YAML or JSON.
        bytes: Vec<u8>,
        /// Permission bits.
        mode: Option<u32>,
        /// What sort of file it is.
        sort: Sort,
    },
    /// Documents that were never YAML: flags.
    Documents {
        /// A text whose lines the documents' places refer to.
        text: String,
        /// The documents; their places are in source 0 until they are gathered.
        documents: Vec<Tree>,
    },
    /// Nothing.
    Absent,
    /// It could not be told whether there is something.
    Failed(String),
    /// It was not asked, and why.
    Skipped(String),
    /// Something that is no document, and what is wrong with it.
    Refused {
        /// A text whose lines the refusals' places refer to.
        text: String,
        /// What is wrong, one by one.
        refusals: Vec<Refusal>,
    },
}

/// Why something is refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// Where; in source 0 until it is gathered.
    pub place: Place,
    /// What is wrong.
    pub message: String,
    /// What to do about it; may be empty.
    pub help: String,
}

impl fmt::Debug for Found {
    /// Without what is written there: it may hold a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::Bytes { bytes, .. } => write!(f, "{} bytes", bytes.len()),
            Found::Documents { documents, .. } => write!(f, "{} documents", documents.len()),
            Found::Absent => f.write_str("absent"),
            Found::Failed(why) => write!(f, "failed: {why}"),
            Found::Skipped(why) => write!(f, "skipped: {why}"),
            Found::Refused { refusals, .. } => write!(f, "{} refusals", refusals.len()),
        }
    }
}

/// What sort of file a stream stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// A file that is there to say something: an empty one has been torn.
    Main,
    /// A drop-in: an empty one hides those of its name below it.
    DropIn,
    /// Given by hand on the command line: that others can read a secret in it is a warning only.
    ByHand,
    /// A credential of systemd's.
    Credential,
    /// From the kernel command line, which every process can read.
    CommandLine,
}

/// Reads a file: found, absent or failed.
pub fn file(root: &Root, path: &str, sort: Sort) -> Gathered {
    let found = match root.read(path) {
        Ok(Some(bytes)) => match mode_of(root, path) {
            Ok(mode) => Found::Bytes { bytes, mode, sort },
            Err(error) => Found::Failed(error.to_string()),
        },
        Ok(None) => Found::Absent,
        Err(error) => Found::Failed(error.to_string()),
    };
    Gathered { origin: path.to_owned(), found }
}

/// How many links are followed to a file's permission bits.
const MAX_LINKS: usize = 8;

/// The permission bits of what `path` leads to.
pub fn mode_of(root: &Root, path: &str) -> crate::error::Result<Option<u32>> {
    let mut path = crate::host::Utf8PathBuf::from(path);
    for _ in 0..MAX_LINKS {
        let Some(target) = root.read_link(&path)? else {
            return Ok(root.metadata(&path)?.map(|metadata| metadata.mode & 0o7777));
        };
        path = path.parent().map_or_else(|| target.clone(), |parent| parent.join(&target));
    }
    Ok(None)
}
