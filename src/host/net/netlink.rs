//! Addresses and default routes by rtnetlink, and its multicast events. A connection lives as long as the question it answers.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::{StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType};
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder, new_connection, new_multicast_connection};

use super::{Address, DefaultRoute, Interfaces};
use crate::error::{Error, Result};
use crate::host::{Changed, Deadline};

/// What can change an address or a default route.
const EVENTS: &[MulticastGroup] = &[
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];

fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::host("asking the kernel for addresses and routes (netlink)").because(error)
}

/// What there is right now.
pub(super) async fn interfaces() -> Result<Interfaces> {
    let (connection, handle, _messages) = new_connection().map_err(failed)?;
    tokio::select! {
        answer = read(&handle) => answer,
        () = connection => Err(failed("the connection ended")),
    }
}

/// The names of all interfaces.
pub(super) async fn links() -> Result<Vec<String>> {
    let (connection, handle, _messages) = new_connection().map_err(failed)?;
    let mut links: Vec<String> = tokio::select! {
        answer = names(&handle) => answer?.into_values().collect(),
        () = connection => return Err(failed("the connection ended")),
    };
    links.sort();
    Ok(links)
}

/// Removes an interface.
pub(super) async fn remove_link(name: &str) -> Result<Changed> {
    let (connection, handle, _messages) = new_connection().map_err(failed)?;
    let removal = async {
        let Some(index) = names(&handle).await?.into_iter().find_map(|(index, other)| (other == name).then_some(index)) else {
            return Ok(Changed::No);
        };
        let removed = handle.link().del(index).execute().await;
        removed.map(|()| Changed::Yes).map_err(|error| Error::host(format!("removing the interface {name}")).because(error))
    };
    tokio::select! {
        answer = removal => answer,
        () = connection => Err(failed("the connection ended")),
    }
}

/// The state after the next change, or at once when it differs from what was seen already.
pub(super) async fn changed(seen: &Interfaces, deadline: &Deadline) -> Result<Interfaces> {
    let (connection, handle, mut events) = new_multicast_connection(EVENTS).map_err(failed)?;
    let difference = async {
        loop {
            let now = read(&handle).await?;
            if now != *seen {
                return Ok(now);
            }
            events.next().await.ok_or_else(|| failed("the events ended"))?;
        }
    };
    let answer = deadline.bound(async {
        tokio::select! {
            answer = difference => answer,
            () = connection => Err(failed("the connection ended")),
        }
    });
    answer.await?
}

async fn read(handle: &Handle) -> Result<Interfaces> {
    let names = names(handle).await?;
    let messages: Vec<AddressMessage> = handle.address().get().execute().try_collect().await.map_err(failed)?;
    let addresses = messages.iter().filter_map(|message| address(message, &names)).collect();
    let mut default_routes = Vec::new();
    for question in [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()] {
        let mut routes = handle.route().get(question).execute();
        while let Some(message) = routes.next().await {
            match message {
                Ok(message) => default_routes.extend(default_routes_of(&message, &names)),
                // A kernel without IPv6 has no such routes.
                Err(rtnetlink::Error::NetlinkError(_)) => break,
                Err(error) => return Err(failed(error)),
            }
        }
    }
    // Stable: of two routes with the same metric the one the kernel names first.
    default_routes.sort_by_key(|route: &DefaultRoute| route.metric);
    Ok(Interfaces { addresses, default_routes })
}

async fn names(handle: &Handle) -> Result<HashMap<u32, String>> {
    let mut names = HashMap::new();
    let mut links = handle.link().get().execute();
    while let Some(link) = links.try_next().await.map_err(failed)? {
        let name = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        });
        names.extend(name.map(|name| (link.header.index, name)));
    }
    Ok(names)
}

fn address(message: &AddressMessage, names: &HashMap<u32, String>) -> Option<Address> {
    let mut own = None;
    let mut peer = None;
    // The header holds the lower eight flags; the attribute, where it is sent, all of them.
    let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => own = Some(*ip),
            AddressAttribute::Address(ip) => peer = Some(*ip),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    // On a point-to-point interface the address is the peer's, and the local one is ours.
    let ip = own.or(peer)?;
    let told = matches!(message.header.scope, AddressScope::Universe | AddressScope::Site | AddressScope::Other(_));
    let global = told && is_global(ip) && !(ip.is_ipv6() && flags.intersects(unfit_for_others()));
    let interface = names.get(&message.header.index)?.clone();
    Some(Address { interface, ip, prefix: message.header.prefix_len, global })
}

