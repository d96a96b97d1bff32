//! The tree on a real file system.

#![expect(clippy::disallowed_methods, reason = "what the tree did is judged on the real files")]

use super::*;
use crate::host::Changed;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

fn tree() -> (tempfile::TempDir, Root) {
    let folder = tempfile::tempdir().expect("a folder");
    let root = Root::at(folder.path().to_str().expect("UTF-8")).expect("a tree");
    (folder, root)
}

fn placement(path: &str, mode: u32, text: &str) -> Placement {
    Placement { path: path.into(), mode, bytes: text.as_bytes().to_vec() }
}

#[test]
fn what_is_placed_has_its_mode_and_content_and_leaves_no_temporary() {
    let (folder, root) = tree();
    let groups = [
        vec![placement("/var/lib/edgeboot/state.json", 0o600, "{}")],
        vec![
            placement("/etc/kubernetes/pki/ca.key", 0o600, "key"),
            placement("/etc/kubernetes/pki/ca.crt", 0o644, "certificate"),
            placement("/etc/sysctl.d/90-edgeboot.conf", 0o666, "a = 1"),
        ],
    ];
    assert_eq!(root.put_groups(&groups).expect("placed"), Changed::Yes);
    for placement in groups.iter().flatten() {
        let there = root.metadata(&placement.path).expect("metadata").expect("there");
        assert_eq!((there.file_type, there.mode), (FileType::File, placement.mode), "{}", placement.path);
        assert_eq!(root.read(&placement.path).expect("read").as_deref(), Some(&placement.bytes[..]));
    }
    assert_eq!(root.list("/etc/sysctl.d").expect("list"), Some(vec!["90-edgeboot.conf".to_owned()]));
    assert_eq!(root.list("/etc/kubernetes/tmp").expect("list"), Some(vec![]));
    assert_eq!(root.metadata("/etc/kubernetes/tmp").expect("metadata").expect("there").mode, 0o700);
    assert!(folder.path().join("etc/kubernetes/pki/ca.key").exists());
}

#[test]
fn what_is_right_already_is_left_alone() {
    let (folder, root) = tree();
    let real = folder.path().join("etc/file");
    assert!(root.put("/etc/file", 0o600, b"same").expect("placed").is_yes());
    let inode = std::fs::metadata(&real).expect("there").ino();
    assert_eq!(root.put("/etc/file", 0o600, b"same").expect("placed"), Changed::No);
    assert_eq!(root.put("/etc/file", 0o644, b"same").expect("placed"), Changed::Yes, "only the mode differs");
    let there = std::fs::metadata(&real).expect("there");
    assert_eq!((there.ino(), there.permissions().mode() & 0o7777), (inode, 0o644));
    assert_eq!(root.put("/etc/file", 0o644, b"else").expect("placed"), Changed::Yes);
    assert_ne!(std::fs::metadata(&real).expect("there").ino(), inode, "replaced, not written in place");
}

#[test]
fn what_an_interrupted_run_left_does_not_stand_in_the_way() {
    let (folder, root) = tree();
    std::fs::create_dir_all(folder.path().join("etc/kubernetes/tmp")).expect("made");
    std::fs::write(folder.path().join("etc/.file.edgeboot"), "torn").expect("written");
    std::fs::write(folder.path().join("etc/kubernetes/tmp/.pki%2Fca.key.edgeboot"), "torn").expect("written");
    assert!(root.put("/etc/file", 0o600, b"whole").expect("placed").is_yes());
    assert!(root.put("/etc/kubernetes/pki/ca.key", 0o600, b"whole").expect("placed").is_yes());
    assert_eq!(root.list("/etc").expect("list"), Some(vec!["file".to_owned(), "kubernetes".to_owned()]));
    assert_eq!(root.list("/etc/kubernetes/tmp").expect("list"), Some(vec![]));
}

#[test]
fn a_mark_may_be_left_by_many_at_once() {
    let (_folder, root) = tree();
    let left: Vec<Changed> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| root.mark("/run/edgeboot/is-stale").expect("a mark"))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert_eq!(left.iter().filter(|changed| **changed == Changed::Yes).count(), 1);
    assert!(root.remove("/run/edgeboot/is-stale").expect("removed") == Changed::Yes);
}

#[test]
fn a_failure_leaves_no_temporary_and_names_the_path() {
    let (_folder, root) = tree();
    root.make_dirs("/etc/taken", 0o755).map(drop).expect("made");
    let groups = [vec![placement("/etc/fine", 0o600, "x"), placement("/etc/taken/file/below", 0o600, "x")]];
    assert!(root.put("/etc/taken/file", 0o600, b"").expect("placed").is_yes());
    let error = root.put_groups(&groups).expect_err("a file is no directory");
    assert!(error.to_string().contains("/etc/taken/file"), "{error}");
    assert_eq!(root.list("/etc").expect("list"), Some(vec!["taken".to_owned()]));
}

