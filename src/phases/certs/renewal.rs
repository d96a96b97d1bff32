//! What expires on a control plane, and how it is renewed when an operator asks for it: kubeadm's `certs check-expiration` and `certs
//! renew` (`phases/certs/renewal`), with its names. A renewed certificate says what the old one said, with a new key. CAs are never
//! renewed. `reconcile` does the same by itself, in time; this is for those who want it now.

use jiff::Timestamp;

use super::{
    API_SERVER, API_SERVER_ETCD_CLIENT, API_SERVER_KUBELET_CLIENT, AuthorityPhase, CA, ETCD_CA, ETCD_HEALTHCHECK_CLIENT, ETCD_PEER,
    ETCD_SERVER, FRONT_PROXY_CA, FRONT_PROXY_CLIENT, LeafPhase, Paths, Signer, keyless, now, replacing, required_signer_of,
};
use crate::config::node::{Cluster, Etcd};
use crate::engine::context::Context;
use crate::engine::phase::PhaseId;
use crate::error::{Error, Result};
use crate::host::{Root, Utf8PathBuf};
use crate::k8s::kubeconfig::{self, Credentials, Kubeconfig};
use crate::k8s::pki::{Authority, Certificate, Leaf, Pair, Profile, Validity};
use crate::phases::kubeconfig::{ADMIN, CONTROLLER_MANAGER, KubeconfigPhase, SCHEDULER, SUPER_ADMIN};
use crate::phases::stale;

/// A certificate that is renewed by name.
#[derive(Debug, Clone, Copy)]
pub enum Renewable {
    /// In a file of its own.
    Leaf(LeafPhase),
    /// Inside a kubeconfig. The kubelet renews its own.
    Kubeconfig(KubeconfigPhase),
}

/// All of them, by name, as kubeadm lists them.
pub const ALL: [Renewable; 11] = [
    Renewable::Kubeconfig(ADMIN),
    Renewable::Leaf(API_SERVER),
    Renewable::Leaf(API_SERVER_ETCD_CLIENT),
    Renewable::Leaf(API_SERVER_KUBELET_CLIENT),
    Renewable::Kubeconfig(CONTROLLER_MANAGER),
    Renewable::Leaf(ETCD_HEALTHCHECK_CLIENT),
    Renewable::Leaf(ETCD_PEER),
    Renewable::Leaf(ETCD_SERVER),
    Renewable::Leaf(FRONT_PROXY_CLIENT),
    Renewable::Kubeconfig(SCHEDULER),
    Renewable::Kubeconfig(SUPER_ADMIN),
];
const AUTHORITIES: [AuthorityPhase; 3] = [CA, ETCD_CA, FRONT_PROXY_CA];

/// Those of a cluster: with an external etcd its certificates are somebody else's.
pub fn of_cluster(cluster: &Cluster) -> Vec<Renewable> {
    ALL.into_iter().filter(|one| is_ours(cluster, one.authority())).collect()
}

fn is_ours(cluster: &Cluster, authority: Authority) -> bool {
    authority != Authority::Etcd || matches!(cluster.etcd, Etcd::Local(_))
}

/// A phase's id without its family: kubeadm's name of the certificate.
fn bare(id: PhaseId) -> &'static str {
    id.0.rsplit('/').next().unwrap_or(id.0)
}

