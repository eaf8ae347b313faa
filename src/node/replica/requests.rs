//! Requests of clients and operators to a process. A leader puts no entry into the log that some member
//! could not take.

use super::Replica;
use crate::error::{Reason, Refusal};
use crate::kv::Query;
use crate::node::{Input, Proposal, RaftNode, Room};
use crate::types::{ClientId, NodeId, ProtocolLevel, Role};
use crate::wire;

impl<W> Replica<W> {
    /// Puts commands into the log, see [`RaftNode::propose`].
    pub fn propose(&mut self, proposals: Vec<Proposal<W>>) {
        self.submit(proposals.into_iter().map(Input::Write).collect());
    }

    /// Puts writes into the log, with reads among them, see [`RaftNode::submit`]. Writes that some member
    /// could not take are refused.
    pub fn submit(&mut self, mut inputs: Vec<Input<W>>) {
        self.refuse_what_some_cannot_take(&mut inputs);
        match &mut self.raft {
            Some(raft) => raft.submit(inputs),
            None => {
                for input in inputs {
                    let (Input::Write(Proposal { waiter, .. }) | Input::Read { waiter, .. }) =
                        input;
                    self.refuse(waiter);
                }
            }
        }
    }

    /// How many more requests the core takes now, see [`RaftNode::room`]. Before the process takes part
    /// in a cluster it refuses all requests at once.
    pub fn room(&self) -> Room {
        self.raft.as_ref().map_or(Room::UNLIMITED, RaftNode::room)
    }

    /// Maximum number of requests that wait for their outcome at once.
    pub fn max_inflight(&self) -> usize {
        self.options.raft.max_pending_requests
    }

    /// Maximum number of gets in one query: its bounds have room for so many at once.
    pub fn max_run(&self) -> usize {
        let raft = &self.options.raft;
        raft.max_pending_requests.min(raft.max_read_batch)
    }

    /// Reads, see [`RaftNode::read`].
    pub fn read(&mut self, query: impl Into<Query>, waiter: W) {
        let query = query.into();
        match &mut self.raft {
            Some(raft) if raft.level() < query.level() && raft.role() == Role::Leader => {
                let refusal = Refusal::not_applied(self.too_new(Some(query.level())));
                self.output.answers.push((waiter, Err(refusal)));
            }
            Some(raft) => raft.read(query, waiter),
            None => self.refuse(waiter),
        }
    }

    /// Renews a session, see [`RaftNode::keep_alive`].
    pub fn keep_alive(&mut self, client_id: ClientId, waiter: W) {
        let needed = ProtocolLevel::SECOND;
        match &mut self.raft {
            Some(raft) if raft.level() < needed && raft.role() == Role::Leader => {
                let refusal = Refusal::not_applied(self.too_new(Some(needed)));
                self.output.answers.push((waiter, Err(refusal)));
            }
            Some(raft) => raft.keep_alive(client_id, waiter),
            None => self.refuse(waiter),
        }
    }

    /// Proposes a step of the replicated clock if it is time, see [`RaftNode::advance_clock`].
    pub fn advance_clock(&mut self) {
        if self.claims.frozen_for(self.options.raft_id).is_none()
            && let Some(raft) = &mut self.raft
        {
            raft.advance_clock();
        }
    }

    /// Whether the replicated clock is to go on at once, see [`RaftNode::clock_goes_on`].
    pub fn clock_goes_on(&self) -> bool {
        self.claims.frozen_for(self.options.raft_id).is_none()
            && self.raft.as_ref().is_some_and(RaftNode::clock_goes_on)
    }

    fn refuse(&mut self, waiter: W) {
        let refusal = Refusal::not_applied(self.forming());
        self.output.answers.push((waiter, Err(refusal)));
    }

    pub(super) fn forming(&self) -> Reason {
        Reason::Forming {
            waiting_for: self.formation.waiting_for(),
        }
    }

    /// Begins a transfer of leadership, see [`RaftNode::transfer_leader`].
    ///
    /// # Errors
    ///
    /// The reason why this node cannot transfer leadership.
    pub fn transfer_leader(&mut self, to: Option<NodeId>) -> Result<NodeId, Refusal> {
        match &mut self.raft {
            Some(raft) => raft.transfer_leader(to),
            None => Err(Refusal::not_applied(self.forming())),
        }
    }

    /// Refuses the `inputs` that some member could not take.
    pub(super) fn refuse_what_some_cannot_take(&mut self, inputs: &mut Vec<Input<W>>) {
        let Some(raft) = self
            .raft
            .as_ref()
            .filter(|raft| raft.role() == Role::Leader)
        else {
            return;
        };
        let (level, least) = (raft.level(), self.agreed.least(raft.conf()));
        let why = |input: &Input<W>| match input {
            Input::Write(write) => match level_of(&write.command) {
                Some(it) if it <= level => least.refuses(&write.command),
                it => Some(self.too_new(it)),
            },
            Input::Read { query, .. } => {
                let needed = query.level();
                (needed > level).then(|| self.too_new(Some(needed)))
            }
        };
        let refused = inputs.extract_if(.., |input| why(input).is_some());
        let refused: Vec<_> = refused.map(|input| (why(&input), input)).collect();
        for (reason, input) in refused {
            let (Input::Write(Proposal { waiter, .. }) | Input::Read { waiter, .. }) = input;
            if let Some(reason) = reason {
                let refusal = Refusal::not_applied(reason);
                self.output.answers.push((waiter, Err(refusal)));
            }
        }
    }

    /// Raises the level of the cluster, whether or not all members speak it.
    #[cfg(test)]
    pub(in crate::node) fn force_level(&mut self, level: ProtocolLevel) {
        if let Some(raft) = &mut self.raft {
            raft.raise_level(level, crate::types::WallTime::FIRST);
        }
    }

    /// The refusal of a command of `level`, which is too new.
    fn too_new(&self, level: Option<ProtocolLevel>) -> Reason {
        let older = level.and_then(|level| self.reconciler.speaks_less(level));
        let rule = match (older, level) {
            (Some(node), _) => format!("node {node} runs an older version"),
            (None, Some(level)) => format!("the cluster does not speak protocol level {level} yet"),
            (None, None) => "the command is unknown".to_owned(),
        };
        Reason::FailedPrecondition { rule }
    }
}

/// The level of a command. `None` if this version does not know it.
fn level_of(command: &bytes::Bytes) -> Option<ProtocolLevel> {
    wire::level_of_command(command).ok()
}
