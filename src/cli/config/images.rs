//! `edgeboot config images list`: the images that a control plane needs, by name.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::config::layer::Kind;
use crate::config::node::{Auto, KubernetesVersion, Node};
use crate::config::sources::command_line::{Flag, FlagValue};
use crate::engine::ledger::Ledger;
use crate::error::{Error, Result};
use crate::host::Root;
use crate::k8s::{images, names};
use crate::package::Package;

use super::super::init::feature_gates;
use super::super::wish::wish;
use super::super::{Global, Output, print, print_value};

/// What to do with images.
#[derive(Debug, Clone, Subcommand)]
pub enum Images {
    /// Lists the images that a control plane needs: to fill a registry of one's own, or to build a package.
    #[command(
        after_help = "Example:\n  edgeboot config images list --image-repository registry.example/k8s --kubernetes-version v1.36.3"
    )]
    List(List),
}

/// `edgeboot config images list`.
#[derive(Debug, Clone, Default, Args)]
pub struct List {
    /// A configuration, in place of this machine's own.
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
    /// The Kubernetes version. [default: the configuration's, or the package's]
    #[arg(long, value_name = "VERSION")]
    kubernetes_version: Option<String>,
    /// The registry that the images are named after. [default: the configuration's, registry.k8s.io]
    #[arg(long, value_name = "REGISTRY")]
    image_repository: Option<String>,
    /// kubeadm's feature gates.
    #[arg(long, value_name = "NAME=BOOL,…", value_delimiter = ',')]
    feature_gates: Vec<String>,
}

impl Images {
    /// Prints the list.
    pub fn run(&self, global: &Global) -> Result<()> {
        let Images::List(list) = self;
        let images = list.images(&Root::machine()?)?;
        match global.output {
            Output::Text => {
                print(&images.join("\n"));
                Ok(())
            }
            // kubeadm's `output.kubeadm.k8s.io/v1alpha3` Images.
            output @ (Output::Json | Output::Yaml) => {
                print_value(output, &json!({ "kind": "Images", "apiVersion": names::KUBEADM_OUTPUT, "images": images }))
            }
        }
    }
}

impl List {
    fn images(&self, root: &Root) -> Result<Vec<String>> {
        let texts: [(&str, &[&str], &Option<String>); 2] = [
            ("--kubernetes-version", &["kubernetesVersion"], &self.kubernetes_version),
            ("--image-repository", &["imageRepository"], &self.image_repository),
        ];
        let flag = |flag, written: &str, path, value| Flag { flag, written: written.to_owned(), kind: Kind::Cluster, path, value };
        let mut flags = Vec::new();
        for (name, path, said) in texts {
            if let Some(text) = said {
                flags.push(flag(name, text, path, FlagValue::Text(text.clone())));
            }
        }
        if !self.feature_gates.is_empty() {
            let gates = FlagValue::Map(feature_gates(&self.feature_gates)?);
            flags.push(flag("--feature-gates", &self.feature_gates.join(","), &["featureGates"], gates));
        }
        let node = wish(root, self.config.as_deref(), &flags)?;
        Ok(images::all(&node, &version(root, &node)?))
    }
}

/// The version that is configured, or that of the package: the installed one's, or the one that is configured.
fn version(root: &Root, node: &Node) -> Result<KubernetesVersion> {
    if let Auto::Set(version) = &node.cluster.kubernetes_version {
        return Ok(version.clone());
    }
    let (ledger, _) = Ledger::load(root)?;
    let text = match ledger.facts().package {
        Some(package) => Some(package.kubernetes_version),
        None => Package::open(root, &node.package)?.map(|package| package.kubernetes_version),
    };
    let doing = "asking for the Kubernetes version";
    let text = text.ok_or_else(|| {
        Error::usage(doing).because(format!("there is no package at {}", node.package)).hint("say it by --kubernetes-version")
    })?;
    text.parse().map_err(|why: String| Error::host(doing).because(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_follows_flags_and_file() {
        let folder = tempfile::TempDir::new().expect("a temporary folder");
        let root = Root::at(folder.path().to_str().expect("a plain path")).expect("a tree");
        let file = b"apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: v1.36.1\nimageRepository: r.example\ndns: {disabled: true}\n";
        let _ = root.put("/cluster.yaml", 0o600, file).expect("placed");
        let config = Some("/cluster.yaml".to_owned());
        let images = List { config: config.clone(), ..List::default() }.images(&root).expect("a list");
        assert_eq!(images[0], "r.example/kube-apiserver:v1.36.1");
        assert!(images.iter().all(|image| !image.contains("coredns")) && images.len() == 8, "{images:?}");
        assert!(
            images.iter().any(|image| image.starts_with("ghcr.io/flannel-io/")),
            "the default network's are missing: {images:?}"
        );
        let flags = List {
            config,
            kubernetes_version: Some("v1.36.3".to_owned()),
            image_repository: Some("other.example".to_owned()),
            ..List::default()
        };
        assert_eq!(flags.images(&root).expect("a list")[0], "other.example/kube-apiserver:v1.36.3");
        let error = List::default().images(&root).expect_err("no version").render();
        assert!(
            error.contains("there is no package at /usr/lib/edgeboot/package") && error.contains("--kubernetes-version"),
            "{error}"
        );
    }
}
