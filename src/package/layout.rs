//! Reading a package, folder or tar: what it says about itself costs three small documents; a blob is a stream that fails at its end
//! when it is not what its digest says.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, SeekFrom};

use crate::error::{Error, IoContext, Result};
use crate::host::root::{FileType, Root, Utf8Path, Utf8PathBuf};

use super::digest::{Digest, Verified, pump};
use super::model::{self, Descriptor, Index, Link, Manifest, PackageConfig};
use super::problem::{Problem, problem_of};
use super::tarball::{Extent, Tarball};
use super::{
    ANNOTATION_ARCHITECTURE, ANNOTATION_FILE_DIGEST, ANNOTATION_FILE_MODE, ANNOTATION_FILE_PATH, ANNOTATION_FILE_SIZE,
    ANNOTATION_IMAGE_NAME, ANNOTATION_KUBERNETES_VERSION, ANNOTATION_VERSION, ARTIFACT_TYPE, CONFIG_MEDIA_TYPE, MAX_DOCUMENT,
    MAX_ENTRIES, MAX_FILE, MAX_TOTAL, paths,
};

/// A stream of a blob.
pub type Blob = Verified<Box<dyn Read + Send>>;

/// An OCI image layout on this machine.
#[derive(Debug, Clone)]
pub struct Layout {
    root: Root,
    path: Utf8PathBuf,
    /// Where the entries lie, when it is a tar.
    tar: Option<BTreeMap<String, Extent>>,
}

impl Layout {
    /// The layout at `path`; `None` when there is nothing.
    pub fn open(root: &Root, path: &Utf8Path) -> Result<Option<Layout>> {
        let folder = path.join("index.json");
        if root.metadata(path)?.is_none() {
            return Ok(None);
        }
        if root.metadata(&folder).is_ok_and(|found| found.is_some()) {
            return Ok(Some(Layout { root: root.clone(), path: path.to_owned(), tar: None }));
        }
        // Following links: only `list` tells a folder behind a link from a file behind one.
        if root.list(path).is_ok_and(|names| names.is_some()) {
            return Err(Problem::NotAPackage("it has no index.json".to_owned()).at(path));
        }
        let Some(file) = root.open(path)? else { return Ok(None) };
        let tarball = Tarball::index(file, "the archive").map_err(|problem| problem.at(path))?;
        if let Some(link) = tarball.links.keys().next() {
            return Err(Problem::Refused { path: link.clone(), why: "a package holds no links of its own".to_owned() }.at(path));
        }
        Ok(Some(Layout { root: root.clone(), path: path.to_owned(), tar: Some(tarball.files) }))
    }

    /// Where it is.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// A named entry, unverified; `None` when it is not there.
    fn entry(&self, name: &str) -> Result<Option<(Box<dyn Read + Send>, u64)>> {
        let Some(entries) = &self.tar else {
            let path = self.path.join(name);
            return Ok(match self.root.metadata(&path)? {
                Some(found) if found.file_type == FileType::File => {
                    self.root.open(&path)?.map(|file| (Box::new(file) as Box<dyn Read + Send>, found.len))
                }
                _ => None,
            });
        };
        let (Some(extent), Some(file)) = (entries.get(name), self.root.open(&self.path)?) else { return Ok(None) };
        let content = region(file, *extent).doing(|| format!("reading {name} in {}", self.path))?;
        Ok(Some((content, extent.size)))
    }

    /// A small document, not verified: index.json and oci-layout.
    fn document(&self, name: &str) -> Result<Vec<u8>> {
        let (content, size) = self.entry(name)?.ok_or_else(|| Problem::NotAPackage(format!("it has no {name}")).at(&self.path))?;
        read_document(content, size, name).map_err(|problem| problem.at(&self.path))
    }

    /// A blob as a stream that fails at its end when it is not what the descriptor says; `what` is its name in errors.
    pub fn blob(&self, descriptor: &Descriptor, what: &str) -> Result<Blob> {
        let problem = |problem: Problem| problem.at(&self.path);
        if descriptor.size > MAX_FILE {
            return Err(problem(Problem::OverLimit { what: what.to_owned(), limit: MAX_FILE }));
        }
        let missing = || Problem::Missing { what: what.to_owned(), digest: descriptor.digest.clone() };
        let (content, size) = self.entry(&descriptor.digest.blob_path())?.ok_or_else(|| problem(missing()))?;
        if size < descriptor.size {
            return Err(problem(Problem::CutShort { what: what.to_owned(), found: size, declared: descriptor.size }));
        }
        if size > descriptor.size {
            return Err(problem(Problem::TooLong { what: what.to_owned(), declared: descriptor.size }));
        }
        Ok(Verified::new(content, descriptor.digest.clone(), descriptor.size, what))
    }

