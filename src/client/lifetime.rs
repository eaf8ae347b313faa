//! How long keys stay bound.

use std::time::Duration;

use crate::proto::kv::Keep;
use crate::proto::kv::set_operation;

/// How long a key stays bound, unless it is written again: the last write decides its lifetime as it decides
/// its value. When the lifetime ends, the key is removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lifetime {
    /// For ever.
    #[default]
    Unlimited,
    /// For so long: 1 s to 3650 days, in steps of a millisecond. A key may stay bound for a little longer, and
    /// never for less. Time in which the cluster has no leader does not count.
    Ttl(Duration),
    /// As long as the living session with this id: see [`LivingSession`](super::LivingSession). A write whose
    /// owner does not live is refused as `SessionExpired`. A session owns at most 1024 keys.
    Owner(u64),
    /// As long as before: a TTL goes on and does not begin again, an owner stays. A missing key is bound for
    /// ever.
    Keep,
}

impl From<Lifetime> for Option<set_operation::Lifetime> {
    fn from(lifetime: Lifetime) -> Self {
        Some(match lifetime {
            Lifetime::Unlimited => return None,
            Lifetime::Ttl(ttl) => set_operation::Lifetime::Ttl(to_proto(ttl)),
            Lifetime::Owner(owner) => set_operation::Lifetime::Owner(owner),
            Lifetime::Keep => set_operation::Lifetime::Keep(Keep {}),
        })
    }
}

/// A duration as protobuf has it. A longer one than fits becomes the longest one.
pub(super) fn to_proto(duration: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(duration).unwrap_or(prost_types::Duration {
        seconds: i64::MAX,
        nanos: 0,
    })
}
