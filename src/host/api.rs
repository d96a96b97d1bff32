//! The Kubernetes API as edgeboot uses it: a handful of verbs on plain JSON objects, through kube's client with the local endpoint,
//! no proxy and no environment.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use crate::error::Result;

use super::{Changed, Deadline};

/// Names an object: `ObjectReference::new("v1", "ConfigMap", "configmaps").namespaced("kube-system").named("kubeadm-config")`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectReference {
    /// For instance `v1` or `rbac.authorization.k8s.io/v1`.
    pub api_version: String,
    /// For instance `ConfigMap`.
    pub kind: String,
    /// For instance `configmaps`.
    pub plural: String,
    /// Empty for cluster-wide kinds.
    pub namespace: String,
    /// The object's name; empty for a list.
    pub name: String,
}

/// Makes clients from kubeconfigs.
pub trait ApiConnector: Send + Sync + std::fmt::Debug {
    /// A client with the first context of `kubeconfig`, talking to `server` (`https://address:port`) in place of the one it names.
    /// Makes no request yet.
    fn connect(&self, kubeconfig: &str, server: &str) -> Result<Arc<dyn Api>>;
}

/// A client. A server that does not answer, is starting, overloaded or electing is `Transient`; 401 and 403 are `Rejected`; 404 is
/// `None` on a read.
#[async_trait]
pub trait Api: Send + Sync + std::fmt::Debug {
    /// Whether `/readyz` says ok.
    async fn ready(&self) -> Result<bool>;
    /// Reads an object.
    async fn read(&self, object: &ObjectReference) -> Result<Option<Value>>;
    /// All objects of a kind; the reference's name is empty.
    async fn list(&self, objects: &ObjectReference) -> Result<Vec<Value>>;
    /// Creates an object; [`Changed::No`] when one of that name is there already.
    async fn create(&self, object: &Value) -> Result<Changed>;
    /// Server-side apply without force, as field manager `edgeboot`. A conflict is `Host` and names the other manager and fields.
    async fn apply(&self, object: &Value) -> Result<Changed>;
    /// Replaces an object that was read before (its resourceVersion guards it); `Transient` on a conflict.
    async fn replace(&self, object: &Value) -> Result<()>;
    /// A strategic merge patch (labels and taints of a Node, as kubeadm does).
    async fn patch(&self, object: &ObjectReference, patch: &Value) -> Result<Changed>;
    /// Deletes an object.
    async fn delete(&self, object: &ObjectReference) -> Result<Changed>;
    /// Waits, by a watch that is renewed when it ends, until `holds` is true of the object (`None` when it is absent).
    async fn wait(
        &self,
        object: &ObjectReference,
        holds: &(dyn for<'a> Fn(Option<&'a Value>) -> bool + Send + Sync),
        deadline: &Deadline,
    ) -> Result<Option<Value>>;
}

/// The machine's own.
pub fn machine() -> Arc<dyn ApiConnector> {
    unimplemented!()
}
