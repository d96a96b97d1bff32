//! Container images as people have them: OCI archives, and docker archives as `docker save` and Kubernetes' server tarballs write them
//! (`manifest.json` with layers as `<id>/layer.tar` or `blobs/sha256/…`), one image or many in a file. Either way out come manifests
//! and blobs; layers stay the bytes they are.

use crate::error::{Error, IoContext, Result};
use crate::host::root::{Root, Utf8Path, Utf8PathBuf};

use super::digest::{Digest, Hashing, pump};
use super::layout::region;
use super::model::{self, DOCKER_LIST_MEDIA_TYPE, Descriptor, IMAGE_CONFIG_MEDIA_TYPE, INDEX_MEDIA_TYPE, ImageConfig, Index};
use super::model::{LAYER_MEDIA_TYPE, MANIFEST_MEDIA_TYPE, Manifest, Platform};
use super::problem::{Problem, problem_of};
use super::tarball::{Extent, Tarball};
use super::{ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME, MAX_DOCUMENT, MAX_FILE};

use std::io::Read;

/// Where the bytes of a blob are.
#[derive(Debug, Clone)]
pub enum Content {
    /// Made here.
    Bytes(Vec<u8>),
    /// In an archive.
    Region(Utf8PathBuf, Extent),
}

impl Content {
    /// A stream of them.
    pub fn open(&self, root: &Root) -> Result<Box<dyn Read + Send>> {
        match self {
            Content::Bytes(bytes) => Ok(Box::new(std::io::Cursor::new(bytes.clone()))),
            Content::Region(path, extent) => {
                let file = root.open(path)?.ok_or_else(|| Error::host(format!("opening {path}")).because("it is gone"))?;
                region(file, *extent).doing(|| format!("reading {path}"))
            }
        }
    }
}

/// An image that was found in an archive.
#[derive(Debug, Clone)]
pub struct FoundImage {
    /// Its full names.
    pub names: Vec<String>,
    /// Its manifest.
    pub manifest: Descriptor,
    /// Everything it needs, its manifest among it.
    pub blobs: Vec<(Descriptor, Content)>,
}

/// The images for `architecture` in the archive at `path`.
pub fn images_in(root: &Root, path: &Utf8Path, architecture: &str) -> Result<Vec<FoundImage>> {
    let file = root.open(path)?.ok_or_else(|| Error::host(format!("opening {path}")).because("it does not exist"))?;
    let failed = |problem: Problem| {
        Error::config(format!("reading the image archive {path}"))
            .because(problem)
            .hint("it has to be an OCI archive or a docker archive, as `docker save` or `skopeo copy` write them")
    };
    let tarball = Tarball::index(file, "the archive").map_err(failed)?;
    let archive = Archive { root, path, tarball, architecture };
    // What carries both (newer `docker save`) is read as OCI: there the manifests are the original ones.
    let found = if archive.tarball.find("oci-layout").is_some() { archive.oci() } else { archive.docker() };
    let found = found.map_err(failed)?;
    if found.is_empty() {
        return Err(failed(Problem::NotAPackage("it holds no image".to_owned())));
    }
    Ok(found)
}

struct Archive<'a> {
    root: &'a Root,
    path: &'a Utf8Path,
    tarball: Tarball,
    architecture: &'a str,
}

