//! `edgeboot package`: build, verify, show. It works on files alone and needs no machine that is being set up.

use std::fmt::Write as _;

use camino::{Utf8Path, Utf8PathBuf};
use clap::Subcommand;
use serde_json::json;

use crate::error::{IoContext, Result};
use crate::host::Root;
use crate::package::{self, Package, extract, layout};

use super::{Global, Output, print, print_value};

/// What to do with a package.
#[derive(Debug, Subcommand)]
pub enum PackageCommand {
    /// Builds a package from a folder with package.yaml, files/ and images/*.tar.
    ///
    /// The files below files/ become the node's, with their modes and links; the archives in images/ (OCI or docker) its images. The
    /// same folder always gives the same package.
    #[command(after_help = "Example:\n  edgeboot package build ./source edgeboot-package.tar")]
    Build {
        /// The folder.
        source: Utf8PathBuf,
        /// The package to make: a folder, or one tar when the name ends in .tar.
        package: Utf8PathBuf,
        /// Its version, instead of the one in package.yaml; it has to grow from package to package.
        #[arg(long)]
        version: Option<u64>,
    },
    /// Reads a whole package and checks every digest in it.
    ///
    /// The digests prove that nothing changed since it was built, not who built it: signatures are not checked yet.
    #[command(after_help = "Example:\n  edgeboot package verify /usr/lib/edgeboot/package")]
    Verify {
        /// The package, a folder or a tar.
        package: Utf8PathBuf,
    },
    /// Shows what a package holds, without reading its content.
    #[command(after_help = "Example:\n  edgeboot package show /usr/lib/edgeboot/package -o json | jq .version")]
    Show {
        /// The package, a folder or a tar.
        package: Utf8PathBuf,
    },
}

impl PackageCommand {
    /// Runs it.
    pub fn run(self, global: &Global) -> Result<()> {
        let root = Root::machine()?;
        let (package, text) = match self {
            PackageCommand::Build { source, package: path, version } => {
                let package = package::build(&root, &absolute(&source)?, &absolute(&path)?, version)?;
                let text = format!("{path}: {}", headline(&package));
                (package, text)
            }
            PackageCommand::Verify { package: path } => {
                let package = open(&root, &path)?;
                extract::verify(&package)?;
                let text = format!("{path}: {}: every digest is right", headline(&package));
                (package, text)
            }
            PackageCommand::Show { package: path } => {
                let package = open(&root, &path)?;
                let text = as_text(&package);
                (package, text)
            }
        };
        match global.output {
            output @ (Output::Json | Output::Yaml) => print_value(output, &as_json(&package))?,
            Output::Text => print(&text),
        }
        Ok(())
    }
}

fn open(root: &Root, path: &Utf8Path) -> Result<Package> {
    Package::open(root, &absolute(path)?)?.ok_or_else(|| layout::absent(path))
}

fn absolute(path: &Utf8Path) -> Result<Utf8PathBuf> {
    camino::absolute_utf8(path).doing(|| format!("looking for {path}"))
}

fn headline(package: &Package) -> String {
    format!(
        "package version {} for Kubernetes {} on {}, {} files, {} images, {}",
        package.version,
        package.kubernetes_version,
        package.architecture,
        package.files.len(),
        package.images.len(),
        package.digest
    )
}

fn as_text(package: &Package) -> String {
    let mut text = format!("{}\n\nFiles:\n", headline(package));
    for file in &package.files {
        let _ = writeln!(text, "  {:04o} {:>11} {}", file.mode, file.size, file.path);
    }
    for link in &package.links {
        let _ = writeln!(text, "  link {:>11} {} -> {}", "", link.path, link.target);
    }
    text.push_str("\nImages:");
    for image in &package.images {
        let _ = write!(text, "\n  {} {}", image.name, image.descriptor.digest);
    }
    text
}

fn as_json(package: &Package) -> serde_json::Value {
    let files = package.files.iter().map(|file| {
        json!({"path": file.path, "mode": format!("{:04o}", file.mode), "size": file.size, "digest": file.digest, "blob": file.blob.digest})
    });
    json!({
        "digest": package.digest,
        "version": package.version,
        "kubernetesVersion": package.kubernetes_version,
        "architecture": package.architecture,
        "files": files.collect::<Vec<_>>(),
        "links": package.links,
        "images": package.images.iter().map(|image| json!({"name": image.name, "digest": image.descriptor.digest})).collect::<Vec<_>>(),
    })
}
