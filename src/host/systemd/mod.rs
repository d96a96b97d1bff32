//! systemd over D-Bus: units are enabled, started and judged by the job's own result, never by polling where an event exists and
//! never through `systemctl`.

mod bus;
mod job;
mod machine;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;

use crate::error::Result;

use super::{Changed, Deadline};

/// What systemd says about a unit (systemd's own words).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitStatus {
    /// `loaded`, `not-found`, `masked` …
    pub load_state: String,
    /// `active`, `activating`, `inactive`, `failed` …
    pub active_state: String,
    /// `running`, `exited`, `auto-restart` …
    pub sub_state: String,
    /// `enabled`, `enabled-runtime`, `disabled`, `static`, empty …
    pub unit_file_state: String,
    /// `success`, `exit-code`, `signal`, `timeout`, `protocol` …
    pub result: String,
    /// The exit status of the main process.
    pub exec_main_status: i32,
    /// Restarts by systemd itself.
    pub n_restarts: u32,
    /// The main process; 0 when there is none.
    pub main_pid: u32,
    /// The unit's file changed since systemd read it.
    pub need_daemon_reload: bool,
}

impl UnitStatus {
    /// Whether it is up.
    pub fn is_active(&self) -> bool {
        self.active_state == "active"
    }
    /// Whether it starts at boot.
    pub fn is_enabled(&self) -> bool {
        matches!(self.unit_file_state.as_str(), "enabled" | "enabled-runtime" | "static" | "alias" | "generated")
    }
}

/// The service manager.
#[async_trait]
pub trait Systemd: Send + Sync + std::fmt::Debug {
    /// Reads the unit files again (`Manager.Reload`).
    async fn reload(&self) -> Result<()>;
    /// Lets a unit start at boot (`EnableUnitFiles`); in /run only when `runtime`.
    async fn enable(&self, unit: &str, runtime: bool) -> Result<Changed>;
    /// The opposite of [`Systemd::enable`].
    async fn disable(&self, unit: &str) -> Result<Changed>;
    /// Starts a unit and waits for its job; nothing to do when it is active. Fails with the unit's state, its result and its last
    /// journal lines.
    async fn start(&self, unit: &str, deadline: &Deadline) -> Result<Changed>;
    /// Queues the start without waiting for it: for units that are ordered after our own.
    async fn start_without_waiting(&self, unit: &str) -> Result<()>;
    /// Stops and starts a unit (starts it when it is not active) and waits for the job.
    async fn restart(&self, unit: &str, deadline: &Deadline) -> Result<()>;
    /// Stops a unit and waits for the job; nothing to do when it is not active.
    async fn stop(&self, unit: &str, deadline: &Deadline) -> Result<Changed>;
    /// What systemd says about a unit; `None` when it knows of no such unit.
    async fn status(&self, unit: &str) -> Result<Option<UnitStatus>>;
    /// The last journal lines of a unit, for a failure's message.
    async fn journal(&self, unit: &str, lines: u32) -> Vec<String>;
    /// Environment variables for every unit started from now on (`Manager.SetEnvironment`), as `NAME=value`.
    async fn set_environment(&self, assignments: &[String]) -> Result<Changed>;
    /// Names the machine, now and at each boot (systemd-hostnamed's `SetStaticHostname`); an empty name takes it away.
    async fn set_static_hostname(&self, name: &str) -> Result<()>;
}

/// The machine's own.
pub fn machine() -> Arc<dyn Systemd> {
    Arc::new(machine::Machine::new())
}
