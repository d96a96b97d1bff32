//! The members of an etcd cluster, as its gateway tells them, and what one that comes in is to it. As in kubeadm (`util/etcd/etcd.go`), a
//! member is known by its peer URL; it gets its name only when it has started.

use serde_json::Value;

/// Lists the members.
pub const LIST: &str = "/v3/cluster/member/list";
/// Gives a member other peer URLs.
pub const UPDATE: &str = "/v3/cluster/member/update";
/// Takes a member out.
pub const REMOVE: &str = "/v3/cluster/member/remove";
/// Where kubeadm notes on etcd's pod how it is reached.
pub const CLIENT_URLS: &str = "kubeadm.kubernetes.io/etcd.advertise-client-urls";

/// One member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its number, as the gateway writes it: decimal digits.
    pub id: String,
    /// Empty until it has started once.
    pub name: String,
    /// Where its peers talk to it.
    pub peer_urls: Vec<String>,
    /// Where its clients talk to it; empty until it has started once.
    pub client_urls: Vec<String>,
    /// It does not vote yet, and answers no client.
    pub is_learner: bool,
}

/// Where the members answer, as kubeadm has noted on these pods, those of etcd among them.
pub fn noted_client_urls(pods: &[Value]) -> Vec<String> {
    let noted = pods.iter().filter(|pod| pod["metadata"]["labels"]["component"] == "etcd");
    let urls = noted.filter_map(|pod| pod["metadata"]["annotations"][CLIENT_URLS].as_str());
    urls.flat_map(|urls| urls.split(',')).map(str::to_owned).collect()
}

/// What this machine is to the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Membership {
    /// Nobody knows it.
    Absent,
    /// It was added and has not started, or runs and has not been promoted.
    Learner(Member),
    /// It is a full member.
    Voter(Member),
    /// It was a member, and its data is gone: etcd would not take it back as it was.
    Lost(Member),
    /// Another machine has its name.
    NameTaken(Member),
}

/// Reads the answer to `/v3/cluster/member/list` or `/v3/cluster/member/add`; the error is why it cannot be read.
pub fn members(answer: &Value) -> Result<Vec<Member>, String> {
    let list = answer["members"].as_array().ok_or("it names no members")?;
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let member = |value: &Value| {
        let id = value["ID"].as_str().filter(|id| id.parse::<u64>().is_ok()).ok_or("a member has no ID")?;
        Ok(Member {
            id: id.to_owned(),
            name: value["name"].as_str().unwrap_or_default().to_owned(),
            peer_urls: texts(&value["peerURLs"]),
            client_urls: texts(&value["clientURLs"]),
            is_learner: value["isLearner"].as_bool().unwrap_or_default(),
        })
    };
    list.iter().map(member).collect()
}

/// What the machine `name` at `peer_url` is to these members. `has_data`: its etcd has data.
pub fn membership(members: &[Member], name: &str, peer_url: &str, has_data: bool) -> Membership {
    let known = members.iter().find(|member| member.peer_urls.iter().any(|url| url == peer_url));
    match known.cloned() {
        Some(member) if !member.name.is_empty() && !has_data => Membership::Lost(member),
        Some(member) if member.is_learner || member.name.is_empty() => Membership::Learner(member),
        Some(member) => Membership::Voter(member),
        None => match members.iter().find(|member| member.name == name) {
            Some(member) => Membership::NameTaken(member.clone()),
            None => Membership::Absent,
        },
    }
}

/// `name=peer URL` of every member, as `--initial-cluster` takes them; one without a name goes by its number in hexadecimal digits,
/// as in kubeadm.
pub fn initial_cluster(members: &[Member], name: &str, peer_url: &str) -> String {
    let named = |member: &Member| {
        let url = member.peer_urls.first().cloned().unwrap_or_default();
        match &member.name {
            _ if url == peer_url => format!("{name}={url}"),
            unnamed if unnamed.is_empty() => format!("{:x}={url}", member.id.parse::<u64>().unwrap_or_default()),
            other => format!("{other}={url}"),
        }
    };
    members.iter().map(named).collect::<Vec<_>>().join(",")
}

/// Where those answer that can be asked: the voters but this machine.
pub fn voters(members: &[Member], peer_url: &str) -> Vec<String> {
    let asked = members.iter().filter(|member| !member.is_learner && !member.peer_urls.iter().any(|url| url == peer_url));
    asked.filter_map(|member| member.client_urls.first().cloned()).collect()
}

