//! `images/first`, `images/controllers` and `images/others`: the package's images in the runtime, by name and digest, pinned against the
//! kubelet's garbage collection. What the first pods need comes first and in one archive, as fast as it goes; the controllers' as soon
//! as the API server answers; everything else after them, one image at a time and slowly, because the disk is etcd's then. An image that stands there under a name of ours with
//! another digest is somebody's own and is kept.

use std::collections::BTreeSet;
use std::io::Read;
use std::time::Duration;

use async_trait::async_trait;

use crate::config::node::{Node, Role};
use crate::engine::context::Context;
use crate::engine::phase::{Action, Change, Drift, Fingerprint, Inputs, Kept, Phase, PhaseId, Subject};
use crate::engine::state::{Effect, PackageImage};
use crate::error::{Error, Result};
use crate::host::containers::{self, StoredImage};
use crate::host::{Deadline, Utf8Path, Utf8PathBuf};
use crate::k8s::{images, names};
use crate::package::layout::{PackagedImage, once};
use crate::package::stream::ImageStream;

use super::package::{nearest, source};
use super::runtime::socket;

/// `images/first`: what the first pods need.
#[derive(Debug)]
pub struct First;

/// `images/controllers`: what the machine that founds a cluster starts once its API server answers.
#[derive(Debug)]
pub struct Controllers;

/// `images/others`: the rest of the package.
#[derive(Debug)]
pub struct Others;

/// Where containerd keeps what it imports.
const STORE: &str = "/var/lib/containerd";
/// A slow memory card writes a few megabytes a second, and the largest images have some hundred.
const IMPORT: Duration = Duration::from_secs(15 * 60);
/// How fast images that are not urgent are fed, in bytes a second: half of what a decent memory card takes.
const UNHURRIED: u64 = 32 << 20;

/// What a phase has to look after.
struct Wanted {
    /// Of the package's images.
    packaged: Vec<PackageImage>,
    /// By name, wherever they come from.
    needed: Vec<String>,
}

fn first(cx: &Context) -> Result<Wanted> {
    let version = cx.kubernetes_version()?;
    let mut needed = images::first(&cx.node, &version);
    let mut packaged = cx.package()?.images;
    packaged.retain(|image| is_first(&cx.node, &needed, &image.name));
    // They come later; that one is nowhere is said now.
    needed.extend(images::controllers(&cx.node, &version));
    Ok(Wanted { packaged, needed })
}

fn controllers(cx: &Context) -> Result<Wanted> {
    let needed = images::controllers(&cx.node, &cx.kubernetes_version()?);
    let mut packaged = cx.package()?.images;
    packaged.retain(|image| needed.contains(&image.name));
    Ok(Wanted { packaged, needed })
}

/// A worker's first pod is kube-proxy's: it is there as soon as the node is, and the kubelet is slow to try again.
fn is_first(node: &Node, needed: &[String], name: &String) -> bool {
    needed.contains(name) || (node.role == Role::Worker && images::is_proxy(name))
}

fn others(cx: &Context) -> Result<Wanted> {
    let version = cx.kubernetes_version()?;
    let (first, controllers) = (images::first(&cx.node, &version), images::controllers(&cx.node, &version));
    let mut packaged = cx.package()?.images;
    packaged.retain(|image| !is_first(&cx.node, &first, &image.name) && !controllers.contains(&image.name));
    packaged.retain(|image| !images::is_idle(&cx.node, &image.name));
    // The node is Ready when its network is.
    packaged.sort_by_key(|image| !images::is_network(&image.name));
    Ok(Wanted { packaged, needed: images::addons(&cx.node, &version) })
}

fn fingerprint(inputs: &Inputs<'_>) -> Fingerprint {
    let Inputs { node, facts } = inputs;
    let cluster = &node.cluster;
    let named = (&cluster.image_repository, &cluster.etcd, &cluster.dns, &cluster.proxy, &cluster.kubernetes_version);
    Fingerprint::of(&(
        node.role,
        node.network,
        named,
        &node.registration.cri_socket,
        facts.package.as_ref().map(|package| &package.digest),
    ))
}

#[async_trait]
impl Phase for First {
    fn id(&self) -> PhaseId {
        PhaseId("images/first")
    }
    fn summary(&self) -> &'static str {
        "imports the images that the first pods need"
    }
    fn after(&self) -> &'static [PhaseId] {
        &[PhaseId("package"), PhaseId("runtime")]
    }
    fn applies(&self, _node: &Node) -> bool {
        true
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        fingerprint(inputs)
    }
    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        inspect(cx, &first(cx)?).await
    }
    async fn apply(&self, cx: &Context) -> Result<()> {
        at_once(cx, &first(cx)?).await
    }
}

