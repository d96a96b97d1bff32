//! A control plane whose wish changes, cut at every operation of the change: from the bridge network to flannel, whose addresses are those
//! that the pods have; and to serving certificates from the cluster, for which the approval timer runs.

use std::collections::BTreeMap;

use edgeboot::components::{bridge, flannel};
use edgeboot::host::fake::{Loss, Machine};
use edgeboot::k8s::names;

use super::memory::{CONFIG, baked, boot};
use super::{assert_alike, at_every_operation, boot_on, cut_boot, shape};

const ADDRESSES: &str = "/var/lib/cni/networks";
const TIMER: &str = "edgeboot-approve.timer";

/// Where the bridge's configuration is.
fn bridge_file() -> String {
    format!("{}/{}", names::CNI_CONF_DIR, bridge::FILE)
}

/// A control plane of the bridge network with two pods, whose image has the approval's units.
fn founded() -> Machine {
    let machine = baked();
    machine.files.bake(&format!("/usr/lib/systemd/system/{TIMER}"), 0o644, b"[Timer]\n");
    boot(&machine).expect("the first boot");
    assert!(machine.files.tree().contains_key(&bridge_file()));
    for address in ["10.244.0.2", "10.244.0.3"] {
        machine.files.bake(&format!("{ADDRESSES}/{}/{address}", bridge::NAME), 0o644, address.as_bytes());
    }
    machine.root().sync_file_system("/").expect("flushed");
    machine
}

/// The same with another configuration.
fn with_wish(founded: &Machine, config: &str) -> Machine {
    let machine = founded.duplicate();
    machine.reboot(Loss::Nothing);
    // A duplicate has the disk alone: its cluster is made again.
    boot(&machine).expect("as it was");
    machine.files.bake("/etc/edgeboot/config.yaml", 0o600, config.as_bytes());
    machine.root().sync_file_system("/").expect("flushed");
    machine.services.import_image("ghcr.io/flannel-io/flannel:v0.26.7");
    machine.services.import_image("ghcr.io/flannel-io/flannel-cni-plugin:v1.6.2-flannel1");
    machine.services.take_writes();
    machine
}

/// A change that is cut at every operation is the change that nobody cuts.
fn cut_everywhere(config: &str, proof: impl Fn(&Machine, &str) + Sync) {
    let founded = founded();
    let whole = with_wish(&founded, config);
    whole.fuse.arm(u64::MAX);
    boot(&whole).expect("an uncut change");
    let operations = whole.fuse.operations();
    assert!(operations > 5, "only {operations} operations");
    whole.reboot(Loss::Everything);
    boot(&whole).expect("a second boot");
    proof(&whole, "nobody cuts it");
    let expected: BTreeMap<String, (u32, Vec<u8>)> = shape(&whole);
    at_every_operation(operations, |n, loss| {
        let history = format!("cut at operation {n}, losing {loss:?}");
        let machine = with_wish(&founded, config);
        cut_boot(&machine, n, loss, &history);
        boot_on(&machine, &history);
        assert_alike(&expected, &shape(&machine), &history);
        proof(&machine, &history);
    });
}

#[test]
fn a_network_that_becomes_another_is_handed_over_wherever_the_change_is_cut() {
    cut_everywhere(&CONFIG.replace("bridge", "flannel"), |machine, history| {
        let tree = machine.files.tree();
        assert!(!tree.contains_key(&bridge_file()), "{history}: the bridge's configuration is still there");
        for address in ["10.244.0.2", "10.244.0.3"] {
            let handed = tree.get(&format!("{ADDRESSES}/{}/{address}", flannel::NAME)).map(|(_, bytes)| bytes.as_slice());
            assert_eq!(handed, Some(address.as_bytes()), "{history}: {address} can be given twice");
        }
    });
}

#[test]
fn the_approval_timer_runs_wherever_its_enabling_is_cut() {
    let kubelet = "---\napiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nserverTLSBootstrap: true\n";
    cut_everywhere(&format!("{CONFIG}{kubelet}"), |machine, history| {
        let link = format!("/etc/systemd/system/multi-user.target.wants/{TIMER}");
        let enabled = machine.root().read_link(&link).expect("looked");
        assert!(enabled.is_some(), "{history}: it does not start at the next boot");
        machine.services.take_writes();
        boot(machine).unwrap_or_else(|error| panic!("{history}: {}", error.render()));
        assert_eq!(machine.services.take_writes(), Vec::<String>::new(), "{history}: it did not run");
    });
}
