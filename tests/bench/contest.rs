//! The runs. In each, "Ready" is what inside/ready saw, and a moment is a number of /proc/uptime, which all machines share.

use anyhow::{Context as _, Result, ensure};
use edgeboot::engine::progress::Status;

use crate::ground::Ground;
use crate::machine::Machine;
use crate::options::Options;

/// How often `reconcile` with nothing to do runs on each machine.
const NOOPS: usize = 10;

/// One run of edgeboot: how long it took, and its own account of it.
#[derive(Debug)]
pub struct Run {
    /// Seconds to Ready.
    pub seconds: f64,
    /// Its status.json.
    pub status: Status,
}

/// One `reconcile` with nothing to do.
#[derive(Debug)]
pub struct Noop {
    /// Wall time.
    pub milliseconds: f64,
    /// Peak resident memory.
    pub kibibytes: f64,
}

/// What was measured: seconds, unless named otherwise.
#[derive(Debug, Default)]
pub struct Results {
    /// (a) edgeboot.
    pub init: Vec<Run>,
    /// (a) kubeadm.
    pub init_kubeadm: Vec<f64>,
    /// (a) the kubelet on finished files.
    pub floor: Vec<f64>,
    /// (b) edgeboot.
    pub power_on: Vec<Run>,
    /// (b) a boot unit around kubeadm.
    pub power_on_kubeadm: Vec<f64>,
    /// (c)
    pub noop: Vec<Noop>,
    /// (c) the account of one of them.
    pub noop_status: Option<Status>,
}

/// The runs and their results.
#[derive(Debug)]
pub struct Contest<'a> {
    ground: &'a Ground,
    /// What was measured.
    pub results: Results,
}

impl<'a> Contest<'a> {
    /// Nothing has run yet.
    pub fn new(ground: &'a Ground) -> Contest<'a> {
        Contest { ground, results: Results::default() }
    }

    /// Fills the page cache, and learns which host files edgeboot places.
    pub fn warm_up(&self) -> Result<()> {
        self.ground.forget()?;
        let machine = self.ground.prepared()?;
        timed(&machine, "edgeboot init --config /root/node.yaml")?;
        self.ground.keep_host_files(&machine)
    }

    /// (a) binaries and images in place, containerd running, kubelet.service enabled.
    pub fn init(&mut self) -> Result<()> {
        let machine = self.ground.prepared()?;
        let seconds = timed(&machine, "kubeadm init --config /root/kubeadm.yaml --skip-phases=preflight")?;
        self.results.init_kubeadm.push(told("init by kubeadm", seconds));
        self.ground.keep_finished_files(&machine)?;
        drop(machine);

        let machine = self.ground.prepared()?;
        self.ground.lay_finished_files(&machine)?;
        let seconds = timed(&machine, "systemctl start kubelet.service")?;
        self.results.floor.push(told("the kubelet on finished files", seconds));
        drop(machine);

        let machine = self.ground.prepared()?;
        let seconds = timed(&machine, "edgeboot init --config /root/node.yaml")?;
        self.results.init.push(Run { seconds: told("init by edgeboot", seconds), status: status(&machine)? });
        Ok(())
    }

    /// (b) nothing in place, and (c) nothing to do, on the machine of (b).
    pub fn power_on(&mut self, options: &Options) -> Result<()> {
        if options.wants("b") {
            let machine = self.ground.peer()?;
            self.results.power_on_kubeadm.push(told("power-on with kubeadm", switched_on(&machine)?));
        }
        let machine = self.ground.ours()?;
        let seconds = told("power-on with edgeboot", switched_on(&machine)?);
        // What comes after Ready is its own work too, and (c) begins when that is done.
        machine.run("systemctl start edgeboot.service")?;
        self.results.power_on.push(Run { seconds, status: status(&machine)? });
        if options.wants("c") {
            machine.run("sleep 10")?;
            self.noops(&machine)?;
        }
        Ok(())
    }

    fn noops(&mut self, machine: &Machine) -> Result<()> {
        let script = format!("for i in {{1..{NOOPS}}}; do /usr/lib/bench/measure edgeboot reconcile --foreground; sleep 0.5; done");
        for line in machine.run(&script)?.lines() {
            let numbers: Vec<f64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
            let [milliseconds, kibibytes, code] = numbers[..] else { anyhow::bail!("measure said {line:?}") };
            ensure!(code == 0.0, "reconcile with nothing to do ended with the status {code}");
            self.results.noop.push(Noop { milliseconds, kibibytes });
        }
        self.results.noop_status = Some(status(machine)?);
        Ok(())
    }
}

/// Seconds from the start of a command inside to Ready.
fn timed(machine: &Machine, command: &str) -> Result<f64> {
    machine.run(&format!("cat /proc/uptime >/run/began; {command}; systemctl start bench-ready.service"))?;
    Ok(machine.seconds("/run/bench/ready")? - machine.seconds("/run/began")?)
}

/// Seconds from the machine's systemd being started to Ready.
fn switched_on(machine: &Machine) -> Result<f64> {
    machine.on()?;
    machine.run("systemctl start bench-ready.service")?;
    let text = machine.run("systemctl show --property=UserspaceTimestampMonotonic --value")?;
    let began: f64 = text.trim().parse().with_context(|| format!("systemd's start: {text}"))?;
    Ok(machine.seconds("/run/bench/ready")? - began / 1e6)
}

/// Its own account of the last run.
pub fn status(machine: &Machine) -> Result<Status> {
    let text = machine.run("cat /run/edgeboot/status.json")?;
    serde_json::from_str(&text).with_context(|| format!("status.json: {text}"))
}

/// Says it, and passes it on.
pub fn told(what: &str, seconds: f64) -> f64 {
    eprintln!("  {what}: {seconds:.2} s");
    seconds
}
