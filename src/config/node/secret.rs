//! The secrets of a wish: parsed once, redacted wherever they are printed or written down.

use std::fmt;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use crate::error::{Error, Result};

/// A secret that a joining machine uses once, and which may be gone when it was: a machine that has joined needs it no more.
#[derive(Debug, Clone, PartialEq)]
pub enum Secret<T> {
    /// It is here.
    Known {
        /// The secret.
        value: T,
        /// The file in edgeboot's own folder that holds it, to be deleted when the secret is spent; none where it is not ours.
        credential: Option<Utf8PathBuf>,
    },
    /// The file that held it is not there (any more).
    Gone {
        /// What it is, for instance `token`.
        what: &'static str,
        /// The file.
        path: Utf8PathBuf,
    },
}

impl<T> Secret<T> {
    /// The secret; a machine that needs it and has it not cannot join.
    pub fn known(&self) -> Result<&T> {
        match self {
            Secret::Known { value, .. } => Ok(value),
            Secret::Gone { what, path } => Err(Error::rejected(format!("reading the {what} from {path}"))
                .because("it is not there")
                .hint("put it there again, 0600, or say it anew by `edgeboot join`")),
        }
    }
    /// The file in edgeboot's own folder that holds it.
    pub fn credential(&self) -> Option<&Utf8Path> {
        match self {
            Secret::Known { credential, .. } => credential.as_deref(),
            Secret::Gone { .. } => None,
        }
    }
}

impl<T: Serialize> Serialize for Secret<T> {
    /// As the secret itself, which shows nothing secret.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Secret::Known { value, .. } => value.serialize(serializer),
            Secret::Gone { .. } => serializer.serialize_none(),
        }
    }
}

/// A bootstrap token `abcdef.0123456789abcdef`. The secret half is never printed.
#[derive(Clone)]
pub struct Token {
    /// The public half, six characters.
    pub id: String,
    secret: SecretString,
}

impl Token {
    /// A token from its halves; `None` when they do not look like one (`\A([a-z0-9]{6})\.([a-z0-9]{16})\z`).
    pub fn new(id: &str, secret: &str) -> Option<Token> {
        let plain =
            |text: &str, len: usize| text.len() == len && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        (plain(id, 6) && plain(secret, 16)).then(|| Token { id: id.to_owned(), secret: SecretString::from(secret.to_owned()) })
    }
    /// A token as it is written.
    pub fn parse(text: &str) -> Option<Token> {
        let (id, secret) = text.split_once('.')?;
        Token::new(id, secret)
    }
    /// The secret half, for the Secret object, the signature and the client's header only.
    pub fn secret(&self) -> &str {
        self.secret.expose_secret()
    }
    /// The whole, for a terminal or the client's header only.
    pub fn expose(&self) -> String {
        format!("{}.{}", self.id, self.secret.expose_secret())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.<redacted>", self.id)
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Token) -> bool {
        self.id == other.id && self.secret() == other.secret()
    }
}

impl Serialize for Token {
    /// Only the public half: a fingerprint, a plan or a state never holds the secret.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.id)
    }
}

/// kubeadm's `bootstrapTokens` entry.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BootstrapToken {
    /// The token.
    pub token: Token,
    /// For people.
    pub description: String,
    /// How long it lives; zero means for ever (kubeadm's `ttl: 0s`).
    pub ttl: Duration,
    /// `signing`, `authentication`.
    pub usages: Vec<String>,
    /// Groups a bearer belongs to.
    pub groups: Vec<String>,
}

/// A hex AES-256 key that encrypts the uploaded certificates. Never printed.
#[derive(Clone)]
pub struct CertificateKey(SecretString);

impl CertificateKey {
    /// From 64 hex digits.
    pub fn parse(text: &str) -> Option<CertificateKey> {
        (hex::decode(text).ok()?.len() == 32).then(|| CertificateKey(SecretString::from(text.to_owned())))
    }
    /// The 64 hex digits.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl PartialEq for CertificateKey {
    fn eq(&self, other: &CertificateKey) -> bool {
        self.expose() == other.expose()
    }
}

impl fmt::Debug for CertificateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl Serialize for CertificateKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("<redacted>")
    }
}
