//! Surroundings in which no node may be made, each a whole run on the machine of memory: the failure is named with its remedy and its
//! exit code, and nothing of a cluster is made. Where it can be mended, the next boot becomes a node.

mod memory;

use std::sync::Arc;

use edgeboot::cli::reconcile::converge;
use edgeboot::cli::session::Session;
use edgeboot::engine::progress::{Event, Listener, RunResult, Status};
use edgeboot::error::Error;
use edgeboot::host::fake::{FakeFiles, Loss, Machine};
use edgeboot::host::net::Interfaces;
use memory::{CONFIG, baked, baked_for, boot};

/// What there is of a cluster.
fn made(machine: &Machine) -> Vec<String> {
    let of_a_cluster = ["/etc/kubernetes/pki/", "/etc/kubernetes/manifests/", "/var/lib/etcd/"];
    let mut found: Vec<String> = machine.files.tree().into_keys().filter(|path| !path.ends_with('/')).collect();
    found.retain(|path| of_a_cluster.iter().any(|folder| path.starts_with(folder)));
    found
}

fn refused(machine: &Machine, exit_code: u8, said: &[&str]) {
    let error: Error = boot(machine).expect_err("it is refused");
    let text = error.render();
    for said in said {
        assert!(text.contains(said), "not {said:?}: {text}");
    }
    assert!(error.remedy().is_some(), "no remedy: {text}");
    assert_eq!(error.kind().exit_code(), exit_code, "{text}");
}

/// With one address on an interface, and no way out.
fn without_default_route(machine: &Machine) {
    let host = machine.host();
    let interfaces = tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(host.net.interfaces());
    let addresses = interfaces.expect("there are some").addresses;
    machine.services.set_interfaces(Interfaces { addresses, default_routes: Vec::new() });
}

#[test]
fn a_package_for_another_architecture_is_named_and_not_installed() {
    let machine = baked_for("arm64");
    refused(&machine, 69, &["package:", "arm64"]);
    assert_eq!(made(&machine), Vec::<String>::new());
    let tree = machine.files.tree();
    assert!(!tree.keys().any(|path| path.starts_with("/var/lib/edgeboot/packages/")), "it was installed");
}

#[test]
fn without_a_default_route_the_advertise_address_is_asked_for_and_with_it_the_node_is_made() {
    let machine = baked();
    without_default_route(&machine);
    refused(
        &machine,
        69,
        &["no default route and no advertise address configured", "`localAPIEndpoint: {advertiseAddress: 10.77.0.11}`"],
    );
    assert_eq!(made(&machine), Vec::<String>::new());

    let kind = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration";
    let wish = format!("{CONFIG}---\n{kind}\nlocalAPIEndpoint: {{advertiseAddress: 10.77.0.11}}\n");
    machine.files.bake("/etc/edgeboot/config.yaml", 0o600, wish.as_bytes());
    machine.reboot(Loss::Nothing);
    without_default_route(&machine);
    boot(&machine).expect("a node");
    assert!(made(&machine).contains(&"/etc/kubernetes/manifests/kube-apiserver.yaml".to_owned()));
}

#[test]
fn a_source_that_failed_blocks_a_first_cluster_and_not_one_that_is_here() {
    let machine = baked();
    // A folder where a file should be.
    machine.files.bake("/etc/edgeboot/config.d/10-join.yaml/x", 0o600, b"");
    refused(&machine, 75, &["/etc/edgeboot/config.d/10-join.yaml", "no cluster is founded while a source cannot be asked"]);
    assert_eq!(made(&machine), Vec::<String>::new());

    let machine = baked();
    boot(&machine).expect("a node");
    machine.files.bake("/etc/edgeboot/config.d/10-join.yaml/x", 0o600, b"");
    boot(&machine).expect("it is a node already");
}

#[test]
fn keys_that_were_removed_by_hand_are_not_made_again() {
    let machine = baked();
    boot(&machine).expect("a node");
    for path in made(&machine).into_iter().filter(|path| path.starts_with("/etc/kubernetes/pki/")) {
        machine.files.erase(&path);
    }
    machine.reboot(Loss::Nothing);
    refused(&machine, 69, &["it is gone", "a cluster is here"]);
    let keys: Vec<String> =
        made(&machine).into_iter().filter(|path| path.ends_with("ca.key") || path.ends_with("sa.key")).collect();
    assert_eq!(keys, Vec::<String>::new());
}

#[test]
fn a_machine_without_systemd_is_told_so_before_anything_is_touched() {
    let machine = Machine::new();
    machine.files.erase("/run/systemd/system/README");
    machine.files.erase("/run/systemd/system");
    let error = edgeboot::cli::session::require_systemd(&machine.root()).expect_err("it is refused");
    assert_eq!(error.kind().exit_code(), 69);
    assert!(error.to_string().contains("it does not run here"), "{error}");
}

/// Somebody who edits the configuration while the keys are made.
struct Editor(Arc<FakeFiles>);

impl Listener for Editor {
    fn hear(&self, event: &Event<'_>, _status: &Status) {
        if matches!(event, Event::Done(id, ..) if id.0 == "certs/sa") {
            let settings = "---\napiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 64\n";
            self.0.bake("/etc/edgeboot/config.yaml", 0o600, format!("{CONFIG}{settings}").as_bytes());
        }
    }
}

#[test]
fn a_configuration_that_changes_during_a_run_is_followed_by_that_run() {
    let machine = baked();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
    let session = Session::over(machine.host(), vec![Box::new(Editor(machine.files.clone()))]);
    let (_keep, stop) = tokio::sync::watch::channel(false);
    let ended = runtime.block_on(converge(&session, &[], stop)).expect("it converges");
    assert_eq!(ended.result, RunResult::Ready);
    let kubelet = machine.files.tree()["/var/lib/kubelet/config.yaml"].1.clone();
    assert!(String::from_utf8_lossy(&kubelet).contains("maxPods: 64"));
}
