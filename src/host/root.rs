//! The file tree of the machine, and the one door through which files are placed: temporary files with their final mode from the
//! start, one flush for the batch, renames, then the directories. A power cut leaves either the old file or the new one, whole.

mod machine;
mod place;
mod verbs;

use std::io;
use std::io::{Read, Seek, Write};
use std::sync::Arc;

pub use camino::{Utf8Path, Utf8PathBuf};

use crate::error::{IoContext, Result};

pub use place::Placement;

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileType {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link (never followed here).
    Link,
    /// A device, socket or pipe.
    Other,
}

/// What the tree knows about a path, without following links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub file_type: FileType,
    /// Permission bits, 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Bytes.
    pub len: u64,
    /// Seconds since 1970, of the last change of its content.
    pub modified: i64,
}

/// What is left on the file system of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that root can still write.
    pub bytes: u64,
    /// Files that can still be made; `u64::MAX` where the file system does not count them.
    pub inodes: u64,
    /// Mounted noexec.
    pub noexec: bool,
    /// Mounted read-only.
    pub read_only: bool,
}

/// A flag of umount2(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnmountFlag {
    /// Also where the other side does not answer.
    Force,
    /// From sight now, and away when nobody uses it any more.
    Detach,
    /// Only what was not used since the last time this was said.
    Expire,
    /// Not where a link leads.
    NoFollow,
}

/// How edgeboot takes a mount away, unless it is told otherwise.
pub const GENTLY: &[UnmountFlag] = &[UnmountFlag::Detach, UnmountFlag::NoFollow];

/// A file that is being read; a package that is one tar is read by seeking to its entries.
pub trait ReadFile: Read + Seek + Send {}

impl<T: Read + Seek + Send> ReadFile for T {}

/// A file that is being written.
pub trait WriteFile: Write + Send {
    /// Its data is on the disk when this returns.
    fn sync(&mut self) -> io::Result<()>;
}

/// The operations a file tree has. All paths are absolute inside the tree; parents exist; nothing here is atomic or durable by
/// itself. [`Root`] is what the rest of edgeboot uses.
pub trait Files: Send + Sync + std::fmt::Debug {
    /// The content, following links; `None` when absent.
    fn read(&self, path: &Utf8Path) -> io::Result<Option<Vec<u8>>>;
    /// A stream of the content, following links; `None` when absent.
    fn open(&self, path: &Utf8Path) -> io::Result<Option<Box<dyn ReadFile>>>;
    /// What it is, not following links; `None` when absent.
    fn metadata(&self, path: &Utf8Path) -> io::Result<Option<Metadata>>;
    /// Sorted names in a directory; `None` when absent.
    fn list(&self, path: &Utf8Path) -> io::Result<Option<Vec<String>>>;
    /// The target of a link, as written; `None` when absent or not a link.
    fn read_link(&self, path: &Utf8Path) -> io::Result<Option<Utf8PathBuf>>;
    /// A new file, failing when something is there; it has `mode` from the first instant.
    fn create(&self, path: &Utf8Path, mode: u32) -> io::Result<Box<dyn WriteFile>>;
    /// Writes into a file that exists, in place (kernel interfaces only: /proc/sys, /sys).
    fn write_in_place(&self, path: &Utf8Path, bytes: &[u8]) -> io::Result<()>;
    /// A new symbolic link.
    fn symlink(&self, path: &Utf8Path, target: &Utf8Path) -> io::Result<()>;
    /// Renames over whatever is there.
    fn rename(&self, from: &Utf8Path, to: &Utf8Path) -> io::Result<()>;
    /// Removes a file or link.
    fn remove_file(&self, path: &Utf8Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Utf8Path) -> io::Result<()>;
    /// A new directory.
    fn make_dir(&self, path: &Utf8Path, mode: u32) -> io::Result<()>;
    /// Sets the permission bits.
    fn set_mode(&self, path: &Utf8Path, mode: u32) -> io::Result<()>;
    /// The file's data is on the disk when this returns.
    fn sync_file(&self, path: &Utf8Path) -> io::Result<()>;
    /// The directory's names are on the disk when this returns.
    fn sync_dir(&self, path: &Utf8Path) -> io::Result<()>;
    /// Everything on the file system of `path` is on the disk when this returns.
    fn sync_file_system(&self, path: &Utf8Path) -> io::Result<()>;
    /// The data of all these files is on the disk when this returns.
    fn sync_batch(&self, files: Vec<Box<dyn WriteFile>>) -> io::Result<()> {
        files.into_iter().try_for_each(|mut file| file.sync())
    }
    /// Takes the uppermost mount at a path away; what is no mount point is `InvalidInput`.
    fn unmount(&self, path: &Utf8Path, how: &[UnmountFlag]) -> io::Result<()>;
    /// What is left there.
    fn space(&self, path: &Utf8Path) -> io::Result<Space>;
}

/// The file tree of a machine. A cheap clone.
#[derive(Debug, Clone)]
pub struct Root {
    files: Arc<dyn Files>,
}

impl Root {
    /// A tree over these operations.
    pub fn over(files: Arc<dyn Files>) -> Root {
        Root { files }
    }
    /// The tree of the machine itself.
    pub fn machine() -> Result<Root> {
        Self::at("/")
    }
    /// The tree below a folder (tests, `image/bake`).
    pub fn at(path: &str) -> Result<Root> {
        Ok(Root::over(Arc::new(machine::Tree::at(path)?)))
    }

