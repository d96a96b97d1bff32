//! Values that differ from machine to machine, in a closed set: `${machine.id}` and its like stand in texts of a configuration, with a
//! default behind `:-`; `$${` is a `${` that means itself. No conditions, no loops, nothing nested: what the text becomes is seen by
//! reading it. Pure: what the machine tells comes from `sources::facts`.

use secrecy::SecretString;

use super::findings::{Findings, Place, did_you_mean};
use super::layer::{Kind, Layer};
use super::sources::secrets;
use super::tree::{Tree, Value};

/// What may stand between the braces; the last two take a name.
pub const NAMES: [&str; 7] = ["machine.id", "instance.id", "instance.ip", "dmi.serial", "hostname", MAC, CREDENTIAL];
const MAC: &str = "mac:";
const CREDENTIAL: &str = "credential:";
/// Longer values are none that a text is completed with.
const LONGEST: usize = 1024;

/// A value that a machine can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name<'a> {
    /// machine-id(5).
    MachineId,
    /// What the cloud calls this instance.
    InstanceId,
    /// The address the cloud gave it.
    InstanceIp,
    /// The serial number the firmware tells.
    DmiSerial,
    /// The host's name.
    Hostname,
    /// The hardware address of an interface.
    Mac(&'a str),
    /// A credential.
    Credential(&'a str),
}

/// What the machine answers: the value, or why there is none.
pub type Answer = Result<String, String>;

/// A text whose placeholders were filled.
#[derive(Clone, PartialEq, Eq)]
pub struct Filled {
    /// The text.
    pub text: String,
    /// What credentials put into it.
    pub secrets: Vec<String>,
}

impl std::fmt::Debug for Filled {
    /// Without the text: it may hold a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes, {} secrets", self.text.len(), self.secrets.len())
    }
}

/// Fills the placeholders of a text; `None` when there are none. The error tells everything that is wrong with them.
pub fn fill(text: &str, ask: &dyn Fn(Name<'_>) -> Answer) -> Result<Option<Filled>, Vec<String>> {
    if !text.contains("${") {
        return Ok(None);
    }
    let mut filled = Filled { text: String::with_capacity(text.len()), secrets: Vec::new() };
    let mut wrong = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, behind) = (&rest[..start], &rest[start + 2..]);
        if let Some(escaped) = before.strip_suffix('$') {
            filled.text.push_str(escaped);
            filled.text.push_str("${");
            rest = behind;
            continue;
        }
        filled.text.push_str(before);
        let Some(end) = behind.find('}') else {
            wrong.push("`${` is not closed by `}`; `$${` is a `${` that means itself".to_owned());
            break;
        };
        match value(&behind[..end], ask) {
            Ok((value, is_secret)) => {
                filled.text.push_str(&value);
                filled.secrets.extend(is_secret.then_some(value));
            }
            Err(why) => wrong.push(why),
        }
        rest = &behind[end + 1..];
    }
    filled.text.push_str(rest);
    if wrong.is_empty() { Ok(Some(filled)) } else { Err(wrong) }
}

