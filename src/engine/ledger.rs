//! The ledger: what was changed on this machine, noted durably before it becomes visible, and the three-way comparison that it makes
//! possible. Phases that place files at the same time share one flush, as transactions share one in a database: the state and all
//! temporaries are written and flushed together, then the state becomes visible, then the files.

use std::sync::{Arc, Mutex, MutexGuard};

use camino::Utf8PathBuf;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Kind, Result};
use crate::host::root::Placement;
use crate::host::{Changed, Host, Root, Utf8Path};
use crate::k8s::names;

use super::file::File;
use super::phase::{Action, Change, Drift, Fingerprint, Kept, PhaseId, Subject};
use super::state::{Before, ClusterIdentity, Effect, Facts, MachineIdentity, SCHEMA, State};

/// The memory of one run, shared by its phases. A cheap clone.
#[derive(Debug, Clone)]
pub struct Ledger {
    memory: Arc<Mutex<Memory>>,
    /// Held while a flush is under way; those that come meanwhile queue up and share the next one.
    flushing: Arc<tokio::sync::Mutex<()>>,
    /// What is made is for another machine: nothing of it is remembered here.
    apart: bool,
}

#[derive(Debug)]
struct Memory {
    state: State,
    /// The state file was missing or damaged: files that are exactly what we would write are ours.
    adopting: bool,
    next_ticket: u64,
    queue: Vec<(u64, Vec<Placement>)>,
    /// Failures of shared flushes, for those that took part.
    failed: Vec<(u64, Kind, String)>,
    flushed: u64,
}

/// How the state file was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Read.
    Whole,
    /// There was none.
    Absent,
    /// It did not parse: not a new machine; the machine itself is asked.
    Damaged,
}

/// Whether `--force` names a subject.
pub fn is_forced(force: &[String], subject: &Subject) -> bool {
    force.iter().any(|forced| forced == "all" || *forced == subject.to_string())
}

/// The digest of a file's content, as the ledger writes it.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// What stands at a path, seen from the wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Right,
    WrongMode,
    Missing,
    Torn,
    Ours,
    Theirs,
}

impl Ledger {
    /// Reads the state of this machine.
    pub fn load(root: &Root) -> Result<(Ledger, Found)> {
        let (state, found) = match root.read(names::STATE)? {
            None => (State { schema: SCHEMA, ..State::default() }, Found::Absent),
            Some(bytes) => match serde_json::from_slice::<State>(&bytes) {
                Ok(state) => (state, Found::Whole),
                Err(_) => (State { schema: SCHEMA, ..State::default() }, Found::Damaged),
            },
        };
        Ok((Ledger::of(state, found != Found::Whole), found))
    }

    /// For files that are made here for another machine: it begins with nothing, and ends with the run.
    pub fn apart() -> Ledger {
        Ledger { apart: true, ..Ledger::of(State { schema: SCHEMA, ..State::default() }, false) }
    }
    /// Whether what is made is for another machine.
    pub fn is_apart(&self) -> bool {
        self.apart
    }

    fn of(state: State, adopting: bool) -> Ledger {
        let memory = Memory { state, adopting, next_ticket: 1, queue: Vec::new(), failed: Vec::new(), flushed: 0 };
        Ledger { memory: Arc::new(Mutex::new(memory)), flushing: Arc::default(), apart: false }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().expect("no panic while it is held")
    }

