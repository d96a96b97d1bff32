//! `cleanup-node`: the kubelet first, then the pods, then what they used, then the files. Every step can be repeated: one that is done
//! already finds nothing.

use std::time::Duration;

use serde_json::Value;

use super::survey::{PutBack, Work};
use super::{Reset, left, network};
use crate::engine::phase::{Kept, Subject};
use crate::engine::progress::Progress;
use crate::error::{Error, Result};
use crate::host::containers::Socket;
use crate::host::kernel::{self, plain_value, sysctl_path};
use crate::host::root::GENTLY;
use crate::host::{Deadline, Root, Utf8Path, Utf8PathBuf};
use crate::k8s::{names, units};

/// How long a unit may take to stop.
const UNIT: Duration = Duration::from_secs(120);
/// How long the pods may: more than the 30 s that Kubernetes grants one.
const PODS: Duration = Duration::from_secs(180);

/// Does all of it; the answer is what is left.
pub(super) async fn clean(reset: &Reset, progress: &Progress) -> Result<Vec<Kept>> {
    let work = reset.survey()?;
    let mut kept = work.left.clone();
    stop(reset, progress, names::KUBELET_UNIT).await?;
    kept.extend(remove_pods(reset, progress, &work).await);
    let placed = if work.placed.is_empty() { Vec::new() } else { units::edgeboot_enabled_units() };
    for unit in work.units.iter().map(String::as_str).chain(placed) {
        stop(reset, progress, unit).await?;
        reset.host.systemd.disable(unit).await.map(drop)?;
    }
    // systemd does not flush what it removes: a cut must not leave links to units that are gone.
    flush_links(reset).await?;
    unmount(reset, &work).await?;
    kept.extend(network::clear(reset, progress).await?);
    kept.extend(set_back(&reset.host.root, &work.sysctls)?);
    kept.extend(name_again(reset, &work).await?);
    let root = reset.host.root.clone();
    reset.host.blocking(move || remove_files(&root, &work)).await?;
    reset.host.systemd.reload().await?;
    Ok(kept)
}

async fn flush_links(reset: &Reset) -> Result<()> {
    let root = reset.host.root.clone();
    let flush = move || {
        for name in root.list(units::UNIT_DIR)?.unwrap_or_default() {
            let folder = Utf8Path::new(units::UNIT_DIR).join(name);
            if folder.extension() == Some("wants") {
                root.sync_dir(folder)?;
            }
        }
        Ok(())
    };
    reset.host.blocking(flush).await
}

async fn stop(reset: &Reset, progress: &Progress, unit: &str) -> Result<()> {
    let deadline = Deadline::after(UNIT, format!("{unit} to stop"));
    if reset.host.systemd.status(unit).await?.is_none_or(|status| status.load_state == "not-found" && !status.is_active()) {
        return Ok(());
    }
    progress.waiting(deadline.reason());
    let stopped = reset.host.systemd.stop(unit, &deadline).await;
    stopped.map(drop).map_err(|error| error.hint(format!("`systemctl status {unit}` says why; then run `edgeboot reset` again")))
}

/// Removes all pods. A runtime that does not run is started for it where it is ours; one that does not answer keeps nothing else from
/// being undone.
async fn remove_pods(reset: &Reset, progress: &Progress, work: &Work) -> Option<Kept> {
    let deadline = Deadline::after(PODS, "all pods to be removed");
    progress.waiting(deadline.reason());
    let containers = &reset.host.containers;
    let removal = async {
        let socket = socket(reset)?;
        if containers.status(&socket).await?.is_none() {
            if !work.units.iter().any(|unit| unit == names::CONTAINERD_UNIT) {
                return none_left(&reset.host.root, &socket);
            }
            reset.host.systemd.start(names::CONTAINERD_UNIT, &deadline).await.map(drop)?;
        }
        // kubeadm tries five times as well (`util/runtime`): a plugin may fail once.
        match containers.remove_pods(&socket, &deadline).await {
            Err(_) => containers.remove_pods(&socket, &deadline).await.map(drop),
            Ok(_) => Ok(()),
        }
    };
    let error = removal.await.err()?;
    // Once containerd's unit is gone, the pods went with it in an earlier try.
    let is_gone = reset.host.root.exists(format!("{}/{}", units::UNIT_DIR, names::CONTAINERD_UNIT)).is_ok_and(|there| !there);
    if is_gone && reset.state.held {
        return None;
    }
    Some(left(Subject::Other("pods".to_owned()), format!("not all were removed ({error}); a reboot ends them")))
}

/// Without a runtime there are no pods, unless the kubelet knew some.
fn none_left(root: &Root, Socket(path): &Socket) -> Result<()> {
    match root.list(format!("{}/pods", names::KUBELET_DIR))? {
        Some(pods) if !pods.is_empty() => {
            Err(Error::host(format!("asking the container runtime at {path}")).because("it does not run"))
        }
        _ => Ok(()),
    }
}

