//! The package: an OCI image layout (a folder or a tar of one) that holds a node's files and images. `index.json` lists one artifact
//! manifest, whose layers are the node's files (one zstd blob each) and whose config lists the links, and beside it the manifests of
//! the container images. Its identity is the SHA-256 of `index.json`. Files are reached through [`crate::host::Root`] only, and
//! nothing is used before its digest has been checked. `index.json.sig` is where a detached signature will lie; it is not looked at
//! yet, so a package is exactly as trustworthy as the way it came.

pub mod archive;
pub mod build;
pub mod digest;
pub mod extract;
pub mod layout;
pub mod model;
pub mod paths;
pub mod problem;
pub mod stream;
pub mod tarball;

pub use build::build;
pub use digest::Digest;
pub use layout::Package;
pub use problem::Problem;

/// The artifact type of the manifest that lists the node's files.
pub const ARTIFACT_TYPE: &str = "application/vnd.edgeboot.package.v1";
/// The media type of that manifest's config: the links.
pub const CONFIG_MEDIA_TYPE: &str = "application/vnd.edgeboot.package.config.v1+json";
/// The media type of a file's blob.
pub const FILE_MEDIA_TYPE: &str = "application/vnd.edgeboot.file.v1+zstd";
/// The package's version, a number that only grows.
pub const ANNOTATION_VERSION: &str = "io.edgeboot.package.version";
/// The Kubernetes version of the programs in it.
pub const ANNOTATION_KUBERNETES_VERSION: &str = "io.edgeboot.package.kubernetes-version";
/// The architecture, in Go's words.
pub const ANNOTATION_ARCHITECTURE: &str = "io.edgeboot.package.architecture";
/// A file's path in the package.
pub const ANNOTATION_FILE_PATH: &str = "io.edgeboot.file.path";
/// A file's permission bits, octal.
pub const ANNOTATION_FILE_MODE: &str = "io.edgeboot.file.mode";
/// The digest of a file's content, uncompressed.
pub const ANNOTATION_FILE_DIGEST: &str = "io.edgeboot.file.digest";
/// The size of a file's content, uncompressed.
pub const ANNOTATION_FILE_SIZE: &str = "io.edgeboot.file.size";
/// An image's full name, as containerd reads it on import.
pub const ANNOTATION_IMAGE_NAME: &str = "io.containerd.image.name";
/// An image's tag.
pub const ANNOTATION_REF_NAME: &str = "org.opencontainers.image.ref.name";

/// What an installed package says about itself, at the top of its folder: a name that no package may hold.
pub const RECORD: &str = "package.json";

/// Most entries of anything: files, links, images, entries of a tar.
pub const MAX_ENTRIES: usize = 10_000;
/// The largest file or blob.
pub const MAX_FILE: u64 = 1 << 30;
/// The largest package, uncompressed.
pub const MAX_TOTAL: u64 = 8 << 30;
/// The largest JSON document: index, manifest, config.
pub const MAX_DOCUMENT: u64 = 4 << 20;

/// This machine's architecture in Go's words, which images and packages use.
pub fn machine_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

#[cfg(test)]
pub mod sample;
#[cfg(test)]
mod tests;
