//! The kernel command line as a source: `edgeboot.config=`, and the words that say whether and whom edgeboot asks. Split and unquoted as
//! systemd does it (`proc_cmdline_parse`). Every process can read it, so that a secret there is refused unless it is allowed in so many
//! words. In a container it is the host's, and nobody's word here.

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::config::findings::{Place, SourceId, did_you_mean};
use crate::host::{Root, hardware};

use super::{Found, Gathered, Refusal, Sort, Source, credentials, limits};

/// The source.
pub const SOURCE: Source =
    Source { name: "kernel-command-line", looks_for: &["edgeboot.config= on the kernel command line"], gather };

/// What is said where `edgeboot.disable` stands there.
pub const DISABLED: &str = "`edgeboot.disable` on the kernel command line: nothing is done in this boot";

const PATH: &str = "/proc/cmdline";
/// The origin of findings.
const ORIGIN: &str = "kernel command line";

/// A configuration: `data:;base64,…`.
const CONFIG: &str = "edgeboot.config";
/// The sources that are asked.
const SOURCES: &str = "edgeboot.source";
/// Do nothing.
const DISABLE: &str = "edgeboot.disable";
/// Secrets may stand there although everybody reads them.
const ALLOW: &str = "edgeboot.allow-readable-secrets";
const KNOWN: [&str; 4] = [CONFIG, SOURCES, DISABLE, ALLOW];
/// systemd's own words that make a credential (systemd.system-credentials(7)).
const SET_CREDENTIAL: [&str; 2] = ["systemd.set_credential", "systemd.set_credential_binary"];

/// A word: `key` or `key=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// What stands before the first `=`.
    pub key: String,
    /// What stands behind it.
    pub value: Option<String>,
}

/// The words of a command line, as systemd takes it apart: blanks separate, quotes of either sort hold together anywhere in a word and
/// are dropped, a quote that is not closed reaches to the end, and a backslash is a character like any other.
pub fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for character in text.chars() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, ' ' | '\t' | '\n' | '\r') => words.extend(word.take().map(Word::of)),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word.map(Word::of));
    words
}

impl Word {
    fn of(text: String) -> Word {
        match text.split_once('=') {
            Some((key, value)) => Word { key: key.to_owned(), value: Some(value.to_owned()) },
            None => Word { key: text, value: None },
        }
    }
    /// `-` and `_` are the same in a key, as to systemd.
    fn is(&self, key: &str) -> bool {
        let plain = |byte: u8| if byte == b'-' { b'_' } else { byte };
        self.key.len() == key.len() && self.key.bytes().map(plain).eq(key.bytes().map(plain))
    }
}

/// The words of this machine's kernel command line; none where it is not this machine's.
fn read(root: &Root) -> crate::error::Result<Option<Vec<Word>>> {
    if hardware::is_container(root)? {
        return Ok(None);
    }
    Ok(Some(root.read_text(PATH)?.map(|text| words(&text)).unwrap_or_default()))
}

fn readable(root: &Root) -> Vec<Word> {
    read(root).ok().flatten().unwrap_or_default()
}

fn gather(root: &Root) -> Vec<Gathered> {
    let skipped = |why: &str| vec![Gathered { origin: SOURCE.name.to_owned(), found: Found::Skipped(why.to_owned()) }];
    let words = match read(root) {
        Ok(Some(words)) => words,
        Ok(None) => return skipped("in a container it is the host's"),
        Err(error) => return vec![Gathered { origin: ORIGIN.to_owned(), found: Found::Failed(error.to_string()) }],
    };
    let mut gathered = judged(&words);
    let configurations = words.iter().filter(|word| word.is(CONFIG)).filter_map(|word| configuration(word).ok());
    for (index, bytes) in configurations.enumerate() {
        let origin = if index == 0 { ORIGIN.to_owned() } else { format!("{ORIGIN} ({CONFIG} {})", index + 1) };
        // Readable by everybody, as the file itself is.
        let mode = if allows_secrets(&words) { None } else { Some(0o444) };
        gathered.push(Gathered { origin, found: Found::Bytes { bytes, mode, sort: Sort::CommandLine } });
    }
    if gathered.is_empty() {
        gathered.push(Gathered { origin: ORIGIN.to_owned(), found: Found::Absent });
    }
    gathered
}

