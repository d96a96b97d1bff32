//! What a cluster says about itself: the `ClusterConfiguration` that a machine which joins has fetched. It was written by a kubeadm or an
//! edgeboot of perhaps another version, so that what is unknown in it is passed over.

use crate::error::{Error, Result};
use crate::k8s::names;

use super::check;
use super::findings::{Finding, Findings, Level, SourceId, SourceText};
use super::kubeadm::ClusterDocument;
use super::layer::{Kind, Layer};
use super::node::{Cluster, NetworkComponent};
use super::tree;

/// The cluster that `text`, a ClusterConfiguration in kubeadm's words, describes. `origin` is where it stands, for the failure.
pub fn cluster(text: &str, origin: &str) -> Result<Cluster> {
    let findings = Findings::default();
    let layer = Layer::of(tree::parse(SourceId(0), text, &findings), &findings);
    let failed = || Error::host(format!("reading {origin}"));
    let tree = layer.get(Kind::Cluster);
    let document = ClusterDocument::read(tree, &findings);
    // Nothing is made up that the cluster does not say: it may have no pod subnet.
    let cluster = check::cluster::check(&document, NetworkComponent::None, names::API_SERVER_PORT, &findings);
    let source = SourceText { numbered: true, ..SourceText::of(origin.to_owned(), String::new()) };
    let errors: Vec<String> =
        findings.told(&[source]).iter().filter(|finding| finding.level == Level::Error).map(Finding::render).collect();
    match (errors.is_empty(), tree.is_some()) {
        (true, true) => Ok(cluster),
        (true, false) => Err(failed().because("it holds no ClusterConfiguration")),
        (false, _) => Err(failed().because(errors.join("; "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sample;
    use crate::k8s::cluster_configuration::cluster_configuration;

    #[test]
    fn a_cluster_is_read_as_it_was_uploaded() {
        let wished = sample::control_plane().cluster;
        let text = cluster_configuration(&wished, wished.kubernetes_version.set().expect("set"));
        assert_eq!(cluster(&text, "x").expect("read"), wished);
        let more = text.replace("proxy: {}", "proxy: {}\nofAnotherVersion: {a: b}");
        assert_eq!(cluster(&more, "x").expect("read"), wished);
    }

    #[test]
    fn what_is_no_cluster_says_so() {
        for text in [
            "",
            "a: [",
            "apiVersion: v1\nkind: ConfigMap\n",
            "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\netcd: 3\n",
        ] {
            assert!(cluster(text, "/x").expect_err(text).to_string().starts_with("reading /x: "), "{text}");
        }
    }
}
