//! After a while without faults, a lock that is claimed is held, and by no claim for long: its client releases it,
//! or its session ends. So every claim that waits gets its lock, or ends when it has waited for as long as it wanted
//! to.

use seshat::node::RaftNode;

use super::{Verdict, live};
use crate::locks::Locking;

const NAME: &str = "locks_change_hands";
/// Milliseconds after which the session of a client that is gone has ended: its TTL and a tenth, and a margin for the
/// steps of the clock.
const WITHIN: u64 = 6_400;

/// `raft` leads. Time counts all the while since `served`.
pub(crate) fn check<W>(raft: &RaftNode<W>, locking: &Locking, served: u64, now: u64) -> Verdict {
    let locks = raft.storage().state_machine().locks();
    for (name, began, claim, token) in locks.all() {
        let (since, most) = match (token, claim.deadline) {
            (Some(token), _) => (locking.granted(raft.cluster_id(), name, token), Some(0)),
            (None, _) => locking.asked(claim.id),
        };
        let overdue = most.is_some_and(|most| since.max(served) + most + WITHIN < now);
        live(!overdue, NAME, || {
            format!("{name} has {claim:?} of {began} since {since}, held under {token:?}")
        })?;
        live(locks.holder(name).is_some(), NAME, || {
            format!("{claim:?} waits for {name}, which is free")
        })?;
    }
    Ok(())
}
