//! What edgeboot remembers: facts the machine told, and for each phase what it was made from and what it changed (the ledger). Facts
//! only: no times, no outcomes, so that two boots that end alike leave equal files. Fields and phases of other versions are kept when
//! it is rewritten.

use std::collections::BTreeMap;
use std::net::IpAddr;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The state file's schema.
pub const SCHEMA: u32 = 1;

/// Everything edgeboot remembers (`/var/lib/edgeboot/state.json`, 0600).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// [`SCHEMA`] when it was written.
    pub schema: u32,
    /// Which machine this was written on.
    #[serde(default)]
    pub machine: MachineIdentity,
    /// Which cluster it belongs to, once its CA is durable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterIdentity>,
    /// What the machine told, frozen.
    #[serde(default)]
    pub facts: Facts,
    /// What each phase did.
    #[serde(default)]
    pub phases: BTreeMap<String, Record>,
    /// Set by reset: the next boot builds nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// Fields of other versions, kept.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

impl State {
    /// As it is written: for people too, and equal for equal states.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("its maps have string keys");
        bytes.push(b'\n');
        bytes
    }
}

/// What tells a machine from its clone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineIdentity {
    /// /etc/machine-id.
    #[serde(default)]
    pub machine_id: String,
    /// DMI's product UUID; empty where there is none.
    #[serde(default)]
    pub product_uuid: String,
    /// The serial number that the firmware tells; empty where there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub product_serial: String,
    /// The disks under edgeboot's folder, by what no other disk has; sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<String>,
}

/// Which cluster this is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterIdentity {
    /// `sha256:<hex of the SHA-256 over the CA's SubjectPublicKeyInfo>`: what `--discovery-token-ca-cert-hash` takes.
    pub ca_cert_hash: String,
}

/// What the machine told. Learned by the phases `clock`, `network` and `package`, and frozen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// The node's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// The API server's address on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise_address: Option<IpAddr>,
    /// The package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<PackageFacts>,
    /// The pod subnets that the cluster gave to this node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pod_subnets: Vec<ipnet::IpNet>,
    /// The kernel modules that could not be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent_modules: Option<AbsentModules>,
    /// Facts of other versions, kept.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// The kernel modules that could not be had, so that they are not tried for on every boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AbsentModules {
    /// The kernel's release; with another one they are tried for again.
    pub kernel: String,
    /// Sorted names.
    pub names: Vec<String>,
}

/// What the package says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PackageFacts {
    /// `sha256:…` of its index.json.
    pub digest: String,
    /// Monotonic.
    pub version: u64,
    /// For instance `v1.36.3`.
    pub kubernetes_version: String,
    /// For instance `amd64`.
    pub architecture: String,
    /// The images in it: full name and manifest digest.
    pub images: Vec<PackageImage>,
}

/// An image in the package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PackageImage {
    /// For instance `registry.k8s.io/pause:3.10.2`.
    pub name: String,
    /// The digest of its manifest, `sha256:…`.
    pub digest: String,
}

/// What one phase did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// What it was made from when it was last proven.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fingerprint: String,
    /// What it changed: the ledger.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<Effect>,
    /// Fields of other versions, kept.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// What was there before we wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Before {
    /// Nothing.
    Absent,
    /// Something, of which a 0600 copy is kept that `reset` puts back.
    Kept,
}

/// One thing that was changed on the machine. Noted before it becomes visible; `reset` walks these backwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "effect")]
pub enum Effect {
    /// A file was placed.
    File {
        /// Where.
        path: Utf8PathBuf,
        /// Digests that are ours: the proven one and the one being written, at most two.
        ours: Vec<String>,
        /// What was there.
        before: Before,
    },
    /// A symbolic link was placed.
    Link {
        /// Where.
        path: Utf8PathBuf,
        /// Targets that are ours, at most two.
        ours: Vec<String>,
    },
    /// A directory tree was made.
    Dir {
        /// Where.
        path: Utf8PathBuf,
    },
    /// A unit was enabled.
    Unit {
        /// Its name.
        name: String,
        /// It was enabled before.
        was_enabled: bool,
    },
    /// A sysctl was set.
    Sysctl {
        /// Its key with dots.
        key: String,
        /// Its value before.
        prior: String,
    },
    /// The machine was named.
    Hostname {
        /// The name that is ours.
        ours: String,
        /// The one before; empty where there was none.
        prior: String,
    },
    /// Something was mounted.
    Mount {
        /// Where.
        path: Utf8PathBuf,
    },
    /// An image was imported.
    Image {
        /// Its name.
        name: String,
        /// The digest of its manifest.
        digest: String,
    },
    /// An object was written to the cluster: created by us, with the digest of what we wrote.
    Object {
        /// `Kind namespace/name`.
        object: String,
        /// Digest of the object as we wrote it.
        ours: String,
    },
    /// An etcd member was added.
    Member {
        /// Its name.
        name: String,
    },
    /// What a newer edgeboot noted: kept as it stands, for the OS image may go back and forth. Only that one can undo it.
    #[serde(untagged)]
    Unknown(Value),
}

impl Effect {
    /// Two effects with the same subject are one entry of the ledger.
    pub fn subject(&self) -> String {
        match self {
            Effect::File { path, .. } | Effect::Link { path, .. } => path.to_string(),
            Effect::Dir { path } => format!("dir {path}"),
            Effect::Unit { name, .. } => format!("unit {name}"),
            Effect::Sysctl { key, .. } => format!("sysctl {key}"),
            Effect::Hostname { .. } => "hostname".to_owned(),
            Effect::Mount { path } => format!("mount {path}"),
            Effect::Image { name, .. } => format!("image {name}"),
            Effect::Object { object, .. } => format!("object {object}"),
            Effect::Member { name } => format!("member {name}"),
            Effect::Unknown(noted) => noted.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_another_version_noted_is_kept_as_it_stands() {
        let mut written = serde_json::to_value(State { schema: SCHEMA, ..State::default() }).expect("JSON");
        let known = json!({"effect": "member", "name": "box"});
        let newer = json!({"effect": "firmware", "slot": 2});
        written["later"] = json!({"a": 1});
        written["phases"] = json!({"of-tomorrow": {"fingerprint": "f", "effects": [known, newer], "later": true}});
        let state: State = serde_json::from_value(written.clone()).expect("read");
        let effects = &state.phases.values().next().expect("a record").effects;
        assert_eq!(effects[0], Effect::Member { name: "box".to_owned() });
        assert_eq!(effects[1], Effect::Unknown(newer));
        assert_ne!(effects[0].subject(), effects[1].subject());
        assert_eq!(serde_json::to_value(&state).expect("JSON"), written);
    }
}
