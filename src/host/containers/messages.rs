//! The few messages of CRI (`k8s.io/cri-api` v0.36, `pkg/apis/runtime/v1/api.proto`) and of containerd's image service
//! (`github.com/containerd/containerd/api` v1.10, `services/images/v1/images.proto`) that edgeboot sends and reads, derived by hand.
//! Fields that are not used are left out: protobuf skips what it does not know.

use std::collections::HashMap;

use prost::Message;

/// A message without fields that are used: requests of lists without a filter, answers that say only that it was done.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Nothing {}

/// `VersionResponse`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Version {
    /// `runtime_name`
    #[prost(string, tag = "2")]
    pub name: String,
    /// `runtime_version`
    #[prost(string, tag = "3")]
    pub version: String,
}

/// `StatusResponse`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct StatusResponse {
    /// `status`
    #[prost(message, optional, tag = "1")]
    pub status: Option<RuntimeStatus>,
}

/// `RuntimeStatus`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RuntimeStatus {
    /// `conditions`
    #[prost(message, repeated, tag = "1")]
    pub conditions: Vec<RuntimeCondition>,
}

/// `RuntimeCondition`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RuntimeCondition {
    /// `type`
    #[prost(string, tag = "1")]
    pub kind: String,
    /// `status`
    #[prost(bool, tag = "2")]
    pub status: bool,
    /// `reason`
    #[prost(string, tag = "3")]
    pub reason: String,
    /// `message`
    #[prost(string, tag = "4")]
    pub message: String,
}

/// `ListPodSandboxResponse`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PodSandboxes {
    /// `items`
    #[prost(message, repeated, tag = "1")]
    pub items: Vec<PodSandbox>,
}

/// `PodSandbox`; `StopPodSandboxRequest` and `RemovePodSandboxRequest` have their one field in the same place.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PodSandbox {
    /// `id`, `pod_sandbox_id`
    #[prost(string, tag = "1")]
    pub id: String,
    /// `metadata`; not sent in a request.
    #[prost(message, optional, tag = "2")]
    pub metadata: Option<PodSandboxMetadata>,
    /// `created_at`, nanoseconds since 1970; not sent in a request.
    #[prost(int64, tag = "4")]
    pub created_at: i64,
}

impl PodSandbox {
    /// Whether it is one of this pod.
    pub fn is_of(&self, namespace: &str, name: &str) -> bool {
        self.metadata.as_ref().is_some_and(|metadata| metadata.namespace == namespace && metadata.name == name)
    }
}

/// `PodSandboxMetadata`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PodSandboxMetadata {
    /// `name`
    #[prost(string, tag = "1")]
    pub name: String,
    /// `namespace`
    #[prost(string, tag = "3")]
    pub namespace: String,
}

/// `containerd.services.images.v1.ListImagesResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct Images {
    /// `images`
    #[prost(message, repeated, tag = "1")]
    pub images: Vec<Image>,
}

/// `containerd.services.images.v1.GetImageRequest`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ImageName {
    /// `name`
    #[prost(string, tag = "1")]
    pub name: String,
}

/// `containerd.services.images.v1.GetImageResponse` and `UpdateImageResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct OneImage {
    /// `image`
    #[prost(message, optional, tag = "1")]
    pub image: Option<Image>,
}

/// `containerd.services.images.v1.Image`.
#[derive(Clone, PartialEq, Message)]
pub struct Image {
    /// `name`
    #[prost(string, tag = "1")]
    pub name: String,
    /// `labels`
    #[prost(map = "string, string", tag = "2")]
    pub labels: HashMap<String, String>,
    /// `target`
    #[prost(message, optional, tag = "3")]
    pub target: Option<Descriptor>,
}

/// `containerd.types.Descriptor`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Descriptor {
    /// `digest`
    #[prost(string, tag = "2")]
    pub digest: String,
}

/// `containerd.services.images.v1.UpdateImageRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct UpdateImage {
    /// `image`
    #[prost(message, optional, tag = "1")]
    pub image: Option<Image>,
    /// `update_mask`
    #[prost(message, optional, tag = "2")]
    pub mask: Option<FieldMask>,
}

/// `google.protobuf.FieldMask`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct FieldMask {
    /// `paths`
    #[prost(string, repeated, tag = "1")]
    pub paths: Vec<String>,
}

/// `containerd.services.content.v1.InfoRequest`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct BlobDigest {
    /// `digest`
    #[prost(string, tag = "1")]
    pub digest: String,
}
