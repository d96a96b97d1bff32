//! A cluster that stumbles: each request is refused a few times, each time in another way that passes by itself, before it is answered;
//! and what a request changed is done while its answer is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Services, lock};
use crate::error::{Error, Result};

/// How often each request fails, and how often each has.
#[derive(Debug, Default)]
pub(super) struct Stumbles {
    times: usize,
    refused: BTreeMap<String, usize>,
    lost: BTreeSet<String>,
}

/// What a server under load says, a balancer that is loaded again, and a router.
fn failure(what: &str, turn: usize) -> Error {
    let failing = Error::transient(what);
    match turn % 3 {
        0 => failing.because("etcdserver: leader changed"),
        1 => failing.because("too many requests, please try again later").asking_for(Some(Duration::from_secs(1))),
        _ => failing.because("unexpected end of file"),
    }
}

impl Services {
    /// From now on each request to the cluster is refused so many times before it is answered.
    pub fn stumble(&self, times: usize) {
        *lock(&self.stumbles) = Stumbles { times, ..Stumbles::default() };
    }
    /// A request comes; `what` names it.
    pub(super) fn stumbles_at(&self, what: &str) -> Result<()> {
        let mut stumbles = lock(&self.stumbles);
        let times = stumbles.times;
        let turn = stumbles.refused.entry(what.to_owned()).or_default();
        if *turn >= times {
            return Ok(());
        }
        *turn += 1;
        Err(failure(what, *turn - 1))
    }
    /// A change was made, and its answer goes out.
    pub(super) fn stumbles_after(&self, what: &str) -> Result<()> {
        let mut stumbles = lock(&self.stumbles);
        if stumbles.times == 0 || !stumbles.lost.insert(what.to_owned()) {
            return Ok(());
        }
        Err(Error::transient(what).because("connection closed before message completed"))
    }
}
