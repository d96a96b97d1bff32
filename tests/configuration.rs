//! Configurations as users write them, from files to the wish or to the exact text of what is wrong.

use edgeboot::config::node::{
    Auto, CertificatesFrom, Discovery, Introduction, Join, NetworkComponent, Node, OnExistingNode, Pins, Role, Secret,
};
use edgeboot::config::sources::{Found, Gathered, Sort};
use edgeboot::config::{Outcome, Wish, load};
use edgeboot::engine::file::File;
use edgeboot::error::{Error, Kind};
use edgeboot::host::Root;
use edgeboot::host::root::Placement;
use proptest::strategy::Strategy as _;
use tempfile::TempDir;

struct Machine {
    _folder: TempDir,
    root: Root,
}

impl Machine {
    fn with(files: &[(&str, &str)]) -> Machine {
        let folder = TempDir::new().expect("a temporary folder");
        let root = Root::at(folder.path().to_str().expect("a plain path")).expect("a tree");
        for (path, text) in files {
            let _ = root.put(path, 0o600, text.as_bytes()).expect(path);
        }
        Machine { _folder: folder, root }
    }
    fn outcome(&self) -> Result<Outcome, Error> {
        load(&self.root, &[])
    }
}

fn node_of(outcome: Outcome) -> Node {
    match outcome.wish {
        Wish::Node { node, .. } => *node,
        Wish::Nothing { .. } => panic!("no role"),
    }
}

fn config(text: &str) -> Result<Outcome, Error> {
    Machine::with(&[("/etc/edgeboot/config.yaml", text)]).outcome()
}

fn node(text: &str) -> Node {
    node_of(config(text).unwrap_or_else(|error| panic!("{}\n{text}", error.render())))
}

fn refused(text: &str) -> String {
    let error = config(text).expect_err("it is refused");
    assert_eq!(error.kind(), Kind::Config, "{error}");
    error.to_string()
}

#[test]
fn a_role_alone_is_a_whole_configuration() {
    for text in [
        "role: controlPlane",
        "apiVersion: edgeboot.io/v1alpha1\nkind: NodeConfig\nrole: controlPlane\n",
        "{\"role\": \"controlPlane\"}",
    ] {
        let node = node(text);
        assert_eq!(node.role, Role::ControlPlane);
        assert_eq!(node.network, NetworkComponent::Flannel);
        assert_eq!(node.cluster.kubernetes_version, Auto::Auto);
        assert_eq!(node.cluster.pod_subnets, vec!["10.244.0.0/16".parse().expect("a subnet")]);
        assert_eq!(node.cluster.service_subnets, vec!["10.96.0.0/12".parse().expect("a subnet")]);
        assert_eq!(node.registration.taints.len(), 1);
        assert!(node.bootstrap_tokens.is_empty());
    }
}

#[test]
fn the_configuration_of_the_trial_machine_is_good() {
    let node = node(include_str!("../image/try.yaml"));
    assert!(node.runtime.config.contains("restrict_oom_score_adj"));
    assert_eq!(node.kubelet_configuration.get("failCgroupV1"), Some(&false.into()));
    assert_eq!(node.kube_proxy_configuration.get("mode"), Some(&"nftables".into()));
}

#[test]
fn an_unknown_field_is_shown_with_its_line_and_what_was_meant() {
    assert_eq!(
        refused("rol: controlPlane\n"),
        "checking the configuration: 1 error
error: unknown field `rol`
  --> /etc/edgeboot/config.yaml:1:1
   |
 1 | rol: controlPlane
   | ^^^
   = help: did you mean `role`?"
    );
}

/// An error's first lines: `message` at `line:column`, of each finding in order.
fn told(text: &str) -> Vec<String> {
    let error = refused(text);
    let lines: Vec<&str> = error.lines().collect();
    let place = |line: &&str| line.trim_start_matches("  --> ").trim_start_matches("/etc/edgeboot/config.yaml:").to_owned();
    let pairs = lines.windows(2).filter(|pair| pair[1].starts_with("  --> "));
    pairs.map(|pair| format!("{} @{}", pair[0], place(&pair[1]))).collect()
}

const INIT: &str = "role: controlPlane\n---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\n";
const CLUSTER: &str = "role: controlPlane\n---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n";

#[test]
fn what_is_no_configuration_is_named() {
    for (text, expected) in [
        ("", "error: this is empty @/etc/edgeboot/config.yaml"),
        (" \n\n", "error: this is empty @/etc/edgeboot/config.yaml"),
        ("controlPlane", "error: this is no configuration @1:1"),
        ("- role: controlPlane", "error: this is no configuration @1:1"),
        ("role: worker", "error: a worker needs to know where to `join` @1:7"),
        ("role: king", "error: `role`: `king` is none of `controlPlane`, `worker` @1:7"),
        (
            "role: controlplane",
            "error: `role`: `controlplane` is none of `controlPlane`, `worker` (did you mean `controlPlane`?) @1:7",
        ),
        ("kind: NodeConfig\nrole: controlPlane", "error: `apiVersion` is missing @1:1"),
        ("apiVersion: edgeboot.io/v1\nkind: NodeConfig", "error: NodeConfig is not known in `edgeboot.io/v1` @1:13"),
        ("apiVersion: v1\nkind: ConfigMap", "error: unknown kind `ConfigMap` @2:7"),
        ("apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfig", "error: unknown kind `InitConfig` @2:7"),
        ("apiVersion: kubeadm.k8s.io/v1beta2\nkind: InitConfiguration", "error: `kubeadm.k8s.io/v1beta2` is too old @1:13"),
        ("role: controlPlane\n---\nrole: controlPlane", "error: a second NodeConfig in the same file @3:1"),
        (
            "role: controlPlane\nnetwork: {component: calico}",
            "error: `network.component`: `calico` is none of `flannel`, `bridge`, `none` @2:22",
        ),
        (
            "role: controlPlane\nruntime: {config: \"a = [\"}",
            "error: `runtime.config`: this is not valid TOML: unclosed array, expected `]` @2:19",
        ),
    ] {
        assert_eq!(told(text), [expected], "{text}");
    }
    for text in ["role: [", "role: controlPlane\n\trole: x", "a: b: c", "role: controlPlane\nrole: worker", "role: !!binary x", "%"]
    {
        let error = refused(text);
        assert!(error.contains("this is not valid YAML") && error.contains("/etc/edgeboot/config.yaml:"), "{text}\n{error}");
    }
    let machine = Machine::with(&[]);
    let _ = machine.root.put("/etc/edgeboot/config.yaml", 0o600, &[0xff, 0xfe, 0, 1]).expect("placed");
    assert!(machine.outcome().expect_err("garbage").to_string().contains("this is not text"));
}

