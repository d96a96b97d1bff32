//! Addresses and default routes of the machine, by netlink, with its events instead of polling.

mod diagnosis;
mod filter;
mod listener;
mod netlink;

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::{Error, Result};

use super::{Changed, Deadline};
pub use filter::Doomed;

/// An address on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The interface, for instance `eth0`.
    pub interface: String,
    /// The address.
    pub ip: IpAddr,
    /// Its prefix length.
    pub prefix: u8,
    /// It can be told to others: neither loopback nor link-local, and of IPv6 neither tentative, deprecated nor temporary.
    pub global: bool,
}

/// A default route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultRoute {
    /// The interface it leaves by.
    pub interface: String,
    /// The gateway, where there is one.
    pub gateway: Option<IpAddr>,
    /// The source address the route prefers, where it says so.
    pub source: Option<IpAddr>,
    /// It is for IPv6.
    pub ipv6: bool,
    /// Its metric; the lowest wins.
    pub metric: u32,
}

/// What the machine has right now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// All addresses, in the kernel's order.
    pub addresses: Vec<Address>,
    /// Default routes, lowest metric first.
    pub default_routes: Vec<DefaultRoute>,
}

/// The network of the machine.
#[async_trait]
pub trait Net: Send + Sync + std::fmt::Debug {
    /// What there is right now.
    async fn interfaces(&self) -> Result<Interfaces>;
    /// Returns after the next change of an address or route. The subscription is made before the state is read, so that no change
    /// is missed: `seen` is what the caller knows, and when the state differs already it returns at once.
    async fn changed(&self, seen: &Interfaces, deadline: &Deadline) -> Result<Interfaces>;
    /// The names of all interfaces.
    async fn links(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
    /// Removes an interface; nothing to do when there is none of that name.
    async fn remove_link(&self, _name: &str) -> Result<Changed> {
        Ok(Changed::No)
    }
    /// Removes tables and chains of the packet filter (nf_tables), with the rules that jump to them; the answer names them.
    async fn remove_filters(&self, _doomed: Doomed) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
    /// Who listens on a local TCP port, as the name of its process where that can be known; `None` when it is free.
    async fn listener(&self, port: u16) -> Result<Option<Listener>>;
}

/// A socket that listens on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The process, for instance `kube-apiserver`; empty when it cannot be known.
    pub process: String,
    /// Its process id; 0 when it cannot be known.
    pub pid: u32,
    /// The unit or control group it belongs to, for instance `kubelet.service` or a pod's; empty when unknown.
    pub cgroup: String,
}

/// The machine's own.
pub fn machine() -> Arc<dyn Net> {
    Arc::new(Machine::default())
}

#[derive(Debug, Default)]
struct Machine {
    sockets: Arc<listener::Sockets>,
}

#[async_trait]
impl Net for Machine {
    async fn interfaces(&self) -> Result<Interfaces> {
        netlink::interfaces().await
    }

    async fn changed(&self, seen: &Interfaces, deadline: &Deadline) -> Result<Interfaces> {
        netlink::changed(seen, deadline).await
    }

    async fn links(&self) -> Result<Vec<String>> {
        netlink::links().await
    }

    async fn remove_link(&self, name: &str) -> Result<Changed> {
        netlink::remove_link(name).await
    }

    async fn remove_filters(&self, doomed: Doomed) -> Result<Vec<String>> {
        let doing = "removing tables and chains of the packet filter (nf_tables)";
        let removed = tokio::task::spawn_blocking(move || filter::remove(doomed)).await;
        let removed = removed.map_err(|error| Error::internal(doing).because(error))?;
        removed.map_err(|error| Error::host(doing).because(error))
    }

    async fn listener(&self, port: u16) -> Result<Option<Listener>> {
        let sockets = self.sockets.clone();
        tokio::task::spawn_blocking(move || sockets.listener(port))
            .await
            .map_err(|error| Error::internal("looking for a listener on a thread").because(error))?
    }
}
