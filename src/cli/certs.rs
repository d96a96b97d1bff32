//! `edgeboot certs`: kubeadm's commands of that name. What expires is read from the files of this machine alone; renewing goes through
//! the ledger and ends with starting again what reads the certificate.

use std::sync::Arc;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::config::node::Cluster;
use crate::engine::context::Context;
use crate::engine::ledger::Ledger;
use crate::engine::plan::Plan;
use crate::error::Result;
use crate::host::Utf8Path;
use crate::host::lock::{self, Attempt};
use crate::k8s::pki::spoken;
use crate::k8s::{certificate_upload, go_duration, names};
use crate::phases;
use crate::phases::certs::renewal::{self, Expiration, Expirations, Renewable, Renewed, Term};

use super::approve::Approve;
use super::init::absolute;
use super::listeners::Terminal;
use super::session::{Session, ask_the_machine, require_root, stop_signal};
use super::wish::wish;
use super::{Global, Output, print, print_value, table};

/// Looks at certificates and renews them.
#[derive(Debug, Subcommand)]
pub enum CertsCommand {
    /// Says until when each certificate of this control plane is valid. Reads its files alone, and needs no API server.
    #[command(
        after_help = "Example:\n  edgeboot certs check-expiration -o json | jq '.certificates[] | select(.residualTime < 604800)'"
    )]
    CheckExpiration(Where),
    /// Makes certificates anew, whenever they expire: the same names, addresses and usages, a new key. What reads them is started
    /// again.
    ///
    /// `edgeboot reconcile`, which a timer runs, renews what is edgeboot's own in the last third of its life, at most thirty days
    /// ahead; this is for those who want it now. CAs are not renewed.
    #[command(after_help = "Example:\n  edgeboot certs renew apiserver\n  edgeboot certs renew all")]
    Renew {
        /// Which one, by the name that check-expiration shows; or all.
        #[arg(value_name = "NAME|all", value_parser = names())]
        name: String,
        /// Which control plane is meant.
        #[command(flatten)]
        place: Where,
    },
    /// Prints a random key with which the control plane's certificates can be uploaded: for an image or a configuration that is to be
    /// made. Needs no cluster.
    #[command(after_help = "Example:\n  (umask 077; edgeboot certs certificate-key > key)")]
    CertificateKey,
    /// Approves the kubelets' requests for serving certificates (`serverTLSBootstrap`) that ask for what their Node says and for no
    /// more: its names and addresses, which no other Node has, and none of the API server's. Everything else is left, with the reason.
    ///
    /// While the KubeletConfiguration says `serverTLSBootstrap: true`, edgeboot-approve.timer runs this on each control plane.
    #[command(after_help = "Example:\n  edgeboot certs approve --dry-run")]
    Approve(Approve),
}

/// Which control plane is meant.
#[derive(Debug, Default, Args)]
pub struct Where {
    /// A configuration that says where the certificates are and how they are made, in place of this machine's own.
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
    /// Where the certificates are. [default: the configuration's, /etc/kubernetes/pki]
    #[arg(long, value_name = "FOLDER")]
    cert_dir: Option<String>,
    /// Accepted as kubeadm's flag: the cluster is not asked for what this machine knows.
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    kubeconfig: Option<String>,
}

fn names() -> clap::builder::PossibleValuesParser {
    clap::builder::PossibleValuesParser::new(["all"].into_iter().chain(renewal::ALL.iter().map(Renewable::name)))
}

impl CertsCommand {
    /// Runs it.
    pub async fn run(&self, global: &Global) -> Result<()> {
        match self {
            CertsCommand::CertificateKey => {
                print(certificate_upload::random_key()?.expose());
                Ok(())
            }
            CertsCommand::CheckExpiration(place) => {
                let session = Session::quiet()?;
                let cx = place.context(&session)?;
                let found = renewal::expirations(&cx.host.root, &place.cluster(&cx)?)?;
                let now = session.host.clock.now();
                match global.output {
                    Output::Text => print(&as_table(&found, now)),
                    output @ (Output::Json | Output::Yaml) => print_value(output, &as_value(&found, now))?,
                }
                Ok(())
            }
            CertsCommand::Approve(approve) => approve.run(global).await,
            CertsCommand::Renew { name, place } => renew(global, name, place).await,
        }
    }
}

