//! The texts around containerd and the kubelet, and edgeboot's own units: units, drop-ins, containerd's configuration, where programs
//! are found. Pure: values in, text out; the phases `runtime` and `kubelet-start` place them.

use super::names;

/// A text and where it goes; its mode is 0644.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitFile {
    /// Where.
    pub path: String,
    /// The content.
    pub text: String,
}

/// Units that are placed on the machine.
pub const UNIT_DIR: &str = "/etc/systemd/system";
/// kubeadm's drop-in of the kubelet's unit.
pub const KUBELET_DROP_IN: &str = "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf";
/// The user's containerd TOML (`runtime.config`), read after ours.
pub const CONTAINERD_NODE_CONFIG: &str = "/etc/containerd/conf.d/50-edgeboot-node.toml";
/// Lets login shells find the package's programs.
pub const PROFILE: &str = "/etc/profile.d/edgeboot.sh";
/// Lets every unit find the package's programs.
pub const MANAGER_ENVIRONMENT: &str = "/etc/systemd/system.conf.d/50-edgeboot.conf";
/// Where the binary lies in an image; [`edgeboot_units`] replaces it.
pub const EDGEBOOT_BAKED: &str = "/usr/bin/edgeboot";

/// What systemd and login shells search by default. The package's programs come after it for everyone (they hide nothing), before it
/// for the package's own containerd and kubelet.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// containerd's unit, as upstream's `containerd.service` but with the package's programs, which need neither modprobe (phase `host`)
/// nor a runtime of the OS. `package` is the package's digest: another package is another text, and so a restart.
pub fn containerd_service(package: &str) -> UnitFile {
    let bin = names::PACKAGE_BIN;
    let text = format!(
        "\
# Written by edgeboot; a changed file is kept and reported.
# package: {package}

[Unit]
Description=containerd container runtime
Documentation=https://containerd.io
After=network.target dbus.service
RequiresMountsFor={} /var/lib/containerd

[Service]
Environment=PATH={bin}:{PATH}
ExecStart={bin}/containerd

Type=notify
Delegate=yes
KillMode=process
Restart=always
RestartSec=5

# Having non-zero Limit*s causes performance problems due to accounting overhead
# in the kernel. We recommend using cgroups to do container-local accounting.
LimitNPROC=infinity
LimitCORE=infinity

TasksMax=infinity
OOMScoreAdjust=-999

[Install]
WantedBy=multi-user.target
",
        names::EDGEBOOT_DIR
    );
    UnitFile { path: format!("{UNIT_DIR}/{}", names::CONTAINERD_UNIT), text }
}

/// The kubelet's unit and kubeadm's drop-in, as kubernetes/release packages them (`cmd/krel/templates/latest`), with the package's
/// programs and without network-online.target: a node that was whole comes up without a network. `package` is the package's digest.
pub fn kubelet_unit_files(package: &str) -> Vec<UnitFile> {
    let bin = names::PACKAGE_BIN;
    let unit = format!(
        "\
# Written by edgeboot; a changed file is kept and reported.
# package: {package}

[Unit]
Description=kubelet: The Kubernetes Node Agent
Documentation=https://kubernetes.io/docs/
After={containerd}
RequiresMountsFor={} {} {}
StartLimitIntervalSec=0

[Service]
Environment=PATH={bin}:{PATH}
ExecStart={bin}/kubelet
Restart=always
RestartSec=10

[Install]
WantedBy=multi-user.target
",
        names::EDGEBOOT_DIR,
        names::KUBERNETES_DIR,
        names::KUBELET_DIR,
        containerd = names::CONTAINERD_UNIT,
    );
    let drop_in = format!(
        "\
# Note: This dropin only works with kubeadm and kubelet v1.11+
[Service]
Environment=\"KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig={} --kubeconfig={}\"
Environment=\"KUBELET_CONFIG_ARGS=--config={}\"
# This is a file that \"kubeadm init\" and \"kubeadm join\" generates at runtime, populating the KUBELET_KUBEADM_ARGS variable dynamically
EnvironmentFile=-{}
# This is a file that the user can use for overrides of the kubelet args as a last resort. Preferably, the user should use
# the .NodeRegistration.KubeletExtraArgs object in the configuration files instead. KUBELET_EXTRA_ARGS should be sourced from this file.
EnvironmentFile=-/etc/default/kubelet
EnvironmentFile=-/etc/sysconfig/kubelet
ExecStart=
ExecStart={bin}/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
",
        names::BOOTSTRAP_KUBELET_CONF,
        names::KUBELET_CONF,
        names::KUBELET_CONFIG,
        names::KUBELET_FLAGS,
    );
    vec![
        UnitFile { path: format!("{UNIT_DIR}/{}", names::KUBELET_UNIT), text: unit },
        UnitFile { path: KUBELET_DROP_IN.to_owned(), text: drop_in },
    ]
}

