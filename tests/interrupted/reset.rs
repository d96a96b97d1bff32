//! A machine that was a node is reset: its tree is the one of before, whatever was cut on the way; it is held, and becomes a node again
//! only when somebody says so. What others changed is left and named.

use std::collections::BTreeMap;

use edgeboot::cli::enter::release;
use edgeboot::cli::session::{Prepared, Session};
use edgeboot::error::Result;
use edgeboot::host::fake::{Loss, Machine};
use edgeboot::phases::reset::{Options, Reset, selected};

use super::memory::{self, boot};
use super::worker::count;
use super::{assert_alike, at_every_operation, control_plane, shape, worker};

/// An image with the folders that every Linux has, whose kernel does not forward yet.
fn baked() -> Machine {
    let machine = memory::baked();
    for folder in ["sysctl.d", "modules-load.d", "profile.d", "systemd/system", "systemd/system/multi-user.target.wants"] {
        machine.files.bake(&format!("/etc/{folder}/README"), 0o644, b"of the OS\n");
    }
    machine.files.bake("/var/lib/edgeboot/packages/README", 0o644, b"of the image\n");
    machine.files.bake("/proc/sys/net/ipv4/ip_forward", 0o644, b"0\n");
    machine.root().sync_file_system("/").expect("flushed");
    machine
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
    runtime.block_on(work)
}

/// What the reset leaves, in words.
fn reset(machine: &Machine) -> Result<Vec<String>> {
    block_on(async {
        let session = Session::over(machine.host(), Vec::new());
        let reset = Reset::open(machine.host(), session.progress.clone(), Options::default())?;
        let kept = reset.run(&selected(None, &[])?).await?;
        Ok(kept.iter().map(|kept| format!("{}: {}", kept.subject, kept.difference)).collect())
    })
}

/// What a boot finds: it is held, or builds.
fn is_held(machine: &Machine) -> bool {
    let prepared = Session::over(machine.host(), Vec::new()).prepare(&[], &[]).expect("prepared");
    matches!(prepared, Prepared::Held)
}

/// The tree without what reset leaves on purpose: installed packages, and that the machine is held. Modules stay loaded.
fn tree(machine: &Machine) -> BTreeMap<String, (u32, Vec<u8>)> {
    let stays = ["/run/", "/sys/module/", "/var/lib/edgeboot/packages/", "/var/lib/edgeboot/state.json"];
    machine.files.tree().into_iter().filter(|(path, _)| !stays.iter().any(|start| path.starts_with(start))).collect()
}

/// What the kubelet, etcd and the plugins make of a node.
fn live(machine: &Machine) {
    for (path, text) in [
        ("/var/lib/etcd/member/snap/db", "data"),
        ("/var/lib/kubelet/pods/1/volumes/token", "secret"),
        ("/var/lib/cni/networks/edgeboot/10.244.0.2", "pod"),
        ("/var/lib/cni/results/edgeboot-1-eth0", "{}"),
        ("/var/log/pods/kube-system_etcd/0.log", "log"),
        ("/run/flannel/subnet.env", "x"),
        ("/etc/cni/net.d/10-flannel.conflist", "{}"),
        ("/var/lib/cni/networks/cbr0/10.244.0.2", "pod"),
        ("/var/lib/cni/flannel/1", "{}"),
    ] {
        machine.files.bake(path, 0o600, text.as_bytes());
    }
    let mounts = b"/dev/vda1 / ext4 rw 0 0\ntmpfs /var/lib/kubelet/pods/1/volumes tmpfs rw 0 0\n";
    machine.files.bake("/proc/self/mounts", 0o644, mounts);
    machine.services.add_link("cni0");
}

#[test]
fn a_reset_machine_is_as_before_and_held_and_can_be_a_node_again() {
    let machine = baked();
    let before = tree(&machine);
    boot(&machine).expect("a node");
    let first = shape(&machine);
    live(&machine);

    assert_eq!(reset(&machine).expect("reset"), Vec::<String>::new());
    let mut expected = before;
    // /var/log is the OS's.
    expected.insert("/var/log/".to_owned(), (0o755, Vec::new()));
    assert_alike(&expected, &tree(&machine), "reset");
    assert_eq!(machine.services.link_names(), ["eth0"]);
    let writes = machine.services.take_writes();
    for write in ["DELETE Node node-1", "StopUnit kubelet.service", "RemovePodSandboxes", "StopUnit containerd.service", "Reload"] {
        assert!(writes.iter().any(|done| done == write), "{write} in {writes:?}");
    }

    assert!(is_held(&machine));
    machine.reboot(Loss::Everything);
    assert!(is_held(&machine) && boot(&machine).is_err());
    assert_eq!(reset(&machine).expect("once more"), Vec::<String>::new());
    assert_alike(&expected, &tree(&machine), "reset twice");

    block_on(release(&machine.host())).expect("init");
    boot(&machine).expect("a node again");
    let again = shape(&machine);
    let mut first = first;
    first.insert("/var/log/".to_owned(), (0o755, Vec::new()));
    assert_alike(&first, &again, "init again");
}

