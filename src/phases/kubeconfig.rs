//! Kubeconfigs, with kubeadm's phases: judged by their meaning, made from the cluster's CA. Those of the control plane hold their client
//! certificate; the kubelet's is in [`kubelet`].

mod kubelet;

pub use kubelet::{KubeletPhase, client_current};

use std::time::Duration;

use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::config::node::{Cluster, Node};
use crate::engine::context::Context;
use crate::engine::file::File;
use crate::engine::phase::{Action, Change, Disruption, Drift, Fingerprint, Inputs, Kept, Phase, PhaseId, Subject};
use crate::error::{Error, Result};
use crate::k8s::kubeconfig::{Authority, Credentials, Kubeconfig, Standing, Wish, judge, renewed, shared_server};
use crate::k8s::names;
use crate::k8s::pki::judge::is_due;
use crate::k8s::pki::{self, Certificate, Pair, Profile, Validity, spoken};

use super::certs::{self, Signer, keyless};
use super::stale;

/// A kubeconfig that holds its client certificate.
#[derive(Debug, Clone, Copy)]
pub struct KubeconfigPhase {
    pub(super) id: PhaseId,
    summary: &'static str,
    pub(super) path: &'static str,
    user: &'static str,
    organization: Option<&'static str>,
    /// It talks to the shared endpoint, not to this machine's API server.
    shared: bool,
    pub(super) consumer: Option<&'static str>,
}

/// `kubeconfig/admin`
pub const ADMIN: KubeconfigPhase = KubeconfigPhase {
    id: PhaseId("kubeconfig/admin"),
    summary: "make the administrator's kubeconfig",
    path: names::ADMIN_CONF,
    user: "kubernetes-admin",
    organization: Some(names::GROUP_ADMINS),
    shared: true,
    consumer: None,
};
/// `kubeconfig/super-admin`
pub const SUPER_ADMIN: KubeconfigPhase = KubeconfigPhase {
    id: PhaseId("kubeconfig/super-admin"),
    summary: "make the kubeconfig nobody can take rights from",
    path: names::SUPER_ADMIN_CONF,
    user: "kubernetes-super-admin",
    organization: Some(names::GROUP_MASTERS),
    shared: true,
    consumer: None,
};
/// `kubeconfig/kubelet`
pub const KUBELET: KubeletPhase = KubeletPhase;
/// `kubeconfig/controller-manager`
pub const CONTROLLER_MANAGER: KubeconfigPhase = KubeconfigPhase {
    id: PhaseId("kubeconfig/controller-manager"),
    summary: "make kube-controller-manager's kubeconfig",
    path: names::CONTROLLER_MANAGER_CONF,
    user: "system:kube-controller-manager",
    organization: None,
    shared: false,
    consumer: Some("kube-controller-manager"),
};
/// `kubeconfig/scheduler`
pub const SCHEDULER: KubeconfigPhase = KubeconfigPhase {
    id: PhaseId("kubeconfig/scheduler"),
    summary: "make kube-scheduler's kubeconfig",
    path: names::SCHEDULER_CONF,
    user: "system:kube-scheduler",
    organization: None,
    shared: false,
    consumer: Some("kube-scheduler"),
};

/// What is to be done about a kubeconfig.
enum Verdict {
    Keep(Drift),
    Make(Change),
}