    /// The content, following links; `None` when absent.
    pub fn read(&self, path: impl AsRef<Utf8Path>) -> Result<Option<Vec<u8>>> {
        let path = path.as_ref();
        self.files.read(path).doing(|| format!("reading {path}"))
    }
    /// The content as text; what is not UTF-8 is replaced.
    pub fn read_text(&self, path: impl AsRef<Utf8Path>) -> Result<Option<String>> {
        Ok(self.read(path)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }
    /// A stream of the content, following links; `None` when absent.
    pub fn open(&self, path: impl AsRef<Utf8Path>) -> Result<Option<Box<dyn ReadFile>>> {
        let path = path.as_ref();
        self.files.open(path).doing(|| format!("opening {path}"))
    }
    /// What it is, not following links; `None` when absent.
    pub fn metadata(&self, path: impl AsRef<Utf8Path>) -> Result<Option<Metadata>> {
        let path = path.as_ref();
        self.files.metadata(path).doing(|| format!("looking at {path}"))
    }
    /// Whether something is there, be it a dangling link.
    pub fn exists(&self, path: impl AsRef<Utf8Path>) -> Result<bool> {
        Ok(self.metadata(path)?.is_some())
    }
    /// Sorted names in a directory; `None` when absent.
    pub fn list(&self, path: impl AsRef<Utf8Path>) -> Result<Option<Vec<String>>> {
        let path = path.as_ref();
        self.files.list(path).doing(|| format!("listing {path}"))
    }
    /// The target of a link, as written; `None` when absent or not a link.
    pub fn read_link(&self, path: impl AsRef<Utf8Path>) -> Result<Option<Utf8PathBuf>> {
        let path = path.as_ref();
        self.files.read_link(path).doing(|| format!("reading the link {path}"))
    }
    /// What is left on the file system on which `path` is, or will be once it is made.
    pub fn space(&self, path: impl AsRef<Utf8Path>) -> Result<Space> {
        let path = path.as_ref();
        let mut there = path;
        while self.files.metadata(there).doing(|| format!("looking at {there}"))?.is_none() {
            there = there.parent().unwrap_or(Utf8Path::new("/"));
        }
        self.files.space(there).doing(|| format!("asking for the space left at {path}"))
    }
}

/// The single operations, each with its path in the error. Neither atomic nor durable: for trees that are renamed as a whole.
impl Root {
    /// A new file with its mode from the first instant; it fails when something is there.
    pub fn create(&self, path: impl AsRef<Utf8Path>, mode: u32) -> Result<Box<dyn WriteFile>> {
        let path = path.as_ref();
        self.files.create(path, mode).doing(|| format!("creating {path}"))
    }
    /// A new symbolic link; it fails when something is there.
    pub fn symlink(&self, path: impl AsRef<Utf8Path>, target: impl AsRef<Utf8Path>) -> Result<()> {
        let path = path.as_ref();
        self.files.symlink(path, target.as_ref()).doing(|| format!("linking {path}"))
    }
    /// Renames over whatever is there.
    pub fn rename(&self, from: impl AsRef<Utf8Path>, to: impl AsRef<Utf8Path>) -> Result<()> {
        let (from, to) = (from.as_ref(), to.as_ref());
        self.files.rename(from, to).doing(|| format!("renaming {from} to {to}"))
    }
    /// Removes a file or link.
    pub fn remove_file(&self, path: impl AsRef<Utf8Path>) -> Result<()> {
        let path = path.as_ref();
        self.files.remove_file(path).doing(|| format!("removing {path}"))
    }
    /// Removes an empty directory.
    pub fn remove_dir(&self, path: impl AsRef<Utf8Path>) -> Result<()> {
        let path = path.as_ref();
        self.files.remove_dir(path).doing(|| format!("removing {path}"))
    }
    /// A new directory; its parent exists.
    pub fn make_dir(&self, path: impl AsRef<Utf8Path>, mode: u32) -> Result<()> {
        let path = path.as_ref();
        self.files.make_dir(path, mode).doing(|| format!("making {path}"))
    }
    /// Writes into a file that exists, in place (kernel interfaces only: /proc/sys, /sys).
    pub fn write_in_place(&self, path: impl AsRef<Utf8Path>, bytes: &[u8]) -> Result<()> {
        let path = path.as_ref();
        self.files.write_in_place(path, bytes).doing(|| format!("writing to {path}"))
    }
    /// The file's data is on the disk when this returns.
    pub fn sync_file(&self, path: impl AsRef<Utf8Path>) -> Result<()> {
        let path = path.as_ref();
        self.files.sync_file(path).doing(|| format!("flushing {path}"))
    }
    /// The directory's names are on the disk when this returns.
    pub fn sync_dir(&self, path: impl AsRef<Utf8Path>) -> Result<()> {
        let path = path.as_ref();
        self.files.sync_dir(path).doing(|| format!("flushing {path}"))
    }
    /// Everything on the file system of `path` is on the disk when this returns: for large trees only.
    pub fn sync_file_system(&self, path: impl AsRef<Utf8Path>) -> Result<()> {
        let path = path.as_ref();
        self.files.sync_file_system(path).doing(|| format!("flushing the file system of {path}"))
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests;
