//! YAML text as Kubernetes' tools write it: keys sorted, every document ended by a line break. One function, so that all files of
//! edgeboot look alike and two boots write equal bytes.

use serde_json::{Map, Value};

/// `value` as a YAML document with sorted keys.
///
/// # Panics
/// Never: JSON values have string keys and serialise.
pub fn text(value: &Value) -> String {
    // Long lines are not folded: Kubernetes' writers never do, and people cut certificates out of kubeconfigs with grep.
    let options =
        serde_saphyr::ser_options! { compact_list_indent: true, prefer_block_scalars: true, folded_wrap_chars: usize::MAX };
    let mut text =
        serde_saphyr::to_string_with_options(&sorted(value), options).expect("JSON values have string keys and serialise");
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// The same value with the keys of all objects in order.
pub fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            Value::Object(entries.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        scalar => scalar.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_are_sorted_and_lists_are_not() {
        let value = json!({"b": [{"z": 1, "a": 2}, 1], "a": {}});
        assert_eq!(text(&value), "a: {}\nb:\n- a: 2\n  z: 1\n- 1\n");
    }

    /// The readers are Kubernetes' own: YAML 1.1, where `yes`, `on` and `0600` are no strings.
    #[test]
    fn strings_that_look_like_something_else_are_quoted() {
        for string in [
            "yes",
            "no",
            "on",
            "Off",
            "y",
            "n",
            "~",
            "null",
            "true",
            "0",
            "0600",
            "0x1F",
            "1e3",
            ".5",
            "-1",
            "1_000",
            "1:30",
            "",
            " a",
            "a ",
            "a: b",
            "a #b",
            "- a",
            "*",
            "&a",
            "!a",
            "@a",
            "`a",
            "%a",
            "{a",
            "[a",
            "|",
            ">",
            "?",
            "=",
            "<<",
            "2026-11-21",
            "2001-01-01T00:00:00Z",
            "a\nb\n",
            "a\tb",
            "\u{7}",
            "ü",
        ] {
            let value = json!({ "key": string });
            let written = text(&value);
            let read: Value = serde_saphyr::from_str(&written).expect(&written);
            assert_eq!(read, value, "{written}");
            if string.chars().all(|c| c.is_ascii_alphanumeric() || "._-:~".contains(c)) {
                assert!(written.contains(['"', '\'']), "{written} is not quoted");
            }
        }
        let long = "*,bootstrapsigner,tokencleaner ".repeat(20);
        let written = text(&json!({ "key": [long] }));
        assert_eq!(serde_saphyr::from_str::<Value>(&written).expect(&written), json!({ "key": [long] }));
    }
}
