//! The real file tree, over cap-std: every path is opened relative to the root and cannot leave it. A link with an absolute target
//! (Debian's /var/run, the kubelet's current certificate) means a path inside the root, as it would after chroot(2); the kernel's
//! fast path refuses those, and only then the path is resolved here, link by link.

use std::io::{self, Read, Write};
use std::sync::Mutex;

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, DirBuilder, DirBuilderExt, MetadataExt, OpenOptions, OpenOptionsExt, Permissions, PermissionsExt};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::statvfs::{FsFlags, fstatvfs};

use super::{FileType, Files, Metadata, ReadFile, Space, UnmountFlag, WriteFile, is_absent};
use crate::error::{IoContext, Result};

/// Links that are followed in one path; the kernel's own bound.
const MAX_LINKS: usize = 40;
/// Files that are flushed at the same time, so that the file system's journal is committed once for all of them.
const FLUSHERS: usize = 8;

/// A file tree below a directory.
#[derive(Debug)]
pub(super) struct Tree {
    dir: Dir,
    /// Where it stands: for system calls that take no directory.
    at: Utf8PathBuf,
}

impl Tree {
    pub(super) fn at(path: &str) -> Result<Tree> {
        let dir = Dir::open_ambient_dir(path, ambient_authority()).doing(|| format!("opening the tree {path}"))?;
        Ok(Tree { dir, at: path.into() })
    }

    /// Runs `operation` on the path relative to the root; once more on the resolved path when a link leads out of the root.
    fn on<T>(&self, path: &Utf8Path, last: LastLink, operation: impl Fn(&Utf8Path) -> io::Result<T>) -> io::Result<T> {
        match operation(relative(path)) {
            Err(error) if leads_outside(&error) => operation(relative(&self.resolve(path, last)?)),
            done => done,
        }
    }

    /// The path without links in it, every absolute target taken inside the root.
    fn resolve(&self, path: &Utf8Path, last: LastLink) -> io::Result<Utf8PathBuf> {
        let mut resolved = Utf8PathBuf::new();
        let mut pending: Vec<Utf8PathBuf> = parts(path);
        let mut links = 0;
        while let Some(part) = pending.pop() {
            if part == ".." {
                resolved.pop();
                continue;
            }
            let candidate = resolved.join(part);
            if pending.is_empty() && last == LastLink::Kept {
                return Ok(candidate);
            }
            // Not a link, or nothing there: the operation itself will say what is wrong, if anything is.
            let Some(target) = self.link_target(&candidate) else {
                resolved = candidate;
                continue;
            };
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::ELOOP.into());
            }
            if target.is_absolute() {
                resolved = Utf8PathBuf::new();
            }
            pending.extend(parts(&target));
        }
        Ok(resolved)
    }

    fn link_target(&self, relative: &Utf8Path) -> Option<Utf8PathBuf> {
        Utf8PathBuf::from_path_buf(self.dir.read_link_contents(relative).ok()?).ok()
    }

    fn open_for_reading(&self, path: &Utf8Path) -> io::Result<cap_std::fs::File> {
        self.on(path, LastLink::Followed, |path| self.dir.open(path))
    }
}

/// What becomes of a link that is the last part of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LastLink {
    Followed,
    Kept,
}

/// The parts of a path, the last one first.
fn parts(path: &Utf8Path) -> Vec<Utf8PathBuf> {
    let kept = path.components().filter(|part| matches!(part, Utf8Component::Normal(_) | Utf8Component::ParentDir));
    let mut parts: Vec<_> = kept.map(|part| Utf8PathBuf::from(part.as_str())).collect();
    parts.reverse();
    parts
}

fn relative(path: &Utf8Path) -> &Utf8Path {
    let relative = path.strip_prefix("/").unwrap_or(path);
    if relative.as_str().is_empty() { Utf8Path::new(".") } else { relative }
}

/// cap-std's own refusal, which is no error of the operating system and so has no number.
fn leads_outside(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none()
}

fn absent_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

struct NewFile(cap_std::fs::File);

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl WriteFile for NewFile {
    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }
}

