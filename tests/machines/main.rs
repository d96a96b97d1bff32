//! Real machines: real systemd as PID 1, real containerd, kubelet, etcd and kube-apiserver, edgeboot under its own hardened unit. Each
//! test makes its machines, and boots them at least twice. They need root and what `tests/run` prepares; where that is missing they
//! count as ignored, never as passed (and fail when EDGEBOOT_REQUIRE_MACHINES is set).

#![expect(clippy::disallowed_methods, clippy::print_stderr, reason = "tests drive real machines")]

mod balancer;
mod boots;
mod broken;
mod control_planes;
mod cut_joins;
mod external;
mod faults;
mod identity;
mod joins;
mod machine;
mod mixed;
mod moves;
mod networks;
mod parity;
mod peer;
mod people;
mod resets;
mod rotation;
mod secrets;
mod serving;
mod survivors;
mod terminating;
mod together;

use libtest_mimic::{Arguments, Failed, Trial};

/// What runs in `tests/run all` only: it takes minutes.
const SLOW: &[&str] = &[
    "a_node_is_named_and_its_copy_stays_down_until_it_is_adopted",
    "a_kubelet_rotates_its_certificate_and_edgeboot_finds_nothing_to_do",
    "a_worker_joins_by_a_way_that_fails_at_first_and_stays_on_it",
    "a_worker_joins_by_an_api_server_that_is_in_trouble_at_first",
    "a_worker_is_told_what_is_wrong_and_comes_in_when_it_is_right",
    "a_control_plane_moves_to_another_address_and_serves",
    "kubeadms_nodes_join_a_cluster_of_edgeboots",
    "edgeboots_nodes_join_a_cluster_of_kubeadms",
    "kubeadms_worker_gets_flannel_from_a_cluster_of_edgeboots",
    "pods_of_two_machines_reach_each_other_by_flannel",
    "mixed_control_planes_of_three_survive_the_loss_of_any_one",
    "most_options_at_once_make_kubeadms_objects",
    "a_control_plane_with_an_external_etcd_serves",
    "a_control_plane_without_the_key_of_its_ca_serves",
    "three_control_planes_and_a_worker_switched_on_together_come_up",
    "a_worker_whose_power_is_cut_at_ten_moments_of_its_join_comes_up",
    "a_control_plane_whose_power_is_cut_at_ten_moments_of_its_join_comes_up",
];

/// A test and what it shows.
type Case = (&'static str, fn() -> anyhow::Result<()>);

fn main() {
    if let Some(servers) = std::env::var_os(balancer::SERVERS) {
        let served = balancer::serve(&servers.to_string_lossy());
        eprintln!("the balancer: {served:?}");
        std::process::exit(1);
    }
    if let Some(folder) = std::env::var_os(terminating::FOLDER) {
        let served = terminating::serve(std::path::Path::new(&folder));
        eprintln!("the proxy: {served:?}");
        std::process::exit(1);
    }
    let mut arguments = Arguments::from_args();
    // Two cores carry one control plane at a time.
    arguments.test_threads = Some(1);
    let missing = machine::missing();
    let all = std::env::var_os("EDGEBOOT_TEST_ALL").is_some();
    if let (Some(why), true) = (&missing, std::env::var_os("EDGEBOOT_REQUIRE_MACHINES").is_some()) {
        eprintln!("machines are required here, but {why}");
        std::process::exit(1);
    }
    if let Some(why) = &missing {
        eprintln!("machines are ignored: {why}");
    }
    let mut cases: Vec<Case> = Vec::new();
    cases.extend(boots::CASES);
    cases.extend(broken::CASES);
    cases.extend(joins::CASES);
    cases.extend(networks::CASES);
    cases.extend(control_planes::CASES);
    cases.extend(together::CASES);
    cases.extend(cut_joins::CASES);
    cases.extend(mixed::CASES);
    cases.extend(survivors::CASES);
    cases.extend(resets::CASES);
    cases.extend(moves::CASES);
    cases.extend(faults::CASES);
    cases.extend(identity::CASES);
    cases.extend(rotation::CASES);
    cases.extend(people::CASES);
    cases.extend(parity::CASES);
    cases.extend(external::CASES);
    let trials = cases
        .into_iter()
        .map(|(name, run)| {
            let trial = Trial::test(format!("machines::{name}"), move || run().map_err(|error| Failed::from(format!("{error:#}"))));
            trial.with_ignored_flag(missing.is_some() || (SLOW.contains(&name) && !all))
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit();
}
