//! What NodeConfig may say, field by field: for `edgeboot config explain`, and as a JSON Schema for editors. One table; a test holds it
//! against what the reader of documents asks for, so that no field is missing here and none is invented.

use serde_json::{Map, Value, json};

use super::layer::Kind;
use super::tree::{self, Quoted, Tree};

/// A field of NodeConfig.
#[derive(Debug)]
pub struct Field {
    /// With dots.
    pub path: &'static str,
    /// What it takes.
    pub takes: Takes,
    /// What it is when nobody says it; may be empty.
    pub default: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// As it is written, in flow style; empty for fields of fields.
    pub example: &'static str,
}

/// What a field takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Fields of its own.
    Fields,
    /// A text.
    Text,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// `true` or `false`.
    Flag,
    /// A duration such as 1m30s.
    Duration,
    /// A list of texts.
    Texts,
    /// Names of the user's and their values.
    Map,
}

use Takes::{Duration, Fields, Flag, Map as Names, OneOf, Text, Texts};

const fn field(path: &'static str, takes: Takes, default: &'static str, meaning: &'static str, example: &'static str) -> Field {
    Field { path, takes, default, meaning, example }
}

/// All of them.
pub const FIELDS: &[Field] = &[
    field(
        "role",
        OneOf(&["controlPlane", "worker"]),
        "",
        "What the machine becomes; the one required field. A controlPlane without `join` founds a cluster.",
        "worker",
    ),
    field(
        "package",
        Text,
        "/usr/lib/edgeboot/package",
        "The package that everything is installed from: a folder or a tar on this machine.",
        "/usr/lib/edgeboot/package",
    ),
    field(
        "join",
        Fields,
        "",
        "Where to join: a worker, or a further control plane. kubeadm's JoinConfiguration says the same in its own words.",
        "",
    ),
    field(
        "join.endpoints",
        Texts,
        "",
        "The API servers by which the cluster is found, tried side by side; without a port, 6443.",
        "['10.77.0.11:6443']",
    ),
    field(
        "join.token",
        Text,
        "",
        "The bootstrap token, by value: the file that says it must be readable by root alone.",
        "abcdef.0123456789abcdef",
    ),
    field(
        "join.tokenFrom",
        Text,
        "",
        "The bootstrap token as a credential, systemd's or one under /var/lib/edgeboot/credentials.",
        "credential:edgeboot.token",
    ),
    field("join.tokenFile", Text, "", "A file that holds the bootstrap token, 0600.", "/etc/edgeboot/token"),
    field(
        "join.caCertHashes",
        Texts,
        "",
        "Hashes of the public key of the cluster's CA; any of them will do.",
        "['sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855']",
    ),
    field("join.unsafeSkipCAVerification", Flag, "false", "Whoever knows the token is believed to be the cluster.", "true"),
    field(
        "join.discoveryFile",
        Text,
        "",
        "A kubeconfig by which the cluster is found instead: a path, or an https URL.",
        "/etc/edgeboot/cluster.conf",
    ),
    field(
        "join.tlsBootstrapToken",
        Text,
        "the token",
        "Another token for the request of the kubelet's certificate.",
        "abcdef.0123456789abcdef",
    ),
    field("join.tlsBootstrapTokenFrom", Text, "", "The same as a credential.", "credential:edgeboot.tls-token"),
    field("join.tlsBootstrapTokenFile", Text, "", "The same in a file, 0600.", "/etc/edgeboot/tls-token"),
    field(
        "join.certificateKey",
        Text,
        "",
        "The key of the certificates that `uploadCerts` put into the cluster, for a further control plane: 64 hexadecimal digits.",
        "'0000000000000000000000000000000000000000000000000000000000000000'",
    ),
    field("join.certificateKeyFrom", Text, "", "The same as a credential.", "credential:edgeboot.certificate-key"),
    field("join.certificateKeyFile", Text, "", "The same in a file, 0600.", "/etc/edgeboot/certificate-key"),
    field(
        "join.keepEndpoint",
        Flag,
        "false",
        "Stays with the endpoint that is said here, not with the one the cluster names: for sites behind NAT.",
        "true",
    ),
    field(
        "join.onExistingNode",
        OneOf(&["adopt", "replace", "fail"]),
        "adopt",
        "What happens when a node of this name that is not Ready is in the cluster: it is taken for this machine's earlier life, is deleted first, or is refused.",
        "replace",
    ),
    field(
        "uploadCerts",
        Flag,
        "false",
        "Puts the control plane's certificates, encrypted, into the cluster for two hours, so that further control planes can fetch them.",
        "true",
    ),
    field("network", Fields, "", "The pod network of a cluster that is founded here.", ""),
    field(
        "network.component",
        OneOf(&["flannel", "bridge", "none"]),
        "flannel",
        "flannel for any number of nodes, bridge for one, none for a network of your own.",
        "bridge",
    ),
    field("runtime", Fields, "", "The container runtime.", ""),
    field(
        "runtime.source",
        OneOf(&["package", "existing"]),
        "package",
        "The package's containerd, or one that the image brings and starts.",
        "existing",
    ),
    field("runtime.config", Text, "", "containerd TOML, placed as a drop-in after edgeboot's.", "'oom_score = -999'"),
    field("host", Fields, "", "What the host shall be.", ""),
    field(
        "host.hostname",
        Text,
        "",
        "The machine's name, set by systemd-hostnamed, and the node's unless nodeRegistration.name says another. Without it the machine keeps its own.",
        "edge-7",
    ),
    field("host.modules", Texts, "", "More kernel modules.", "[nf_conntrack]"),
    field("host.sysctls", Names, "", "More sysctls.", "{vm.max_map_count: '262144'}"),
    field("host.swap", OneOf(&["keep", "off"]), "keep", "keep leaves swap to the machine, off stops and masks its units.", "'off'"),
    field("host.time", Fields, "", "The clock.", ""),
    field(
        "host.time.wait",
        Duration,
        "20s",
        "How long it is waited for to be synchronised, where something synchronises it.",
        "1m",
    ),
    field("host.time.offline", Flag, "true", "Goes on when that did not come.", "false"),
    field(
        "readyWhen",
        OneOf(&["kubelet-healthy", "node-registered", "node-ready"]),
        "node-ready",
        "When the machine counts as ready for the first time.",
        "node-registered",
    ),
    field(
        "sources",
        Texts,
        "all",
        "The sources that are asked besides disk: credentials, kernel-command-line. It counts on disk alone.",
        "[credentials]",
    ),
    field("onMissing", Fields, "", "What a boot does while no source says a role.", ""),
    field(
        "onMissing.action",
        OneOf(&["wait", "fail"]),
        "wait",
        "wait: the unit is done, and is started again when a configuration appears. fail: the unit waits, and has failed with 78 when none came in time.",
        "fail",
    ),
    field("onMissing.after", Duration, "5m", "How long `action: fail` waits.", "10m"),
];

