//! What goes wrong on the way into a real cluster, and what edgeboot does about it: a way that resets and delays connections, an API server
//! that answers with errors, garbage and halves for a while, and what is wrong with the wish of whoever joins, told apart by exit code and
//! words.
//!
//! Where each fault of a join is shown: here with real machines, in `tests/interrupted` on the machine of memory, and beside the code.
//!
//! | fault | what edgeboot does | shown by |
//! |---|---|---|
//! | F16 a permanent error tried for ever | exit 77 (secret, pin, name), 78 (wish) or 69 (machine), with the remedy; 75 for what passes | `a_worker_is_told_what_is_wrong_and_comes_in_when_it_is_right` here; `what_goes_wrong_is_told_apart` of the worker, `what_is_missing_for_a_control_plane_is_named` |
//! | F17 several CA hashes | any of them will do | `a_cluster_info_of_kubeadm_is_believed` (k8s/discovery) |
//! | F18 a token that has expired, is unknown, or is not signed yet | waits, then 77; the next try reads it again | `a_worker_is_told_what_is_wrong_and_comes_in_when_it_is_right` here; `a_fresh_token_at_the_next_boot_is_enough`, `a_worker_that_comes_up_first_says_what_it_waits_for_and_joins_as_soon_as_it_exists` |
//! | F19 an API server that is slow while a machine looks | each request that may be repeated is | `a_worker_joins_by_an_api_server_that_is_in_trouble_at_first` here; `…_joins_a_cluster_that_stumbles_at_every_request` of worker and control plane |
//! | F20 500, 429, half an answer, a reset, a lost answer | tries again, after the pause that the server asks for | the same, `a_worker_joins_by_a_way_that_fails_at_first_and_stays_on_it` here; `what_a_server_in_trouble_says_passes_by_itself_and_its_wish_for_a_pause_is_kept` (host/api), `a_cluster_is_founded_though_its_api_server_stumbles_at_every_request` |
//! | F21 a half-made member of etcd | goes on with ours, takes a lost one of ours out, names another's | `what_etcd_knows_already_is_met_or_named`, `a_control_plane_waits_until_another_one_that_came_first_is_promoted`; with real ones `a_control_plane_whose_power_is_cut_at_ten_moments_of_its_join_comes_up` (cut_joins) |
//! | F22 a member that needs long | `timeouts.etcdAPICall`, which begins again while the snapshot comes in | `a_learner_has_time_while_its_snapshot_comes_in`, `each_timeout_is_the_one_that_is_configured` |
//! | F23 slow hardware | each of kubeadm's `timeouts` is the one that is configured | `each_timeout_is_the_one_that_is_configured`, `a_discovery_lasts_as_long_as_is_configured` |
//! | F24 a node of that name that lives | 77, and how to go on; our own earlier life is let in | `a_worker_is_told_what_is_wrong_and_comes_in_when_it_is_right` here; `a_node_of_our_name_is_us_a_dead_one_or_another` (join/existing_node) |

use std::fs;
use std::process::Output;

use anyhow::{Context as _, Result, ensure};

use super::Case;
use super::balancer::{Balancer, ENDPOINT, Faults};
use super::joins::{FOUNDER, TOKEN, ca_hash, configuration, put_private, worker};
use super::machine::{LIMIT, Machine, repository};
use super::terminating::Terminating;

/// The cases of this file.
pub const CASES: [Case; 3] = [
    ("a_worker_joins_by_a_way_that_fails_at_first_and_stays_on_it", joins),
    ("a_worker_joins_by_an_api_server_that_is_in_trouble_at_first", joins_in_trouble),
    ("a_worker_is_told_what_is_wrong_and_comes_in_when_it_is_right", told_what_is_wrong),
];

/// Where the worker is told that the cluster is: the API server's certificate has it, the cluster itself names another.
const GIVEN: &str = "10.77.0.1";

fn founder() -> Result<Machine> {
    let common = fs::read_to_string(repository().join("image/try.yaml"))?;
    let config = format!(
        "{common}---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nbootstrapTokens:\n  - token: {TOKEN}\n---\n\
         apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\napiServer: {{certSANs: [{GIVEN}]}}\n"
    );
    let path = configuration("ffounder", &config)?;
    let machine = Machine::up("ffounder", &["--config", &path.to_string_lossy(), "--address", &format!("{FOUNDER}/24")])?;
    machine.ready(LIMIT)?;
    Ok(machine)
}

