//! The door behind placeholders: what this machine tells of itself, or why it does not.

use crate::config::placeholders::{Answer, Name};
use crate::host::{Root, hardware, kernel};
use crate::k8s::names;

use super::credentials;

/// What the machine answers to a placeholder.
pub fn tell(root: &Root, name: Name<'_>) -> Answer {
    let failed = |error: crate::error::Error| error.to_string();
    let said = |text: String, why: &str| if text.is_empty() { Err(why.to_owned()) } else { Ok(text) };
    match name {
        Name::MachineId => said(hardware::machine_id(root).map_err(failed)?, "/etc/machine-id holds none that lasts"),
        Name::DmiSerial => said(hardware::product_serial(root).map_err(failed)?, "the firmware tells none"),
        Name::Hostname => {
            let name = kernel::hostname(root).map_err(failed)?;
            let is_everybodys = matches!(name.as_str(), "(none)" | "localhost") || name.starts_with("localhost.");
            said(if is_everybodys { String::new() } else { name }, "this machine has no name of its own yet")
        }
        Name::InstanceId | Name::InstanceIp => Err("no cloud's metadata is asked in this version of edgeboot".to_owned()),
        Name::Mac(interface) => {
            let text = root.read_text(format!("/sys/class/net/{interface}/address")).map_err(failed)?.unwrap_or_default();
            said(text.trim().to_owned(), "there is no such interface")
        }
        Name::Credential(name) => {
            let path = credentials::find(root, name).unwrap_or_else(|| format!("{}/{name}", names::CREDENTIALS_DIR));
            said(root.read_text(path).map_err(failed)?.unwrap_or_default().trim().to_owned(), "there is no such credential")
        }
    }
}
