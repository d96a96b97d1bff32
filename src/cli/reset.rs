//! `edgeboot reset`: asks first, takes the lock (a run that still waits for something is stopped for it), and undoes in place what
//! edgeboot did. It reads no configuration: a broken one, or none, is no hindrance.

use std::collections::BTreeSet;
use std::io::{BufRead as _, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::config::kubeadm::ResetDocument;
use crate::engine::phase::{Kept, PhaseId};
use crate::engine::progress::RunResult;
use crate::error::{Error, Result};
use crate::host::lock::{self, Attempt, Lock};
use crate::host::{Deadline, Host, Root, Utf8Path, Utf8PathBuf};
use crate::k8s::names;
use crate::phases::reset::{Options, PHASES, Reset, selected};

use super::init::{absolute, refuse_mixed};
use super::session::{HELD, Session};
use super::{Global, Output, failed, print, print_error, print_value, reconcile};

/// Units that hold the lock while they work or wait.
const WORKING: [&str; 2] = ["edgeboot.service", "edgeboot-reconcile.service"];
/// How long a run may take to end what it has begun.
const STOP: Duration = Duration::from_secs(180);

/// `edgeboot reset`.
#[derive(Debug, Args)]
pub struct ResetCommand {
    #[command(flatten)]
    flags: ResetFlags,
    #[command(subcommand)]
    part: Option<ResetPart>,
}

/// A part of `reset`.
#[derive(Debug, Subcommand)]
pub enum ResetPart {
    /// Runs one phase alone: preflight, delete-node, remove-etcd-member or cleanup-node.
    Phase {
        /// The phase's id.
        id: String,
        /// The options, as `reset` takes them.
        #[command(flatten)]
        flags: Box<ResetFlags>,
    },
}

/// kubeadm's flags of its reset.
#[derive(Debug, Clone, Default, Args)]
pub struct ResetFlags {
    /// A file with kubeadm's ResetConfiguration. Beside it, what it can say is not said by flags, but for --dry-run, --skip-phases
    /// (which replaces the file's) and --ignore-preflight-errors (which adds to them).
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
    /// Does not ask.
    #[arg(short = 'f', long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    force: Option<bool>,
    /// A certificates folder that is emptied, whoever made what is in it. Without it, certificates that edgeboot did not make are left.
    #[arg(long, value_name = "FOLDER")]
    cert_dir: Option<String>,
    /// Empties /etc/kubernetes/tmp.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    cleanup_tmp_dir: Option<bool>,
    /// The socket of the container runtime. By default the one the kubelet was told, or edgeboot's own containerd.
    #[arg(long, value_name = "SOCKET")]
    cri_socket: Option<String>,
    /// The kubeconfig by which the Node is deleted. [default: /etc/kubernetes/admin.conf]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<String>,
    /// Checks that do not count: IsPrivilegedUser, or all.
    #[arg(long, value_name = "CHECK,…", value_delimiter = ',')]
    ignore_preflight_errors: Vec<String>,
    /// Phases that are left out.
    #[arg(long, value_name = "PHASE,…", value_delimiter = ',')]
    skip_phases: Vec<String>,
    /// Says what would be done, and does nothing.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    dry_run: Option<bool>,
}

/// What was asked for, by flags and file together.
#[derive(Debug)]
struct Asked {
    force: bool,
    dry_run: bool,
    skip_phases: Vec<String>,
    options: Options,
}

impl ResetFlags {
    /// Flags and file together, as kubeadm's `newResetData` takes them.
    fn asked(&self, root: &Root) -> Result<Asked> {
        refuse_mixed(
            self.config.is_some(),
            &[
                ("cert-dir", self.cert_dir.is_some()),
                ("cleanup-tmp-dir", self.cleanup_tmp_dir.is_some()),
                ("cri-socket", self.cri_socket.is_some()),
                ("force", self.force.is_some()),
            ],
        )?;
        let file = self.file(root)?;
        let path = |path: &Option<String>| path.as_deref().map(absolute).transpose().map(|path| path.map(Utf8PathBuf::from));
        let cri_socket = self.cri_socket.clone().or(file.cri_socket);
        let ignored = self.ignore_preflight_errors.iter().chain(&file.ignore_preflight_errors);
        let ignored: BTreeSet<String> = ignored.map(|name| name.to_lowercase()).collect();
        if ignored.contains("all") && ignored.len() > 1 {
            return Err(Error::usage("reading --ignore-preflight-errors").because("it names single checks beside `all`"));
        }
        Ok(Asked {
            force: self.force.unwrap_or(file.force),
            dry_run: self.dry_run.unwrap_or(file.dry_run),
            skip_phases: if self.skip_phases.is_empty() { file.skip_phases } else { self.skip_phases.clone() },
            options: Options {
                certificates_dir: path(&self.cert_dir)?.or(file.certificates_dir),
                cri_socket: cri_socket.map(|socket| socket.trim_start_matches("unix://").into()),
                cleanup_tmp_dir: self.cleanup_tmp_dir.unwrap_or(file.cleanup_tmp_dir),
                kubeconfig: path(&self.kubeconfig)?,
                ignore_preflight_errors: ignored.into_iter().collect(),
                unmount_flags: file.unmount_flags,
            },
        })
    }

    /// What the file says; nothing without one.
    fn file(&self, root: &Root) -> Result<ResetDocument> {
        let Some(path) = &self.config else { return Ok(ResetDocument::default()) };
        let text = root.read_text(absolute(path)?)?;
        let text = text.ok_or_else(|| Error::usage(format!("reading {path}")).because("there is no such file"))?;
        let (document, warnings) = ResetDocument::of(path, &text)?;
        for warning in warnings {
            print_error(&warning.render());
        }
        Ok(document)
    }
}

impl ResetCommand {
    /// Runs it.
    pub async fn run(self, global: &Global) -> ExitCode {
        let (only, flags) = match self.part {
            Some(ResetPart::Phase { id, flags }) => (Some(id), *flags),
            None => (None, self.flags),
        };
        match reset(global, only.as_deref(), &flags).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        }
    }
}

