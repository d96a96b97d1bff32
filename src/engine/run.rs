//! Runs a plan: first one glance, whether all is as it was; if not, each phase as soon as those it needs are done; inspect, and only where there is drift apply, then inspect again, for a
//! phase that cannot prove its own effect is a bug. After a failure or a stop nothing new starts, and what is running finishes within
//! its deadlines; nothing is dropped half-way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::{Error, Kind, Result};
use crate::host::{Deadline, pause_after};

use super::context::Context;
use super::glance::{Seen, glance};
use super::phase::{Drift, Inputs, Kept, Lasting, Phase, PhaseId};
use super::plan::Plan;
use super::progress::Event;

/// How often listeners hear a tick: well within the extension that `EXTEND_TIMEOUT_USEC=` asks for.
const TICK: Duration = Duration::from_secs(5);
/// How long looking is repeated, and how soon.
const MOMENT: Duration = Duration::from_secs(10);
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

/// How a run ended.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Phases that are done, in the order they ended, and whether they had something to change.
    pub done: Vec<(PhaseId, bool)>,
    /// What failed.
    pub failed: Vec<(PhaseId, Error)>,
    /// Whether it was stopped before its end.
    pub interrupted: bool,
}

impl Outcome {
    /// Whether anything was changed.
    pub fn changed(&self) -> bool {
        self.done.iter().any(|(_, changed)| *changed)
    }
}

/// Runs the plan to its end, to the first failure, or until `stop` becomes true.
pub async fn run(cx: &Context, plan: &Plan<'_>, mut stop: watch::Receiver<bool>) -> Outcome {
    cx.progress.tell(&Event::Planned(&plan.ids()));
    let mut outcome = Outcome::default();
    if let Some(seen) = glance(cx, plan).await {
        for Seen { phase, took, kept } in seen {
            cx.progress.tell(&Event::Done(phase, took, false, &kept));
            outcome.done.push((phase, false));
        }
        return outcome;
    }
    let mut waiting: BTreeMap<PhaseId, (&dyn Phase, BTreeSet<PhaseId>)> =
        plan.steps.iter().map(|step| (step.phase.id(), (step.phase, step.after.clone()))).collect();
    let order = plan.ids();
    let mut running: FuturesUnordered<BoxFuture<'_, (PhaseId, Result<bool>)>> = FuturesUnordered::new();
    let mut ticks = tokio::time::interval_at(Instant::now() + TICK, TICK);
    let mut stop_is_gone = false;
    loop {
        if outcome.failed.is_empty() && !outcome.interrupted {
            for id in &order {
                if waiting.get(id).is_some_and(|(_, after)| after.is_empty()) {
                    let (phase, _) = waiting.remove(id).expect("it is there: just looked at");
                    let cx = cx.for_phase(phase.id());
                    running.push(Box::pin(async move { (phase.id(), step(&cx, phase).await) }));
                }
            }
        }
        if running.is_empty() {
            return outcome;
        }
        tokio::select! {
            Some((id, result)) = running.next() => match result {
                Ok(changed) => {
                    outcome.done.push((id, changed));
                    for (_, after) in waiting.values_mut() {
                        after.remove(&id);
                    }
                }
                Err(error) => outcome.failed.push((id, error)),
            },
            asked = stop.changed(), if !stop_is_gone => match asked {
                Ok(()) => outcome.interrupted |= *stop.borrow(),
                Err(_) => stop_is_gone = true,
            },
            _ = ticks.tick() => cx.progress.tell(&Event::Tick),
        }
    }
}

/// One phase, reported.
async fn step(cx: &Context, phase: &dyn Phase) -> Result<bool> {
    let started = Instant::now();
    let id = phase.id();
    cx.progress.tell(&Event::Started(id, &[]));
    let result = converge(cx, phase).await;
    match &result {
        Ok((changed, kept)) => cx.progress.tell(&Event::Done(id, started.elapsed(), *changed, kept)),
        Err(error) => cx.progress.tell(&Event::Failed(id, started.elapsed(), error)),
    }
    result.map(|(changed, _)| changed)
}

