//! One Raft server: raft-rs's `RawNode`, and the callers that wait for it.
//!
//! raft-rs decides, and this module keeps its contract, which is easy to break. Between `ready` and
//! `advance` nothing else may be called. A proposal without a leader must not be made, because raft-rs
//! would forward it. A read that raft-rs cannot serve is dropped silently, and so are pending reads when
//! leadership ends. The election timeout comes from a global random source unless the caller sets it. And
//! many messages that a peer may send make raft-rs panic: [`wire`](crate::wire) checks what can be
//! checked from a message alone, and [`validate`](super::validate) checks what depends on the log.

mod catching_up;
mod clock;
mod growth;
mod level;
mod members;
mod probes;
mod ready;
mod recover;
mod snapshots;
mod stalled;
mod submit;
mod transfer;
mod watching;

use std::collections::BTreeSet;
use std::sync::Arc;

use raft::eraftpb::{Message, MessageType};
use raft::{RawNode, StateRole};

use super::options::RaftOptions;
use super::validate::validate;
use super::waiters::Waiters;
use super::{MemoryStorage, NodeError, Outcome, Output, StepError};
use crate::error::{NotMe, Reason, Refusal};
use crate::kv::StateMachine;
use crate::types::{ClusterId, Conf, LogIndex, NodeId, Offer, RaftId, Role, Term};
use crate::watch::Watches;
use crate::wire::PeerMessage;

use catching_up::Rounds;
pub use clock::CLOCK_INTERVAL;
use clock::LeaderClock;
use growth::Growth;
use level::Unreadable;
use probes::Probed;
use stalled::Stalls;
use watching::is_watched;

/// One Raft server of one cluster.
///
/// Report the events ([`tick`](Self::tick), [`step`](Self::step), …), then call [`output`](Self::output).
/// After an error of `output` the node must not be used again.
pub struct RaftNode<W> {
    raft_id: RaftId,
    cluster_id: ClusterId,
    options: RaftOptions,
    seed: u64,
    raw: RawNode<MemoryStorage>,
    waiters: Waiters<W>,
    clock: LeaderClock<W>,
    growth: Growth,
    /// The memory bound of the state, and the member that has it.
    state_bound: (usize, NodeId),
    /// The term in which this node leads and in which its waiters came. When it changes, the waiters are
    /// told that leadership has ended.
    leads_in: Option<Term>,
    read_rounds: u64,
    probed: Probed,
    rounds: Rounds,
    stalls: Stalls,
    /// Index of the last applied change of voters and learners.
    conf_index: LogIndex,
    /// The voters, learners and desired members, as applied.
    conf: Arc<Conf>,
    /// Number of ticks in a row that were not counted.
    deferred: usize,
    /// The state machine of a snapshot that raft-rs has got and not handed back yet.
    incoming: Option<((LogIndex, Term), StateMachine)>,
    /// Snapshots that raft-rs wants to send.
    outgoing: Vec<Message>,
    /// Followers that were sent a snapshot and do not hold the entries behind it yet.
    catching_up: BTreeSet<RaftId>,
    /// Index of the entry by which this leader raises the level of the cluster. 0 means none.
    raise_at: LogIndex,
    unreadable: Option<Unreadable>,
    watches: Watches,
    /// The followers with watches, while this server leads.
    watched: BTreeSet<RaftId>,
    /// The term, role and leader at the last output.
    shown: (Term, Role, Option<RaftId>),
    output: Output<W>,
}

impl<W> RaftNode<W> {
    /// The server `raft_id` of a cluster that starts now with `offer`. This server is one of its voters.
    /// Election timeouts are drawn from `seed`, the raft id and the term.
    ///
    /// # Errors
    ///
    /// [`NodeError::Raft`] if raft-rs refuses the options or the voters.
    pub fn start(
        raft_id: RaftId,
        offer: &Offer,
        options: RaftOptions,
        seed: u64,
        logger: &slog::Logger,
    ) -> Result<Self, NodeError> {
        let storage = MemoryStorage::bootstrap(&offer.members, offer.membership.clone())
            .of_level(offer.level, offer.time);
        Self::with_storage(raft_id, offer.cluster_id, storage, options, seed, logger)
    }

    /// The server `raft_id` of a running cluster that has added it as a learner. It has no state until
    /// the leader's snapshot arrives, and cannot campaign before.
    ///
    /// # Errors
    ///
    /// [`NodeError::Raft`] if raft-rs refuses the options.
    pub fn join(
        raft_id: RaftId,
        cluster_id: ClusterId,
        options: RaftOptions,
        seed: u64,
        logger: &slog::Logger,
    ) -> Result<Self, NodeError> {
        let storage = MemoryStorage::empty();
        Self::with_storage(raft_id, cluster_id, storage, options, seed, logger)
    }

