//! Building a package from a folder: `package.yaml`, `files/**` and `images/*.tar`. Who made them does not matter. The same folder
//! gives the same bytes: nothing of time, owner or order of the file system goes in.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;

use crate::error::{Error, IoContext, Result};
use crate::host::root::{FileType, Root, Utf8Path, Utf8PathBuf};

use super::archive::{self, Content, FoundImage};
use super::digest::{Digest, Hashing, pump};
use super::layout::Package;
use super::model::{self, Annotations, Descriptor, Index, Link, MANIFEST_MEDIA_TYPE, Manifest, PackageConfig, Platform};
use super::problem::Problem;
use super::{
    ANNOTATION_ARCHITECTURE, ANNOTATION_FILE_DIGEST, ANNOTATION_FILE_MODE, ANNOTATION_FILE_PATH, ANNOTATION_FILE_SIZE,
    ANNOTATION_IMAGE_NAME, ANNOTATION_KUBERNETES_VERSION, ANNOTATION_REF_NAME, ANNOTATION_VERSION, ARTIFACT_TYPE,
    CONFIG_MEDIA_TYPE, FILE_MEDIA_TYPE, MAX_FILE, paths,
};

/// zstd's level: above it the package hardly shrinks and building takes many times as long; unpacking is as fast at any level.
const LEVEL: i32 = 9;
/// Files that are compressed at the same time.
const THREADS: usize = 2;

/// `package.yaml`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Description {
    api_version: String,
    kind: String,
    version: u64,
    kubernetes_version: String,
    architecture: String,
}

/// What lies below `files/`.
#[derive(Debug, Default)]
struct Tree {
    files: Vec<(String, u32, u64)>,
    links: Vec<Link>,
}

/// Builds the package of `source` at `output`: a folder, or a tar when the name ends in `.tar`. `version` overrides the one in
/// `package.yaml`. The result is read back before it is shown under its name.
pub fn build(root: &Root, source: &Utf8Path, output: &Utf8Path, version: Option<u64>) -> Result<Package> {
    if root.metadata(output)?.is_some() {
        return Err(Error::usage(format!("building the package {output}"))
            .because("it exists")
            .hint("remove it, or choose another place"));
    }
    let mut description = read_description(root, source)?;
    description.version = version.unwrap_or(description.version);
    let tree = read_tree(root, &source.join("files"))?;
    let images = read_images(root, &source.join("images"), &description.architecture)?;
    let staging = Utf8PathBuf::from(format!("{output}.partial"));
    root.remove_all(&staging).map(drop)?;
    for folder in [staging.clone(), staging.join("blobs"), staging.join("blobs/sha256")] {
        root.make_dir(&folder, 0o755)?;
    }
    let store = Store { root, folder: &staging, count: AtomicU64::new(0) };
    let artifact = write_artifact(&store, &source.join("files"), &description, &tree)?;
    let index = write_index(&store, artifact, &description, &images)?;
    store.write_named("oci-layout", model::OCI_LAYOUT.as_bytes())?;
    store.write_named("index.json", &model::render(&index))?;
    Package::open(root, &staging)?.ok_or_else(|| Error::internal(format!("reading {staging} back")))?;
    if output.extension() == Some("tar") {
        pack(root, &staging, output)?;
        root.remove_all(&staging).map(drop)?;
    } else {
        root.rename(&staging, output)?;
    }
    Package::open(root, output)?.ok_or_else(|| Error::internal(format!("reading {output} back")))
}

fn read_description(root: &Root, source: &Utf8Path) -> Result<Description> {
    let path = source.join("package.yaml");
    let failed = || Error::config(format!("reading {path}"));
    let text = root.read_text(&path)?.ok_or_else(|| {
        failed().because("it does not exist").hint("a package is built from a folder with package.yaml, files/ and images/*.tar")
    })?;
    let description: Description = serde_saphyr::from_str(&text).map_err(|error| failed().because(error.to_string()))?;
    if description.api_version != "edgeboot.io/v1alpha1" || description.kind != "Package" {
        let found = format!("it is {} {}", description.api_version, description.kind);
        return Err(failed().because(found).hint("it starts with `apiVersion: edgeboot.io/v1alpha1` and `kind: Package`"));
    }
    if !description.kubernetes_version.starts_with('v') {
        return Err(failed().because("kubernetesVersion is no version").hint("for instance v1.36.3"));
    }
    if description.architecture.is_empty() {
        return Err(failed().because("architecture is empty").hint("for instance amd64 or arm64"));
    }
    Ok(description)
}

/// Everything below `files/`; a folder is there because something lies in it, an empty one is left out.
fn read_tree(root: &Root, files: &Utf8Path) -> Result<Tree> {
    let mut tree = Tree::default();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let place = if folder.is_empty() { files.to_owned() } else { files.join(&folder) };
        for name in root.list(&place)?.unwrap_or_default() {
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            add_to_tree(root, files, path, &mut tree, &mut folders)?;
        }
    }
    tree.files.sort();
    tree.links.sort_by(|one, other| one.path.cmp(&other.path));
    let links = tree.links.iter().map(|link| (link.path.as_str(), link.target.as_str()));
    paths::check_tree(tree.files.iter().map(|(path, ..)| path.as_str()), links).map_err(|problem| unfit(files, problem))?;
    Ok(tree)
}

