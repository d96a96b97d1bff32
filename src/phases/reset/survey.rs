//! What is to be undone, decided before anything is touched: by the ledger what we wrote and nobody has changed, by kubeadm's rules what
//! the kubelet and etcd have made of it. A dry run prints it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Options, left};
use crate::config::sources::recorded::{RECORDED, is_recorded_credential};
use crate::engine::file::empty;
use crate::engine::ledger::{digest, kept_path};
use crate::engine::phase::{Kept, Subject};
use crate::engine::state::{Before, Effect, State};
use crate::error::Result;
use crate::host::root::FileType;
use crate::host::{Root, Utf8Path, Utf8PathBuf, kernel};
use crate::k8s::{names, units};

/// The kubeconfigs that kubeadm's reset deletes (`cmd/phases/reset/cleanupnode.go`).
const KUBECONFIGS: [&str; 6] = [
    names::ADMIN_CONF,
    names::SUPER_ADMIN_CONF,
    names::KUBELET_CONF,
    names::BOOTSTRAP_KUBELET_CONF,
    names::CONTROLLER_MANAGER_CONF,
    names::SCHEDULER_CONF,
];
/// What the kubelet, the network plugins and flannel leave behind; kubeadm leaves it.
const TRACES: [&str; 7] = [
    "/var/log/containers",
    "/var/log/pods",
    "/var/lib/cni/networks/edgeboot",
    "/var/lib/cni/networks/cbr0",
    "/var/lib/cni/flannel",
    "/run/flannel",
    names::JOIN_DIR,
];
/// Results of the network plugins, beside those of others: they begin with the network's name.
const RESULTS: &str = "/var/lib/cni/results";
/// What flannel's pod places by itself.
const FLANNEL: &str = "/etc/cni/net.d/10-flannel.conflist";
/// The network plugin that it places beside.
const FLANNEL_PLUGIN: &str = "flannel";
/// Folders that are made on the way to a file; an empty one goes.
const FOLDERS: [&str; 22] = [
    "/etc/kubernetes/pki/etcd",
    names::PKI_DIR,
    names::MANIFESTS_DIR,
    names::KUBERNETES_STAGING_DIR,
    names::KUBERNETES_DIR,
    names::CNI_CONF_DIR,
    "/etc/cni",
    names::CONTAINERD_CONFIG_DIR,
    "/etc/containerd",
    "/etc/systemd/system/kubelet.service.d",
    "/etc/systemd/system/cri-containerd-.scope.d",
    "/etc/systemd/system.conf.d",
    "/var/lib/cni/networks",
    RESULTS,
    "/var/lib/cni",
    names::CNI_BIN,
    "/opt/cni",
    names::KEPT_DIR,
    names::CREDENTIALS_DIR,
    "/var/lib/edgeboot/recorded",
    "/var/lib/edgeboot/bin",
    names::PACKAGES_DIR,
];

/// What containerd makes when it starts (its `opt` plugin), where it is ours.
const OF_CONTAINERD: [&str; 3] = ["/opt/containerd/bin", "/opt/containerd/lib", "/opt/containerd"];

/// Folders that are never removed: of the OS, and edgeboot's own.
const OF_THE_OS: [&str; 9] = [
    "/etc/modules-load.d",
    "/etc/profile.d",
    "/etc/sysctl.d",
    "/etc/systemd",
    "/etc/systemd/system",
    "/etc/tmpfiles.d",
    "/run/edgeboot",
    "/var/lib",
    names::EDGEBOOT_DIR,
];

/// A file that stood where we wrote, and is put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutBack {
    /// Where.
    pub path: Utf8PathBuf,
    /// Its copy, which goes afterwards.
    pub copy: Utf8PathBuf,
}

