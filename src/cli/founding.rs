//! `edgeboot init`: checks its wish in place, records it as a source of the configuration, lets edgeboot-reconcile.service do the work
//! and follows it; then, on a terminal, ends as kubeadm does. `--dry-run` and `init phase` run in place. On a host where nothing was
//! baked it places the binary and the units first, and says so.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::config::node::{BootstrapToken, Node};
use crate::config::{self, Wish};
use crate::engine::context::Context;
use crate::engine::ledger::Ledger;
use crate::engine::phase::{Lasting, Phase as _};
use crate::engine::plan::Plan;
use crate::engine::progress::{RunResult, Status};
use crate::engine::run;
use crate::error::{Error, Result};
use crate::host::root::Placement;
use crate::host::{Changed, Deadline, Host, Root};
use crate::k8s::{names, token, units};
use crate::phases;

use super::init::{Init, InitWish, wish};
use super::session::{Prepared, PreparedNode, Session, ask_the_machine, require_root, stop_signal};
use super::{Global, failed, follow, plan, print, print_error, reconcile};

/// Where edgeboot lies on a host where nothing was baked.
const PLACED_BINARY: &str = "/var/lib/edgeboot/bin/edgeboot";
/// The unit that does the work: where an image has it, and where it is placed.
const RECONCILE_UNITS: [&str; 3] = [
    "/usr/lib/systemd/system/edgeboot-reconcile.service",
    "/lib/systemd/system/edgeboot-reconcile.service",
    "/etc/systemd/system/edgeboot-reconcile.service",
];

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
            Some(InitPart::Phase { id, flags }) => single(global, &id, &flags).await,
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
        return dry_run(&session, flags).await;
    }
    require_systemd(root)?;
    let placed = place_edgeboot(&session.host).await?;
    if placed.is_yes() {
        print_error(&format!("placed edgeboot at {PLACED_BINARY} and its units in /etc/systemd/system"));
    }
    let recording = wish.recording.groups.clone();
    let tree = root.clone();
    // What follows is recorded: a power cut from here on is carried on by the next boot.
    let _ = session.host.blocking(move || tree.put_groups(&recording)).await?;
    release(&session.host).await?;
    let status = follow::follow(global).await?;
    if matches!(status.result, RunResult::Ready | RunResult::Offline) {
        farewell(&session, &wish, &status).await?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(follow::conclude(global, &status))
}

fn require_systemd(root: &Root) -> Result<()> {
    // sd_booted(3): the folder is there exactly when systemd is PID 1.
    if root.metadata("/run/systemd/system")?.is_some() {
        return Ok(());
    }
    Err(Error::host("looking for systemd")
        .because("it does not run here (/run/systemd/system is missing)")
        .hint("edgeboot needs systemd as the service manager; in a container, start it with systemd as PID 1"))
}

/// With a cluster here, init for the same cluster is a reconcile; for another it is refused.
fn refuse_another_cluster(root: &Root, wished: &Node) -> Result<()> {
    let (ledger, _) = Ledger::load(root)?;
    if ledger.cluster().is_none() || ledger.state().held {
        return Ok(());
    }
    let Wish::Node { node: standing, .. } = config::load(root, &[])?.wish else { return Ok(()) };
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
        .hint("`edgeboot reconcile` carries on with the one that is here; `kubeadm reset` ends it"))
}

/// An explicit init is the answer to a machine that `reset` holds, or whose cluster is gone.
async fn release(host: &Host) -> Result<()> {
    let (ledger, _) = Ledger::load(&host.root)?;
    let state = ledger.state();
    let gone = state.cluster.is_some() && phases::cluster::is_gone(&host.root)?;
    if state.held || gone {
        ledger.forget_cluster();
        ledger.save(host).await?;
    }
    Ok(())
}

async fn dry_run(session: &Session, flags: &Init) -> Result<ExitCode> {
    let prepared = prepare(session, flags)?;
    let table = phases::table();
    let looked = run::look(&prepared.cx, &prepared.plan(&table)?).await?;
    print(&plan::render(&looked));
    Ok(ExitCode::SUCCESS)
}

fn prepare(session: &Session, flags: &Init) -> Result<Box<PreparedNode>> {
    let told = flags.told(&session.host.root)?;
    match session.prepare(&told, &[])? {
        Prepared::Node(prepared) => Ok(prepared),
        Prepared::Held => Err(Error::host("preparing the node")
            .because("a reset holds this machine")
            .hint("`edgeboot init` without --dry-run makes it a node again")),
        Prepared::Unconfigured(why) => Err(Error::config("preparing the node").because(why)),
    }
}

/// One phase alone. What the machine tells is asked first, because a phase may be made from it.
async fn single(global: &Global, words: &[String], flags: &Init) -> Result<ExitCode> {
    let id = phase_id(words);
    let session = reconcile::open(global, false)?;
    require_root(&session.host.root, "running a phase")?;
    let prepared = prepare(&session, flags)?;
    let table = phases::table();
    ask_the_machine(&prepared.cx).await;
    let plan = Plan::single(&table, &prepared.cx.node, &id)?;
    for step in plan.steps.iter().filter(|step| step.phase.lasting() == Lasting::Once) {
        // What expires by design was perhaps done before; who names it wants it now.
        prepared.cx.ledger.forget_record(step.phase.id());
    }
    session.run(&prepared.cx, &plan, stop_signal()?).await?;
    if plan.ids().contains(&phases::upload_certs::UploadCerts.id()) && !flags.skip_certificate_key_print {
        // As with kubeadm, the last line is the key: it is what was asked for.
        print_error("the control plane's certificates are in the Secret kube-system/kubeadm-certs for two hours; their key is");
        print(phases::upload_certs::key_in_use(&prepared.cx)?.expose());
    }
    Ok(ExitCode::SUCCESS)
}

/// `certs all` and `certs` are `certs`, `certs apiserver` is `certs/apiserver`.
fn phase_id(words: &[String]) -> String {
    let words: Vec<&str> = words.iter().map(String::as_str).filter(|word| *word != "all").collect();
    words.join("/")
}

/// On a host where nothing was baked: the binary under /var/lib, the units under /etc, enabled.
async fn place_edgeboot(host: &Host) -> Result<Changed> {
    for path in &RECONCILE_UNITS[..2] {
        if host.root.metadata(path)?.is_some() {
            return Ok(Changed::No);
        }
    }
    let binary = crate::host::own_program()?;
    let mut files = vec![Placement { path: PLACED_BINARY.into(), mode: 0o755, bytes: binary }];
    files.extend(units::edgeboot_units(PLACED_BINARY).into_iter().map(|unit| Placement {
        path: unit.path.into(),
        mode: 0o644,
        bytes: unit.text.into_bytes(),
    }));
    let tree = host.root.clone();
    let changed = host.blocking(move || tree.put_groups(&[files])).await?;
    if changed.is_yes() {
        host.systemd.reload().await?;
    }
    let deadline = Deadline::after(Duration::from_secs(30), "edgeboot's units to be enabled");
    for unit in units::edgeboot_enabled_units() {
        let _ = deadline.bound(host.systemd.enable(unit, false)).await??;
    }
    Ok(changed)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_named_as_in_kubeadm() {
        for (words, id) in
            [(&["certs", "all"][..], "certs"), (&["certs", "apiserver"], "certs/apiserver"), (&["etcd/local"], "etcd/local")]
        {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            assert_eq!(phase_id(&words), id);
        }
    }
}