const CONFIG: &str = "etc/edgeboot/config.yaml";

/// A worker that is told to go by [`GIVEN`] and to stay there; it is off.
fn worker_by_given(founder: &Machine) -> Result<Machine> {
    let worker = worker("fworker", "10.77.0.12/24", &ca_hash(founder)?)?;
    let config = worker.root()?.join(CONFIG);
    let told = fs::read_to_string(&config)?;
    let given =
        told.replace(&format!("endpoints: [\"{FOUNDER}:6443\"]"), &format!("endpoints: [\"{GIVEN}:6443\"]\n  keepEndpoint: true"));
    ensure!(given != told, "the configuration names no endpoint: {told}");
    fs::write(&config, given)?;
    Ok(worker)
}

fn joins() -> Result<()> {
    let founder = founder()?;
    let worker = worker_by_given(&founder)?;
    let _balancer = Balancer::failing_before(&[&format!("{FOUNDER}:6443")], Faults { resets: 8, delays: 6 })?;
    worker.on()?;
    let status = worker.ready(LIMIT)?;
    ensure!(status["result"] == "ready", "{status:#}");
    founder.kubectl("wait --for=condition=Ready node/fworker --timeout=120s")?;
    let server = worker.run("grep server: /etc/kubernetes/kubelet.conf")?;
    ensure!(server.contains(&format!("https://{GIVEN}:6443")), "it left the address it was given: {server}");
    let journal = worker.run("journalctl -b -u edgeboot.service --no-pager")?;
    ensure!(journal.contains("reset"), "no connection was reset:\n{journal}");
    worker.run("edgeboot reconcile --foreground && edgeboot plan --exit-code").map(drop)
}

fn joins_in_trouble() -> Result<()> {
    let founder = founder()?;
    let worker = worker_by_given(&founder)?;
    let proxy = Terminating::before(&founder, &format!("{FOUNDER}:6443"))?;
    worker.on()?;
    let status = worker.ready(LIMIT)?;
    ensure!(status["result"] == "ready", "{status:#}\n{}", proxy.told()?);
    founder.kubectl("wait --for=condition=Ready node/fworker --timeout=120s")?;
    let missed = proxy.missed()?;
    ensure!(missed.is_empty(), "this did not happen: {missed:#?} of {}", proxy.told()?);
    // One run came through all of it, and made nothing twice.
    let restarts = worker.run("systemctl show --property=NRestarts --value edgeboot.service")?;
    ensure!(restarts.trim() == "0", "it took {restarts} more runs");
    let requests = founder.kubectl("get csr --no-headers -o name")?;
    ensure!(requests.lines().filter(|name| name.contains("/node-csr-")).count() == 1, "{requests}");
    worker.run("edgeboot reconcile --foreground && edgeboot plan --exit-code").map(drop)
}

/// An attempt to join: what the configuration says, and how it ends.
struct Attempt<'a> {
    join: &'a str,
    token: &'a str,
    code: i32,
    words: &'a [&'a str],
}

impl Attempt<'_> {
    fn made_by(&self, worker: &Machine, common: &str) -> Result<()> {
        let root = worker.root()?;
        let (node, rest) = common.split_once("---\n").context("two documents")?;
        let kubeadm = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: JoinConfiguration\ntimeouts: {discovery: 20s}\n";
        // The name that a machine was once given it keeps.
        let name = if self.join.contains("NAME") { "ffounder" } else { "fworker" };
        let (name, join) = (format!("nodeRegistration: {{name: {name}}}\n"), self.join.replace("NAME", ""));
        put_private(&root.join(CONFIG), &format!("{node}role: worker\njoin: {{{join}}}\n---\n{rest}---\n{kubeadm}{name}"))?;
        put_private(&root.join("var/lib/edgeboot/credentials/token"), self.token)?;
        let Output { status, stdout, stderr } = worker.attempt("edgeboot reconcile --foreground")?;
        let said = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
        ensure!(status.code() == Some(self.code), "{join} {}: {status}, not {}:\n{said}", self.token, self.code);
        for words in self.words {
            ensure!(said.contains(words), "{join} {}: it does not say {words:?}:\n{said}", self.token);
        }
        let secret = self.token.split('.').nth(1).unwrap_or_default();
        ensure!(!said.contains(secret), "it says the token's secret:\n{said}");
        Ok(())
    }
}

