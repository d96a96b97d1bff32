//! The ledger: what was changed, noted durably before it becomes visible.

use std::sync::{Arc, Mutex};

use crate::error::Result;
use crate::host::{Changed, Host, Root, Utf8Path};

use super::file::File;
use super::phase::{Drift, PhaseId, Subject};
use super::state::{Effect, Facts, State};

/// The memory of one run, shared by its phases.
#[derive(Debug, Clone)]
pub struct Ledger {
    state: Arc<Mutex<State>>,
}

/// Whether `--force` names a subject.
pub fn is_forced(force: &[String], subject: &Subject) -> bool {
    force.iter().any(|forced| forced == "all" || *forced == subject.to_string())
}

impl Ledger {
    /// What the machine told.
    pub fn facts(&self) -> Facts {
        self.state.lock().expect("no panic while it is held").facts.clone()
    }
    /// Learns.
    pub fn learn(&self, learn: impl FnOnce(&mut Facts)) {
        learn(&mut self.state.lock().expect("no panic while it is held").facts);
    }
    /// Compares.
    pub fn compare(&self, _root: &Root, _files: &[File], _force: &[String]) -> Result<Drift> {
        unimplemented!()
    }
    /// Places.
    pub async fn place(&self, _host: &Host, _phase: PhaseId, _files: Vec<File>, _force: &[String]) -> Result<Changed> {
        unimplemented!()
    }
    /// Links.
    pub async fn place_link(&self, _host: &Host, _phase: PhaseId, _path: &Utf8Path, _target: &Utf8Path) -> Result<Changed> {
        unimplemented!()
    }
    /// Notes.
    pub async fn note(&self, _host: &Host, _phase: PhaseId, _effects: Vec<Effect>) -> Result<()> {
        unimplemented!()
    }
    /// Ours.
    pub fn is_ours(&self, _root: &Root, _path: &Utf8Path) -> Result<bool> {
        unimplemented!()
    }
    /// The digest of an object as we wrote it.
    pub fn recorded_object(&self, _object: &str) -> Option<String> {
        None
    }
}
