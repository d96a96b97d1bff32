//! Health endpoints on this machine: one GET, a total deadline, no proxy, no redirects.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::error::Result;

/// A GET of a local health endpoint.
#[async_trait]
pub trait Http: Send + Sync + std::fmt::Debug {
    /// The status code of `url`; `None` when nothing answers (refused, reset, timed out). Certificates are not checked: the
    /// controller manager and the scheduler serve self-signed ones on 127.0.0.1, and kubeadm does not check them either.
    async fn status(&self, url: &str, total: Duration) -> Result<Option<u16>>;
}

/// The machine's own.
pub fn machine() -> Arc<dyn Http> {
    unimplemented!()
}
