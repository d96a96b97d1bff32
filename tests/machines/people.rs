//! Edgeboot among people and kubeadm: what others change is theirs, kubeadm's commands work, secrets stay secret, and bad surroundings
//! are named before anything is half-made.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

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
    tokens_of_either_tool(&machine)?;
    certificates_by_hand(&machine)?;
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
    secrets::nowhere(&machine, &[CANARY])?;
    secrets::no_core(&machine)?;

    // kubeadm ends the cluster; a boot does not build another one unasked.
    machine.run("kubeadm reset --force 2>&1")?;
    let output = machine.attempt("edgeboot reconcile --foreground")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(69) && said.contains("edgeboot init"), "{}: {said}", output.status);
    ensure!(!machine.attempt("test -e /etc/kubernetes/pki/ca.key")?.status.success(), "a second cluster was founded");
    Ok(())
}

/// The objects that a command prints for programs, in a row.
fn printed(machine: &Machine, command: &str) -> Result<Vec<Value>> {
    let text = machine.run(&format!("KUBECONFIG=/etc/kubernetes/admin.conf {command}"))?;
    serde_json::Deserializer::from_str(&text).into_iter().collect::<Result<_, _>>().with_context(|| format!("{command}: {text}"))
}

/// What edgeboot says of tokens is what kubeadm says of them, and each ends what the other made.
fn tokens_of_either_tool(machine: &Machine) -> Result<()> {
    let made = machine.run("edgeboot token create --ttl 2h --description 'made by edgeboot'")?;
    let kubeadms = machine.run("kubeadm token create --kubeconfig /etc/kubernetes/admin.conf")?;
    let lists = ["edgeboot", "kubeadm"].map(|tool| printed(machine, &format!("{tool} token list -o json")));
    let [ours, theirs] = lists.map(|list| {
        list.map(|mut tokens| {
            tokens.sort_by_key(|token| token["token"].to_string());
            tokens
        })
    });
    let (ours, theirs) = (ours?, theirs?);
    ensure!(ours == theirs, "edgeboot: {ours:#?}\nkubeadm: {theirs:#?}");
    ensure!(ours.iter().any(|token| token["token"] == made.trim() && token["description"] == "made by edgeboot"), "{ours:#?}");
    let words =
        |text: String| text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect::<Vec<Vec<_>>>();
    let table = words(machine.run("edgeboot token list")?);
    let kubeadm_table = words(machine.run("kubeadm token list --kubeconfig /etc/kubernetes/admin.conf")?);
    ensure!(table[0] == kubeadm_table[0] && table.len() == ours.len() + 1, "{table:#?} {kubeadm_table:#?}");
    // The line that joins is kubeadm's but for its first word and the token.
    let line = |tool: &str| machine.run(&format!("KUBECONFIG=/etc/kubernetes/admin.conf {tool} token create --print-join-command"));
    let (line, kubeadms_line) = (line("edgeboot")?, line("kubeadm")?);
    let (line, kubeadms_line): (Vec<_>, Vec<_>) = (line.split_whitespace().collect(), kubeadms_line.split_whitespace().collect());
    ensure!(line[1..4] == kubeadms_line[1..4] && line[5..] == kubeadms_line[5..], "{line:?}, kubeadm's: {kubeadms_line:?}");
    for token in [kubeadms.trim(), line[4], kubeadms_line[4]] {
        machine.run(&format!("edgeboot token delete {}", &token[..6]))?;
    }
    machine.run(&format!("kubeadm token delete {} --kubeconfig /etc/kubernetes/admin.conf", &made[..6]))?;
    let left = printed(machine, "edgeboot token list -o json")?;
    ensure!(left.len() == 1 && left[0]["token"].as_str().is_some_and(|token| token.starts_with("canary.")), "{left:#?}");
    let again = machine.attempt(&format!("edgeboot token delete {}", &made[..6]))?;
    ensure!(again.status.code() == Some(69), "{}", String::from_utf8_lossy(&again.stderr));
    in_no_journal(machine, &made[7..23])
}

/// What expires is kubeadm's list; what is renewed serves and stays ours; keys and kubeconfigs that were asked for work.
fn certificates_by_hand(machine: &Machine) -> Result<()> {
    let mut lists = Vec::new();
    for tool in ["edgeboot", "kubeadm"] {
        let mut list = printed(machine, &format!("{tool} certs check-expiration -o json"))?.remove(0);
        for part in ["certificates", "certificateAuthorities"] {
            for row in list[part].as_array_mut().into_iter().flatten() {
                ensure!(row["residualTime"].as_i64().is_some_and(|left| left > 86_400), "{tool}: {row}");
                row["residualTime"] = Value::Null;
            }
        }
        lists.push(list);
    }
    ensure!(lists[0] == lists[1], "edgeboot: {:#}\nkubeadm: {:#}", lists[0], lists[1]);
    let certificate = "/etc/kubernetes/pki/apiserver.crt";
    let before = machine.digest(certificate)?;
    let said = machine.run("edgeboot certs renew apiserver")?;
    ensure!(said.starts_with("certificate for serving the Kubernetes API renewed"), "{said}");
    ensure!(machine.digest(certificate)? != before, "not renewed: {said}");
    machine.serves()?;
    let served = machine.run("curl -sk -o /dev/null -w '%{certs}' https://127.0.0.1:6443/readyz")?;
    let line = machine.run(&format!("sed -n 3p {certificate}"))?;
    ensure!(served.contains(line.trim()), "the API server serves with another certificate: {served}");
    machine.run("edgeboot certs renew scheduler.conf && edgeboot plan --exit-code && ! edgeboot plan | grep keeps")?;
    machine.run("kubeadm certs check-expiration")?;

    machine.run(
        "(umask 077; edgeboot kubeconfig user --client-name jane --org system:masters,ops --validity-period 1h > /root/jane)",
    )?;
    let who = machine.run("kubectl --kubeconfig /root/jane auth whoami -o json && rm /root/jane")?;
    ensure!(who.contains("\"jane\"") && who.contains("\"ops\""), "{who}");
    let key = || machine.run("edgeboot init phase upload-certs --upload-certs");
    let (first, second) = (key()?, key()?);
    for key in [first.trim(), second.trim()] {
        ensure!(key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key:?} is no certificate key");
        in_no_journal(machine, key)?;
    }
    ensure!(first != second, "the second upload has the key of the first");
    ensure!(
        machine.kubectl("-n kube-system get secret kubeadm-certs -o json")?.contains("\"sa.key\""),
        "no sealed key was uploaded"
    );
    Ok(())
}

/// A secret that was printed is in no journal.
fn in_no_journal(machine: &Machine, secret: &str) -> Result<()> {
    std::fs::write(machine.root()?.join("root/pattern"), secret)?;
    machine
        .run("! journalctl -b -o export --no-pager | grep -aFf /root/pattern && ! grep -lFf /root/pattern /run/edgeboot/*")
        .map(drop)
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
    // systemd does not notice what changes while the unit that a path triggers is ending: the run on the empty file is over first.
    machine.run(&format!("sleep 2; cat > /etc/edgeboot/new <<'E'\n{config}\nE\nmv /etc/edgeboot/new /etc/edgeboot/config.yaml"))?;
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
    machine.run("test -z \"$(find /etc/kubernetes -type f '(' -empty -o -name '.*' ')')\" && ! systemctl is-active kubelet")?;
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
