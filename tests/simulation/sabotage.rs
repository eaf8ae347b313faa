//! Rules of Seshat that a run breaks on purpose: if no check notices, the simulation is blind.
//!
//! The core keeps all of its rules. The harness interferes: it answers clients itself, or starts
//! processes in a forbidden way.

mod locks;

use std::collections::BTreeMap;
use std::sync::Arc;

use seshat::cluster::Answer;
use seshat::cluster::recovery::{Order, known};
use seshat::kv::{Command, Found, Limit, Query, Txn, TxnOutcome, Write};
use seshat::node::{self, PeerMessage, RaftNode};
use seshat::types::{ClientId, EntryPayload, LogIndex, NodeId, NodeStatus, Role};
use seshat::wire;

use crate::clients::{Waiter, decode};
use crate::process::Process;
use crate::world::World;

/// Ticks for which a lease holds after a follower last confirmed that it follows. The follower votes for
/// no other process for five ticks, of which the first may come at once; clocks run apart by a
/// twentieth.
const LEASE_TICKS: usize = 2;

/// Milliseconds by which learners lag.
const LAG: u64 = 5_000;

/// A rule that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// A restarted process gets its former raft id.
    SameRaftId,
    /// A process that believes that it leads answers reads from its own map.
    LocalReads,
    /// A process that leads, and can tell by its own clock that no other does, answers reads from its
    /// own map, if that holds everything that was committed before its term.
    LeaseReads,
    /// A write is acknowledged as soon as it is in the leader's own log.
    EarlyAcknowledgements,
    /// A process is killed before the cluster has healed from the loss of another.
    UngatedRestarts,
    /// The reads of a batch come after all of its writes.
    ReadsLast,
    /// The numbers of writes do not reach the core, so that a copy is a write of its own.
    NoNumbers,
    /// Losses do not wait until the cluster bears them, and the operator is told that they did.
    UngatedAccidents,
    /// Status says `healthy` as soon as there is a leader.
    AlwaysHealthy,
    /// A halted cluster is recovered by all survivors at once, and none of them compares itself with
    /// another.
    RecoverEverywhere,
    /// A halted cluster is recovered by the survivor that has least, whatever others have.
    RecoverLeast,
    /// Messages to a process that does not vote yet take seconds.
    LearnersLag,
    /// A process remembers no members, does not wait, and hears of no survivor that asks.
    Forgets,
    /// A process that hangs counts as gone.
    HungIsSilent,
    /// All clocks stand still, so that every cluster that forms begins with the same revision, as if its
    /// revisions were log indices.
    SameTime,
    /// Clients are told revisions as if a recovery skipped none.
    NoneSkipped,
    /// The leader decides conditions when it is asked, and puts what follows from them into the log.
    DecidesEarly,
    /// The numbers of transactions do not reach the core, and the answer to a copy counts as the answer.
    TxnsWithoutNumbers,
    /// An event does not reach the client that watches.
    DropsEvents,
    /// A key has ended for a node as soon as its TTL has passed by the node's own clock since it has learnt of
    /// the key.
    LocalClocks,
    /// A process that believes that it leads answers renewals from its own state, and puts none into its log.
    LocalRenewals,
    /// The monotonic clocks of all processes run at twice the speed.
    ClocksRace,
    /// The monotonic clocks of all processes run at a tenth of the speed.
    ClocksCrawl,
    /// A process that believes that it leads grants a lock that it sees free, before that is in the log.
    GrantsEarly,
    /// An Acquire that is sent again is another claim.
    ClaimsWithoutNumbers,
    /// The conditions that a lock is held do not reach the core.
    Unguarded,
    /// Sessions are renewed although their clients are gone.
    RenewsForAll,
}

impl Sabotage {
    pub(crate) const ALL: [Self; 27] = [
        Self::SameRaftId,
        Self::LocalReads,
        Self::LeaseReads,
        Self::EarlyAcknowledgements,
        Self::UngatedRestarts,
        Self::ReadsLast,
        Self::NoNumbers,
        Self::UngatedAccidents,
        Self::AlwaysHealthy,
        Self::RecoverEverywhere,
        Self::RecoverLeast,
        Self::LearnersLag,
        Self::Forgets,
        Self::HungIsSilent,
        Self::SameTime,
        Self::NoneSkipped,
        Self::DecidesEarly,
        Self::TxnsWithoutNumbers,
        Self::DropsEvents,
        Self::LocalClocks,
        Self::LocalRenewals,
        Self::ClocksRace,
        Self::ClocksCrawl,
        Self::GrantsEarly,
        Self::ClaimsWithoutNumbers,
        Self::Unguarded,
        Self::RenewsForAll,
    ];
}