/// In one archive, as fast as it goes.
async fn at_once(cx: &Context, wanted: &Wanted) -> Result<()> {
    let absent = absent(cx, wanted).await?;
    if !absent.is_empty() {
        import(cx, absent, None).await?;
    }
    pin(cx, wanted).await
}

#[async_trait]
impl Phase for Controllers {
    fn id(&self) -> PhaseId {
        PhaseId("images/controllers")
    }
    fn summary(&self) -> &'static str {
        "imports the images of kube-controller-manager and kube-scheduler"
    }
    fn after(&self) -> &'static [PhaseId] {
        &[PhaseId("images/first"), PhaseId("wait-control-plane/kube-apiserver")]
    }
    fn applies(&self, node: &Node) -> bool {
        node.founds()
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        fingerprint(inputs)
    }
    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        inspect(cx, &controllers(cx)?).await
    }
    async fn apply(&self, cx: &Context) -> Result<()> {
        at_once(cx, &controllers(cx)?).await
    }
}

#[async_trait]
impl Phase for Others {
    fn id(&self) -> PhaseId {
        PhaseId("images/others")
    }
    fn summary(&self) -> &'static str {
        "imports the package's other images, unhurried"
    }
    fn after(&self) -> &'static [PhaseId] {
        &[PhaseId("images/first"), PhaseId("images/controllers"), PhaseId("wait-control-plane/kube-apiserver")]
    }
    fn applies(&self, _node: &Node) -> bool {
        true
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        fingerprint(inputs)
    }
    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        inspect(cx, &others(cx)?).await
    }
    async fn apply(&self, cx: &Context) -> Result<()> {
        let wanted = others(cx)?;
        let absent = absent(cx, &wanted).await?;
        if cx.node.role == Role::Worker && !absent.is_empty() {
            // No etcd is disturbed.
            import(cx, absent, None).await?;
        } else {
            for image in absent {
                let rate = (!images::is_network(&image.name)).then_some(UNHURRIED);
                import(cx, vec![image], rate).await?;
            }
        }
        pin(cx, &wanted).await
    }
}

/// How an image of the package stands in the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    Right,
    Unpinned,
    Absent,
    /// Under that name, an older one of ours.
    Older,
    /// Under that name, somebody's own, with this digest.
    Theirs(String),
}

fn standing(cx: &Context, image: &PackageImage, stored: &[StoredImage]) -> Standing {
    let Some(found) = stored.iter().find(|found| found.name == image.name) else { return Standing::Absent };
    if found.digest == image.digest {
        return if found.pinned { Standing::Right } else { Standing::Unpinned };
    }
    let forced = cx.is_forced(&Subject::Image(image.name.clone()));
    let ours = Effect::Image { name: image.name.clone(), digest: found.digest.clone() };
    let state = cx.ledger.state();
    if forced || state.phases.values().any(|record| record.effects.contains(&ours)) {
        Standing::Older
    } else {
        Standing::Theirs(found.digest.clone())
    }
}

async fn stored(cx: &Context) -> Result<Vec<StoredImage>> {
    cx.host.containers.images(&socket(cx)).await
}

async fn inspect(cx: &Context, wanted: &Wanted) -> Result<Drift> {
    let stored = stored(cx).await?;
    check_complete(cx, wanted, &stored)?;
    let mut drift = Drift::none();
    for image in &wanted.packaged {
        let subject = Subject::Image(image.name.clone());
        match standing(cx, image, &stored) {
            Standing::Right => {}
            Standing::Absent => drift.changes.push(Change::new(subject, Action::Create)),
            Standing::Older => drift.changes.push(Change::new(subject, Action::Update).because("the package has another")),
            Standing::Unpinned => {
                drift.changes.push(Change::new(subject, Action::Update).because("it is not pinned: the kubelet may remove it"));
            }
            Standing::Theirs(digest) => {
                drift.kept.push(Kept { subject, difference: format!("the runtime has {digest}, the package {}", image.digest) });
            }
        }
    }
    Ok(drift)
}

/// Images that are nowhere are named before a pod waits for them.
fn check_complete(cx: &Context, wanted: &Wanted, stored: &[StoredImage]) -> Result<()> {
    let package = cx.package()?;
    let is_somewhere =
        |name: &&String| package.images.iter().any(|image| image.name == **name) || stored.iter().any(|image| image.name == **name);
    let missing: Vec<&str> = wanted.needed.iter().filter(|name| !is_somewhere(name)).map(String::as_str).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let hint = if missing.iter().all(|name| images::is_network(name)) {
        "build a package with them, or choose another pod network: `network: {component: bridge}` for one node, `none` for your own"
    } else {
        "build a package with them, import them with `ctr -n k8s.io images import`, or change imageRepository, imageTag or \
         kubernetesVersion to what the package has; edgeboot does not pull images"
    };
    Err(Error::host("looking for the images of this node")
        .because(format!("neither the package nor the container runtime has {}", missing.join(", ")))
        .hint(hint))
}

