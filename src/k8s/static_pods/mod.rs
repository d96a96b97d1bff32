//! The static pods of a control plane, as kubeadm v1.36 writes them (`cmd/kubeadm/app/phases/controlplane/manifests.go`,
//! `phases/etcd/local.go`): wish and facts in, a Pod or its YAML out. Unlike kubeadm we do not copy `*_proxy` variables of our own
//! process into the pods: what a node runs must not depend on the environment edgeboot was started with.

mod commands;
mod pod;
mod volumes;

use std::net::IpAddr;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use crate::config::node::{Arg, Etcd, KubernetesVersion, LocalEtcd, Node};
use crate::error::{Error, Result};

use super::patches::{Patches, Target};
use super::{images, names, yaml};

pub use volumes::CA_DIRS;

/// A static pod of the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Component {
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager.
    ControllerManager,
    /// kube-scheduler.
    Scheduler,
    /// etcd.
    Etcd,
}

impl Component {
    /// All of them.
    pub const ALL: [Component; 4] = [Component::Etcd, Component::ApiServer, Component::ControllerManager, Component::Scheduler];

    /// The name of the program, the container and the pod.
    pub fn name(self) -> &'static str {
        match self {
            Component::ApiServer => "kube-apiserver",
            Component::ControllerManager => "kube-controller-manager",
            Component::Scheduler => "kube-scheduler",
            Component::Etcd => "etcd",
        }
    }
    /// Where its manifest is.
    pub fn manifest_path(self) -> Utf8PathBuf {
        Utf8Path::new(names::MANIFESTS_DIR).join(format!("{}.yaml", self.name()))
    }
    fn target(self) -> Target {
        match self {
            Component::ApiServer => Target::ApiServer,
            Component::ControllerManager => Target::ControllerManager,
            Component::Scheduler => Target::Scheduler,
            Component::Etcd => Target::Etcd,
        }
    }
}

/// What the manifests are made from.
#[derive(Debug, Clone, Copy)]
pub struct ControlPlane<'a> {
    /// The wish.
    pub node: &'a Node,
    /// The Kubernetes version, which names the images.
    pub version: &'a KubernetesVersion,
    /// The API server's address on this machine.
    pub advertise_address: IpAddr,
    /// The node's name, which is etcd's member name.
    pub node_name: &'a str,
    /// Those of [`CA_DIRS`] that exist on this machine.
    pub existing_ca_dirs: &'a [String],
    /// What etcd's member comes to.
    pub etcd: EtcdCluster<'a>,
    /// The CA's certificate is here and its key is not: the controller manager signs nothing.
    pub external_ca: bool,
    /// The user's patches.
    pub patches: &'a Patches,
}

/// What an etcd member comes to at its first start; afterwards it knows by its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EtcdCluster<'a> {
    /// It is the first.
    New,
    /// It joins these: `name=peer URL`, parted by commas, and itself among them.
    Existing(&'a str),
}

