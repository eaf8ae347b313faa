//! After a while without faults there is a cluster with one leader, every process is a member of it,
//! however often it was restarted, and all have applied the whole log but for the last steps of the clock.

use seshat::node::{RaftNode, Replica};
use seshat::types::Role;

use super::equal_logs::Log;
use super::{Verdict, Violation, live};

const NAME: &str = "well_after_the_calm";

/// `healed` is the status of the members.
pub(crate) fn check<'a, W: 'a>(
    members: impl Iterator<Item = &'a Replica<W>>,
    healed: bool,
    log: &Log,
) -> Verdict {
    let started = check_members(members, healed)?;
    let applied: Vec<_> = started.iter().map(|raft| applied(raft)).collect();
    let whole = applied.iter().all(|&index| index >= log.last_but_steps());
    live(whole, NAME, || {
        let last = log.last_but_steps();
        format!("applied up to {applied:?}, and the log ends at {last}")
    })
}

/// The same without a check of the log. Returns the processes that take part.
pub(crate) fn check_members<'a, W: 'a>(
    members: impl Iterator<Item = &'a Replica<W>>,
    healed: bool,
) -> Result<Vec<&'a RaftNode<W>>, Violation> {
    let mut started = Vec::new();
    for member in members {
        let raft = member.raft();
        live(raft.is_some(), NAME, || {
            format!("{} waits: {}", member.raft_id(), member.waiting_for())
        })?;
        started.extend(raft);
    }
    let leaders = started.iter().filter(|raft| raft.role() == Role::Leader);
    let leaders: Vec<_> = leaders.map(|raft| raft.raft_id()).collect();
    live(leaders.len() == 1, NAME, || format!("{leaders:?} lead"))?;
    live(healed, NAME, || {
        let voters: Vec<_> = started.iter().map(|raft| raft.voters()).collect();
        format!("not healed: the nodes know the voters {voters:?}")
    })?;
    Ok(started)
}

fn applied<W>(raft: &RaftNode<W>) -> u64 {
    raft.storage().applied()
}