    fn with_storage(
        raft_id: RaftId,
        cluster_id: ClusterId,
        storage: MemoryStorage,
        options: RaftOptions,
        seed: u64,
        logger: &slog::Logger,
    ) -> Result<Self, NodeError> {
        let config = options.raft_config(raft_id, storage.applied());
        let raw = RawNode::new(&config, storage, logger)?;
        let mut node = Self {
            raft_id,
            cluster_id,
            options,
            seed,
            shown: (raw.raft.term, Role::Follower, None),
            conf_index: raw.raft.raft_log.applied,
            conf: Arc::new(raw.store().conf()),
            deferred: 0,
            raw,
            waiters: Waiters::default(),
            clock: LeaderClock::default(),
            growth: Growth::default(),
            state_bound: (options.max_state_bytes, raft_id.node_id()),
            leads_in: None,
            read_rounds: 0,
            probed: Probed::default(),
            rounds: Rounds::default(),
            stalls: Stalls::default(),
            incoming: None,
            outgoing: Vec::new(),
            catching_up: BTreeSet::new(),
            raise_at: 0,
            unreadable: None,
            watches: Watches::new(options.watch),
            watched: BTreeSet::new(),
            output: Output::default(),
        };
        node.settle();
        Ok(node)
    }

    /// Counts one tick: elections, heartbeats and the leader's check of its quorum follow.
    pub fn tick(&mut self) {
        self.probed.tick();
        if self.defers() {
            return;
        }
        self.raw.tick();
        self.settle();
        self.tick_rounds();
        self.tick_stalls();
    }

    /// Campaigns now instead of after a timeout. A process that is no voter does not: raft-rs would let
    /// it, and panics if it wins.
    pub fn campaign(&mut self) {
        if self.raw.raft.promotable() {
            // raft-rs refuses a campaign only if it would be pointless.
            let _ = self.raw.campaign();
        }
        self.settle();
    }

    /// Takes a message of a peer, except a snapshot: see [`install`](Self::install).
    ///
    /// # Errors
    ///
    /// [`StepError`]: the message is dropped, and nothing has changed.
    pub fn step(&mut self, message: PeerMessage) -> Result<(), StepError> {
        let envelope = message.envelope()?;
        if (envelope.to, envelope.cluster_id) != (self.raft_id, self.cluster_id) {
            return Err(StepError::NotMe(NotMe {
                raft_id: self.raft_id,
                cluster_id: Some(self.cluster_id),
            }));
        }
        let name = message.name();
        let out_of_place = |reason: String| StepError::OutOfPlace {
            message: name,
            from: envelope.from,
            reason,
        };
        let watched = is_watched(&message);
        let message = message.into_raft()?;
        if message.get_msg_type() == MessageType::MsgSnapshot {
            return Err(out_of_place("comes without its state machine".to_owned()));
        }
        validate(&self.raw.raft, (name, envelope.from), &message)?;
        self.check_readable(envelope.from, &message)?;
        let entries = &message.entries;
        let read = entries.first().zip(entries.last());
        let read = read.map(|(first, last)| (first.index, last.index));
        let stepped = self.step_raft(message);
        if let Some(read) = read {
            self.has_read(read);
        }
        self.settle();
        if let Some(watched) = watched {
            self.hear_watched(envelope.from, watched);
        }
        stepped.map_err(|error| match error {
            raft::Error::StepPeerNotFound => StepError::NotMember {
                message: name,
                from: envelope.from,
            },
            error => out_of_place(error.to_string()),
        })
    }

    /// Notes that messages to `peer` do not arrive.
    pub fn report_unreachable(&mut self, peer: RaftId) {
        self.probed.answered(peer.get());
        self.raw.report_unreachable(peer.get());
    }

