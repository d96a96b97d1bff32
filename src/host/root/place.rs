//! How files are placed: every temporary is written with its final mode and flushed, and only then the first name changes; group after
//! group becomes visible, and is durable before the next one does. What is there already is left alone.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::io::Write as _;

use super::{FileType, Root, Utf8Path, Utf8PathBuf, WriteFile, is_absent};
use crate::error::{Error, IoContext, Result};
use crate::host::Changed;
use crate::k8s::names;

/// A file to be placed: path, permission bits, content.
#[derive(Clone, PartialEq, Eq)]
pub struct Placement {
    /// Where; parents are made (0755, private ones 0700) when they are missing.
    pub path: Utf8PathBuf,
    /// Permission bits, from the moment the file exists.
    pub mode: u32,
    /// The content.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Placement {
    /// Without the content: it may be a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:04o}, {} bytes", self.path, self.mode, self.bytes.len())
    }
}

/// What a placement needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Nothing,
    Mode,
    Content,
}

impl Root {
    /// Places one file; see [`Root::put_groups`].
    pub fn put(&self, path: impl AsRef<Utf8Path>, mode: u32, bytes: &[u8]) -> Result<Changed> {
        self.put_groups(&[vec![Placement { path: path.as_ref().to_owned(), mode, bytes: bytes.to_vec() }]])
    }

    /// Places files: all temporaries are written with their final mode and flushed together; then group after group is renamed into
    /// place in the order given, and a group's directories are flushed before the next group becomes visible. Files that are there
    /// already with the same content and mode are left alone (same inode, same mtime).
    pub fn put_groups(&self, groups: &[Vec<Placement>]) -> Result<Changed> {
        let needs: Vec<Vec<(&Placement, Need)>> = groups
            .iter()
            .map(|group| group.iter().map(|placement| Ok((placement, self.need(placement)?))).collect())
            .collect::<Result<_>>()?;
        let new: Vec<&Placement> =
            needs.iter().flatten().filter(|(_, need)| *need == Need::Content).map(|(placement, _)| *placement).collect();
        if needs.iter().flatten().all(|(_, need)| *need == Need::Nothing) {
            return Ok(Changed::No);
        }
        let placed = self.stage(&new).and_then(|()| needs.iter().try_for_each(|group| self.show(group)));
        if placed.is_err() {
            // Nothing half-made stays behind; what failed is in the error, and a further failure here would only hide it.
            for placement in new {
                drop(self.files.remove_file(&staging_path(&placement.path)));
            }
        }
        placed.map(|()| Changed::Yes)
    }

    /// A free name for the temporary of `path`; what an earlier cut left there is removed.
    pub(super) fn temporary_for(&self, path: &Utf8Path) -> Result<Utf8PathBuf> {
        let temporary = staging_path(path);
        self.make_parents(&temporary)?;
        self.remove_stale(&temporary)?;
        Ok(temporary)
    }

    fn need(&self, wished: &Placement) -> Result<Need> {
        let path = &wished.path;
        let Some(there) = self.metadata(path)? else { return Ok(Need::Content) };
        match there.file_type {
            FileType::Dir => {
                Err(Error::host(format!("placing {path}")).because("a directory stands there").hint(format!("move {path} away")))
            }
            FileType::File if there.len == wished.bytes.len() as u64 && self.read(path)?.as_deref() == Some(&wished.bytes[..]) => {
                Ok(if there.mode == wished.mode { Need::Nothing } else { Need::Mode })
            }
            _ => Ok(Need::Content),
        }
    }

    /// Writes and flushes the temporaries, and makes the directories they will stand in.
    fn stage(&self, new: &[&Placement]) -> Result<()> {
        let mut files: Vec<Box<dyn WriteFile>> = Vec::with_capacity(new.len());
        for placement in new {
            self.make_parents(&placement.path)?;
            let temporary = self.temporary_for(&placement.path)?;
            files.push(self.write_temporary(&temporary, placement).doing(|| format!("writing {}", placement.path))?);
        }
        self.files.sync_batch(files).doing(|| match new {
            [only] => format!("flushing {}", only.path),
            _ => format!("flushing {} files", new.len()),
        })
    }

    fn write_temporary(&self, temporary: &Utf8Path, placement: &Placement) -> io::Result<Box<dyn WriteFile>> {
        let mut file = self.files.create(temporary, placement.mode)?;
        file.write_all(&placement.bytes)?;
        Ok(file)
    }

    fn remove_stale(&self, temporary: &Utf8Path) -> Result<()> {
        match self.files.remove_file(temporary) {
            Err(error) if is_absent(&error) => Ok(()),
            removed => removed.doing(|| format!("removing {temporary}, which an interrupted run left")),
        }
    }

    /// Makes one group visible, and durable.
    fn show(&self, group: &[(&Placement, Need)]) -> Result<()> {
        for (placement, need) in group {
            match need {
                Need::Nothing => {}
                Need::Mode => drop(self.set_mode(&placement.path, placement.mode)?),
                Need::Content => self.show_one(placement)?,
            }
        }
        // Also the directories of files that were right already: their names may be younger than the last flush.
        let directories: BTreeSet<&Utf8Path> = group.iter().filter_map(|(placement, _)| placement.path.parent()).collect();
        directories.into_iter().try_for_each(|directory| self.files.sync_dir(directory).doing(|| format!("flushing {directory}")))
    }

    fn show_one(&self, placement: &Placement) -> Result<()> {
        let path = &placement.path;
        let temporary = staging_path(path);
        match self.files.rename(&temporary, path) {
            // A folder below /etc/kubernetes is a mount of its own: the file has to be staged on that one.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => self.show_across_devices(&temporary, placement),
            renamed => renamed.doing(|| format!("writing {path}")),
        }
    }

    fn show_across_devices(&self, temporary: &Utf8Path, placement: &Placement) -> Result<()> {
        let path = &placement.path;
        let beside = beside(path);
        self.remove_stale(&beside)?;
        self.write_temporary(&beside, placement)
            .and_then(|mut file| file.sync())
            .and_then(|()| self.files.rename(&beside, path))
            .and_then(|()| self.files.remove_file(temporary))
            .doing(|| format!("writing {path}"))
    }
}

/// Where the temporary of `path` stands: beside it, or in kubeadm's staging folder, since the kubelet and etcd watch or read whole
/// folders below /etc/kubernetes.
fn staging_path(path: &Utf8Path) -> Utf8PathBuf {
    match path.strip_prefix(names::KUBERNETES_DIR) {
        Ok(below) => {
            // Two paths never share a name: the separator is escaped, and so is its escape.
            let name = below.as_str().replace('%', "%25").replace('/', "%2F");
            Utf8Path::new(names::KUBERNETES_STAGING_DIR).join(format!(".{name}.edgeboot"))
        }
        Err(_) => beside(path),
    }
}

/// A dot file beside `path`, which the kubelet and others that read whole folders ignore.
fn beside(path: &Utf8Path) -> Utf8PathBuf {
    path.with_file_name(format!(".{}.edgeboot", path.file_name().unwrap_or_default()))
}
