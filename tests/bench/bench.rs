//! `cargo bench`: how fast edgeboot is, against kubeadm on the same machines with the same package, key algorithm and configuration,
//! run in turn; medians, printed as a table with the ratio and what is aimed at, and where our time goes, phase by phase. It judges
//! nothing: a shared host is no place for a timed test. `cargo bench -- --help` says what can be chosen.

#![expect(clippy::disallowed_methods, reason = "the benchmark drives real machines")]
#![expect(clippy::print_stdout, reason = "its table is what it is for")]
#![expect(clippy::print_stderr, reason = "it tells how far it is")]

mod contest;
mod ground;
mod joining;
mod machine;
mod options;
mod report;
mod storm;
mod together;

use anyhow::Result;

use contest::Contest;
use ground::Ground;
use joining::{Joining, Joins};
use options::Options;

fn main() -> Result<()> {
    if let Ok(orders) = std::env::var(storm::ORDERS) {
        return storm::blow(&orders);
    }
    let Some(options) = Options::read(std::env::args().skip(1))? else { return Ok(()) };
    let ground = Ground::lay(&options)?;
    let mut contest = Contest::new(&ground);
    if options.wants("abcefgi") {
        eprintln!("a first run, not counted");
        contest.warm_up()?;
    }
    let joining = options.wants("efgh").then(|| Joining::found(&ground)).transpose()?;
    let mut joins = Joins::default();
    let mut together = (Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        eprintln!("round {round} of {}", options.rounds);
        if options.wants("a") {
            contest.init()?;
        }
        if options.wants("bc") {
            contest.power_on(&options)?;
        }
        if options.wants("i") {
            together.1.push(together::in_sequence(&ground)?);
            together.0.push(together::at_once(&ground)?);
        }
        if let Some(joining) = &joining {
            joining.round(&options, &mut joins)?;
        }
    }
    report::print(&contest.results, &joins, &together, &options)
}