    /// A small blob, verified.
    pub fn small_blob(&self, descriptor: &Descriptor, what: &str) -> Result<Vec<u8>> {
        let content = self.blob(descriptor, what)?;
        read_document(content, descriptor.size, what).map_err(|problem| problem.at(&self.path))
    }

    /// Reads a blob to its end; an error says what is wrong with it.
    pub fn verify(&self, descriptor: &Descriptor, what: &str) -> Result<()> {
        let blob = self.blob(descriptor, what)?;
        pump(blob, &mut std::io::sink()).map_err(|error| problem_of(&error, what).at(&self.path))?;
        Ok(())
    }
}

/// A part of a file.
pub fn region(mut file: Box<dyn crate::host::root::ReadFile>, extent: Extent) -> std::io::Result<Box<dyn Read + Send>> {
    std::io::Seek::seek(&mut file, SeekFrom::Start(extent.offset))?;
    Ok(Box::new(file.take(extent.size)))
}

fn read_document(mut content: impl Read, size: u64, what: &str) -> Result<Vec<u8>, Problem> {
    if size > MAX_DOCUMENT {
        return Err(Problem::OverLimit { what: what.to_owned(), limit: MAX_DOCUMENT });
    }
    let mut bytes = Vec::new();
    content.by_ref().take(MAX_DOCUMENT + 1).read_to_end(&mut bytes).map_err(|error| problem_of(&error, what))?;
    Ok(bytes)
}

/// One of the node's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageFile {
    /// Below the package's root.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// The digest of its content.
    pub digest: Digest,
    /// The length of its content.
    pub size: u64,
    /// Its zstd blob.
    pub blob: Descriptor,
}

/// A container image in the package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackagedImage {
    /// Its full name.
    pub name: String,
    /// Its entry in the index.
    pub descriptor: Descriptor,
}

/// A package that says what it is; its blobs are not verified yet.
#[derive(Debug, Clone)]
pub struct Package {
    /// Where its blobs are.
    pub layout: Layout,
    /// The digest of index.json: its identity.
    pub digest: Digest,
    /// Only grows.
    pub version: u64,
    /// For instance `v1.36.3`.
    pub kubernetes_version: String,
    /// In Go's words.
    pub architecture: String,
    /// The node's files, in the order of the manifest.
    pub files: Vec<PackageFile>,
    /// Links among them.
    pub links: Vec<Link>,
    /// The images, in the order of the index.
    pub images: Vec<PackagedImage>,
}

impl Package {
    /// Reads what the package at `path` says about itself: its index, the manifest and the config of its files. `None` when there is
    /// nothing at `path`.
    pub fn open(root: &Root, path: &Utf8Path) -> Result<Option<Package>> {
        let Some(layout) = Layout::open(root, path)? else { return Ok(None) };
        Package::read(layout).map(Some)
    }

    fn read(layout: Layout) -> Result<Package> {
        let path = layout.path.clone();
        let problem = |problem: Problem| problem.at(&path);
        let text = layout.document("index.json")?;
        let index: Index = model::parse(&text, "index.json").map_err(problem)?;
        if index.manifests.len() > MAX_ENTRIES {
            return Err(problem(Problem::OverLimit { what: "the number of manifests".to_owned(), limit: MAX_ENTRIES as u64 }));
        }
        let artifacts: Vec<&Descriptor> =
            index.manifests.iter().filter(|entry| entry.artifact_type.as_deref() == Some(ARTIFACT_TYPE)).collect();
        let [artifact] = artifacts[..] else {
            return Err(problem(Problem::NotAPackage(format!("index.json lists {} manifests of a package", artifacts.len()))));
        };
        let manifest: Manifest =
            model::parse(&layout.small_blob(artifact, "the package's manifest")?, "the package's manifest").map_err(problem)?;
        if manifest.config.media_type != CONFIG_MEDIA_TYPE {
            return Err(problem(Problem::NotAPackage(format!("its config is of the kind {}", manifest.config.media_type))));
        }
        let config: PackageConfig =
            model::parse(&layout.small_blob(&manifest.config, "the package's config")?, "the package's config").map_err(problem)?;
        let files = manifest.layers.iter().map(file_of).collect::<Result<Vec<_>, _>>().map_err(problem)?;
        let said = |key: &str| {
            let value = manifest.annotations.get(key).cloned();
            value.ok_or_else(|| Problem::NotAPackage(format!("its manifest does not say {key}")))
        };
        let version = said(ANNOTATION_VERSION).map_err(problem)?;
        let package = Package {
            digest: Digest::of(&text),
            version: version.parse().map_err(|_| problem(Problem::NotAPackage(format!("its version '{version}' is no number"))))?,
            kubernetes_version: said(ANNOTATION_KUBERNETES_VERSION).map_err(problem)?,
            architecture: said(ANNOTATION_ARCHITECTURE).map_err(problem)?,
            files,
            links: config.links,
            images: images_of(&index).map_err(problem)?,
            layout,
        };
        package.check_shape().map_err(problem)?;
        Ok(package)
    }