    /// A copy of everything.
    pub fn state(&self) -> State {
        self.memory().state.clone()
    }
    /// What the machine told.
    pub fn facts(&self) -> Facts {
        self.memory().state.facts.clone()
    }
    /// Learns a fact; durable with the next flush, before anything made from it becomes visible.
    pub fn learn(&self, learn: impl FnOnce(&mut Facts)) {
        learn(&mut self.memory().state.facts);
    }
    /// Which machine the state was written on.
    pub fn machine(&self) -> MachineIdentity {
        self.memory().state.machine.clone()
    }
    /// From here on the state is this machine's; durable with the next flush.
    pub fn set_machine(&self, machine: MachineIdentity) {
        self.memory().state.machine = machine;
    }
    /// Which cluster this machine belongs to.
    pub fn cluster(&self) -> Option<ClusterIdentity> {
        self.memory().state.cluster.clone()
    }
    /// Records the cluster; call it only when the CA pair is durable.
    pub fn set_cluster(&self, cluster: ClusterIdentity) {
        self.memory().state.cluster = Some(cluster);
    }
    /// Forgets the cluster and all that was done for it; facts and package stay. An explicit `init` after a reset.
    pub fn forget_cluster(&self) {
        let mut memory = self.memory();
        memory.state.cluster = None;
        memory.state.held = false;
        for record in memory.state.phases.values_mut() {
            record.fingerprint.clear();
            record.effects.retain(|effect| !matches!(effect, Effect::Object { .. } | Effect::Member { .. }));
        }
    }
    /// Whether the phase's record was made from these inputs.
    pub fn is_recorded(&self, phase: PhaseId, fingerprint: &Fingerprint) -> bool {
        self.memory().state.phases.get(phase.0).is_some_and(|record| record.fingerprint == fingerprint.0)
    }
    /// Forgets that the phase was done: one whose effect expires by design is done again.
    pub fn forget_record(&self, phase: PhaseId) {
        if let Some(record) = self.memory().state.phases.get_mut(phase.0) {
            record.fingerprint.clear();
        }
    }
    /// Whether the phase was ever proven on this machine, whatever its inputs were.
    pub fn was_recorded(&self, phase: PhaseId) -> bool {
        self.memory().state.phases.get(phase.0).is_some_and(|record| !record.fingerprint.is_empty())
    }
    /// The digest of an object as we wrote it.
    pub fn recorded_object(&self, object: &str) -> Option<String> {
        let memory = self.memory();
        let mut effects = memory.state.phases.values().flat_map(|record| &record.effects);
        effects.find_map(|effect| match effect {
            Effect::Object { object: name, ours } if name == object => Some(ours.clone()),
            _ => None,
        })
    }
    /// Whether the content that stands at `path` was written by us.
    pub fn is_ours(&self, root: &Root, path: &Utf8Path) -> Result<bool> {
        let Some(bytes) = root.read(path)? else { return Ok(false) };
        Ok(self.memory().ours(path).is_some_and(|ours| ours.contains(&digest(&bytes))))
    }
    /// Whether the ledger has an entry for `path`, whatever stands there now.
    pub fn has_written(&self, path: &Utf8Path) -> bool {
        self.memory().ours(path).is_some()
    }

    /// See [`super::context::Context::compare`].
    pub fn compare(&self, root: &Root, files: &[File], force: &[String]) -> Result<Drift> {
        let mut drift = Drift::none();
        for file in files {
            let subject = Subject::File(file.path.to_string());
            let (standing, bytes) = self.standing(root, file)?;
            let action = match standing {
                Standing::Right => continue,
                Standing::Missing => Action::Create,
                Standing::Torn => Action::Mend,
                Standing::WrongMode | Standing::Ours => Action::Update,
                Standing::Theirs if is_forced(force, &subject) => Action::Update,
                Standing::Theirs => {
                    drift.kept.push(Kept { subject, difference: difference(&file.bytes, &bytes) });
                    continue;
                }
            };
            let change = Change::new(subject, action).disrupting(file.disrupts);
            drift.changes.push(match standing {
                Standing::Torn => change.because("it is empty or torn"),
                Standing::WrongMode => change.because(format!("its mode must be {:04o}", file.mode)),
                _ => change,
            });
        }
        Ok(drift)
    }

    fn standing(&self, root: &Root, file: &File) -> Result<(Standing, Vec<u8>)> {
        let Some(bytes) = root.read(&file.path)? else { return Ok((Standing::Missing, Vec::new())) };
        if bytes == file.bytes {
            let mut memory = self.memory();
            if memory.adopting && memory.ours(&file.path).is_none() {
                memory.adopt(&file.path, &bytes);
            }
            let mode = root.metadata(&file.path)?.map(|metadata| metadata.mode);
            let right = mode == Some(file.mode);
            return Ok((if right { Standing::Right } else { Standing::WrongMode }, bytes));
        }
        let ours = self.memory().ours(&file.path).is_some_and(|ours| ours.contains(&digest(&bytes)));
        let standing = match (ours, (file.torn)(&bytes)) {
            (true, _) => Standing::Ours,
            (false, true) => Standing::Torn,
            (false, false) => Standing::Theirs,
        };
        Ok((standing, bytes))
    }

