//! Where and how to join, from either form, with kubeadm's rules (`ValidateJoinConfiguration` of v1.36).

use crate::config::findings::{At, Findings, Level, Place};
use crate::config::forms;
use crate::config::kubeadm::AdmissionDocument;
use crate::config::layer::{Kind, Layer};
use crate::config::node::{
    CertificatesFrom, Discovery, Endpoint, Entry, Introduction, Join, NetworkComponent, OnExistingNode, Pins, Role, Secret, Token,
};
use crate::k8s::names;

use super::Documents;

/// What is for the machine that founds the cluster.
const OF_FOUNDER: [Kind; 3] = [Kind::Init, Kind::Cluster, Kind::KubeProxy];

/// How the machine joins; `None` after an error.
pub fn entry(documents: &Documents<'_>, findings: &Findings) -> Option<Entry> {
    let short = documents.node.join.as_ref();
    let long = &documents.join;
    let admission = match short {
        Some(at) => at.value.admission.or(&long.admission),
        None => AdmissionDocument::default().or(&long.admission),
    };
    let place = short.map(|at| at.place).or(long.place)?;
    let words = if short.is_some() { &SHORT } else { &LONG };
    let found = Admission { said: &admission, layer: documents.layer, words, place, findings }.checked();
    refuse_control_plane_of_worker(documents, &admission, findings);
    let (discovery, introduction) = found?;
    let certificates = admission.certificate_key.map_or(CertificatesFrom::Disk, |key| CertificatesFrom::Cluster(key.value));
    let said = short.map(|at| &at.value);
    Some(Entry::Join(Box::new(Join {
        discovery,
        introduction,
        certificates,
        ca_cert_path: long.ca_cert_path.as_ref().map_or_else(|| names::CA_CERT.into(), |at| at.value.clone()),
        keep_endpoint: said.and_then(|join| join.keep_endpoint.as_ref()).is_some_and(|at| at.value),
        on_existing_node: said.and_then(|join| join.on_existing_node.as_ref()).map_or(OnExistingNode::Adopt, |at| at.value),
    })))
}

/// What a form calls its fields.
struct Words {
    ways: &'static str,
    token: &'static str,
    hashes: &'static str,
    skip: &'static str,
}

const SHORT: Words = Words {
    ways: "`join` needs `endpoints`, or a `discoveryFile`",
    token: "`join` needs a `token`, `tokenFrom` or `tokenFile` beside `endpoints`",
    hashes: "join.caCertHashes",
    skip: "join.unsafeSkipCAVerification",
};
const LONG: Words = Words {
    ways: "`discovery` needs a `bootstrapToken` with an `apiServerEndpoint`, or a `file`",
    token: "`discovery.bootstrapToken` needs a `token`, `tokenFrom` or `tokenFile`",
    hashes: "discovery.bootstrapToken.caCertHashes",
    skip: "discovery.bootstrapToken.unsafeSkipCAVerification",
};

/// What is said of getting in, in the words of the form that says it.
struct Admission<'a> {
    said: &'a AdmissionDocument,
    layer: &'a Layer,
    words: &'a Words,
    place: Place,
    findings: &'a Findings,
}

impl Admission<'_> {
    fn checked(&self) -> Option<(Discovery, Introduction)> {
        match (&self.said.endpoints, &self.said.file) {
            (Some(_), Some(file)) => {
                self.findings.error(file.place, "`endpoints` and `discoveryFile` exclude each other");
                None
            }
            (Some(endpoints), None) if !endpoints.value.is_empty() => self.by_token(&endpoints.value),
            (None, Some(file)) => Some(self.by_file(file)),
            _ => {
                self.miss(&[forms::ENDPOINTS, forms::FILE], self.words.ways, "");
                None
            }
        }
    }

    /// Something is not said; what is said wrongly has been told already.
    fn miss(&self, words: &[&[forms::Word]], message: &str, help: &str) {
        if !words.iter().any(|words| forms::is_told(self.layer, words)) {
            self.findings.error_with_help(self.place, message, help);
        }
    }

    /// kubeadm's `ValidateDiscoveryBootstrapToken`.
    fn by_token(&self, endpoints: &[Endpoint]) -> Option<(Discovery, Introduction)> {
        let token = self.said.token.as_ref();
        if token.is_none() {
            self.miss(&[forms::TOKEN], self.words.token, "");
        }
        let hashes = self.said.hashes.as_ref().map(|at| at.value.clone()).unwrap_or_default();
        let pins = match (hashes.is_empty(), &self.said.skip_verification) {
            (false, _) => Some(Pins::Sha256(hashes)),
            (true, Some(At { value: true, .. })) => Some(Pins::Unsafe),
            (true, _) => {
                let help = format!(
                    "`{}: true`, or --discovery-token-unsafe-skip-ca-verification, believes whoever knows the token",
                    self.words.skip
                );
                let message = format!("without `{}` nobody can tell the cluster from another", self.words.hashes);
                self.miss(&[forms::HASHES], &message, &help);
                None
            }
        };
        let token = &token?.value;
        let discovery = Discovery::Token { endpoints: endpoints.to_vec(), token: token.clone(), pins: pins? };
        Some((discovery, self.introduction(Some(token))))
    }

    /// The token beside a file is what the machine introduces itself with, as with kubeadm's `--token`.
    fn by_file(&self, file: &At<Discovery>) -> (Discovery, Introduction) {
        if let Some(hashes) = self.said.hashes.as_ref().filter(|at| !at.value.is_empty()) {
            let message = format!("`{}` does not matter: the CA is the one in the file", self.words.hashes);
            self.findings.warning(hashes.place, message);
        }
        (file.value.clone(), self.introduction(self.said.token.as_ref().map(|at| &at.value)))
    }

    fn introduction(&self, token: Option<&Secret<Token>>) -> Introduction {
        let other = self.said.tls_bootstrap_token.as_ref().map(|at| &at.value);
        other.or(token).map_or(Introduction::OfKubeconfig, |token| Introduction::Token(token.clone()))
    }
}

fn refuse_control_plane_of_worker(documents: &Documents<'_>, admission: &AdmissionDocument, findings: &Findings) {
    if documents.node.role.as_ref().is_none_or(|role| role.value == Role::ControlPlane) {
        return;
    }
    let help = "`role: controlPlane` makes a further control plane";
    if let Some(place) = documents.join.control_plane {
        findings.error_with_help(place, "`controlPlane` of JoinConfiguration is not for a worker", help);
    } else if let Some(key) = &admission.certificate_key {
        findings.error_with_help(key.place, "`certificateKey` is not for a worker", help);
    }
}

/// What is said in vain on a machine that joins: as in kubeadm, it is left out with a warning.
pub fn check_leftovers(documents: &Documents<'_>, findings: &Findings) {
    for kind in OF_FOUNDER {
        if let Some(tree) = documents.layer.get(kind) {
            let message = format!("{} is for the machine that founds the cluster; one that joins leaves it out", kind.name());
            findings.warning(tree.place, message);
        }
    }
    if let Some(upload) = documents.node.upload_certs.as_ref().filter(|at| at.value) {
        findings.warning(upload.place, "`uploadCerts` is for the machine that founds the cluster; one that joins leaves it out");
    }
    if let Some(bridge) = documents.node.network.as_ref().filter(|at| at.value == NetworkComponent::Bridge) {
        let help = "the network of pods is the cluster's affair: leave it out here";
        findings.note(Level::Warning, bridge.place, "`network.component: bridge` is for one node, and this one joins others", help);
    }
}
