//! The containerd of the fake machine: it stores what an archive names, and pins it.

use std::collections::BTreeSet;
use std::io::Read;

use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::Value;

use super::{Services, lock};
use crate::error::{Error, Result};
use crate::host::containers::{BLOBS, Containers, LaidBlob, RuntimeStatus, Socket, StoredImage};
use crate::host::root::{Files as _, Utf8Path, Utf8PathBuf};
use crate::host::{Changed, Deadline};

impl Services {
    /// A blob in the content store's folder.
    fn laid(&self, digest: &str) -> Option<Vec<u8>> {
        let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
        self.files.read(&Utf8Path::new(BLOBS).join(hex)).ok().flatten()
    }
}

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
    async fn present_blobs(&self, _socket: &Socket, digests: &[String]) -> Result<BTreeSet<String>> {
        self.alive()?;
        let stored = lock(&self.stored);
        Ok(digests.iter().filter(|digest| stored.blobs.contains(*digest)).cloned().collect())
    }
    async fn take_over(&self, _socket: &Socket, blobs: &[LaidBlob]) -> Result<BTreeSet<String>> {
        let mut taken = BTreeSet::new();
        for blob in blobs {
            self.wrote(format!("Write {}", blob.digest))?;
            if self.laid(&blob.digest).is_some_and(|bytes| bytes.len() as u64 == blob.size) {
                lock(&self.stored).blobs.insert(blob.digest.clone());
                taken.insert(blob.digest.clone());
            }
        }
        Ok(taken)
    }
    async fn release_blobs(&self, _socket: &Socket) -> Result<()> {
        self.alive()
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
        // What is in its records, it relies upon.
        for name in &lock(&self.stored).blobs {
            let bytes = self.laid(name).unwrap_or_default();
            let found = format!("sha256:{}", hex::encode(digest(&SHA256, &bytes)));
            if found != *name {
                return Err(Error::host("importing images").because(format!("the blob {name} is torn in the content store")));
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
