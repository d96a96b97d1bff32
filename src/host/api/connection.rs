//! One connection to an API server, which all requests share: HTTP/2, where kube's own stack would open an HTTP/1.1 connection, and pay
//! a handshake, for each request under way. The layers that authenticate stay kube's.

use std::time::Duration;

use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt as _};
use tower::ServiceBuilder;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How often a connection is asked whether it lives while a request is under way, and how long the answer may take.
const ALIVE: Duration = Duration::from_secs(5);

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
    Ok(kube::Client::new(layers.service(http), config.default_namespace))
}