/// What follows from how a kubeconfig stands: the same rules for all of them.
fn decide(cx: &Context, path: &str, standing: &Standing, signer: &Signer) -> Result<Verdict> {
    let subject = Subject::File(path.to_owned());
    let ours = cx.is_ours(path)?;
    let replaceable = ours || cx.is_forced(&subject);
    let has_key = matches!(signer, Signer::Ours(_));
    let make = |action, why: &str| Ok(Verdict::Make(Change::new(subject.clone(), action).because(why)));
    let kept = |difference: String| {
        let kept = vec![Kept { subject: subject.clone(), difference }];
        Ok(Verdict::Keep(Drift { kept, ..Drift::none() }))
    };
    match standing {
        Standing::Absent if has_key => make(Action::Create, ""),
        Standing::Broken(why) if has_key => make(Action::Mend, why),
        Standing::Absent => Err(keyless(&format!("making {path}, which is missing"))),
        Standing::Broken(why) => Err(keyless(&format!("making {path}, which cannot be used: {why}"))),
        Standing::OtherAuthority if replaceable && has_key => make(Action::Update, "it is for another CA"),
        Standing::OtherAuthority => Err(Error::host(format!("using {path}"))
            .because("it is for another CA than the one of this cluster")
            .hint(format!("remove it, or run `edgeboot reconcile --force={path}` to have it made again"))),
        Standing::Differs(why) if replaceable && has_key => make(Action::Update, why),
        Standing::Differs(why) => kept(why.clone()),
        Standing::Fine(Some(client)) if ours && has_key && is_due(client, cx.host.clock.now()) => {
            make(Action::Update, &format!("its client certificate expires {}", spoken(client.not_after)))
        }
        Standing::Fine(client) if !ours && cx.ledger.has_written(path.into()) => kept(renewed(client.as_deref())),
        Standing::Fine(_) => Ok(Verdict::Keep(cx.compare(&standing_file(cx, path, ours)?)?)),
    }
}

/// What stands there as a wish: only a wrong mode of a file of ours differs from it.
fn standing_file(cx: &Context, path: &str, ours: bool) -> Result<Vec<File>> {
    let bytes = if ours { cx.host.root.read(path)? } else { None };
    Ok(bytes.map(|bytes| File::text(path, 0o600, bytes)).into_iter().collect())
}

/// The cluster's CA, or the failure of making `path` without it.
fn authority(cx: &Context, path: &str) -> Result<Signer> {
    certs::required_signer(cx, pki::Authority::Cluster, path)
}

/// A client certificate as kubeconfigs hold it: valid as long as a leaf, from the moment the CA is.
fn client(
    cx: &Context,
    user: &str,
    organization: Option<&str>,
    ca: Pair,
) -> Result<impl FnOnce() -> Result<(Pair, Certificate)> + use<>> {
    let cluster = &cx.node.cluster;
    let validity = Validity::since(&ca.certificate, cx.host.clock.now(), cluster.certificate_validity)?;
    let (profile, algorithm) = (Profile::client(user, organization), cluster.key_algorithm);
    Ok(move || Ok((ca.issue(&profile, algorithm, validity)?, ca.certificate)))
}

/// The wish and facts that all kubeconfigs are made from.
fn fingerprint(inputs: &Inputs<'_>) -> Fingerprint {
    let (node, cluster) = (inputs.node, &inputs.node.cluster);
    let machine = (&node.registration.name, &node.advertise_address, &inputs.facts.node_name, &inputs.facts.advertise_address);
    let server = (&cluster.name, &cluster.control_plane_endpoint, node.bind_port);
    let certificate = (&cluster.certificates_dir, cluster.key_algorithm, cluster.certificate_validity);
    Fingerprint::of(&(machine, server, certificate, &node.registration.kubelet_extra_args))
}

impl KubeconfigPhase {
    fn wish(&self, cx: &Context) -> Result<Wish> {
        let (node, address) = (&cx.node, cx.advertise_address()?);
        let endpoint = node.cluster.control_plane_endpoint.as_ref().filter(|_| self.shared);
        Ok(Wish {
            cluster: node.cluster.name.clone(),
            user: self.user.to_owned(),
            organization: self.organization,
            server: shared_server(endpoint, address, node.bind_port),
        })
    }

    fn look(&self, cx: &Context, wish: &Wish, signer: &Signer) -> Result<Verdict> {
        let bytes = cx.host.root.read(self.path)?;
        let standing = judge(bytes.as_deref(), wish, signer.certificate(), cx.host.clock.now());
        Ok(match decide(cx, self.path, &standing, signer)? {
            Verdict::Make(change) if change.action != Action::Create && self.consumer.is_some() => {
                Verdict::Make(change.disrupting(Disruption::ControlPlane))
            }
            verdict => verdict,
        })
    }
}

