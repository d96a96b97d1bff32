//! CoreDNS as kubeadm installs it: Deployment, Service at the tenth address, Corefile and rights. A Corefile that a user changed stays
//! the user's, for nobody's edits are overwritten.

use serde_json::Value;

use super::{documents, fill};
use crate::config::node::Cluster;
use crate::error::{Error, Result};
use crate::k8s::patches::{Patches, Target};
use crate::k8s::{images, subnets};

const MANIFESTS: &str = include_str!("coredns.yaml");

/// Its objects, the Deployment patched as the user wishes.
pub fn objects(cluster: &Cluster, patches: &Patches) -> Result<Vec<Value>> {
    let address = subnets::service_address(&cluster.service_subnets, subnets::DNS_SERVICE).ok_or_else(|| {
        Error::config("choosing the cluster DNS' address")
            .because("the service subnet has no tenth address")
            .hint("give `networking.serviceSubnet` a larger subnet")
    })?;
    let mut objects = documents("CoreDNS", MANIFESTS)?;
    for object in &mut objects {
        fill(object, "@DNS_DOMAIN@", &cluster.dns_domain);
        fill(object, "@DNS_ADDRESS@", &address.to_string());
        fill(object, "@IMAGE@", &images::coredns(cluster));
        if object["kind"] == "Deployment" {
            *object = patches.apply(Target::CoreDnsDeployment, object.take())?;
        }
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sample;
    use serde_json::json;

    #[test]
    fn everything_is_filled_in() {
        let mut cluster = sample::control_plane().cluster;
        cluster.dns_domain = "edge.local".to_owned();
        cluster.service_subnets = vec!["fd00:1::/108".parse().expect("a subnet")];
        let objects = objects(&cluster, &Patches::none()).expect("objects");
        assert!(!serde_json::to_string(&objects).expect("json").contains('@'));
        let service = objects.iter().find(|object| object["kind"] == "Service").expect("a Service");
        assert_eq!(service["spec"]["clusterIP"], "fd00:1::a");
        let corefile = objects[0]["data"]["Corefile"].as_str().expect("a Corefile");
        assert!(corefile.contains("kubernetes edge.local in-addr.arpa") && corefile.contains("disable denial edge.local"));
    }

    #[test]
    fn the_deployment_can_be_patched() {
        let patch = (
            "corednsdeployment+strategic.yaml".to_owned(),
            b"spec: {template: {spec: {containers: [{name: coredns, image: mine:1}]}}}".to_vec(),
        );
        let patches = Patches::read(vec![patch]).expect("a patch");
        let objects = objects(&sample::control_plane().cluster, &patches).expect("objects");
        let deployment = objects.iter().find(|object| object["kind"] == "Deployment").expect("a Deployment");
        let containers = &deployment["spec"]["template"]["spec"]["containers"];
        assert_eq!(containers[0]["image"], "mine:1");
        assert_eq!(containers[0]["args"], json!(["-conf", "/etc/coredns/Corefile"]));
    }
}
