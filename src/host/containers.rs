//! containerd and its CRI plugin over one socket: what images are there, pinned; importing a stream through the package's `ctr`;
//! whether the runtime answers. gRPC by tonic's generic client with messages derived by hand, so that nothing runs protoc.

mod grpc;
mod import;
mod messages;

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt as _};

use crate::error::{Error, Result};

use grpc::Runtime;

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
    /// Those of these blobs that its content store has, whole; they need not be in an archive that is imported. A runtime that does
    /// not say has none.
    async fn present_blobs(&self, _socket: &Socket, _digests: &[String]) -> Result<BTreeSet<String>> {
        Ok(BTreeSet::new())
    }
    /// Imports an OCI archive stream with `ctr` (a path in the package), all its images under the names the archive gives,
    /// pinned. A stream that fails leaves no image behind.
    async fn import(&self, socket: &Socket, ctr: &Utf8PathBuf, archive: Box<dyn Read + Send>, deadline: &Deadline) -> Result<()>;
    /// Pins an image against the kubelet's garbage collection.
    async fn pin(&self, socket: &Socket, name: &str) -> Result<Changed>;
    /// Ends a pod's sandbox and all in it; the kubelet starts a static pod again from its manifest, and at once: of a container that is
    /// only stopped it would remember that it ended, and wait longer each time (`CrashLoopBackOff`).
    async fn stop_pod(&self, socket: &Socket, namespace: &str, name: &str, deadline: &Deadline) -> Result<Changed>;
    /// When the newest sandbox of a pod was made, in seconds since 1970; `None` when it has none.
    async fn pod_created(&self, socket: &Socket, namespace: &str, name: &str) -> Result<Option<i64>>;
    /// Stops and removes all pod sandboxes (reset).
    async fn remove_pods(&self, socket: &Socket, deadline: &Deadline) -> Result<u32>;
}

/// The label by which the CRI plugin knows that an image is not to be collected (containerd's `internal/cri/labels`).
const PINNED: &str = "io.cri-containerd.pinned";
/// Its value.
const PINNED_VALUE: &str = "pinned";
/// In a second; CRI counts in them.
const NANOSECONDS: i64 = 1_000_000_000;
/// Pods that are removed at the same time.
const REMOVALS: usize = 8;

/// The machine's own.
pub fn machine() -> Arc<dyn Containers> {
    Arc::new(Machine)
}

/// A stream that gives at most so many bytes a second. Read it on a thread of its own: it sleeps.
pub fn paced(archive: impl Read + Send + 'static, bytes_per_second: u64) -> Box<dyn Read + Send> {
    Box::new(import::Paced::new(archive, bytes_per_second))
}

#[derive(Debug)]
struct Machine;

impl Machine {
    async fn connect(socket: &Socket) -> Result<Runtime> {
        Runtime::connect(socket).await?.ok_or_else(|| {
            Error::transient(format!("connecting to the container runtime at {}", socket.0))
                .because("nothing listens there")
                .hint("`systemctl status containerd` says why it does not run")
        })
    }
}

#[async_trait]
impl Containers for Machine {
    async fn status(&self, socket: &Socket) -> Result<Option<RuntimeStatus>> {
        let Some(runtime) = Runtime::connect(socket).await? else { return Ok(None) };
        let version = runtime.version().await?;
        let conditions = runtime.status().await?.status.unwrap_or_default().conditions;
        let ready = conditions.iter().find(|condition| condition.kind == "RuntimeReady");
        Ok(Some(RuntimeStatus {
            name: version.name,
            version: version.version,
            ready: ready.is_some_and(|condition| condition.status),
            message: ready.map_or_else(
                || "it does not say RuntimeReady".to_owned(),
                |condition| format!("{} {}", condition.reason, condition.message).trim().to_owned(),
            ),
            has_runtime_config: runtime.has_runtime_config().await?,
        }))
    }

    async fn images(&self, socket: &Socket) -> Result<Vec<StoredImage>> {
        let stored = Machine::connect(socket).await?.images().await?;
        let mut images: Vec<StoredImage> = stored
            .into_iter()
            .map(|image| StoredImage {
                pinned: is_pinned(&image),
                name: image.name,
                digest: image.target.map(|target| target.digest).unwrap_or_default(),
            })
            .collect();
        images.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(images)
    }

    async fn present_blobs(&self, socket: &Socket, digests: &[String]) -> Result<BTreeSet<String>> {
        let runtime = Machine::connect(socket).await?;
        let mut present = BTreeSet::new();
        for digest in digests {
            if runtime.has_blob(digest).await? {
                present.insert(digest.clone());
            }
        }
        Ok(present)
    }

    async fn import(&self, socket: &Socket, ctr: &Utf8PathBuf, archive: Box<dyn Read + Send>, deadline: &Deadline) -> Result<()> {
        import::import(socket, ctr, archive, deadline).await
    }

    async fn pin(&self, socket: &Socket, name: &str) -> Result<Changed> {
        let runtime = Machine::connect(socket).await?;
        match runtime.image(name).await? {
            None => Err(Error::host(format!("pinning the image {name}")).because("the runtime does not have it")),
            Some(image) if is_pinned(&image) => Ok(Changed::No),
            Some(_) => runtime.label_image(name, PINNED, PINNED_VALUE).await.map(|()| Changed::Yes),
        }
    }

    async fn remove_pods(&self, socket: &Socket, deadline: &Deadline) -> Result<u32> {
        let runtime = Machine::connect(socket).await?;
        let work = async {
            let pods = runtime.pod_sandboxes().await?;
            let removed = u32::try_from(pods.len()).unwrap_or(u32::MAX);
            let removals = pods.into_iter().map(|pod| {
                let runtime = runtime.clone();
                async move {
                    runtime.stop_pod_sandbox(&pod.id).await?;
                    runtime.remove_pod_sandbox(&pod.id).await
                }
            });
            // One that cannot be removed (its network plugin is gone, for instance) keeps no other one.
            let done: Vec<Result<()>> = stream::iter(removals).buffer_unordered(REMOVALS).collect().await;
            done.into_iter().collect::<Result<()>>()?;
            Ok(removed)
        };
        deadline.bound(work).await?
    }

    async fn pod_created(&self, socket: &Socket, namespace: &str, name: &str) -> Result<Option<i64>> {
        let pods = Machine::connect(socket).await?.pod_sandboxes().await?;
        Ok(pods.iter().filter(|pod| pod.is_of(namespace, name)).map(|pod| pod.created_at / NANOSECONDS).max())
    }

    async fn stop_pod(&self, socket: &Socket, namespace: &str, name: &str, deadline: &Deadline) -> Result<Changed> {
        let runtime = Machine::connect(socket).await?;
        let work = async {
            let mut changed = Changed::No;
            for pod in runtime.pod_sandboxes().await? {
                if pod.is_of(namespace, name) {
                    runtime.stop_pod_sandbox(&pod.id).await?;
                    if let Err(error) = runtime.remove_pod_sandbox(&pod.id).await {
                        // The kubelet clears away too, and may be at it this very moment.
                        tracing::debug!(%error, "a pod that was stopped is not removed by us");
                    }
                    changed = Changed::Yes;
                }
            }
            Ok(changed)
        };
        deadline.bound(work).await?
    }
}

fn is_pinned(image: &messages::Image) -> bool {
    image.labels.get(PINNED).is_some_and(|value| value == PINNED_VALUE)
}
