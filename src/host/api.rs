//! The Kubernetes API as edgeboot uses it: a handful of verbs on plain JSON objects, through kube's client with the local endpoint,
//! no proxy, no environment and no discovery: the kinds that are used stand in a table.

mod client;
mod connection;
mod failure;
mod resources;

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use crate::error::Result;

use super::{Changed, Deadline};
pub use resources::ObjectReference;

/// The field manager of everything that edgeboot writes.
pub const FIELD_MANAGER: &str = "edgeboot";

/// Makes clients from kubeconfigs.
pub trait ApiConnector: Send + Sync + std::fmt::Debug {
    /// A client with the current context of `kubeconfig`, talking to `server` (`https://address:port`) in place of the one it names.
    /// Makes no request yet.
    fn connect(&self, kubeconfig: &str, server: &str) -> Result<Arc<dyn Api>>;
}

/// How a server-side apply deals with fields that somebody else has set to something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Apply {
    /// Nothing is changed; the answer is what would happen.
    DryRun,
    /// Such fields are a conflict, and nothing is changed.
    Careful,
    /// They become ours (`--force`).
    Forced,
}

/// What a server-side apply came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Applied {
    /// The object as it stands now (in a dry run: as it would stand).
    Object(Value),
    /// Somebody else has set some of the fields to something else; their names and managers, in the server's words.
    Conflict(String),
}

/// A client. A server that does not answer, is starting, overloaded or electing is `Transient`; 401 and 403 are `Rejected`; 404 is
/// `None` on a read, and `Transient` on a write, for then the namespace is not there yet.
#[async_trait]
pub trait Api: Send + Sync + std::fmt::Debug {
    /// Whether `/readyz` says ok.
    async fn ready(&self) -> Result<bool>;
    /// Reads an object.
    async fn read(&self, object: &ObjectReference) -> Result<Option<Value>>;
    /// Reads an object as the server remembers it: cheaper than [`Api::read`], and perhaps a moment old. To see that nothing has
    /// changed, not to see that something has.
    async fn glance(&self, object: &ObjectReference) -> Result<Option<Value>> {
        self.read(object).await
    }
    /// All objects of a kind; the reference's name is empty.
    async fn list(&self, objects: &ObjectReference) -> Result<Vec<Value>>;
    /// Creates an object; [`Changed::No`] when one of that name is there already.
    async fn create(&self, object: &Value) -> Result<Changed>;
    /// Server-side apply as field manager `edgeboot`: creates the object, or changes the fields that it names.
    async fn apply(&self, object: &Value, how: Apply) -> Result<Applied>;
    /// Replaces an object that was read before (its resourceVersion guards it); `Transient` on a conflict.
    async fn replace(&self, object: &Value) -> Result<()>;
    /// Decides a CertificateSigningRequest: replaces its `approval` subresource; `Transient` on a conflict.
    async fn approve(&self, request: &Value) -> Result<()>;
    /// A strategic merge patch (labels and taints of a Node, as kubeadm does). With a resourceVersion in it, a conflict is `Transient`.
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
    Arc::new(client::Connector)
}

/// What an object is called in plans and in the ledger: `Kind namespace/name`.
pub fn object_name(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    match (text("/kind"), text("/metadata/namespace"), text("/metadata/name")) {
        (kind, "", name) => format!("{kind} {name}"),
        (kind, namespace, name) => format!("{kind} {namespace}/{name}"),
    }
}
