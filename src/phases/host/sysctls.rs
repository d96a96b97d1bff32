//! Sysctls: forwarding, what the packet filter sees, and what the configuration adds.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{modules, run_again};
use crate::engine::context::Context;
use crate::engine::file::File;
use crate::engine::phase::{Action, Change, Drift, Subject};
use crate::engine::state::Effect;
use crate::error::{Error, Result};
use crate::host::kernel::{self, Module, plain_value, sysctl_path};
use crate::k8s::names;

/// Sets what sysctl.d says.
const SETTER: &str = "systemd-sysctl.service";
/// Where sysctl.d(5) looks; a file's name decides, not its folder.
const FOLDERS: &[&str] = &["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d"];

const FORWARDING: &[&str] = &["net.ipv4.ip_forward"];
const FORWARDING_IPV6: &[&str] = &["net.ipv6.conf.all.forwarding", "net.ipv6.conf.default.forwarding"];
const BRIDGE: &[&str] = &["net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"];

fn wished(cx: &Context) -> Result<BTreeMap<String, String>> {
    let cluster = &cx.node.cluster;
    let mut wished = BTreeMap::new();
    let mut on = |keys: &[&str]| wished.extend(keys.iter().map(|key| ((*key).to_owned(), "1".to_owned())));
    on(FORWARDING);
    if cluster.service_subnets.iter().chain(&cluster.pod_subnets).any(|subnet| subnet.network().is_ipv6()) {
        on(FORWARDING_IPV6);
    }
    if has_bridge_filter(cx)? {
        on(BRIDGE);
    }
    wished.extend(cx.node.host.sysctls.iter().map(|(key, value)| (key.clone(), plain_value(value))));
    Ok(wished)
}

/// Whether the bridge's sysctls are there, or will be once the module is loaded.
fn has_bridge_filter(cx: &Context) -> Result<bool> {
    let root = &cx.host.root;
    if root.exists(sysctl_path(BRIDGE[0]))? {
        return Ok(true);
    }
    Ok(kernel::module(root, modules::BRIDGE_FILTER)? != Module::Present && !modules::is_known_absent(cx, modules::BRIDGE_FILTER)?)
}

fn file(wished: &BTreeMap<String, String>) -> File {
    let mut text = "# What Kubernetes needs; written by edgeboot. Add yours under `host: {sysctls: {…}}`.\n".to_owned();
    for (key, value) in wished {
        let _ = writeln!(text, "{key} = {value}");
    }
    File::text(names::SYSCTL_FILE, 0o644, text)
}

/// Keys whose value is another one, and that value; `None` where this kernel does not have the key.
fn wrong(cx: &Context, wished: &BTreeMap<String, String>) -> Result<Vec<(String, Option<String>)>> {
    let mut wrong = Vec::new();
    for (key, value) in wished {
        let now = kernel::sysctl(&cx.host.root, key)?;
        if now.as_deref() != Some(value) {
            wrong.push((key.clone(), now));
        }
    }
    Ok(wrong)
}

pub(super) fn inspect(cx: &Context) -> Result<Drift> {
    let wished = wished(cx)?;
    let mut drift = cx.compare(&[file(&wished)])?;
    // Somebody who keeps our file as their own says which values it sets.
    if drift.kept.is_empty() {
        drift.changes.extend(wrong(cx, &wished)?.into_iter().map(|(key, now)| {
            let now = now.unwrap_or_else(|| "absent".to_owned());
            Change::new(Subject::Sysctl(key), Action::Update).because(format!("it is {now}"))
        }));
    }
    Ok(drift)
}

pub(super) async fn apply(cx: &Context) -> Result<()> {
    let wished = wished(cx)?;
    let file = file(&wished);
    if !cx.compare(std::slice::from_ref(&file))?.kept.is_empty() {
        return Ok(());
    }
    let wrong_before = wrong(cx, &wished)?;
    let priors = wrong_before.iter().filter_map(|(key, now)| Some(Effect::Sysctl { key: key.clone(), prior: now.clone()? }));
    cx.note_all(priors.collect()).await?;
    cx.place(vec![file]).await.map(drop)?;
    if wrong_before.is_empty() {
        return Ok(());
    }
    let failure = run_again(cx, SETTER).await;
    let wrong = wrong(cx, &wished)?;
    if wrong.is_empty() { Ok(()) } else { Err(refused(cx, &wrong, failure)) }
}

fn refused(cx: &Context, wrong: &[(String, Option<String>)], failure: Option<String>) -> Error {
    let spoken = |(key, now): &(String, Option<String>)| match now {
        Some(now) => format!("{key} stays {now}"),
        None => format!("this kernel has no {key}"),
    };
    let list = wrong.iter().map(spoken).collect::<Vec<_>>().join(", ");
    let why = match failure {
        Some(failure) => format!("{list} ({failure})"),
        None => list,
    };
    let error = Error::host("setting sysctls").because(why);
    match wrong.iter().find_map(|(key, _)| contradiction(cx, key)) {
        Some(path) => error.hint(format!("{path} is read after {} and sets another value: take it out there", names::SYSCTL_FILE)),
        None => error.hint(format!("`systemctl status {SETTER}` says why; {} says what was wanted", names::SYSCTL_FILE)),
    }
}

/// A file that is read after ours and names the key.
fn contradiction(cx: &Context, key: &str) -> Option<String> {
    let root = &cx.host.root;
    let ours = names::SYSCTL_FILE.rsplit('/').next()?;
    let later = FOLDERS.iter().flat_map(|folder| {
        let files = root.list(folder).ok().flatten().unwrap_or_default();
        files.into_iter().filter(|name| name.as_str() > ours).map(move |name| format!("{folder}/{name}"))
    });
    let names_it = |path: &String| {
        let text = root.read_text(path).ok().flatten().unwrap_or_default();
        text.lines()
            .filter_map(|line| line.split_once('='))
            .any(|(name, _)| sysctl_path(name.trim().trim_start_matches('-')) == sysctl_path(key))
    };
    later.into_iter().find(names_it)
}
