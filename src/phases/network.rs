//! The network: the node's name and, on a control plane, the address its API server advertises. Both are facts: told once, then
//! frozen, for certificates, etcd's membership and manifests are made from them. An address is waited for by the kernel's events.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use crate::config::node::{Auto, Node, Role};
use crate::engine::context::Context;
use crate::engine::phase::{Action, Change, Drift, Fingerprint, Inputs, Kept, Phase, PhaseId, Subject};
use crate::error::{Error, Kind, Result};
use crate::host::net::{Address, Interfaces};
use crate::host::{Deadline, Root, kernel};
use crate::k8s::kubeconfig::Kubeconfig;
use crate::k8s::names;
use crate::k8s::pki::Certificate;

/// The phase `network`.
#[derive(Debug)]
pub struct Network;

/// Its id.
pub const NETWORK: PhaseId = PhaseId("network");

/// How long an address is waited for.
const WAIT: Duration = Duration::from_secs(60);
/// Where the API server's manifest says what it advertises (kubeadm's `constants.go`).
const ADVERTISE_ANNOTATION: &str = "kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint";
/// What the user of a node's certificate is called before its name.
const NODE_USER: &str = "system:node:";

/// Which address is to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// The configuration's.
    Configured(IpAddr),
    /// The one this node was made with.
    Frozen(IpAddr),
    /// The source of the default route.
    Any { ipv6: bool },
}

#[async_trait]
impl Phase for Network {
    fn id(&self) -> PhaseId {
        NETWORK
    }
    fn summary(&self) -> &'static str {
        "learns the node's name and address"
    }
    fn after(&self) -> &'static [PhaseId] {
        &[]
    }
    fn applies(&self, _node: &Node) -> bool {
        true
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        let node = inputs.node;
        Fingerprint::of(&(
            (&node.registration.name, &node.host.hostname, &node.advertise_address),
            (&inputs.facts.node_name, &inputs.facts.advertise_address),
            (node.role, node.cluster.service_subnets.first()),
        ))
    }

    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        let name = learn_name(cx)?;
        let Some(wanted) = wanted(cx)? else { return Ok(name) };
        let interfaces = cx.host.net.interfaces().await?;
        if learn_address(cx, wanted, &interfaces) {
            return Ok(name);
        }
        let change = Change::new(Subject::Fact("the advertise address".to_owned()), Action::Await);
        Ok(Drift::one(change.because(wanted.reason())).and(name))
    }

    async fn apply(&self, cx: &Context) -> Result<()> {
        let Some(wanted) = wanted(cx)? else { return Ok(()) };
        cx.waiting_for(wanted.reason());
        let deadline = Deadline::after(WAIT, wanted.reason());
        let mut seen = cx.host.net.interfaces().await?;
        while !learn_address(cx, wanted, &seen) {
            seen = match cx.host.net.changed(&seen, &deadline).await {
                Ok(interfaces) => interfaces,
                Err(error) if error.kind() == Kind::Transient => return Err(wanted.failure(&seen)),
                Err(error) => return Err(error),
            };
        }
        Ok(())
    }
}

impl Wanted {
    /// Completes "waiting for …".
    fn reason(self) -> String {
        match self {
            Wanted::Configured(address) => format!("the advertise address {address} on an interface"),
            Wanted::Frozen(address) => format!("the advertise address {address} of this control plane on an interface"),
            Wanted::Any { ipv6: false } => "a default route and an address on its interface".to_owned(),
            Wanted::Any { ipv6: true } => "an IPv6 default route and an address on its interface".to_owned(),
        }
    }

