//! `runtime`: a container runtime that answers. From the package: containerd's unit and configuration, enabled and running with what
//! stands on the disk. An existing one: its socket answers, and nothing is written. Beside it, where people find the package's programs.
//!
//! A containerd that runs with older files is restarted, also when edgeboot was ended in between: a mark is put under /run before a
//! file changes, and it goes only when containerd was started again. A reboot takes the mark with it and starts containerd with the
//! new files; no clock is asked, and the running process need not be read.

use std::time::Duration;

use async_trait::async_trait;

use crate::config::node::{Node, RuntimeSource};
use crate::engine::context::Context;
use crate::engine::file::{File, empty};
use crate::engine::phase::{Action, Change, Disruption, Drift, Fingerprint, Inputs, Phase, PhaseId, Subject};
use crate::engine::state::Effect;
use crate::error::{Error, Result};
use crate::host::Deadline;
use crate::host::containers::{RuntimeStatus, Socket};
use crate::host::systemd::UnitStatus;
use crate::k8s::units::{self, UnitFile};
use crate::k8s::{images, names};

/// `runtime`.
#[derive(Debug)]
pub struct Runtime;

/// The running containerd has read older files.
const STALE: &str = "/run/edgeboot/containerd-is-stale";
/// systemd's own limit for the start of a unit is 90 s; this one tells more.
const START: Duration = Duration::from_secs(120);
/// containerd says that it is ready before its CRI answers.
const ANSWER: Duration = Duration::from_secs(60);

#[async_trait]
impl Phase for Runtime {
    fn id(&self) -> PhaseId {
        PhaseId("runtime")
    }
    fn summary(&self) -> &'static str {
        "brings up the container runtime"
    }
    fn after(&self) -> &'static [PhaseId] {
        &[PhaseId("host")]
    }
    fn applies(&self, _node: &Node) -> bool {
        true
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        let Inputs { node, facts } = inputs;
        let package = facts.package.as_ref().map(|package| &package.digest);
        Fingerprint::of(&(&node.runtime, &node.registration.cri_socket, &node.cluster.image_repository, package))
    }
    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        let files = files(cx)?;
        let mut drift = cx.compare(&files)?;
        if is_package(cx) {
            if is_left_over(cx)? {
                let subject = Subject::File(units::CONTAINERD_NODE_CONFIG.to_owned());
                drift.changes.push(Change::new(subject, Action::Remove).disrupting(Disruption::Kubelet));
            }
            let status = cx.host.systemd.status(names::CONTAINERD_UNIT).await?;
            drift.changes.extend(unit_drift(status.as_ref(), cx.host.root.exists(STALE)?));
        }
        if drift.changes.is_empty() && answer(cx).await?.is_none() {
            drift.changes.push(Change::new(Subject::Other(format!("runtime at {}", socket(cx).0)), Action::Await));
        }
        Ok(drift)
    }
    async fn apply(&self, cx: &Context) -> Result<()> {
        let files = files(cx)?;
        if is_package(cx) {
            apply_package(cx, files).await?;
        } else {
            cx.place(files).await.map(drop)?;
        }
        cx.host.systemd.set_environment(&[units::manager_path()]).await.map(drop)?;
        wait_for_answer(cx).await
    }
}

fn is_package(cx: &Context) -> bool {
    cx.node.runtime.source == RuntimeSource::Package
}

/// Everything this phase places. What containerd reads is told apart by [`Disruption`].
fn files(cx: &Context) -> Result<Vec<File>> {
    let place = |unit: UnitFile| File::text(unit.path, 0o644, unit.text);
    let mut files: Vec<File> = units::search_paths().into_iter().map(place).collect();
    if is_package(cx) {
        let sandbox = images::pause(&cx.node.cluster);
        let config = place(units::containerd_config(&sandbox)).torn_when(not_toml);
        let unit = place(units::containerd_service(&cx.package()?.digest));
        // A registry's password may be in it.
        let node = File::text(units::CONTAINERD_NODE_CONFIG, 0o600, cx.node.runtime.config.clone()).torn_when(not_toml);
        files.push(place(units::container_stop_limit()));
        let node = (!cx.node.runtime.config.is_empty()).then_some(node);
        files.extend([config, unit].into_iter().chain(node).map(|file| file.disrupting(Disruption::Kubelet)));
    }
    Ok(files)
}

