//! Clients that write and read all the time, and record the answers.

mod answers;
mod living;
mod locks;

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::Rng;
use rand::rngs::StdRng;
use seshat::error::Applied;
use seshat::kv::{Command, Operation as TxnOperation, Query, Scan, SetLifetime, Txn, Write};
use seshat::node::Answer;
use seshat::types::{ClientId, ClusterId, LogIndex, NodeId, Revision};

use crate::invariants::answers_follow_time::{self, Floor};
use crate::invariants::reads_keep_their_order::{Batches, InBatch};
use crate::invariants::revisions_are_given_once::Given;
use crate::invariants::revisions_follow_time::{self, Highest};
use crate::invariants::{Verdict, room_is_refused_to_growth_alone, waiters_end_once};
use crate::living::{Asked, Living};
use crate::locks::{Asked as AskedOfLock, Locking};
use crate::numbered::{Attempt, Number, Numbered, REMOVED_KEYS, Sessions};
use crate::revisions::Told;
use crate::runs::Runs;
use crate::scans::{Scanned, Scans};
use crate::transactions::{Carried, Transactions, accesses, possible, succeeded};
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
    Read(Query),
    KeepAlive(ClientId),
}

/// What a caller waits for.
#[derive(Debug, Clone)]
enum What {
    /// An operation with a single attempt.
    Once(Kind),
    /// A transaction with a single attempt.
    Txn(Box<Txn>),
    /// A scan.
    Scan(Box<Scan>),
    /// One attempt of possibly many.
    Session(Attempt),
    /// A session that lives.
    Living(Asked),
    /// A lock or a claim.
    Lock(AskedOfLock),
    /// A decision of the operator.
    Decision,
}

/// What had been told at some moment.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Before {
    /// The highest index that had been acknowledged.
    pub(crate) floor: Floor,
    pub(crate) highest: Highest,
}

/// A write that a client was told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Author {
    Once(Waiter),
    Numbered(Number),
    /// The opening of a session, which each attempt does.
    Open(Waiter),
}

/// An attempt under way.
#[derive(Debug)]
struct Pending {
    key: Bytes,
    what: What,
    start: u64,
    before: Before,
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
    pub(crate) write: Write,
}

/// The value that a read saw, and its revision.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) cluster: ClusterId,
    pub(crate) index: LogIndex,
    pub(crate) key: Bytes,
    pub(crate) found: Option<(Bytes, Revision)>,
}

/// All clients together.
#[derive(Debug)]
pub(crate) struct Clients {
    next: Waiter,
    pending: BTreeMap<Waiter, Pending>,
    /// The number of answers that each node owes.
    owed: BTreeMap<NodeId, usize>,
    before: Before,
    given: Given,
    told_up_to: BTreeMap<ClusterId, LogIndex>,
    pub(crate) batches: Batches,
    pub(crate) runs: Runs,
    pub(crate) history: BTreeMap<Bytes, Vec<Operation>>,
    pub(crate) acknowledged: Vec<Acknowledged>,
    pub(crate) sessions: Sessions,
    pub(crate) transactions: Transactions,
    pub(crate) scans: Scans,
    pub(crate) living: Living,
    pub(crate) locking: Locking,
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
        | Answer::Got { applied_index, .. }
        | Answer::GotEach { applied_index, .. }
        | Answer::Part {
            revision: applied_index,
            ..
        }
        | Answer::Txn {
            revision: applied_index,
            ..
        } => Some(*applied_index),
        Answer::SessionOpened { .. }
        | Answer::SessionClosed { .. }
        | Answer::Renewed { .. }
        | Answer::Sessions { .. }
        | Answer::Claim { .. }
        | Answer::Occupied { .. }
        | Answer::Released { .. }
        | Answer::Lock { .. }
        | Answer::Locks { .. }
        | Answer::MembersDecided { .. } => None,
    }
}

impl Clients {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            next: 0,
            pending: BTreeMap::new(),
            owed: BTreeMap::new(),
            before: Before::default(),
            given: Given::default(),
            told_up_to: BTreeMap::new(),
            batches: Batches::default(),
            runs: Runs::default(),
            history: BTreeMap::new(),
            acknowledged: Vec::new(),
            sessions: Sessions::default(),
            transactions: Transactions::new(seed),
            scans: Scans::default(),
            living: Living::new(seed),
            locking: Locking::new(seed),
            seen: Vec::new(),
            reads: 0,
            last_write: 0,
            last_read: 0,
            refused: 0,
            full: 0,
            bereft: false,
        }
    }

    /// A new request to `node`, at `now`. Every value is written once.
    pub(crate) fn ask(&mut self, rng: &mut StdRng, node: NodeId, now: u64) -> (Waiter, Request) {
        if rng.gen_bool(WITH_SESSION) {
            let transactions = &mut self.transactions;
            let (attempt, command) = self.sessions.ask(rng, now, self.before, transactions);
            return self.send(attempt, command, node, now);
        }
        if rng.gen_bool(0.4) {
            return self.write_or_txn(rng, node, now);
        }
        let key = match rng.gen_bool(0.05) {
            true => format!("d{}", rng.gen_range(0..REMOVED_KEYS)),
            false => format!("k{}", rng.gen_range(0..KEYS)),
        };
        let key = Bytes::from(key);
        let query = self.transactions.instead_of_read(&key, &self.scans);
        let what = match &query {
            Query::Get(_) => What::Once(Kind::Read(None)),
            Query::Txn(txn) => What::Txn(txn.clone()),
            Query::Scan { scan, .. } => What::Scan(scan.clone()),
            Query::Gets(_)
            | Query::Sessions { .. }
            | Query::Claim { .. }
            | Query::Lock(_)
            | Query::Locks { .. } => {
                panic!("no client asks for that")
            }
        };
        let waiter = self.wait(key, what, node, now);
        (waiter, Request::Read(query))
    }

    /// A write of a value of its own, or a transaction that does it.
    fn write_or_txn(&mut self, rng: &mut StdRng, node: NodeId, now: u64) -> (Waiter, Request) {
        let (waiter, request) = self.write(rng, node, now);
        let Request::Write(Command::Write { write, stamp: None }) = request else {
            return (waiter, request);
        };
        let write = self.transactions.instead_of(write);
        if let (Write::Txn(txn), Some(pending)) = (&write, self.pending.get_mut(&waiter)) {
            pending.what = What::Txn(txn.clone());
        }
        (waiter, Request::Write(write.into()))
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
            before: self.before,
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
            What::Session(attempt) => Some(attempt),
            _ => None,
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
        self.before.floor = self.before.floor.raise(cluster, index);
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
            let read = match &pending.what {
                What::Once(kind) => matches!(kind, Kind::Read(_)),
                What::Txn(txn) => !txn.writes(),
                What::Scan(_) => true,
                // It may have been written long before.
                What::Session(_) | What::Living(_) | What::Lock(_) | What::Decision => continue,
            };
            pending.in_batch = Some(InBatch {
                batch,
                position,
                read,
            });
        }
    }

    /// The node has taken the request of `waiter`.
    pub(crate) fn taken(&mut self, waiter: Waiter) {
        if let Some(pending) = self.pending.get_mut(&waiter) {
            pending.taken = true;
            *self.owed.entry(pending.node).or_default() += 1;
        }
    }

    /// The key that `waiter` has asked for.
    pub(crate) fn key_of(&self, waiter: Waiter) -> Option<&Bytes> {
        self.pending.get(&waiter).map(|pending| &pending.key)
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
