//! A proxy that ends TLS in front of a real API server, as a site's balancer with a certificate of its own does, and is in trouble at
//! first: to each request it gives in turn an error, a plea for patience, garbage, half an answer and a late one. When every request
//! had its share it hands connections on as they are, so that client certificates pass. It is this very program once more, in the
//! network's namespace.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use edgeboot::config::node::KeyAlgorithm;
use edgeboot::k8s::pki::{Certificate, Pair, PrivateKey, Profile, San, Usage, Validity};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::balancer::{ENDPOINT, forward, in_network};
use super::machine::{Machine, repository};

/// Tells this program that it shall be the proxy, and where its certificate and its orders lie.
pub const FOLDER: &str = "EDGEBOOT_TEST_TERMINATING";
/// How long an answer takes that is late.
const LATE: Duration = Duration::from_secs(3);

/// What a request gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// What the API server says.
    Answer,
    /// 500, as while etcd elects a leader.
    Electing,
    /// 429 with Retry-After.
    Busy,
    /// 200, and no JSON.
    Garbage,
    /// What the API server says, and the end of it is missing.
    Half,
    /// What the API server says, later.
    Late,
}

use Fate::{Answer, Busy, Electing, Garbage, Half, Late};

/// What each request of a worker that joins gets until all is well. The first is made twice: unverified, and when that is believed,
/// verified.
const FATES: [(&str, &[Fate]); 6] = [
    (
        "GET /api/v1/namespaces/kube-public/configmaps/cluster-info",
        &[Electing, Busy, Garbage, Half, Late, Electing, Answer, Half, Answer, Garbage],
    ),
    ("GET /api/v1/namespaces/kube-system/configmaps/kubeadm-config", &[Electing, Busy, Garbage, Half, Late]),
    ("GET /api/v1/namespaces/kube-system/configmaps/kubelet-config", &[Half, Garbage, Busy, Electing, Late]),
    ("GET /api/v1/nodes/", &[Busy, Half, Garbage, Electing, Late]),
    // The answer that is cut off says that the request was made.
    ("POST /apis/certificates.k8s.io/v1/certificatesigningrequests", &[Electing, Busy, Half, Garbage, Late]),
    ("GET /apis/certificates.k8s.io/v1/certificatesigningrequests", &[Garbage, Half, Electing, Busy, Late]),
];

/// It runs as long as this lives.
#[derive(Debug)]
pub struct Terminating {
    process: Child,
    folder: PathBuf,
}

impl Terminating {
    /// In front of the founder, with a certificate of the cluster's CA, in trouble at first.
    pub fn before(founder: &Machine, server: &str) -> Result<Terminating> {
        let pki = founder.root()?.join("etc/kubernetes/pki");
        let pem = |name: &str| fs::read(pki.join(name)).with_context(|| name.to_owned());
        let certificate = Certificate::from_pem(&pem("ca.crt")?).map_err(anyhow::Error::msg)?;
        let key = PrivateKey::from_pem(&pem("ca.key")?).map_err(anyhow::Error::msg)?;
        Terminating::start(server, &Pair { certificate, key }, true)
    }
    /// In front of a server, with a certificate that another CA vouches for; it passes everything on.
    pub fn impostor(server: &str) -> Result<Terminating> {
        let authority = Pair::new_authority("kubernetes", KeyAlgorithm::EcdsaP256, validity()?)?;
        Terminating::start(server, &authority, false)
    }
    fn start(server: &str, authority: &Pair, in_trouble: bool) -> Result<Terminating> {
        let profile = Profile { usages: vec![Usage::Server], ..Profile::client("kube-apiserver", None) };
        let address = ENDPOINT.split(':').next().and_then(San::parse);
        let pair = authority.issue(&profile.for_sans(address), KeyAlgorithm::EcdsaP256, validity()?)?;
        let folder = repository().join("target/test-machines/terminating");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("chain"), pair.certificate.to_pem())?;
        fs::write(folder.join("key"), pair.key.to_pem()?.as_bytes())?;
        fs::write(folder.join("server"), format!("{server} {in_trouble}"))?;
        fs::write(folder.join("told"), "")?;
        let process = in_network()?.env(FOLDER, &folder).spawn().context("starting the proxy")?;
        Ok(Terminating { process, folder })
    }
    /// What each request got, one a line.
    pub fn told(&self) -> Result<String> {
        Ok(fs::read_to_string(self.folder.join("told"))?)
    }
    /// What was to go wrong and did not.
    pub fn missed(&self) -> Result<Vec<String>> {
        let told = self.told()?;
        let wished = FATES.iter().flat_map(|(request, fates)| fates.iter().map(move |fate| format!("{request} {fate:?}")));
        Ok(wished.filter(|line| !told.contains(line.as_str())).collect())
    }
}