    /// What can be said without reading a blob: paths, modes, links, sizes.
    fn check_shape(&self) -> Result<(), Problem> {
        for file in &self.files {
            paths::check_mode(&file.path, file.mode)?;
            if file.size > MAX_FILE || file.blob.size > MAX_FILE {
                return Err(Problem::OverLimit { what: file.path.clone(), limit: MAX_FILE });
            }
        }
        let total = self.files.iter().fold(0_u64, |total, file| total.saturating_add(file.size));
        if total > MAX_TOTAL {
            return Err(Problem::OverLimit { what: "the package".to_owned(), limit: MAX_TOTAL });
        }
        let files = self.files.iter().map(|file| file.path.as_str());
        paths::check_tree(files, self.links.iter().map(|link| (link.path.as_str(), link.target.as_str())))
    }

    /// Refuses a package for other machines.
    pub fn check_architecture(&self, machine: &str) -> Result<()> {
        if self.architecture == machine {
            return Ok(());
        }
        let problem = Problem::OtherArchitecture { package: self.architecture.clone(), machine: machine.to_owned() };
        Err(problem.at(self.layout.path()))
    }

    /// Every blob that an image needs, its manifest first, each once; reads and verifies the manifest.
    pub fn image_blobs(&self, image: &PackagedImage) -> Result<Vec<Descriptor>> {
        let what = format!("the manifest of {}", image.name);
        let bytes = self.layout.small_blob(&image.descriptor, &what)?;
        let manifest: Manifest = model::parse(&bytes, &what).map_err(|problem| problem.at(self.layout.path()))?;
        let mut blobs = vec![image.descriptor.clone(), manifest.config];
        blobs.extend(manifest.layers);
        Ok(once(blobs))
    }

    /// Every blob of every image, each once, with the name of the first image that needs it.
    pub fn all_image_blobs(&self) -> Result<Vec<(String, Descriptor)>> {
        let mut seen = BTreeSet::new();
        let mut blobs = Vec::new();
        for image in &self.images {
            let needed = self.image_blobs(image)?;
            blobs.extend(needed.into_iter().filter(|blob| seen.insert(blob.digest.clone())).map(|blob| (image.name.clone(), blob)));
        }
        let total = blobs.iter().fold(0_u64, |total, (_, blob)| total.saturating_add(blob.size));
        if total > MAX_TOTAL {
            return Err(Problem::OverLimit { what: "the images".to_owned(), limit: MAX_TOTAL }.at(self.layout.path()));
        }
        Ok(blobs)
    }
}

/// The same list with each digest once.
pub fn once(blobs: Vec<Descriptor>) -> Vec<Descriptor> {
    let mut seen = BTreeSet::new();
    blobs.into_iter().filter(|blob| seen.insert(blob.digest.clone())).collect()
}

fn file_of(layer: &Descriptor) -> Result<PackageFile, Problem> {
    let said = |key: &str| {
        layer.annotation(key).ok_or_else(|| Problem::NotAPackage(format!("the layer {} does not say {key}", layer.digest)))
    };
    let path = said(ANNOTATION_FILE_PATH)?;
    let wrong = |why: String| Problem::Refused { path: path.to_owned(), why };
    Ok(PackageFile {
        path: path.to_owned(),
        mode: u32::from_str_radix(said(ANNOTATION_FILE_MODE)?, 8).map_err(|_| wrong("its mode is not octal".to_owned()))?,
        digest: said(ANNOTATION_FILE_DIGEST)?.parse().map_err(wrong)?,
        size: said(ANNOTATION_FILE_SIZE)?.parse().map_err(|_| wrong("its size is no number".to_owned()))?,
        blob: layer.clone(),
    })
}

fn images_of(index: &Index) -> Result<Vec<PackagedImage>, Problem> {
    let mut names = BTreeSet::new();
    let mut images = Vec::new();
    for entry in index.manifests.iter().filter(|entry| entry.artifact_type.as_deref() != Some(ARTIFACT_TYPE)) {
        // Other artifacts (a signature's, an SBOM's) have no such name and are nobody's image.
        let Some(name) = entry.annotation(ANNOTATION_IMAGE_NAME) else { continue };
        if !names.insert(name.to_owned()) {
            return Err(Problem::NotAPackage(format!("index.json lists the image {name} twice")));
        }
        images.push(PackagedImage { name: name.to_owned(), descriptor: entry.clone() });
    }
    Ok(images)
}

/// The failure of opening a package that has to be there.
pub fn absent(path: &Utf8Path) -> Error {
    Problem::Absent.at(path)
}
