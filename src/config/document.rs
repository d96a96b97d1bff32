//! What users write in our own kind: `edgeboot.io/v1alpha1 NodeConfig`, which says what kubeadm's kinds cannot. Every field is optional
//! here; `check` completes them. Unknown fields are errors.

use std::collections::BTreeMap;
use std::time::Duration;

use camino::Utf8PathBuf;

use super::fields::Fields;
use super::findings::{At, Findings, Level};
use super::kubeadm::AdmissionDocument;
use super::node::{NetworkComponent, OnExistingNode, ReadyWhen, Role, RuntimeSource, Swap};
use super::sources::{limits, secrets};
use super::tree::Tree;
use super::values;

/// `network.component`.
const COMPONENTS: [(&str, NetworkComponent); 3] =
    [("flannel", NetworkComponent::Flannel), ("bridge", NetworkComponent::Bridge), ("none", NetworkComponent::None)];

/// `NodeConfig`.
#[derive(Debug, Default)]
pub struct NodeDocument {
    /// `role`: the one required field.
    pub role: Option<At<Role>>,
    /// `package`: a folder or a tar.
    pub package: Option<At<Utf8PathBuf>>,
    /// `join`.
    pub join: Option<At<JoiningDocument>>,
    /// `uploadCerts`: kubeadm's flag of that name.
    pub upload_certs: Option<At<bool>>,
    /// `network.component`.
    pub network: Option<At<NetworkComponent>>,
    /// `runtime.source`.
    pub runtime_source: Option<At<RuntimeSource>>,
    /// `runtime.config`.
    pub runtime_config: Option<At<String>>,
    /// `host`.
    pub host: HostDocument,
    /// `readyWhen`.
    pub ready_when: Option<At<ReadyWhen>>,
    /// `onMissing.action`.
    pub on_missing: Option<At<OnMissing>>,
    /// `onMissing.after`.
    pub missing_after: Option<At<Duration>>,
}

/// What a machine does that nobody tells what it shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMissing {
    /// The unit is done; it is started again when a configuration appears.
    Wait,
    /// The boot waits for it, and has failed when none came in time.
    Fail,
}

/// How long `onMissing: {action: fail}` waits.
const MISSING_AFTER: Duration = Duration::from_secs(300);

/// `NodeConfig.join`.
#[derive(Debug, Default)]
pub struct JoiningDocument {
    /// What kubeadm's JoinConfiguration can say too.
    pub admission: AdmissionDocument,
    /// `keepEndpoint`.
    pub keep_endpoint: Option<At<bool>>,
    /// `onExistingNode`.
    pub on_existing_node: Option<At<OnExistingNode>>,
}

/// `NodeConfig.host`.
#[derive(Debug, Default)]
pub struct HostDocument {
    /// `hostname`.
    pub hostname: Option<At<String>>,
    /// `modules`.
    pub modules: Vec<String>,
    /// `sysctls`.
    pub sysctls: BTreeMap<String, String>,
    /// `swap`.
    pub swap: Option<At<Swap>>,
    /// `time.wait`.
    pub time_wait: Option<At<Duration>>,
    /// `time.offline`.
    pub time_offline: Option<At<bool>>,
}

impl NodeDocument {
    /// How long a configuration is waited for before the boot has failed, where it is to fail.
    pub fn fail_after(&self) -> Option<Duration> {
        let fails = self.on_missing.as_ref().is_some_and(|at| at.value == OnMissing::Fail);
        fails.then(|| self.missing_after.as_ref().map_or(MISSING_AFTER, |at| at.value))
    }

