//! A failure: its kind (which decides the exit code and whether trying again helps), what was being done and to what, why it
//! failed, and what to do now. Everything in edgeboot that fails returns this one type; it imports no other room, and this is the
//! one place that renders it. Messages are lower case, without a full stop, name the path or unit, and never hold a secret.

use std::fmt;
use std::time::Duration;

/// What sort of failure it is. The kind decides the exit code, and so whether and when systemd tries again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The command line is wrong: exit 64.
    Usage,
    /// The configuration is wrong; only another configuration helps: exit 78.
    Config,
    /// A token, pin or certificate was refused; only another one helps: exit 77.
    Rejected,
    /// Something that passes by itself (network, an API server that is still starting): exit 75.
    Transient,
    /// The machine is not fit, or a unit on it failed: exit 69.
    Host,
    /// A bug in edgeboot: exit 70.
    Internal,
}

impl Kind {
    /// The process exit code, from sysexits(3).
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Usage => 64,
            Kind::Config => 78,
            Kind::Rejected => 77,
            Kind::Transient => 75,
            Kind::Host => 69,
            Kind::Internal => 70,
        }
    }
}

/// The result of everything that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure. Built from what was being done: `Error::host("writing /etc/kubernetes/admin.conf").because(error).hint("…")`.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    doing: String,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
    hint: Option<String>,
    asked_pause: Option<Duration>,
}

impl Error {
    /// A failure of `kind` while doing `doing` (present participle, the path or unit named).
    pub fn new(kind: Kind, doing: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind, doing: doing.into(), cause: None, hint: None, asked_pause: None }))
    }
    /// The command line is wrong.
    pub fn usage(doing: impl Into<String>) -> Self {
        Self::new(Kind::Usage, doing)
    }
    /// The configuration is wrong.
    pub fn config(doing: impl Into<String>) -> Self {
        Self::new(Kind::Config, doing)
    }
    /// A credential was refused.
    pub fn rejected(doing: impl Into<String>) -> Self {
        Self::new(Kind::Rejected, doing)
    }
    /// Passes by itself.
    pub fn transient(doing: impl Into<String>) -> Self {
        Self::new(Kind::Transient, doing)
    }
    /// The machine is not fit.
    pub fn host(doing: impl Into<String>) -> Self {
        Self::new(Kind::Host, doing)
    }
    /// A bug in edgeboot.
    pub fn internal(doing: impl Into<String>) -> Self {
        Self::new(Kind::Internal, doing)
    }

    /// Why it failed. A `String` or `&str` will do where no error value exists.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }
    /// What to do now.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }
    /// The same failure seen from further out: `doing` is put before what was being done.
    #[must_use]
    pub fn while_doing(mut self, doing: impl Into<String>) -> Self {
        self.0.doing = format!("{}: {}", doing.into(), self.0.doing);
        self
    }
    /// The same failure with another kind, where the caller knows better.
    #[must_use]
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Whoever refused asked for this pause before the next try (`Retry-After`).
    #[must_use]
    pub fn asking_for(mut self, pause: Option<Duration>) -> Self {
        self.0.asked_pause = pause;
        self
    }

    /// What sort of failure it is.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }
    /// The pause that whoever refused asked for.
    pub fn asked_pause(&self) -> Option<Duration> {
        self.0.asked_pause
    }
    /// What to do now, if something is known.
    pub fn remedy(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The failure as a person reads it: one line of what and why, one of what to do now.
    pub fn render(&self) -> String {
        match &self.0.hint {
            Some(hint) => format!("{self}\n  hint: {hint}"),
            None => self.to_string(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.doing)?;
        let mut cause: Option<&(dyn std::error::Error + 'static)> = match &self.0.cause {
            Some(cause) => Some(cause.as_ref()),
            None => None,
        };
        let mut said = self.0.doing.clone();
        while let Some(error) = cause {
            let text = error.to_string();
            // Many libraries repeat their source in their own text; a reader wants each thing once.
            if !said.contains(&text) {
                write!(f, ": {text}")?;
            }
            said.push_str(&text);
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.cause {
            Some(cause) => Some(cause.as_ref()),
            None => None,
        }
    }
}

/// Names the place at which an [`std::io::Error`] happened, which the error itself does not know.
pub trait IoContext<T> {
    /// `doing` is a present participle and its object, for instance `writing /etc/kubernetes/admin.conf`.
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T> IoContext<T> for std::io::Result<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| {
            let hint = match error.kind() {
                std::io::ErrorKind::StorageFull => Some("free some space on that file system, then run `edgeboot reconcile`"),
                std::io::ErrorKind::ReadOnlyFilesystem => Some("edgeboot needs /etc, /run and /var to be writable"),
                std::io::ErrorKind::PermissionDenied => Some("run it as root"),
                _ => None,
            };
            let failure = Error::host(doing()).because(error);
            match hint {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_why_and_what_to_do_now() {
        let error = Error::host("writing /etc/kubernetes/admin.conf")
            .because(std::io::Error::other("no space left on device"))
            .hint("free some space")
            .while_doing("kubeconfig/admin");
        assert_eq!(
            error.render(),
            "kubeconfig/admin: writing /etc/kubernetes/admin.conf: no space left on device\n  hint: free some space"
        );
        assert_eq!(error.kind().exit_code(), 69);
    }
}
