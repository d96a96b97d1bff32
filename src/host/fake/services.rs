//! The services of the fake machine: a systemd whose units come from the file tree, a containerd that stores images, a kubelet that
//! starts what its manifests say and registers its node, and an API server that keeps objects. Each does as little as edgeboot relies
//! on, and everything that changes something burns the fuse.

mod api;
mod containers;
mod etcd;
mod stumbles;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{FakeFiles, Fuse, linux};
use crate::error::{Error, Result};
use crate::host::api::object_name;
use crate::host::clock::{Clock, Timestamp};
use crate::host::http::Http;
use crate::host::net::{Address, DefaultRoute, Interfaces, Listener, Net};
use crate::host::root::{Files as _, Utf8Path, Utf8PathBuf};
use crate::host::systemd::{Systemd, UnitStatus};
use crate::host::{Changed, Deadline};

pub(super) use api::Connector;

#[derive(Debug, Default)]
struct Running {
    /// Active units.
    active: BTreeSet<String>,
    /// Units whose files systemd has read, with their text.
    loaded: BTreeMap<String, Vec<u8>>,
    environment: BTreeSet<String>,
    starts: Vec<String>,
}

#[derive(Debug, Default)]
struct Stored {
    images: BTreeMap<String, (String, bool)>,
    objects: BTreeMap<String, Value>,
    version: u64,
}

/// A cluster whose API server is on another machine.
struct Elsewhere {
    reachable: bool,
    /// Where its API server answers; empty: wherever it is asked.
    server: String,
    /// What its controllers make of an object that is created.
    settle: Settle,
}

/// What controllers make of an object that is created: they sign requests, for instance.
type Settle = Arc<dyn Fn(&mut Value) + Send + Sync>;

impl std::fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Elsewhere(reachable: {})", self.reachable)
    }
}

/// What a client shows to the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shown {
    /// Nothing.
    Nothing,
    /// A token.
    Token,
    /// A certificate.
    Certificate,
}

/// The services.
#[derive(Debug)]
pub struct Services {
    fuse: Arc<Fuse>,
    files: Arc<FakeFiles>,
    running: Mutex<Running>,
    stored: Mutex<Stored>,
    interfaces: Mutex<Interfaces>,
    links: Mutex<BTreeSet<String>>,
    now: Mutex<Timestamp>,
    /// D-Bus calls and API writes since it was made: what a second boot must not repeat.
    writes: Mutex<Vec<String>>,
    elsewhere: Mutex<Option<Elsewhere>>,
    shown: Mutex<BTreeSet<Shown>>,
    members: Mutex<etcd::Members>,
    stumbles: Mutex<stumbles::Stumbles>,
    silent: Mutex<BTreeSet<String>>,
}

fn down(why: &std::io::Error) -> Error {
    Error::host("asking a service").because(why.to_string())
}

impl Services {
    pub(super) fn new(fuse: Arc<Fuse>, files: Arc<FakeFiles>) -> Services {
        let address: IpAddr = "10.77.0.11".parse().expect("an address");
        let interfaces = Interfaces {
            addresses: vec![Address { interface: "eth0".into(), ip: address, prefix: 24, global: true }],
            default_routes: vec![DefaultRoute {
                interface: "eth0".into(),
                gateway: "10.77.0.1".parse().ok(),
                source: None,
                ipv6: false,
                metric: 0,
            }],
        };
        Services {
            fuse,
            files,
            running: Mutex::default(),
            stored: Mutex::default(),
            interfaces: Mutex::new(interfaces),
            links: Mutex::new(BTreeSet::from(["eth0".to_owned()])),
            now: Mutex::new("2026-11-21T09:00:00Z".parse().expect("a time")),
            writes: Mutex::default(),
            elsewhere: Mutex::default(),
            shown: Mutex::default(),
            members: Mutex::default(),
            stumbles: Mutex::default(),
            silent: Mutex::default(),
        }
    }

