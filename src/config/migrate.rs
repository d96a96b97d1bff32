//! Configurations of before in today's words: kubeadm's v1beta3 kinds become v1beta4. What was not written is not added, and what is
//! today's already, NodeConfig and the kubelet's and kube-proxy's kinds among it, stays as it is; only comments are lost.

use crate::k8s::yaml;

use super::fields::to_json;
use super::findings::{Finding, Findings, SourceId, SourceText};
use super::layer::{Layer, is_apart};
use super::sources::Sort;
use super::tree::Tree;

/// What came of it.
#[derive(Debug)]
pub struct Migrated {
    /// What is wrong, and what was left out.
    pub findings: Vec<Finding>,
    /// The whole stream; of no use when there is an error among the findings.
    pub text: String,
}

/// Brings a stream into today's words. `origin` is what findings call it.
pub fn migrate(origin: &str, bytes: &[u8]) -> Migrated {
    let (findings, written) = (Findings::default(), String::from_utf8_lossy(bytes).into_owned());
    let documents = super::parse(SourceId(0), bytes, &written, Sort::ByHand, &findings);
    let (apart, known): (Vec<Tree>, Vec<Tree>) = documents.into_iter().partition(is_apart);
    let mut texts = Layer::of(known, &findings).texts(&findings);
    texts.extend(apart.iter().map(|tree| yaml::text(&to_json(tree, &findings))));
    let source = SourceText { numbered: true, ..SourceText::of(origin.to_owned(), written) };
    Migrated { findings: findings.told(&[source]), text: texts.join("---\n") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::findings::Level;

    #[test]
    fn v1beta3_becomes_v1beta4_and_all_else_stays() {
        let old = "\
role: controlPlane
---
apiVersion: kubeadm.k8s.io/v1beta3
kind: ClusterConfiguration
apiServer: {timeoutForControlPlane: 5m0s, extraArgs: {v: '4', audit-log-path: /a}}
---
apiVersion: kubeadm.k8s.io/v1beta3
kind: InitConfiguration
nodeRegistration: {kubeletExtraArgs: {node-labels: a=b}}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ResetConfiguration
force: true
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
maxPods: 64
";
        let Migrated { findings, text } = migrate("old.yaml", old.as_bytes());
        assert!(findings.is_empty(), "{findings:?}");
        let expected = "\
apiVersion: edgeboot.io/v1alpha1
kind: NodeConfig
role: controlPlane
---
apiServer:
  extraArgs:
  - name: audit-log-path
    value: /a
  - name: v
    value: \"4\"
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
nodeRegistration:
  kubeletExtraArgs:
  - name: node-labels
    value: a=b
timeouts:
  controlPlaneComponentHealthCheck: 5m0s
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
maxPods: 64
---
apiVersion: kubeadm.k8s.io/v1beta4
force: true
kind: ResetConfiguration
";
        assert_eq!(text, expected);
        let again = migrate("new.yaml", text.as_bytes());
        assert!(again.findings.is_empty() && again.text == expected, "{again:?}");
    }

    #[test]
    fn what_cannot_be_migrated_is_named() {
        for (old, what) in [
            ("apiVersion: kubeadm.k8s.io/v1beta1\nkind: InitConfiguration\n", "is too old"),
            ("apiVersion: v1\nkind: ConfigMap\n", "unknown kind `ConfigMap`"),
            ("a: [", "old.yaml:1"),
            ("", "this is empty"),
        ] {
            let findings = migrate("old.yaml", old.as_bytes()).findings;
            assert!(
                findings.iter().any(|finding| finding.level == Level::Error && finding.render().contains(what)),
                "{old}: {findings:?}"
            );
        }
        let newer = "apiVersion: kubeadm.k8s.io/v1beta3\nkind: InitConfiguration\ntimeouts: {discovery: 1m}\n";
        let migrated = migrate("old.yaml", newer.as_bytes());
        assert!(migrated.findings.iter().all(|finding| finding.level == Level::Warning), "{:?}", migrated.findings);
    }
}