    fn failure(self, seen: &Interfaces) -> Error {
        let waited = format!("not so after {} s; {}", WAIT.as_secs(), spoken(seen));
        let failure = Error::host(format!("waiting for {}", self.reason()));
        let line = |address: &str| format!("`localAPIEndpoint: {{advertiseAddress: {address}}}`");
        match self {
            Wanted::Configured(_) => failure
                .because(waited)
                .hint(format!("give that address to an interface, or configure one that is there: {}", line(&example(seen)))),
            Wanted::Frozen(_) => failure.because(waited).hint(format!(
                "bring the old address back; to move this control plane to another one, write {} to the InitConfiguration in {}",
                line(&example(seen)),
                names::CONFIG
            )),
            Wanted::Any { .. } => Error::host("looking for the advertise address")
                .because(format!("no default route and no advertise address configured; {}", spoken(seen)))
                .hint(format!("write {} to the InitConfiguration in {}", line(&example(seen)), names::CONFIG)),
        }
    }
}

/// The addresses there are, for a message.
fn spoken(seen: &Interfaces) -> String {
    let mut text = String::new();
    for address in seen.addresses.iter().filter(|address| address.global) {
        let _ = write!(text, "{}{} {}", if text.is_empty() { "there is " } else { ", " }, address.interface, address.ip);
    }
    if text.is_empty() { "no interface has an address".to_owned() } else { text }
}

/// An address to write down: the one there is, where there is one.
fn example(seen: &Interfaces) -> String {
    seen.addresses.iter().find(|address| address.global).map_or_else(|| "ADDRESS".to_owned(), |address| address.ip.to_string())
}

/// What is to be found; `None` on a worker, whose API server is elsewhere.
fn wanted(cx: &Context) -> Result<Option<Wanted>> {
    if cx.node.role == Role::Worker {
        return Ok(None);
    }
    if let Auto::Set(address) = cx.node.advertise_address {
        return Ok(Some(Wanted::Configured(address)));
    }
    let frozen = match cx.facts().advertise_address {
        Some(address) => Some(address),
        None => advertised(&cx.host.root)?,
    };
    let ipv6 = cx.node.cluster.service_subnets.first().is_some_and(|subnet| subnet.network().is_ipv6());
    Ok(Some(frozen.map_or(Wanted::Any { ipv6 }, Wanted::Frozen)))
}

/// Learns the address when it is there.
fn learn_address(cx: &Context, wanted: Wanted, interfaces: &Interfaces) -> bool {
    let found = match wanted {
        Wanted::Configured(address) | Wanted::Frozen(address) => is_present(interfaces, address).then_some(address),
        Wanted::Any { ipv6 } => source_of_default_route(interfaces, ipv6),
    };
    if let Some(address) = found {
        cx.learn(|facts| facts.advertise_address = Some(address));
    }
    found.is_some()
}

/// Whether an address can be listened on. One of IPv6 cannot while it is tentative.
fn is_present(interfaces: &Interfaces, wanted: IpAddr) -> bool {
    interfaces.addresses.iter().any(|address| address.ip == wanted && (address.global || wanted.is_ipv4()))
}

/// The source that the default route with the lowest metric prefers, or the first address of its interface; one of the loopback
/// interface where routers are set up without addresses (kubeadm's `ChooseBindAddress` does the same).
fn source_of_default_route(interfaces: &Interfaces, ipv6: bool) -> Option<IpAddr> {
    let fits = |address: &&Address| address.global && address.ip.is_ipv6() == ipv6;
    let on = |interface: &str| interfaces.addresses.iter().filter(fits).find(|address| address.interface == interface);
    let mut routes = interfaces.default_routes.iter().filter(|route| route.ipv6 == ipv6);
    routes.find_map(|route| {
        let preferred = route.source.filter(|source| is_present(interfaces, *source));
        preferred.or_else(|| on(&route.interface).or_else(|| on("lo")).map(|address| address.ip))
    })
}

/// The address in the manifest of an API server that was made here, when the state was lost.
fn advertised(root: &Root) -> Result<Option<IpAddr>> {
    let manifest = root.read_text(format!("{}/kube-apiserver.yaml", names::MANIFESTS_DIR))?;
    let Some(Ok(manifest)) = manifest.map(|text| serde_saphyr::from_str::<Value>(&text)) else { return Ok(None) };
    let endpoint = manifest.get("metadata").and_then(|metadata| metadata.get("annotations")?.get(ADVERTISE_ANNOTATION)?.as_str());
    Ok(endpoint.and_then(|endpoint| Some(endpoint.parse::<SocketAddr>().ok()?.ip())))
}

