//! `edgeboot join`: kubeadm's flags of that command as a source of the configuration, and what is to be recorded of them. The wish is
//! checked here, in place; who runs it is another matter.

use clap::Args;

use crate::config::layer::Kind;
use crate::config::node::{Join, Node};
use crate::config::sources::Gathered;
use crate::config::sources::command_line::{Flag, FlagValue, gathered};
use crate::config::sources::recorded::Recording;
use crate::config::{self, Outcome, Wish};
use crate::error::{Error, Result};
use crate::host::Root;

use super::init::{absolute, by_hand, given_token, refuse_mixed};

/// Joins this machine to a cluster. The flags are kubeadm's; what they say is recorded, and each later boot wishes the same.
#[derive(Debug, Clone, Default, Args)]
pub struct JoinFlags {
    /// The API servers to ask, set by whoever reads the command line.
    #[arg(skip)]
    pub endpoints: Vec<String>,
    /// A file with the configuration: NodeConfig, JoinConfiguration, KubeletConfiguration, one or more of them; YAML or JSON. Most
    /// flags cannot stand beside it, because each thing is said in one place only.
    #[arg(long, value_name = "FILE")]
    pub config: Option<String>,
    /// The token of the cluster: abcdef.0123456789abcdef. It proves the cluster to this machine and this machine to the cluster. Other
    /// users of this machine can see it in the process list: --token-file keeps it from them.
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    pub token: Option<String>,
    /// A file that holds the token, 0600.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<String>,
    /// The token that proves the cluster to this machine, where it is another than --token.
    #[arg(long, value_name = "TOKEN")]
    pub discovery_token: Option<String>,
    /// The hash of the cluster's CA: sha256:1234…cdef. May be repeated; any of them will do.
    #[arg(long, value_name = "HASH,…", value_delimiter = ',')]
    pub discovery_token_ca_cert_hash: Vec<String>,
    /// Joins without --discovery-token-ca-cert-hash: whoever knows the token is believed to be the cluster.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false)]
    pub discovery_token_unsafe_skip_ca_verification: bool,
    /// A kubeconfig that tells of the cluster, in place of endpoints: a file, or an https URL.
    #[arg(long, value_name = "FILE|URL")]
    pub discovery_file: Option<String>,
    /// The token that proves this machine to the cluster, where it is another than --token.
    #[arg(long, value_name = "TOKEN")]
    pub tls_bootstrap_token: Option<String>,
    /// Makes a further control plane of this machine.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false)]
    pub control_plane: bool,
    /// The key that decrypts the control plane's certificates, with --control-plane: 32 bytes in hexadecimal.
    #[arg(long, value_name = "KEY")]
    pub certificate_key: Option<String>,
    /// The address at which this machine's API server tells others to reach it, with --control-plane. By default the source address of
    /// the default route.
    #[arg(long, value_name = "ADDRESS")]
    pub apiserver_advertise_address: Option<String>,
    /// The port of this machine's API server, with --control-plane. [default: 6443]
    #[arg(long, value_name = "PORT")]
    pub apiserver_bind_port: Option<i64>,
    /// The node's name. By default the machine's host name in lower case.
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// The socket of a container runtime that this machine brings itself. By default edgeboot's own containerd.
    #[arg(long, value_name = "SOCKET")]
    pub cri_socket: Option<String>,
    /// A folder of patches for what edgeboot writes: TARGET[SUFFIX][+strategic|merge|json].{yaml,json}, for instance
    /// kubeletconfiguration+merge.yaml.
    #[arg(long, value_name = "FOLDER")]
    pub patches: Option<String>,
    /// Phases that are left out; a parent leaves out its children (`edgeboot phase list`).
    #[arg(long, value_name = "PHASE,…", value_delimiter = ',')]
    pub skip_phases: Vec<String>,
    /// Checks whose errors are to be warnings, for instance Swap,NumCPU; `all` for all.
    #[arg(long, value_name = "CHECK,…", value_delimiter = ',')]
    pub ignore_preflight_errors: Vec<String>,
    /// Says what would be done, and does nothing.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false)]
    pub dry_run: bool,
}

/// What `edgeboot join` was asked for.
#[derive(Debug)]
pub struct JoinWish {
    /// The wish; always a node that joins.
    pub outcome: Outcome,
    /// What is to be placed when it is run, so that later boots wish the same.
    pub recording: Recording,
    /// Nothing is to be done.
    pub dry_run: bool,
    /// What was said in vain on the command line.
    pub warnings: Vec<String>,
}

