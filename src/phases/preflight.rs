//! Preflight: is this machine fit to become a node? All findings at once, under kubeadm's names
//! (`cmd/kubeadm/app/preflight/checks.go`), so that `ignorePreflightErrors` says the same thing. Unlike kubeadm's, every check means
//! "absent, or ours": a run that was cut short and a node that is up are no findings.
//!
//! Of kubeadm's checks `HTTPProxy` and `HTTPProxyCIDR` are left out, since edgeboot neither uses nor hands on its environment, and
//! `ImagePull`, which the phase `images` judges.

mod files;
mod machine;
mod ports;
mod services;
mod system;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use serde::Serialize;

use crate::config::node::{Entry, Node, Role};
use crate::engine::context::Context;
use crate::engine::file::empty;
use crate::engine::phase::{Drift, Fingerprint, Inputs, Phase, PhaseId};
use crate::error::{Error, Result};
use crate::k8s::names;

use super::clock::CLOCK;
use super::network::NETWORK;

/// The phase `preflight`.
#[derive(Debug)]
pub struct Preflight;

/// Its id.
pub const PREFLIGHT: PhaseId = PhaseId("preflight");

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Level {
    /// The machine cannot become a node.
    Error,
    /// It can, but something will not work as well as it could; or an error that is ignored by name.
    Warning,
}

/// What a check found to be wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// kubeadm's name of the check, for instance `Port-6443`.
    pub check: String,
    /// How bad it is.
    pub level: Level,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl Finding {
    fn error(check: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { check: check.into(), level: Level::Error, message: message.into(), remedy: remedy.into() }
    }
    fn warning(check: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { level: Level::Warning, ..Finding::error(check, message, remedy) }
    }
    /// The finding in a line.
    pub fn line(&self) -> String {
        format!("[{}] {}: {}", self.check, self.message, self.remedy)
    }
}

/// A check: one row of a table. The outer failure of its look means "could not look", and is a finding as well.
struct Check {
    /// kubeadm's name, or what all its names begin with.
    name: &'static str,
    applies: fn(&Node) -> bool,
    look: Look,
}

/// How a check looks.
enum Look {
    /// At files and what the kernel says.
    AtFiles(fn(&Context) -> Result<Vec<Finding>>),
    /// By asking systemd, the network or the runtime.
    ByAsking(for<'a> fn(&'a Context) -> BoxFuture<'a, Result<Vec<Finding>>>),
}

/// Every check, in the order of its findings.
const TABLES: &[&[Check]] = &[machine::CHECKS, system::CHECKS, services::CHECKS, ports::CHECKS, files::CHECKS];

const fn always(_node: &Node) -> bool {
    true
}

fn on_control_plane(node: &Node) -> bool {
    node.role == Role::ControlPlane
}

/// Everything that is wrong, errors that are ignored by name as warnings. Looks only.
pub async fn findings(cx: &Context) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    let checks: Vec<&'static Check> = TABLES.iter().flat_map(|table| table.iter()).collect();
    for check in checks.into_iter().filter(|check| (check.applies)(&cx.node)) {
        let looked = match check.look {
            Look::AtFiles(look) => look(cx),
            Look::ByAsking(look) => look(cx).await,
        };
        found.extend(looked.unwrap_or_else(|error| vec![could_not_look(check.name, &error)]));
    }
    let ignored = &cx.node.registration.ignore_preflight_errors;
    for finding in &mut found {
        let name = finding.check.to_ascii_lowercase();
        if ignored.iter().any(|ignored| *ignored == name || ignored == "all") {
            finding.level = Level::Warning;
        }
    }
    Ok(found)
}

fn could_not_look(check: &str, error: &Error) -> Finding {
    Finding::error(check, format!("could not look: {error}"), error.remedy().unwrap_or("see the journal of the unit").to_owned())
}

#[async_trait]
impl Phase for Preflight {
    fn id(&self) -> PhaseId {
        PREFLIGHT
    }
    fn summary(&self) -> &'static str {
        "checks that this machine can become a node"
    }
    fn after(&self) -> &'static [PhaseId] {
        &[CLOCK, NETWORK, PhaseId("package")]
    }
    fn applies(&self, _node: &Node) -> bool {
        true
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        let package = inputs.facts.package.as_ref().map(|package| &package.kubernetes_version);
        // How it joins is nothing of the machine's, and its secrets go when it has joined.
        let node = Node { entry: Entry::Init, ..inputs.node.clone() };
        Fingerprint::of(&(node, inputs.node.join().is_some(), &inputs.facts.node_name, package))
    }

    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        let findings = findings(cx).await?;
        let (errors, warnings): (Vec<_>, Vec<_>) = findings.into_iter().partition(|finding| finding.level == Level::Error);
        let facts = cx.facts();
        // Said when the machine is judged for the first time, or for another wish; not every quarter of an hour.
        if !cx.ledger.is_recorded(PREFLIGHT, &self.fingerprint(&Inputs { node: &cx.node, facts: &facts })) {
            for finding in &warnings {
                cx.say(finding.line());
            }
        }
        if errors.is_empty() { Ok(Drift::none()) } else { Err(unfit(&errors)) }
    }

    async fn apply(&self, _cx: &Context) -> Result<()> {
        Ok(())
    }
}

/// All errors in one failure.
pub fn unfit(errors: &[Finding]) -> Error {
    let lines: Vec<String> = errors.iter().map(Finding::line).collect();
    let names = errors.iter().map(|finding| finding.check.as_str()).collect::<Vec<_>>().join(", ");
    Error::host("checking that this machine can become a node")
        .because(format!("it cannot yet\n  {}", lines.join("\n  ")))
        .hint(format!("mend this, or go on in spite of it: `nodeRegistration: {{ignorePreflightErrors: [{names}]}}`"))
}

/// Whether a node was made here before, by whomever: then what stands here and listens here is its own.
fn is_node_here(cx: &Context) -> Result<bool> {
    Ok(cx.ledger.cluster().is_some() || is_written(cx, names::KUBELET_CONF)? || is_written(cx, names::ADMIN_CONF)?)
}

/// Whether there is a file with something in it; a power cut may leave one with nothing.
fn is_written(cx: &Context, path: &str) -> Result<bool> {
    Ok(cx.host.root.read(path)?.is_some_and(|bytes| !empty(&bytes)))
}

#[cfg(test)]
mod tests;
