//! Whole VMs, for what a container shares with its host: a page cache that is lost with the power, a clock, swap. They are some fifteen
//! times slower than machines, so they run in `tests/run all` only and count as ignored otherwise, as they do where the host lacks what
//! they need (and fail when EDGEBOOT_REQUIRE_VMS is set).
#![expect(clippy::disallowed_methods, clippy::print_stderr, reason = "tests drive VMs, and say what they ignore")]

mod clock;
mod cuts;
mod swap;
mod vm;
mod whole;

use libtest_mimic::{Arguments, Failed, Trial};

/// A test and what it shows.
type Case = (&'static str, fn() -> anyhow::Result<()>);

/// All of them.
const CASES: [Case; 5] = [
    ("after_a_power_cut_the_files_are_whole_and_the_next_boot_goes_on", cuts::once),
    ("after_five_power_cuts_the_files_are_whole_and_the_node_becomes_ready", cuts::five_times),
    ("a_clock_in_1970_is_named_and_nothing_is_made_until_it_is_set", clock::in_1970),
    ("swap_is_warned_about_and_left_alone", swap::kept),
    ("swap_is_switched_off_for_good_where_the_configuration_says_so", swap::off),
];

fn main() {
    let mut arguments = Arguments::from_args();
    // Two cores carry one VM at a time.
    arguments.test_threads = Some(1);
    let missing = vm::missing();
    if let (Some(why), true) = (&missing, std::env::var_os("EDGEBOOT_REQUIRE_VMS").is_some()) {
        eprintln!("VMs are required here, but {why}");
        std::process::exit(1);
    }
    if let Some(why) = &missing {
        eprintln!("VMs are ignored: {why}");
    }
    let all = std::env::var_os("EDGEBOOT_TEST_ALL").is_some();
    if !all {
        eprintln!("VMs are ignored: they run in `tests/run all`");
    }
    let trial = |(name, run): Case, runs: bool| {
        let trial = Trial::test(format!("vm::{name}"), move || run().map_err(|error| Failed::from(format!("{error:#}"))));
        trial.with_ignored_flag(missing.is_some() || !runs)
    };
    libtest_mimic::run(&arguments, CASES.into_iter().map(|case| trial(case, all)).collect()).exit();
}
