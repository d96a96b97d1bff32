//! `edgeboot token`: kubeadm's commands of that name, with its flags, words and output. What is printed to standard output is what was
//! asked for, tokens included; nothing of it goes anywhere else.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::config::layer;
use crate::config::node::{BootstrapToken, CertificateKey, Token};
use crate::config::sources::command_line::{Flag, FlagValue};
use crate::error::{Error, Kind, Result};
use crate::host::{Host, Root};
use crate::k8s::pki::spoken;
use crate::k8s::token::{self, StandingToken};
use crate::k8s::{go_duration, names};
use crate::phases::bootstrap_token;

use super::cluster::Cluster;
use super::init::given_token;
use super::wish::{wish, wish_of_flags};
use super::{Global, Output, print, print_error, print_values, table};

/// `edgeboot token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// The kubeconfig to speak to the cluster with. [default: the first that is there of $KUBECONFIG or ~/.kube/config, and
    /// /etc/kubernetes/admin.conf]
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<String>,
    /// Says what would be done, and does nothing.
    #[arg(long, global = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false)]
    dry_run: bool,
    #[command(subcommand)]
    command: TokenCommand,
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Makes a token valid in the cluster and prints it.
    #[command(
        after_help = "Example:\n  edgeboot token create --print-join-command\n  edgeboot token generate > token; edgeboot token create --token-file token --ttl 2h"
    )]
    Create(Box<Create>),
    /// Shows the cluster's tokens.
    #[command(after_help = "Example:\n  edgeboot token list -o yaml")]
    List,
    /// Ends tokens before their time.
    #[command(after_help = "Example:\n  edgeboot token delete abcdef")]
    Delete {
        /// The token, or its id: the first six characters.
        #[arg(required = true, value_name = "ID|TOKEN")]
        tokens: Vec<String>,
    },
    /// Prints a random token and makes nothing valid: for an image or a configuration that is to be made. Needs no cluster.
    #[command(after_help = "Example:\n  (umask 077; edgeboot token generate > token)")]
    Generate,
}

/// `edgeboot token create`.
#[derive(Debug, Default, Args)]
pub struct Create {
    /// The token: abcdef.0123456789abcdef. By default a random one. Other users of this machine can see it in the process list:
    /// --token-file keeps it from them.
    #[arg(conflicts_with = "token_file")]
    token: Option<String>,
    /// A file that holds the token, 0600.
    #[arg(long, value_name = "FILE")]
    token_file: Option<String>,
    /// A file with an InitConfiguration: its `bootstrapTokens` are made, all of them.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["token", "token_file", "ttl", "usages", "groups", "description", "certificate_key"])]
    config: Option<String>,
    /// How long it lives, for instance 2h; 0 for ever. [default: 24h0m0s]
    #[arg(long, value_name = "DURATION")]
    ttl: Option<String>,
    /// What it is for: signing (of what tells a machine which cluster it meets), authentication (of a machine). [default: both]
    #[arg(long, value_name = "USAGE,…", value_delimiter = ',')]
    usages: Vec<String>,
    /// Groups that a machine with this token belongs to. [default: system:bootstrappers:kubeadm:default-node-token]
    #[arg(long, value_name = "GROUP,…", value_delimiter = ',')]
    groups: Vec<String>,
    /// For people: what it is for.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Prints the whole line that joins a machine, in place of the token alone.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false)]
    print_join_command: bool,
    /// With --print-join-command: the line joins a further control plane, with this key. `edgeboot init phase upload-certs
    /// --upload-certs` makes one and prints it.
    #[arg(long, value_name = "KEY", requires = "print_join_command")]
    certificate_key: Option<String>,
}

impl TokenArgs {
    /// Runs it.
    pub async fn run(&self, global: &Global) -> Result<()> {
        if matches!(self.command, TokenCommand::Generate) {
            print(&token::random_token()?.expose());
            return Ok(());
        }
        let host = Host::machine()?;
        match &self.command {
            TokenCommand::Create(create) => self.create(&host, create).await,
            TokenCommand::Delete { tokens } => self.delete(&host, tokens).await,
            TokenCommand::List | TokenCommand::Generate => self.list(&host, global.output).await,
        }
    }