/// Of IPv6: not usable yet, going away, or temporary (there `Secondary` is the kernel's word for that, RFC 8981).
fn unfit_for_others() -> AddressFlags {
    AddressFlags::Tentative | AddressFlags::Dadfailed | AddressFlags::Deprecated | AddressFlags::Secondary
}

fn is_global(ip: IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !link_local && !ip.is_loopback() && !ip.is_multicast() && !ip.is_unspecified()
}

/// The default routes in a route of the main table; several when it has several next hops.
fn default_routes_of(message: &RouteMessage, names: &HashMap<u32, String>) -> Vec<DefaultRoute> {
    let header = &message.header;
    let is_default = header.destination_prefix_length == 0
        && header.kind == RouteType::Unicast
        && (header.table == RouteHeader::RT_TABLE_MAIN
            || message.attributes.contains(&RouteAttribute::Table(u32::from(RouteHeader::RT_TABLE_MAIN))));
    if !is_default {
        return Vec::new();
    }
    let ipv6 = header.address_family == AddressFamily::Inet6;
    let own = Hop::of(&message.attributes, None);
    let route = |hop: Hop| {
        let interface = names.get(&hop.interface?)?.clone();
        let (gateway, source) = (hop.gateway, own.source);
        Some(DefaultRoute { interface, gateway, source, ipv6, metric: own.metric })
    };
    let several = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::MultiPath(hops) => Some(hops),
        _ => None,
    });
    match several {
        Some(hops) => hops.iter().filter_map(|hop| route(Hop::of(&hop.attributes, Some(hop.interface_index)))).collect(),
        None => route(own).into_iter().collect(),
    }
}

/// What the attributes of a route, or of one of its next hops, say.
#[derive(Debug, Clone, Copy, Default)]
struct Hop {
    interface: Option<u32>,
    gateway: Option<IpAddr>,
    source: Option<IpAddr>,
    metric: u32,
}

impl Hop {
    fn of(attributes: &[RouteAttribute], interface: Option<u32>) -> Hop {
        let mut hop = Hop { interface, ..Hop::default() };
        for attribute in attributes {
            match attribute {
                RouteAttribute::Oif(index) => hop.interface = Some(*index),
                RouteAttribute::Gateway(gateway) => hop.gateway = ip(gateway),
                RouteAttribute::PrefSource(source) => hop.source = ip(source),
                RouteAttribute::Priority(metric) => hop.metric = *metric,
                _ => {}
            }
        }
        hop
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn this_machine_has_its_loopback_address_and_it_is_not_global() {
        let interfaces = interfaces().await.expect("netlink answers");
        let loopback = interfaces.addresses.iter().find(|address| address.ip == IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert!(loopback.is_some_and(|address| !address.global && address.interface == "lo" && address.prefix == 8));
    }

    #[tokio::test]
    async fn a_state_that_differs_already_is_told_at_once_and_a_quiet_one_ends_at_the_deadline() {
        let deadline = Deadline::after(Duration::from_millis(50), "a change of addresses");
        let now = changed(&Interfaces::default(), &deadline).await.expect("it differs");
        let error = changed(&now, &deadline).await.expect_err("nothing changes");
        assert!(error.to_string().contains("a change of addresses"), "{error}");
    }

    #[test]
    fn a_default_route_with_several_next_hops_is_several_routes() {
        let names = HashMap::from([(2, "eth0".to_owned()), (3, "eth1".to_owned())]);
        let mut message = RouteMessageBuilder::<Ipv4Addr>::new().priority(100).build();
        message.attributes.push(RouteAttribute::Oif(2));
        message.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet(Ipv4Addr::new(10, 0, 0, 1))));
        let routes = default_routes_of(&message, &names);
        assert_eq!(routes.len(), 1);
        assert_eq!((routes[0].interface.as_str(), routes[0].metric), ("eth0", 100));
        message.header.destination_prefix_length = 8;
        assert!(default_routes_of(&message, &names).is_empty());
    }
}
