//! A process from its start to its end: first it looks for its cluster, then it takes part in it.
//!
//! The shell sees one object from the first tick to the last. Before the process takes part in a cluster,
//! it refuses requests with the reason for which it waits, and messages with its identity. If the process
//! is removed, that is its last event.

mod asking;
mod entry;
mod operator;
mod reconciling;
mod recovery;
mod requests;
mod watching;

use std::sync::Arc;

use self::recovery::Claims;
use super::agreed::Agreed;
use super::departure::Departure;
use super::directory::Directory;
use super::questions::Questions;
use super::reach::Reaching;
use super::reconcile::Reconciler;
use super::{
    Event, Formation, NodeError, Output, PeerMessage, RaftNode, RaftOptions, Retired, StepError,
};
use crate::error::NotMe;
use crate::kv::StateMachine;
use crate::types::{
    ClusterId, ClusterMembership, LogIndex, Millis, NodeState, NodeStatus, RaftId, Role, WallTime,
};
use crate::wire::{Envelope, InstallSnapshotHeader, WireError};

/// The identity and the settings of a process.
#[derive(Debug, Clone)]
pub struct ReplicaOptions {
    /// The incarnation of the node.
    pub raft_id: RaftId,
    /// The initial members of the cluster, including this one. For a process that joins later, the nodes
    /// that it asks. It joins no cluster unless one of these, or of those `remembered`, says that it
    /// takes part in it. Once it takes part, the members are those of the replicated state.
    pub members: ClusterMembership,
    /// The last members that earlier incarnations of this process knew, if they have been stored. No new
    /// cluster forms before these have been asked as well.
    pub remembered: ClusterMembership,
    /// Whether the process helps to form a new cluster, or only waits to be added to one.
    pub bootstrap: bool,
    /// Ticks for which it waits before it helps to form a cluster: as long as a survivor of an earlier
    /// cluster may need to notice that it has no leader, and to ask this process for its identity. 0 if
    /// there can be no earlier cluster.
    pub formation_wait_ticks: u64,
    /// The wall clock when the process starts, see [`Replica::set_time`].
    pub time: Option<WallTime>,
    /// Timing and bounds of the Raft server.
    pub raft: RaftOptions,
    /// The seed of random choices: election timeouts and the id of a new cluster.
    pub seed: u64,
    /// The logger for raft-rs.
    pub logger: slog::Logger,
}

/// One process, from its start to its end.
pub struct Replica<W> {
    options: ReplicaOptions,
    formation: Formation,
    reconciler: Reconciler,
    agreed: Agreed,
    departure: Departure,
    questions: Questions,
    reaching: Reaching,
    directory: Directory,
    raft: Option<RaftNode<W>>,
    claims: Claims,
    /// The wall clock of the process.
    time: Option<WallTime>,
    /// Whether an event has said that the clocks differ.
    clocks_told: bool,
    shown: (NodeState, Option<ClusterId>, bool),
    removed: bool,
    output: Output<W>,
    broken: Option<NodeError>,
}

impl<W> Replica<W> {
    /// A process that has just started.
    pub fn new(options: ReplicaOptions) -> Self {
        let mut formation = Formation::new(
            options.raft_id,
            &options.members,
            options.bootstrap,
            options.seed,
        );
        formation.remember(&options.remembered);
        formation.wait(options.formation_wait_ticks);
        let pace = u64::try_from(options.raft.election_max_ticks).unwrap_or(u64::MAX);
        formation.pace(pace);
        formation.speak(options.raft.level);
        formation.take(options.raft.limits);
        formation.set_time(options.time);
        Self {
            reconciler: Reconciler::new(options.raft_id),
            agreed: Agreed::new(options.raft.limits),
            departure: Departure::new(options.raft_id),
            questions: Questions::new(pace),
            reaching: Reaching::new(options.raft_id.node_id(), &options.raft),
            directory: Directory::new(
                options.raft_id.node_id(),
                &options.members,
                formation.known(),
            ),
            time: options.time,
            clocks_told: false,
            options,
            shown: (
                formation.state(),
                formation.cluster_id(),
                formation.is_member(),
            ),
            removed: false,
            formation,
            raft: None,
            claims: Claims::default(),
            output: Output::default(),
            broken: None,
        }
    }

    /// The incarnation of the node.
    pub fn raft_id(&self) -> RaftId {
        self.options.raft_id
    }

    /// The Raft server, once the process takes part in a cluster.
    pub fn raft(&self) -> Option<&RaftNode<W>> {
        self.raft.as_ref()
    }

