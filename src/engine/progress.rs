//! The one event stream of a run.

use super::phase::PhaseId;

/// Where a phase says what it does.
#[derive(Debug, Clone)]
pub struct Progress {
    phase: PhaseId,
}

impl Progress {
    /// The same stream, for one phase.
    #[must_use]
    pub fn for_phase(&self, phase: PhaseId) -> Progress {
        Progress { phase }
    }
    /// It waits for something.
    pub fn waiting(&self, _reason: String) {}
    /// It says something.
    pub fn say(&self, _line: String) {}
}
