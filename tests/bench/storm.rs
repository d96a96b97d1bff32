//! (h) A storm: so many machines that are switched on together come into one cluster of one control plane, each with a key and a
//! certificate of its own. They are machines made of memory whose API door is the real one: edgeboot's own phases find the cluster, read
//! its configuration and ask for the certificate over real TLS, and with it the Node is registered, as the kubelet does it. Beside them as
//! many that do the same requests and try again at kubeadm's fixed times. It runs once more as a program in the machines' network.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use edgeboot::cli::session::{Prepared, Session};
use edgeboot::config::node::{KeyAlgorithm, Pins, PublicKeyHash, Token};
use edgeboot::engine::context::Context;
use edgeboot::engine::phase::Phase;
use edgeboot::engine::state::PackageFacts;
use edgeboot::host::api::{Api, ObjectReference};
use edgeboot::host::{Deadline, Host, api, clock, fake};
use edgeboot::k8s::discovery::{judge, kubeconfig_of};
use edgeboot::k8s::kubeconfig::{Authority, Kubeconfig};
use edgeboot::k8s::pki::PrivateKey;
use edgeboot::k8s::pki::request::{Answer, answer, signing_request};
use edgeboot::k8s::{introduction, names};
use edgeboot::phases::join;
use futures_util::future::join_all;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::joining::{ENDPOINT, TOKEN};

/// Tells this program that it shall be the storm: who, how many, and the CA's hash.
pub const ORDERS: &str = "EDGEBOOT_BENCH_STORM";
/// The Nodes of the storm have this label.
pub const LABEL: &str = "storm";
/// For how long one may try.
const PATIENCE: Duration = Duration::from_secs(600);
/// kubeadm's discovery (`constants.DiscoveryRetryInterval`), and its look whether the kubelet has its certificate.
const FIXED_DISCOVERY: Duration = Duration::from_secs(5);
const FIXED_POLL: Duration = Duration::from_secs(1);
/// The kubelet's own tries to register begin so and grow to this (`tryRegisterWithAPIServer`).
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MOST_PAUSE: Duration = Duration::from_secs(7);

/// How a storm went: seconds to the registered Node, sorted, of those who came in; and why the others did not.
#[derive(Debug, Default)]
pub struct Weather {
    /// Seconds.
    pub seconds: Vec<f64>,
    /// Reasons.
    pub failures: Vec<String>,
}

impl Weather {
    /// So many of a hundred were quicker.
    pub fn percentile(&self, percent: usize) -> f64 {
        let place = (self.seconds.len() * percent).div_ceil(100).max(1) - 1;
        self.seconds.get(place).copied().unwrap_or(f64::NAN)
    }
}

