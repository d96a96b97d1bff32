//! A file as a phase wishes it, and the three-way comparison with what stands there: as we wrote it, missing or torn, or somebody
//! else's.

use std::fmt;

use camino::Utf8PathBuf;

use super::phase::Disruption;

/// Whether these bytes are torn: what a power cut may leave, and nobody can have meant.
pub type Torn = fn(&[u8]) -> bool;

/// A file as a phase wishes it.
#[derive(Clone)]
pub struct File {
    /// Where; parents are made (0755, or 0700 below a private folder of edgeboot's) when they are missing.
    pub path: Utf8PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// The content.
    pub bytes: Vec<u8>,
    /// What counts as torn; otherwise a different content is somebody else's.
    pub torn: Torn,
    /// What else happens when it changes.
    pub disrupts: Disruption,
}

impl fmt::Debug for File {
    /// Without the content: it may be a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:04o}, {} bytes", self.path, self.mode, self.bytes.len())
    }
}

impl File {
    /// A file of lines: torn when empty.
    pub fn text(path: impl Into<Utf8PathBuf>, mode: u32, text: impl Into<Vec<u8>>) -> File {
        File { path: path.into(), mode, bytes: text.into(), torn: empty, disrupts: Disruption::Nothing }
    }
    /// YAML: torn when it does not parse to a mapping.
    pub fn yaml(path: impl Into<Utf8PathBuf>, mode: u32, text: impl Into<Vec<u8>>) -> File {
        File { torn: not_yaml, ..File::text(path, mode, text) }
    }
    /// With another judgement of what is torn.
    #[must_use]
    pub fn torn_when(mut self, torn: Torn) -> File {
        self.torn = torn;
        self
    }
    /// With what its change disrupts.
    #[must_use]
    pub fn disrupting(mut self, disrupts: Disruption) -> File {
        self.disrupts = disrupts;
        self
    }
}

/// Torn when there is nothing but white space or zero bytes.
pub fn empty(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0 || byte.is_ascii_whitespace())
}

/// Torn when it does not parse to a YAML mapping.
pub fn not_yaml(bytes: &[u8]) -> bool {
    empty(bytes)
        || !std::str::from_utf8(bytes)
            .is_ok_and(|text| serde_saphyr::from_str::<serde_json::Map<String, serde_json::Value>>(text).is_ok())
}