impl Where {
    fn context(&self, session: &Session) -> Result<Context> {
        let node = wish(&session.host.root, self.config.as_deref(), &[])?;
        let (ledger, _) = Ledger::load(&session.host.root)?;
        Ok(Context::new(session.host.clone(), Arc::new(node), ledger, session.progress.clone(), Vec::new()))
    }

    fn cluster(&self, cx: &Context) -> Result<Cluster> {
        let mut cluster = cx.cluster()?;
        if let Some(folder) = &self.cert_dir {
            cluster.certificates_dir = absolute(folder)?.into();
        }
        Ok(cluster)
    }
}

async fn renew(global: &Global, name: &str, place: &Where) -> Result<()> {
    let session = Session::open(|_| match global.output {
        Output::Text => vec![Box::new(Terminal::default())],
        Output::Json | Output::Yaml => Vec::new(),
    })?;
    require_root(&session.host.root, "renewing certificates")?;
    let lock = Utf8Path::new(names::LOCK);
    let _lock = match lock::attempt(lock, "edgeboot certs renew")? {
        Attempt::Taken(taken) => taken,
        Attempt::Held(holder) => return Err(holder.into_error(lock)),
    };
    let cx = place.context(&session)?;
    ask_the_machine(&cx).await;
    let cluster = place.cluster(&cx)?;
    let mut renewed = Vec::new();
    for one in renewal::of_cluster(&cluster).into_iter().filter(|one| name == "all" || one.name() == name) {
        let outcome = renewal::renew(&cx, &cluster, one).await?;
        if name != "all" && !matches!(outcome, Renewed::Until(_)) {
            return Err(renewal::refused(&cluster, one, outcome));
        }
        if global.output == Output::Text {
            print(&line(one, outcome));
        }
        renewed.push((one, outcome));
    }
    restart(&session, &cx).await?;
    match global.output {
        Output::Text => Ok(()),
        output @ (Output::Json | Output::Yaml) => print_value(output, &renewed.iter().map(outcome_value).collect::<Vec<_>>()),
    }
}

/// Starts again what reads what was renewed, and waits until it serves.
async fn restart(session: &Session, cx: &Context) -> Result<()> {
    let table = phases::table();
    let plan = Plan::single(&table, &cx.node, phases::stale::RESTART.0)?;
    if session.run(cx, &plan, stop_signal()?).await?.changed() {
        let plan = Plan::single(&table, &cx.node, "wait-control-plane")?;
        session.run(cx, &plan, stop_signal()?).await?;
    }
    Ok(())
}

/// kubeadm's words.
fn line(one: Renewable, outcome: Renewed) -> String {
    match outcome {
        Renewed::Until(until) => format!("{} renewed, valid until {}", one.long_name(), spoken(until)),
        Renewed::Missing => format!("MISSING! {}", one.long_name()),
        Renewed::External => format!("the key of its CA is not on this machine: {} can't be renewed", one.long_name()),
    }
}

fn outcome_value((one, outcome): &(Renewable, Renewed)) -> Value {
    match outcome {
        Renewed::Until(until) => json!({ "name": one.name(), "result": "renewed", "expirationDate": spoken(*until) }),
        Renewed::Missing => json!({ "name": one.name(), "result": "missing" }),
        Renewed::External => json!({ "name": one.name(), "result": "externallyManaged" }),
    }
}

/// kubeadm's two tables.
fn as_table(found: &Expirations, now: Timestamp) -> String {
    let certificates: Vec<Vec<String>> = found.certificates.iter().map(|row| cells(row, now)).collect();
    let authorities: Vec<Vec<String>> = found.authorities.iter().map(|row| cells(row, now)).collect();
    let head = vec!["CERTIFICATE", "EXPIRES", "RESIDUAL TIME", "CERTIFICATE AUTHORITY", "EXTERNALLY MANAGED"];
    let render = |head: Vec<&'static str>, rows: &[Vec<String>]| {
        let rows = rows.iter().map(|row| row.iter().map(String::as_str).collect());
        table::render(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
    };
    let head_of_authorities = vec![head[3], head[1], head[2], head[4]];
    format!("{}\n\n{}", render(head, &certificates), render(head_of_authorities, &authorities))
}

