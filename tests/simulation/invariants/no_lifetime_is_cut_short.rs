//! No key ends before its TTL has passed since its client has asked to bind it, by a clock whose rate is wrong by
//! 2.5 % at most: whichever nodes led meanwhile, and however they count.

use super::{Verdict, safe};
use crate::living::Timed;
use crate::process::RATE_ERROR;

/// The key has ended at `now`.
pub(crate) fn check(value: u64, timed: Timed, now: u64) -> Verdict {
    let Timed { start, ttl } = timed;
    let least = ttl * 1_000 / (1_000 + RATE_ERROR);
    safe(now >= start + least, "no_lifetime_is_cut_short", || {
        format!("the key with the value {value} was set at {start} for {ttl} ms")
    })
}
