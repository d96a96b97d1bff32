//! Strategic merge patches, as `k8s.io/apimachinery/pkg/util/strategicpatch` applies them: objects merge, lists merge by a key where the
//! Go type says so (the table below) and are replaced elsewhere, and `$patch`, `$retainKeys`, `$deleteFromPrimitiveList/x` and
//! `$setElementOrder/x` direct the rest.

use serde_json::{Map, Value};

type Object = Map<String, Value>;

/// Lists that merge, and by which key; an empty key for lists of plain values.
pub type MergeKeys = &'static [(&'static str, &'static str)];

/// For types without patch metadata.
pub const NO_MERGE_KEYS: MergeKeys = &[];

/// The `patchMergeKey` tags of everything below a Pod or a Deployment (`k8s.io/api/{core,apps}/v1/types.go`). No field of these trees
/// has one of these names and another meaning, so the name alone is the key of this table.
pub const POD_MERGE_KEYS: MergeKeys = &[
    ("allocatedResourcesStatus", "name"),
    ("conditions", "type"),
    ("containers", "name"),
    ("env", "name"),
    ("ephemeralContainers", "name"),
    ("finalizers", ""),
    ("hostAliases", "ip"),
    ("hostIPs", "ip"),
    ("imagePullSecrets", "name"),
    ("initContainers", "name"),
    ("ownerReferences", "uid"),
    ("podIPs", "ip"),
    ("ports", "containerPort"),
    ("resourceClaimStatuses", "name"),
    ("resourceClaims", "name"),
    ("schedulingGates", "name"),
    ("topologySpreadConstraints", "topologyKey"),
    ("volumeDevices", "devicePath"),
    ("volumeMounts", "mountPath"),
    ("volumes", "name"),
];

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";

/// `patch` merged into `original`.
pub fn merge(mut original: Object, mut patch: Object, keys: MergeKeys) -> Result<Object, String> {
    if let Some(directive) = patch.remove(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => Ok(patch),
            Some("delete") => Ok(Object::new()),
            _ => Err(format!("unknown $patch directive {directive} in an object: it is replace or delete")),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    set_orders(&mut original, &mut patch, keys)?;
    for (key, value) in patch {
        merge_field(&mut original, &key, value, keys)?;
    }
    Ok(original)
}

fn merge_field(original: &mut Object, key: &str, value: Value, keys: MergeKeys) -> Result<(), String> {
    if let Some(list) = key.strip_prefix(DELETE_FROM_LIST) {
        return delete_from_list(original, list, &value);
    }
    let merged = match (original.get_mut(key).map(Value::take), value) {
        (_, Value::Null) => None,
        (Some(Value::Object(before)), Value::Object(value)) => Some(Value::Object(merge(before, value, keys)?)),
        (Some(Value::Array(before)), Value::Array(value)) => Some(Value::Array(match merge_key(keys, key) {
            Some(by) => merge_list(before, value, by, keys)?,
            None => value,
        })),
        (_, value) => without_directives(without_nulls(value)),
    };
    match merged {
        Some(merged) => original.insert(key.to_owned(), merged),
        // `shift_remove` keeps the order of what stays.
        None => original.shift_remove(key),
    };
    Ok(())
}

fn merge_key(keys: MergeKeys, field: &str) -> Option<&'static str> {
    keys.iter().find(|(name, _)| *name == field).map(|(_, key)| *key)
}

/// `$retainKeys`: what it does not list goes, and the patch may set nothing else.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), String> {
    let Some(retained) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let retained = retained.as_array().ok_or("$retainKeys is not a list")?;
    let retains = |key: &str| retained.iter().any(|kept| kept.as_str() == Some(key));
    let stray = patch
        .iter()
        .filter(|(key, value)| !value.is_null() && !key.starts_with(DELETE_FROM_LIST) && !key.starts_with(SET_ORDER))
        .find(|(key, _)| !retains(key));
    if let Some((key, _)) = stray {
        return Err(format!("the patch sets '{key}', which its $retainKeys does not list"));
    }
    original.retain(|key, _| retains(key));
    Ok(())
}

fn delete_from_list(original: &mut Object, list: &str, values: &Value) -> Result<(), String> {
    let values = values.as_array().ok_or_else(|| format!("{DELETE_FROM_LIST}{list} is not a list"))?;
    if let Some(before) = original.get_mut(list) {
        let before = before.as_array_mut().ok_or_else(|| format!("'{list}' is not a list"))?;
        before.retain(|value| !values.contains(value));
    }
    Ok(())
}