fn add_to_tree(root: &Root, files: &Utf8Path, path: String, tree: &mut Tree, folders: &mut Vec<String>) -> Result<()> {
    let place = files.join(&path);
    let refused = |why: &str| unfit(files, Problem::Refused { path: path.clone(), why: why.to_owned() });
    let found = root.metadata(&place)?.ok_or_else(|| refused("it vanished while it was read"))?;
    match found.file_type {
        FileType::Dir => folders.push(path),
        FileType::Link => {
            let target = root.read_link(&place)?.ok_or_else(|| refused("it vanished while it was read"))?;
            tree.links.push(Link { path, target: target.into_string() });
        }
        FileType::File => {
            paths::check_mode(&path, found.mode).map_err(|problem| unfit(files, problem))?;
            if found.len > MAX_FILE {
                return Err(unfit(files, Problem::OverLimit { what: path, limit: MAX_FILE }));
            }
            tree.files.push((path, found.mode, found.len));
        }
        FileType::Other => return Err(refused("it is a device, a socket or a pipe")),
    }
    Ok(())
}

fn unfit(files: &Utf8Path, problem: Problem) -> Error {
    Error::config(format!("taking the files of {files}")).because(problem)
}

/// All images, by name.
fn read_images(root: &Root, folder: &Utf8Path, architecture: &str) -> Result<BTreeMap<String, FoundImage>> {
    let mut images: BTreeMap<String, FoundImage> = BTreeMap::new();
    for file in root.list(folder)?.unwrap_or_default() {
        if Utf8Path::new(&file).extension() != Some("tar") {
            return Err(Error::config(format!("taking the image {}", folder.join(&file)))
                .because("only archives that end in .tar are taken")
                .hint("unpack it first if it is compressed, or take it out of the folder"));
        }
        for image in archive::images_in(root, &folder.join(&file), architecture)? {
            for name in &image.names {
                let known = images.insert(name.clone(), image.clone());
                if known.is_some_and(|known| known.manifest.digest != image.manifest.digest) {
                    return Err(Error::config(format!("taking the image {name} of {file}"))
                        .because("another archive has a different image of that name"));
                }
            }
        }
    }
    Ok(images)
}

/// The layout that is being written.
struct Store<'a> {
    root: &'a Root,
    folder: &'a Utf8Path,
    count: AtomicU64,
}

impl Store<'_> {
    fn write_named(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.folder.join(name);
        let mut file = self.root.create(&path, 0o644)?;
        file.write_all(bytes).doing(|| format!("writing {path}"))
    }

    /// Writes a blob that is known.
    fn put(&self, bytes: &[u8]) -> Result<(Digest, u64)> {
        self.put_stream(bytes, "a document")
    }

    /// Writes a blob whose digest is known when it is written.
    fn put_stream(&self, content: impl Read, what: &str) -> Result<(Digest, u64)> {
        let temporary = self.folder.join(format!("blobs/.new-{}", self.count.fetch_add(1, Ordering::Relaxed)));
        let mut file = self.root.create(&temporary, 0o644)?;
        let mut content = Hashing::new(content);
        pump(&mut content, &mut file).doing(|| format!("writing {what} to {temporary}"))?;
        let (digest, size) = content.finish();
        // A blob that is there already has the same bytes: the rename changes nothing.
        self.root.rename(&temporary, self.folder.join(digest.blob_path()))?;
        Ok((digest, size))
    }

    /// Copies a blob that has to be what it was declared.
    fn put_declared(&self, declared: &Descriptor, content: &Content, what: &str) -> Result<()> {
        let failed = |problem| Error::config(format!("taking the image {what}")).because(problem);
        if self.root.metadata(self.folder.join(declared.digest.blob_path()))?.is_some() {
            return Ok(());
        }
        let (found, size) = self.put_stream(content.open(self.root)?, what)?;
        if found != declared.digest {
            let what = "a blob of it".to_owned();
            return Err(failed(Problem::Damaged { what, declared: declared.digest.clone(), found }));
        }
        if size != declared.size {
            return Err(failed(Problem::CutShort { what: "a blob of it".to_owned(), found: size, declared: declared.size }));
        }
        Ok(())
    }
}