    /// There is a cluster on another machine: its objects, and what its controllers make of one that is created.
    pub fn cluster_elsewhere(&self, objects: Vec<Value>, settle: impl Fn(&mut Value) + Send + Sync + 'static) {
        let mut stored = lock(&self.stored);
        stored.objects.extend(objects.into_iter().map(|object| (object_name(&object), object)));
        *lock(&self.elsewhere) = Some(Elsewhere { reachable: true, server: String::new(), settle: Arc::new(settle) });
    }
    /// The cluster on another machine has lost what it had.
    pub fn forget_objects(&self) {
        lock(&self.stored).objects.clear();
    }
    /// Whether the cluster on another machine can be reached from now on.
    pub fn reach(&self, reachable: bool) {
        if let Some(elsewhere) = lock(&self.elsewhere).as_mut() {
            elsewhere.reachable = reachable;
        }
    }
    /// What was shown to the API server, and forgets it.
    pub fn take_shown(&self) -> Vec<Shown> {
        std::mem::take(&mut *lock(&self.shown)).into_iter().collect()
    }

    /// Those that there are now.
    pub fn seen_interfaces(&self) -> Interfaces {
        lock(&self.interfaces).clone()
    }
    /// What the network is from now on.
    pub fn set_interfaces(&self, interfaces: Interfaces) {
        *lock(&self.interfaces) = interfaces;
    }
    /// A plugin or a component of the cluster makes an interface.
    pub fn add_link(&self, name: &str) {
        lock(&self.links).insert(name.to_owned());
    }
    /// The interfaces there are.
    pub fn link_names(&self) -> Vec<String> {
        lock(&self.links).iter().cloned().collect()
    }
    /// What time it is from now on.
    pub fn set_now(&self, now: Timestamp) {
        *lock(&self.now) = now;
    }
    /// What was changed through the services, and forgets it.
    pub fn take_writes(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.writes))
    }
    /// The objects of the cluster, by name.
    pub fn objects(&self) -> BTreeMap<String, Value> {
        lock(&self.stored).objects.clone()
    }
    /// Somebody changes an object behind edgeboot's back.
    pub fn edit_object(&self, name: &str, edit: impl FnOnce(&mut Value)) {
        if let Some(object) = lock(&self.stored).objects.get_mut(name) {
            edit(object);
        }
    }
    /// What listens at this port (`:10248/`), or etcd, does not answer from now on, or does again.
    pub fn silence(&self, who: &str, silent: bool) {
        let mut all = lock(&self.silent);
        let _changed = if silent { all.insert(who.to_owned()) } else { all.remove(who) };
    }
    fn is_silent(&self, url: &str) -> bool {
        lock(&self.silent).iter().any(|who| url.contains(who))
    }
    /// Somebody imports an image.
    pub fn import_image(&self, name: &str) {
        lock(&self.stored).images.insert(name.to_owned(), (format!("sha256:{}", "0".repeat(64)), false));
    }
    /// The images of the runtime.
    pub fn image_names(&self) -> Vec<String> {
        lock(&self.stored).images.keys().cloned().collect()
    }

    /// Power on: enabled units start.
    pub(super) fn boot(&self) {
        *lock(&self.running) = Running::default();
        self.name_kernel();
        let folder = Utf8Path::new("/etc/systemd/system/multi-user.target.wants");
        for unit in self.files.list(folder).ok().flatten().unwrap_or_default() {
            let mut running = lock(&self.running);
            if let Some(text) = self.unit_text(&unit) {
                running.loaded.insert(unit.clone(), text);
                running.active.insert(unit);
            }
        }
        self.settle();
    }

    fn wrote(&self, what: String) -> Result<()> {
        self.fuse.burn().map_err(|error| down(&error))?;
        lock(&self.writes).push(what);
        Ok(())
    }
    fn alive(&self) -> Result<()> {
        self.fuse.alive().map_err(|error| down(&error))
    }
    fn unit_text(&self, unit: &str) -> Option<Vec<u8>> {
        let folders = ["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system"];
        let mut text = folders.iter().find_map(|folder| self.files.read(&Utf8Path::new(folder).join(unit)).ok().flatten())?;
        for folder in folders {
            let drop_ins = Utf8Path::new(folder).join(format!("{unit}.d"));
            for name in self.files.list(&drop_ins).ok().flatten().unwrap_or_default() {
                text.extend(self.files.read(&drop_ins.join(name)).ok().flatten().unwrap_or_default());
            }
        }
        Some(text)
    }
    fn is_active(&self, unit: &str) -> bool {
        lock(&self.running).active.contains(unit)
    }
    fn manifest(&self, name: &str) -> bool {
        let path = Utf8PathBuf::from(format!("/etc/kubernetes/manifests/{name}.yaml"));
        self.files.read(&path).ok().flatten().is_some_and(|bytes| !bytes.is_empty())
    }
    /// The API server answers when the kubelet runs it, and etcd, which votes.
    fn serves(&self) -> bool {
        let elsewhere = lock(&self.elsewhere).is_some();
        let votes = !elsewhere || lock(&self.members).vote("https://10.77.0.11:2380");
        self.is_active("kubelet.service") && self.manifest("etcd") && self.manifest("kube-apiserver") && votes
    }
    fn host_name(&self) -> String {
        let name = self.files.read(Utf8Path::new("/etc/hostname")).ok().flatten();
        String::from_utf8_lossy(&name.unwrap_or_default()).trim().to_owned()
    }
    /// systemd and hostnamed tell the kernel the machine's name.
    fn name_kernel(&self) {
        let (path, name) = ("/proc/sys/kernel/hostname", format!("{}\n", self.host_name()));
        let there = self.files.read(Utf8Path::new(path)).ok().flatten().unwrap_or_default();
        if name.len() > 1 && there != name.as_bytes() {
            self.files.bake(path, 0o644, name.as_bytes());
        }
    }
    /// What the kubelet calls itself: the machine's name, unless a flag says another.
    fn node_name(&self) -> String {
        let flags = self.files.read(Utf8Path::new("/var/lib/kubelet/kubeadm-flags.env")).ok().flatten().unwrap_or_default();
        let flags = String::from_utf8_lossy(&flags).into_owned();
        let named = flags.split("--hostname-override=").nth(1).and_then(|rest| rest.split([' ', '"', '\n']).next());
        named.map_or_else(|| self.host_name().to_lowercase(), str::to_owned)
    }
    /// The cluster on another machine answers at this URL only.
    pub fn move_to(&self, server: &str) {
        if let Some(elsewhere) = lock(&self.elsewhere).as_mut() {
            server.clone_into(&mut elsewhere.server);
        }
    }
    fn is_at(&self, server: &str) -> bool {
        lock(&self.elsewhere).as_ref().is_none_or(|elsewhere| elsewhere.server.is_empty() || elsewhere.server == server)
    }
    fn is_elsewhere(&self) -> bool {
        lock(&self.elsewhere).as_ref().is_some_and(|elsewhere| elsewhere.reachable)
    }
    /// What the kubelet and the controller manager do once the API server answers.
    fn settle(&self) {
        let introduced = || self.files.read(Utf8Path::new("/etc/kubernetes/kubelet.conf")).ok().flatten().is_some();
        let joined = self.is_elsewhere() && self.is_active("kubelet.service") && introduced();
        if !self.serves() && !joined {
            return;
        }
        let mut stored = lock(&self.stored);
        for namespace in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
            stored.objects.entry(format!("Namespace {namespace}")).or_insert(object);
        }
        let name = self.node_name();
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": { "name": name, "labels": {}, "resourceVersion": "1" },
            "spec": { "podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24"], "taints": [] },
            "status": { "conditions": [{ "type": "Ready", "status": "True" }] }
        });
        stored.objects.entry(format!("Node {name}")).or_insert(node);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic while it is held")
}

