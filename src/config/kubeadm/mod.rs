//! kubeadm's documents (kubeadm.k8s.io/v1beta4; v1beta3 is first brought into that form) as they are written: every field optional,
//! every value valid by itself. Unknown fields are warnings, as in kubeadm; wrong types are errors. Field names and value rules come
//! from `cmd/kubeadm/app/apis/kubeadm/v1beta4/types.go` and `…/validation/validation.go` of v1.36.

mod cluster;
mod join;
mod reset;
mod v1beta3;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use camino::Utf8PathBuf;

use super::fields::Fields;
use super::findings::{At, Findings, Level, Place};
use super::node::{Arg, CertificateKey, Taint, Token};
use super::tree::Tree;
use super::values;

pub use cluster::{ClusterDocument, ExternalEtcdDocument, LocalEtcdDocument};
pub use join::{AdmissionDocument, JoinDocument};
pub use reset::ResetDocument;
pub use v1beta3::from_v1beta3;

/// `InitConfiguration`.
#[derive(Debug, Default)]
pub struct InitDocument {
    /// `bootstrapTokens`.
    pub bootstrap_tokens: Vec<TokenDocument>,
    /// `certificateKey`.
    pub certificate_key: Option<At<CertificateKey>>,
    /// What it says of this machine.
    pub machine: MachineDocument,
}

/// What `InitConfiguration` and `JoinConfiguration` say alike of this machine.
#[derive(Debug, Default)]
pub struct MachineDocument {
    /// `dryRun`.
    pub dry_run: Option<At<bool>>,
    /// `nodeRegistration`.
    pub registration: RegistrationDocument,
    /// `localAPIEndpoint.advertiseAddress`.
    pub advertise_address: Option<At<IpAddr>>,
    /// `localAPIEndpoint.bindPort`.
    pub bind_port: Option<At<u16>>,
    /// `skipPhases`.
    pub skip_phases: Option<At<Vec<At<String>>>>,
    /// `patches.directory`.
    pub patches: Option<At<Utf8PathBuf>>,
    /// `timeouts`, by name.
    pub timeouts: BTreeMap<&'static str, Duration>,
}

/// An item of `bootstrapTokens`.
#[derive(Debug)]
pub struct TokenDocument {
    /// `token`.
    pub token: Option<At<Token>>,
    /// `description`.
    pub description: Option<At<String>>,
    /// `ttl`.
    pub ttl: Option<At<Duration>>,
    /// `usages`.
    pub usages: Option<At<Vec<At<String>>>>,
    /// `groups`.
    pub groups: Option<At<Vec<At<String>>>>,
    /// Where the item stands.
    pub place: Place,
    /// `token`, `tokenFrom` or `tokenFile` is there, right or wrong.
    pub said: bool,
}

/// `nodeRegistration`.
#[derive(Debug, Default)]
pub struct RegistrationDocument {
    /// `name`.
    pub name: Option<At<String>>,
    /// `criSocket`.
    pub cri_socket: Option<At<String>>,
    /// `taints`; an empty list is said, nothing is not.
    pub taints: Option<At<Vec<Taint>>>,
    /// `kubeletExtraArgs`.
    pub kubelet_extra_args: Vec<Arg>,
    /// `ignorePreflightErrors`.
    pub ignore_preflight_errors: Option<At<Vec<At<String>>>>,
    /// `imagePullPolicy`.
    pub image_pull_policy: Option<At<&'static str>>,
    /// `imagePullSerial`.
    pub image_pull_serial: Option<At<bool>>,
}

impl InitDocument {
    /// Reads the document.
    pub fn read(tree: Option<&Tree>, findings: &Findings) -> InitDocument {
        let Some(fields) = tree.and_then(|tree| Fields::of(tree, "", findings, Level::Warning)) else {
            return InitDocument::default();
        };
        let mut document = InitDocument {
            bootstrap_tokens: fields.sections("bootstrapTokens", |item| Some(token(item))).map(|at| at.value).unwrap_or_default(),
            certificate_key: fields.parsed("certificateKey", values::certificate_key),
            machine: MachineDocument::read(&fields),
        };
        document.machine.read_endpoint(&fields);
        for form in ["certificateKeyFrom", "certificateKeyFile"] {
            fields.raw(form);
        }
        fields.finish();
        document
    }
}

