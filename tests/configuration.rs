//! Configurations as users write them, from files to the wish or to the exact text of what is wrong.

use edgeboot::config::node::{Auto, NetworkComponent, Node, Role};
use edgeboot::config::{Outcome, Wish, load};
use edgeboot::error::{Error, Kind};
use edgeboot::host::Root;
use tempfile::TempDir;

struct Machine {
    _folder: TempDir,
    root: Root,
}

impl Machine {
    fn with(files: &[(&str, &str)]) -> Machine {
        let folder = TempDir::new().expect("a temporary folder");
        let root = Root::at(folder.path().to_str().expect("a plain path")).expect("a tree");
        for (path, text) in files {
            let _ = root.put(path, 0o600, text.as_bytes()).expect(path);
        }
        Machine { _folder: folder, root }
    }
    fn outcome(&self) -> Result<Outcome, Error> {
        load(&self.root, &[])
    }
}

fn node_of(outcome: Outcome) -> Node {
    match outcome.wish {
        Wish::Node { node, .. } => *node,
        Wish::Nothing { .. } => panic!("no role"),
    }
}

fn config(text: &str) -> Result<Outcome, Error> {
    Machine::with(&[("/etc/edgeboot/config.yaml", text)]).outcome()
}

fn node(text: &str) -> Node {
    node_of(config(text).unwrap_or_else(|error| panic!("{}\n{text}", error.render())))
}

fn refused(text: &str) -> String {
    let error = config(text).expect_err("it is refused");
    assert_eq!(error.kind(), Kind::Config, "{error}");
    error.to_string()
}

#[test]
fn a_role_alone_is_a_whole_configuration() {
    for text in [
        "role: controlPlane",
        "apiVersion: edgeboot.io/v1alpha1\nkind: NodeConfig\nrole: controlPlane\n",
        "{\"role\": \"controlPlane\"}",
    ] {
        let node = node(text);
        assert_eq!(node.role, Role::ControlPlane);
        assert_eq!(node.network, NetworkComponent::Bridge);
        assert_eq!(node.cluster.kubernetes_version, Auto::Auto);
        assert_eq!(node.cluster.pod_subnets, vec!["10.244.0.0/16".parse().expect("a subnet")]);
        assert_eq!(node.cluster.service_subnets, vec!["10.96.0.0/12".parse().expect("a subnet")]);
        assert_eq!(node.registration.taints.len(), 1);
        assert!(node.bootstrap_tokens.is_empty());
    }
}

#[test]
fn the_configuration_of_the_trial_machine_is_good() {
    let node = node(include_str!("../image/try.yaml"));
    assert!(node.runtime.config.contains("restrict_oom_score_adj"));
    assert_eq!(node.kubelet_configuration.get("failCgroupV1"), Some(&false.into()));
    assert_eq!(node.kube_proxy_configuration.get("mode"), Some(&"nftables".into()));
}

#[test]
fn an_unknown_field_is_shown_with_its_line_and_what_was_meant() {
    assert_eq!(
        refused("rol: controlPlane\n"),
        "checking the configuration: 1 error
error: unknown field `rol`
  --> /etc/edgeboot/config.yaml:1:1
   |
 1 | rol: controlPlane
   | ^^^
   = help: did you mean `role`?"
    );
}
