//! `cluster-configuration`: what the cluster says about itself and what its kubelets share, fetched once and kept, so that later boots need
//! nobody; and whether this machine's package goes with it, before anything else is made of it.

use async_trait::async_trait;
use serde_json::{Map, Value};

use crate::config;
use crate::config::node::{KubernetesVersion, Node};
use crate::engine::context::Context;
use crate::engine::file::{File, not_yaml};
use crate::engine::phase::{Action, Change, Drift, Fingerprint, Inputs, Phase, PhaseId, Subject};
use crate::error::{Error, Result};
use crate::host::Deadline;
use crate::host::api::{Api, ObjectReference};
use crate::k8s::names;
use crate::k8s::objects::KUBE_SYSTEM;
use crate::phases::certs::replacing;

use super::{Standing, newcomer, patiently, standing};

/// `cluster-configuration`.
#[derive(Debug)]
pub struct ClusterConfiguration;

/// Its id: what a further control plane is made from is known after it.
pub const CLUSTER_CONFIGURATION: PhaseId = PhaseId("cluster-configuration");

/// A kubelet may be this much older than its control plane (Kubernetes' version skew policy).
const SKEW: u32 = 3;

/// A ConfigMap, the key that is fetched, and where it is kept.
const KEPT: [(&str, &str, &str); 2] = [
    ("kubeadm-config", "ClusterConfiguration", names::JOIN_CLUSTER_CONFIGURATION),
    ("kubelet-config", "kubelet", names::JOIN_KUBELET_CONFIGURATION),
];

/// What the kubelets of the cluster share, as it was fetched.
pub fn kubelet_configuration(cx: &Context) -> Result<Map<String, Value>> {
    let path = names::JOIN_KUBELET_CONFIGURATION;
    let text = cx.host.root.read_text(path)?;
    let text = text.ok_or_else(|| Error::transient(format!("reading {path}")).because("it has not been fetched yet"))?;
    serde_saphyr::from_str(&text).map_err(|error| Error::host(format!("reading {path}")).because(error.to_string()))
}

#[async_trait]
impl Phase for ClusterConfiguration {
    fn id(&self) -> PhaseId {
        CLUSTER_CONFIGURATION
    }
    fn summary(&self) -> &'static str {
        "reads the cluster's configuration, and checks that the package goes with it"
    }
    fn after(&self) -> &'static [PhaseId] {
        &[PhaseId("discovery"), PhaseId("package")]
    }
    fn applies(&self, node: &Node) -> bool {
        node.join().is_some()
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        Fingerprint::of(&inputs.facts.package.as_ref().map(|package| &package.kubernetes_version))
    }

    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        let mut drift = Drift::none();
        for (_, _, path) in KEPT {
            if cx.host.root.read(path)?.is_none_or(|bytes| not_yaml(&bytes)) {
                drift.changes.push(Change::new(Subject::File(path.to_owned()), Action::Create));
            }
        }
        if drift.is_none()
            && let Err(why) = fits(&kubelet_version(cx)?, &cluster_version(cx)?)
        {
            // The cluster may have been upgraded since.
            let change = Change::new(Subject::File(names::JOIN_CLUSTER_CONFIGURATION.to_owned()), Action::Update);
            drift.changes.push(change.because(why));
        }
        Ok(drift)
    }

    async fn apply(&self, cx: &Context) -> Result<()> {
        let api = match standing(cx)? {
            Standing::Joined(_) => cx.api()?,
            Standing::Outside(_) => newcomer(cx).await?,
        };
        let deadline = Deadline::after(cx.node.timeouts.kubernetes_api_call, "the cluster to tell its configuration");
        let [cluster, kubelet] = KEPT;
        let (cluster, kubelet) = futures_util::try_join!(
            patiently(cx, &deadline, || fetch(api.as_ref(), cluster.0, cluster.1)),
            patiently(cx, &deadline, || fetch(api.as_ref(), kubelet.0, kubelet.1)),
        )?;
        let told = config::fetched::cluster(&cluster, "the ConfigMap kubeadm-config")?;
        if cx.node.is_further_control_plane() && told.control_plane_endpoint.is_none() {
            return Err(without_endpoint());
        }
        if let Some(version) = told.kubernetes_version.set() {
            fits(&kubelet_version(cx)?, version).map_err(refused)?;
        }
        let texts = [cluster, kubelet].into_iter().zip(KEPT);
        let files: Vec<File> = texts.map(|(text, (_, _, path))| replacing(path, 0o600, text)).collect();
        cx.place(files).await.map(drop)
    }
}