/// Starts it in the network of the machines that lie in this folder.
pub fn unleash(machines: &Path, who: &str, nodes: usize, hash: &str) -> Result<Weather> {
    let digest = hex::encode(Sha256::digest(machines.canonicalize()?.to_string_lossy().as_bytes()));
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &format!("edgeboot-{}", &digest[..6])]).arg(std::env::current_exe()?);
    let output = command.env(ORDERS, format!("{who} {nodes} {hash}")).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut weather = Weather::default();
    for line in text.lines() {
        match line.split_once(' ') {
            Some(("in", seconds)) => weather.seconds.push(seconds.parse()?),
            Some(("out", why)) => weather.failures.push(why.to_owned()),
            _ => bail!("the storm said {line:?}"),
        }
    }
    if weather.seconds.len() + weather.failures.len() != nodes {
        bail!("the storm ended early: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    weather.seconds.sort_by(f64::total_cmp);
    Ok(weather)
}

/// The storm itself; prints how each one fared.
pub fn blow(orders: &str) -> Result<()> {
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let words: Vec<&str> = orders.split(' ').collect();
    let [who, nodes, hash] = words[..] else { bail!("orders: {orders}") };
    let (nodes, by_edgeboot) = (nodes.parse::<usize>()?, who == "edgeboot");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(8).build()?;
    runtime.block_on(async {
        // They are made before they are switched on.
        let baked: Vec<(String, Context)> = (0..nodes)
            .map(|number| {
                let name = format!("{who}-{number}");
                Ok((name.clone(), machine(&name, hash)?))
            })
            .collect::<Result<_>>()?;
        let started = Instant::now();
        let comes_in = async |(name, cx): &(String, Context)| {
            let came = tokio::time::timeout(PATIENCE, async {
                let kubeconfig = if by_edgeboot { joined(cx).await? } else { joined_at_fixed_times(cx, name, hash).await? };
                register(cx, &kubeconfig, name, !by_edgeboot).await
            });
            match came.await {
                Ok(Ok(())) => format!("in {:.3}", started.elapsed().as_secs_f64()),
                Ok(Err(error)) => format!("out {}", error.to_string().replace('\n', " ")),
                Err(_) => "out no more patience".to_owned(),
            }
        };
        let mut told = String::new();
        for line in join_all(baked.iter().map(comes_in)).await {
            writeln!(told, "{line}")?;
        }
        print!("{told}");
        Ok(())
    })
}

/// A machine of memory with a real API door and a real clock, that has come as far as `discovery`.
fn machine(name: &str, hash: &str) -> Result<Context> {
    let memory = fake::Machine::new();
    let config = format!(
        "apiVersion: edgeboot.io/v1alpha1\nkind: NodeConfig\nrole: worker\njoin:\n  endpoints: [\"{ENDPOINT}\"]\n  token: {TOKEN}\n  \
         caCertHashes: [\"{hash}\"]\n---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: JoinConfiguration\n\
         nodeRegistration: {{name: {name}}}\ntimeouts: {{discovery: 10m, tlsBootstrap: 10m, kubernetesAPICall: 10m}}\n"
    );
    memory.files.bake("/etc/edgeboot/config.yaml", 0o600, config.as_bytes());
    let host = Host { api: api::machine(), clock: clock::machine(), ..memory.host() };
    let Prepared::Node(prepared) = Session::over(host, Vec::new()).prepare(&[], &[])? else { bail!("no node is wished") };
    prepared.cx.learn(|facts| {
        facts.package = Some(PackageFacts {
            digest: String::new(),
            version: 1,
            kubernetes_version: "v1.36.3".to_owned(),
            architecture: "amd64".to_owned(),
            images: Vec::new(),
        });
    });
    Ok(prepared.cx)
}

/// Comes in by edgeboot's own phases; the kubelet's credentials.
async fn joined(cx: &Context) -> Result<String> {
    let phases: [&dyn Phase; 3] = [&join::Discovery, &join::ClusterConfiguration, &join::TlsBootstrap];
    for phase in phases {
        phase.apply(&cx.for_phase(phase.id())).await?;
    }
    let root = &cx.host.root;
    let conf = root.read(names::KUBELET_CONF)?.context("no kubelet.conf")?;
    let conf = Kubeconfig::parse(&conf).map_err(anyhow::Error::msg)?;
    let Authority::Embedded(authority) = conf.authority else { bail!("no CA in kubelet.conf") };
    let pem = root.read("/var/lib/kubelet/pki/kubelet-client-current.pem")?.context("no certificate")?;
    Ok(kubeconfig(&conf.server, &authority, &pem, &pem))
}

fn kubeconfig(server: &str, authority: &[u8], certificate: &[u8], key: &[u8]) -> String {
    let encoded = |bytes: &[u8]| STANDARD.encode(bytes);
    let user = json!({"client-certificate-data": encoded(certificate), "client-key-data": encoded(key)});
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "node",
        "clusters": [{"name": "c", "cluster": {"server": server, "certificate-authority-data": encoded(authority)}}],
        "contexts": [{"name": "node", "context": {"cluster": "c", "user": "node"}}],
        "users": [{"name": "node", "user": user}],
    })
    .to_string()
}

