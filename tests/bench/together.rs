//! (i) Three control planes from nothing: edgeboot's are switched on at once and find each other, kubeadm's come one after the other, each
//! switched on as soon as the boot unit of the one before has ended. Measured from the first machine's systemd being started until all
//! three Nodes are Ready, as the founder's API server says it.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use edgeboot::config::node::KeyAlgorithm;
use edgeboot::k8s::pki::{Pair, Validity, ca_hash};

use crate::contest::told;
use crate::ground::Ground;
use crate::joining::{CERTIFICATE_KEY, ENDPOINT, TOKEN};
use crate::machine::{MEASURED, Machine, THIRD};

/// Where the second and the third are; the founder has the first address.
const ADDRESSES: [(&str, &str); 2] = [(MEASURED, "10.77.0.12/24"), (THIRD, "10.77.0.13/24")];
/// A CA that outlives the benchmark.
const LIFE: Duration = Duration::from_secs(24 * 3600);

/// edgeboot's three.
pub fn at_once(ground: &Ground) -> Result<f64> {
    let validity = Validity::from_now(jiff::Timestamp::now(), LIFE).context("dates of a CA")?;
    let authority = Pair::new_authority("kubernetes", KeyAlgorithm::EcdsaP256, validity)?;
    let founder = ground.founder()?;
    let pki = founder.root()?.join("etc/kubernetes/pki");
    fs::create_dir_all(&pki)?;
    fs::write(pki.join("ca.crt"), authority.certificate.to_pem())?;
    fs::write(pki.join("ca.key"), authority.key.to_pem()?.as_bytes())?;
    let hash = ca_hash(&authority.certificate);
    let others = ADDRESSES.map(|(name, address)| ground.further(name, address, &hash));
    let [second, third] = others;
    let machines = [founder, second?, third?];
    std::thread::scope(|scope| {
        let switched = machines.each_ref().map(|machine| scope.spawn(|| machine.on()));
        switched.into_iter().try_for_each(|one| one.join().expect("switching on does not panic"))
    })?;
    let began = machines.iter().map(began).collect::<Result<Vec<f64>>>()?;
    let seconds = all_ready(&machines[0])? - began.into_iter().fold(f64::INFINITY, f64::min);
    Ok(told("three control planes by edgeboot", seconds))
}

/// kubeadm's three.
pub fn in_sequence(ground: &Ground) -> Result<f64> {
    let founder = ground.peer_founder("kubeadm init --config /root/kubeadm.yaml --upload-certs --skip-phases=preflight")?;
    founder.on()?;
    founder.run("systemctl start bench-peer.service")?;
    let line = founder.run("kubeadm token create --print-join-command --kubeconfig /etc/kubernetes/admin.conf")?;
    let hash = line.split_whitespace().find(|word| word.starts_with("sha256:")).context("no hash of the CA")?.to_owned();
    let mut others = Vec::new();
    for (name, address) in ADDRESSES {
        let join = format!(
            "kubeadm join {ENDPOINT} --token {TOKEN} --discovery-token-ca-cert-hash {hash} --control-plane \
             --certificate-key {CERTIFICATE_KEY} --skip-phases=preflight"
        );
        let machine = ground.peer_further(name, address, &join)?;
        machine.on()?;
        machine.run("systemctl start bench-peer.service")?;
        others.push(machine);
    }
    let seconds = all_ready(&founder)? - began(&founder)?;
    Ok(told("three control planes by kubeadm, one after the other", seconds))
}

/// When its systemd was started; all machines share the host's clock of uptime.
fn began(machine: &Machine) -> Result<f64> {
    let text = machine.run("systemctl show --property=UserspaceTimestampMonotonic --value")?;
    let microseconds: f64 = text.trim().parse().with_context(|| format!("systemd's start: {text}"))?;
    Ok(microseconds / 1e6)
}

/// When three Nodes were Ready.
fn all_ready(founder: &Machine) -> Result<f64> {
    founder.run(
        "for i in {1..600}; do
           ready=$(kubectl --kubeconfig /etc/kubernetes/admin.conf get nodes --no-headers 2>/dev/null | grep -cw Ready || true)
           [ \"$ready\" != 3 ] || { cat /proc/uptime >/run/all-ready; exit 0; }
           sleep 0.5
         done
         exit 1",
    )?;
    founder.seconds("/run/all-ready")
}
