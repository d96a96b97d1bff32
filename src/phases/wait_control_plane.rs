//! `wait-control-plane/*`: the kubelet answers, and then the components of the control plane, each at the address its manifest says.
//! Failures carry kubeadm's advice and what the unit or the container said last; a kubelet that crashes again and again is not waited
//! for to the end.

use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use crate::config::node::{Node, Role};
use crate::engine::context::Context;
use crate::engine::phase::{Action, Change, Drift, Fingerprint, Inputs, Phase, PhaseId, Subject};
use crate::error::{Error, Kind, Result};
use crate::host::Deadline;
use crate::k8s::kubelet_config::healthz;
use crate::k8s::objects::KUBE_SYSTEM;
use crate::k8s::static_pods::Component;
use crate::k8s::{names, static_pods};

use super::runtime::socket;

/// `wait-control-plane/kubelet`.
pub struct Kubelet;
/// `wait-control-plane/kube-apiserver`.
pub struct ApiServer;
/// `wait-control-plane/kube-controller-manager`.
pub struct ControllerManager;
/// `wait-control-plane/kube-scheduler`.
pub struct Scheduler;

/// These endpoints send no events; the first question is asked early, because everything else waits for the answer.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MOST_PAUSE: Duration = Duration::from_millis(150);
/// One request.
const REQUEST: Duration = Duration::from_secs(2);
/// Seconds after which the kubelet has surely seen a manifest that was written.
const SETTLED: i64 = 10;
/// So many restarts by systemd while we wait are a crash loop.
const CRASH_LOOP: u32 = 2;
/// Lines of a journal or log that a failure shows.
const LINES: u32 = 10;
/// Where the kubelet keeps the logs of containers.
const POD_LOGS: &str = "/var/log/pods";

/// The kubelet's health endpoint, read back from its configuration; `None` when it is switched off, as kubeadm accepts.
fn kubelet_url(cx: &Context) -> Result<Option<String>> {
    let config = read_yaml(cx, Utf8Path::new(names::KUBELET_CONFIG))?;
    Ok(healthz(&config).map(|(address, port)| format!("http://{}/healthz", host_and_port(&address, &port.to_string()))))
}

/// Where a component answers, read back from its manifest: the user may have changed it there.
fn component_url(cx: &Context, component: Component) -> Result<String> {
    let (port, path) = match component {
        Component::Scheduler => (names::SCHEDULER_PORT, "livez"),
        _ => (names::CONTROLLER_MANAGER_PORT, "healthz"),
    };
    let manifest = component.manifest_path();
    let pod = read_yaml(cx, &manifest)?;
    let command = command_of(&pod, component.name()).ok_or_else(|| {
        Error::host(format!("reading {manifest}")).because(format!("no container's command begins with {}", component.name()))
    })?;
    let address = flag(&command, "bind-address").unwrap_or("127.0.0.1");
    let port = flag(&command, "secure-port").map_or_else(|| port.to_string(), str::to_owned);
    Ok(format!("https://{}/{path}", host_and_port(address, &port)))
}

fn read_yaml(cx: &Context, path: &Utf8Path) -> Result<Value> {
    let reading = || Error::host(format!("reading {path}"));
    let text = cx.host.root.read_text(path)?.ok_or_else(|| reading().because("it is not there"))?;
    serde_saphyr::from_str(&text).map_err(|why| reading().because(why.to_string()))
}

fn command_of<'a>(pod: &'a Value, program: &str) -> Option<Vec<&'a str>> {
    let containers = pod.pointer("/spec/containers")?.as_array()?;
    containers
        .iter()
        .filter_map(|container| container.get("command")?.as_array()?.iter().map(Value::as_str).collect::<Option<Vec<_>>>())
        .find(|command| command.first() == Some(&program))
}

/// The value of the last flag of this name, written `--name=value` or `-name value` in one word.
fn flag<'a>(command: &[&'a str], name: &str) -> Option<&'a str> {
    command.iter().rev().find_map(|word| {
        let bare = word.trim().trim_start_matches('-');
        let (key, value) = bare.split_once(['=', ' '])?;
        (key == name && !value.is_empty()).then_some(value)
    })
}

fn host_and_port(host: &str, port: &str) -> String {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]:{port}"),
        _ => format!("{host}:{port}"),
    }
}

async fn answers(cx: &Context, url: &str) -> Result<bool> {
    Ok(cx.host.http.status(url, REQUEST).await? == Some(200))
}

