//! `edgeboot source list`: where this machine looks for what it shall be, and what each source answered: found, absent, failed, skipped
//! or wrong, why, and how long it took. It changes nothing.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::config::sources::{Answer, Found, Gathered, survey};
use crate::error::Result;
use crate::host::Root;

use super::{Global, Output, print, print_value, table};

/// What to do with sources.
#[derive(Debug, Clone, Subcommand)]
pub enum SourceCommand {
    /// Asks every source, low to high, and tells what it answered. Credentials that are encrypted, or that only edgeboot's units get, are
    /// not seen from a shell.
    #[command(after_help = "Example:\n  edgeboot source list --explain")]
    List(List),
}

/// `edgeboot source list`.
#[derive(Debug, Clone, Args)]
pub struct List {
    /// Each place, why, and how long it took.
    #[arg(long)]
    explain: bool,
}

/// A source, for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    source: &'static str,
    state: &'static str,
    looks_for: &'static [&'static str],
    places: Vec<Place>,
    milliseconds: f64,
}

/// What a place answered.
#[derive(Debug, Serialize)]
struct Place {
    origin: String,
    state: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    why: String,
}

/// The states, worst first: the worst of its places is a source's.
const STATES: [&str; 5] = ["failed", "wrong", "found", "skipped", "absent"];

impl SourceCommand {
    /// Prints it.
    pub fn run(&self, global: &Global) -> Result<()> {
        let SourceCommand::List(List { explain }) = self;
        let listed: Vec<Listed> = survey(&Root::machine()?).iter().map(Listed::of).collect();
        match global.output {
            Output::Text => print(&text(&listed, *explain)),
            output => print_value(output, &listed)?,
        }
        Ok(())
    }
}

impl Listed {
    fn of(answer: &Answer) -> Listed {
        let places: Vec<Place> = answer.gathered.iter().map(Place::of).collect();
        let state = STATES.into_iter().find(|state| places.iter().any(|place| place.state == *state)).unwrap_or("absent");
        let milliseconds = answer.took.as_secs_f64() * 1e3;
        Listed { source: answer.source.name, state, looks_for: answer.source.looks_for, places, milliseconds }
    }
}

impl Place {
    fn of(gathered: &Gathered) -> Place {
        let (state, why) = match &gathered.found {
            Found::Bytes { bytes, .. } => ("found", format!("{} bytes", bytes.len())),
            Found::Documents { documents, .. } => ("found", format!("{} documents", documents.len())),
            Found::Absent => ("absent", String::new()),
            Found::Failed(why) => ("failed", why.clone()),
            Found::Skipped(why) => ("skipped", why.clone()),
            Found::Refused { refusals, .. } => {
                ("wrong", refusals.iter().map(|refusal| refusal.message.as_str()).collect::<Vec<_>>().join("; "))
            }
        };
        Place { origin: gathered.origin.clone(), state, why }
    }
}

fn text(listed: &[Listed], explain: bool) -> String {
    if !explain {
        let found: Vec<(&Listed, String)> = listed.iter().map(|source| (source, source.found())).collect();
        let mut rows = vec![vec!["SOURCE", "STATE", "WHERE"]];
        rows.extend(found.iter().map(|(source, found)| vec![source.source, source.state, found.as_str()]));
        return table::render(&rows);
    }
    let mut text = String::new();
    for source in listed {
        let _ = writeln!(text, "{}: {} ({:.1} ms)", source.source, source.state, source.milliseconds);
        for Place { origin, state, why } in source.places.iter().filter(|place| place.origin != source.source) {
            let why = if why.is_empty() { String::new() } else { format!(", {why}") };
            let _ = writeln!(text, "  {origin}: {state}{why}");
        }
        match source.places.iter().find(|place| place.state == "skipped") {
            Some(skipped) => writeln!(text, "  not asked: {}", skipped.why),
            None => writeln!(text, "  looked for {}", source.looks_for.join(", ")),
        }
        .expect("a String takes everything");
    }
    text.trim_end().to_owned()
}

impl Listed {
    /// The places that say something.
    fn found(&self) -> String {
        let telling = self.places.iter().filter(|place| !matches!(place.state, "absent" | "skipped"));
        telling.map(|place| place.origin.as_str()).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_is_told_with_its_state_and_why() {
        let folder = tempfile::TempDir::new().expect("a temporary folder");
        let root = Root::at(folder.path().to_str().expect("a plain path")).expect("a tree");
        for (path, text) in [
            ("/etc/edgeboot/config.yaml", "role: controlPlane\nsources: [kernel-command-line]\n"),
            ("/etc/edgeboot/config.d/10-a.yaml/x", ""),
            ("/proc/cmdline", "edgeboot.config=x"),
        ] {
            let _ = root.put(path, 0o600, text.as_bytes()).expect("placed");
        }
        let listed: Vec<Listed> = survey(&root).iter().map(Listed::of).collect();
        assert_eq!(
            text(&listed, false),
            "SOURCE                STATE     WHERE
disk                  failed    /etc/edgeboot/config.yaml, /etc/edgeboot/config.d/10-a.yaml
credentials           skipped
kernel-command-line   wrong     kernel command line
recorded              absent"
        );
        let explained = text(&listed, true);
        for said in [
            "  /etc/edgeboot/config.yaml: found, 50 bytes\n",
            "  /etc/edgeboot/config.d/10-a.yaml: failed, ",
            "  not asked: `sources:` on disk names kernel-command-line\n",
            "  kernel command line: wrong, `edgeboot.config` takes a URL of the form data:;base64,…\n",
            "  looked for /var/lib/edgeboot/recorded/wish.yaml",
        ] {
            assert!(explained.contains(said), "{said}\n{explained}");
        }
    }
}