async fn reset(global: &Global, only: Option<&str>, flags: &ResetFlags) -> Result<()> {
    let Asked { force, dry_run, skip_phases, options } = flags.asked(&Root::machine()?)?;
    let phases = selected(only, &skip_phases)?;
    if dry_run {
        let session = Session::quiet()?;
        return foretell(&Reset::open(session.host.clone(), session.progress.clone(), options)?, &phases);
    }
    let session = reconcile::open(global, false)?;
    if !force {
        let reset = Reset::open(session.host.clone(), session.progress.clone(), options.clone())?;
        ask(reset.ends_the_cluster()).await?;
    }
    let _lock = take_lock(&session.host).await?;
    let reset = Reset::open(session.host.clone(), session.progress.clone(), options)?;
    let kept = match reset.run(&phases).await {
        Ok(kept) => kept,
        Err(error) => {
            session.progress.conclude(RunResult::Failed, "", None);
            return Err(error);
        }
    };
    let is_held = phases.iter().any(|id| id.0 == "cleanup-node");
    session.progress.conclude(RunResult::Unconfigured, if is_held { HELD } else { "done" }, None);
    if global.output == Output::Text {
        if is_held {
            print(&farewell(&kept));
        }
        return Ok(());
    }
    print_value(global.output, &session.progress.status())
}

/// What would be done.
fn foretell(reset: &Reset, phases: &[PhaseId]) -> Result<()> {
    for (id, summary) in PHASES.iter().filter(|(id, _)| phases.contains(id)) {
        print(&format!("{id}: {summary}"));
    }
    if phases.iter().any(|id| id.0 == "cleanup-node") {
        for line in reset.survey()?.lines() {
            print(&format!("  would {line}"));
        }
    }
    Ok(())
}

/// On a terminal a person is asked, as kubeadm asks; nobody else can answer.
async fn ask(ends_the_cluster: impl Future<Output = bool>) -> Result<()> {
    let refused = || Error::usage("resetting the machine");
    if !std::io::stdin().is_terminal() {
        return Err(refused().because("nobody is there to be asked").hint("`edgeboot reset --force` does not ask"));
    }
    print_error("What edgeboot made on this machine will be removed: its part in the cluster, its pods, their data, and its keys.");
    if ends_the_cluster.await {
        print_error("Its etcd is the last member: THE CLUSTER ENDS with it.");
    }
    print_error("Are you sure you want to proceed? [y/N]");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(|error| refused().because(error))?;
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(refused().because("the answer was no"))
}

/// The lock. A unit that has it is stopped: it may wait for hours for a cluster that this machine is not to join any more.
async fn take_lock(host: &Host) -> Result<Lock> {
    let path = Utf8Path::new(names::LOCK);
    if let Attempt::Taken(lock) = lock::attempt(path, "edgeboot reset")? {
        return Ok(lock);
    }
    let deadline = Deadline::after(STOP, "edgeboot's run to end");
    for unit in WORKING {
        if host.systemd.status(unit).await?.is_some_and(|status| status.active_state == "activating") {
            print_error(&format!("stopping {unit}, which is at work"));
            host.systemd.stop(unit, &deadline).await.map(drop)?;
        }
    }
    match lock::attempt(path, "edgeboot reset")? {
        Attempt::Taken(lock) => Ok(lock),
        Attempt::Held(holder) => Err(holder.into_error(path)),
    }
}