/// Everything that is to be undone on this machine.
#[derive(Debug, Default)]
pub struct Work {
    /// Units that we enabled: stopped and disabled.
    pub units: Vec<String>,
    /// Sysctls and their values of before.
    pub sysctls: Vec<(String, String)>,
    /// The machine's name of before.
    pub hostname: Option<String>,
    /// Mounts of ours, besides those below the kubelet's folder.
    pub mounts: Vec<Utf8PathBuf>,
    /// Files that are put back.
    pub put_back: Vec<PutBack>,
    /// Files and links that are removed.
    pub remove: Vec<Utf8PathBuf>,
    /// Folders that are emptied, and removed where they can be.
    pub clear: Vec<Utf8PathBuf>,
    /// Folders that are removed if nothing is in them, the inner ones first.
    pub prune: Vec<Utf8PathBuf>,
    /// edgeboot's own units and program, on a host where nothing was baked.
    pub placed: Vec<Utf8PathBuf>,
    /// What others made or changed.
    pub left: Vec<Kept>,
}

/// What becomes of a file of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Done,
    Remove,
    PutBack,
    Left,
}

/// `copy` is what stood there before us, as long as it was not put back.
fn fate(standing: Option<&[u8]>, ours: &[String], before: Before, copy: Option<&[u8]>) -> Fate {
    let is_ours = |bytes: &[u8]| empty(bytes) || ours.contains(&digest(bytes));
    match (standing, before, copy) {
        // Cut between the file and its copy, or taken away by somebody: either way it is to stand there again.
        (None, Before::Kept, Some(_)) => Fate::PutBack,
        (Some(standing), Before::Kept, Some(copy)) if standing == copy || is_ours(standing) => Fate::PutBack,
        // It was put back.
        (None, ..) | (Some(_), Before::Kept, None) => Fate::Done,
        (Some(standing), Before::Absent, _) if is_ours(standing) => Fate::Remove,
        (Some(_), ..) => Fate::Left,
    }
}

/// Whether kubeadm's reset removes a file, whoever changed it.
fn is_kubeadms(path: &Utf8Path) -> bool {
    KUBECONFIGS.iter().any(|kubeconfig| path == *kubeconfig)
        || [names::MANIFESTS_DIR, names::PKI_DIR, names::KUBELET_DIR].iter().any(|folder| path.starts_with(folder))
}

/// Looks at the machine.
pub(super) fn survey(root: &Root, state: &State, has_ledger: bool, options: &Options) -> Result<Work> {
    let mut work = Work::default();
    for effect in state.phases.values().rev().flat_map(|record| record.effects.iter().rev()) {
        undo(root, effect, &mut work)?;
    }
    by_kubeadms_rules(root, has_ledger, options, &mut work)?;
    traces(root, &mut work)?;
    placed(root, &mut work)?;
    keep_first(&mut work.remove);
    keep_first(&mut work.clear);
    keep_first(&mut work.units);
    let folders = work.remove.iter().filter_map(|path| path.parent()).filter(|folder| is_made_by_us(folder));
    let mut prune: Vec<Utf8PathBuf> = folders.map(Utf8Path::to_owned).collect();
    prune.extend(FOLDERS.iter().map(Utf8PathBuf::from));
    if work.units.iter().any(|unit| unit == names::CONTAINERD_UNIT) {
        prune.extend(OF_CONTAINERD.iter().map(Utf8PathBuf::from));
    }
    keep_first(&mut prune);
    prune.sort_by_key(|folder| std::cmp::Reverse(folder.components().count()));
    work.prune = prune;
    Ok(work)
}

