//! The kubelet's kubeconfig and its client certificate: a dated file and a link, as the kubelet itself makes them when it rotates. Made
//! before the kubelet's first start, so that it is never restarted to get it. What the kubelet rotates is judged by its meaning.

use async_trait::async_trait;

use crate::config::node::Node;
use crate::engine::context::Context;
use crate::engine::file::File;
use crate::engine::phase::{Action, Change, Disruption, Drift, Fingerprint, Inputs, Kept, Phase, PhaseId, Subject};
use crate::error::Result;
use crate::host::Utf8PathBuf;
use crate::host::root::FileType;
use crate::k8s::kubeconfig::{Credentials, Kubeconfig, Wish, judge, local_server};
use crate::k8s::names;
use crate::k8s::pki::judge::{self, LeafState};
use crate::k8s::pki::{self, Certificate};

use super::{Verdict, authority, client, decide, fingerprint, render, standing_file, without_authority};
use crate::phases::certs::{self, Signer, keyless};
use crate::phases::kubelet_start;

/// `kubeconfig/kubelet`.
#[derive(Debug, Clone, Copy)]
pub struct KubeletPhase;

/// The link to the kubelet's client certificate; `--cert-dir` of the kubelet moves it, as kubeadm has it.
pub fn client_current(node: &Node) -> Utf8PathBuf {
    let default = Utf8PathBuf::from(names::KUBELET_CLIENT_CURRENT);
    let moved = node.registration.kubelet_extra_args.iter().rfind(|argument| argument.name == "cert-dir");
    match (moved, default.file_name()) {
        (Some(folder), Some(name)) => Utf8PathBuf::from(&folder.value).join(name),
        _ => default,
    }
}

fn user(cx: &Context) -> Result<String> {
    Ok(format!("system:node:{}", cx.node_name()?))
}

/// Since 1.36 the kubelet talks to its own machine's API server, whatever the shared endpoint is (`cmd/phases/init/kubeconfig.go`).
fn wish(cx: &Context) -> Result<Wish> {
    Ok(Wish {
        cluster: cx.node.cluster.name.clone(),
        user: user(cx)?,
        organization: Some(names::GROUP_NODES),
        server: local_server(cx.advertise_address()?, cx.node.bind_port),
    })
}

fn conf_verdict(cx: &Context, wish: &Wish, signer: &Signer) -> Result<Verdict> {
    let bytes = cx.host.root.read(names::KUBELET_CONF)?;
    let standing = judge(bytes.as_deref(), wish, signer.certificate(), cx.host.clock.now());
    Ok(match decide(cx, names::KUBELET_CONF, &standing, signer)? {
        Verdict::Make(change) if change.action != Action::Create => Verdict::Make(change.disrupting(Disruption::Kubelet)),
        verdict => verdict,
    })
}

/// Whether the kubelet.conf that stands there proves itself with the link; one that is to be made will.
fn uses_link(cx: &Context) -> Result<bool> {
    let bytes = cx.host.root.read(names::KUBELET_CONF)?;
    Ok(match bytes.as_deref().map(Kubeconfig::parse) {
        Some(Ok(config)) => match config.credentials {
            Credentials::Files { certificate, .. } => certificate == client_current(&cx.node).as_str(),
            Credentials::Embedded { .. } | Credentials::Token(_) | Credentials::Other => false,
        },
        Some(Err(_)) | None => true,
    })
}

