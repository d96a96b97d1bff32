//! The verbs that are whole and durable when they return: copy, link, make, remove, set a mode. Each answers whether it changed
//! anything.

use std::io;

use super::{FileType, Root, UnmountFlag, Utf8Path, is_absent};
use crate::error::{Error, IoContext, Result};
use crate::host::Changed;
use crate::k8s::names;

impl Root {
    /// Copies a file, atomically and durably, following links at `from`.
    pub fn copy(&self, from: impl AsRef<Utf8Path>, to: impl AsRef<Utf8Path>, mode: u32) -> Result<()> {
        let (from, to) = (from.as_ref(), to.as_ref());
        let doing = || format!("copying {from} to {to}");
        let mut content = self.open(from)?.ok_or_else(|| Error::host(doing()).because("it does not exist"))?;
        self.make_parents(to)?;
        let temporary = self.temporary_for(to)?;
        let mut file = self.create(&temporary, mode)?;
        io::copy(&mut content, &mut file).and_then(|_| file.sync()).doing(doing)?;
        self.show_temporary(&temporary, to)
    }
    /// Makes a directory with `mode` and its missing parents, durably. One that is there keeps its mode.
    pub fn make_dirs(&self, path: impl AsRef<Utf8Path>, mode: u32) -> Result<Changed> {
        let path = path.as_ref();
        if self.is_dir(path)? {
            return Ok(Changed::No);
        }
        self.make_parents(path)?;
        self.files.make_dir(path, mode).doing(|| format!("making the directory {path}"))?;
        self.sync_parent(path)?;
        Ok(Changed::Yes)
    }
    /// Leaves a mark: an empty file for root that says something by being there. Phases that run at once may leave the same one, which
    /// [`Root::put`] and its one temporary for each path could not bear. For /run: it lasts as long as the machine has power.
    pub fn mark(&self, path: impl AsRef<Utf8Path>) -> Result<Changed> {
        let path = path.as_ref();
        self.make_parents(path)?;
        match self.files.create(path, 0o600) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Changed::No),
            made => made.doing(|| format!("leaving the mark {path}")).map(|_| Changed::Yes),
        }
    }
    /// Sets the permission bits, durably; nothing to do when they are so.
    pub fn set_mode(&self, path: impl AsRef<Utf8Path>, mode: u32) -> Result<Changed> {
        let path = path.as_ref();
        if self.metadata(path)?.is_some_and(|there| there.mode == mode) {
            return Ok(Changed::No);
        }
        self.files.set_mode(path, mode).doing(|| format!("setting the mode of {path}"))?;
        self.sync(path)?;
        Ok(Changed::Yes)
    }
    /// Places a symbolic link, atomically and durably, over whatever is there (but not over a directory).
    pub fn link(&self, path: impl AsRef<Utf8Path>, target: impl AsRef<Utf8Path>) -> Result<Changed> {
        let (path, target) = (path.as_ref(), target.as_ref());
        if self.read_link(path)?.as_deref() == Some(target) {
            return Ok(Changed::No);
        }
        self.make_parents(path)?;
        let temporary = self.temporary_for(path)?;
        self.files.symlink(&temporary, target).doing(|| format!("linking {path} to {target}"))?;
        self.show_temporary(&temporary, path)?;
        Ok(Changed::Yes)
    }
    /// Removes a file or link, durably; nothing to do when it is absent.
    pub fn remove(&self, path: impl AsRef<Utf8Path>) -> Result<Changed> {
        let path = path.as_ref();
        match self.files.remove_file(path) {
            Err(error) if is_absent(&error) => return Ok(Changed::No),
            done => done.doing(|| format!("removing {path}"))?,
        }
        self.sync_parent(path)?;
        Ok(Changed::Yes)
    }
    /// Removes whatever is there, with all below it, durably; links are removed, not followed.
    pub fn remove_all(&self, path: impl AsRef<Utf8Path>) -> Result<Changed> {
        let path = path.as_ref();
        match self.metadata(path)? {
            None => return Ok(Changed::No),
            Some(there) if there.file_type == FileType::Dir => self.remove_tree(path)?,
            Some(_) => self.files.remove_file(path).doing(|| format!("removing {path}"))?,
        }
        self.sync_parent(path)?;
        Ok(Changed::Yes)
    }
    /// Removes all that is in a directory, durably, and the directory itself where that can be: not a mount point, nor what a link
    /// leads to. Nothing to do when it is absent.
    pub fn clear(&self, path: impl AsRef<Utf8Path>) -> Result<Changed> {
        let path = path.as_ref();
        let mut changed = Changed::No;
        for name in self.list(path)?.unwrap_or_default() {
            changed = changed.or(self.remove_all(path.join(name))?);
        }
        Ok(changed.or(self.remove_empty(path)?))
    }
    /// Removes a directory, durably, if nothing is in it; whatever else stands there is left alone.
    pub fn remove_empty(&self, path: impl AsRef<Utf8Path>) -> Result<Changed> {
        let path = path.as_ref();
        let is_folder = self.metadata(path)?.is_some_and(|there| there.file_type == FileType::Dir);
        if !is_folder || self.list(path)?.is_some_and(|names| !names.is_empty()) {
            return Ok(Changed::No);
        }
        match self.files.remove_dir(path) {
            // A mount point, or somebody was quicker.
            Err(error) if matches!(error.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::DirectoryNotEmpty) => {
                return Ok(Changed::No);
            }
            removed => removed.doing(|| format!("removing {path}"))?,
        }
        self.sync_parent(path)?;
        Ok(Changed::Yes)
    }
    /// Takes the uppermost mount at a path away; nothing to do where nothing is mounted.
    pub fn unmount(&self, path: impl AsRef<Utf8Path>, how: &[UnmountFlag]) -> Result<Changed> {
        let path = path.as_ref();
        match self.files.unmount(path, how) {
            // EINVAL: it was taken away through a shared peer, as kubeadm has seen it.
            Err(error) if is_absent(&error) || error.kind() == io::ErrorKind::InvalidInput => Ok(Changed::No),
            done => done.doing(|| format!("unmounting {path}")).map(|()| Changed::Yes),
        }
    }
    /// What is in the file, or the names in the directory, is on the disk when this returns.
    pub fn sync(&self, path: impl AsRef<Utf8Path>) -> Result<()> {
        let path = path.as_ref();
        let synced = if self.is_dir(path)? { self.files.sync_dir(path) } else { self.files.sync_file(path) };
        synced.doing(|| format!("flushing {path}"))
    }
}