    /// Restores the invariants after each call into raft-rs: the election timeout is ours, and no caller
    /// waits for a leadership that has ended.
    fn settle(&mut self) {
        let ticks = self.election_timeout();
        let raft = &mut self.raw.raft;
        if raft.randomized_election_timeout() != ticks {
            raft.set_randomized_election_timeout(ticks);
        }
        let leads_in = (raft.state == StateRole::Leader).then_some(raft.term);
        if leads_in == self.leads_in {
            return;
        }
        self.leads_in = leads_in;
        self.catching_up.clear();
        self.forget_watched();
        self.probed.forget();
        self.raise_at = 0;
        self.restart_rounds();
        self.restart_growth();
        let (writes, reads) = self.waiters.take_all();
        let (renewing, not_renewed) = self.clock.restart();
        let reason = self.serves().err().unwrap_or(Reason::NoQuorum);
        for waiter in writes.into_iter().chain(renewing) {
            self.refuse(waiter, Refusal::unknown(reason.clone()));
        }
        for waiter in reads.into_iter().chain(not_renewed) {
            self.refuse(waiter, Refusal::not_applied(reason.clone()));
        }
    }

    fn refuse(&mut self, waiter: W, refusal: Refusal) {
        self.output.answers.push((waiter, Outcome::Err(refusal)));
    }

    /// Whether this node leads, or the reason why it does not serve.
    fn serves(&self) -> Result<(), Reason> {
        if self.raw.raft.state == StateRole::Leader {
            return Ok(());
        }
        Err(match self.leader() {
            Some(leader) => Reason::NotLeader {
                leader_id: Some(leader.node_id()),
            },
            None => Reason::NoQuorum,
        })
    }

    /// This server.
    pub fn raft_id(&self) -> RaftId {
        self.raft_id
    }

    /// Its cluster.
    pub fn cluster_id(&self) -> ClusterId {
        self.cluster_id
    }

    /// Its term.
    pub fn term(&self) -> Term {
        self.raw.raft.term
    }

    /// Its role.
    pub fn role(&self) -> Role {
        match self.raw.raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Candidate => Role::Candidate,
            StateRole::PreCandidate => Role::PreCandidate,
            StateRole::Follower if self.raw.raft.promotable() => Role::Follower,
            StateRole::Follower => Role::Learner,
        }
    }

    /// The leader: itself, or one that it has heard of within the longest election timeout. raft-rs's
    /// learner keeps its leader for ever, and its follower until it campaigns, although the leader may
    /// have died long ago.
    pub fn leader(&self) -> Option<RaftId> {
        let leader = self.is_led().then_some(self.raw.raft.leader_id)?;
        RaftId::try_from(leader).ok()
    }

    /// Highest index that it knows to be committed.
    pub fn commit_index(&self) -> LogIndex {
        self.raw.raft.raft_log.committed
    }

    /// Highest index in its log.
    pub fn last_index(&self) -> LogIndex {
        self.raw.raft.raft_log.last_index()
    }

    /// Term of the last entry in its log. 0 while the log is empty.
    pub fn last_term(&self) -> Term {
        self.raw.raft.raft_log.last_term()
    }

    /// The voters, learners and desired members, as it has applied them.
    pub fn conf(&self) -> &Arc<Conf> {
        &self.conf
    }

    /// Raft ids of the voters, in ascending order.
    pub fn voters(&self) -> Vec<RaftId> {
        let ids = self.raw.raft.prs().conf().voters().ids();
        let voters: BTreeSet<_> = ids
            .iter()
            .filter_map(|id| RaftId::try_from(id).ok())
            .collect();
        voters.into_iter().collect()
    }

    /// Its log and its state machine.
    pub fn storage(&self) -> &MemoryStorage {
        self.raw.store()
    }

    /// The number of callers that it owes an answer.
    pub fn waiting(&self) -> usize {
        self.waiters.len() + self.clock.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NodeId;

    #[test]
    fn raft_rs_is_made_with_the_options() {
        let options = RaftOptions {
            heartbeat_ticks: 2,
            election_min_ticks: 6,
            election_max_ticks: 11,
            max_append_bytes: 7_000,
            max_inflight_appends: 8,
            ..RaftOptions::default()
        };
        let raft_id = RaftId::new(NodeId::new(3).expect("a node id"), 5);
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = RaftNode::<u8>::join(raft_id, ClusterId(7), options, 42, &logger);
        let raft = node.expect("a server").raw.raft;
        assert_eq!(raft.id, raft_id.get());
        assert_eq!((raft.heartbeat_timeout(), raft.election_timeout()), (2, 6));
        assert!((6..11).contains(&raft.randomized_election_timeout()));
        assert_eq!((raft.max_msg_size, raft.max_inflight), (7_000, 8));
        assert!(raft.check_quorum && raft.pre_vote);
        assert_eq!(raft.read_only.option, raft::ReadOnlyOption::Safe);
        assert_eq!(raft.priority, 0);
    }
}
