//! Whether a cluster is here. Where one is, no CA and no service account key is ever made again: a second cluster is never founded by
//! accident. CA files alone are not a cluster; they are used as kubeadm uses them.

use std::fmt;

use crate::config::node::Etcd;
use crate::engine::context::Context;
use crate::engine::state::ClusterIdentity;
use crate::error::Result;
use crate::host::{Root, Utf8PathBuf};
use crate::k8s::kubeconfig::Kubeconfig;
use crate::k8s::names;

/// What says that a cluster is here, the strongest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// etcd has data on this machine.
    EtcdData(Utf8PathBuf),
    /// A kubeconfig that parses. It is made after the CAs and the service account key, so these were whole once.
    Kubeconfig(&'static str),
    /// Nothing but edgeboot's own state.
    State(ClusterIdentity),
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Evidence::EtcdData(path) => write!(f, "etcd has data in {path}"),
            Evidence::Kubeconfig(path) => write!(f, "{path} belongs to one"),
            Evidence::State(identity) => write!(f, "{} names one ({})", names::STATE, identity.ca_cert_hash),
        }
    }
}

/// Whether nothing but the state speaks of a cluster any more: CA, etcd's data and the kubelet's kubeconfig are all gone (after
/// `kubeadm reset`).
pub fn is_gone(root: &Root) -> Result<bool> {
    let paths = [format!("{}/ca.crt", names::PKI_DIR), format!("{}/member", names::ETCD_DATA_DIR), names::KUBELET_CONF.to_owned()];
    for path in paths {
        if root.exists(path)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a cluster is here, and what says so. One that is here has nothing to do with what is made for another machine.
pub fn cluster_is_here(cx: &Context) -> Result<Option<Evidence>> {
    if cx.ledger.is_apart() {
        return Ok(None);
    }
    if let Etcd::Local(etcd) = &cx.node.cluster.etcd {
        let member = etcd.data_dir.join("member");
        if cx.host.root.exists(&member)? {
            return Ok(Some(Evidence::EtcdData(member)));
        }
    }
    for path in [names::ADMIN_CONF, names::KUBELET_CONF] {
        if cx.host.root.read(path)?.is_some_and(|bytes| Kubeconfig::parse(&bytes).is_ok()) {
            return Ok(Some(Evidence::Kubeconfig(path)));
        }
    }
    Ok(cx.ledger.cluster().map(Evidence::State))
}
