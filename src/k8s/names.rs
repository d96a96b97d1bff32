//! Every path, port, label, group and version once. kubeadm's come from `cmd/kubeadm/app/constants/constants.go` of v1.36.

/// kubeadm's folder.
pub const KUBERNETES_DIR: &str = "/etc/kubernetes";
/// Where the files of [`KUBERNETES_DIR`] are staged: the same mount, not a folder the kubelet watches.
pub const KUBERNETES_STAGING_DIR: &str = "/etc/kubernetes/tmp";
/// Static pods.
pub const MANIFESTS_DIR: &str = "/etc/kubernetes/manifests";
/// The default certificates folder.
pub const PKI_DIR: &str = "/etc/kubernetes/pki";
/// The cluster's CA certificate, where every node has it.
pub const CA_CERT: &str = "/etc/kubernetes/pki/ca.crt";
/// The administrator's kubeconfig.
pub const ADMIN_CONF: &str = "/etc/kubernetes/admin.conf";
/// The kubeconfig of `system:masters`, on the init node only.
pub const SUPER_ADMIN_CONF: &str = "/etc/kubernetes/super-admin.conf";
/// The kubelet's kubeconfig.
pub const KUBELET_CONF: &str = "/etc/kubernetes/kubelet.conf";
/// The kubelet's kubeconfig while it bootstraps.
pub const BOOTSTRAP_KUBELET_CONF: &str = "/etc/kubernetes/bootstrap-kubelet.conf";
/// kube-controller-manager's kubeconfig.
pub const CONTROLLER_MANAGER_CONF: &str = "/etc/kubernetes/controller-manager.conf";
/// kube-scheduler's kubeconfig.
pub const SCHEDULER_CONF: &str = "/etc/kubernetes/scheduler.conf";
/// The kubelet's folder.
pub const KUBELET_DIR: &str = "/var/lib/kubelet";
/// The kubelet's configuration.
pub const KUBELET_CONFIG: &str = "/var/lib/kubelet/config.yaml";
/// What is particular to this node in the kubelet's configuration.
pub const KUBELET_INSTANCE_CONFIG: &str = "/var/lib/kubelet/instance-config.yaml";
/// The kubelet's flags.
pub const KUBELET_FLAGS: &str = "/var/lib/kubelet/kubeadm-flags.env";
/// The kubelet's client certificate: a symlink to a dated file beside it.
pub const KUBELET_CLIENT_CURRENT: &str = "/var/lib/kubelet/pki/kubelet-client-current.pem";
/// etcd's data.
pub const ETCD_DATA_DIR: &str = "/var/lib/etcd";

/// edgeboot's folder.
pub const EDGEBOOT_DIR: &str = "/var/lib/edgeboot";
/// edgeboot itself, on a host where nothing was baked.
pub const PLACED_BINARY: &str = "/var/lib/edgeboot/bin/edgeboot";
/// The state.
pub const STATE: &str = "/var/lib/edgeboot/state.json";
/// Copies of what stood where we wrote.
pub const KEPT_DIR: &str = "/var/lib/edgeboot/kept";
/// Secrets that came by value.
pub const CREDENTIALS_DIR: &str = "/var/lib/edgeboot/credentials";
/// What a machine that joins has learned about its cluster.
pub const JOIN_DIR: &str = "/var/lib/edgeboot/join";
/// Where the cluster is and its CA: a kubeconfig with nobody in it.
pub const JOIN_CLUSTER: &str = "/var/lib/edgeboot/join/cluster.conf";
/// The cluster's `ClusterConfiguration`.
pub const JOIN_CLUSTER_CONFIGURATION: &str = "/var/lib/edgeboot/join/cluster-configuration.yaml";
/// What the cluster's kubelets share.
pub const JOIN_KUBELET_CONFIGURATION: &str = "/var/lib/edgeboot/join/kubelet-configuration.yaml";
/// The kubelet's key until it has a certificate.
pub const JOIN_KEY: &str = "/var/lib/edgeboot/join/kubelet-client.key";
/// Installed packages, by digest.
pub const PACKAGES_DIR: &str = "/var/lib/edgeboot/packages";
/// The package in use: a link into [`PACKAGES_DIR`].
pub const PACKAGE_CURRENT: &str = "/var/lib/edgeboot/packages/current";
/// The programs of the package in use.
pub const PACKAGE_BIN: &str = "/var/lib/edgeboot/packages/current/bin";
/// The network plugins of the package in use.
pub const PACKAGE_CNI_BIN: &str = "/var/lib/edgeboot/packages/current/cni/bin";
/// Where others install network plugins.
pub const CNI_BIN: &str = "/opt/cni/bin";
/// Network configuration that containerd reads.
pub const CNI_CONF_DIR: &str = "/etc/cni/net.d";
/// Where an image carries its package.
pub const PACKAGE_BAKED: &str = "/usr/lib/edgeboot/package";
/// What the last run says.
pub const STATUS: &str = "/run/edgeboot/status.json";
/// Certificate requests that `edgeboot certs approve` left to a person.
pub const APPROVE_REPORT: &str = "/run/edgeboot/approve.json";
/// One edgeboot at a time.
pub const LOCK: &str = "/run/edgeboot/lock";
/// The configuration.
pub const CONFIG: &str = "/etc/edgeboot/config.yaml";
/// Its drop-ins.
pub const CONFIG_DIR: &str = "/etc/edgeboot/config.d";