/// The field of that path; `NodeConfig.` may stand before it.
pub fn find(path: &str) -> Option<&'static Field> {
    let path = path.strip_prefix("NodeConfig.").unwrap_or(path);
    FIELDS.iter().find(|field| field.path == path)
}

/// The fields directly inside one; of NodeConfig itself for an empty path.
pub fn inside(path: &str) -> impl Iterator<Item = &'static Field> {
    FIELDS.iter().filter(move |field| field.parent() == path)
}

/// Marks the texts of a NodeConfig as such: a bare `off` is one where a text is taken, and written without quotes it would be none.
pub fn quote_texts(tree: &mut Tree) {
    quote(tree, "");
}

fn quote(tree: &mut Tree, path: &str) {
    match &mut tree.value {
        tree::Value::Map(fields) => {
            for (key, value) in fields {
                let name = key.name.trim_end_matches('+');
                quote(value, &if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") });
            }
        }
        tree::Value::List(items) => items.iter_mut().for_each(|item| quote(item, path)),
        tree::Value::Text(_, quoted) if find(path).is_none_or(|field| field.takes != Flag) => *quoted = Quoted::Yes,
        _ => {}
    }
}

impl Field {
    /// Its last name.
    pub fn name(&self) -> &'static str {
        self.path.rsplit_once('.').map_or(self.path, |(_, name)| name)
    }
    fn parent(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(parent, _)| parent)
    }
    /// The example as a whole NodeConfig says it.
    pub fn written(&self) -> String {
        let mut text = format!("{}: {}", self.name(), self.example);
        for part in self.parent().rsplit('.').filter(|part| !part.is_empty()) {
            text = format!("{part}: {{{text}}}");
        }
        text
    }
}

