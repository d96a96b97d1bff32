//! One connection to an API server, which all requests share: HTTP/2, where kube's own stack would open an HTTP/1.1 connection, and pay
//! a handshake, for each request under way. The layers that authenticate stay kube's.

use std::sync::{Arc, OnceLock};
use std::task;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt as _};
use tower::{Service, ServiceBuilder};

use super::failure::asked_pause;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How often a connection is asked whether it lives while a request is under way, and how long the answer may take.
const ALIVE: Duration = Duration::from_secs(5);

/// Goes with a request, and comes to know for how long its server asks to be left alone: kube's errors do not hold the headers.
#[derive(Debug, Clone, Default)]
pub(super) struct Pause(Arc<OnceLock<Duration>>);

impl Pause {
    /// What the server asked for.
    pub(super) fn asked(&self) -> Option<Duration> {
        self.0.get().copied()
    }
    fn learn(&self, pause: Duration) {
        // A request has one answer: what is there already is the same.
        let _ = self.0.set(pause);
    }
}

/// Tells each request's [`Pause`].
struct Attentive<S>(S);

impl<S, B> Service<Request<Body>> for Attentive<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> task::Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }
    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let pause = request.extensions().get::<Pause>().cloned();
        let answer = self.0.call(request);
        Box::pin(async move {
            let response = answer.await?;
            if let (Some(pause), Some(asked)) = (pause, asked_pause(response.headers())) {
                pause.learn(asked);
            }
            Ok(response)
        })
    }
}

/// A client of the server that the configuration names; nothing is sent yet.
pub(super) fn client(config: kube::Config) -> Result<kube::Client, kube::Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    // Both versions: an operator may run the server with `--disable-http2-serving`.
    let https = HttpsConnectorBuilder::new().with_tls_config(config.rustls_client_config()?).https_only().enable_all_versions();
    let mut http = Client::builder(TokioExecutor::new());
    http.timer(TokioTimer::new()).pool_timer(TokioTimer::new());
    http.http2_keep_alive_interval(ALIVE).http2_keep_alive_timeout(ALIVE);
    let http: Client<_, Body> = http.build(https.wrap_connector(tcp));
    let layers =
        ServiceBuilder::new().layer(config.base_uri_layer()).option_layer(config.auth_layer()?).map_err(tower::BoxError::from);
    Ok(kube::Client::new(Attentive(layers.service(http)), config.default_namespace))
}
