//! kubeadm's patches (`cmd/kubeadm/app/util/patches`): files `target[suffix][+strategic|merge|json].{yaml,json}` of one folder, applied in
//! the order of their names to the manifests and configurations edgeboot is about to write. Pure: the files' names and contents in,
//! patched objects out. Files kubeadm would ignore are ignored and can be reported; what it refuses is refused, naming the file.

mod strategic;

use serde_json::Value;

use crate::error::{Error, Result};

/// What can be patched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// etcd's Pod.
    Etcd,
    /// kube-apiserver's Pod.
    ApiServer,
    /// kube-controller-manager's Pod.
    ControllerManager,
    /// kube-scheduler's Pod.
    Scheduler,
    /// This node's KubeletConfiguration.
    KubeletConfiguration,
    /// CoreDNS' Deployment.
    CoreDnsDeployment,
}

impl Target {
    /// All, in kubeadm's order.
    const ALL: [Target; 6] = [
        Target::Etcd,
        Target::ApiServer,
        Target::ControllerManager,
        Target::Scheduler,
        Target::KubeletConfiguration,
        Target::CoreDnsDeployment,
    ];

    /// The word a file name begins with.
    pub fn name(self) -> &'static str {
        match self {
            Target::Etcd => "etcd",
            Target::ApiServer => "kube-apiserver",
            Target::ControllerManager => "kube-controller-manager",
            Target::Scheduler => "kube-scheduler",
            Target::KubeletConfiguration => "kubeletconfiguration",
            Target::CoreDnsDeployment => "corednsdeployment",
        }
    }
    /// KubeletConfiguration's Go type says nothing about merging lists, so they are replaced.
    fn merge_keys(self) -> strategic::MergeKeys {
        match self {
            Target::KubeletConfiguration => strategic::NO_MERGE_KEYS,
            _ => strategic::POD_MERGE_KEYS,
        }
    }
}

/// How a patch is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Json,
    Merge,
    Strategic,
}

impl Manner {
    const ALL: [Manner; 3] = [Manner::Json, Manner::Merge, Manner::Strategic];

    fn name(self) -> &'static str {
        match self {
            Manner::Json => "json",
            Manner::Merge => "merge",
            Manner::Strategic => "strategic",
        }
    }
}

/// One document of a patch file.
#[derive(Debug, Clone)]
struct Patch {
    file: String,
    target: Target,
    manner: Manner,
    content: Value,
}

/// The patches of a folder.
#[derive(Debug, Clone, Default)]
pub struct Patches {
    patches: Vec<Patch>,
    ignored: Vec<String>,
}

impl Patches {
    /// No patches.
    pub fn none() -> Patches {
        Patches::default()
    }

    /// Reads the files of a folder: name and content, in any order.
    pub fn read(mut files: Vec<(String, Vec<u8>)>) -> Result<Patches> {
        files.sort();
        let mut patches = Patches::default();
        for (file, bytes) in files {
            match named(&file)? {
                Some((target, manner)) if !bytes.is_empty() => {
                    for content in documents(&file, &bytes)? {
                        patches.patches.push(Patch { file: file.clone(), target, manner, content });
                    }
                }
                _ => patches.ignored.push(file),
            }
        }
        Ok(patches)
    }

    /// Files that are no patches: no known target or extension, or empty.
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }
    /// Whether anything patches this target.
    pub fn touch(&self, target: Target) -> bool {
        self.patches.iter().any(|patch| patch.target == target)
    }

    /// The object with all patches of its target applied, in order.
    pub fn apply(&self, target: Target, mut object: Value) -> Result<Value> {
        for patch in self.patches.iter().filter(|patch| patch.target == target) {
            object = patch.apply(object).map_err(|why| patch.refused(why))?;
        }
        Ok(object)
    }
}

impl Patch {
    fn apply(&self, mut object: Value) -> Result<Value, String> {
        match self.manner {
            Manner::Json => {
                let operations: json_patch::Patch = serde_json::from_value(self.content.clone())
                    .map_err(|why| format!("it is not a list of JSON Patch operations (RFC 6902): {why}"))?;
                json_patch::patch(&mut object, &operations).map_err(|why| why.to_string())?;
                Ok(object)
            }
            Manner::Merge => {
                if !self.content.is_object() {
                    return Err("a merge patch (RFC 7386) is an object".to_owned());
                }
                json_patch::merge(&mut object, &self.content);
                Ok(object)
            }
            Manner::Strategic => match (object, self.content.clone()) {
                (Value::Object(object), Value::Object(patch)) => {
                    strategic::merge(object, patch, self.target.merge_keys()).map(Value::Object)
                }
                _ => Err("a strategic merge patch is an object".to_owned()),
            },
        }
    }
    fn refused(&self, why: String) -> Error {
        Error::config(format!("applying the {} patch '{}' to {}", self.manner.name(), self.file, self.target.name()))
            .because(why)
            .hint("correct the file in the folder that patches.directory names")
    }
}

