//! The API server of the fake machine: it keeps objects, here or on another machine.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Services, Shown, lock};
use crate::error::{Error, Result};
use crate::host::api::{Api, ApiConnector, Applied, Apply, ObjectReference, object_name};
use crate::host::{Changed, Deadline};

/// Between two tries of a wait.
const AGAIN: Duration = Duration::from_millis(100);

/// Makes clients of the fake API server.
#[derive(Debug)]
pub struct Connector(pub Arc<Services>);

impl ApiConnector for Connector {
    fn connect(&self, kubeconfig: &str, server: &str) -> Result<Arc<dyn Api>> {
        let shown = match kubeconfig {
            text if text.contains("token: ") => Shown::Token,
            text if text.contains("client-") => Shown::Certificate,
            _ => Shown::Nothing,
        };
        Ok(Arc::new(Client(self.0.clone(), shown, server.to_owned())))
    }
}

/// A client of the fake API server.
#[derive(Debug)]
struct Client(Arc<Services>, Shown, String);

impl Client {
    fn open(&self, what: &str) -> Result<()> {
        self.0.alive()?;
        lock(&self.0.shown).insert(self.1);
        if (self.0.serves() || self.0.is_elsewhere()) && self.0.is_at(&self.2) {
            self.0.stumbles_at(what)
        } else {
            Err(Error::transient("asking the API server").because("connection refused"))
        }
    }
    fn store(&self, name: &str, mut object: Value) {
        let mut stored = lock(&self.0.stored);
        stored.version += 1;
        object["metadata"]["resourceVersion"] = json!(stored.version.to_string());
        stored.objects.insert(name.to_owned(), object);
    }
}

fn name_of_reference(object: &ObjectReference) -> String {
    match object.namespace.as_str() {
        "" => format!("{} {}", object.kind, object.name),
        namespace => format!("{} {namespace}/{}", object.kind, object.name),
    }
}

#[async_trait]
impl Api for Client {
    async fn ready(&self) -> Result<bool> {
        self.0.alive()?;
        Ok(self.0.serves())
    }
    async fn read(&self, object: &ObjectReference) -> Result<Option<Value>> {
        let name = name_of_reference(object);
        self.open(&format!("reading {name}"))?;
        Ok(lock(&self.0.stored).objects.get(&name).cloned())
    }
    async fn list(&self, objects: &ObjectReference) -> Result<Vec<Value>> {
        let prefix = name_of_reference(objects);
        self.open(&format!("listing {prefix}"))?;
        let stored = lock(&self.0.stored);
        Ok(stored.objects.iter().filter(|(name, _)| name.starts_with(&prefix)).map(|(_, object)| object.clone()).collect())
    }
    async fn create(&self, object: &Value) -> Result<Changed> {
        let name = object_name(object);
        self.open(&format!("creating {name}"))?;
        if lock(&self.0.stored).objects.contains_key(&name) {
            return Ok(Changed::No);
        }
        self.0.wrote(format!("POST {name}"))?;
        let mut object = object.clone();
        let settle = lock(&self.0.elsewhere).as_ref().map(|elsewhere| elsewhere.settle.clone());
        if let Some(settle) = settle {
            settle(&mut object);
        }
        self.store(&name, object);
        self.0.stumbles_after(&name)?;
        Ok(Changed::Yes)
    }
    async fn apply(&self, object: &Value, how: Apply) -> Result<Applied> {
        let name = object_name(object);
        self.open(&format!("applying {name}"))?;
        let mut merged = lock(&self.0.stored).objects.get(&name).cloned().unwrap_or_else(|| json!({}));
        json_patch::merge(&mut merged, object);
        let standing = lock(&self.0.stored).objects.get(&name) == Some(&merged);
        if how != Apply::DryRun && !standing {
            self.0.wrote(format!("PATCH {name}"))?;
            self.store(&name, merged.clone());
            self.0.stumbles_after(&name)?;
        }
        Ok(Applied::Object(merged))
    }
    async fn replace(&self, object: &Value) -> Result<()> {
        let name = object_name(object);
        self.open(&format!("replacing {name}"))?;
        let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
        let standing = lock(&self.0.stored).objects.get(&name).map(version);
        if standing.is_some_and(|standing| standing != version(object)) {
            return Err(Error::transient(format!("replacing {name}")).because("the object has been modified"));
        }
        self.0.wrote(format!("PUT {name}"))?;
        self.store(&name, object.clone());
        self.0.stumbles_after(&name)
    }
    async fn approve(&self, request: &Value) -> Result<()> {
        self.replace(request).await
    }
    async fn patch(&self, object: &ObjectReference, patch: &Value) -> Result<Changed> {
        let name = name_of_reference(object);
        self.open(&format!("changing {name}"))?;
        let Some(mut merged) = lock(&self.0.stored).objects.get(&name).cloned() else {
            return Err(Error::transient(format!("patching {name}")).because("it does not exist"));
        };
        self.0.wrote(format!("PATCH {name}"))?;
        json_patch::merge(&mut merged, patch);
        self.store(&name, merged);
        self.0.stumbles_after(&name)?;
        Ok(Changed::Yes)
    }
    async fn delete(&self, object: &ObjectReference) -> Result<Changed> {
        let name = name_of_reference(object);
        self.open(&format!("deleting {name}"))?;
        self.0.wrote(format!("DELETE {name}"))?;
        let gone = lock(&self.0.stored).objects.remove(&name).is_some();
        self.0.stumbles_after(&name)?;
        Ok(if gone { Changed::Yes } else { Changed::No })
    }
    async fn wait(
        &self,
        object: &ObjectReference,
        holds: &(dyn for<'a> Fn(Option<&'a Value>) -> bool + Send + Sync),
        deadline: &Deadline,
    ) -> Result<Option<Value>> {
        // As the real one, it asks again as long as the failure may pass; what does not hold now never will.
        let standing = deadline.until(AGAIN, AGAIN, || async { self.read(object).await.map(Some) }).await?;
        if holds(standing.as_ref()) { Ok(standing) } else { Err(deadline.exceeded()) }
    }
}