fn awaited(healthy: bool, what: &str) -> Drift {
    if healthy { Drift::none() } else { Drift::one(Change::new(Subject::Other(what.to_owned()), Action::Await)) }
}

/// The kubelet must stay up while it is waited for: its unit's restarts since `before` are counted.
async fn kubelet_is_alive(cx: &Context, before: u32) -> Result<()> {
    let Some(status) = cx.host.systemd.status(names::KUBELET_UNIT).await? else { return Ok(()) };
    let restarts = status.n_restarts.saturating_sub(before);
    if status.active_state != "failed" && restarts < CRASH_LOOP {
        return Ok(());
    }
    let state = format!(
        "kubelet.service is {} ({}), result {}, exit status {}, {restarts} restarts while waiting",
        status.active_state, status.sub_state, status.result, status.exec_main_status
    );
    let journal = cx.host.systemd.journal(names::KUBELET_UNIT, LINES).await;
    Err(Error::host("waiting for the kubelet").because(with_lines(&state, &journal)).hint(KUBELET_ADVICE))
}

/// kubeadm's advice (`util/apiclient/wait.go`), as one hint.
const KUBELET_ADVICE: &str = "the kubelet is not running, or unhealthy because the node is misconfigured in some way (required cgroups \
disabled, swap); look at `systemctl status kubelet` and `journalctl -xeu kubelet`, then run `edgeboot reconcile`";

fn component_advice(cx: &Context) -> String {
    let socket = &cx.node.registration.cri_socket;
    format!(
        "a control plane component may have crashed when it was started; list the containers with `crictl --runtime-endpoint {socket} ps -a \
         | grep kube | grep -v pause`, read the failing one's log with `crictl --runtime-endpoint {socket} logs CONTAINERID` or under \
         {POD_LOGS}, then run `edgeboot reconcile`"
    )
}

fn with_lines(what: &str, lines: &[String]) -> String {
    if lines.is_empty() { what.to_owned() } else { format!("{what}; its last lines:\n    {}", lines.join("\n    ")) }
}

/// What a component's container said last, where it was ever started.
fn last_log_lines(cx: &Context, component: Component) -> Vec<String> {
    let newest = |folder: &Utf8Path, wanted: &dyn Fn(&str) -> bool| -> Option<Utf8PathBuf> {
        let names = cx.host.root.list(folder).ok()??;
        let paths = names.into_iter().filter(|name| wanted(name)).map(|name| folder.join(name));
        paths.max_by_key(|path| cx.host.root.metadata(path).ok().flatten().map(|there| there.modified))
    };
    let pod = format!("kube-system_{}-", component.name());
    let log = newest(Utf8Path::new(POD_LOGS), &|name| name.starts_with(&pod))
        .and_then(|pod| newest(&pod.join(component.name()), &|_| true))
        .and_then(|log| cx.host.root.read_text(log).ok().flatten())
        .unwrap_or_default();
    // A line is `TIME STREAM F TEXT`.
    let mut lines: Vec<String> =
        log.lines().rev().take(LINES as usize).map(|line| line.splitn(4, ' ').last().unwrap_or(line).to_owned()).collect();
    lines.reverse();
    lines
}

/// Whether a pod that was made at `created` is one of a manifest that was written at `written`, all in seconds since 1970. The kubelet
/// ends the pod of before when a manifest changes or comes again, and until then that one answers, healthy. It does not always: the pod
/// of a manifest that was torn and is whole again runs on. So a manifest that has stood for a while is believed to be what runs.
fn is_of_manifest(written: i64, created: Option<i64>, now: i64) -> bool {
    let age = now - written;
    !(0..SETTLED).contains(&age) || created.is_some_and(|created| created >= written)
}

/// Whether what answers for a component is the pod of the manifest that stands there now.
async fn is_current(cx: &Context, component: Component) -> Result<bool> {
    let Some(manifest) = cx.host.root.metadata(component.manifest_path())? else { return Ok(true) };
    let now = cx.host.clock.now().as_second();
    if is_of_manifest(manifest.modified, None, now) {
        return Ok(true);
    }
    let pod = format!("{}-{}", component.name(), cx.node_name()?);
    let created = cx.host.containers.pod_created(&socket(cx), KUBE_SYSTEM, &pod).await?;
    Ok(is_of_manifest(manifest.modified, created, now))
}

