//! Credentials of systemd's as a source: `edgeboot.config` is a whole configuration, `edgeboot.config.NAME` a drop-in over it. They come
//! from firmware (SMBIOS), the hypervisor (fw_cfg), the container's manager or the credential stores, plain or encrypted; systemd brings
//! them to edgeboot's units. Single secrets, which a configuration refers to by name, are found here too.

use std::collections::BTreeMap;

use crate::host::Root;

use super::{Found, Gathered, Sort, Source, file, kernel_command_line};

/// The source.
pub const SOURCE: Source =
    Source { name: "credentials", looks_for: &["the credentials edgeboot.config and edgeboot.config.*"], gather };

/// The credential that is a whole configuration.
const CONFIG: &str = "edgeboot.config";

/// Where systemd puts the credentials of edgeboot's units (systemd.exec(5), `$CREDENTIALS_DIRECTORY`), as long as one of them runs; and
/// where it takes them from, for those who ask from a shell. What is encrypted there only the units can read. High to low.
const FOLDERS: [Folder; 7] = [
    Folder::OfUnit("/run/credentials/edgeboot.service"),
    Folder::OfUnit("/run/credentials/edgeboot-reconcile.service"),
    Folder::OfUnit("/run/credentials/edgeboot-mend.service"),
    Folder::Store("/run/credentials/@system"),
    Folder::Store("/etc/credstore"),
    Folder::Store("/run/credstore"),
    Folder::Store("/usr/lib/credstore"),
];

/// A folder of credentials.
#[derive(Debug, Clone, Copy)]
enum Folder {
    /// Of a unit, readable by that unit alone: one that cannot be listed is another unit's.
    OfUnit(&'static str),
    /// Where systemd takes them from.
    Store(&'static str),
}

impl Folder {
    fn path(self) -> &'static str {
        match self {
            Folder::OfUnit(path) | Folder::Store(path) => path,
        }
    }
}

fn gather(root: &Root) -> Vec<Gathered> {
    let mut gathered = Vec::new();
    let mut by_name: BTreeMap<String, String> = BTreeMap::new();
    for folder in FOLDERS {
        match (root.list(folder.path()), folder) {
            (Ok(listed), _) => {
                for name in listed.unwrap_or_default().into_iter().filter(|name| is_configuration(name)) {
                    let path = format!("{}/{name}", folder.path());
                    by_name.entry(name).or_insert(path);
                }
            }
            (Err(_), Folder::OfUnit(_)) => {}
            (Err(error), Folder::Store(path)) => {
                gathered.push(Gathered { origin: path.to_owned(), found: Found::Failed(error.to_string()) });
            }
        }
    }
    let of_command_line = kernel_command_line::set_credentials(root);
    gathered.extend(by_name.iter().map(|(name, path)| {
        let answer = file(root, path, Sort::Credential);
        if of_command_line.contains(name) { readable_by_all(answer) } else { answer }
    }));
    gathered
}

/// Who reads the kernel command line reads it, whatever the mode of systemd's copy.
fn readable_by_all(answer: Gathered) -> Gathered {
    match answer.found {
        Found::Bytes { bytes, .. } => {
            Gathered { found: Found::Bytes { bytes, mode: Some(0o444), sort: Sort::CommandLine }, ..answer }
        }
        _ => answer,
    }
}

fn is_configuration(name: &str) -> bool {
    name.strip_prefix(CONFIG).is_some_and(|rest| rest.is_empty() || rest.strip_prefix('.').is_some_and(|name| !name.is_empty()))
}

/// Whether a credential of this name may stand on the kernel command line: a configuration, in which secrets are looked for.
pub fn may_be_readable(name: &str) -> bool {
    is_configuration(name)
}

/// The file of a credential of that name, where there is one that can be read.
pub fn find(root: &Root, name: &str) -> Option<String> {
    let paths = FOLDERS.iter().map(|folder| format!("{}/{name}", folder.path()));
    paths.into_iter().find(|path| matches!(root.read(path), Ok(Some(_))))
}