/// `$setElementOrder/list`: merges that list and puts it in the given order; what only the original has keeps its place.
fn set_orders(original: &mut Object, patch: &mut Object, keys: MergeKeys) -> Result<(), String> {
    let directives: Vec<String> = patch.keys().filter(|key| key.starts_with(SET_ORDER)).cloned().collect();
    for directive in directives {
        let list = directive[SET_ORDER.len()..].to_owned();
        let order = patch.shift_remove(&directive).and_then(into_list).ok_or_else(|| format!("{directive} is not a list"))?;
        let before = list_field(original, &list)?;
        let given = patch.shift_remove(&list).map(|value| into_list(value).ok_or_else(|| format!("'{list}' is not a list")));
        let given = given.transpose()?;
        let by = merge_key(keys, &list);
        if before.is_none() && given.is_none() {
            continue;
        }
        let (old, new) = (before.as_deref().unwrap_or_default(), given.as_deref().unwrap_or_default());
        check_order(new, &order, by.unwrap_or_default(), &directive)?;
        if old.is_empty() && new.is_empty() {
            return Err(format!("{directive} orders a list without elements"));
        }
        let standing = standing_order(old, new, by.unwrap_or_default());
        let merged = match (before, given) {
            (Some(before), Some(given)) => match by {
                Some(by) => merge_list(before, given, by, keys)?,
                None => given,
            },
            (before, given) => {
                before.or_else(|| given.map(|given| given.into_iter().filter_map(without_directives).collect())).unwrap_or_default()
            }
        };
        let ordered = in_order(merged, &order, &standing, by.unwrap_or_default())?;
        original.insert(list, Value::Array(ordered));
    }
    Ok(())
}

/// The original's order as `mergePatchIntoOriginal` sees it once it has merged: Go's slices share their memory, so elements that are
/// new stand where deleted ones made room.
fn standing_order(before: &[Value], given: &[Value], by: &str) -> Vec<Value> {
    let same = |a: &Value, b: &Value| !by.is_empty() && a.get(by) == b.get(by);
    let directive = |item: &Value, word: &str| item.get(DIRECTIVE).and_then(Value::as_str) == Some(word);
    let gone = |item: &Value| given.iter().any(|other| directive(other, "delete") && same(item, other));
    let mut order: Vec<Value> = before.iter().filter(|item| !gone(item)).cloned().collect();
    if !given.iter().any(|item| directive(item, "replace")) {
        let new = given.iter().filter(|item| item.get(DIRECTIVE).is_none() && !order.iter().any(|there| same(there, item)));
        let new: Vec<Value> = new.take(before.len() - order.len()).cloned().collect();
        order.extend(new);
    }
    order
}

fn into_list(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(items) => Some(items),
        _ => None,
    }
}

fn list_field(object: &Object, field: &str) -> Result<Option<Vec<Value>>, String> {
    match object.get(field) {
        None => Ok(None),
        Some(Value::Array(items)) => Ok(Some(items.clone())),
        Some(_) => Err(format!("'{field}' is not a list")),
    }
}

/// The elements of the patch must follow each other as the order says (`validatePatchWithSetOrderList`, which also refuses a directive
/// after the last ordered element).
fn check_order(given: &[Value], order: &[Value], by: &str, directive: &str) -> Result<(), String> {
    if order.is_empty() || given.is_empty() {
        return Ok(());
    }
    let mut left = given.iter().filter(|item| item.get(DIRECTIVE).and_then(Value::as_str) != Some("delete")).peekable();
    let mut order = order.iter();
    while let Some(item) = left.peek() {
        if order.len() > 0 && item.get(DIRECTIVE).is_some() {
            left.next();
            continue;
        }
        let Some(ordered) = order.next() else {
            return Err(format!("the order of the patch's elements does not match {directive}"));
        };
        if identity(item, by)? == identity(ordered, by)? {
            left.next();
        }
    }
    Ok(())
}

