//! Whether this is the machine that the state speaks of. A copy of a node's disk must not come up as its original's twin: under one name,
//! with one certificate, as one member of etcd. A disk that was moved is the node still; one that belongs to no cluster is anybody's.

use crate::engine::identity::Recognised;
use crate::engine::ledger::Ledger;
use crate::engine::progress::Progress;
use crate::engine::state::{MachineIdentity, State};
use crate::error::{Error, Result};
use crate::host::{Host, Root, Utf8Path};
use crate::k8s::names;

/// What keeps the kubelet of a copy from starting. It lies under /run and holds itself true: it goes with the power, or when the
/// machine is told who it is.
const KEEPS_KUBELET: &str = "/run/systemd/system/kubelet.service.d/50-edgeboot-copied-disk.conf";

/// What this machine is to the one that the state was written on.
pub fn recognise(root: &Root, state: &State) -> Result<(Recognised, MachineIdentity)> {
    let now = MachineIdentity::of(root)?;
    Ok((state.machine.recognise(&now), now))
}

/// Why nothing may be done in the name of the node whose state this is; `None` where it is this machine's, or nobody's yet.
pub fn refusal(root: &Root, state: &State) -> Result<Option<Error>> {
    let (recognised, now) = recognise(root, state)?;
    Ok((recognised == Recognised::Copied && state.cluster.is_some()).then(|| refused(state, &now)))
}

fn refused(state: &State, now: &MachineIdentity) -> Error {
    let node = state.facts.node_name.as_ref().map(|name| format!(" '{name}'")).unwrap_or_default();
    let why = format!(
        "the disk was copied from the node{node}, which may be running: {} was written on a machine with {}; this one has {now}",
        names::STATE,
        state.machine
    );
    Error::config("recognising this machine").because(why).hint(
        "`edgeboot reset`, and then `edgeboot join` or `edgeboot init`, makes it a node of its own; if it is that very node in new \
         hardware, and the old one is switched off for good, `edgeboot reconcile --adopt-machine` says so",
    )
}

/// Goes on when this is the state's own machine, and remembers what tells it from others. A copy that is in no cluster is a machine of
/// its own: what the other one told is forgotten.
pub fn settle(root: &Root, ledger: &Ledger, progress: &Progress) -> Result<()> {
    let state = ledger.state();
    let (recognised, now) = recognise(root, &state)?;
    match recognised {
        Recognised::Copied if state.cluster.is_some() => return Err(refused(&state, &now)),
        Recognised::Copied => {
            progress.say(&format!("an image's disk, which was in a machine with {} before: this one has {now}", state.machine));
            ledger.learn(|facts| {
                facts.node_name = None;
                facts.advertise_address = None;
                facts.pod_subnets.clear();
            });
            ledger.set_machine(now);
            return Ok(());
        }
        Recognised::Moved => {
            progress.say(&format!("the same disk in other hardware, and so the same node: {now}; it was {}", state.machine));
        }
        Recognised::Renewed => progress.say(&format!("the same machine with another machine-id: {now}; it was {}", state.machine)),
        Recognised::Same => {}
    }
    ledger.set_machine(state.machine.brought_up_to(now));
    Ok(())
}

/// The explicit word: the node of the state is this machine, whatever it looks like.
pub async fn adopt(host: &Host) -> Result<MachineIdentity> {
    let (ledger, _) = Ledger::load(&host.root)?;
    let now = MachineIdentity::of(&host.root)?;
    ledger.set_machine(now.clone());
    ledger.save(host).await?;
    Ok(now)
}

/// Keeps the kubelet from starting: the boot goes on without it.
pub async fn keep_kubelet(host: &Host) -> Result<()> {
    let text = format!(
        "# This disk was copied from a node that may be running; `edgeboot status` says more.\n[Unit]\nConditionPathExists=!{KEEPS_KUBELET}\n"
    );
    let root = host.root.clone();
    let _ = host.blocking(move || root.put(KEEPS_KUBELET, 0o644, text.as_bytes())).await?;
    host.systemd.reload().await
}

/// Lets it start again, where it was kept from it.
pub async fn let_kubelet_start(host: &Host) -> Result<()> {
    if !host.root.exists(KEEPS_KUBELET)? {
        return Ok(());
    }
    let root = host.root.clone();
    let remove = move || {
        let _ = root.remove(KEEPS_KUBELET)?;
        root.remove_empty(Utf8Path::new(KEEPS_KUBELET).parent().unwrap_or(Utf8Path::new("/run"))).map(drop)
    };
    host.blocking(remove).await?;
    host.systemd.reload().await
}
