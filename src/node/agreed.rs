//! The limits of the processes that take part, as far as this one has heard.
//!
//! Members should be configured alike, and a configuration may be wrong. An entry that one member cannot
//! take would never be stored there, and an entry that no majority can take would block everything behind
//! it. So each process reports its limits, and a leader keeps to the smallest. A process whose limits the
//! leader has not heard counts as unlimited: it may be gone, and never report any.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::error::Reason;
use crate::kv::{Command, Write};
use crate::types::{Conf, NodeId, NodeLimits, NodeStatus, RaftId};
use crate::wire;

/// The reported limits of processes, by node.
#[derive(Debug)]
pub(super) struct Agreed {
    own: NodeLimits,
    heard: BTreeMap<NodeId, (RaftId, NodeLimits)>,
    /// The memory bound of the state of each process.
    states: BTreeMap<NodeId, (RaftId, u64)>,
    /// The processes whose smaller limits have been reported in an event.
    told: BTreeSet<RaftId>,
}

/// Limits of the entries of a leader that are smaller than its own.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Least {
    key: Option<(u64, NodeId)>,
    value: Option<(u64, NodeId)>,
}

impl Agreed {
    /// A process with the limits `own`.
    pub(super) fn new(own: NodeLimits) -> Self {
        Self {
            own,
            heard: BTreeMap::new(),
            states: BTreeMap::new(),
            told: BTreeSet::new(),
        }
    }

    /// Records the limits that a process reports, or that it reports none.
    pub(super) fn takes(&mut self, process: RaftId, limits: Option<NodeLimits>) {
        let node = process.node_id();
        match limits {
            Some(limits) => self.heard.insert(node, (process, limits)),
            None => self.heard.remove(&node),
        };
    }

    /// Records the status of a process.
    pub(super) fn heard(&mut self, status: &NodeStatus) {
        let node = status.raft_id.node_id();
        self.takes(status.raft_id, status.limits);
        match status.max_state_bytes {
            0 => self.states.remove(&node),
            bytes => self.states.insert(node, (status.raft_id, bytes)),
        };
    }

    /// The other processes that take part in `conf`, with their limits.
    fn others(&self, conf: &Conf) -> impl Iterator<Item = (NodeId, NodeLimits)> {
        let ids = conf.voters.iter().chain(&conf.learners);
        ids.filter_map(|id| {
            let (heard, limits) = self.heard.get(&id.node_id())?;
            (heard == id).then_some((id.node_id(), *limits))
        })
    }

    /// The limits for entries of a leader of `conf`.
    pub(super) fn least(&self, conf: &Conf) -> Least {
        let least = |of: fn(&NodeLimits) -> u64| {
            let others = self.others(conf).map(|(node, limits)| (of(&limits), node));
            others.min().filter(|(limit, _)| *limit < of(&self.own))
        };
        Least {
            key: least(|limits| limits.key),
            value: least(|limits| limits.value),
        }
    }

    /// Bytes of entries in one append of a leader of `conf`, whose own limit is `own`.
    pub(super) fn append_bytes(&self, own: u64, conf: &Conf) -> u64 {
        let others = self.others(conf).map(|(_, limits)| limits.append);
        others.fold(own, u64::min)
    }

    /// The memory bound of the state of a leader of `conf`, and the member that has it: the leader, whose
    /// bound is `own`, unless another one has less. The default depends on the machine, so members may
    /// differ, and no event is emitted for that.
    pub(super) fn state_bytes(&self, own: (usize, NodeId), conf: &Conf) -> (usize, NodeId) {
        let ids = conf.voters.iter().chain(&conf.learners);
        let states = ids.filter_map(|id| {
            let (heard, bytes) = self.states.get(&id.node_id())?;
            let bytes = usize::try_from(*bytes).unwrap_or(usize::MAX);
            (heard == id).then_some((bytes, id.node_id()))
        });
        states.min().filter(|least| least.0 < own.0).unwrap_or(own)
    }

    /// The limits in which a process is below this one, unless they have been reported before: the
    /// setting, its value there and its value here.
    pub(super) fn shows_less(&mut self, status: &NodeStatus) -> Vec<(&'static str, u64, u64)> {
        let id = status.raft_id;
        let Some(limits) = status.limits else {
            return Vec::new();
        };
        self.told
            .retain(|told| told.node_id() != id.node_id() || *told == id);
        let both = limits.named().into_iter().zip(self.own.named());
        let less = both.filter(|((_, theirs), (_, own))| theirs < own);
        let less: Vec<_> = less
            .map(|((name, theirs), (_, own))| (name, theirs, own))
            .collect();
        match !less.is_empty() && self.told.insert(id) {
            true => less,
            false => Vec::new(),
        }
    }
}

impl Least {
    /// The refusal of the encoded `command`, if it exceeds the limit of a member. All of a transaction is at
    /// most as large as a key and a value.
    pub(super) fn refuses(&self, command: &Bytes) -> Option<Reason> {
        let bytes = u64::try_from(command.len()).unwrap_or(u64::MAX);
        let limits = [self.key, self.value].into_iter().flatten();
        // Neither key nor value is larger than the command.
        if limits.min().is_none_or(|(limit, _)| bytes <= limit) {
            return None;
        }
        let Ok(Command::Write { write, .. }) = wire::decode_command(command.clone()) else {
            return None;
        };
        let (key, value) = match &write {
            Write::Set { key, value } => (key.len(), value.len()),
            Write::Delete { key } => (key.len(), 0),
            // They have limits of the protocol.
            Write::Acquire(_) | Write::Release(_) => return None,
            Write::Txn(txn) => {
                let parts = || txn.parts();
                let value = parts().map(|(_, value)| value).max().unwrap_or(0);
                let key = parts().map(|(key, _)| key.len()).max().unwrap_or(0);
                let limit = self.key.zip(self.value);
                let limit = limit.map(|(key, value)| (key.0.saturating_add(value.0), value.1));
                if let Some(refusal) = exceeds("transaction", txn.bytes(), limit) {
                    return Some(refusal);
                }
                (key, value)
            }
        };
        exceeds("key", key, self.key).or_else(|| exceeds("value", value, self.value))
    }
}

fn exceeds(what: &'static str, bytes: usize, limit: Option<(u64, NodeId)>) -> Option<Reason> {
    let (limit, node) = limit?;
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    (bytes > limit).then_some(Reason::TooLarge {
        what,
        limit,
        node_id: Some(node),
    })
}
