//! The table, and where our time goes.

use anyhow::Result;
use edgeboot::engine::progress::{PhaseState, Status};

use crate::contest::{Results, Run};
use crate::joining::Joins;
use crate::options::Options;

/// Phases that took less are one line together.
const WORTH_A_LINE: f64 = 0.005;

/// The middle one; with an even number the upper of the two, which is one that was measured.
fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn median_run(runs: &[Run]) -> Option<&Run> {
    let middle = median(runs.iter().map(|run| run.seconds))?;
    runs.iter().find(|run| run.seconds.total_cmp(&middle).is_eq())
}

fn row(what: &str, ours: Option<f64>, against: &str, theirs: Option<f64>, aim: f64) {
    let (Some(ours), Some(theirs)) = (ours, theirs) else { return };
    println!("{what:44} {ours:>8.2} s  {against:>12} {theirs:>6.2} s  {:>6.2}  {aim:>5.2}", ours / theirs);
}

fn absolute(what: &str, ours: Option<f64>, unit: &str, aim: f64) {
    let Some(ours) = ours else { return };
    println!("{what:44} {ours:>8.1} {unit:<3} {:28} {aim:>5.0} {unit}", "");
}

/// Prints everything that was measured.
pub fn print(results: &Results, joins: &Joins, together: &(Vec<f64>, Vec<f64>), options: &Options) -> Result<()> {
    let seconds = |runs: &[Run]| median(runs.iter().map(|run| run.seconds));
    println!("\nmedians of {}", options.rounds);
    println!("{:44} {:>10}  {:>21}  {:>6}  {:>5}", "", "edgeboot", "against", "ratio", "aim");
    let init = seconds(&results.init);
    row("(a) init start to node Ready", init, "kubeadm", median(results.init_kubeadm.iter().copied()), 0.65);
    row("", init, "kubelet only", median(results.floor.iter().copied()), 1.15);
    let theirs = median(results.power_on_kubeadm.iter().copied());
    row("(b) power-on to Ready, nothing in place", seconds(&results.power_on), "kubeadm", theirs, 0.65);
    absolute("(c) reconcile with nothing to do", median(results.noop.iter().map(|noop| noop.milliseconds)), "ms", 50.0);
    let peak = results.noop.iter().map(|noop| noop.kibibytes / 1024.0).max_by(f64::total_cmp);
    absolute("    its peak memory", peak, "MiB", 20.0);
    if options.wants("d") {
        let size = u32::try_from(std::fs::metadata(&options.binary)?.len())?;
        absolute(&format!("(d) {}", binary_name(options)), Some(f64::from(size) / 1e6), "MB", 15.0);
    }
    for (what, (ours, theirs), aim) in [
        ("(e) a worker's join, start to Ready", &joins.worker, 0.8),
        ("(f) a worker's power-on to Ready", &joins.power_on, 0.6),
        ("(g) a control plane's join, start to Ready", &joins.control_plane, 0.35),
    ] {
        row(what, seconds(ours), "kubeadm", median(theirs.iter().copied()), aim);
    }
    let all = |seconds: &[f64]| median(seconds.iter().copied());
    row("(i) three control planes, to all Ready", all(&together.0), "kubeadm", all(&together.1), 0.5);
    for (ours, fixed) in &joins.storm {
        for (what, weather) in [("(h) a storm of workers, by edgeboot", ours), ("    the same, trying at fixed times", fixed)] {
            let (half, most, lost) = (weather.percentile(50), weather.percentile(99), weather.failures.len());
            println!("{what:44} p50 {half:>7.1} s  p99 {most:>7.1} s  of {}, {lost} failed", weather.seconds.len() + lost);
            if let Some(why) = weather.failures.first() {
                println!("    {why}");
            }
        }
    }
    let joined = [("(e)", &joins.worker.0), ("(f)", &joins.power_on.0), ("(g)", &joins.control_plane.0)];
    for (what, run) in [("(a)", &results.init), ("(b)", &results.power_on)].into_iter().chain(joined) {
        if let Some(run) = median_run(run) {
            println!("\nwhere the time of {what} goes: {:.2} s to Ready, edgeboot itself {:.2} s", run.seconds, run.status.seconds);
            print_phases(&run.status);
        }
    }
    if let Some(status) = &results.noop_status {
        println!("\nwhere the time of (c) goes: {:.0} ms after its start", status.seconds * 1000.0);
        print_phases(status);
    }
    Ok(())
}

fn binary_name(options: &Options) -> String {
    let is_release = options.binary.ends_with("x86_64-unknown-linux-gnu/release/edgeboot");
    if is_release { "size of the static release binary".to_owned() } else { format!("size of {}", options.binary.display()) }
}

fn print_phases(status: &Status) {
    println!("  {:44} {:>8} {:>8} {:>8}", "phase", "from", "to", "seconds");
    let mut phases: Vec<_> = status.phases.iter().collect();
    phases.sort_by(|a, b| a.started.total_cmp(&b.started));
    let (long, short): (Vec<_>, Vec<_>) = phases.into_iter().partition(|phase| phase.seconds >= WORTH_A_LINE);
    for phase in long {
        let unchanged = if phase.state == PhaseState::Unchanged { "  nothing to do" } else { "" };
        let end = phase.started + phase.seconds;
        println!("  {:44} {:>8.3} {end:>8.3} {:>8.3}{unchanged}", phase.id, phase.started, phase.seconds);
    }
    let sum: f64 = short.iter().map(|phase| phase.seconds).sum();
    println!("  {:44} {:>8} {:>8} {sum:>8.3}", format!("{} more", short.len()), "", "");
}
