//! A value that the machine itself may tell.

use serde::Serialize;

/// A value that is given, or that the machine shall tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Auto<T> {
    /// The machine tells (a fact).
    Auto,
    /// Said in the configuration.
    Set(T),
}

impl<T> Auto<T> {
    /// The value, where it is said.
    pub fn set(&self) -> Option<&T> {
        match self {
            Auto::Set(value) => Some(value),
            Auto::Auto => None,
        }
    }
}
