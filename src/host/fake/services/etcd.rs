//! The etcd of the fake machine's cluster, as its gateway answers: a voter on another machine, and this machine's own member, which starts
//! when the kubelet has its manifest, and catches up at once.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Services, lock};
use crate::error::{Error, Result};
use crate::host::etcd::{Answer, Etcd, Identity};
use crate::host::root::{Files as _, Utf8Path};

/// Where this machine's etcd has its data.
const DATA: &str = "/var/lib/etcd/member";

/// The members, as the gateway writes them.
#[derive(Debug, Default)]
pub(super) struct Members(Vec<Value>, Published);

/// Whether this machine's member serves clients: it does once it has heard of its own publication.
#[derive(Debug, Default, PartialEq)]
enum Published {
    #[default]
    Heard,
    Missed,
}

impl Members {
    pub(super) fn vote(&self, peer_url: &str) -> bool {
        self.0.iter().any(|member| member["peerURLs"][0] == peer_url && member["isLearner"] != true)
    }
    fn ours(&mut self) -> Option<&mut Value> {
        self.0.iter_mut().find(|member| member["ours"] == true)
    }
}

impl Services {
    /// etcd of the cluster on another machine has these members, as the gateway writes them.
    pub fn set_members(&self, members: Vec<Value>) {
        lock(&self.members).0 = members;
    }
    /// This machine's member misses the answer to its publication, and serves clients only after it was started again.
    pub fn miss_publication(&self) {
        lock(&self.members).1 = Published::Missed;
    }
    pub(super) fn start_etcd_again(&self) {
        lock(&self.members).1 = Published::Heard;
    }
    /// The members of etcd.
    pub fn members(&self) -> Vec<Value> {
        lock(&self.members).0.clone()
    }
    /// The kubelet starts etcd where there is a manifest; it knows its name then.
    fn start_etcd(&self) {
        if !self.is_active("kubelet.service") || !self.manifest("etcd") || self.is_silent("etcd") {
            return;
        }
        let mut members = lock(&self.members);
        let Some(member) = members.ours().filter(|member| member.get("name").is_none()) else { return };
        member["name"] = json!(self.node_name());
        drop(members);
        if self.files.metadata(Utf8Path::new(DATA)).ok().flatten().is_none() {
            self.files.bake(&format!("{DATA}/snap/db"), 0o600, b"data");
        }
    }
    fn refuse(why: &str) -> Answer {
        Answer::Refused(format!("etcdserver: {why}"))
    }
    fn add(&self, body: &Value) -> Result<Answer> {
        let peer_url = body["peerURLs"][0].clone();
        let has = |test: &dyn Fn(&Value) -> bool| lock(&self.members).0.iter().any(test);
        if has(&|member| member["peerURLs"][0] == peer_url) {
            return Ok(Services::refuse("Peer URLs already exists"));
        }
        if has(&|member| member["isLearner"] == true) {
            return Ok(Services::refuse("too many learner members in cluster"));
        }
        self.wrote(format!("member/add {peer_url}"))?;
        let mut members = lock(&self.members);
        let id = (members.0.len() + 100).to_string();
        members.0.push(json!({"ID": id, "peerURLs": [peer_url], "isLearner": true, "ours": true}));
        Ok(Answer::Done(json!({"members": members.0})))
    }
    fn promote(&self, body: &Value) -> Result<Answer> {
        if !lock(&self.members).0.iter().any(|member| member["ID"] == body["ID"] && member.get("name").is_some()) {
            return Ok(Services::refuse("can only promote a learner member which is in sync with leader"));
        }
        self.wrote(format!("member/promote {}", body["ID"]))?;
        for member in lock(&self.members).0.iter_mut().filter(|member| member["ID"] == body["ID"]) {
            member["isLearner"] = json!(false);
        }
        Ok(Answer::Done(json!({})))
    }
    fn update(&self, body: &Value) -> Result<Answer> {
        self.wrote(format!("member/update {}", body["peerURLs"][0]))?;
        for member in lock(&self.members).0.iter_mut().filter(|member| member["ID"] == body["ID"]) {
            member["peerURLs"] = body["peerURLs"].clone();
        }
        Ok(Answer::Done(json!({})))
    }
    /// The cluster that this machine founded has no other member.
    fn founded(&self, path: &str, body: &Value) -> Result<Answer> {
        let mut members = lock(&self.members);
        if members.0.is_empty() {
            members.0.push(json!({"ID": "1", "name": self.node_name(), "peerURLs": ["https://10.77.0.11:2380"],
                                  "clientURLs": ["https://10.77.0.11:2379"]}));
        }
        drop(members);
        if path.ends_with("/update") { self.update(body) } else { Ok(Answer::Done(json!({"members": self.members()}))) }
    }
    fn remove(&self, body: &Value) -> Result<Answer> {
        self.wrote(format!("member/remove {}", body["ID"]))?;
        lock(&self.members).0.retain(|member| member["ID"] != body["ID"]);
        Ok(Answer::Done(json!({})))
    }
}

#[async_trait]
impl Etcd for Services {
    async fn call(&self, member: &str, path: &str, body: &Value, _identity: &Identity, _total: Duration) -> Result<Answer> {
        self.alive()?;
        if self.serves() && !self.is_elsewhere() {
            return self.founded(path, body);
        }
        if !self.is_elsewhere() {
            return Err(Error::transient(format!("asking {member}{path}")).because("connection refused"));
        }
        self.start_etcd();
        self.stumbles_at(path)?;
        if path.ends_with("/list") {
            return Ok(Answer::Done(json!({"members": self.members()})));
        }
        let answer = match path {
            "/v3/cluster/member/add" => self.add(body),
            "/v3/cluster/member/promote" => self.promote(body),
            "/v3/cluster/member/remove" => self.remove(body),
            "/v3/cluster/member/update" => self.update(body),
            "/v3/maintenance/status" if lock(&self.members).1 == Published::Heard => Ok(Answer::Done(json!({}))),
            "/v3/maintenance/status" => Err(Error::transient(format!("asking {member}{path}")).because("it does not answer")),
            _ => Ok(Services::refuse("unknown path")),
        }?;
        self.stumbles_after(path)?;
        Ok(answer)
    }
}
