//! Mixed control planes: two of edgeboot's and one of kubeadm's, behind a balancer. Whichever of them loses its power, the other two go on:
//! the API answers and takes writes, and the one that was lost comes back as the member and the node it was.

use anyhow::{Result, ensure};

use super::Case;
use super::balancer::{Balancer, ENDPOINT};
use super::control_planes::{KEY, founder_at, further, votes_with_peers};
use super::joins::{TOKEN, ca_hash};
use super::machine::{LIMIT, Machine};
use super::peer;

/// The cases of this file.
pub const CASES: [Case; 1] = [("mixed_control_planes_of_three_survive_the_loss_of_any_one", any_one_may_go)];

const NAMES: [&str; 3] = ["vfounder", "vsecond", "vthird"];
const ADDRESSES: [&str; 3] = ["10.77.0.11", "10.77.0.12", "10.77.0.13"];

fn any_one_may_go() -> Result<()> {
    let founder = founder_at(NAMES[0], ENDPOINT)?;
    let _balancer = Balancer::before(&["10.77.0.11:6443", "10.77.0.12:6443", "10.77.0.13:6443"])?;
    let hash = ca_hash(&founder)?;
    let second = further(NAMES[1], "10.77.0.12/24", &hash)?;
    second.on()?;
    ensure!(second.ready(LIMIT)?["result"] == "ready", "the second is not ready");
    let third = peer::up(NAMES[2], "10.77.0.13", |_| Ok(()))?;
    third.run(&format!(
        "kubeadm join {ENDPOINT} --token {TOKEN} --discovery-token-ca-cert-hash {hash} --control-plane --certificate-key {KEY} \
         --ignore-preflight-errors=all 2>&1"
    ))?;
    let all = [&founder, &second, &third];
    founder.kubectl("wait --for=condition=Ready nodes --all --timeout=120s")?;
    all.iter().try_for_each(|machine| votes_with_peers(machine, 2))?;

    for ((gone, name), address) in all.into_iter().zip(NAMES).zip(ADDRESSES) {
        let left: Vec<&Machine> = all.into_iter().filter(|machine| !std::ptr::eq(*machine, gone)).collect();
        gone.cut()?;
        for (machine, key) in left.iter().zip(["one", "two"]) {
            // By the balancer, as their admin.conf says; an election takes a second or two.
            through_balancer(machine, &format!("create configmap without-{name}-{key} --from-literal=kept=yes"))?;
        }
        left[0].kubectl(&format!("wait --for=condition=Ready=Unknown node/{name} --timeout=180s"))?;
        gone.on()?;
        left[1].kubectl(&format!("wait --for=condition=Ready node/{name} --timeout=240s"))?;
        if name != NAMES[2] {
            gone.ready(LIMIT)?;
        }
        // Its own API server and its own etcd have what was written without it.
        let own = format!("--server https://{address}:6443");
        settled(gone, &format!("get --raw /readyz {own}"))?;
        settled(gone, &format!("get configmap without-{name}-one without-{name}-two {own}"))?;
        all.iter().try_for_each(|machine| votes_with_peers(machine, 2))?;
    }
    let nodes = third.kubectl("get nodes --no-headers")?;
    ensure!(nodes.lines().count() == 3 && !nodes.contains("NotReady"), "{nodes}");
    [founder, second].iter().try_for_each(|machine| machine.settles(LIMIT))
}

fn through_balancer(machine: &Machine, command: &str) -> Result<()> {
    let server = machine.run("grep server: /etc/kubernetes/admin.conf")?;
    ensure!(server.contains(ENDPOINT), "it does not go by the balancer: {server}");
    settled(machine, command)
}

/// The command succeeds within a minute.
fn settled(machine: &Machine, command: &str) -> Result<()> {
    let kubectl = "KUBECONFIG=/etc/kubernetes/admin.conf kubectl --request-timeout=10s";
    let again = format!("for i in $(seq 60); do if {kubectl} {command} 2>&1; then exit 0; fi; sleep 1; done; exit 1");
    machine.run(&again).map(drop)
}
