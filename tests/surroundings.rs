//! Surroundings in which no node may be made, each a whole run on the machine of memory: the failure is named with its remedy and its
//! exit code, and nothing of a cluster is made. Where it can be mended, the next boot becomes a node.

mod memory;

use std::sync::Arc;
use std::time::Duration;

use edgeboot::cli::reconcile::converge;
use edgeboot::cli::session::{Ended, Session};
use edgeboot::engine::progress::{Event, Listener, RunResult, Status};
use edgeboot::error::{Error, Kind};
use edgeboot::host::Deadline;
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

/// A whole run on a machine of memory, and what happens meanwhile.
fn run(machine: &Machine, meanwhile: impl AsyncFnOnce(&Session)) -> (Result<Ended, Error>, Session) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
    let session = Session::over(machine.host(), Vec::new());
    let (_keep, stop) = tokio::sync::watch::channel(false);
    let ended = runtime.block_on(async { tokio::join!(converge(&session, &[], stop), meanwhile(&session)).0 });
    (ended, session)
}

/// So many seconds on the clock that stands still while anybody works.
async fn passed(seconds: u64) {
    Deadline::after(Duration::from_secs(seconds), "time to pass").pause(Duration::MAX).await;
}

/// A machine whose image says only what to do while nobody says what it shall be.
fn unconfigured(drop_in: &str) -> Machine {
    let machine = baked();
    machine.files.erase("/etc/edgeboot/config.yaml");
    machine.files.bake("/usr/lib/edgeboot/config.d/10-image.yaml", 0o600, drop_in.as_bytes());
    machine
}

#[test]
fn a_boot_without_a_configuration_is_done_unless_the_image_says_that_it_has_failed() {
    let (ended, _) = run(&unconfigured("package: /usr/lib/edgeboot/package\n"), async |_| ());
    let ended = ended.expect("it is done");
    assert_eq!(ended.result, RunResult::Unconfigured);
    assert!(ended.message.starts_with("no configuration yet; looked for /etc/edgeboot/config.yaml"), "{}", ended.message);
    for (drop_in, seconds) in [("onMissing: {action: fail}", 300), ("onMissing: {action: fail, after: 90s}", 90)] {
        let mut shown = String::new();
        let (ended, _) = run(&unconfigured(drop_in), async |session| {
            passed(60).await;
            shown = session.progress.status().line();
        });
        let error = ended.expect_err("it fails");
        assert_eq!(error.kind(), Kind::Config, "{error}");
        assert!(error.to_string().ends_with(&format!("for {seconds} s")), "{error}");
        assert!(shown.starts_with("no configuration yet; looked for"), "{shown}");
    }
}

#[test]
fn a_boot_that_waits_takes_a_configuration_as_soon_as_it_is_there_and_names_a_wrong_one() {
    let drop_in = "onMissing: {action: fail, after: 5m}";
    let machine = unconfigured(drop_in);
    let (ended, session) = run(&machine, async |_| {
        passed(100).await;
        machine.files.bake("/etc/edgeboot/config.yaml", 0o600, CONFIG.as_bytes());
    });
    assert_eq!(ended.expect("a node").result, RunResult::Ready);
    assert_eq!(session.progress.status().message, "", "what was looked for is found");

    let machine = unconfigured(drop_in);
    let (ended, _) = run(&machine, async |_| {
        passed(100).await;
        machine.files.bake("/etc/edgeboot/config.yaml", 0o600, b"role: king\n");
    });
    let error = ended.expect_err("it fails");
    assert!(error.to_string().contains("/etc/edgeboot/config.yaml:1:7"), "{error}");
}

#[test]
fn a_word_on_the_kernel_command_line_keeps_edgeboot_from_doing_anything() {
    let machine = baked();
    machine.files.bake("/proc/cmdline", 0o444, b"quiet edgeboot.disable\n");
    let before = machine.files.tree();
    let (ended, _) = run(&machine, async |_| ());
    let ended = ended.expect("it is done");
    assert_eq!(ended.result, RunResult::Unconfigured);
    assert!(ended.message.contains("`edgeboot.disable` on the kernel command line"), "{}", ended.message);
    assert_eq!(machine.files.tree(), before);
    machine.files.bake("/proc/cmdline", 0o444, b"quiet edgeboot.disable edgeboot.disable=no\n");
    assert_eq!(run(&machine, async |_| ()).0.expect("a node").result, RunResult::Ready);
}
