//! Timing and bounds of the core, in ticks, entries and bytes.

use crate::types::{LogIndex, NodeLimits, ProtocolLevel, RaftId};

/// Timing and bounds of a [`RaftNode`](super::RaftNode). The shell fills them from its
/// configuration, which has checked them against one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RaftOptions {
    /// What the process speaks: what its version does, but for tests.
    pub level: ProtocolLevel,
    /// What the process says that it takes at most. As the core it takes anything.
    pub limits: NodeLimits,
    /// Ticks between two heartbeats: 1, as the heartbeat interval is the tick.
    pub heartbeat_ticks: usize,
    /// Shortest election timeout in ticks.
    pub election_min_ticks: usize,
    /// Longest election timeout in ticks.
    pub election_max_ticks: usize,
    /// Bytes of entries in one append message. A single larger entry goes alone.
    pub max_append_bytes: u64,
    /// Append messages to one follower that may be unanswered.
    pub max_inflight_appends: usize,
    /// Bytes of entries that may be in the log without being committed.
    pub max_uncommitted_bytes: usize,
    /// Memory in bytes that the state may take: a write that makes it grow further is refused.
    pub max_state_bytes: usize,
    /// Callers that may wait for an answer.
    pub max_pending_requests: usize,
    /// Reads that one leadership check may serve.
    pub max_read_batch: usize,
    /// Entries that the log may hold before it is cut.
    pub compact_after_entries: usize,
    /// Memory in bytes that the applied part of the log may take before it is cut.
    pub compact_after_bytes: usize,
    /// Entries that stay when the log is cut, unless they take more than half of
    /// `compact_after_bytes`.
    pub compact_keep_entries: usize,
}

/// What DESIGN calls the defaults: 1 tick = 100 ms.
impl Default for RaftOptions {
    fn default() -> Self {
        Self {
            level: ProtocolLevel::CURRENT,
            limits: NodeLimits::NONE,
            heartbeat_ticks: 1,
            election_min_ticks: 5,
            election_max_ticks: 10,
            max_append_bytes: 512 << 10,
            max_inflight_appends: 128,
            max_uncommitted_bytes: 64 << 20,
            max_state_bytes: 1 << 30,
            max_pending_requests: 65_536,
            max_read_batch: 4096,
            compact_after_entries: 10_000,
            compact_after_bytes: 64 << 20,
            compact_keep_entries: 1_000,
        }
    }
}

impl RaftOptions {
    /// What raft-rs needs to know. `check_quorum` and `pre_vote` are off by default in raft-rs, and
    /// its default message size means one entry a message.
    pub(super) fn raft_config(&self, raft_id: RaftId, applied: LogIndex) -> raft::Config {
        raft::Config {
            id: raft_id.get(),
            applied,
            heartbeat_tick: self.heartbeat_ticks,
            election_tick: self.election_min_ticks,
            min_election_tick: self.election_min_ticks,
            // raft-rs's bound is exclusive.
            max_election_tick: self.election_max_ticks.saturating_add(1),
            max_size_per_msg: self.max_append_bytes,
            max_inflight_msgs: self.max_inflight_appends,
            max_uncommitted_size: u64::try_from(self.max_uncommitted_bytes).unwrap_or(u64::MAX),
            max_committed_size_per_ready: self.max_append_bytes,
            check_quorum: true,
            pre_vote: true,
            read_only_option: raft::ReadOnlyOption::Safe,
            ..raft::Config::default()
        }
    }

    /// The election timeout that `draw` stands for: uniform over the allowed ticks.
    pub(super) fn election_timeout(&self, draw: u64) -> usize {
        let span = self
            .election_max_ticks
            .saturating_sub(self.election_min_ticks)
            .saturating_add(1);
        let offset = u64::try_from(span).map_or(0, |span| draw % span);
        self.election_min_ticks
            .saturating_add(usize::try_from(offset).unwrap_or(0))
    }
}
