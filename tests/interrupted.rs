//! Power is cut instead of every single operation of a first boot, on the machine of memory whose page cache is lost with it. The next
//! boot converges: the same paths and modes, whole files, and every CA and service account key that was durable byte for byte.

use std::collections::BTreeMap;

use edgeboot::cli::session::{Prepared, Session};
use edgeboot::engine::run::Outcome;
use edgeboot::error::{Error, Result};
use edgeboot::host::Utf8Path;
use edgeboot::host::fake::{Loss, Machine};
use edgeboot::phases;

/// What nothing may ever make again once it was durable.
const PRECIOUS: [&str; 4] = [
    "/etc/kubernetes/pki/ca.key",
    "/etc/kubernetes/pki/sa.key",
    "/etc/kubernetes/pki/etcd/ca.key",
    "/etc/kubernetes/pki/front-proxy-ca.key",
];

/// An image: what an edgeboot machine has before it is ever switched on.
fn baked() -> Machine {
    let machine = Machine::new();
    let files = &machine.files;
    files.bake("/usr/lib/edgeboot/README", 0o644, b"what the image brings\n");
    files.bake("/etc/hostname", 0o644, b"node-1\n");
    files.bake("/etc/machine-id", 0o444, b"0123456789abcdef0123456789abcdef\n");
    files.bake("/etc/edgeboot/config.yaml", 0o600, CONFIG.as_bytes());
    for (path, text) in KERNEL {
        files.bake(path, 0o644, text.as_bytes());
    }
    let source: [(&str, u32, &[u8]); 7] = [
        ("package.yaml", 0o644, PACKAGE.as_bytes()),
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
        files.bake(&format!("/source/images/{file}.tar"), 0o644, &oci_archive(name));
    }
    let root = machine.root();
    edgeboot::package::build(&root, Utf8Path::new("/source"), Utf8Path::new("/usr/lib/edgeboot/package"), None).expect("a package");
    root.sync_file_system("/").expect("flushed");
    machine
}

const CONFIG: &str = "apiVersion: edgeboot.io/v1alpha1\nkind: NodeConfig\nrole: controlPlane\n";

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
fn oci_archive(name: &str) -> Vec<u8> {
    use sha2::{Digest as _, Sha256};
    let digest = |bytes: &[u8]| format!("sha256:{}", hex::encode(Sha256::digest(bytes)));
    let layer = format!("layer of {name}").into_bytes();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] }
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
fn boot(machine: &Machine) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let session = Session::over(machine.host(), Vec::new());
        let Prepared::Node(prepared) = session.prepare(&[], &[])? else {
            return Err(Error::internal("preparing the boot").because("no configuration"));
        };
        let table = phases::table();
        let plan = prepared.plan(&table)?;
        let (_keep, stop) = tokio::sync::watch::channel(false);
        session.run(&prepared.cx, &plan, stop).await
    })
}

/// What must be alike after every history: paths and modes, and the content of what is not random.
fn shape(machine: &Machine) -> BTreeMap<String, (u32, Vec<u8>)> {
    let secret = |path: &str| path.contains("/pki/") || [".conf", "state.json", ".pem"].iter().any(|end| path.ends_with(end));
    let tree = machine.files.tree().into_iter().filter(|(path, _)| !path.starts_with("/run/") && !path.starts_with("/source"));
    tree.map(|(path, (mode, bytes))| {
        let path = path.split("kubelet-client-2").next().map(ToOwned::to_owned).unwrap_or(path);
        let content = if secret(&path) { Vec::from(if bytes.is_empty() { "empty" } else { "some" }) } else { bytes };
        (path, (mode, content))
    })
    .collect()
}

fn assert_alike(expected: &BTreeMap<String, (u32, Vec<u8>)>, found: &BTreeMap<String, (u32, Vec<u8>)>, history: &str) {
    for (path, (mode, content)) in expected {
        let (found_mode, found_content) = found.get(path).unwrap_or_else(|| panic!("{history}: {path} is missing"));
        assert_eq!(mode, found_mode, "{history}: mode of {path}");
        assert!(content == found_content, "{history}: content of {path}: {}", String::from_utf8_lossy(found_content));
    }
    for path in found.keys() {
        assert!(expected.contains_key(path), "{history}: {path} was left behind");
    }
}

