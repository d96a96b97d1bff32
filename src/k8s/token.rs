//! Bootstrap tokens: a random one, the Secret that holds one (kubeadm's `BootstrapTokenToSecret`), and the line that joins with one.

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::objects::KUBE_SYSTEM;
use crate::config::node::{BootstrapToken, Token};
use crate::error::{Error, Result};

/// The letters of a token: 36 of them, so that a random byte below 252 picks one without favour.
const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// A token that nobody can guess.
pub fn random_token() -> Result<Token> {
    let (id, secret) = (random_letters(6)?, random_letters(16)?);
    Token::new(&id, &secret).ok_or_else(|| Error::internal("making a bootstrap token").because("it does not look like one"))
}

fn random_letters(length: usize) -> Result<String> {
    let mut letters = String::with_capacity(length);
    let mut bytes = [0_u8; 32];
    while letters.len() < length {
        rand::fill(&mut bytes)
            .map_err(|_| Error::host("making a bootstrap token").because("the machine gives no random numbers"))?;
        let picked = bytes.iter().filter(|byte| **byte < 252).map(|byte| char::from(ALPHABET[usize::from(byte % 36)]));
        letters.extend(picked.take(length - letters.len()));
    }
    Ok(letters)
}

/// What the Secret of a token is called.
pub fn secret_name(token_id: &str) -> String {
    format!("bootstrap-token-{token_id}")
}

/// The Secret that makes a token valid from now on.
pub fn token_secret(token: &BootstrapToken, now: Timestamp) -> Result<Value> {
    let mut data = Map::new();
    let mut put = |key: &str, text: &str| {
        if !text.is_empty() {
            data.insert(key.to_owned(), json!(BASE64.encode(text)));
        }
    };
    put("token-id", &token.token.id);
    put("token-secret", token.token.secret());
    put("description", &token.description);
    if !token.ttl.is_zero() {
        let expiration = now
            .checked_add(token.ttl)
            .map_err(|error| Error::config(format!("dating the bootstrap token {}", token.token.id)).because(error))?;
        put("expiration", &expiration.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    }
    for usage in &token.usages {
        put(&format!("usage-bootstrap-{usage}"), "true");
    }
    put("auth-extra-groups", &token.groups.join(","));
    Ok(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
        "metadata": {"name": secret_name(&token.token.id), "namespace": KUBE_SYSTEM}, "data": data,
    }))
}

/// The line that joins a worker: for a terminal only.
pub fn join_command(endpoint: &str, token: &Token, ca_cert_hash: &str) -> String {
    format!("kubeadm join {endpoint} --token {} \\\n\t--discovery-token-ca-cert-hash {ca_cert_hash}", token.expose())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn random_tokens_look_like_tokens_and_differ() {
        let tokens: Vec<Token> = (0..50).map(|_| random_token().expect("random numbers")).collect();
        let mut ids: Vec<&str> = tokens.iter().map(|token| token.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 50);
        assert!(tokens.iter().all(|token| Token::parse(&token.expose()).is_some()));
    }

    #[test]
    fn the_secret_is_kubeadms() {
        let token = BootstrapToken {
            token: Token::parse("dfwfq3.9e5o3ciync1qq1yv").expect("a token"),
            description: String::new(),
            ttl: Duration::from_secs(24 * 3600),
            usages: vec!["signing".to_owned(), "authentication".to_owned()],
            groups: vec!["system:bootstrappers:kubeadm:default-node-token".to_owned()],
        };
        let now = "2026-11-21T08:47:04.123Z".parse().expect("a time");
        // As kubeadm v1.36.3 made it at that time.
        let kubeadm = json!({
            "auth-extra-groups": "c3lzdGVtOmJvb3RzdHJhcHBlcnM6a3ViZWFkbTpkZWZhdWx0LW5vZGUtdG9rZW4=",
            "expiration": "MjAyNi0xMS0yMlQwODo0NzowNFo=",
            "token-id": "ZGZ3ZnEz",
            "token-secret": "OWU1bzNjaXluYzFxcTF5dg==",
            "usage-bootstrap-authentication": "dHJ1ZQ==",
            "usage-bootstrap-signing": "dHJ1ZQ==",
        });
        let secret = token_secret(&token, now).expect("a secret");
        assert_eq!(secret["data"], kubeadm);
        assert_eq!(secret["metadata"]["name"], "bootstrap-token-dfwfq3");
        let forever = token_secret(&BootstrapToken { ttl: Duration::ZERO, ..token }, now).expect("a secret");
        assert_eq!(forever["data"].get("expiration"), None);
    }
}
