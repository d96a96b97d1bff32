//! etcd's own HTTPS JSON gateway (its gRPC calls under `/v3/`, spoken in JSON): one POST, a total deadline, the certificate of the
//! health checks as kubeadm uses it, no proxy, no redirects.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// What etcd is asked with.
#[derive(Clone)]
pub struct Identity {
    /// The CA of etcd, as PEM.
    pub authority: Vec<u8>,
    /// The client's certificate and its key, as PEM, one after the other.
    pub client: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity(..)")
    }
}

/// What etcd said.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It did what it was asked.
    Done(Value),
    /// It did not, and why, in its own words. Most of its reasons pass by themselves: no leader, a learner that lags behind.
    Refused(String),
}

/// The gateway of one member.
#[async_trait]
pub trait Etcd: Send + Sync + std::fmt::Debug {
    /// Calls `path` (`/v3/cluster/member/list`) at the member's client URL. A member that does not answer is `Transient`.
    async fn call(&self, member: &str, path: &str, body: &Value, identity: &Identity, total: Duration) -> Result<Answer>;
}

/// The machine's own.
pub fn machine() -> Arc<dyn Etcd> {
    Arc::new(Machine)
}

#[derive(Debug)]
struct Machine;

fn client(identity: &Identity) -> Result<reqwest::Client> {
    let unusable = |error: reqwest::Error| Error::host("reading the certificates for etcd").because(error);
    let authority = reqwest::Certificate::from_pem_bundle(&identity.authority).map_err(unusable)?;
    let client = reqwest::Identity::from_pem(&identity.client).map_err(unusable)?;
    reqwest::Client::builder()
        .no_proxy()
        .https_only(true)
        .redirect(reqwest::redirect::Policy::none())
        .tls_certs_only(authority)
        .identity(client)
        .build()
        .map_err(|error| Error::internal("making a client for etcd").because(error))
}

#[async_trait]
impl Etcd for Machine {
    async fn call(&self, member: &str, path: &str, body: &Value, identity: &Identity, total: Duration) -> Result<Answer> {
        let url = format!("{}{path}", member.trim_end_matches('/'));
        let failed = |error: reqwest::Error| {
            let failure =
                if error.is_builder() { Error::host(format!("asking {url}")) } else { Error::transient(format!("asking {url}")) };
            failure.because(reason(&error.without_url()))
        };
        let response = client(identity)?.post(&url).timeout(total).body(body.to_string()).send().await.map_err(failed)?;
        let (status, text) = (response.status(), response.text().await.map_err(failed)?);
        let value: Option<Value> = serde_json::from_str(&text).ok();
        match value {
            Some(value) if status.is_success() => Ok(Answer::Done(value)),
            Some(value) => Ok(Answer::Refused(refusal(&value).unwrap_or_else(|| status.to_string()))),
            None => Err(Error::transient(format!("asking {url}")).because(format!("it answered {status}, and not in JSON"))),
        }
    }
}

/// The innermost cause says what is wrong; what is around it says only that a request failed.
fn reason(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// `{"code": 9, "message": "etcdserver: …"}`, or with `error` for `message`.
fn refusal(value: &Value) -> Option<String> {
    let text = |field: &str| value[field].as_str().map(str::to_owned);
    text("message").or_else(|| text("error"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::node::KeyAlgorithm;
    use crate::error::Kind;
    use crate::k8s::pki::{Pair, Validity};
    use serde_json::json;

    fn identity() -> Identity {
        let now = "2026-11-21T09:00:00Z".parse().expect("a time");
        let validity = Validity::from_now(now, Duration::from_secs(3600)).expect("dates");
        let pair = Pair::new_authority("etcd-ca", KeyAlgorithm::EcdsaP256, validity).expect("a CA");
        let client = pair.to_combined_pem().expect("text");
        Identity { authority: pair.certificate.to_pem().into_bytes(), client: Zeroizing::new(client.as_bytes().to_vec()) }
    }

    #[tokio::test]
    async fn a_member_that_does_not_answer_may_answer_later() {
        // A second installation in the same process is refused, which is fine: it is there.
        let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (identity, second) = (identity(), Duration::from_secs(1));
        let asked = machine().call("https://127.0.0.1:1", "/v3/cluster/member/list", &json!({}), &identity, second).await;
        let error = asked.expect_err("nobody listens");
        assert_eq!(error.kind(), Kind::Transient);
        assert!(error.to_string().starts_with("asking https://127.0.0.1:1/v3/cluster/member/list: "), "{error}");
        assert!(!format!("{identity:?}").contains("PRIVATE"));
        let broken = Identity { authority: b"x".to_vec(), client: Zeroizing::new(b"y".to_vec()) };
        assert_eq!(
            machine().call("https://127.0.0.1:1", "/v3", &json!({}), &broken, second).await.expect_err("no key").kind(),
            Kind::Host
        );
    }

    #[test]
    fn a_refusal_is_read_in_both_spellings() {
        assert_eq!(refusal(&json!({"code": 9, "message": "etcdserver: x"})).as_deref(), Some("etcdserver: x"));
        assert_eq!(refusal(&json!({"code": 9, "error": "etcdserver: y"})).as_deref(), Some("etcdserver: y"));
        assert_eq!(refusal(&json!({})), None);
    }
}
