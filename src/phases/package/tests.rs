//! The package's phase on the machine of memory: what is installed, mended, refused, and carried on after a cut at any operation.

use std::sync::Arc;

use super::*;
use crate::config::sample;
use crate::engine::ledger::Ledger;
use crate::engine::progress::Progress;
use crate::host::fake::{Loss, Machine};
use crate::package::sample::package;

const IMAGES: [&str; 1] = ["registry.k8s.io/pause:3.10.2"];

fn context(machine: &Machine) -> Context {
    let host = machine.host();
    let (ledger, _) = Ledger::load(&host.root).expect("a state");
    Context::new(host, Arc::new(sample::control_plane()), ledger, Progress::new(vec![]), vec![]).for_phase(Package.id())
}

fn baked(version: u64) -> Machine {
    let machine = Machine::new();
    machine.files.bake("/usr/lib/os-release", 0o644, b"");
    machine.files.bake("/var/lib/os", 0o644, b"");
    package(&machine.root(), names::PACKAGE_BAKED, version, &IMAGES);
    machine.root().sync_file_system("/").expect("flushed");
    machine
}

async fn converge(machine: &Machine) -> Result<()> {
    let cx = context(machine);
    if !Package.inspect(&cx).await?.changes.is_empty() {
        Package.apply(&cx).await?;
        assert!(Package.inspect(&cx).await?.is_none(), "it proves its own effect");
    }
    Ok(())
}

fn program(machine: &Machine) -> Option<String> {
    machine.root().read_text(format!("{}/kubelet", names::PACKAGE_BIN)).expect("readable")
}

#[tokio::test]
async fn it_is_installed_once_and_then_left_alone() {
    let machine = baked(7);
    let cx = context(&machine);
    let drift = Package.inspect(&cx).await.expect("looked");
    assert_eq!(drift.changes.len(), 1);
    assert_eq!(drift.changes[0].reason, "package version 7, Kubernetes v1.36.3");
    assert_eq!(cx.package().expect("known").images[0].name, IMAGES[0], "the fact is known before it is installed");
    converge(&machine).await.expect("installed");
    assert_eq!(program(&machine).as_deref(), Some("bin/kube of version 7"));
    let before = machine.files.stamps();
    converge(&machine).await.expect("looked");
    assert_eq!(machine.files.stamps(), before);
}

#[tokio::test]
async fn whatever_operation_the_power_is_cut_at_the_next_boot_finishes() {
    for loss in [Loss::Nothing, Loss::Everything, Loss::Data] {
        for n in 1.. {
            let machine = baked(7);
            machine.fuse.arm(n);
            let done = converge(&machine).await.is_ok();
            machine.reboot(loss);
            converge(&machine).await.unwrap_or_else(|error| panic!("cut at {n}: {error}"));
            assert_eq!(program(&machine).as_deref(), Some("bin/kube of version 7"), "cut at {n}");
            let left_over = machine.files.tree().into_keys().find(|path| path.contains(".partial") || path.contains(".broken"));
            assert_eq!(left_over, None, "cut at {n}");
            if done {
                assert!(n > 20, "the fuse was armed for too few operations: {n}");
                break;
            }
        }
    }
}

#[tokio::test]
async fn what_is_missing_or_torn_in_it_is_mended() {
    for harm in ["bin/ctr", "bin/kubelet", RECORD] {
        let machine = baked(7);
        converge(&machine).await.expect("installed");
        let root = machine.root();
        let folder =
            Utf8Path::new(names::PACKAGES_DIR).join(root.read_link(names::PACKAGE_CURRENT).expect("a link").expect("there"));
        root.remove(folder.join(harm)).map(drop).expect("removed");
        let drift = Package.inspect(&context(&machine)).await.expect("looked");
        assert_eq!(drift.changes[0].action, Action::Mend, "{harm}");
        converge(&machine).await.expect("mended");
        assert!(root.metadata(folder.join(harm)).expect("looked").is_some(), "{harm}");
    }
}