/// Whether a component of the manifest that stands there now is healthy at this moment.
async fn is_healthy(cx: &Context, component: Component) -> Result<bool> {
    let url = component_url(cx, component)?;
    Ok(answers(cx, &url).await? && is_current(cx, component).await?)
}

/// Waits until it says 200, as the pod of the manifest that stands there now.
async fn wait_for_component(cx: &Context, component: Component) -> Result<()> {
    let url = component_url(cx, component)?;
    let reason = format!("{} at {url}", component.name());
    cx.waiting_for(reason.as_str());
    let deadline = Deadline::after(cx.node.timeouts.control_plane_component_health_check, reason);
    let waited = deadline.until(FIRST_PAUSE, MOST_PAUSE, || async {
        match cx.host.http.status(&url, REQUEST).await? {
            Some(200) if is_current(cx, component).await? => Ok(Some(())),
            Some(200) => Err(Error::transient(format!("asking {url}")).because("the pod of the manifest before still answers")),
            Some(code) => Err(Error::transient(format!("asking {url}")).because(format!("it answered {code}"))),
            None => Err(Error::transient(format!("asking {url}")).because("nothing answers")),
        }
    });
    waited.await.map_err(|error| component_failed(cx, component, error))
}

fn component_failed(cx: &Context, component: Component, error: Error) -> Error {
    if error.kind() != Kind::Transient {
        return error;
    }
    let lines = last_log_lines(cx, component);
    Error::transient(with_lines(&error.to_string(), &lines)).hint(component_advice(cx))
}

async fn is_ready(cx: &Context) -> Result<bool> {
    let ready = match cx.api() {
        Ok(api) => api.ready().await,
        Err(error) => Err(error),
    };
    match ready {
        // RBAC may not be there yet: kubeadm, too, asks again when it is forbidden to ask.
        Err(error) if matches!(error.kind(), Kind::Transient | Kind::Rejected) => Ok(false),
        other => other,
    }
}

fn fingerprint(inputs: &Inputs<'_>) -> Fingerprint {
    let address = (&inputs.node.advertise_address, &inputs.facts.advertise_address, inputs.node.bind_port);
    Fingerprint::of(&(&inputs.node.timeouts, address))
}

#[async_trait]
impl Phase for Kubelet {
    fn id(&self) -> PhaseId {
        PhaseId("wait-control-plane/kubelet")
    }
    fn summary(&self) -> &'static str {
        "waits for the kubelet to be healthy"
    }
    fn after(&self) -> &'static [PhaseId] {
        &[PhaseId("kubelet-start"), PhaseId("control-plane-restart")]
    }
    fn applies(&self, _node: &Node) -> bool {
        true
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        fingerprint(inputs)
    }
    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        let healthy = match kubelet_url(cx)? {
            Some(url) => answers(cx, &url).await?,
            None => true,
        };
        Ok(awaited(healthy, "the kubelet"))
    }
    async fn apply(&self, cx: &Context) -> Result<()> {
        let Some(url) = kubelet_url(cx)? else { return Ok(()) };
        let before = cx.host.systemd.status(names::KUBELET_UNIT).await?.map_or(0, |status| status.n_restarts);
        let reason = format!("the kubelet at {url}");
        cx.waiting_for(reason.as_str());
        let deadline = Deadline::after(cx.node.timeouts.kubelet_health_check, reason);
        let waited = deadline.until(FIRST_PAUSE, MOST_PAUSE, || async {
            match cx.host.http.status(&url, REQUEST).await? {
                Some(200) => return Ok(Some(())),
                Some(code) => return Err(Error::transient(format!("asking {url}")).because(format!("it answered {code}"))),
                None => {}
            }
            kubelet_is_alive(cx, before).await?;
            Err(Error::transient(format!("asking {url}")).because("nothing answers"))
        });
        match waited.await {
            Err(error) if error.kind() == Kind::Transient => {
                let journal = cx.host.systemd.journal(names::KUBELET_UNIT, LINES).await;
                Err(Error::transient(with_lines(&error.to_string(), &journal)).hint(KUBELET_ADVICE))
            }
            other => other,
        }
    }
}

