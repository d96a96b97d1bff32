//! `kubelet-start`: the kubelet's files, its unit, and the running kubelet. A kubelet that runs with older files is started again, also
//! when the power or the process was cut in between: before a file changes, a mark is put under /run, and it goes only when the kubelet
//! was started again. A reboot takes the mark with it and starts the kubelet with the new files; no clock is asked.

use std::time::Duration;

use async_trait::async_trait;

use crate::config::node::Node;
use crate::engine::context::Context;
use crate::engine::file::File;
use crate::engine::phase::{Action, Change, Disruption, Drift, Fingerprint, Inputs, Phase, PhaseId, Subject};
use crate::engine::state::Effect;
use crate::error::Result;
use crate::host::systemd::UnitStatus;
use crate::host::{Deadline, kernel};
use crate::k8s::kubelet_config::{RESOLVED_UNIT, flags_env, instance_config, joined_kubelet_config, node_kubelet_config};
use crate::k8s::{names, units, yaml};

use super::{join, patches};

/// `kubelet-start`.
pub struct KubeletStart;

/// The running kubelet has read older files.
const STALE: &str = "/run/edgeboot/kubelet-is-stale";
/// systemd only starts a process; a kubelet that does not come up is noticed by `wait-control-plane/kubelet`.
const START: Duration = Duration::from_secs(90);

/// Notes that something the kubelet reads when it starts is about to change; `kubelet-start` starts it again. Call it before the
/// change, in phases that `kubelet-start` comes after. Whether the kubelet runs is not asked: at boot it may start at any moment.
pub(super) async fn mark_stale(cx: &Context) -> Result<()> {
    let root = cx.host.root.clone();
    cx.host.blocking(move || root.mark(STALE).map(drop)).await
}

/// Whether systemd-resolved resolves names on this machine. kubeadm asks whether it is active; early in a boot that is not yet so,
/// and then it counts that it will be.
pub(super) async fn systemd_resolved(cx: &Context) -> Result<bool> {
    let status = cx.host.systemd.status(RESOLVED_UNIT).await?;
    Ok(status.is_some_and(|status| runs(&status) || status.is_enabled()))
}

/// A kubelet that crashes waits in `activating` for its next start: systemd looks after it, and a start changes nothing.
fn runs(status: &UnitStatus) -> bool {
    matches!(status.active_state.as_str(), "active" | "activating" | "reloading")
}

async fn files(cx: &Context) -> Result<Vec<File>> {
    let node = &cx.node;
    let (resolved, patches) = (systemd_resolved(cx).await?, patches::load(cx)?);
    let config = match node.join() {
        None => node_kubelet_config(node, resolved, &patches)?,
        Some(_) => joined_kubelet_config(node, &cx.cluster()?, &join::kubelet_configuration(cx)?, resolved, &patches)?,
    };
    let flags = flags_env(node, &cx.node_name()?, &host_name(cx)?);
    let mut files = vec![
        File::yaml(names::KUBELET_CONFIG, 0o644, yaml::text(&config)),
        File::yaml(names::KUBELET_INSTANCE_CONFIG, 0o644, instance_config(node)),
        File::text(names::KUBELET_FLAGS, 0o644, flags),
    ];
    let units = units::kubelet_unit_files(&cx.package()?.digest);
    files.extend(units.into_iter().map(|unit| File::text(unit.path, 0o644, unit.text)));
    Ok(files.into_iter().map(|file| file.disrupting(Disruption::Kubelet)).collect())
}

/// The host's name as the kubelet reads it: without white space, in lower case. One that this run sets is not seen here: the units have
/// a name of their own (`ProtectHostname=`).
fn host_name(cx: &Context) -> Result<String> {
    let name = match &cx.node.host.hostname {
        Some(wished) => wished.clone(),
        None => kernel::hostname(&cx.host.root)?,
    };
    Ok(name.to_lowercase())
}

/// What is to be done about the unit once its files are right.
fn unit_drift(status: Option<&UnitStatus>, stale: bool) -> Vec<Change> {
    let unit = || Subject::Unit(names::KUBELET_UNIT.to_owned());
    let mut changes = Vec::new();
    if !status.is_some_and(UnitStatus::is_enabled) {
        changes.push(Change::new(unit(), Action::Update).because("it does not start at boot"));
    }
    match status {
        Some(status) if runs(status) => {
            let why = match (stale, status.need_daemon_reload) {
                (true, _) => "its files changed since it started",
                (false, true) => "systemd has not read its unit again",
                (false, false) => return changes,
            };
            changes.push(Change::new(unit(), Action::Restart).disrupting(Disruption::Kubelet).because(why));
        }
        _ => changes.push(Change::new(unit(), Action::Start)),
    }
    changes
}

