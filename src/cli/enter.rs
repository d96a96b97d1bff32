//! What `init` and `join` have in common: the wish is recorded, systemd does the work, and it is followed to its end; a dry run and a
//! single phase run in place. On a host where nothing was baked, edgeboot places its binary and its units first.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crate::config::node::Node;
use crate::config::sources::Gathered;
use crate::config::sources::kernel_command_line;
use crate::config::sources::recorded::Recording;
use crate::config::{self, Wish};
use crate::engine::context::Context;
use crate::engine::ledger::Ledger;
use crate::engine::phase::{Lasting, PhaseId};
use crate::engine::plan::{Plan, is_within};
use crate::engine::progress::Status;
use crate::engine::run;
use crate::error::{Error, Result};
use crate::host::root::Placement;
use crate::host::{Changed, Deadline, Host, Root};
use crate::k8s::names::{self, PLACED_BINARY};
use crate::k8s::units;
use crate::phases;

use super::listeners::Terminal;
use super::session::{Prepared, PreparedNode, Session, ask_the_machine, require_root, require_systemd, stop_signal};
use super::{Global, Output, follow, plan, print, print_error};

/// The unit that does the work: where an image has it, and where it is placed.
const RECONCILE_UNITS: [&str; 3] = [
    "/usr/lib/systemd/system/edgeboot-reconcile.service",
    "/lib/systemd/system/edgeboot-reconcile.service",
    "/etc/systemd/system/edgeboot-reconcile.service",
];

/// Records what the command was told, lets systemd do the work, and follows it to its end.
pub async fn enter(global: &Global, session: &Session, recording: &Recording) -> Result<Status> {
    let root = &session.host.root;
    require_systemd(root)?;
    refuse_half_a_reset(root)?;
    if kernel_command_line::is_disabled(root) {
        let hint = "take it out there and boot again; nothing was recorded";
        return Err(Error::host("making the machine a node").because(kernel_command_line::DISABLED).hint(hint));
    }
    let placed = place_edgeboot(&session.host).await?;
    if placed.is_yes() {
        print_error(&format!("placed edgeboot at {PLACED_BINARY} and its units in /etc/systemd/system"));
    }
    let recording = recording.groups.clone();
    let tree = root.clone();
    // What follows is recorded: a power cut from here on is carried on by the next boot.
    let _ = session.host.blocking(move || tree.put_groups(&recording)).await?;
    release(&session.host).await?;
    follow::follow(global).await
}

/// Half of what a reset was to remove is no ground to build on.
fn refuse_half_a_reset(root: &Root) -> Result<()> {
    let (ledger, _) = Ledger::load(root)?;
    if !phases::reset::is_under_way(&ledger.state()) {
        return Ok(());
    }
    Err(Error::host("making the machine a node again")
        .because("a reset of it has begun and not come to its end")
        .hint("run `edgeboot reset` again, and then this"))
}

/// An explicit init or join is the answer to a machine that `reset` holds, or whose cluster is gone.
pub async fn release(host: &Host) -> Result<()> {
    let (ledger, _) = Ledger::load(&host.root)?;
    let state = ledger.state();
    let gone = state.cluster.is_some() && phases::cluster::is_gone(&host.root)?;
    if state.held || gone {
        ledger.forget_cluster();
        ledger.save(host).await?;
    }
    Ok(())
}

/// Says what would be done.
pub async fn dry_run(session: &Session, told: &[Gathered]) -> Result<ExitCode> {
    let prepared = prepare(session, told)?;
    let table = phases::table();
    let looked = run::look(&prepared.cx, &prepared.plan(&table)?).await?;
    print(&plan::render(&looked));
    Ok(ExitCode::SUCCESS)
}

fn prepare(session: &Session, told: &[Gathered]) -> Result<Box<PreparedNode>> {
    match session.prepare(told, &[])? {
        Prepared::Node(prepared) => Ok(prepared),
        Prepared::Held => Err(Error::host("preparing the node")
            .because("a reset holds this machine")
            .hint("`edgeboot init` or `edgeboot join`, without --dry-run, makes it a node again")),
        Prepared::Unconfigured(why, _) => Err(Error::config("preparing the node").because(why)),
    }
}

/// What ran alone.
#[derive(Debug)]
pub struct Ran {
    /// The phases.
    pub ids: Vec<PhaseId>,
    /// What they saw.
    pub cx: Context,
}

/// One phase alone. What the machine tells is asked first, because a phase may be made from it.
pub async fn single(global: &Global, words: &[String], told: impl Fn(&Root) -> Result<Vec<Gathered>>) -> Result<Ran> {
    let id = phase_id(words);
    let root = Root::machine()?;
    let told = told(&root)?;
    // What `edgeboot status` shows is the last whole run; a phase alone does not stand in for one.
    let session = Session::open(|_| match global.output {
        Output::Text => vec![Box::new(Terminal::default())],
        Output::Json | Output::Yaml => Vec::new(),
    })?;
    let prepared = if let Some(node) = for_elsewhere(&root, &told, &id)? {
        let cx = Context::new(session.host.clone(), Arc::new(node), Ledger::apart(), session.progress.clone(), vec![]);
        Box::new(PreparedNode { cx })
    } else {
        require_root(&root, "running a phase")?;
        prepare(&session, &told)?
    };
    let table = phases::table();
    ask_the_machine(&prepared.cx).await;
    let plan = Plan::single(&table, &prepared.cx.node, &id)?;
    for step in plan.steps.iter().filter(|step| step.phase.lasting() == Lasting::Once) {
        // What expires by design was perhaps done before; who names it wants it now.
        prepared.cx.ledger.forget_record(step.phase.id());
    }
    session.run(&prepared.cx, &plan, stop_signal()?).await?;
    Ok(Ran { ids: plan.ids(), cx: prepared.cx.clone() })
}

/// Certificates in a folder that is not this machine's are for an image or another machine: neither the cluster that is here nor this
/// machine's memory has to do with them.
fn for_elsewhere(root: &Root, told: &[Gathered], id: &str) -> Result<Option<Node>> {
    if !is_within(id, "certs") {
        return Ok(None);
    }
    let Wish::Node { node, .. } = config::load(root, told)?.wish else { return Ok(None) };
    let own = match config::load(root, &[])?.wish {
        Wish::Node { node, .. } => node.cluster.certificates_dir,
        Wish::Nothing { .. } => names::PKI_DIR.into(),
    };
    Ok((node.cluster.certificates_dir != own).then_some(*node))
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