impl Root {
    fn is_dir(&self, path: &Utf8Path) -> Result<bool> {
        Ok(match self.metadata(path)?.map(|there| there.file_type) {
            Some(FileType::Dir) => true,
            // A link to a directory serves as one.
            Some(FileType::Link) => self.files.list(path).is_ok_and(|names| names.is_some()),
            _ => false,
        })
    }
    fn show_temporary(&self, temporary: &Utf8Path, path: &Utf8Path) -> Result<()> {
        self.rename(temporary, path)?;
        self.sync_parent(path)
    }
    fn sync_parent(&self, path: &Utf8Path) -> Result<()> {
        let parent = path.parent().unwrap_or(Utf8Path::new("/"));
        self.files.sync_dir(parent).doing(|| format!("flushing {parent}"))
    }
    /// Makes the missing parents of `path` and makes them durable, the outermost first.
    pub(super) fn make_parents(&self, path: &Utf8Path) -> Result<()> {
        let mut missing = Vec::new();
        let mut parent = path.parent();
        while let Some(directory) = parent {
            if self.is_dir(directory)? {
                break;
            }
            missing.push(directory);
            parent = directory.parent();
        }
        for directory in missing.iter().rev() {
            match self.files.make_dir(directory, directory_mode(directory)) {
                // Another phase was quicker.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && self.is_dir(directory)? => {}
                made => made.doing(|| format!("making the directory {directory}"))?,
            }
        }
        missing.iter().rev().try_for_each(|directory| self.sync_parent(directory))
    }
    fn remove_tree(&self, directory: &Utf8Path) -> Result<()> {
        for name in self.list(directory)?.unwrap_or_default() {
            let path = directory.join(name);
            let is_dir = self.metadata(&path)?.is_some_and(|there| there.file_type == FileType::Dir);
            if is_dir {
                self.remove_tree(&path)?;
            } else {
                self.files.remove_file(&path).doing(|| format!("removing {path}"))?;
            }
        }
        self.files.remove_dir(directory).doing(|| format!("removing {directory}"))
    }
}

/// The mode of a directory that is made because a file is placed in it. kubeadm keeps the manifests and the kubelet's folder private as
/// well.
fn directory_mode(directory: &Utf8Path) -> u32 {
    const PRIVATE: &[&str] =
        &[names::MANIFESTS_DIR, names::KUBERNETES_STAGING_DIR, names::KEPT_DIR, names::CREDENTIALS_DIR, names::ETCD_DATA_DIR];
    let is_private = directory == names::KUBELET_DIR || PRIVATE.iter().any(|private| directory.starts_with(private));
    if is_private { 0o700 } else { 0o755 }
}
