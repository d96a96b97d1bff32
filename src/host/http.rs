//! Health endpoints on this machine, and documents behind a URL: one GET, a total deadline, no proxy, no redirects.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;

use crate::error::{Error, Result};

/// A GET of a local health endpoint.
#[async_trait]
pub trait Http: Send + Sync + std::fmt::Debug {
    /// The status code of `url`; `None` when nothing answers (refused, reset, timed out). Certificates are not checked: the
    /// controller manager and the scheduler serve self-signed ones on 127.0.0.1, and kubeadm does not check them either.
    async fn status(&self, url: &str, total: Duration) -> Result<Option<u16>>;
    /// The document behind an `https` URL, verified with the certificates this machine trusts. Only 200 is an answer; whatever may pass
    /// by itself is `Transient`.
    async fn document(&self, url: &str, total: Duration) -> Result<Vec<u8>>;
}

/// No document that edgeboot reads is larger.
const MOST_BYTES: usize = 1 << 20;

/// The machine's own.
pub fn machine() -> Arc<dyn Http> {
    Arc::new(Machine::default())
}

/// One client for all questions; made at the first one, since a run with nothing to do asks none.
#[derive(Debug, Default)]
struct Machine {
    client: OnceLock<reqwest::Client>,
}

impl Machine {
    fn client(&self) -> Result<reqwest::Client> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .tls_danger_accept_invalid_certs(true)
            // A component that restarts leaves a dead connection behind.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| Error::internal("making an HTTP client").because(error))?;
        Ok(self.client.get_or_init(|| client).clone())
    }
}

#[async_trait]
impl Http for Machine {
    async fn status(&self, url: &str, total: Duration) -> Result<Option<u16>> {
        match self.client()?.get(url).timeout(total).send().await {
            Ok(response) => Ok(Some(response.status().as_u16())),
            Err(error) if error.is_builder() => Err(Error::internal(format!("asking {url}")).because(error)),
            Err(_) => Ok(None),
        }
    }

    async fn document(&self, url: &str, total: Duration) -> Result<Vec<u8>> {
        // The URL may carry a secret in its query; what stands before it does not.
        let doing = || format!("fetching {}", url.split(['?', '#']).next().unwrap_or_default());
        let failed = |error: reqwest::Error| {
            let failure = if error.is_builder() { Error::config(doing()) } else { Error::transient(doing()) };
            failure.because(error.without_url())
        };
        let builder = reqwest::Client::builder().no_proxy().https_only(true).redirect(reqwest::redirect::Policy::none());
        let client = builder.build().map_err(|error| Error::internal("making an HTTP client").because(error))?;
        let mut response = client.get(url).timeout(total).send().await.map_err(failed)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(Error::transient(doing()).because(format!("the server answered {}", response.status())));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MOST_BYTES {
                return Err(Error::config(doing()).because(format!("it is larger than {MOST_BYTES} bytes")));
            }
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// Serves one connection with `answer`, or never answers when that is empty.
    async fn serve(answer: &'static str) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = [0; 1024];
            let _length = stream.read(&mut request).await.expect("a request");
            stream.write_all(answer.as_bytes()).await.expect("answered");
            if answer.is_empty() {
                std::future::pending::<()>().await;
            }
        });
        format!("http://{address}/healthz")
    }

    #[tokio::test]
    async fn the_status_is_told_and_silence_is_none() {
        // A second installation in the same process is refused, which is fine: it is there.
        let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let http = machine();
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Some(200)),
            ("HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n", Some(500)),
            ("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", Some(302)),
            ("", None),
        ] {
            let url = serve(answer).await;
            let status = http.status(&url, Duration::from_millis(300)).await.expect("no failure of ours");
            assert_eq!(status, expected, "{answer}");
        }
        assert_eq!(http.status("http://127.0.0.1:1/", Duration::from_secs(1)).await.expect("no failure of ours"), None);
        assert!(http.status("no url", Duration::from_secs(1)).await.is_err());
    }
}
