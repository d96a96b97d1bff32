//! Edgeboot among people and kubeadm: what others change is theirs, kubeadm's commands work, secrets stay secret, and bad surroundings
//! are named before anything is half-made.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use super::Case;
use super::machine::{LIMIT, Machine};
use super::secrets;

/// The cases of this file.
pub const CASES: [Case; 2] = [
    ("what_others_changed_is_kept_and_kubeadm_sees_a_kubeadm_cluster", ours_and_theirs),
    ("bad_surroundings_are_named_and_nothing_is_half_made", bad_surroundings),
];

fn ours_and_theirs() -> Result<()> {
    let config = super::machine::repository().join("target/theirs.yaml");
    let base = std::fs::read_to_string(super::machine::repository().join("image/try.yaml"))?;
    std::fs::write(&config, format!("{base}---\n{CANARY_DOCUMENT}"))?;
    let machine = Machine::up("theirs", &["--off", "--config", &config.to_string_lossy()])?;
    secrets::watched(CANARY, || {
        machine.on()?;
        machine.ready(LIMIT)
    })?;
    ensure!(machine.kubectl("-n kube-system get secret bootstrap-token-canary")?.contains("bootstrap.kubernetes.io/token"));
    // Commands that only read.
    for command in ["certs check-expiration", "token list"] {
        machine.run(&format!("kubeadm {command} --kubeconfig /etc/kubernetes/admin.conf 2>&1 || kubeadm {command}"))?;
    }
    // Somebody edits; each stays, is reported, and is no failure.
    machine.run("sed -i 's/    - --allow-privileged=true/    - --allow-privileged=true\\n    - --profiling=false/' /etc/kubernetes/manifests/kube-apiserver.yaml")?;
    machine.run("mkdir -p /etc/systemd/system/kubelet.service.d && printf '[Service]\\nEnvironment=THEIRS=1\\n' > /etc/systemd/system/kubelet.service.d/50-theirs.conf && systemctl daemon-reload")?;
    let manifest = machine.digest("/etc/kubernetes/manifests/kube-apiserver.yaml")?;
    machine.run("for i in $(seq 60); do kubectl get --raw /readyz && break; sleep 1; done")?;
    machine.kubectl("-n kube-system get cm coredns -o yaml | sed 's/cache 30/cache 31/' | KUBECONFIG=/etc/kubernetes/admin.conf kubectl apply -f -")?;
    machine.run("kubeadm certs renew apiserver-kubelet-client 2>&1")?;
    let renewed = machine.digest("/etc/kubernetes/pki/apiserver-kubelet-client.crt")?;
    let output = machine.attempt("edgeboot reconcile --foreground")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    ensure!(said.contains("keeps /etc/kubernetes/manifests/kube-apiserver.yaml"), "not reported: {said}");
    ensure!(said.contains("ConfigMap kube-system/coredns"), "the Corefile is not reported: {said}");
    ensure!(machine.digest("/etc/kubernetes/manifests/kube-apiserver.yaml")? == manifest, "an edited manifest was overwritten");
    ensure!(machine.digest("/etc/kubernetes/pki/apiserver-kubelet-client.crt")? == renewed, "a renewed certificate was replaced");
    ensure!(machine.kubectl("-n kube-system get cm coredns -o yaml")?.contains("cache 31"), "an edited Corefile was overwritten");
    machine.serves()?;
    secrets::nowhere(&machine, CANARY)?;
    secrets::no_core(&machine)?;

    // kubeadm ends the cluster; a boot does not build another one unasked.
    machine.run("kubeadm reset --force 2>&1")?;
    let output = machine.attempt("edgeboot reconcile --foreground")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(69) && said.contains("edgeboot init"), "{}: {said}", output.status);
    ensure!(!machine.attempt("test -e /etc/kubernetes/pki/ca.key")?.status.success(), "a second cluster was founded");
    Ok(())
}

/// A token that must be nowhere but in its file and in its Secret.
const CANARY_DOCUMENT: &str =
    "apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nbootstrapTokens: [{token: canary.0123456789canary}]\n";
/// The half of it that is secret.
const CANARY: &str = "0123456789canary";

