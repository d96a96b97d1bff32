//! Kubernetes objects as plain JSON: the shapes that kubeadm writes again and again, their digest, and whether a live object says
//! what a wish says. The server fills in defaults, so that a live object says more than was written: only the wish's fields count.

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::yaml;

/// The namespace of the control plane.
pub const KUBE_SYSTEM: &str = "kube-system";
/// The namespace that anybody may read.
pub const KUBE_PUBLIC: &str = "kube-public";

const RBAC: &str = "rbac.authorization.k8s.io";

/// Who is granted something.
#[derive(Debug, Clone, Copy)]
pub enum Grantee<'a> {
    /// A user.
    User(&'a str),
    /// A group.
    Group(&'a str),
    /// A service account of `kube-system`.
    ServiceAccount(&'a str),
}

/// A ConfigMap.
pub fn config_map(namespace: &str, name: &str, data: &[(&str, &str)]) -> Value {
    let data: Map<String, Value> = data.iter().map(|(key, text)| ((*key).to_owned(), json!(text))).collect();
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data})
}

/// A Role that allows to read one object.
pub fn role_to_read(namespace: &str, name: &str, resource: &str, object: &str) -> Value {
    json!({
        "apiVersion": format!("{RBAC}/v1"), "kind": "Role", "metadata": {"name": name, "namespace": namespace},
        "rules": [{"apiGroups": [""], "resourceNames": [object], "resources": [resource], "verbs": ["get"]}],
    })
}

/// Binds the Role of the same name.
pub fn role_binding(namespace: &str, name: &str, grantees: &[Grantee<'_>]) -> Value {
    json!({
        "apiVersion": format!("{RBAC}/v1"), "kind": "RoleBinding", "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": name}, "subjects": subjects(grantees),
    })
}

/// Binds a ClusterRole everywhere.
pub fn cluster_role_binding(name: &str, cluster_role: &str, grantees: &[Grantee<'_>]) -> Value {
    json!({
        "apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": cluster_role}, "subjects": subjects(grantees),
    })
}

/// A ClusterRole with one rule on the core group.
pub fn cluster_role(name: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({
        "apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRole", "metadata": {"name": name},
        "rules": [{"apiGroups": [""], "resources": resources, "verbs": verbs}],
    })
}

/// A ServiceAccount of `kube-system`.
pub fn service_account(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": KUBE_SYSTEM}})
}

fn subjects(grantees: &[Grantee<'_>]) -> Vec<Value> {
    let subject = |grantee: &Grantee<'_>| match grantee {
        Grantee::User(name) => json!({"apiGroup": RBAC, "kind": "User", "name": name}),
        Grantee::Group(name) => json!({"apiGroup": RBAC, "kind": "Group", "name": name}),
        Grantee::ServiceAccount(name) => json!({"kind": "ServiceAccount", "name": name, "namespace": KUBE_SYSTEM}),
    };
    grantees.iter().map(subject).collect()
}

/// Marks a component's ConfigMap as generated, so that `kubeadm upgrade` may generate it again (kubeadm's `SignConfigMap`: the digest
/// of all data in the order of the keys).
pub fn signed(mut config_map: Value) -> Value {
    let data = config_map.get("data").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut texts: Vec<(&String, &str)> = data.iter().filter_map(|(key, text)| Some((key, text.as_str()?))).collect();
    texts.sort_unstable();
    let mut hash = Sha256::new();
    for (_, text) in texts {
        hash.update(text.as_bytes());
    }
    let digest = format!("sha256:{}", hex::encode(hash.finalize()));
    config_map["metadata"]["annotations"] = json!({"kubeadm.kubernetes.io/component-config.hash": digest});
    config_map
}

/// The digest of an object as it is wished, whatever the order of its keys.
pub fn digest(object: &Value) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(yaml::sorted(object).to_string())))
}

/// Where `live` says something else than `wish`: JSON pointers, the first few. Never the values: they may be secret.
pub fn differences(wish: &Value, live: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare(wish, Some(live), "", &mut found);
    found
}

fn compare(wish: &Value, live: Option<&Value>, at: &str, found: &mut Vec<String>) {
    match (wish, live) {
        // The server leaves out what is zero, as Go's encoder does.
        (wish, None | Some(Value::Null)) if is_zero(wish) => {}
        (Value::Object(wish), Some(Value::Object(live))) => {
            for (key, value) in wish {
                compare(value, live.get(key), &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        (Value::Array(wish), Some(Value::Array(live))) if wish.len() == live.len() => {
            for (index, value) in wish.iter().enumerate() {
                compare(value, live.get(index), &format!("{at}/{index}"), found);
            }
        }
        (wish, Some(live)) if wish == live => {}
        _ => found.push(at.to_owned()),
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(truth) => !truth,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_zero),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_wish_says_counts() {
        let wish = json!({"spec": {"replicas": 2, "readOnly": false, "none": {}, "ports": [{"port": 53}]}});
        let same = json!({"spec": {"replicas": 2, "ports": [{"port": 53, "protocol": "TCP"}], "more": 1}, "status": {}});
        assert_eq!(differences(&wish, &same), Vec::<String>::new());
        let table = [
            (json!({"spec": {"replicas": 3, "ports": [{"port": 53}]}}), "/spec/replicas"),
            (json!({"spec": {"replicas": 2, "ports": []}}), "/spec/ports"),
            (json!({"spec": {"replicas": 2, "ports": [{"port": 54}]}}), "/spec/ports/0/port"),
            (json!({"spec": {"replicas": 2, "ports": [{"port": 53}], "readOnly": true}}), "/spec/readOnly"),
            (json!({}), "/spec"),
        ];
        for (live, pointer) in table {
            assert_eq!(differences(&wish, &live), [pointer]);
        }
    }

    #[test]
    fn a_digest_does_not_depend_on_the_order_of_keys() {
        assert_eq!(digest(&json!({"a": 1, "b": {"c": 2, "d": 3}})), digest(&json!({"b": {"d": 3, "c": 2}, "a": 1})));
        assert_ne!(digest(&json!({"a": 1})), digest(&json!({"a": 2})));
    }

    #[test]
    fn a_generated_config_map_is_signed_over_its_data_in_key_order() {
        let signed = signed(config_map(KUBE_SYSTEM, "x", &[("b", "2"), ("a", "1")]));
        let expected = format!("sha256:{}", hex::encode(Sha256::digest(b"12")));
        assert_eq!(signed["metadata"]["annotations"]["kubeadm.kubernetes.io/component-config.hash"], json!(expected));
    }
}
