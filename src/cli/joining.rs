//! `edgeboot join`: checks its wish in place, records it as a source of the configuration, lets edgeboot-reconcile.service do the work
//! and follows it, as `init` does; then, on a terminal, ends as kubeadm does. `--dry-run` and `join phase` run in place.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::config::node::{Discovery, Node, Pins, Role};
use crate::config::{self, Wish};
use crate::engine::ledger::Ledger;
use crate::engine::progress::{RunResult, Status};
use crate::error::{Error, Result};
use crate::host::Root;
use crate::k8s::names;

use super::enter::{dry_run, enter, single};
use super::join::{JoinFlags, wish};
use super::session::{Session, require_root};
use super::{Global, failed, follow, print, print_error};

/// `edgeboot join`.
#[derive(Debug, Args)]
pub struct JoinCommand {
    /// API servers of the cluster, or a load balancer before them. Several are tried side by side. The port may be left out: 6443.
    #[arg(value_name = "HOST[:PORT]")]
    endpoints: Vec<String>,
    #[command(flatten)]
    flags: JoinFlags,
    #[command(subcommand)]
    part: Option<JoinPart>,
}

/// A part of `join`.
#[derive(Debug, Subcommand)]
pub enum JoinPart {
    /// Runs one phase alone, in place: `edgeboot join phase kubelet-start`. For experts; `edgeboot phase list` names them.
    Phase {
        /// The phase's id; a parent runs its children. kubeadm's spelling with a space works too, and an endpoint may follow.
        #[arg(required = true, num_args = 1.., value_name = "ID")]
        words: Vec<String>,
        /// The wish, as `join` takes it.
        #[command(flatten)]
        flags: Box<JoinFlags>,
    },
}

impl JoinCommand {
    /// What the whole of it is told.
    pub fn whole(self) -> JoinFlags {
        JoinFlags { endpoints: self.endpoints, ..self.flags }
    }

    /// Runs it.
    pub async fn run(self, global: &Global) -> ExitCode {
        let result = match self.part {
            Some(JoinPart::Phase { words, flags }) => {
                let (id, flags) = phase(words, *flags);
                single(global, &id, |root| flags.told(root)).await.map(|_| ExitCode::SUCCESS)
            }
            None => join(global, &self.whole()).await,
        };
        match result {
            Ok(code) => code,
            Err(error) => failed(&error),
        }
    }
}

/// The words of a phase, and the endpoints that kubeadm lets follow them: those have a dot or a colon, phases have none.
fn phase(words: Vec<String>, flags: JoinFlags) -> (Vec<String>, JoinFlags) {
    let (endpoints, id) = words.into_iter().partition(|word| word.contains(['.', ':']));
    (id, JoinFlags { endpoints, ..flags })
}

/// The whole of it.
async fn join(global: &Global, flags: &JoinFlags) -> Result<ExitCode> {
    let session = Session::quiet()?;
    let root = &session.host.root;
    require_root(root, "joining a cluster")?;
    let wish = wish(flags, root)?;
    let (node, _) = wish.joiner()?;
    for warning in wish.warnings.iter().cloned().chain(wish.outcome.warnings.iter().map(config::findings::Finding::render)) {
        print_error(&warning);
    }
    refuse_another_cluster(root, node)?;
    if wish.dry_run {
        return dry_run(&session, &flags.told(root)?).await;
    }
    let status = enter(global, &session, &wish.recording).await?;
    if matches!(status.result, RunResult::Ready | RunResult::Offline) {
        farewell(root, node.role, &status)?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(follow::conclude(global, &status))
}

/// With a cluster here, join for the same cluster is a reconcile; for another it is refused.
fn refuse_another_cluster(root: &Root, wished: &Node) -> Result<()> {
    let (ledger, _) = Ledger::load(root)?;
    let Some(cluster) = ledger.cluster().filter(|_| !ledger.state().held) else { return Ok(()) };
    let Wish::Node { node: standing, .. } = config::load(root, &[])?.wish else { return Ok(()) };
    let why = if standing.join().is_none() {
        "this machine founded one of its own"
    } else if standing.role != wished.role {
        "this machine is part of one already, in another role"
    } else if is_pinned_elsewhere(wished, &cluster.ca_cert_hash) {
        "this machine is part of another one already, whose CA has another hash"
    } else {
        return Ok(());
    };
    Err(Error::config("joining a cluster")
        .because(why)
        .hint("`edgeboot reconcile` carries on with the one that is here; `edgeboot reset` ends it"))
}

/// Whether the pins are another CA's. Without pins the phases find out.
fn is_pinned_elsewhere(wished: &Node, ca_cert_hash: &str) -> bool {
    match wished.join().map(|join| &join.discovery) {
        Some(Discovery::Token { pins: Pins::Sha256(hashes), .. }) => !hashes.iter().any(|hash| hash.to_string() == ca_cert_hash),
        _ => false,
    }
}

/// How kubeadm ends, on a terminal only.
fn farewell(root: &Root, role: Role, status: &Status) -> Result<()> {
    if !std::io::stdout().is_terminal() {
        print(&status.line());
        return Ok(());
    }
    let has_etcd = root.exists(format!("{}/etcd.yaml", names::MANIFESTS_DIR))?;
    print(&last_words(role, has_etcd));
    Ok(())
}

/// kubeadm's words (`joinWorkerNodeDoneMsg`, `joinControlPlaneDoneTemp`).
fn last_words(role: Role, has_etcd: bool) -> String {
    if role == Role::Worker {
        return "\nThis node has joined the cluster:\n\
            * Certificate signing request was sent to apiserver and a response was received.\n\
            * The Kubelet was informed of the new secure connection details.\n\n\
            Run 'kubectl get nodes' on the control-plane to see this node join the cluster.\n"
            .to_owned();
    }
    let etcd = if has_etcd { "* A new etcd member was added to the local/stacked etcd cluster.\n" } else { "" };
    format!(
        "\nThis node has joined the cluster and a new control plane instance was created:\n\n\
         * Certificate signing request was sent to apiserver and approval was received.\n\
         * The Kubelet was informed of the new secure connection details.\n\
         * Control plane label and taint were applied to the new node.\n\
         * The Kubernetes control plane instances scaled up.\n{etcd}\n\
         To start administering your cluster from this node, you need to run the following as a regular user:\n\n\
         \tmkdir -p $HOME/.kube\n\
         \tsudo cp -i {conf} $HOME/.kube/config\n\
         \tsudo chown $(id -u):$(id -g) $HOME/.kube/config\n\n\
         Run 'kubectl get nodes' to see this node join the cluster.\n",
        conf = names::ADMIN_CONF
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_may_be_followed_by_an_endpoint() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (id, flags) = phase(words("control-plane-prepare download-certs 10.0.0.1:6443"), JoinFlags::default());
        assert_eq!((id, flags.endpoints), (words("control-plane-prepare download-certs"), words("10.0.0.1:6443")));
        let (id, flags) = phase(words("kubelet-start"), JoinFlags::default());
        assert_eq!((id, flags.endpoints), (words("kubelet-start"), vec![]));
    }

    #[test]
    fn a_worker_and_a_control_plane_hear_of_different_things() {
        assert!(!last_words(Role::Worker, false).contains("control plane instance"));
        assert!(last_words(Role::ControlPlane, true).contains("etcd member"));
        assert!(!last_words(Role::ControlPlane, false).contains("etcd member"));
    }
}
