//! What the commands of every day know about the node and its cluster: the file of --config, or what this machine is configured to be,
//! or the defaults where nobody says anything. As in kubeadm, nothing of the network is asked.

use crate::config::layer::Kind;
use crate::config::node::Node;
use crate::config::sources::Gathered;
use crate::config::sources::command_line::{Flag, FlagValue, gathered};
use crate::config::{self, Wish};
use crate::error::{Error, Result};
use crate::host::Root;

use super::init::by_hand;
use super::print_error;

/// The wish; warnings go to standard error. `flags` lie over everything else.
pub fn wish(root: &Root, file: Option<&str>, flags: &[Flag]) -> Result<Node> {
    let said = match file {
        Some(path) => vec![by_hand(root, path)?],
        None => config::gather(root, &[]),
    };
    weigh(root, said, flags)
}

/// The same from the flags alone: neither a file nor this machine has a say.
pub fn wish_of_flags(root: &Root, flags: &[Flag]) -> Result<Node> {
    weigh(root, Vec::new(), flags)
}

fn weigh(root: &Root, said: Vec<Gathered>, flags: &[Flag]) -> Result<Node> {
    // Below everything: whoever does not say a role asks about a control plane.
    let role = FlagValue::Text("controlPlane".to_owned());
    let role = Flag { flag: "edgeboot", written: String::new(), kind: Kind::Node, path: &["role"], value: role };
    let mut sources = vec![gathered(&[role])];
    sources.extend(said);
    if !flags.is_empty() {
        sources.push(gathered(flags));
    }
    let outcome = config::weigh(root, sources)?;
    if let Some(failed) = outcome.failed_sources.first() {
        return Err(Error::host(format!("reading {}", failed.origin)).because(failed.why.clone()));
    }
    for warning in &outcome.warnings {
        print_error(&warning.render());
    }
    match outcome.wish {
        Wish::Node { node, .. } => Ok(*node),
        Wish::Nothing { .. } => Err(Error::internal("reading the configuration").because("it holds no role")),
    }
}
