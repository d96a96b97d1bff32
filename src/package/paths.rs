//! Which paths, modes and links a package may hold: what is inside stays inside, whoever made the package.

use std::collections::{BTreeMap, BTreeSet};

use super::problem::Problem;

/// Names at the top that an installed package keeps for itself.
const RESERVED: [&str; 1] = [super::RECORD];

fn refused(path: &str, why: impl Into<String>) -> Problem {
    Problem::Refused { path: path.to_owned(), why: why.into() }
}

/// A path below the package's root: relative, no empty component, no `.` or `..`.
pub fn check_path(path: &str) -> Result<(), Problem> {
    if path.is_empty() {
        return Err(refused(path, "it is empty"));
    }
    if path.starts_with('/') {
        return Err(refused(path, "it is absolute"));
    }
    if path.len() > 1024 {
        return Err(refused(path, "it is longer than 1024 bytes"));
    }
    if path.chars().any(char::is_control) {
        return Err(refused(path, "it holds control characters"));
    }
    for component in path.split('/') {
        match component {
            "" => return Err(refused(path, "it has an empty component")),
            "." | ".." => return Err(refused(path, format!("it has the component '{component}'"))),
            long if long.len() > 255 => return Err(refused(path, "a component is longer than 255 bytes")),
            _ => {}
        }
    }
    if RESERVED.contains(&path) {
        return Err(refused(path, "edgeboot keeps that name for itself"));
    }
    Ok(())
}

/// Permission bits of a file: none that change who runs it, none that let everyone write.
pub fn check_mode(path: &str, mode: u32) -> Result<(), Problem> {
    match mode {
        mode if mode > 0o7777 => Err(refused(path, format!("{mode:o} is no mode"))),
        mode if mode & 0o4000 != 0 => Err(refused(path, "it is setuid")),
        mode if mode & 0o2000 != 0 => Err(refused(path, "it is setgid")),
        mode if mode & 0o1000 != 0 => Err(refused(path, "it is sticky")),
        mode if mode & 0o0002 != 0 => Err(refused(path, "everyone may write it")),
        mode if mode & 0o0400 == 0 => Err(refused(path, "its owner may not read it")),
        _ => Ok(()),
    }
}

/// Where a link points, as a path of the package. `..` may only come first: then no chain of links can climb out, because nothing
/// lies below a link.
fn resolve(path: &str, target: &str) -> Result<String, Problem> {
    if target.is_empty() || target.starts_with('/') || target.chars().any(char::is_control) {
        return Err(refused(path, format!("its target '{target}' is not a relative path")));
    }
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    let mut descending = false;
    for component in target.split('/') {
        match component {
            "" | "." => return Err(refused(path, format!("its target '{target}' has an empty component"))),
            ".." if descending => return Err(refused(path, format!("its target '{target}' goes down and up again"))),
            ".." => {
                parts.pop().ok_or_else(|| refused(path, format!("its target '{target}' leaves the package")))?;
            }
            name => {
                descending = true;
                parts.push(name);
            }
        }
    }
    Ok(parts.join("/"))
}

/// Checks all paths together: each once, nothing below a file or a link, every link to something that is there.
pub fn check_tree<'a>(
    files: impl Iterator<Item = &'a str>,
    links: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<(), Problem> {
    let mut leaves = BTreeSet::new();
    let mut targets = BTreeMap::new();
    for path in files {
        check_path(path)?;
        if !leaves.insert(path) {
            return Err(refused(path, "it is there twice"));
        }
    }
    for (path, target) in links {
        check_path(path)?;
        if !leaves.insert(path) {
            return Err(refused(path, "it is there twice"));
        }
        targets.insert(path, target);
    }
    if leaves.len() > super::MAX_ENTRIES {
        return Err(Problem::OverLimit { what: "the number of files".to_owned(), limit: super::MAX_ENTRIES as u64 });
    }
    let mut folders = BTreeSet::from([""]);
    for path in &leaves {
        for (end, _) in path.match_indices('/') {
            if leaves.contains(&path[..end]) {
                return Err(refused(path, format!("'{}' is a file or a link, and nothing can lie below it", &path[..end])));
            }
            folders.insert(&path[..end]);
        }
    }
    for (path, target) in targets {
        let resolved = resolve(path, target)?;
        if !leaves.contains(resolved.as_str()) && !folders.contains(resolved.as_str()) {
            return Err(refused(path, format!("its target '{target}' is not in the package")));
        }
    }
    Ok(())
}

/// The folders that these paths need, parents first.
pub fn folders_of<'a>(paths: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let mut folders = BTreeSet::new();
    for path in paths {
        for (end, _) in path.match_indices('/') {
            folders.insert(&path[..end]);
        }
    }
    folders
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_could_leave_the_root_is_refused_by_name() {
        for (path, says) in [
            ("", "it is empty"),
            ("/etc/passwd", "absolute"),
            ("../x", "component '..'"),
            ("a/../../x", "component '..'"),
            ("a/./b", "component '.'"),
            ("a//b", "empty component"),
            ("a/", "empty component"),
            ("a\nb", "control characters"),
            ("package.json", "keeps that name"),
        ] {
            let error = check_path(path).expect_err(path).to_string();
            assert!(error.contains(says), "{path}: {error}");
        }
        for good in ["a", "bin/kube", "a/b/c..d", "...", ".hidden"] {
            check_path(good).expect(good);
        }
    }

    #[test]
    fn modes_that_give_rights_away_are_refused_by_name() {
        for (mode, says) in [
            (0o4755, "setuid"),
            (0o2755, "setgid"),
            (0o1755, "sticky"),
            (0o777, "everyone may write"),
            (0o10_755, "no mode"),
            (0o055, "owner"),
        ] {
            let error = check_mode("f", mode).expect_err("refused").to_string();
            assert!(error.contains(says), "{mode:o}: {error}");
        }
        for good in [0o755, 0o644, 0o600, 0o775] {
            check_mode("f", good).expect("accepted");
        }
    }

    #[test]
    fn a_tree_holds_together() {
        let good = [("bin/kubelet", "kube"), ("up", "bin/kube"), ("cni/back", "../bin"), ("bin/chain", "kubelet")];
        check_tree(["bin/kube", "cni/bin/bridge"].into_iter(), good.into_iter()).expect("accepted");
        for (files, links, says) in [
            (&["a", "a"][..], &[][..], "twice"),
            (&["a"], &[("a", "b")], "twice"),
            (&["a", "a/b"], &[], "nothing can lie below it"),
            (&["l/x", "d/y"], &[("l", "d")], "nothing can lie below it"),
            (&["a"], &[("l", "/a")], "not a relative path"),
            (&["a"], &[("l", "../a")], "leaves the package"),
            (&["a", "d/b"], &[("d/l", "../../etc")], "leaves the package"),
            (&["a", "d/b"], &[("l", "d/../a")], "goes down and up again"),
            (&["a"], &[("l", "nowhere")], "not in the package"),
        ] {
            let error = check_tree(files.iter().copied(), links.iter().copied()).expect_err(says).to_string();
            assert!(error.contains(says), "{says}: {error}");
        }
    }

    proptest! {
        #[test]
        fn an_accepted_link_never_leaves_the_root(path in "([a-c]/){0,3}[a-c]", target in "(\\.\\./|[a-c]/|\\./|/){0,5}[a-c.]{1,2}") {
            if let Ok(resolved) = resolve(&path, &target) {
                prop_assert!(resolved.is_empty() || check_path(&resolved).is_ok(), "{path} -> {target} = {resolved}");
                prop_assert!(!target.starts_with('/'));
            }
        }
    }
}
