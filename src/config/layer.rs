//! Sorts the documents of each source by kind, and lays the sources over each other: fields merge, lists and texts of the higher
//! layer replace, and `name+:` appends to the list of the lower one. Within a source each kind stands once: each thing is said in one
//! place only.

use crate::k8s::yaml;

use super::fields::to_json;
use super::findings::{Findings, Place, did_you_mean};
use super::forms;
use super::kubeadm;
use super::schema;
use super::tree::{Key, Tree, Value};

/// The kinds of documents that a stream may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ours.
    Node,
    /// kubeadm's.
    Init,
    /// kubeadm's.
    Cluster,
    /// kubeadm's.
    Join,
    /// The kubelet's.
    Kubelet,
    /// kube-proxy's.
    KubeProxy,
}

/// A kind, its API group, the versions that are read, and its name.
struct KindRow(Kind, &'static str, &'static [&'static str], &'static str);

const KUBEADM: &str = "kubeadm.k8s.io";
const KUBEADM_VERSIONS: &[&str] = &["v1beta4", "v1beta3"];
const KINDS: &[KindRow] = &[
    KindRow(Kind::Node, "edgeboot.io", &["v1alpha1"], "NodeConfig"),
    KindRow(Kind::Init, KUBEADM, KUBEADM_VERSIONS, "InitConfiguration"),
    KindRow(Kind::Cluster, KUBEADM, KUBEADM_VERSIONS, "ClusterConfiguration"),
    KindRow(Kind::Join, KUBEADM, KUBEADM_VERSIONS, "JoinConfiguration"),
    KindRow(Kind::Kubelet, "kubelet.config.k8s.io", &["v1beta1"], "KubeletConfiguration"),
    KindRow(Kind::KubeProxy, "kubeproxy.config.k8s.io", &["v1alpha1"], "KubeProxyConfiguration"),
];
/// kubeadm's kinds that say nothing about what a node is.
const IGNORED: &[&str] = &["ResetConfiguration", "UpgradeConfiguration"];
/// kubeadm versions whose `config migrate` still reads an old API (kubeadm's `validateSupportedVersion`).
const MIGRATED_BY: &[(&str, &str)] =
    &[("v1alpha1", "v1.11"), ("v1alpha2", "v1.12"), ("v1alpha3", "v1.14"), ("v1beta1", "v1.15"), ("v1beta2", "v1.22")];

impl Kind {
    /// Its name.
    pub fn name(self) -> &'static str {
        self.row().3
    }
    /// The kind of that name.
    pub fn named(name: &str) -> Option<Kind> {
        KINDS.iter().find(|row| row.3 == name).map(|row| row.0)
    }
    /// The names of all kinds.
    pub fn names() -> impl Iterator<Item = &'static str> {
        KINDS.iter().map(|row| row.3)
    }
    fn row(self) -> &'static KindRow {
        KINDS.iter().find(|row| row.0 == self).expect("every kind has a row")
    }
    /// The `apiVersion` in which edgeboot writes it.
    pub fn api_version(self) -> String {
        let KindRow(_, group, versions, _) = self.row();
        format!("{group}/{}", versions[0])
    }
}

/// At most one document of each kind.
#[derive(Debug, Clone, Default)]
pub struct Layer {
    documents: Vec<(Kind, Tree)>,
}

impl Layer {
    /// The document of that kind.
    pub fn get(&self, kind: Kind) -> Option<&Tree> {
        self.documents.iter().find(|(known, _)| *known == kind).map(|(_, tree)| tree)
    }
    /// The document of that kind, to be changed.
    pub fn get_mut(&mut self, kind: Kind) -> Option<&mut Tree> {
        self.documents.iter_mut().find(|(known, _)| *known == kind).map(|(_, tree)| tree)
    }
    /// The document of that kind, made at `place` when there is none.
    pub fn get_or_insert(&mut self, kind: Kind, place: Place) -> &mut Tree {
        let index = self.documents.iter().position(|(known, _)| *known == kind).unwrap_or_else(|| {
            self.documents.push((kind, Tree::empty_map(place)));
            self.documents.len() - 1
        });
        &mut self.documents[index].1
    }
    /// Whether a machine of this configuration joins a cluster; otherwise it founds one.
    pub fn joins(&self) -> bool {
        self.get(Kind::Join).is_some() || self.get(Kind::Node).is_some_and(|node| node.at(&["join"]).is_some())
    }
    /// All documents.
    pub fn documents(&self) -> &[(Kind, Tree)] {
        &self.documents
    }

    /// The documents as they are written: YAML, each with its `apiVersion` and `kind`.
    pub fn texts(&self, findings: &Findings) -> Vec<String> {
        let text = |(kind, tree): &(Kind, Tree)| {
            let mut tree = tree.clone();
            if *kind == Kind::Node {
                schema::quote_texts(&mut tree);
            }
            tree.set("apiVersion", Tree::text(tree.place, kind.api_version()));
            tree.set("kind", Tree::text(tree.place, kind.name()));
            yaml::text(&to_json(&tree, findings))
        };
        self.documents.iter().map(text).collect()
    }

