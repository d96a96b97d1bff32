//! What anybody may read in order to join: the ConfigMap cluster-info in kube-public, a kubeconfig with the server and its CA and
//! nobody in it. kube-controller-manager signs it for each token.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::objects::{self, Grantee, KUBE_PUBLIC};
use super::yaml;

const ROLE: &str = "kubeadm:bootstrap-signer-clusterinfo";
const CONFIG_MAP: &str = "cluster-info";

/// The kubeconfig, in the words of Go's `clientcmd.Write`.
pub fn kubeconfig(server: &str, ca_pem: &[u8]) -> String {
    yaml::text(&json!({
        "apiVersion": "v1", "kind": "Config", "contexts": null, "current-context": "", "users": null,
        "clusters": [{"name": "", "cluster": {"certificate-authority-data": BASE64.encode(ca_pem), "server": server}}],
    }))
}

/// The ConfigMap, and who may read it.
pub fn objects(server: &str, ca_pem: &[u8]) -> Vec<Value> {
    vec![
        objects::config_map(KUBE_PUBLIC, CONFIG_MAP, &[("kubeconfig", &kubeconfig(server, ca_pem))]),
        objects::role_to_read(KUBE_PUBLIC, ROLE, "configmaps", CONFIG_MAP),
        objects::role_binding(KUBE_PUBLIC, ROLE, &[Grantee::User("system:anonymous")]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubeconfig_is_kubeadms() {
        let kubeadm = "\
apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: Y2EK
    server: https://10.77.0.21:6443
  name: \"\"
contexts: null
current-context: \"\"
kind: Config
users: null
";
        assert_eq!(kubeconfig("https://10.77.0.21:6443", b"ca\n"), kubeadm);
    }
}
