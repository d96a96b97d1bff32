//! What the contenders stand on, laid once per run under target/bench: the scripts inside, the configuration, and for kubeadm's boot unit
//! the package's files as one tar.zst and its images as one archive.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::joining::{CERTIFICATE_KEY, ENDPOINT, TOKEN};
use crate::machine::{FOUNDER, MEASURED, Machine, checked};
use crate::options::{Options, repository};

/// Of what edgeboot places below /etc on a node, the part that is the host's and not the cluster's: kubeadm is given the same.
const HOST_FILES: [&str; 8] = [
    "etc/containerd",
    "etc/sysctl.d/90-edgeboot.conf",
    "etc/modules-load.d/edgeboot.conf",
    "etc/systemd/system.conf.d",
    "etc/systemd/system/containerd.service",
    "etc/systemd/system/cri-containerd-.scope.d",
    "etc/systemd/system/kubelet.service",
    "etc/systemd/system/kubelet.service.d",
];
/// What a kubelet needs to bring a control plane up, beyond the above.
const FINISHED_FILES: [&str; 5] = [
    "etc/kubernetes",
    "var/lib/kubelet/config.yaml",
    "var/lib/kubelet/instance-config.yaml",
    "var/lib/kubelet/kubeadm-flags.env",
    "var/lib/kubelet/pki",
];

/// A machine that is not the founder.
const BESIDE: [&str; 2] = ["--address", "10.77.0.12/24"];
const HEAD: &str = "apiVersion: edgeboot.io/v1alpha1\nkind: NodeConfig\n";
/// As in inside/node.yaml, and what preflight asks of this machine itself where control groups are old.
const RUNTIME: &str = "runtime:\n  config: |\n    version = 3\n    [plugins.'io.containerd.cri.v1.runtime']\n      restrict_oom_score_adj = true\n---\napiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nfailCgroupV1: false\n";

/// What the contenders stand on.
#[derive(Debug)]
pub struct Ground {
    target: PathBuf,
    binary: PathBuf,
    /// What machines see at /usr/lib/bench.
    share: PathBuf,
    /// edgeboot's configuration.
    node: PathBuf,
    /// A configuration that wishes nothing: edgeboot is there and does nothing by itself.
    nothing: PathBuf,
    host_files: PathBuf,
    finished_files: PathBuf,
}

impl Ground {
    /// Lays it, and says what is missing.
    pub fn lay(options: &Options) -> Result<Ground> {
        let target = &options.target;
        for (path, maker) in [
            (options.binary.clone(), "image/package target/package"),
            (target.join("package/index.json"), "image/package target/package"),
            (target.join("package-source/files"), "image/package --source target/package-source"),
        ] {
            ensure!(path.exists(), "{} is missing; `{maker}` makes it", path.display());
        }
        let own = target.join("bench");
        let share = own.join("share");
        fs::create_dir_all(&share)?;
        let ground = Ground {
            target: target.clone(),
            binary: fs::canonicalize(&options.binary)?,
            node: own.join("node.yaml"),
            nothing: own.join("nothing.yaml"),
            host_files: own.join("host-files"),
            finished_files: own.join("finished-files"),
            share,
        };
        ground.lay_scripts()?;
        if options.wants("bfi") {
            ground.lay_archives()?;
        }
        Ok(ground)
    }

    fn lay_scripts(&self) -> Result<()> {
        let inside = repository().join("tests/bench/inside");
        checked(Command::new("cp").arg("-a").arg(inside.join(".")).arg(&self.share))?;
        let index: Value = serde_json::from_slice(&fs::read(self.target.join("package/index.json"))?)?;
        let version = index["manifests"]
            .as_array()
            .into_iter()
            .flatten()
            .find_map(|manifest| manifest["annotations"]["io.edgeboot.package.kubernetes-version"].as_str())
            .context("the package names no Kubernetes version")?;
        let kubeadm = fs::read_to_string(inside.join("kubeadm.yaml"))?.replace("VERSION", version);
        fs::write(self.share.join("kubeadm.yaml"), &kubeadm)?;
        fs::write(&self.node, fs::read_to_string(inside.join("node.yaml"))? + &kubeadm)?;
        fs::write(&self.nothing, format!("{HEAD}package: /usr/lib/edgeboot/package\n{RUNTIME}"))?;
        let node = fs::read_to_string(&self.node)?;
        let founder = node.replace("network: {component: none}\n", "network: {component: none}\nuploadCerts: true\n");
        fs::write(self.founder_config(), open_to_others(&founder))?;
        Ok(())
    }

    fn founder_config(&self) -> PathBuf {
        self.node.with_file_name("founder.yaml")
    }

