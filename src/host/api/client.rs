//! The client of the machine: kube's, with raw JSON, over one connection. No request outlives its time.

use std::sync::{Arc, Once};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, pin_mut};
use http::{Method, Request};
use kube::config::Kubeconfig;
use kube::core::WatchEvent;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::error::{Error, Kind, Result};

use super::super::{Changed, Deadline};
use super::connection::Pause;
use super::failure::failure;
use super::{Api, ApiConnector, Applied, Apply, FIELD_MANAGER, ObjectReference, connection};

/// How many requests are under way at once, as soon as one was answered: until then nobody knows whether they can share a connection.
const REQUESTS: usize = 16;
/// How long one request may take: an etcd on a slow card needs seconds for a write.
const REQUEST: Duration = Duration::from_secs(20);
/// How long a watch is kept before it is renewed.
const WATCH: Duration = Duration::from_secs(60);
/// Between two watches: at first, and at most, for a server that does not answer.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MOST_PAUSE: Duration = Duration::from_secs(1);

/// Makes clients.
#[derive(Debug)]
pub struct Connector;

impl ApiConnector for Connector {
    fn connect(&self, kubeconfig: &str, server: &str) -> Result<Arc<dyn Api>> {
        let doing = || format!("reading a kubeconfig for {server}");
        let wrong = |error: kube::config::KubeconfigError| {
            // Its own words may quote the file, and the file holds a key.
            tracing::debug!(kind = ?std::mem::discriminant(&error), "a kubeconfig is not usable");
            Error::host(doing()).because("it is not a usable kubeconfig").hint("remove it; `edgeboot reconcile` makes it again")
        };
        let mut kubeconfig = Kubeconfig::from_yaml(kubeconfig).map_err(wrong)?;
        for cluster in kubeconfig.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
            // A proxy of the kubeconfig, or of the environment when it names none, is not for this machine's own server.
            cluster.proxy_url = None;
            cluster.server = Some(server.to_owned());
        }
        let mut config = kube::Config::try_from(kubeconfig).map_err(wrong)?;
        config.proxy_url = None;
        // The phases wait with a deadline and a reason; a retry below them would hide both.
        config.default_retry = false;
        let kube = connection::client(config).map_err(|error| failure(&doing(), error))?;
        Ok(Arc::new(Client { kube, server: server.to_owned(), permits: Semaphore::new(1), is_connected: Once::new() }))
    }
}

struct Client {
    kube: kube::Client,
    server: String,
    permits: Semaphore,
    is_connected: Once,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.server)
    }
}

/// A request's content type and body.
type Body<'a> = Option<(&'static str, &'a Value)>;

const JSON: &str = "application/json";
const APPLY: &str = "application/apply-patch+yaml";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

fn request(method: Method, path: &str, body: Body<'_>) -> Result<Request<Vec<u8>>> {
    let mut builder = Request::builder().method(method).uri(path).header(http::header::ACCEPT, JSON);
    let mut bytes = Vec::new();
    if let Some((content_type, value)) = body {
        builder = builder.header(http::header::CONTENT_TYPE, content_type);
        bytes =
            serde_json::to_vec(value).map_err(|error| Error::internal(format!("writing a request for {path}")).because(error))?;
    }
    builder.body(bytes).map_err(|error| Error::internal(format!("making a request for {path}")).because(error))
}

/// Why a request did not give an object: the server refused it with a code and in words, or it failed in another way.
enum Unanswered {
    Code(u16, String, Error),
    Otherwise(Error),
}

impl Unanswered {
    fn error(self) -> Error {
        match self {
            Unanswered::Code(_, _, error) | Unanswered::Otherwise(error) => error,
        }
    }
}

impl Client {
    async fn text(&self, doing: &str, mut request: Request<Vec<u8>>) -> Result<String, Unanswered> {
        let pause = Pause::default();
        request.extensions_mut().insert(pause.clone());
        let _permit = self.permits.acquire().await.map_err(|error| Unanswered::Otherwise(Error::internal(doing).because(error)))?;
        let answer = tokio::time::timeout(REQUEST, self.kube.request_text(request)).await;
        if let Ok(Ok(_) | Err(kube::Error::Api(_))) = answer {
            self.is_connected.call_once(|| self.permits.add_permits(REQUESTS - 1));
        }
        match answer {
            Ok(Ok(text)) => Ok(text),
            Ok(Err(kube::Error::Api(status))) => {
                let (code, words) = (status.code, status.message.clone());
                Err(Unanswered::Code(code, words, failure(doing, kube::Error::Api(status)).asking_for(pause.asked())))
            }
            Ok(Err(error)) => Err(Unanswered::Otherwise(failure(doing, error))),
            Err(_) => Err(Unanswered::Otherwise(Error::transient(doing).because(format!(
                "{} did not answer within {} s",
                self.server,
                REQUEST.as_secs()
            )))),
        }
    }

