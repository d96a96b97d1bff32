//! A machine whose clock has no battery.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::vm::Vm;

const LIMIT: Duration = Duration::from_secs(900);

fn phase<'a>(status: &'a Value, id: &str) -> &'a Value {
    let phases = status["phases"].as_array().into_iter().flatten();
    phases.into_iter().find(|phase| phase["id"] == id).unwrap_or(&Value::Null)
}

/// systemd itself sets such a clock to the day it was built, which is still before the package was put there.
pub fn in_1970() -> Result<()> {
    let vm = Vm::up("clock", &["--rtc", "1970-01-02"])?;
    let status = vm.until("finished", LIMIT, |status| status["result"] != "running")?;
    ensure!(
        status["result"] == "failed" && status["error"]["phase"] == "clock" && status["error"]["kind"] == "transient",
        "{status:#}"
    );
    let message = status["error"]["message"].as_str().unwrap_or_default();
    ensure!(message.contains("it says 20") && message.contains(", but "), "{message}");
    ensure!(status["error"]["hint"].as_str().is_some_and(|hint| hint.contains("timedatectl set-time")), "{status:#}");
    let journal = vm.run(
        "for i in $(seq 60); do journalctl -b -u edgeboot --no-pager | grep -q status= && break; sleep 1; done; \
              journalctl -b -u edgeboot --no-pager",
    )?;
    for said in ["waiting for the clock to be synchronised", message, "status=75/TEMPFAIL"] {
        ensure!(journal.contains(said), "the journal does not say {said:?}:\n{journal}");
    }

    for absent in
        ["/etc/kubernetes/pki", "/etc/kubernetes/admin.conf", "/etc/kubernetes/manifests/etcd.yaml", "/var/lib/etcd/member"]
    {
        ensure!(vm.attempt(&format!("test -e {absent}"))?.is_none(), "{absent} was made by a clock that is wrong");
    }

    vm.run(&format!("timedatectl set-ntp false; date -s @{}", jiff::Timestamp::now().as_second()))?;
    let status = vm.until("past the clock", LIMIT, |status| phase(status, "certs/ca")["state"] == "done")?;
    // A run that was waiting has seen the clock being set; one that began afterwards has found it right.
    let state = &phase(&status, "clock")["state"];
    ensure!(state == "done" || state == "unchanged", "{status:#}");
    Ok(())
}