/// containerd's configuration (version 3, containerd 2.x). `sandbox_image` is the image that the kubelet must never remove. Unpacked
/// layers are flushed before they count (`sync_fs`); pulls go the way that honours it, which the transfer service does not.
pub fn containerd_config(sandbox_image: &str) -> UnitFile {
    let sandbox = toml_string(sandbox_image);
    let text = format!(
        "\
# Written by edgeboot; a changed file is kept and reported. Settings of your own belong into {directory}/*.toml.
version = 3
imports = ['{directory}/*.toml']

[grpc]
  address = '{socket}'

[plugins.'io.containerd.cri.v1.images']
  use_local_image_pull = true

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = {sandbox}

[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ['{cni}', '{package_cni}']
  conf_dir = '{cni_conf}'

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  BinaryName = '{bin}/runc'
  SystemdCgroup = true

[plugins.'io.containerd.service.v1.diff-service']
  sync_fs = true
",
        directory = names::CONTAINERD_CONFIG_DIR,
        socket = names::CONTAINERD_SOCKET,
        cni = names::CNI_BIN,
        package_cni = names::PACKAGE_CNI_BIN,
        cni_conf = names::CNI_CONF_DIR,
        bin = names::PACKAGE_BIN,
    );
    UnitFile { path: names::CONTAINERD_CONFIG.to_owned(), text }
}

/// How long a container may take to end when the machine is shut down. systemd stops all of them at once, kube-apiserver does not end
/// once etcd is gone, and a reboot would take systemd's 90 s; 30 s is what Kubernetes grants a pod. The name leaves room for others.
pub fn container_stop_limit() -> UnitFile {
    let text = "\
# Written by edgeboot: a reboot does not wait longer than this for containers.
[Scope]
TimeoutStopSec=30s
";
    UnitFile { path: format!("{UNIT_DIR}/cri-containerd-.scope.d/05-edgeboot.conf"), text: text.to_owned() }
}

/// What lets people and units find kubectl, kubelet and ctr: they are searched last and so hide nothing of the OS.
pub fn search_paths() -> Vec<UnitFile> {
    let bin = names::PACKAGE_BIN;
    let profile = format!(
        "\
# Written by edgeboot: kubectl and its companions.
case \":$PATH:\" in
  *:{bin}:*) ;;
  *) PATH=$PATH:{bin} ;;
esac
"
    );
    let manager = format!(
        "\
# Written by edgeboot: every unit finds kubectl and its companions.
[Manager]
DefaultEnvironment={}
",
        manager_path()
    );
    vec![UnitFile { path: PROFILE.to_owned(), text: profile }, UnitFile { path: MANAGER_ENVIRONMENT.to_owned(), text: manager }]
}

/// The assignment of [`MANAGER_ENVIRONMENT`], for systemd as it runs: the file counts from the next boot.
pub fn manager_path() -> String {
    format!("PATH={PATH}:{}", names::PACKAGE_BIN)
}

