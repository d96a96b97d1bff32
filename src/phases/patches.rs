//! Reads the folder that `patches.directory` names.

use crate::engine::context::Context;
use crate::error::{Error, Result};
use crate::host::root::FileType;
use crate::k8s::patches::Patches;

/// The user's patches; none when no folder is configured. Only the files of the folder itself count, links to files too (that is how
/// a ConfigMap is mounted).
pub fn load(cx: &Context) -> Result<Patches> {
    let folder = &cx.node.patches;
    if folder.as_str().is_empty() {
        return Ok(Patches::none());
    }
    let names = cx.host.root.list(folder)?.ok_or_else(|| {
        Error::config(format!("reading the patches in {folder}"))
            .because("there is no such folder")
            .hint("correct patches.directory in InitConfiguration, or make the folder")
    })?;
    let mut files = Vec::new();
    for name in names {
        let path = folder.join(&name);
        let is_file = cx.host.root.metadata(&path)?.is_some_and(|there| matches!(there.file_type, FileType::File | FileType::Link));
        // Hidden names are how a mounted ConfigMap keeps its versions apart.
        if is_file && !name.starts_with("..") {
            files.extend(cx.host.root.read(&path)?.map(|bytes| (name, bytes)));
        }
    }
    Patches::read(files).map_err(|error| error.while_doing(format!("reading the patches in {folder}")))
}