/// Makes the Node with the node's own certificate.
async fn register(cx: &Context, kubeconfig: &str, name: &str, at_fixed_times: bool) -> Result<()> {
    let server = format!("https://{ENDPOINT}");
    let api = cx.host.api.connect(kubeconfig, &server)?;
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", LABEL: "yes"}},
        "status": {"capacity": {"cpu": "2", "memory": "4Gi", "pods": "110"}, "nodeInfo": {
            "machineID": name, "systemUUID": name, "bootID": name, "kernelVersion": "6", "osImage": "Linux",
            "containerRuntimeVersion": "containerd://2", "kubeletVersion": "v1.36.3", "kubeProxyVersion": "",
            "operatingSystem": "linux", "architecture": "amd64",
        }},
    });
    if at_fixed_times {
        return again(FIXED_POLL, async || Ok(api.create(&node).await.map(drop)?)).await;
    }
    let deadline = Deadline::after(PATIENCE, format!("the cluster to take the node {name}"));
    Ok(deadline.until(FIRST_PAUSE, MOST_PAUSE, || async { api.create(&node).await.map(Some) }).await.map(drop)?)
}

/// The same requests, each tried again after a fixed time until it succeeds.
async fn joined_at_fixed_times(cx: &Context, name: &str, hash: &str) -> Result<String> {
    let server = format!("https://{ENDPOINT}");
    let token = Token::parse(TOKEN).context("a token")?;
    let pins = Pins::Sha256(vec![PublicKeyHash::parse(hash).context("a hash")?]);
    let connect = |kubeconfig: &str| cx.host.api.connect(kubeconfig, &server);
    let read = async |api: &dyn Api, namespace: &str, map: &str| -> Result<Value> {
        let reference = ObjectReference::new("v1", "ConfigMap", "configmaps").namespaced(namespace).named(map);
        api.read(&reference).await?.context("it is not there")
    };
    let unverified = connect(&introduction::unverified(&server))?;
    let authority = again(FIXED_DISCOVERY, async || {
        let first = read(unverified.as_ref(), "kube-public", "cluster-info").await?;
        let found = judge(&first, &token, &pins).map_err(|fault| anyhow::Error::msg(fault.to_string()))?;
        let verified = connect(&introduction::anonymous(&server, Some(&found.authority)))?;
        let second = read(verified.as_ref(), "kube-public", "cluster-info").await?;
        anyhow::ensure!(kubeconfig_of(&first) == kubeconfig_of(&second), "two answers");
        Ok(found.authority)
    })
    .await?;
    let newcomer = connect(&introduction::with_token(&server, &authority, &token))?;
    for map in ["kubeadm-config", "kubelet-config"] {
        again(FIXED_POLL, async || read(newcomer.as_ref(), "kube-system", map).await).await?;
    }
    let own = ObjectReference::node(name);
    again(FIXED_POLL, async || Ok(newcomer.read(&own).await?)).await?;
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256)?;
    let request = signing_request(&key, name)?;
    again(FIXED_POLL, async || Ok(newcomer.create(&request).await.map(drop)?)).await?;
    let reference = ObjectReference::of(&request)?;
    let pem = again(FIXED_POLL, async || match newcomer.read(&reference).await?.as_ref().map(answer) {
        Some(Answer::Signed(pem)) => Ok(pem),
        other => bail!("{other:?}"),
    })
    .await?;
    Ok(kubeconfig(&server, &authority, &pem, key.to_pem()?.as_bytes()))
}

async fn again<T>(pause: Duration, attempt: impl AsyncFn() -> Result<T>) -> Result<T> {
    loop {
        if let Ok(value) = attempt().await {
            return Ok(value);
        }
        tokio::time::sleep(pause).await;
    }
}