impl ControlPlane<'_> {
    /// The manifest of one component as a Pod.
    pub fn manifest(&self, component: Component) -> Result<Value> {
        self.refuse_rootless()?;
        let pod = match component {
            Component::ApiServer => self.api_server(),
            Component::ControllerManager => self.controller_manager(),
            Component::Scheduler => self.scheduler(),
            Component::Etcd => self.etcd(self.local_etcd()?),
        };
        Ok(pod::as_written(self.patches.apply(component.target(), pod)?))
    }
    /// The manifest of one component as YAML.
    pub fn manifest_text(&self, component: Component) -> Result<String> {
        Ok(yaml::text(&self.manifest(component)?))
    }

    /// kubeadm's deprecated alpha gate makes system users; a silently ignored gate would be worse than none.
    fn refuse_rootless(&self) -> Result<()> {
        if self.node.cluster.feature_gates.get("RootlessControlPlane") == Some(&true) {
            return Err(Error::config("making the static pods of the control plane")
                .because("the feature gate RootlessControlPlane (deprecated, alpha) is not supported")
                .hint("remove featureGates.RootlessControlPlane from ClusterConfiguration"));
        }
        Ok(())
    }
    fn local_etcd(&self) -> Result<&LocalEtcd> {
        match &self.node.cluster.etcd {
            Etcd::Local(local) => Ok(local),
            Etcd::External(_) => Err(Error::internal("making etcd's static pod").because("this cluster's etcd is somewhere else")),
        }
    }

    fn api_server(&self) -> Value {
        let cluster = &self.node.cluster;
        let endpoint = with_port(self.advertise_address, self.node.bind_port);
        let probe = pod::ProbeAt {
            host: probe_host(&self.advertise_address.to_string()),
            scheme: "HTTPS",
            startup_failures: self.startup_failures(),
        };
        pod::Component {
            name: Component::ApiServer.name(),
            image: images::kubernetes(cluster, self.version, Component::ApiServer.name()),
            command: commands::api_server(self),
            env: pod::environment(&cluster.api_server.extra_envs),
            cpu: "250m",
            memory: None,
            port: self.node.bind_port,
            liveness: probe.liveness("/livez"),
            readiness: Some(probe.readiness("/readyz")),
            startup: probe.startup("/livez"),
            volumes: volumes::api_server(self),
            annotation: Some(("kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint", endpoint)),
        }
        .pod()
    }

    fn controller_manager(&self) -> Value {
        let cluster = &self.node.cluster;
        let probe = self.bound_probe(&cluster.controller_manager.extra_args);
        pod::Component {
            name: Component::ControllerManager.name(),
            image: images::kubernetes(cluster, self.version, Component::ControllerManager.name()),
            command: commands::controller_manager(self),
            env: pod::environment(&cluster.controller_manager.extra_envs),
            cpu: "200m",
            memory: None,
            port: names::CONTROLLER_MANAGER_PORT,
            liveness: probe.liveness("/healthz"),
            readiness: None,
            startup: probe.startup("/healthz"),
            volumes: volumes::controller_manager(self),
            annotation: None,
        }
        .pod()
    }

    fn scheduler(&self) -> Value {
        let cluster = &self.node.cluster;
        let probe = self.bound_probe(&cluster.scheduler.extra_args);
        pod::Component {
            name: Component::Scheduler.name(),
            image: images::kubernetes(cluster, self.version, Component::Scheduler.name()),
            command: commands::scheduler(self),
            env: pod::environment(&cluster.scheduler.extra_envs),
            cpu: "100m",
            memory: None,
            port: names::SCHEDULER_PORT,
            liveness: probe.liveness("/livez"),
            readiness: Some(probe.readiness("/readyz")),
            startup: probe.startup("/livez"),
            volumes: volumes::scheduler(self),
            annotation: None,
        }
        .pod()
    }

    fn etcd(&self, local: &LocalEtcd) -> Value {
        let (host, port, scheme) = commands::etcd_metrics(local, self.localhost());
        let probe = pod::ProbeAt { host, scheme, startup_failures: self.startup_failures() };
        pod::Component {
            name: Component::Etcd.name(),
            image: images::etcd(&self.node.cluster, local),
            command: commands::etcd(self, local),
            env: pod::environment(&local.extra_envs),
            cpu: "100m",
            memory: Some("100Mi"),
            port,
            liveness: probe.liveness("/livez"),
            readiness: Some(probe.readiness("/readyz")),
            startup: probe.startup("/readyz"),
            volumes: volumes::etcd(self, local),
            annotation: Some((
                "kubeadm.kubernetes.io/etcd.advertise-client-urls",
                format!("https://{}", with_port(self.advertise_address, names::ETCD_CLIENT_PORT)),
            )),
        }
        .pod()
    }

    fn localhost(&self) -> IpAddr {
        loopback(self.advertise_address)
    }
    fn bound_probe(&self, extra_args: &[Arg]) -> pod::ProbeAt {
        let address = super::arguments::last(extra_args, "bind-address").unwrap_or("127.0.0.1");
        pod::ProbeAt { host: probe_host(address), scheme: "HTTPS", startup_failures: self.startup_failures() }
    }
    /// So many periods of ten seconds as cover the component's health check timeout.
    fn startup_failures(&self) -> u64 {
        let timeout = self.node.timeouts.control_plane_component_health_check;
        timeout.as_millis().div_ceil(10_000).try_into().unwrap_or(u64::MAX)
    }
    /// A file of the certificates folder.
    fn certificate(&self, name: &str) -> String {
        self.node.cluster.certificates_dir.join(name).into_string()
    }
}

/// The loopback address of this address' family.
pub fn loopback(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    }
}

/// `address:port`, with brackets around IPv6.
pub fn with_port(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

/// An unspecified address cannot be probed; without a host the kubelet probes the pod's address.
fn probe_host(address: &str) -> String {
    if matches!(address, "0.0.0.0" | "::") { String::new() } else { address.to_owned() }
}
