//! The machine's systemd: what is asked of it, and how a failure is told.

use std::time::Duration;

use async_trait::async_trait;
use zbus::{OwnedVariant, fdo};

use crate::error::{Error, Kind, Result};

use super::bus::{self, Bus, MANAGER, MANAGER_PATH, Properties};
use super::job::{self, Ended, Verb};
use super::{Changed, Deadline, Systemd, UnitStatus};

/// How many journal lines a failure shows.
const JOURNAL_LINES: u32 = 20;
/// How long reading them may take: it happens on a machine that is in trouble.
const JOURNAL_TIME: Duration = Duration::from_secs(5);

/// systemd of this machine.
#[derive(Debug)]
pub(super) struct Machine {
    bus: Bus,
    journal_program: &'static str,
}

impl Machine {
    pub(super) fn new() -> Machine {
        Machine { bus: Bus::machine(), journal_program: "journalctl" }
    }
    #[cfg(test)]
    pub(super) fn over(bus: Bus, journal_program: &'static str) -> Machine {
        Machine { bus, journal_program }
    }

    /// Queues a job, waits for its end, and judges what came of it.
    async fn run(&self, verb: Verb, unit: &str, deadline: &Deadline) -> Result<()> {
        let doing = || format!("{} {unit}", verb.doing());
        let ended = match deadline.bound(job::run(&self.bus, verb, unit)).await {
            Ok(ended) => ended.map_err(|error| bus::failure(doing(), unit, error))?,
            Err(exceeded) => {
                let Ok(seen) = self.seen(unit).await else { return Err(exceeded.while_doing(doing())) };
                let why = format!("{exceeded}; {}", self.story(unit, &seen).await);
                return Err(Error::new(Kind::Transient, doing()).because(why).hint(more(unit)));
            }
        };
        let result = match ended {
            Ended::With(result) => result,
            Ended::BehindUs(own) => {
                return Err(Error::host(doing())
                    .because(format!("it is queued, but ordered after {own}, in which edgeboot runs: waiting would never end"))
                    .hint(format!("take {own} out of the After= of {unit} and what it is after")));
            }
        };
        let seen = self.seen(unit).await?;
        let wrong = match (result.as_str(), verb) {
            ("done", Verb::Stop) => None,
            ("done", _) => seen.not_up(),
            // A start that had nothing to do.
            ("skipped", _) if seen.status.is_active() => None,
            (other, _) => Some(format!("{} ({other})", job::meaning(other))),
        };
        let Some(wrong) = wrong else { return Ok(()) };
        let kind = if result == "canceled" { Kind::Transient } else { Kind::Host };
        let why = format!("{wrong}; {}", self.story(unit, &seen).await);
        Err(Error::new(kind, doing()).because(why).hint(more(unit)))
    }

    async fn seen(&self, unit: &str) -> Result<Seen> {
        let properties = self.bus.properties(unit).await;
        properties
            .map(|properties| Seen::read(&properties))
            .map_err(|error| bus::failure(format!("asking about {unit}"), unit, error))
    }

    /// How a unit is, in systemd's words, and its last journal lines.
    async fn story(&self, unit: &str, seen: &Seen) -> String {
        let UnitStatus { active_state, sub_state, result, exec_main_status, n_restarts, .. } = &seen.status;
        let restarts = if *n_restarts > 0 { format!(", restarted {n_restarts} times") } else { String::new() };
        let mut story =
            format!("{unit} is {active_state} ({sub_state}), result {result}, exit status {exec_main_status}{restarts}");
        for line in self.journal(unit, JOURNAL_LINES).await {
            story.push_str("\n    ");
            story.push_str(&line);
        }
        story
    }

