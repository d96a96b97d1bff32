//! What is wrong or doubtful in a configuration: collected while it is read and checked, so that all of it is told at once, each with
//! file, line and column, the line itself, and what was probably meant. Lines that hold a secret are shown without it.

use std::cell::RefCell;
use std::fmt::{self, Write as _};

use serde::Serialize;

/// One of the sources that were gathered, by its position among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceId(pub usize);

/// A place in a source. Line and column count from 1; line 0 is the source as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Which source.
    pub source: SourceId,
    /// The line, or 0.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
    /// How many characters are meant.
    pub length: u32,
}

impl Place {
    /// The source as a whole.
    pub fn whole(source: SourceId) -> Place {
        Place { source, line: 0, column: 0, length: 0 }
    }
}

/// A value and where it was said.
#[derive(Debug, Clone, PartialEq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where.
    pub place: Place,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The configuration cannot be used.
    Error,
    /// It can, and means perhaps something else than its writer thinks.
    Warning,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warning => "warning",
        }
    }
}

/// What is wrong, ready to be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What is wrong.
    pub message: String,
    /// The file, or for instance `command line`.
    pub origin: String,
    /// From 1; 0 for the whole source.
    pub line: u32,
    /// From 1; 0 for the whole source.
    pub column: u32,
    /// The line, without secrets.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub excerpt: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub help: String,
    #[serde(skip)]
    caret: (usize, usize),
}

impl Finding {
    /// `file:line:column`, as editors understand it.
    pub fn location(&self) -> String {
        if self.line == 0 { self.origin.clone() } else { format!("{}:{}:{}", self.origin, self.line, self.column) }
    }

    /// Takes a secret out of what is said.
    pub fn hide(&mut self, secret: &str) {
        for text in [&mut self.message, &mut self.help] {
            if text.contains(secret) {
                *text = text.replace(secret, REDACTED);
            }
        }
    }

    /// As a person reads it, in the way of rustc.
    pub fn render(&self) -> String {
        let mut text = format!("{}: {}\n  --> {}", self.level.word(), self.message, self.location());
        let number = if self.line == 0 { "  ".to_owned() } else { format!(" {}", self.line) };
        let margin = " ".repeat(number.len());
        if !self.excerpt.is_empty() {
            let (column, length) = self.caret;
            let _ = write!(
                text,
                "\n{margin} |\n{number} | {}\n{margin} | {}{}",
                self.excerpt,
                " ".repeat(column.saturating_sub(1)),
                "^".repeat(length.max(1))
            );
        }
        if !self.help.is_empty() {
            let _ = write!(text, "\n{margin} = help: {}", self.help);
        }
        text
    }
}

/// The text of a source, for showing lines of it.
#[derive(Clone)]
pub struct SourceText {
    /// The file, or for instance `command line`.
    pub name: String,
    /// What stands there.
    pub text: String,
    /// Permission bits, where it is a file.
    pub mode: Option<u32>,
    /// Its lines have numbers; those of the command line have not.
    pub numbered: bool,
    /// It stands on the kernel command line, which no mode protects.
    pub is_public: bool,
    /// What to do when it holds a secret and others can read it: an error for files that stay, a warning for those given by hand.
    pub when_readable: Level,
}

impl SourceText {
    /// A text whose lines have no numbers and which no mode protects: flags, words.
    pub fn of(name: impl Into<String>, text: impl Into<String>) -> SourceText {
        SourceText {
            name: name.into(),
            text: text.into(),
            mode: None,
            numbered: false,
            is_public: false,
            when_readable: Level::Warning,
        }
    }
}

impl fmt::Debug for SourceText {
    /// Without the text: it may hold a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} bytes", self.name, self.text.len())
    }
}

/// What was found so far. Shared while documents are read, hence the cell.
#[derive(Debug, Default)]
pub struct Findings(RefCell<Vec<Note>>);

#[derive(Debug)]
struct Note {
    level: Level,
    place: Place,
    message: String,
    help: String,
}

impl Findings {
    /// Something that makes the configuration unusable.
    pub fn error(&self, place: Place, message: impl Into<String>) {
        self.note(Level::Error, place, message, "");
    }
    /// The same, with what to do about it.
    pub fn error_with_help(&self, place: Place, message: impl Into<String>, help: impl Into<String>) {
        self.note(Level::Error, place, message, help);
    }
    /// Something doubtful.
    pub fn warning(&self, place: Place, message: impl Into<String>) {
        self.note(Level::Warning, place, message, "");
    }
    /// Something of that level, with what to do about it (may be empty).
    pub fn note(&self, level: Level, place: Place, message: impl Into<String>, help: impl Into<String>) {
        self.0.borrow_mut().push(Note { level, place, message: message.into(), help: help.into() });
    }

