//! The one event stream of a run. Phases say what they wait for, the engine says what starts and ends; listeners turn that into
//! journal lines, `STATUS=`, `EXTEND_TIMEOUT_USEC=`, /run/edgeboot/status.json and a line on the terminal. Times are monotonic.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::error::{Error, Kind};

use super::phase::{Change, Kept, PhaseId};

/// Something that happened in a run.
#[derive(Debug)]
pub enum Event<'a> {
    /// The plan is made: these phases, in boot order.
    Planned(&'a [PhaseId]),
    /// A phase has changes to make.
    Started(PhaseId, &'a [Change]),
    /// A phase waits for something.
    Waiting(PhaseId, &'a str),
    /// A phase says something for the journal.
    Said(PhaseId, &'a str),
    /// A phase is done, after this long; whether it had anything to change, and what of others it kept.
    Done(PhaseId, Duration, bool, &'a [Kept]),
    /// A phase failed, after this long.
    Failed(PhaseId, Duration, &'a Error),
    /// Time passes while phases work or wait within their deadlines.
    Tick,
    /// The run is over.
    Finished(RunResult, Duration),
}

/// How a run ended, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunResult {
    /// Still on its way.
    Running,
    /// The machine is what it shall be.
    Ready,
    /// It is, as far as can be told without a network.
    Offline,
    /// No configuration yet.
    Unconfigured,
    /// Stopped by a signal; carries on when started again.
    Interrupted,
    /// Failed.
    Failed,
}

/// Who listens to a run.
pub trait Listener: Send + Sync {
    /// Something happened; `status` is the whole picture after it.
    fn hear(&self, event: &Event<'_>, status: &Status);
}

/// The whole picture of a run: what status.json holds and `edgeboot status` prints.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Of this format.
    pub schema: u32,
    /// Which run this is: the process that makes it.
    #[serde(default)]
    pub run: u32,
    /// How it stands.
    pub result: RunResult,
    /// The node's name, once known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// Seconds since the run started.
    pub seconds: f64,
    /// What is looked for while there is no configuration; empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Every phase of the plan, in boot order.
    pub phases: Vec<PhaseStatus>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// How a phase stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PhaseStatus {
    /// Its id.
    pub id: String,
    /// How it stands.
    pub state: PhaseState,
    /// What it waits for; empty when it does not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub waiting_for: String,
    /// Seconds it took, or has taken so far.
    pub seconds: f64,
    /// Seconds from the start of the run to its own.
    pub started: f64,
    /// What of others it kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<String>,
}

/// How a phase stands, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PhaseState {
    /// Its turn has not come.
    Pending,
    /// At work.
    Running,
    /// It made changes, and they are proven.
    Done,
    /// It found nothing to change.
    Unchanged,
    /// It failed.
    Failed,
}

/// A failure, for programs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The phase; empty when it was none.
    pub phase: String,
    /// `transient`, `host` …
    pub kind: String,
    /// What was being done, to what, and why it failed.
    pub message: String,
    /// What to do now.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
}

impl Failure {
    /// A failure for programs.
    pub fn of(phase: &str, error: &Error) -> Failure {
        Failure {
            phase: phase.to_owned(),
            kind: kind_word(error.kind()).to_owned(),
            message: error.to_string(),
            hint: error.remedy().unwrap_or_default().to_owned(),
        }
    }
}

/// A kind in one word, as status.json and the journal write it.
pub fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Usage => "usage",
        Kind::Config => "config",
        Kind::Rejected => "rejected",
        Kind::Transient => "transient",
        Kind::Host => "host",
        Kind::Internal => "internal",
    }
}

impl Default for Status {
    fn default() -> Self {
        Status {
            schema: 1,
            run: std::process::id(),
            result: RunResult::Running,
            node: String::new(),
            seconds: 0.0,
            message: String::new(),
            phases: Vec::new(),
            error: None,
        }
    }
}

impl Status {
    /// The line that systemd and the terminal show while it runs: how far, what runs, what is waited for and how long.
    pub fn line(&self) -> String {
        let done = self.phases.iter().filter(|phase| matches!(phase.state, PhaseState::Done | PhaseState::Unchanged)).count();
        let running: Vec<String> = self
            .phases
            .iter()
            .filter(|phase| phase.state == PhaseState::Running)
            .map(|phase| match phase.waiting_for.as_str() {
                "" => phase.id.clone(),
                reason => format!("{} waits for {reason} ({:.0} s)", phase.id, phase.seconds),
            })
            .collect();
        match self.result {
            RunResult::Running if self.phases.is_empty() => self.message.clone(),
            RunResult::Running => format!("{done}/{} {}", self.phases.len(), running.join(", ")),
            RunResult::Ready => format!("ready: node {} after {:.1} s", self.node, self.seconds),
            RunResult::Offline => format!("offline: node {} runs, the network or the API server cannot be reached", self.node),
            RunResult::Unconfigured => self.message.clone(),
            RunResult::Interrupted => {
                format!("interrupted after {done}/{} phases; carries on when started again", self.phases.len())
            }
            RunResult::Failed => match &self.error {
                Some(failure) if failure.phase.is_empty() => failure.message.clone(),
                Some(failure) => format!("{}: {}", failure.phase, failure.message),
                None => "failed".to_owned(),
            },
        }
    }
}

struct Hub {
    started: Instant,
    phases: BTreeMap<PhaseId, Instant>,
    status: Status,
}

