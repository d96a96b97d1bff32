//! The phases that apply to this node, as a graph in boot order. A phase that does not apply, or is skipped, passes its edges
//! through: what comes after it then comes after what it came after.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::node::Node;
use crate::error::{Error, Result};

use super::phase::{Phase, PhaseId};

/// A phase of the plan and what it waits for.
pub struct Step<'a> {
    /// The phase.
    pub phase: &'a dyn Phase,
    /// The phases of the plan that must be done before it starts.
    pub after: BTreeSet<PhaseId>,
}

impl std::fmt::Debug for Step<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} after {:?}", self.phase.id(), self.after)
    }
}

/// What a run will look at, in boot order.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The steps.
    pub steps: Vec<Step<'a>>,
}

/// Whether `id` is `name` or one of its children (`certs` and `certs/ca`).
pub fn is_within(id: &str, name: &str) -> bool {
    id == name || id.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'))
}

impl<'a> Plan<'a> {
    /// The plan for a node: all that applies, less what the node's configuration skips.
    pub fn for_node(table: &'a [Box<dyn Phase>], node: &Node) -> Result<Plan<'a>> {
        for name in &node.skip_phases {
            if !table.iter().any(|phase| is_within(phase.id().0, name)) {
                return Err(Error::config(format!("skipping the phase '{name}'"))
                    .because("there is no such phase")
                    .hint("`edgeboot phase list` names them all"));
            }
        }
        let wanted = |phase: &dyn Phase| phase.applies(node) && !node.skip_phases.iter().any(|name| is_within(phase.id().0, name));
        Plan::of(table, &wanted)
    }

    /// The part of it that ends with this phase: it and what it waits for.
    #[must_use]
    pub fn until(mut self, last: PhaseId) -> Plan<'a> {
        let mut wanted = BTreeSet::from([last]);
        // In boot order, what a step waits for stands before it.
        for step in self.steps.iter().rev() {
            if wanted.contains(&step.phase.id()) {
                wanted.extend(step.after.iter().copied());
            }
        }
        self.steps.retain(|step| wanted.contains(&step.phase.id()));
        self
    }

    /// The plan of one phase alone (`edgeboot init phase certs`): it and its children, without what they usually wait for.
    pub fn single(table: &'a [Box<dyn Phase>], node: &Node, name: &str) -> Result<Plan<'a>> {
        let plan = Plan::of(table, &|phase| phase.applies(node) && is_within(phase.id().0, name))?;
        if plan.steps.is_empty() {
            return Err(Error::usage(format!("running the phase '{name}'"))
                .because("there is no such phase, or it does not apply to this node")
                .hint("`edgeboot phase list` names them all"));
        }
        Ok(plan)
    }

    fn of(table: &'a [Box<dyn Phase>], wanted: &dyn Fn(&dyn Phase) -> bool) -> Result<Plan<'a>> {
        let by_id: BTreeMap<PhaseId, &dyn Phase> = table.iter().map(|phase| (phase.id(), phase.as_ref())).collect();
        let mut steps: Vec<Step<'a>> = Vec::new();
        for phase in table.iter().map(AsRef::as_ref).filter(|phase| wanted(*phase)) {
            let mut after = BTreeSet::new();
            let mut seen = BTreeSet::new();
            let mut open: Vec<PhaseId> = phase.after().to_vec();
            while let Some(edge) = open.pop() {
                let targets: Vec<&dyn Phase> = by_id.values().copied().filter(|other| is_within(other.id().0, edge.0)).collect();
                if targets.is_empty() {
                    return Err(Error::internal(format!("ordering the phase '{}'", phase.id()))
                        .because(format!("it comes after '{edge}', which is no phase")));
                }
                for target in targets.into_iter().filter(|target| seen.insert(target.id())) {
                    if wanted(target) {
                        after.insert(target.id());
                    } else {
                        open.extend_from_slice(target.after());
                    }
                }
            }
            steps.push(Step { phase, after });
        }
        Plan { steps }.in_order()
    }

    /// Refuses a cycle, and a table that is not in boot order: a reader of the table must be able to trust it.
    fn in_order(self) -> Result<Plan<'a>> {
        let mut done = BTreeSet::new();
        for step in &self.steps {
            if let Some(late) = step.after.iter().find(|id| !done.contains(*id)) {
                return Err(Error::internal(format!("ordering the phase '{}'", step.phase.id()))
                    .because(format!("it comes after '{late}', which stands later in the table")));
            }
            done.insert(step.phase.id());
        }
        Ok(self)
    }

    /// The ids, in boot order.
    pub fn ids(&self) -> Vec<PhaseId> {
        self.steps.iter().map(|step| step.phase.id()).collect()
    }
}
