//! Kernel modules. What a kernel has built in counts as loaded, however that shows.

use std::fmt::Write as _;

use super::run_again;
use crate::engine::context::Context;
use crate::engine::file::File;
use crate::engine::phase::{Action, Change, Drift, Subject};
use crate::engine::state::AbsentModules;
use crate::error::{Error, Result};
use crate::host::kernel::{self, Module};
use crate::k8s::names;

/// Loads what modules-load.d says.
const LOADER: &str = "systemd-modules-load.service";
/// Container images are stacks of layers.
const OVERLAY: &str = "overlay";
/// Lets the packet filter see what crosses a bridge.
pub(super) const BRIDGE_FILTER: &str = "br_netfilter";
/// Services are address translation.
const CONNECTION_TRACKING: &str = "nf_conntrack";

/// A module that is wished for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wish {
    name: String,
    /// Without it nothing works; otherwise its absence is said and no more.
    needed: bool,
}

fn wishes(cx: &Context) -> Vec<Wish> {
    let ours = [(OVERLAY, true), (BRIDGE_FILTER, false), (CONNECTION_TRACKING, false)];
    let mut wishes: Vec<Wish> = ours.map(|(name, needed)| Wish { name: name.to_owned(), needed }).into();
    for name in &cx.node.host.modules {
        let name = name.replace('-', "_");
        match wishes.iter_mut().find(|wish| wish.name == name) {
            Some(wish) => wish.needed = true,
            None => wishes.push(Wish { name, needed: true }),
        }
    }
    wishes
}

/// Whether this module was tried for with this kernel, and could not be had.
pub(super) fn is_known_absent(cx: &Context, name: &str) -> Result<bool> {
    let Some(absent) = cx.facts().absent_modules else { return Ok(false) };
    Ok(absent.names.iter().any(|absent| absent == name) && absent.kernel == kernel::release(&cx.host.root)?)
}

/// Those that do not work yet, without those that cannot be had.
fn missing(cx: &Context) -> Result<Vec<Wish>> {
    let mut missing = Vec::new();
    for wish in wishes(cx) {
        if kernel::module(&cx.host.root, &wish.name)? != Module::Present && !is_known_absent(cx, &wish.name)? {
            missing.push(wish);
        }
    }
    Ok(missing)
}

/// One line for each module. An optional one that this kernel does not have is left out: systemd's unit would fail on it at every boot.
fn file(cx: &Context) -> Result<File> {
    let mut text =
        "# Kernel modules that Kubernetes needs; written by edgeboot. Add yours under `host: {modules: […]}`.\n".to_owned();
    for wish in wishes(cx) {
        if wish.needed || !is_known_absent(cx, &wish.name)? {
            let _ = writeln!(text, "{}", wish.name);
        }
    }
    Ok(File::text(names::MODULES_FILE, 0o644, text))
}

pub(super) fn inspect(cx: &Context) -> Result<Drift> {
    let mut drift = cx.compare(&[file(cx)?])?;
    let loads = missing(cx)?.into_iter().map(|wish| Change::new(Subject::Module(wish.name), Action::Start));
    drift.changes.extend(loads);
    Ok(drift)
}

pub(super) async fn apply(cx: &Context) -> Result<()> {
    cx.place(vec![file(cx)?]).await.map(drop)?;
    if missing(cx)?.is_empty() {
        return Ok(());
    }
    let failure = run_again(cx, LOADER).await;
    let absent = missing(cx)?;
    if absent.is_empty() {
        return Ok(());
    }
    // A module that was asked for may be built in and leave no trace: then systemd found nothing wrong with it.
    let is_fatal = |wish: &&Wish| wish.name == OVERLAY || (wish.needed && failure.is_some());
    if let Some(wish) = absent.iter().find(is_fatal) {
        return Err(refused(cx, &wish.name, failure));
    }
    for wish in absent.iter().filter(|wish| !wish.needed) {
        cx.say(format!("this kernel has no module {}: {}", wish.name, what_is_lost(&wish.name)));
    }
    let kernel = kernel::release(&cx.host.root)?;
    let mut names: Vec<String> = absent.into_iter().map(|wish| wish.name).collect();
    cx.learn(|facts| {
        let known = facts.absent_modules.take().filter(|known| known.kernel == kernel);
        names.extend(known.map(|known| known.names).unwrap_or_default());
        names.sort();
        facts.absent_modules = Some(AbsentModules { kernel, names });
    });
    cx.place(vec![file(cx)?]).await.map(drop)
}

fn refused(cx: &Context, name: &str, failure: Option<String>) -> Error {
    let release = kernel::release(&cx.host.root).unwrap_or_default();
    let why = failure.unwrap_or_else(|| format!("{LOADER} ran, and the module is not there"));
    Error::host(format!("loading the kernel module {name}")).because(why).hint(format!(
        "the kernel {release} must have it, built in or under /usr/lib/modules/{release}; in a container the host must load it"
    ))
}

fn what_is_lost(name: &str) -> &'static str {
    match name {
        BRIDGE_FILTER => "traffic between pods on one bridge does not pass the packet filter, nor Services",
        _ => "Services that need connection tracking do not work unless the kernel has it built in",
    }
}