    /// See [`super::context::Context::place`].
    pub async fn place(&self, host: &Host, phase: PhaseId, files: Vec<File>, force: &[String]) -> Result<Changed> {
        let mut placements = Vec::new();
        for file in files {
            let (standing, bytes) = self.standing(&host.root, &file)?;
            let forced = is_forced(force, &Subject::File(file.path.to_string()));
            match standing {
                Standing::Right => continue,
                Standing::Theirs if !forced => continue,
                Standing::Theirs => placements.push(kept_copy(&file.path, &bytes)),
                Standing::Missing | Standing::Torn | Standing::Ours | Standing::WrongMode => {}
            }
            let before = if standing == Standing::Theirs { Before::Kept } else { Before::Absent };
            self.memory().note_file(phase, &file.path, &digest(&bytes), &digest(&file.bytes), before);
            placements.push(Placement { path: file.path, mode: file.mode, bytes: file.bytes });
        }
        if placements.is_empty() {
            return Ok(Changed::No);
        }
        self.flush(host, placements).await?;
        Ok(Changed::Yes)
    }

    /// See [`super::context::Context::place_link`].
    pub async fn place_link(&self, host: &Host, phase: PhaseId, path: &Utf8Path, target: &Utf8Path) -> Result<Changed> {
        let standing = host.root.read_link(path)?;
        if standing.as_deref() == Some(target) {
            return Ok(Changed::No);
        }
        let ours = standing.iter().chain([&target.to_owned()]).map(ToString::to_string).collect();
        self.note(host, phase, vec![Effect::Link { path: path.to_owned(), ours }]).await?;
        let (root, path, target) = (host.root.clone(), path.to_owned(), target.to_owned());
        host.blocking(move || root.link(&path, &target)).await
    }

    /// Notes effects durably, before they are made.
    pub async fn note(&self, host: &Host, phase: PhaseId, effects: Vec<Effect>) -> Result<()> {
        {
            let mut memory = self.memory();
            for effect in effects {
                memory.note(phase, effect);
            }
        }
        self.flush(host, Vec::new()).await
    }

    /// The phase is proven: its record gets this fingerprint, and of the digests that are ours only the standing one remains. Durable
    /// with the next flush: a lost record costs an inspection, nothing else.
    pub fn record(&self, root: &Root, phase: PhaseId, fingerprint: &Fingerprint) -> Result<()> {
        self.settle(root, phase)?;
        self.memory().state.phases.entry(phase.0.to_owned()).or_default().fingerprint.clone_from(&fingerprint.0);
        Ok(())
    }

    /// What the phase wrote stands: of the digests that are ours only the standing one remains. Durable with the next flush.
    pub fn settle(&self, root: &Root, phase: PhaseId) -> Result<()> {
        let record = self.memory().state.phases.get(phase.0).cloned().unwrap_or_default();
        let mut effects = record.effects.clone();
        for effect in &mut effects {
            match effect {
                Effect::File { path, ours, .. } if ours.len() > 1 => {
                    let standing = root.read(&*path)?.map(|bytes| digest(&bytes));
                    ours.retain(|digest| Some(digest) == standing.as_ref());
                }
                Effect::Link { path, ours } if ours.len() > 1 => {
                    let standing = root.read_link(&*path)?.map(Utf8PathBuf::into_string);
                    ours.retain(|target| Some(target) == standing.as_ref());
                }
                _ => {}
            }
        }
        self.memory().state.phases.entry(phase.0.to_owned()).or_default().effects = effects;
        Ok(())
    }

    /// Makes everything that is remembered durable.
    pub async fn save(&self, host: &Host) -> Result<()> {
        self.flush(host, Vec::new()).await
    }

    /// One flush for the state and all queued files.
    async fn flush(&self, host: &Host, placements: Vec<Placement>) -> Result<()> {
        let ticket = {
            let mut memory = self.memory();
            let ticket = memory.next_ticket;
            memory.next_ticket += 1;
            memory.queue.push((ticket, placements));
            ticket
        };
        let _flushing = self.flushing.lock().await;
        let (tickets, files, state) = {
            let mut memory = self.memory();
            if memory.flushed >= ticket {
                return memory.outcome(ticket);
            }
            let queue = std::mem::take(&mut memory.queue);
            let tickets: Vec<u64> = queue.iter().map(|(ticket, _)| *ticket).collect();
            let files: Vec<Placement> = queue.into_iter().flat_map(|(_, files)| files).collect();
            (tickets, files, memory.state.to_bytes())
        };
        let state = Placement { path: Utf8PathBuf::from(names::STATE), mode: 0o600, bytes: state };
        let memory_first = if self.apart { Vec::new() } else { vec![state] };
        let root = host.root.clone();
        let result = host.blocking(move || root.put_groups(&[memory_first, files])).await;
        let mut memory = self.memory();
        memory.flushed = tickets.iter().copied().max().unwrap_or(ticket);
        if let Err(error) = result {
            let others = tickets.into_iter().filter(|other| *other != ticket);
            let shared = others.map(|other| (other, error.kind(), error.to_string()));
            memory.failed.extend(shared);
            return Err(error);
        }
        Ok(())
    }
}

