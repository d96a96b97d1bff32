//! Runs phases and remembers what they did; knows none of them. `phase` is the contract, `plan` the graph, `run` the execution,
//! `state` and `ledger` the memory, `progress` the one event stream.

pub mod context;
pub mod file;
mod glance;
pub mod identity;
pub mod ledger;
pub mod phase;
pub mod plan;
pub mod progress;
pub mod run;
pub mod state;
