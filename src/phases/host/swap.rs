//! Swap, where it is to be off: what pulls swap in at boot is masked, and what is on is stopped, by systemd.

use super::UNIT;
use crate::config::node::Swap;
use crate::engine::context::Context;
use crate::engine::phase::{Action, Change, Drift, Subject};
use crate::error::{Error, Result};
use crate::host::{Deadline, Utf8Path, kernel};

/// Everything that is swapped to at boot is wanted by this target: fstab's, the partition table's, and compressed memory.
const TARGET: &str = "swap.target";
const TARGET_MASK: &str = "/etc/systemd/system/swap.target";
/// What a masked unit is linked to (systemd.unit(5)).
const NOTHING: &str = "/dev/null";

pub(super) fn inspect(cx: &Context) -> Result<Drift> {
    let mut drift = Drift::none();
    if cx.node.host.swap == Swap::Keep {
        return Ok(drift);
    }
    if !is_masked(cx)? {
        drift.changes.push(Change::new(Subject::Unit(TARGET.to_owned()), Action::Remove).because("swap is to be off"));
    }
    for area in kernel::swaps(&cx.host.root)? {
        drift.changes.push(Change::new(Subject::Unit(unit_of(&area.path)), Action::Remove).because("swap is to be off"));
    }
    Ok(drift)
}

pub(super) async fn apply(cx: &Context) -> Result<()> {
    if cx.node.host.swap == Swap::Keep {
        return Ok(());
    }
    if !is_masked(cx)? {
        cx.place_link(TARGET_MASK, NOTHING).await.map(drop)?;
        cx.host.systemd.reload().await?;
    }
    for area in kernel::swaps(&cx.host.root)? {
        let unit = unit_of(&area.path);
        cx.waiting_for(format!("{} to be swapped in", area.path));
        let deadline = Deadline::after(UNIT, format!("{unit} to stop"));
        cx.host.systemd.stop(&unit, &deadline).await.map(drop)?;
    }
    match kernel::swaps(&cx.host.root)?.first() {
        None => Ok(()),
        Some(area) => Err(Error::host(format!("turning off swap on {}", area.path))
            .because("it is still on")
            .hint(format!("`swapoff {}` as root, or keep it: `host: {{swap: keep}}`", area.path))),
    }
}

fn is_masked(cx: &Context) -> Result<bool> {
    Ok(cx.host.root.read_link(TARGET_MASK)?.as_deref() == Some(Utf8Path::new(NOTHING)))
}

/// The unit systemd has for a swap area (systemd.unit(5), "String Escaping for Inclusion in Unit Names").
fn unit_of(path: &str) -> String {
    let mut name = String::new();
    for (at, byte) in path.trim_matches('/').bytes().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if at == 0 => name.push_str("\\x2e"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b':' | b'_' | b'.' => name.push(char::from(byte)),
            _ => name.extend(format!("\\x{byte:02x}").chars()),
        }
    }
    name + ".swap"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_area_has_the_unit_that_systemd_escape_names() {
        for (path, unit) in [
            ("/dev/sda2", "dev-sda2.swap"),
            ("/dev/mapper/vg-swap", "dev-mapper-vg\\x2dswap.swap"),
            ("/swap file.img", "swap\\x20file.img.swap"),
            ("/.swap", "\\x2eswap.swap"),
        ] {
            assert_eq!(unit_of(path), unit);
        }
    }
}
