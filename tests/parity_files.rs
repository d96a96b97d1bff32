//! The files edgeboot writes against those of the real kubeadm, configuration by configuration (`tests/parity/cases`): kubeadm's phases run
//! in a scratch root (`--rootfs`), edgeboot's on a machine made of memory, and both trees are compared as data. Needs root and the
//! kubeadm of the package (`image/package`); without it the cases count as ignored, or fail when EDGEBOOT_REQUIRE_KUBEADM is set.
#![expect(clippy::disallowed_methods, reason = "a test runs kubeadm in a scratch root, which no room of edgeboot may")]
#![expect(clippy::print_stderr, reason = "what is skipped is said aloud")]

#[path = "parity/describe.rs"]
mod describe;
#[path = "parity/differences.rs"]
mod differences;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use edgeboot::config::node::Node;
use edgeboot::config::{self, Wish};
use edgeboot::engine::context::Context;
use edgeboot::engine::ledger::Ledger;
use edgeboot::engine::plan::is_within;
use edgeboot::engine::progress::Progress;
use edgeboot::engine::state::PackageFacts;
use edgeboot::error::Error;
use edgeboot::host::fake::Machine;
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::{Value, json};

/// kubeadm's phases that write files, in its order.
const PHASES: [&str; 6] = ["certs", "kubeconfig", "etcd", "control-plane", "kubelet-start", "kubelet-finalize"];
/// What is compared.
const FOLDERS: [&str; 3] = ["/etc/kubernetes", "/var/lib/etcd", "/var/lib/kubelet"];
/// What a kubelet that runs has made, where it was not there before; kubelet-finalize only looks whether it is there.
const KUBELET_CLIENT: &str = "/var/lib/kubelet/pki/kubelet-client-current.pem";

fn main() {
    let arguments = Arguments::from_args();
    let missing = missing();
    if let Some(why) = &missing {
        eprintln!("skipped: kubeadm's files are not compared: {why}");
        if std::env::var_os("EDGEBOOT_REQUIRE_KUBEADM").is_some() {
            eprintln!("and they are required here");
            std::process::exit(1);
        }
    }
    let strict = Trial::test("parity::judge_is_strict", || judge_is_strict().map_err(Failed::from));
    let trials = cases()
        .into_iter()
        .map(|case| {
            let name = format!("parity::{}", case.name);
            Trial::test(name, move || case.run().map_err(Failed::from)).with_ignored_flag(missing.is_some())
        })
        .chain([strict])
        .collect();
    libtest_mimic::run(&arguments, trials).exit();
}

/// Why kubeadm cannot be asked.
fn missing() -> Option<String> {
    if !kubeadm().is_file() {
        return Some(format!("{} is not there; image/package makes it", kubeadm().display()));
    }
    (!is_root()).then(|| "it takes root to change the root directory".to_owned())
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.starts_with(b"0"))
}

fn kubeadm() -> PathBuf {
    std::env::var_os("EDGEBOOT_KUBEADM")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/package-source/files/bin/kube"), PathBuf::from)
}

/// A configuration: a kubeadm stream, and what the machine has, in lines that begin with `#!`.
struct Case {
    name: String,
    stream: String,
    /// `#! has PATH`: folders of the machine.
    folders: Vec<String>,
    /// `#! resolved`: systemd-resolved is active.
    resolved: bool,
    /// `#! external-ca`: the CA's key is somewhere else.
    external_ca: bool,
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/cases");
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).expect("tests/parity/cases").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.iter().map(|path| Case::read(path)).collect()
}

/// A tree: what each path means, and its mode.
type Tree = BTreeMap<String, Value>;

impl Case {
    fn read(path: &Path) -> Case {
        let stream = fs::read_to_string(path).expect("a case");
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let words = |word: &str| -> Vec<String> {
            let lines = stream.lines().filter_map(|line| line.strip_prefix("#! "));
            lines.filter_map(|line| line.strip_prefix(word)).map(|rest| rest.trim().to_owned()).collect()
        };
        let (folders, resolved, external_ca) = (words("has "), !words("resolved").is_empty(), !words("external-ca").is_empty());
        Case { name, stream, folders, resolved, external_ca }
    }

    fn run(&self) -> Result<(), String> {
        let root = tempfile::tempdir().map_err(|why| why.to_string())?;
        let theirs = self.kubeadm(root.path())?;
        let ours = self.edgeboot(root.path())?;
        let paths: std::collections::BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
        let of = |tree: &Tree, path: &String| tree.get(path).cloned().unwrap_or(Value::Null);
        let found: Vec<_> = paths
            .into_iter()
            .flat_map(|path| {
                differences::between("", &of(&theirs, path), &of(&ours, path)).into_iter().map(|found| (path.clone(), found))
            })
            .collect();
        let known = cases();
        let known: Vec<&str> = known.iter().map(|case| case.name.as_str()).collect();
        let wrong = differences::judge(&self.name, &differences::wanted(|subject| subject.starts_with('/'), &known), &found);
        if wrong.is_empty() { Ok(()) } else { Err(format!("{} differences:\n{}", wrong.len(), wrong.join("\n"))) }
    }

