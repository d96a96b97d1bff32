//! The cluster's wish as kubeadm uploads it: `ClusterConfiguration` of kubeadm.k8s.io/v1beta4, complete, in the ConfigMap
//! kubeadm-config, from which kubeadm's own `join`, `upgrade` and `certs` read it.

use serde_json::{Map, Value, json};

use super::{go_duration, yaml};
use crate::config::node::{Addon, Cluster, ControlPlaneComponent, Etcd, HostPathMount, KubernetesVersion};

/// The YAML of the cluster's configuration.
pub fn cluster_configuration(cluster: &Cluster, version: &KubernetesVersion) -> String {
    yaml::text(&value(cluster, Some(version)))
}

/// The same as a value; without a version where that is left to the package.
pub fn value(cluster: &Cluster, version: Option<&KubernetesVersion>) -> Value {
    let mut api_server = component(&cluster.api_server);
    put(&mut api_server, "certSANs", json!(cluster.cert_sans));
    let mut networking = Map::new();
    put(&mut networking, "dnsDomain", json!(cluster.dns_domain));
    put(&mut networking, "podSubnet", json!(joined(&cluster.pod_subnets)));
    put(&mut networking, "serviceSubnet", json!(joined(&cluster.service_subnets)));
    let mut fields = Map::new();
    put(&mut fields, "apiVersion", json!("kubeadm.k8s.io/v1beta4"));
    put(&mut fields, "kind", json!("ClusterConfiguration"));
    fields.insert("apiServer".to_owned(), Value::Object(api_server));
    fields.insert("controllerManager".to_owned(), Value::Object(component(&cluster.controller_manager)));
    fields.insert("scheduler".to_owned(), Value::Object(component(&cluster.scheduler)));
    fields.insert("dns".to_owned(), Value::Object(addon(&cluster.dns)));
    fields.insert("proxy".to_owned(), Value::Object(only_disabled(&cluster.proxy)));
    fields.insert("etcd".to_owned(), etcd(&cluster.etcd));
    fields.insert("networking".to_owned(), Value::Object(networking));
    put(&mut fields, "caCertificateValidityPeriod", json!(go_duration::text(cluster.ca_certificate_validity)));
    put(&mut fields, "certificateValidityPeriod", json!(go_duration::text(cluster.certificate_validity)));
    put(&mut fields, "certificatesDir", json!(cluster.certificates_dir));
    put(&mut fields, "clusterName", json!(cluster.name));
    let endpoint = cluster.control_plane_endpoint.as_ref().map(ToString::to_string).unwrap_or_default();
    put(&mut fields, "controlPlaneEndpoint", json!(endpoint));
    put(&mut fields, "encryptionAlgorithm", json!(cluster.key_algorithm.as_str()));
    put(&mut fields, "featureGates", json!(cluster.feature_gates));
    put(&mut fields, "imageRepository", json!(cluster.image_repository));
    put(&mut fields, "kubernetesVersion", json!(version.map(ToString::to_string).unwrap_or_default()));
    Value::Object(fields)
}

/// Go's `omitempty`.
fn put(fields: &mut Map<String, Value>, name: &str, value: Value) {
    let empty = match &value {
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        Value::Bool(truth) => !truth,
        _ => false,
    };
    if !empty {
        fields.insert(name.to_owned(), value);
    }
}