fn write_artifact(store: &Store<'_>, files: &Utf8Path, description: &Description, tree: &Tree) -> Result<Descriptor> {
    let layers = compress_files(store, files, &tree.files)?;
    let (digest, size) = store.put(&model::render(&PackageConfig { links: tree.links.clone() }))?;
    let annotations = Annotations::from([
        (ANNOTATION_VERSION.to_owned(), description.version.to_string()),
        (ANNOTATION_KUBERNETES_VERSION.to_owned(), description.kubernetes_version.clone()),
        (ANNOTATION_ARCHITECTURE.to_owned(), description.architecture.clone()),
    ]);
    let manifest = Manifest {
        schema_version: 2,
        media_type: MANIFEST_MEDIA_TYPE.to_owned(),
        artifact_type: Some(ARTIFACT_TYPE.to_owned()),
        config: Descriptor::new(CONFIG_MEDIA_TYPE, digest, size),
        layers,
        annotations: annotations.clone(),
    };
    let (digest, size) = store.put(&model::render(&manifest))?;
    let mut entry = Descriptor::new(MANIFEST_MEDIA_TYPE, digest, size);
    entry.artifact_type = Some(ARTIFACT_TYPE.to_owned());
    entry.annotations = annotations;
    Ok(entry)
}

/// Compresses the files on a few threads; the layers come in the order of the files.
fn compress_files(store: &Store<'_>, files: &Utf8Path, tree: &[(String, u32, u64)]) -> Result<Vec<Descriptor>> {
    // Largest first: the last file decides when all are done.
    let mut order: Vec<usize> = (0..tree.len()).collect();
    order.sort_by_key(|number| tree[*number].2);
    let queue = Mutex::new(order);
    let done = Mutex::new(BTreeMap::new());
    let work = || -> Result<()> {
        loop {
            let Some(number) = queue.lock().expect("no panic while it is held").pop() else { return Ok(()) };
            let (path, mode, size) = &tree[number];
            let layer = compress(store, &files.join(path), path, *mode, *size)?;
            done.lock().expect("no panic while it is held").insert(number, layer);
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic in it"))
    })?;
    Ok(done.into_inner().expect("no panic while it is held").into_values().collect())
}

fn compress(store: &Store<'_>, from: &Utf8Path, path: &str, mode: u32, size: u64) -> Result<Descriptor> {
    let doing = || format!("compressing {from}");
    let file = store.root.open(from)?.ok_or_else(|| Error::host(doing()).because("it is gone"))?;
    let mut content = Hashing::new(file);
    let mut encoder =
        zstd::stream::read::Encoder::with_buffer(std::io::BufReader::with_capacity(1 << 17, &mut content), LEVEL).doing(doing)?;
    encoder.set_pledged_src_size(Some(size)).doing(doing)?;
    let (blob, blob_size) = store.put_stream(&mut encoder, path)?;
    drop(encoder);
    let (digest, found) = content.finish();
    if found != size {
        return Err(Error::host(doing()).because("it changed while it was read"));
    }
    let mut layer = Descriptor::new(FILE_MEDIA_TYPE, blob, blob_size);
    layer.annotations = Annotations::from([
        (ANNOTATION_FILE_PATH.to_owned(), path.to_owned()),
        (ANNOTATION_FILE_MODE.to_owned(), format!("{mode:04o}")),
        (ANNOTATION_FILE_DIGEST.to_owned(), digest.to_string()),
        (ANNOTATION_FILE_SIZE.to_owned(), size.to_string()),
    ]);
    Ok(layer)
}

fn write_index(
    store: &Store<'_>,
    artifact: Descriptor,
    description: &Description,
    images: &BTreeMap<String, FoundImage>,
) -> Result<Index> {
    let mut manifests = vec![artifact];
    for (name, image) in images {
        for (blob, content) in &image.blobs {
            store.put_declared(blob, content, name)?;
        }
        let mut entry = image.manifest.clone();
        entry.platform = Some(Platform { architecture: description.architecture.clone(), os: "linux".to_owned() });
        entry.annotations =
            Annotations::from([(ANNOTATION_IMAGE_NAME.to_owned(), name.clone()), (ANNOTATION_REF_NAME.to_owned(), name.clone())]);
        manifests.push(entry);
    }
    Ok(Index { schema_version: 2, media_type: model::INDEX_MEDIA_TYPE.to_owned(), manifests })
}

/// Packs a layout into one tar: small documents first, then the blobs by name; no times, no owners.
fn pack(root: &Root, folder: &Utf8Path, output: &Utf8Path) -> Result<()> {
    let temporary = Utf8PathBuf::from(format!("{output}.partial.tar"));
    root.remove_all(&temporary).map(drop)?;
    let doing = || format!("writing {temporary}");
    let mut builder = tar::Builder::new(root.create(&temporary, 0o644)?);
    let mut names = vec!["oci-layout".to_owned(), "index.json".to_owned()];
    let blobs = root.list(folder.join("blobs/sha256"))?.unwrap_or_default();
    names.extend(blobs.into_iter().map(|blob| format!("blobs/sha256/{blob}")));
    for name in names {
        let place = folder.join(&name);
        let gone = || Error::host(doing()).because(format!("{place} is gone"));
        let size = root.metadata(&place)?.ok_or_else(gone)?.len;
        let file = root.open(&place)?.ok_or_else(gone)?;
        builder.append_data(&mut plain_header(size), &name, file).doing(doing)?;
    }
    builder.into_inner().doing(doing)?.flush().doing(doing)?;
    root.rename(&temporary, output)
}

/// A tar header that says nothing but the size; the name follows.
pub(super) fn plain_header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}