impl Takes {
    /// In words.
    pub fn words(self) -> String {
        match self {
            Takes::Fields => "fields".to_owned(),
            Takes::Text => "a text".to_owned(),
            Takes::OneOf(words) => format!("one of {}", words.join(", ")),
            Takes::Flag => "true or false".to_owned(),
            Takes::Duration => "a duration such as 1m30s".to_owned(),
            Takes::Texts => "a list of texts".to_owned(),
            Takes::Map => "names and values".to_owned(),
        }
    }
}

/// The JSON Schema (draft 7, which editors read) of a document: NodeConfig in full, the other kinds of the stream by their names.
pub fn json_schema() -> Value {
    let others: Vec<&str> = Kind::names().filter(|name| *name != Kind::Node.name()).collect();
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "a configuration of edgeboot",
        "type": "object",
        "if": {"required": ["kind"], "properties": {"kind": {"not": {"const": Kind::Node.name()}}}},
        "then": {
            "required": ["apiVersion", "kind"],
            "properties": {"apiVersion": {"type": "string"}, "kind": {"enum": others}},
        },
        "else": {"$ref": "#/definitions/NodeConfig"},
        "definitions": {"NodeConfig": node_config()},
    })
}

fn node_config() -> Value {
    let mut schema = object_of("");
    schema["description"] = "What this machine shall be.".into();
    schema["properties"]["apiVersion"] = json!({"const": Kind::Node.api_version()});
    schema["properties"]["kind"] = json!({"const": Kind::Node.name()});
    schema
}

