//! The files of the fake machine: a tree whose directories and files each have what is in the page cache and what is on the disk.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Write};
use std::sync::{Arc, Mutex, MutexGuard};

use super::Fuse;
use crate::host::root::{FileType, Files, Metadata, ReadFile, Space, UnmountFlag, Utf8Path, Utf8PathBuf, WriteFile};

/// What a power cut leaves of what was not flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Everything that was not flushed is gone: new names, renames and data.
    Everything,
    /// Names and renames are there, but data that was not flushed is not: files of zero bytes.
    Data,
    /// Nothing: the process was killed, the page cache lived on.
    Nothing,
}

#[derive(Debug, Clone)]
enum Node {
    File { cached: Vec<u8>, flushed: Option<Vec<u8>>, mode: u32, modified: i64 },
    Dir { cached: BTreeMap<String, u64>, flushed: BTreeMap<String, u64>, mode: u32 },
    Link { target: Utf8PathBuf },
}

#[derive(Debug, Clone)]
struct Disk {
    nodes: BTreeMap<u64, Node>,
    next: u64,
    ticks: i64,
}

/// A tree of files in memory.
#[derive(Debug)]
pub struct FakeFiles {
    disk: Arc<Mutex<Disk>>,
    fuse: Arc<Fuse>,
}

const TOP: u64 = 1;
/// Links are followed this often, as the kernel does.
const LINKS: u32 = 40;

fn absent(path: &Utf8Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{path}: no such file or directory"))
}

impl Disk {
    fn dir(&self, id: u64) -> Option<&BTreeMap<String, u64>> {
        match self.nodes.get(&id) {
            Some(Node::Dir { cached, .. }) => Some(cached),
            _ => None,
        }
    }

    /// The node at a path; links on the way are followed, the last one when `follow`.
    fn find(&self, path: &Utf8Path, follow: bool) -> Option<u64> {
        self.walk(path, follow, LINKS)
    }

    fn walk(&self, path: &Utf8Path, follow: bool, links: u32) -> Option<u64> {
        let mut here = TOP;
        let mut walked = Utf8PathBuf::from("/");
        let names: Vec<&str> = path.as_str().split('/').filter(|name| !name.is_empty() && *name != ".").collect();
        for (index, name) in names.iter().enumerate() {
            if *name == ".." {
                walked.pop();
                here = self.walk(&walked, true, links)?;
                continue;
            }
            let next = *self.dir(here)?.get(*name)?;
            let last = index + 1 == names.len();
            match self.nodes.get(&next)? {
                Node::Link { target } if !last || follow => {
                    if links == 0 {
                        return None;
                    }
                    let target = if target.is_absolute() { target.clone() } else { walked.join(target) };
                    here = self.walk(&target, true, links - 1)?;
                    walked = target;
                }
                _ => {
                    here = next;
                    walked.push(name);
                }
            }
        }
        Some(here)
    }

    fn parent(&mut self, path: &Utf8Path) -> io::Result<(u64, String)> {
        let parent = path.parent().ok_or_else(|| absent(path))?;
        let name = path.file_name().ok_or_else(|| absent(path))?.to_owned();
        let id = self.find(parent, true).filter(|id| self.dir(*id).is_some()).ok_or_else(|| absent(path))?;
        Ok((id, name))
    }

    fn add(&mut self, path: &Utf8Path, node: Node) -> io::Result<u64> {
        let (parent, name) = self.parent(path)?;
        if self.dir(parent).is_some_and(|names| names.contains_key(&name)) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{path}: file exists")));
        }
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, node);
        self.set(parent, &name, Some(id));
        Ok(id)
    }

    fn set(&mut self, dir: u64, name: &str, id: Option<u64>) {
        if let Some(Node::Dir { cached, .. }) = self.nodes.get_mut(&dir) {
            match id {
                Some(id) => cached.insert(name.to_owned(), id),
                None => cached.remove(name),
            };
        }
    }

    fn tick(&mut self) -> i64 {
        self.ticks += 1;
        self.ticks
    }

    fn flush(&mut self, id: u64) {
        match self.nodes.get_mut(&id) {
            Some(Node::File { cached, flushed, .. }) => *flushed = Some(cached.clone()),
            Some(Node::Dir { cached, flushed, .. }) => flushed.clone_from(cached),
            _ => {}
        }
    }
}