/// What one effect leaves to do.
fn undo(root: &Root, effect: &Effect, work: &mut Work) -> Result<()> {
    match effect {
        Effect::File { path, ours, before } => undo_file(root, path, ours, *before, work)?,
        Effect::Link { path, ours } => match root.read_link(path)? {
            Some(target) if ours.iter().any(|ours| *ours == target) => work.remove.push(path.clone()),
            None if !root.exists(path)? => {}
            _ if is_kubeadms(path) => {}
            _ => work.left.push(left(Subject::File(path.to_string()), "changed by somebody else")),
        },
        // The packages stay: the next init or join needs no source for them.
        Effect::Dir { path } if path.starts_with(names::PACKAGES_DIR) || path == names::MANIFESTS_DIR => {}
        Effect::Dir { path } => work.clear.push(path.clone()),
        Effect::Unit { name, was_enabled: false } => work.units.push(name.clone()),
        Effect::Sysctl { key, prior } => work.sysctls.push((key.clone(), prior.clone())),
        Effect::Hostname { ours, prior } => match kernel::static_hostname(root)? {
            now if now == *ours => work.hostname = Some(prior.clone()),
            now if now == *prior => {}
            now => {
                let subject = Subject::Other("hostname".to_owned());
                work.left.push(left(subject, format!("set to '{now}' by somebody else; it was '{prior}'")));
            }
        },
        Effect::Mount { path } => work.mounts.push(path.clone()),
        Effect::Unknown(noted) => {
            let subject = Subject::Other(noted["effect"].as_str().unwrap_or("an effect without a name").to_owned());
            work.left.push(left(subject, "noted by another version of edgeboot, which knows how to undo it"));
        }
        // Images stay as the packages do; objects and members are the cluster's.
        Effect::Unit { was_enabled: true, .. } | Effect::Image { .. } | Effect::Object { .. } | Effect::Member { .. } => {}
    }
    Ok(())
}

fn undo_file(root: &Root, path: &Utf8Path, ours: &[String], before: Before, work: &mut Work) -> Result<()> {
    let subject = Subject::File(path.to_string());
    if root.metadata(path)?.is_some_and(|there| !matches!(there.file_type, FileType::File | FileType::Link)) {
        work.left.push(left(subject, "it is no file any more"));
        return Ok(());
    }
    let (standing, kept) = (root.read(path)?, kept_path(path));
    let copy = if before == Before::Kept { root.read(&kept)? } else { None };
    match fate(standing.as_deref(), ours, before, copy.as_deref()) {
        Fate::Done => {}
        Fate::Remove => work.remove.push(path.to_owned()),
        Fate::PutBack => work.put_back.push(PutBack { path: path.to_owned(), copy: kept }),
        Fate::Left if is_kubeadms(path) => work.remove.push(path.to_owned()),
        Fate::Left if copy.is_some() => {
            work.left.push(left(subject, format!("changed by somebody else; what stood there before edgeboot is in {kept}")));
        }
        Fate::Left => work.left.push(left(subject, "changed by somebody else")),
    }
    Ok(())
}

/// The kubelet's folder, etcd's data, the kubeconfigs; the folders of the manifests and certificates as far as they are ours.
fn by_kubeadms_rules(root: &Root, has_ledger: bool, options: &Options, work: &mut Work) -> Result<()> {
    work.clear.push(names::KUBELET_DIR.into());
    work.clear.extend(etcd_data_dir(root)?);
    for path in KUBECONFIGS {
        if root.exists(path)? && !work.put_back.iter().any(|put_back| put_back.path == path) {
            work.remove.push(path.into());
        }
    }
    for folder in [names::MANIFESTS_DIR, names::PKI_DIR] {
        if !has_ledger {
            work.clear.push(folder.into());
        } else if options.certificates_dir.as_deref() != Some(Utf8Path::new(folder)) {
            others(root, Utf8Path::new(folder), work)?;
        }
    }
    work.clear.extend(options.certificates_dir.clone());
    if options.cleanup_tmp_dir {
        work.clear.push(names::KUBERNETES_STAGING_DIR.into());
    }
    Ok(())
}

/// What is in one of kubeadm's folders that the ledger does not name: it is somebody else's.
fn others(root: &Root, folder: &Utf8Path, work: &mut Work) -> Result<()> {
    for name in root.list(folder)?.unwrap_or_default() {
        let path = folder.join(name);
        if root.metadata(&path)?.is_some_and(|there| there.file_type == FileType::Dir) {
            others(root, &path, work)?;
        } else if !work.remove.contains(&path) {
            let remedy = if path.starts_with(names::PKI_DIR) {
                format!("not edgeboot's; `edgeboot reset --cert-dir {}` empties the folder", names::PKI_DIR)
            } else {
                "not edgeboot's".to_owned()
            };
            work.left.push(left(Subject::File(path.into_string()), remedy));
        }
    }
    Ok(())
}