#[test]
fn every_finding_is_told_at_once_and_in_order() {
    let text = "apiVersion: edgeboot.io/v1alpha1
kind: NodeConfig
role: controlPlane
pakage: /x
network: {component: bridg}
host: {swap: maybe, sysctls: {\"a..b\": 1}}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
networking: {podSubnet: 10.0.0.0/8, serviceSubnet: 10.96.0.0/30}
etcd: {local: {dataDir: etcd}}
";
    assert_eq!(
        refused(text),
        "checking the configuration: 6 errors
error: unknown field `pakage`
  --> /etc/edgeboot/config.yaml:4:1
   |
 4 | pakage: /x
   | ^^^^^^
   = help: did you mean `package`?
error: `network.component`: `bridg` is none of `flannel`, `bridge`, `none` (did you mean `bridge`?)
  --> /etc/edgeboot/config.yaml:5:22
   |
 5 | network: {component: bridg}
   |                      ^^^^^
error: `host.swap`: `maybe` is none of `keep`, `off`
  --> /etc/edgeboot/config.yaml:6:14
   |
 6 | host: {swap: maybe, sysctls: {\"a..b\": 1}}
   |              ^^^^^
error: `host.sysctls`: `a..b` is not the name of a sysctl such as net.ipv4.ip_forward
  --> /etc/edgeboot/config.yaml:6:31
   |
 6 | host: {swap: maybe, sysctls: {\"a..b\": 1}}
   |                               ^^^^^^
warning: the pod subnet 10.0.0.0/8 and the service subnet 10.96.0.0/30 overlap
  --> /etc/edgeboot/config.yaml:10:25
    |
 10 | networking: {podSubnet: 10.0.0.0/8, serviceSubnet: 10.96.0.0/30}
    |                         ^^^^^^^^^^
error: `networking.serviceSubnet`: 10.96.0.0/30 has 4 addresses; 10 are needed
  --> /etc/edgeboot/config.yaml:10:52
    |
 10 | networking: {podSubnet: 10.0.0.0/8, serviceSubnet: 10.96.0.0/30}
    |                                                    ^^^^^^^^^^^^
error: `etcd.local.dataDir`: `etcd` is not an absolute path
  --> /etc/edgeboot/config.yaml:11:25
    |
 11 | etcd: {local: {dataDir: etcd}}
    |                         ^^^^"
    );
}

#[test]
fn the_network_is_flannel_unless_another_is_said_or_nodes_get_no_subnets() {
    const NO_SUBNETS: &str = "---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\ncontrollerManager: {extraArgs: [{name: allocate-node-cidrs, value: 'false'}]}\n";
    for (said, network) in [
        ("", NetworkComponent::Flannel),
        (NO_SUBNETS, NetworkComponent::None),
        ("network: {component: flannel}\n", NetworkComponent::Flannel),
        ("network: {component: bridge}\n", NetworkComponent::Bridge),
        ("network: {component: none}\n", NetworkComponent::None),
    ] {
        assert_eq!(node(&format!("role: controlPlane\n{said}")).network, network, "{said}");
    }
}

#[test]
fn a_network_that_gets_no_subnets_for_nodes_is_refused() {
    let flags = "---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\ncontrollerManager: {extraArgs: [{name: allocate-node-cidrs, value: 'false'}]}\n";
    for component in ["flannel", "bridge"] {
        let told = told(&format!("role: controlPlane\nnetwork: {{component: {component}}}\n{flags}"));
        let message = "needs pod subnets for each node, and `allocate-node-cidrs` of the controller manager is false";
        assert_eq!(told, [format!("error: `network.component: {component}` {message} @2:22")]);
    }
    assert_eq!(node(&format!("role: controlPlane\nnetwork: {{component: none}}\n{flags}")).network, NetworkComponent::None);
}

#[test]
fn values_are_judged_as_kubeadm_judges_them() {
    for (head, text, expected) in [
        (
            INIT,
            "localAPIEndpoint: {advertiseAddress: 10.0.0.300}",
            "`localAPIEndpoint.advertiseAddress`: `10.0.0.300` is not an IP address",
        ),
        (
            INIT,
            "localAPIEndpoint: {advertiseAddress: 127.0.0.1}",
            "`localAPIEndpoint.advertiseAddress`: other machines do not reach this one by a loopback address",
        ),
        (INIT, "localAPIEndpoint: {bindPort: 70000}", "`localAPIEndpoint.bindPort`: 70000 is not a port between 1 and 65535"),
        (INIT, "localAPIEndpoint: {bindPort: \"6443\"}", "`localAPIEndpoint.bindPort` takes a whole number, not a text"),
        (INIT, "localAPIEndpoint: {bindPort: 06443}", "`06443` is octal to old YAML and decimal to new YAML"),
        (
            INIT,
            "nodeRegistration: {name: under_score}",
            "`nodeRegistration.name`: `under_score` is not a DNS name of lower case letters, digits, `-` and `.` (RFC 1123)",
        ),
        (
            INIT,
            "nodeRegistration: {criSocket: 'tcp://a'}",
            "`nodeRegistration.criSocket`: `tcp://a` is not a socket such as unix:///run/containerd/containerd.sock",
        ),
        (
            INIT,
            "nodeRegistration: {taints: [{key: a, effect: Never}]}",
            "`nodeRegistration.taints[0].effect`: `Never` is none of `NoSchedule`, `PreferNoSchedule`, `NoExecute`",
        ),
        (
            INIT,
            "nodeRegistration: {ignorePreflightErrors: [all, Swap]}",
            "`ignorePreflightErrors` names single checks beside `all`",
        ),
        (INIT, "nodeRegistration: {kubeletExtraArgs: {v: '1'}}", "`nodeRegistration.kubeletExtraArgs` takes a list, not fields"),
        (
            INIT,
            "nodeRegistration: {kubeletExtraArgs: [{name: v, value: 1}]}",
            "`nodeRegistration.kubeletExtraArgs[0].value` takes a text, not a number",
        ),
        (INIT, "nodeRegistration: {name: on}", "`nodeRegistration.name` takes a text, and a bare `on` is a boolean to kubeadm"),
        (INIT, "nodeRegistration: {name: true}", "`nodeRegistration.name` takes a text, not a boolean"),
        (
            INIT,
            "bootstrapTokens: [{token: Abcdef.0123456789abcdef}]",
            "`bootstrapTokens[0].token`: this is not a token of the form abcdef.0123456789abcdef (lower case letters and digits)",
        ),
        (
            INIT,
            "bootstrapTokens: [{token: abcdef.0123456789abcdef, usages: [x]}]",
            "`bootstrapTokens[].usages`: `x` is neither `signing` nor `authentication`",
        ),
        (
            INIT,
            "bootstrapTokens: [{token: abcdef.0123456789abcdef, ttl: 5}]",
            "`bootstrapTokens[0].ttl` takes a text, not a number",
        ),
        (INIT, "certificateKey: abcd", "`certificateKey`: this is not a key of 32 bytes as 64 hexadecimal digits"),
        (INIT, "patches: {directory: patches}", "`patches.directory`: `patches` is not an absolute path"),
        (
            INIT,
            "timeouts: {kubeletHealthCheck: 5 minutes}",
            "`timeouts.kubeletHealthCheck`: `5 minutes` is not a duration such as 24h0m0s or 1m30s",
        ),
        (
            CLUSTER,
            "networking: {podSubnet: 10.244.0.0/25}",
            "`networking.podSubnet`: 10.244.0.0/25 is smaller than the /24 of a single node",
        ),
        (
            CLUSTER,
            "networking: {podSubnet: 'fd00::/40'}",
            "`networking.podSubnet`: fd00::/40 holds too many /64 of single nodes; /48 is the largest",
        ),
        (
            CLUSTER,
            "networking: {podSubnet: '10.0.0.0/16,10.1.0.0/16'}",
            "`networking.podSubnet`: `10.0.0.0/16,10.1.0.0/16` is neither one subnet nor one of each family (dual stack)",
        ),
        (
            CLUSTER,
            "networking: {serviceSubnet: 10.96.0.0/29}",
            "`networking.serviceSubnet`: 10.96.0.0/29 has 8 addresses; 10 are needed",
        ),
        (
            CLUSTER,
            "networking: {serviceSubnet: 11.0.0.0/8}",
            "`networking.serviceSubnet`: 11.0.0.0/8 is too large; /12 is the largest",
        ),
        (
            CLUSTER,
            "networking: {dnsDomain: Cluster.Local}",
            "`networking.dnsDomain`: `Cluster.Local` is not a DNS name of lower case letters, digits, `-` and `.` (RFC 1123)",
        ),
        (
            CLUSTER,
            "controlPlaneEndpoint: 'https://a:1'",
            "`controlPlaneEndpoint`: `https://a:1` is not an endpoint such as 10.0.0.1:6443, [fd00::1]:6443 or k8s.example.com",
        ),
        (CLUSTER, "kubernetesVersion: 1.36", "`kubernetesVersion` takes a text, not a number"),
        (CLUSTER, "kubernetesVersion: v1.36", "`kubernetesVersion`: 'v1.36' is not a Kubernetes version such as v1.36.3"),
        (
            CLUSTER,
            "encryptionAlgorithm: RSA",
            "`encryptionAlgorithm`: `RSA` is none of ECDSA-P256, ECDSA-P384, RSA-2048, RSA-3072, RSA-4096",
        ),
        (CLUSTER, "featureGates: {PublicKeysECDS: true}", "kubeadm v1.36 has no feature gate `PublicKeysECDS`"),
        (
            CLUSTER,
            "apiServer: {certSANs: [a_b]}",
            "`apiServer.certSANs`: `a_b` is neither an address nor a DNS name (a wildcard may be its first part)",
        ),
        (CLUSTER, "apiServer: {extraArgs: [{value: x}]}", "`apiServer.extraArgs[0]` needs a `name`"),
        (
            CLUSTER,
            "scheduler: {extraVolumes: [{name: a, hostPath: /a}]}",
            "`scheduler.extraVolumes[0]` needs `name`, `hostPath` and `mountPath`",
        ),
        (
            CLUSTER,
            "etcd: {local: {}, external: {endpoints: ['https://a:2379']}}",
            "`etcd.local` and `etcd.external` exclude each other",
        ),
        (CLUSTER, "etcd: {external: {endpoints: []}}", "`etcd.external.endpoints` needs at least one endpoint"),
        (
            CLUSTER,
            "etcd: {external: {endpoints: ['https://a:1'], certFile: /c}}",
            "`etcd.external`: `certFile` and `keyFile` belong together",
        ),
        (
            CLUSTER,
            "etcd: {external: {endpoints: ['http://a:1'], caFile: /c}}",
            "`etcd.external.endpoints`: with certificates, `http://a:1` must be https",
        ),
        (CLUSTER, "etcd: local", "`etcd` takes fields, not a text"),
        (
            CLUSTER,
            "imageRepository: 'https://registry'",
            "`imageRepository`: `https://registry` is not an image repository such as registry.k8s.io",
        ),
    ] {
        let told = told(&format!("{head}{text}\n"));
        assert_eq!(told.len(), 1, "{text}: {told:?}");
        assert!(told[0].starts_with(&format!("error: {expected} @5:")), "{text}: {told:?}\nexpected {expected}");
    }
}

#[test]
fn an_error_shows_no_secret() {
    for text in [
        "bootstrapTokens:\n- token: ABCDEF.0123456789abcdef\n",
        "bootstrapTokens:\n- {tokne: abcdef.0123456789abcdef}\n- {token: [abcdef.0123456789abcdef]}\n",
        "certificateKey: 0123456789abcdef\n",
        "bootstrapTokens: [{token: abcdef.0123456789abcdef}, {token: abcdef.0123456789abcdef}]\n",
    ] {
        let error = refused(&format!("{INIT}{text}"));
        assert!(
            !error.contains("0123456789abcdef")
                || error.matches("0123456789abcdef").count() == error.matches("form abcdef.").count(),
            "{error}"
        );
    }
}

#[test]
fn old_and_new_yaml_mean_the_same() {
    let node = node(&format!(
        "{INIT}nodeRegistration: {{imagePullSerial: off, name: \"on\"}}
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failSwapOn: no
enableServer: yes
maxPods: 60
nodeStatusUpdateFrequency: \"10s\"
clusterDomain: \"on\"
"
    ));
    assert!(!node.registration.image_pull_serial);
    assert_eq!(node.registration.name, Auto::Set("on".to_owned()));
    let kubelet = serde_json::Value::Object(node.kubelet_configuration);
    let expected = serde_json::json!({
        "failSwapOn": false, "enableServer": true, "maxPods": 60, "nodeStatusUpdateFrequency": "10s", "clusterDomain": "on",
    });
    assert_eq!(kubelet, expected);
}

#[test]
fn unknown_fields_of_kubeadm_are_warnings() {
    let outcome = config(&format!("{INIT}nodeRegistraton: {{name: a}}\n")).expect("good");
    assert_eq!(outcome.warnings.len(), 1);
    assert_eq!(outcome.warnings[0].message, "unknown field `nodeRegistraton`");
    assert_eq!(outcome.warnings[0].help, "did you mean `nodeRegistration`?");
}

#[test]
fn a_version_label_means_the_packages_version() {
    let outcome = config(&format!("{CLUSTER}kubernetesVersion: stable-1\n")).expect("good");
    assert_eq!(outcome.warnings.len(), 1);
    assert_eq!(node_of(outcome).cluster.kubernetes_version, Auto::Auto);
}

#[test]
fn v1beta3_is_read_as_kubeadm_converts_it() {
    let node = node(include_str!("../examples/kubeadm-v1beta3.yaml"));
    assert_eq!(node.timeouts.control_plane_component_health_check.as_secs(), 300);
    assert_eq!(node.cluster.api_server.extra_args[0].name, "profiling");
    assert_eq!(node.registration.kubelet_extra_args[0].value, "60");
    let newer =
        "role: controlPlane\n---\napiVersion: kubeadm.k8s.io/v1beta3\nkind: ClusterConfiguration\nencryptionAlgorithm: RSA-2048\n";
    let outcome = config(newer).expect("good");
    assert_eq!(outcome.warnings[0].message, "v1beta3 has no `encryptionAlgorithm`; it is left out");
}

#[test]
fn higher_sources_replace_field_by_field() {
    let cluster = |fields: &str| format!("apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n{fields}\n");
    let machine = Machine::with(&[
        (
            "/etc/edgeboot/config.yaml",
            &format!(
                "role: controlPlane\nnetwork: {{component: none}}\n---\n{}",
                cluster(
                    "clusterName: one\napiServer: {certSANs: [a, b]}\nnetworking: {dnsDomain: one.local, podSubnet: 10.1.0.0/16}"
                )
            ),
        ),
        ("/usr/lib/edgeboot/config.d/10-a.yaml", &cluster("clusterName: vendor")),
        ("/usr/lib/edgeboot/config.d/20-b.yaml", &cluster("clusterName: hidden")),
        ("/etc/edgeboot/config.d/20-b.yaml", &cluster("networking: {podSubnet: 10.2.0.0/16}\napiServer: {certSANs+: [c]}")),
        ("/run/edgeboot/config.d/30-c.yaml", &cluster("networking: {podSubnet: 10.3.0.0/16}")),
        ("/usr/lib/edgeboot/config.d/40-d.yaml", &cluster("clusterName: masked")),
        ("/etc/edgeboot/config.d/40-d.yaml", ""),
        ("/etc/edgeboot/config.d/50.conf", "rubbish"),
        ("/etc/edgeboot/config.d/.50.yaml", "rubbish"),
        ("/var/lib/edgeboot/recorded/wish.yaml", "network: {component: bridge}\n"),
    ]);
    let outcome = machine.outcome().expect("good");
    let Wish::Node { node, origins, .. } = &outcome.wish else { panic!("no role") };
    assert_eq!(node.cluster.name, "vendor");
    assert_eq!(node.cluster.cert_sans, ["a", "b", "c"]);
    assert_eq!(node.cluster.dns_domain, "one.local");
    assert_eq!(node.cluster.pod_subnets[0].to_string(), "10.3.0.0/16");
    assert_eq!(node.network, NetworkComponent::Bridge);
    assert_eq!(origins["ClusterConfiguration.clusterName"], "/usr/lib/edgeboot/config.d/10-a.yaml:3:14");
    assert_eq!(origins["NodeConfig.network.component"], "/var/lib/edgeboot/recorded/wish.yaml:1:22");
}

#[test]
fn a_link_to_nowhere_hides_a_drop_in() {
    let machine = Machine::with(&[
        ("/etc/edgeboot/config.yaml", "role: controlPlane"),
        ("/usr/lib/edgeboot/config.d/10-a.yaml", "readyWhen: node-registered"),
        ("/etc/edgeboot/config.d/20-b.yaml", "host: {swap: off}"),
    ]);
    let _ = machine.root.link("/etc/edgeboot/config.d/10-a.yaml", "/dev/null").expect("a link");
    assert_eq!(node_of(machine.outcome().expect("good")).ready_when, edgeboot::config::node::ReadyWhen::NodeReady);
}

#[test]
fn without_a_role_nothing_is_wished_and_the_places_are_named() {
    for files in [
        vec![],
        vec![("/etc/edgeboot/config.d/10-image.yaml", "package: /usr/lib/edgeboot/package")],
        vec![("/etc/edgeboot/config.yaml", "# later\n")],
    ] {
        match Machine::with(&files).outcome().expect("no error").wish {
            Wish::Nothing { looked_for, .. } => assert_eq!(looked_for[0], "/etc/edgeboot/config.yaml"),
            Wish::Node { .. } => panic!("a role from nowhere"),
        }
    }
}

#[test]
fn a_source_that_cannot_be_read_is_told_apart_from_one_that_is_absent() {
    let machine = Machine::with(&[("/etc/edgeboot/config.yaml", "role: controlPlane"), ("/etc/edgeboot/config.d/10-a.yaml/x", "")]);
    let outcome = machine.outcome().expect("good");
    assert_eq!(outcome.failed_sources.len(), 1);
    assert_eq!(outcome.failed_sources[0].origin, "/etc/edgeboot/config.d/10-a.yaml");
}

#[test]
fn no_debug_output_shows_a_secret() {
    let (token, key) = ("0123456789canary", "ca".repeat(32));
    let text = format!("{INIT}certificateKey: {key}\nbootstrapTokens:\n- token: canary.{token}\n");
    let told = Gathered {
        origin: "told".to_owned(),
        found: Found::Bytes { bytes: text.clone().into_bytes(), mode: None, sort: Sort::ByHand },
    };
    let file = File::text("/a/key", 0o600, text.as_str());
    let placement = Placement { path: "/a/key".into(), mode: 0o600, bytes: text.clone().into_bytes() };
    let as_numbers = format!("{:?}", token.as_bytes());
    let as_numbers = as_numbers.trim_matches(['[', ']']);
    let outcome = config(&text).expect("good");
    for shown in [format!("{outcome:?}"), format!("{told:?}"), format!("{file:?}"), format!("{placement:?}")] {
        for secret in [token, key.as_str(), as_numbers] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
    let node = serde_json::to_string(&node_of(outcome)).expect("JSON");
    assert!(!node.contains(token) && !node.contains(&key), "{node}");
}

#[test]
fn a_secret_that_others_can_read_is_refused() {
    let text = format!("{INIT}bootstrapTokens:\n- token: abcdef.0123456789abcdef\n");
    let machine = Machine::with(&[]);
    let _ = machine.root.put("/etc/edgeboot/config.yaml", 0o644, text.as_bytes()).expect("placed");
    let error = machine.outcome().expect_err("refused").to_string();
    assert!(error.contains("/etc/edgeboot/config.yaml holds a secret (`token`) and others can read it (mode 0644)"), "{error}");
    assert!(error.contains("chmod 0600 /etc/edgeboot/config.yaml") && !error.contains("0123456789abcdef"), "{error}");
    assert_eq!(node(&text).bootstrap_tokens[0].token.id, "abcdef");
}

#[test]
fn a_secret_may_lie_in_a_file_or_a_credential() {
    let token = "abcdef.0123456789abcdef\n";
    let by_name = format!("{INIT}bootstrapTokens:\n- tokenFrom: credential:join\n");
    let files = [("/var/lib/edgeboot/credentials/join", token), ("/etc/edgeboot/config.yaml", by_name.as_str())];
    assert_eq!(node_of(Machine::with(&files).outcome().expect("good")).bootstrap_tokens[0].token.id, "abcdef");
    let by_file = format!("{INIT}bootstrapTokens:\n- tokenFile: /etc/edgeboot/token\n");
    let files = [("/etc/edgeboot/token", token), ("/etc/edgeboot/config.yaml", by_file.as_str())];
    assert_eq!(node_of(Machine::with(&files).outcome().expect("good")).bootstrap_tokens[0].token.id, "abcdef");
    let gone = Machine::with(&files[1..]).outcome().expect_err("gone");
    assert_eq!(
        (gone.kind(), gone.to_string().as_str()),
        (Kind::Rejected, "reading the token from /etc/edgeboot/token: it is not there")
    );
    assert_eq!(
        told(&format!("{INIT}bootstrapTokens:\n- token: abcdef.0123456789abcdef\n  tokenFile: /x\n")),
        ["error: `tokenFile` and another form of `token` at once @7:14"]
    );
    assert_eq!(
        told(&format!("{INIT}bootstrapTokens:\n- tokenFrom: ../../etc/shadow\n")),
        ["error: `tokenFrom` takes `credential:NAME` @6:14"]
    );
}

#[test]
fn what_an_image_brings_is_an_existing_runtime() {
    use edgeboot::config::node::RuntimeSource;
    assert_eq!(
        node(&format!("{INIT}nodeRegistration: {{criSocket: /run/crio/crio.sock}}\n")).runtime.source,
        RuntimeSource::Existing
    );
    assert_eq!(node("role: controlPlane").runtime.source, RuntimeSource::Package);
}

const HASH: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const TOKEN: &str = "abcdef.0123456789abcdef";

fn worker(join: &str) -> String {
    format!("role: worker\njoin: {{{join}}}\n")
}

/// A JoinConfiguration; its first field stands in line 5.
fn kubeadm_join(role: &str, fields: &str) -> String {
    format!("role: {role}\n---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: JoinConfiguration\n{fields}\n")
}

fn join_of(text: &str) -> Join {
    node(text).join().unwrap_or_else(|| panic!("it founds\n{text}")).clone()
}

#[test]
fn both_forms_say_where_to_join() {
    let short = join_of(&worker(&format!("endpoints: ['10.0.0.1:6443'], token: {TOKEN}, caCertHashes: ['{HASH}']")));
    let long = join_of(&kubeadm_join(
        "worker",
        &format!("discovery: {{bootstrapToken: {{apiServerEndpoint: '10.0.0.1:6443', token: {TOKEN}, caCertHashes: ['{HASH}']}}}}"),
    ));
    assert_eq!(short, long);
    let Discovery::Token { endpoints, token, pins: Pins::Sha256(hashes) } = &short.discovery else { panic!("{short:?}") };
    assert_eq!((endpoints[0].to_string().as_str(), hashes[0].to_string().as_str()), ("10.0.0.1:6443", HASH));
    assert_eq!(short.introduction, Introduction::Token(token.clone()), "as kubeadm does, the same token");
    assert_eq!((short.certificates, short.on_existing_node), (CertificatesFrom::Disk, OnExistingNode::Adopt));
    assert_eq!(short.ca_cert_path, "/etc/kubernetes/pki/ca.crt");
}

#[test]
fn a_joiner_has_kubeadms_defaults() {
    let joins = format!("endpoints: [k8s.example.com], token: {TOKEN}, unsafeSkipCAVerification: true, keepEndpoint: true");
    let worker = node(&worker(&joins));
    assert!(worker.registration.taints.is_empty() && worker.bootstrap_tokens.is_empty() && worker.cluster.pod_subnets.is_empty());
    assert_eq!((worker.network, &worker.advertise_address), (NetworkComponent::None, &Auto::Auto));
    let join = worker.join().expect("it joins");
    assert!(join.keep_endpoint);
    let Discovery::Token { endpoints, pins: Pins::Unsafe, .. } = &join.discovery else { panic!("{join:?}") };
    assert_eq!(endpoints[0].port, 6443, "the port may be left out");
    let key = "ab".repeat(32);
    let control_plane = node(&format!("role: controlPlane\njoin: {{{joins}, certificateKey: {key}, onExistingNode: fail}}\n"));
    assert_eq!(control_plane.registration.taints.len(), 1);
    let join = control_plane.join().expect("it joins");
    assert!(matches!(&join.certificates, CertificatesFrom::Cluster(Secret::Known { value, .. }) if value.expose() == key));
    assert_eq!(join.on_existing_node, OnExistingNode::Fail);
}

#[test]
fn a_file_or_a_url_may_tell_of_the_cluster() {
    for (said, expected) in [
        ("/etc/cluster.conf", Discovery::File("/etc/cluster.conf".into())),
        ("file:///etc/cluster.conf", Discovery::File("/etc/cluster.conf".into())),
        ("https://example.com/cluster.conf", Discovery::Url("https://example.com/cluster.conf".to_owned())),
    ] {
        let short = join_of(&worker(&format!("discoveryFile: '{said}'")));
        assert_eq!((&short.discovery, &short.introduction), (&expected, &Introduction::OfKubeconfig));
        let with_token = join_of(&worker(&format!("discoveryFile: '{said}', token: {TOKEN}")));
        let long = format!("discovery: {{file: {{kubeConfigPath: '{said}'}}, tlsBootstrapToken: {TOKEN}}}");
        assert_eq!(join_of(&kubeadm_join("worker", &long)), with_token);
        assert!(matches!(with_token.introduction, Introduction::Token(_)));
    }
}

#[test]
fn a_join_configuration_is_read_whole() {
    let text = kubeadm_join(
        "controlPlane",
        &format!(
            "caCertPath: /etc/pki/cluster.crt
discovery:
  bootstrapToken: {{apiServerEndpoint: '[fd00::1]:7443', token: {TOKEN}, caCertHashes: ['{upper}'], unsafeSkipCAVerification: true}}
  tlsBootstrapToken: fedcba.0123456789abcdef
controlPlane: {{localAPIEndpoint: {{advertiseAddress: 10.0.0.5, bindPort: 7443}}}}
nodeRegistration: {{name: Edge-2, taints: [], kubeletExtraArgs: [{{name: v, value: '2'}}], ignorePreflightErrors: [Swap]}}
patches: {{directory: /etc/patches}}
skipPhases: [preflight]
timeouts: {{tlsBootstrap: 7m0s}}
dryRun: true",
            upper = HASH.to_uppercase()
        ),
    );
    let outcome = config(&text).expect("good");
    assert!(outcome.warnings.is_empty(), "{:?}", outcome.warnings);
    let Wish::Node { dry_run: true, node, .. } = outcome.wish else { panic!("a dry run") };
    let join = node.join().expect("it joins");
    assert!(matches!(&join.discovery, Discovery::Token { pins: Pins::Sha256(_), .. }), "a pin is looked at when there is one");
    assert!(matches!(&join.introduction, Introduction::Token(token) if token.known().expect("here").id == "fedcba"));
    assert_eq!(join.ca_cert_path, "/etc/pki/cluster.crt");
    assert_eq!((node.bind_port, &node.advertise_address), (7443, &Auto::Set([10, 0, 0, 5].into())));
    assert_eq!(node.registration.name, Auto::Set("edge-2".to_owned()));
    assert!(node.registration.taints.is_empty());
    assert_eq!((node.registration.kubelet_extra_args.len(), node.skip_phases.len(), node.patches.as_str()), (1, 1, "/etc/patches"));
    assert_eq!(node.timeouts.tls_bootstrap.as_secs(), 420);
}

#[test]
fn an_old_join_configuration_is_read_as_kubeadm_converts_it() {
    let text = kubeadm_join(
        "worker",
        &format!(
            "discovery: {{timeout: 9m0s, bootstrapToken: {{apiServerEndpoint: 'a.example:1', token: {TOKEN}, caCertHashes: ['{HASH}']}}}}
nodeRegistration: {{kubeletExtraArgs: {{v: '2'}}}}
timeouts: {{discovery: 1m}}"
        ),
    );
    let outcome = config(&text.replace("v1beta4", "v1beta3")).expect("good");
    assert_eq!(outcome.warnings[0].message, "v1beta3 has no `timeouts`; it is left out");
    let node = node_of(outcome);
    assert_eq!(node.timeouts.discovery.as_secs(), 540);
    assert_eq!(node.registration.kubelet_extra_args[0].name, "v");
}

#[test]
fn what_is_wrong_with_a_join_is_named() {
    let good = format!("endpoints: [a.example], token: {TOKEN}, caCertHashes: ['{HASH}']");
    let bootstrap = format!("apiServerEndpoint: 'a.example:1', token: {TOKEN}, caCertHashes: ['{HASH}']");
    for (text, expected) in [
        (worker(""), "error: `join` needs `endpoints`, or a `discoveryFile` @2:7"),
        (worker("endpoints: []"), "error: `join` needs `endpoints`, or a `discoveryFile` @2:7"),
        ("role: controlPlane\njoin: {}".to_owned(), "error: `join` needs `endpoints`, or a `discoveryFile` @2:7"),
        (
            worker("endpoints: [a_b], unsafeSkipCAVerification: true"),
            "error: `join.endpoints`: `a_b` is not an endpoint such as 10.0.0.1:6443, [fd00::1]:6443 or k8s.example.com @2:20",
        ),
        (
            worker("endpoints: [a.example], unsafeSkipCAVerification: true"),
            "error: `join` needs a `token`, `tokenFrom` or `tokenFile` beside `endpoints` @2:7",
        ),
        (
            worker(&format!("endpoints: [a.example], token: {TOKEN}")),
            "error: without `join.caCertHashes` nobody can tell the cluster from another @2:7",
        ),
        (
            worker(&format!("endpoints: [a.example], token: {TOKEN}, caCertHashes: [md5:00]")),
            "error: `join.caCertHashes`: `md5:00` is not a hash such as sha256:1234…cdef, of 64 hexadecimal digits @2:79",
        ),
        (worker(&format!("{good}, discoveryFile: /a")), "error: `endpoints` and `discoveryFile` exclude each other @2:"),
        (worker(&format!("{good}, discoverFile: /a")), "error: unknown field `join.discoverFile` @2:"),
        (worker("discoveryFile: a"), "error: `join.discoveryFile`: `a` is not an absolute path @2:23"),
        (worker("discoveryFile: 'http://a/b'"), "error: `join.discoveryFile`: `http://a/b` is not an https URL @2:23"),
        (worker(&format!("{good}, certificateKey: {}", "ab".repeat(32))), "error: `certificateKey` is not for a worker @2:"),
        (
            worker(&format!("{good}, onExistingNode: kill")),
            "error: `join.onExistingNode`: `kill` is none of `adopt`, `replace`, `fail` @2:",
        ),
        (
            kubeadm_join("worker", "discovery: {}"),
            "error: `discovery` needs a `bootstrapToken` with an `apiServerEndpoint`, or a `file` @3:1",
        ),
        (
            kubeadm_join("controlPlane", "nodeRegistration: {name: a}"),
            "error: `discovery` needs a `bootstrapToken` with an `apiServerEndpoint`, or a `file` @3:1",
        ),
        (
            kubeadm_join("worker", &format!("discovery: {{bootstrapToken: {{{bootstrap}}}, file: {{kubeConfigPath: /a}}}}")),
            "error: `discovery.bootstrapToken` and `discovery.file` exclude each other @5:",
        ),
        (
            kubeadm_join("worker", &format!("discovery: {{bootstrapToken: {{{}}}}}", bootstrap.replace(":1'", "'"))),
            "error: `discovery.bootstrapToken.apiServerEndpoint`: `a.example` has no port (did you mean `a.example:6443`?) @5:",
        ),
        (
            kubeadm_join("worker", &format!("discovery: {{bootstrapToken: {{{bootstrap}}}}}\ncontrolPlane: {{}}")),
            "error: `controlPlane` of JoinConfiguration is not for a worker @6:15",
        ),
        (
            kubeadm_join("controlPlane", &format!("discovery: {{bootstrapToken: {{{bootstrap}}}}}\ncaCertPath: pki/ca.crt")),
            "error: `caCertPath`: `pki/ca.crt` is not the absolute path of a .crt file @6:13",
        ),
        (
            kubeadm_join(
                "controlPlane",
                &format!(
                    "discovery: {{bootstrapToken: {{{bootstrap}}}}}\ncontrolPlane: {{localAPIEndpoint: {{advertiseAddress: '::1'}}}}"
                ),
            ),
            "error: `controlPlane.localAPIEndpoint.advertiseAddress`: other machines do not reach this one by a loopback address @6:",
        ),
    ] {
        let told = told(&text);
        assert_eq!(told.len(), 1, "{text}: {told:?}");
        assert!(told[0].starts_with(expected), "{text}: {told:?}\nexpected {expected}");
    }
}

#[test]
fn both_forms_in_one_source_are_a_finding_and_across_sources_the_higher_replaces() {
    let long = format!(
        "apiVersion: kubeadm.k8s.io/v1beta4\nkind: JoinConfiguration
discovery: {{bootstrapToken: {{apiServerEndpoint: '10.0.0.1:6443', token: {TOKEN}, caCertHashes: ['{HASH}']}}}}
nodeRegistration: {{name: edge-1}}\n"
    );
    let both = refused(&format!("role: worker\njoin: {{endpoints: [10.0.0.2]}}\n---\n{long}"));
    assert!(
        both.contains(
            "`discovery.bootstrapToken.apiServerEndpoint` of JoinConfiguration and `join.endpoints` of NodeConfig say the same thing"
        ),
        "{both}"
    );
    assert!(both.contains("the other stands in line 2"), "{both}");
    // What only the one can say may stand beside what both can.
    assert!(join_of(&format!("role: worker\njoin: {{keepEndpoint: true}}\n---\n{long}")).keep_endpoint);
    let with = |higher: &str| {
        let lower = format!("role: worker\n---\n{long}");
        let machine = Machine::with(&[("/etc/edgeboot/config.yaml", lower.as_str()), ("/etc/edgeboot/config.d/10.yaml", higher)]);
        node_of(machine.outcome().unwrap_or_else(|error| panic!("{}", error.render())))
    };
    let fresh = with("join: {token: fedcba.0123456789abcdef}\n");
    let Discovery::Token { endpoints, token, pins: Pins::Sha256(_) } = &fresh.join().expect("it joins").discovery else { panic!() };
    assert_eq!((endpoints[0].host.as_str(), token.known().expect("here").id.as_str()), ("10.0.0.1", "fedcba"));
    assert_eq!(fresh.registration.name, Auto::Set("edge-1".to_owned()));
    let file = with("join: {discoveryFile: /etc/cluster.conf}\n");
    let join = file.join().expect("it joins");
    assert_eq!((&join.discovery, &join.introduction), (&Discovery::File("/etc/cluster.conf".into()), &Introduction::OfKubeconfig));
    let moved = with("join: {endpoints: [10.0.0.9, 10.0.0.8]}\n");
    let Discovery::Token { endpoints, .. } = &moved.join().expect("it joins").discovery else { panic!() };
    assert_eq!(endpoints.len(), 2);
}

#[test]
fn what_is_for_the_founder_is_left_out_with_a_warning() {
    let text = format!(
        "{}network: {{component: bridge}}\nuploadCerts: true\n---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nclusterName: 5
---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nbootstrapTokens: [{{tokenFrom: credential:gone}}]\n",
        worker(&format!("endpoints: [a.example], token: {TOKEN}, caCertHashes: ['{HASH}']"))
    );
    let outcome = config(&text).expect("good");
    let told: Vec<&str> = outcome.warnings.iter().map(|warning| warning.message.as_str()).collect();
    assert_eq!(
        told,
        [
            "`network.component: bridge` is for one node, and this one joins others",
            "`uploadCerts` is for the machine that founds the cluster; one that joins leaves it out",
            "ClusterConfiguration is for the machine that founds the cluster; one that joins leaves it out",
            "InitConfiguration is for the machine that founds the cluster; one that joins leaves it out",
        ]
    );
    assert_eq!(node_of(outcome).cluster.name, "kubernetes");
}

#[test]
fn a_joiners_secrets_come_from_credentials_and_may_be_gone_when_they_are_spent() {
    let text = worker(&format!("endpoints: [a.example], tokenFrom: credential:edgeboot.token, caCertHashes: ['{HASH}']"));
    let token = |files: &[(&str, &str)]| {
        let machine = Machine::with(&[&[("/etc/edgeboot/config.yaml", text.as_str())], files].concat());
        let node = node_of(machine.outcome().expect("good"));
        let Some(Join { discovery: Discovery::Token { token, .. }, .. }) = node.join() else { panic!("{node:?}") };
        token.clone()
    };
    let ours = "/var/lib/edgeboot/credentials/edgeboot.token";
    let stored = token(&[(ours, TOKEN)]);
    assert_eq!(
        (stored.known().expect("here").id.as_str(), stored.credential().map(camino::Utf8Path::as_str)),
        ("abcdef", Some(ours))
    );
    let fresh = ("/run/credentials/edgeboot.service/edgeboot.token", "fedcba.0123456789abcdef\n");
    assert_eq!(token(&[(ours, TOKEN), fresh]).known().expect("here").id, "fedcba");
    // From a shell, when no unit of edgeboot's runs.
    let passed = ("/run/credentials/@system/edgeboot.token", "fedcba.0123456789abcdef\n");
    assert_eq!(token(&[(ours, TOKEN), passed]).known().expect("here").id, "fedcba");
    let gone = token(&[]).known().expect_err("gone");
    assert_eq!((gone.kind(), gone.to_string()), (Kind::Rejected, format!("reading the token from {ours}: it is not there")));
}

#[test]
fn a_joiners_error_shows_no_secret() {
    for text in [
        worker("endpoints: [a.example], token: ABCDEF.0123456789abcdef"),
        worker("tlsBootstrapToken: ABCDEF.0123456789abcdef, certificateKey: 0123456789abcdef"),
        kubeadm_join(
            "worker",
            "discovery:\n  tlsBootstrapToken: ABCDEF.0123456789abcdef\n  bootstrapToken:\n    token: 0123456789abcdef",
        ),
    ] {
        let error = refused(&text);
        assert_eq!(error.matches("0123456789abcdef").count(), error.matches("form abcdef.").count(), "{error}");
    }
}

#[test]
fn every_example_is_good() {
    let examples = Root::at(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).expect("the examples");
    let names = examples.list("/").expect("a list").expect("a folder");
    assert!(names.len() >= 7, "{names:?}");
    for name in names {
        let text = examples.read_text(format!("/{name}")).expect("a text").expect("there");
        let key = "ab".repeat(32);
        let machine = Machine::with(&[
            ("/etc/edgeboot/config.yaml", text.as_str()),
            ("/var/lib/edgeboot/credentials/join-token", TOKEN),
            ("/sys/class/dmi/id/product_serial", "SN-4711"),
            ("/run/credentials/edgeboot.service/edgeboot.token", TOKEN),
            ("/run/credentials/edgeboot.service/edgeboot.certificate-key", key.as_str()),
        ]);
        let outcome = machine.outcome().unwrap_or_else(|error| panic!("{name}: {}", error.render()));
        assert!(outcome.warnings.is_empty(), "{name}: {:?}", outcome.warnings);
        let node = node_of(outcome);
        assert_eq!(node.join().is_some(), text.contains("\njoin:") || text.contains("JoinConfiguration"), "{name}");
    }
}

#[test]
fn kubeadms_own_defaults_are_good() {
    // `kubeadm config print init-defaults`, abridged.
    let text = "apiVersion: kubeadm.k8s.io/v1beta4
bootstrapTokens:
- groups:
  - system:bootstrappers:kubeadm:default-node-token
  token: abcdef.0123456789abcdef
  ttl: 24h0m0s
  usages:
  - signing
  - authentication
kind: InitConfiguration
localAPIEndpoint: {advertiseAddress: 1.2.3.4, bindPort: 6443}
nodeRegistration:
  criSocket: unix:///var/run/containerd/containerd.sock
  imagePullPolicy: IfNotPresent
  imagePullSerial: true
  name: node
  taints: null
timeouts: {controlPlaneComponentHealthCheck: 4m0s, discovery: 5m0s}
---
apiServer: {}
apiVersion: kubeadm.k8s.io/v1beta4
caCertificateValidityPeriod: 87600h0m0s
certificateValidityPeriod: 8760h0m0s
certificatesDir: /etc/kubernetes/pki
clusterName: kubernetes
controllerManager: {}
dns: {}
encryptionAlgorithm: RSA-2048
etcd: {local: {dataDir: /var/lib/etcd}}
imageRepository: registry.k8s.io
kind: ClusterConfiguration
kubernetesVersion: 1.36.0
networking: {dnsDomain: cluster.local, serviceSubnet: 10.96.0.0/12}
proxy: {}
scheduler: {}
---
role: controlPlane
";
    let outcome = config(text).expect("good");
    assert!(outcome.warnings.is_empty(), "{:?}", outcome.warnings);
    let node = node_of(outcome);
    assert_eq!(node.registration.taints.len(), 1, "null is the default, [] is none");
    assert_eq!(node.cluster.kubernetes_version.set().map(ToString::to_string).as_deref(), Some("v1.36.0"));
}

#[test]
fn what_stands_twice_is_named() {
    let error = refused("role: controlPlane\nreadyWhen: node-ready\nrole: worker\n");
    assert!(
        error.contains("this is not valid YAML: `role` stands twice in the same mapping\n  --> /etc/edgeboot/config.yaml:3:1"),
        "{error}"
    );
}

proptest::proptest! {
    #[test]
    fn no_text_brings_it_down(parts in proptest::collection::vec(proptest::prelude::prop_oneof![
        "[ -~\n]{0,12}",
        proptest::sample::select(vec!["role: controlPlane\n", "---\n", "kind: ", "apiVersion: ", "kubeadm.k8s.io/v1beta4\n", "InitConfiguration\n",
            "ClusterConfiguration\n", "etcd: ", "local: ", "{", "}", "[", "]", "&a ", "*a", "<<: ", "\"", "networking: {podSubnet: ", "token: ",
            "bootstrapTokens:\n- ", "extraArgs: ", "ü", "\t", "# ", "!!str "]).prop_map(str::to_owned),
    ], 0..24)) {
        let _ = config(&parts.concat());
    }
}

#[test]
fn a_flood_is_refused() {
    let deep = format!("role: controlPlane\nhost: {}{}", "[".repeat(100), "]".repeat(100));
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n";
    for text in [deep.as_str(), bomb] {
        assert!(refused(text).contains("not valid YAML"), "{text}");
    }
    assert!(refused(&"#".repeat(2 << 20)).contains("are no configuration"));
}
