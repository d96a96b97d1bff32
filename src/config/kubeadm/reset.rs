//! `ResetConfiguration` (kubeadm.k8s.io/v1beta4): what `reset` is told by a file. Other documents of that file are left out, with a
//! warning, as kubeadm's `documentMapToResetConfiguration` leaves them out; one of this kind must be there.

use camino::Utf8PathBuf;

use crate::config::fields::Fields;
use crate::config::findings::{Finding, Findings, Level, SourceId, SourceText};
use crate::config::tree::{self, Tree, Value};
use crate::config::values;
use crate::error::{Error, Result};
use crate::host::root::UnmountFlag;

/// The one version that has this kind.
const API_VERSION: &str = "kubeadm.k8s.io/v1beta4";
/// Its name.
const KIND: &str = "ResetConfiguration";
/// The flags of umount2(2) that it may name.
const UNMOUNT_FLAGS: [(&str, UnmountFlag); 4] = [
    ("MNT_FORCE", UnmountFlag::Force),
    ("MNT_DETACH", UnmountFlag::Detach),
    ("MNT_EXPIRE", UnmountFlag::Expire),
    ("UMOUNT_NOFOLLOW", UnmountFlag::NoFollow),
];

/// `ResetConfiguration`: what is not said is `None` or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResetDocument {
    /// `cleanupTmpDir`.
    pub cleanup_tmp_dir: bool,
    /// `certificatesDir`.
    pub certificates_dir: Option<Utf8PathBuf>,
    /// `criSocket`, with `unix://`.
    pub cri_socket: Option<String>,
    /// `dryRun`.
    pub dry_run: bool,
    /// `force`.
    pub force: bool,
    /// `ignorePreflightErrors`.
    pub ignore_preflight_errors: Vec<String>,
    /// `skipPhases`.
    pub skip_phases: Vec<String>,
    /// `unmountFlags`.
    pub unmount_flags: Vec<UnmountFlag>,
}

impl ResetDocument {
    /// Reads it out of a file, with what is to be warned of.
    pub fn of(name: &str, text: &str) -> Result<(ResetDocument, Vec<Finding>)> {
        let findings = Findings::default();
        let mut found = None;
        for document in tree::parse(SourceId(0), text, &findings) {
            let (api_version, kind) = (word(&document, "apiVersion"), word(&document, "kind"));
            if kind != KIND {
                findings.warning(document.place, format!("`{kind}` is not for `reset`; it is left out"));
            } else if api_version == API_VERSION {
                found = Some(read(&document, &findings));
            } else {
                let message = format!("{KIND} is not known in `{api_version}`");
                findings.error_with_help(document.place, message, format!("write `apiVersion: {API_VERSION}`"));
            }
        }
        let source = SourceText {
            name: name.to_owned(),
            text: text.to_owned(),
            mode: None,
            numbered: true,
            when_readable: Level::Warning,
            is_public: false,
        };
        let findings = findings.told(&[source]);
        match (findings.iter().filter(|finding| finding.level == Level::Error).count(), found) {
            (0, Some(document)) => Ok((document, findings)),
            (0, None) => Err(Error::config(format!("reading {name}")).because(format!("no {KIND} found in the supplied config"))),
            (errors, _) => Err(crate::config::failure(&findings, errors)),
        }
    }
}

fn word<'a>(document: &'a Tree, name: &str) -> &'a str {
    match document.field(name).map(|tree| &tree.value) {
        Some(Value::Text(text, _)) => text,
        _ => "",
    }
}

fn read(document: &Tree, findings: &Findings) -> ResetDocument {
    let Some(fields) = Fields::of(document, "", findings, Level::Warning) else { return ResetDocument::default() };
    let flag = |name| fields.flag(name).is_some_and(|at| at.value);
    let texts = |name| fields.texts(name).map(|at| at.value).unwrap_or_default().into_iter().map(|at| at.value).collect();
    // Looked at already; and what bounds requests of kubeadm's own.
    for known in ["apiVersion", "kind", "timeouts"] {
        fields.raw(known);
    }
    let document = ResetDocument {
        cleanup_tmp_dir: flag("cleanupTmpDir"),
        certificates_dir: fields.parsed("certificatesDir", values::absolute_path).map(|at| at.value),
        cri_socket: fields.parsed("criSocket", values::cri_socket).map(|at| at.value),
        dry_run: flag("dryRun"),
        force: flag("force"),
        ignore_preflight_errors: texts("ignorePreflightErrors"),
        skip_phases: texts("skipPhases"),
        unmount_flags: fields.texts_parsed("unmountFlags", values::one_of(&UNMOUNT_FLAGS)).map(|at| at.value).unwrap_or_default(),
    };
    fields.finish();
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<(ResetDocument, Vec<Finding>)> {
        ResetDocument::of("reset.yaml", text)
    }

    #[test]
    fn every_field_of_kubeadms_is_read_and_other_documents_are_left_out() {
        let text = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n---\n\
                    apiVersion: kubeadm.k8s.io/v1beta4\nkind: ResetConfiguration\ncleanupTmpDir: true\ncertificatesDir: /data/pki\n\
                    criSocket: unix:///run/x.sock\ndryRun: true\nforce: true\nignorePreflightErrors: [IsPrivilegedUser]\n\
                    skipPhases: [remove-etcd-member]\nunmountFlags: [MNT_DETACH, UMOUNT_NOFOLLOW]\ntimeouts: {etcdAPICall: 1m}\nsurprise: 1\n";
        let (document, warnings) = of(text).expect("read");
        let expected = ResetDocument {
            cleanup_tmp_dir: true,
            certificates_dir: Some("/data/pki".into()),
            cri_socket: Some("unix:///run/x.sock".to_owned()),
            dry_run: true,
            force: true,
            ignore_preflight_errors: vec!["IsPrivilegedUser".to_owned()],
            skip_phases: vec!["remove-etcd-member".to_owned()],
            unmount_flags: vec![UnmountFlag::Detach, UnmountFlag::NoFollow],
        };
        assert_eq!(document, expected);
        let told: Vec<String> = warnings.iter().map(Finding::render).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told.iter().any(|line| line.contains("`ClusterConfiguration` is not for `reset`")), "{told:?}");
        assert!(told.iter().any(|line| line.contains("surprise")), "{told:?}");
    }

    #[test]
    fn what_kubeadm_refuses_is_refused() {
        let head = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ResetConfiguration\n";
        for (text, why) in [
            ("apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\n".to_owned(), "no ResetConfiguration found"),
            ("apiVersion: kubeadm.k8s.io/v1beta3\nkind: ResetConfiguration\n".to_owned(), "not known in `kubeadm.k8s.io/v1beta3`"),
            (format!("{head}certificatesDir: pki\n"), "certificatesDir"),
            (format!("{head}unmountFlags: [MNT_SOMEHOW]\n"), "MNT_SOMEHOW"),
            (format!("{head}force: sometimes\n"), "force"),
        ] {
            let error = of(&text).expect_err(&text);
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