    /// Sorts the documents of one source by kind, in kubeadm's newest form.
    pub fn of(documents: Vec<Tree>, findings: &Findings) -> Layer {
        let mut layer = Layer::default();
        let mut timeout = None;
        for mut tree in documents {
            let Some((kind, version)) = kind_of(&tree, findings) else { continue };
            if let Some(first) = layer.get(kind) {
                let (message, line) = (format!("a second {} in the same file", kind.name()), first.place.line);
                findings.error_with_help(tree.place, message, format!("the first begins at line {line}: say it all there"));
                continue;
            }
            tree.take("apiVersion");
            tree.take("kind");
            if version == "v1beta3" {
                timeout = kubeadm::from_v1beta3(kind, &mut tree, findings).or(timeout);
            }
            layer.documents.push((kind, tree));
        }
        if let Some(timeout) = timeout {
            let place = timeout.place;
            let timeouts = layer.get_or_insert(Kind::Init, place);
            let mut inner = timeouts.take("timeouts").map_or_else(|| Tree::empty_map(place), |(_, tree)| tree);
            inner.set("controlPlaneComponentHealthCheck", timeout);
            timeouts.set("timeouts", inner);
        }
        forms::refuse_both(&layer, findings);
        layer
    }

    /// Lays `higher` over this one.
    pub fn lay(&mut self, higher: Layer) {
        forms::drop_replaced(self, &higher);
        for (kind, tree) in higher.documents {
            let target = self.get_or_insert(kind, tree.place);
            let lower = std::mem::replace(target, Tree::empty_map(tree.place));
            *target = merge(lower, tree);
        }
    }
}

/// Lays `higher` over `lower`.
fn merge(lower: Tree, higher: Tree) -> Tree {
    let place = higher.place;
    match (lower.value, higher.value) {
        (Value::Map(mut fields), Value::Map(news)) => {
            fields.retain(|(lower, _)| !news.iter().any(|(higher, _)| forms::is_other_form(&lower.name, &higher.name)));
            for (key, tree) in news {
                lay_field(&mut fields, key, tree);
            }
            Tree { place, value: Value::Map(fields) }
        }
        (_, value) => Tree { place, value },
    }
}

fn lay_field(fields: &mut Vec<(Key, Tree)>, mut key: Key, tree: Tree) {
    let appends = key.name.strip_suffix('+').map(str::to_owned);
    if let Some(name) = &appends {
        key.name.clone_from(name);
    }
    let Some(index) = fields.iter().position(|(known, _)| known.name == key.name) else {
        let tree = merge(Tree::empty_map(tree.place), tree);
        fields.push((key, tree));
        return;
    };
    let lower = std::mem::replace(&mut fields[index].1, Tree { place: tree.place, value: Value::Null });
    let merged = match (appends, lower, tree) {
        (Some(_), Tree { value: Value::List(mut items), .. }, Tree { value: Value::List(more), place }) => {
            items.extend(more);
            Tree { place, value: Value::List(items) }
        }
        (_, lower, tree) => merge(lower, tree),
    };
    fields[index] = (key, merged);
}

/// Whether it is one of kubeadm's kinds that say nothing about what a node is.
pub fn is_apart(tree: &Tree) -> bool {
    let is = |name: &str, told: &dyn Fn(&str) -> bool| {
        tree.field(name).is_some_and(|field| matches!(&field.value, Value::Text(text, _) if told(text)))
    };
    is("apiVersion", &|version| version.starts_with(KUBEADM)) && is("kind", &|kind| IGNORED.contains(&kind))
}

/// What kind of document it is; `None` after a finding.
fn kind_of(tree: &Tree, findings: &Findings) -> Option<(Kind, &'static str)> {
    if tree.fields().is_none() {
        findings.error_with_help(tree.place, "this is no configuration", "a whole configuration is `role: controlPlane`");
        return None;
    }
    let word = |name: &str| match tree.field(name).map(|tree| &tree.value) {
        Some(Value::Text(text, _)) => text.as_str(),
        _ => "",
    };
    let (api_version, kind) = (word("apiVersion"), word("kind"));
    if api_version.is_empty() && kind.is_empty() {
        return Some((Kind::Node, "v1alpha1"));
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let at = |name: &str| tree.field(name).map_or(tree.place, |field| field.place);
    let Some(KindRow(known, known_group, versions, _)) = KINDS.iter().find(|row| row.3 == kind) else {
        unknown_kind(group, kind, at("kind"), findings);
        return None;
    };
    if let Some(version) = versions.iter().find(|known| group == *known_group && version == **known) {
        return Some((*known, version));
    }
    let wanted = known.api_version();
    let (message, help) = match MIGRATED_BY.iter().find(|(old, _)| group == KUBEADM && version == *old) {
        Some((_, release)) => (
            format!("`{api_version}` is too old"),
            format!("`kubeadm config migrate --old-config old.yaml --new-config new.yaml` of kubeadm {release} writes a newer one"),
        ),
        None if api_version.is_empty() => ("`apiVersion` is missing".to_owned(), format!("add `apiVersion: {wanted}`")),
        None => (format!("{kind} is not known in `{api_version}`"), format!("write `apiVersion: {wanted}`")),
    };
    findings.error_with_help(at("apiVersion"), message, help);
    None
}

fn unknown_kind(group: &str, kind: &str, place: Place, findings: &Findings) {
    if group == KUBEADM && IGNORED.contains(&kind) {
        findings.warning(place, format!("{kind} does not say what a node is; it is left out"));
        return;
    }
    let message = if kind.is_empty() { "`kind` is missing".to_owned() } else { format!("unknown kind `{kind}`") };
    let help = match did_you_mean(kind, KINDS.iter().map(|row| row.3)) {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("known are {}", KINDS.iter().map(|row| row.3).collect::<Vec<_>>().join(", ")),
    };
    findings.error_with_help(place, message, help);
}
