//! Words in, exit codes out; the only place that prints. One file a command; what a run of the phases has in common is in `session`,
//! who listens to it in `listeners`.

pub mod approve;
pub mod certs;
mod cluster;
pub mod config;
pub mod enter;
pub mod follow;
pub mod founding;
pub mod init;
pub mod join;
pub mod joining;
pub mod kubeconfig;
pub mod listeners;
pub mod package;
pub mod phase;
pub mod plan;
pub mod preflight;
pub mod reconcile;
pub mod reset;
pub mod session;
pub mod source;
pub mod status;
mod table;
pub mod token;
pub mod version;
mod wish;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::error::{Error, Result};
use crate::k8s::yaml;

/// Turns this machine into a Kubernetes node, and keeps it one.
///
/// edgeboot reads what the machine shall be (/etc/edgeboot/config.yaml), installs the container runtime and the kubelet from a
/// package, founds or joins a cluster, and tells systemd when it is done. Every step can be repeated: after a failure or a power cut, run
/// `edgeboot reconcile`.
#[derive(Debug, Parser)]
#[command(name = "edgeboot", version, max_term_width = 110, after_help = EXIT_CODES)]
pub struct Cli {
    /// How it prints.
    #[command(flatten)]
    pub global: Global,
    /// What it does.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Reads the command line. kubeadm's `-v 5` has its level in a word of its own, which would be taken for an argument of the command.
    pub fn read(words: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
        let mut line: Vec<OsString> = Vec::new();
        for word in words {
            let is_level = word.to_str().is_some_and(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit()));
            match line.last_mut().filter(|last| is_level && (*last == "-v" || *last == "--v")) {
                Some(last) => {
                    last.push("=");
                    last.push(word);
                }
                None => line.push(word),
            }
        }
        Cli::try_parse_from(line)
    }
}

const EXIT_CODES: &str = "Exit codes: 0 done; 2 `plan --exit-code` found something to do; 64 usage; 69 this machine is not fit; \
70 a bug in edgeboot; 75 try again later; 77 a credential was refused; 78 the configuration is wrong.";

/// Options of every command.
#[derive(Debug, Args, Clone)]
pub struct Global {
    /// How results are printed.
    #[arg(short = 'o', long, global = true, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Says more; may be repeated or given a number (kubeadm's `-v 5`).
    #[arg(short = 'v', long = "verbosity", alias = "v", overrides_with = "verbosity", global = true, value_name = "LEVEL", num_args = 0..=1, default_value_t = 0, default_missing_value = "1", require_equals = true)]
    pub verbosity: u8,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
}