impl Renewable {
    /// kubeadm's name for it.
    pub fn name(&self) -> &'static str {
        match self {
            Renewable::Leaf(leaf) => bare(leaf.id),
            Renewable::Kubeconfig(kubeconfig) => kubeconfig.path.rsplit('/').next().unwrap_or(kubeconfig.path),
        }
    }

    /// kubeadm's words for it.
    pub fn long_name(&self) -> &'static str {
        match self {
            Renewable::Leaf(leaf) => match leaf.leaf {
                Leaf::ApiServer => "certificate for serving the Kubernetes API",
                Leaf::ApiServerKubeletClient => "certificate for the API server to connect to kubelet",
                Leaf::FrontProxyClient => "certificate for the front proxy client",
                Leaf::EtcdServer => "certificate for serving etcd",
                Leaf::EtcdPeer => "certificate for etcd nodes to communicate with each other",
                Leaf::EtcdHealthcheckClient => "certificate for liveness probes to healthcheck etcd",
                Leaf::ApiServerEtcdClient => "certificate the apiserver uses to access etcd",
            },
            Renewable::Kubeconfig(kubeconfig) => match kubeconfig.consumer {
                Some("kube-controller-manager") => "certificate embedded in the kubeconfig file for the controller manager to use",
                Some(_) => "certificate embedded in the kubeconfig file for the scheduler manager to use",
                None if kubeconfig.path == ADMIN.path => {
                    "certificate embedded in the kubeconfig file for the admin to use and for kubeadm itself"
                }
                None => "certificate embedded in the kubeconfig file for the super-admin",
            },
        }
    }

    fn id(&self) -> PhaseId {
        match self {
            Renewable::Leaf(leaf) => leaf.id,
            Renewable::Kubeconfig(kubeconfig) => kubeconfig.id,
        }
    }

    fn authority(&self) -> Authority {
        match self {
            Renewable::Leaf(leaf) => leaf.leaf.authority(),
            Renewable::Kubeconfig(_) => Authority::Cluster,
        }
    }

    fn consumers(&self) -> Vec<&'static str> {
        match self {
            Renewable::Leaf(leaf) => leaf.leaf.consumers().to_vec(),
            Renewable::Kubeconfig(kubeconfig) => kubeconfig.consumer.into_iter().collect(),
        }
    }

    /// The file it stands in.
    pub fn path(&self, cluster: &Cluster) -> Utf8PathBuf {
        match self {
            Renewable::Leaf(leaf) => Paths::new(cluster, leaf.leaf.base_name()).certificate,
            Renewable::Kubeconfig(kubeconfig) => kubeconfig.path.into(),
        }
    }

    /// The certificate in that file; the error says in words why there is none.
    fn certificate(&self, bytes: &[u8]) -> Result<Certificate, String> {
        match self {
            Renewable::Leaf(_) => Certificate::from_pem(bytes),
            Renewable::Kubeconfig(_) => match Kubeconfig::parse(bytes)?.credentials {
                Credentials::Embedded { certificate, .. } => Certificate::from_pem(&certificate),
                _ => Err("it holds no client certificate".to_owned()),
            },
        }
    }
}

/// How long a certificate is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Term {
    /// Until then.
    Until(Timestamp),
    /// It is not there.
    Missing,
    /// It cannot be read; why, in words.
    Unreadable(String),
}

/// A certificate and its term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiration {
    /// kubeadm's name of it.
    pub name: &'static str,
    /// Its term.
    pub term: Term,
    /// kubeadm's name of the CA that signs it; `None` for a CA.
    pub authority: Option<&'static str>,
    /// Its CA's key is not on this machine (kubeadm's external CA): it is not renewed here.
    pub external: bool,
}

/// What expires on this machine, read from its files alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expirations {
    /// What can be renewed.
    pub certificates: Vec<Expiration>,
    /// What cannot.
    pub authorities: Vec<Expiration>,
}

/// Looks at the files of a control plane.
pub fn expirations(root: &Root, cluster: &Cluster) -> Result<Expirations> {
    let mut authorities = Vec::new();
    for phase in AUTHORITIES.iter().filter(|phase| is_ours(cluster, phase.authority)) {
        let path = Paths::new(cluster, phase.authority.base_name()).certificate;
        let term = term(root.read(path)?.as_deref(), Certificate::from_pem);
        let external = is_external(root, cluster, phase.authority)?;
        authorities.push(Expiration { name: bare(phase.id), term, authority: None, external });
    }
    let mut certificates = Vec::new();
    for one in of_cluster(cluster) {
        let signer = AUTHORITIES.iter().find(|phase| phase.authority == one.authority());
        let term = term(root.read(one.path(cluster))?.as_deref(), |bytes| one.certificate(bytes));
        let external = is_external(root, cluster, one.authority())?;
        certificates.push(Expiration { name: one.name(), term, authority: signer.map(|phase| bare(phase.id)), external });
    }
    Ok(Expirations { certificates, authorities })
}

