//! The cluster that an operator's command speaks to: by --kubeconfig, or by the first that is there of $KUBECONFIG (otherwise
//! ~/.kube/config) and admin.conf, as kubeadm looks for it.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::host::api::Api;
use crate::host::{Deadline, Host, Utf8PathBuf, own_kubeconfigs};
use crate::k8s::kubeconfig::{Authority, Kubeconfig};
use crate::k8s::names;
use crate::k8s::pki::{Certificate, ca_hash};

use super::init::absolute;

/// How long a person waits for an API server that does not answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A cluster and the way to it.
#[derive(Debug)]
pub struct Cluster {
    /// The client.
    pub api: Arc<dyn Api>,
    path: Utf8PathBuf,
    kubeconfig: Kubeconfig,
}

impl Cluster {
    /// The cluster of a kubeconfig; no request is made yet.
    pub fn connect(host: &Host, given: Option<&str>) -> Result<Cluster> {
        let path = find(host, given)?;
        let doing = || format!("reading the kubeconfig {path}");
        let bytes = host.root.read(&path)?.ok_or_else(|| {
            Error::usage(doing())
                .because("there is no such file")
                .hint("on a control plane run it as root, or name the kubeconfig by --kubeconfig")
        })?;
        let kubeconfig = Kubeconfig::parse(&bytes).map_err(|why| Error::usage(doing()).because(why))?;
        let api = host.api.connect(&String::from_utf8_lossy(&bytes), &kubeconfig.server)?;
        Ok(Cluster { api, path, kubeconfig })
    }

    /// How long its API server may take.
    pub fn patience(&self) -> Deadline {
        Deadline::after(PATIENCE, format!("the API server {} to answer", self.kubeconfig.server))
    }

    /// Where others find it: `host:port`.
    pub fn endpoint(&self) -> &str {
        self.kubeconfig.server.trim_start_matches("https://")
    }

    /// What its CAs are known by (`--discovery-token-ca-cert-hash`).
    pub fn ca_hashes(&self, host: &Host) -> Result<Vec<String>> {
        let failed = |why: String| Error::usage(format!("reading the CA of the kubeconfig {}", self.path)).because(why);
        let pem = match &self.kubeconfig.authority {
            Authority::Embedded(pem) => pem.clone(),
            Authority::File(path) => host.root.read(path)?.ok_or_else(|| failed(format!("{path} is not there")))?,
            Authority::None => return Err(failed("it names none".to_owned())),
        };
        let chain = Certificate::chain_from_pem(&pem).map_err(failed)?;
        Ok(chain.iter().map(ca_hash).collect())
    }
}

/// kubeadm's `GetKubeConfigPath`.
fn find(host: &Host, given: Option<&str>) -> Result<Utf8PathBuf> {
    if let Some(path) = given {
        return Ok(absolute(path)?.into());
    }
    for path in own_kubeconfigs() {
        if host.root.exists(&path)? {
            return Ok(path);
        }
    }
    Ok(names::ADMIN_CONF.into())
}
