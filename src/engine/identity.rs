//! Whether this is the machine that the state was written on. A disk is copied with all that is on it, its machine-id as well; so three
//! things are held together: the machine-id, what the firmware calls the machine, and the disk under the state. What one of them does
//! not tell counts neither way.

use std::fmt;

use crate::error::Result;
use crate::host::{Root, hardware};
use crate::k8s::names;

use super::state::MachineIdentity;

/// What this machine is to the one that the state was written on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recognised {
    /// It is the same, or nothing says otherwise.
    Same,
    /// It is the same, and has another machine-id now.
    Renewed,
    /// The disk is the same, and the hardware is another: it was moved, or the board was replaced. There are no two of it.
    Moved,
    /// The state was copied: the machine that it was written on may well be running.
    Copied,
}

/// One thing of two machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compared {
    Alike,
    Different,
    Untold,
}

impl Compared {
    fn of<T: PartialEq>(then: Option<T>, now: Option<T>) -> Compared {
        match (then, now) {
            (Some(then), Some(now)) if then == now => Compared::Alike,
            (Some(_), Some(_)) => Compared::Different,
            _ => Compared::Untold,
        }
    }
    /// Both must agree where both are told: vendors give many machines one of them.
    fn with(self, other: Compared) -> Compared {
        match (self, other) {
            (Compared::Different, _) | (_, Compared::Different) => Compared::Different,
            (Compared::Alike, _) | (_, Compared::Alike) => Compared::Alike,
            (Compared::Untold, Compared::Untold) => Compared::Untold,
        }
    }
}

impl MachineIdentity {
    /// What this machine says now.
    pub fn of(root: &Root) -> Result<MachineIdentity> {
        Ok(MachineIdentity {
            machine_id: hardware::machine_id(root)?,
            product_uuid: hardware::product_uuid(root)?,
            product_serial: hardware::product_serial(root)?,
            disks: hardware::disks_under(root, names::EDGEBOOT_DIR)?,
        })
    }

    /// What `now` is to the machine that this was recorded on.
    pub fn recognise(&self, now: &MachineIdentity) -> Recognised {
        use Compared::{Alike, Different, Untold};
        let told = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let uuid = |text: &str| told(text).map(|text| order_free(&text));
        let id = Compared::of(told(&self.machine_id), told(&now.machine_id));
        let hardware = Compared::of(uuid(&self.product_uuid), uuid(&now.product_uuid))
            .with(Compared::of(told(&self.product_serial), told(&now.product_serial)));
        let disk = match (self.disks.is_empty() || now.disks.is_empty(), self.disks.iter().any(|disk| now.disks.contains(disk))) {
            (true, _) => Untold,
            (false, true) => Alike,
            (false, false) => Different,
        };
        match (hardware, disk, id) {
            // A disk is in one machine at a time.
            (Different, Alike, _) => Recognised::Moved,
            // Neither hardware nor disk is anybody else's: the machine-id was made again. In the hardware that is known, a disk that
            // was copied onto a new one is a repair.
            (Alike, _, Different) | (Untold, Alike, Different) => Recognised::Renewed,
            (Alike, ..) | (Untold, Alike, _) | (Untold, Untold, Alike | Untold) => Recognised::Same,
            (Different, ..) | (Untold, Different, _) | (Untold, Untold, Different) => Recognised::Copied,
        }
    }

    /// What is told now, and of the rest what was told before.
    #[must_use]
    pub fn brought_up_to(self, now: MachineIdentity) -> MachineIdentity {
        let newer = |before: String, now: String| if now.is_empty() { before } else { now };
        MachineIdentity {
            machine_id: newer(self.machine_id, now.machine_id),
            product_uuid: newer(self.product_uuid, now.product_uuid),
            product_serial: newer(self.product_serial, now.product_serial),
            disks: if now.disks.is_empty() { self.disks } else { now.disks },
        }
    }
}

/// A UUID whose first three groups may be written in either byte order: firmware and hypervisors changed their mind about it.
fn order_free(uuid: &str) -> String {
    let groups: Vec<&str> = uuid.split('-').collect();
    if groups.len() != 5 || !uuid.is_ascii() {
        return uuid.to_owned();
    }
    let swapped = |group: &str| group.as_bytes().chunks(2).rev().map(String::from_utf8_lossy).collect::<String>();
    let other = [&swapped(groups[0]), &swapped(groups[1]), &swapped(groups[2]), groups[3], groups[4]].join("-");
    other.min(uuid.to_owned())
}

