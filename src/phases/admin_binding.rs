//! `admin-binding`: the group of administrators gets its rights (kubeadm's `EnsureAdminClusterRoleBinding`, which it does with the
//! first client it makes). Until then only super-admin.conf has any.

use async_trait::async_trait;
use serde_json::Value;

use super::objects::{AFTER_API, apply_objects, inspect_objects};
use crate::config::node::Node;
use crate::engine::context::Context;
use crate::engine::phase::{Drift, Fingerprint, Inputs, Phase, PhaseId};
use crate::error::Result;
use crate::k8s::names;
use crate::k8s::objects::{Grantee, cluster_role_binding};

/// `admin-binding`.
#[derive(Debug)]
pub struct AdminBinding;

pub(super) fn wishes() -> Vec<Value> {
    vec![cluster_role_binding(names::GROUP_ADMINS, "cluster-admin", &[Grantee::Group(names::GROUP_ADMINS)])]
}

#[async_trait]
impl Phase for AdminBinding {
    fn id(&self) -> PhaseId {
        PhaseId("admin-binding")
    }
    fn summary(&self) -> &'static str {
        "give admin.conf its rights"
    }
    fn after(&self) -> &'static [PhaseId] {
        AFTER_API
    }
    fn applies(&self, node: &Node) -> bool {
        node.founds()
    }
    fn fingerprint(&self, _: &Inputs<'_>) -> Fingerprint {
        Fingerprint::of(&wishes())
    }
    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        inspect_objects(cx, &wishes()).await
    }
    async fn apply(&self, cx: &Context) -> Result<()> {
        apply_objects(cx, &wishes()).await
    }
}