    /// kubeadm's files, written below `root`.
    fn kubeadm(&self, root: &Path) -> Result<Tree, String> {
        for folder in self.folders.iter().map(String::as_str).chain(["/etc", "/tmp", "/usr/bin"]) {
            make(&root.join(&folder[1..]));
        }
        copy_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/patches"), &root.join("patches"));
        fs::write(root.join("kubeadm.yaml"), &self.stream).expect("a file");
        if self.resolved {
            systemctl_that_says_active(root);
        }
        if self.external_ca {
            phase(root, "certs all")?;
            phase(root, "kubeconfig all")?;
            fs::remove_file(root.join("etc/kubernetes/pki/ca.key")).expect("a key");
            copy_folder(&root.join("etc/kubernetes"), &root.join("before/etc/kubernetes"));
        }
        for words in ["certs all", "kubeconfig all", "etcd local", "control-plane all", "kubelet-start"] {
            if words != "etcd local" || !self.stream.contains("external:") {
                phase(root, words)?;
            }
        }
        make(&root.join("var/lib/kubelet/pki"));
        fs::write(root.join(&KUBELET_CLIENT[1..]), "").expect("a file");
        phase(root, "kubelet-finalize all")?;
        fs::remove_file(root.join(&KUBELET_CLIENT[1..])).expect("a file");
        fs::remove_dir(root.join("var/lib/kubelet/pki")).expect("a folder");
        let mut tree = Tree::new();
        for folder in FOLDERS {
            read_tree(root, &root.join(&folder[1..]), &mut tree);
        }
        Ok(tree)
    }

    /// edgeboot's files, on a machine of memory that has what kubeadm's had.
    fn edgeboot(&self, root: &Path) -> Result<Tree, String> {
        let machine = Machine::new();
        machine.services.set_now(jiff::Timestamp::now());
        let bake = |path: &str, mode, bytes: &[u8]| machine.files.bake(path, mode, bytes);
        bake("/proc/sys/kernel/hostname", 0o644, host_name().as_bytes());
        bake("/etc/hostname", 0o644, host_name().as_bytes());
        for folder in &self.folders {
            bake(&format!("{folder}/a-file"), 0o644, b"");
        }
        for (from, to) in [("patches", "/patches"), ("before/etc/kubernetes", "/etc/kubernetes")] {
            bake_folder(&machine, &root.join(from), to);
        }
        if self.resolved {
            bake("/etc/systemd/system/systemd-resolved.service", 0o644, b"");
            bake("/etc/systemd/system/multi-user.target.wants/systemd-resolved.service", 0o644, b"");
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|why| why.to_string())?;
        runtime.block_on(self.phases(&machine)).map_err(|error| error.render())?;
        Ok(machine
            .files
            .tree()
            .into_iter()
            .filter(|(path, _)| FOLDERS.iter().any(|folder| path.starts_with(&format!("{folder}/"))))
            .filter(|(path, _)| !path.starts_with("/var/lib/kubelet/pki/"))
            .map(|(path, (mode, bytes))| entry(path.trim_end_matches('/'), path.ends_with('/'), mode, &bytes))
            .collect())
    }

    /// The wish of the same stream.
    fn node(&self, machine: &Machine) -> edgeboot::error::Result<Node> {
        let ours = "apiVersion: edgeboot.io/v1alpha1\nkind: NodeConfig\nrole: controlPlane\nnetwork: {component: none}\n---\n";
        machine.files.bake("/etc/edgeboot/config.yaml", 0o600, format!("{ours}{}", self.stream).as_bytes());
        let outcome = config::load(&machine.root(), &[])?;
        match outcome.wish {
            Wish::Node { node, .. } => Ok(*node),
            Wish::Nothing { .. } => Err(Error::internal("reading the case").because("it has no role")),
        }
    }

    async fn phases(&self, machine: &Machine) -> edgeboot::error::Result<()> {
        let host = machine.host();
        for unit in edgeboot::k8s::units::edgeboot_units("/usr/bin/edgeboot") {
            machine.files.bake(&unit.path.replace("/etc/systemd", "/usr/lib/systemd"), 0o644, unit.text.as_bytes());
        }
        let node = Arc::new(self.node(machine)?);
        let (ledger, _) = Ledger::load(&host.root)?;
        ledger.learn(|facts| {
            facts.node_name = Some(host_name());
            facts.package = Some(PackageFacts {
                digest: "sha256:00".to_owned(),
                version: 1,
                kubernetes_version: "v1.36.3".to_owned(),
                architecture: "amd64".to_owned(),
                images: vec![],
            });
        });
        let cx = Context::new(host, node.clone(), ledger, Progress::new(vec![]), vec![]);
        for phase in edgeboot::phases::table() {
            let id = phase.id();
            if !PHASES.iter().any(|name| is_within(id.0, name)) || !phase.applies(&node) {
                continue;
            }
            if is_within(id.0, "kubelet-finalize") && !cx.host.root.exists(KUBELET_CLIENT)? {
                machine.files.bake(KUBELET_CLIENT, 0o600, b"");
            }
            let cx = cx.for_phase(id);
            if !phase.inspect(&cx).await?.is_none() {
                phase.apply(&cx).await?;
            }
            let left = phase.inspect(&cx).await?;
            assert!(left.is_none() && left.kept.is_empty(), "{id} is not done: {left:?}");
        }
        Ok(())
    }
}

