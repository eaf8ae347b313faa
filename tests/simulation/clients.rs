//! Clients that write and read all the time, and record the answers.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::Rng;
use rand::rngs::StdRng;
use seshat::error::Applied;
use seshat::kv::{Command, Write};
use seshat::node::{Answer, Outcome};
use seshat::types::{ClusterId, LogIndex, NodeId};

use crate::invariants::answers_follow_time::{self, Floor};
use crate::invariants::reads_keep_their_order::{Batches, InBatch};
use crate::invariants::{Verdict, room_is_refused_to_growth_alone, waiters_end_once};
use crate::numbered::{Attempt, Numbered, REMOVED_KEYS, Sessions};
use seshat_test_support::linearizability::{Kind, Operation};

/// A caller, as the core knows it.
pub(crate) type Waiter = u64;

/// Keys that the clients share: few, so that they meet.
pub(crate) const KEYS: u64 = 4;
/// The share of requests of clients with a session.
const WITH_SESSION: f64 = 0.2;

/// The request of a client.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    Write(Command),
    Read(Bytes),
}

/// What a caller waits for.
#[derive(Debug, Clone, Copy)]
enum What {
    /// An operation with a single attempt.
    Once(Kind),
    /// One attempt of possibly many.
    Session(Attempt),
    /// A decision of the operator.
    Decision,
}

/// An attempt under way.
#[derive(Debug)]
struct Pending {
    key: Bytes,
    what: What,
    start: u64,
    /// The highest index that had been acknowledged by then.
    floor: Floor,
    /// Its position among the requests of its batch.
    in_batch: Option<InBatch>,
    node: NodeId,
    /// Whether the node has taken the request and owes an answer.
    taken: bool,
    /// Whether the client has an answer already, from a harness that lies.
    told_early: bool,
}

/// A write that was acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Acknowledged {
    pub(crate) cluster: ClusterId,
    pub(crate) index: LogIndex,
    pub(crate) key: Bytes,
    pub(crate) value: Bytes,
}

/// The value that a read saw.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) cluster: ClusterId,
    pub(crate) index: LogIndex,
    pub(crate) key: Bytes,
    pub(crate) value: Option<Bytes>,
}

/// All clients together.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    next: Waiter,
    pending: BTreeMap<Waiter, Pending>,
    /// The number of answers that each node owes.
    owed: BTreeMap<NodeId, usize>,
    /// The last acknowledged index, and its cluster.
    pub(crate) floor: Floor,
    told_up_to: BTreeMap<ClusterId, LogIndex>,
    pub(crate) batches: Batches,
    pub(crate) history: BTreeMap<Bytes, Vec<Operation>>,
    pub(crate) acknowledged: Vec<Acknowledged>,
    pub(crate) sessions: Sessions,
    pub(crate) seen: Vec<Seen>,
    pub(crate) reads: u64,
    /// Time of the last write that was acknowledged, or refused because the state was full.
    pub(crate) last_write: u64,
    /// Time of the last answer to a read.
    pub(crate) last_read: u64,
    pub(crate) refused: u64,
    /// Of these, because the state was full.
    pub(crate) full: u64,
    /// Whether an acknowledged write had to be given up.
    pub(crate) bereft: bool,
}

pub(crate) fn encode(value: u64) -> Bytes {
    Bytes::from(value.to_string())
}

pub(crate) fn decode(value: &Bytes) -> u64 {
    let text = std::str::from_utf8(value).expect("clients write numbers");
    text.parse().expect("clients write numbers")
}

/// The index that an answer names.
fn index_of(answer: &Answer) -> Option<LogIndex> {
    match answer {
        Answer::Set { applied_index }
        | Answer::Deleted { applied_index, .. }
        | Answer::Got { applied_index, .. } => Some(*applied_index),
        Answer::Txn { .. } | Answer::SessionOpened { .. } | Answer::MembersDecided { .. } => None,
    }
}

impl Clients {
    /// A new request to `node`, at `now`. Every value is written once.
    pub(crate) fn ask(&mut self, rng: &mut StdRng, node: NodeId, now: u64) -> (Waiter, Request) {
        if rng.gen_bool(WITH_SESSION) {
            let (attempt, command) = self.sessions.ask(rng, now, self.floor);
            return self.send(attempt, command, node, now);
        }
        if rng.gen_bool(0.4) {
            return self.write(rng, node, now);
        }
        let key = match rng.gen_bool(0.05) {
            true => format!("d{}", rng.gen_range(0..REMOVED_KEYS)),
            false => format!("k{}", rng.gen_range(0..KEYS)),
        };
        let key = Bytes::from(key);
        let what = What::Once(Kind::Read(None));
        let waiter = self.wait(key.clone(), what, node, now);
        (waiter, Request::Read(key))
    }

