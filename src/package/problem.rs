//! What can be wrong with a package, each by its name.

use std::io;

use camino::Utf8Path;

use crate::error::Error;

use super::digest::Digest;

/// What is wrong with a package.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// There is nothing at the path.
    #[error("there is no package")]
    Absent,
    /// It is no OCI image layout.
    #[error("it is no package: {0}")]
    NotAPackage(String),
    /// A blob that the index needs is not there.
    #[error("{what} ({digest}) is missing")]
    Missing {
        /// What it is to a person.
        what: String,
        /// Its digest.
        digest: Digest,
    },
    /// Content and digest differ.
    #[error("{what} is damaged: it should be {declared} and is {found}")]
    Damaged {
        /// What it is to a person.
        what: String,
        /// What the manifest says.
        declared: Digest,
        /// What is there.
        found: Digest,
    },
    /// It ends too early.
    #[error("{what} is cut short: {found} of {declared} bytes")]
    CutShort {
        /// What it is to a person.
        what: String,
        /// What is there.
        found: u64,
        /// What was declared.
        declared: u64,
    },
    /// It does not end where it should.
    #[error("{what} is longer than the {declared} bytes it shall have")]
    TooLong {
        /// What it is to a person.
        what: String,
        /// What was declared.
        declared: u64,
    },
    /// More than is accepted.
    #[error("{what} is over the limit of {limit}")]
    OverLimit {
        /// What it is to a person.
        what: String,
        /// The limit.
        limit: u64,
    },
    /// A path, mode or link that is not accepted.
    #[error("'{path}' is refused: {why}")]
    Refused {
        /// The path as it is written in the package.
        path: String,
        /// Why.
        why: String,
    },
    /// A document or stream that cannot be read.
    #[error("{what} cannot be read: {why}")]
    Malformed {
        /// What it is to a person.
        what: String,
        /// Why.
        why: String,
    },
    /// Made for other machines.
    #[error("it is for {package} and this machine is {machine}")]
    OtherArchitecture {
        /// The package's.
        package: String,
        /// The machine's.
        machine: String,
    },
    /// Older than what is installed.
    #[error("it has version {offered}, older than version {installed}, which is installed")]
    Older {
        /// The package's.
        offered: u64,
        /// The installed one's.
        installed: u64,
    },
}

impl Problem {
    /// The failure of reading the package at `path`.
    pub fn at(self, path: &Utf8Path) -> Error {
        let hint = self.remedy(path);
        Error::host(format!("reading the package {path}")).because(self).hint(hint)
    }

    fn remedy(&self, path: &Utf8Path) -> String {
        match self {
            Problem::Absent => format!("put a package at {path}, or name another place by `package:` in the configuration"),
            Problem::OtherArchitecture { machine, .. } => format!("use a package that was built for {machine}"),
            Problem::Older { .. } => {
                "offer a newer package, or keep the installed one by taking this one away; going back needs `edgeboot reset`"
                    .to_owned()
            }
            Problem::NotAPackage(_) | Problem::OverLimit { .. } | Problem::Refused { .. } | Problem::Malformed { .. } => {
                "build it again with `edgeboot package build`".to_owned()
            }
            Problem::Missing { .. } | Problem::Damaged { .. } | Problem::CutShort { .. } | Problem::TooLong { .. } => {
                format!("copy the package again; `edgeboot package verify {path}` checks all of it")
            }
        }
    }
}

/// A reader that finds a problem gives it as the I/O error's content; [`problem_of`] takes it out again.
impl From<Problem> for io::Error {
    fn from(problem: Problem) -> io::Error {
        io::Error::other(problem)
    }
}

/// What a failed read means: the problem that one of our readers found, or the I/O error itself as `Malformed`.
pub fn problem_of(error: &io::Error, what: &str) -> Problem {
    let found = error.get_ref().and_then(|inner| inner.downcast_ref::<Problem>());
    found.cloned().unwrap_or_else(|| Problem::Malformed { what: what.to_owned(), why: error.to_string() })
}