fn term(bytes: Option<&[u8]>, read: impl FnOnce(&[u8]) -> Result<Certificate, String>) -> Term {
    match bytes.map(read) {
        None => Term::Missing,
        Some(Ok(certificate)) => Term::Until(certificate.not_after),
        Some(Err(why)) => Term::Unreadable(why),
    }
}

fn is_external(root: &Root, cluster: &Cluster, authority: Authority) -> Result<bool> {
    let paths = Paths::new(cluster, authority.base_name());
    Ok(root.exists(paths.certificate)? && !root.exists(paths.key)?)
}

/// What came of renewing one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewed {
    /// It is valid until then.
    Until(Timestamp),
    /// There is none.
    Missing,
    /// Its CA's key is not on this machine.
    External,
}

/// Renews one, whenever it expires; what reads it is marked to be started again (`control-plane-restart`). Durable on the disk at once,
/// in the ledger that only the new one is ours with the next save.
pub async fn renew(cx: &Context, cluster: &Cluster, one: Renewable) -> Result<Renewed> {
    let (cx, path) = (cx.for_phase(one.id()), one.path(cluster));
    let doing = || format!("renewing {path}");
    let Some(standing) = cx.host.root.read(&path)? else { return Ok(Renewed::Missing) };
    let signer = required_signer_of(&cx, cluster, one.authority(), path.as_str())?;
    let Signer::Ours(ca) = signer else { return Ok(Renewed::External) };
    let torn = |why: String| Error::host(doing()).because(why).hint("`edgeboot reconcile` makes it again");
    let profile = Profile::of(&one.certificate(&standing).map_err(torn)?);
    let (algorithm, validity) = (cluster.key_algorithm, Validity::from_now(now(&cx), cluster.certificate_validity)?);
    let issue = move || Ok((ca.issue(&profile, algorithm, validity)?, ca));
    let (pair, ca): (Pair, Box<Pair>) = cx.host.blocking(issue).await?;
    let files = match one {
        Renewable::Leaf(leaf) => Paths::new(cluster, leaf.leaf.base_name()).files(&pair)?,
        Renewable::Kubeconfig(_) => {
            let (certificate, key, authority) = (pair.certificate.to_pem(), pair.key.to_pem()?, ca.certificate.to_pem());
            let text = kubeconfig::with_client(&standing, &certificate, &key, &authority).map_err(torn)?;
            vec![replacing(&path, 0o600, text.as_bytes())]
        }
    };
    stale::mark_components(&cx, &one.consumers()).await?;
    cx.place(files).await.map(drop)?;
    cx.ledger.settle(&cx.host.root, cx.phase)?;
    Ok(Renewed::Until(pair.certificate.not_after))
}

/// The failure of renewing just this one, when it is not there or its CA's key is not.
pub fn refused(cluster: &Cluster, one: Renewable, why: Renewed) -> Error {
    let doing = format!("renewing {}", one.path(cluster));
    match why {
        Renewed::External => keyless(&doing),
        Renewed::Missing | Renewed::Until(_) => {
            Error::host(doing).because("it is not there").hint("on a control plane `edgeboot reconcile` makes what is missing")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_kubeadms_and_sorted() {
        let names = ALL.map(|one| one.name());
        assert_eq!(
            names,
            [
                "admin.conf",
                "apiserver",
                "apiserver-etcd-client",
                "apiserver-kubelet-client",
                "controller-manager.conf",
                "etcd-healthcheck-client",
                "etcd-peer",
                "etcd-server",
                "front-proxy-client",
                "scheduler.conf",
                "super-admin.conf"
            ]
        );
        assert!(ALL.iter().all(|one| one.long_name().starts_with("certificate")));
        assert_eq!(AUTHORITIES.map(|phase| bare(phase.id)), ["ca", "etcd-ca", "front-proxy-ca"]);
    }
}
