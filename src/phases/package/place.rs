//! The place where packages are installed: whether programs can live there, and what is cleared away in it.

use std::io::Write as _;

use crate::error::{Error, IoContext, Result};
use crate::host::{Root, Utf8Path, Utf8PathBuf};
use crate::k8s::names;
use crate::package::{Package, paths};

use super::Installed;

/// What is left free beside the package, for state, keys and manifests.
const RESERVE: u64 = 16 << 20;
/// Files take whole blocks.
const BLOCK: u64 = 4096;

/// Refuses, by name, a place where the package does not fit or its programs could not be started.
pub(super) fn check(root: &Root, package: &Package) -> Result<()> {
    let place = nearest(root, Utf8Path::new(names::PACKAGES_DIR))?;
    let space = root.space(&place)?;
    let refused = || Error::host(format!("installing the package under {}", names::PACKAGES_DIR));
    if space.read_only {
        return Err(refused().because(format!("{place} is mounted read-only")).hint("edgeboot needs a writable /var"));
    }
    if space.noexec {
        return Err(refused()
            .because(format!("{place} is mounted noexec, and nothing under it can be started"))
            .hint("mount it without noexec: the container runtime and the kubelet live there"));
    }
    if selinux_forbids(root)? {
        return Err(refused()
            .because("SELinux is enforcing and has no rule for this folder: systemd may not start programs there")
            .hint(format!(
                "label it once: `semanage fcontext -a -t bin_t '{0}(/.*)?' && mkdir -p {0} && restorecon -R {0}`",
                names::PACKAGES_DIR
            )));
    }
    let bytes = package.files.iter().map(|file| file.size.next_multiple_of(BLOCK)).sum::<u64>() + RESERVE;
    if space.bytes < bytes {
        return Err(refused()
            .because(format!("{} MiB are free at {place} and {} MiB are needed", space.bytes >> 20, bytes >> 20))
            .hint("free some space there, then run `edgeboot reconcile`"));
    }
    let folders = paths::folders_of(package.files.iter().map(|file| file.path.as_str())).len();
    let inodes = (package.files.len() + package.links.len() + folders + 16) as u64;
    if space.inodes < inodes {
        return Err(refused()
            .because(format!("{} files can still be made at {place} and {inodes} are needed", space.inodes))
            .hint("remove files there, then run `edgeboot reconcile`"));
    }
    Ok(())
}

/// The folder itself, or the nearest parent that exists.
pub(in crate::phases) fn nearest(root: &Root, path: &Utf8Path) -> Result<Utf8PathBuf> {
    for folder in path.ancestors() {
        if root.metadata(folder)?.is_some() {
            return Ok(folder.to_owned());
        }
    }
    Ok("/".into())
}

/// Whether SELinux is enforcing and its policy says nothing about our folder. What lies below /var/lib is `var_lib_t` then, which
/// systemd may not execute; new files take the label of their folder, so that one rule for the folder is enough.
fn selinux_forbids(root: &Root) -> Result<bool> {
    if root.read_text("/sys/fs/selinux/enforce")?.is_none_or(|text| text.trim() != "1") {
        return Ok(false);
    }
    let config = root.read_text("/etc/selinux/config")?.unwrap_or_default();
    let policy = config.lines().find_map(|line| line.trim().strip_prefix("SELINUXTYPE=")).unwrap_or("targeted").trim();
    for rules in ["file_contexts.local", "file_contexts"] {
        let rules = root.read_text(format!("/etc/selinux/{policy}/contexts/files/{rules}"))?.unwrap_or_default();
        if rules.lines().any(|line| line.starts_with(names::EDGEBOOT_DIR)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Writes the record, durably.
pub(super) fn write_record(root: &Root, path: &Utf8Path, record: &Installed) -> Result<()> {
    let text = serde_json::to_vec_pretty(record).map_err(|error| Error::internal(format!("writing {path}")).because(error))?;
    let mut file = root.create(path, 0o644)?;
    file.write_all(&text).and_then(|()| file.sync()).doing(|| format!("writing {path}"))
}

/// Removes what an installation that was cut off has left.
pub(super) fn remove_left_over(root: &Root) -> Result<()> {
    let packages = Utf8Path::new(names::PACKAGES_DIR);
    let left_over = |name: &String| name.starts_with('.') && [".partial", ".broken"].iter().any(|end| name.ends_with(end));
    for name in root.list(packages)?.unwrap_or_default().into_iter().filter(left_over) {
        root.remove_all(packages.join(name)).map(drop)?;
    }
    Ok(())
}

/// Removes installed packages other than these: the one in use and the one before it, to which an operator may point back.
pub(super) fn remove_older(root: &Root, keep: &[Option<Utf8PathBuf>; 2]) -> Result<()> {
    let packages = Utf8Path::new(names::PACKAGES_DIR);
    let is_package = |name: &str| name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    for name in root.list(packages)?.unwrap_or_default() {
        if is_package(&name) && !keep.iter().flatten().any(|kept| *kept == name) {
            root.remove_all(packages.join(name)).map(drop)?;
        }
    }
    Ok(())
}
