//! `edgeboot config`: what concerns configurations and no cluster. `config check` is here: it tells every finding about the
//! configuration of this machine, or about files, and changes nothing.

mod images;
mod migrate;
mod print;
mod schema;
mod show;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::config::findings::{Finding, Level};
use crate::config::sources::Gathered;
use crate::config::{Judged, Wish, gather, judge};
use crate::error::{Error, Result};
use crate::host::Root;

use super::init::by_hand;
use super::{Global, Output, print, print_value};

/// What to do with configurations.
#[derive(Debug, Clone, Subcommand)]
pub enum ConfigCommand {
    /// Tells everything that is wrong or doubtful, with file, line and column. Without a FILE it looks at what this machine would use
    /// at its next boot. Exit code 78 when something is wrong.
    #[command(after_help = "Example:\n  edgeboot config check examples/single-node.yaml")]
    Check(Check),
    /// Shows what all sources together say, without the secrets; of FILEs when some are named.
    #[command(after_help = "Example:\n  edgeboot config show --origin\n  edgeboot config show --effective examples/worker.yaml")]
    Show(show::Show),
    /// Prints the JSON Schema of configurations, for editors.
    #[command(
        after_help = "Example:\n  edgeboot config schema > edgeboot.json; sed -i '1i # yaml-language-server: $schema=edgeboot.json' config.yaml"
    )]
    Schema,
    /// Explains a field of NodeConfig: what it takes, its default, what it means, an example. Without a FIELD, all of them in a line each.
    #[command(after_help = "Example:\n  edgeboot config explain join.tokenFrom")]
    Explain(schema::Explain),
    /// Prints the defaults.
    #[command(subcommand)]
    Print(print::Print),
    /// Tells which container images are needed.
    #[command(subcommand)]
    Images(images::Images),
    /// Brings a configuration of before into today's words: kubeadm's v1beta3 becomes v1beta4.
    ///
    /// Unlike kubeadm's, nothing that was not written is added, and what is not kubeadm's stays in the stream. Comments are lost.
    #[command(after_help = "Example:\n  edgeboot config migrate --old-config old.yaml --new-config new.yaml")]
    Migrate(migrate::Migrate),
}

/// `edgeboot config check`.
#[derive(Debug, Clone, Args)]
pub struct Check {
    /// Files to look at instead, low to high as drop-ins are.
    #[arg(value_name = "FILE")]
    pub files: Vec<String>,
}

impl ConfigCommand {
    /// Runs it. A check looks, prints what was found, and fails when something is wrong.
    pub fn run(&self, global: &Global) -> Result<()> {
        let check = match self {
            ConfigCommand::Check(check) => check,
            ConfigCommand::Show(command) => return command.run(global),
            ConfigCommand::Schema => return schema::print_schema(global),
            ConfigCommand::Explain(command) => return command.run(global),
            ConfigCommand::Print(command) => return command.run(global),
            ConfigCommand::Images(command) => return command.run(global),
            ConfigCommand::Migrate(command) => return command.run(),
        };
        let judged = check.judged(&Root::machine()?)?;
        match global.output {
            output @ (Output::Json | Output::Yaml) => print_value(output, &as_value(&judged))?,
            Output::Text => print(&as_text(&judged, !check.files.is_empty())),
        }
        verdict(&judged)
    }
}

impl Check {
    /// Everything that can be said about the files, or about this machine's configuration.
    pub fn judged(&self, root: &Root) -> Result<Judged> {
        judge(root, asked(root, &self.files)?)
    }
}

/// What the files say, or this machine's sources when there are none.
fn asked(root: &Root, files: &[String]) -> Result<Vec<Gathered>> {
    match files {
        [] => Ok(gather(root, &[])),
        files => files.iter().map(|path| by_hand(root, path)).collect(),
    }
}

/// An error when there are errors among the findings; it does not repeat them.
fn verdict(judged: &Judged) -> Result<()> {
    match count(&judged.findings, Level::Error) {
        0 if judged.failed_sources.is_empty() => Ok(()),
        0 => Err(Error::host("checking the configuration").because("a source could not be read")),
        1 => Err(Error::config("checking the configuration").because("1 error")),
        errors => Err(Error::config("checking the configuration").because(format!("{errors} errors"))),
    }
}

fn count(findings: &[Finding], level: Level) -> usize {
    findings.iter().filter(|finding| finding.level == level).count()
}

fn as_text(judged: &Judged, of_files: bool) -> String {
    let mut parts: Vec<String> = judged.findings.iter().map(Finding::render).collect();
    parts.extend(judged.failed_sources.iter().map(|source| format!("error: {} could not be read: {}", source.origin, source.why)));
    match &judged.wish {
        Some(Wish::Nothing { looked_for, .. }) if count(&judged.findings, Level::Error) == 0 => {
            let places = if of_files { String::new() } else { format!("; looked for {}", looked_for.join(", ")) };
            parts.push(format!("nothing is wrong; as nobody says a `role`, no node is made of it{places}"));
        }
        Some(Wish::Node { .. }) if count(&judged.findings, Level::Error) == 0 => {
            let warnings = match count(&judged.findings, Level::Warning) {
                0 => String::new(),
                1 => ", with 1 warning".to_owned(),
                warnings => format!(", with {warnings} warnings"),
            };
            parts.push(format!("the configuration is good{warnings}"));
        }
        _ => {}
    }
    parts.join("\n\n")
}

fn as_value(judged: &Judged) -> Value {
    let (node, origins) = match &judged.wish {
        Some(Wish::Node { node, origins, .. }) if count(&judged.findings, Level::Error) == 0 => (Some(node), Some(origins)),
        _ => (None, None),
    };
    json!({
        "findings": judged.findings,
        "failedSources": judged.failed_sources,
        "node": node,
        "origins": origins,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(text: &str) -> Judged {
        let folder = tempfile::TempDir::new().expect("a temporary folder");
        let root = Root::at(folder.path().to_str().expect("a plain path")).expect("a tree");
        let _ = root.put("/a.yaml", 0o600, text.as_bytes()).expect("placed");
        Check { files: vec!["/a.yaml".to_owned()] }.judged(&root).expect("judged")
    }

    #[test]
    fn good_wrong_and_nothing_are_told_apart() {
        let good = judged("role: controlPlane");
        assert_eq!(as_text(&good, true), "the configuration is good");
        assert!(verdict(&good).is_ok());
        let wrong = judged("role: king\nrols: {}\n");
        assert_eq!(verdict(&wrong).expect_err("wrong").kind().exit_code(), 78);
        assert_eq!(as_text(&wrong, true).matches("error: ").count(), 2, "{}", as_text(&wrong, true));
        let nothing = judged("package: /usr/lib/package\n");
        assert!(as_text(&nothing, true).contains("nobody says a `role`"), "{}", as_text(&nothing, true));
        assert!(verdict(&nothing).is_ok());
    }

    #[test]
    fn programs_get_places_and_origins() {
        let value = as_value(&judged("role: controlPlane\n"));
        assert_eq!(value["origins"]["NodeConfig.role"], "/a.yaml:1:7");
        assert_eq!(value["node"]["role"], "controlPlane");
        let value = as_value(&judged("role: king\n"));
        assert_eq!(value["findings"][0]["line"], 1);
        assert_eq!(value["findings"][0]["column"], 7);
        assert_eq!(value["node"], serde_json::Value::Null);
    }
}
