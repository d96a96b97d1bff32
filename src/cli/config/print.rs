//! `edgeboot config print`: the defaults as a configuration that can be used as it is.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use crate::components::kube_proxy;
use crate::config::layer::Kind;
use crate::config::node::Node;
use crate::config::sources::command_line::{Flag, FlagValue};
use crate::error::Result;
use crate::host::Root;
use crate::k8s::{defaults, kubelet_config, names};

use super::super::wish::wish_of_flags;
use super::super::{Global, Output, print_values};

/// What is printed.
#[derive(Debug, Clone, Subcommand)]
pub enum Print {
    /// Prints what founds a cluster: the same as `role: controlPlane` alone, with every default said.
    ///
    /// The node's name and address and the Kubernetes version are left out, since machine and package tell them; and there is no
    /// token in it, for one that everybody can read here is none. kubeadm reads its own kinds from it.
    #[command(after_help = "Example:\n  edgeboot config print init-defaults > config.yaml; edgeboot config check config.yaml")]
    InitDefaults(ComponentConfigs),
    /// Prints what joins a worker. Endpoint, token and hash are placeholders: `edgeboot token create --print-join-command` on a control
    /// plane prints the real ones.
    #[command(after_help = "Example:\n  edgeboot config print join-defaults > config.yaml")]
    JoinDefaults,
}

/// Which configurations of components are printed with it.
#[derive(Debug, Clone, Default, Args)]
pub struct ComponentConfigs {
    /// The configurations of these components, too.
    #[arg(long, value_name = "KIND,…", value_delimiter = ',')]
    component_configs: Vec<Component>,
}

/// A component with a configuration of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum Component {
    /// The kubelet's.
    KubeletConfiguration,
    /// kube-proxy's.
    KubeProxyConfiguration,
}

impl Print {
    /// Prints it: YAML, unless JSON is asked for.
    pub fn run(&self, global: &Global) -> Result<()> {
        let output = if global.output == Output::Json { Output::Json } else { Output::Yaml };
        print_values(output, &self.documents(&Root::machine()?)?)
    }

    fn documents(&self, root: &Root) -> Result<Vec<Value>> {
        match self {
            Print::InitDefaults(components) => {
                let node = wish_of_flags(root, &[])?;
                let mut documents = defaults::of_init(&node);
                for component in &components.component_configs {
                    documents.push(component.document(&node)?);
                }
                Ok(documents)
            }
            Print::JoinDefaults => Ok(defaults::of_join(&wish_of_flags(root, &joining())?, names::CA_CERT)),
        }
    }
}

impl Component {
    fn document(self, node: &Node) -> Result<Value> {
        match self {
            // Whether systemd-resolved runs is the machine's to tell, like all its addresses.
            Component::KubeletConfiguration => Ok(kubelet_config::cluster_kubelet_config(node, false)),
            Component::KubeProxyConfiguration => kube_proxy::configuration(node, std::net::Ipv4Addr::UNSPECIFIED.into()),
        }
    }
}

/// The least that says how to join.
fn joining() -> Vec<Flag> {
    const TOKEN: [&str; 2] = ["discovery", "bootstrapToken"];
    const PATHS: [&[&str]; 3] =
        [&[TOKEN[0], TOKEN[1], "apiServerEndpoint"], &[TOKEN[0], TOKEN[1], "token"], &[TOKEN[0], TOKEN[1], "caCertHashes"]];
    let flag = |kind, path, value| Flag { flag: "edgeboot config print", written: String::new(), kind, path, value };
    let [endpoint, token, hash] = defaults::placeholders().map(str::to_owned);
    vec![
        flag(Kind::Node, &["role"], FlagValue::Text("worker".to_owned())),
        flag(Kind::Join, PATHS[0], FlagValue::Text(endpoint)),
        flag(Kind::Join, PATHS[1], FlagValue::Text(token)),
        flag(Kind::Join, PATHS[2], FlagValue::List(vec![hash])),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::init::by_hand;
    use crate::config::{Wish, judge};

    fn root() -> (tempfile::TempDir, Root) {
        let folder = tempfile::TempDir::new().expect("a temporary folder");
        let root = Root::at(folder.path().to_str().expect("a plain path")).expect("a tree");
        (folder, root)
    }

    /// What is printed, read again as a configuration.
    fn read_again(root: &Root, print: &Print) -> Node {
        let documents = print.documents(root).expect("documents");
        let text = documents.iter().map(crate::k8s::yaml::text).collect::<Vec<_>>().join("---\n");
        let _ = root.put("/printed.yaml", 0o600, text.as_bytes()).expect("placed");
        let judged = judge(root, vec![by_hand(root, "/printed.yaml").expect("read")]).expect("judged");
        assert_eq!(judged.findings, [], "{text}");
        match judged.wish {
            Some(Wish::Node { node, .. }) => *node,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_printed_wishes_the_defaults() {
        let (_folder, root) = root();
        let node = read_again(&root, &Print::InitDefaults(ComponentConfigs::default()));
        assert_eq!(node, wish_of_flags(&root, &[]).expect("the defaults"));
        let node = read_again(&root, &Print::JoinDefaults);
        assert_eq!(node, wish_of_flags(&root, &joining()).expect("the defaults"));
    }

    #[test]
    fn component_configurations_can_be_read_again() {
        let (_folder, root) = root();
        let component_configs = vec![Component::KubeletConfiguration, Component::KubeProxyConfiguration];
        let node = read_again(&root, &Print::InitDefaults(ComponentConfigs { component_configs }));
        assert_eq!(node.kubelet_configuration["clusterDomain"], "cluster.local");
        assert_eq!(node.kube_proxy_configuration["clusterCIDR"], "10.244.0.0/16");
    }
}