    fn lay_archives(&self) -> Result<()> {
        let zstd = checked(Command::new("sh").args(["-c", "command -v zstd"])).context("zstd is needed for kubeadm's boot unit")?;
        fs::copy(zstd.trim(), self.share.join("zstd"))?;
        checked(
            Command::new("tar")
                .args([
                    "--create",
                    "--zstd",
                    "--transform=flags=r;s,^\\.,var/lib/edgeboot/packages/peer,",
                    "--owner=0",
                    "--group=0",
                ])
                .arg(format!("--file={}", self.share.join("files.tar.zst").display()))
                .arg(format!("--directory={}", self.target.join("package-source/files").display()))
                .arg("."),
        )?;
        single_archive(&self.target.join("package"), &self.share.join("images.tar"))
    }

    /// A machine with binaries and images in place and containerd running, by the phases of edgeboot that do so.
    pub fn prepared(&self) -> Result<Machine> {
        self.prepare(self.baked(MEASURED, &self.nothing, &[])?)
    }
    /// The same, beside the founder.
    pub fn joiner(&self) -> Result<Machine> {
        self.prepare(self.baked(MEASURED, &self.nothing, &BESIDE)?)
    }
    /// The machine that founds the cluster which others join.
    pub fn founder(&self) -> Result<Machine> {
        self.baked(FOUNDER, &self.founder_config(), &[])
    }
    /// A worker with edgeboot in its image.
    pub fn worker(&self, hash: &str) -> Result<Machine> {
        let config = self.node.with_file_name("worker.yaml");
        let join = format!("join:\n  endpoints: [\"{ENDPOINT}\"]\n  token: {TOKEN}\n  caCertHashes: [\"{hash}\"]\n");
        fs::write(&config, format!("{HEAD}role: worker\n{join}{RUNTIME}"))?;
        self.baked(MEASURED, &config, &BESIDE)
    }
    /// A worker with a boot unit around this command of kubeadm's.
    pub fn peer_worker(&self, command: &str) -> Result<Machine> {
        self.peer_with(MEASURED, &BESIDE, command)
    }
    /// A further control plane with edgeboot in its image.
    pub fn further(&self, name: &'static str, address: &str, hash: &str) -> Result<Machine> {
        let config = self.node.with_file_name(format!("{name}.yaml"));
        let join = format!("join:\n  endpoints: [\"{ENDPOINT}\"]\n  token: {TOKEN}\n  caCertHashes: [\"{hash}\"]\n");
        let key = format!("  certificateKey: {CERTIFICATE_KEY}\n");
        fs::write(&config, format!("{HEAD}role: controlPlane\n{join}{key}{RUNTIME}"))?;
        self.baked(name, &config, &["--address", address])
    }
    /// A further control plane with a boot unit around this command of kubeadm's.
    pub fn peer_further(&self, name: &'static str, address: &str, command: &str) -> Result<Machine> {
        self.peer_with(name, &["--address", address], command)
    }
    /// The founder of a cluster that others join, with a boot unit around this command of kubeadm's.
    pub fn peer_founder(&self, command: &str) -> Result<Machine> {
        let machine = self.peer_with(FOUNDER, &[], command)?;
        let founder = fs::read_to_string(self.share.join("kubeadm.yaml"))?;
        fs::write(machine.root()?.join("root/kubeadm.yaml"), open_to_others(&founder))?;
        Ok(machine)
    }
    fn peer_with(&self, name: &'static str, options: &[&str], command: &str) -> Result<Machine> {
        let machine = self.bare(name, options)?;
        fs::write(machine.root()?.join("root/join"), command)?;
        Ok(machine)
    }

    fn prepare(&self, machine: Machine) -> Result<Machine> {
        let root = machine.root()?;
        fs::copy(&self.node, root.join("root/node.yaml"))?;
        self.lay_host_files(&root)?;
        machine.on()?;
        machine.run(
            "systemctl start dbus.socket
             for phase in package host runtime images; do edgeboot init phase $phase --config /root/node.yaml; done
             if [ -e /etc/systemd/system/kubelet.service ]; then systemctl enable kubelet.service; fi
             systemctl start --no-block bench-ready.service
             sync; sleep 1",
        )?;
        Ok(machine)
    }
    /// A machine with edgeboot in its image that becomes a node when it is switched on.
    pub fn ours(&self) -> Result<Machine> {
        let machine = self.baked(MEASURED, &self.node, &[])?;
        enable(&machine.root()?, "bench-ready.service")?;
        Ok(machine)
    }
    /// A machine with a boot unit around kubeadm that becomes a node when it is switched on.
    pub fn peer(&self) -> Result<Machine> {
        let machine = self.bare(MEASURED, &[])?;
        enable(&machine.root()?, "bench-ready.service")?;
        Ok(machine)
    }

    fn bare(&self, name: &'static str, options: &[&str]) -> Result<Machine> {
        let machine = Machine::new(name, &self.target, &self.share, &[&["--bare"], options].concat())?;
        let root = machine.root()?;
        self.lay_common(&root)?;
        self.lay_host_files(&root)?;
        fs::create_dir_all(root.join("var/lib/edgeboot/packages"))?;
        std::os::unix::fs::symlink("peer", root.join("var/lib/edgeboot/packages/current"))?;
        enable(&root, "bench-peer.service")?;
        Ok(machine)
    }

