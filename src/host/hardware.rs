//! What a machine can be recognised by: its machine-id, what its firmware calls it, and the disk that bears a folder. Pure functions
//! over the tree: they only read, and what is not told, or is told alike by many machines, is a value: nothing.

use std::collections::BTreeSet;

use super::{Root, Utf8Path, Utf8PathBuf, kernel};
use crate::error::Result;

/// Where systemd says that this is a container.
const CONTAINER: &str = "/run/systemd/container";
/// machine-id(5).
const MACHINE_ID: &str = "/etc/machine-id";
/// Where a disk may tell what no other disk tells: SCSI and SATA, NVMe, SD cards, virtio.
const DISK_IDENTITIES: [&str; 5] = ["device/wwid", "wwid", "device/cid", "serial", "device/serial"];
/// Disks may lie on disks (LVM, LUKS, RAID) so deep.
const MOST_LAYERS: u32 = 4;

/// What firmware says when nobody gave it anything to say (lower case).
const PLACEHOLDERS: [&str; 16] = [
    "03000200-0400-0500-0006-000700080009",
    "to be filled by o.e.m.",
    "to be filled by oem",
    "not specified",
    "not settable",
    "not applicable",
    "not available",
    "default string",
    "system serial number",
    "serial number",
    "0123456789",
    "1234567890",
    "123456789",
    "unknown",
    "invalid",
    "none",
];

/// Whether the hardware that shows is another machine's, who contains this one.
pub fn is_container(root: &Root) -> Result<bool> {
    root.exists(CONTAINER)
}

/// The machine-id; empty where there is none, or one that lasts until the power goes: systemd mounts that over the file.
pub fn machine_id(root: &Root) -> Result<String> {
    let is_passing = kernel::mounts(root)?.iter().any(|path| path == MACHINE_ID);
    let id = root.read_text(MACHINE_ID)?.unwrap_or_default().trim().to_lowercase();
    let is_one = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    Ok(if is_one && !is_passing { id } else { String::new() })
}

/// The UUID that the firmware gives this machine (SMBIOS); empty where it tells none.
pub fn product_uuid(root: &Root) -> Result<String> {
    told(root, &["/sys/class/dmi/id/product_uuid"])
}

/// The serial number that the firmware (SMBIOS, or a board's device tree) gives this machine; empty where it tells none.
pub fn product_serial(root: &Root) -> Result<String> {
    told(root, &["/sys/class/dmi/id/product_serial", "/sys/firmware/devicetree/base/serial-number"])
}

fn told(root: &Root, paths: &[&str]) -> Result<String> {
    if is_container(root)? {
        return Ok(String::new());
    }
    for path in paths {
        let text = root.read_text(path)?.map(|text| plain(&text)).unwrap_or_default();
        if tells_one_from_another(&text) {
            return Ok(text);
        }
    }
    Ok(String::new())
}

/// Lower case, without the zero byte that ends a device tree's text, white space made plain.
fn plain(text: &str) -> String {
    kernel::plain_value(text.trim_end_matches('\0')).to_lowercase()
}

/// Whether a text can be one machine's own: none that vendors leave in, and more than one character over and over.
fn tells_one_from_another(text: &str) -> bool {
    let significant: BTreeSet<char> = text.chars().filter(char::is_ascii_alphanumeric).collect();
    significant.len() > 1 && !PLACEHOLDERS.contains(&text)
}

/// The disks under a folder, by what no other disk has; sorted. Empty where they do not tell, and in a container.
pub fn disks_under(root: &Root, folder: &str) -> Result<Vec<String>> {
    if is_container(root)? {
        return Ok(Vec::new());
    }
    let table = root.read_text("/proc/self/mountinfo")?.unwrap_or_default();
    let mut found = BTreeSet::new();
    if let Some(device) = device_under(&table, Utf8Path::new(folder)) {
        disks_of(root, &device, MOST_LAYERS, &mut found)?;
    }
    Ok(found.into_iter().collect())
}

/// The block device of the mount that bears a folder, as sysfs has it. proc_pid_mountinfo(5): the third column is the device's numbers
/// and the fifth the mount point; file systems that span devices have numbers of their own, and name one device after ` - `.
fn device_under(table: &str, folder: &Utf8Path) -> Option<Utf8PathBuf> {
    let mounts = table.lines().filter_map(|line| {
        let columns: Vec<&str> = line.split(' ').collect();
        let point = Utf8Path::new(columns.get(4)?);
        folder.starts_with(point).then(|| (point.as_str().len(), *columns.get(2).unwrap_or(&""), line))
    });
    // Of those at one place the last one is on top.
    let (_, numbers, line) = mounts.max_by_key(|(length, ..)| *length)?;
    if !numbers.starts_with("0:") {
        return Some(Utf8Path::new("/sys/dev/block").join(numbers));
    }
    let source = line.split_once(" - ")?.1.split(' ').nth(1)?;
    let name = source.strip_prefix("/dev/").filter(|name| !name.contains('/'))?;
    Some(Utf8Path::new("/sys/class/block").join(name))
}