fn host_name() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").expect("a host name").trim().to_lowercase()
}

/// Runs one of kubeadm's phases below `root`; nothing of our environment reaches it.
fn phase(root: &Path, words: &str) -> Result<(), String> {
    let mut command = Command::new(kubeadm());
    command.arg0("kubeadm").env_clear().env("PATH", "/usr/bin:/bin").args(["init", "phase"]).args(words.split(' '));
    command.arg("--config=/kubeadm.yaml").arg("--rootfs").arg(root);
    let output = command.output().map_err(|why| why.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("kubeadm init phase {words}: {said}")) }
}

fn make(folder: &Path) {
    fs::create_dir_all(folder).expect("a folder");
}

fn entry(path: &str, is_folder: bool, mode: u32, bytes: &[u8]) -> (String, Value) {
    let mode = format!("{:04o}", mode & 0o7777);
    let value =
        if is_folder { json!({ "mode": mode }) } else { json!({ "mode": mode, "content": describe::describe(path, bytes) }) };
    (path.to_owned(), value)
}

fn read_tree(root: &Path, path: &Path, tree: &mut Tree) {
    let Ok(metadata) = fs::symlink_metadata(path) else { return };
    let name = format!("/{}", path.strip_prefix(root).expect("below the root").display());
    let bytes = if metadata.is_dir() { Vec::new() } else { fs::read(path).expect("a file") };
    tree.extend([entry(&name, metadata.is_dir(), metadata.permissions().mode(), &bytes)]);
    if metadata.is_dir() {
        fs::read_dir(path).expect("a folder").for_each(|entry| read_tree(root, &entry.expect("an entry").path(), tree));
    }
}

fn copy_folder(from: &Path, to: &Path) {
    make(to);
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            fs::copy(&path, &target).expect("a copy");
        }
    }
}

fn bake_folder(machine: &Machine, from: &Path, to: &str) {
    for entry in fs::read_dir(from).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        let target = format!("{to}/{}", path.file_name().expect("a name").to_string_lossy());
        if path.is_dir() {
            bake_folder(machine, &path, &target);
        } else {
            let mode = fs::metadata(&path).expect("a file").permissions().mode() & 0o7777;
            machine.files.bake(&target, mode, &fs::read(&path).expect("a file"));
        }
    }
}

/// A shell below `root`, and a systemctl that calls every unit active.
fn systemctl_that_says_active(root: &Path) {
    let shell = fs::canonicalize("/bin/sh").expect("a shell");
    let listed = Command::new("ldd").arg(&shell).output().expect("ldd");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    for library in listed.split_whitespace().filter(|word| word.starts_with('/')) {
        let target = root.join(&library[1..]);
        make(target.parent().expect("a folder"));
        fs::copy(library, target).expect("a copy");
    }
    fs::copy(&shell, root.join("usr/bin/sh")).expect("a copy");
    symlink("usr/bin", root.join("bin")).expect("a link");
    let script = root.join("usr/bin/systemctl");
    fs::write(&script, "#!/bin/sh\necho active\n").expect("a script");
    fs::set_permissions(script, fs::Permissions::from_mode(0o755)).expect("a mode");
}

/// The judge itself: a wanted difference passes, any other fails, and so does one that is wanted and not there.
fn judge_is_strict() -> Result<(), String> {
    use differences::{Wanted, between, judge};
    let entry = |cases: &str, edgeboot: i32| -> Vec<Wanted> {
        let list = format!("[{{cases: {cases}, subject: a, pointer: /b, kubeadm: 1, edgeboot: {edgeboot}, reason: r}}]");
        serde_saphyr::from_str(&list).expect("a list")
    };
    let (theirs, ours) = (json!({"b": 1, "c": [1]}), json!({"b": 2, "c": [1]}));
    let found: Vec<_> = between("", &theirs, &ours).into_iter().map(|difference| ("a".to_owned(), difference)).collect();
    for (what, list, differences, wrong) in [
        ("wanted", entry("all", 2), &found[..], 0),
        ("wanted by name", entry("[this]", 2), &found, 0),
        ("another value", entry("all", 3), &found, 2),
        ("another case", entry("[other]", 2), &found, 1),
        ("unused", entry("all", 2), &[], 1),
        ("unused in another case", entry("[other]", 2), &[], 0),
    ] {
        let told = judge("this", &list, differences);
        if told.len() != wrong {
            return Err(format!("{what}: {told:?}"));
        }
    }
    Ok(())
}
