//! One gRPC call after another over a unix socket, with tonic's generic client: the paths and messages are written down here, so that
//! neither a build script nor protoc is needed.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Uri;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::UnixStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::error::{Error, Result};

use super::Socket;
use super::messages::{BlobDigest, Descriptor, FieldMask, Image, ImageName, Images, Nothing, OneImage};
use super::messages::{PodSandbox, PodSandboxes, StatusResponse, UpdateImage, Version};

/// Where the kubelet's images and pods are in containerd.
pub const NAMESPACE: &str = "k8s.io";
/// A list of images is the largest answer; 4 MiB, tonic's own limit, holds some ten thousand.
const LARGEST_ANSWER: usize = 16 << 20;
/// A runtime that has accepted a call answers it at once; one that hangs must not hang the boot.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection to a runtime.
#[derive(Debug, Clone)]
pub struct Runtime {
    channel: Channel,
    socket: String,
}

impl Runtime {
    /// Connects; `None` when nothing listens there.
    pub async fn connect(socket: &Socket) -> Result<Option<Runtime>> {
        let path = &socket.0;
        let failed = |error: io::Error| Error::host(format!("connecting to the container runtime at {path}")).because(error);
        let stream = match UnixStream::connect(path.as_std_path()).await {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        // The one connection that was made is the one that is used: a runtime that goes away meanwhile is a failed call.
        let stream = Arc::new(Mutex::new(Some(stream)));
        let connector = tower::service_fn(move |_: Uri| {
            let stream = stream.lock().expect("no panic while it is held").take();
            std::future::ready(stream.map(TokioIo::new).ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionReset)))
        });
        // The name is only there because HTTP/2 wants one.
        let channel = Endpoint::from_static("http://localhost").timeout(CALL_TIMEOUT).connect_with_connector(connector).await;
        let channel =
            channel.map_err(|error| Error::host(format!("connecting to the container runtime at {path}")).because(error))?;
        Ok(Some(Runtime { channel, socket: path.to_string() }))
    }

    async fn call<Q, A>(&self, path: &'static str, request: Q) -> Result<A, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut client = tonic::client::Grpc::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER);
        client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut request = Request::new(request);
        request.metadata_mut().insert("containerd-namespace", MetadataValue::from_static(NAMESPACE));
        let codec = ProstCodec::<Q, A>::default();
        client.unary(request, PathAndQuery::from_static(path), codec).await.map(tonic::Response::into_inner)
    }

    /// What a failed call means.
    fn failed(&self, doing: &str, status: &Status) -> Error {
        let doing = format!("{doing} at {}", self.socket);
        let why = format!("{} ({})", status.message(), status.code());
        match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Error::transient(doing).because(why),
            Code::Unimplemented => Error::host(doing)
                .because(why)
                .hint("the runtime does not offer this service; containerd's CRI plugin must not be in `disabled_plugins`"),
            _ => Error::host(doing).because(why),
        }
    }

    /// CRI `Version`.
    pub async fn version(&self) -> Result<Version> {
        let answer = self.call("/runtime.v1.RuntimeService/Version", Nothing {}).await;
        answer.map_err(|status| self.failed("asking for the runtime's version", &status))
    }
    /// CRI `Status`.
    pub async fn status(&self) -> Result<StatusResponse> {
        let answer = self.call("/runtime.v1.RuntimeService/Status", Nothing {}).await;
        answer.map_err(|status| self.failed("asking for the runtime's status", &status))
    }
    /// Whether CRI `RuntimeConfig` (KEP-4033) exists.
    pub async fn has_runtime_config(&self) -> Result<bool> {
        let answer: Result<Nothing, Status> = self.call("/runtime.v1.RuntimeService/RuntimeConfig", Nothing {}).await;
        match answer {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::Unimplemented => Ok(false),
            Err(status) => Err(self.failed("asking for the runtime's configuration", &status)),
        }
    }
    /// CRI `ListPodSandbox`.
    pub async fn pod_sandboxes(&self) -> Result<Vec<PodSandbox>> {
        let answer: Result<PodSandboxes, Status> = self.call("/runtime.v1.RuntimeService/ListPodSandbox", Nothing {}).await;
        let answer = answer.map_err(|status| self.failed("listing the pods", &status))?;
        Ok(answer.items)
    }
    /// CRI `StopPodSandbox`; one that is gone already is well.
    pub async fn stop_pod_sandbox(&self, id: &str) -> Result<()> {
        self.end_pod_sandbox("/runtime.v1.RuntimeService/StopPodSandbox", id).await
    }
    /// CRI `RemovePodSandbox`; one that is gone already is well.
    pub async fn remove_pod_sandbox(&self, id: &str) -> Result<()> {
        self.end_pod_sandbox("/runtime.v1.RuntimeService/RemovePodSandbox", id).await
    }
    async fn end_pod_sandbox(&self, path: &'static str, id: &str) -> Result<()> {
        let answer: Result<Nothing, Status> = self.call(path, PodSandbox { id: id.to_owned(), ..PodSandbox::default() }).await;
        match answer {
            Err(status) if status.code() != Code::NotFound => Err(self.failed(&format!("ending the pod {id}"), &status)),
            _ => Ok(()),
        }
    }

    /// containerd's images.
    pub async fn images(&self) -> Result<Vec<Image>> {
        let answer: Result<Images, Status> = self.call("/containerd.services.images.v1.Images/List", Nothing {}).await;
        answer.map(|answer| answer.images).map_err(|status| self.failed("listing the images", &status))
    }
    /// One of containerd's images.
    pub async fn image(&self, name: &str) -> Result<Option<Image>> {
        let request = ImageName { name: name.to_owned() };
        let answer: Result<OneImage, Status> = self.call("/containerd.services.images.v1.Images/Get", request).await;
        match answer {
            Ok(answer) => Ok(answer.image),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(self.failed(&format!("looking at the image {name}"), &status)),
        }
    }
    /// Sets one label of one of containerd's images and leaves everything else as it is. Only the mask decides what is changed, but
    /// containerd (2.2.9) dereferences the target without looking: an update without one kills it.
    pub async fn label_image(&self, name: &str, key: &str, value: &str) -> Result<()> {
        let labels = [(key.to_owned(), value.to_owned())].into();
        let request = UpdateImage {
            image: Some(Image { name: name.to_owned(), labels, target: Some(Descriptor::default()) }),
            mask: Some(FieldMask { paths: vec![format!("labels.{key}")] }),
        };
        let answer: Result<OneImage, Status> = self.call("/containerd.services.images.v1.Images/Update", request).await;
        answer.map(drop).map_err(|status| self.failed(&format!("labelling the image {name}"), &status))
    }
    /// Whether containerd's content store has a blob, whole.
    pub async fn has_blob(&self, digest: &str) -> Result<bool> {
        let request = BlobDigest { digest: digest.to_owned() };
        let answer: Result<Nothing, Status> = self.call("/containerd.services.content.v1.Content/Info", request).await;
        match answer {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::NotFound => Ok(false),
            Err(status) => Err(self.failed(&format!("looking for the blob {digest}"), &status)),
        }
    }
}
