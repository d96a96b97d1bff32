//! A control plane whose advertise address changes: all that hangs on it follows, whatever operation the power is cut at.

use std::collections::BTreeMap;

use edgeboot::host::fake::{Loss, Machine};

use crate::memory::{CONFIG, baked, boot};
use crate::{assert_alike, at_every_operation, boot_on, cut_boot, shape};

const BEFORE: &str = "10.77.0.11";
const AFTER: &str = "10.77.0.12";

/// A node that has moved: another address on its interface, and in its configuration.
fn moved() -> Machine {
    let machine = baked();
    boot(&machine).expect("the first boot");
    let mut interfaces = machine.services.seen_interfaces();
    interfaces.addresses[0].ip = AFTER.parse().expect("an address");
    machine.services.set_interfaces(interfaces);
    let init =
        format!("apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nlocalAPIEndpoint: {{advertiseAddress: {AFTER}}}\n");
    machine.files.bake("/etc/edgeboot/config.yaml", 0o600, format!("{CONFIG}---\n{init}").as_bytes());
    machine.root().sync_file_system("/").expect("flushed");
    machine.services.take_writes();
    machine
}

/// Where the address of before still stands. Certificates name it in another form, and the state remembers nothing of it.
fn left_behind(tree: &BTreeMap<String, (u32, Vec<u8>)>) -> Vec<&str> {
    let names_it = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(BEFORE);
    tree.iter().filter(|(_, (_, bytes))| names_it(bytes)).map(|(path, _)| path.as_str()).collect()
}

#[test]
fn a_control_plane_moves_to_another_address_and_then_changes_nothing() {
    let machine = moved();
    boot(&machine).expect("the move");
    let writes = machine.services.take_writes();
    let expected = [
        format!("member/update \"https://{AFTER}:2380\""),
        "StopPodSandbox etcd-node-1".to_owned(),
        "StopPodSandbox kube-apiserver-node-1".to_owned(),
    ];
    for write in &expected {
        assert!(writes.contains(write), "{write} is not among {writes:#?}");
    }
    for object in ["ConfigMap kube-public/cluster-info", "ConfigMap kube-system/kube-proxy"] {
        assert!(writes.iter().any(|write| write.ends_with(object)), "{object} is not among {writes:#?}");
    }
    assert_eq!(left_behind(&machine.files.tree()), Vec::<&str>::new());

    boot(&machine).expect("reconcile");
    machine.reboot(Loss::Everything);
    boot(&machine).expect("the next boot");
    assert_eq!(machine.services.take_writes(), Vec::<String>::new(), "the address is told again and again");
}

#[test]
fn a_move_cut_at_any_operation_is_carried_on_by_the_next_boot() {
    let whole = moved();
    whole.fuse.arm(u64::MAX);
    boot(&whole).expect("an uncut move");
    let operations = whole.fuse.operations();
    assert!(operations > 50, "only {operations} operations");
    whole.reboot(Loss::Everything);
    boot(&whole).expect("a second boot");
    let expected = shape(&whole);

    at_every_operation(operations, |n, loss| {
        let history = format!("a move cut at operation {n}, losing {loss:?}");
        let machine = moved();
        cut_boot(&machine, n, loss, &history);
        boot_on(&machine, &history);
        assert_alike(&expected, &shape(&machine), &history);
        assert_eq!(left_behind(&machine.files.tree()), Vec::<&str>::new(), "{history}");
        assert_eq!(machine.services.members()[0]["peerURLs"][0], format!("https://{AFTER}:2380"), "{history}");
    });
}
