//! Who listens to a run: the journal, systemd's notify socket, /run/edgeboot/status.json, and a person at a terminal.

use std::io::IsTerminal as _;
use std::sync::Mutex;
use std::time::Duration;

use crate::engine::phase::PhaseId;
use crate::engine::progress::{Event, Listener, PhaseState, RunResult, Status, kind_word};
use crate::host::Root;
use crate::host::notify;
use crate::k8s::names;

use super::print_error;

/// What every tick of a working run asks systemd for: more than two ticks.
const EXTENSION: Duration = Duration::from_secs(30);

/// One line an event into the journal, with fields to filter by: `EDGEBOOT_PHASE=`, `EDGEBOOT_KIND=`, and a `MESSAGE_ID=` an event.
#[derive(Debug)]
pub struct Journal;

impl Listener for Journal {
    fn hear(&self, event: &Event<'_>, status: &Status) {
        match event {
            Event::Started(id, changes) if !changes.is_empty() => {
                let what: Vec<String> = changes.iter().map(|change| change.subject.to_string()).collect();
                tracing::info!(message_id = "5d2c3cf6b1f44d9f9c5a4fa0f7f5a201", edgeboot_phase = id.0, "{id}: {}", what.join(", "));
            }
            Event::Waiting(id, reason) => {
                tracing::info!(
                    message_id = "5d2c3cf6b1f44d9f9c5a4fa0f7f5a202",
                    edgeboot_phase = id.0,
                    "{id}: waiting for {reason}"
                );
            }
            Event::Said(PhaseId(""), line) => tracing::info!("{line}"),
            Event::Said(id, line) => tracing::info!(edgeboot_phase = id.0, "{id}: {line}"),
            Event::Done(id, elapsed, changed, kept) => {
                for kept in *kept {
                    tracing::warn!(edgeboot_phase = id.0, "{id}: keeps {}: {}", kept.subject, kept.difference);
                }
                if *changed {
                    let seconds = elapsed.as_secs_f64();
                    tracing::info!(
                        message_id = "5d2c3cf6b1f44d9f9c5a4fa0f7f5a203",
                        edgeboot_phase = id.0,
                        edgeboot_seconds = seconds,
                        "{id}: done after {seconds:.1} s"
                    );
                }
            }
            Event::Failed(id, _, error) => {
                tracing::error!(
                    message_id = "5d2c3cf6b1f44d9f9c5a4fa0f7f5a204",
                    edgeboot_phase = id.0,
                    edgeboot_kind = kind_word(error.kind()),
                    "{id}: {}",
                    error.render()
                );
            }
            Event::Finished(RunResult::Failed, _) => {
                tracing::error!(message_id = "5d2c3cf6b1f44d9f9c5a4fa0f7f5a206", "{}", status.line());
            }
            Event::Finished(..) => tracing::info!(message_id = "5d2c3cf6b1f44d9f9c5a4fa0f7f5a205", "{}", status.line()),
            Event::Planned(_) | Event::Started(..) | Event::Tick => {}
        }
    }
}

/// Where `tracing` goes: the journal when that is what standard error is connected to, otherwise standard error, at the level that
/// `-v` asks for. Once a process.
pub fn install_tracing(verbosity: u8) {
    use tracing_subscriber::prelude::*;
    let level = match verbosity {
        // kube tells each question that nobody answers yet as an error of its own; the phase that asks says so once.
        0 => "warn,kube_client=off,edgeboot=info",
        1..=4 => "warn,edgeboot=debug",
        _ => "info,edgeboot=trace",
    };
    let filter = tracing_subscriber::EnvFilter::new(level);
    let registry = tracing_subscriber::registry().with(filter);
    let journal = notify::is_journal().then(tracing_journald::layer).and_then(Result::ok);
    // A second subscriber in one process is a test's; the first one stays.
    let _ = match journal {
        Some(layer) => registry.with(layer.with_field_prefix(None).with_syslog_identifier("edgeboot".to_owned())).try_init(),
        None if verbosity > 0 => registry
            .with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr).without_time().with_target(false))
            .try_init(),
        None => return,
    };
}

/// `STATUS=` at each event, `EXTEND_TIMEOUT_USEC=` as long as there is progress, `READY=1` at a good end.
#[derive(Debug)]
pub struct Systemd;

