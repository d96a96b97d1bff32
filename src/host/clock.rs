//! The wall clock, and whether it can be believed. Waits never use it: they have a [`super::Deadline`].

use std::sync::Arc;

use async_trait::async_trait;
pub use jiff::Timestamp;

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

/// The machine's own.
pub fn machine() -> Arc<dyn Clock> {
    unimplemented!()
}
