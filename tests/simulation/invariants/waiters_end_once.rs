//! A caller is answered exactly once, with an answer to its request, as long as the asked node runs.

use seshat::node::{Outcome, Replica};

use super::{Verdict, Violation, safe};
use crate::clients::{Clients, Waiter};

const NAME: &str = "waiters_end_once";

/// The core owes answers to exactly the callers that expect one.
pub(crate) fn check(member: &Replica<Waiter>, clients: &Clients) -> Verdict {
    let owed = member.raft().map_or(0, |raft| raft.waiting());
    let node = member.raft_id().node_id();
    let waiting = clients.waiting_at(node);
    safe(owed == waiting, NAME, || {
        format!("node {node} owes {owed} answers, and {waiting} wait there")
    })
}

pub(crate) fn twice(waiter: Waiter, outcome: &Outcome) -> Violation {
    let reason = format!("{waiter} does not wait, and is told {outcome:?}");
    Violation::safety(NAME, reason)
}

pub(crate) fn no_answer(waiter: Waiter, outcome: &Outcome) -> Violation {
    let reason = format!("{waiter} is told {outcome:?}, which does not answer what it asked");
    Violation::safety(NAME, reason)
}