impl Drop for Terminating {
    fn drop(&mut self) {
        // It may have ended by itself; nobody needs its last words.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn validity() -> Result<Validity> {
    Ok(Validity::from_now(jiff::Timestamp::now(), Duration::from_secs(24 * 3600))?)
}

/// What the proxy is made of.
struct Proxy {
    server: SocketAddr,
    serving: Arc<ServerConfig>,
    asking: Arc<ClientConfig>,
    told: PathBuf,
    /// How often each request came, while there is trouble.
    trouble: Option<Mutex<BTreeMap<&'static str, usize>>>,
}

/// Serves until it is ended.
pub fn serve(folder: &Path) -> Result<()> {
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let orders = fs::read_to_string(folder.join("server"))?;
    let (server, in_trouble) = orders.split_once(' ').context("orders")?;
    let chain = vec![CertificateDer::from_pem_file(folder.join("chain"))?];
    let key = PrivateKeyDer::from_pem_file(folder.join("key"))?;
    let mut asking = ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    // What is behind it is the founder's; whoever joins does not trust the proxy but the CA.
    asking.dangerous().set_certificate_verifier(Arc::new(anybody::Anybody::default()));
    let proxy = Arc::new(Proxy {
        server: server.parse()?,
        serving: Arc::new(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?),
        asking: Arc::new(asking),
        told: folder.join("told"),
        trouble: (in_trouble == "true").then(Mutex::default),
    });
    for client in TcpListener::bind(ENDPOINT).context(ENDPOINT)?.incoming() {
        let (client, proxy) = (client?, proxy.clone());
        // Who hangs up has his reasons.
        thread::spawn(move || drop(proxy.take(client)));
    }
    Ok(())
}

type Tls<C> = StreamOwned<C, TcpStream>;

impl Proxy {
    fn take(&self, client: TcpStream) -> Result<()> {
        if self.is_healed() {
            forward(&client, [self.server].iter());
            return Ok(());
        }
        let mut client = StreamOwned::new(ServerConnection::new(self.serving.clone())?, client);
        let request = read_request(&mut client)?;
        let head = String::from_utf8_lossy(&request).into_owned();
        let fate = self.fate(&head)?;
        match fate {
            Electing => {
                let body = r#"{"kind":"Status","status":"Failure","message":"etcdserver: leader changed","code":500}"#;
                write!(
                    client,
                    "HTTP/1.1 500 Internal Server Error\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                )?;
            }
            Busy => client.write_all(
                b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 4\r\n\r\nbusy",
            )?,
            Garbage => {
                client.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 19\r\n\r\n<html>hello</html>\n")?;
            }
            Half => {
                let mut answer = Vec::new();
                // The end of a session without a farewell is one, too.
                let _ = self.ask(&request)?.read_to_end(&mut answer);
                client.write_all(&answer[..answer.len() - answer.len() / 4])?;
                client.flush()?;
                return Ok(());
            }
            Late | Answer => {
                if fate == Late {
                    thread::sleep(LATE);
                }
                let (mut server, mut bytes) = (self.ask(&request)?, [0; 16 << 10]);
                while let Ok(length @ 1..) = server.read(&mut bytes) {
                    client.write_all(&bytes[..length])?;
                    client.flush()?;
                }
            }
        }
        client.conn.send_close_notify();
        Ok(client.flush()?)
    }

    /// Whether every request had its share.
    fn is_healed(&self) -> bool {
        let Some(trouble) = &self.trouble else { return false };
        let turns = trouble.lock().expect("no panic while it is held");
        FATES.iter().all(|(request, fates)| turns.get(request).is_some_and(|turn| *turn >= fates.len()))
    }

    fn fate(&self, head: &str) -> Result<Fate> {
        let Some(trouble) = &self.trouble else { return Ok(Answer) };
        let Some((request, fates)) = FATES.iter().find(|(request, _)| head.starts_with(request)) else { return Ok(Answer) };
        let mut turns = trouble.lock().expect("no panic while it is held");
        let turn = turns.entry(request).or_default();
        let fate = fates.get(*turn).copied().unwrap_or(Answer);
        *turn += 1;
        let mut told = fs::OpenOptions::new().append(true).open(&self.told)?;
        writeln!(told, "{request} {fate:?}")?;
        Ok(fate)
    }

    /// The request, at the API server, for one answer.
    fn ask(&self, request: &[u8]) -> Result<Tls<ClientConnection>> {
        let name = ServerName::from(self.server.ip());
        let session = ClientConnection::new(self.asking.clone(), name)?;
        let mut server = StreamOwned::new(session, TcpStream::connect(self.server)?);
        let line = request.iter().position(|byte| *byte == b'\n').context("a request's first line")? + 1;
        server.write_all(&[&request[..line], b"connection: close\r\n", &request[line..]].concat())?;
        server.flush()?;
        Ok(server)
    }
}

/// The head of a request and what its length says follows.
fn read_request(client: &mut impl Read) -> Result<Vec<u8>> {
    let (mut request, mut bytes) = (Vec::new(), [0; 16 << 10]);
    loop {
        if let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.map_or(Ok(0), |length| length.trim().parse())?;
            if request.len() >= end + 4 + length {
                return Ok(request);
            }
        }
        match client.read(&mut bytes)? {
            0 => bail!("the client has gone"),
            length => request.extend_from_slice(&bytes[..length]),
        }
    }
}

/// Takes any certificate.
mod anybody {
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};

    #[derive(Debug)]
    pub(super) struct Anybody(WebPkiSupportedAlgorithms);

    impl Default for Anybody {
        fn default() -> Self {
            Anybody(aws_lc_rs::default_provider().signature_verification_algorithms)
        }
    }

    impl ServerCertVerifier for Anybody {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.supported_schemes()
        }
    }
}
