//! Power is cut instead of every single operation of a first boot, on the machine of memory whose page cache is lost with it. The next
//! boot converges: the same paths and modes, whole files, and every CA and service account key that was durable byte for byte.

mod changes;
mod control_plane;
mod copied;
#[path = "../memory/mod.rs"]
mod memory;
mod moved;
mod named;
mod reset;
mod worker;

use std::collections::BTreeMap;

use edgeboot::host::fake::{Loss, Machine};
use memory::{baked, boot};

/// What nothing may ever make again once it was durable.
const PRECIOUS: [&str; 4] = [
    "/etc/kubernetes/pki/ca.key",
    "/etc/kubernetes/pki/sa.key",
    "/etc/kubernetes/pki/etcd/ca.key",
    "/etc/kubernetes/pki/front-proxy-ca.key",
];

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
fn a_cluster_is_founded_though_its_api_server_stumbles_at_every_request() {
    let plain = baked();
    boot(&plain).expect("founded");
    let machine = baked();
    machine.services.stumble(3);
    boot(&machine).unwrap_or_else(|error| panic!("{}", error.render()));
    assert_alike(&shape(&plain), &shape(&machine), "stumbling");
}

#[test]
fn a_boot_cut_at_any_operation_is_carried_on_by_the_next() {
    let (operations, expected) = uncut(&baked());
    assert!(operations > 200, "only {operations} operations: the fuse does not see what it should");

    let baked = baked();
    at_every_operation_with_every_loss(operations, |n, loss| cut_and_carry_on(&baked, &expected, n, loss));
}

/// How many operations a first boot takes that nobody cuts, and what the machine is after a second one.
fn uncut(machine: &Machine) -> (u64, BTreeMap<String, (u32, Vec<u8>)>) {
    machine.fuse.arm(u64::MAX);
    boot(machine).expect("an uncut boot");
    let operations = machine.fuse.operations();
    machine.reboot(Loss::Everything);
    boot(machine).expect("a second boot");
    (operations, shape(machine))
}

const LOSSES: [Loss; 3] = [Loss::Everything, Loss::Data, Loss::Nothing];

/// Tells `history` every operation, each with another loss than its neighbours, on all cores.
fn at_every_operation(operations: u64, history: impl Fn(u64, Loss) + Sync) {
    on_all_cores(operations, |n| history(n, LOSSES[usize::try_from(n % 3).expect("small")]));
}

/// Tells `history` every operation with every loss.
fn at_every_operation_with_every_loss(operations: u64, history: impl Fn(u64, Loss) + Sync) {
    on_all_cores(operations, |n| LOSSES.into_iter().for_each(|loss| history(n, loss)));
}

fn on_all_cores(operations: u64, history: impl Fn(u64) + Sync) {
    let next = std::sync::atomic::AtomicU64::new(1);
    let work = || {
        loop {
            let n = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            if n > operations {
                break;
            }
            history(n);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, std::num::NonZero::get) {
            scope.spawn(work);
        }
    });
}

/// A boot whose power is cut at the `n`-th operation, and comes back.
fn cut_boot(machine: &Machine, n: u64, loss: Loss, history: &str) {
    machine.fuse.arm(n);
    let first = boot(machine);
    assert!(first.is_err() || !machine.fuse.is_blown(), "{history}: the boot did not notice");
    machine.reboot(loss);
}

/// The boot after it, which must go well.
fn boot_on(machine: &Machine, history: &str) {
    boot(machine).unwrap_or_else(|error| panic!("{history}: the next boot failed: {}", error.render()));
}

/// One history: a first boot that is cut at the `n`-th operation, what the cut loses, and the next boot.
fn cut_and_carry_on(baked: &Machine, expected: &BTreeMap<String, (u32, Vec<u8>)>, n: u64, loss: Loss) {
    let history = format!("cut at operation {n}, losing {loss:?}");
    let machine = baked.duplicate();
    cut_boot(&machine, n, loss, &history);
    let kept = precious(&machine);
    boot_on(&machine, &history);
    assert_alike(expected, &shape(&machine), &history);
    let now = precious(&machine);
    for (path, bytes) in kept {
        assert!(now.get(path) == Some(&bytes), "{history}: {path} was durable and was made again");
    }
}
