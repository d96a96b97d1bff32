//! `Port-*`: nobody else listens where the node's components will.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::{Check, Finding, Look, always, is_node_here};
use crate::config::node::{Etcd, Node, Role};
use crate::engine::context::Context;
use crate::error::Result;
use crate::host::Utf8PathBuf;
use crate::host::net::Listener;
use crate::k8s::names;

pub(super) const CHECKS: &[Check] = &[Check { name: "Port", applies: always, look: Look::ByAsking(ports) }];

/// The kernel cuts the name of a process after this many bytes (`TASK_COMM_LEN`).
const PROCESS_NAME: usize = 15;

/// A port and the program that is to listen on it.
#[derive(Debug, Clone, Copy)]
struct Port {
    number: u16,
    program: &'static str,
}

fn wanted(node: &Node) -> Vec<Port> {
    let mut ports = vec![Port { number: names::KUBELET_PORT, program: "kubelet" }];
    if node.role == Role::Worker {
        return ports;
    }
    ports.extend([
        Port { number: node.bind_port, program: "kube-apiserver" },
        Port { number: names::SCHEDULER_PORT, program: "kube-scheduler" },
        Port { number: names::CONTROLLER_MANAGER_PORT, program: "kube-controller-manager" },
    ]);
    if matches!(node.cluster.etcd, Etcd::Local(_)) {
        let etcd = [names::ETCD_CLIENT_PORT, names::ETCD_PEER_PORT];
        ports.extend(etcd.map(|number| Port { number, program: "etcd" }));
    }
    ports
}

fn ports(cx: &Context) -> BoxFuture<'_, Result<Vec<Finding>>> {
    async move {
        let mut findings = Vec::new();
        for port in wanted(&cx.node) {
            let Some(listener) = cx.host.net.listener(port.number).await? else { continue };
            if !is_ours(cx, port, &listener)? {
                findings.push(taken(port, &listener));
            }
        }
        Ok(findings)
    }
    .boxed()
}

/// Ours, when the program that belongs there listens and was put there: by its manifest, also by one of ours that somebody has just taken
/// away, or as the kubelet of the node that is here. A sandbox hides the process; then that it was put there has to do.
fn is_ours(cx: &Context, port: Port, listener: &Listener) -> Result<bool> {
    let expected = &port.program[..port.program.len().min(PROCESS_NAME)];
    let program_fits = listener.process.is_empty() || listener.process == expected;
    let place_fits = listener.cgroup.is_empty() || listener.cgroup.contains("kube");
    let manifest = Utf8PathBuf::from(format!("{}/{}.yaml", names::MANIFESTS_DIR, port.program));
    let was_put =
        cx.host.root.exists(&manifest)? || cx.ledger.has_written(&manifest) || (port.program == "kubelet" && is_node_here(cx)?);
    Ok(program_fits && place_fits && was_put)
}

fn taken(port: Port, listener: &Listener) -> Finding {
    let Port { number, program } = port;
    let who = match listener {
        Listener { pid: 0, .. } => "a program that edgeboot may not see".to_owned(),
        Listener { process, pid, cgroup } if cgroup.is_empty() => format!("{process} (pid {pid})"),
        Listener { process, pid, cgroup } => format!("{process} (pid {pid}, {cgroup})"),
    };
    let remedy = match program {
        "kube-apiserver" => "stop it, or choose another port: `localAPIEndpoint: {bindPort: …}`".to_owned(),
        _ => format!("stop it; `ss -ltnp sport = :{number}` shows it"),
    };
    Finding::error(format!("Port-{number}"), format!("port {number}, where {program} is to listen, is in use by {who}"), remedy)
}
