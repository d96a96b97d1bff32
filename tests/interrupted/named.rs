//! A machine whose configuration names it: the machine and the node are called so, whatever operation the power is cut at; a node that
//! its cluster knows keeps its name; a reset gives the machine its own back.

use edgeboot::cli::session::{Prepared, Session};
use edgeboot::engine::progress::Progress;
use edgeboot::engine::run;
use edgeboot::host::fake::{Loss, Machine};
use edgeboot::host::kernel;
use edgeboot::phases::reset::{Options, Reset, selected};

use super::memory::{CONFIG, baked, boot};
use super::{at_every_operation, cut_and_carry_on, uncut};

fn call(machine: &Machine, name: &str) {
    machine.files.bake("/etc/edgeboot/config.yaml", 0o600, format!("{CONFIG}host: {{hostname: {name}}}\n").as_bytes());
    machine.root().sync_file_system("/").expect("flushed");
}

fn named() -> Machine {
    let machine = baked();
    call(&machine, "Edge-7");
    machine
}

fn hostname(machine: &Machine) -> String {
    kernel::static_hostname(&machine.root()).expect("read")
}

fn nodes(machine: &Machine) -> Vec<String> {
    machine.services.objects().into_keys().filter(|name| name.starts_with("Node ")).collect()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
    runtime.block_on(work)
}

/// What `edgeboot plan` shows.
fn plan(machine: &Machine) -> String {
    block_on(async {
        let session = Session::over(machine.host(), Vec::new());
        let Prepared::Node(prepared) = session.prepare(&[], &[]).expect("prepared") else { panic!("no node") };
        let table = edgeboot::phases::table();
        let looked = run::look(&prepared.cx, &prepared.plan(&table).expect("a plan")).await.expect("looked");
        edgeboot::cli::plan::render(&looked)
    })
}

#[test]
fn a_named_machine_is_called_so_and_its_node_in_lower_case() {
    let machine = named();
    let said = plan(&machine);
    assert!(said.contains("update hostname Edge-7 (it is 'node-1')"), "{said}");
    boot(&machine).expect("the first boot");
    assert_eq!((hostname(&machine).as_str(), nodes(&machine)), ("Edge-7", vec!["Node edge-7".to_owned()]));
    let flags = machine.root().read_text("/var/lib/kubelet/kubeadm-flags.env").expect("read").expect("flags");
    assert!(!flags.contains("hostname-override"), "{flags}");
    let writes = machine.services.take_writes();
    assert_eq!(writes.iter().filter(|write| write.starts_with("SetStaticHostname")).count(), 1, "{writes:#?}");
    machine.reboot(Loss::Everything);
    boot(&machine).expect("the second boot");
    assert_eq!(machine.services.take_writes(), Vec::<String>::new());
    assert_eq!(hostname(&machine), "Edge-7");
}

#[test]
fn a_naming_cut_at_any_operation_is_carried_on_by_the_next_boot() {
    let (_, expected) = uncut(&named());
    let baked = named();
    // What comes after it is cut in the boot of a machine without a name.
    let naming = (1..).step_by(10).find(|n| {
        let machine = baked.duplicate();
        machine.fuse.arm(*n);
        boot(&machine).is_err() && machine.files.tree()["/etc/hostname"].1 == b"Edge-7\n"
    });
    let naming = naming.expect("it is named");
    at_every_operation(naming + 5, |n, loss| {
        if n + 20 > naming {
            cut_and_carry_on(&baked, &expected, n, loss);
        }
    });
}

#[test]
fn a_node_that_its_cluster_knows_keeps_its_name() {
    let machine = baked();
    boot(&machine).expect("the first boot");
    call(&machine, "edge-7");
    let said = plan(&machine);
    assert!(said.contains("keeps the node's name: the cluster knows this node as 'node-1'"), "{said}");
    boot(&machine).expect("the machine has another name");
    assert_eq!(hostname(&machine), "edge-7");
    let flags = machine.root().read_text("/var/lib/kubelet/kubeadm-flags.env").expect("read").expect("flags");
    assert!(flags.contains("--hostname-override=node-1"), "{flags}");
    boot(&machine).expect("nothing to do");
}

#[test]
fn a_reset_gives_the_machine_its_own_name_back() {
    let machine = named();
    boot(&machine).expect("a node");
    call(&machine, "edge-8");
    boot(&machine).expect("the machine has another name");
    assert_eq!(hostname(&machine), "edge-8");
    let reset = || {
        block_on(async {
            let reset = Reset::open(machine.host(), Progress::new(Vec::new()), Options::default()).expect("opened");
            assert!(reset.survey().expect("looked").lines().contains(&"name the machine 'node-1' again".to_owned()));
            reset.run(&selected(None, &[]).expect("known")).await.expect("reset")
        })
    };
    reset();
    assert_eq!(hostname(&machine), "node-1");
}