    /// As it is on disk now: the unit's own property may be older.
    async fn unit_file_state(&self, unit: &str) -> zbus::Result<Option<String>> {
        match self.bus.manager("GetUnitFileState", &unit).await {
            Ok(reply) => reply.body().deserialize().map(Some),
            Err(zbus::Error::FDO(error)) if matches!(*error, fdo::Error::FileNotFound(_)) => Ok(None),
            Err(zbus::Error::MethodError(name, ..)) if name.as_str() == "org.freedesktop.systemd1.NoSuchUnit" => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl Systemd for Machine {
    async fn reload(&self) -> Result<()> {
        let reply = self.bus.manager("Reload", &()).await;
        reply.map(drop).map_err(|error| bus::failure("letting systemd read its units again", "", error))
    }

    async fn enable(&self, unit: &str, runtime: bool) -> Result<Changed> {
        let failure = |error| bus::failure(format!("enabling {unit}"), unit, error);
        let state = self.unit_file_state(unit).await.map_err(failure)?.unwrap_or_default();
        let is_so = match state.as_str() {
            "enabled" | "static" | "alias" | "generated" | "transient" => true,
            "enabled-runtime" => runtime,
            _ => false,
        };
        if is_so {
            return Ok(Changed::No);
        }
        let force = false;
        let reply = self.bus.manager("EnableUnitFiles", &(vec![unit], runtime, force)).await.map_err(failure)?;
        let (_, changes): (bool, Vec<(String, String, String)>) = reply.body().deserialize().map_err(failure)?;
        Ok(if changes.is_empty() { Changed::No } else { Changed::Yes })
    }

    async fn disable(&self, unit: &str) -> Result<Changed> {
        let failure = |error| bus::failure(format!("disabling {unit}"), unit, error);
        let runtime = match self.unit_file_state(unit).await.map_err(failure)?.as_deref() {
            Some("enabled") => false,
            Some("enabled-runtime") => true,
            _ => return Ok(Changed::No),
        };
        let reply = self.bus.manager("DisableUnitFiles", &(vec![unit], runtime)).await.map_err(failure)?;
        let changes: Vec<(String, String, String)> = reply.body().deserialize().map_err(failure)?;
        Ok(if changes.is_empty() { Changed::No } else { Changed::Yes })
    }

    async fn start(&self, unit: &str, deadline: &Deadline) -> Result<Changed> {
        if self.seen(unit).await?.status.is_active() {
            return Ok(Changed::No);
        }
        self.run(Verb::Start, unit, deadline).await.map(|()| Changed::Yes)
    }

    async fn start_without_waiting(&self, unit: &str) -> Result<()> {
        let reply = self.bus.manager("StartUnit", &(unit, "replace")).await;
        reply.map(drop).map_err(|error| bus::failure(format!("queueing the start of {unit}"), unit, error))
    }

    async fn restart(&self, unit: &str, deadline: &Deadline) -> Result<()> {
        self.run(Verb::Restart, unit, deadline).await
    }

    async fn stop(&self, unit: &str, deadline: &Deadline) -> Result<Changed> {
        let seen = self.seen(unit).await?;
        if matches!(seen.status.active_state.as_str(), "inactive" | "failed") {
            return Ok(Changed::No);
        }
        self.run(Verb::Stop, unit, deadline).await.map(|()| Changed::Yes)
    }

    async fn status(&self, unit: &str) -> Result<Option<UnitStatus>> {
        let (seen, state) = tokio::join!(self.seen(unit), self.unit_file_state(unit));
        let mut status = seen?.status;
        if status.load_state == "not-found" {
            return Ok(None);
        }
        // Units without a file (mounts, scopes) have no such state, and the property says so.
        if let Ok(Some(state)) = state {
            status.unit_file_state = state;
        }
        Ok(Some(status))
    }

    #[expect(clippy::disallowed_methods, reason = "the door, and one of the two programs edgeboot starts")]
    async fn journal(&self, unit: &str, lines: u32) -> Vec<String> {
        // Of the unit's last run only, its own lines and systemd's about it; `--boot` would ask for the kernel's boot id, which is
        // another one inside some sandboxes.
        let run = hex::encode(self.bus.invocation(unit).await.unwrap_or_default());
        let which = if run.is_empty() {
            vec!["--unit".to_owned(), unit.to_owned()]
        } else {
            vec![format!("_SYSTEMD_INVOCATION_ID={run}"), "+".to_owned(), format!("INVOCATION_ID={run}")]
        };
        let mut command = tokio::process::Command::new(self.journal_program);
        command.args(["--lines", &lines.to_string(), "--no-pager", "--output", "cat"]).args(which);
        command.kill_on_drop(true);
        // A missing or hanging journal must not hide the failure that it was asked for.
        let Ok(Ok(output)) = tokio::time::timeout(JOURNAL_TIME, command.output()).await else { return Vec::new() };
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }

    async fn set_static_hostname(&self, name: &str) -> Result<()> {
        let nobody_is_asked = false;
        let set = self.bus.hostnamed("SetStaticHostname", &(name, nobody_is_asked)).await;
        let doing = || format!("naming the machine '{name}'");
        set.map(drop).map_err(|error| match &error {
            unknown if bus::is_not_installed(unknown) => Error::host(doing())
                .because("systemd-hostnamed, which does it, is not on this machine")
                .hint("install it (it comes with systemd), or name the machine in the image's /etc/hostname and leave `host.hostname` out"),
            zbus::Error::MethodError(..) => Error::host(doing()).because(error).hint(
                "`hostnamectl set-hostname` as root says the same; where /etc cannot be written, name the machine in the image's \
                 /etc/hostname and leave `host.hostname` out",
            ),
            _ => bus::failure(doing(), "systemd-hostnamed.service", error),
        })
    }

    async fn set_environment(&self, assignments: &[String]) -> Result<Changed> {
        let failure = |error| bus::failure("setting the environment of units", "", error);
        let reply = self.bus.call(MANAGER_PATH, "org.freedesktop.DBus.Properties", "Get", &(MANAGER, "Environment")).await;
        let value: OwnedVariant = reply.and_then(|reply| reply.body().deserialize()).map_err(failure)?;
        let there = Vec::<String>::try_from(value).map_err(failure)?;
        if assignments.iter().all(|assignment| there.contains(assignment)) {
            return Ok(Changed::No);
        }
        self.bus.manager("SetEnvironment", &assignments).await.map_err(failure)?;
        Ok(Changed::Yes)
    }
}

fn more(unit: &str) -> String {
    format!("`systemctl status {unit}` and `journalctl -b -u {unit}` say more")
}

/// A unit with what a failure's message needs besides.
struct Seen {
    status: UnitStatus,
    oneshot: bool,
    unmet: Vec<String>,
}

/// A row of `Conditions`: type, trigger, negate, parameter, state (negative: it did not hold).
type ConditionRow = (String, bool, bool, String, i32);

impl Seen {
    fn read(properties: &Properties) -> Seen {
        let text = |name: &str| properties.get(name).and_then(|value| <&str>::try_from(value).ok()).unwrap_or_default().to_owned();
        let number = |name: &str| properties.get(name).and_then(|value| u32::try_from(value).ok()).unwrap_or_default();
        let status = UnitStatus {
            load_state: text("LoadState"),
            active_state: text("ActiveState"),
            sub_state: text("SubState"),
            unit_file_state: text("UnitFileState"),
            result: text("Result"),
            exec_main_status: properties.get("ExecMainStatus").and_then(|value| i32::try_from(value).ok()).unwrap_or_default(),
            n_restarts: number("NRestarts"),
            main_pid: number("MainPID"),
            need_daemon_reload: flag(properties, "NeedDaemonReload"),
        };
        let unmet = if flag(properties, "ConditionResult") { Vec::new() } else { unmet_conditions(properties) };
        Seen { status, oneshot: text("Type") == "oneshot", unmet }
    }

    /// Why a unit whose start is done is nevertheless not up; `None` when it is.
    fn not_up(&self) -> Option<String> {
        if self.status.is_active() || self.status.active_state == "reloading" {
            return None;
        }
        if !self.unmet.is_empty() {
            return Some(format!("it was not started, because {} does not hold", self.unmet.join(", ")));
        }
        let ended_well = self.oneshot && self.status.active_state == "inactive" && self.status.result == "success";
        if ended_well { None } else { Some("it started, and did not stay up".to_owned()) }
    }
}

fn flag(properties: &Properties, name: &str) -> bool {
    properties.get(name).and_then(|value| bool::try_from(value).ok()).unwrap_or_default()
}

fn unmet_conditions(properties: &Properties) -> Vec<String> {
    let Some(conditions) = properties.get("Conditions").and_then(|value| value.try_clone().ok()) else { return Vec::new() };
    let rows = Vec::<ConditionRow>::try_from(conditions).unwrap_or_default();
    let failed = rows.into_iter().filter(|(.., state)| *state < 0);
    failed.map(|(kind, _, negate, parameter, _)| format!("{kind}={}{parameter}", if negate { "!" } else { "" })).collect()
}
