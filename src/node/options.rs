//! Timing and bounds of the core, in ticks, entries and bytes.

use crate::types::{LogIndex, NodeLimits, ProtocolLevel, RaftId};
use crate::watch::WatchBounds;

/// Timing and bounds of a [`RaftNode`](super::RaftNode). The shell fills them from its configuration,
/// which has checked that they are consistent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RaftOptions {
    /// The level that the process speaks: that of its version, except in tests.
    pub level: ProtocolLevel,
    /// The limits that the process reports. The core itself accepts any size.
    pub limits: NodeLimits,
    /// Ticks between two heartbeats: 1, because the heartbeat interval is the tick.
    pub heartbeat_ticks: usize,
    /// Shortest election timeout in ticks.
    pub election_min_ticks: usize,
    /// Exclusive bound of the election timeout in ticks: every timeout is shorter, as in the
    /// configuration and in raft-rs.
    pub election_max_ticks: usize,
    /// Maximum bytes of entries in one append message. A single larger entry is sent alone.
    pub max_append_bytes: u64,
    /// Maximum number of unacknowledged append messages to one follower.
    pub max_inflight_appends: usize,
    /// Maximum bytes of uncommitted entries in the log.
    pub max_uncommitted_bytes: usize,
    /// Maximum memory of the state in bytes. A write that needs more is refused.
    pub max_state_bytes: usize,
    /// Maximum number of callers that wait for an answer.
    pub max_pending_requests: usize,
    /// Maximum number of reads in one leadership check.
    pub max_read_batch: usize,
    /// Number of entries above which the log is compacted.
    pub compact_after_entries: usize,
    /// Memory of the applied part of the log in bytes above which it is compacted.
    pub compact_after_bytes: usize,
    /// Number of entries that a compaction keeps, unless they take more than half of
    /// `compact_after_bytes`.
    pub compact_keep_entries: usize,
    /// Bounds of the watches.
    pub watch: WatchBounds,
}

/// The values of the default configuration, for callers that run the core without one. The limits of a
/// process are not known here, and the default memory bound of the state depends on the machine.
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
            max_pending_requests: 4_096,
            max_read_batch: 4096,
            compact_after_entries: 10_000,
            compact_after_bytes: 64 << 20,
            compact_keep_entries: 1_000,
            watch: WatchBounds::default(),
        }
    }
}

impl RaftOptions {
    /// The configuration of raft-rs. `check_quorum` and `pre_vote` are off by default in raft-rs, and its
    /// default message size means one entry a message.
    pub(super) fn raft_config(&self, raft_id: RaftId, applied: LogIndex) -> raft::Config {
        raft::Config {
            id: raft_id.get(),
            applied,
            heartbeat_tick: self.heartbeat_ticks,
            election_tick: self.election_min_ticks,
            min_election_tick: self.election_min_ticks,
            max_election_tick: self.election_max_ticks,
            max_size_per_msg: self.max_append_bytes,
            max_inflight_msgs: self.max_inflight_appends,
            max_uncommitted_size: u64::try_from(self.max_uncommitted_bytes).unwrap_or(u64::MAX),
            max_committed_size_per_ready: self.max_append_bytes,
            check_quorum: true,
            pre_vote: true,
            // The lease of a leader whose clock has stalled may have ended.
            read_only_option: raft::ReadOnlyOption::Safe,
            // It is enough that a follower learns of a commit with the next append or heartbeat, because the
            // leader answers the clients; except a follower with watches, see `watching.rs`.
            skip_bcast_commit: true,
            // raft-rs puts entries into a waiting empty append without a check of its index.
            batch_append: false,
            // A priority would veto candidates with equal logs.
            priority: 0,
        }
    }

    /// The election timeout for `draw`: uniform over the allowed ticks.
    pub(super) fn election_timeout(&self, draw: u64) -> usize {
        let span = self
            .election_max_ticks
            .saturating_sub(self.election_min_ticks);
        let offset = draw.checked_rem(u64::try_from(span).unwrap_or(u64::MAX));
        let offset = usize::try_from(offset.unwrap_or(0)).unwrap_or(0);
        self.election_min_ticks.saturating_add(offset)
    }

    /// The longest possible election timeout.
    pub(super) fn longest_election_timeout(&self) -> usize {
        let longest = self.election_max_ticks.saturating_sub(1);
        longest.max(self.election_min_ticks)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::types::NodeId;

    #[test]
    fn raft_rs_is_told_everything() {
        let options = RaftOptions {
            heartbeat_ticks: 2,
            election_min_ticks: 6,
            election_max_ticks: 11,
            max_append_bytes: 7_000,
            max_inflight_appends: 8,
            max_uncommitted_bytes: 9_000,
            ..RaftOptions::default()
        };
        let raft_id = RaftId::new(NodeId::new(3).expect("a node id"), 5);
        let raft::Config {
            id,
            election_tick,
            heartbeat_tick,
            applied,
            max_size_per_msg,
            max_inflight_msgs,
            check_quorum,
            pre_vote,
            min_election_tick,
            max_election_tick,
            read_only_option,
            skip_bcast_commit,
            batch_append,
            priority,
            max_uncommitted_size,
            max_committed_size_per_ready,
        } = options.raft_config(raft_id, 4);
        assert_eq!((id, applied), (raft_id.get(), 4));
        assert_eq!((heartbeat_tick, election_tick), (2, 6));
        assert_eq!((min_election_tick, max_election_tick), (6, 11));
        assert_eq!((max_size_per_msg, max_inflight_msgs), (7_000, 8));
        assert_eq!(max_uncommitted_size, 9_000);
        assert_eq!(max_committed_size_per_ready, 7_000);
        assert!(check_quorum && pre_vote && skip_bcast_commit);
        assert_eq!(read_only_option, raft::ReadOnlyOption::Safe);
        assert!(!batch_append);
        assert_eq!(priority, 0);
    }

    #[test]
    fn election_timeouts_are_all_that_raft_rs_allows() {
        let options = RaftOptions::default();
        let drawn: BTreeSet<_> = (0..100)
            .map(|draw| options.election_timeout(draw))
            .collect();
        assert_eq!(drawn, BTreeSet::from([5, 6, 7, 8, 9]));
        assert_eq!(options.longest_election_timeout(), 9);
        let raft_id = RaftId::new(NodeId::new(3).expect("a node id"), 5);
        assert!(options.raft_config(raft_id, 0).validate().is_ok());
    }
}