#[tokio::test]
async fn a_newer_one_replaces_it_and_an_older_one_does_not() {
    let machine = baked(7);
    converge(&machine).await.expect("installed");
    let offer = |version: u64| {
        machine.root().remove_all(names::PACKAGE_BAKED).map(drop).expect("removed");
        package(&machine.root(), names::PACKAGE_BAKED, version, &IMAGES);
    };
    for version in [8, 9] {
        offer(version);
        converge(&machine).await.expect("installed");
        assert_eq!(program(&machine), Some(format!("bin/kube of version {version}")));
    }
    let installed: Vec<String> = machine.root().list(names::PACKAGES_DIR).expect("listed").expect("there");
    assert_eq!(installed.len(), 3, "the current one, the one before, and the link: {installed:?}");
    offer(5);
    let error = converge(&machine).await.expect_err("older").render();
    assert!(error.contains("it has version 5, older than version 9, which is installed"), "{error}");
    assert_eq!(program(&machine).as_deref(), Some("bin/kube of version 9"));
}

#[tokio::test]
async fn what_is_installed_needs_its_source_no_more() {
    let machine = baked(7);
    converge(&machine).await.expect("installed");
    machine.root().remove_all(names::PACKAGE_BAKED).map(drop).expect("removed");
    let cx = context(&machine);
    assert!(Package.inspect(&cx).await.expect("looked").is_none());
    assert_eq!(cx.package().expect("known").version, 7);
    let error = source(&cx).await.expect_err("gone").render();
    assert!(error.contains("not there any more") && error.contains("put the package back"), "{error}");
    machine.root().remove(format!("{}/ctr", names::PACKAGE_BIN)).map(drop).expect("removed");
    let error = Package.inspect(&cx).await.expect_err("broken").render();
    assert!(error.contains("bin/ctr is not as it was installed") && error.contains("put the package back"), "{error}");
}

#[tokio::test]
async fn nothing_is_installed_from_a_damaged_package_or_from_none() {
    let machine = Machine::new();
    let error = converge(&machine).await.expect_err("none").render();
    assert!(error.contains("there is no package") && error.contains(names::PACKAGE_BAKED), "{error}");
    let machine = baked(7);
    let root = machine.root();
    let blobs = format!("{}/blobs/sha256", names::PACKAGE_BAKED);
    for blob in root.list(&blobs).expect("listed").expect("there") {
        let machine = baked(7);
        let path = format!("{blobs}/{blob}");
        let mut bytes = machine.root().read(&path).expect("read").expect("there");
        bytes[0] ^= 1;
        machine.files.bake(&path, 0o644, &bytes);
        let error = converge(&machine).await.expect_err("damaged").to_string();
        assert!(error.contains("is damaged"), "{error}");
        assert_eq!(program(&machine), None);
    }
}

#[test]
fn selinux_is_only_in_the_way_when_it_enforces_without_a_rule_for_us() {
    let cases: [(&str, &str, bool); 4] = [
        ("", "", false),
        ("0", "", false),
        ("1", "/usr/.*\tsystem_u:object_r:usr_t:s0\n", true),
        ("1", "/var/lib/edgeboot/packages(/.*)?\tsystem_u:object_r:bin_t:s0\n", false),
    ];
    for (enforce, rules, forbidden) in cases {
        let machine = Machine::new();
        machine.files.bake("/var/lib/os", 0o644, b"");
        machine.files.bake("/sys/fs/selinux/enforce", 0o644, enforce.as_bytes());
        machine.files.bake("/etc/selinux/config", 0o644, b"SELINUX=enforcing\nSELINUXTYPE=mls\n");
        machine.files.bake("/etc/selinux/mls/contexts/files/file_contexts.local", 0o644, rules.as_bytes());
        let package = package(&machine.root(), "/package", 1, &IMAGES);
        let checked = place::check(&machine.root(), &package);
        assert_eq!(checked.is_err(), forbidden, "{enforce} {rules}");
        if let Err(error) = checked {
            assert!(error.render().contains("semanage fcontext"), "{}", error.render());
        }
    }
}
