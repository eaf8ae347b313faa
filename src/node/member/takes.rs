//! What every member can take: a leader puts nothing else into the log.

use super::Member;
use crate::error::{Reason, Refusal};
use crate::node::{Input, RaftNode};
use crate::types::ProtocolLevel;
use crate::wire;

impl<W> Member<W> {
    /// Refuses those of `inputs` that some member could not take.
    pub(super) fn refuse_what_some_cannot_take(&mut self, inputs: &mut Vec<Input<W>>) {
        let Some(level) = self.raft.as_ref().map(RaftNode::level) else {
            return;
        };
        let refused = |input: &mut Input<W>| match input {
            Input::Write(write) => level_of(&write.command).is_none_or(|it| it > level),
            Input::Read { .. } => false,
        };
        for input in inputs.extract_if(.., refused) {
            let Input::Write(write) = input else { continue };
            let reason = self.too_new(level_of(&write.command));
            let refusal = Refusal::not_applied(reason);
            self.output.answers.push((write.waiter, Err(refusal)));
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
