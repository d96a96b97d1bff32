//! The host on the fake machine, whose kernel is files.

use std::sync::Arc;

use super::*;
use crate::config::node::Swap;
use crate::config::sample;
use crate::engine::ledger::Ledger;
use crate::engine::progress::Progress;
use crate::host::fake::{MISSING, Machine};
use crate::k8s::names;

fn context(machine: &Machine, edit: impl FnOnce(&mut Node)) -> Context {
    let host = machine.host();
    let (ledger, _) = Ledger::load(&host.root).expect("read");
    let mut node = sample::control_plane();
    edit(&mut node);
    Context::new(host, Arc::new(node), ledger, Progress::new(vec![]), vec![]).for_phase(HOST)
}

async fn changes(cx: &Context) -> Vec<String> {
    let drift = Host.inspect(cx).await.expect("looked");
    drift.changes.iter().map(|change| change.subject.to_string()).collect()
}

fn text(machine: &Machine, path: &str) -> String {
    machine.root().read_text(path).expect("read").unwrap_or_default()
}

#[tokio::test]
async fn modules_and_sysctls_are_had_and_then_nothing_is_left_to_do() {
    let machine = Machine::new();
    let cx = context(&machine, |node| {
        node.host.modules = vec!["ip-vs".to_owned()];
        node.host.sysctls.insert("vm.max_map_count".to_owned(), "262144".to_owned());
    });
    machine.files.bake("/proc/sys/vm/max_map_count", 0o644, b"65530\n");
    let before = changes(&cx).await;
    for subject in [names::MODULES_FILE, names::SYSCTL_FILE, "module br_netfilter", "module ip_vs", "sysctl vm.max_map_count"] {
        assert!(before.iter().any(|change| change == subject), "{subject} in {before:?}");
    }
    Host.apply(&cx).await.expect("done");
    assert_eq!(changes(&cx).await, Vec::<String>::new());
    assert_eq!(text(&machine, "/proc/sys/net/ipv4/ip_forward").trim(), "1");
    let writes = machine.services.take_writes();
    assert_eq!(writes, ["StartUnit systemd-modules-load.service", "StartUnit systemd-sysctl.service"]);
    Host.apply(&cx).await.expect("done again");
    assert_eq!(machine.services.take_writes(), Vec::<String>::new());
    assert!(
        text(&machine, names::STATE).contains("\"prior\": \"65530\"")
            || text(&machine, names::STATE).contains("\"prior\":\"65530\"")
    );
}

#[tokio::test]
async fn an_optional_module_that_cannot_be_had_is_said_once_and_left_out() {
    let machine = Machine::new();
    machine.files.bake(MISSING, 0o644, b"br_netfilter\n");
    let cx = context(&machine, |_| {});
    Host.apply(&cx).await.expect("it is not needed");
    assert_eq!(changes(&cx).await, Vec::<String>::new());
    assert!(!text(&machine, names::MODULES_FILE).contains("br_netfilter"));
    assert!(!text(&machine, names::SYSCTL_FILE).contains("bridge"));
    machine.files.bake("/proc/sys/kernel/osrelease", 0o444, b"6.12.99\n");
    assert!(changes(&cx).await.contains(&"module br_netfilter".to_owned()), "another kernel may have it");
}

#[tokio::test]
async fn a_needed_module_that_cannot_be_had_is_named() {
    let machine = Machine::new();
    machine.files.bake(MISSING, 0o644, b"overlay\n");
    machine.files.bake("/proc/filesystems", 0o444, b"ext4\n");
    let error = Host.apply(&context(&machine, |_| {})).await.expect_err("nothing works without");
    assert!(error.to_string().contains("loading the kernel module overlay"), "{error}");
}

#[tokio::test]
async fn a_sysctl_that_does_not_take_is_named_with_who_contradicts() {
    let machine = Machine::new();
    machine.files.bake("/etc/sysctl.d/99-local.conf", 0o644, b"net.ipv4.ip_forward=0\n");
    let error = Host.apply(&context(&machine, |_| {})).await.expect_err("it stays off").render();
    assert!(error.contains("net.ipv4.ip_forward stays 0"), "{error}");
    assert!(error.contains("/etc/sysctl.d/99-local.conf is read after"), "{error}");
}

#[tokio::test]
async fn swap_is_left_alone_or_masked_and_stopped() {
    let machine = Machine::new();
    machine.files.bake("/proc/swaps", 0o444, b"Filename\n/dev/sda2 partition 1 0 -2\n");
    let kept = context(&machine, |_| {});
    assert!(!changes(&kept).await.contains(&"unit dev-sda2.swap".to_owned()));
    let off = context(&machine, |node| node.host.swap = Swap::Off);
    let found = changes(&off).await;
    assert!(found.contains(&"unit dev-sda2.swap".to_owned()) && found.contains(&"unit swap.target".to_owned()), "{found:?}");
    let error = Host.apply(&off).await.expect_err("the fake kernel goes on swapping");
    assert!(error.to_string().contains("turning off swap on /dev/sda2"), "{error}");
    machine.files.bake("/proc/swaps", 0o444, b"Filename\n");
    Host.apply(&off).await.expect("done");
    assert_eq!(changes(&off).await, Vec::<String>::new());
}