/// Where a phase, and the engine, say what happens. A cheap clone.
#[derive(Clone)]
pub struct Progress {
    phase: PhaseId,
    hub: Arc<Mutex<Hub>>,
    listeners: Arc<Vec<Box<dyn Listener>>>,
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Progress({})", self.phase)
    }
}

impl Progress {
    /// A stream that these listen to. The run starts now.
    pub fn new(listeners: Vec<Box<dyn Listener>>) -> Progress {
        let hub = Hub { started: Instant::now(), phases: BTreeMap::new(), status: Status::default() };
        Progress { phase: PhaseId(""), hub: Arc::new(Mutex::new(hub)), listeners: Arc::new(listeners) }
    }
    /// The same stream, for one phase.
    #[must_use]
    pub fn for_phase(&self, phase: PhaseId) -> Progress {
        Progress { phase, ..self.clone() }
    }
    /// This phase waits for something, until it says something else or ends.
    pub fn waiting(&self, reason: &str) {
        self.tell(&Event::Waiting(self.phase, reason));
    }
    /// This phase says something worth a line in the journal.
    pub fn say(&self, line: &str) {
        self.tell(&Event::Said(self.phase, line));
    }
    /// The node's name is known.
    pub fn name_node(&self, name: &str) {
        name.clone_into(&mut self.hub.lock().expect("no panic while it is held").status.node);
    }
    /// There is no configuration yet, and this run waits for one.
    pub fn await_configuration(&self, looked_for: &str) {
        looked_for.clone_into(&mut self.hub.lock().expect("no panic while it is held").status.message);
        self.tell(&Event::Tick);
    }
    /// The picture right now.
    pub fn status(&self) -> Status {
        let hub = self.hub.lock().expect("no panic while it is held");
        hub.picture()
    }
    /// The run ends before it had a plan, or with a failure outside any phase.
    pub fn conclude(&self, result: RunResult, message: &str, error: Option<Failure>) {
        {
            let mut hub = self.hub.lock().expect("no panic while it is held");
            message.clone_into(&mut hub.status.message);
            if error.is_some() {
                hub.status.error = error;
            }
        }
        let elapsed = self.hub.lock().expect("no panic while it is held").started.elapsed();
        self.tell(&Event::Finished(result, elapsed));
    }
    /// Something happened.
    pub fn tell(&self, event: &Event<'_>) {
        let status = {
            let mut hub = self.hub.lock().expect("no panic while it is held");
            hub.take(event);
            hub.picture()
        };
        for listener in self.listeners.iter() {
            listener.hear(event, &status);
        }
    }
}

impl Hub {
    fn take(&mut self, event: &Event<'_>) {
        let now = self.started.elapsed().as_secs_f64();
        let set = |status: &mut Status, id: PhaseId, change: &dyn Fn(&mut PhaseStatus)| {
            if let Some(phase) = status.phases.iter_mut().find(|phase| phase.id == id.0) {
                change(phase);
            }
        };
        match event {
            Event::Planned(ids) => {
                // A run that goes again begins with a clean picture.
                self.status.result = RunResult::Running;
                self.status.error = None;
                self.status.message.clear();
                self.status.phases = ids.iter().map(|id| PhaseStatus::pending(*id)).collect();
            }
            Event::Started(id, _) => {
                self.phases.insert(*id, Instant::now());
                set(&mut self.status, *id, &|phase| {
                    phase.state = PhaseState::Running;
                    phase.started = now;
                });
            }
            Event::Waiting(id, reason) => {
                set(&mut self.status, *id, &|phase| (*reason).clone_into(&mut phase.waiting_for));
            }
            Event::Done(id, elapsed, changed, kept) => {
                self.phases.remove(id);
                set(&mut self.status, *id, &|phase| {
                    if phase.state == PhaseState::Pending {
                        // Seen in a glance: nobody said when it started.
                        phase.started = now - elapsed.as_secs_f64();
                    }
                    phase.state = if *changed { PhaseState::Done } else { PhaseState::Unchanged };
                    phase.waiting_for.clear();
                    phase.seconds = elapsed.as_secs_f64();
                    phase.kept = kept.iter().map(|kept| format!("{}: {}", kept.subject, kept.difference)).collect();
                });
            }
            Event::Failed(id, elapsed, error) => {
                self.phases.remove(id);
                set(&mut self.status, *id, &|phase| {
                    phase.state = PhaseState::Failed;
                    phase.waiting_for.clear();
                    phase.seconds = elapsed.as_secs_f64();
                });
                self.status.error.get_or_insert_with(|| Failure::of(id.0, error));
            }
            Event::Finished(result, _) => self.status.result = *result,
            Event::Said(..) | Event::Tick => {}
        }
    }

    fn picture(&self) -> Status {
        let mut status = self.status.clone();
        status.seconds = self.started.elapsed().as_secs_f64();
        for (id, since) in &self.phases {
            if let Some(phase) = status.phases.iter_mut().find(|phase| phase.id == id.0) {
                phase.seconds = since.elapsed().as_secs_f64();
            }
        }
        status
    }
}

impl PhaseStatus {
    fn pending(id: PhaseId) -> PhaseStatus {
        PhaseStatus {
            id: id.0.to_owned(),
            state: PhaseState::Pending,
            waiting_for: String::new(),
            seconds: 0.0,
            started: 0.0,
            kept: Vec::new(),
        }
    }
}