/// What is wrong with edgeboot's words, whether or not a configuration is looked for among them.
pub fn refused(root: &Root) -> Vec<Gathered> {
    judged(&readable(root))
}

/// Whether edgeboot is to do nothing in this boot.
pub fn is_disabled(root: &Root) -> bool {
    let words = readable(root);
    words.iter().rfind(|word| word.is(DISABLE)).is_some_and(|word| boolean(word) == Some(true))
}

/// What `edgeboot.source=` names; the last one counts.
pub fn sources(root: &Root) -> Option<Vec<String>> {
    let words = readable(root);
    let value = words.iter().rfind(|word| word.is(SOURCES))?.value.clone()?;
    Some(listed(&value).map(str::to_owned).collect())
}

/// The names of the credentials that are set there, where everybody can read them and that is not allowed.
pub fn set_credentials(root: &Root) -> Vec<String> {
    let words = readable(root);
    if allows_secrets(&words) {
        return Vec::new();
    }
    words.iter().filter_map(set_credential).map(str::to_owned).collect()
}

fn set_credential(word: &Word) -> Option<&str> {
    let value = word.value.as_deref().filter(|_| SET_CREDENTIAL.iter().any(|key| word.is(key)))?;
    value.split_once(':').map(|(name, _)| name)
}

fn allows_secrets(words: &[Word]) -> bool {
    words.iter().rfind(|word| word.is(ALLOW)).is_some_and(|word| boolean(word) == Some(true))
}

/// systemd's `parse_boolean`; a key alone is true.
fn boolean(word: &Word) -> Option<bool> {
    match word.value.as_deref().map(str::to_ascii_lowercase).as_deref() {
        None | Some("1" | "yes" | "y" | "true" | "t" | "on") => Some(true),
        Some("0" | "no" | "n" | "false" | "f" | "off") => Some(false),
        Some(_) => None,
    }
}

fn listed(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|name| !name.is_empty())
}

/// What `edgeboot.config=` holds.
fn configuration(word: &Word) -> Result<Vec<u8>, (String, String)> {
    const HELP: &str = "write `edgeboot.config=data:;base64,` and what `base64 -w0 FILE` prints";
    let value = word.value.as_deref().unwrap_or_default();
    let wrong = |message: &str| (message.to_owned(), HELP.to_owned());
    if value.starts_with("http://") || value.starts_with("https://") {
        let help = "put the configuration itself there (`data:;base64,…`), or pass it as the credential edgeboot.config";
        return Err((format!("`{CONFIG}`: fetching from a URL is not part of this version of edgeboot"), help.to_owned()));
    }
    let data = value.strip_prefix("data:").ok_or_else(|| wrong(&format!("`{CONFIG}` takes a URL of the form data:;base64,…")))?;
    let (form, payload) = data.split_once(',').ok_or_else(|| wrong(&format!("`{CONFIG}`: there is no `,` in the data URL")))?;
    if !form.split(';').skip(1).any(|parameter| parameter == "base64") {
        return Err(wrong(&format!("`{CONFIG}`: a data URL without `;base64` is not read")));
    }
    let settings = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = if payload.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    let decoded = GeneralPurpose::new(alphabet, settings).decode(payload);
    decoded.map_err(|_| wrong(&format!("`{CONFIG}`: what follows `base64,` is not base64")))
}

/// Everything that is wrong, each word on a line of its own, without what may be secret in it.
fn judged(words: &[Word]) -> Vec<Gathered> {
    let mut text = String::new();
    let mut refusals = Vec::new();
    for word in words {
        let Some((shown, message, help)) = judge(word, words) else { continue };
        let line = u32::try_from(refusals.len() + 1).unwrap_or(u32::MAX);
        let length = u32::try_from(shown.chars().count()).unwrap_or(u32::MAX);
        text.push_str(&shown);
        text.push('\n');
        refusals.push(Refusal { place: Place { source: SourceId(0), line, column: 1, length }, message, help });
    }
    if refusals.is_empty() {
        return Vec::new();
    }
    vec![Gathered { origin: ORIGIN.to_owned(), found: Found::Refused { text, refusals } }]
}

