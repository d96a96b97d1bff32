//! What other programs say: the runtime that is to be used, the firewall, the kubelet's unit; and whether the versions fit.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::{Check, Finding, Look, always};
use crate::config::node::{Auto, KubernetesVersion, Node, RuntimeSource};
use crate::engine::context::Context;
use crate::error::{Error, Result};
use crate::host::containers::{RuntimeStatus, Socket};
use crate::k8s::names;

pub(super) const CHECKS: &[Check] = &[
    Check { name: "KubernetesVersion", applies: always, look: Look::AtFiles(kubernetes_version) },
    Check { name: "KubeletVersion", applies: always, look: Look::AtFiles(kubelet_version) },
    Check { name: "CRI", applies: uses_existing_runtime, look: Look::ByAsking(runtime) },
    Check { name: "Firewalld", applies: always, look: Look::ByAsking(firewall) },
    Check { name: "Service-Kubelet", applies: always, look: Look::ByAsking(kubelet_unit) },
];

/// The newest Kubernetes this edgeboot was made for; it makes kubeadm's files of that version.
const NEWEST_MINOR: u32 = 36;
/// A kubelet may be this much older than its control plane (Kubernetes' version skew policy).
const KUBELET_SKEW: u32 = 3;

/// The package's own is not up yet.
fn uses_existing_runtime(node: &Node) -> bool {
    node.runtime.source == RuntimeSource::Existing
}

fn kubernetes_version(cx: &Context) -> Result<Vec<Finding>> {
    let version = cx.kubernetes_version()?;
    let newer = (version.minor > NEWEST_MINOR).then(|| {
        let message = format!("Kubernetes {version} is newer than what this edgeboot was made for (v1.{NEWEST_MINOR})");
        Finding::warning("KubernetesVersion", message, "use a newer edgeboot, or a package with an older Kubernetes")
    });
    Ok(newer.into_iter().collect())
}

/// The package brings the kubelet; the configuration may ask for another control plane.
fn kubelet_version(cx: &Context) -> Result<Vec<Finding>> {
    let Auto::Set(wished) = &cx.node.cluster.kubernetes_version else { return Ok(Vec::new()) };
    let Some(package) = cx.facts().package else { return Ok(Vec::new()) };
    let kubelet: KubernetesVersion = package
        .kubernetes_version
        .parse()
        .map_err(|why: String| Error::config("reading the Kubernetes version of the package").because(why))?;
    let fits = kubelet.minor <= wished.minor && kubelet.minor + KUBELET_SKEW >= wished.minor;
    let finding = (!fits).then(|| {
        let message = format!("the package brings the kubelet {kubelet}, which does not go with a control plane {wished}");
        Finding::error("KubeletVersion", message, "use a package of that version, or leave kubernetesVersion to the package")
    });
    Ok(finding.into_iter().collect())
}

fn runtime(cx: &Context) -> BoxFuture<'_, Result<Vec<Finding>>> {
    async move {
        let socket = &cx.node.registration.cri_socket;
        let path = socket.strip_prefix("unix://").unwrap_or(socket);
        let status = cx.host.containers.status(&Socket(path.into())).await?;
        Ok(judge_runtime(status.as_ref(), path))
    }
    .boxed()
}

fn judge_runtime(status: Option<&RuntimeStatus>, path: &str) -> Vec<Finding> {
    let Some(status) = status else {
        let remedy = "start the container runtime of this image, or use the package's: `runtime: {source: package}`";
        return vec![Finding::error("CRI", format!("no container runtime answers at {path}"), remedy)];
    };
    let name = format!("{} {}", status.name, status.version);
    let mut findings = Vec::new();
    if !status.ready {
        let message = format!("the container runtime {name} is not ready: {}", status.message);
        findings.push(Finding::error("CRI", message, "see the journal of its unit"));
    }
    if !status.has_runtime_config {
        let message =
            format!("the container runtime {name} does not tell its cgroup driver, which the kubelet 1.37 needs (KEP-4033)");
        findings.push(Finding::warning("ContainerRuntimeVersion", message, "use containerd 2.0 or newer"));
    }
    findings
}

fn firewall(cx: &Context) -> BoxFuture<'_, Result<Vec<Finding>>> {
    async move {
        let active = cx.host.systemd.status("firewalld.service").await?.is_some_and(|status| status.is_active());
        let ports = format!("{} and {}", cx.node.bind_port, names::KUBELET_PORT);
        let finding = active.then(|| {
            Finding::warning(
                "Firewalld",
                "firewalld is active",
                format!("let it pass the ports {ports}, or the cluster may not work"),
            )
        });
        Ok(finding.into_iter().collect())
    }
    .boxed()
}

/// The unit is edgeboot's own to make and to enable; only somebody who masked it stands in the way.
fn kubelet_unit(cx: &Context) -> BoxFuture<'_, Result<Vec<Finding>>> {
    async move {
        let status = cx.host.systemd.status(names::KUBELET_UNIT).await?;
        let masked = status.is_some_and(|status| status.load_state == "masked").then(|| {
            let message = format!("{} is masked, so that it can never start", names::KUBELET_UNIT);
            Finding::error("Service-Kubelet", message, format!("run `systemctl unmask {}`", names::KUBELET_UNIT))
        });
        Ok(masked.into_iter().collect())
    }
    .boxed()
}