impl JoinWish {
    /// The wish, and how it joins.
    pub fn joiner(&self) -> Result<(&Node, &Join)> {
        if let Wish::Node { node, .. } = &self.outcome.wish
            && let Some(join) = node.join()
        {
            return Ok((node, join));
        }
        Err(nowhere())
    }
}

fn nowhere() -> Error {
    Error::config("joining a cluster")
        .because("nothing says where it is")
        .hint("edgeboot join 10.0.0.1:6443 --token … --discovery-token-ca-cert-hash sha256:…")
}

/// From the flags to the wish. Nothing is changed on the machine.
pub fn wish(flags: &JoinFlags, root: &Root) -> Result<JoinWish> {
    flags.refuse_mixed()?;
    let told = flags.told(root)?;
    let outcome = config::load(root, &told)?;
    let Wish::Node { dry_run, .. } = &outcome.wish else { return Err(nowhere()) };
    let wish = JoinWish {
        dry_run: flags.dry_run || *dry_run,
        recording: config::record(root, &told)?,
        outcome,
        warnings: flags.said_in_vain(),
    };
    wish.joiner()?;
    Ok(wish)
}

impl JoinFlags {
    /// The flags as sources: what `join` means by itself, then the file, then the other flags.
    pub fn told(&self, root: &Root) -> Result<Vec<Gathered>> {
        let file = self.config.as_ref().map(|path| by_hand(root, path)).transpose()?;
        let mut told = Vec::new();
        if let Some(role) = self.role(file.as_ref()) {
            let value = FlagValue::Text(role.to_owned());
            told.push(gathered(&[Flag {
                flag: "edgeboot join",
                written: String::new(),
                kind: Kind::Node,
                path: &["role"],
                value,
            }]));
        }
        told.extend(file);
        told.extend(gathered_flags(&self.flags(root)?));
        Ok(told)
    }

