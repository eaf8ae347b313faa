//! After a while without faults, no session lives that was not renewed in time, and no key is bound whose TTL has
//! passed.

use seshat::kv::{Limit, StateMachine};
use seshat::types::RaftId;

use super::{Verdict, live};
use crate::clients::decode;
use crate::living::Living;

const NAME: &str = "nothing_lives_for_ever";
/// Milliseconds by which something may end too late: a deadline is 500 later than the TTL says, the steps of the
/// clock are 250 apart and more, and a command takes its time.
const MARGIN: u64 = 2_000;

/// `by` leads. Time counts all the while since `served`.
pub(crate) fn check(
    by: RaftId,
    state: &StateMachine,
    living: &Living,
    served: u64,
    now: u64,
) -> Verdict {
    let overdue = |asked: u64, ttl: u64| {
        // A clock may be slow.
        asked.max(served) + ttl + ttl / 10 + MARGIN < now
    };
    for (session, it) in state.sessions().living().iter() {
        let asked = living.asked(session.0);
        live(!overdue(asked, it.ttl), NAME, || {
            format!(
                "{by} has session {} of {} ms, which was renewed at {asked}",
                session.0, it.ttl
            )
        })?;
    }
    for (key, limit) in state.lifetimes().iter() {
        let value = state.get(key).map(|value| decode(&value.to_vec().into()));
        let Some((value, timed)) = value.and_then(|value| Some((value, living.timed(value)?)))
        else {
            continue;
        };
        let late = matches!(limit, Limit::Ttl { .. }) && overdue(timed.start, timed.ttl);
        live(!late, NAME, || {
            format!("{by} has {key:?} with the value {value}, {timed:?}")
        })?;
    }
    Ok(())
}
