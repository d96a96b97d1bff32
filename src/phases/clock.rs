//! The clock: certificates made in 1970 are of no use. A clock below the floor (nothing on this machine can be younger than now) is
//! named and waited for; one above it holds nothing up, for a device may be offline for days.

use std::time::Duration;

use async_trait::async_trait;

use crate::config::node::Node;
use crate::engine::context::Context;
use crate::engine::phase::{Action, Change, Drift, Fingerprint, Inputs, Phase, PhaseId, Subject};
use crate::error::{Error, Result};
use crate::host::clock::Timestamp;
use crate::host::{Deadline, Root, Utf8PathBuf};
use crate::k8s::names;
use crate::k8s::pki::{self, Certificate};

/// The phase `clock`.
#[derive(Debug)]
pub struct Clock;

/// Its id.
pub const CLOCK: PhaseId = PhaseId("clock");

/// When this program was built, seconds since 1970; a build that is to be reproducible gives it (reproducible-builds.org).
const BUILT: Option<&str> = option_env!("SOURCE_DATE_EPOCH");
/// systemd's own floor: its modification time.
const CLOCK_EPOCH: &str = "/usr/lib/clock-epoch";
/// A clock that is being set sends no event over D-Bus.
const FIRST_LOOK: Duration = Duration::from_millis(100);
const MOST_BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// The latest thing that is known to have happened.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Floor {
    at: Timestamp,
    /// Completes "but …".
    what: String,
}

#[async_trait]
impl Phase for Clock {
    fn id(&self) -> PhaseId {
        CLOCK
    }
    fn summary(&self) -> &'static str {
        "makes sure that the clock can be believed"
    }
    fn after(&self) -> &'static [PhaseId] {
        &[]
    }
    fn applies(&self, _node: &Node) -> bool {
        true
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        Fingerprint::of(&inputs.node.host.time)
    }

    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        let doubt = below_floor(cx)?;
        if doubt.is_none() && cx.node.host.time.offline {
            return Ok(Drift::none());
        }
        // A clock that a time source has set is right, whatever an earlier, wrong one left on the files.
        if cx.host.clock.synchronized().await? {
            return Ok(Drift::none());
        }
        if doubt.is_none() && !cx.host.clock.synchronizing().await? {
            return Ok(Drift::none());
        }
        let reason = doubt.unwrap_or_else(|| "it is not synchronised yet".to_owned());
        Ok(Drift::one(Change::new(Subject::Fact("the clock".to_owned()), Action::Await).because(reason)))
    }

    async fn apply(&self, cx: &Context) -> Result<()> {
        let policy = &cx.node.host.time;
        if cx.host.clock.synchronizing().await? {
            cx.waiting_for("the clock to be synchronised");
            let deadline = Deadline::after(policy.wait, "the clock to be synchronised");
            if is_set(cx, &deadline).await? {
                return Ok(());
            }
        }
        match below_floor(cx)? {
            Some(doubt) => Err(Error::transient("looking at the clock").because(doubt).hint(
                "connect the machine to a time source (NTP), or set its clock with `timedatectl set-time`; edgeboot tries again by itself",
            )),
            None if policy.offline => Ok(()),
            None => Err(Error::transient("waiting for the clock to be synchronised")
                .because(format!("not so after {} s", policy.wait.as_secs()))
                .hint("connect the machine to a time source (NTP), or allow an offline start: `host: {time: {offline: true}}`")),
        }
    }
}