    /// As in kubeadm, a further control plane is made only where it is asked for; who says nothing of where to join leaves the role to
    /// this machine's configuration.
    fn role(&self, file: Option<&Gathered>) -> Option<&'static str> {
        if self.control_plane || file.is_some_and(config::says_control_plane) {
            return Some("controlPlane");
        }
        let says_where = file.is_some() || !self.endpoints.is_empty() || self.discovery_file.is_some();
        says_where.then_some("worker")
    }

    fn refuse_mixed(&self) -> Result<()> {
        let said = [
            ("apiserver-advertise-address", self.apiserver_advertise_address.is_some()),
            ("apiserver-bind-port", self.apiserver_bind_port.is_some()),
            ("certificate-key", self.certificate_key.is_some()),
            ("control-plane", self.control_plane),
            ("cri-socket", self.cri_socket.is_some()),
            ("discovery-file", self.discovery_file.is_some()),
            ("discovery-token", self.discovery_token.is_some()),
            ("discovery-token-ca-cert-hash", !self.discovery_token_ca_cert_hash.is_empty()),
            ("discovery-token-unsafe-skip-ca-verification", self.discovery_token_unsafe_skip_ca_verification),
            ("patches", self.patches.is_some()),
            ("tls-bootstrap-token", self.tls_bootstrap_token.is_some()),
            ("token", self.token.is_some()),
            ("token-file", self.token_file.is_some()),
        ];
        refuse_mixed(self.config.is_some(), &said)
    }

    /// As in kubeadm, this is no error: a line that works there works here.
    fn said_in_vain(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.config.is_some() && !self.endpoints.is_empty() {
            warnings.push("warning: beside --config, endpoints on the command line say nothing".to_owned());
        }
        let of_control_plane = [
            ("--certificate-key", self.certificate_key.is_some()),
            ("--apiserver-advertise-address", self.apiserver_advertise_address.is_some()),
            ("--apiserver-bind-port", self.apiserver_bind_port.is_some()),
        ];
        for (flag, _) in of_control_plane.iter().filter(|(_, said)| *said && !self.control_plane) {
            warnings.push(format!("warning: {flag} says nothing without --control-plane"));
        }
        warnings
    }

    fn flags(&self, root: &Root) -> Result<Vec<Flag>> {
        let mut flags = self.of_discovery(root)?;
        let mut add = |flag, written: &str, kind, path, value| {
            flags.push(Flag { flag, written: written.to_owned(), kind, path, value });
        };
        if self.control_plane {
            if let Some(key) = &self.certificate_key {
                add("--certificate-key", key, Kind::Node, &["join", "certificateKey"], FlagValue::Text(key.clone()));
            }
            if let Some(address) = &self.apiserver_advertise_address {
                let path = &["controlPlane", "localAPIEndpoint", "advertiseAddress"];
                add("--apiserver-advertise-address", address, Kind::Join, path, FlagValue::Text(address.clone()));
            }
            if let Some(port) = self.apiserver_bind_port {
                let path = &["controlPlane", "localAPIEndpoint", "bindPort"];
                add("--apiserver-bind-port", &port.to_string(), Kind::Join, path, FlagValue::Number(port));
            }
        }
        if let Some(name) = &self.node_name {
            add("--node-name", name, Kind::Join, &["nodeRegistration", "name"], FlagValue::Text(name.clone()));
        }
        if let Some(socket) = &self.cri_socket {
            add("--cri-socket", socket, Kind::Join, &["nodeRegistration", "criSocket"], FlagValue::Text(socket.clone()));
        }
        if let Some(folder) = &self.patches {
            add("--patches", folder, Kind::Join, &["patches", "directory"], FlagValue::Text(absolute(folder)?));
        }
        if !self.ignore_preflight_errors.is_empty() {
            // kubeadm joins what the file says and what the flag says.
            let path = &["nodeRegistration", "ignorePreflightErrors+"];
            let value = FlagValue::List(self.ignore_preflight_errors.clone());
            add("--ignore-preflight-errors", &self.ignore_preflight_errors.join(","), Kind::Join, path, value);
        }
        if !self.skip_phases.is_empty() {
            let value = FlagValue::List(self.skip_phases.clone());
            add("--skip-phases", &self.skip_phases.join(","), Kind::Join, &["skipPhases"], value);
        }
        Ok(flags)
    }

    /// Where the cluster is, and how the two get to know each other. `--token` stands for both tokens where they are not said; a
    /// discovery token that is said stands for both before it (kubeadm's `newJoinData`).
    fn of_discovery(&self, root: &Root) -> Result<Vec<Flag>> {
        let mut flags = Vec::new();
        let mut add = |flag, written: &str, path, value| {
            flags.push(Flag { flag, written: written.to_owned(), kind: Kind::Node, path, value });
        };
        if self.config.is_none() && !self.endpoints.is_empty() {
            let value = FlagValue::List(self.endpoints.clone());
            add("edgeboot join", &self.endpoints.join(" "), &["join", "endpoints"], value);
        }
        if let Some(file) = &self.discovery_file {
            let value = if file.contains("://") { file.clone() } else { absolute(file)? };
            add("--discovery-file", file, &["join", "discoveryFile"], FlagValue::Text(value));
        }
        if let Some(token) = &self.discovery_token {
            add("--discovery-token", "<redacted>", &["join", "token"], FlagValue::Text(token.clone()));
        } else if let Some(token) = given_token(root, self.token.as_ref(), self.token_file.as_deref())? {
            let written = self.token_file.as_deref().unwrap_or("<redacted>");
            let flag = if self.token_file.is_some() { "--token-file" } else { "--token" };
            add(flag, written, &["join", "token"], FlagValue::Text(token));
        }
        if let Some(token) = &self.tls_bootstrap_token {
            add("--tls-bootstrap-token", "<redacted>", &["join", "tlsBootstrapToken"], FlagValue::Text(token.clone()));
        }
        if !self.discovery_token_ca_cert_hash.is_empty() {
            let hashes = &self.discovery_token_ca_cert_hash;
            let value = FlagValue::List(hashes.clone());
            add("--discovery-token-ca-cert-hash", &hashes.join(","), &["join", "caCertHashes"], value);
        }
        if self.discovery_token_unsafe_skip_ca_verification {
            let path = &["join", "unsafeSkipCAVerification"];
            add("--discovery-token-unsafe-skip-ca-verification", "", path, FlagValue::Bool(true));
        }
        Ok(flags)
    }
}

