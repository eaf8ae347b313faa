//! Lifetimes and TTLs: in requests, in the log, in answers and in snapshots.

use std::ops::RangeInclusive;

use prost_types::Duration;

use crate::kv::{KEY_TTL, Lifetime, Limit, SESSION_TTL, SetLifetime};
use crate::proto::kv as proto;
use crate::proto::kv::set_operation::Lifetime as Asked;
use crate::types::{ClientId, Millis};
use crate::wire::WireError;

const MILLIS_A_SECOND: u64 = 1_000;
const NANOS_A_MILLI: u64 = 1_000_000;

/// `millis` on the wire.
pub fn duration(millis: Millis) -> Duration {
    let nanos = millis % MILLIS_A_SECOND * NANOS_A_MILLI;
    Duration {
        seconds: i64::try_from(millis / MILLIS_A_SECOND).unwrap_or(i64::MAX),
        nanos: i32::try_from(nanos).unwrap_or(0),
    }
}

/// The milliseconds of a duration; a part of one counts as a whole one. `None` if it is negative or not well
/// formed.
pub fn millis(duration: Duration) -> Option<Millis> {
    let seconds = u64::try_from(duration.seconds).ok()?;
    let nanos = u64::try_from(duration.nanos).ok()?;
    let whole = seconds.checked_mul(MILLIS_A_SECOND)?;
    let part = (nanos < MILLIS_A_SECOND * NANOS_A_MILLI).then(|| nanos.div_ceil(NANOS_A_MILLI))?;
    whole.checked_add(part)
}

/// A TTL in the field `ttl` of `message`.
fn within(
    message: &'static str,
    ttl: Option<Millis>,
    range: RangeInclusive<Millis>,
) -> Result<Millis, WireError> {
    let checked = ttl.filter(|ttl| range.contains(ttl));
    checked.ok_or_else(|| {
        let (least, most) = (range.start() / 1_000, range.end() / 1_000);
        let reason = format!("not between {least} and {most} seconds");
        WireError::new(message, "ttl", reason)
    })
}

/// The TTL that a request gives a session.
///
/// # Errors
///
/// If it is not one of [`SESSION_TTL`].
pub fn session_ttl(ttl: Duration) -> Result<Millis, WireError> {
    within("OpenSessionRequest", millis(ttl), SESSION_TTL)
}

/// The TTL of a living session in the field `ttl_ms` of `message`. `None`: it does not live.
pub(super) fn living_ttl(message: &'static str, ttl: u32) -> Result<Option<Millis>, WireError> {
    match ttl {
        0 => Ok(None),
        ttl => within(message, Some(ttl.into()), SESSION_TTL).map(Some),
    }
}

/// The id of the owner of a key in `message`.
fn owner(message: &'static str, owner: u64) -> Result<ClientId, WireError> {
    match owner {
        0 => Err(WireError::new(message, "owner", "0")),
        owner => Ok(ClientId(owner)),
    }
}

/// The lifetime in a `SetOperation`.
pub(super) fn asked(lifetime: SetLifetime) -> Option<Asked> {
    match lifetime {
        SetLifetime::To(Lifetime::Unlimited) => None,
        SetLifetime::To(Lifetime::Ttl(ttl)) => Some(Asked::Ttl(duration(ttl))),
        SetLifetime::To(Lifetime::Owner(ClientId(owner))) => Some(Asked::Owner(owner)),
        SetLifetime::Keep => Some(Asked::Keep(proto::Keep {})),
    }
}

/// The lifetime that a `SetOperation` asks for.
pub(super) fn lifetime(asked: Option<Asked>) -> Result<SetLifetime, WireError> {
    let message = "SetOperation";
    Ok(match asked {
        None => SetLifetime::To(Lifetime::Unlimited),
        Some(Asked::Ttl(ttl)) => {
            let ttl = within(message, millis(ttl), KEY_TTL)?;
            SetLifetime::To(Lifetime::Ttl(ttl))
        }
        Some(Asked::Owner(id)) => SetLifetime::To(Lifetime::Owner(owner(message, id)?)),
        Some(Asked::Keep(proto::Keep {})) => SetLifetime::Keep,
    })
}

/// The fields `ttl` and `owner` of an entry.
pub(super) fn entry_fields(lifetime: Lifetime) -> (Option<Duration>, u64) {
    match lifetime {
        Lifetime::Unlimited => (None, 0),
        Lifetime::Ttl(ttl) => (Some(duration(ttl)), 0),
        Lifetime::Owner(owner) => (None, owner.0),
    }
}

/// The lifetime of an entry with these fields.
pub(super) fn entry_lifetime(ttl: Option<Duration>, id: u64) -> Result<Lifetime, WireError> {
    match (ttl, id) {
        (None, 0) => Ok(Lifetime::Unlimited),
        (Some(ttl), 0) => Ok(Lifetime::Ttl(within("Entry", millis(ttl), KEY_TTL)?)),
        (None, id) => Ok(Lifetime::Owner(ClientId(id))),
        (Some(_), _) => Err(WireError::new("Entry", "owner", "beside a TTL")),
    }
}

/// The fields `ttl_ms`, `deadline_ms` and `owner` of a pair in a snapshot.
pub(super) fn pair_fields(limit: Option<Limit>) -> (u64, u64, u64) {
    match limit {
        None => (0, 0, 0),
        Some(Limit::Ttl { ttl, deadline }) => (ttl, deadline, 0),
        Some(Limit::Owner(owner)) => (0, 0, owner.0),
    }
}

/// The limit of the lifetime of a pair with these fields.
pub(super) fn pair_limit(ttl: u64, deadline: u64, owner: u64) -> Result<Option<Limit>, WireError> {
    match (ttl, deadline, owner) {
        (0, 0, 0) => Ok(None),
        (0, 0, owner) => Ok(Some(Limit::Owner(ClientId(owner)))),
        (ttl, deadline, 0) => {
            let ttl = within("KeyValue", Some(ttl), KEY_TTL)?;
            Ok(Some(Limit::Ttl { ttl, deadline }))
        }
        _ => Err(WireError::new("KeyValue", "owner", "beside a TTL")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_whole_milliseconds_or_not_well_formed() {
        let millis = |seconds, nanos| millis(Duration { seconds, nanos });
        assert_eq!(millis(2, 0), Some(2_000));
        assert_eq!(millis(2, 1), Some(2_001), "a part counts as a whole one");
        assert_eq!(millis(2, 999_999_999), Some(3_000));
        assert_eq!(millis(2, 1_000_000_000), None);
        assert_eq!(millis(-1, 0), None);
        assert_eq!(millis(0, -1), None);
        assert_eq!(millis(i64::MAX, 0), None);
    }

    #[test]
    fn a_ttl_is_within_its_bounds_and_a_refusal_names_them() {
        let (least, most) = (*SESSION_TTL.start(), *SESSION_TTL.end());
        for ttl in [least, most] {
            assert_eq!(session_ttl(duration(ttl)), Ok(ttl));
        }
        for ttl in [least - 1, most + 1] {
            let refusal = session_ttl(duration(ttl)).unwrap_err();
            assert_eq!(refusal.field, "ttl");
            assert_eq!(refusal.reason, "not between 2 and 3600 seconds");
        }
    }
}