impl Memory {
    fn ours(&self, path: &Utf8Path) -> Option<&Vec<String>> {
        let mut effects = self.state.phases.values().flat_map(|record| &record.effects);
        effects.find_map(|effect| match effect {
            Effect::File { path: noted, ours, .. } if noted == path => Some(ours),
            _ => None,
        })
    }

    /// A file that is exactly what we would write, while the state is lost, is ours.
    fn adopt(&mut self, path: &Utf8Path, bytes: &[u8]) {
        let effect = Effect::File { path: path.to_owned(), ours: vec![digest(bytes)], before: Before::Absent };
        // Its phase is not known here; it moves to its own when that phase writes the file again.
        self.state.phases.entry("adopted".to_owned()).or_default().effects.push(effect);
    }

    fn note_file(&mut self, phase: PhaseId, path: &Utf8Path, standing: &str, wished: &str, before: Before) {
        let (known, first) = match self.ours(path) {
            Some(ours) => (ours.clone(), false),
            None => (Vec::new(), true),
        };
        let mut ours: Vec<String> = known.into_iter().filter(|digest| digest == standing && digest != wished).collect();
        ours.push(wished.to_owned());
        let before = if first { before } else { self.before(path).unwrap_or(before) };
        self.forget(path);
        self.note(phase, Effect::File { path: path.to_owned(), ours, before });
    }

    fn before(&self, path: &Utf8Path) -> Option<Before> {
        self.state.phases.values().flat_map(|record| &record.effects).find_map(|effect| match effect {
            Effect::File { path: noted, before, .. } if noted == path => Some(*before),
            _ => None,
        })
    }

    fn forget(&mut self, path: &Utf8Path) {
        for record in self.state.phases.values_mut() {
            record.effects.retain(|effect| !matches!(effect, Effect::File { path: noted, .. } if noted == path));
        }
    }

    fn note(&mut self, phase: PhaseId, effect: Effect) {
        let effects = &mut self.state.phases.entry(phase.0.to_owned()).or_default().effects;
        let subject = effect.subject();
        match (effects.iter_mut().find(|noted| noted.subject() == subject), effect) {
            // What was there before the first time is what `reset` goes back to.
            (Some(Effect::Sysctl { .. } | Effect::Unit { .. }), _) => {}
            (Some(Effect::Hostname { ours, .. }), Effect::Hostname { ours: wished, .. }) => *ours = wished,
            (Some(noted), effect) => *noted = effect,
            (None, effect) => effects.push(effect),
        }
    }

    fn outcome(&mut self, ticket: u64) -> Result<()> {
        match self.failed.iter().position(|(failed, ..)| *failed == ticket) {
            Some(index) => {
                let (_, kind, text) = self.failed.swap_remove(index);
                Err(Error::new(kind, text))
            }
            None => Ok(()),
        }
    }
}

/// The copy that `reset` puts back: named by the path, private, durable with the same flush.
fn kept_copy(path: &Utf8Path, bytes: &[u8]) -> Placement {
    Placement { path: kept_path(path), mode: 0o600, bytes: bytes.to_vec() }
}

/// Where the copy lies of what stood at `path`.
pub fn kept_path(path: &Utf8Path) -> Utf8PathBuf {
    Utf8Path::new(names::KEPT_DIR).join(path.as_str().trim_start_matches('/').replace('/', "-"))
}

/// Where two texts differ, without saying what stands there: it may be a secret.
fn difference(wish: &[u8], standing: &[u8]) -> String {
    let (wish, standing) = (String::from_utf8_lossy(wish), String::from_utf8_lossy(standing));
    let (ours, theirs): (Vec<&str>, Vec<&str>) = (wish.lines().collect(), standing.lines().collect());
    let missing = ours.iter().filter(|line| !theirs.contains(line)).count();
    let added = theirs.iter().filter(|line| !ours.contains(line)).count();
    let first = ours.iter().zip(&theirs).position(|(a, b)| a != b).unwrap_or(ours.len().min(theirs.len())) + 1;
    format!("changed by somebody else: {added} lines of theirs, {missing} of ours missing, first at line {first}")
}