/// Where the runtime answers: as told, as the kubelet was told, or where edgeboot's containerd is.
fn socket(reset: &Reset) -> Result<Socket> {
    if let Some(socket) = &reset.options.cri_socket {
        return Ok(Socket(socket.clone()));
    }
    let settings = reset.host.root.read(names::KUBELET_INSTANCE_CONFIG)?.unwrap_or_default();
    let told = serde_saphyr::from_slice::<Value>(&settings).ok();
    let told = told.and_then(|settings| settings["containerRuntimeEndpoint"].as_str().map(str::to_owned));
    let told = told.unwrap_or_else(|| names::CONTAINERD_SOCKET.to_owned());
    Ok(Socket(told.trim_start_matches("unix://").into()))
}

/// Takes away what is mounted below the kubelet's folder: secrets, and volumes whose content is not to be deleted with it.
async fn unmount(reset: &Reset, work: &Work) -> Result<()> {
    let (root, ours) = (reset.host.root.clone(), work.mounts.clone());
    let told = reset.options.unmount_flags.clone();
    let how = if told.is_empty() { GENTLY.to_vec() } else { told };
    let work = move || {
        let folder = root.read_link(names::KUBELET_DIR)?.unwrap_or_else(|| names::KUBELET_DIR.into());
        for path in to_unmount(&kernel::mounts(&root)?, &folder, &ours) {
            let _ = root.unmount(&path, &how)?;
        }
        match to_unmount(&kernel::mounts(&root)?, &folder, &ours).first() {
            None => Ok(()),
            Some(path) => Err(Error::host(format!("unmounting {path}"))
                .because("it is still mounted")
                .hint(format!("`umount {path}`, then run `edgeboot reset` again: what is mounted there must not be deleted"))),
        }
    };
    reset.host.blocking(work).await
}

/// Those below a folder (not the folder itself) and those that are ours, the latest first.
fn to_unmount(mounts: &[Utf8PathBuf], folder: &Utf8Path, ours: &[Utf8PathBuf]) -> Vec<Utf8PathBuf> {
    let goes = |path: &&Utf8PathBuf| (path.starts_with(folder) && *path != folder) || ours.contains(path);
    mounts.iter().rev().filter(goes).cloned().collect()
}

/// Sets sysctls to what they were. One that somebody has set to something else since is left.
fn set_back(root: &Root, sysctls: &[(String, String)]) -> Result<Vec<Kept>> {
    let text = root.read_text(names::SYSCTL_FILE)?.unwrap_or_default();
    let set = |key: &str| {
        let mut settings = text.lines().filter_map(|line| line.split_once('='));
        settings.find(|(name, _)| name.trim() == key).map(|(_, value)| plain_value(value))
    };
    let mut kept = Vec::new();
    for (key, prior) in sysctls {
        let subject = Subject::Sysctl(key.clone());
        let Some(now) = kernel::sysctl(root, key)?.filter(|now| now != prior) else { continue };
        if set(key).is_some_and(|ours| ours != now) {
            kept.push(left(subject, format!("set to {now} by somebody else; it was {prior}")));
        } else if let Err(error) = root.write_in_place(sysctl_path(key), format!("{prior}\n").as_bytes()) {
            kept.push(left(subject, format!("{error}; it was {prior}")));
        }
    }
    Ok(kept)
}

/// Gives the machine the name back that it had.
async fn name_again(reset: &Reset, work: &Work) -> Result<Option<Kept>> {
    let Some(prior) = &work.hostname else { return Ok(None) };
    if let Err(error) = reset.host.systemd.set_static_hostname(prior).await {
        return Ok(Some(left(Subject::Other("hostname".to_owned()), format!("{error}; it was '{prior}'"))));
    }
    let root = reset.host.root.clone();
    reset.host.blocking(move || kernel::flush_static_hostname(&root)).await.map(|()| None)
}

/// All files at the end, when nothing uses them any more.
fn remove_files(root: &Root, work: &Work) -> Result<()> {
    for folder in &work.clear {
        let _ = root.clear(folder)?;
    }
    for PutBack { path, copy } in &work.put_back {
        if let Some(bytes) = root.read(copy)? {
            let mode = root.metadata(path)?.map_or(0o600, |standing| standing.mode);
            let _ = root.put(path, mode, &bytes)?;
            let _ = root.remove(copy)?;
        }
    }
    for path in work.remove.iter().chain(&work.placed) {
        let _ = root.remove(path)?;
    }
    for folder in &work.prune {
        let _ = root.remove_empty(folder)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_below_the_kubelets_folder_goes_the_latest_first() {
        let mounts = ["/", "/var/lib/kubelet", "/var/lib/kubelet/pods/a", "/data", "/var/lib/kubelet/pods/a/b", "/etc/kubernetes"];
        let mounts = mounts.map(Utf8PathBuf::from);
        let found = to_unmount(&mounts, Utf8Path::new("/var/lib/kubelet"), &["/etc/kubernetes".into()]);
        assert_eq!(found, ["/etc/kubernetes", "/var/lib/kubelet/pods/a/b", "/var/lib/kubelet/pods/a"]);
    }
}