    /// Sets the time of the wall clock of the process, before each tick. `None` if it is not credible. Only
    /// the revisions of a new or recovered cluster depend on it.
    pub fn set_time(&mut self, time: Option<WallTime>) {
        self.time = time;
        self.formation.set_time(time);
    }

    /// Sets the time of the monotonic clock of the process in milliseconds since it started, before each
    /// [`advance_clock`](Self::advance_clock).
    pub fn set_uptime(&mut self, uptime: Millis) {
        if let Some(raft) = &mut self.raft {
            raft.set_uptime(uptime);
        }
    }

    /// Counts one tick.
    pub fn tick(&mut self) {
        self.tick_claims();
        let takes_part = self.claims.frozen_for(self.options.raft_id).is_none();
        match &mut self.raft {
            Some(_) if !takes_part => {}
            Some(raft) => {
                raft.tick();
                let own = self.options.raft.max_append_bytes;
                raft.bound_appends(self.agreed.append_bytes(own, raft.conf()));
                let own = (
                    self.options.raft.max_state_bytes,
                    self.options.raft_id.node_id(),
                );
                raft.bound_state(self.agreed.state_bytes(own, raft.conf()));
                let leads = raft.role() == Role::Leader;
                let mut ask = self.reconciler.tick(leads, &raft.conf().members);
                self.directory.recall(!raft.is_led());
                let others = self.directory.nodes().ids();
                ask.extend(
                    self.departure
                        .tick(leads, raft.is_led(), raft.conf(), others),
                );
                ask.extend(self.reaching.tick());
                self.questions.tick();
                self.ask(ask);
                self.reconcile();
            }
            None => {
                self.formation.tick();
                self.follow_formation();
            }
        }
        if let Some(raft) = &mut self.raft {
            raft.tick_watches(takes_part);
        }
    }

    /// Takes a message of a peer.
    ///
    /// # Errors
    ///
    /// [`StepError`]: the message is dropped, and nothing has changed.
    pub fn step(&mut self, message: PeerMessage) -> Result<(), StepError> {
        if self.raft.is_none() {
            self.hear_traffic(message.envelope()?);
        }
        self.is_thawed(message.name(), || message.envelope())?;
        match &mut self.raft {
            Some(raft) => {
                let committed = committed(&message);
                raft.step(message)?;
                self.departure.sent(committed);
                Ok(())
            }
            None => Err(self.not_me()),
        }
    }

    /// Takes a snapshot of the leader; see [`RaftNode::install`].
    ///
    /// # Errors
    ///
    /// [`StepError`]: the snapshot is dropped, and nothing has changed.
    pub fn install(
        &mut self,
        header: InstallSnapshotHeader,
        state_machine: StateMachine,
    ) -> Result<(), StepError> {
        if self.raft.is_none() {
            self.hear_traffic(header.envelope()?);
        }
        if let Err(error) = self.is_thawed("InstallSnapshot", || header.envelope()) {
            self.retire(state_machine);
            return Err(error);
        }
        match &mut self.raft {
            Some(raft) => {
                let committed = header.last_included_index();
                raft.install(header, state_machine)?;
                self.departure.sent(committed);
                Ok(())
            }
            None => {
                self.retire(state_machine);
                Err(self.not_me())
            }
        }
    }

    /// Refuses a message of the old cluster while the process leaves the cluster to a recovery.
    fn is_thawed(
        &self,
        message: &'static str,
        envelope: impl FnOnce() -> Result<Envelope, WireError>,
    ) -> Result<(), StepError> {
        match self.claims.frozen_for(self.options.raft_id) {
            None => Ok(()),
            Some(claimant) => Err(StepError::Frozen {
                message,
                from: envelope()?.from,
                claimant,
            }),
        }
    }

    fn retire(&mut self, state_machine: StateMachine) {
        let retired = Retired::StateMachine(Box::new(state_machine));
        self.output.retired.push(retired);
    }

    fn not_me(&self) -> StepError {
        StepError::NotMe(NotMe {
            raft_id: self.options.raft_id,
            cluster_id: self.formation.cluster_id(),
        })
    }

    /// Notes that messages to `peer` do not arrive.
    pub fn report_unreachable(&mut self, peer: RaftId) {
        if let Some(raft) = &mut self.raft {
            raft.report_unreachable(peer);
            self.reconciler.unreachable(peer);
        }
    }

    /// Notes that the transfer of a snapshot to `peer` has ended.
    pub fn report_snapshot(&mut self, peer: RaftId, delivered: bool) {
        if let Some(raft) = &mut self.raft {
            raft.report_snapshot(peer, delivered);
        }
    }