    async fn create(&self, host: &Host, create: &Create) -> Result<()> {
        // Before anything is made: what is wrong with the line.
        let key = create.certificate_key.as_deref().map(certificate_key).transpose()?;
        let tokens = create.tokens(&host.root)?;
        let cluster = Cluster::connect(host, self.kubeconfig.as_deref())?;
        let hashes = if create.print_join_command { cluster.ca_hashes(host)? } else { Vec::new() };
        if self.dry_run {
            for token in &tokens {
                print(&would_create(token, host.clock.now())?);
            }
            return Ok(());
        }
        bootstrap_token::make_new(cluster.api.as_ref(), &tokens, host.clock.now(), &cluster.patience()).await?;
        for token in tokens.iter().take(1).map(|made| &made.token) {
            if create.print_join_command {
                print(&token::join_command(cluster.endpoint(), token, &hashes, key.as_ref()));
            } else {
                print(&token.expose());
            }
        }
        Ok(())
    }

    async fn list(&self, host: &Host, output: Output) -> Result<()> {
        let cluster = Cluster::connect(host, self.kubeconfig.as_deref())?;
        let mut tokens = Vec::new();
        for standing in bootstrap_token::standing(cluster.api.as_ref(), &cluster.patience()).await? {
            match standing {
                Ok(token) => tokens.push(token),
                Err(why) => print_error(&format!("edgeboot: left out: {why}")),
            }
        }
        match output {
            Output::Text if tokens.is_empty() => print_error("there are no bootstrap tokens; `edgeboot token create` makes one"),
            Output::Text => print(&as_table(&tokens, host.clock.now())),
            Output::Json | Output::Yaml => print_values(output, &tokens.iter().map(as_value).collect::<Vec<_>>())?,
        }
        Ok(())
    }

    async fn delete(&self, host: &Host, tokens: &[String]) -> Result<()> {
        let ids = tokens.iter().map(|token| id_of(token)).collect::<Result<Vec<_>>>()?;
        let cluster = Cluster::connect(host, self.kubeconfig.as_deref())?;
        for id in ids {
            if self.dry_run {
                print(&format!("bootstrap token \"{id}\" would be deleted"));
                continue;
            }
            bootstrap_token::remove(cluster.api.as_ref(), &id, &cluster.patience()).await?;
            print(&format!("bootstrap token \"{id}\" deleted"));
        }
        Ok(())
    }
}

impl Create {
    /// The tokens that are to be made: those of the file, or the one of the flags.
    fn tokens(&self, root: &Root) -> Result<Vec<BootstrapToken>> {
        if self.config.is_some() {
            let configured = wish(root, self.config.as_deref(), &[])?.bootstrap_tokens;
            if !configured.is_empty() {
                return Ok(configured);
            }
        }
        let token = match given_token(root, self.token.as_ref(), self.token_file.as_deref())? {
            Some(token) => token,
            None => token::random_token()?.expose(),
        };
        let mut item = vec![("token", FlagValue::Text(token))];
        item.extend(self.description.clone().map(|text| ("description", FlagValue::Text(text))));
        item.extend(self.ttl.clone().map(|ttl| ("ttl", FlagValue::Text(ttl))));
        for (name, said) in [("usages", &self.usages), ("groups", &self.groups)] {
            if !said.is_empty() {
                item.push((name, FlagValue::List(said.clone())));
            }
        }
        let flag = "the bootstrap token";
        let flag = Flag {
            flag,
            written: String::new(),
            kind: layer::Kind::Init,
            path: &["bootstrapTokens"],
            value: FlagValue::Item(item),
        };
        let wrong = |error: Error| error.with_kind(Kind::Usage).hint("`edgeboot token create --help` says what can be said");
        let mut tokens = wish_of_flags(root, &[flag]).map_err(wrong)?.bootstrap_tokens;
        for token in &mut tokens {
            // kubeadm refuses its own default groups for a token that nobody authenticates with.
            if self.groups.is_empty() && !token.usages.iter().any(|usage| usage == "authentication") {
                token.groups = Vec::new();
            }
        }
        Ok(tokens)
    }
}