#[test]
fn a_control_planes_member_is_taken_out_also_when_it_never_started() {
    let baked = control_plane::baked();
    let whole = control_plane::in_sight_of_cluster(baked.duplicate());
    whole.fuse.arm(u64::MAX);
    boot(&whole).expect("a control plane");
    assert!(control_plane::is_voter(&whole));
    let operations = whole.fuse.operations();
    assert_eq!(reset(&whole).expect("reset"), Vec::<String>::new());
    let left_alone = |machine: &Machine| machine.services.members().len() == 1 && count(machine, "Node") == 0;
    assert!(left_alone(&whole), "{:?}", whole.services.members());
    for n in (operations / 2..operations).step_by(5) {
        let machine = control_plane::in_sight_of_cluster(baked.duplicate());
        machine.fuse.arm(n);
        let _ = boot(&machine);
        machine.reboot(Loss::Everything);
        let left = reset(&machine).expect("reset");
        assert!(machine.services.members().len() == 1, "cut at {n}: {left:?} {:?}", machine.services.members());
    }
}

#[test]
fn a_worker_says_how_its_node_is_deleted_and_nothing_of_the_join_is_left() {
    let machine = worker::in_sight_of_cluster(worker::baked());
    boot(&machine).expect("a worker");
    let left = reset(&machine).expect("reset");
    assert!(left.len() == 1 && left[0].contains("`kubectl delete node node-1`"), "{left:?}");
    let tree = machine.files.tree();
    for path in ["/var/lib/edgeboot/join/", "/var/lib/kubelet/", "/etc/kubernetes/", "/etc/systemd/system/kubelet.service"] {
        assert!(!tree.contains_key(path), "{path} is left");
    }
    assert!(is_held(&machine));
}

#[test]
fn what_others_made_or_changed_is_left_and_named() {
    let machine = baked();
    machine.files.bake("/etc/kubernetes/pki/users.key", 0o600, b"mine\n");
    boot(&machine).expect("a node");
    machine.files.bake("/etc/sysctl.d/90-edgeboot.conf", 0o644, b"net.ipv4.ip_forward = 1\n# mine\n");
    machine.files.bake("/etc/kubernetes/manifests/kube-apiserver.yaml", 0o600, b"kind: Pod # mine\n");
    machine.files.bake("/etc/kubernetes/manifests/proxy.yaml", 0o600, b"kind: Pod\n");
    let left = reset(&machine).expect("reset");
    let tree = machine.files.tree();
    for path in ["/etc/sysctl.d/90-edgeboot.conf", "/etc/kubernetes/pki/users.key", "/etc/kubernetes/manifests/proxy.yaml"] {
        assert!(left.iter().any(|line| line.starts_with(&format!("{path}: "))), "{path} in {left:?}");
        assert!(tree.contains_key(path), "{path} is gone");
    }
    assert_eq!(left.len(), 3, "{left:?}");
    // kubeadm removes what it once made, too, whoever changed it.
    assert!(!tree.contains_key("/etc/kubernetes/manifests/kube-apiserver.yaml"));
    assert!(!tree.contains_key("/etc/kubernetes/pki/ca.key"));
    reset(&machine).expect("once more");
    assert!(machine.files.tree().contains_key("/etc/kubernetes/pki/users.key"), "a second reset keeps it as well");
}

#[test]
fn a_machine_without_a_ledger_is_reset_as_kubeadm_does() {
    let machine = baked();
    boot(&machine).expect("a node");
    machine.files.bake("/var/lib/edgeboot/state.json", 0o600, b"{");
    live(&machine);
    reset(&machine).expect("reset");
    let tree = machine.files.tree();
    let gone = ["/etc/kubernetes/", "/var/lib/kubelet/", "/var/lib/etcd/"];
    let left: Vec<_> = tree.keys().filter(|path| gone.iter().any(|folder| path.starts_with(folder))).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(is_held(&machine));
}

#[test]
fn a_reset_cut_at_any_operation_is_carried_on_by_the_next() {
    let machine = baked();
    boot(&machine).expect("a node");
    live(&machine);
    let node = machine.duplicate();
    machine.fuse.arm(u64::MAX);
    reset(&machine).expect("uncut");
    let operations = machine.fuse.operations();
    machine.reboot(Loss::Everything);
    let expected = tree(&machine);
    at_every_operation(operations, |n, loss| {
        let history = format!("cut at operation {n}, losing {loss:?}");
        let machine = node.duplicate();
        machine.reboot(Loss::Nothing);
        machine.fuse.arm(n);
        let first = reset(&machine);
        assert!(first.is_err() || !machine.fuse.is_blown(), "{history}: the reset did not notice");
        machine.reboot(loss);
        reset(&machine).unwrap_or_else(|error| panic!("{history}: the next reset failed: {}", error.render()));
        machine.reboot(Loss::Everything);
        assert!(is_held(&machine), "{history}: it is not held");
        assert_alike(&expected, &tree(&machine), &history);
    });
}

#[test]
fn a_machine_that_is_half_a_node_is_reset_as_well() {
    let baked = baked();
    let expected = {
        let machine = baked.duplicate();
        reset(&machine).expect("nothing to reset");
        tree(&machine)
    };
    let whole = baked.duplicate();
    whole.fuse.arm(u64::MAX);
    boot(&whole).expect("a node");
    for n in (1..whole.fuse.operations()).step_by(13) {
        for loss in [Loss::Everything, Loss::Nothing] {
            let history = format!("a node cut at operation {n}, losing {loss:?}");
            let machine = baked.duplicate();
            machine.fuse.arm(n);
            // What runs side by side may need an operation less; a whole node is reset as well.
            let _ = boot(&machine);
            machine.reboot(loss);
            reset(&machine).unwrap_or_else(|error| panic!("{history}: {}", error.render()));
            assert_alike(&expected, &tree(&machine), &history);
        }
    }
}