impl Archive<'_> {
    fn content(&self, name: &str) -> Result<(Content, u64), Problem> {
        let extent = self.tarball.find(name).ok_or_else(|| malformed(name, "it is not in the archive"))?;
        if extent.size > MAX_FILE {
            return Err(Problem::OverLimit { what: name.to_owned(), limit: MAX_FILE });
        }
        Ok((Content::Region(self.path.to_owned(), extent), extent.size))
    }

    fn stream(&self, content: &Content, name: &str) -> Result<Box<dyn Read + Send>, Problem> {
        content.open(self.root).map_err(|error| malformed(name, error.to_string()))
    }

    fn document(&self, name: &str) -> Result<Vec<u8>, Problem> {
        let (content, size) = self.content(name)?;
        if size > MAX_DOCUMENT {
            return Err(Problem::OverLimit { what: name.to_owned(), limit: MAX_DOCUMENT });
        }
        let mut bytes = Vec::new();
        self.stream(&content, name)?.read_to_end(&mut bytes).map_err(|error| problem_of(&error, name))?;
        Ok(bytes)
    }

    /// A document that is a blob, verified.
    fn blob_document(&self, descriptor: &Descriptor, what: &str) -> Result<Vec<u8>, Problem> {
        let bytes = self.document(&descriptor.digest.blob_path())?;
        let found = Digest::of(&bytes);
        if found == descriptor.digest {
            Ok(bytes)
        } else {
            Err(Problem::Damaged { what: what.to_owned(), declared: descriptor.digest.clone(), found })
        }
    }

    fn oci(&self) -> Result<Vec<FoundImage>, Problem> {
        let index: Index = model::parse(&self.document("index.json")?, "index.json")?;
        let mut found: Vec<FoundImage> = Vec::new();
        for entry in &index.manifests {
            let Some(manifest) = self.choose(entry, 0)? else { continue };
            let name = self.plain(full_name(entry)?);
            if let Some(known) = found.iter_mut().find(|known| known.manifest.digest == manifest.digest) {
                known.names.push(name);
                continue;
            }
            let bytes = self.blob_document(&manifest, "a manifest")?;
            let document: Manifest = model::parse(&bytes, "a manifest")?;
            let config = self.blob_document(&document.config, "a config")?;
            self.check_architecture(&name, &model::parse(&config, "a config")?)?;
            let mut blobs = vec![(manifest.clone(), Content::Bytes(bytes)), (document.config, Content::Bytes(config))];
            for layer in document.layers {
                let (content, _) = self.content(&layer.digest.blob_path())?;
                blobs.push((layer, content));
            }
            found.push(FoundImage { names: vec![name], manifest, blobs });
        }
        Ok(found)
    }

    /// The manifest that an entry of an index means on this architecture, through one more index where it names one.
    fn choose(&self, entry: &Descriptor, depth: u32) -> Result<Option<Descriptor>, Problem> {
        if ![INDEX_MEDIA_TYPE, DOCKER_LIST_MEDIA_TYPE].contains(&entry.media_type.as_str()) {
            let plain = entry.artifact_type.is_none();
            return Ok(plain.then(|| Descriptor::new(&entry.media_type, entry.digest.clone(), entry.size)));
        }
        if depth > 1 {
            return Err(malformed("index.json", "indexes are nested more than twice"));
        }
        let index: Index = model::parse(&self.blob_document(entry, "an index")?, "an index")?;
        let wanted = Some(Platform { architecture: self.architecture.to_owned(), os: "linux".to_owned() });
        let fitting = index.manifests.iter().find(|manifest| manifest.platform == wanted);
        match fitting {
            Some(manifest) => self.choose(manifest, depth + 1),
            None => Err(malformed("index.json", format!("an image in it is not for linux/{}", self.architecture))),
        }
    }

    fn docker(&self) -> Result<Vec<FoundImage>, Problem> {
        let images: Vec<DockerImage> = model::parse(&self.document("manifest.json")?, "manifest.json")?;
        images.into_iter().map(|image| self.docker_image(image)).collect()
    }

    fn docker_image(&self, image: DockerImage) -> Result<FoundImage, Problem> {
        let bytes = self.document(&image.config)?;
        let config: ImageConfig = model::parse(&bytes, &image.config)?;
        let names: Vec<String> = image.repo_tags.unwrap_or_default().iter().map(|name| self.plain(docker_name(name))).collect();
        let name = names.first().ok_or_else(|| malformed("manifest.json", "an image in it has no name (RepoTags)"))?;
        self.check_architecture(name, &config)?;
        if config.rootfs.diff_ids.len() != image.layers.len() {
            return Err(malformed(
                &image.config,
                format!("it knows {} layers of {}", config.rootfs.diff_ids.len(), image.layers.len()),
            ));
        }
        let config_entry = Descriptor::new(IMAGE_CONFIG_MEDIA_TYPE, Digest::of(&bytes), bytes.len() as u64);
        let mut blobs = vec![(config_entry.clone(), Content::Bytes(bytes))];
        for (path, content_digest) in image.layers.iter().zip(&config.rootfs.diff_ids) {
            blobs.push(self.layer(path, content_digest)?);
        }
        let manifest = model::render(&Manifest {
            schema_version: 2,
            media_type: MANIFEST_MEDIA_TYPE.to_owned(),
            artifact_type: None,
            config: config_entry,
            layers: blobs[1..].iter().map(|(layer, _)| layer.clone()).collect(),
            annotations: model::Annotations::new(),
        });
        let entry = Descriptor::new(MANIFEST_MEDIA_TYPE, Digest::of(&manifest), manifest.len() as u64);
        blobs.insert(0, (entry.clone(), Content::Bytes(manifest)));
        Ok(FoundImage { names, manifest: entry, blobs })
    }

    /// A layer of a docker archive: its digest is not written anywhere but in the config, and there only that of its content.
    fn layer(&self, path: &str, content_digest: &Digest) -> Result<(Descriptor, Content), Problem> {
        let (content, _) = self.content(path)?;
        let mut stream = Hashing::new(self.stream(&content, path)?);
        let mut start = Vec::new();
        stream.by_ref().take(4).read_to_end(&mut start).map_err(|error| problem_of(&error, path))?;
        pump(&mut stream, &mut std::io::sink()).map_err(|error| problem_of(&error, path))?;
        let (digest, size) = stream.finish();
        let packed = match start.as_slice() {
            [0x1f, 0x8b, ..] => "+gzip",
            [0x28, 0xb5, 0x2f, 0xfd] => "+zstd",
            _ if digest == *content_digest => "",
            _ => return Err(Problem::Damaged { what: path.to_owned(), declared: content_digest.clone(), found: digest }),
        };
        Ok((Descriptor::new(&format!("{LAYER_MEDIA_TYPE}{packed}"), digest, size), content))
    }

    fn plain(&self, name: String) -> String {
        without_architecture(name, self.architecture)
    }

    fn check_architecture(&self, name: &str, config: &ImageConfig) -> Result<(), Problem> {
        if config.architecture == self.architecture {
            return Ok(());
        }
        Err(malformed(name, format!("it is for '{}' and the package is for '{}'", config.architecture, self.architecture)))
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

fn malformed(what: &str, why: impl Into<String>) -> Problem {
    Problem::Malformed { what: what.to_owned(), why: why.into() }
}

/// The full name of an entry of an OCI index.
fn full_name(entry: &Descriptor) -> Result<String, Problem> {
    let given = entry.annotation(ANNOTATION_IMAGE_NAME).or_else(|| {
        // The ref name is a tag alone when `docker` or `podman` wrote it, and a whole name when others did.
        entry.annotation(ANNOTATION_REF_NAME).filter(|name| name.contains('/'))
    });
    given.map(str::to_owned).ok_or_else(|| {
        malformed("index.json", format!("the image {} has no name: it needs the annotation {ANNOTATION_IMAGE_NAME}", entry.digest))
    })
}

/// The full name of what docker calls by a short one (`distribution/reference`: `ParseNormalizedNamed`).
fn docker_name(name: &str) -> String {
    match name.split_once('/') {
        None => format!("docker.io/library/{name}"),
        Some((domain, _)) if domain == "localhost" || domain.contains(['.', ':']) => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
    }
}

/// Kubernetes' server tarballs put the architecture behind the repository of their own programs
/// (`registry.k8s.io/kube-apiserver-amd64:v1.36.3`, build/lib/release.sh); manifests have it without, and so does a package.
fn without_architecture(name: String, architecture: &str) -> String {
    const PROGRAMS: [&str; 5] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubectl"];
    let plain = name.rsplit_once(':').and_then(|(repository, tag)| {
        let plain = repository.strip_suffix(architecture)?.strip_suffix('-')?;
        let program = plain.rsplit('/').next()?;
        PROGRAMS.contains(&program).then(|| format!("{plain}:{tag}"))
    });
    plain.unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_dockers() {
        for (name, full) in [
            ("busybox:1", "docker.io/library/busybox:1"),
            ("me/tool:2", "docker.io/me/tool:2"),
            ("registry.k8s.io/pause:3.10.2", "registry.k8s.io/pause:3.10.2"),
            ("localhost/x:1", "localhost/x:1"),
            ("box:5000/x:1", "box:5000/x:1"),
        ] {
            assert_eq!(docker_name(name), full);
        }
    }

    #[test]
    fn the_architecture_behind_kubernetes_own_repositories_is_no_part_of_their_names() {
        for (name, plain) in [
            ("registry.k8s.io/kube-apiserver-amd64:v1.36.3", "registry.k8s.io/kube-apiserver:v1.36.3"),
            ("registry.k8s.io/kube-apiserver-arm64:v1.36.3", "registry.k8s.io/kube-apiserver-arm64:v1.36.3"),
            ("registry.k8s.io/pause:3.10.2", "registry.k8s.io/pause:3.10.2"),
            ("example/tool-amd64:1", "example/tool-amd64:1"),
        ] {
            assert_eq!(without_architecture(name.to_owned(), "amd64"), plain);
        }
    }
}