fn disks_of(root: &Root, device: &Utf8Path, layers: u32, found: &mut BTreeSet<String>) -> Result<()> {
    let disk = if root.exists(device.join("partition"))? { device.join("..") } else { device.to_owned() };
    let below = root.list(disk.join("slaves"))?.unwrap_or_default();
    if let (false, Some(layers)) = (below.is_empty(), layers.checked_sub(1)) {
        let class = Utf8Path::new("/sys/class/block");
        return below.iter().try_for_each(|name| disks_of(root, &class.join(name), layers, found));
    }
    for path in DISK_IDENTITIES {
        let identity = root.read_text(disk.join(path))?.map(|text| plain(&text)).unwrap_or_default();
        if tells_one_from_another(&identity) && !is_emulated_alike(&identity) {
            found.insert(identity);
            break;
        }
    }
    Ok(())
}

/// QEMU names the disks of every machine alike unless it is told otherwise (`QM00001`, `drive-scsi0`).
fn is_emulated_alike(identity: &str) -> bool {
    identity.contains("qemu")
        || identity.starts_with("qm000")
        || identity.starts_with("drive-")
        || identity.starts_with("nvme.1b36-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().expect("a folder");
        let root = Root::at(folder.path().to_str().expect("UTF-8")).expect("a tree");
        for (path, text) in files {
            assert!(root.put(path, 0o644, text.as_bytes()).expect("placed").is_yes());
        }
        (folder, root)
    }

    #[test]
    fn what_vendors_leave_in_tells_nothing() {
        for (text, expected) in [
            ("4C4C4544-0042-3510-8051-B4C04F4D4D32", "4c4c4544-0042-3510-8051-b4c04f4d4d32"),
            ("00000000-0000-0000-0000-000000000000", ""),
            ("FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", ""),
            ("03000200-0400-0500-0006-000700080009", ""),
            ("To Be Filled By O.E.M.", ""),
            ("Not Specified", ""),
            ("Default string", ""),
            ("  ", ""),
            ("xxxxxxxx", ""),
        ] {
            let (_folder, root) = root(&[("/sys/class/dmi/id/product_uuid", &format!("{text}\n"))]);
            assert_eq!(product_uuid(&root).expect("looked"), expected, "{text}");
        }
    }

    #[test]
    fn a_board_without_dmi_is_known_by_its_device_tree_and_a_container_by_neither() {
        let serial = ("/sys/firmware/devicetree/base/serial-number", "10000000abcdef01\0");
        let (_folder, board) = root(&[serial]);
        assert_eq!(product_serial(&board).expect("looked"), "10000000abcdef01");
        let (_folder, container) = root(&[serial, ("/run/systemd/container", "systemd-nspawn")]);
        assert_eq!(product_serial(&container).expect("looked"), "");
        assert_eq!(disks_under(&container, "/var").expect("looked"), Vec::<String>::new());
    }

    #[test]
    fn a_machine_id_that_lasts_until_the_power_goes_tells_nothing() {
        let id = "0123456789abcdef0123456789abcdef";
        for (mounts, text, expected) in [
            ("/dev/vda1 / ext4 rw 0 0\n", id, id),
            ("/dev/vda1 / ext4 rw 0 0\ntmpfs /etc/machine-id tmpfs ro 0 0\n", id, ""),
            ("", "uninitialized", ""),
        ] {
            let (_folder, root) = root(&[("/proc/self/mounts", mounts), ("/etc/machine-id", &format!("{text}\n"))]);
            assert_eq!(machine_id(&root).expect("looked"), expected, "{mounts}{text}");
        }
    }

    #[test]
    fn the_disk_under_a_folder_is_found_through_partitions_and_layers() {
        let plain = "22 1 8:2 / / rw - ext4 /dev/sda2 rw\n23 22 8:3 / /var rw - ext4 /dev/sda3 rw\n";
        let spanning = "22 1 0:30 / / rw - btrfs /dev/sda2 rw\n";
        let mapped = "22 1 253:0 / / rw - ext4 /dev/mapper/root rw\n";
        let memory = "22 1 0:31 / / rw - tmpfs tmpfs rw\n";
        for (table, expected) in
            [(plain, vec!["naa.5002538e"]), (spanning, vec!["naa.5002538e"]), (mapped, vec!["naa.5002538e"]), (memory, vec![])]
        {
            let (folder, root) = root(&[
                ("/proc/self/mountinfo", table),
                ("/sys/devices/ata1/block/sda/device/wwid", "naa.5002538E\n"),
                ("/sys/devices/ata1/block/sda/sda2/partition", "2\n"),
                ("/sys/devices/ata1/block/sda/sda3/partition", "3\n"),
                ("/sys/devices/virtual/block/dm-0/slaves/sda2/partition", "2\n"),
            ]);
            assert!(folder.path().exists());
            for (link, target) in [
                ("/sys/dev/block/8:2", "../../devices/ata1/block/sda/sda2"),
                ("/sys/dev/block/8:3", "../../devices/ata1/block/sda/sda3"),
                ("/sys/dev/block/253:0", "../../devices/virtual/block/dm-0"),
                ("/sys/class/block/sda2", "../../devices/ata1/block/sda/sda2"),
            ] {
                assert!(root.link(link, target).expect("linked").is_yes());
            }
            assert_eq!(disks_under(&root, "/var/lib/edgeboot").expect("looked"), expected, "{table}");
        }
    }

    #[test]
    fn disks_that_qemu_names_alike_tell_nothing() {
        for identity in ["t10.ata qemu harddisk qm00001", "drive-scsi0", "qm00005", "nvme.1b36-666f6f"] {
            assert!(is_emulated_alike(identity), "{identity}");
        }
        assert!(!is_emulated_alike("eui.0025385b71b0a1c2"));
    }
}