fn cells(row: &Expiration, now: Timestamp) -> Vec<String> {
    let external = if row.external { "yes" } else { "no" };
    let (name, expires, residual, rest) = match &row.term {
        Term::Missing => (format!("!MISSING! {}", row.name), String::new(), String::new(), ["", ""]),
        Term::Unreadable(why) => {
            (format!("!UNREADABLE! {}", row.name), why.clone(), String::new(), [row.authority.unwrap_or_default(), external])
        }
        Term::Until(until) => {
            let residual = go_duration::human(until.as_second() - now.as_second());
            let expires = until.strftime("%b %d, %Y %H:%M UTC").to_string();
            (row.name.to_owned(), expires, residual, [row.authority.unwrap_or_default(), external])
        }
    };
    let skip = usize::from(row.authority.is_none());
    [name, expires, residual].into_iter().chain(rest[skip..].iter().map(|text| (*text).to_owned())).collect()
}

/// kubeadm's `output.kubeadm.k8s.io/v1alpha3` CertificateExpirationInfo; `unreadable` is ours.
fn as_value(found: &Expirations, now: Timestamp) -> Value {
    let row = |row: &Expiration| {
        let (date, residual) = match &row.term {
            Term::Until(until) => (json!(spoken(*until)), until.as_second() - now.as_second()),
            Term::Missing | Term::Unreadable(_) => (Value::Null, 0),
        };
        let mut value = json!({
            "name": row.name, "expirationDate": date, "residualTime": residual,
            "externallyManaged": row.external && row.term != Term::Missing,
        });
        if let Some(authority) = row.authority.filter(|_| row.term != Term::Missing) {
            value["caName"] = json!(authority);
        }
        value["missing"] = json!(row.term == Term::Missing);
        if let Term::Unreadable(why) = &row.term {
            value["unreadable"] = json!(why);
        }
        value
    };
    json!({
        "kind": "CertificateExpirationInfo", "apiVersion": names::KUBEADM_OUTPUT,
        "certificates": found.certificates.iter().map(row).collect::<Vec<_>>(),
        "certificateAuthorities": found.authorities.iter().map(row).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> (Expirations, Timestamp) {
        let at = |text: &str| Term::Until(text.parse().expect("a time"));
        let row = |name, term, authority, external| Expiration { name, term, authority, external };
        let found = Expirations {
            certificates: vec![
                row("admin.conf", Term::Missing, Some("ca"), false),
                row("apiserver", at("2027-11-21T08:46:57Z"), Some("ca"), false),
                row("etcd-peer", Term::Unreadable("it is empty".to_owned()), Some("etcd-ca"), false),
                row("front-proxy-client", at("2026-11-20T08:46:57Z"), Some("front-proxy-ca"), true),
            ],
            authorities: vec![row("ca", at("2036-11-18T08:46:57Z"), None, false), row("etcd-ca", Term::Missing, None, false)],
        };
        (found, "2026-11-21T08:46:58Z".parse().expect("a time"))
    }

    #[test]
    fn people_read_kubeadms_tables() {
        let (found, now) = found();
        assert_eq!(
            as_table(&found, now),
            "\
CERTIFICATE              EXPIRES                  RESIDUAL TIME   CERTIFICATE AUTHORITY   EXTERNALLY MANAGED
!MISSING! admin.conf
apiserver                Nov 21, 2027 08:46 UTC   364d            ca                      no
!UNREADABLE! etcd-peer   it is empty                              etcd-ca                 no
front-proxy-client       Nov 20, 2026 08:46 UTC   <invalid>       front-proxy-ca          yes

CERTIFICATE AUTHORITY   EXPIRES                  RESIDUAL TIME   EXTERNALLY MANAGED
ca                      Nov 18, 2036 08:46 UTC   9y              no
!MISSING! etcd-ca"
        );
    }

    #[test]
    fn programs_read_kubeadms_object() {
        let (found, now) = found();
        let value = as_value(&found, now);
        // In the words of `kubeadm certs check-expiration -o json` of v1.36.3.
        assert_eq!(
            value["certificates"][1],
            json!({
                "name": "apiserver", "expirationDate": "2027-11-21T08:46:57Z", "residualTime": 31_535_999,
                "externallyManaged": false, "caName": "ca", "missing": false,
            })
        );
        let missing =
            json!({"name": "admin.conf", "expirationDate": null, "residualTime": 0, "externallyManaged": false, "missing": true});
        assert_eq!(value["certificates"][0], missing);
        assert_eq!(value["certificates"][2]["unreadable"], "it is empty");
        assert_eq!(value["kind"], "CertificateExpirationInfo");
    }
}
