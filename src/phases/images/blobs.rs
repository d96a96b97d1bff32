//! The blobs of images on their way into containerd. The longest part of an import is the way of its bytes through a pipe, `ctr` and gRPC,
//! with a flush for each blob. So they are laid into the content store's folder as files, verified as they are written and flushed
//! together, and containerd takes them over by their digests; the archive that `ctr` imports has only what is left. A blob is durable
//! before containerd's records name it: a power cut leaves files that are in no record, and those are written anew.

use std::collections::BTreeSet;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::engine::context::Context;
use crate::error::Result;
use crate::host::containers::{BLOBS, LaidBlob};
use crate::host::{Root, Utf8Path, Utf8PathBuf};
use crate::package::Digest;
use crate::package::layout::Layout;
use crate::package::model::Descriptor;

use super::socket;

/// Blobs that are hashed and written at the same time: the smallest machines have two processors.
const SIDE_BY_SIDE: usize = 2;

fn path_of(digest: &Digest) -> Utf8PathBuf {
    Utf8Path::new(BLOBS).join(digest.hex())
}

/// Lays these blobs, of which containerd has none in its records, and has them taken over; gives those that were. Where containerd keeps
/// its content elsewhere, nothing is laid.
pub(super) async fn lay(cx: &Context, layout: &Layout, blobs: &[Descriptor]) -> Result<BTreeSet<Digest>> {
    if blobs.is_empty() || !cx.host.root.exists(BLOBS)? {
        return Ok(BTreeSet::new());
    }
    let writing = |blob: Descriptor| {
        let (root, layout) = (cx.host.root.clone(), layout.clone());
        cx.host.blocking(move || write(&root, &layout, &blob))
    };
    stream::iter(blobs.iter().cloned()).map(writing).buffer_unordered(SIDE_BY_SIDE).try_collect::<()>().await?;
    let root = cx.host.root.clone();
    cx.host.blocking(move || root.sync_file_system(BLOBS)).await?;
    let laid = |blob: &Descriptor| LaidBlob { digest: blob.digest.to_string(), size: blob.size };
    let laid: Vec<LaidBlob> = blobs.iter().map(laid).collect();
    let taken = cx.host.containers.take_over(&socket(cx), &laid).await?;
    let (taken, refused): (Vec<Digest>, Vec<Digest>) =
        blobs.iter().map(|blob| blob.digest.clone()).partition(|digest| taken.contains(&digest.to_string()));
    clear(cx, refused).await?;
    Ok(taken.into_iter().collect())
}

/// Removes blobs that are in none of containerd's records: it would take a torn one for what its name says.
pub(super) async fn clear(cx: &Context, digests: Vec<Digest>) -> Result<()> {
    let root = cx.host.root.clone();
    cx.host.blocking(move || digests.iter().try_for_each(|digest| root.remove(path_of(digest)).map(drop))).await
}

fn write(root: &Root, layout: &Layout, blob: &Descriptor) -> Result<()> {
    let path = path_of(&blob.digest);
    let _ = root.remove(&path)?;
    // As containerd has them: nobody changes a blob.
    let mut file = root.create(&path, 0o444)?;
    layout.copy(blob, "a blob of an image", &mut *file).map_err(|error| error.while_doing(format!("writing {path}")))
}
