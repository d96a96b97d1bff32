//! systemd's side played over a socket pair, so that what is hard to bring about on a machine can be tried: signals before replies,
//! connections that break, jobs that never end.

use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use zbus::connection::Builder;
use zbus::{Connection, Guid, Message, MessageStream, OwnedObjectPath, Variant, message};

use super::bus::{Bus, MANAGER, MANAGER_PATH, unit_path};
use super::machine::Machine;
use super::*;
use crate::error::Kind;

/// What a queued job does.
#[derive(Debug, Clone, Copy)]
enum Play {
    /// Ends with this result before the reply to the call is sent.
    EndsBeforeReply(&'static str),
    /// Ends with this result, after another unit's job.
    EndsAfterAnother(&'static str),
    /// Never ends.
    Hangs,
    /// Never ends, because it waits for the unit we run in.
    WaitsForUs,
    /// The connection breaks while it is waited for.
    Breaks,
}

#[derive(Debug)]
struct Fake {
    plays: Vec<Play>,
    calls: Vec<String>,
    active_state: &'static str,
    result: &'static str,
    unmet: bool,
    unit_file_state: &'static str,
    environment: Vec<String>,
    no_replies: u32,
    invocation: u8,
}

impl Fake {
    fn new(active_state: &'static str, plays: &[Play]) -> Arc<Mutex<Fake>> {
        Arc::new(Mutex::new(Fake {
            plays: plays.to_vec(),
            calls: Vec::new(),
            active_state,
            result: "success",
            unmet: false,
            unit_file_state: "disabled",
            environment: vec!["PATH=/usr/bin".to_owned()],
            no_replies: 0,
            invocation: 1,
        }))
    }
}

type Shared = Arc<Mutex<Fake>>;

/// Our side, talking to `fake`.
fn machine_with(fake: &Shared) -> Machine {
    let fake = fake.clone();
    let bus = Bus::new(Box::new(move || {
        let fake = fake.clone();
        Box::pin(async move {
            let (ours, theirs) = UnixStream::pair().expect("a socket pair");
            tokio::spawn(serve(theirs, fake));
            Builder::unix_stream(ours).p2p().method_timeout(Duration::from_secs(5)).build().await
        })
    }));
    Machine::over(bus, "echo")
}

async fn serve(stream: UnixStream, fake: Shared) {
    let connection = Builder::unix_stream(stream).server(Guid::generate()).p2p().build().await.expect("a connection");
    let mut messages = MessageStream::from(&connection);
    while let Some(Ok(call)) = messages.next().await {
        if call.message_type() == message::Type::MethodCall && !answer(&connection, &call, &fake).await {
            connection.close().await.expect("closing");
            return;
        }
    }
}

fn object(path: &str) -> OwnedObjectPath {
    path.try_into().expect("an object path")
}

async fn job_removed(connection: &Connection, id: u32, result: &str) {
    let body = (id, object(&format!("/org/freedesktop/systemd1/job/{id}")), "some.service", result);
    let signal = Message::signal(MANAGER_PATH, MANAGER, "JobRemoved").build(&body).expect("a signal");
    connection.send(&signal).await.expect("sending");
}

/// Answers one call; false when the connection breaks.
async fn answer(connection: &Connection, call: &Message, fake: &Shared) -> bool {
    let header = call.header();
    let member = header.member().expect("a member").to_string();
    fake.lock().expect("the fake").calls.push(member.clone());
    match member.as_str() {
        "StartUnit" | "StopUnit" | "RestartUnit" => return job(connection, call, fake, &member).await,
        "GetAll" => {
            let properties = properties(fake);
            connection.reply(&header, &properties).await.expect("a reply");
        }
        "Get" => {
            let (interface, _): (String, String) = call.body().deserialize().expect("two strings");
            let (environment, invocation) = {
                let fake = fake.lock().expect("the fake");
                (fake.environment.clone(), vec![fake.invocation])
            };
            let value = if interface == MANAGER { Variant::from(environment) } else { Variant::from(invocation) };
            connection.reply(&header, &value).await.expect("a reply");
        }
        "GetUnitFileState" => {
            let state = fake.lock().expect("the fake").unit_file_state;
            connection.reply(&header, &state).await.expect("a reply");
        }
        "EnableUnitFiles" => {
            fake.lock().expect("the fake").unit_file_state = "enabled";
            let changes = vec![("symlink", "/etc/systemd/system/a", "/etc/systemd/system/b")];
            connection.reply(&header, &(true, changes)).await.expect("a reply");
        }
        "SetEnvironment" => {
            let assignments: Vec<String> = call.body().deserialize().expect("strings");
            fake.lock().expect("the fake").environment.extend(assignments);
            connection.reply(&header, &()).await.expect("a reply");
        }
        "GetUnitByPID" => connection.reply(&header, &object(&unit_path("edgeboot.service"))).await.expect("a reply"),
        "GetJobBefore" => {
            let id: u32 = call.body().deserialize().expect("a number");
            let row = |id: u32, unit: &str| {
                (id, unit.to_owned(), "start", "waiting", object(&format!("{MANAGER_PATH}/job/{id}")), object(&unit_path(unit)))
            };
            let waits = matches!(fake.lock().expect("the fake").plays.first(), Some(Play::WaitsForUs));
            // 7 waits for 8, and 8 for us.
            let rows = match id {
                7 if waits => vec![row(8, "multi-user.target")],
                8 => vec![row(7, "some.service"), row(9, "edgeboot.service")],
                _ => vec![],
            };
            connection.reply(&header, &rows).await.expect("a reply");
        }
        "Reload" => {
            let no_reply = {
                let mut fake = fake.lock().expect("the fake");
                fake.no_replies = fake.no_replies.wrapping_sub(1);
                fake.no_replies != u32::MAX
            };
            if no_reply {
                connection.reply_error(&header, "org.freedesktop.DBus.Error.NoReply", &"reloading").await.expect("a reply");
            } else {
                connection.reply(&header, &()).await.expect("a reply");
            }
        }
        "SetStaticHostname" => {
            let (name, asks): (String, bool) = call.body().deserialize().expect("a name and whether to ask");
            assert!(!asks && header.destination().is_some_and(|to| to.as_str() == "org.freedesktop.hostname1"));
            let refusal = match name.as_str() {
                "nobody" => Some("org.freedesktop.DBus.Error.ServiceUnknown"),
                "read-only" => Some("System.Error.EROFS"),
                _ => None,
            };
            match refusal {
                Some(refusal) => connection.reply_error(&header, refusal, &"refused").await.expect("a reply"),
                None => connection.reply(&header, &()).await.expect("a reply"),
            }
        }
        _ => connection.reply(&header, &()).await.expect("a reply"),
    }
    true
}

async fn job(connection: &Connection, call: &Message, fake: &Shared, member: &str) -> bool {
    let header = call.header();
    let (play, again) = {
        let mut fake = fake.lock().expect("the fake");
        let play = fake.plays[0];
        let again = fake.plays.len() > 1;
        if again {
            fake.plays.remove(0);
        }
        (play, again)
    };
    let reply = object("/org/freedesktop/systemd1/job/7");
    let end = |result: &str| {
        let mut fake = fake.lock().expect("the fake");
        // Where a condition does not hold the job is done, and the unit as it was.
        if result == "done" && !fake.unmet {
            fake.active_state = if member == "StopUnit" { "inactive" } else { "active" };
            fake.invocation += 1;
        }
    };
    match play {
        Play::EndsBeforeReply(result) => {
            end(result);
            job_removed(connection, 7, result).await;
            connection.reply(&header, &reply).await.expect("a reply");
        }
        Play::EndsAfterAnother(result) => {
            connection.reply(&header, &reply).await.expect("a reply");
            job_removed(connection, 6, "failed").await;
            end(result);
            job_removed(connection, 7, result).await;
        }
        Play::Hangs | Play::WaitsForUs => connection.reply(&header, &reply).await.expect("a reply"),
        Play::Breaks => {
            assert!(again, "something has to follow");
            connection.reply(&header, &reply).await.expect("a reply");
            end("done");
            return false;
        }
    }
    true
}

fn properties(fake: &Shared) -> HashMap<&'static str, Variant<'static>> {
    let fake = fake.lock().expect("the fake");
    let conditions = if fake.unmet { vec![("ConditionPathExists", false, true, "/run/off", -1)] } else { vec![] };
    HashMap::from([
        ("LoadState", Variant::from("loaded")),
        ("ActiveState", Variant::from(fake.active_state)),
        ("SubState", Variant::from("some-state")),
        ("UnitFileState", Variant::from("stale")),
        ("Type", Variant::from("notify")),
        ("Result", Variant::from(fake.result)),
        ("ExecMainStatus", Variant::from(3_i32)),
        ("NRestarts", Variant::from(2_u32)),
        ("MainPID", Variant::from(42_u32)),
        ("NeedDaemonReload", Variant::from(true)),
        ("ConditionResult", Variant::from(!fake.unmet)),
        ("Conditions", Variant::from(conditions)),
    ])
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(5), "some.service")
}

fn calls(fake: &Shared, member: &str) -> usize {
    fake.lock().expect("the fake").calls.iter().filter(|call| *call == member).count()
}

#[tokio::test]
async fn a_job_that_ends_before_its_reply_is_seen() {
    let fake = Fake::new("inactive", &[Play::EndsBeforeReply("done")]);
    let changed = machine_with(&fake).start("some.service", &soon()).await.expect("started");
    assert_eq!(changed, Changed::Yes);
}

#[tokio::test]
async fn the_job_is_told_from_others_by_its_path() {
    let fake = Fake::new("inactive", &[Play::EndsAfterAnother("done")]);
    let changed = machine_with(&fake).start("some.service", &soon()).await.expect("started");
    assert_eq!(changed, Changed::Yes);
}

#[tokio::test]
async fn a_unit_that_is_active_is_left_alone() {
    let fake = Fake::new("active", &[Play::Hangs]);
    let changed = machine_with(&fake).start("some.service", &soon()).await.expect("active");
    assert_eq!((changed, calls(&fake, "StartUnit")), (Changed::No, 0));
}

#[tokio::test]
async fn a_failed_job_tells_state_result_status_and_journal() {
    let fake = Fake::new("failed", &[Play::EndsAfterAnother("failed")]);
    fake.lock().expect("the fake").result = "exit-code";
    let error = machine_with(&fake).start("some.service", &soon()).await.expect_err("it failed");
    let text = error.render();
    for part in [
        "starting some.service: the unit failed (failed)",
        "some.service is failed (some-state), result exit-code, exit status 3, restarted 2 times",
        "\n    --lines 20 --no-pager --output cat _SYSTEMD_INVOCATION_ID=01 + INVOCATION_ID=01",
        "hint: `systemctl status some.service`",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert_eq!(error.kind(), Kind::Host);
}

#[tokio::test]
async fn every_job_result_but_done_is_a_failure_with_its_meaning() {
    for result in
        ["canceled", "timeout", "failed", "dependency", "skipped", "assert", "unsupported", "collected", "once", "new-word"]
    {
        let fake = Fake::new("inactive", &[Play::EndsAfterAnother(result)]);
        let error = machine_with(&fake).start("some.service", &soon()).await.expect_err(result);
        assert!(error.to_string().contains(&format!("({result})")), "{error}");
        assert_eq!(error.kind() == Kind::Transient, result == "canceled", "{result}");
    }
}

#[tokio::test]
async fn a_condition_that_does_not_hold_is_named() {
    let fake = Fake::new("inactive", &[Play::EndsAfterAnother("done")]);
    fake.lock().expect("the fake").unmet = true;
    let error = machine_with(&fake).start("some.service", &soon()).await.expect_err("not up");
    assert!(error.to_string().contains("ConditionPathExists=!/run/off does not hold"), "{error}");
}

#[tokio::test]
async fn a_job_that_does_not_end_is_given_up_at_the_deadline() {
    let fake = Fake::new("activating", &[Play::Hangs]);
    let deadline = Deadline::after(Duration::from_millis(400), "the container runtime");
    let error = machine_with(&fake).start("some.service", &deadline).await.expect_err("it hangs");
    let text = error.to_string();
    assert!(text.contains("waiting for the container runtime"), "{text}");
    assert!(text.contains("some.service is activating"), "{text}");
    assert_eq!(error.kind(), Kind::Transient);
}

#[tokio::test]
async fn a_job_behind_our_own_unit_is_not_waited_for() {
    let fake = Fake::new("inactive", &[Play::WaitsForUs]);
    let error = machine_with(&fake).start("some.service", &soon()).await.expect_err("never ends");
    assert!(error.to_string().contains("ordered after edgeboot.service"), "{error}");
}

#[tokio::test]
async fn a_broken_connection_is_made_again_and_the_job_asked_for_again() {
    let fake = Fake::new("inactive", &[Play::Breaks, Play::EndsAfterAnother("done")]);
    let changed = machine_with(&fake).start("some.service", &soon()).await.expect("started");
    assert_eq!((changed, calls(&fake, "StartUnit"), calls(&fake, "Subscribe")), (Changed::Yes, 2, 2));
}

#[tokio::test]
async fn a_restart_that_went_through_unseen_is_not_done_twice() {
    let fake = Fake::new("active", &[Play::Breaks, Play::EndsAfterAnother("done")]);
    machine_with(&fake).restart("some.service", &soon()).await.expect("restarted");
    assert_eq!((calls(&fake, "RestartUnit"), calls(&fake, "StartUnit")), (1, 1));
}

#[tokio::test]
async fn a_stopped_unit_is_not_stopped_again() {
    let fake = Fake::new("active", &[Play::EndsAfterAnother("done")]);
    let machine = machine_with(&fake);
    assert_eq!(machine.stop("some.service", &soon()).await.expect("stopped"), Changed::Yes);
    assert_eq!(machine.stop("some.service", &soon()).await.expect("stopped"), Changed::No);
    assert_eq!(calls(&fake, "StopUnit"), 1);
}

#[tokio::test]
async fn an_enabled_unit_is_not_enabled_again() {
    let fake = Fake::new("active", &[Play::Hangs]);
    let machine = machine_with(&fake);
    assert_eq!(machine.enable("some.service", false).await.expect("enabled"), Changed::Yes);
    assert_eq!(machine.enable("some.service", false).await.expect("enabled"), Changed::No);
    assert_eq!(calls(&fake, "EnableUnitFiles"), 1);
}

#[tokio::test]
async fn a_reload_that_gets_no_reply_is_asked_for_again() {
    let fake = Fake::new("active", &[Play::Hangs]);
    fake.lock().expect("the fake").no_replies = 2;
    machine_with(&fake).reload().await.expect("reloaded");
    assert_eq!(calls(&fake, "Reload"), 3);
}

#[tokio::test]
async fn the_environment_is_set_once() {
    let fake = Fake::new("active", &[Play::Hangs]);
    let machine = machine_with(&fake);
    let wish = vec!["A=b".to_owned()];
    assert_eq!(machine.set_environment(&wish).await.expect("set"), Changed::Yes);
    assert_eq!(machine.set_environment(&wish).await.expect("set"), Changed::No);
}

#[tokio::test]
async fn a_status_has_everything_in_two_calls() {
    let fake = Fake::new("active", &[Play::Hangs]);
    let status = machine_with(&fake).status("some.service").await.expect("a status").expect("a unit");
    let expected = UnitStatus {
        load_state: "loaded".to_owned(),
        active_state: "active".to_owned(),
        sub_state: "some-state".to_owned(),
        unit_file_state: "disabled".to_owned(),
        result: "success".to_owned(),
        exec_main_status: 3,
        n_restarts: 2,
        main_pid: 42,
        need_daemon_reload: true,
    };
    assert_eq!(status, expected);
    assert_eq!(fake.lock().expect("the fake").calls.len(), 3, "Subscribe, GetAll, GetUnitFileState");
}

#[test]
fn a_unit_name_becomes_an_object_path() {
    assert_eq!(unit_path("systemd-sysctl.service"), "/org/freedesktop/systemd1/unit/systemd_2dsysctl_2eservice");
    assert_eq!(unit_path("7a.mount"), "/org/freedesktop/systemd1/unit/_37a_2emount");
}

#[tokio::test]
async fn a_name_that_hostnamed_cannot_set_says_why_at_once() {
    let fake = Fake::new("inactive", &[]);
    machine_with(&fake).set_static_hostname("edge-7").await.expect("named");
    for (name, why) in [("nobody", "not on this machine"), ("read-only", "EROFS")] {
        let error = machine_with(&fake).set_static_hostname(name).await.expect_err(name);
        assert_eq!(error.kind(), Kind::Host);
        assert!(error.to_string().contains(why) && error.remedy().is_some_and(|hint| hint.contains("/etc/hostname")), "{error}");
    }
    assert_eq!(calls(&fake, "SetStaticHostname"), 3, "a refusal was asked for again");
}
