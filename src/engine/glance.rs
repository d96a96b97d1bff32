//! The usual case: nothing has changed since the last run. When every phase of a plan has been proven for these very inputs before,
//! all of them look at once, in no order; only when none of them finds anything is that the answer. The first that finds something,
//! fails or is slow ends it, and the plan is run in its order as if nobody had looked: looking changes nothing.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use crate::error::Result;

use super::context::Context;
use super::phase::{Drift, Fingerprint, Inputs, Kept, Lasting, PhaseId};
use super::plan::{Plan, Step};

/// How long a glance may take: whoever waits for something does it in the run.
const PATIENCE: Duration = Duration::from_millis(500);

/// What one phase saw.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) phase: PhaseId,
    pub(super) took: Duration,
    pub(super) kept: Vec<Kept>,
}

/// What all phases saw, in boot order; `None` when it takes a run to know.
pub(super) async fn glance(cx: &Context, plan: &Plan<'_>) -> Option<Vec<Seen>> {
    if !plan.steps.iter().all(|step| cx.ledger.is_recorded(step.phase.id(), &fingerprint(cx, step))) {
        return None;
    }
    let mut seen = tokio::time::timeout(PATIENCE, look(cx, plan)).await.ok()??;
    let place = |seen: &Seen| plan.steps.iter().position(|step| step.phase.id() == seen.phase);
    seen.sort_by_key(place);
    Some(seen)
}

async fn look(cx: &Context, plan: &Plan<'_>) -> Option<Vec<Seen>> {
    let mut looking: FuturesUnordered<_> = plan.steps.iter().map(|step| inspect(cx, step)).collect();
    let mut seen = Vec::new();
    while let Some((phase, took, drift)) = looking.next().await {
        let drift = drift.ok().filter(Drift::is_none)?;
        seen.push(Seen { phase, took, kept: drift.kept });
    }
    // What was learned by looking may differ from what is recorded: then it is the run's to judge.
    let unchanged = plan.steps.iter().all(|step| cx.ledger.is_recorded(step.phase.id(), &fingerprint(cx, step)));
    unchanged.then_some(seen)
}

async fn inspect(cx: &Context, step: &Step<'_>) -> (PhaseId, Duration, Result<Drift>) {
    let (phase, started) = (step.phase.id(), Instant::now());
    let drift = match step.phase.lasting() {
        // Its record is all there is to see.
        Lasting::Once => Ok(Drift::none()),
        Lasting::State => step.phase.inspect(&cx.for_phase(phase)).await,
    };
    (phase, started.elapsed(), drift)
}

fn fingerprint(cx: &Context, step: &Step<'_>) -> Fingerprint {
    step.phase.fingerprint(&Inputs { node: &cx.node, facts: &cx.facts() })
}
