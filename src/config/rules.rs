//! The rules that a configuration must satisfy once its fields have been read.
//!
//! Each rule names its fields, and is checked only if all of them have values.

use super::fault::Problems;
use super::reader::{
    CLIENT_LISTENER, INTERNAL_LISTENER, MEMBER_ADDR, MEMBER_CLIENT_ADDR, MEMBERS, host_and_port,
};
use super::{Config, MESSAGE_OVERHEAD_BYTES};
use crate::address::Address;

/// Notes every rule that `config` breaks.
pub(super) fn validate(config: &Config, faults: &mut Problems) {
    config.raft.check_ranges(faults);
    config.limits.check_ranges(faults);
    listeners(config, faults);
    members(config, faults);
    replication_factor(config, faults);
    timings(config, faults);
    at_least(config, faults);
}

/// The address in `field`, if it is valid.
fn address(field: &str, text: &str, example: &str, faults: &mut Problems) -> Option<Address> {
    if !faults.usable(&[field]) {
        return None;
    }
    match text.parse() {
        Ok(address) => Some(address),
        Err(problem) => {
            let problem = format!("{text:?} {problem}");
            faults.unusable(field, problem, host_and_port(example));
            None
        }
    }
}

fn listeners(config: &Config, faults: &mut Problems) {
    let node = &config.node;
    let client = address(
        "node.client_addr",
        &node.client_addr,
        CLIENT_LISTENER,
        faults,
    );
    let internal = address(
        "node.internal_addr",
        &node.internal_addr,
        INTERNAL_LISTENER,
        faults,
    );
    if let (Some(client), Some(internal)) = (client, internal)
        && client.clashes(&internal)
    {
        let (addr, other) = (&node.internal_addr, &node.client_addr);
        faults.add(
            "node.internal_addr",
            format!("{addr:?} takes the port of node.client_addr, {other:?}"),
            "a port of its own",
        );
    }
    if node
        .data_dir
        .as_ref()
        .is_some_and(|dir| dir.as_os_str().is_empty())
    {
        faults.add("node.data_dir", "empty", "a path, or no such field");
    }
}

fn members(config: &Config, faults: &mut Problems) {
    let members = &config.cluster.initial_members;
    let (fewest, expected) = match config.cluster.bootstrap {
        true => (3, "at least 3 members, so that one may fail"),
        false => (2, "at least 2 members: this node, and one to ask"),
    };
    if faults.usable(&[MEMBERS]) && members.len() < fewest {
        let problem = format!("only {}", members.len());
        faults.add(MEMBERS, problem, expected);
    }

    let mut ids = Vec::new();
    let mut addresses = Vec::new();
    for (index, member) in members.iter().enumerate() {
        let id_field = format!("{MEMBERS}[{index}].id");
        if faults.usable(&[&id_field]) {
            if let Some((_, other)) = ids.iter().find(|(id, _)| *id == member.id) {
                let problem = format!("{} is also {other}", member.id);
                faults.add(&id_field, problem, "an id of its own");
            }
            ids.push((member.id, id_field));
        }
        let (addr, client_addr) = (&member.addr, &member.client_addr);
        for (key, text, example) in [
            ("addr", addr, MEMBER_ADDR),
            ("client_addr", client_addr, MEMBER_CLIENT_ADDR),
        ] {
            let field = format!("{MEMBERS}[{index}].{key}");
            let Some(address) = address(&field, text, example, faults) else {
                continue;
            };
            if address.is_unspecified() {
                let problem = format!("{text:?} leads nowhere from another machine");
                faults.add(&field, problem, "the address of one machine");
            }
            if let Some((_, other)) = addresses.iter().find(|(known, _)| *known == address) {
                let problem = format!("{text:?} is also {other}");
                faults.add(&field, problem, "an address of its own");
            }
            addresses.push((address, field));
        }
    }

    // If an id could not be read, it may be this node's.
    let all_read = !ids.is_empty() && ids.len() == members.len();
    let id = config.node.id;
    if all_read && faults.usable(&["node.id"]) && ids.iter().all(|(known, _)| *known != id) {
        let ids: Vec<_> = ids.iter().map(|(id, _)| id.to_string()).collect();
        let expected = format!("one of {}", ids.join(", "));
        faults.add("node.id", format!("{id} is not among {MEMBERS}"), expected);
    }
}

/// Not checked for a node that joins later: its list says nothing about the number of copies.
fn replication_factor(config: &Config, faults: &mut Problems) {
    if !config.cluster.bootstrap {
        return;
    }
    let field = "cluster.replication_factor";
    let factor = config.cluster.replication_factor;
    let members = config.cluster.initial_members.len();
    let is_even = |number: usize| number.is_multiple_of(2);
    if faults.usable(&[MEMBERS]) && members > 3 && is_even(members) {
        let problem = format!("{members} is an even number");
        let expected = "an odd number of members: one more or less survives as many failures";
        faults.add(MEMBERS, problem, expected);
    }
    // If it is not written, it is the number of members, whose faults have been noted already.
    let even_by_choice = is_even(factor) && faults.is_written(field);
    if faults.usable(&[field, MEMBERS]) && (factor != members || even_by_choice) {
        let problem = if is_even(factor) {
            format!("{factor} is even")
        } else {
            format!("{factor} is not the number of {MEMBERS}")
        };
        let expected = "an odd number, that of the members, as every member holds every key";
        faults.add(field, problem, expected);
    }
}