    fn baked(&self, name: &'static str, config: &Path, options: &[&str]) -> Result<Machine> {
        let (config, binary) = (config.display().to_string(), self.binary.display().to_string());
        let options = [&["--config", &config, "--binary", &binary], options].concat();
        let machine = Machine::new(name, &self.target, &self.share, &options)?;
        self.lay_common(&machine.root()?)?;
        Ok(machine)
    }
    fn lay_common(&self, root: &Path) -> Result<()> {
        fs::create_dir_all(root.join("etc/cni/net.d"))?;
        fs::copy(self.share.join("10-bench.conflist"), root.join("etc/cni/net.d/10-bench.conflist"))?;
        fs::copy(self.share.join("kubeadm.yaml"), root.join("root/kubeadm.yaml"))?;
        for unit in ["bench-ready.service", "bench-peer.service"] {
            fs::copy(self.share.join(unit), root.join("etc/systemd/system").join(unit))?;
        }
        Ok(())
    }

    /// Keeps what edgeboot placed for the host, so that all contenders have the same.
    pub fn keep_host_files(&self, machine: &Machine) -> Result<()> {
        keep(&machine.root()?, &HOST_FILES, &self.host_files)
    }
    /// Keeps the files of a finished control plane.
    pub fn keep_finished_files(&self, machine: &Machine) -> Result<()> {
        keep(&machine.root()?, &FINISHED_FILES, &self.finished_files)
    }
    fn lay_host_files(&self, root: &Path) -> Result<()> {
        if !self.host_files.exists() {
            return Ok(());
        }
        checked(Command::new("cp").arg("-a").arg(self.host_files.join(".")).arg(root)).map(drop)
    }
    /// A finished control plane's files, on another machine.
    pub fn lay_finished_files(&self, machine: &Machine) -> Result<()> {
        checked(Command::new("cp").arg("-a").arg(self.finished_files.join(".")).arg(machine.root()?)).map(drop)
    }
    /// Forgets what an earlier benchmark kept.
    pub fn forget(&self) -> Result<()> {
        for folder in [&self.host_files, &self.finished_files] {
            if folder.exists() {
                fs::remove_dir_all(folder)?;
            }
        }
        Ok(())
    }
}

/// A founder's configuration that says where its cluster is, and how others are let in.
fn open_to_others(config: &str) -> String {
    let let_in = format!("kind: InitConfiguration\nbootstrapTokens: [{{token: {TOKEN}}}]\ncertificateKey: {CERTIFICATE_KEY}\n");
    config
        .replace("kind: InitConfiguration\n", &let_in)
        .replace("kind: ClusterConfiguration\n", &format!("kind: ClusterConfiguration\ncontrolPlaneEndpoint: {ENDPOINT}\n"))
}

fn keep(root: &Path, paths: &[&str], to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    fs::create_dir_all(to)?;
    let there = paths.iter().filter(|path| root.join(path).exists());
    checked(Command::new("cp").current_dir(root).args(["-a", "--parents"]).args(there).arg(to)).map(drop)
}

fn enable(root: &Path, unit: &str) -> Result<()> {
    checked(Command::new("systemctl").arg("--quiet").arg(format!("--root={}", root.display())).args(["enable", unit])).map(drop)
}

/// All images of a package as one OCI archive: each blob once.
fn single_archive(package: &Path, to: &Path) -> Result<()> {
    let blob = |digest: &str| package.join("blobs").join(digest.replacen(':', "/", 1));
    let mut index: Value = serde_json::from_slice(&fs::read(package.join("index.json"))?)?;
    let manifests = index["manifests"].as_array_mut().context("the package's index has no manifests")?;
    manifests.retain(|manifest| manifest["annotations"]["io.containerd.image.name"].is_string());
    let mut digests = std::collections::BTreeSet::new();
    for manifest in manifests {
        let digest = digest_of(manifest)?;
        let content: Value = serde_json::from_slice(&fs::read(blob(&digest))?)?;
        digests.insert(digest);
        for part in content["layers"].as_array().into_iter().flatten().chain([&content["config"]]) {
            digests.insert(digest_of(part)?);
        }
    }
    let mut archive = tar::Builder::new(File::create(to)?);
    for (name, content) in [("oci-layout", json!({ "imageLayoutVersion": "1.0.0" })), ("index.json", index.clone())] {
        let bytes = serde_json::to_vec(&content)?;
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes.as_slice())?;
    }
    for digest in digests {
        archive.append_path_with_name(blob(&digest), format!("blobs/{}", digest.replacen(':', "/", 1)))?;
    }
    archive.finish().context("writing the archive of all images")
}

fn digest_of(descriptor: &Value) -> Result<String> {
    match descriptor["digest"].as_str() {
        Some(digest) => Ok(digest.to_owned()),
        None => bail!("a descriptor without a digest: {descriptor}"),
    }
}