/// Where etcd's manifest says that its data is (kubeadm's `getEtcdDataDir`); without a manifest there is no etcd of the cluster's here.
fn etcd_data_dir(root: &Root) -> Result<Option<Utf8PathBuf>> {
    let manifest = root.read(format!("{}/etcd.yaml", names::MANIFESTS_DIR))?.unwrap_or_default();
    let Ok(pod) = serde_saphyr::from_slice::<Value>(&manifest) else { return Ok(None) };
    let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array);
    let data = volumes.into_iter().flatten().find(|volume| volume["name"] == "etcd-data");
    let path = data.and_then(|volume| volume.pointer("/hostPath/path")).and_then(Value::as_str);
    Ok(path.filter(|path| path.len() > 1 && path.starts_with('/')).map(Utf8PathBuf::from))
}

fn traces(root: &Root, work: &mut Work) -> Result<()> {
    for path in TRACES {
        if root.exists(path)? {
            work.clear.push(path.into());
        }
    }
    for (folder, is_ours) in [
        (RESULTS, (|name| name.starts_with("edgeboot-") || name.starts_with("cbr0-")) as fn(&str) -> bool),
        (names::KUBERNETES_STAGING_DIR, is_temporary),
        ("/run/edgeboot", |name| name.ends_with("-is-stale")),
        (names::CREDENTIALS_DIR, is_recorded_credential),
    ] {
        let names = root.list(folder)?.unwrap_or_default();
        work.remove.extend(names.iter().filter(|name| is_ours(name)).map(|name| Utf8Path::new(folder).join(name)));
    }
    flannel_plugin(root, work)?;
    for path in [FLANNEL, RECORDED] {
        if root.exists(path)? {
            work.remove.push(path.into());
        }
    }
    // What a cut left where files were being placed.
    let of_the_os = OF_THE_OS.iter().chain(&FOLDERS).map(Utf8PathBuf::from);
    let folders: BTreeSet<Utf8PathBuf> =
        work.remove.iter().filter_map(|path| path.parent()).map(Utf8Path::to_owned).chain(of_the_os).collect();
    for folder in folders {
        let names = root.list(&folder)?.unwrap_or_default();
        work.remove.extend(names.iter().filter(|name| is_temporary(name)).map(|name| folder.join(name)));
    }
    Ok(())
}

/// flannel's pod copies its plugin to where others install theirs; it is known for ours by its content.
fn flannel_plugin(root: &Root, work: &mut Work) -> Result<()> {
    let [placed, packaged] = [names::CNI_BIN, names::PACKAGE_CNI_BIN].map(|folder| Utf8Path::new(folder).join(FLANNEL_PLUGIN));
    let Some(standing) = root.read(&placed)? else { return Ok(()) };
    let is_ours = empty(&standing) || root.read(&packaged)?.is_some_and(|packaged| packaged == standing);
    if is_ours {
        work.remove.push(placed);
    } else if root.exists(FLANNEL)? {
        work.left.push(left(Subject::File(placed.into_string()), "not the plugin of edgeboot's package"));
    }
    Ok(())
}

fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".edgeboot")
}

/// edgeboot itself, where `init` or `join` placed it. The unit that tells is the last to go.
fn placed(root: &Root, work: &mut Work) -> Result<()> {
    let mark = format!("{}/edgeboot-reconcile.service", units::UNIT_DIR);
    if !root.read_text(&mark)?.is_some_and(|text| text.contains(names::PLACED_BINARY)) {
        return Ok(());
    }
    let mut paths: Vec<Utf8PathBuf> =
        units::edgeboot_units(names::PLACED_BINARY).into_iter().map(|unit| unit.path.into()).collect();
    paths.push(names::PLACED_BINARY.into());
    paths.retain(|path| *path != mark);
    paths.push(mark.into());
    work.placed = paths;
    Ok(())
}

