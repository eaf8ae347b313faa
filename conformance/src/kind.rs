//! The kind of a message of raft-rs.

use std::collections::BTreeMap;
use std::fmt;

use raft::CAMPAIGN_TRANSFER;
use raft::eraftpb::{Entry, EntryType, Message, MessageType};

/// A kind of message that a raft-rs node emits: finer than `MessageType`, because one type is
/// filled in differently on different occasions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Kind {
    PreVote,
    PreVoteGranted,
    PreVoteRefused,
    /// The candidate's term is over: the refusal does not name the voter's commit.
    PreVoteOfStaleTermRefused,
    Vote,
    /// The leader asked the candidate to take over.
    VoteOfTransfer,
    VoteGranted,
    VoteRefused,
    /// An append without entries.
    Probe,
    /// An append that holds the empty entry with which a leader begins.
    AppendOfFirstEntry,
    AppendOfCommands,
    AppendOfConfChange,
    Appended,
    AppendRefused,
    /// A follower asks for a snapshot in place of an answer.
    SnapshotWanted,
    /// A stale leader learns of the newer term.
    StaleLeader,
    Heartbeat,
    /// A heartbeat that confirms leadership for reads.
    HeartbeatForReads,
    HeartbeatAnswered,
    HeartbeatForReadsAnswered,
    Snapshot,
    SnapshotWithLearners,
    TimeoutNow,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 23] = [
        Self::PreVote,
        Self::PreVoteGranted,
        Self::PreVoteRefused,
        Self::PreVoteOfStaleTermRefused,
        Self::Vote,
        Self::VoteOfTransfer,
        Self::VoteGranted,
        Self::VoteRefused,
        Self::Probe,
        Self::AppendOfFirstEntry,
        Self::AppendOfCommands,
        Self::AppendOfConfChange,
        Self::Appended,
        Self::AppendRefused,
        Self::SnapshotWanted,
        Self::StaleLeader,
        Self::Heartbeat,
        Self::HeartbeatForReads,
        Self::HeartbeatAnswered,
        Self::HeartbeatForReadsAnswered,
        Self::Snapshot,
        Self::SnapshotWithLearners,
        Self::TimeoutNow,
    ];

    /// The kind of `message`, or `None` if no node sends such a message to another.
    pub fn of(message: &Message) -> Option<Self> {
        Some(match message.msg_type {
            MessageType::MsgRequestPreVote => Self::PreVote,
            MessageType::MsgRequestPreVoteResponse => match (message.reject, message.commit) {
                (false, _) => Self::PreVoteGranted,
                (true, 0) => Self::PreVoteOfStaleTermRefused,
                (true, _) => Self::PreVoteRefused,
            },
            MessageType::MsgRequestVote if message.context == CAMPAIGN_TRANSFER => {
                Self::VoteOfTransfer
            }
            MessageType::MsgRequestVote => Self::Vote,
            MessageType::MsgRequestVoteResponse if message.reject => Self::VoteRefused,
            MessageType::MsgRequestVoteResponse => Self::VoteGranted,
            // Of several entries the rarest kind counts: they are in ascending order.
            MessageType::MsgAppend => message
                .entries
                .iter()
                .map(Self::of_append)
                .max()
                .unwrap_or(Self::Probe),
            MessageType::MsgAppendResponse => match message {
                Message {
                    request_snapshot: 1..,
                    ..
                } => Self::SnapshotWanted,
                Message { reject: true, .. } => Self::AppendRefused,
                Message { index: 0, .. } => Self::StaleLeader,
                _ => Self::Appended,
            },
            MessageType::MsgHeartbeat if message.context.is_empty() => Self::Heartbeat,
            MessageType::MsgHeartbeat => Self::HeartbeatForReads,
            MessageType::MsgHeartbeatResponse if message.context.is_empty() => {
                Self::HeartbeatAnswered
            }
            MessageType::MsgHeartbeatResponse => Self::HeartbeatForReadsAnswered,
            MessageType::MsgSnapshot => {
                let members = message.get_snapshot().get_metadata().get_conf_state();
                if !members.learners.is_empty() {
                    Self::SnapshotWithLearners
                } else {
                    Self::Snapshot
                }
            }
            MessageType::MsgTimeoutNow => Self::TimeoutNow,
            _ => return None,
        })
    }

    /// The kind of an append that holds just `entry`.
    pub fn of_append(entry: &Entry) -> Self {
        match entry.entry_type {
            EntryType::EntryNormal if entry.data.is_empty() => Self::AppendOfFirstEntry,
            EntryType::EntryNormal => Self::AppendOfCommands,
            EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => Self::AppendOfConfChange,
        }
    }
}

/// How often each kind occurred. Displayed as a table.
#[derive(Debug, Clone, Default)]
pub struct Census(BTreeMap<Kind, usize>);

impl Census {
    /// Counts one message.
    pub fn count(&mut self, kind: Kind) {
        *self.0.entry(kind).or_default() += 1;
    }

    /// Adds what another census counted.
    pub fn merge(&mut self, other: &Self) {
        for (kind, count) in &other.0 {
            *self.0.entry(*kind).or_default() += count;
        }
    }

    /// How often `kind` occurred.
    pub fn of(&self, kind: Kind) -> usize {
        self.0.get(&kind).copied().unwrap_or_default()
    }

    /// The kinds that did not occur.
    pub fn missing(&self) -> Vec<Kind> {
        let mut kinds = Kind::ALL.to_vec();
        kinds.retain(|kind| !self.0.contains_key(kind));
        kinds
    }
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: usize = self.0.values().sum();
        for kind in Kind::ALL {
            writeln!(f, "{:>10} {kind:?}", self.of(kind))?;
        }
        writeln!(f, "{total:>10} messages")
    }
}