    async fn json(&self, doing: &str, method: Method, path: &str, body: Body<'_>) -> Result<Value, Unanswered> {
        let request = request(method, path, body).map_err(Unanswered::Otherwise)?;
        let text = self.text(doing, request).await?;
        // The body may hold secrets: neither it nor the parser's words about it are shown.
        serde_json::from_str(&text).map_err(|_| Unanswered::Otherwise(Error::transient(doing).because("the answer is not JSON")))
    }

    async fn get(&self, object: &ObjectReference, path: &str) -> Result<Option<Value>> {
        match self.json(&format!("reading {object}"), Method::GET, path, None).await {
            Ok(value) => Ok(Some(value)),
            Err(Unanswered::Code(404, _, _)) => Ok(None),
            Err(other) => Err(other.error()),
        }
    }

    /// One list or watch of the single object that is waited for.
    fn selection(object: &ObjectReference, more: &str) -> String {
        format!("{}?fieldSelector=metadata.name%3D{}{more}", object.collection_path(), object.name)
    }

    /// Lists, then watches until the watch ends; the answer is in `Some` when `holds` became true.
    async fn watch(
        &self,
        object: &ObjectReference,
        holds: &(dyn for<'a> Fn(Option<&'a Value>) -> bool + Send + Sync),
    ) -> Result<Option<Option<Value>>> {
        let doing = format!("watching {object}");
        let path = Self::selection(object, "");
        let mut list = self.json(&doing, Method::GET, &path, None).await.map_err(Unanswered::error)?;
        let version = list.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or("0").to_owned();
        let standing = list.pointer_mut("/items/0").map(Value::take);
        if holds(standing.as_ref()) {
            return Ok(Some(standing.map(|object_found| typed(object, object_found))));
        }
        let more = format!("&watch=true&resourceVersion={version}&timeoutSeconds={}", WATCH.as_secs());
        let (mut request, pause) = (request(Method::GET, &Self::selection(object, &more), None)?, Pause::default());
        request.extensions_mut().insert(pause.clone());
        let refused = |error| failure(&doing, error).asking_for(pause.asked());
        let events = self.kube.request_events::<Value>(request).await.map_err(refused)?;
        pin_mut!(events);
        while let Some(event) = events.next().await {
            let standing = match event.map_err(|error| failure(&doing, error))? {
                WatchEvent::Added(value) | WatchEvent::Modified(value) => Some(value),
                WatchEvent::Deleted(_) => None,
                WatchEvent::Bookmark(_) => continue,
                WatchEvent::Error(_) => break,
            };
            if holds(standing.as_ref()) {
                return Ok(Some(standing));
            }
        }
        Ok(None)
    }
}

/// Items of a list carry neither apiVersion nor kind.
fn typed(reference: &ObjectReference, mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.insert("apiVersion".to_owned(), Value::String(reference.api_version.clone()));
        fields.insert("kind".to_owned(), Value::String(reference.kind.clone()));
    }
    object
}

/// A write that finds no namespace comes too early: the API server makes its own ones shortly after it is ready.
fn written(result: Result<Value, Unanswered>) -> Result<Value> {
    result.map_err(|unanswered| match unanswered {
        Unanswered::Code(404, _, error) => error.with_kind(Kind::Transient),
        other => other.error(),
    })
}

fn version(object: &Value) -> Option<&str> {
    object.pointer("/metadata/resourceVersion").and_then(Value::as_str)
}

#[async_trait]
impl Api for Client {
    async fn ready(&self) -> Result<bool> {
        let doing = format!("asking {} whether it is ready", self.server);
        match self.text(&doing, request(Method::GET, "/readyz", None)?).await {
            Ok(text) => Ok(text.trim() == "ok"),
            Err(Unanswered::Code(500.., _, _)) => Ok(false),
            Err(other) => Err(other.error()),
        }
    }

    async fn read(&self, object: &ObjectReference) -> Result<Option<Value>> {
        self.get(object, &object.path()).await
    }

    async fn glance(&self, object: &ObjectReference) -> Result<Option<Value>> {
        // Any version will do: the server answers from its watch cache, without asking etcd.
        self.get(object, &format!("{}?resourceVersion=0", object.path())).await
    }

