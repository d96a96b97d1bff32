//! The connection to PID 1 over the system bus, made when it is first needed and made again when it died. A call that fails because
//! the bus is just starting, systemd is reading its units again, or the connection broke, is repeated for a bounded time; every call
//! made here may be repeated. (systemd's private socket is no second way: it puts a sender into its messages that D-Bus forbids.)

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio::sync::Mutex;
use zbus::connection::Builder;
use zbus::{Connection, DynamicType, Message, OwnedVariant, fdo};

use crate::error::{Error, Kind};

use super::super::Deadline;

/// systemd's name on the bus, its manager's object and interface.
pub(super) const SYSTEMD: &str = "org.freedesktop.systemd1";
pub(super) const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
pub(super) const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// systemd-hostnamed's name on the bus and its interface, and its object.
const HOSTNAMED: &str = "org.freedesktop.hostname1";
const HOSTNAMED_PATH: &str = "/org/freedesktop/hostname1";

const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";
/// There when systemd has booted the machine: sd_booted(3).
const BOOTED: &str = "/run/systemd/system";

/// How long a call may take. Reading all units again runs the generators, which is the slowest.
const CALL: Duration = Duration::from_secs(60);
/// How long a connection may take to come up; the bus starts when it is first talked to, and early in a boot that is late.
const CONNECT: Duration = Duration::from_secs(30);
/// For how long a call is repeated that fails for a reason that passes.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a connection is made.
pub(super) type Connect = Box<dyn Fn() -> BoxFuture<'static, zbus::Result<Connection>> + Send + Sync>;

/// What a unit's object says about it.
pub(super) type Properties = HashMap<String, OwnedVariant>;

/// The one connection.
pub(super) struct Bus {
    connect: Connect,
    current: Mutex<Option<Connection>>,
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bus").finish_non_exhaustive()
    }
}

impl Bus {
    pub(super) fn new(connect: Connect) -> Bus {
        Bus { connect, current: Mutex::new(None) }
    }

    /// This machine's own.
    pub(super) fn machine() -> Bus {
        Bus::new(Box::new(|| Box::pin(connect())))
    }

    /// The connection, as a subscriber: without one systemd sends no signals.
    pub(super) async fn connection(&self) -> zbus::Result<Connection> {
        let mut current = self.current.lock().await;
        if let Some(connection) = current.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        let connection = (self.connect)().await?;
        match connection.call_method(Some(SYSTEMD), MANAGER_PATH, Some(MANAGER), "Subscribe", &()).await {
            Ok(_) => {}
            // PID 1 counts by sender, and may have counted this one already.
            Err(zbus::Error::MethodError(name, ..)) if name.as_str() == "org.freedesktop.systemd1.AlreadySubscribed" => {}
            Err(error) => return Err(error),
        }
        *current = Some(connection.clone());
        Ok(connection)
    }

    /// One call of systemd, repeated while it fails for a reason that passes.
    pub(super) async fn call<B>(&self, path: &str, interface: &str, member: &str, body: &B) -> zbus::Result<Message>
    where
        B: Serialize + DynamicType + Sync,
    {
        let mut patience = Patience::new();
        loop {
            match self.call_once(SYSTEMD, path, interface, member, body).await {
                Err(error) if passes(&error) && patience.pause().await => {}
                result => return result,
            }
        }
    }

    /// The same of systemd-hostnamed, whom the bus starts for it. Where it is not installed, no patience helps.
    pub(super) async fn hostnamed<B>(&self, member: &str, body: &B) -> zbus::Result<Message>
    where
        B: Serialize + DynamicType + Sync,
    {
        let mut patience = Patience::new();
        loop {
            match self.call_once(HOSTNAMED, HOSTNAMED_PATH, HOSTNAMED, member, body).await {
                Err(error) if passes(&error) && !is_not_installed(&error) && patience.pause().await => {}
                result => return result,
            }
        }
    }

    async fn call_once<B>(&self, service: &str, path: &str, interface: &str, member: &str, body: &B) -> zbus::Result<Message>
    where
        B: Serialize + DynamicType + Sync,
    {
        self.connection().await?.call_method(Some(service), path, Some(interface), member, body).await
    }

    /// One call of the manager.
    pub(super) async fn manager<B>(&self, member: &str, body: &B) -> zbus::Result<Message>
    where
        B: Serialize + DynamicType + Sync,
    {
        self.call(MANAGER_PATH, MANAGER, member, body).await
    }

    /// Everything about a unit in one call (of all its interfaces: sd-bus takes the empty name as all). systemd loads the unit for it.
    pub(super) async fn properties(&self, unit: &str) -> zbus::Result<Properties> {
        self.call(&unit_path(unit), "org.freedesktop.DBus.Properties", "GetAll", &"").await?.body().deserialize()
    }

