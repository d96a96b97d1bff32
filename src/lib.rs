//! edgeboot: power on a Linux image, and the machine is a Kubernetes node. This page is the architecture, for those who read or change
//! the code; the README is for those who use it, `decisions.md` beside this file says why things are as they are.
//!
//! # One run
//!
//! A run (`edgeboot reconcile`, [`cli::reconcile`]) takes the lock, reads the configuration into a [`config::node::Node`] (the *wish*:
//! only valid values), reads the memory ([`engine::ledger::Ledger`]), makes a [`engine::plan::Plan`] of the phases that apply, and runs
//! it ([`engine::run`]). Each [`engine::phase::Phase`] **inspects** the machine and says what it would change; only if there is
//! something, it **applies** that, and inspects again: a phase that cannot prove its own effect is a bug. So the first boot, the
//! second boot, a repair and a boot after a power cut are the same code, and a step counts as done when the machine shows it.
//!
//! `clock`, `network` and `package` are phases too: they turn what the configuration leaves open into *facts*, frozen in the state.
//! Everything a phase tells the world goes through one event stream ([`engine::progress`]): journal, `STATUS=`,
//! `EXTEND_TIMEOUT_USEC=`, `/run/edgeboot/status.json`, terminal.
//!
//! # Layers: arrows only point down
//!
//! ```text
//!  L4  main  cli                       words in, exit codes out; the only place that prints
//!  L3  phases                          one file a family: the wish meets the world
//!  L2  engine  k8s  components  config  package
//!                                      the engine runs and remembers and knows no phase; the rest is pure: values in, bytes out
//!  L1  host                            the only doors to the world
//!      error                           known by all, knows nobody
//! ```
//!
//! Kept twice: `.clippy.toml` bans `std::fs`, `Command`, the wall clock and sleeping outside the doors, and `tests/architecture.rs`
//! reads the `use crate::` lines.
//!
//! # How power can be cut at any instant
//!
//! Every file is placed by one door ([`host::Root::put_groups`]): temporaries with their final mode, one flush, renames, then the
//! directories. What edgeboot changes is in the *ledger* before it is visible: the same flush carries the state, which is renamed
//! first. So a file that stands is either as we wrote it (its digest is in the ledger: ours to change), or missing, empty or torn
//! (mended), or somebody else's (kept and reported). Nothing else decides; a lost record costs one inspection.
//!
//! # Adding a thing: one file, one word
//!
//! A phase is one file in `src/phases/` and one row in [`phases::table`]; the table gives `phase list`, `--skip-phases`, `init phase`,
//! help and status. A configuration source, an add-on, a preflight check: likewise, each with its table beside it.

pub mod cli;
pub mod components;
pub mod config;
pub mod engine;
pub mod error;
pub mod host;
pub mod k8s;
pub mod package;
pub mod phases;
