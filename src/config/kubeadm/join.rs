//! `JoinConfiguration`, as it is written, and the part of it that NodeConfig's `join` says in a shorter form.

use camino::Utf8PathBuf;

use crate::config::fields::Fields;
use crate::config::findings::{At, Findings, Level, Place};
use crate::config::node::{CertificateKey, Discovery, Endpoint, PublicKeyHash, Secret, Token};
use crate::config::sources::secrets;
use crate::config::tree::Tree;
use crate::config::values;

use super::MachineDocument;

/// How to get into a cluster, in either form.
#[derive(Debug, Default)]
pub struct AdmissionDocument {
    /// `endpoints`; kubeadm's one `apiServerEndpoint`.
    pub endpoints: Option<At<Vec<Endpoint>>>,
    /// `token`: signs what the cluster says of itself.
    pub token: Option<At<Secret<Token>>>,
    /// `caCertHashes`.
    pub hashes: Option<At<Vec<PublicKeyHash>>>,
    /// `unsafeSkipCAVerification`.
    pub skip_verification: Option<At<bool>>,
    /// `discoveryFile`; kubeadm's `kubeConfigPath`.
    pub file: Option<At<Discovery>>,
    /// `tlsBootstrapToken`: what the machine introduces itself with, where it is another.
    pub tls_bootstrap_token: Option<At<Secret<Token>>>,
    /// `certificateKey`.
    pub certificate_key: Option<At<Secret<CertificateKey>>>,
}

impl AdmissionDocument {
    /// What either form says; layers have seen to it that they do not contradict each other.
    #[must_use]
    pub fn or(&self, other: &AdmissionDocument) -> AdmissionDocument {
        fn either<T: Clone>(one: Option<&At<T>>, other: Option<&At<T>>) -> Option<At<T>> {
            one.or(other).cloned()
        }
        AdmissionDocument {
            endpoints: either(self.endpoints.as_ref(), other.endpoints.as_ref()),
            token: either(self.token.as_ref(), other.token.as_ref()),
            hashes: either(self.hashes.as_ref(), other.hashes.as_ref()),
            skip_verification: either(self.skip_verification.as_ref(), other.skip_verification.as_ref()),
            file: either(self.file.as_ref(), other.file.as_ref()),
            tls_bootstrap_token: either(self.tls_bootstrap_token.as_ref(), other.tls_bootstrap_token.as_ref()),
            certificate_key: either(self.certificate_key.as_ref(), other.certificate_key.as_ref()),
        }
    }
}

/// `JoinConfiguration`.
#[derive(Debug, Default)]
pub struct JoinDocument {
    /// Where it begins, when there is one.
    pub place: Option<Place>,
    /// `caCertPath`.
    pub ca_cert_path: Option<At<Utf8PathBuf>>,
    /// `discovery` and `controlPlane.certificateKey`.
    pub admission: AdmissionDocument,
    /// `controlPlane`: where it stands; an empty one says it too.
    pub control_plane: Option<Place>,
    /// What it says of this machine.
    pub machine: MachineDocument,
}

impl JoinDocument {
    /// Reads the document.
    pub fn read(tree: Option<&Tree>, findings: &Findings) -> JoinDocument {
        let Some(tree) = tree else { return JoinDocument::default() };
        let mut document = JoinDocument { place: Some(tree.place), ..JoinDocument::default() };
        let Some(fields) = Fields::of(tree, "", findings, Level::Warning) else { return document };
        document.ca_cert_path = fields.parsed("caCertPath", values::ca_cert_path);
        document.machine = MachineDocument::read(&fields);
        fields.section("discovery", |discovery| read_discovery(discovery, &mut document.admission));
        let control_plane = fields.section("controlPlane", |control_plane| {
            document.machine.read_endpoint(control_plane);
            document.admission.certificate_key = secrets::read(control_plane, &secrets::CERTIFICATE_KEY, values::certificate_key);
        });
        document.control_plane = control_plane.map(|at| at.place);
        fields.finish();
        document
    }
}

fn read_discovery(discovery: &Fields<'_>, admission: &mut AdmissionDocument) {
    let by_token = discovery.section("bootstrapToken", |token| {
        let endpoint = token.parsed("apiServerEndpoint", values::endpoint_with_port);
        admission.endpoints = endpoint.map(|At { value, place }| At { value: vec![value], place });
        admission.token = secrets::read(token, &secrets::TOKEN, values::token);
        admission.hashes = token.texts_parsed("caCertHashes", values::public_key_hash);
        admission.skip_verification = token.flag("unsafeSkipCAVerification");
    });
    let by_file = discovery.section("file", |file| {
        admission.file = file.parsed("kubeConfigPath", values::discovery_file);
        if file.raw("kubeConfigPath").is_none() {
            file.findings().error(file.place(), "`discovery.file` needs a `kubeConfigPath`");
        }
    });
    if let (Some(_), Some(file)) = (by_token, by_file) {
        discovery.findings().error(file.place, "`discovery.bootstrapToken` and `discovery.file` exclude each other");
        admission.file = None;
    }
    admission.tls_bootstrap_token = secrets::read(discovery, &secrets::TLS_BOOTSTRAP_TOKEN, values::token);
}
