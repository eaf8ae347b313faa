//! No node finds one of its own invariants broken, and none panics.

use seshat::node::NodeError;
use seshat::types::RaftId;

use super::Violation;

const NAME: &str = "no_replica_fails";

pub(crate) fn broken(node: RaftId, error: &NodeError) -> Violation {
    Violation::safety(NAME, format!("{node}: {error}"))
}

pub(crate) fn panicked(message: &str) -> Violation {
    Violation::safety(NAME, format!("panicked: {message}"))
}