impl FakeFiles {
    /// An empty tree with the folders that every Linux has.
    pub(super) fn new(fuse: Arc<Fuse>) -> FakeFiles {
        let top = Node::Dir { cached: BTreeMap::new(), flushed: BTreeMap::new(), mode: 0o755 };
        let disk = Disk { nodes: BTreeMap::from([(TOP, top)]), next: TOP + 1, ticks: 1_780_000_000 };
        FakeFiles { disk: Arc::new(Mutex::new(disk)), fuse }
    }

    pub(super) fn duplicate(&self, fuse: Arc<Fuse>) -> FakeFiles {
        FakeFiles { disk: Arc::new(Mutex::new(self.disk().clone())), fuse }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().expect("no panic while it is held")
    }

    /// Puts a file there, flushed, with its folders: what an image brings. Burns nothing.
    pub fn bake(&self, path: &str, mode: u32, bytes: &[u8]) {
        let path = Utf8Path::new(path);
        let mut disk = self.disk();
        let parents: Vec<&Utf8Path> = path.ancestors().skip(1).collect();
        for parent in parents.into_iter().rev() {
            if disk.find(parent, true).is_none() {
                let node = Node::Dir { cached: BTreeMap::new(), flushed: BTreeMap::new(), mode: 0o755 };
                disk.add(parent, node).expect("its parent was just made");
            }
        }
        if let Some(id) = disk.find(path, true) {
            let modified = disk.tick();
            disk.nodes.insert(id, Node::File { cached: bytes.to_vec(), flushed: Some(bytes.to_vec()), mode, modified });
        } else {
            let modified = disk.tick();
            let node = Node::File { cached: bytes.to_vec(), flushed: Some(bytes.to_vec()), mode, modified };
            disk.add(path, node).expect("its parent was just made");
        }
        let ids: Vec<u64> = disk.nodes.keys().copied().collect();
        for id in ids {
            disk.flush(id);
        }
    }

    /// Takes a file or an empty folder away, flushed. Burns nothing.
    pub fn erase(&self, path: &str) {
        let mut disk = self.disk();
        if let Ok((parent, name)) = disk.parent(Utf8Path::new(path)) {
            disk.set(parent, &name, None);
            disk.flush(parent);
        }
    }

    /// Every path with its mode and content, sorted; links as `-> target`. What two boots are compared by.
    pub fn tree(&self) -> BTreeMap<String, (u32, Vec<u8>)> {
        let disk = self.disk();
        let mut found = BTreeMap::new();
        let mut open = vec![(String::new(), TOP)];
        while let Some((path, id)) = open.pop() {
            match &disk.nodes[&id] {
                Node::Dir { cached, mode, .. } => {
                    found.insert(format!("{path}/"), (*mode, Vec::new()));
                    open.extend(cached.iter().map(|(name, id)| (format!("{path}/{name}"), *id)));
                }
                Node::File { cached, mode, .. } => {
                    found.insert(path, (*mode, cached.clone()));
                }
                Node::Link { target } => {
                    found.insert(path, (0o777, format!("-> {target}").into_bytes()));
                }
            }
        }
        found
    }

    /// The inode and time of every file: what a run that changes nothing leaves alone.
    pub fn stamps(&self) -> BTreeMap<String, (u64, i64)> {
        let disk = self.disk();
        let mut found = BTreeMap::new();
        let mut open = vec![(String::new(), TOP)];
        while let Some((path, id)) = open.pop() {
            match &disk.nodes[&id] {
                Node::Dir { cached, .. } => open.extend(cached.iter().map(|(name, id)| (format!("{path}/{name}"), *id))),
                Node::File { modified, .. } => {
                    found.insert(path, (id, *modified));
                }
                Node::Link { .. } => {
                    found.insert(path, (id, 0));
                }
            }
        }
        found
    }