/// Waits until a time source has set the clock, or, where that is enough, until it is above the floor; false when time is up.
async fn is_set(cx: &Context, deadline: &Deadline) -> Result<bool> {
    let look = || async {
        let enough = cx.node.host.time.offline && below_floor(cx)?.is_none();
        Ok((enough || cx.host.clock.synchronized().await?).then_some(()))
    };
    match deadline.until(FIRST_LOOK, MOST_BETWEEN_LOOKS, look).await {
        Ok(()) => Ok(true),
        Err(_) if deadline.passed() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Why the clock cannot be right, in words; `None` when it can.
fn below_floor(cx: &Context) -> Result<Option<String>> {
    let now = cx.host.clock.now();
    let floor = floor(&cx.host.root, &cx.node)?;
    Ok(floor.filter(|floor| now < floor.at).map(|floor| format!("it says {}, but {}", pki::spoken(now), floor.what)))
}

fn floor(root: &Root, node: &Node) -> Result<Option<Floor>> {
    let mut floors = vec![built()];
    for (path, what) in [
        (Utf8PathBuf::from(CLOCK_EPOCH), "this image was made"),
        (node.package.join("index.json"), "the package was made"),
        (node.package.clone(), "the package was put there"),
        (Utf8PathBuf::from(names::STATE), "edgeboot ran here"),
    ] {
        let modified = root.metadata(&path)?.and_then(|there| Timestamp::from_second(there.modified).ok());
        floors.push(modified.map(|at| Floor { at, what: format!("{what} {} ({path})", pki::spoken(at)) }));
    }
    floors.push(authority(root, &node.cluster.certificates_dir.join("ca.crt"))?);
    Ok(floors.into_iter().flatten().max_by_key(|floor| floor.at))
}

fn built() -> Option<Floor> {
    let at = Timestamp::from_second(BUILT?.parse().ok()?).ok()?;
    Some(Floor { at, what: format!("edgeboot was built {}", pki::spoken(at)) })
}

/// A certificate that is not valid yet was made when the clock was right. A torn one is another phase's business.
fn authority(root: &Root, path: &Utf8PathBuf) -> Result<Option<Floor>> {
    let Some(certificate) = root.read(path)?.and_then(|pem| Certificate::from_pem(&pem).ok()) else { return Ok(None) };
    let at = certificate.not_before;
    Ok(Some(Floor { at, what: format!("the cluster's CA is valid from {} ({path})", pki::spoken(at)) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sample;
    use crate::engine::ledger::Ledger;
    use crate::engine::progress::Progress;
    use crate::error::Kind;
    use crate::host::Host;
    use crate::host::clock;
    use crate::host::fake::Machine;
    use std::sync::Arc;

    /// A clock that says a time, and what its time source does.
    #[derive(Debug)]
    struct Wall {
        now: &'static str,
        synchronized: bool,
        synchronizing: bool,
    }

    #[async_trait]
    impl clock::Clock for Wall {
        fn now(&self) -> Timestamp {
            self.now.parse().expect("a time")
        }
        async fn synchronized(&self) -> Result<bool> {
            Ok(self.synchronized)
        }
        async fn synchronizing(&self) -> Result<bool> {
            Ok(self.synchronizing)
        }
    }

    /// A machine whose image was made today, as this machine's own clock has it.
    fn context(wall: Wall, offline: bool) -> (tempfile::TempDir, Context) {
        let image = tempfile::tempdir().expect("a folder");
        let root = Root::at(image.path().to_str().expect("UTF-8")).expect("a tree");
        assert!(root.put(CLOCK_EPOCH, 0o644, b"").expect("placed").is_yes());
        let host = Host { root, clock: Arc::new(wall), ..Machine::new().host() };
        let (ledger, _) = Ledger::load(&host.root).expect("no state");
        let mut node = sample::control_plane();
        node.host.time.offline = offline;
        node.host.time.wait = Duration::from_millis(30);
        (image, Context::new(host, Arc::new(node), ledger, Progress::new(vec![]), vec![]))
    }

    #[tokio::test]
    async fn only_a_clock_below_the_floor_or_one_that_must_be_synchronised_is_waited_for() {
        const SANE: &str = "2200-01-01T00:00:00Z";
        const OLD: &str = "1970-01-01T00:00:10Z";
        // (now, synchronized, synchronizing, offline) -> (there is something to wait for, the wait fails)
        for ((now, synchronized, synchronizing, offline), expected) in [
            ((SANE, false, false, true), (false, false)),
            ((SANE, false, true, true), (false, false)),
            ((SANE, false, false, false), (false, false)),
            ((SANE, false, true, false), (true, true)),
            ((SANE, true, true, false), (false, false)),
            ((OLD, true, true, true), (false, false)),
            ((OLD, false, true, true), (true, true)),
            ((OLD, false, false, true), (true, true)),
        ] {
            let (_image, cx) = context(Wall { now, synchronized, synchronizing }, offline);
            let waits = !Clock.inspect(&cx).await.expect("looked").is_none();
            let fails = waits && Clock.apply(&cx).await.is_err();
            assert_eq!((waits, fails), expected, "{now} {synchronized} {synchronizing} {offline}");
        }
    }

    #[tokio::test]
    async fn a_clock_in_1970_is_named_with_what_contradicts_it() {
        let (_image, cx) = context(Wall { now: "1970-01-01T00:00:10Z", synchronized: false, synchronizing: false }, true);
        let error = Clock.apply(&cx).await.expect_err("it cannot be right");
        assert_eq!(error.kind(), Kind::Transient);
        let text = error.to_string();
        assert!(text.contains("it says 1970-01-01T00:00:10Z, but this image was made 20"), "{text}");
        assert!(error.remedy().is_some_and(|hint| hint.contains("timedatectl set-time")));
    }
}
