//! `edgeboot kubeconfig user`: kubeadm's command of that name. What it prints holds a key or a token, and is what was asked for.

use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;

use crate::config::values;
use crate::engine::context::Context;
use crate::engine::ledger::Ledger;
use crate::error::{Error, Result};
use crate::k8s::go_duration;
use crate::phases::kubeconfig::{Proof, for_user};

use super::init::given_token;
use super::session::{Session, ask_the_machine};
use super::wish::wish;
use super::{print, print_error};

/// What a client certificate lives unless somebody says otherwise (kubeadm's `CertificateValidityPeriod`).
const USUAL_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

/// Makes kubeconfigs.
#[derive(Debug, Subcommand)]
pub enum KubeconfigCommand {
    /// Prints a kubeconfig for a further user of the cluster, with a client certificate of this machine's CA or with a token.
    ///
    /// What the user may do is said by the cluster's roles: bind one to the name or to a group. A client certificate cannot be taken
    /// back before it expires: keep its life short.
    #[command(
        after_help = "Example:\n  edgeboot kubeconfig user --client-name jane --org developers --validity-period 168h > jane.conf\n  kubectl create clusterrolebinding developers --clusterrole=view --group=developers"
    )]
    User {
        /// The user's name.
        #[arg(long, value_name = "NAME")]
        client_name: String,
        /// The groups the user belongs to, in the client certificate.
        #[arg(long, value_name = "GROUP,…", value_delimiter = ',', conflicts_with_all = ["token", "token_file"])]
        org: Vec<String>,
        /// A bearer token that stands for the user, in place of a client certificate. Other users of this machine can see it in the
        /// process list: --token-file keeps it from them.
        #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
        token: Option<String>,
        /// A file that holds the bearer token, 0600.
        #[arg(long, value_name = "FILE")]
        token_file: Option<String>,
        /// How long the client certificate is valid, from now. [default: 8760h0m0s]
        #[arg(long, value_name = "DURATION")]
        validity_period: Option<String>,
        /// A configuration of the cluster, in place of this machine's own.
        #[arg(long, value_name = "FILE")]
        config: Option<String>,
    },
}

impl KubeconfigCommand {
    /// Prints it.
    pub async fn run(self) -> Result<()> {
        let KubeconfigCommand::User { client_name, org, token, token_file, validity_period, config } = self;
        let life = validity_period.as_deref().map_or(Ok(USUAL_LIFE), values::duration);
        let life = life.map_err(|why| Error::usage("reading --validity-period").because(why))?;
        if life > USUAL_LIFE {
            let (life, usual) = (go_duration::text(life), go_duration::text(USUAL_LIFE));
            print_error(&format!("warning: {life} is longer than the usual {usual}, and a certificate cannot be taken back"));
        }
        let session = Session::quiet()?;
        let root = &session.host.root;
        let token = given_token(root, token.as_ref(), token_file.as_deref())?;
        let node = wish(root, config.as_deref(), &[])?;
        let (ledger, _) = Ledger::load(root)?;
        let cx = Context::new(session.host.clone(), Arc::new(node), ledger, session.progress.clone(), Vec::new());
        ask_the_machine(&cx).await;
        let proof = match token {
            Some(token) => Proof::Token(token.into()),
            None => Proof::Certificate { organizations: org, life },
        };
        let text = for_user(&cx, &cx.cluster()?, &client_name, proof).await?;
        print(text.trim_end());
        Ok(())
    }
}