#[async_trait]
impl Systemd for Services {
    async fn reload(&self) -> Result<()> {
        self.wrote("Reload".to_owned())?;
        let units: Vec<String> = lock(&self.running).loaded.keys().cloned().collect();
        for unit in units {
            if let Some(text) = self.unit_text(&unit) {
                lock(&self.running).loaded.insert(unit, text);
            }
        }
        Ok(())
    }
    async fn enable(&self, unit: &str, runtime: bool) -> Result<Changed> {
        let top = if runtime { "/run" } else { "/etc" };
        let link = Utf8PathBuf::from(format!("{top}/systemd/system/multi-user.target.wants/{unit}"));
        self.alive()?;
        if self.files.read_link(&link).ok().flatten().is_some() {
            return Ok(Changed::No);
        }
        self.wrote(format!("EnableUnitFiles {unit}"))?;
        // systemd makes links and folders without flushing them.
        let folder = link.parent().expect("it has one");
        if self.files.metadata(folder).ok().flatten().is_none() {
            self.files.make_dir(folder, 0o755).map_err(|error| down(&error))?;
        }
        let target = Utf8PathBuf::from(format!("{top}/systemd/system/{unit}"));
        self.files.symlink(&link, &target).map_err(|error| down(&error))?;
        Ok(Changed::Yes)
    }
    async fn disable(&self, unit: &str) -> Result<Changed> {
        let link = Utf8PathBuf::from(format!("/etc/systemd/system/multi-user.target.wants/{unit}"));
        if self.files.read_link(&link).ok().flatten().is_none() {
            return Ok(Changed::No);
        }
        self.wrote(format!("DisableUnitFiles {unit}"))?;
        self.files.remove_file(&link).map_err(|error| down(&error))?;
        Ok(Changed::Yes)
    }
    async fn start(&self, unit: &str, _deadline: &Deadline) -> Result<Changed> {
        self.alive()?;
        if self.is_active(unit) {
            return Ok(Changed::No);
        }
        let Some(text) = self.unit_text(unit) else {
            return Err(Error::host(format!("starting {unit}")).because("there is no such unit"));
        };
        self.wrote(format!("StartUnit {unit}"))?;
        {
            let mut running = lock(&self.running);
            running.loaded.insert(unit.to_owned(), text);
            running.active.insert(unit.to_owned());
            running.starts.push(unit.to_owned());
        }
        if let Err(why) = linux::run(&self.files, unit) {
            lock(&self.running).active.remove(unit);
            return Err(Error::host(format!("starting {unit}")).because(why));
        }
        self.settle();
        Ok(Changed::Yes)
    }
    async fn start_without_waiting(&self, unit: &str) -> Result<()> {
        self.start(unit, &Deadline::after(Duration::from_secs(1), "a start")).await.map(drop)
    }
    async fn restart(&self, unit: &str, deadline: &Deadline) -> Result<()> {
        self.alive()?;
        lock(&self.running).active.remove(unit);
        self.start(unit, deadline).await.map(drop)
    }
    async fn stop(&self, unit: &str, _deadline: &Deadline) -> Result<Changed> {
        if !self.is_active(unit) {
            return Ok(Changed::No);
        }
        self.wrote(format!("StopUnit {unit}"))?;
        lock(&self.running).active.remove(unit);
        Ok(Changed::Yes)
    }
    async fn status(&self, unit: &str) -> Result<Option<UnitStatus>> {
        self.alive()?;
        let Some(text) = self.unit_text(unit) else { return Ok(None) };
        let link = Utf8PathBuf::from(format!("/etc/systemd/system/multi-user.target.wants/{unit}"));
        let enabled = self.files.read_link(&link).ok().flatten().is_some();
        let running = lock(&self.running);
        let active = running.active.contains(unit);
        Ok(Some(UnitStatus {
            load_state: "loaded".into(),
            active_state: if active { "active" } else { "inactive" }.into(),
            sub_state: if active { "running" } else { "dead" }.into(),
            unit_file_state: if enabled { "enabled" } else { "disabled" }.into(),
            result: "success".into(),
            need_daemon_reload: running.loaded.get(unit).is_some_and(|loaded| *loaded != text),
            main_pid: if active { 100 } else { 0 },
            ..UnitStatus::default()
        }))
    }
    async fn journal(&self, _unit: &str, _lines: u32) -> Vec<String> {
        Vec::new()
    }
    async fn set_static_hostname(&self, name: &str) -> Result<()> {
        self.wrote(format!("SetStaticHostname {name}"))?;
        // hostnamed replaces the file as a whole, and does not flush it.
        let (path, new) = (Utf8Path::new("/etc/hostname"), Utf8Path::new("/etc/.#hostname"));
        let replace = || {
            if name.is_empty() {
                return self.files.remove_file(path);
            }
            if self.files.metadata(new)?.is_some() {
                self.files.remove_file(new)?;
            }
            std::io::Write::write_all(&mut self.files.create(new, 0o644)?, format!("{name}\n").as_bytes())?;
            self.files.rename(new, path)
        };
        replace().map_err(|error| down(&error))?;
        self.name_kernel();
        Ok(())
    }
    async fn set_environment(&self, assignments: &[String]) -> Result<Changed> {
        self.alive()?;
        let known = assignments.iter().all(|assignment| lock(&self.running).environment.contains(assignment));
        if known {
            return Ok(Changed::No);
        }
        self.wrote("SetEnvironment".to_owned())?;
        lock(&self.running).environment.extend(assignments.iter().cloned());
        Ok(Changed::Yes)
    }
}