/// Inspects, applies where there is drift, and proves it.
async fn converge(cx: &Context, phase: &dyn Phase) -> Result<(bool, Vec<Kept>)> {
    let facts = cx.facts();
    let fingerprint = phase.fingerprint(&Inputs { node: &cx.node, facts: &facts });
    if phase.lasting() == Lasting::Once && cx.ledger.is_recorded(phase.id(), &fingerprint) {
        return Ok((false, Vec::new()));
    }
    let drift = inspect(cx, phase).await?;
    if drift.is_none() {
        record(cx, phase)?;
        return Ok((false, drift.kept));
    }
    cx.progress.tell(&Event::Started(phase.id(), &drift.changes));
    phase.apply(cx).await?;
    let kept = match phase.lasting() {
        Lasting::Once => drift.kept,
        Lasting::State => proven(phase, inspect(cx, phase).await?)?,
    };
    record(cx, phase)?;
    if phase.lasting() == Lasting::Once {
        // The record is all that keeps it from being done again.
        cx.ledger.save(&cx.host).await?;
    }
    Ok((true, kept))
}

/// Looking can be repeated, and is for a moment where it fails for a reason that passes by itself: etcd that elects a leader, or a
/// balancer that is loaded again, does not end a run.
async fn inspect(cx: &Context, phase: &dyn Phase) -> Result<Drift> {
    let moment = Deadline::after(MOMENT, format!("looking at the phase '{}'", phase.id()));
    loop {
        match phase.inspect(cx).await {
            Err(error) if error.kind() == Kind::Transient && !moment.passed() => {
                moment.pause(pause_after(&error, BETWEEN_LOOKS)).await;
            }
            looked => return looked,
        }
    }
}

fn proven(phase: &dyn Phase, drift: Drift) -> Result<Vec<Kept>> {
    if drift.is_none() {
        return Ok(drift.kept);
    }
    let left: Vec<String> = drift.changes.iter().map(|change| format!("{:?} {}", change.action, change.subject)).collect();
    let why = match drift.blocked {
        Some(blocked) => blocked.0,
        None => format!("still to do after it was done: {}", left.join(", ")),
    };
    Err(Error::internal(format!("proving the phase '{}'", phase.id())).because(why))
}

/// Facts are learned by looking, so the fingerprint that is recorded is made from what is known now.
fn record(cx: &Context, phase: &dyn Phase) -> Result<()> {
    let facts = cx.facts();
    let fingerprint = phase.fingerprint(&Inputs { node: &cx.node, facts: &facts });
    cx.ledger.record(&cx.host.root, phase.id(), &fingerprint)
}

/// What every phase of the plan would do, without doing it. A phase behind one with something to do may not be able to know yet: what
/// it cannot say then is `blocked`, not a failure.
pub async fn look(cx: &Context, plan: &Plan<'_>) -> Result<Vec<(PhaseId, Drift)>> {
    let mut looked = Vec::new();
    // Phases with something to do, and those behind one, however far; with the one that is in front.
    let mut pending: BTreeMap<PhaseId, PhaseId> = BTreeMap::new();
    for step in &plan.steps {
        let id = step.phase.id();
        let cx = cx.for_phase(id);
        let behind = step.after.iter().find_map(|before| pending.get(before)).copied();
        let facts = cx.facts();
        let once = step.phase.lasting() == Lasting::Once
            && cx.ledger.is_recorded(id, &step.phase.fingerprint(&Inputs { node: &cx.node, facts: &facts }));
        let drift = match (once, step.phase.inspect(&cx).await, behind) {
            (true, _, _) => Drift::none(),
            (false, Ok(drift), _) => drift,
            (false, Err(error), Some(before)) if error.kind() != crate::error::Kind::Config => {
                Drift::blocked(format!("known after '{before}'"))
            }
            (false, Err(error), _) => return Err(error.while_doing(format!("looking at the phase '{id}'"))),
        };
        if drift.is_none() {
            pending.extend(behind.map(|before| (id, before)));
        } else {
            pending.insert(id, id);
        }
        looked.push((id, drift));
    }
    Ok(looked)
}
