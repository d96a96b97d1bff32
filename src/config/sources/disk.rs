//! /etc/edgeboot/config.yaml, then the drop-ins: `*.yaml` of three folders, merged as systemd merges drop-ins: sorted by file name
//! whatever the folder, of equal names only the one in /etc, else /run, else /usr/lib; an empty one or a link to /dev/null hides those
//! below it.

use std::collections::BTreeMap;

use crate::host::{Root, Utf8Path};
use crate::k8s::names;

use super::{Found, Gathered, Sort, Source, file};

/// The source.
pub const SOURCE: Source = Source {
    name: "disk",
    looks_for: &[
        names::CONFIG,
        "/etc/edgeboot/config.d/*.yaml",
        "/run/edgeboot/config.d/*.yaml",
        "/usr/lib/edgeboot/config.d/*.yaml",
    ],
    gather,
};

/// The folders of drop-ins, low to high.
const FOLDERS: &[&str] = &["/usr/lib/edgeboot/config.d", "/run/edgeboot/config.d", names::CONFIG_DIR];

fn gather(root: &Root) -> Vec<Gathered> {
    let mut gathered = vec![file(root, names::CONFIG, Sort::Main)];
    let mut by_name: BTreeMap<String, String> = BTreeMap::new();
    for folder in FOLDERS {
        match root.list(folder) {
            Ok(listed) => {
                let names = listed.unwrap_or_default().into_iter().filter(|name| is_drop_in(name));
                by_name.extend(names.map(|name| (name.clone(), format!("{folder}/{name}"))));
            }
            Err(error) => gathered.push(Gathered { origin: (*folder).to_owned(), found: Found::Failed(error.to_string()) }),
        }
    }
    gathered.extend(by_name.values().filter(|path| !is_masked(root, path)).map(|path| file(root, path, Sort::DropIn)));
    gathered
}

/// Editors' and package managers' leftovers are none.
fn is_drop_in(name: &str) -> bool {
    !name.starts_with('.') && Utf8Path::new(name).extension() == Some("yaml")
}

/// A link to /dev/null hides the drop-ins of that name.
fn is_masked(root: &Root, path: &str) -> bool {
    matches!(root.read_link(path), Ok(Some(target)) if target == "/dev/null")
}
