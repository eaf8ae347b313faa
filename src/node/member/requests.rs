//! What clients and operators ask of a process. A leader puts nothing into the log that some member
//! could not take.

use super::Member;
use crate::error::{Reason, Refusal};
use crate::node::{Input, Proposal, RaftNode, Room};
use crate::types::{Key, NodeId, ProtocolLevel, Role};
use crate::wire;

impl<W> Member<W> {
    /// Puts commands into the log; see [`RaftNode::propose`].
    pub fn propose(&mut self, proposals: Vec<Proposal<W>>) {
        self.submit(proposals.into_iter().map(Input::Write).collect());
    }

    /// Writes, and reads among them; see [`RaftNode::submit`]. Writes that not every member could take
    /// are refused.
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

    /// How much more may be asked now; see [`RaftNode::room`]. Before the process takes part in a
    /// cluster it refuses everything at once.
    pub fn room(&self) -> Room {
        self.raft.as_ref().map_or(Room::UNLIMITED, RaftNode::room)
    }

    /// How many requests may wait for their outcome at once.
    pub fn max_inflight(&self) -> usize {
        self.options.raft.max_pending_requests
    }

    /// Reads a key; see [`RaftNode::read`].
    pub fn read(&mut self, key: Key, waiter: W) {
        match &mut self.raft {
            Some(raft) => raft.read(key, waiter),
            None => self.refuse(waiter),
        }
    }

    fn refuse(&mut self, waiter: W) {
        let refusal = Refusal::not_applied(self.forming());
        self.output.answers.push((waiter, Err(refusal)));
    }

    fn forming(&self) -> Reason {
        Reason::Forming {
            waiting_for: self.formation.waiting_for(),
        }
    }

    /// Begins to hand leadership over; see [`RaftNode::transfer_leader`].
    ///
    /// # Errors
    ///
    /// Why this node cannot hand over.
    pub fn transfer_leader(&mut self, to: Option<NodeId>) -> Result<NodeId, Refusal> {
        match &mut self.raft {
            Some(raft) => raft.transfer_leader(to),
            None => Err(Refusal::not_applied(self.forming())),
        }
    }

    /// Refuses those of `inputs` that some member could not take.
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
            Input::Read { .. } => None,
        };
        let refused = inputs.extract_if(.., |input| why(input).is_some());
        let refused: Vec<_> = refused.map(|input| (why(&input), input)).collect();
        for (reason, input) in refused {
            if let (Some(reason), Input::Write(write)) = (reason, input) {
                let refusal = Refusal::not_applied(reason);
                self.output.answers.push((write.waiter, Err(refusal)));
            }
        }
    }

    /// Raises the level of the cluster, whoever may not speak that.
    #[cfg(test)]
    pub(in crate::node) fn force_level(&mut self, level: ProtocolLevel) {
        if let Some(raft) = &mut self.raft {
            raft.raise_level(level);
        }
    }

    /// Why what is of `level` is not put into the log.
    fn too_new(&self, level: Option<ProtocolLevel>) -> Reason {
        let older = level.and_then(|level| self.reconciler.speaks_less(level));
        let rule = match (older, level) {
            (Some(node), _) => format!("node {node} runs an older version"),
            (None, Some(level)) => format!("the cluster does not speak protocol level {level} yet"),
            (None, None) => "nobody knows such a command".to_owned(),
        };
        Reason::FailedPrecondition { rule }
    }
}

/// What a command is of; `None` if this version does not know it.
fn level_of(command: &bytes::Bytes) -> Option<ProtocolLevel> {
    wire::level_of_command(command).ok()
}