fn joined(subnets: &[ipnet::IpNet]) -> String {
    subnets.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn component(component: &ControlPlaneComponent) -> Map<String, Value> {
    let mut fields = Map::new();
    put(&mut fields, "extraArgs", json!(component.extra_args));
    put(&mut fields, "extraEnvs", json!(component.extra_envs));
    put(&mut fields, "extraVolumes", component.extra_volumes.iter().map(volume).collect());
    fields
}

fn volume(mount: &HostPathMount) -> Value {
    let mut fields = Map::new();
    for (name, text) in [("name", &mount.name), ("hostPath", &mount.host_path), ("mountPath", &mount.mount_path)] {
        fields.insert(name.to_owned(), json!(text));
    }
    put(&mut fields, "readOnly", json!(mount.read_only));
    put(&mut fields, "pathType", json!(mount.path_type));
    Value::Object(fields)
}

fn addon(addon: &Addon) -> Map<String, Value> {
    let mut fields = only_disabled(addon);
    put(&mut fields, "imageRepository", json!(addon.image_repository));
    put(&mut fields, "imageTag", json!(addon.image_tag));
    fields
}

/// kubeadm's `proxy` has no image fields.
fn only_disabled(addon: &Addon) -> Map<String, Value> {
    let mut fields = Map::new();
    put(&mut fields, "disabled", json!(addon.disabled));
    fields
}

fn etcd(etcd: &Etcd) -> Value {
    let mut fields = Map::new();
    match etcd {
        Etcd::Local(local) => {
            fields.insert("dataDir".to_owned(), json!(local.data_dir));
            put(&mut fields, "imageRepository", json!(local.image_repository));
            put(&mut fields, "imageTag", json!(local.image_tag));
            put(&mut fields, "extraArgs", json!(local.extra_args));
            put(&mut fields, "extraEnvs", json!(local.extra_envs));
            put(&mut fields, "serverCertSANs", json!(local.server_cert_sans));
            put(&mut fields, "peerCertSANs", json!(local.peer_cert_sans));
            json!({"local": fields})
        }
        Etcd::External(external) => {
            fields.insert("endpoints".to_owned(), json!(external.endpoints));
            put(&mut fields, "httpEndpoints", json!(external.http_endpoints));
            for (name, path) in [("caFile", &external.ca_file), ("certFile", &external.cert_file), ("keyFile", &external.key_file)]
            {
                fields.insert(name.to_owned(), json!(path));
            }
            json!({"external": fields})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::node::{Arg, Auto, Endpoint, ExternalEtcd};
    use crate::config::sample;

    #[test]
    fn the_defaults_are_uploaded_as_kubeadm_uploads_them() {
        let node = sample::control_plane();
        let version = node.cluster.kubernetes_version.set().expect("set").clone();
        // From a cluster that kubeadm v1.36.3 made of the same configuration.
        let kubeadm = "\
apiServer: {}
apiVersion: kubeadm.k8s.io/v1beta4
caCertificateValidityPeriod: 87600h0m0s
certificateValidityPeriod: 8760h0m0s
certificatesDir: /etc/kubernetes/pki
clusterName: kubernetes
controllerManager: {}
dns: {}
encryptionAlgorithm: ECDSA-P256
etcd:
  local:
    dataDir: /var/lib/etcd
imageRepository: registry.k8s.io
kind: ClusterConfiguration
kubernetesVersion: v1.36.3
networking:
  dnsDomain: cluster.local
  podSubnet: 10.244.0.0/16
  serviceSubnet: 10.96.0.0/12
proxy: {}
scheduler: {}
";
        assert_eq!(cluster_configuration(&node.cluster, &version), kubeadm);
    }

    #[test]
    fn every_option_has_kubeadms_name() {
        let mut cluster = sample::control_plane().cluster;
        cluster.control_plane_endpoint = Some(Endpoint { host: "fd00::1".to_owned(), port: 8443 });
        cluster.service_subnets.push("fd01::/112".parse().expect("a subnet"));
        cluster.cert_sans = vec!["api.example".to_owned()];
        cluster.api_server.extra_args = vec![Arg { name: "v".to_owned(), value: "4".to_owned() }];
        cluster.api_server.extra_envs = vec![json!({"name": "A", "value": "b"})];
        cluster.scheduler.extra_volumes = vec![HostPathMount {
            name: "n".to_owned(),
            host_path: "/h".to_owned(),
            mount_path: "/m".to_owned(),
            read_only: true,
            path_type: "File".to_owned(),
        }];
        cluster.dns = Addon { disabled: true, image_repository: "r".to_owned(), image_tag: "t".to_owned() };
        cluster.feature_gates.insert("RootlessControlPlane".to_owned(), true);
        cluster.etcd = Etcd::External(ExternalEtcd {
            endpoints: vec!["https://e:2379".to_owned()],
            http_endpoints: vec![],
            ca_file: "/ca".to_owned(),
            cert_file: String::new(),
            key_file: String::new(),
        });
        let Auto::Set(version) = cluster.kubernetes_version.clone() else { unreachable!("the sample sets it") };
        let written = value(&cluster, Some(&version));
        let expected = json!({
            "/controlPlaneEndpoint": "[fd00::1]:8443",
            "/networking/serviceSubnet": "10.96.0.0/12,fd01::/112",
            "/apiServer": {"extraArgs": [{"name": "v", "value": "4"}], "extraEnvs": [{"name": "A", "value": "b"}], "certSANs": ["api.example"]},
            "/scheduler/extraVolumes": [{"name": "n", "hostPath": "/h", "mountPath": "/m", "readOnly": true, "pathType": "File"}],
            "/dns": {"disabled": true, "imageRepository": "r", "imageTag": "t"},
            "/featureGates": {"RootlessControlPlane": true},
            "/etcd": {"external": {"endpoints": ["https://e:2379"], "caFile": "/ca", "certFile": "", "keyFile": ""}},
        });
        for (pointer, value) in expected.as_object().expect("a table") {
            assert_eq!(written.pointer(pointer), Some(value), "{pointer}");
        }
    }
}
