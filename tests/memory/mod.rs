//! The image of a machine made of memory, and its boots: whole runs of edgeboot, in milliseconds.

use edgeboot::cli::session::{Prepared, Session};
use edgeboot::engine::progress::Progress;
use edgeboot::engine::run::Outcome;
use edgeboot::error::{Error, Result};
use edgeboot::host::Utf8Path;
use edgeboot::host::fake::Machine;

/// An image: what an edgeboot machine has before it is ever switched on.
pub fn baked() -> Machine {
    baked_for("amd64")
}

/// The same, with a package for another architecture.
pub fn baked_for(architecture: &str) -> Machine {
    let machine = Machine::new();
    let files = &machine.files;
    files.bake("/usr/lib/edgeboot/README", 0o644, b"what the image brings\n");
    files.bake("/etc/hostname", 0o644, b"node-1\n");
    files.bake("/etc/machine-id", 0o444, b"6ba7b8109dad11d180b400c04fd430c8\n");
    files.bake("/etc/edgeboot/config.yaml", 0o600, CONFIG.as_bytes());
    for (path, text) in KERNEL {
        files.bake(path, 0o644, text.as_bytes());
    }
    let package = PACKAGE.replace("amd64", architecture);
    let source: [(&str, u32, &[u8]); 7] = [
        ("package.yaml", 0o644, package.as_bytes()),
        ("files/bin/kubelet", 0o755, b"kubelet"),
        ("files/bin/kubectl", 0o755, b"kubectl"),
        ("files/bin/containerd", 0o755, b"containerd"),
        ("files/bin/ctr", 0o755, b"ctr"),
        ("files/bin/runc", 0o755, b"runc"),
        ("files/cni/bin/bridge", 0o755, b"bridge"),
    ];
    for (path, mode, bytes) in source {
        files.bake(&format!("/source/{path}"), mode, bytes);
    }
    for name in IMAGES {
        let file = name.replace(['/', ':'], "-");
        files.bake(&format!("/source/images/{file}.tar"), 0o644, &oci_archive(name, architecture));
    }
    let root = machine.root();
    edgeboot::package::build(&root, Utf8Path::new("/source"), Utf8Path::new("/usr/lib/edgeboot/package"), None).expect("a package");
    root.sync_file_system("/").expect("flushed");
    machine
}

/// Its configuration.
pub const CONFIG: &str = "apiVersion: edgeboot.io/v1alpha1\nkind: NodeConfig\nrole: controlPlane\nnetwork: {component: bridge}\n";

const PACKAGE: &str =
    "apiVersion: edgeboot.io/v1alpha1\nkind: Package\nversion: 1\nkubernetesVersion: v1.36.3\narchitecture: amd64\n";

const IMAGES: [&str; 7] = [
    "registry.k8s.io/kube-apiserver:v1.36.3",
    "registry.k8s.io/kube-controller-manager:v1.36.3",
    "registry.k8s.io/kube-scheduler:v1.36.3",
    "registry.k8s.io/kube-proxy:v1.36.3",
    "registry.k8s.io/etcd:3.6.8-0",
    "registry.k8s.io/coredns/coredns:v1.14.2",
    "registry.k8s.io/pause:3.10.2",
];

/// What the kernel of a fit machine says.
const KERNEL: [(&str, &str); 12] = [
    ("/proc/sys/kernel/osrelease", "6.12.0\n"),
    ("/proc/sys/kernel/hostname", "node-1\n"),
    ("/proc/sys/net/ipv4/ip_forward", "1\n"),
    ("/proc/sys/net/bridge/bridge-nf-call-iptables", "1\n"),
    ("/proc/sys/net/bridge/bridge-nf-call-ip6tables", "1\n"),
    ("/proc/meminfo", "MemTotal:        8000000 kB\n"),
    ("/proc/swaps", "Filename Type Size Used Priority\n"),
    ("/proc/filesystems", "nodev\toverlay\nnodev\tcgroup2\n\text4\n"),
    ("/proc/cpuinfo", "processor\t: 0\nprocessor\t: 1\n"),
    ("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory hugetlb pids rdma misc\n"),
    ("/sys/devices/system/cpu/online", "0-3\n"),
    ("/proc/self/mounts", "/dev/vda1 / ext4 rw 0 0\n"),
];

/// An OCI archive with one small image.
fn oci_archive(name: &str, architecture: &str) -> Vec<u8> {
    use sha2::{Digest as _, Sha256};
    let digest = |bytes: &[u8]| format!("sha256:{}", hex::encode(Sha256::digest(bytes)));
    let layer = format!("layer of {name}").into_bytes();
    let config = serde_json::json!({
        "architecture": architecture, "os": "linux", "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] }
    });
    let config = serde_json::to_vec(&config).expect("json");
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(&config), "size": config.len() },
        "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest(&layer), "size": layer.len() }]
    });
    let manifest = serde_json::to_vec(&manifest).expect("json");
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest(&manifest), "size": manifest.len(),
            "annotations": { "io.containerd.image.name": name }
        }]
    });
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |path: String, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append_data(&mut header, path, bytes).expect("an entry");
    };
    add("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#);
    add("index.json".to_owned(), &serde_json::to_vec(&index).expect("json"));
    for blob in [&layer, &config, &manifest] {
        add(format!("blobs/{}", digest(blob).replace(':', "/")), blob);
    }
    archive.into_inner().expect("an archive")
}

/// One run, as the boot's unit makes it.
pub fn boot(machine: &Machine) -> Result<Outcome> {
    boot_while(machine, async |_| ())
}

/// The same, while something happens elsewhere. Time passes as soon as all wait for it.
pub fn boot_while(machine: &Machine, meanwhile: impl AsyncFnOnce(Progress)) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let session = Session::over(machine.host(), Vec::new());
        let Prepared::Node(prepared) = session.prepare(&[], &[])? else {
            return Err(Error::internal("preparing the boot").because("no configuration"));
        };
        let (_keep, stop) = tokio::sync::watch::channel(false);
        let converging = session.converge(prepared, || session.prepare(&[], &[]), stop);
        let (converged, ()) = tokio::join!(converging, meanwhile(session.progress.clone()));
        converged.map(|(_, outcome)| outcome)
    })
}
