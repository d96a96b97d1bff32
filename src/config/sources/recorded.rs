//! What `edgeboot init` was told, recorded so that every later boot wishes the same. It holds no secret: those lie beside it, 0600, and
//! are referred to by name.

use crate::host::Root;

use super::{Gathered, Source, file};

/// Where it is recorded.
pub const INIT: &str = "/var/lib/edgeboot/recorded/init.yaml";

/// The source.
pub const SOURCE: Source = Source { name: "recorded", looks_for: &[INIT], gather };

fn gather(root: &Root) -> Vec<Gathered> {
    vec![file(root, INIT, false)]
}