/// Torn when there is nothing, or nothing that containerd could read.
fn not_toml(bytes: &[u8]) -> bool {
    empty(bytes) || !std::str::from_utf8(bytes).is_ok_and(|text| text.parse::<toml::Table>().is_ok())
}

/// A drop-in that we wrote, and that is not wished any more.
fn is_left_over(cx: &Context) -> Result<bool> {
    Ok(cx.node.runtime.config.is_empty() && cx.is_ours(units::CONTAINERD_NODE_CONFIG)?)
}

/// What is to be done about the unit once its files are right.
fn unit_drift(status: Option<&UnitStatus>, stale: bool) -> Vec<Change> {
    let unit = || Subject::Unit(names::CONTAINERD_UNIT.to_owned());
    let mut changes = Vec::new();
    if !status.is_some_and(UnitStatus::is_enabled) {
        changes.push(Change::new(unit(), Action::Update).because("it does not start at boot"));
    }
    if !status.is_some_and(UnitStatus::is_active) {
        changes.push(Change::new(unit(), Action::Start));
    } else if stale {
        let change = Change::new(unit(), Action::Restart).because("its files changed since it started; pods go on");
        changes.push(change.disrupting(Disruption::Kubelet));
    }
    changes
}

async fn apply_package(cx: &Context, files: Vec<File>) -> Result<()> {
    let left_over = is_left_over(cx)?;
    let changes = cx.compare(&files)?.changes;
    if left_over || changes.iter().any(|change| change.disrupts != Disruption::Nothing) {
        let root = cx.host.root.clone();
        cx.host.blocking(move || root.mark(STALE).map(drop)).await?;
    }
    cx.place(files).await.map(drop)?;
    if left_over {
        let root = cx.host.root.clone();
        cx.host.blocking(move || root.remove(units::CONTAINERD_NODE_CONFIG).map(drop)).await?;
    }

    let systemd = &cx.host.systemd;
    let mut status = systemd.status(names::CONTAINERD_UNIT).await?;
    // A unit that systemd has not seen before is read when it is started.
    if status.as_ref().is_some_and(|status| status.need_daemon_reload) {
        systemd.reload().await?;
        status = systemd.status(names::CONTAINERD_UNIT).await?;
    }
    enable_unit(cx, names::CONTAINERD_UNIT, status.as_ref()).await?;
    start_unit(cx, status.as_ref()).await
}

/// Starts or restarts containerd, and only then takes the mark away.
async fn start_unit(cx: &Context, status: Option<&UnitStatus>) -> Result<()> {
    let unit = names::CONTAINERD_UNIT;
    let reason = format!("{unit} to start");
    cx.waiting_for(&reason);
    let deadline = Deadline::after(START, reason);
    // One that is just starting may have read the files already, older ones.
    let is_down = status.is_none_or(|status| matches!(status.active_state.as_str(), "inactive" | "failed"));
    if cx.host.root.exists(STALE)? && !is_down {
        cx.host.systemd.restart(unit, &deadline).await?;
    } else {
        cx.host.systemd.start(unit, &deadline).await.map(drop)?;
    }
    let root = cx.host.root.clone();
    cx.host.blocking(move || root.remove(STALE).map(drop)).await
}

/// Lets a unit start at boot, through the ledger and durably: systemd does not flush the link that it makes. The link is what
/// counts; systemd need not read its units again for it.
pub(super) async fn enable_unit(cx: &Context, unit: &str, status: Option<&UnitStatus>) -> Result<()> {
    let was_enabled = status.is_some_and(UnitStatus::is_enabled);
    if was_enabled {
        return Ok(());
    }
    cx.note(Effect::Unit { name: unit.to_owned(), was_enabled }).await?;
    if cx.host.systemd.enable(unit, false).await?.is_yes() {
        let root = cx.host.root.clone();
        cx.host.blocking(move || flush_links(&root)).await?;
    }
    Ok(())
}