/// Merges two lists by a key, or as a set of plain values when the key is empty.
fn merge_list(before: Vec<Value>, patch: Vec<Value>, by: &str, keys: MergeKeys) -> Result<Vec<Value>, String> {
    if before.is_empty() && patch.is_empty() {
        return Ok(before);
    }
    let objects = before.iter().chain(&patch).filter(|item| item.is_object()).count();
    if objects == 0 {
        let mut merged: Vec<Value> = Vec::new();
        for item in before.iter().chain(&patch) {
            if !merged.contains(item) {
                merged.push(item.clone());
            }
        }
        return in_order(merged, &patch, &before, "");
    }
    if objects < before.len() + patch.len() {
        return Err("a list holds objects and plain values".to_owned());
    }
    if by.is_empty() {
        return Err("lists of objects cannot be merged without a merge key".to_owned());
    }
    let (before, patch) = special_elements(before, patch, by)?;
    let mut merged = before.clone();
    for item in &patch {
        let wanted = identity(item, by)?;
        match merged.iter_mut().find(|there| there.get(by) == Some(wanted)) {
            Some(there) => {
                let (Value::Object(original), Value::Object(item)) = (there.take(), item.clone()) else {
                    return Err("a list holds objects and plain values".to_owned());
                };
                *there = Value::Object(merge(original, item, keys)?);
            }
            None => merged.push(item.clone()),
        }
    }
    in_order(merged, &patch, &before, by)
}

/// Elements with a `$patch`: `delete` removes those of its key, `replace` anywhere replaces the whole list.
fn special_elements(mut before: Vec<Value>, patch: Vec<Value>, by: &str) -> Result<(Vec<Value>, Vec<Value>), String> {
    let mut plain = Vec::new();
    let mut replace = false;
    for item in patch {
        match item.get(DIRECTIVE).map(|directive| (directive.as_str(), directive)) {
            None => plain.push(item),
            Some((Some("replace"), _)) => replace = true,
            Some((Some("delete"), _)) => {
                let gone = identity(&item, by)?;
                before.retain(|there| there.get(by) != Some(gone));
            }
            Some((_, directive)) => return Err(format!("unknown $patch directive {directive} in a list: it is replace or delete")),
        }
    }
    Ok(if replace { (plain, Vec::new()) } else { (before, plain) })
}

/// What tells one element of a list from another.
fn identity<'a>(item: &'a Value, by: &str) -> Result<&'a Value, String> {
    if by.is_empty() {
        return Ok(item);
    }
    item.get(by).ok_or_else(|| format!("an element of the list has no '{by}', by which the list is merged"))
}

/// `normalizeElementOrder`: the patch's elements in `order`, and those that only the original has put between them where the original's
/// order says so.
fn in_order(merged: Vec<Value>, order: &[Value], before: &[Value], by: &str) -> Result<Vec<Value>, String> {
    let position = |list: &[Value], item: &Value| {
        let wanted = identity(item, by).ok()?;
        list.iter().position(|other| identity(other, by).is_ok_and(|identity| identity == wanted))
    };
    for item in &merged {
        identity(item, by)?;
    }
    let (mut from_patch, mut only_before): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| position(order, item).is_some());
    from_patch.sort_by_key(|item| position(order, item));
    only_before.sort_by_key(|item| position(before, item));
    let mut only_before = only_before.into_iter().peekable();
    let mut result = Vec::new();
    for item in from_patch {
        let place = position(before, &item);
        while let Some(earlier) = only_before.next_if(|other| place.is_some() && position(before, other) < place) {
            result.push(earlier);
        }
        result.push(item);
    }
    result.extend(only_before);
    Ok(result)
}