    async fn list(&self, objects: &ObjectReference) -> Result<Vec<Value>> {
        let doing = format!("listing {objects}");
        let mut list = self.json(&doing, Method::GET, &objects.collection_path(), None).await.map_err(Unanswered::error)?;
        let items = list.pointer_mut("/items").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
        Ok(items.into_iter().map(|item| typed(objects, item)).collect())
    }

    async fn create(&self, object: &Value) -> Result<Changed> {
        let reference = ObjectReference::of(object)?;
        let path = format!("{}?fieldManager={FIELD_MANAGER}", reference.collection_path());
        match self.json(&format!("creating {reference}"), Method::POST, &path, Some((JSON, object))).await {
            Err(Unanswered::Code(409, _, _)) => Ok(Changed::No),
            result => written(result).map(|_| Changed::Yes),
        }
    }

    async fn apply(&self, object: &Value, how: Apply) -> Result<Applied> {
        let reference = ObjectReference::of(object)?;
        let options = match how {
            Apply::DryRun => "force=false&dryRun=All",
            Apply::Careful => "force=false",
            Apply::Forced => "force=true",
        };
        let path = format!("{}?fieldManager={FIELD_MANAGER}&{options}", reference.path());
        match self.json(&format!("applying {reference}"), Method::PATCH, &path, Some((APPLY, object))).await {
            Err(Unanswered::Code(409, words, _)) if words.contains("conflict with") => Ok(Applied::Conflict(words)),
            result => written(result).map(Applied::Object),
        }
    }

    async fn replace(&self, object: &Value) -> Result<()> {
        let reference = ObjectReference::of(object)?;
        let path = format!("{}?fieldManager={FIELD_MANAGER}", reference.path());
        let result = self.json(&format!("replacing {reference}"), Method::PUT, &path, Some((JSON, object))).await;
        written(result).map(drop)
    }

    async fn approve(&self, request: &Value) -> Result<()> {
        let reference = ObjectReference::of(request)?;
        let path = format!("{}/approval?fieldManager={FIELD_MANAGER}", reference.path());
        let result = self.json(&format!("approving {reference}"), Method::PUT, &path, Some((JSON, request))).await;
        written(result).map(drop)
    }

    async fn patch(&self, object: &ObjectReference, patch: &Value) -> Result<Changed> {
        let doing = format!("changing {object}");
        let before = self.read(object).await?;
        let target = format!("{}?fieldManager={FIELD_MANAGER}", object.path());
        let after = written(self.json(&doing, Method::PATCH, &target, Some((STRATEGIC, patch))).await)?;
        let same = before.as_ref().and_then(version) == version(&after);
        Ok(if same { Changed::No } else { Changed::Yes })
    }

    async fn delete(&self, object: &ObjectReference) -> Result<Changed> {
        match self.json(&format!("deleting {object}"), Method::DELETE, &object.path(), None).await {
            Ok(_) => Ok(Changed::Yes),
            Err(Unanswered::Code(404, _, _)) => Ok(Changed::No),
            Err(other) => Err(other.error()),
        }
    }