/// What a file name says: kubeadm's expression `^(target)([^.+\n]*)?(\+)?(json|merge|strategic)?`; `None` for files it ignores.
fn named(file: &str) -> Result<Option<(Target, Manner)>> {
    let known_extension = ["json", "yaml"]
        .iter()
        .any(|extension| file.strip_suffix(extension).and_then(|stem| stem.strip_suffix('.')).is_some_and(|stem| !stem.is_empty()));
    let target = Target::ALL.into_iter().find(|target| file.starts_with(target.name()));
    let Some(target) = target.filter(|_| known_extension) else { return Ok(None) };
    let after_target = &file[target.name().len()..];
    let after_suffix = &after_target[after_target.find(['.', '+', '\n']).unwrap_or(after_target.len())..];
    let Some(word) = after_suffix.strip_prefix('+') else { return Ok(Some((target, Manner::Strategic))) };
    match Manner::ALL.into_iter().find(|manner| word.starts_with(manner.name())) {
        Some(manner) => Ok(Some((target, manner))),
        None => Err(Error::config(format!("reading the patch '{file}'"))
            .because("the patch type after '+' is not one of json, merge, strategic")
            .hint("name it TARGET[SUFFIX][+json|+merge|+strategic].{yaml,json}")),
    }
}

/// The documents of a file, which are separated by lines that begin with `---`.
fn documents(file: &str, bytes: &[u8]) -> Result<Vec<Value>> {
    let unreadable = || Error::config(format!("reading the patch '{file}'"));
    let text = std::str::from_utf8(bytes).map_err(|why| unreadable().because(why))?;
    let mut parts = vec![String::new()];
    for line in text.lines() {
        if line.starts_with("---") {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push_str(line);
            part.push('\n');
        }
    }
    parts
        .iter()
        .filter(|part| !part.trim().is_empty())
        .map(|part| {
            // kubeadm reads YAML 1.1: `defaultMode: 0644` is octal there, and `yes` is a boolean.
            let options = serde_saphyr::options! { legacy_octal_numbers: true, with_snippet: false };
            serde_saphyr::from_str_with_options::<Value>(part, options).map_err(|why| unreadable().because(why.to_string()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn file_names_are_read_as_kubeadm_reads_them() {
        let read = |file| named(file).map(|found| found.map(|(target, manner)| (target.name(), manner.name())));
        for (file, expected) in [
            ("etcd.yaml", Some(("etcd", "strategic"))),
            ("etcd.json", Some(("etcd", "strategic"))),
            ("kube-apiserver0+merge.yaml", Some(("kube-apiserver", "merge"))),
            ("kube-apiserver+json.yaml", Some(("kube-apiserver", "json"))),
            ("kube-scheduler-suffix.0+strategic.yaml", Some(("kube-scheduler", "strategic"))),
            ("kubeletconfiguration+jsonfoo.yaml", Some(("kubeletconfiguration", "json"))),
            ("etcd.yml", None),
            ("etcd", None),
            ("kube-proxy.yaml", None),
            (".yaml", None),
        ] {
            assert_eq!(read(file).expect(file), expected, "{file}");
        }
        assert!(read("etcd+foo.yaml").is_err());
        assert!(read("etcd+.json").is_err());
    }

    #[test]
    fn patches_are_applied_in_the_order_of_their_names_and_documents() {
        let patches = Patches::read(vec![
            ("kube-apiserver2+json.yaml".to_owned(), b"- {op: add, path: /a, value: json}\n".to_vec()),
            ("kube-apiserver1+merge.yaml".to_owned(), b"a: merge\nb: null\n---\nc: 1\n".to_vec()),
            ("etcd.yaml".to_owned(), b"a: other\n".to_vec()),
            ("README.md".to_owned(), b"text".to_vec()),
            ("kube-scheduler.yaml".to_owned(), Vec::new()),
        ])
        .expect("patches");
        assert_eq!(patches.ignored(), ["README.md", "kube-scheduler.yaml"]);
        let result = patches.apply(Target::ApiServer, json!({"a": "before", "b": 1})).expect("patched");
        assert_eq!(result, json!({"a": "json", "c": 1}));
        assert!(patches.touch(Target::Etcd) && !patches.touch(Target::Scheduler));
    }

    #[test]
    fn a_patch_that_does_not_fit_names_its_file() {
        for (file, content) in [
            ("etcd+json.yaml", "- {op: remove, path: /nowhere}"),
            ("etcd+json.yaml", "a: b"),
            ("etcd+merge.yaml", "[a]"),
            ("etcd.yaml", "- a"),
            ("etcd.yaml", "$patch: nonsense"),
        ] {
            let patches = Patches::read(vec![(file.to_owned(), content.into())]).expect("patches");
            let error = patches.apply(Target::Etcd, json!({"a": 1})).expect_err(content);
            assert!(error.to_string().contains(file), "{error}");
        }
        let error = Patches::read(vec![("etcd.yaml".to_owned(), b"a: [".to_vec())]).expect_err("no YAML");
        assert!(error.to_string().contains("'etcd.yaml'"), "{error}");
    }
}