    /// An attempt of a client with a session, perhaps not the first, goes to `node`.
    pub(crate) fn send(
        &mut self,
        attempt: Attempt,
        command: Command,
        node: NodeId,
        now: u64,
    ) -> (Waiter, Request) {
        let waiter = self.wait(Bytes::new(), What::Session(attempt), node, now);
        (waiter, Request::Write(command))
    }

    fn wait(&mut self, key: Bytes, what: What, node: NodeId, now: u64) -> Waiter {
        self.next += 1;
        let pending = Pending {
            key,
            what,
            start: now,
            floor: self.floor,
            in_batch: None,
            node,
            taken: false,
            told_early: false,
        };
        self.pending.insert(self.next, pending);
        self.next
    }

    /// The request of `waiter`, if it may be sent again.
    pub(crate) fn attempt(&self, waiter: Waiter) -> Option<Attempt> {
        match self.pending.get(&waiter)?.what {
            What::Once(_) | What::Decision => None,
            What::Session(attempt) => Some(attempt),
        }
    }

    /// A write of a value of its own.
    pub(crate) fn write(&mut self, rng: &mut StdRng, node: NodeId, now: u64) -> (Waiter, Request) {
        let waiter = self.next + 1;
        let key = Bytes::from(format!("k{}", rng.gen_range(0..KEYS)));
        let value = encode(waiter);
        let command = Command::from(Write::Set {
            key: key.clone(),
            value,
        });
        let what = What::Once(Kind::Write(waiter));
        (self.wait(key, what, node, now), Request::Write(command))
    }

    /// A change of members that the operator wants.
    pub(crate) fn decide(&mut self, node: NodeId, now: u64) -> Waiter {
        self.wait(Bytes::new(), What::Decision, node, now)
    }

    /// The highest index that nodes of `cluster` have acknowledged.
    pub(crate) fn told_up_to(&self, cluster: ClusterId) -> LogIndex {
        self.told_up_to.get(&cluster).copied().unwrap_or_default()
    }

    fn raise(&mut self, cluster: ClusterId, index: LogIndex) {
        self.floor = self.floor.raise(cluster, index);
        let highest = self.told_up_to.entry(cluster).or_default();
        *highest = index.max(*highest);
    }

    /// These requests reach their node in one batch, in this order.
    pub(crate) fn order(&mut self, waiters: impl Iterator<Item = Waiter>) {
        let batch = self.batches.begin();
        for (position, waiter) in waiters.enumerate() {
            let Some(pending) = self.pending.get_mut(&waiter) else {
                continue;
            };
            pending.in_batch = match pending.what {
                What::Once(kind) => Some(InBatch {
                    batch,
                    position,
                    read: matches!(kind, Kind::Read(_)),
                }),
                // It may have been written long before.
                What::Session(_) | What::Decision => None,
            };
        }
    }

    /// The node has taken the request of `waiter`.
    pub(crate) fn taken(&mut self, waiter: Waiter) {
        if let Some(pending) = self.pending.get_mut(&waiter) {
            pending.taken = true;
            *self.owed.entry(pending.node).or_default() += 1;
        }
    }

    /// `waiter` was told `outcome` at `now`, by a node in `cluster`.
    pub(crate) fn told(
        &mut self,
        waiter: Waiter,
        outcome: &Outcome,
        now: u64,
        cluster: ClusterId,
    ) -> Verdict {
        let Some(pending) = self.pending.remove(&waiter) else {
            return Err(waiters_end_once::twice(waiter, outcome));
        };
        if pending.taken {
            *self.owed.entry(pending.node).or_default() -= 1;
        }
        if pending.told_early {
            return Ok(());
        }
        if room_is_refused_to_growth_alone::is_full(outcome) {
            self.full += 1;
            self.last_write = now;
        }
        let kind = match pending.what {
            What::Once(kind) => kind,
            What::Session(attempt) => return self.told_attempt(attempt, outcome, now, cluster),
            What::Decision => return Ok(()),
        };
        if let Ok(answer) = outcome
            && let Some(index) = index_of(answer)
        {
            answers_follow_time::check(pending.floor, (cluster, index), waiter)?;
            self.raise(cluster, index);
            if let Some(request) = pending.in_batch {
                self.batches.check(request, index)?;
            }
        }
        let (kind, end) = match (kind, outcome) {
            (Kind::Write(value), Ok(Answer::Set { applied_index })) => {
                self.acknowledge(value, pending.key.clone(), (cluster, *applied_index));
                self.last_write = now;
                (Kind::Write(value), Some(now))
            }
            (
                Kind::Read(_),
                Ok(Answer::Got {
                    found,
                    applied_index,
                }),
            ) => {
                let value = found.as_ref().map(|(value, _)| value.clone());
                self.reads += 1;
                self.last_read = now;
                self.seen.push(Seen {
                    cluster,
                    index: *applied_index,
                    key: pending.key.clone(),
                    value: value.clone(),
                });
                if pending.key.starts_with(b"d") {
                    return Ok(());
                }
                (Kind::Read(value.as_ref().map(decode)), Some(now))
            }
            (_, Err(refusal)) if refusal.applied == Applied::No => {
                self.refused += 1;
                return Ok(());
            }
            (Kind::Write(value), Err(_)) => (Kind::Write(value), None),
            _ => return Err(waiters_end_once::no_answer(waiter, outcome)),
        };
        self.remember(pending.key, kind, pending.start, end);
        Ok(())
    }