/// The key of --certificate-key. What was written is not repeated.
fn certificate_key(text: &str) -> Result<CertificateKey> {
    CertificateKey::parse(text).ok_or_else(|| Error::usage("reading --certificate-key").because("it is not 64 hexadecimal digits"))
}

/// The id of a token, or the id itself. What was written is not repeated: it may be a token with a slip in it.
fn id_of(text: &str) -> Result<String> {
    let token = Token::parse(text).or_else(|| Token::new(text, "0123456789abcdef"));
    token.map(|token| token.id).ok_or_else(|| {
        Error::usage("reading the tokens")
            .because("one is neither a token such as abcdef.0123456789abcdef nor an id such as abcdef")
    })
}

/// What `--dry-run` says: never the secret half.
fn would_create(token: &BootstrapToken, now: Timestamp) -> Result<String> {
    let standing = token::from_secret(&token::token_secret(token, now)?);
    let standing = standing.map_err(|why| Error::internal("looking at the token").because(why))?;
    let until = standing.expires.map_or_else(|| "for ever".to_owned(), |expires| format!("until {}", spoken(expires)));
    let name = token::secret_name(&token.token.id);
    Ok(format!("Secret kube-system/{name} would be created: valid {until} for {}", standing.usages.join(", ")))
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

/// kubeadm's table.
fn as_table(tokens: &[StandingToken], now: Timestamp) -> String {
    let row = |token: &StandingToken| {
        let (ttl, expires) = match token.expires {
            Some(expires) => (go_duration::short(expires.as_second() - now.as_second()), spoken(expires)),
            None => ("<forever>".to_owned(), "<never>".to_owned()),
        };
        let text = |list: &[String]| or(&list.join(","), "<none>").to_owned();
        let description = or(&token.description, "<none>").to_owned();
        [token.token.expose(), ttl, expires, text(&token.usages), description, text(&token.groups)]
    };
    let rows: Vec<[String; 6]> = tokens.iter().map(row).collect();
    let mut table = vec![vec!["TOKEN", "TTL", "EXPIRES", "USAGES", "DESCRIPTION", "EXTRA GROUPS"]];
    table.extend(rows.iter().map(|row| row.iter().map(String::as_str).collect()));
    table::render(&table)
}

/// kubeadm's `output.kubeadm.k8s.io/v1alpha3` BootstrapToken.
fn as_value(token: &StandingToken) -> Value {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    put("kind", json!("BootstrapToken"));
    put("apiVersion", json!(names::KUBEADM_OUTPUT));
    put("token", json!(token.token.expose()));
    if !token.description.is_empty() {
        put("description", json!(token.description));
    }
    if let Some(expires) = token.expires {
        put("expires", json!(spoken(expires)));
    }
    for (name, list) in [("usages", &token.usages), ("groups", &token.groups)] {
        if !list.is_empty() {
            put(name, json!(list));
        }
    }
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        token: TokenArgs,
    }

    fn create(line: &str) -> Result<Vec<BootstrapToken>> {
        let folder = tempfile::TempDir::new().expect("a temporary folder");
        let root = Root::at(folder.path().to_str().expect("a plain path")).expect("a tree");
        let _ = root.put("/token", 0o600, b"filed0.0123456789abcdef\n").expect("placed");
        let file = b"apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nbootstrapTokens: [{token: first0.0123456789abcdef}, {token: second.0123456789abcdef, ttl: 0s}]\n";
        let _ = root.put("/init.yaml", 0o600, file).expect("placed");
        match Line::try_parse_from(line.split(' ')).expect(line).token.command {
            TokenCommand::Create(create) => create.tokens(&root),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_token_is_made_as_kubeadm_makes_it() {
        let one = |line| create(line).expect(line).remove(0);
        let default = one("token create");
        assert_eq!(default.ttl, Duration::from_secs(24 * 3600));
        assert_eq!((default.usages, default.groups.len()), (vec!["signing".to_owned(), "authentication".to_owned()], 1));
        let said = one("token create abcdef.0123456789abcdef --ttl 0 --usages signing --description why");
        assert_eq!((said.token.id.as_str(), said.ttl, said.description.as_str()), ("abcdef", Duration::ZERO, "why"));
        assert_eq!((said.usages, said.groups), (vec!["signing".to_owned()], vec![]));
        assert_eq!(one("token create --token-file /token").token.id, "filed0");
        let both = create("token create --config /init.yaml").expect("a file");
        assert_eq!(both.iter().map(|token| token.token.id.as_str()).collect::<Vec<_>>(), ["first0", "second"]);
    }

    #[test]
    fn a_wrong_line_is_refused_and_no_secret_is_repeated() {
        for (line, what) in [
            ("token create abcdef.0123456789ABCDEF", "bootstrapTokens"),
            ("token create --usages sign", "`sign` is neither"),
            ("token create --groups workers", "`workers` is not a group"),
            ("token create --usages signing --groups system:bootstrappers:a", "needs the usage `authentication`"),
            ("token create --ttl soon", "`soon` is not a duration"),
        ] {
            let error = create(line).expect_err(line);
            let said = error.render();
            assert!(error.kind() == Kind::Usage && said.contains(what) && !said.contains("ABCDEF"), "{line}: {said}");
        }
        for line in [
            "token create abcdef.0123456789abcdef --token-file /token",
            "token create --config /init.yaml --ttl 1h",
            "token create --certificate-key 00",
            "token delete",
        ] {
            assert!(Line::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
        assert_eq!(id_of("abcdef").expect("an id"), "abcdef");
        assert_eq!(id_of("abcdef.0123456789abcdef").expect("a token"), "abcdef");
        assert!(!id_of("abcdef.0123456789abcdeF").expect_err("a slip").render().contains("abcdeF"));
    }

    #[test]
    fn tokens_are_shown_as_kubeadm_shows_them() {
        let token = |id: &str, expires: Option<&str>| StandingToken {
            token: Token::new(id, "0123456789abcdef").expect("a token"),
            description: String::new(),
            expires: expires.map(|text| text.parse().expect("a time")),
            usages: vec!["authentication".to_owned(), "signing".to_owned()],
            groups: vec![names::GROUP_BOOTSTRAPPERS.to_owned()],
        };
        let tokens = [token("aaaaaa", Some("2026-11-22T08:46:57Z")), StandingToken { groups: vec![], ..token("bbbbbb", None) }];
        let table = as_table(&tokens, "2026-11-21T08:46:57Z".parse().expect("a time"));
        assert_eq!(
            table,
            "TOKEN                     TTL         EXPIRES                USAGES                   DESCRIPTION   EXTRA GROUPS\n\
             aaaaaa.0123456789abcdef   1d          2026-11-22T08:46:57Z   authentication,signing   <none>        system:bootstrappers:kubeadm:default-node-token\n\
             bbbbbb.0123456789abcdef   <forever>   <never>                authentication,signing   <none>        <none>"
        );
        // From `kubeadm token list -o json` of v1.36.3.
        let expected = json!({
            "kind": "BootstrapToken", "apiVersion": "output.kubeadm.k8s.io/v1alpha3", "token": "aaaaaa.0123456789abcdef",
            "expires": "2026-11-22T08:46:57Z", "usages": ["authentication", "signing"],
            "groups": ["system:bootstrappers:kubeadm:default-node-token"],
        });
        assert_eq!(as_value(&tokens[0]), expected);
        assert_eq!(as_value(&tokens[1]).get("expires"), None);
    }

    #[test]
    fn a_dry_run_keeps_the_secret_to_itself() {
        let token = create("token create abcdef.0123456789abcdef").expect("a token").remove(0);
        let said = would_create(&token, "2026-11-21T08:46:57Z".parse().expect("a time")).expect("text");
        let expected = "Secret kube-system/bootstrap-token-abcdef would be created: valid until 2026-11-22T08:46:57Z for authentication, signing";
        assert_eq!(said, expected);
    }
}
