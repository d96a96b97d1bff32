//! The units, judged by systemd itself: `systemd-analyze verify` finds nothing to say, and `systemd-analyze security` finds little to
//! attack. Where there is no systemd-analyze they count as ignored, never as passed. The machines' tests judge them once more where
//! they run.
#![expect(clippy::disallowed_methods, reason = "a test runs systemd-analyze, which no room of edgeboot may")]
#![expect(clippy::print_stderr, reason = "a test says why it is ignored")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};
use edgeboot::k8s::units::{self, UnitFile};
use libtest_mimic::{Arguments, Failed, Trial};

/// The highest exposure allowed, in tenths: 2.5 of 10.
const EXPOSURE: u32 = 25;
/// What an older systemd does not know, says so, and does without.
const NEWER: [&str; 3] = ["'ImportCredential'", "'RestartSteps'", "'RestartMaxDelaySec'"];
/// Any program that exists: `verify` looks whether what is started can be.
const PROGRAM: &str = env!("CARGO_BIN_EXE_edgeboot");

/// A test and what it shows.
type Case = (&'static str, fn() -> Result<()>);

fn main() {
    let arguments = Arguments::from_args();
    let is_missing = Command::new("systemd-analyze").arg("--version").output().is_err();
    if is_missing {
        eprintln!("units are not judged: there is no systemd-analyze");
    }
    let cases: [Case; 3] = [
        ("edgeboots_units_are_clean", || verify(&units::edgeboot_units(PROGRAM))),
        ("the_units_of_containerd_and_the_kubelet_are_clean", || verify(&node_units())),
        ("edgeboots_services_are_hardened", hardened),
    ];
    let trials = cases.into_iter().map(|(name, run)| {
        let trial = Trial::test(name, move || run().map_err(|error| Failed::from(format!("{error:?}"))));
        trial.with_ignored_flag(is_missing)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

/// The units of a node, with a program that exists.
fn node_units() -> Vec<UnitFile> {
    let programs = edgeboot::k8s::names::PACKAGE_BIN;
    let started = |mut unit: UnitFile| {
        for name in ["containerd", "kubelet"] {
            unit.text = unit.text.replace(&format!("ExecStart={programs}/{name}"), &format!("ExecStart={PROGRAM}"));
        }
        unit
    };
    let units = [units::containerd_service("sha256:0")].into_iter().chain(units::kubelet_unit_files("sha256:0"));
    units.map(started).collect()
}

/// Lays units into a folder and returns those that are units, not drop-ins.
fn lay(folder: &Path, files: &[UnitFile]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for UnitFile { path, text } in files {
        let Some(below) = path.strip_prefix(units::UNIT_DIR) else { continue };
        let place = folder.join(below.trim_start_matches('/'));
        fs::create_dir_all(place.parent().context("a folder")?)?;
        fs::write(&place, text)?;
        if place.extension() != Some("conf".as_ref()) {
            names.push(place.to_str().context("a name")?.to_owned());
        }
    }
    Ok(names)
}

fn analyze(folder: &Path, arguments: &[&str], units: &[String]) -> Result<Output> {
    let mut command = Command::new("systemd-analyze");
    command.args(arguments).args(units).env("SYSTEMD_UNIT_PATH", format!("{}:", folder.display()));
    command.output().context("running systemd-analyze")
}

fn verify(files: &[UnitFile]) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let units = lay(folder.path(), files)?;
    ensure!(!units.is_empty(), "no units were laid");
    let output = analyze(folder.path(), &["verify", "--man=no"], &units)?;
    let said = String::from_utf8(output.stderr)?;
    let ours = |line: &&str| line.contains("edgeboot") || line.contains("containerd") || line.contains("kubelet");
    let known = |line: &&str| line.contains("Unknown key") && NEWER.iter().any(|key| line.contains(key));
    let wrong: Vec<&str> = said.lines().filter(ours).filter(|line| !known(line)).collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn hardened() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let units = lay(folder.path(), &units::edgeboot_units(PROGRAM))?;
    let services: Vec<&String> = units.iter().filter(|unit| unit.contains("/edgeboot") && unit.contains(".service")).collect();
    ensure!(services.len() == 4, "{services:?}");
    for service in services {
        let threshold = format!("--threshold={EXPOSURE}");
        let output =
            analyze(folder.path(), &["security", "--offline=true", "--no-pager", &threshold], std::slice::from_ref(service))?;
        if !output.status.success() {
            bail!("{service} is exposed by more than {EXPOSURE} tenths:\n{}", String::from_utf8_lossy(&output.stdout));
        }
    }
    Ok(())
}