impl Listener for Systemd {
    fn hear(&self, event: &Event<'_>, status: &Status) {
        match event {
            Event::Finished(RunResult::Ready | RunResult::Offline | RunResult::Unconfigured, _) => {
                if let Err(error) = notify::ready(&status.line()) {
                    tracing::error!("{error}");
                }
            }
            Event::Finished(..) => notify::stopping(&status.line()),
            _ => {
                notify::status(&status.line());
                notify::extend_timeout(EXTENSION);
            }
        }
    }
}

/// The whole picture, for `edgeboot status` and whoever follows.
#[derive(Debug)]
pub struct StatusFile(pub Root);

/// Whether a picture is worth writing: a phase that looks, or found nothing to do, is seen in the next one. In a run with nothing to
/// do that is all of them, and each would cost more than the look itself.
fn is_news(event: &Event<'_>) -> bool {
    match event {
        Event::Said(..) => false,
        Event::Started(_, changes) => !changes.is_empty(),
        Event::Done(_, _, changed, kept) => *changed || !kept.is_empty(),
        Event::Planned(_) | Event::Waiting(..) | Event::Failed(..) | Event::Tick | Event::Finished(..) => true,
    }
}

impl Listener for StatusFile {
    fn hear(&self, event: &Event<'_>, status: &Status) {
        if !is_news(event) {
            return;
        }
        let Ok(bytes) = serde_json::to_vec(status) else { return };
        // A status that cannot be written must not stop the work it tells about.
        if let Err(error) = self.0.put(names::STATUS, 0o644, &bytes) {
            tracing::debug!("{error}");
        }
    }
}

/// A person at a terminal: a line for each phase that changed something or waits, and one that is rewritten while time passes.
#[derive(Debug, Default)]
pub struct Terminal {
    rewritable: Mutex<bool>,
}

impl Listener for Terminal {
    fn hear(&self, event: &Event<'_>, status: &Status) {
        match event {
            Event::Said(PhaseId(""), line) => self.line(&format!("[{:6.1} s] {line}", status.seconds)),
            Event::Said(id, line) => self.line(&format!("[{:6.1} s] {id}: {line}", status.seconds)),
            Event::Done(id, elapsed, changed, kept) => {
                if *changed {
                    self.line(&format!("[{:6.1} s] {id}: done ({:.1} s)", status.seconds, elapsed.as_secs_f64()));
                }
                for kept in *kept {
                    self.line(&format!("[{:6.1} s] {id}: keeps {}: {}", status.seconds, kept.subject, kept.difference));
                }
            }
            Event::Failed(id, _, error) => self.line(&format!("[{:6.1} s] {id}: failed: {}", status.seconds, error.render())),
            Event::Waiting(id, reason) => {
                if std::io::stderr().is_terminal() {
                    self.rewrite(&status.line());
                } else {
                    self.line(&format!("[{:6.1} s] {id}: waiting for {reason}", status.seconds));
                }
            }
            Event::Tick => self.rewrite(&status.line()),
            // The failure itself was said, or is what the command ends with.
            Event::Planned(_) | Event::Started(..) | Event::Finished(RunResult::Failed, _) => {}
            Event::Finished(..) => self.line(&format!("[{:6.1} s] {}", status.seconds, status.line())),
        }
    }
}

impl Terminal {
    fn line(&self, text: &str) {
        let mut rewritable = self.rewritable.lock().expect("no panic while it is held");
        if std::mem::take(&mut *rewritable) {
            print_error(&format!("\r\x1b[K{text}"));
        } else {
            print_error(text);
        }
    }

    fn rewrite(&self, text: &str) {
        use std::io::Write as _;
        if !std::io::stderr().is_terminal() {
            return;
        }
        *self.rewritable.lock().expect("no panic while it is held") = true;
        let shown: String = text.chars().take(110).collect();
        let mut out = std::io::stderr().lock();
        if write!(out, "\r\x1b[K{shown}").is_ok() {
            let _ = out.flush();
        }
    }
}

/// The phases of a picture that failed, for the exit code of one who only follows.
pub fn failed_phase(status: &Status) -> Option<&str> {
    status.phases.iter().find(|phase| phase.state == PhaseState::Failed).map(|phase| phase.id.as_str())
}
