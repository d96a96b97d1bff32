//! The joins: a further machine comes into a cluster that edgeboot founded, by edgeboot and by kubeadm in turn. The founder stays for all
//! rounds and is the one who says when the newcomer is Ready.

use anyhow::{Context as _, Result};

use crate::contest::{Run, status, told};
use crate::ground::Ground;
use crate::machine::Machine;
use crate::options::Options;
use crate::storm::{self, Weather};

/// How the newcomer is let in; the founder's configuration says the same.
pub const TOKEN: &str = "abcdef.0123456789abcdef";
/// With which key the founder's certificates can be fetched.
pub const CERTIFICATE_KEY: &str = "e6a2eb8581237ab72a4f494f30285ec12a9694d750b9785706a83bfcbbbd2204";
/// Where the cluster is.
pub const ENDPOINT: &str = "10.77.0.11:6443";

/// Who contends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Edgeboot,
    Kubeadm,
}

/// What was measured: edgeboot's runs and kubeadm's seconds.
#[derive(Debug, Default)]
pub struct Joins {
    /// (e) a worker, from the start of the join.
    pub worker: (Vec<Run>, Vec<f64>),
    /// (f) a worker, from power-on with nothing in place.
    pub power_on: (Vec<Run>, Vec<f64>),
    /// (h) who came in, and when: edgeboot's, and at fixed times.
    pub storm: Vec<(Weather, Weather)>,
    /// (g) a further control plane, from the start of the join until it is Ready and the join has ended.
    pub control_plane: (Vec<Run>, Vec<f64>),
}

/// The cluster that is joined.
#[derive(Debug)]
pub struct Joining<'a> {
    ground: &'a Ground,
    founder: Machine,
    hash: String,
}

impl<'a> Joining<'a> {
    /// Founds the cluster.
    pub fn found(ground: &'a Ground) -> Result<Joining<'a>> {
        let founder = ground.founder()?;
        founder.on()?;
        founder.run("edgeboot status --follow >/dev/null")?;
        let line = founder.run("kubeadm token create --print-join-command --kubeconfig /etc/kubernetes/admin.conf")?;
        let hash = line.split_whitespace().find(|word| word.starts_with("sha256:")).context("no hash of the CA")?.to_owned();
        Ok(Joining { ground, founder, hash })
    }

    /// One round of what is asked for.
    pub fn round(&self, options: &Options, results: &mut Joins) -> Result<()> {
        if options.wants("e") {
            results.worker.1.push(told("a worker's join by kubeadm", self.join(By::Kubeadm, "")?.0));
            let (seconds, machine) = self.join(By::Edgeboot, "")?;
            results.worker.0.push(Run { seconds: told("a worker's join by edgeboot", seconds), status: status(&machine)? });
        }
        if options.wants("f") {
            results.power_on.1.push(told("a worker's power-on with kubeadm", self.power_on(By::Kubeadm)?.0));
            let (seconds, machine) = self.power_on(By::Edgeboot)?;
            results.power_on.0.push(Run { seconds: told("a worker's power-on with edgeboot", seconds), status: status(&machine)? });
        }
        if options.wants("g") {
            let words = format!(" --control-plane --certificate-key {CERTIFICATE_KEY}");
            let (seconds, machine) = self.join(By::Kubeadm, &words)?;
            results.control_plane.1.push(told("a control plane's join by kubeadm", seconds));
            machine.run("kubeadm reset --force")?;
            drop(machine);
            let (seconds, machine) = self.join(By::Edgeboot, &words)?;
            let run = Run { seconds: told("a control plane's join by edgeboot", seconds), status: status(&machine)? };
            results.control_plane.0.push(run);
            machine.run("edgeboot reset --force")?;
        }
        if options.wants("h") {
            let fixed = self.storm(options, "fixed")?;
            let ours = self.storm(options, "edgeboot")?;
            results.storm.push((ours, fixed));
        }
        Ok(())
    }

    /// Seconds from the start of a join, with binaries and images in place and containerd running, until the node is Ready; a control
    /// plane's also until the join has ended.
    fn join(&self, by: By, more: &str) -> Result<(f64, Machine)> {
        let machine = self.ground.joiner()?;
        self.watch()?;
        let words = format!("{ENDPOINT} --token {TOKEN} --discovery-token-ca-cert-hash {}{more}", self.hash);
        let command = match by {
            By::Edgeboot => format!("edgeboot join {words}"),
            By::Kubeadm => format!("kubeadm join {words} --skip-phases=preflight"),
        };
        machine.run(&format!("cat /proc/uptime >/run/began; {command}; cat /proc/uptime >/run/ended"))?;
        let ended = if more.is_empty() { 0.0 } else { machine.seconds("/run/ended")? };
        let seconds = self.ready()?.max(ended) - machine.seconds("/run/began")?;
        Ok((seconds, machine))
    }

    /// Seconds from the machine's systemd being started, with nothing in place, until the node is Ready.
    fn power_on(&self, by: By) -> Result<(f64, Machine)> {
        let machine = match by {
            By::Edgeboot => self.ground.worker(&self.hash)?,
            By::Kubeadm => self.ground.peer_worker(&format!(
                "kubeadm join {ENDPOINT} --token {TOKEN} --discovery-token-ca-cert-hash {} --skip-phases=preflight",
                self.hash
            ))?,
        };
        self.watch()?;
        machine.on()?;
        let ready = self.ready()?;
        let text = machine.run("systemctl show --property=UserspaceTimestampMonotonic --value")?;
        let began: f64 = text.trim().parse().with_context(|| format!("systemd's start: {text}"))?;
        if by == By::Edgeboot {
            machine.run("systemctl start edgeboot.service")?;
        }
        Ok((ready - began / 1e6, machine))
    }

    /// A storm, and the cluster afterwards as it was before.
    fn storm(&self, options: &Options, who: &str) -> Result<Weather> {
        let weather = storm::unleash(&self.founder.folder(), who, options.nodes, &self.hash)?;
        told(&format!("half of the storm by {who}"), weather.percentile(50));
        let clear = format!(
            "export KUBECONFIG=/etc/kubernetes/admin.conf
             kubectl delete nodes --selector={} --wait=false >/dev/null
             kubectl delete certificatesigningrequests --all >/dev/null
             sleep 20",
            storm::LABEL
        );
        self.founder.run(&clear)?;
        Ok(weather)
    }

    /// Lets the founder watch for the newcomer, whose Node of the last round goes.
    fn watch(&self) -> Result<()> {
        let script = "kubectl --kubeconfig /etc/kubernetes/admin.conf delete node bench --ignore-not-found
                      systemctl stop bench-joined.service 2>/dev/null || true
                      rm -rf /run/bench
                      systemd-run --quiet --collect --unit=bench-joined /usr/lib/bench/ready bench
                      sleep 1";
        self.founder.run(script).map(drop)
    }

    /// When the newcomer was Ready, as the founder saw it.
    fn ready(&self) -> Result<f64> {
        self.founder.run("for i in {1..2400}; do [ ! -e /run/bench/ready ] || exit 0; sleep 0.1; done; exit 1")?;
        self.founder.seconds("/run/bench/ready")
    }
}