#[async_trait]
impl Phase for ApiServer {
    fn id(&self) -> PhaseId {
        PhaseId("wait-control-plane/kube-apiserver")
    }
    fn summary(&self) -> &'static str {
        "waits for kube-apiserver to be ready"
    }
    fn after(&self) -> &'static [PhaseId] {
        // The kubelet first: when it crashes, nobody waits for what it would start.
        &[PhaseId("wait-control-plane/kubelet"), PhaseId("control-plane-prepare/control-plane")]
    }
    fn applies(&self, node: &Node) -> bool {
        node.role == Role::ControlPlane
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        fingerprint(inputs)
    }
    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        Ok(awaited(is_ready(cx).await? && is_current(cx, Component::ApiServer).await?, Component::ApiServer.name()))
    }
    async fn apply(&self, cx: &Context) -> Result<()> {
        let address = static_pods::with_port(cx.advertise_address()?, cx.node.bind_port);
        let reason = format!("kube-apiserver at https://{address}/readyz");
        cx.waiting_for(reason.as_str());
        let deadline = Deadline::after(cx.node.timeouts.control_plane_component_health_check, reason);
        let before = cx.host.systemd.status(names::KUBELET_UNIT).await?.map_or(0, |status| status.n_restarts);
        let waited = deadline.until(FIRST_PAUSE, MOST_PAUSE, || async {
            if is_ready(cx).await? && is_current(cx, Component::ApiServer).await? {
                return Ok(Some(()));
            }
            kubelet_is_alive(cx, before).await?;
            Ok(None)
        });
        waited.await.map_err(|error| component_failed(cx, Component::ApiServer, error))
    }
}

#[async_trait]
impl Phase for ControllerManager {
    fn id(&self) -> PhaseId {
        PhaseId("wait-control-plane/kube-controller-manager")
    }
    fn summary(&self) -> &'static str {
        "waits for kube-controller-manager to be healthy"
    }
    fn after(&self) -> &'static [PhaseId] {
        &[PhaseId("wait-control-plane/kubelet"), PhaseId("control-plane/controller-manager")]
    }
    fn applies(&self, node: &Node) -> bool {
        node.role == Role::ControlPlane
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        fingerprint(inputs)
    }
    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        Ok(awaited(is_healthy(cx, Component::ControllerManager).await?, Component::ControllerManager.name()))
    }
    async fn apply(&self, cx: &Context) -> Result<()> {
        wait_for_component(cx, Component::ControllerManager).await
    }
}

#[async_trait]
impl Phase for Scheduler {
    fn id(&self) -> PhaseId {
        PhaseId("wait-control-plane/kube-scheduler")
    }
    fn summary(&self) -> &'static str {
        "waits for kube-scheduler to be healthy"
    }
    fn after(&self) -> &'static [PhaseId] {
        &[PhaseId("wait-control-plane/kubelet"), PhaseId("control-plane/scheduler")]
    }
    fn applies(&self, node: &Node) -> bool {
        node.role == Role::ControlPlane
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        fingerprint(inputs)
    }
    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        Ok(awaited(is_healthy(cx, Component::Scheduler).await?, Component::Scheduler.name()))
    }
    async fn apply(&self, cx: &Context) -> Result<()> {
        wait_for_component(cx, Component::Scheduler).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_answers_is_believed_when_it_is_newer_than_its_manifest_or_the_manifest_has_stood() {
        // written, created, now
        for (written, created, now, current) in [
            (1000, Some(1001), 1001, true),
            (1000, Some(1000), 1000, true),
            (1000, Some(900), 1001, false),
            (1000, None, 1001, false),
            (1000, Some(900), 1000 + SETTLED, true),
            // The clock was set in between, either way.
            (1000, Some(900), 10, true),
            (10, Some(900), 1000, true),
        ] {
            assert_eq!(is_of_manifest(written, created, now), current, "{written} {created:?} {now}");
        }
    }

    #[test]
    fn addresses_are_read_back_from_the_manifest() {
        let pod = json!({"spec": {"containers": [
            {"name": "sidecar", "image": "x"},
            {"name": "renamed", "command": ["kube-scheduler", "--bind-address=10.0.0.1", "--bind-address-hard-fail=x", "--bind-address=::", "-secure-port 10260"]},
        ]}});
        let command = command_of(&pod, "kube-scheduler").expect("a command");
        assert_eq!(flag(&command, "bind-address"), Some("::"));
        assert_eq!(flag(&command, "secure-port"), Some("10260"));
        assert_eq!(flag(&command, "port"), None);
        assert_eq!(command_of(&pod, "kube-controller-manager"), None);
        assert_eq!(host_and_port("::", "1"), "[::]:1");
        assert_eq!(host_and_port("localhost", "1"), "localhost:1");
    }
}