/// Whether an empty folder of this name was made for a file of ours. Those of the OS have names that every Linux has.
fn is_made_by_us(folder: &Utf8Path) -> bool {
    folder.components().count() > 2 && !OF_THE_OS.iter().any(|other| folder == *other)
}

fn keep_first<T: Clone + Ord>(list: &mut Vec<T>) {
    let mut seen = BTreeSet::new();
    list.retain(|item| seen.insert(item.clone()));
}

impl Work {
    /// For a dry run: a line for each thing.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.units.iter().map(|unit| format!("stop and disable {unit}")).collect();
        lines.extend(self.mounts.iter().map(|path| format!("unmount {path}")));
        lines.extend(self.sysctls.iter().map(|(key, prior)| format!("set {key} back to {prior}")));
        lines.extend(self.hostname.iter().map(|name| format!("name the machine '{name}' again")));
        lines.extend(self.clear.iter().map(|path| format!("empty {path}")));
        lines.extend(self.put_back.iter().map(|put_back| format!("put back {}", put_back.path)));
        lines.extend(self.remove.iter().chain(&self.placed).map(|path| format!("remove {path}")));
        lines.extend(self.left.iter().map(|kept| format!("leave {}: {}", kept.subject, kept.difference)));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_of_a_file_follows_from_what_stands_there() {
        type Row = (Option<&'static [u8]>, Before, Option<&'static [u8]>, Fate);
        let ours = [digest(b"ours")];
        let table: [Row; 10] = [
            (None, Before::Absent, None, Fate::Done),
            (Some(b"ours"), Before::Absent, None, Fate::Remove),
            (Some(b""), Before::Absent, None, Fate::Remove),
            (Some(b"theirs"), Before::Absent, None, Fate::Left),
            (Some(b"ours"), Before::Kept, Some(b"before"), Fate::PutBack),
            (Some(b"before"), Before::Kept, Some(b"before"), Fate::PutBack),
            (None, Before::Kept, Some(b"before"), Fate::PutBack),
            (Some(b"theirs"), Before::Kept, Some(b"before"), Fate::Left),
            (Some(b"before"), Before::Kept, None, Fate::Done),
            (None, Before::Kept, None, Fate::Done),
        ];
        for (standing, before, copy, wished) in table {
            assert_eq!(fate(standing, &ours, before, copy), wished, "{standing:?} {before:?} {copy:?}");
        }
    }

    #[test]
    fn flannels_plugin_goes_where_it_is_the_packages_and_is_named_where_flannel_was() {
        let placed = "/opt/cni/bin/flannel";
        for (standing, was_here, goes, named) in [
            (None, true, false, false),
            (Some(b"the plugin"), true, true, false),
            (Some(b"the plugin"), false, true, false),
            (Some(b"another :("), true, false, true),
            (Some(b"another :("), false, false, false),
        ] {
            let machine = crate::host::fake::Machine::new();
            machine.files.bake("/var/lib/edgeboot/packages/current/cni/bin/flannel", 0o755, b"the plugin");
            if let Some(bytes) = standing {
                machine.files.bake(placed, 0o755, bytes);
            }
            if was_here {
                machine.files.bake(FLANNEL, 0o644, b"{}");
            }
            let work = survey(&machine.root(), &State::default(), true, &Options::default()).expect("looked");
            assert_eq!(work.remove.iter().any(|path| path == placed), goes, "{standing:?} {was_here}");
            assert_eq!(work.remove.iter().any(|path| path == FLANNEL), was_here);
            assert_eq!(
                work.left.iter().any(|kept| kept.subject == Subject::File(placed.to_owned())),
                named,
                "{standing:?} {was_here}"
            );
        }
    }

    #[test]
    fn folders_of_the_os_are_not_made_by_us() {
        for (folder, ours) in [
            ("/", false),
            ("/etc", false),
            ("/etc/sysctl.d", false),
            ("/etc/systemd/system", false),
            ("/var/lib/edgeboot", false),
            ("/etc/containerd", true),
            ("/data/kubernetes/pki", true),
        ] {
            assert_eq!(is_made_by_us(Utf8Path::new(folder)), ours, "{folder}");
        }
    }
}