fn judge(word: &Word, words: &[Word]) -> Option<(String, String, String)> {
    let key = || word.key.clone();
    if let Some(name) = set_credential(word) {
        let is_secret = name.starts_with("edgeboot.") && !credentials::may_be_readable(name);
        return (is_secret && !allows_secrets(words)).then(|| {
            let message = format!("the credential {name} stands on the kernel command line, and every process can read it");
            (format!("{}={name}:", word.key), message, SECRET_HELP.to_owned())
        });
    }
    if word.is(CONFIG) {
        let (message, help) = configuration(word).err()?;
        return Some((key(), message, help));
    }
    if word.is(SOURCES) {
        let value = word.value.as_deref().unwrap_or_default();
        let why = listed(value).find_map(|name| limits::name(name).err());
        let why = why.or_else(|| (word.value.is_none()).then(|| format!("it takes names of {}", limits::names().join(", "))))?;
        return Some((format!("{}={value}", word.key), format!("`{SOURCES}`: {why}"), String::new()));
    }
    if word.is(DISABLE) || word.is(ALLOW) {
        let wrong = boolean(word).is_none();
        return wrong.then(|| (key(), format!("`{}` takes nothing, yes or no", word.key), String::new()));
    }
    word.key.starts_with("edgeboot.").then(|| {
        let help = did_you_mean(&word.key, KNOWN).map(|known| format!("did you mean `{known}`?"));
        (key(), format!("unknown word `{}` on the kernel command line", word.key), help.unwrap_or_default())
    })
}

/// What to do about a secret that everybody can read.
pub const SECRET_HELP: &str = "pass it as a credential from firmware, hypervisor or /etc/credstore.encrypted; to have it there \
nevertheless, add `edgeboot.allow-readable-secrets` to the kernel command line";

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<String> {
        let whole = |word: Word| word.value.map_or(word.key.clone(), |value| format!("{}={value}", word.key));
        words(text).into_iter().map(whole).collect()
    }

    #[test]
    fn a_command_line_is_split_and_unquoted_as_systemd_does_it() {
        for (text, expected) in [
            ("", vec![]),
            ("quiet  ro\n", vec!["quiet", "ro"]),
            ("a=\"b c\" d", vec!["a=b c", "d"]),
            ("\"a=b c\" d", vec!["a=b c", "d"]),
            ("a='b \"c\"'x", vec!["a=b \"c\"x"]),
            ("a=b\\ c", vec!["a=b\\", "c"]),
            ("a=\"\" ''", vec!["a=", ""]),
            ("a=\"open b", vec!["a=open b"]),
            ("a==b=c", vec!["a==b=c"]),
        ] {
            assert_eq!(split(text), expected, "{text}");
        }
    }

    #[test]
    fn keys_do_not_tell_dashes_from_underscores() {
        let word = Word::of("edgeboot.allow_readable-secrets".to_owned());
        assert!(word.is(ALLOW) && boolean(&word) == Some(true));
        assert!(!Word::of("edgeboot.config.x=1".to_owned()).is(CONFIG));
    }

    #[test]
    fn a_configuration_is_a_data_url_in_either_alphabet_padded_or_not() {
        let of = |value: &str| configuration(&Word { key: CONFIG.to_owned(), value: Some(value.to_owned()) });
        for value in ["data:;base64,fn5+Pw==", "data:;base64,fn5+Pw", "data:application/yaml;base64,fn5-Pw"] {
            assert_eq!(of(value).expect(value), b"~~~?", "{value}");
        }
        for (value, said) in [
            ("", "takes a URL of the form data:"),
            ("cm9sZQ==", "takes a URL of the form data:"),
            ("https://example.com/x", "fetching from a URL is not part of this version"),
            ("data:;base64", "there is no `,`"),
            ("data:,role", "without `;base64` is not read"),
            ("data:;base64,***", "is not base64"),
        ] {
            assert!(of(value).expect_err(value).0.contains(said), "{value}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_split_without_loss_of_what_is_no_blank_or_quote(text in ".{0,200}") {
            let kept = |text: &str| text.chars().filter(|c| !" \t\n\r\"'".contains(*c)).collect::<String>();
            let joined: String = split(&text).concat();
            proptest::prop_assert_eq!(kept(&joined), kept(&text));
            let _ = judged(&words(&text));
        }
    }
}