fn gathered_flags(flags: &[Flag]) -> Option<Gathered> {
    (!flags.is_empty()).then(|| gathered(flags))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use crate::config::node::{Auto, CertificatesFrom, Discovery, Introduction, Pins, Role};
    use crate::error::Kind as ErrorKind;

    const HASH: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const TOKEN: &str = "abcdef.0123456789abcdef";

    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let folder = tempfile::TempDir::new().expect("a temporary folder");
        let root = Root::at(folder.path().to_str().expect("a plain path")).expect("a tree");
        for (path, text) in files {
            let _ = root.put(path, 0o600, text.as_bytes()).expect(path);
        }
        (folder, root)
    }

    /// A line as it is typed.
    fn flags(line: &str) -> JoinFlags {
        let words = format!("edgeboot {line}");
        let cli = Cli::read(words.split_whitespace().map(Into::into)).unwrap_or_else(|error| panic!("{line}: {error}"));
        let Command::Join(command) = cli.command else { panic!("{line}") };
        command.whole()
    }

    fn wished(line: &str, files: &[(&str, &str)]) -> JoinWish {
        let (_folder, root) = machine(files);
        wish(&flags(line), &root).unwrap_or_else(|error| panic!("{line}: {}", error.render()))
    }

    #[test]
    fn a_line_of_kubeadm_works_when_the_first_word_is_exchanged() {
        let key = "ab".repeat(32);
        let line = format!("join 10.0.0.1:6443 --token {TOKEN} --discovery-token-ca-cert-hash {HASH} -v 5");
        let wish = wished(&line, &[]);
        let (node, join) = wish.joiner().expect("it joins");
        assert_eq!((node.role, wish.warnings.len(), wish.dry_run), (Role::Worker, 0, false));
        let Discovery::Token { endpoints, token, pins: Pins::Sha256(_) } = &join.discovery else { panic!("{join:?}") };
        assert_eq!(endpoints[0].to_string(), "10.0.0.1:6443");
        assert_eq!(join.introduction, Introduction::Token(token.clone()));
        let wish = wished(&format!("{line} --control-plane --certificate-key {key} --apiserver-bind-port=7443 --v=2"), &[]);
        let (node, join) = wish.joiner().expect("it joins");
        assert_eq!((node.role, node.bind_port), (Role::ControlPlane, 7443));
        assert!(matches!(&join.certificates, CertificatesFrom::Cluster(_)));
    }

    #[test]
    fn every_flag_becomes_the_wish() {
        let line = "join a.example b.example:7 --discovery-token abcdef.0123456789abcdef --tls-bootstrap-token \
            fedcba.0123456789abcdef --discovery-token-unsafe-skip-ca-verification --node-name Edge-2 --cri-socket /run/crio/crio.sock \
            --patches /etc/patches --skip-phases preflight --ignore-preflight-errors=Swap,Mem --dry-run \
            --apiserver-advertise-address 10.0.0.5 --control-plane=true";
        let wish = wished(line, &[]);
        let (node, join) = wish.joiner().expect("it joins");
        let Discovery::Token { endpoints, pins: Pins::Unsafe, .. } = &join.discovery else { panic!("{join:?}") };
        assert_eq!(endpoints.len(), 2);
        assert!(matches!(&join.introduction, Introduction::Token(token) if token.known().expect("here").id == "fedcba"));
        assert_eq!((&node.registration.name, node.patches.as_str()), (&Auto::Set("edge-2".to_owned()), "/etc/patches"));
        assert_eq!(node.registration.ignore_preflight_errors, ["mem", "swap"]);
        assert_eq!((node.skip_phases.as_slice(), wish.dry_run), (["preflight".to_owned()].as_slice(), true));
        assert_eq!(node.advertise_address, Auto::Set([10, 0, 0, 5].into()));
        let file = wished(&format!("join --discovery-file https://a.example/c --token {TOKEN}"), &[]);
        let (_, join) = file.joiner().expect("it joins");
        assert!(matches!((&join.discovery, &join.introduction), (Discovery::Url(_), Introduction::Token(_))));
    }

    #[test]
    fn what_was_recorded_wishes_the_same_and_holds_no_secret() {
        let (_folder, root) = machine(&[("/root/token", TOKEN)]);
        let key = "ab".repeat(32);
        let line = format!(
            "join 10.0.0.1 --token-file /root/token --tls-bootstrap-token fedcba.0123456789abcdef --control-plane \
             --certificate-key {key} --discovery-token-ca-cert-hash {HASH}"
        );
        let wish = wish(&flags(&line), &root).expect("a wish");
        for placement in wish.recording.groups.last().expect("the stream") {
            let text = String::from_utf8_lossy(&placement.bytes);
            assert!(!text.contains("0123456789abcdef") && !text.contains(&key) && !text.contains("/root/token"), "{text}");
        }
        assert!(wish.recording.groups.iter().flatten().all(|placement| placement.mode == 0o600));
        let _ = root.put_groups(&wish.recording.groups).expect("placed");
        let Wish::Node { node: again, .. } = config::load(&root, &[]).expect("a later boot").wish else { panic!("no role") };
        let Some(Join { introduction: Introduction::Token(token), .. }) = again.join() else { panic!("{again:?}") };
        let credential = token.credential().expect("one of ours").to_owned();
        assert_eq!(credential, "/var/lib/edgeboot/credentials/recorded-tls-bootstrap-token");
        let (node, _) = wish.joiner().expect("it joins");
        assert_eq!(serde_json::to_value(&again).expect("json"), serde_json::to_value(node).expect("json"));
        // When it is spent and deleted, the machine still wishes to be what it is.
        let _ = root.remove(credential).expect("removed");
        assert!(config::load(&root, &[]).is_ok());
    }

    #[test]
    fn the_file_says_what_it_is() {
        let file = |control_plane: &str| {
            format!(
                "apiVersion: kubeadm.k8s.io/v1beta4\nkind: JoinConfiguration\n{control_plane}discovery:\n  bootstrapToken: {{apiServerEndpoint: 'a.example:6443', \
                 token: {TOKEN}, unsafeSkipCAVerification: true}}\nnodeRegistration: {{ignorePreflightErrors: [Mem]}}\n"
            )
        };
        for (control_plane, role) in [("", Role::Worker), ("controlPlane: {}\n", Role::ControlPlane)] {
            let line = "join --config /tmp/join.yaml --ignore-preflight-errors=Swap --node-name b";
            let wish = wished(line, &[("/tmp/join.yaml", &file(control_plane))]);
            let (node, _) = wish.joiner().expect("it joins");
            assert_eq!((node.role, node.registration.ignore_preflight_errors.len()), (role, 2));
        }
        let files = [("/tmp/join.yaml", file(""))];
        let files = [(files[0].0, files[0].1.as_str())];
        assert_eq!(wished("join b.example:1 --config /tmp/join.yaml", &files).warnings.len(), 1, "as kubeadm, it goes by the file");
        let (_folder, root) = machine(&files);
        let error = wish(&flags("join --config /tmp/join.yaml --control-plane --token x"), &root).expect_err("mixed");
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains("can not mix '--config' with arguments [control-plane token]"), "{error}");
    }

    #[test]
    fn who_does_not_say_where_goes_by_the_configuration() {
        let disk = format!("role: controlPlane\njoin: {{endpoints: [a.example], caCertHashes: ['{HASH}'], keepEndpoint: true}}\n");
        let files = [("/etc/edgeboot/config.yaml", disk.as_str())];
        let wish = wished(&format!("join --token {TOKEN}"), &files);
        let (node, join) = wish.joiner().expect("it joins");
        assert_eq!((node.role, join.keep_endpoint), (Role::ControlPlane, true));
        for disk in ["", "role: controlPlane\n"] {
            let (_folder, root) = machine(&[("/etc/edgeboot/config.d/10.yaml", disk)]);
            let error = super::wish(&flags("join"), &root).expect_err("nowhere");
            assert_eq!(error.to_string(), "joining a cluster: nothing says where it is");
        }
        let (_folder, root) = machine(&files);
        let init = crate::cli::init::Init::default();
        let error = crate::cli::init::wish(&init, &root).expect_err("it joins");
        assert_eq!(error.kind(), ErrorKind::Config);
    }

    #[test]
    fn what_is_said_in_vain_is_told() {
        let line = format!(
            "join a.example --token {TOKEN} --discovery-token-ca-cert-hash {HASH} --certificate-key {} --apiserver-bind-port 1",
            "ab".repeat(32)
        );
        let wish = wished(&line, &[]);
        assert_eq!(wish.warnings.len(), 2, "{:?}", wish.warnings);
        assert_eq!(wish.joiner().expect("it joins").0.bind_port, 6443);
        let (_folder, root) = machine(&[]);
        let error = super::wish(&flags("join a_b --token short"), &root).expect_err("wrong").to_string();
        assert!(error.contains("edgeboot join a_b") && !error.contains("short"), "{error}");
    }
}
