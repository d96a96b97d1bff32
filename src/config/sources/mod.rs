//! Where configuration comes from, low to high. Each source answers for itself what it found: something, nothing, or that looking
//! failed, and why; a source that failed blocks making a cluster, one that is absent does not. A further source is one file here and
//! one row in [`TABLE`].

pub mod command_line;
pub mod disk;
pub mod recorded;
pub mod secrets;

use std::fmt;

use crate::host::Root;

use super::tree::Tree;

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
pub const TABLE: &[&Source] = &[&disk::SOURCE, &recorded::SOURCE];

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
}

impl fmt::Debug for Found {
    /// Without what is written there: it may hold a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::Bytes { bytes, .. } => write!(f, "{} bytes", bytes.len()),
            Found::Documents { documents, .. } => write!(f, "{} documents", documents.len()),
            Found::Absent => f.write_str("absent"),
            Found::Failed(why) => write!(f, "failed: {why}"),
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