    fn told_attempt(
        &mut self,
        attempt: Attempt,
        outcome: &Outcome,
        now: u64,
        cluster: ClusterId,
    ) -> Verdict {
        let refused = matches!(outcome, Err(refusal) if refusal.applied == Applied::No);
        self.refused += u64::from(refused);
        if let Ok(Answer::SessionOpened { applied_index }) = outcome {
            // It may be lost if a process with less state recovers the cluster.
            let highest = self.told_up_to.entry(cluster).or_default();
            *highest = (*applied_index).max(*highest);
        }
        let Some(&Numbered {
            ref write,
            start,
            floor,
            done: Some(done),
            ..
        }) = self.sessions.told(attempt, outcome, cluster)?
        else {
            return Ok(());
        };
        self.last_write = now;
        let write = write.clone();
        answers_follow_time::check(floor, (cluster, done.index), attempt)?;
        self.raise(cluster, done.index);
        if let Write::Set { key, value } = write {
            self.acknowledge(decode(&value), key.clone(), (cluster, done.index));
            if key.starts_with(b"k") {
                self.remember(key, Kind::Write(decode(&value)), start, Some(now));
            }
        }
        Ok(())
    }

    /// No client asks again: an operation without an answer may have taken place at any time, or not at
    /// all.
    pub(crate) fn give_up(&mut self) {
        let unanswered = self.sessions.writes();
        let unanswered = unanswered.filter(|(_, write)| write.done.is_none());
        let unknown: Vec<_> = unanswered
            .map(|(_, it)| (it.write.clone(), it.start))
            .collect();
        for (write, start) in unknown {
            if let Write::Set { key, value } = write
                && key.starts_with(b"k")
            {
                self.remember(key, Kind::Write(decode(&value)), start, None);
            }
        }
    }

    /// At `now`, `waiter` is told that its write took place at `index`, whatever its real outcome; later
    /// answers to it do not count.
    pub(crate) fn told_early(&mut self, waiter: Waiter, at: (ClusterId, LogIndex), now: u64) {
        let Some(pending) = self.pending.get_mut(&waiter) else {
            return;
        };
        let What::Once(kind) = pending.what else {
            return;
        };
        if std::mem::replace(&mut pending.told_early, true) {
            return;
        }
        self.last_write = now;
        let (key, start) = (pending.key.clone(), pending.start);
        self.acknowledge(waiter, key.clone(), at);
        self.remember(key, kind, start, Some(now));
    }

    fn acknowledge(&mut self, value: u64, key: Bytes, (cluster, index): (ClusterId, LogIndex)) {
        self.acknowledged.push(Acknowledged {
            cluster,
            index,
            key,
            value: encode(value),
        });
    }

    fn remember(&mut self, key: Bytes, kind: Kind, start: u64, end: Option<u64>) {
        let operation = Operation { kind, start, end };
        self.history.entry(key).or_default().push(operation);
    }

    /// `node` died: callers that waited there get no answer.
    pub(crate) fn lost(&mut self, node: NodeId) {
        let gone = self
            .pending
            .extract_if(.., |_, pending| pending.node == node);
        let unknown = gone
            .map(|(_, pending)| pending)
            .filter(|pending| !pending.told_early)
            .filter_map(|pending| match pending.what {
                What::Once(kind @ Kind::Write(_)) => Some((pending.key, kind, pending.start)),
                What::Once(Kind::Read(_)) | What::Session(_) | What::Decision => None,
            });
        for (key, kind, start) in unknown.collect::<Vec<_>>() {
            self.remember(key, kind, start, None);
        }
        self.owed.remove(&node);
    }

    /// The number of answers that `node` owes.
    pub(crate) fn waiting_at(&self, node: NodeId) -> usize {
        self.owed.get(&node).copied().unwrap_or_default()
    }

    /// The number of callers that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.pending.len()
    }
}
