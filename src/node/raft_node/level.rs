//! The protocol level of the cluster, how it is raised, and the entries that this process can read.

use bytes::Bytes;
use raft::StateRole;
use raft::eraftpb::{Entry, EntryType, Message};

use super::RaftNode;
use crate::kv::Command;
use crate::node::{Event, StepError};
use crate::types::{LogIndex, ProtocolLevel, RaftId, Term, WallTime};
use crate::wire;

/// An entry from a leader that this process cannot read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unreadable {
    term: Term,
    index: LogIndex,
}

impl<W> RaftNode<W> {
    /// The protocol level of the cluster, as this process has applied it.
    pub fn level(&self) -> ProtocolLevel {
        self.raw.store().state_machine().level()
    }

    /// Proposes that the cluster speaks `level` from now on. Until that is applied, or lost with the
    /// leadership, [`members`](Self::members) allows no other changes: a process to be added has to speak
    /// the level of the cluster.
    ///
    /// Revisions begin at `time`, if the cluster has none yet.
    pub(in crate::node) fn raise_level(&mut self, level: ProtocolLevel, time: WallTime) {
        let revision = match self.level() {
            ProtocolLevel::FIRST => time.micros(),
            _ => 0,
        };
        let entry = Entry {
            data: wire::encode_command(&Command::RaiseLevel { level, revision }),
            ..Entry::default()
        };
        if self.put_into_log(vec![entry], Vec::new()) {
            self.raise_at = self.last_index();
        }
        self.settle();
    }

    /// Sets the maximum of bytes of entries in one append.
    pub(in crate::node) fn bound_appends(&mut self, bytes: u64) {
        self.raw.raft.max_msg_size = bytes;
    }

    /// Whether the level is being raised.
    pub(super) fn is_raising(&self) -> bool {
        self.raise_at > self.raw.store().applied()
    }

    /// Accepts an append that this process can read. Otherwise the log ends before it: a node that stopped
    /// would take its state along, and a node that went on would apply something else than the others.
    pub(super) fn check_readable(
        &mut self,
        from: RaftId,
        message: &Message,
    ) -> Result<(), StepError> {
        for entry in &message.entries {
            if entry.get_entry_type() != EntryType::EntryNormal || entry.data.is_empty() {
                continue;
            }
            let Err(reason) = self.decode(entry.data.clone()) else {
                continue;
            };
            let (term, index) = (message.term, entry.index);
            let unreadable = Some(Unreadable { term, index });
            if term >= self.term() && self.unreadable != unreadable {
                self.unreadable = unreadable;
                let reason = reason.clone();
                let unreadable = Event::Unreadable {
                    from,
                    index,
                    reason,
                };
                self.output.events.push(unreadable);
            }
            return Err(StepError::Unreadable {
                from,
                index,
                reason,
            });
        }
        Ok(())
    }

    /// Notes that the entries `first` to `last` of the leader can be read, and have been taken as far as
    /// the log reaches: an unreadable one among them has been replaced.
    pub(super) fn has_read(&mut self, (first, last): (LogIndex, LogIndex)) {
        let taken = first..=last.min(self.last_index());
        let read = |it: &mut Unreadable| taken.contains(&it.index);
        self.unreadable.take_if(read);
    }

    /// The entry of the current leader that this process cannot read.
    pub(in crate::node) fn unreadable(&self) -> Option<LogIndex> {
        let unreadable = self.unreadable?;
        let follows = self.raw.raft.state == StateRole::Follower;
        let present = unreadable.term == self.term() && unreadable.index > self.commit_index();
        (follows && present).then_some(unreadable.index)
    }

    /// The command in the data of an entry.
    ///
    /// # Errors
    ///
    /// As text, if this process does not know all of it.
    pub(super) fn decode(&self, data: Bytes) -> Result<Command, String> {
        let command = wire::decode_command(data).map_err(|error| error.to_string())?;
        let (level, speaks) = (command.level(), self.options.level);
        if level > speaks {
            return Err(format!(
                "it is of protocol level {level}, and this version speaks {speaks}"
            ));
        }
        Ok(command)
    }
}