/// What edgeboot does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes the machine what its configuration says, as far as it is not.
    ///
    /// From a shell this starts edgeboot-reconcile.service and follows it (its credentials are the unit's). It is what the boot runs,
    /// what the timer runs, and what to run after a failure; with nothing to do it changes nothing.
    #[command(
        after_help = "Example:\n  edgeboot reconcile\n  edgeboot reconcile --foreground --force=/etc/kubernetes/manifests/etcd.yaml"
    )]
    Reconcile(reconcile::Reconcile),
    /// Says what `reconcile` would change, and why, without changing anything.
    #[command(after_help = "Example:\n  edgeboot plan --exit-code || echo 'something to do'")]
    Plan(plan::PlanCommand),
    /// Founds a cluster on this machine, with kubeadm's flags.
    ///
    /// What the flags say is checked in place and recorded, so that every later boot wishes the same; then edgeboot-reconcile.service
    /// does the work and is followed. On a host where nothing was baked, edgeboot places itself under /var/lib/edgeboot first.
    #[command(
        after_help = "Example:\n  edgeboot init --apiserver-advertise-address 10.0.0.5 --pod-network-cidr 10.32.0.0/16\n  edgeboot init --config kubeadm.yaml --dry-run\n  edgeboot init phase certs all --cert-dir ./pki"
    )]
    Init(Box<founding::InitCommand>),
    /// Joins this machine to a cluster, with kubeadm's flags: a `kubeadm join …` line works with the first word exchanged.
    ///
    /// The cluster may be edgeboot's or kubeadm's. What the flags say is checked in place and recorded, so that every later boot wishes
    /// the same; then edgeboot-reconcile.service does the work and is followed. On a host where nothing was baked, edgeboot places
    /// itself under /var/lib/edgeboot first.
    #[command(
        after_help = "Example:\n  edgeboot join 10.0.0.5:6443 --token-file ./token --discovery-token-ca-cert-hash sha256:1234…cdef\n  edgeboot join k8s.example.com:6443 --token abcdef.0123456789abcdef --discovery-token-ca-cert-hash sha256:1234…cdef --control-plane --certificate-key 1234…cdef\n  edgeboot join phase preflight --config kubeadm.yaml"
    )]
    Join(Box<joining::JoinCommand>),
    /// Undoes what edgeboot did on this machine, with kubeadm's flags, and holds it until `init` or `join`.
    ///
    /// It needs no configuration and no API server, and works on a machine that has joined only halfway. The Node and etcd's member are
    /// taken out of the cluster where that can be; what others made or changed is left and named. It may be interrupted and repeated.
    #[command(after_help = "Example:\n  edgeboot reset --dry-run\n  edgeboot reset --force")]
    Reset(Box<reset::ResetCommand>),
    /// Checks, prints and migrates configurations.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Tells where this machine looks for what it shall be.
    #[command(subcommand)]
    Source(source::SourceCommand),
    /// Says how the last run stands or ended, phase by phase.
    #[command(after_help = "Example:\n  edgeboot status -o json | jq .result")]
    Status(status::StatusCommand),
    /// Builds, verifies and shows packages.
    #[command(subcommand)]
    Package(package::PackageCommand),
    /// Makes, lists and ends bootstrap tokens: what machines join the cluster with.
    ///
    /// A token is a Secret in kube-system. With it a machine proves itself to the cluster once, to get a certificate of its own, and
    /// recognises the cluster by its signature. It expires; those that have joined are not concerned.
    #[command(
        after_help = "Example:\n  edgeboot token create --ttl 2h --print-join-command\n  edgeboot token list -o json | jq -r .token\n  edgeboot token delete abcdef"
    )]
    Token(token::TokenArgs),
    /// Says when certificates expire, and renews them.
    #[command(subcommand)]
    Certs(certs::CertsCommand),
    /// Makes kubeconfigs for further users of the cluster.
    #[command(subcommand)]
    Kubeconfig(kubeconfig::KubeconfigCommand),
    /// Looks whether this machine can become a node: all findings at once, by kubeadm's names.
    #[command(after_help = "Example:\n  edgeboot preflight --ignore-preflight-errors=Mem,NumCPU")]
    Preflight(preflight::Preflight),
    /// Lists the phases.
    #[command(subcommand)]
    Phase(phase::PhaseCommand),
    /// Says which edgeboot this is.
    Version(version::Version),
}

/// Runs a command.
pub async fn main(cli: Cli) -> ExitCode {
    let Cli { global, command } = cli;
    listeners::install_tracing(global.verbosity);
    let result = match command {
        Command::Reconcile(command) => return command.run(&global).await,
        Command::Plan(command) => return command.run(&global).await,
        Command::Init(command) => return command.run(&global).await,
        Command::Join(command) => return command.run(&global).await,
        Command::Reset(command) => return command.run(&global).await,
        Command::Config(command) => command.run(&global),
        Command::Source(command) => command.run(&global),
        Command::Status(command) => return command.run(&global).await,
        Command::Package(command) => command.run(&global),
        Command::Token(command) => command.run(&global).await,
        Command::Certs(command) => command.run(&global).await,
        Command::Kubeconfig(command) => command.run().await,
        Command::Preflight(command) => return command.run(&global).await,
        Command::Phase(command) => command.run(&global),
        Command::Version(command) => command.run(&global),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// Prints a failure and says the exit code: the one place that does.
pub fn failed(error: &Error) -> ExitCode {
    print_error(&format!("edgeboot: {}", error.render()));
    ExitCode::from(error.kind().exit_code())
}

/// Prints results to standard output. A reader that has gone away is no failure.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{text}").is_ok() {
        let _ = out.flush();
    }
}

/// Prints to standard error.
pub fn print_error(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Prints a value for programs: as YAML where that was asked for, otherwise as JSON.
pub fn print_value(output: Output, value: &impl serde::Serialize) -> Result<()> {
    print(&as_text(output, value)?);
    Ok(())
}

/// A value as YAML or JSON, without a last line break.
fn as_text(output: Output, value: &impl serde::Serialize) -> Result<String> {
    let failed = |error| Error::internal("writing the result").because(error);
    match output {
        Output::Yaml => Ok(yaml::text(&serde_json::to_value(value).map_err(failed)?).trim_end().to_owned()),
        Output::Text | Output::Json => serde_json::to_string_pretty(value).map_err(failed),
    }
}

/// Prints several values one after the other, as kubeadm prints its lists: JSON objects in a row, YAML documents in a stream.
pub fn print_values(output: Output, values: &[impl serde::Serialize]) -> Result<()> {
    let texts = values.iter().map(|value| as_text(output, value)).collect::<Result<Vec<_>>>()?;
    if !texts.is_empty() {
        print(&texts.join(if output == Output::Yaml { "\n---\n" } else { "\n" }));
    }
    Ok(())
}