/// For people: what is told, in words.
impl fmt::Display for MachineIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |name: &str, text: &str| (!text.is_empty()).then(|| format!("{name} {text}"));
        let told = [
            one("machine-id", &self.machine_id),
            one("product UUID", &self.product_uuid),
            one("serial number", &self.product_serial),
            one("disk", &self.disks.join(" and ")),
        ];
        let told: Vec<String> = told.into_iter().flatten().collect();
        f.write_str(if told.is_empty() { "nothing that tells it from others" } else { "" })?;
        f.write_str(&told.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "4c4c4544-0042-3510-8051-b4c04f4d4d32";
    const OTHER: &str = "11111111-2222-3333-4444-555555555556";

    fn machine(id: &str, uuid: &str, serial: &str, disks: &[&str]) -> MachineIdentity {
        MachineIdentity {
            machine_id: id.to_owned(),
            product_uuid: uuid.to_owned(),
            product_serial: serial.to_owned(),
            disks: disks.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn a_machine_is_recognised_by_machine_id_hardware_and_disk_together() {
        use Recognised::{Copied, Moved, Renewed, Same};
        let recorded = machine("aa", UUID, "", &["wwn-1"]);
        // Machine-id, hardware, disk: each alike (+), different (-) or untold (?).
        let table = [
            ("+++", Same),
            ("++-", Same),
            ("++?", Same),
            ("+-+", Moved),
            ("+--", Copied),
            ("+-?", Copied),
            ("+?+", Same),
            ("+?-", Copied),
            ("+??", Same),
            ("-++", Renewed),
            ("-+-", Renewed),
            ("-+?", Renewed),
            ("--+", Moved),
            ("---", Copied),
            ("--?", Copied),
            ("-?+", Renewed),
            ("-?-", Copied),
            ("-??", Copied),
            ("?++", Same),
            ("?+-", Same),
            ("?+?", Same),
            ("?-+", Moved),
            ("?--", Copied),
            ("?-?", Copied),
            ("??+", Same),
            ("??-", Copied),
            ("???", Same),
        ];
        for (row, expected) in table {
            let pick = |at: usize, alike: &'static str, different: &'static str| match row.as_bytes()[at] {
                b'+' => alike,
                b'-' => different,
                _ => "",
            };
            let disk = pick(2, "wwn-1", "wwn-2");
            let now = machine(
                pick(0, "aa", "bb"),
                pick(1, UUID, OTHER),
                "",
                if disk.is_empty() { &[] } else { std::slice::from_ref(&disk) },
            );
            assert_eq!(recorded.recognise(&now), expected, "{row}");
        }
    }

    #[test]
    fn nothing_recorded_is_nobody_else() {
        let now = machine("aa", UUID, "s1", &["wwn-1"]);
        assert_eq!(MachineIdentity::default().recognise(&now), Recognised::Same);
        assert_eq!(now.recognise(&MachineIdentity::default()), Recognised::Same);
    }

    #[test]
    fn the_firmwares_two_words_must_agree_and_its_byte_order_does_not_matter() {
        let recorded = machine("", UUID, "s1", &[]);
        for (uuid, serial, expected) in [
            (UUID, "s1", Recognised::Same),
            ("44454c4c-4200-1035-8051-b4c04f4d4d32", "s1", Recognised::Same),
            (UUID, "", Recognised::Same),
            ("", "s1", Recognised::Same),
            // Boards of one batch may all have one UUID.
            (UUID, "s2", Recognised::Copied),
            (OTHER, "s1", Recognised::Copied),
        ] {
            assert_eq!(recorded.recognise(&machine("", uuid, serial, &[])), expected, "{uuid} {serial}");
        }
    }

    #[test]
    fn one_disk_of_a_mirror_is_enough() {
        let recorded = machine("aa", UUID, "", &["wwn-1", "wwn-2"]);
        assert_eq!(recorded.recognise(&machine("aa", OTHER, "", &["wwn-2", "wwn-3"])), Recognised::Moved);
    }

    #[test]
    fn what_is_not_told_today_is_remembered() {
        let before = machine("aa", UUID, "s1", &["wwn-1"]);
        let now = machine("bb", "", "", &[]);
        assert_eq!(before.brought_up_to(now), machine("bb", UUID, "s1", &["wwn-1"]));
    }

    #[test]
    fn a_machine_is_named_by_what_it_tells() {
        assert_eq!(machine("aa", "", "s1", &["w1", "w2"]).to_string(), "machine-id aa, serial number s1, disk w1 and w2");
        assert_eq!(MachineIdentity::default().to_string(), "nothing that tells it from others");
    }
}
