//! The fields of a configuration.

use super::fault::self_and_parents;
use super::numbers::{Limits, RaftConfig};
use super::reader::MEMBERS;

/// Every field, in the order of the documentation.
pub(super) fn fields() -> impl Iterator<Item = &'static str> {
    let node_and_cluster = [
        "node.id",
        "node.client_addr",
        "node.internal_addr",
        "node.data_dir",
        "node.log_format",
        "cluster.bootstrap",
        "cluster.wait_for_survivors",
        MEMBERS,
        "cluster.replication_factor",
    ];
    let numbers = RaftConfig::FIELDS.iter().chain(Limits::FIELDS);
    node_and_cluster.into_iter().chain(numbers.copied())
}

/// The position of `field` among all fields. Unknown fields come last.
pub(super) fn position(field: &str) -> usize {
    let known = fields().position(|known| self_and_parents(field).any(|part| part == known));
    known.unwrap_or(usize::MAX)
}
