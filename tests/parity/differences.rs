//! Where edgeboot means to differ from kubeadm: one list, each entry an exact pointer with both values and its reason. What differs and
//! is not in the list fails, and so does an entry that nothing needs.

use serde_json::Value;

/// One difference that is wanted.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// `all`, or the names of cases.
    pub cases: Cases,
    /// The path of the file, or the name of the object.
    pub subject: String,
    /// A JSON pointer into what it means.
    pub pointer: String,
    /// kubeadm's value; null where it has none.
    pub kubeadm: Value,
    /// edgeboot's value; null where it has none.
    pub edgeboot: Value,
    /// Why.
    pub reason: String,
}

/// For which cases an entry holds.
#[derive(Debug, serde::Deserialize)]
#[serde(untagged)]
pub enum Cases {
    /// `all`.
    All(All),
    /// Some.
    Some(Vec<String>),
}

/// The word `all`.
#[derive(Debug, serde::Deserialize)]
pub enum All {
    /// Every case.
    #[serde(rename = "all")]
    All,
}

impl Wanted {
    fn names_only(&self, known: &[&str]) -> bool {
        match &self.cases {
            Cases::All(All::All) => true,
            Cases::Some(cases) => cases.iter().all(|name| known.contains(&name.as_str())),
        }
    }
    fn holds_for(&self, case: &str) -> bool {
        match &self.cases {
            Cases::All(All::All) => true,
            Cases::Some(cases) => cases.iter().any(|name| name == case),
        }
    }
}

/// The list, as far as it is about these subjects: files have paths, objects have names. `known` are the cases that are judged with
/// it: an entry for one that never runs would never be found unused.
pub fn wanted(is_about: impl Fn(&str) -> bool, known: &[&str]) -> Vec<Wanted> {
    let mut list: Vec<Wanted> = serde_saphyr::from_str(include_str!("differences.yaml")).expect("tests/parity/differences.yaml");
    for entry in &list {
        assert!(!entry.reason.trim().is_empty(), "{} {}: a difference needs a reason", entry.subject, entry.pointer);
    }
    list.retain(|entry| is_about(&entry.subject));
    for entry in &list {
        assert!(entry.names_only(known), "{} {}: it names a case that does not exist", entry.subject, entry.pointer);
    }
    list
}

/// One difference.
#[derive(Debug, PartialEq)]
pub struct Difference {
    /// Pointer.
    pub pointer: String,
    /// kubeadm's.
    pub kubeadm: Value,
    /// edgeboot's.
    pub edgeboot: Value,
}

/// All differences of two values, as deep as they can be told; lists of different lengths differ as a whole.
pub fn between(pointer: &str, kubeadm: &Value, edgeboot: &Value) -> Vec<Difference> {
    match (kubeadm, edgeboot) {
        (Value::Object(theirs), Value::Object(ours)) => {
            let keys: std::collections::BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
            let of = |map: &serde_json::Map<String, Value>, key: &String| map.get(key).cloned().unwrap_or(Value::Null);
            keys.into_iter()
                .flat_map(|key| {
                    let pointer = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
                    between(&pointer, &of(theirs, key), &of(ours, key))
                })
                .collect()
        }
        (Value::Array(theirs), Value::Array(ours)) if theirs.len() == ours.len() => {
            theirs.iter().zip(ours).enumerate().flat_map(|(index, (a, b))| between(&format!("{pointer}/{index}"), a, b)).collect()
        }
        (theirs, ours) if theirs == ours => vec![],
        (theirs, ours) => {
            vec![Difference { pointer: pointer.to_owned(), kubeadm: theirs.clone(), edgeboot: ours.clone() }]
        }
    }
}

/// What is wrong with the differences of a case: those that nobody wants, and entries of the list that it should need and does not.
pub fn judge(case: &str, list: &[Wanted], differences: &[(String, Difference)]) -> Vec<String> {
    let wants = |entry: &Wanted, subject: &str, difference: &Difference| {
        entry.holds_for(case)
            && entry.subject == subject
            && entry.pointer == difference.pointer
            && entry.kubeadm == difference.kubeadm
            && entry.edgeboot == difference.edgeboot
    };
    let unwanted = differences
        .iter()
        .filter(|(subject, difference)| !list.iter().any(|entry| wants(entry, subject, difference)))
        .map(|(subject, difference)| {
            format!("{subject} {}\n    kubeadm:  {}\n    edgeboot: {}", difference.pointer, difference.kubeadm, difference.edgeboot)
        });
    let unused = list
        .iter()
        .filter(|entry| entry.holds_for(case))
        .filter(|entry| !differences.iter().any(|(subject, difference)| wants(entry, subject, difference)))
        .map(|entry| format!("{} {}: differences.yaml wants this difference, and there is none", entry.subject, entry.pointer));
    unwanted.chain(unused).collect()
}