impl World {
    /// The answer of a harness that answers reads itself, for `key`; `None` if it leaves that to the
    /// core.
    pub(crate) fn local_read(&self, node: NodeId, key: &[u8]) -> Option<node::Answer> {
        let process = self.processes.get(&node)?;
        let raft = process.leads()?;
        let answers = match self.plan.sabotage {
            Some(Sabotage::LocalReads) => true,
            Some(Sabotage::LeaseReads) => is_current(raft) && has_lease(process, raft),
            _ => false,
        };
        answers.then(|| node::Answer::Got {
            found: raft.storage().state_machine().get_with_revision(key),
            applied_index: raft.storage().applied(),
        })
    }

    /// Records the followers of `node`, as `message` shows them.
    pub(crate) fn note_follower(&mut self, node: NodeId, message: &PeerMessage, sent_at: u64) {
        if self.plan.sabotage == Some(Sabotage::LeaseReads)
            && let PeerMessage::HeartbeatReply(_) | PeerMessage::AppendEntriesReply(_) = message
            && let Ok(envelope) = message.envelope()
            && let Some(process) = self.processes.get_mut(&node)
        {
            let heard = (envelope.term, sent_at);
            let last = process.followed.entry(envelope.from).or_insert(heard);
            *last = heard.max(*last);
        }
    }

    /// Tells the callers of writes in the log of `node`, a leader, that these took place.
    pub(crate) fn acknowledge_early(&mut self, node: NodeId) {
        let Some(raft) = self.processes[&node].leads() else {
            return;
        };
        let cluster = raft.cluster_id();
        let told: Vec<_> = unapplied_writes(raft).collect();
        for (waiter, index) in told {
            self.trace
                .line(self.now, format_args!("{waiter} is told early: {index}"));
            self.clients.told_early(waiter, (cluster, index), self.now);
        }
    }
}

impl World {
    /// Milliseconds by which messages to `to` are delayed on purpose.
    pub(crate) fn held_up(&self, to: NodeId) -> u64 {
        let process = self.processes.get(&to);
        let raft = process.and_then(|process| process.replica.raft());
        let learns = raft.is_some_and(|raft| raft.role() == Role::Learner);
        let lags = self.plan.sabotage == Some(Sabotage::LearnersLag);
        if learns && lags { LAG } else { 0 }
    }

    /// An order to recover the cluster of `own`, and the answers heard before. On purpose no answer of
    /// another survivor is heard, and the operator states that they are gone.
    pub(crate) fn as_sabotaged(
        &self,
        own: &NodeStatus,
        mut order: Order,
        mut heard: BTreeMap<NodeId, Answer>,
    ) -> (Order, BTreeMap<NodeId, Answer>) {
        let blind = Some(Sabotage::RecoverEverywhere) == self.plan.sabotage
            || Some(Sabotage::RecoverLeast) == self.plan.sabotage;
        if blind {
            heard.retain(|_, answer| {
                let status = answer.as_ref();
                status.is_ok_and(|status| status.cluster_id != own.cluster_id)
            });
            let me = own.raft_id.node_id();
            let gone = known(own).filter(|node| *node != me && !heard.contains_key(node));
            order.without = gone.collect();
            order.incomplete = true;
        }
        (order, heard)
    }
}

impl World {
    /// The command of `waiter` that reaches the core at `node`.
    pub(crate) fn interfere(&mut self, node: NodeId, command: Command, waiter: Waiter) -> Command {
        match (self.plan.sabotage, command) {
            (Some(Sabotage::NoNumbers), Command::Write { write, .. }) => write.into(),
            (
                Some(Sabotage::TxnsWithoutNumbers),
                Command::Write {
                    write: write @ Write::Txn(_),
                    ..
                },
            ) => write.into(),
            (
                Some(Sabotage::DecidesEarly),
                Command::Write {
                    write: Write::Txn(txn),
                    stamp: None,
                },
            ) => self.decide_early(node, txn, waiter),
            (Some(Sabotage::ClaimsWithoutNumbers), command) => locks::renumbered(command, waiter),
            (Some(Sabotage::Unguarded), command) => locks::unguarded(command),
            (_, command) => command,
        }
    }

    /// The branch of `txn` that the conditions select as the leader `node` sees them now.
    fn decide_early(&mut self, node: NodeId, txn: Box<Txn>, waiter: Waiter) -> Command {
        let process = self.processes.get(&node);
        let succeeded = process.and_then(Process::leads).and_then(|raft| {
            let state = raft.storage().state_machine();
            match state.find(&Query::Txn(txn.clone()), raft.storage().applied()) {
                Found::Txn(outcome) => Some(outcome.succeeded),
                _ => None,
            }
        });
        let Some(succeeded) = succeeded else {
            return Write::Txn(txn).into();
        };
        self.decided.insert(waiter, succeeded);
        let branch = Txn {
            conditions: Vec::new(),
            success: txn.branch(succeeded).to_vec(),
            failure: Vec::new(),
        };
        Write::Txn(Box::new(branch)).into()
    }