fn bad_surroundings() -> Result<()> {
    let machine = Machine::up("bad", &["--off"])?;
    let root = machine.root()?;
    let config = std::fs::read_to_string(root.join("etc/edgeboot/config.yaml"))?;
    without_systemd(&root)?;
    std::fs::write(root.join("etc/edgeboot/config.yaml"), "role: controlPlane\nrole: [\n")?;
    machine.on()?;

    // Garbage: its line is named, exit 78, nothing is made; the corrected file is taken without a reboot.
    let status = machine.finished(LIMIT)?;
    ensure!(status["result"] == "failed" && status["error"]["kind"] == "config", "{status:#}");
    ensure!(status["error"]["message"].as_str().is_some_and(|text| text.contains("config.yaml:2")), "{status:#}");
    machine.run("! test -e /etc/kubernetes/pki && ! test -e /var/lib/edgeboot/state.json")?;

    std::fs::write(root.join("etc/edgeboot/config.yaml"), "")?;
    let output = machine.attempt("edgeboot reconcile --foreground")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(78) && said.contains("this is empty"), "{}: {said}", output.status);
    // Too little room: named, nothing half-made.
    machine.run(
        "mkdir -p /var/lib/edgeboot /etc/kubernetes && mount -t tmpfs -o size=8M none /var/lib/edgeboot && mount -t tmpfs -o size=16k none /etc/kubernetes",
    )?;
    // Renamed into place: of a file that is still being written a run may well see half.
    machine.run(&format!("cat > /etc/edgeboot/new <<'E'\n{config}\nE\nmv /etc/edgeboot/new /etc/edgeboot/config.yaml"))?;
    wait_for(&machine, "failed", "free at /var/lib/edgeboot and")?;
    machine.run("! test -e /var/lib/edgeboot/packages && test -z \"$(ls /etc/kubernetes)\"")?;

    // A stranger on 6443: with room for the package the run goes on by itself, to here; named, nothing half-made.
    machine.run("systemd-run --unit=stranger socat TCP-LISTEN:6443,fork /dev/null")?;
    machine.run("mount -o remount,size=1G /var/lib/edgeboot")?;
    wait_for(&machine, "failed", "Port-6443")?;
    machine.run("! test -e /etc/kubernetes/pki/ca.key")?;

    // A full disk amid the keys: named, and what is there is whole.
    machine.run("systemctl stop stranger; systemctl restart --no-block edgeboot-reconcile.service")?;
    wait_for(&machine, "failed", "No space left on device")?;
    machine.run("test -z \"$(find /etc/kubernetes -type f -empty)\" && ! test -e /etc/kubernetes/manifests/kube-apiserver.yaml")?;
    machine.run("mount -o remount,size=64M /etc/kubernetes")?;

    // Two at once: the second says who holds the lock.
    machine.run("systemctl stop edgeboot-reconcile.service")?;
    machine.run("systemctl start --no-block edgeboot-reconcile.service; sleep 0.3")?;
    let output = machine.attempt("edgeboot reconcile --foreground")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(75) && said.contains("held by pid"), "{}: {said}", output.status);
    wait_for(&machine, "ready", "")?;
    machine.serves()?;

    // Not root.
    let output = machine.attempt("setpriv --reuid=65534 --clear-groups edgeboot init")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(69) && said.contains("root"), "{}: {said}", output.status);

    // The advertise address is gone: 69, both addresses and the line to write.
    machine.run("ip address del 10.77.0.11/24 dev eth0 && ip address add 10.77.0.99/24 dev eth0")?;
    let output = machine.attempt("edgeboot reconcile --foreground")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(69), "{}: {said}", output.status);
    ensure!(said.contains("10.77.0.11") && said.contains("10.77.0.99") && said.contains("advertiseAddress"), "{said}");
    Ok(())
}

/// A plain chroot: one sentence, before anything is touched.
fn without_systemd(root: &Path) -> Result<()> {
    for words in [&["reconcile", "--foreground"][..], &["reconcile"], &["init"]] {
        let output = Command::new("chroot").arg(root).arg("/usr/bin/edgeboot").args(words).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(69), "{words:?}: {}: {said}", output.status);
        ensure!(said.starts_with("edgeboot: looking for systemd: it does not run here"), "{words:?}: {said}");
        ensure!(said.lines().count() == 2 && said.contains("hint: edgeboot needs systemd"), "{words:?}: {said}");
    }
    for made in ["var/lib/edgeboot/state.json", "var/lib/edgeboot/packages", "etc/kubernetes"] {
        ensure!(!root.join(made).exists(), "{made} was made");
    }
    Ok(())
}

/// Waits for a run that ended like this and said this: runs of the path unit may still end with what was there before.
fn wait_for(machine: &Machine, result: &str, said: &str) -> Result<()> {
    let started = std::time::Instant::now();
    loop {
        let status = machine.status()?.unwrap_or_default();
        let message = status["error"]["message"].as_str().unwrap_or_default();
        if status["result"] == result && message.contains(said) {
            return Ok(());
        }
        ensure!(started.elapsed() < LIMIT, "never {result} with {said:?}: {status:#}");
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
}