fn object_of(path: &str) -> Value {
    let mut properties = Map::new();
    for field in inside(path) {
        let mut schema = match field.takes {
            Takes::Fields => object_of(field.path),
            Takes::Text | Takes::Duration => json!({"type": "string"}),
            Takes::OneOf(words) => json!({"enum": words}),
            Takes::Flag => json!({"type": "boolean"}),
            Takes::Texts => json!({"type": "array", "items": {"type": "string"}}),
            Takes::Map => json!({"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}),
        };
        schema["description"] = match field.default {
            "" => field.meaning.to_owned(),
            default => format!("{} Default: {default}.", field.meaning),
        }
        .into();
        if field.takes == Takes::Texts {
            // Across sources this appends to the list below.
            properties.insert(format!("{}+", field.name()), schema.clone());
        }
        properties.insert(field.name().to_owned(), schema);
    }
    json!({"type": "object", "additionalProperties": false, "properties": properties})
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::document::NodeDocument;
    use crate::config::fields::asked;
    use crate::config::findings::{Finding, Findings, SourceId, SourceText};
    use crate::config::layer::Layer;

    /// What the reader finds in a text, and which fields it asks for.
    fn read(text: &str) -> (Vec<String>, BTreeSet<String>) {
        let findings = Findings::default();
        let layer = Layer::of(tree::parse(SourceId(0), text, &findings), &findings);
        let (_, asked) = asked(|| NodeDocument::read(layer.get(Kind::Node), &findings));
        (findings.told(&[SourceText::of("x", text)]).iter().map(Finding::render).collect(), asked)
    }

    /// All examples in one document.
    fn all_examples() -> String {
        fn written(path: &str) -> String {
            let field = |field: &Field| match field.takes {
                Takes::Fields => format!("{}: {{{}}}", field.name(), written(field.path)),
                _ => format!("{}: {}", field.name(), field.example),
            };
            inside(path).map(field).collect::<Vec<_>>().join(", ")
        }
        format!("{{{}}}", written(""))
    }

    #[test]
    fn the_table_has_every_field_that_is_read_and_no_other() {
        let (told, asked) = read(&all_examples());
        assert_eq!(told, Vec::<String>::new());
        let table: BTreeSet<String> = FIELDS.iter().map(|field| field.path.to_owned()).collect();
        assert_eq!(table, asked, "a field that document.rs reads has a row in schema.rs, and the other way round");
    }

    #[test]
    fn every_example_is_read_and_every_word_is_known() {
        for field in FIELDS.iter().filter(|field| field.takes != Takes::Fields) {
            assert_eq!(read(&field.written()).0, Vec::<String>::new(), "{}", field.written());
            assert!(field.meaning.ends_with('.'), "{}", field.path);
            let Takes::OneOf(words) = field.takes else { continue };
            let wrong = Field { example: "neither", ..field_of(field) };
            let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
            let told = read(&wrong.written()).0.concat();
            assert!(told.contains(&format!("`neither` is none of {}\n", words.join(", "))), "{told}");
            assert!(field.default.is_empty() || words.contains(&format!("`{}`", field.default)), "{}", field.path);
        }
    }

    fn field_of(field: &Field) -> Field {
        Field { ..*field }
    }

    /// As much of a validator as the schema needs.
    fn is_valid(schema: &Value, root: &Value, value: &Value) -> Result<(), String> {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let target = root.pointer(reference.trim_start_matches('#')).expect("a definition");
            return is_valid(target, root, value);
        }
        if let Some(condition) = schema.get("if") {
            let branch = if is_valid(condition, root, value).is_ok() { "then" } else { "else" };
            is_valid(&schema[branch], root, value)?;
        }
        if schema.get("not").is_some_and(|not| is_valid(not, root, value).is_ok()) {
            return Err(format!("{value} is excluded"));
        }
        let is_const = schema.get("const").is_none_or(|constant| constant == value);
        let is_listed = schema.get("enum").is_none_or(|words| words.as_array().expect("a list").contains(value));
        let sort = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let is_sort = schema
            .get("type")
            .is_none_or(|types| *types == sort || types.as_array().is_some_and(|types| types.contains(&sort.into())));
        if !is_const || !is_listed || !is_sort {
            return Err(format!("{value} is not {schema}"));
        }
        for (name, field) in value.as_object().into_iter().flatten() {
            match schema.get("properties").and_then(|properties| properties.get(name)).or(schema.get("additionalProperties")) {
                Some(Value::Bool(false)) => return Err(format!("{name} is unknown")),
                Some(of_field) => is_valid(of_field, root, field)?,
                None => {}
            }
        }
        for required in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
            if value.get(required.as_str().expect("a name")).is_none() {
                return Err(format!("{required} is missing"));
            }
        }
        let items = schema.get("items").zip(value.as_array());
        items
            .into_iter()
            .flat_map(|(schema, items)| items.iter().map(move |item| (schema, item)))
            .try_for_each(|(schema, item)| is_valid(schema, root, item))
    }

    fn judge(text: &str) -> Result<(), String> {
        let findings = Findings::default();
        let schema = json_schema();
        let documents = tree::parse(SourceId(0), text, &findings);
        documents.into_iter().try_for_each(|mut tree| {
            // As editors read it, in new YAML.
            quote_texts(&mut tree);
            is_valid(&schema, &schema, &crate::config::fields::to_json(&tree, &findings))
        })
    }

    #[test]
    fn the_schema_takes_every_example_and_refuses_what_the_reader_refuses() {
        let examples = crate::host::Root::at(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).expect("the examples");
        for name in examples.list("/").expect("a list").expect("a folder") {
            let text = examples.read_text(format!("/{name}")).expect("a text").expect("there");
            assert_eq!(judge(&text), Ok(()), "{name}");
        }
        assert_eq!(judge(&all_examples()), Ok(()));
        assert_eq!(judge("role: worker\nhost: {modules+: [a]}"), Ok(()));
        for (wrong, said) in [
            ("rol: worker", "rol is unknown"),
            ("role: king", "\"king\" is not"),
            ("join: {endpoints: a}", "\"a\" is not"),
            ("kind: NodeConfig\napiVersion: edgeboot.io/v2", "\"edgeboot.io/v2\" is not"),
            ("kind: ConfigMap\napiVersion: v1", "\"ConfigMap\" is not"),
            ("kind: InitConfiguration", "\"apiVersion\" is missing"),
        ] {
            assert!(judge(wrong).expect_err(wrong).contains(said), "{wrong}");
        }
    }
}
