//! Arrows only point down: reads the `use crate::` lines of every room against the table of allowed edges.

#![expect(clippy::disallowed_methods, reason = "a test reads the sources")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Each room and the rooms it may know. `error` may be known by all and knows nobody.
const ALLOWED: [(&str, &[&str]); 9] = [
    ("error", &[]),
    ("host", &["error", "host", "k8s::names"]),
    ("config", &["error", "config", "host", "k8s"]),
    ("k8s", &["error", "k8s", "config"]),
    ("package", &["error", "package", "host", "k8s", "config", "engine::state"]),
    ("components", &["error", "components", "k8s", "config"]),
    ("engine", &["error", "engine", "host", "config", "k8s"]),
    ("phases", &["error", "phases", "engine", "host", "config", "k8s", "components", "package"]),
    ("cli", &["error", "cli", "phases", "engine", "host", "config", "k8s", "components", "package"]),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The part of a file before its inline tests: tests may reach wherever they like.
fn without_tests(text: &str) -> &str {
    text.find("#[cfg(test)]").map_or(text, |at| &text[..at])
}

#[test]
fn arrows_only_point_down() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.into_iter().collect();
    let mut files = Vec::new();
    sources(&top, &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&top).expect("below src").to_string_lossy().into_owned();
        let room = relative.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned();
        if matches!(room.as_str(), "main" | "lib") || relative.ends_with("tests.rs") {
            continue;
        }
        let known = allowed.get(room.as_str()).unwrap_or_else(|| panic!("src/{relative}: '{room}' is no room of the house"));
        let text = std::fs::read_to_string(&file).expect("a source file");
        for (number, line) in without_tests(&text).lines().enumerate() {
            let Some(used) = line.trim().trim_start_matches("pub ").strip_prefix("use crate::") else { continue };
            if !known
                .iter()
                .any(|room| used == *room || used.starts_with(&format!("{room}::")) || used.starts_with(&format!("{room};")))
            {
                wrong.push(format!("src/{relative}:{}: {room} may not know {used}", number + 1));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "arrows only point down: cli > phases > engine, k8s, components, config, package > host (src/lib.rs says why)\n{}",
        wrong.join("\n")
    );
}
