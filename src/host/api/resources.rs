//! Which path the API server serves a kind under. A table instead of discovery: edgeboot knows the few kinds it writes, and discovery
//! costs more than all its requests together.

use serde_json::Value;

use crate::error::{Error, Result};

/// apiVersion, kind and plural of every kind that edgeboot touches.
const RESOURCES: &[(&str, &str, &str)] = &[
    ("v1", "ConfigMap", "configmaps"),
    ("v1", "Namespace", "namespaces"),
    ("v1", "Node", "nodes"),
    ("v1", "Pod", "pods"),
    ("v1", "Secret", "secrets"),
    ("v1", "Service", "services"),
    ("v1", "ServiceAccount", "serviceaccounts"),
    ("apps/v1", "DaemonSet", "daemonsets"),
    ("apps/v1", "Deployment", "deployments"),
    ("certificates.k8s.io/v1", "CertificateSigningRequest", "certificatesigningrequests"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings"),
    ("rbac.authorization.k8s.io/v1", "Role", "roles"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"),
];

/// Names an object: `ObjectReference::new("v1", "ConfigMap", "configmaps").namespaced("kube-system").named("kubeadm-config")`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectReference {
    /// For instance `v1` or `rbac.authorization.k8s.io/v1`.
    pub api_version: String,
    /// For instance `ConfigMap`.
    pub kind: String,
    /// For instance `configmaps`.
    pub plural: String,
    /// Empty for cluster-wide kinds.
    pub namespace: String,
    /// The object's name; empty for a list.
    pub name: String,
}

impl ObjectReference {
    /// All objects of a kind.
    pub fn new(api_version: &str, kind: &str, plural: &str) -> ObjectReference {
        ObjectReference {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
            namespace: String::new(),
            name: String::new(),
        }
    }
    /// Those of a namespace.
    #[must_use]
    pub fn namespaced(self, namespace: &str) -> ObjectReference {
        ObjectReference { namespace: namespace.to_owned(), ..self }
    }
    /// The one of that name.
    #[must_use]
    pub fn named(self, name: &str) -> ObjectReference {
        ObjectReference { name: name.to_owned(), ..self }
    }
    /// A Node.
    pub fn node(name: &str) -> ObjectReference {
        ObjectReference::new("v1", "Node", "nodes").named(name)
    }
    /// A Secret.
    pub fn secret(namespace: &str, name: &str) -> ObjectReference {
        ObjectReference::new("v1", "Secret", "secrets").namespaced(namespace).named(name)
    }
    /// What names `object`.
    pub fn of(object: &Value) -> Result<ObjectReference> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (api_version, kind, name) = (text("/apiVersion"), text("/kind"), text("/metadata/name"));
        let plural = RESOURCES.iter().find(|row| row.0 == api_version && row.1 == kind).map(|row| row.2);
        match plural {
            Some(plural) if !name.is_empty() => {
                Ok(ObjectReference::new(api_version, kind, plural).namespaced(text("/metadata/namespace")).named(name))
            }
            Some(_) => Err(Error::internal(format!("addressing a {kind}")).because("it has no name")),
            None => {
                Err(Error::internal(format!("addressing a {api_version} {kind}")).because("the table of kinds does not have it"))
            }
        }
    }

    /// Where the objects of this kind (and namespace) are served.
    pub fn collection_path(&self) -> String {
        let group = if self.api_version.contains('/') { "apis" } else { "api" };
        let (version, plural) = (&self.api_version, &self.plural);
        if self.namespace.is_empty() {
            format!("/{group}/{version}/{plural}")
        } else {
            format!("/{group}/{version}/namespaces/{}/{plural}", self.namespace)
        }
    }
    /// Where this object is served.
    pub fn path(&self) -> String {
        format!("{}/{}", self.collection_path(), self.name)
    }
}

impl std::fmt::Display for ObjectReference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.namespace.is_empty(), self.name.is_empty()) {
            (true, true) => f.write_str(&self.plural),
            (false, true) => write!(f, "{} of {}", self.plural, self.namespace),
            (true, false) => write!(f, "{} {}", self.kind, self.name),
            (false, false) => write!(f, "{} {}/{}", self.kind, self.namespace, self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_are_found_without_discovery() {
        let table = [
            (
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "kube-system", "name": "kubeadm-config"}}),
                "/api/v1/namespaces/kube-system/configmaps/kubeadm-config",
                "ConfigMap kube-system/kubeadm-config",
            ),
            (
                json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "kubeadm:get-nodes"}}),
                "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/kubeadm:get-nodes",
                "ClusterRoleBinding kubeadm:get-nodes",
            ),
            (json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "box"}}), "/api/v1/nodes/box", "Node box"),
        ];
        for (object, path, name) in table {
            let reference = ObjectReference::of(&object).expect(name);
            assert_eq!((reference.path().as_str(), reference.to_string().as_str()), (path, name));
        }
    }

    #[test]
    fn a_kind_that_is_not_in_the_table_is_named() {
        let error =
            ObjectReference::of(&json!({"apiVersion": "v1", "kind": "Gadget", "metadata": {"name": "x"}})).expect_err("unknown");
        assert!(error.to_string().contains("v1 Gadget"), "{error}");
    }
}