/// What stands in place of `${inner}`, and whether that is a secret.
fn value(inner: &str, ask: &dyn Fn(Name<'_>) -> Answer) -> Result<(String, bool), String> {
    let (written, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let name = Name::read(written)?;
    let told = ask(name).and_then(|value| match value {
        value if value.is_empty() => Err("it is empty".to_owned()),
        value if value.len() > LONGEST => Err(format!("it is longer than {LONGEST} bytes")),
        value if value.contains(char::is_control) => Err("there are control characters in it".to_owned()),
        value => Ok(value),
    });
    match (told, default) {
        (Ok(value), _) => Ok((value, matches!(name, Name::Credential(_)))),
        (Err(_), Some(default)) => Ok((default.to_owned(), false)),
        (Err(why), None) => Err(format!("`${{{written}}}` has no value here: {why}")),
    }
}

impl<'a> Name<'a> {
    fn read(written: &'a str) -> Result<Name<'a>, String> {
        let plain = |name: &&str| {
            !name.is_empty() && !name.starts_with('.') && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-@:".contains(&b))
        };
        let named = |start: &str| written.strip_prefix(start).filter(plain);
        Ok(match written {
            "machine.id" => Name::MachineId,
            "instance.id" => Name::InstanceId,
            "instance.ip" => Name::InstanceIp,
            "dmi.serial" => Name::DmiSerial,
            "hostname" => Name::Hostname,
            _ => match (named(MAC), named(CREDENTIAL)) {
                (Some(interface), _) => Name::Mac(interface),
                (_, Some(name)) => Name::Credential(name),
                _ => return Err(unknown(written)),
            },
        })
    }
}

fn unknown(written: &str) -> String {
    let known: Vec<String> =
        NAMES.iter().map(|name| if name.ends_with(':') { format!("{name}NAME") } else { (*name).to_owned() }).collect();
    // What stands there may be anything, and long.
    let shown: String = written.chars().take(40).collect();
    let meant = did_you_mean(&shown, NAMES).map_or_else(String::new, |name| format!(" (did you mean `{name}`?)"));
    format!("`${{{shown}}}` is no value of a machine{meant}: known are {}; `$${{` is a `${{` that means itself", known.join(", "))
}

/// The kinds whose texts are filled; those that are passed through mean nothing to edgeboot.
const KINDS: [Kind; 4] = [Kind::Node, Kind::Init, Kind::Cluster, Kind::Join];

/// Which texts of a layer are filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// All.
    All,
    /// Only the secrets and what says where they are: the rest is recorded as it was written.
    Secrets,
}

/// What came from credentials.
#[derive(Debug, Default)]
pub struct Hidden {
    /// Where it stands now.
    pub places: Vec<Place>,
    /// What must not be shown.
    pub values: Vec<SecretString>,
}

/// Fills the texts of a layer.
pub fn fill_layer(layer: &mut Layer, which: Which, ask: &dyn Fn(Name<'_>) -> Answer, findings: &Findings) -> Hidden {
    let mut hidden = Hidden::default();
    for kind in KINDS {
        if let Some(tree) = layer.get_mut(kind) {
            fill_tree(tree, which, ask, findings, &mut hidden);
        }
    }
    hidden
}

fn fill_tree(tree: &mut Tree, which: Which, ask: &dyn Fn(Name<'_>) -> Answer, findings: &Findings, hidden: &mut Hidden) {
    let place = tree.place;
    match &mut tree.value {
        Value::List(items) => items.iter_mut().for_each(|item| fill_tree(item, which, ask, findings, hidden)),
        Value::Map(fields) => {
            for (key, value) in fields {
                let is_text = matches!(value.value, Value::Text(..));
                if !is_text || which == Which::All || secrets::is_form(&key.name) {
                    fill_tree(value, which, ask, findings, hidden);
                }
            }
        }
        Value::Text(text, _) if text.contains("${") => match fill(text, ask) {
            Ok(Some(filled)) => {
                if !filled.secrets.is_empty() {
                    hidden.places.push(place);
                    hidden.values.extend(filled.secrets.into_iter().map(SecretString::from));
                }
                *tree = Tree::text(place, filled.text);
            }
            Ok(None) => {}
            Err(wrong) => {
                for why in wrong {
                    findings.error(place, why);
                }
                tree.value = Value::Null;
            }
        },
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(name: Name<'_>) -> Answer {
        match name {
            Name::Hostname => Ok("box".to_owned()),
            Name::Mac("eth0") => Ok("52:54:00:00:00:01".to_owned()),
            Name::Credential("site") => Ok("north".to_owned()),
            Name::Credential("lines") => Ok("a\nb".to_owned()),
            _ => Err("nobody told".to_owned()),
        }
    }

    fn filled(text: &str) -> String {
        fill(text, &machine).expect(text).map_or_else(|| text.to_owned(), |filled| filled.text)
    }

    #[test]
    fn a_text_is_completed_from_the_machine() {
        for (text, expected) in [
            ("plain $ {x} $(Y) $x", "plain $ {x} $(Y) $x"),
            ("${hostname}", "box"),
            ("a-${hostname}-${mac:eth0}-b", "a-box-52:54:00:00:00:01-b"),
            ("${instance.id:-none}", "none"),
            ("${instance.id:-}", ""),
            ("${hostname:-none}", "box"),
            ("${dmi.serial:-a:-b}", "a:-b"),
            ("${credential:site}.example", "north.example"),
            ("${mac:eth1:-x}", "x"),
            ("$${hostname}", "${hostname}"),
            ("$$${hostname}", "$${hostname}"),
            ("$${${hostname}", "${box"),
            ("ä${hostname}ü", "äboxü"),
        ] {
            assert_eq!(filled(text), expected, "{text}");
        }
        let secret = fill("${credential:site}${hostname}", &machine).expect("good").expect("filled");
        assert_eq!(secret.secrets, ["north"]);
    }

    #[test]
    fn what_has_no_value_or_is_none_is_told_all_at_once() {
        for (text, said) in [
            ("${hostnam}", &["did you mean `hostname`?"][..]),
            (
                "${machine.id} ${x}",
                &["`${machine.id}` has no value here: nobody told", "`${x}` is no value of a machine: known are"],
            ),
            ("${hostname", &["`${` is not closed"]),
            ("${}", &["`${}` is no value"]),
            ("${mac:../../x}", &["is no value"]),
            ("${credential:}", &["is no value"]),
            ("${credential:lines}", &["control characters"]),
        ] {
            let wrong = fill(text, &machine).err().unwrap_or_default();
            assert_eq!(wrong.len(), said.len(), "{text}: {wrong:?}");
            assert!(wrong.iter().zip(said).all(|(wrong, said)| wrong.contains(said)), "{text}: {wrong:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_filled_or_told_and_each_piece_of_it_is_seen_once(text in r"([a-z${}:. -]|\$\{|hostname|\}|ä){0,60}") {
            let asked = std::cell::Cell::new(0);
            let ask = |name: Name<'_>| {
                asked.set(asked.get() + 1);
                machine(name)
            };
            let outcome = fill(&text, &ask);
            let written = text.matches("${").count();
            proptest::prop_assert!(asked.get() <= written);
            if let Ok(Some(filled)) = outcome {
                proptest::prop_assert!(filled.text.len() <= text.len() + 3 * asked.get());
            }
        }

        #[test]
        fn what_is_escaped_means_itself(text in "[a-z{}:. -]{0,40}") {
            proptest::prop_assert_eq!(filled(&format!("$${{{text}")), format!("${{{text}"));
        }
    }
}
