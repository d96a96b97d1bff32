//! `package`: the package's files under /var/lib/edgeboot, whole and verified, and `current` pointing at them. What the package says
//! about itself becomes a fact. A folder with its record in it is complete: it is renamed into place only when all of it is on the
//! disk. A run with nothing to do believes the record and looks at names, sizes and modes; `edgeboot package verify` hashes.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::config::node::Node;
use crate::engine::context::Context;
use crate::engine::phase::{Action, Change, Drift, Fingerprint, Inputs, Phase, PhaseId, Subject};
use crate::engine::state::{Effect, PackageFacts, PackageImage};
use crate::error::{Error, Result};
use crate::host::root::FileType;
use crate::host::{Root, Utf8Path, Utf8PathBuf};
use crate::k8s::names;
use crate::package::model::Link;
use crate::package::{self, Problem, RECORD, extract};

mod place;

pub(super) use place::nearest;

/// `package`.
#[derive(Debug)]
pub struct Package;

/// What an installed package says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Installed {
    #[serde(flatten)]
    facts: PackageFacts,
    files: Vec<InstalledFile>,
    links: Vec<Link>,
}

/// What can be seen of a file without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct InstalledFile {
    path: String,
    mode: u32,
    size: u64,
}

impl Installed {
    fn of(package: &package::Package) -> Installed {
        let image = |image: &package::layout::PackagedImage| PackageImage {
            name: image.name.clone(),
            digest: image.descriptor.digest.to_string(),
        };
        let file =
            |file: &package::layout::PackageFile| InstalledFile { path: file.path.clone(), mode: file.mode, size: file.size };
        Installed {
            facts: PackageFacts {
                digest: package.digest.to_string(),
                version: package.version,
                kubernetes_version: package.kubernetes_version.clone(),
                architecture: package.architecture.clone(),
                images: package.images.iter().map(image).collect(),
            },
            files: package.files.iter().map(file).collect(),
            links: package.links.clone(),
        }
    }

    /// What is recorded in a folder; `None` when nothing is, or nothing that can be read.
    fn read(root: &Root, folder: &Utf8Path) -> Result<Option<Installed>> {
        let record = root.read(folder.join(RECORD))?;
        Ok(record.and_then(|record| serde_json::from_slice(&record).ok()))
    }

    /// What is in use.
    fn current(root: &Root) -> Result<Option<Installed>> {
        match root.read_link(names::PACKAGE_CURRENT)? {
            Some(target) => Installed::read(root, &Utf8Path::new(names::PACKAGES_DIR).join(target)),
            None => Ok(None),
        }
    }

    /// The first thing of it that is not as it was installed, seen from outside.
    fn amiss(&self, root: &Root, folder: &Utf8Path) -> Result<Option<String>> {
        for file in &self.files {
            let found = root.metadata(folder.join(&file.path))?;
            if !found.is_some_and(|found| found.file_type == FileType::File && (found.len, found.mode) == (file.size, file.mode)) {
                return Ok(Some(format!("{} is not as it was installed", file.path)));
            }
        }
        for link in &self.links {
            if root.read_link(folder.join(&link.path))?.as_deref() != Some(Utf8Path::new(&link.target)) {
                return Ok(Some(format!("{} is not as it was installed", link.path)));
            }
        }
        Ok(None)
    }
}

#[async_trait]
impl Phase for Package {
    fn id(&self) -> PhaseId {
        PhaseId("package")
    }
    fn summary(&self) -> &'static str {
        "installs the programs of the package"
    }
    fn after(&self) -> &'static [PhaseId] {
        &[]
    }
    fn applies(&self, _node: &Node) -> bool {
        true
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        Fingerprint::of(&(&inputs.node.package, &inputs.facts.package))
    }

    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        let root = &cx.host.root;
        let installed = Installed::current(root)?;
        let Some(offered) = offered(cx).await? else {
            // What is installed needs its source no more, until an image is missing.
            let installed = installed.ok_or_else(|| package::layout::absent(&cx.node.package))?;
            let folder = folder_of(&installed.facts.digest);
            if let Some(amiss) = installed.amiss(root, &folder)? {
                return Err(Error::host(format!("looking at the installed package {folder}"))
                    .because(amiss)
                    .hint(format!("put the package back at {}, from where it is installed again", cx.node.package)));
            }
            cx.learn(|facts| facts.package = Some(installed.facts));
            return Ok(Drift::none());
        };
        check_fit(&offered, installed.as_ref())?;
        let wished = Installed::of(&offered);
        cx.learn(|facts| facts.package = Some(wished.facts.clone()));
        changes(root, &wished)
    }

    async fn apply(&self, cx: &Context) -> Result<()> {
        let root = &cx.host.root;
        let offered = offered(cx).await?.ok_or_else(|| package::layout::absent(&cx.node.package))?;
        let installed = Installed::current(root)?;
        check_fit(&offered, installed.as_ref())?;
        let wished = Installed::of(&offered);
        let folder = folder_of(&wished.facts.digest);
        let whole = Installed::read(root, &folder)?.as_ref() == Some(&wished) && wished.amiss(root, &folder)?.is_none();
        if !whole {
            place::check(root, &offered)?;
            cx.note(Effect::Dir { path: folder.clone() }).await?;
            let (root, to) = (root.clone(), folder.clone());
            cx.host.blocking(move || install(&root, &offered, &wished, &to)).await?;
        }
        let before = root.read_link(names::PACKAGE_CURRENT)?;
        let target = Utf8PathBuf::from(folder.file_name().unwrap_or_default());
        if cx.place_link(names::PACKAGE_CURRENT, &target).await?.is_yes() {
            let root = root.clone();
            cx.host.blocking(move || place::remove_older(&root, &[Some(target), before])).await?;
        }
        Ok(())
    }
}