    /// The power is cut.
    pub(super) fn lose_power(&self, loss: Loss) {
        let mut disk = self.disk();
        for node in disk.nodes.values_mut() {
            match node {
                Node::File { cached, flushed, .. } if loss != Loss::Nothing => *cached = flushed.clone().unwrap_or_default(),
                Node::Dir { cached, flushed, .. } if loss == Loss::Everything => cached.clone_from(flushed),
                _ => {}
            }
        }
        let ids: Vec<u64> = disk.nodes.keys().copied().collect();
        for id in ids {
            disk.flush(id);
        }
        // /run and /proc are memory.
        if let Some(run) = disk.find(Utf8Path::new("/run"), false)
            && let Some(Node::Dir { cached, flushed, .. }) = disk.nodes.get_mut(&run)
        {
            cached.clear();
            flushed.clear();
        }
    }
}

struct Writer {
    disk: Arc<Mutex<Disk>>,
    fuse: Arc<Fuse>,
    id: u64,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.fuse.alive()?;
        let mut disk = self.disk.lock().expect("no panic while it is held");
        match disk.nodes.get_mut(&self.id) {
            Some(Node::File { cached, .. }) => cached.extend_from_slice(bytes),
            _ => return Err(io::Error::other("it is gone")),
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl WriteFile for Writer {
    fn sync(&mut self) -> io::Result<()> {
        self.fuse.burn()?;
        self.disk.lock().expect("no panic while it is held").flush(self.id);
        Ok(())
    }
}

impl Files for FakeFiles {
    fn read(&self, path: &Utf8Path) -> io::Result<Option<Vec<u8>>> {
        self.fuse.alive()?;
        let disk = self.disk();
        match disk.find(path, true).map(|id| &disk.nodes[&id]) {
            None | Some(Node::Link { .. }) => Ok(None),
            Some(Node::File { cached, .. }) => Ok(Some(cached.clone())),
            Some(Node::Dir { .. }) => Err(io::Error::new(io::ErrorKind::IsADirectory, format!("{path}: is a directory"))),
        }
    }
    fn open(&self, path: &Utf8Path) -> io::Result<Option<Box<dyn ReadFile>>> {
        Ok(self.read(path)?.map(|bytes| Box::new(Cursor::new(bytes)) as Box<dyn ReadFile>))
    }
    fn metadata(&self, path: &Utf8Path) -> io::Result<Option<Metadata>> {
        self.fuse.alive()?;
        let disk = self.disk();
        Ok(disk.find(path, false).map(|id| match &disk.nodes[&id] {
            Node::File { cached, mode, modified, .. } => {
                Metadata { file_type: FileType::File, mode: *mode, uid: 0, len: cached.len() as u64, modified: *modified }
            }
            Node::Dir { mode, .. } => Metadata { file_type: FileType::Dir, mode: *mode, uid: 0, len: 0, modified: 0 },
            Node::Link { .. } => Metadata { file_type: FileType::Link, mode: 0o777, uid: 0, len: 0, modified: 0 },
        }))
    }
    fn list(&self, path: &Utf8Path) -> io::Result<Option<Vec<String>>> {
        self.fuse.alive()?;
        let disk = self.disk();
        Ok(disk.find(path, true).and_then(|id| disk.dir(id)).map(|names| names.keys().cloned().collect()))
    }
    fn read_link(&self, path: &Utf8Path) -> io::Result<Option<Utf8PathBuf>> {
        self.fuse.alive()?;
        let disk = self.disk();
        Ok(disk.find(path, false).and_then(|id| match &disk.nodes[&id] {
            Node::Link { target } => Some(target.clone()),
            _ => None,
        }))
    }
    fn create(&self, path: &Utf8Path, mode: u32) -> io::Result<Box<dyn WriteFile>> {
        self.fuse.burn()?;
        let mut disk = self.disk();
        let modified = disk.tick();
        let id = disk.add(path, Node::File { cached: Vec::new(), flushed: None, mode, modified })?;
        Ok(Box::new(Writer { disk: self.disk.clone(), fuse: self.fuse.clone(), id }))
    }
    fn write_in_place(&self, path: &Utf8Path, bytes: &[u8]) -> io::Result<()> {
        self.fuse.burn()?;
        let mut disk = self.disk();
        let id = disk.find(path, true).ok_or_else(|| absent(path))?;
        if let Some(Node::File { cached, flushed, .. }) = disk.nodes.get_mut(&id) {
            // The kernel has no cache before itself.
            *cached = bytes.to_vec();
            *flushed = Some(bytes.to_vec());
        }
        Ok(())
    }
    fn symlink(&self, path: &Utf8Path, target: &Utf8Path) -> io::Result<()> {
        self.fuse.burn()?;
        self.disk().add(path, Node::Link { target: target.to_owned() }).map(drop)
    }
    fn rename(&self, from: &Utf8Path, to: &Utf8Path) -> io::Result<()> {
        self.fuse.burn()?;
        let mut disk = self.disk();
        let (from_dir, from_name) = disk.parent(from)?;
        let (to_dir, to_name) = disk.parent(to)?;
        let id = disk.dir(from_dir).and_then(|names| names.get(&from_name)).copied().ok_or_else(|| absent(from))?;
        disk.set(from_dir, &from_name, None);
        disk.set(to_dir, &to_name, Some(id));
        Ok(())
    }
    fn remove_file(&self, path: &Utf8Path) -> io::Result<()> {
        self.fuse.burn()?;
        let mut disk = self.disk();
        let (dir, name) = disk.parent(path)?;
        disk.dir(dir).and_then(|names| names.get(&name)).ok_or_else(|| absent(path))?;
        disk.set(dir, &name, None);
        Ok(())
    }
    fn remove_dir(&self, path: &Utf8Path) -> io::Result<()> {
        let empty = {
            let disk = self.disk();
            disk.find(path, false).and_then(|id| disk.dir(id)).ok_or_else(|| absent(path))?.is_empty()
        };
        if empty {
            self.remove_file(path)
        } else {
            Err(io::Error::new(io::ErrorKind::DirectoryNotEmpty, format!("{path}: not empty")))
        }
    }
    fn make_dir(&self, path: &Utf8Path, mode: u32) -> io::Result<()> {
        self.fuse.burn()?;
        self.disk().add(path, Node::Dir { cached: BTreeMap::new(), flushed: BTreeMap::new(), mode }).map(drop)
    }
    fn set_mode(&self, path: &Utf8Path, wished: u32) -> io::Result<()> {
        self.fuse.burn()?;
        let mut disk = self.disk();
        let id = disk.find(path, true).ok_or_else(|| absent(path))?;
        if let Some(Node::File { mode, .. } | Node::Dir { mode, .. }) = disk.nodes.get_mut(&id) {
            *mode = wished;
        }
        Ok(())
    }
    fn sync_file(&self, path: &Utf8Path) -> io::Result<()> {
        self.fuse.burn()?;
        let mut disk = self.disk();
        let id = disk.find(path, true).ok_or_else(|| absent(path))?;
        disk.flush(id);
        Ok(())
    }
    fn sync_dir(&self, path: &Utf8Path) -> io::Result<()> {
        self.sync_file(path)
    }
    fn sync_file_system(&self, _path: &Utf8Path) -> io::Result<()> {
        self.fuse.burn()?;
        let mut disk = self.disk();
        let ids: Vec<u64> = disk.nodes.keys().copied().collect();
        for id in ids {
            disk.flush(id);
        }
        Ok(())
    }
    fn unmount(&self, path: &Utf8Path, _how: &[UnmountFlag]) -> io::Result<()> {
        let table = Utf8Path::new("/proc/self/mounts");
        let lines = String::from_utf8_lossy(&self.read(table)?.unwrap_or_default()).into_owned();
        let is_it = |line: &&str| line.split(' ').nth(1) == Some(path.as_str());
        if !lines.lines().any(|line| is_it(&line)) {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let left: Vec<&str> = lines.lines().filter(|line| !is_it(line)).collect();
        self.write_in_place(table, (left.join("\n") + "\n").as_bytes())
    }
    fn space(&self, _path: &Utf8Path) -> io::Result<Space> {
        self.fuse.alive()?;
        Ok(Space { bytes: 64 << 30, inodes: 1 << 20, noexec: false, read_only: false })
    }
}
