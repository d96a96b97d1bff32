//! The doors to the world: files, systemd, the network, the clock, containers and the Kubernetes API. Nothing else in edgeboot has
//! effects. Each door is a trait because it has two users: the machine, and the fake host of the tests, which can fail or lose its
//! power at the n-th operation. A [`Host`] is a cheap clone. Every effect answers whether it changed anything; absent is a value,
//! failure is an error.

pub mod api;
pub mod clock;
pub mod containers;
pub mod etcd;
pub mod fake;
pub mod hardware;
pub mod http;
pub mod kernel;
pub mod lock;
pub mod net;
pub mod notify;
pub mod process;
pub mod root;
pub mod systemd;
pub mod watch;

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
pub use root::{Root, Utf8Path, Utf8PathBuf};

/// Whether an effect changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Changed {
    /// Something is different now.
    Yes,
    /// It was so already.
    No,
}

impl Changed {
    /// Whether something is different now.
    pub fn is_yes(self) -> bool {
        self == Changed::Yes
    }
    /// Changed if either of the two did.
    pub fn or(self, other: Changed) -> Changed {
        if self.is_yes() || other.is_yes() { Changed::Yes } else { Changed::No }
    }
}

/// When a wait ends at the latest, and what is waited for. Monotonic: the wall clock may jump while a device boots.
#[derive(Debug, Clone)]
pub struct Deadline {
    at: tokio::time::Instant,
    total: Duration,
    reason: String,
}

impl Deadline {
    /// Ends `duration` from now; `reason` completes "waiting for …" and is shown while waiting and in the failure.
    pub fn after(duration: Duration, reason: impl Into<String>) -> Self {
        Deadline { at: tokio::time::Instant::now() + duration, total: duration, reason: reason.into() }
    }
    /// What is waited for.
    pub fn reason(&self) -> &str {
        &self.reason
    }
    /// How long it is in all.
    pub fn total(&self) -> Duration {
        self.total
    }
    /// Whether it has passed.
    pub fn passed(&self) -> bool {
        tokio::time::Instant::now() >= self.at
    }
    /// The time that is left.
    pub fn left(&self) -> Duration {
        self.at.saturating_duration_since(tokio::time::Instant::now())
    }
    /// The failure to report when it has passed.
    pub fn exceeded(&self) -> Error {
        Error::transient(format!("waiting for {}", self.reason)).because(format!("not so after {} s", self.total.as_secs()))
    }
    /// The same, with what the last try said, and its advice.
    fn exceeded_after(&self, last: &Error) -> Error {
        let why = format!("not so after {} s: {last}", self.total.as_secs());
        let exceeded = Error::transient(format!("waiting for {}", self.reason)).because(why);
        match last.remedy() {
            Some(remedy) => exceeded.hint(remedy),
            None => exceeded,
        }
    }
    /// Runs `future`, at most until the deadline.
    pub async fn bound<T>(&self, future: impl Future<Output = T>) -> Result<T> {
        tokio::time::timeout_at(self.at, future).await.map_err(|_| self.exceeded())
    }
    /// Waits for `duration`, at most until the deadline.
    pub async fn pause(&self, duration: Duration) {
        #[expect(clippy::disallowed_methods, reason = "a wait with its deadline")]
        tokio::time::sleep(duration.min(self.left())).await;
    }
    /// Asks `probe` again and again until it answers `Some`, starting at `first` between two tries and growing to `most`. For the
    /// few things that send no event (a healthz endpoint). The last failure of the probe is part of the error when time is up.
    pub async fn until<T, F>(&self, first: Duration, most: Duration, mut probe: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<Option<T>>>,
    {
        let mut pause = first;
        let mut last: Option<Error> = None;
        loop {
            let mut next = pause;
            match self.bound(probe()).await {
                Ok(Ok(Some(value))) => return Ok(value),
                Ok(Ok(None)) => {}
                Ok(Err(error)) if error.kind() == crate::error::Kind::Transient => {
                    next = pause_after(&error, pause);
                    last = Some(error);
                }
                Ok(Err(error)) => return Err(error),
                Err(exceeded) => return Err(last.map_or(exceeded, |last| self.exceeded_after(&last))),
            }
            if self.passed() {
                return Err(last.map_or_else(|| self.exceeded(), |last| self.exceeded_after(&last)));
            }
            self.pause(next).await;
            pause = (pause * 3 / 2).min(most);
        }
    }
}

/// A server that asks for a longer pause than this is asked again all the same.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long to wait after a failure before the next try: our own pause, or what the server asked for, with chance added, for it asks all
/// whom it sends away for the same.
pub fn pause_after(error: &Error, own: Duration) -> Duration {
    match error.asked_pause() {
        Some(asked) => jittered(asked, asked + asked / 2).min(LONGEST_PAUSE).max(own),
        None => own,
    }
}

/// A duration between these two, by chance, so that machines that were switched on together do not ask together for ever. The longer
/// one when the machine has no random numbers.
pub fn jittered(least: Duration, most: Duration) -> Duration {
    let mut bytes = [0; 4];
    let drawn = aws_lc_rs::rand::fill(&mut bytes).map_or(u32::MAX, |()| u32::from_be_bytes(bytes));
    least + most.saturating_sub(least).mul_f64(f64::from(drawn) / f64::from(u32::MAX))
}

/// The machine as edgeboot touches it.
#[derive(Debug, Clone)]
pub struct Host {
    /// Its file tree.
    pub root: Root,
    /// Its service manager.
    pub systemd: Arc<dyn systemd::Systemd>,
    /// Its addresses and routes.
    pub net: Arc<dyn net::Net>,
    /// Its wall clock, and whether that is synchronised.
    pub clock: Arc<dyn clock::Clock>,
    /// containerd and the CRI behind its socket.
    pub containers: Arc<dyn containers::Containers>,
    /// The Kubernetes API, once there is a kubeconfig.
    pub api: Arc<dyn api::ApiConnector>,
    /// etcd's own gateway, for those that join as a member.
    pub etcd: Arc<dyn etcd::Etcd>,
    /// Plain health endpoints of this machine.
    pub http: Arc<dyn http::Http>,
}

impl Host {
    /// The machine itself.
    pub fn machine() -> Result<Host> {
        Ok(Host {
            root: Root::machine()?,
            systemd: systemd::machine(),
            net: net::machine(),
            clock: clock::machine(),
            containers: containers::machine(),
            api: api::machine(),
            etcd: etcd::machine(),
            http: http::machine(),
        })
    }

