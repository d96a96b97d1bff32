//! Whether a secret shows: in arguments and environments while edgeboot works, in what it writes, prints and leaves behind.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};

use super::machine::Machine;

/// Programs of ours, by the kernel's name for their processes.
const OURS: [&str; 2] = ["edgeboot", "ctr"];
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// Does `work`, and looks meanwhile at the arguments and the environment of every program of ours on this host, machines and all.
pub fn watched<T>(secret: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let (mut looks, mut shown) = (0_u32, Vec::new());
            while !done.load(Ordering::Relaxed) {
                for text in ours_now() {
                    looks += 1;
                    if text.contains(secret) {
                        shown.push(text.replace(secret, "SECRET"));
                    }
                }
                thread::sleep(BETWEEN_LOOKS);
            }
            (looks, shown)
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        let (looks, shown) = watcher.join().map_err(|_| anyhow!("the watcher panicked"))?;
        ensure!(shown.is_empty(), "a secret is in the arguments or the environment: {}", shown[0]);
        let result = result?;
        ensure!(looks > 20, "edgeboot was seen {looks} times only");
        Ok(result)
    })
}

/// Arguments and environment of each program of ours that runs now.
fn ours_now() -> Vec<String> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let folders = processes.filter_map(|entry| Some(entry.ok()?.path()));
    let ours = folders.filter(|folder| fs::read_to_string(folder.join("comm")).is_ok_and(|name| OURS.contains(&name.trim())));
    ours.filter_map(|folder| {
        let (arguments, environment) = (fs::read(folder.join("cmdline")).ok()?, fs::read(folder.join("environ")).ok()?);
        Some(String::from_utf8_lossy(&[arguments, environment].concat()).into_owned())
    })
    .collect()
}

/// On a machine that has joined: neither what let it in nor the key of its request shows, and what is spent is gone.
pub fn joined(machine: &Machine, introductions: &[&str]) -> Result<()> {
    let key = machine.run("sed -n '/PRIVATE KEY/,/PRIVATE KEY/p' /var/lib/kubelet/pki/kubelet-client-current.pem")?;
    let key = key.lines().nth(1).context("the kubelet has no key")?;
    let secrets: Vec<&str> = introductions.iter().copied().chain([key]).collect();
    nowhere(machine, &secrets)?;
    machine.run(
        "test ! -e /var/lib/edgeboot/join/kubelet-client.key && test -z \"$(ls -A /var/lib/edgeboot/credentials 2>/dev/null)\" && \
         test \"$(stat -Lc %a /var/lib/kubelet/pki/kubelet-client-current.pem)\" = 600",
    )
    .map(drop)
}

/// Modes of every secret, and the secrets' texts nowhere but in their files and objects.
pub fn nowhere(machine: &Machine, canaries: &[&str]) -> Result<()> {
    let readable = machine.run(
        "find /etc/kubernetes /var/lib/edgeboot /var/lib/kubelet/pki /etc/edgeboot -type f \\( -name '*.key' -o -name '*.conf' -o -name '*.pem' -o -name 'state.json' -o -name config.yaml \\) -perm /077 -not -path '*/packages/*'",
    )?;
    ensure!(readable.trim().is_empty(), "readable by others: {readable}");
    for secret in canaries.iter().chain(&["PRIVATE KEY"]) {
        machine.run(&format!("! grep -lrF '{secret}' /var/lib/edgeboot/state.json /run/edgeboot"))?;
        machine.run(&format!("! journalctl -b -u 'edgeboot*' -o export --no-pager | grep -aF '{secret}'"))?;
    }
    // The pattern comes from a file, so that the search itself does not hold it.
    fs::write(machine.root()?.join("root/pattern"), canaries.join("\n"))?;
    machine.run("! grep -laFf /root/pattern /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null")?;
    for command in ["status", "plan", "config check", "preflight", "phase list", "--help", "init --help"] {
        for output in ["text", "json"] {
            let said = machine.attempt(&format!("edgeboot {command} -o {output} 2>&1"))?;
            let said = String::from_utf8_lossy(&said.stdout);
            ensure!(!canaries.iter().any(|canary| said.contains(canary)), "`edgeboot {command} -o {output}` prints a secret");
        }
    }
    machine.run("test -s /root/pattern && rm /root/pattern").map(drop)
}

/// An edgeboot that is killed leaves no core, where another program leaves one.
pub fn no_core(machine: &Machine) -> Result<()> {
    machine.run("mkdir -p /root/cores")?;
    let cores = |command: &str, name: &str| {
        machine.run(&format!(
            "cd /root/cores; ulimit -c unlimited; {command} >/dev/null 2>&1 & \
             until [ \"$(cat /proc/$!/comm)\" = {name} ]; do :; done; sleep 0.1; kill -ABRT $!; wait $!; echo $?; ls; rm -f core*"
        ))
    };
    let other = cores("sleep 60", "sleep")?;
    ensure!(other.lines().count() == 2, "no program leaves a core here, so that this shows nothing: {other}");
    let ours = cores("edgeboot package verify /usr/lib/edgeboot/package", "edgeboot")?;
    ensure!(ours.trim() == "134", "edgeboot was killed and left: {ours}");
    Ok(())
}