/// Learns the node's name: as the configuration says it, as it was when the node was made, or as the machine is, or is to be, called.
fn learn_name(cx: &Context) -> Result<Drift> {
    let wished = cx.node.host.hostname.as_deref().map(host_name).transpose()?;
    let name = match &cx.node.registration.name {
        Auto::Set(name) => name.clone(),
        Auto::Auto => match (standing_name(cx, wished.is_some())?, &wished) {
            (Some(name), _) => name,
            (None, Some(wished)) => wished.clone(),
            (None, None) => host_name(&kernel::hostname(&cx.host.root)?)?,
        },
    };
    let is_kept = cx.node.registration.name == Auto::Auto && wished.as_ref().is_some_and(|wished| *wished != name);
    let kept = is_kept.then(|| Kept {
        subject: Subject::Fact("the node's name".to_owned()),
        difference: format!(
            "the cluster knows this node as '{name}', also when the machine is called '{}'; `edgeboot reset` and joining anew change it",
            wished.unwrap_or_default()
        ),
    });
    cx.learn(|facts| facts.node_name = Some(name));
    Ok(Drift { kept: kept.into_iter().collect(), ..Drift::none() })
}

/// The name that this node has already. One that only the machine's name was made, and that no cluster knows, gives way to a wish.
fn standing_name(cx: &Context, gives_way: bool) -> Result<Option<String>> {
    match cx.facts().node_name.filter(|_| !gives_way || cx.ledger.cluster().is_some()) {
        Some(name) => Ok(Some(name)),
        None => registered(&cx.host.root),
    }
}

/// The name this node is registered under, when the state was lost: its client certificate says it.
fn registered(root: &Root) -> Result<Option<String>> {
    let name = |user: &str| user.strip_prefix(NODE_USER).map(str::to_owned);
    let certificate = root.read(names::KUBELET_CLIENT_CURRENT)?.and_then(|pem| Certificate::from_pem(&pem).ok());
    if let Some(name) = certificate.and_then(|certificate| name(&certificate.common_name)) {
        return Ok(Some(name));
    }
    let kubeconfig = root.read(names::KUBELET_CONF)?.and_then(|bytes| Kubeconfig::parse(&bytes).ok());
    Ok(kubeconfig.and_then(|kubeconfig| name(&kubeconfig.user)))
}

/// The machine's name as a node's name: lower case, a DNS subdomain (RFC 1123), and not one that all machines share.
fn host_name(text: &str) -> Result<String> {
    let name = text.trim().to_ascii_lowercase();
    let refused = match name.as_str() {
        "" | "(none)" => Some("this machine has no name".to_owned()),
        "localhost" | "localhost.localdomain" => Some(format!("the name of this machine is '{name}', as that of many others")),
        _ if !is_subdomain(&name) => Some(format!(
            "the name of this machine, '{name}', cannot be a node's name: only lower case letters, digits, '-' and '.' (RFC 1123)"
        )),
        _ => None,
    };
    match refused {
        None => Ok(name),
        Some(why) => Err(Error::host("learning the node's name").because(why).hint(
            "name the machine with `hostnamectl set-hostname NAME`, or write `nodeRegistration: {name: NAME}` to the configuration",
        )),
    }
}

/// A DNS subdomain as Kubernetes takes it for the name of a Node (apimachinery's `IsDNS1123Subdomain`).
pub fn is_subdomain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.first().is_some_and(|first| plain(*first))
            && bytes.last().is_some_and(|last| plain(*last))
            && bytes.iter().all(|byte| plain(*byte) || *byte == b'-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

#[cfg(test)]
mod tests;