/// A value that is new to the original: what only directs is not part of it.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(fields) if fields.contains_key(DIRECTIVE) => None,
        Value::Object(fields) => {
            Some(Value::Object(fields.into_iter().filter_map(|(key, value)| Some((key, without_directives(value)?))).collect()))
        }
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(without_directives).collect())),
        scalar => Some(scalar),
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields.into_iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key, without_nulls(value))).collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        scalar => scalar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn merged(original: Value, patch: Value) -> Result<Value, String> {
        let (Value::Object(original), Value::Object(patch)) = (original, patch) else { panic!("objects") };
        merge(original, patch, POD_MERGE_KEYS).map(Value::Object)
    }

    /// Cases of apimachinery's own `patch_test.go`, in the words of a Pod.
    #[test]
    fn patches_merge_as_kubernetes_merges_them() {
        for (what, original, patch, expected) in [
            ("fields", json!({"a": 1, "b": {"c": 2}}), json!({"b": {"d": 3}}), json!({"a": 1, "b": {"c": 2, "d": 3}})),
            ("null removes", json!({"a": 1, "b": 2}), json!({"a": null, "x": null}), json!({"b": 2})),
            ("null in what is new", json!({}), json!({"a": {"b": null, "c": 1}}), json!({"a": {"c": 1}})),
            ("$patch: replace", json!({"a": {"b": 1}}), json!({"a": {"$patch": "replace", "c": 2}}), json!({"a": {"c": 2}})),
            ("$patch: delete", json!({"a": {"b": 1}, "c": 1}), json!({"a": {"$patch": "delete"}}), json!({"a": {}, "c": 1})),
            ("another type", json!({"a": {"b": 1}}), json!({"a": [1]}), json!({"a": [1]})),
            ("atomic list", json!({"args": [1, 2]}), json!({"args": [3]}), json!({"args": [3]})),
            (
                "set of plain values",
                json!({"finalizers": ["a", "b"]}),
                json!({"finalizers": ["b", "c"]}),
                json!({"finalizers": ["a", "b", "c"]}),
            ),
            (
                "list by key",
                json!({"containers": [{"name": "a", "image": "1"}, {"name": "b"}]}),
                json!({"containers": [{"name": "a", "tty": true}]}),
                json!({"containers": [{"name": "a", "image": "1", "tty": true}, {"name": "b"}]}),
            ),
            (
                "new elements come first",
                json!({"containers": [{"name": "a"}]}),
                json!({"containers": [{"name": "z"}]}),
                json!({"containers": [{"name": "z"}, {"name": "a"}]}),
            ),
            (
                "delete one",
                json!({"env": [{"name": "a"}, {"name": "b"}]}),
                json!({"env": [{"name": "a", "$patch": "delete"}, {"name": "c"}]}),
                json!({"env": [{"name": "c"}, {"name": "b"}]}),
            ),
            (
                "replace all",
                json!({"env": [{"name": "a"}, {"name": "b"}]}),
                json!({"env": [{"name": "c"}, {"$patch": "replace"}]}),
                json!({"env": [{"name": "c"}]}),
            ),
            (
                "delete plain values",
                json!({"finalizers": ["a", "b", "c"]}),
                json!({"$deleteFromPrimitiveList/finalizers": ["a", "c"]}),
                json!({"finalizers": ["b"]}),
            ),
            (
                "retain keys",
                json!({"volumes": [{"name": "a", "hostPath": {"path": "/"}}]}),
                json!({"volumes": [{"$retainKeys": ["name", "emptyDir"], "name": "a", "emptyDir": {}}]}),
                json!({"volumes": [{"name": "a", "emptyDir": {}}]}),
            ),
            (
                "set order",
                json!({"env": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}),
                json!({"$setElementOrder/env": [{"name": "c"}, {"name": "x"}, {"name": "a"}], "env": [{"name": "x"}]}),
                json!({"env": [{"name": "b"}, {"name": "c"}, {"name": "x"}, {"name": "a"}]}),
            ),
            (
                "set order of plain values without a patch",
                json!({"finalizers": ["a", "b"]}),
                json!({"$setElementOrder/finalizers": ["b", "a"]}),
                json!({"finalizers": ["b", "a"]}),
            ),
        ] {
            assert_eq!(merged(original, patch).expect(what), expected, "{what}");
        }
    }

    #[test]
    fn what_kubernetes_refuses_is_refused() {
        for (original, patch) in [
            (json!({"a": {}}), json!({"a": {"$patch": "merge"}})),
            (json!({"env": [{"name": "a"}]}), json!({"env": [{"name": "a", "$patch": "merge"}]})),
            (json!({"env": [{"name": "a"}]}), json!({"env": [{"value": "b"}]})),
            (json!({"env": [{"name": "a"}]}), json!({"env": ["b"]})),
            (json!({"a": 1}), json!({"$retainKeys": ["a"], "b": 2})),
            (
                json!({"env": [{"name": "a"}]}),
                json!({"$setElementOrder/env": [{"name": "b"}, {"name": "a"}], "env": [{"name": "a"}, {"name": "b"}]}),
            ),
        ] {
            assert!(merged(original.clone(), patch.clone()).is_err(), "{original} {patch}");
        }
    }

    /// Made at random; each line an original, a patch and what `strategicpatch.StrategicMergePatch` of Kubernetes v1.36.3 answers for a
    /// `v1.Pod` (null where it refuses).
    #[test]
    fn kubernetes_itself_merges_alike() {
        for line in include_str!("merged_by_kubernetes.jsonl").lines() {
            let [original, patch, expected]: [Value; 3] = serde_json::from_str(line).expect("three values");
            let result = merged(original, patch).unwrap_or(Value::Null);
            assert_eq!(result, expected, "{line}");
        }
    }
}