/// Where a package is installed.
fn folder_of(digest: &str) -> Utf8PathBuf {
    Utf8Path::new(names::PACKAGES_DIR).join(digest.strip_prefix("sha256:").unwrap_or(digest))
}

/// The package where the configuration says it is; `None` when there is nothing.
async fn offered(cx: &Context) -> Result<Option<package::Package>> {
    let (root, path) = (cx.host.root.clone(), cx.node.package.clone());
    cx.host.blocking(move || package::Package::open(&root, &path)).await
}

/// The package that is installed, from where it came: its image blobs are read there and are not kept a second time.
pub(super) async fn source(cx: &Context) -> Result<package::Package> {
    let path = &cx.node.package;
    let wanted = cx.package()?.digest;
    let failed = |why: String| {
        Error::host(format!("reading images from the package {path}"))
            .because(why)
            .hint(format!("put the package back at {path}, or import the images yourself with `ctr -n k8s.io images import`"))
    };
    match offered(cx).await? {
        Some(package) if package.digest.to_string() == wanted => Ok(package),
        Some(other) => Err(failed(format!("it is {}, and {wanted} is installed", other.digest))),
        None => Err(failed("it is not there any more".to_owned())),
    }
}

/// Refuses what must not be installed here, before anything is written.
fn check_fit(offered: &package::Package, installed: Option<&Installed>) -> Result<()> {
    offered.check_architecture(package::machine_architecture())?;
    match installed {
        Some(installed) if installed.facts.version > offered.version => {
            let problem = Problem::Older { offered: offered.version, installed: installed.facts.version };
            Err(problem.at(offered.layout.path()))
        }
        _ => Ok(()),
    }
}

fn changes(root: &Root, wished: &Installed) -> Result<Drift> {
    let folder = folder_of(&wished.facts.digest);
    let subject = Subject::File(folder.to_string());
    let about = format!("package version {}, Kubernetes {}", wished.facts.version, wished.facts.kubernetes_version);
    if root.metadata(&folder)?.is_none() {
        return Ok(Drift::one(Change::new(subject, Action::Create).because(about)));
    }
    if Installed::read(root, &folder)?.as_ref() != Some(wished) {
        return Ok(Drift::one(Change::new(subject, Action::Mend).because("it has no record of what is in it")));
    }
    if let Some(amiss) = wished.amiss(root, &folder)? {
        return Ok(Drift::one(Change::new(subject, Action::Mend).because(amiss)));
    }
    if root.read_link(names::PACKAGE_CURRENT)?.as_deref().map(Utf8Path::as_str) == folder.file_name() {
        return Ok(Drift::none());
    }
    Ok(Drift::one(Change::new(Subject::File(names::PACKAGE_CURRENT.to_owned()), Action::Update).because(about)))
}

/// Unpacks into a folder beside the final one, makes it durable, and renames it.
fn install(root: &Root, package: &package::Package, record: &Installed, folder: &Utf8Path) -> Result<()> {
    let packages = Utf8Path::new(names::PACKAGES_DIR);
    root.make_dirs(packages, 0o755).map(drop)?;
    place::remove_left_over(root)?;
    let name = folder.file_name().unwrap_or_default();
    let (partial, broken) = (packages.join(format!(".{name}.partial")), packages.join(format!(".{name}.broken")));
    root.make_dir(&partial, 0o755)?;
    extract::extract(root, package, &partial)?;
    place::write_record(root, &partial.join(RECORD), record)?;
    root.sync_dir(&partial)?;
    // What stands there is broken, and may be in use: it is out of the way for as long as two renames take.
    if root.metadata(folder)?.is_some() {
        root.rename(folder, &broken)?;
    }
    root.rename(&partial, folder)?;
    root.sync_dir(packages)?;
    root.remove_all(&broken).map(drop)
}

#[cfg(test)]
mod tests;