impl Files for Tree {
    fn read(&self, path: &Utf8Path) -> io::Result<Option<Vec<u8>>> {
        let Some(mut file) = absent_is_none(self.open_for_reading(path))? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn open(&self, path: &Utf8Path) -> io::Result<Option<Box<dyn ReadFile>>> {
        let file = absent_is_none(self.open_for_reading(path))?;
        Ok(file.map(|file| Box::new(file) as Box<dyn ReadFile>))
    }

    fn metadata(&self, path: &Utf8Path) -> io::Result<Option<Metadata>> {
        let there = self.on(path, LastLink::Kept, |path| self.dir.symlink_metadata(path));
        let Some(there) = absent_is_none(there)? else { return Ok(None) };
        let kind = there.file_type();
        let file_type = match kind {
            _ if kind.is_file() => FileType::File,
            _ if kind.is_dir() => FileType::Dir,
            _ if kind.is_symlink() => FileType::Link,
            _ => FileType::Other,
        };
        Ok(Some(Metadata { file_type, mode: there.mode() & 0o7777, uid: there.uid(), len: there.len(), modified: there.mtime() }))
    }

    fn list(&self, path: &Utf8Path) -> io::Result<Option<Vec<String>>> {
        let entries = self.on(path, LastLink::Followed, |path| self.dir.read_dir(path));
        let Some(entries) = absent_is_none(entries)? else { return Ok(None) };
        let mut names: Vec<String> =
            entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<io::Result<_>>()?;
        names.sort();
        Ok(Some(names))
    }

    fn read_link(&self, path: &Utf8Path) -> io::Result<Option<Utf8PathBuf>> {
        match self.on(path, LastLink::Kept, |path| self.dir.read_link_contents(path)) {
            Ok(target) => Utf8PathBuf::from_path_buf(target)
                .map(Some)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the target of the link is not UTF-8")),
            // EINVAL: it is not a link.
            Err(error) if is_absent(&error) || error.kind() == io::ErrorKind::InvalidInput => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create(&self, path: &Utf8Path, mode: u32) -> io::Result<Box<dyn WriteFile>> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(mode);
        let file = self.on(path, LastLink::Kept, |path| self.dir.open_with(path, &options))?;
        // The umask may have taken bits away; it never adds any, so that the file was not more open than this at any time.
        file.set_permissions(Permissions::from_mode(mode))?;
        Ok(Box::new(NewFile(file)))
    }

    fn write_in_place(&self, path: &Utf8Path, bytes: &[u8]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true);
        self.on(path, LastLink::Followed, |path| self.dir.open_with(path, &options))?.write_all(bytes)
    }

    fn symlink(&self, path: &Utf8Path, target: &Utf8Path) -> io::Result<()> {
        self.on(path, LastLink::Kept, |path| self.dir.symlink_contents(target, path))
    }

    fn rename(&self, from: &Utf8Path, to: &Utf8Path) -> io::Result<()> {
        match self.dir.rename(relative(from), &self.dir, relative(to)) {
            Err(error) if leads_outside(&error) => {
                let (from, to) = (self.resolve(from, LastLink::Kept)?, self.resolve(to, LastLink::Kept)?);
                self.dir.rename(relative(&from), &self.dir, relative(&to))
            }
            done => done,
        }
    }

    fn remove_file(&self, path: &Utf8Path) -> io::Result<()> {
        self.on(path, LastLink::Kept, |path| self.dir.remove_file(path))
    }

    fn remove_dir(&self, path: &Utf8Path) -> io::Result<()> {
        self.on(path, LastLink::Kept, |path| self.dir.remove_dir(path))
    }

    fn make_dir(&self, path: &Utf8Path, mode: u32) -> io::Result<()> {
        let mut builder = DirBuilder::new();
        builder.mode(mode);
        self.on(path, LastLink::Kept, |path| self.dir.create_dir_with(path, &builder))?;
        self.set_mode(path, mode)
    }

    fn set_mode(&self, path: &Utf8Path, mode: u32) -> io::Result<()> {
        self.open_for_reading(path)?.set_permissions(Permissions::from_mode(mode))
    }

    fn sync_file(&self, path: &Utf8Path) -> io::Result<()> {
        self.open_for_reading(path)?.sync_all()
    }

    fn sync_dir(&self, path: &Utf8Path) -> io::Result<()> {
        self.open_for_reading(path)?.sync_all()
    }

    fn sync_file_system(&self, path: &Utf8Path) -> io::Result<()> {
        Ok(nix::unistd::syncfs(self.open_for_reading(path)?)?)
    }

    fn sync_batch(&self, files: Vec<Box<dyn WriteFile>>) -> io::Result<()> {
        let threads = FLUSHERS.min(files.len());
        let queue = Mutex::new(files);
        let flush = || {
            while let Some(mut file) = queue.lock().expect("no panic while it is held").pop() {
                file.sync()?;
            }
            Ok(())
        };
        if threads < 2 {
            return flush();
        }
        std::thread::scope(|scope| {
            let flushers: Vec<_> = (0..threads).map(|_| scope.spawn(flush)).collect();
            flushers.into_iter().try_for_each(|flusher| flusher.join().expect("flushing does not panic"))
        })
    }

    fn unmount(&self, path: &Utf8Path, how: &[UnmountFlag]) -> io::Result<()> {
        let flag = |flag: &UnmountFlag| match flag {
            UnmountFlag::Force => MntFlags::MNT_FORCE,
            UnmountFlag::Detach => MntFlags::MNT_DETACH,
            UnmountFlag::Expire => MntFlags::MNT_EXPIRE,
            UnmountFlag::NoFollow => MntFlags::UMOUNT_NOFOLLOW,
        };
        let flags = how.iter().map(flag).collect();
        Ok(umount2(self.at.join(relative(path)).as_std_path(), flags)?)
    }

    fn space(&self, path: &Utf8Path) -> io::Result<Space> {
        let there = fstatvfs(self.open_for_reading(path)?)?;
        let flags = there.flags();
        Ok(Space {
            bytes: there.blocks_available() * there.fragment_size(),
            inodes: if there.files() == 0 { u64::MAX } else { there.files_free() },
            noexec: flags.contains(FsFlags::ST_NOEXEC),
            read_only: flags.contains(FsFlags::ST_RDONLY),
        })
    }
}
