//! Packages made, damaged and read back, on a real file tree.

#![expect(clippy::disallowed_methods, reason = "what is built is damaged and judged on the real files")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use camino::{Utf8Path, Utf8PathBuf};

use super::digest::Digest;
use super::layout::Package;
use super::sample::{docker_archive, noise, oci_archive};
use super::stream::ImageStream;
use super::{build, extract, model};
use crate::error::Result;
use crate::host::Root;

/// A folder of its own, and a tree over the machine's files.
struct Bench {
    folder: tempfile::TempDir,
    root: Root,
}

impl Bench {
    fn new() -> Bench {
        Bench { folder: tempfile::tempdir().expect("a folder"), root: Root::at("/").expect("a tree") }
    }
    fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8PathBuf::from_path_buf(self.folder.path().join(name)).expect("UTF-8")
    }
    fn write(&self, name: &str, mode: u32, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(&path, content).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
    }
    /// A source folder with files, links and one archive of each kind.
    fn with_source() -> Bench {
        let bench = Bench::new();
        bench.write(
            "source/package.yaml",
            0o644,
            "apiVersion: edgeboot.io/v1alpha1\nkind: Package\nversion: 7\nkubernetesVersion: v1.36.3\narchitecture: amd64\n",
        );
        bench.write("source/files/bin/kube", 0o755, b"program ".repeat(40_000));
        bench.write("source/files/bin/twin", 0o755, b"program ".repeat(40_000));
        bench.write("source/files/cni/bin/bridge", 0o755, noise(70_000));
        bench.write("source/files/share/note", 0o640, b"");
        symlink("kube", bench.path("source/files/bin/kubelet")).expect("linked");
        symlink("../bin", bench.path("source/files/share/programs")).expect("linked");
        bench.write("source/images/pause.tar", 0o644, oci_archive(&[("registry.k8s.io/pause:3.10.2", &[b"pause layer"])], "amd64"));
        bench.write(
            "source/images/servers.tar",
            0o644,
            docker_archive(
                &[
                    ("registry.k8s.io/kube-apiserver-amd64:v1.36.3", &[&noise(30_000), b"links"]),
                    ("registry.k8s.io/kube-scheduler-amd64:v1.36.3", &[&noise(30_000), b"other"]),
                ],
                "amd64",
            ),
        );
        bench
    }
    fn build(&self, output: &str) -> Result<Package> {
        build(&self.root, &self.path("source"), &self.path(output), None)
    }
    fn open(&self, package: &str) -> Result<Package> {
        Ok(Package::open(&self.root, &self.path(package))?.expect("it is there"))
    }
    fn check(&self, package: &str) -> Result<()> {
        extract::verify(&self.open(package)?)
    }
}