    /// The identity of the unit's current or last run; empty before the first.
    pub(super) async fn invocation(&self, unit: &str) -> zbus::Result<Vec<u8>> {
        let body = ("org.freedesktop.systemd1.Unit", "InvocationID");
        let reply = self.call(&unit_path(unit), "org.freedesktop.DBus.Properties", "Get", &body).await?;
        let value: OwnedVariant = reply.body().deserialize()?;
        Vec::<u8>::try_from(value)
    }
}

/// Pauses that grow, until they add up to [`PATIENCE`].
pub(super) struct Patience {
    deadline: Deadline,
    next: Duration,
}

impl Patience {
    pub(super) fn new() -> Patience {
        Patience { deadline: Deadline::after(PATIENCE, "systemd"), next: Duration::from_millis(20) }
    }

    /// Pauses and answers true, or false at once when there was enough waiting.
    #[expect(clippy::disallowed_methods, reason = "the door")]
    pub(super) async fn pause(&mut self) -> bool {
        if self.deadline.passed() {
            return false;
        }
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(Duration::from_secs(1));
        true
    }
}

async fn connect() -> zbus::Result<Connection> {
    if !Path::new(BOOTED).exists() {
        return Err(zbus::Error::Address("systemd does not run here".to_owned()));
    }
    if !Path::new(SYSTEM_BUS).exists() {
        return Err(zbus::Error::Address(format!("there is no system bus at {SYSTEM_BUS}")));
    }
    let builder = Builder::address(format!("unix:path={SYSTEM_BUS}").as_str()).method_timeout(CALL);
    let slow = |_| zbus::Error::InputOutput(std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into());
    tokio::time::timeout(CONNECT, builder.build()).await.map_err(slow)?
}

/// Whether the same call may succeed in a moment: the bus or PID 1 is starting or reading its units, or the connection broke.
pub(super) fn passes(error: &zbus::Error) -> bool {
    use std::io::ErrorKind;
    match error {
        zbus::Error::InputOutput(error) => !matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::PermissionDenied),
        zbus::Error::Handshake(_) => true,
        zbus::Error::FDO(error) => matches!(
            **error,
            fdo::Error::NoReply(_)
                | fdo::Error::Disconnected(_)
                | fdo::Error::ServiceUnknown(_)
                | fdo::Error::NameHasNoOwner(_)
                | fdo::Error::SpawnChildExited(_)
                | fdo::Error::SpawnFailed(_)
                | fdo::Error::Timeout(_)
                | fdo::Error::TimedOut(_)
        ),
        _ => false,
    }
}

/// Whether the bus knows of nobody who could be started for a call.
pub(super) fn is_not_installed(error: &zbus::Error) -> bool {
    matches!(error, zbus::Error::FDO(error) if matches!(**error, fdo::Error::ServiceUnknown(_) | fdo::Error::NameHasNoOwner(_)))
}

/// What a failed call means to a person.
pub(super) fn failure(doing: impl Into<String>, unit: &str, error: zbus::Error) -> Error {
    let (kind, hint) = match &error {
        zbus::Error::Address(_) => {
            (Kind::Host, "edgeboot needs a machine that systemd has booted, with dbus-daemon or dbus-broker on it".to_owned())
        }
        zbus::Error::FDO(denied) if matches!(**denied, fdo::Error::AccessDenied(_)) => (Kind::Host, "run it as root".to_owned()),
        zbus::Error::InputOutput(io) if io.kind() == std::io::ErrorKind::PermissionDenied => {
            (Kind::Host, "run it as root".to_owned())
        }
        zbus::Error::MethodError(name, ..) => match name.as_str() {
            "org.freedesktop.systemd1.UnitMasked" => (Kind::Host, format!("allow it: `systemctl unmask {unit}`")),
            "org.freedesktop.systemd1.NoSuchUnit" => (Kind::Host, format!("{unit} has to be installed first")),
            "org.freedesktop.systemd1.TransactionIsDestructive" => (
                Kind::Transient,
                "the machine is shutting down, or another job stands against it: `systemctl list-jobs`".to_owned(),
            ),
            _ => (Kind::Host, format!("`systemctl status {unit}` says more")),
        },
        error if passes(error) => {
            (Kind::Transient, "systemd did not answer: `systemctl is-system-running` says how it is".to_owned())
        }
        _ => (Kind::Host, "`systemctl is-system-running` says how systemd is".to_owned()),
    };
    Error::new(kind, doing).because(error).hint(hint)
}

/// The object of a unit: its name with everything but letters and digits escaped (`sd_bus_path_encode`).
pub(super) fn unit_path(unit: &str) -> String {
    let escaped = unit.bytes().enumerate().map(|(index, byte)| {
        let plain = byte.is_ascii_alphabetic() || (byte.is_ascii_digit() && index > 0);
        if plain { char::from(byte).to_string() } else { format!("_{byte:02x}") }
    });
    std::iter::once("/org/freedesktop/systemd1/unit/".to_owned()).chain(escaped).collect()
}
