//! The containerd of the fake machine: it stores what an archive names, and pins it.

use std::io::Read;

use async_trait::async_trait;
use serde_json::Value;

use super::{Services, lock};
use crate::error::{Error, Result};
use crate::host::containers::{Containers, RuntimeStatus, Socket, StoredImage};
use crate::host::root::Utf8PathBuf;
use crate::host::{Changed, Deadline};

#[async_trait]
impl Containers for Services {
    async fn status(&self, _socket: &Socket) -> Result<Option<RuntimeStatus>> {
        self.alive()?;
        Ok(self.is_active("containerd.service").then(|| RuntimeStatus {
            name: "containerd".into(),
            version: "v2.2.9".into(),
            ready: true,
            message: String::new(),
            has_runtime_config: true,
        }))
    }
    async fn images(&self, _socket: &Socket) -> Result<Vec<StoredImage>> {
        self.alive()?;
        let stored = lock(&self.stored);
        let image = |(name, (digest, pinned)): (&String, &(String, bool))| StoredImage {
            name: name.clone(),
            digest: digest.clone(),
            pinned: *pinned,
        };
        Ok(stored.images.iter().map(image).collect())
    }
    async fn import(
        &self,
        _socket: &Socket,
        _ctr: &Utf8PathBuf,
        archive: Box<dyn Read + Send>,
        _deadline: &Deadline,
    ) -> Result<()> {
        self.wrote("Import".to_owned())?;
        let mut entries = tar::Archive::new(archive);
        let failed = |error: std::io::Error| Error::host("importing images").because(error);
        let mut index = Value::Null;
        for entry in entries.entries().map_err(failed)? {
            let mut entry = entry.map_err(failed)?;
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(failed)?;
            if entry.path_bytes().as_ref() == b"index.json" {
                index = serde_json::from_slice(&bytes).unwrap_or_default();
            }
        }
        for manifest in index["manifests"].as_array().into_iter().flatten() {
            let name = manifest["annotations"]["io.containerd.image.name"].as_str().unwrap_or_default().to_owned();
            let digest = manifest["digest"].as_str().unwrap_or_default().to_owned();
            lock(&self.stored).images.insert(name, (digest, false));
        }
        Ok(())
    }
    async fn pin(&self, _socket: &Socket, name: &str) -> Result<Changed> {
        self.wrote(format!("Pin {name}"))?;
        if let Some((_, pinned)) = lock(&self.stored).images.get_mut(name) {
            *pinned = true;
        }
        Ok(Changed::Yes)
    }
    async fn stop_pod(&self, _socket: &Socket, _namespace: &str, name: &str, _deadline: &Deadline) -> Result<Changed> {
        self.wrote(format!("StopPodSandbox {name}"))?;
        if name.starts_with("etcd-") {
            self.start_etcd_again();
        }
        Ok(Changed::Yes)
    }
    async fn pod_created(&self, _socket: &Socket, _namespace: &str, _name: &str) -> Result<Option<i64>> {
        self.alive()?;
        // The kubelet of the fake machine starts a pod the moment its manifest is there.
        Ok(Some(i64::MAX))
    }
    async fn remove_pods(&self, _socket: &Socket, _deadline: &Deadline) -> Result<u32> {
        if !self.is_active("containerd.service") {
            return Err(Error::transient("connecting to the container runtime").because("nothing listens there"));
        }
        self.wrote("RemovePodSandboxes".to_owned())?;
        Ok(4)
    }
}
