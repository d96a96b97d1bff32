//! One edgeboot at a time: a lock on /run/edgeboot/lock that the kernel lets go of when its holder ends, however it ends. The file
//! says who holds it; what it says is for people only.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};

use camino::Utf8Path;

use crate::error::{Error, IoContext as _, Result};

/// The lock, held until this is dropped.
#[derive(Debug)]
#[must_use = "the lock is let go of when this is dropped"]
pub struct Lock {
    _file: File,
}

/// What trying for the lock came to.
#[derive(Debug)]
pub enum Attempt {
    /// It is ours.
    Taken(Lock),
    /// Somebody else has it.
    Held(Holder),
}

/// Who holds the lock, as the file says: `pid 4711 (edgeboot reconcile)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder(String);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("another edgeboot") } else { f.write_str(&self.0) }
    }
}

impl Holder {
    /// The failure for a shell; a unit says who holds the lock and is done.
    pub fn into_error(self, path: &Utf8Path) -> Error {
        Error::transient(format!("taking the lock {path}"))
            .because(format!("held by {self}"))
            .hint("wait until that one is done, or follow it with `edgeboot status`")
    }
}

/// Tries for the lock at `path` (`names::LOCK`), without waiting; `command` says what we are, for instance `edgeboot reconcile`.
#[expect(clippy::disallowed_methods, reason = "the door: the lock belongs to the machine, not to a tree")]
pub fn attempt(path: &Utf8Path, command: &str) -> Result<Attempt> {
    let doing = || format!("taking the lock {path}");
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).doing(doing)?;
    }
    // Not truncated: until the lock is ours, the content is somebody else's.
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).doing(doing)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Attempt::Held(holder(&mut file))),
        Err(TryLockError::Error(error)) => return Err(error).doing(doing),
    }
    let says = format!("pid {} ({command})\n", std::process::id());
    file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(says.as_bytes())).doing(doing)?;
    Ok(Attempt::Taken(Lock { _file: file }))
}

fn holder(file: &mut File) -> Holder {
    let mut says = String::new();
    // Whoever holds it may just be writing it; the message is the poorer, nothing else.
    let _length = file.read_to_string(&mut says).unwrap_or_default();
    Holder(says.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use camino::Utf8PathBuf;

    #[test]
    fn the_second_is_told_who_has_it_and_gets_it_when_the_first_is_done() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = Utf8PathBuf::from_path_buf(folder.path().join("run/edgeboot/lock")).expect("UTF-8");
        let Attempt::Taken(first) = attempt(&path, "edgeboot reconcile").expect("tried") else { panic!("nobody has it") };
        let Attempt::Held(holder) = attempt(&path, "edgeboot init").expect("tried") else { panic!("the first has it") };
        let who = format!("pid {} (edgeboot reconcile)", std::process::id());
        assert_eq!(holder.to_string(), who);
        assert!(holder.into_error(&path).to_string().contains(&format!("held by {who}")));
        drop(first);
        assert!(matches!(attempt(&path, "edgeboot init").expect("tried"), Attempt::Taken(_)));
    }
}
