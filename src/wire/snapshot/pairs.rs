//! Pairs in a snapshot.

use super::number;
use crate::kv::{Limit, MAX_REVISION, Pair};
use crate::proto::kv as proto;
use crate::types::Key;
use crate::wire::{WireError, time};

/// The record of a pair.
pub(super) fn record(pair: Pair, limit: Option<Limit>) -> proto::KeyValue {
    let (ttl_ms, deadline_ms, owner) = time::pair_fields(limit);
    proto::KeyValue {
        key: Key::copy_from_slice(pair.key()),
        revision: pair.revision(),
        value: pair.into_value(),
        ttl_ms,
        deadline_ms,
        owner,
    }
}

/// Bytes of the record of a pair, including its length: three nested messages, and in `KeyValue` two
/// fields of bytes and up to four numbers, of which an empty one is omitted.
pub(super) fn pair_size(pair: &Pair, limit: Option<Limit>) -> u64 {
    let delimited = |size: usize| prost::length_delimiter_len(size).saturating_add(size);
    let field = |size: usize| match size {
        0 => 0,
        size => delimited(size).saturating_add(1),
    };
    let varint = |value: u64| match value {
        0 => 0,
        value => prost::encoding::encoded_len_varint(value).saturating_add(1),
    };
    let (ttl, deadline, owner) = time::pair_fields(limit);
    let owner = match owner {
        0 => 0,
        _ => size_of::<u64>().saturating_add(1),
    };
    let numbers = [pair.revision(), ttl, deadline].map(varint).into_iter();
    let fields = [field(pair.key().len()), field(pair.value().len()), owner];
    let pair = fields
        .into_iter()
        .chain(numbers)
        .fold(0, usize::saturating_add);
    number(delimited(delimited(pair).saturating_add(1)))
}

/// The limit of the lifetime of a pair that was read.
///
/// # Errors
///
/// If it has a TTL that no key has, or a TTL and an owner; or if its revision is none.
pub(super) fn pair_limit(pair: &proto::KeyValue) -> Result<Option<Limit>, WireError> {
    if pair.revision > MAX_REVISION {
        return Err(WireError::new("KeyValue", "revision", "too high"));
    }
    time::pair_limit(pair.ttl_ms, pair.deadline_ms, pair.owner)
}