/// Files, but those in memory, that are not the same inode with the same time as before.
fn touched(before: &BTreeMap<String, (u64, i64)>, machine: &Machine) -> Vec<String> {
    let after = machine.files.stamps();
    let paths =
        before.keys().chain(after.keys()).filter(|path| !path.starts_with("/run/") && before.get(*path) != after.get(*path));
    paths.cloned().collect()
}

fn differing_lines(before: &[u8], after: &[u8]) -> Vec<String> {
    let (before, after) = (String::from_utf8_lossy(before), String::from_utf8_lossy(after));
    let gone = before.lines().filter(|line| !after.lines().any(|other| other == *line)).map(|line| format!("- {line}"));
    let new = after.lines().filter(|line| !before.lines().any(|other| other == *line)).map(|line| format!("+ {line}"));
    gone.chain(new).collect()
}

fn precious(machine: &Machine) -> BTreeMap<&'static str, Vec<u8>> {
    let tree = machine.files.tree();
    PRECIOUS
        .into_iter()
        .filter_map(|path| tree.get(path).map(|(_, bytes)| (path, bytes.clone())))
        .filter(|(_, bytes)| !bytes.is_empty())
        .collect()
}

#[test]
fn a_second_boot_changes_nothing() {
    let machine = baked();
    boot(&machine).expect("the first boot");
    let stamps = machine.files.stamps();
    let state = machine.files.tree()["/var/lib/edgeboot/state.json"].1.clone();
    machine.services.take_writes();

    let outcome = boot(&machine).expect("reconcile");
    let changed: Vec<_> = outcome.done.iter().filter(|(_, changed)| *changed).collect();
    assert!(changed.is_empty(), "reconcile changed {changed:?}");
    assert_eq!(machine.services.take_writes(), Vec::<String>::new(), "reconcile called or wrote");
    let after = machine.files.tree()["/var/lib/edgeboot/state.json"].1.clone();
    assert_eq!(differing_lines(&state, &after), Vec::<String>::new(), "reconcile changed the state");
    assert_eq!(touched(&stamps, &machine), Vec::<String>::new(), "reconcile touched files");

    machine.reboot(Loss::Everything);
    boot(&machine).expect("the second boot");
    assert_eq!(machine.services.take_writes(), Vec::<String>::new(), "the second boot called or wrote");
    assert_eq!(touched(&stamps, &machine), Vec::<String>::new(), "the second boot touched files");
}

#[test]
fn a_boot_cut_at_any_operation_is_carried_on_by_the_next() {
    let whole = baked();
    whole.fuse.arm(u64::MAX);
    boot(&whole).expect("an uncut boot");
    let operations = whole.fuse.operations();
    whole.reboot(Loss::Everything);
    boot(&whole).expect("a second boot");
    let expected = shape(&whole);
    assert!(operations > 200, "only {operations} operations: the fuse does not see what it should");

    let baked = baked();
    let next = std::sync::atomic::AtomicU64::new(1);
    let work = || {
        loop {
            let n = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            if n > operations {
                break;
            }
            for loss in [Loss::Everything, Loss::Data, Loss::Nothing] {
                cut_and_carry_on(&baked, &expected, n, loss);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, std::num::NonZero::get) {
            scope.spawn(work);
        }
    });
}

/// One history: a first boot that is cut at the `n`-th operation, what the cut loses, and the next boot.
fn cut_and_carry_on(baked: &Machine, expected: &BTreeMap<String, (u32, Vec<u8>)>, n: u64, loss: Loss) {
    let history = format!("cut at operation {n}, losing {loss:?}");
    let machine = baked.duplicate();
    machine.fuse.arm(n);
    let first = boot(&machine);
    assert!(first.is_err() || !machine.fuse.is_blown(), "{history}: the boot did not notice");
    machine.reboot(loss);
    let kept = precious(&machine);
    boot(&machine).unwrap_or_else(|error| panic!("{history}: the next boot failed: {}", error.render()));
    assert_alike(expected, &shape(&machine), &history);
    let now = precious(&machine);
    for (path, bytes) in kept {
        assert!(now.get(path) == Some(&bytes), "{history}: {path} was durable and was made again");
    }
}
