//! The short values of a batch, side by side in one allocation.
//!
//! A value that was read shares its allocation with the map, where the driver and this task write to the same
//! reference count, and each takes its cache line from the other. As bytes of its own each value would also need
//! an allocation. Both cost more than to copy a short value.

use bytes::BytesMut;

use crate::driver::{Answer, Outcome};
use crate::kv::Pair;
use crate::types::Value;

/// Bytes up to which a value is copied.
const SHORT: usize = 1024;

/// The allocation for the short values of a batch.
pub(super) struct Copies(BytesMut);

impl Copies {
    /// With room for the short values of `outcomes`.
    pub(super) fn of(outcomes: &[Outcome]) -> Self {
        let values = outcomes.iter().map(|outcome| match outcome {
            Ok(Answer::Got {
                found: Some((pair, _)),
                ..
            }) => pair.value().len(),
            _ => 0,
        });
        Self(BytesMut::with_capacity(
            values.filter(|bytes| *bytes <= SHORT).sum(),
        ))
    }

    /// The value of `pair`: a copy of a short one.
    pub(super) fn value(&mut self, pair: Pair) -> Value {
        if pair.value().len() > SHORT {
            return pair.into_value();
        }
        self.0.extend_from_slice(pair.value());
        self.0.split().freeze()
    }
}