/// The kinds of faults by their exit codes: 77 needs another secret, pin or name, 75 passes by itself, 69 is the machine's.
fn told_what_is_wrong() -> Result<()> {
    let founder = founder()?;
    let hash = ca_hash(&founder)?;
    let worker = worker("fworker", "10.77.0.12/24", &hash)?;
    let told = fs::read_to_string(worker.root()?.join(CONFIG))?;
    let (before, after) = told.split_once("role: worker").context("a role")?;
    let (_, after) = after.split_once("caCertHashes").and_then(|(_, rest)| rest.split_once('\n')).context("hashes")?;
    let common = format!("{before}{after}");
    // Nothing is wished yet: it comes up, and waits for a configuration.
    put_private(&worker.root()?.join(CONFIG), &common)?;
    worker.on()?;
    worker.run("systemctl stop edgeboot.path edgeboot.timer")?;

    founder.run("edgeboot token create abcdef.0123456789abcdef --ttl 1s >/dev/null")?;
    founder.kubectl("-n kube-system wait --for=delete secret/bootstrap-token-abcdef --timeout=120s")?;
    let by = |endpoint: &str, hash: &str, more: &str| {
        format!("endpoints: [\"{endpoint}\"], tokenFrom: \"credential:token\", caCertHashes: [\"{hash}\"]{more}")
    };
    let here = format!("{FOUNDER}:6443");
    let (right, other) = (by(&here, &hash, ""), format!("sha256:{}", "0a".repeat(32)));
    let discovery = founder.kubectl("-n kube-public get configmap cluster-info -o jsonpath={.data.kubeconfig}")?;
    put_private(&worker.root()?.join("root/cluster-info"), &discovery)?;
    let by_file = "discoveryFile: /root/cluster-info, tlsBootstrapTokenFrom: \"credential:token\"";
    let wrong_secret = "q7w2e9.0000000000000000";
    let attempts = [
        (right.as_str(), "abcdef.0123456789abcdef", 77, &["bootstrap token abcdef", "expired", "edgeboot token create"][..]),
        (&right, "zzzzzz.0123456789abcdef", 77, &["does not know the bootstrap token zzzzzz", "edgeboot token create"]),
        (&right, wrong_secret, 77, &["with another secret than our bootstrap token's", "edgeboot token create"]),
        (by_file, wrong_secret, 77, &["Unauthorized", "edgeboot token create"]),
        (&by(&here, &other, ""), TOKEN, 77, &["its CA is none of those that caCertHashes names", "put the hash"]),
        (
            &by(&format!("{GIVEN}:6444"), &hash, ""),
            TOKEN,
            75,
            &["waiting for the cluster at 10.77.0.1:6444: reading ConfigMap kube-public/cluster-info: Connection refused"],
        ),
        (&by(&here, &hash, " NAME"), TOKEN, 77, &["has a Ready node of that name already", "kubectl delete node ffounder"]),
    ];
    for (join, token, code, words) in attempts {
        Attempt { join, token, code, words }.made_by(&worker, &common)?;
    }

    let impostor = Terminating::impostor(&here)?;
    let (by_impostor, words) = (by(ENDPOINT, &hash, ""), ["has no certificate of the cluster's CA for that address"]);
    Attempt { join: &by_impostor, token: TOKEN, code: 77, words: &words }.made_by(&worker, &common)?;
    put_private(&worker.root()?.join("root/cluster-info"), &discovery.replace(&here, ENDPOINT))?;
    Attempt { join: by_file, token: TOKEN, code: 77, words: &words }.made_by(&worker, &common)?;
    drop(impostor);

    worker.run("systemd-run --quiet --unit=squatter socat TCP-LISTEN:10250,fork,reuseaddr EXEC:/bin/true; sleep 1")?;
    Attempt { join: &right, token: TOKEN, code: 69, words: &["10250"] }.made_by(&worker, &common)?;
    worker.run("systemctl stop squatter")?;

    // A fresh token is enough, whatever went wrong before.
    ensure!(!founder.kubectl("get nodes --no-headers")?.contains("fworker"), "it has come in with something that is wrong");
    Attempt { join: &right, token: TOKEN, code: 0, words: &[] }.made_by(&worker, &common)?;
    founder.kubectl("wait --for=condition=Ready node/fworker --timeout=120s").map(drop)
}
