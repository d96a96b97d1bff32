//! What is run, how often, and with which binary.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

const HELP: &str = "\
cargo bench -- [--rounds N] [--only LETTERS] [--binary FILE] [--nodes N]
  a  init start to node Ready: edgeboot, kubeadm, and the kubelet alone on finished files
  b  power-on to Ready with nothing in place: edgeboot, and a boot unit around kubeadm
  c  edgeboot reconcile with nothing to do (on a machine of b)
  d  the size of the static release binary
  e  a worker's join, start to node Ready: edgeboot and kubeadm   (e to i only when they are named)
  f  a worker's power-on to Ready with nothing in place: edgeboot, and a boot unit around kubeadm
  g  a further control plane's join, start to Ready: edgeboot and kubeadm
  h  a storm of 1000 workers (--nodes) on one control plane, as far as the registered Node: edgeboot, and tries at fixed times
  i  three control planes from nothing to Ready: edgeboot's at once, kubeadm's one after the other
It needs root, and what `tests/run` prepares under target/ (EDGEBOOT_TARGET).";

/// What is run.
#[derive(Debug)]
pub struct Options {
    /// How often each contender runs.
    pub rounds: usize,
    only: String,
    /// How many come with the storm.
    pub nodes: usize,
    /// edgeboot.
    pub binary: PathBuf,
    /// Where package, base root and machines are.
    pub target: PathBuf,
}

/// The repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl Options {
    /// From the command line; `None` when there is nothing to run.
    pub fn read(mut arguments: impl Iterator<Item = String>) -> Result<Option<Options>> {
        let target = std::env::var_os("EDGEBOOT_TARGET").map_or_else(|| repository().join("target"), PathBuf::from);
        let mut options = Options {
            rounds: std::env::var("EDGEBOOT_BENCH_ROUNDS").map_or(Ok(5), |text| text.parse()).context("EDGEBOOT_BENCH_ROUNDS")?,
            only: "abcd".to_owned(),
            nodes: 1000,
            binary: target.join("x86_64-unknown-linux-gnu/release/edgeboot"),
            target,
        };
        let mut is_bench = false;
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
            match argument.as_str() {
                // cargo bench says so; cargo test --all-targets does not.
                "--bench" => is_bench = true,
                "--rounds" => options.rounds = value()?.parse().context("--rounds")?,
                "--only" => options.only = value()?,
                "--nodes" => options.nodes = value()?.parse().context("--nodes")?,
                "--binary" => options.binary = value()?.into(),
                "--help" => {
                    println!("{HELP}");
                    return Ok(None);
                }
                other => bail!("unknown argument {other}\n{HELP}"),
            }
        }
        if !is_bench {
            println!("nothing is measured: this is run by `cargo bench`");
            return Ok(None);
        }
        if options.rounds == 0 {
            bail!("no rounds, no medians: --rounds 1 is the least");
        }
        Ok(Some(options))
    }
    /// Whether one of these letters is asked for.
    pub fn wants(&self, letters: &str) -> bool {
        letters.chars().any(|letter| self.only.contains(letter))
    }
}
