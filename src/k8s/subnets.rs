//! Addresses inside the service subnets (`cmd/kubeadm/app/constants/constants.go`: `GetDNSIP`, `GetAPIServerVirtualIP`).

use std::net::IpAddr;

use ipnet::IpNet;

/// The first address is the API server's Service.
pub const API_SERVICE: u32 = 1;
/// The tenth address is the cluster DNS'.
pub const DNS_SERVICE: u32 = 10;

/// The address at `index` of the first subnet, whose family is the cluster's primary one; `None` when the subnet is too small.
pub fn service_address(subnets: &[IpNet], index: u32) -> Option<IpAddr> {
    let subnet = subnets.first()?;
    let address: IpAddr = match subnet.network() {
        IpAddr::V4(network) => IpAddr::V4(u32::from(network).checked_add(index)?.into()),
        IpAddr::V6(network) => IpAddr::V6(u128::from(network).checked_add(index.into())?.into()),
    };
    subnet.contains(&address).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_primary_subnet_numbers_the_services() {
        let at = |subnets: &[&str], index| {
            let subnets: Vec<IpNet> = subnets.iter().map(|subnet| subnet.parse().expect("a subnet")).collect();
            service_address(&subnets, index).map(|address| address.to_string())
        };
        assert_eq!(at(&["10.96.0.0/12"], API_SERVICE).as_deref(), Some("10.96.0.1"));
        assert_eq!(at(&["10.96.0.0/12", "fd00::/112"], DNS_SERVICE).as_deref(), Some("10.96.0.10"));
        assert_eq!(at(&["fd00:1::/108"], DNS_SERVICE).as_deref(), Some("fd00:1::a"));
        assert_eq!(at(&["10.96.0.0/29"], DNS_SERVICE), None);
        assert_eq!(at(&[], DNS_SERVICE), None);
    }
}