/// Those of the package's images that have to be imported.
async fn absent(cx: &Context, wanted: &Wanted) -> Result<Vec<PackageImage>> {
    let stored = stored(cx).await?;
    let is_absent = |image: &&PackageImage| matches!(standing(cx, image, &stored), Standing::Absent | Standing::Older);
    Ok(wanted.packaged.iter().filter(is_absent).cloned().collect())
}

/// Imports images in one archive, and has them on the disk when it returns.
async fn import(cx: &Context, wanted: Vec<PackageImage>, bytes_per_second: Option<u64>) -> Result<()> {
    let names = wanted.iter().map(|image| image.name.as_str()).collect::<Vec<_>>().join(", ");
    let reason = format!("{names} to be imported");
    cx.waiting_for(&reason);
    // An older one of ours keeps its entry until it is replaced: only by its digest it is known to be ours.
    let effect = |image: &PackageImage| Effect::Image { name: image.name.clone(), digest: image.digest.clone() };
    let (known, new): (Vec<_>, Vec<_>) = wanted.iter().map(effect).partition(|effect| is_noted(cx, effect));
    if !new.is_empty() {
        cx.note_all(new).await?;
    }
    let archive = archive(cx, &wanted).await?;
    check_space(cx, archive.size())?;
    let archive: Box<dyn Read + Send> = match bytes_per_second {
        Some(rate) => containers::paced(archive, rate),
        None => Box::new(archive),
    };
    let ctr = Utf8Path::new(names::PACKAGE_BIN).join("ctr");
    let deadline = Deadline::after(IMPORT, reason);
    let imported = cx.host.containers.import(&socket(cx), &ctr, archive, &deadline).await;
    imported.map_err(|error| {
        let hint = format!("`edgeboot package verify {}` says whether the package is whole", cx.node.package);
        error.while_doing(format!("importing {names}")).hint(hint)
    })?;
    let root = cx.host.root.clone();
    cx.host.blocking(move || root.sync_file_system(nearest(&root, Utf8Path::new(STORE))?)).await?;
    if known.is_empty() { Ok(()) } else { cx.note_all(known).await }
}

/// Whether the ledger has an image of that name.
fn is_noted(cx: &Context, effect: &Effect) -> bool {
    let subject = effect.subject();
    cx.ledger.state().phases.values().any(|record| record.effects.iter().any(|noted| noted.subject() == subject))
}

/// The archive of these images, without the blobs that the runtime has already: images share their largest layers.
async fn archive(cx: &Context, wanted: &[PackageImage]) -> Result<ImageStream> {
    let package = source(cx).await?;
    let is_wanted = |image: &&PackagedImage| wanted.iter().any(|wanted| wanted.name == image.name);
    let images: Vec<PackagedImage> = package.images.iter().filter(is_wanted).cloned().collect();
    let mut blobs = Vec::new();
    for image in &images {
        blobs.extend(package.image_blobs(image)?);
    }
    let digests: Vec<String> = once(blobs).into_iter().map(|blob| blob.digest.to_string()).collect();
    let present = cx.host.containers.present_blobs(&socket(cx), &digests).await?;
    let present: BTreeSet<_> = present.iter().filter_map(|digest| digest.parse().ok()).collect();
    ImageStream::of(&package, &images, &present)
}

/// Images lie there twice: as they came, and unpacked.
fn check_space(cx: &Context, size: u64) -> Result<()> {
    let store: Utf8PathBuf = nearest(&cx.host.root, Utf8Path::new(STORE))?;
    let (free, needed) = (cx.host.root.space(&store)?.bytes, size.saturating_mul(2));
    if free >= needed {
        return Ok(());
    }
    Err(Error::host(format!("importing images into {STORE}"))
        .because(format!("{} MiB are free at {store} and {} MiB are needed", free >> 20, needed >> 20))
        .hint("free some space there, then run `edgeboot reconcile`"))
}

/// Pins those of the package's images that are not.
async fn pin(cx: &Context, wanted: &Wanted) -> Result<()> {
    let stored = stored(cx).await?;
    for image in &wanted.packaged {
        if standing(cx, image, &stored) == Standing::Unpinned {
            cx.host.containers.pin(&socket(cx), &image.name).await.map(drop)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
