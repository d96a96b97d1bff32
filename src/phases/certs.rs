//! Certificates and keys of a control plane, with kubeadm's phases: the three CAs, what they sign, and the service account key. What
//! stands on the disk is judged by its meaning. A CA or the service account key is never made again while a cluster is here; a leaf
//! that nobody can use is made again, whoever made it.

mod authority;
mod leaf;
pub mod renewal;
mod service_account;

pub use authority::{AuthorityPhase, Signer, signer};
pub(super) use authority::{keyless, required_signer, required_signer_of};
pub use leaf::LeafPhase;
pub use service_account::ServiceAccountPhase;

use jiff::Timestamp;

use crate::config::node::{Cluster, Etcd, Node};
use crate::engine::context::Context;
use crate::engine::file::File;
use crate::engine::phase::{Disruption, Drift, PhaseId, Subject};
use crate::error::{Error, Result};
use crate::host::{Utf8Path, Utf8PathBuf};
use crate::k8s::pki::{Authority, Leaf, Pair};

use super::cluster::{Evidence, cluster_is_here};

const PREFLIGHT: &[PhaseId] = &[PhaseId("preflight")];
const AFTER_CA: &[PhaseId] = &[PhaseId("certs/ca")];
const AFTER_FRONT_PROXY_CA: &[PhaseId] = &[PhaseId("certs/front-proxy-ca")];
const AFTER_ETCD_CA: &[PhaseId] = &[PhaseId("certs/etcd-ca")];

/// What everything that belongs to a cluster's identity comes after: once a kubeconfig exists, these are whole.
pub const IDENTITY: &[PhaseId] =
    &[PhaseId("certs/ca"), PhaseId("certs/front-proxy-ca"), PhaseId("certs/etcd-ca"), PhaseId("certs/sa")];

/// `certs/ca`
pub const CA: AuthorityPhase = AuthorityPhase {
    id: PhaseId("certs/ca"),
    summary: "make the CA of the cluster",
    after: PREFLIGHT,
    authority: Authority::Cluster,
};
/// `certs/apiserver`
pub const API_SERVER: LeafPhase = LeafPhase {
    id: PhaseId("certs/apiserver"),
    summary: "make the certificate kube-apiserver serves with",
    after: AFTER_CA,
    leaf: Leaf::ApiServer,
};
/// `certs/apiserver-kubelet-client`
pub const API_SERVER_KUBELET_CLIENT: LeafPhase = LeafPhase {
    id: PhaseId("certs/apiserver-kubelet-client"),
    summary: "make the certificate kube-apiserver shows to kubelets",
    after: AFTER_CA,
    leaf: Leaf::ApiServerKubeletClient,
};
/// `certs/front-proxy-ca`
pub const FRONT_PROXY_CA: AuthorityPhase = AuthorityPhase {
    id: PhaseId("certs/front-proxy-ca"),
    summary: "make the CA for aggregated API servers",
    after: PREFLIGHT,
    authority: Authority::FrontProxy,
};
/// `certs/front-proxy-client`
pub const FRONT_PROXY_CLIENT: LeafPhase = LeafPhase {
    id: PhaseId("certs/front-proxy-client"),
    summary: "make the certificate kube-apiserver shows to aggregated API servers",
    after: AFTER_FRONT_PROXY_CA,
    leaf: Leaf::FrontProxyClient,
};
/// `certs/etcd-ca`
pub const ETCD_CA: AuthorityPhase =
    AuthorityPhase { id: PhaseId("certs/etcd-ca"), summary: "make the CA of etcd", after: PREFLIGHT, authority: Authority::Etcd };
/// `certs/etcd-server`
pub const ETCD_SERVER: LeafPhase = LeafPhase {
    id: PhaseId("certs/etcd-server"),
    summary: "make the certificate etcd serves with",
    after: AFTER_ETCD_CA,
    leaf: Leaf::EtcdServer,
};
/// `certs/etcd-peer`
pub const ETCD_PEER: LeafPhase = LeafPhase {
    id: PhaseId("certs/etcd-peer"),
    summary: "make the certificate etcd's members talk with",
    after: AFTER_ETCD_CA,
    leaf: Leaf::EtcdPeer,
};
/// `certs/etcd-healthcheck-client`
pub const ETCD_HEALTHCHECK_CLIENT: LeafPhase = LeafPhase {
    id: PhaseId("certs/etcd-healthcheck-client"),
    summary: "make the certificate etcd's probes use",
    after: AFTER_ETCD_CA,
    leaf: Leaf::EtcdHealthcheckClient,
};
/// `certs/apiserver-etcd-client`
pub const API_SERVER_ETCD_CLIENT: LeafPhase = LeafPhase {
    id: PhaseId("certs/apiserver-etcd-client"),
    summary: "make the certificate kube-apiserver shows to etcd",
    after: AFTER_ETCD_CA,
    leaf: Leaf::ApiServerEtcdClient,
};
/// `certs/sa`
pub const SERVICE_ACCOUNT: ServiceAccountPhase = ServiceAccountPhase;

