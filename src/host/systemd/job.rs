//! A job of systemd and its own result. The match for `JobRemoved` is there before the job is queued, and signals are kept while the
//! reply is awaited, because a job may end before it comes. A job that waits for the very unit we run in is never waited for.

use std::time::Duration;

use futures_util::StreamExt;
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedObjectPath, message};

use super::bus::{self, Bus, MANAGER, MANAGER_PATH, Patience, SYSTEMD};

/// How long a job goes on before it is asked what it waits for.
const SUSPECT: Duration = Duration::from_millis(200);
/// Signals kept while nobody reads them; a boot ends some hundred jobs.
const QUEUED_SIGNALS: usize = 4096;

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Start,
    Stop,
    Restart,
}

impl Verb {
    fn method(self) -> &'static str {
        match self {
            Verb::Start => "StartUnit",
            Verb::Stop => "StopUnit",
            Verb::Restart => "RestartUnit",
        }
    }
    /// The present participle.
    pub(super) fn doing(self) -> &'static str {
        match self {
            Verb::Start => "starting",
            Verb::Stop => "stopping",
            Verb::Restart => "restarting",
        }
    }
}

/// How a job ended for us.
#[derive(Debug)]
pub(super) enum Ended {
    /// systemd's own word: `done`, `failed` …
    With(String),
    /// It cannot end before we do: it is queued, and it waits for this unit, in which we run.
    BehindUs(String),
}

/// What a job result that is not `done` means (systemd.unit(5), `JobResult` of systemd's D-Bus interface).
pub(super) fn meaning(result: &str) -> &'static str {
    match result {
        "canceled" => "another job took its place",
        "timeout" => "its job timed out",
        "failed" => "the unit failed",
        "dependency" => "a unit that it requires failed",
        "skipped" => "the job did not apply to the unit's state",
        "assert" => "an Assert…= of the unit does not hold",
        "unsupported" => "this machine does not support this type of unit",
        "collected" => "the unit was unloaded meanwhile",
        "once" => "it starts only once per boot, and already has",
        _ => "the job did not succeed",
    }
}

/// Queues a job and waits for its end. When the connection dies meanwhile the job goes on without us: the same is asked again over a
/// new one, which systemd merges into the job that is still queued, or answers at once when it is over.
pub(super) async fn run(bus: &Bus, verb: Verb, unit: &str) -> zbus::Result<Ended> {
    let before = if verb == Verb::Restart { bus.invocation(unit).await? } else { Vec::new() };
    let mut patience = Patience::new();
    let mut now = verb;
    loop {
        match attempt(bus, now, unit).await {
            Err(error) if bus::passes(&error) && patience.pause().await => {}
            result => return result,
        }
        // A restart that went through must not be done twice.
        if verb == Verb::Restart && bus.invocation(unit).await? != before {
            now = Verb::Start;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the door")]
async fn attempt(bus: &Bus, verb: Verb, unit: &str) -> zbus::Result<Ended> {
    let connection = bus.connection().await?;
    let rule = MatchRule::builder()
        .msg_type(message::Type::Signal)
        .sender(SYSTEMD)
        .path(MANAGER_PATH)
        .interface(MANAGER)
        .member("JobRemoved")
        .build()?;
    let mut signals = MessageStream::for_match_rule(rule, &connection, QUEUED_SIGNALS.try_into().ok()).await?;

    // What systemd knows about a unit that nothing refers to is forgotten as soon as its job is over: whether its conditions held, for
    // one. It is held until the connection ends; that it cannot be is no reason to fail.
    let _ = connection.call_method(Some(SYSTEMD), MANAGER_PATH, Some(MANAGER), "RefUnit", &unit).await;

    let body = (unit, "replace");
    let queue = connection.call_method(Some(SYSTEMD), MANAGER_PATH, Some(MANAGER), verb.method(), &body);
    tokio::pin!(queue);
    let mut early = Vec::new();
    let job: OwnedObjectPath = loop {
        tokio::select! {
            biased;
            Some(signal) = signals.next() => early.push(Removed::read(&signal?)?),
            reply = &mut queue => break reply?.body().deserialize()?,
        }
    };
    if let Some(removed) = early.into_iter().find(|removed| removed.job == job) {
        return Ok(Ended::With(removed.result));
    }

    let suspicion = tokio::time::sleep(SUSPECT);
    tokio::pin!(suspicion);
    let mut suspicious = true;
    loop {
        tokio::select! {
            biased;
            signal = signals.next() => match signal {
                Some(signal) => {
                    let removed = Removed::read(&signal?)?;
                    if removed.job == job {
                        return Ok(Ended::With(removed.result));
                    }
                }
                None => return Err(zbus::Error::InputOutput(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into())),
            },
            () = &mut suspicion, if suspicious => {
                suspicious = false;
                if let Some(own) = waits_for_us(&connection, &job).await {
                    return Ok(Ended::BehindUs(own));
                }
            }
        }
    }
}

/// The `JobRemoved` signal.
struct Removed {
    job: OwnedObjectPath,
    result: String,
}

impl Removed {
    fn read(signal: &Message) -> zbus::Result<Removed> {
        let (_, job, _, result): (u32, OwnedObjectPath, String, String) = signal.body().deserialize()?;
        Ok(Removed { job, result })
    }
}

/// A row of `GetJobBefore`: number, unit, type, state, job, unit's object.
type JobRow = (u32, String, String, String, OwnedObjectPath, OwnedObjectPath);

/// The unit we run in, when `job` cannot start before our own unit's job ends, directly or through others. What cannot be asked is
/// taken as no: the deadline is there for the rest.
async fn waits_for_us(connection: &Connection, job: &OwnedObjectPath) -> Option<String> {
    let own = own_unit(connection).await?;
    let mut asked: Vec<u32> = Vec::new();
    let mut ask: Vec<u32> = number(job).into_iter().collect();
    while let Some(next) = ask.pop() {
        asked.push(next);
        let reply = connection.call_method(Some(SYSTEMD), MANAGER_PATH, Some(MANAGER), "GetJobBefore", &next).await.ok();
        let rows: Vec<JobRow> = reply.and_then(|reply| reply.body().deserialize().ok()).unwrap_or_default();
        if let Some((_, unit, ..)) = rows.iter().find(|(.., path)| *path == own) {
            return Some(unit.clone());
        }
        ask.extend(rows.iter().map(|row| row.0).filter(|id| !asked.contains(id)));
    }
    None
}

async fn own_unit(connection: &Connection) -> Option<OwnedObjectPath> {
    let pid = std::process::id();
    let reply = connection.call_method(Some(SYSTEMD), MANAGER_PATH, Some(MANAGER), "GetUnitByPID", &pid).await.ok()?;
    reply.body().deserialize().ok()
}

/// `/org/freedesktop/systemd1/job/17` is 17.
fn number(job: &OwnedObjectPath) -> Option<u32> {
    job.as_str().rsplit('/').next()?.parse().ok()
}