#[async_trait]
impl Phase for KubeletStart {
    fn id(&self) -> PhaseId {
        PhaseId("kubelet-start")
    }
    fn summary(&self) -> &'static str {
        "writes the kubelet's settings and (re)starts the kubelet"
    }
    fn after(&self) -> &'static [PhaseId] {
        &[
            PhaseId("certs"),
            PhaseId("kubeconfig"),
            PhaseId("control-plane/apiserver"),
            PhaseId("etcd"),
            PhaseId("images/first"),
            PhaseId("runtime"),
            PhaseId("cni/bridge"),
            PhaseId("cluster-configuration"),
            PhaseId("control-plane-prepare/kubeconfig"),
            PhaseId("check-etcd"),
            PhaseId("kubelet-start/tls-bootstrap"),
        ]
    }
    fn applies(&self, _node: &Node) -> bool {
        true
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        let (node, facts) = (inputs.node, inputs.facts);
        let package = facts.package.as_ref().map(|package| &package.digest);
        let cluster = (&node.cluster.service_subnets, &node.cluster.dns_domain, &node.cluster.certificates_dir);
        Fingerprint::of(&(
            node.role,
            &node.registration,
            cluster,
            &node.kubelet_configuration,
            &node.patches,
            &facts.node_name,
            package,
        ))
    }
    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        let mut drift = cx.compare(&files(cx).await?)?;
        if !cx.host.root.exists(names::MANIFESTS_DIR)? {
            // The kubelet complains about it every second, also where it never holds a manifest.
            drift.changes.push(Change::new(Subject::File(names::MANIFESTS_DIR.to_owned()), Action::Create));
        }
        let status = cx.host.systemd.status(names::KUBELET_UNIT).await?;
        drift.changes.extend(unit_drift(status.as_ref(), cx.host.root.exists(STALE)?));
        Ok(drift)
    }
    async fn apply(&self, cx: &Context) -> Result<()> {
        let files = files(cx).await?;
        if !cx.compare(&files)?.changes.is_empty() {
            mark_stale(cx).await?;
        }
        cx.place(files).await.map(drop)?;
        if !cx.host.root.exists(names::MANIFESTS_DIR)? {
            cx.note(Effect::Dir { path: names::MANIFESTS_DIR.into() }).await?;
            let root = cx.host.root.clone();
            cx.host.blocking(move || root.make_dirs(names::MANIFESTS_DIR, 0o755).map(drop)).await?;
        }
        let systemd = &cx.host.systemd;
        let status = systemd.status(names::KUBELET_UNIT).await?;
        let was_enabled = status.as_ref().is_some_and(UnitStatus::is_enabled);
        let mut reload = status.as_ref().is_none_or(|status| status.need_daemon_reload || status.load_state == "not-found");
        if !was_enabled {
            cx.note(Effect::Unit { name: names::KUBELET_UNIT.to_owned(), was_enabled }).await?;
            // EnableUnitFiles works on the files, and does not read the units again by itself.
            reload |= systemd.enable(names::KUBELET_UNIT, false).await?.is_yes();
        }
        // Once for both: each reload stops systemd for some tenths of a second.
        if reload {
            systemd.reload().await?;
        }
        cx.waiting_for("kubelet.service to start");
        let deadline = Deadline::after(START, "kubelet.service to start");
        // Started while an older unit text was loaded also counts as stale.
        let outdated = status.is_some_and(|status| runs(&status) && status.need_daemon_reload);
        if outdated || cx.host.root.exists(STALE)? {
            systemd.restart(names::KUBELET_UNIT, &deadline).await?;
        } else {
            systemd.start(names::KUBELET_UNIT, &deadline).await.map(drop)?;
        }
        let root = cx.host.root.clone();
        cx.host.blocking(move || root.remove(STALE).map(drop)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_kubelet_is_started_again_only_when_its_files_changed() {
        let status = |active: &str, enabled: &str, reload: bool| UnitStatus {
            active_state: active.into(),
            unit_file_state: enabled.into(),
            need_daemon_reload: reload,
            ..UnitStatus::default()
        };
        let actions = |status: Option<UnitStatus>, stale| -> Vec<Action> {
            unit_drift(status.as_ref(), stale).into_iter().map(|change| change.action).collect()
        };
        assert_eq!(actions(None, false), [Action::Update, Action::Start]);
        assert_eq!(actions(Some(status("active", "enabled", false)), false), []);
        assert_eq!(actions(Some(status("activating", "enabled", false)), false), []);
        assert_eq!(actions(Some(status("active", "enabled", false)), true), [Action::Restart]);
        assert_eq!(actions(Some(status("active", "enabled", true)), false), [Action::Restart]);
        assert_eq!(actions(Some(status("failed", "enabled", false)), true), [Action::Start]);
        assert_eq!(actions(Some(status("active", "disabled", false)), false), [Action::Update]);
    }
}