/// edgeboot's own units for a machine on which nothing was baked, with `binary` where the image has [`EDGEBOOT_BAKED`].
pub fn edgeboot_units(binary: &str) -> Vec<UnitFile> {
    let units = [
        ("edgeboot-mend.service", include_str!("../../units/edgeboot-mend.service")),
        ("edgeboot.service", include_str!("../../units/edgeboot.service")),
        ("edgeboot-reconcile.service", include_str!("../../units/edgeboot-reconcile.service")),
        ("edgeboot-approve.service", include_str!("../../units/edgeboot-approve.service")),
        ("edgeboot-approve.timer", include_str!("../../units/edgeboot-approve.timer")),
        ("edgeboot.path", include_str!("../../units/edgeboot.path")),
        ("edgeboot.timer", include_str!("../../units/edgeboot.timer")),
    ];
    let folders = UnitFile {
        path: "/etc/tmpfiles.d/edgeboot.conf".to_owned(),
        text: include_str!("../../units/tmpfiles.d/edgeboot.conf").to_owned(),
    };
    units
        .into_iter()
        .map(|(name, text)| UnitFile { path: format!("{UNIT_DIR}/{name}"), text: text.replace(EDGEBOOT_BAKED, binary) })
        .chain([folders])
        .collect()
}

/// The units of [`edgeboot_units`] that are enabled (`units/90-edgeboot.preset`).
pub fn edgeboot_enabled_units() -> Vec<&'static str> {
    include_str!("../../units/90-edgeboot.preset").lines().filter_map(|line| line.strip_prefix("enable ")).collect()
}

/// A TOML basic string: JSON's escapes are TOML's.
fn toml_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_of_containerd_is_toml_with_what_kubeadm_expects() {
        let config: toml::Table = containerd_config("registry.k8s.io/pause:3.10.2").text.parse().expect("TOML");
        let plugins = &config["plugins"];
        assert_eq!(
            plugins["io.containerd.cri.v1.images"]["pinned_images"]["sandbox"].as_str(),
            Some("registry.k8s.io/pause:3.10.2")
        );
        let runc = &plugins["io.containerd.cri.v1.runtime"]["containerd"]["runtimes"]["runc"]["options"];
        assert_eq!(runc["SystemdCgroup"].as_bool(), Some(true));
        assert_eq!(plugins["io.containerd.service.v1.diff-service"]["sync_fs"].as_bool(), Some(true));
    }

    #[test]
    fn an_image_name_cannot_break_out_of_its_string() {
        let name = "a\"\n[grpc]\naddress = \"b";
        let config: toml::Table = containerd_config(name).text.parse().expect("TOML");
        assert_eq!(config["plugins"]["io.containerd.cri.v1.images"]["pinned_images"]["sandbox"].as_str(), Some(name));
    }

    #[test]
    fn another_package_is_another_unit() {
        assert_ne!(containerd_service("sha256:a").text, containerd_service("sha256:b").text);
        assert_ne!(kubelet_unit_files("sha256:a")[0].text, kubelet_unit_files("sha256:b")[0].text);
        assert_eq!(kubelet_unit_files("sha256:a")[1], kubelet_unit_files("sha256:b")[1]);
    }

    #[test]
    fn units_on_a_stock_host_start_the_binary_that_was_placed_there() {
        let units = edgeboot_units("/var/lib/edgeboot/bin/edgeboot");
        assert!(units.iter().all(|unit| !unit.text.contains(EDGEBOOT_BAKED)));
        let started = units.iter().filter(|unit| unit.text.contains("/var/lib/edgeboot/bin/edgeboot reconcile")).count();
        assert_eq!(started, 3);
    }

    #[test]
    fn the_three_services_have_one_sandbox_and_one_retry() {
        let units = edgeboot_units(EDGEBOOT_BAKED);
        let part = |name: &str, from: &str| {
            let text = &units.iter().find(|unit| unit.path.ends_with(name)).expect("a unit").text;
            let from = text.find(from).expect("the part");
            text[from..].split("\n[Install]").next().expect("the rest").trim_end().to_owned()
        };
        let folders = "# From firmware";
        assert_eq!(part("/edgeboot.service", folders), part("/edgeboot-reconcile.service", folders));
        assert_eq!(part("/edgeboot.service", folders), part("/edgeboot-mend.service", folders));
        assert_eq!(part("/edgeboot.service", "NotifyAccess="), part("/edgeboot-reconcile.service", "NotifyAccess="));
    }

    #[test]
    fn the_preset_enables_units_that_exist() {
        let units = edgeboot_units(EDGEBOOT_BAKED);
        for name in edgeboot_enabled_units() {
            let unit = units.iter().find(|unit| unit.path == format!("{UNIT_DIR}/{name}")).expect(name);
            assert!(unit.text.contains("[Install]"), "{name}");
        }
    }
}