fn all_files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(all_files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn what_was_built_is_what_is_extracted() {
    let bench = Bench::with_source();
    for output in ["package", "package.tar"] {
        let built = bench.build(output).expect("built");
        assert_eq!((built.version, built.kubernetes_version.as_str(), built.architecture.as_str()), (7, "v1.36.3", "amd64"));
        let names: Vec<&str> = built.images.iter().map(|image| image.name.as_str()).collect();
        assert_eq!(
            names,
            ["registry.k8s.io/kube-apiserver:v1.36.3", "registry.k8s.io/kube-scheduler:v1.36.3", "registry.k8s.io/pause:3.10.2",]
        );
        bench.check(output).expect("every digest is right");
        let to = bench.path(&format!("{output}.installed"));
        fs::create_dir(&to).expect("made");
        extract::extract(&bench.root, &built, &to).expect("extracted");
        for (name, mode) in [("bin/kube", 0o755), ("bin/twin", 0o755), ("cni/bin/bridge", 0o755), ("share/note", 0o640)] {
            let (made, source) = (to.join(name), bench.path("source/files").join(name));
            assert_eq!(fs::read(&made).expect(name), fs::read(source).expect(name), "{name}");
            assert_eq!(fs::metadata(&made).expect(name).permissions().mode() & 0o7777, mode, "{name}");
        }
        assert_eq!(fs::read_link(to.join("bin/kubelet")).expect("a link"), Path::new("kube"));
        assert_eq!(fs::read_link(to.join("share/programs")).expect("a link"), Path::new("../bin"));
    }
    assert_eq!(bench.open("package").expect("read").digest, bench.open("package.tar").expect("read").digest);
}

#[test]
fn the_same_source_gives_the_same_bytes() {
    let (one, other) = (Bench::with_source(), Bench::with_source());
    for bench in [&one, &other] {
        bench.build("package").expect("built");
        bench.build("package.tar").expect("built");
    }
    assert_eq!(fs::read(one.path("package.tar")).expect("read"), fs::read(other.path("package.tar")).expect("read"));
    let names = |bench: &Bench| -> Vec<_> {
        let folder = bench.path("package");
        all_files(folder.as_std_path()).into_iter().map(|path| path.strip_prefix(&folder).expect("inside").to_owned()).collect()
    };
    assert_eq!(names(&one), names(&other));
    assert!(!names(&one).iter().any(|name| name.to_string_lossy().contains(".new")), "no temporary is left");
}

#[test]
fn one_flipped_bit_anywhere_is_found_and_named() {
    let bench = Bench::with_source();
    bench.build("package").expect("built");
    let package = bench.path("package");
    for file in all_files(package.as_std_path()) {
        if file.ends_with("oci-layout") {
            continue; // Says nothing that is used.
        }
        let good = fs::read(&file).expect("read");
        // index.json is the identity itself: a flip there is another package, or none at all.
        let identity = bench.open("package").expect("read").digest;
        for place in [0, good.len() / 2, good.len().saturating_sub(1)] {
            let mut bad = good.clone();
            let Some(byte) = bad.get_mut(place) else { continue };
            *byte ^= 0x10;
            fs::write(&file, &bad).expect("written");
            if file.ends_with("index.json") {
                assert!(bench.open("package").map_or(true, |read| read.digest != identity), "byte {place}");
                continue;
            }
            let error = bench.check("package").expect_err("damaged").to_string();
            assert!(error.contains("is damaged"), "{}: byte {place}: {error}", file.display());
        }
        fs::write(&file, &good).expect("written");
    }
    bench.check("package").expect("whole again");
}

#[test]
fn a_blob_that_is_missing_or_cut_or_longer_is_named() {
    let bench = Bench::with_source();
    bench.build("package").expect("built");
    let package = bench.path("package");
    for file in all_files(package.join("blobs").as_std_path()) {
        let good = fs::read(&file).expect("read");
        let says = |what: &str| {
            let error = bench.check("package").expect_err(what).to_string();
            assert!(error.contains(what), "{}: {what}: {error}", file.display());
        };
        fs::remove_file(&file).expect("removed");
        says("is missing");
        fs::write(&file, &good[..good.len() - 1]).expect("written");
        says("is cut short");
        fs::write(&file, [good.as_slice(), b"x"].concat()).expect("written");
        says("is longer than");
        fs::write(&file, &good).expect("written");
    }
}

#[test]
fn a_tar_that_is_cut_short_anywhere_is_refused() {
    let bench = Bench::with_source();
    bench.build("package.tar").expect("built");
    let good = fs::read(bench.path("package.tar")).expect("read");
    for length in (0..good.len()).step_by(good.len() / 60).chain([good.len() - 1024, good.len() - 1]) {
        fs::write(bench.path("cut.tar"), &good[..length]).expect("written");
        let error = bench.check("cut.tar").expect_err("cut").to_string();
        assert!(error.contains("cut short") || error.contains("no tar"), "{length} of {}: {error}", good.len());
    }
}

#[test]
fn a_source_that_is_not_fit_is_refused_by_name() {
    type Spoil = fn(&Bench);
    let cases: [(&str, Spoil); 12] = [
        ("package.yaml: it does not exist", |bench| fs::remove_file(bench.path("source/package.yaml")).expect("removed")),
        ("unknown field", |bench| {
            bench.write("source/package.yaml", 0o644, "apiVersion: edgeboot.io/v1alpha1\nkind: Package\nextra: 1\n");
        }),
        ("it is setuid", |bench| bench.write("source/files/bin/su", 0o4755, b"")),
        ("everyone may write it", |bench| bench.write("source/files/open", 0o666, b"")),
        ("leaves the package", |bench| symlink("../../etc/passwd", bench.path("source/files/bin/out")).expect("linked")),
        ("not a relative path", |bench| symlink("/etc/passwd", bench.path("source/files/bin/out")).expect("linked")),
        ("is not in the package", |bench| symlink("nothing", bench.path("source/files/bin/out")).expect("linked")),
        ("keeps that name", |bench| bench.write("source/files/package.json", 0o644, b"")),
        ("'arm64' and the package is for 'amd64'", |bench| {
            bench.write("source/images/other.tar", 0o644, oci_archive(&[("x/y:1", &[b"layer"])], "arm64"));
        }),
        ("a different image of that name", |bench| {
            bench.write(
                "source/images/second.tar",
                0o644,
                oci_archive(&[("registry.k8s.io/pause:3.10.2", &[b"another"])], "amd64"),
            );
        }),
        ("only archives that end in .tar", |bench| bench.write("source/images/x.tar.gz", 0o644, b"")),
        ("layer.tar is damaged", |bench| {
            let archive = docker_archive(&[("x/y:1", &[&[b'a'; 600]])], "amd64");
            let place = archive.windows(600).position(|part| part == [b'a'; 600]).expect("the layer");
            let mut bad = archive;
            bad[place] = b'b';
            bench.write("source/images/bad.tar", 0o644, bad);
        }),
    ];
    for (says, spoil) in cases {
        let bench = Bench::with_source();
        spoil(&bench);
        let error = bench.build("package").expect_err(says).render();
        assert!(error.contains(says), "{says}: {error}");
        assert!(!bench.path("package").exists(), "{says}: nothing is left under the package's name");
    }
}

/// Replaces the package's own manifest by a changed one, with every digest right again: what a malicious maker can do.
fn forge(bench: &Bench, change: impl Fn(&mut model::Manifest, &mut model::PackageConfig)) -> Result<Package> {
    let package = bench.path("package");
    let read = |path: &Utf8Path| fs::read(package.join(path)).expect("read");
    let mut index: model::Index = model::parse(&read("index.json".into()), "").expect("an index");
    let entry = index.manifests.iter_mut().find(|entry| entry.artifact_type.is_some()).expect("a package");
    let mut manifest: model::Manifest = model::parse(&read(entry.digest.blob_path().as_str().into()), "").expect("a manifest");
    let mut config: model::PackageConfig =
        model::parse(&read(manifest.config.digest.blob_path().as_str().into()), "").expect("a config");
    change(&mut manifest, &mut config);
    let put = |bytes: &[u8]| {
        fs::write(package.join(Digest::of(bytes).blob_path()), bytes).expect("written");
        (Digest::of(bytes), bytes.len() as u64)
    };
    (manifest.config.digest, manifest.config.size) = put(&model::render(&config));
    (entry.digest, entry.size) = put(&model::render(&manifest));
    fs::write(package.join("index.json"), model::render(&index)).expect("written");
    bench.open("package")
}

#[test]
fn a_malicious_manifest_is_refused_before_anything_is_written() {
    type Change = fn(&mut model::Manifest, &mut model::PackageConfig);
    fn say(manifest: &mut model::Manifest, key: &str, value: &str) {
        manifest.layers[0].annotations.insert(key.to_owned(), value.to_owned());
    }
    fn link(config: &mut model::PackageConfig, path: &str, target: &str) {
        config.links.push(model::Link { path: path.to_owned(), target: target.to_owned() });
    }
    let cases: [(&str, Change); 12] = [
        ("component '..'", |manifest, _| say(manifest, super::ANNOTATION_FILE_PATH, "../../etc/cron.d/x")),
        ("it is absolute", |manifest, _| say(manifest, super::ANNOTATION_FILE_PATH, "/etc/cron.d/x")),
        ("it is there twice", |manifest, _| say(manifest, super::ANNOTATION_FILE_PATH, "bin/twin")),
        ("nothing can lie below it", |manifest, _| say(manifest, super::ANNOTATION_FILE_PATH, "bin/kubelet/x")),
        ("it is setuid", |manifest, _| say(manifest, super::ANNOTATION_FILE_MODE, "4755")),
        ("everyone may write it", |manifest, _| say(manifest, super::ANNOTATION_FILE_MODE, "0777")),
        ("over the limit", |manifest, _| say(manifest, super::ANNOTATION_FILE_SIZE, "2000000000000")),
        ("leaves the package", |_, config| link(config, "bin/out", "../../etc")),
        ("not a relative path", |_, config| link(config, "out", "/etc")),
        ("goes down and up again", |_, config| link(config, "out", "share/programs/../../..")),
        ("says 'seven'", |manifest, _| drop(manifest.annotations.insert(super::ANNOTATION_VERSION.to_owned(), "seven".to_owned()))),
        ("does not say io.edgeboot.package.architecture", |manifest, _| {
            drop(manifest.annotations.remove(super::ANNOTATION_ARCHITECTURE));
        }),
    ];
    for (says, change) in cases {
        let bench = Bench::with_source();
        bench.build("package").expect("built");
        let error = forge(&bench, change).expect_err(says).to_string();
        let says = if says == "says 'seven'" { "its version 'seven' is no number" } else { says };
        assert!(error.contains(says), "{says}: {error}");
    }
}

#[test]
fn a_blob_that_unpacks_to_more_than_was_declared_is_stopped() {
    let bench = Bench::with_source();
    bench.build("package").expect("built");
    for (size, says) in [("10", "is longer than the 10 bytes"), ("999999999", "is cut short")] {
        let package = forge(&bench, |manifest, _| {
            manifest.layers[0].annotations.insert(super::ANNOTATION_FILE_SIZE.to_owned(), size.to_owned());
        });
        let error = extract::verify(&package.expect("read")).expect_err(says).to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn a_package_for_other_machines_is_named_so() {
    let bench = Bench::with_source();
    let package = bench.build("package").expect("built");
    package.check_architecture("amd64").expect("its own");
    let error = package.check_architecture("arm64").expect_err("another").to_string();
    assert!(error.contains("it is for amd64 and this machine is arm64"), "{error}");
}

#[test]
fn an_archive_of_images_is_made_as_it_is_read() {
    let bench = Bench::with_source();
    let package = bench.build("package.tar").expect("built");
    let read = |images: &[super::layout::PackagedImage], present: &BTreeSet<Digest>| {
        let mut bytes = Vec::new();
        ImageStream::of(&package, images, present).expect("a stream").read_to_end(&mut bytes).expect("read");
        fs::write(bench.path("images.tar"), &bytes).expect("written");
        let file = bench.root.open(bench.path("images.tar")).expect("opened").expect("there");
        super::tarball::Tarball::index(file, "the stream").expect("a tar").files
    };
    let all = read(&package.images, &BTreeSet::new());
    let blobs: BTreeSet<Digest> = package.all_image_blobs().expect("read").into_iter().map(|(_, blob)| blob.digest).collect();
    assert_eq!(all.len(), blobs.len() + 2, "each blob once, and two documents");
    // What was made is an image archive like any other.
    let found = super::archive::images_in(&bench.root, &bench.path("images.tar"), "amd64").expect("an OCI archive");
    assert_eq!(
        found.iter().map(|image| &image.names[0]).collect::<Vec<_>>(),
        package.images.iter().map(|image| &image.name).collect::<Vec<_>>()
    );
    // What the receiver has is left out.
    assert_eq!(read(&package.images[..1], &blobs).len(), 2);
}

#[test]
fn an_archive_with_a_damaged_blob_fails_before_its_end() {
    let bench = Bench::with_source();
    let package = bench.build("package").expect("built");
    let layer = package.image_blobs(&package.images[0]).expect("read").pop().expect("a layer");
    let path = bench.path("package").join(layer.digest.blob_path());
    let mut bytes = fs::read(&path).expect("read");
    bytes[0] ^= 1;
    fs::write(&path, bytes).expect("written");
    let mut stream = ImageStream::of(&package, &package.images[..1], &BTreeSet::new()).expect("a stream");
    let mut received = Vec::new();
    let error = stream.read_to_end(&mut received).expect_err("damaged").to_string();
    assert!(error.contains("a blob of registry.k8s.io/kube-apiserver:v1.36.3 is damaged"), "{error}");
    assert!(!received.ends_with(&[0; 1024]), "no end");
    assert!(stream.read_to_end(&mut received).is_err(), "and none later");
}
