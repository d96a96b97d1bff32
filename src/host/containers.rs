//! containerd and its CRI plugin over one socket: what images are there, pinned; importing a stream through the package's `ctr`;
//! whether the runtime answers. gRPC by tonic's generic client with messages derived by hand, so that nothing runs protoc.

use std::io::Read;
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::Result;

use super::{Changed, Deadline, Utf8PathBuf};

/// An image in containerd's `k8s.io` namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredImage {
    /// Its full name, for instance `registry.k8s.io/pause:3.10.2`.
    pub name: String,
    /// The digest of its manifest or index, `sha256:…`.
    pub digest: String,
    /// It carries `io.cri-containerd.pinned=pinned`: the kubelet does not remove it.
    pub pinned: bool,
}

/// What the runtime says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeStatus {
    /// For instance `containerd`.
    pub name: String,
    /// For instance `v2.2.9`.
    pub version: String,
    /// CRI's RuntimeReady condition.
    pub ready: bool,
    /// Why it is not ready.
    pub message: String,
    /// The CRI `RuntimeConfig` call exists (KEP-4033).
    pub has_runtime_config: bool,
}

/// How to reach a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket(pub Utf8PathBuf);

/// containerd.
#[async_trait]
pub trait Containers: Send + Sync + std::fmt::Debug {
    /// What the runtime behind `socket` says; `None` when nothing listens there.
    async fn status(&self, socket: &Socket) -> Result<Option<RuntimeStatus>>;
    /// The images it has, sorted by name.
    async fn images(&self, socket: &Socket) -> Result<Vec<StoredImage>>;
    /// Imports an OCI archive stream with `ctr` (a path in the package), all its images under the names the archive gives.
    async fn import(&self, socket: &Socket, ctr: &Utf8PathBuf, archive: Box<dyn Read + Send>, deadline: &Deadline) -> Result<()>;
    /// Pins an image against the kubelet's garbage collection.
    async fn pin(&self, socket: &Socket, name: &str) -> Result<Changed>;
    /// Stops and removes all pod sandboxes (reset).
    async fn remove_pods(&self, socket: &Socket, deadline: &Deadline) -> Result<u32>;
}

/// The machine's own.
pub fn machine() -> Arc<dyn Containers> {
    unimplemented!()
}
