//! `edgeboot init`: checks its wish in place, records it as a source of the configuration, lets edgeboot-reconcile.service do the work
//! and follows it; then, on a terminal, ends as kubeadm does. `--dry-run` and `init phase` run in place.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::config::node::{BootstrapToken, Node};
use crate::config::{self, Wish};
use crate::engine::context::Context;
use crate::engine::ledger::Ledger;
use crate::engine::phase::Phase as _;
use crate::engine::progress::{RunResult, Status};
use crate::error::{Error, Result};
use crate::host::Root;
use crate::k8s::{names, token};
use crate::phases;

use super::enter::{dry_run, enter, single};
use super::init::{Init, InitWish, wish};
use super::session::{Prepared, Session, require_root};
use super::{Global, failed, follow, print, print_error};

/// `edgeboot init`.
#[derive(Debug, Args)]
pub struct InitCommand {
    #[command(flatten)]
    flags: Init,
    #[command(subcommand)]
    part: Option<InitPart>,
}

/// A part of `init`.
#[derive(Debug, Subcommand)]
pub enum InitPart {
    /// Runs one phase alone, in place: `edgeboot init phase certs/apiserver`. For experts; `edgeboot phase list` names them.
    Phase {
        /// The phase's id; a parent runs its children. kubeadm's spelling with a space works too (`certs apiserver`, `certs all`).
        #[arg(required = true, num_args = 1..)]
        id: Vec<String>,
        /// The wish, as `init` takes it.
        #[command(flatten)]
        flags: Box<Init>,
    },
}

impl InitCommand {
    /// Runs it.
    pub async fn run(self, global: &Global) -> ExitCode {
        let result = match self.part {
            Some(InitPart::Phase { id, flags }) => phase(global, &id, &flags).await,
            None => found(global, &self.flags).await,
        };
        match result {
            Ok(code) => code,
            Err(error) => failed(&error),
        }
    }
}

/// The whole of it.
async fn found(global: &Global, flags: &Init) -> Result<ExitCode> {
    let session = Session::quiet()?;
    let root = &session.host.root;
    require_root(root, "founding a cluster")?;
    let wish = wish(flags, root)?;
    let Wish::Node { node, .. } = &wish.outcome.wish else {
        return Err(Error::internal("reading the flags").because("they hold no role"));
    };
    for warning in &wish.outcome.warnings {
        print_error(&warning.render());
    }
    refuse_another_cluster(root, node)?;
    if wish.dry_run {
        return dry_run(&session, &flags.told(root)?).await;
    }
    let status = enter(global, &session, &wish.recording).await?;
    if matches!(status.result, RunResult::Ready | RunResult::Offline) {
        farewell(&session, &wish, &status).await?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(follow::conclude(global, &status))
}

/// One phase of it.
async fn phase(global: &Global, words: &[String], flags: &Init) -> Result<ExitCode> {
    let ran = single(global, words, |root| flags.told(root)).await?;
    if ran.ids.contains(&phases::upload_certs::UploadCerts.id()) && !flags.skip_certificate_key_print {
        // As with kubeadm, the last line is the key: it is what was asked for.
        print_error("the control plane's certificates are in the Secret kube-system/kubeadm-certs for two hours; their key is");
        print(phases::upload_certs::key_in_use(&ran.cx)?.expose());
    }
    Ok(ExitCode::SUCCESS)
}

/// With a cluster here, init for the same cluster is a reconcile; for another it is refused.
fn refuse_another_cluster(root: &Root, wished: &Node) -> Result<()> {
    let (ledger, _) = Ledger::load(root)?;
    if ledger.cluster().is_none() || ledger.state().held {
        return Ok(());
    }
    let Wish::Node { node: standing, .. } = config::load(root, &[])?.wish else { return Ok(()) };
    if standing.join().is_some() {
        return Err(Error::config("founding a cluster")
            .because("this machine belongs to one that it joined")
            .hint("`edgeboot reconcile` carries on with that one; `edgeboot reset` ends it"));
    }
    let (a, b) = (&standing.cluster, &wished.cluster);
    let differs = [
        ("clusterName", a.name != b.name),
        ("networking.serviceSubnet", a.service_subnets != b.service_subnets),
        ("networking.podSubnet", a.pod_subnets != b.pod_subnets),
        ("networking.dnsDomain", a.dns_domain != b.dns_domain),
        ("certificatesDir", a.certificates_dir != b.certificates_dir),
        ("etcd", std::mem::discriminant(&a.etcd) != std::mem::discriminant(&b.etcd)),
    ];
    let different: Vec<&str> = differs.into_iter().filter(|(_, differs)| *differs).map(|(field, _)| field).collect();
    if different.is_empty() {
        return Ok(());
    }
    Err(Error::config("founding a cluster")
        .because(format!("another one is here already, with a different {}", different.join(", ")))
        .hint("`edgeboot reconcile` carries on with the one that is here; `edgeboot reset` ends it"))
}

/// How kubeadm ends, on a terminal only: a journal or a pipe is no place for a token.
async fn farewell(session: &Session, wish: &InitWish, status: &Status) -> Result<()> {
    if !std::io::stdout().is_terminal() {
        print(&status.line());
        return Ok(());
    }
    let Prepared::Node(prepared) = session.prepare(&[], &[])? else { return Ok(()) };
    let cx = &prepared.cx;
    print(&format!(
        "\nYour Kubernetes control-plane has initialized successfully!\n\n\
         To start using your cluster, you need to run the following as a regular user:\n\n  \
         mkdir -p $HOME/.kube\n  sudo cp -i {conf} $HOME/.kube/config\n  sudo chown $(id -u):$(id -g) $HOME/.kube/config\n\n\
         Alternatively, if you are the root user, you can run:\n\n  export KUBECONFIG={conf}\n",
        conf = names::ADMIN_CONF
    ));
    if let (Some(key), false) = (phases::upload_certs::made_key(cx)?, wish.skip_certificate_key_print) {
        print(&format!("The certificate key for further control planes, valid for two hours:\n\n  {}\n", key.expose()));
    }
    if wish.skip_token_print {
        return Ok(());
    }
    let token = bootstrap_token(cx, wish).await?;
    let hash = cx.ledger.cluster().map(|cluster| cluster.ca_cert_hash).unwrap_or_default();
    let endpoint = match &cx.node.cluster.control_plane_endpoint {
        Some(endpoint) => endpoint.to_string(),
        None => config::node::Endpoint { host: cx.advertise_address()?.to_string(), port: cx.node.bind_port }.to_string(),
    };
    print("Then you can join any number of worker nodes by running the following on each as root:\n");
    print(&token::join_command(&endpoint, &token, &[hash], None));
    Ok(())
}

/// The configured token, or one that is made now through admin.conf.
async fn bootstrap_token(cx: &Context, wish: &InitWish) -> Result<config::node::Token> {
    if let Some(configured) = cx.node.bootstrap_tokens.first() {
        return Ok(configured.token.clone());
    }
    let made = BootstrapToken {
        token: token::random_token()?,
        description: "made by edgeboot init for its join command".to_owned(),
        ttl: wish.token_ttl,
        usages: vec!["signing".to_owned(), "authentication".to_owned()],
        groups: vec![names::GROUP_BOOTSTRAPPERS.to_owned()],
    };
    phases::bootstrap_token::create_token(cx, &made).await?;
    Ok(made.token)
}