/// The kernel modules that are loaded at boot.
pub const MODULES_FILE: &str = "/etc/modules-load.d/edgeboot.conf";
/// The sysctls that are set at boot.
pub const SYSCTL_FILE: &str = "/etc/sysctl.d/90-edgeboot.conf";

/// containerd's unit.
pub const CONTAINERD_UNIT: &str = "containerd.service";
/// The kubelet's unit.
pub const KUBELET_UNIT: &str = "kubelet.service";
/// containerd's configuration.
pub const CONTAINERD_CONFIG: &str = "/etc/containerd/config.toml";
/// Drop-ins of containerd's configuration.
pub const CONTAINERD_CONFIG_DIR: &str = "/etc/containerd/conf.d";
/// containerd's socket.
pub const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";
/// The CRI socket as kubeadm writes it.
pub const CRI_SOCKET: &str = "unix:///var/run/containerd/containerd.sock";

/// The API server.
pub const API_SERVER_PORT: u16 = 6443;
/// The kubelet.
pub const KUBELET_PORT: u16 = 10250;
/// The kubelet's healthz, on 127.0.0.1.
pub const KUBELET_HEALTHZ_PORT: u16 = 10248;
/// kube-controller-manager, on 127.0.0.1.
pub const CONTROLLER_MANAGER_PORT: u16 = 10257;
/// kube-scheduler, on 127.0.0.1.
pub const SCHEDULER_PORT: u16 = 10259;
/// etcd for clients.
pub const ETCD_CLIENT_PORT: u16 = 2379;
/// etcd for peers.
pub const ETCD_PEER_PORT: u16 = 2380;
/// etcd's metrics, on 127.0.0.1.
pub const ETCD_METRICS_PORT: u16 = 2381;

/// The label and taint of a control plane node.
pub const LABEL_CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";
/// The label that keeps load balancers away.
pub const LABEL_EXCLUDE_LOAD_BALANCERS: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// The API group and version of what kubeadm's commands print for programs.
pub const KUBEADM_OUTPUT: &str = "output.kubeadm.k8s.io/v1alpha3";

/// The group of administrators.
pub const GROUP_ADMINS: &str = "kubeadm:cluster-admins";
/// The group that nobody can take rights from.
pub const GROUP_MASTERS: &str = "system:masters";
/// The group of nodes.
pub const GROUP_NODES: &str = "system:nodes";
/// The group of those that join with a token.
pub const GROUP_BOOTSTRAPPERS: &str = "system:bootstrappers:kubeadm:default-node-token";

/// Images that belong to Kubernetes v1.36 (kubeadm's `constants.go`).
pub const PAUSE_TAG: &str = "3.10.2";
/// etcd's.
pub const ETCD_TAG: &str = "3.6.8-0";
/// CoreDNS'.
pub const COREDNS_TAG: &str = "v1.14.2";
/// The default registry.
pub const IMAGE_REPOSITORY: &str = "registry.k8s.io";