async fn fetch(api: &dyn Api, name: &str, key: &str) -> Result<String> {
    let reference = ObjectReference::new("v1", "ConfigMap", "configmaps").namespaced(KUBE_SYSTEM).named(name);
    let reading = || Error::transient(format!("reading {reference}"));
    let object = api.read(&reference).await?.ok_or_else(|| reading().because("the cluster has none yet"))?;
    let text = object["data"][key].as_str().filter(|text| !text.is_empty());
    text.map(str::to_owned).ok_or_else(|| reading().because(format!("it has no {key}")))
}

fn kubelet_version(cx: &Context) -> Result<KubernetesVersion> {
    let wrong = |why: String| Error::config("reading the Kubernetes version of the package").because(why);
    cx.package()?.kubernetes_version.parse().map_err(wrong)
}

/// The cluster's version; the package's where it does not say.
fn cluster_version(cx: &Context) -> Result<KubernetesVersion> {
    match cx.cluster()?.kubernetes_version.set() {
        Some(version) => Ok(version.clone()),
        None => kubelet_version(cx),
    }
}

/// Whether a kubelet goes with a control plane: never newer, and not more than three minor versions older.
fn fits(kubelet: &KubernetesVersion, cluster: &KubernetesVersion) -> Result<(), String> {
    let (have, want) = ((kubelet.major, kubelet.minor), (cluster.major, cluster.minor));
    match () {
        () if have > want => Err(format!("the package's kubelet {kubelet} is newer than the cluster, which is {cluster}")),
        () if kubelet.major < cluster.major || kubelet.minor + SKEW < cluster.minor => Err(format!(
            "the package's kubelet {kubelet} is more than {SKEW} minor versions older than the cluster, which is {cluster}"
        )),
        () => Ok(()),
    }
}

/// kubeadm's rule (`checkIfControlPlaneCanBeAdded` in `cmd/join.go`): all machines must find all control planes.
fn without_endpoint() -> Error {
    Error::config("joining a cluster as a control plane")
        .because("the cluster has no address that all its control planes share (`controlPlaneEndpoint`)")
        .hint(
            "a balancer or a name before its API servers is needed: set `controlPlaneEndpoint` in the ConfigMap kube-system/kubeadm-config              and have it in the API server's certificate; or join this machine as a worker",
        )
}

fn refused(why: String) -> Error {
    Error::config("joining the cluster with this machine's package")
        .because(why)
        .hint("bring a package with a Kubernetes that the cluster takes: its own version, or up to three minor versions older")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubelet_is_never_newer_and_not_much_older() {
        let table = [
            ("v1.36.3", "v1.36.0", true),
            ("v1.36.0", "v1.36.9", true),
            ("v1.33.0", "v1.36.3", true),
            ("v1.32.9", "v1.36.0", false),
            ("v1.37.0-rc.0", "v1.36.3", false),
            ("v1.36.3", "v2.0.0", false),
        ];
        for (kubelet, cluster, wished) in table {
            let read = |text: &str| text.parse::<KubernetesVersion>().expect("a version");
            assert_eq!(fits(&read(kubelet), &read(cluster)).is_ok(), wished, "{kubelet} {cluster}");
        }
    }
}
