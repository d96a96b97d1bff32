//! Whether the files on a disk are whole: everything edgeboot made is exactly what its ledger says, and parses; nothing is empty; the
//! package is there completely or not at all.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::vm::{Vm, repository};

const FOLDERS: [&str; 4] = ["/etc", "/var/lib/edgeboot", "/var/lib/kubelet", "/var/lib/etcd"];

/// Looks at the disk of a VM that is off; how many files of ours are there.
pub fn check(vm: &Vm) -> Result<usize> {
    let disk = vm.files(&FOLDERS)?;
    let root = disk.path();
    let ours = ledger(root)?;
    for file in &ours {
        file.check().with_context(|| format!("{} is torn", file.path.display()))?;
    }
    for path in files_below(&root.join("etc/kubernetes"))? {
        ensure!(ours.iter().any(|file| file.path == path), "{} is there, and not in the ledger", path.display());
        parses(&path).with_context(|| format!("{} does not parse", path.display()))?;
        belongs_together(&path)?;
    }
    for path in files_below(&root.join("var/lib/edgeboot"))? {
        ensure!(fs::metadata(&path)?.len() > 0 || is_being_unpacked(&path), "{} is empty", path.display());
    }
    package(root)?;
    Ok(ours.len())
}

/// A file of the ledger that is there, and the digests it may have.
struct Ours {
    path: PathBuf,
    digests: Vec<String>,
}

impl Ours {
    fn check(&self) -> Result<()> {
        let digest = digest(&self.path)?;
        ensure!(self.digests.contains(&digest), "it is {digest}, and the ledger says {:?}", self.digests);
        Ok(())
    }
}

fn digest(path: &Path) -> Result<String> {
    Ok(format!("sha256:{}", hex::encode(Sha256::digest(fs::read(path)?))))
}

/// The files of the ledger that are there. Without a state there is no ledger.
fn ledger(root: &Path) -> Result<Vec<Ours>> {
    let Ok(state) = fs::read(root.join("var/lib/edgeboot/state.json")) else { return Ok(Vec::new()) };
    let state: Value = serde_json::from_slice(&state).context("state.json is torn")?;
    let records = state["phases"].as_object().into_iter().flatten();
    let effects = records.flat_map(|(_, record)| record["effects"].as_array().into_iter().flatten());
    let files = effects.filter(|effect| effect["effect"] == "file").map(|effect| {
        let path = effect["path"].as_str().context("a file without a path")?;
        let digests = serde_json::from_value(effect["ours"].clone())?;
        Ok(Ours { path: root.join(path.trim_start_matches('/')), digests })
    });
    let files: Vec<Ours> = files.collect::<Result<_>>()?;
    Ok(files.into_iter().filter(|file| file.path.exists()).collect())
}

/// Every file below a folder; temporaries, which nobody reads, are left out.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            match entry.file_type()? {
                kind if kind.is_dir() => folders.push(entry.path()),
                kind if kind.is_file() && !(name.starts_with('.') && name.ends_with(".edgeboot")) => files.push(entry.path()),
                _ => {}
            }
        }
    }
    Ok(files)
}

/// Judged by openssl and by a reader of YAML.
fn parses(path: &Path) -> Result<()> {
    let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
    match kind {
        "crt" => openssl(&["x509", "-noout", "-in"], path).map(drop),
        "key" => openssl(&["pkey", "-noout", "-in"], path).map(drop),
        "pub" => openssl(&["pkey", "-pubin", "-noout", "-in"], path).map(drop),
        "conf" | "yaml" => {
            let document: Value = serde_saphyr::from_str(&fs::read_to_string(path)?)?;
            ensure!(document["kind"].is_string(), "it has no kind");
            Ok(())
        }
        _ => bail!("nobody expects a file of this kind"),
    }
}

/// A certificate is that of the key beside it.
fn belongs_together(certificate: &Path) -> Result<()> {
    let key = certificate.with_extension("key");
    if certificate.extension().is_none_or(|kind| kind != "crt") || !key.exists() {
        return Ok(());
    }
    let certified = openssl(&["x509", "-noout", "-pubkey", "-in"], certificate)?;
    let held = openssl(&["pkey", "-pubout", "-in"], &key)?;
    ensure!(certified == held, "{} is not that of its key", certificate.display());
    Ok(())
}

fn openssl(arguments: &[&str], path: &Path) -> Result<Vec<u8>> {
    let output = Command::new("openssl").args(arguments).arg(path).output()?;
    ensure!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

/// Below a folder of packages that is not one: what is unpacked becomes a package by its rename.
fn is_being_unpacked(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str().to_string_lossy().starts_with('.'))
}

/// Where `current` stands, every file it shall have is there.
fn package(root: &Path) -> Result<()> {
    let packages = root.join("var/lib/edgeboot/packages");
    let Ok(target) = fs::read_link(packages.join("current")) else { return Ok(()) };
    let name = target.file_name().context("`current` names no package")?;
    let source = repository().join("target/package-source/files");
    for wished in files_below(&source)? {
        let placed = packages.join(name).join(wished.strip_prefix(&source)?);
        ensure!(digest(&placed)? == digest(&wished)?, "{} is torn", placed.display());
    }
    Ok(())
}
