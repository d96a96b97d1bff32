//! What systemd is told about this service (sd_notify(3)), and whether it listens to its journal. Nothing happens where nobody listens (NOTIFY_SOCKET is not set), and a
//! message that cannot be delivered is no reason to stop working; only READY=1 has to arrive.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::error::{IoContext as _, Result};

/// Whether systemd listens: we run as a notify unit.
#[expect(clippy::disallowed_methods, reason = "the door")]
pub fn is_wanted() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Whether standard error is the journal (systemd.exec(5), `JOURNAL_STREAM`).
#[expect(clippy::disallowed_methods, reason = "the door")]
pub fn is_journal() -> bool {
    std::env::var_os("JOURNAL_STREAM").is_some()
}

/// The unit has become what it shall be. A notify unit that ends without this has failed.
pub fn ready(status: &str) -> Result<()> {
    let status = one_line(status);
    sd_notify::notify(&[NotifyState::Status(&status), NotifyState::Ready]).doing(|| "telling systemd READY=1".to_owned())
}

/// What is being done, for `systemctl status`.
pub fn status(text: &str) {
    tell(&[NotifyState::Status(&one_line(text))]);
}

/// The start may take this much longer, counted from now.
pub fn extend_timeout(by: Duration) {
    // systemd counts in microseconds; sd-notify takes 32 bits of them, a little more than an hour.
    tell(&[NotifyState::ExtendTimeoutUsec(u32::try_from(by.as_micros()).unwrap_or(u32::MAX))]);
}

/// The service is going down.
pub fn stopping(status: &str) {
    tell(&[NotifyState::Status(&one_line(status)), NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    drop(sd_notify::notify(states));
}

/// A line break would begin another assignment.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_cannot_say_anything_but_a_status() {
        assert_eq!(one_line("failed:\nREADY=1"), "failed: READY=1");
    }
}