fn client_verdict(cx: &Context, signer: &Signer) -> Result<Verdict> {
    let current = client_current(&cx.node);
    let subject = Subject::File(current.to_string());
    let bytes = cx.host.root.read(&current)?;
    let target = cx.host.root.read_link(&current)?;
    let is_link = cx.host.root.metadata(&current)?.is_none_or(|metadata| metadata.file_type == FileType::Link);
    let state = judge::leaf(bytes.as_deref(), bytes.as_deref(), signer.certificate(), &[], cx.host.clock.now());
    let wished = user(cx)?;
    let (action, fault) = match &state {
        LeafState::Absent if target.is_none() => (Action::Create, String::new()),
        // The kubelet rotates links only: a copied file would stop it one day.
        LeafState::Fine(_) if !is_link => (Action::Mend, "it is no symbolic link".to_owned()),
        LeafState::Fine(client) if client.common_name != wished => {
            (Action::Mend, format!("it is for {}, not {wished}", client.common_name))
        }
        LeafState::Fine(_) | LeafState::MissingSans(_) => return Ok(Verdict::Keep(Drift::none())),
        LeafState::WrongIssuer if !target.map(|target| cx.is_ours(target)).transpose()?.unwrap_or(true) => {
            // The cluster's own signer may be another CA than ours; the kubelet got it there by right.
            let kept = vec![Kept { subject, difference: state.fault() }];
            return Ok(Verdict::Keep(Drift { kept, ..Drift::none() }));
        }
        broken => (Action::Mend, broken.fault()),
    };
    if matches!(signer, Signer::External(_)) {
        return Err(keyless(&format!("making {current}, which cannot be used: {}", state.fault())));
    }
    let change = Change::new(subject, action).because(fault);
    Ok(Verdict::Make(if action == Action::Create { change } else { change.disrupting(Disruption::Kubelet) }))
}

fn look(cx: &Context, wish: &Wish, signer: &Signer) -> Result<(Verdict, Verdict)> {
    let conf = conf_verdict(cx, wish, signer)?;
    let client = match &conf {
        Verdict::Keep(_) if !uses_link(cx)? => Verdict::Keep(Drift::none()),
        _ => client_verdict(cx, signer)?,
    };
    Ok((conf, client))
}

#[async_trait]
impl Phase for KubeletPhase {
    fn id(&self) -> PhaseId {
        PhaseId("kubeconfig/kubelet")
    }
    fn summary(&self) -> &'static str {
        "make the kubelet's kubeconfig and client certificate"
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
        let Some(signer) = certs::signer(cx, pki::Authority::Cluster)? else { return without_authority(cx, names::KUBELET_CONF) };
        let (conf, client) = look(cx, &wish(cx)?, &signer)?;
        let drift = |verdict| match verdict {
            Verdict::Keep(drift) => drift,
            Verdict::Make(change) => Drift::one(change),
        };
        Ok(drift(conf).and(drift(client)))
    }

    async fn apply(&self, cx: &Context) -> Result<()> {
        let (wish, signer) = (wish(cx)?, authority(cx, names::KUBELET_CONF)?);
        let (conf, renewal) = look(cx, &wish, &signer)?;
        for verdict in [&conf, &renewal] {
            if let Verdict::Make(change) = verdict
                && change.action != Action::Create
            {
                cx.say(format!("made again: {} ({}); read by the kubelet", change.subject, change.reason));
            }
        }
        // A kubelet that runs with the old one does not read it again by itself.
        kubelet_start::mark_stale(cx).await?;
        let mut files = match conf {
            Verdict::Keep(_) => standing_file(cx, names::KUBELET_CONF, cx.is_ours(names::KUBELET_CONF)?)?,
            Verdict::Make(_) => vec![conf_file(cx, wish.clone(), signer.certificate())],
        };
        let Verdict::Make(_) = renewal else { return cx.place(files).await.map(drop) };
        // One flush for both, then the link: the kubelet never sees half a certificate.
        let (dated, file) = client_file(cx, &wish, signer).await?;
        files.push(file);
        cx.place(files).await.map(drop)?;
        cx.place_link(client_current(&cx.node), dated).await.map(drop)
    }
}

/// A new client certificate in a file named by the time, as `client-go/util/certificate` names it.
async fn client_file(cx: &Context, wish: &Wish, signer: Signer) -> Result<(Utf8PathBuf, File)> {
    let current = client_current(&cx.node);
    let issue = client(cx, &wish.user, wish.organization, signer.pair(&format!("making {current}"))?)?;
    let (pair, _) = cx.host.blocking(issue).await?;
    let date = cx.host.clock.now().strftime("%Y-%m-%d-%H-%M-%S").to_string();
    let dated = current.with_file_name(format!("kubelet-client-{date}.pem"));
    let file = certs::replacing(&dated, 0o600, pair.to_combined_pem()?.as_bytes());
    Ok((dated, file))
}

fn conf_file(cx: &Context, wish: Wish, ca: &Certificate) -> File {
    let path = client_current(&cx.node).into_string();
    let credentials = Credentials::Files { certificate: path.clone(), key: path };
    certs::replacing(names::KUBELET_CONF, 0o600, render(wish, ca, credentials).as_bytes())
}
