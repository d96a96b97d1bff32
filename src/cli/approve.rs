//! `edgeboot certs approve`: what edgeboot-approve.timer runs on a control plane. What is left to a person is written to
//! /run/edgeboot/approve.json, so that the journal says each once and `edgeboot status` can say it again.

use std::io::IsTerminal as _;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::host::{Host, Root};
use crate::k8s::names;
use crate::k8s::pki::{Certificate, San};
use crate::phases::serving_certificates::{Decision, decide};

use super::cluster::Cluster;
use super::session::Session;
use super::wish::wish;
use super::{Global, Output, print, print_value};

/// `edgeboot certs approve`.
#[derive(Debug, Args)]
pub struct Approve {
    /// Only says what would be approved.
    #[arg(long)]
    dry_run: bool,
    /// The cluster, and who asks. [default: $KUBECONFIG, or /etc/kubernetes/admin.conf]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<String>,
}

/// A request that is left to a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// The CertificateSigningRequest.
    pub request: String,
    /// The node that it says it is from.
    pub node: String,
    /// Why.
    pub reason: String,
}

impl Approve {
    /// Approves, and prints what was decided.
    pub async fn run(&self, global: &Global) -> Result<()> {
        let host = Session::quiet()?.host;
        let cluster = Cluster::connect(&host, self.kubeconfig.as_deref())?;
        let decisions = decide(&host, cluster.api.as_ref(), &reserved(&host)?, self.dry_run).await?;
        let before = if self.dry_run { Vec::new() } else { record(&host.root, &decisions)? };
        match global.output {
            Output::Text if decisions.is_empty() && std::io::stdout().is_terminal() => {
                print("no kubelet waits for a serving certificate");
                Ok(())
            }
            Output::Text => {
                // In the journal each is said once, not every twenty seconds.
                let is_new = |decision: &&Decision| {
                    std::io::stdout().is_terminal() || !before.iter().any(|left| left.request == decision.request)
                };
                decisions.iter().filter(is_new).for_each(|decision| print(&line(decision, self.dry_run)));
                Ok(())
            }
            output @ (Output::Json | Output::Yaml) => print_value(output, &decisions.iter().map(value).collect::<Vec<_>>()),
        }
    }
}

fn line(decision: &Decision, dry_run: bool) -> String {
    let Decision { request, node, left } = decision;
    match left {
        None if dry_run => format!("{request} of {node}: would be approved"),
        None => format!("{request} of {node}: approved"),
        Some(why) => {
            format!("{request} of {node}: left: {why}; `kubectl certificate approve {request}` if it is right nevertheless")
        }
    }
}

fn value(decision: &Decision) -> serde_json::Value {
    let Decision { request, node, left } = decision;
    serde_json::json!({"request": request, "node": node, "approved": left.is_none(), "reason": left})
}

/// What belongs to the API server, by its own certificate; where that is not, what every API server is called.
fn reserved(host: &Host) -> Result<Vec<San>> {
    let node = wish(&host.root, None, &[]);
    let folder = node.map_or_else(|_| names::PKI_DIR.into(), |node| node.cluster.certificates_dir);
    let path = folder.join("apiserver.crt");
    let Some(bytes) = host.root.read(&path)? else { return Ok(vec![San::Dns("kubernetes".to_owned())]) };
    let certificate = Certificate::from_pem(&bytes).map_err(|why| Error::host(format!("reading {path}")).because(why))?;
    Ok(certificate.sans)
}

/// Writes down what is left; answers what was left before.
fn record(root: &Root, decisions: &[Decision]) -> Result<Vec<Left>> {
    let before = left(root)?;
    let left = |decision: &Decision| {
        let reason = decision.left.clone()?;
        Some(Left { request: decision.request.clone(), node: decision.node.clone(), reason })
    };
    let now: Vec<Left> = decisions.iter().filter_map(left).collect();
    if now != before {
        let text = serde_json::to_vec(&now).map_err(|error| Error::internal("writing what is left").because(error))?;
        let _ = root.put(names::APPROVE_REPORT, 0o600, &text)?;
    }
    Ok(before)
}

/// What the last look left to a person.
pub fn left(root: &Root) -> Result<Vec<Left>> {
    let Some(bytes) = root.read(names::APPROVE_REPORT)? else { return Ok(Vec::new()) };
    Ok(serde_json::from_slice(&bytes).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_remembered_until_it_is_decided() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = Root::at(folder.path().to_str().expect("UTF-8")).expect("a tree");
        let decision = |left: Option<&str>| Decision {
            request: "csr-1".to_owned(),
            node: "one".to_owned(),
            left: left.map(ToOwned::to_owned),
        };
        let refused = [decision(Some("10.0.0.3 is no address of the Node one"))];
        assert_eq!(record(&root, &refused).expect("recorded"), []);
        assert_eq!(record(&root, &refused).expect("recorded").len(), 1);
        assert_eq!(left(&root).expect("read")[0].reason, "10.0.0.3 is no address of the Node one");
        assert_eq!(record(&root, &[decision(None)]).expect("recorded").len(), 1);
        assert_eq!(left(&root).expect("read"), []);
    }
}
