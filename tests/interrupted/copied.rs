//! A node's disk in another machine. Copied, it is refused and changes nothing, until somebody says that it is that very node, or resets
//! it, which leaves the original in its cluster. Moved, it is the node still. An image's disk is anybody's.

use edgeboot::cli::session::Session;
use edgeboot::engine::progress::Progress;
use edgeboot::error::Kind;
use edgeboot::host::fake::{Loss, Machine};
use edgeboot::phases::identity;
use edgeboot::phases::reset::{Options, Reset, selected};

use super::memory::{baked, boot};
use super::{precious, touched};

const UUID: &str = "/sys/class/dmi/id/product_uuid";
const ANOTHER_ID: &[u8] = b"fedcba9876543210fedcba9876543210\n";

/// An image in a machine whose disk has a serial number.
fn machine() -> Machine {
    let machine = baked();
    machine.files.bake("/proc/self/mountinfo", 0o444, b"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n");
    machine.files.bake(UUID, 0o400, b"4c4c4544-0042-3510-8051-b4c04f4d4d32\n");
    machine.files.bake("/sys/dev/block/8:1/device/wwid", 0o444, b"naa.5002538e\n");
    machine.root().sync_file_system("/").expect("flushed");
    machine
}

/// What its firmware says is another machine's.
fn other_hardware(machine: &Machine) {
    machine.files.bake(UUID, 0o400, b"11111111-2222-3333-4444-555555555556\n");
}

/// And the disk is a copy.
fn other_machine(machine: &Machine) {
    other_hardware(machine);
    machine.files.bake("/sys/dev/block/8:1/device/wwid", 0o444, b"naa.5002539f\n");
    machine.root().sync_file_system("/").expect("flushed");
    machine.services.take_writes();
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
    runtime.block_on(work)
}

#[test]
fn a_copied_node_is_refused_until_somebody_says_that_it_is_the_node() {
    let machine = machine();
    boot(&machine).expect("the first boot");
    let keys = precious(&machine);
    machine.reboot(Loss::Everything);
    other_machine(&machine);
    machine.files.bake("/etc/machine-id", 0o444, ANOTHER_ID);
    machine.root().sync_file_system("/").expect("flushed");
    let stamps = machine.files.stamps();

    for _ in 0..2 {
        let refused = boot(&machine).expect_err("a twin came up");
        assert_eq!(refused.kind(), Kind::Config);
        let said = refused.render();
        for word in ["'node-1'", "4c4c4544-0042-3510-8051-b4c04f4d4d32", "11111111-2222-3333-4444-555555555556", "--adopt-machine"]
        {
            assert!(said.contains(word), "{word} is not in: {said}");
        }
    }
    assert_eq!(machine.services.take_writes(), Vec::<String>::new(), "the copy called or wrote");
    assert_eq!(touched(&stamps, &machine), Vec::<String>::new(), "the copy touched files");

    block_on(identity::adopt(&machine.host())).expect("adopted");
    boot(&machine).expect("the node");
    machine.reboot(Loss::Everything);
    boot(&machine).expect("the node again");
    assert_eq!(precious(&machine), keys);
}

#[test]
fn the_kubelet_of_a_copy_is_kept_from_starting_until_it_is_adopted() {
    let machine = machine();
    boot(&machine).expect("the first boot");
    other_machine(&machine);
    let root = machine.root();
    let state = edgeboot::engine::ledger::Ledger::load(&root).expect("a state").0.state();
    assert!(identity::refusal(&root, &state).expect("looked").is_some());
    block_on(identity::keep_kubelet(&machine.host())).expect("kept");
    let folder = "/run/systemd/system/kubelet.service.d";
    let names = root.list(folder).expect("listed").expect("a drop-in");
    let text = root.read_text(format!("{folder}/{}", names[0])).expect("read").expect("there");
    assert!(text.contains(&format!("ConditionPathExists=!{folder}/{}", names[0])), "{text}");

    block_on(identity::adopt(&machine.host())).expect("adopted");
    boot(&machine).expect("the node");
    assert_eq!(root.list(folder).expect("listed"), None);
    assert!(machine.services.take_writes().iter().filter(|write| *write == "Reload").count() >= 2);
}

#[test]
fn a_moved_disk_is_the_node_still_and_says_so_once() {
    let machine = machine();
    boot(&machine).expect("the first boot");
    other_hardware(&machine);
    machine.reboot(Loss::Nothing);
    machine.services.take_writes();
    boot(&machine).expect("the node in other hardware");
    assert_eq!(machine.services.take_writes(), Vec::<String>::new(), "a move changed something");
    let stamps = machine.files.stamps();
    boot(&machine).expect("the node");
    assert_eq!(touched(&stamps, &machine), Vec::<String>::new());
}

#[test]
fn a_reset_copy_leaves_the_original_in_its_cluster_and_becomes_a_node_of_its_own() {
    let machine = machine();
    boot(&machine).expect("the first boot");
    other_machine(&machine);
    let (objects, members) = (machine.services.objects(), machine.services.members());
    let kept = block_on(async {
        let progress = Progress::new(Vec::new());
        let reset = Reset::open(machine.host(), progress, Options::default())?;
        assert!(!reset.ends_the_cluster().await);
        reset.run(&selected(None, &[])?).await
    });
    let kept: Vec<String> = kept.expect("reset").iter().map(|kept| kept.subject.to_string()).collect();
    for subject in ["Node node-1", "etcd member of node-1"] {
        assert!(kept.iter().any(|kept| kept == subject), "{subject} is not named: {kept:?}");
    }
    assert_eq!(machine.services.objects(), objects, "the original's objects were touched");
    assert_eq!(machine.services.members(), members, "the original's member was touched");

    block_on(edgeboot::cli::enter::release(&machine.host())).expect("released");
    boot(&machine).expect("a node of its own");
    let session = Session::over(machine.host(), Vec::new());
    assert!(session.prepare(&[], &[]).is_ok(), "it does not know itself");
}

#[test]
fn an_images_disk_is_anybodys() {
    let machine = machine();
    let state = serde_json::json!({
        "schema": 1,
        "machine": {"machineId": "6ba7b8109dad11d180b400c04fd430c8", "productUuid": "99999999-2222-3333-4444-555555555559"},
        "facts": {"nodeName": "the-baker", "advertiseAddress": "10.0.0.99"}
    });
    machine.files.bake("/var/lib/edgeboot/state.json", 0o600, state.to_string().as_bytes());
    machine.root().sync_file_system("/").expect("flushed");
    boot(&machine).expect("a node");
    assert!(machine.services.objects().contains_key("Node node-1"), "it took the name that the baker's machine had");
}