fn flush_links(root: &crate::host::Root) -> Result<()> {
    let wants = ["multi-user.target.wants", "timers.target.wants"].map(|target| format!("{}/{target}", units::UNIT_DIR));
    for folder in wants.iter().map(String::as_str).chain([units::UNIT_DIR]) {
        if root.exists(folder)? {
            root.sync_dir(folder)?;
        }
    }
    Ok(())
}

/// Where the runtime answers.
pub(super) fn socket(cx: &Context) -> Socket {
    if is_package(cx) {
        return Socket(names::CONTAINERD_SOCKET.into());
    }
    let socket = &cx.node.registration.cri_socket;
    Socket(socket.strip_prefix("unix://").unwrap_or(socket).into())
}

/// What the runtime says when it is up; whether it has a pod network yet does not count.
async fn answer(cx: &Context) -> Result<Option<RuntimeStatus>> {
    Ok(cx.host.containers.status(&socket(cx)).await?.filter(|status| status.ready))
}

async fn wait_for_answer(cx: &Context) -> Result<()> {
    let Socket(path) = socket(cx);
    let reason = format!("the container runtime to answer at {path}");
    cx.waiting_for(&reason);
    let deadline = Deadline::after(ANSWER, reason);
    let answered = deadline.until(Duration::from_millis(20), Duration::from_millis(500), || answer(cx)).await;
    let Err(error) = answered else { return Ok(()) };
    if !is_package(cx) {
        let hint = "start the runtime of this machine, or let edgeboot bring one: `runtime: {source: package}`";
        return Err(error.hint(hint));
    }
    let unit = names::CONTAINERD_UNIT;
    let lines = cx.host.systemd.journal(unit, 20).await.join("\n    ");
    let hint = format!("`systemctl status {unit}` and `journalctl -b -u {unit}` say more");
    Err(Error::new(error.kind(), "bringing up containerd").because(format!("{error}\n    {lines}")).hint(hint))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::sample;
    use crate::engine::ledger::Ledger;
    use crate::engine::progress::Progress;
    use crate::engine::state::PackageFacts;
    use crate::host::fake::{Loss, Machine};

    fn status(active_state: &str, unit_file_state: &str) -> UnitStatus {
        UnitStatus { active_state: active_state.into(), unit_file_state: unit_file_state.into(), ..UnitStatus::default() }
    }

    #[test]
    fn the_unit_is_judged_by_systemd_and_the_mark() {
        let cases = [
            (None, false, vec![Action::Update, Action::Start]),
            (Some(status("inactive", "disabled")), true, vec![Action::Update, Action::Start]),
            (Some(status("active", "disabled")), false, vec![Action::Update]),
            (Some(status("active", "enabled")), true, vec![Action::Restart]),
            (Some(status("failed", "enabled")), false, vec![Action::Start]),
            (Some(status("active", "enabled")), false, vec![]),
        ];
        for (status, stale, expected) in cases {
            let actions: Vec<Action> = unit_drift(status.as_ref(), stale).iter().map(|change| change.action).collect();
            assert_eq!(actions, expected, "{status:?} {stale}");
        }
    }

    #[test]
    fn a_configuration_is_torn_when_containerd_could_not_read_it() {
        for (text, torn) in [("", true), ("\0\0\0", true), ("version = 3\n[plug", true), ("version = 2\n", false)] {
            assert_eq!(not_toml(text.as_bytes()), torn, "{text:?}");
        }
    }

    fn context(machine: &Machine, node: Node, package: &str) -> Context {
        let (ledger, _) = Ledger::load(&machine.root()).expect("a state");
        ledger.learn(|facts| {
            facts.package = Some(PackageFacts {
                digest: package.to_owned(),
                version: 1,
                kubernetes_version: "v1.36.3".to_owned(),
                architecture: "amd64".to_owned(),
                images: vec![],
            });
        });
        Context::new(machine.host(), Arc::new(node), ledger, Progress::new(vec![]), vec![]).for_phase(Runtime.id())
    }

    fn starts(machine: &Machine) -> Vec<String> {
        machine.services.take_writes().into_iter().filter(|write| write.starts_with("StartUnit")).collect()
    }

    #[tokio::test]
    async fn a_runtime_that_is_as_wished_is_left_alone() {
        let machine = Machine::new();
        let cx = context(&machine, sample::control_plane(), "sha256:a");
        Runtime.apply(&cx).await.expect("applied");
        assert_eq!(starts(&machine), ["StartUnit containerd.service"]);
        assert!(Runtime.inspect(&cx).await.expect("looked").is_none());
        machine.reboot(Loss::Everything);
        let cx = context(&machine, sample::control_plane(), "sha256:a");
        assert!(Runtime.inspect(&cx).await.expect("looked").is_none(), "a reboot changes nothing");
    }

    #[tokio::test]
    async fn another_package_restarts_containerd_once() {
        let machine = Machine::new();
        Runtime.apply(&context(&machine, sample::control_plane(), "sha256:a")).await.expect("applied");
        starts(&machine);
        let cx = context(&machine, sample::control_plane(), "sha256:b");
        Runtime.apply(&cx).await.expect("applied");
        assert_eq!(starts(&machine), ["StartUnit containerd.service"]);
        assert!(Runtime.inspect(&cx).await.expect("looked").is_none());
    }

    #[tokio::test]
    async fn a_restart_that_was_cut_off_is_made_up_for() {
        let machine = Machine::new();
        let mut node = sample::control_plane();
        Runtime.apply(&context(&machine, node.clone(), "sha256:a")).await.expect("applied");
        node.runtime.config = "version = 3\n".to_owned();
        for n in 1.. {
            node.runtime.config.push_str("# changed\n");
            starts(&machine);
            machine.fuse.arm(n);
            let ended = Runtime.apply(&context(&machine, node.clone(), "sha256:a")).await;
            // Only edgeboot ends here: the machine, its page cache and containerd go on.
            machine.fuse.arm(0);
            if ended.is_ok() {
                return;
            }
            let mut started = starts(&machine);
            let cx = context(&machine, node.clone(), "sha256:a");
            if !Runtime.inspect(&cx).await.expect("looked").is_none() {
                Runtime.apply(&cx).await.expect("applied");
            }
            started.extend(starts(&machine));
            assert!(!started.is_empty(), "cut at {n}: containerd runs with an older configuration");
            assert!(Runtime.inspect(&cx).await.expect("looked").is_none(), "cut at {n}");
        }
    }

    #[tokio::test]
    async fn a_configuration_that_is_not_wished_any_more_goes() {
        let machine = Machine::new();
        let mut node = sample::control_plane();
        node.runtime.config = "version = 3\n".to_owned();
        Runtime.apply(&context(&machine, node.clone(), "sha256:a")).await.expect("applied");
        assert!(machine.root().exists(units::CONTAINERD_NODE_CONFIG).expect("looked"));
        node.runtime.config.clear();
        let cx = context(&machine, node, "sha256:a");
        Runtime.apply(&cx).await.expect("applied");
        assert!(!machine.root().exists(units::CONTAINERD_NODE_CONFIG).expect("looked"));
        assert!(Runtime.inspect(&cx).await.expect("looked").is_none());
    }

    #[tokio::test]
    async fn an_existing_runtime_is_waited_for_and_not_configured() {
        let machine = Machine::new();
        let mut node = sample::control_plane();
        node.runtime.source = RuntimeSource::Existing;
        let cx = context(&machine, node, "sha256:a");
        let placed: Vec<String> = files(&cx).expect("files").into_iter().map(|file| file.path.to_string()).collect();
        assert_eq!(placed, [units::PROFILE, units::MANAGER_ENVIRONMENT]);
        cx.place(files(&cx).expect("files")).await.map(drop).expect("placed");
        let expected = Change::new(Subject::Other("runtime at /var/run/containerd/containerd.sock".to_owned()), Action::Await);
        assert_eq!(Runtime.inspect(&cx).await.expect("looked").changes, [expected]);
    }
}