#[async_trait]
impl Net for Services {
    async fn interfaces(&self) -> Result<Interfaces> {
        self.alive()?;
        Ok(lock(&self.interfaces).clone())
    }
    async fn changed(&self, _seen: &Interfaces, deadline: &Deadline) -> Result<Interfaces> {
        Err(deadline.exceeded())
    }
    async fn links(&self) -> Result<Vec<String>> {
        self.alive()?;
        Ok(lock(&self.links).iter().cloned().collect())
    }
    async fn remove_link(&self, name: &str) -> Result<Changed> {
        if !lock(&self.links).contains(name) {
            return Ok(Changed::No);
        }
        self.wrote(format!("RemoveLink {name}"))?;
        lock(&self.links).remove(name);
        Ok(Changed::Yes)
    }
    async fn listener(&self, _port: u16) -> Result<Option<Listener>> {
        Ok(None)
    }
}

#[async_trait]
impl Clock for Services {
    fn now(&self) -> Timestamp {
        *lock(&self.now)
    }
    async fn synchronized(&self) -> Result<bool> {
        Ok(true)
    }
    async fn synchronizing(&self) -> Result<bool> {
        Ok(false)
    }
}

#[async_trait]
impl Http for Services {
    async fn status(&self, url: &str, _total: Duration) -> Result<Option<u16>> {
        self.alive()?;
        let up = if url.contains(":10248/") {
            self.is_active("kubelet.service")
        } else if url.contains(":2381/") {
            self.is_active("kubelet.service") && self.manifest("etcd")
        } else if url.contains(":10257/") {
            self.serves() && self.manifest("kube-controller-manager")
        } else {
            self.serves() && self.manifest("kube-scheduler")
        };
        Ok((up && !self.is_silent(url)).then_some(200))
    }
    async fn document(&self, url: &str, _total: Duration) -> Result<Vec<u8>> {
        self.alive()?;
        Err(Error::transient(format!("fetching {url}")).because("nobody answers"))
    }
}