impl MachineDocument {
    /// Reads it, but for the endpoint.
    fn read(fields: &Fields<'_>) -> MachineDocument {
        let patches = fields.section("patches", |patches| patches.parsed("directory", values::absolute_path));
        let mut document = MachineDocument {
            dry_run: fields.flag("dryRun"),
            registration: fields.section("nodeRegistration", registration).map(|at| at.value).unwrap_or_default(),
            skip_phases: fields.texts("skipPhases"),
            patches: patches.and_then(|at| at.value),
            ..MachineDocument::default()
        };
        fields.section("timeouts", |timeouts| {
            for name in TIMEOUTS {
                document.timeouts.extend(timeouts.parsed(name, values::duration).map(|at| (name, at.value)));
            }
        });
        document
    }

    /// Reads `localAPIEndpoint`, wherever it stands.
    fn read_endpoint(&mut self, fields: &Fields<'_>) {
        fields.section("localAPIEndpoint", |endpoint| {
            self.advertise_address = endpoint.parsed("advertiseAddress", values::address);
            self.bind_port =
                endpoint.number("bindPort", bind_port).and_then(|at| at.value.map(|value| At { value, place: at.place }));
        });
    }
}

/// The names in `timeouts`.
pub const TIMEOUTS: [&str; 7] = [
    "controlPlaneComponentHealthCheck",
    "kubeletHealthCheck",
    "kubernetesAPICall",
    "etcdAPICall",
    "tlsBootstrap",
    "discovery",
    "upgradeManifests",
];

fn token(item: &Fields<'_>) -> TokenDocument {
    let said = ["token", "tokenFrom", "tokenFile"].map(|form| item.raw(form).is_some()).contains(&true);
    if item.raw("expires").is_some() {
        let place = item.key_place("expires");
        item.findings().error_with_help(place, "`bootstrapTokens[].expires` is not part of this version of edgeboot", "say `ttl`");
    }
    TokenDocument {
        token: item.parsed("token", values::token),
        description: item.text("description"),
        ttl: item.parsed("ttl", values::duration),
        usages: item.texts("usages"),
        groups: item.texts("groups"),
        place: item.place(),
        said,
    }
}

fn registration(fields: &Fields<'_>) -> RegistrationDocument {
    let policies = [("Always", "Always"), ("IfNotPresent", "IfNotPresent"), ("Never", "Never")];
    RegistrationDocument {
        name: fields.parsed("name", values::node_name),
        cri_socket: fields.parsed("criSocket", values::cri_socket),
        taints: fields.sections("taints", taint),
        kubelet_extra_args: arguments(fields, "kubeletExtraArgs"),
        ignore_preflight_errors: fields.texts("ignorePreflightErrors"),
        image_pull_policy: fields.parsed("imagePullPolicy", values::one_of(&policies)),
        image_pull_serial: fields.flag("imagePullSerial"),
    }
}

fn taint(item: &Fields<'_>) -> Option<Taint> {
    let effects = [("NoSchedule", "NoSchedule"), ("PreferNoSchedule", "PreferNoSchedule"), ("NoExecute", "NoExecute")];
    item.raw("timeAdded");
    let (key, value, effect) = (item.text("key"), item.text("value"), item.parsed("effect", values::one_of(&effects)));
    if key.is_none() || item.raw("effect").is_none() {
        item.findings().error(item.place(), format!("`{}` needs a `key` and an `effect`", item.path("").trim_end_matches('.')));
    }
    Some(Taint { key: key?.value, value: value.map(|at| at.value).unwrap_or_default(), effect: effect?.value.to_owned() })
}

/// To kubeadm, 0 is not said.
fn bind_port(number: i64) -> Result<Option<u16>, String> {
    if number == 0 { Ok(None) } else { values::port(number).map(Some) }
}

/// A text, empty when it is not said.
fn plain_text(fields: &Fields<'_>, name: &'static str) -> String {
    fields.text(name).map(|at| at.value).unwrap_or_default()
}

/// Flags of a program.
fn arguments(fields: &Fields<'_>, name: &'static str) -> Vec<Arg> {
    let argument = |item: &Fields<'_>| {
        let (name, value) = (item.text("name"), plain_text(item, "value"));
        if name.is_none() {
            item.findings().error(item.place(), format!("`{}` needs a `name`", item.path("").trim_end_matches('.')));
        }
        Some(Arg { name: name?.value.trim_start_matches('-').to_owned(), value })
    };
    fields.sections(name, argument).map(|at| at.value).unwrap_or_default()
}