    /// Emits an event, once, when the part of this process in its cluster is over.
    fn depart(&mut self) {
        if let Some(raft) = &self.raft
            && !self.removed
            && self
                .departure
                .is_over(raft.cluster_id(), raft.storage().applied())
        {
            self.removed = true;
            let cluster_id = raft.cluster_id();
            self.output.events.push(Event::Removed { cluster_id });
        }
    }

    /// The desired members of the cluster, as far as this process knows: the configured ones until it has
    /// applied an entry or a snapshot.
    pub fn members(&self) -> &Arc<ClusterMembership> {
        self.directory.members()
    }

    /// The nodes to reach: the members, and former members that still take part. A new value after each
    /// [`output`](Self::output) that has changed it.
    pub fn nodes(&self) -> &Arc<ClusterMembership> {
        self.directory.nodes()
    }

    /// The status of the process. The shell fills in `joined_at` and `receiving`.
    pub fn status(&self) -> NodeStatus {
        let raft = self.raft.as_ref();
        let storage = raft.map(RaftNode::storage);
        let keys = storage.map_or(0, |storage| storage.state_machine().len());
        let memory = storage.map_or(0, |storage| storage.state_machine().memory());
        let number = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        NodeStatus {
            raft_id: self.options.raft_id,
            state: self.formation.state(),
            cluster_id: self.formation.cluster_id(),
            recovered_from: storage
                .map(|storage| Arc::clone(storage.state_machine().recovered_from()))
                .unwrap_or_default(),
            role: raft.map(RaftNode::role),
            term: raft.map_or(0, RaftNode::term),
            leader: raft.and_then(RaftNode::leader),
            commit_index: raft.map_or(0, RaftNode::commit_index),
            applied_index: storage.map_or(0, |storage| storage.applied()),
            keys: number(keys),
            state_bytes: number(memory),
            max_state_bytes: number(self.options.raft.max_state_bytes),
            joined_at: None,
            last_index: raft.map_or(0, RaftNode::last_index),
            last_term: raft.map_or(0, RaftNode::last_term),
            awaits: match raft {
                Some(_) => Vec::new(),
                None => self.formation.awaits(),
            },
            conf: raft.map(|raft| Arc::clone(raft.conf())).unwrap_or_default(),
            members_known: raft.is_some_and(RaftNode::members_are_known),
            receiving: None,
            recovery: self.claims.attempt(),
            following: raft.and_then(RaftNode::following),
            doubled: self.reconciler.doubles(),
            level: self.options.raft.level,
            cluster_level: raft.map(RaftNode::level).unwrap_or_default(),
            unreadable: raft.and_then(RaftNode::unreadable),
            limits: Some(self.options.raft.limits),
            unconfirmed: self.formation.is_unconfirmed(),
            differs_from: self.formation.differs_from(),
            reach: match raft {
                Some(_) => Some(Arc::clone(self.reaching.shown())),
                None => self.formation.reach(),
            },
            time: self.time,
        }
    }

    /// What the process waits for before it takes part in a cluster, as text.
    pub fn waiting_for(&self) -> String {
        self.formation.waiting_for()
    }

    /// Whether a client can be served now, or told which node to ask instead. Otherwise there is no
    /// decision yet (the cluster forms, elects, or transfers leadership), which ends by itself.
    pub fn decides(&self) -> bool {
        match &self.raft {
            Some(raft) => raft.leader().is_some() && !raft.is_transferring(),
            None => self.formation.state() == NodeState::Outside,
        }
    }

    /// All output since the last call.
    ///
    /// # Errors
    ///
    /// [`NodeError`]: an invariant is broken, and the process must stop.
    pub fn output(&mut self) -> Result<Output<W>, NodeError> {
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        let mut output = std::mem::take(&mut self.output);
        output.calls.extend(self.formation.take_calls());
        if let Some(raft) = &mut self.raft {
            let Output {
                answers,
                events,
                messages,
                snapshots,
                calls: _,
                watches,
                locks,
                retired,
            } = raft.output()?;
            output.answers.extend(answers);
            output.events.extend(events);
            output.messages.extend(messages);
            output.snapshots.extend(snapshots);
            output.watches.extend(watches);
            output.locks.extend(locks);
            output.retired.extend(retired);
            let members = raft.storage().state_machine().members();
            self.directory.follow(members, raft.conf());
            let (members, applied) = (self.directory.members(), raft.storage().applied());
            self.reaching.follow(members, raft.conf(), applied);
        }
        Ok(output)
    }
}

/// The commit index of the sender, if `message` is one that is sent only to voters and learners.
/// Otherwise 0.
fn committed(message: &PeerMessage) -> LogIndex {
    match message {
        PeerMessage::AppendEntries(request) => request.leader_commit,
        _ => 0,
    }
}
