//! What the pods' network and kube-proxy made in the kernel: interfaces, tables and chains go by netlink. What iptables-legacy made cannot
//! be seen this way; it is named.

use super::{Reset, left};
use crate::engine::phase::{Kept, Subject};
use crate::engine::progress::Progress;
use crate::error::Result;
use crate::host::Root;
use crate::host::net::Doomed;

/// Interfaces of the bridge network, of flannel's VXLAN, and of kube-proxy's IPVS mode.
const LINKS: [&str; 4] = ["cni0", "flannel.1", "flannel-v6.1", "kube-ipvs0"];
/// kube-proxy's own tables and flannel's; in those of iptables-nft the chains of kube-proxy, the kubelet, the network plugins and flannel.
const DOOMED: Doomed = Doomed { table: is_table_of_cluster, chain: is_chain_of_cluster };
/// Names the tables that iptables-legacy has, one a line.
const LEGACY: [(&str, &str); 2] = [("/proc/net/ip_tables_names", "iptables"), ("/proc/net/ip6_tables_names", "ip6tables")];

fn is_table_of_cluster(name: &str) -> bool {
    name == "kube-proxy" || name.starts_with("flannel")
}

fn is_chain_of_cluster(name: &str) -> bool {
    ["KUBE-", "CNI-", "FLANNEL-"].iter().any(|start| name.starts_with(start))
}

/// Removes it. What cannot be removed is no reason not to go on.
pub(super) async fn clear(reset: &Reset, progress: &Progress) -> Result<Vec<Kept>> {
    let mut kept = Vec::new();
    for name in LINKS {
        if let Err(error) = reset.host.net.remove_link(name).await {
            kept.push(left(Subject::Other(format!("interface {name}")), format!("{error}; `ip link delete {name}` removes it")));
        }
    }
    match reset.host.net.remove_filters(DOOMED).await {
        Ok(removed) if removed.is_empty() => {}
        Ok(removed) => progress.say(&format!("removed {} tables and chains of the packet filter", removed.len())),
        Err(error) => {
            let why = format!("{error}; `nft list ruleset` shows what kube-proxy and the network plugins left");
            kept.push(left(Subject::Other("packet filter".to_owned()), why));
        }
    }
    kept.extend(legacy(&reset.host.root)?);
    Ok(kept)
}

/// Whether iptables-legacy has tables, in which the cluster may have left rules. Nobody but its own program can read them.
fn legacy(root: &Root) -> Result<Vec<Kept>> {
    let mut kept = Vec::new();
    for (path, program) in LEGACY {
        let tables = root.read_text(path)?.unwrap_or_default().split_ascii_whitespace().collect::<Vec<_>>().join(", ");
        if !tables.is_empty() {
            let why = format!(
                "{tables}: chains KUBE-* and CNI-* are not removed; `{program}-legacy-save | grep -vE 'KUBE-|CNI-' | {program}-legacy-restore` does"
            );
            kept.push(left(Subject::Other(format!("{program}-legacy")), why));
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_of_others_are_not_the_clusters() {
        for (name, ours) in [("KUBE-SERVICES", true), ("CNI-HOSTPORT-DNAT", true), ("DOCKER", false), ("POSTROUTING", false)] {
            assert_eq!(is_chain_of_cluster(name), ours, "{name}");
        }
        for (name, ours) in [("kube-proxy", true), ("flannel-ipv4", true), ("filter", false), ("kube", false)] {
            assert_eq!(is_table_of_cluster(name), ours, "{name}");
        }
    }
}
