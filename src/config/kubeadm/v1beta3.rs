//! kubeadm.k8s.io/v1beta3 documents, brought into the form of v1beta4 before anything else looks at them
//! (`cmd/kubeadm/app/apis/kubeadm/v1beta3/conversion.go`): flags that are a mapping become a sorted list, and the timeouts of the API
//! server and of discovery move to the timeouts. What v1beta3 does not know is left out with a warning, as kubeadm does.

use crate::config::findings::{Findings, Level, Place};
use crate::config::layer::Kind;
use crate::config::tree::{Key, Tree, Value};

/// Where flags stand.
const ARGUMENTS: &[(Kind, &[&str])] = &[
    (Kind::Cluster, &["apiServer", "extraArgs"]),
    (Kind::Cluster, &["controllerManager", "extraArgs"]),
    (Kind::Cluster, &["scheduler", "extraArgs"]),
    (Kind::Cluster, &["etcd", "local", "extraArgs"]),
    (Kind::Init, &["nodeRegistration", "kubeletExtraArgs"]),
    (Kind::Join, &["nodeRegistration", "kubeletExtraArgs"]),
];

/// What v1beta4 brought.
const NEWER: &[(Kind, &[&str])] = &[
    (Kind::Init, &["dryRun"]),
    (Kind::Init, &["timeouts"]),
    (Kind::Init, &["nodeRegistration", "imagePullSerial"]),
    (Kind::Join, &["dryRun"]),
    (Kind::Join, &["timeouts"]),
    (Kind::Join, &["nodeRegistration", "imagePullSerial"]),
    (Kind::Cluster, &["encryptionAlgorithm"]),
    (Kind::Cluster, &["certificateValidityPeriod"]),
    (Kind::Cluster, &["caCertificateValidityPeriod"]),
    (Kind::Cluster, &["apiServer", "extraEnvs"]),
    (Kind::Cluster, &["controllerManager", "extraEnvs"]),
    (Kind::Cluster, &["scheduler", "extraEnvs"]),
    (Kind::Cluster, &["dns", "disabled"]),
    (Kind::Cluster, &["proxy"]),
    (Kind::Cluster, &["etcd", "local", "extraEnvs"]),
    (Kind::Cluster, &["etcd", "external", "httpEndpoints"]),
];

/// Brings a document into the form of v1beta4. What is returned is the API server's timeout, which belongs to another document.
pub fn from_v1beta3(kind: Kind, tree: &mut Tree, findings: &Findings) -> Option<Tree> {
    for (_, path) in NEWER.iter().filter(|(of, _)| *of == kind) {
        if let Some((key, _)) = tree.take_at(path) {
            let message = format!("v1beta3 has no `{}`; it is left out", path.join("."));
            findings.note(Level::Warning, key.place, message, "write `apiVersion: kubeadm.k8s.io/v1beta4`");
        }
    }
    for (_, path) in ARGUMENTS.iter().filter(|(of, _)| *of == kind) {
        if let Some(arguments) = tree.at_mut(path) {
            sort_arguments(arguments, path, findings);
        }
    }
    if kind == Kind::Join
        && let Some((_, timeout)) = tree.take_at(&["discovery", "timeout"])
    {
        let mut timeouts = Tree::empty_map(timeout.place);
        timeouts.set("discovery", timeout);
        tree.set("timeouts", timeouts);
    }
    if kind != Kind::Cluster {
        return None;
    }
    tree.take_at(&["apiServer", "timeoutForControlPlane"]).map(|(_, timeout)| timeout)
}

/// A mapping of flags as a list of names and values, sorted by name.
fn sort_arguments(arguments: &mut Tree, path: &[&str], findings: &Findings) {
    let place = arguments.place;
    match std::mem::replace(&mut arguments.value, Value::Null) {
        Value::Map(mut fields) => {
            fields.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
            let items = fields.into_iter().map(|(key, value)| argument(&key, value));
            arguments.value = Value::List(items.collect());
        }
        Value::List(_) => {
            let message = format!("in v1beta3 `{}` takes fields, not a list", path.join("."));
            findings.error_with_help(place, message, "write `apiVersion: kubeadm.k8s.io/v1beta4`, or `name: value`");
        }
        other => arguments.value = other,
    }
}

fn argument(key: &Key, value: Tree) -> Tree {
    let place: Place = value.place;
    let field = |name: &str, tree: Tree| (Key { name: name.to_owned(), place: key.place }, tree);
    let fields = vec![field("name", Tree::text(key.place, key.name.clone())), field("value", value)];
    Tree { place, value: Value::Map(fields) }
}