/// The learner of another machine: etcd takes one at a time.
pub fn other_learner<'a>(members: &'a [Member], peer_url: &str) -> Option<&'a Member> {
    members.iter().find(|member| member.is_learner && !member.peer_urls.iter().any(|url| url == peer_url))
}

/// The `--initial-cluster` of a member's manifest that joined a cluster (`--initial-cluster-state=existing`).
pub fn joined_cluster(manifest: &Value) -> Option<String> {
    let command = manifest.pointer("/spec/containers/0/command")?.as_array()?;
    let value = |flag: &str| command.iter().filter_map(Value::as_str).find_map(|word| word.strip_prefix(flag));
    value("--initial-cluster-state=").filter(|state| *state == "existing")?;
    value("--initial-cluster=").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const OURS: &str = "https://10.0.0.3:2380";

    /// What a gateway of etcd 3.6 answers: a voter, a learner that was never started.
    fn answer() -> Value {
        json!({"header": {"cluster_id": "17237436991929493444"}, "members": [
            {"ID": "9372538179322589801", "name": "one", "peerURLs": ["https://10.0.0.1:2380"], "clientURLs": ["https://10.0.0.1:2379"]},
            {"ID": "255", "peerURLs": [OURS], "isLearner": true},
        ]})
    }

    #[test]
    fn a_gateways_answer_is_read() {
        let members = members(&answer()).expect("members");
        assert_eq!((members[0].name.as_str(), members[0].is_learner), ("one", false));
        assert_eq!((members[1].name.as_str(), members[1].is_learner, members[1].id.as_str()), ("", true, "255"));
        assert_eq!(initial_cluster(&members, "three", OURS), "one=https://10.0.0.1:2380,three=https://10.0.0.3:2380");
        assert_eq!(initial_cluster(&members, "two", "https://10.0.0.2:2380"), "one=https://10.0.0.1:2380,ff=https://10.0.0.3:2380");
        assert_eq!(voters(&members, OURS), ["https://10.0.0.1:2379"]);
        assert_eq!(other_learner(&members, OURS), None);
        assert!(other_learner(&members, "https://10.0.0.2:2380").is_some());
        for wrong in [json!({}), json!({"members": [{"ID": 7}]}), json!({"members": [{"ID": "x"}]})] {
            assert!(super::members(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_a_machine_is_follows_from_its_peer_url_its_name_and_its_data() {
        type Edit = fn(&mut Value);
        let all = |edit: Edit| {
            let mut answer = answer();
            edit(&mut answer["members"]);
            members(&answer).expect("members")
        };
        let word = |members: &[Member], name: &str, has_data| {
            let membership = format!("{:?}", membership(members, name, OURS, has_data));
            membership.split('(').next().unwrap_or_default().to_owned()
        };
        let table: [(Edit, &str, bool, &str); 7] = [
            (|members| members[1]["peerURLs"] = json!(["https://10.0.0.9:2380"]), "three", false, "Absent"),
            (|members| members[1]["peerURLs"] = json!(["https://10.0.0.9:2380"]), "one", false, "NameTaken"),
            (|_| {}, "three", false, "Learner"),
            (|members| members[1]["name"] = json!("three"), "three", true, "Learner"),
            (|members| members[1]["name"] = json!("three"), "three", false, "Lost"),
            (|members| members[1] = json!({"ID": "255", "name": "three", "peerURLs": [OURS]}), "three", true, "Voter"),
            (|members| members[1] = json!({"ID": "255", "peerURLs": [OURS]}), "three", false, "Learner"),
        ];
        for (edit, name, has_data, wished) in table {
            assert_eq!(word(&all(edit), name, has_data), wished);
        }
    }

    #[test]
    fn a_manifest_tells_whether_its_member_joined() {
        let manifest = |words: &[&str]| json!({"spec": {"containers": [{"command": words}]}});
        let joined = manifest(&["etcd", "--initial-cluster=a=https://x", "--initial-cluster-state=existing"]);
        assert_eq!(joined_cluster(&joined).as_deref(), Some("a=https://x"));
        assert_eq!(joined_cluster(&manifest(&["etcd", "--initial-cluster=a=https://x"])), None);
        assert_eq!(joined_cluster(&json!({})), None);
    }
}
