//! The secrets of a wish: parsed once, redacted wherever they are printed or written down.

use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

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