    /// Reads the document.
    pub fn read(tree: Option<&Tree>, findings: &Findings) -> NodeDocument {
        let Some(fields) = tree.and_then(|tree| Fields::of(tree, "", findings, Level::Error)) else {
            return NodeDocument::default();
        };
        let mut document = NodeDocument {
            role: fields.parsed("role", values::one_of(&[("controlPlane", Role::ControlPlane), ("worker", Role::Worker)])),
            package: fields.parsed("package", values::absolute_path),
            join: fields.section("join", joining),
            upload_certs: fields.flag("uploadCerts"),
            network: fields
                .section("network", |network| network.parsed("component", values::one_of(&COMPONENTS)))
                .and_then(|at| at.value),
            ready_when: fields.parsed(
                "readyWhen",
                values::one_of(&[
                    ("kubelet-healthy", ReadyWhen::KubeletHealthy),
                    ("node-registered", ReadyWhen::NodeRegistered),
                    ("node-ready", ReadyWhen::NodeReady),
                ]),
            ),
            ..NodeDocument::default()
        };
        fields.section("runtime", |runtime| {
            document.runtime_source = runtime
                .parsed("source", values::one_of(&[("package", RuntimeSource::Package), ("existing", RuntimeSource::Existing)]));
            document.runtime_config = runtime.parsed("config", containerd_toml);
        });
        document.host = fields.section("host", host).map(|at| at.value).unwrap_or_default();
        // Which sources are asked is decided while they are: here it is only judged.
        fields.texts_parsed("sources", limits::name);
        fields.section("onMissing", |missing| {
            document.on_missing = missing.parsed("action", values::one_of(&[("wait", OnMissing::Wait), ("fail", OnMissing::Fail)]));
            document.missing_after = missing.parsed("after", values::duration);
        });
        fields.finish();
        document
    }
}

fn joining(join: &Fields<'_>) -> JoiningDocument {
    let reactions = [("adopt", OnExistingNode::Adopt), ("replace", OnExistingNode::Replace), ("fail", OnExistingNode::Fail)];
    JoiningDocument {
        admission: AdmissionDocument {
            endpoints: join.texts_parsed("endpoints", values::endpoint),
            token: secrets::read(join, &secrets::TOKEN, values::token),
            hashes: join.texts_parsed("caCertHashes", values::public_key_hash),
            skip_verification: join.flag("unsafeSkipCAVerification"),
            file: join.parsed("discoveryFile", values::discovery_file),
            tls_bootstrap_token: secrets::read(join, &secrets::TLS_BOOTSTRAP_TOKEN, values::token),
            certificate_key: secrets::read(join, &secrets::CERTIFICATE_KEY, values::certificate_key),
        },
        keep_endpoint: join.flag("keepEndpoint"),
        on_existing_node: join.parsed("onExistingNode", values::one_of(&reactions)),
    }
}

fn containerd_toml(text: &str) -> Result<String, String> {
    match toml::from_str::<toml::Table>(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("this is not valid TOML: {}", error.message())),
    }
}

fn host(host: &Fields<'_>) -> HostDocument {
    let mut document = HostDocument {
        hostname: host.parsed("hostname", values::host_name),
        modules: host.texts_parsed("modules", module).map(|at| at.value).unwrap_or_default(),
        swap: host.parsed("swap", values::one_of(&[("keep", Swap::Keep), ("off", Swap::Off)])),
        ..HostDocument::default()
    };
    if let Some(tree) = host.raw("sysctls")
        && let Some(sysctls) = Fields::of(tree, "host.sysctls", host.findings(), Level::Error)
    {
        for (key, value) in sysctls.free() {
            match sysctl(&key.value) {
                Ok(name) => drop(document.sysctls.insert(name, value.value)),
                Err(why) => host.findings().error(key.place, format!("`host.sysctls`: {why}")),
            }
        }
    }
    host.section("time", |time| {
        document.time_wait = time.parsed("wait", values::duration);
        document.time_offline = time.flag("offline");
    });
    host.later("files", "placing files");
    host.later("hooks", "hooks");
    document
}

fn module(text: &str) -> Result<String, String> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)))
        .then(|| text.to_owned())
        .ok_or_else(|| format!("`{text}` is not the name of a kernel module"))
}

/// A sysctl's name. Only what lies under /proc/sys can be meant.
fn sysctl(text: &str) -> Result<String, String> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b));
    let inside = !text.split(['.', '/']).any(str::is_empty);
    (plain && inside)
        .then(|| text.to_owned())
        .ok_or_else(|| format!("`{text}` is not the name of a sysctl such as net.ipv4.ip_forward"))
}
