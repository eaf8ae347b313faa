//! The parts of what a node says of itself.

use super::{STATUS, raft_ids};
use crate::proto::raft::{Following as ProtoFollowing, SnapshotProgress as ProtoProgress};
use crate::types::{Following, RaftId, SnapshotId, SnapshotProgress};
use crate::wire::{MAX_INDEX, WireError};

impl From<Following> for ProtoFollowing {
    fn from(following: Following) -> Self {
        let Following {
            last_index,
            commit_index,
            acknowledged_by,
        } = following;
        Self {
            last_log_index: last_index,
            commit_index,
            acknowledged_by: acknowledged_by.into_iter().map(RaftId::get).collect(),
        }
    }
}

impl TryFrom<ProtoFollowing> for Following {
    type Error = WireError;

    fn try_from(following: ProtoFollowing) -> Result<Self, WireError> {
        let ProtoFollowing {
            last_log_index,
            commit_index,
            acknowledged_by,
        } = following;
        for (value, limit) in [(last_log_index, MAX_INDEX), (commit_index, last_log_index)] {
            STATUS.that(
                value <= limit,
                "following",
                format_args!("{value} is past {limit}"),
            )?;
        }
        Ok(Self {
            last_index: last_log_index,
            commit_index,
            acknowledged_by: raft_ids("following", acknowledged_by)?,
        })
    }
}

impl From<SnapshotProgress> for ProtoProgress {
    fn from(progress: SnapshotProgress) -> Self {
        let SnapshotProgress {
            received,
            total,
            id,
        } = progress;
        let SnapshotId {
            leader,
            term,
            index,
        } = id;
        Self {
            received_bytes: received,
            total_bytes: total,
            leader_id: leader,
            term,
            last_included_index: index,
        }
    }
}

impl From<ProtoProgress> for SnapshotProgress {
    fn from(progress: ProtoProgress) -> Self {
        let ProtoProgress {
            received_bytes,
            total_bytes,
            leader_id,
            term,
            last_included_index,
        } = progress;
        Self {
            received: received_bytes,
            total: total_bytes,
            id: SnapshotId {
                leader: leader_id,
                term,
                index: last_included_index,
            },
        }
    }
}
