//! Waiting for a folder to change, by inotify: following a run that another process makes needs no polling.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::error::{Error, Result};

use super::Utf8Path;

/// A folder that is watched.
#[derive(Debug)]
pub struct Watch {
    inotify: Arc<Inotify>,
}

impl Watch {
    /// Watches a folder of this machine for files that are renamed into it or written.
    pub fn folder(path: &Utf8Path) -> Result<Watch> {
        let failed = |error: nix::Error| Error::host(format!("watching {path}")).because(std::io::Error::from(error));
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).map_err(failed)?;
        let flags = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CLOSE_WRITE;
        inotify.add_watch(path.as_std_path(), flags).map_err(failed)?;
        Ok(Watch { inotify: Arc::new(inotify) })
    }

    /// Returns after the next change, or after `most`. On a thread: tokio's own way to wait for a descriptor is `unsafe` by now.
    pub async fn changed(&self, most: Duration) {
        let inotify = self.inotify.clone();
        let waited = tokio::task::spawn_blocking(move || {
            let mut descriptors = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
            let most = u16::try_from(most.as_millis()).unwrap_or(u16::MAX);
            // What changed does not matter, nor how the wait ended: who follows reads the file again.
            let _ = poll(&mut descriptors, PollTimeout::from(most));
            let _ = inotify.read_events();
        });
        let _ = waited.await;
    }
}