/// Whether a CA and what it signs are part of this node: with an external etcd its certificates are somebody else's.
fn belongs_to(authority: Authority, node: &Node) -> bool {
    node.founds() && (authority != Authority::Etcd || matches!(node.cluster.etcd, Etcd::Local(_)))
}

/// The content of a file; `None` when absent.
type Standing = Option<Vec<u8>>;

/// The two files of a pair.
#[derive(Debug, Clone)]
struct Paths {
    certificate: Utf8PathBuf,
    key: Utf8PathBuf,
}

impl Paths {
    fn new(cluster: &Cluster, base_name: &str) -> Paths {
        let at = |extension: &str| cluster.certificates_dir.join(format!("{base_name}.{extension}"));
        Paths { certificate: at("crt"), key: at("key") }
    }
    /// Certificate and key, as they stand there.
    fn read(&self, cx: &Context) -> Result<(Standing, Standing)> {
        Ok((cx.host.root.read(&self.certificate)?, cx.host.root.read(&self.key)?))
    }
    /// The pair as files, the key first: a certificate is never visible before its key.
    fn files(&self, pair: &Pair) -> Result<Vec<File>> {
        let key = pair.key.to_pem()?;
        Ok(vec![replacing(&self.key, 0o600, key.as_bytes()), replacing(&self.certificate, 0o644, pair.certificate.to_pem())])
    }
    /// What stands there as a wish: only a wrong mode of a file of ours differs from it.
    fn mode_drift(&self, cx: &Context) -> Result<Drift> {
        cx.compare(&self.standing(cx)?)
    }
    fn standing(&self, cx: &Context) -> Result<Vec<File>> {
        let (certificate, key) = self.read(cx)?;
        let file = |path: &Utf8Path, mode, bytes: Standing| bytes.map(|bytes| File::text(path, mode, bytes));
        let files = [file(&self.key, 0o600, key), file(&self.certificate, 0o644, certificate)].into_iter().flatten();
        owned(cx, files)
    }
}

/// Those that the ledger calls ours: the mode of a file of somebody else is theirs.
fn owned(cx: &Context, files: impl IntoIterator<Item = File>) -> Result<Vec<File>> {
    let mut ours = Vec::new();
    for file in files {
        if cx.is_ours(&file.path)? {
            ours.push(file);
        }
    }
    Ok(ours)
}

/// A file that has been judged by its meaning: it replaces whatever stands there.
pub(super) fn replacing(path: impl Into<Utf8PathBuf>, mode: u32, bytes: impl Into<Vec<u8>>) -> File {
    File::text(path, mode, bytes).torn_when(|_| true)
}

/// Whether, for a file of the cluster's identity, a cluster is here; and whether we ever wrote it.
#[derive(Debug, Clone)]
struct Situation {
    evidence: Option<Evidence>,
    here: bool,
    ours: bool,
}

impl Situation {
    /// The state names the cluster as soon as its CA is durable; the other CAs and the service account key may then still be to be
    /// made. So the state alone counts for them only when the CA is gone, too.
    fn of(cx: &Context, authority: Option<Authority>, paths: &[&Utf8Path]) -> Result<Situation> {
        let evidence = cluster_is_here(cx)?;
        let here = match &evidence {
            None => false,
            Some(Evidence::State(_)) if authority != Some(Authority::Cluster) => {
                !cx.host.root.exists(Paths::new(&cx.node.cluster, Authority::Cluster.base_name()).certificate)?
            }
            Some(_) => true,
        };
        Ok(Situation { evidence, here, ours: paths.iter().any(|path| cx.ledger.has_written(path)) })
    }
    /// What making a file again touches: running components hold what they have read.
    fn disrupts(&self) -> Disruption {
        match self.evidence {
            Some(Evidence::EtcdData(_) | Evidence::Kubeconfig(_)) => Disruption::ControlPlane,
            _ => Disruption::Nothing,
        }
    }
    /// Why we stop before `path`, which is `fault`, and ask.
    fn stop(&self, path: &Utf8Path, fault: &str) -> Error {
        let error = Error::host(format!("using {path}")).because(match &self.evidence {
            Some(evidence) if self.here => format!("{fault}, and a cluster is here: {evidence}"),
            _ => fault.to_owned(),
        });
        match &self.evidence {
            Some(Evidence::State(_)) if self.here => error.hint(
                "nothing else is left of that cluster: run `edgeboot init` to found a new one, or restore its files and etcd's data from a backup",
            ),
            Some(_) if self.here => error.hint(format!("restore {path} from a backup; edgeboot never replaces it while its cluster is here (`edgeboot reset` ends the cluster)")),
            _ => error.hint(format!("restore {path}, or remove it together with its other half and what was made from them; then run `edgeboot reconcile`")),
        }
    }
}

fn now(cx: &Context) -> Timestamp {
    cx.host.clock.now()
}

fn subject(path: &Utf8Path) -> Subject {
    Subject::File(path.to_string())
}

#[cfg(test)]
mod tests;