    /// Runs `work` (hashing, key generation, extraction, fsync) on a thread of its own: the one async thread must go on answering
    /// D-Bus and systemd.
    pub async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        tokio::task::spawn_blocking(work).await.map_err(|error| Error::internal("running work on a thread").because(error))?
    }
}

/// Where a person's own kubeconfigs may be, as client-go looks for them: what $KUBECONFIG lists, or ~/.kube/config.
#[expect(clippy::disallowed_methods, reason = "the door")]
pub fn own_kubeconfigs() -> Vec<Utf8PathBuf> {
    let paths: Vec<std::path::PathBuf> = match std::env::var_os("KUBECONFIG").filter(|list| !list.is_empty()) {
        Some(list) => std::env::split_paths(&list).collect(),
        None => std::env::home_dir().map(|home| home.join(".kube/config")).into_iter().collect(),
    };
    paths.into_iter().filter_map(|path| Utf8PathBuf::try_from(path).ok()).filter(|path| path.is_absolute()).collect()
}

/// The program that runs now: what is placed on a host where nothing was baked.
#[expect(clippy::disallowed_methods, reason = "the door")]
pub fn own_program() -> Result<Vec<u8>> {
    let read = || std::fs::read(std::env::current_exe()?);
    read().map_err(|error| Error::host("reading edgeboot's own program").because(error))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_asks_for_a_pause_gets_it_within_reason() {
        let second = Duration::from_secs(1);
        let (tries, started) = (RefCell::new(Vec::new()), tokio::time::Instant::now());
        let busy = |pause| Err(Error::transient("asking").because("busy").asking_for(Some(second * pause)));
        let deadline = Deadline::after(second * 100, "an answer");
        let answered = deadline.until(second / 10, second, || async {
            tries.borrow_mut().push(started.elapsed());
            match tries.borrow().len() {
                1 => busy(4),
                // An hour is nothing that anybody waits for.
                2 => busy(3600),
                _ => Ok(Some(())),
            }
        });
        answered.await.expect("an answer");
        let tries = tries.into_inner();
        let pauses: Vec<Duration> = tries.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
        assert!(pauses[0] >= second * 4 && pauses[0] <= second * 7, "{pauses:?}");
        assert!(pauses[1] >= LONGEST_PAUSE && pauses[1] <= LONGEST_PAUSE + second, "{pauses:?}");
    }
}