fn timings(config: &Config, faults: &mut Problems) {
    let raft = &config.raft;
    let heartbeat = raft.heartbeat_interval_ms;
    for (field, timeout) in [
        ("raft.election_timeout_min_ms", raft.election_timeout_min_ms),
        ("raft.election_timeout_max_ms", raft.election_timeout_max_ms),
    ] {
        if faults.usable(&[field, "raft.heartbeat_interval_ms"])
            && !timeout.is_multiple_of(heartbeat)
        {
            let problem = format!("{timeout} is no whole number of heartbeats");
            faults.add(field, problem, format!("a multiple of {heartbeat}"));
        }
    }

    let field = "raft.raft_rpc_timeout_secs";
    let at_least = raft.election_timeout_max_ms.div_ceil(1_000);
    if faults.usable(&[field, "raft.election_timeout_max_ms"])
        && raft.raft_rpc_timeout_secs < at_least
    {
        let problem = format!("{} is too small", raft.raft_rpc_timeout_secs);
        let expected = format!("at least raft.election_timeout_max_ms in seconds = {at_least}");
        faults.add(field, problem, expected);
    }
}

/// Each field on the left is at least the expression on the right: a sum of products.
const AT_LEAST: &[(&str, &str)] = &[
    // One lost heartbeat must not look like a lost leader.
    (
        "raft.election_timeout_min_ms",
        "3 * raft.heartbeat_interval_ms",
    ),
    // The core draws from min..max: with only one value, all nodes would stand for election at once.
    (
        "raft.election_timeout_max_ms",
        "raft.election_timeout_min_ms + 2 * raft.heartbeat_interval_ms",
    ),
    // A request can outlast the loss of a leader, and a shutdown can outlast a transfer of leadership,
    // for which raft-rs allows one election timeout.
    ("limits.request_timeout_ms", "raft.election_timeout_max_ms"),
    ("limits.shutdown_timeout_ms", "raft.election_timeout_max_ms"),
    // Everything that is sent fits into a message: a single entry, an append, a chunk. The frame around
    // an entry may be as large as a small entry itself, hence twice the append.
    (
        "limits.max_grpc_message_bytes",
        "limits.max_key_bytes + limits.max_value_bytes + message_overhead_bytes",
    ),
    (
        "limits.max_grpc_message_bytes",
        "2 * limits.max_append_bytes + message_overhead_bytes",
    ),
    (
        "limits.max_grpc_message_bytes",
        "limits.snapshot_chunk_bytes + message_overhead_bytes",
    ),
    // A single pair of key and value fits.
    (
        "limits.max_state_bytes",
        "limits.max_key_bytes + limits.max_value_bytes + message_overhead_bytes",
    ),
    // A peer's queue takes the largest message, and every append that may be in flight.
    ("limits.peer_queue_bytes", "limits.max_grpc_message_bytes"),
    (
        "limits.peer_queue_bytes",
        "limits.max_inflight_appends * limits.max_append_bytes",
    ),
    // raft-rs refuses to start with less than one append, and drops proposals that do not fit. A command
    // is at most 64 bytes larger than its key and value.
    ("limits.max_uncommitted_bytes", "limits.max_append_bytes"),
    (
        "limits.max_uncommitted_bytes",
        "limits.max_key_bytes + limits.max_value_bytes + message_overhead_bytes",
    ),
    (
        "limits.max_uncommitted_bytes",
        "limits.max_batch_bytes + 64 * limits.max_batch_requests",
    ),
    // A batch is taken from the pending requests.
    ("limits.max_pending_requests", "limits.max_batch_requests"),
    ("limits.max_pending_requests", "limits.max_read_batch"),
    ("limits.max_inflight_requests", "limits.max_batch_requests"),
    // Each part of a transaction counts a little more than its key and value.
    (
        "limits.max_pending_bytes",
        "limits.max_key_bytes + limits.max_value_bytes + message_overhead_bytes",
    ),
    ("limits.max_pending_bytes", "limits.max_batch_bytes"),
    // A stream may hold no more than it leaves free, and one answer is a whole message.
    (
        "limits.max_unread_bytes",
        "2 * limits.max_grpc_message_bytes",
    ),
    // A compaction must have something to drop.
    (
        "limits.compact_after_entries",
        "limits.compact_keep_entries + 1",
    ),
];

fn at_least(config: &Config, faults: &mut Problems) {
    for (field, sum) in AT_LEAST {
        let (Some(value), Some(minimum)) = (number(config, field), evaluate(config, sum)) else {
            continue;
        };
        let looked_at: Vec<_> = sum.split([' ', '+', '*']).chain([*field]).collect();
        if faults.usable(&looked_at) && value < minimum {
            let expected = format!("at least {sum} = {minimum}");
            faults.add(field, format!("{value} is too small"), expected);
        }
    }
}

/// The value of a sum of products, or `None` if a factor is not a number.
fn evaluate(config: &Config, sum: &str) -> Option<u128> {
    let product = |product: &str| -> Option<u128> {
        product
            .split(" * ")
            .map(|factor| number(config, factor))
            .product()
    };
    sum.split(" + ").map(product).sum()
}

/// The value of a field or of a literal.
fn number(config: &Config, name: &str) -> Option<u128> {
    if name == "message_overhead_bytes" {
        return u128::try_from(MESSAGE_OVERHEAD_BYTES).ok();
    }
    let mut fields = config.raft.values().chain(config.limits.values());
    let field = fields.find(|(field, _)| *field == name);
    field.map(|(_, value)| value).or_else(|| name.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NodeId;

    #[test]
    fn every_rule_names_numbers() {
        let id = NodeId::new(1).expect("a node id");
        let config = Config::for_dev(id, 3, 6379, 7379).expect("valid");
        for (field, sum) in AT_LEAST {
            assert!(number(&config, field).is_some(), "{field}");
            assert!(evaluate(&config, sum).is_some(), "{sum}");
        }
        assert_eq!(evaluate(&config, "limits.nonsense + 1"), None);
    }
}