    async fn wait(
        &self,
        object: &ObjectReference,
        holds: &(dyn for<'a> Fn(Option<&'a Value>) -> bool + Send + Sync),
        deadline: &Deadline,
    ) -> Result<Option<Value>> {
        deadline
            .until(FIRST_PAUSE, MOST_PAUSE, || async {
                match tokio::time::timeout(WATCH + REQUEST, self.watch(object, holds)).await {
                    Ok(watched) => watched,
                    Err(_) => Ok(None),
                }
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use serde_json::json;

    use super::super::machine;
    use super::*;
    use crate::config::node::KeyAlgorithm;
    use crate::k8s::introduction;
    use crate::k8s::pki::{Pair, Profile, San, Validity};

    /// An API server that gives each connection the next of these answers, whatever it is asked, and hangs up. Where it is.
    fn serving(answers: impl IntoIterator<Item = String>) -> (String, String) {
        // A second installation in the same process is refused, which is fine: it is there.
        let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
        // Nobody verifies it.
        let now = "2026-11-21T09:00:00Z".parse().expect("a time");
        let validity = Validity::from_now(now, Duration::from_secs(3600)).expect("dates");
        let authority = Pair::new_authority("kubernetes", KeyAlgorithm::EcdsaP256, validity).expect("a CA");
        let profile = Profile::client("kube-apiserver", None).for_sans(San::parse("127.0.0.1"));
        let pair = authority.issue(&profile, KeyAlgorithm::EcdsaP256, validity).expect("a certificate");
        let chain = vec![pair.certificate.der().to_vec().into()];
        let key = rustls::pki_types::pem::PemObject::from_pem_slice(pair.key.to_pem().expect("text").as_bytes()).expect("a key");
        let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).expect("a configuration");
        let (config, answers) = (Arc::new(config), answers.into_iter().collect::<Vec<_>>());
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = format!("https://{}", listener.local_addr().expect("an address"));
        std::thread::spawn(move || {
            for answer in answers {
                let (stream, _) = listener.accept().expect("a connection");
                let session = rustls::ServerConnection::new(config.clone()).expect("a session");
                let mut stream = rustls::StreamOwned::new(session, stream);
                let _length = stream.read(&mut [0; 8192]).expect("a request");
                stream.write_all(answer.as_bytes()).expect("answered");
                stream.conn.send_close_notify();
                let _flushed = stream.flush();
            }
        });
        (introduction::unverified(&server).to_string(), server)
    }

    /// A whole answer; `status` may go on with headers.
    fn whole(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }
    fn electing() -> String {
        whole("500 Internal Server Error", r#"{"kind":"Status","status":"Failure","message":"etcdserver: leader changed"}"#)
    }
    /// An answer that ends in its midst.
    fn cut() -> String {
        "HTTP/1.1 200 OK\r\ncontent-length: 200\r\n\r\n{\"kind\": \"Node\", ".to_owned()
    }

    #[tokio::test]
    async fn what_a_server_in_trouble_says_passes_by_itself_and_its_wish_for_a_pause_is_kept() {
        let table = [
            (whole("429 Too Many Requests\r\nretry-after: 7", "Too many requests"), "Too many requests", Some(7)),
            (electing(), "etcdserver: leader changed", None),
            (whole("503 Service Unavailable\r\nretry-after: soon", ""), "HTTP 503", None),
            (cut(), "", None),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n20\r\n{\"kind\":".to_owned(), "", None),
            (whole("200 OK", "<html>"), "the answer is not JSON", None),
            ("<html>\r\n\r\n".to_owned(), "", None),
            (String::new(), "", None),
        ];
        for (answer, words, pause) in table {
            let (kubeconfig, server) = serving([answer.clone()]);
            let api = machine().connect(&kubeconfig, &server).expect("a client");
            let error = api.read(&ObjectReference::node("box")).await.expect_err(&answer);
            assert_eq!(error.kind(), Kind::Transient, "{answer:?}: {error}");
            assert!(
                error.to_string().starts_with("reading Node box: ") && error.to_string().contains(words),
                "{answer:?}: {error}"
            );
            assert_eq!(error.asked_pause(), pause.map(Duration::from_secs), "{answer:?}: {error}");
        }
    }

    #[tokio::test]
    async fn a_request_that_is_made_again_after_a_lost_answer_finds_its_work_done() {
        let (kubeconfig, server) = serving([cut(), whole("409 Conflict", "")]);
        let api = machine().connect(&kubeconfig, &server).expect("a client");
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "box"}});
        assert_eq!(api.create(&node).await.expect_err("cut off").kind(), Kind::Transient);
        assert_eq!(api.create(&node).await.expect("done"), Changed::No);
    }

    #[tokio::test]
    async fn a_wait_outlasts_a_server_in_trouble() {
        let list = || whole("200 OK", r#"{"kind":"List","metadata":{},"items":[]}"#);
        let event = "HTTP/1.1 200 OK\r\n\r\n{\"type\":\"ADDED\",\"object\":{\"kind\":\"Node\"}}\n".to_owned();
        // Neither the list nor the watch comes through at once, and a watch ends in the middle of a line.
        let half = event[..40].to_owned();
        let (kubeconfig, server) = serving([electing(), cut(), list(), electing(), list(), half, list(), event]);
        let api = machine().connect(&kubeconfig, &server).expect("a client");
        let deadline = Deadline::after(Duration::from_secs(60), "the node");
        let found = api.wait(&ObjectReference::node("box"), &|node| node.is_some(), &deadline).await.expect("found");
        assert_eq!(found, Some(json!({"kind": "Node"})));
        // And a plain answer is one.
        let (kubeconfig, server) = serving([whole("200 OK", r#"{"kind":"Node"}"#)]);
        let api = machine().connect(&kubeconfig, &server).expect("a client");
        assert_eq!(api.read(&ObjectReference::node("box")).await.expect("read"), Some(json!({"kind": "Node"})));
    }
}