#[async_trait]
impl Phase for KubeconfigPhase {
    fn id(&self) -> PhaseId {
        self.id
    }
    fn summary(&self) -> &'static str {
        self.summary
    }
    fn after(&self) -> &'static [PhaseId] {
        certs::IDENTITY
    }
    fn applies(&self, node: &Node) -> bool {
        node.founds()
    }
    fn fingerprint(&self, inputs: &Inputs<'_>) -> Fingerprint {
        fingerprint(inputs)
    }

    async fn inspect(&self, cx: &Context) -> Result<Drift> {
        let Some(signer) = certs::signer(cx, pki::Authority::Cluster)? else { return without_authority(cx, self.path) };
        match self.look(cx, &self.wish(cx)?, &signer)? {
            Verdict::Keep(drift) => Ok(drift),
            Verdict::Make(change) => Ok(Drift::one(change)),
        }
    }

    async fn apply(&self, cx: &Context) -> Result<()> {
        let (wish, signer) = (self.wish(cx)?, authority(cx, self.path)?);
        let change = match self.look(cx, &wish, &signer)? {
            Verdict::Keep(_) => return cx.place(standing_file(cx, self.path, cx.is_ours(self.path)?)?).await.map(drop),
            Verdict::Make(change) => change,
        };
        if change.action != Action::Create {
            let read_by = self.consumer.map(|consumer| format!("; read by {consumer}")).unwrap_or_default();
            cx.say(format!("made again: {} ({}){read_by}", self.path, change.reason));
            stale::mark_components(cx, self.consumer.as_slice()).await?;
        }
        let issue = client(cx, self.user, self.organization, signer.pair(&format!("making {}", self.path))?)?;
        let (client, ca) = cx.host.blocking(issue).await?;
        let text = render(wish, &ca, embedded(&client)?);
        cx.place(vec![certs::replacing(self.path, 0o600, text.as_bytes())]).await.map(drop)
    }
}

fn render(wish: Wish, ca: &Certificate, credentials: Credentials) -> Zeroizing<String> {
    let authority = Authority::Embedded(ca.to_pem().into_bytes());
    Kubeconfig { cluster: wish.cluster, user: wish.user, server: wish.server, authority, credentials }.render()
}

/// How a further user proves itself.
#[derive(Debug)]
pub enum Proof {
    /// By a bearer token.
    Token(Zeroizing<String>),
    /// By a client certificate that is made now.
    Certificate {
        /// Its groups.
        organizations: Vec<String>,
        /// How long it is valid.
        life: Duration,
    },
}

/// A kubeconfig for a further user of the cluster (kubeadm's `kubeconfig user`): for whoever asked for it; nothing is placed.
pub async fn for_user(cx: &Context, cluster: &Cluster, user: &str, proof: Proof) -> Result<Zeroizing<String>> {
    let doing = format!("the kubeconfig of {user}");
    let signer = certs::required_signer_of(cx, cluster, pki::Authority::Cluster, &doing)?;
    let server = shared_server(cluster.control_plane_endpoint.as_ref(), cx.advertise_address()?, cx.node.bind_port);
    let wish = Wish { cluster: cluster.name.clone(), user: user.to_owned(), organization: None, server };
    let ca = signer.certificate().clone();
    let credentials = match proof {
        Proof::Token(token) => Credentials::Token(token),
        Proof::Certificate { organizations, life } => {
            let pair = signer.pair(&format!("making {doing}"))?;
            let validity = Validity::since(&ca, cx.host.clock.now(), life)?;
            let profile = Profile { organizations, ..Profile::client(user, None) };
            let algorithm = cluster.key_algorithm;
            embedded(&cx.host.blocking(move || pair.issue(&profile, algorithm, validity)).await?)?
        }
    };
    Ok(render(wish, &ca, credentials))
}

fn embedded(client: &Pair) -> Result<Credentials> {
    let key = Zeroizing::new(client.key.to_pem()?.as_bytes().to_vec());
    Ok(Credentials::Embedded { certificate: client.certificate.to_pem().into_bytes(), key })
}

/// What can be said before the CA is there.
fn without_authority(cx: &Context, path: &str) -> Result<Drift> {
    Ok(if cx.host.root.exists(path)? {
        Drift::blocked(format!("{path} is judged once the cluster's CA is there"))
    } else {
        Drift::one(Change::new(Subject::File(path.to_owned()), Action::Create))
    })
}