    /// The answer of `node` that reaches `waiter`.
    pub(crate) fn falsify(
        &mut self,
        node: NodeId,
        waiter: Waiter,
        answer: node::Outcome,
    ) -> node::Outcome {
        if let Ok(node::Answer::Got { applied_index, .. }) = answer
            && self.has_ended_locally(node, waiter)
        {
            let found = None;
            return Ok(node::Answer::Got {
                found,
                applied_index,
            });
        }
        let decided = self.decided.remove(&waiter);
        answer.map(|answer| match (decided, answer) {
            (Some(succeeded), node::Answer::Txn { outcome, revision }) => node::Answer::Txn {
                outcome: Arc::new(TxnOutcome {
                    succeeded,
                    ..TxnOutcome::clone(&outcome)
                }),
                revision,
            },
            (_, answer) => answer,
        })
    }
}

impl World {
    /// The speed of the monotonic clock of a process that has this one.
    pub(crate) fn rate(&self, rate: u64) -> u64 {
        match self.plan.sabotage {
            Some(Sabotage::ClocksRace) => 2 * rate,
            Some(Sabotage::ClocksCrawl) => rate / 10,
            _ => rate,
        }
    }

    /// The answer of a harness that answers renewals itself.
    pub(crate) fn local_renewal(&self, node: NodeId, client_id: ClientId) -> Option<node::Answer> {
        if self.plan.sabotage != Some(Sabotage::LocalRenewals) {
            return None;
        }
        let raft = self.processes.get(&node)?.leads()?;
        let state = raft.storage().state_machine();
        let revision = state.revisions().at(raft.storage().applied());
        let ttl = state.session_ttl(client_id)?;
        Some(node::Answer::Renewed { ttl, revision })
    }

    /// The process at `node` starts a timer for each key with a TTL that it has learnt of.
    pub(crate) fn note_timers(&mut self, node: NodeId) {
        if self.plan.sabotage != Some(Sabotage::LocalClocks) {
            return;
        }
        let Some(process) = self.processes.get_mut(&node) else {
            return;
        };
        let uptime = process.uptime(self.now);
        let Some(raft) = process.replica.raft() else {
            return;
        };
        let former = std::mem::take(&mut process.timers);
        for (key, limit) in raft.storage().state_machine().lifetimes().iter() {
            let Limit::Ttl { ttl, deadline } = *limit else {
                continue;
            };
            let known = former.get(key).filter(|(of, _)| *of == deadline);
            let timer = known.copied().unwrap_or((deadline, uptime + ttl));
            process.timers.insert(key.clone(), timer);
        }
    }

    /// Whether the key that `waiter` has asked for has ended by the clock of `node`.
    fn has_ended_locally(&self, node: NodeId, waiter: Waiter) -> bool {
        let process = self.processes.get(&node);
        let key = self.clients.key_of(waiter);
        process.zip(key).is_some_and(|(process, key)| {
            let uptime = process.uptime(self.now);
            let timer = process.timers.get(key);
            timer.is_some_and(|(_, end)| *end <= uptime)
        })
    }
}

/// Whether the leader's map holds everything that was committed before its term.
fn is_current(raft: &RaftNode<Waiter>) -> bool {
    let applied = raft.storage().applied();
    let entry = raft.storage().entry(applied);
    applied == raft.commit_index() && entry.is_some_and(|entry| entry.term == raft.term())
}

/// Whether a majority has followed the leader so lately, by its own clock, that they cannot have elected
/// another one. The harness is generous: the leader knows the time of their confirmation, not only that
/// of its arrival, so only a wrong clock can make it wrong.
fn has_lease(process: &Process, raft: &RaftNode<Waiter>) -> bool {
    let ticks_since = |at: u64| {
        process
            .ticks
            .iter()
            .rev()
            .take_while(|&&tick| tick > at)
            .count()
    };
    let voters = raft.voters();
    let follow = |voter| {
        voter == raft.raft_id()
            || process
                .followed
                .get(&voter)
                .is_some_and(|&(term, at)| term == raft.term() && ticks_since(at) <= LEASE_TICKS)
    };
    let following = voters.iter().filter(|&&voter| follow(voter)).count();
    2 * following > voters.len()
}

/// The callers whose writes are in the log and not applied, with their indices.
fn unapplied_writes(raft: &RaftNode<Waiter>) -> impl Iterator<Item = (Waiter, LogIndex)> {
    let storage = raft.storage();
    let entries = (storage.applied() + 1..).map_while(|index| storage.entry(index));
    entries.filter_map(|entry| {
        let EntryPayload::Command(data) = entry.payload else {
            return None;
        };
        match wire::decode_command(data) {
            // A client writes its own number.
            Ok(Command::Write {
                write: Write::Set { value, .. },
                ..
            }) => Some((decode(&value), entry.index)),
            _ => None,
        }
    })
}