/// What is said at the end. What is left has been named one by one.
fn farewell(kept: &[Kept]) -> String {
    let mut lines = vec![format!(
        "This machine is no node any more. Installed packages ({}) and images stay, so that it can be one again without their source.",
        names::PACKAGES_DIR
    )];
    if !kept.is_empty() {
        lines.push(format!(
            "Left as named above: {}.",
            kept.iter().map(|kept| kept.subject.to_string()).collect::<Vec<_>>().join(", ")
        ));
    }
    lines.push("Boots build nothing until `edgeboot init` or `edgeboot join`.".to_owned());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn read(line: &str) -> (Option<String>, ResetFlags) {
        let Command::Reset(command) = Cli::try_parse_from(line.split(' ')).expect(line).command else { panic!("{line}") };
        match command.part {
            Some(ResetPart::Phase { id, flags }) => (Some(id), *flags),
            None => (None, command.flags),
        }
    }

    fn asked(line: &str, files: &[(&str, &str)]) -> Result<Asked> {
        let folder = tempfile::tempdir().expect("a folder");
        let root = Root::at(folder.path().to_str().expect("UTF-8")).expect("a tree");
        for (path, text) in files {
            let _ = root.put(path, 0o600, text.as_bytes()).expect("placed");
        }
        read(line).1.asked(&root)
    }

    #[test]
    fn kubeadms_lines_are_understood() {
        let line = "edgeboot reset -f --cert-dir /pki --cri-socket unix:///run/x.sock --cleanup-tmp-dir=true --dry-run";
        let Asked { force, dry_run, options, .. } = asked(line, &[]).expect("read");
        assert!(force && dry_run && options.cleanup_tmp_dir);
        assert_eq!(options.cri_socket.as_deref(), Some(Utf8Path::new("/run/x.sock")));
        assert_eq!(options.certificates_dir.as_deref(), Some(Utf8Path::new("/pki")));
        let (only, flags) = read("edgeboot reset phase cleanup-node --force --ignore-preflight-errors=all");
        assert_eq!((only.as_deref(), flags.force), (Some("cleanup-node"), Some(true)));
    }

    const FILE: (&str, &str) = (
        "/reset.yaml",
        "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ResetConfiguration\nforce: true\ndryRun: true\ncertificatesDir: /pki\n\
         criSocket: unix:///run/x.sock\nskipPhases: [remove-etcd-member]\nignorePreflightErrors: [IsPrivilegedUser]\n\
         cleanupTmpDir: true\nunmountFlags: [MNT_FORCE]\n",
    );

    #[test]
    fn a_file_says_what_flags_say_and_three_flags_go_with_it() {
        let said = asked("edgeboot reset --config /reset.yaml", &[FILE]).expect("read");
        assert!(said.force && said.dry_run && said.options.cleanup_tmp_dir);
        assert_eq!(said.skip_phases, ["remove-etcd-member"]);
        assert_eq!(said.options.certificates_dir.as_deref(), Some(Utf8Path::new("/pki")));
        assert_eq!(said.options.cri_socket.as_deref(), Some(Utf8Path::new("/run/x.sock")));
        assert_eq!(said.options.unmount_flags, [crate::host::root::UnmountFlag::Force]);

        let line = "edgeboot reset --config /reset.yaml --dry-run=false --skip-phases delete-node --ignore-preflight-errors Swap";
        let said = asked(line, &[FILE]).expect("read");
        assert!(!said.dry_run);
        assert_eq!(said.skip_phases, ["delete-node"]);
        assert_eq!(said.options.ignore_preflight_errors, ["isprivilegeduser", "swap"]);
    }

    #[test]
    fn what_kubeadm_does_not_take_beside_a_file_is_refused() {
        for (flag, why) in [
            ("--force", "can not mix '--config' with arguments [force]"),
            ("--cert-dir=/p", "[cert-dir]"),
            ("--cri-socket=/run/x", "[cri-socket]"),
            ("--cleanup-tmp-dir", "[cleanup-tmp-dir]"),
            ("--ignore-preflight-errors=all", "beside `all`"),
        ] {
            let error = asked(&format!("edgeboot reset --config /reset.yaml {flag}"), &[FILE]).expect_err(flag);
            assert!(error.to_string().contains(why), "{error}");
        }
        let error = asked("edgeboot reset --config /gone.yaml", &[FILE]).expect_err("gone");
        assert!(error.to_string().contains("no such file"), "{error}");
    }
}