#[test]
fn absolute_links_lead_inside_the_tree_and_nothing_leads_out() {
    let (folder, root) = tree();
    let outside = tempfile::tempdir().expect("a folder");
    std::fs::write(outside.path().join("secret"), "outside").expect("written");
    for directory in ["run/lock", "usr/bin", "var", "etc"] {
        std::fs::create_dir_all(folder.path().join(directory)).expect("made");
    }
    let link = |target: &str, at: &str| symlink(target, folder.path().join(at)).expect("linked");
    link("/run", "var/run");
    link("usr/bin", "bin");
    link("/var/run/resolv.conf", "etc/resolv.conf");
    link("loop", "loop");
    link("../../../../../../../..", "up");
    link(outside.path().to_str().expect("UTF-8"), "out");
    std::fs::write(folder.path().join("run/resolv.conf"), "nameserver").expect("written");

    assert_eq!(root.read_text("/etc/resolv.conf").expect("read").as_deref(), Some("nameserver"));
    assert_eq!(root.read_text("/var/run/resolv.conf").expect("read").as_deref(), Some("nameserver"));
    assert_eq!(root.list("/var/run").expect("list"), Some(vec!["lock".to_owned(), "resolv.conf".to_owned()]));
    assert!(root.put("/var/run/made/here", 0o644, b"x").expect("placed").is_yes());
    assert_eq!(root.read_text("/run/made/here").expect("read").as_deref(), Some("x"));
    assert!(root.put("/bin/tool", 0o755, b"x").expect("placed").is_yes());
    assert!(folder.path().join("usr/bin/tool").exists());
    assert_eq!(root.metadata("/var/run").expect("metadata").expect("there").file_type, FileType::Link);
    assert_eq!(root.read_text("/up/run/resolv.conf").expect("read").as_deref(), Some("nameserver"), "as after chroot");
    assert_eq!(root.read("/out/secret").expect("read"), None, "a path inside the tree, where nothing is");
    assert!(root.read("/loop").is_err());
    assert!(root.remove("/var/run/resolv.conf").expect("removed").is_yes());
    assert_eq!(root.read("/etc/resolv.conf").expect("read"), None, "a dangling link");
}

#[test]
fn a_link_is_placed_over_another_and_left_alone_when_right() {
    let (folder, root) = tree();
    let path = "/var/lib/kubelet/pki/kubelet-client-current.pem";
    let dated = "/var/lib/kubelet/pki/kubelet-client-2026.pem";
    assert!(root.put(dated, 0o600, b"pem").expect("placed").is_yes());
    assert_eq!(root.link(path, "/nowhere").expect("linked"), Changed::Yes);
    assert_eq!(root.link(path, dated).expect("linked"), Changed::Yes);
    assert_eq!(root.link(path, dated).expect("linked"), Changed::No);
    assert_eq!(root.read_link(path).expect("read").as_deref(), Some(Utf8Path::new(dated)));
    assert_eq!(root.read_link(dated).expect("read"), None);
    assert_eq!(root.read(path).expect("read").as_deref(), Some(&b"pem"[..]));
    assert_eq!(std::fs::read_dir(folder.path().join("var/lib/kubelet/pki")).expect("list").count(), 2);
}

#[test]
fn a_tree_is_removed_without_following_links() {
    let (_folder, root) = tree();
    assert!(root.put("/kept/file", 0o600, b"x").expect("placed").is_yes());
    assert!(root.put("/gone/a/b", 0o600, b"x").expect("placed").is_yes());
    assert!(root.link("/gone/link", "/kept").expect("linked").is_yes());
    assert_eq!(root.remove_all("/gone").expect("removed"), Changed::Yes);
    assert_eq!(root.remove_all("/gone").expect("removed"), Changed::No);
    assert_eq!(root.remove("/gone").expect("removed"), Changed::No);
    assert!(root.exists("/kept/file").expect("looked"));
}

#[test]
fn a_file_is_copied_whole_with_its_new_mode() {
    let (_folder, root) = tree();
    assert!(root.put("/etc/from", 0o644, b"content").expect("placed").is_yes());
    root.copy("/etc/from", "/var/lib/edgeboot/kept/from", 0o600).expect("copied");
    assert_eq!(root.read("/var/lib/edgeboot/kept/from").expect("read").as_deref(), Some(&b"content"[..]));
    assert_eq!(root.metadata("/var/lib/edgeboot/kept").expect("metadata").expect("there").mode, 0o700);
    assert!(root.copy("/etc/none", "/etc/to", 0o600).is_err());
}

#[test]
fn space_is_asked_of_the_nearest_parent_that_is_there() {
    let (_folder, root) = tree();
    let space = root.space("/var/lib/not/yet").expect("space");
    assert!(space.bytes > 0 && !space.read_only);
}
