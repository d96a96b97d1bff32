//! The wall clock, and whether it can be believed. Waits never use it: they have a [`super::Deadline`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
pub use jiff::Timestamp;
use zbus_systemd::timedate1::TimedatedProxy;
use zbus_systemd::zbus::{self, proxy::CacheProperties};

use super::Root;
use crate::error::Result;

/// The wall clock of the machine.
#[async_trait]
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Now, as the machine believes.
    fn now(&self) -> Timestamp;
    /// Whether a time source has set it since boot (timedate1's `NTPSynchronized`).
    async fn synchronized(&self) -> Result<bool>;
    /// Whether something tries to synchronise it (timedate1's `NTP`), so that waiting makes sense.
    async fn synchronizing(&self) -> Result<bool>;
}

/// How long timedated may take to answer; at boot it has to be started first.
const ANSWER: Duration = Duration::from_secs(5);
/// What the time daemons keep in /run while they work, for machines without timedated.
const TIME_DAEMONS: &[&str] = &["/run/systemd/timesync", "/run/chrony", "/run/chronyd.pid", "/run/ntpd.pid"];
/// What systemd-timesyncd writes when it has set the clock.
const TIMESYNCD_SYNCHRONIZED: &str = "/run/systemd/timesync/synchronized";

/// The machine's own.
pub fn machine() -> Arc<dyn Clock> {
    Arc::new(Machine)
}

#[derive(Debug)]
struct Machine;

#[async_trait]
impl Clock for Machine {
    #[expect(clippy::disallowed_methods, reason = "the door")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn synchronized(&self) -> Result<bool> {
        match ask(Question::Synchronized).await {
            Some(answer) => Ok(answer),
            None => Root::machine()?.exists(TIMESYNCD_SYNCHRONIZED),
        }
    }

    async fn synchronizing(&self) -> Result<bool> {
        if let Some(answer) = ask(Question::Synchronizing).await {
            return Ok(answer);
        }
        let root = Root::machine()?;
        TIME_DAEMONS.iter().try_fold(false, |found, path| Ok(found || root.exists(path)?))
    }
}

#[derive(Debug, Clone, Copy)]
enum Question {
    Synchronized,
    Synchronizing,
}

/// What timedated says; `None` when this machine has none, or it does not answer: that is no reason to fail, only to look elsewhere.
async fn ask(question: Question) -> Option<bool> {
    let answer = async {
        let connection = zbus::Connection::system().await?;
        let timedated = TimedatedProxy::builder(&connection).cache_properties(CacheProperties::No).build().await?;
        match question {
            Question::Synchronized => timedated.ntp_synchronized().await,
            Question::Synchronizing => timedated.ntp().await,
        }
    };
    tokio::time::timeout(ANSWER, answer).await.ok()?.ok()
}
