//! A machine made of memory, for tests: its files model a write-back cache, its systemd, containerd and API server do what the real
//! ones are relied on to do, and one [`Fuse`] through all of it cuts the power at the n-th operation. What was not flushed may then
//! be gone, names and data apart.

mod files;
mod linux;
mod services;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Host, Root};
pub use files::{FakeFiles, Loss};
pub use linux::MISSING;
pub use services::{Services, Shown};

/// Counts operations that change something, and cuts the power at one of them. After the cut nothing works any more.
#[derive(Debug, Default)]
pub struct Fuse {
    done: AtomicU64,
    cut_at: AtomicU64,
}

impl Fuse {
    /// Cuts the power instead of the `n`-th operation from now; zero never does.
    pub fn arm(&self, n: u64) {
        self.done.store(0, Ordering::SeqCst);
        self.cut_at.store(n, Ordering::SeqCst);
    }
    /// How many operations there were since it was armed.
    pub fn operations(&self) -> u64 {
        self.done.load(Ordering::SeqCst)
    }
    /// Whether the power is gone.
    pub fn is_blown(&self) -> bool {
        let cut_at = self.cut_at.load(Ordering::SeqCst);
        cut_at != 0 && self.done.load(Ordering::SeqCst) >= cut_at
    }
    /// One operation; fails from the cut on.
    fn burn(&self) -> std::io::Result<()> {
        self.done.fetch_add(1, Ordering::SeqCst);
        self.alive()
    }
    /// Fails after the cut; for operations that change nothing.
    fn alive(&self) -> std::io::Result<()> {
        if self.is_blown() { Err(std::io::Error::other("the power is cut")) } else { Ok(()) }
    }
}

/// The machine: what survives a power cut is in it.
#[derive(Debug)]
pub struct Machine {
    /// Its disk and page cache.
    pub files: Arc<FakeFiles>,
    /// Its service manager, containers, API server, network and clock.
    pub services: Arc<Services>,
    /// When its power is cut.
    pub fuse: Arc<Fuse>,
}

impl Default for Machine {
    fn default() -> Self {
        Machine::new()
    }
}

impl Machine {
    /// A machine that is switched on, with a Linux image on its disk and nothing of Kubernetes.
    pub fn new() -> Machine {
        let fuse = Arc::new(Fuse::default());
        let files = Arc::new(FakeFiles::new(fuse.clone()));
        linux::bake(&files);
        let services = Arc::new(Services::new(fuse.clone(), files.clone()));
        Machine { files, services, fuse }
    }
    /// Another machine with the same disk, switched off and on: tests bake once.
    #[must_use]
    pub fn duplicate(&self) -> Machine {
        let fuse = Arc::new(Fuse::default());
        let files = Arc::new(self.files.duplicate(fuse.clone()));
        let services = Arc::new(Services::new(fuse.clone(), files.clone()));
        Machine { files, services, fuse }
    }
    /// Its doors.
    pub fn host(&self) -> Host {
        Host {
            root: self.root(),
            systemd: self.services.clone(),
            net: self.services.clone(),
            clock: self.services.clone(),
            containers: self.services.clone(),
            api: Arc::new(services::Connector(self.services.clone())),
            etcd: self.services.clone(),
            http: self.services.clone(),
        }
    }
    /// Its file tree.
    pub fn root(&self) -> Root {
        Root::over(self.files.clone())
    }
    /// Cuts the power and switches it on again: the page cache is lost as `loss` says, units are stopped, enabled ones start.
    pub fn reboot(&self, loss: Loss) {
        self.fuse.arm(0);
        self.files.lose_power(loss);
        // systemd as PID 1 makes this first (sd_booted(3)).
        self.files.bake("/run/systemd/system/README", 0o644, b"");
        self.services.boot();
    }
}