    /// Everything that was found, with the lines; in the order of the sources and lines.
    pub fn told(self, sources: &[SourceText]) -> Vec<Finding> {
        let mut notes = self.0.into_inner();
        notes.sort_by_key(|note| (note.place.source, note.place.line, note.place.column));
        let mut findings: Vec<Finding> = notes.into_iter().map(|note| note.told(sources)).collect();
        findings.dedup();
        findings
    }
}

impl Note {
    fn told(self, sources: &[SourceText]) -> Finding {
        let Place { source, line, column, length } = self.place;
        let source = sources.get(source.0);
        let line_text = usize::try_from(line).ok().and_then(|line| source?.text.lines().nth(line.checked_sub(1)?));
        let (excerpt, caret) = match line_text {
            Some(text) => shown(text, column as usize, length as usize),
            None => (String::new(), (0, 0)),
        };
        let (line, column) = if source.is_some_and(|source| source.numbered) { (line, column) } else { (0, 0) };
        Finding {
            level: self.level,
            message: self.message,
            origin: source.map(|source| source.name.clone()).unwrap_or_default(),
            line,
            column,
            excerpt,
            help: self.help,
            caret,
        }
    }
}

/// Words that make a line's value a secret.
const SECRET_WORDS: [&str; 4] = ["token", "key", "secret", "password"];
/// What is shown in place of a secret.
pub const REDACTED: &str = "<redacted>";

/// The line as it may be shown, and the caret's column and length in it.
fn shown(line: &str, column: usize, length: usize) -> (String, (usize, usize)) {
    let line = line.trim_end();
    let characters = line.chars().count();
    let length = length.clamp(1, (characters + 1).saturating_sub(column).max(1));
    let Some(from) = secret_starts(line) else { return (line.to_owned(), (column, length)) };
    let kept = line[..from].trim_end();
    let text = format!("{kept} {REDACTED}");
    let first_hidden = kept.chars().count() + 2;
    let caret = if column < first_hidden { (column, length.min(first_hidden - column)) } else { (first_hidden, REDACTED.len()) };
    (text, caret)
}

/// Where the part of a line begins that must not be shown.
fn secret_starts(line: &str) -> Option<usize> {
    let separator = line.find([':', '=', ' ']).map(|_| ());
    let lower = line.to_ascii_lowercase();
    let by_word = SECRET_WORDS.iter().filter_map(|word| lower.find(word)).min().and_then(|word| {
        separator?;
        lower[word..].find([':', '=', ' ']).map(|offset| word + offset + 1)
    });
    let by_look = words(line).find(|(_, word)| looks_secret(word)).map(|(start, _)| start);
    match (by_word, by_look) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
    .filter(|from| !line[*from..].trim().is_empty())
}

/// A text of several lines as it may be shown.
pub fn without_secrets(text: &str) -> String {
    text.lines().map(|line| shown(line, 1, 1).0 + "\n").collect()
}

fn words(line: &str) -> impl Iterator<Item = (usize, &str)> {
    line.split([' ', '"', '\'', ',', '[', ']', '{', '}', '='])
        .map(move |word| (word.as_ptr() as usize - line.as_ptr() as usize, word))
}

/// A bootstrap token or a 32 byte key in hexadecimal.
pub fn looks_secret(word: &str) -> bool {
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let token = word.split_once('.').is_some_and(|(id, secret)| id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret));
    token || (word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// What was probably meant among the known words.
pub fn did_you_mean<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = written.to_lowercase();
    known
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(&lower, &word.to_lowercase()), word))
        .filter(|(distance, word)| *distance <= (word.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_a_secret_is_shown_without_it() {
        for (line, expected) in [
            ("role: worker", "role: worker"),
            ("- token: abcdef.0123456789abcdef", "- token: <redacted>"),
            ("toekn: abcdef.0123456789abcdef", "toekn: <redacted>"),
            ("  certificateKey: ABC", "  certificateKey: <redacted>"),
            ("{name: X, value: \"abcdef.0123456789abcdef\"}", "{name: X, value: \" <redacted>"),
            ("--token abcdef", "--token <redacted>"),
            ("bootstrapTokens:", "bootstrapTokens:"),
        ] {
            assert_eq!(shown(line, 1, 1).0, expected);
        }
    }

    #[test]
    fn a_misspelt_word_finds_its_meaning_and_a_foreign_word_finds_none() {
        let known = ["role", "package", "network", "runtime"];
        assert_eq!(did_you_mean("rol", known), Some("role"));
        assert_eq!(did_you_mean("Role", known), Some("role"));
        assert_eq!(did_you_mean("netwrok", known), Some("network"));
        assert_eq!(did_you_mean("bananas", known), None);
    }
}
