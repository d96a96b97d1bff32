//! Bootstrap tokens: a random one, the Secret that holds one and what such a Secret says (kubeadm's `BootstrapTokenToSecret` and
//! `BootstrapTokenFromSecret`), and the line that joins with one.

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::objects::KUBE_SYSTEM;
use crate::config::node::{BootstrapToken, CertificateKey, Token};
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

/// The type of a Secret that holds a token.
const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";

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
        "apiVersion": "v1", "kind": "Secret", "type": SECRET_TYPE,
        "metadata": {"name": secret_name(&token.token.id), "namespace": KUBE_SYSTEM}, "data": data,
    }))
}

/// A token as it stands in the cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct StandingToken {
    /// The token.
    pub token: Token,
    /// For people; may be empty.
    pub description: String,
    /// Until when it is valid; `None` for ever.
    pub expires: Option<Timestamp>,
    /// What it is for, sorted: `authentication`, `signing`.
    pub usages: Vec<String>,
    /// Groups a bearer belongs to.
    pub groups: Vec<String>,
}

/// Whether a Secret is meant to be a bootstrap token.
pub fn is_token(secret: &Value) -> bool {
    secret["type"] == SECRET_TYPE
}

/// What a Secret says about its token; the error says in words why it is none, and never holds content.
pub fn from_secret(secret: &Value) -> Result<StandingToken, String> {
    let name = secret["metadata"]["name"].as_str().unwrap_or_default();
    let data = |key: &str| {
        let bytes = BASE64.decode(secret["data"][key].as_str().unwrap_or_default()).unwrap_or_default();
        String::from_utf8(bytes).unwrap_or_default()
    };
    let (id, token_secret) = (data("token-id"), data("token-secret"));
    if id.is_empty() {
        return Err(format!("the Secret {name} has no token-id"));
    }
    if name != secret_name(&id) {
        return Err(format!("the Secret {name} is named otherwise than its token, which would be {}", secret_name(&id)));
    }
    let token = Token::new(&id, &token_secret).ok_or_else(|| format!("what the Secret {name} holds is no bootstrap token"))?;
    let expires = match data("expiration").as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| format!("the expiration of the Secret {name} is no time"))?),
    };
    let keys = secret["data"].as_object().into_iter().flat_map(Map::keys);
    let mut usages: Vec<String> = keys
        .filter(|key| data(key) == "true")
        .filter_map(|key| key.strip_prefix("usage-bootstrap-").map(ToOwned::to_owned))
        .collect();
    usages.sort();
    let groups = data("auth-extra-groups");
    let groups = groups.split(',').filter(|group| !group.is_empty()).map(ToOwned::to_owned).collect();
    Ok(StandingToken { token, description: data("description"), expires, usages, groups })
}

/// The line that joins a worker, or with a certificate key a control plane: for a terminal, or for who asked for it.
pub fn join_command(endpoint: &str, token: &Token, ca_cert_hashes: &[String], key: Option<&CertificateKey>) -> String {
    let mut line = format!("edgeboot join {endpoint} --token {}", token.expose());
    for hash in ca_cert_hashes {
        line = format!("{line} --discovery-token-ca-cert-hash {hash}");
    }
    match key {
        Some(key) => format!("{line} --control-plane --certificate-key {}", key.expose()),
        None => line,
    }
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
        let read = from_secret(&secret).expect("a token");
        assert_eq!((&read.token, read.expires), (&token.token, Some("2026-11-22T08:47:04Z".parse().expect("a time"))));
        assert_eq!((read.usages, read.groups), (vec!["authentication".to_owned(), "signing".to_owned()], token.groups.clone()));
        assert!(is_token(&secret));
        let forever = token_secret(&BootstrapToken { ttl: Duration::ZERO, ..token }, now).expect("a secret");
        assert_eq!(forever["data"].get("expiration"), None);
        assert_eq!(from_secret(&forever).expect("a token").expires, None);
    }

    #[test]
    fn a_secret_that_is_no_token_says_why_and_shows_nothing() {
        let secret = |name: &str, data: &[(&str, &str)]| {
            let data: Map<String, Value> = data.iter().map(|(key, text)| ((*key).to_owned(), json!(BASE64.encode(text)))).collect();
            json!({"metadata": {"name": name}, "data": data})
        };
        let whole = [("token-id", "abcdef"), ("token-secret", "0123456789abcdef")];
        for (secret, why) in [
            (secret("bootstrap-token-abcdef", &[]), "the Secret bootstrap-token-abcdef has no token-id"),
            (secret("other", &whole), "the Secret other is named otherwise than its token, which would be bootstrap-token-abcdef"),
            (secret("bootstrap-token-abcdef", &whole[..1]), "what the Secret bootstrap-token-abcdef holds is no bootstrap token"),
            (
                secret("bootstrap-token-abcdef", &[whole[0], whole[1], ("expiration", "tomorrow")]),
                "the expiration of the Secret bootstrap-token-abcdef is no time",
            ),
        ] {
            assert_eq!(from_secret(&secret).expect_err("no token"), why);
        }
    }

    #[test]
    fn the_line_that_joins_is_one_to_copy() {
        let token = Token::parse("abcdef.0123456789abcdef").expect("a token");
        let key = "ab".repeat(32);
        assert_eq!(
            join_command(
                "10.0.0.1:6443",
                &token,
                &["sha256:1".to_owned(), "sha256:2".to_owned()],
                CertificateKey::parse(&key).as_ref()
            ),
            format!(
                "edgeboot join 10.0.0.1:6443 --token abcdef.0123456789abcdef --discovery-token-ca-cert-hash sha256:1 \
                 --discovery-token-ca-cert-hash sha256:2 --control-plane --certificate-key {key}"
            )
        );
    }
}
