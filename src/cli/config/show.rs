//! `edgeboot config show`: what all sources together say, each field with its origin, with or without what nobody said.

use clap::Args;
use serde_json::{Value, json};

use crate::config::findings::{Finding, Level};
use crate::config::node::Node;
use crate::config::shown::Shown;
use crate::config::{Judged, Wish, failure, show};
use crate::error::Result;
use crate::host::Root;
use crate::k8s::{defaults, names, yaml};

use super::super::{Global, Output, print, print_error, print_value, table};
use super::asked;

/// `edgeboot config show`.
#[derive(Debug, Clone, Default, Args)]
pub struct Show {
    /// Files to show instead, low to high as drop-ins are.
    #[arg(value_name = "FILE")]
    files: Vec<String>,
    /// A line for each field, with the file, line and column that said it.
    #[arg(long)]
    origin: bool,
    /// With what is meant where nobody said anything.
    #[arg(long)]
    effective: bool,
}

impl Show {
    /// Prints it; what is wrong is told, too, and fails it.
    pub fn run(&self, global: &Global) -> Result<()> {
        let root = Root::machine()?;
        let (shown, judged) = self.shown(&root)?;
        match global.output {
            Output::Text => print(self.text(&shown).trim_end()),
            output @ (Output::Json | Output::Yaml) => print_value(output, &self.value(&shown))?,
        }
        let errors = judged.findings.iter().filter(|finding| finding.level == Level::Error).count();
        if errors > 0 {
            return Err(failure(&judged.findings, errors));
        }
        for warning in judged.findings.iter().map(Finding::render) {
            print_error(&warning);
        }
        for source in &judged.failed_sources {
            print_error(&format!("{} could not be read: {}", source.origin, source.why));
        }
        Ok(())
    }

    fn shown(&self, root: &Root) -> Result<(Shown, Judged)> {
        let (shown, judged) = show(root, asked(root, &self.files)?)?;
        let shown = match &judged.wish {
            Some(Wish::Node { node, .. }) if self.effective => shown.completed(defaults_of(node)),
            _ => shown,
        };
        Ok((shown, judged))
    }

    fn text(&self, shown: &Shown) -> String {
        if self.origin {
            let lines = shown.lines();
            let mut rows = vec![vec!["FIELD", "VALUE", "SAID BY"]];
            rows.extend(lines.iter().map(|(path, value, origin)| vec![path.as_str(), value, origin]));
            return table::render(&rows);
        }
        let documents: Vec<String> = shown.documents.iter().map(|(_, document)| yaml::text(document)).collect();
        documents.join("---\n")
    }

    fn value(&self, shown: &Shown) -> Value {
        let documents: Vec<&Value> = shown.documents.iter().map(|(_, document)| document).collect();
        if self.origin { json!({"documents": documents, "origins": shown.origins}) } else { json!({"documents": documents}) }
    }
}

/// What is meant where nobody says anything. How a machine joins has no defaults but these.
fn defaults_of(node: &Node) -> Vec<Value> {
    let Some(join) = node.join() else { return defaults::of_init(node) };
    let ca_cert_path = if join.ca_cert_path.as_str().is_empty() { names::CA_CERT } else { join.ca_cert_path.as_str() };
    let mut documents = defaults::of_join(node, ca_cert_path);
    for document in documents.iter_mut().filter_map(Value::as_object_mut) {
        // Placeholders; and the network is the cluster's.
        document.remove("discovery");
        document.remove("network");
    }
    documents
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "abcdef.0123456789abcdef";

    fn root(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let folder = tempfile::TempDir::new().expect("a temporary folder");
        let root = Root::at(folder.path().to_str().expect("a plain path")).expect("a tree");
        for (path, text) in files {
            let _ = root.put(path, 0o600, text.as_bytes()).expect("placed");
        }
        (folder, root)
    }

    fn of(root: &Root, origin: bool, effective: bool) -> String {
        let show = Show { origin, effective, ..Show::default() };
        let (shown, judged) = show.shown(root).expect("shown");
        assert_eq!(judged.findings, [], "{shown:?}");
        show.text(&shown)
    }

    #[test]
    fn every_field_is_shown_with_its_origin_and_without_its_secret() {
        let hash = format!("sha256:{}", "0a".repeat(32));
        let joins = format!("role: worker\njoin:\n  endpoints: [a.example]\n  token: {TOKEN}\n  caCertHashes: ['{hash}']\n");
        let runtime = "runtime:\n  config: |\n    [plugins]\n    password = \"canary\"\n    x = 1\n";
        let args = "---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: JoinConfiguration\nnodeRegistration:\n  kubeletExtraArgs: [{name: node-labels, value: '${credential:site}'}]\n";
        let (_folder, root) = root(&[
            ("/etc/edgeboot/config.yaml", &joins),
            ("/etc/edgeboot/config.d/10-a.yaml", &format!("{runtime}{args}")),
            ("/var/lib/edgeboot/credentials/site", "site=canary"),
        ]);
        let text = of(&root, false, false);
        assert!(text.contains("token: <redacted>") && text.contains("password <redacted>") && text.contains("x = 1"), "{text}");
        assert!(text.contains("value: <redacted>"), "{text}");
        assert!(!text.contains("0123456789abcdef") && !text.contains("canary"), "{text}");
        let text = of(&root, true, false);
        for line in [
            "NodeConfig.role ",
            "/etc/edgeboot/config.yaml:1:7",
            "NodeConfig.join.token ",
            "/etc/edgeboot/config.yaml:4:10",
            "JoinConfiguration.nodeRegistration.kubeletExtraArgs",
            "/etc/edgeboot/config.d/10-a.yaml:10:21",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(!text.contains("canary") && !text.contains("default"), "{text}");
    }

    #[test]
    fn what_nobody_said_is_a_default_and_what_was_said_stays() {
        let (_folder, root) = root(&[("/etc/edgeboot/config.yaml", "role: controlPlane\nhost: {swap: off}\n")]);
        let text = of(&root, true, true);
        let line =
            |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}\n{text}")).to_owned();
        assert!(line("NodeConfig.host.swap ").ends_with("/etc/edgeboot/config.yaml:2:14"));
        let cells = |line: String| line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(cells(line("NodeConfig.readyWhen ")), ["node-ready", "default"]);
        assert_eq!(cells(line("ClusterConfiguration.networking.serviceSubnet ")), ["10.96.0.0/12", "default"]);
    }
}
