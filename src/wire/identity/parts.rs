//! The parts of what a node says of itself.

use super::{STATUS, raft_ids};
use crate::proto::raft::{
    Following as ProtoFollowing, NodeLimits as ProtoLimits, SnapshotProgress as ProtoProgress,
};
use crate::types::{Following, NodeLimits, RaftId, SnapshotProgress};
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

impl From<NodeLimits> for ProtoLimits {
    fn from(limits: NodeLimits) -> Self {
        let NodeLimits {
            key,
            value,
            append,
            message,
        } = limits;
        Self {
            max_key_bytes: key,
            max_value_bytes: value,
            max_append_bytes: append,
            max_message_bytes: message,
        }
    }
}

impl From<ProtoLimits> for NodeLimits {
    fn from(limits: ProtoLimits) -> Self {
        let ProtoLimits {
            max_key_bytes,
            max_value_bytes,
            max_append_bytes,
            max_message_bytes,
        } = limits;
        Self {
            key: max_key_bytes,
            value: max_value_bytes,
            append: max_append_bytes,
            message: max_message_bytes,
        }
    }
}

impl From<SnapshotProgress> for ProtoProgress {
    fn from(progress: SnapshotProgress) -> Self {
        let SnapshotProgress { received, total } = progress;
        Self {
            received_bytes: received,
            total_bytes: total,
        }
    }
}

impl From<ProtoProgress> for SnapshotProgress {
    fn from(progress: ProtoProgress) -> Self {
        let ProtoProgress {
            received_bytes,
            total_bytes,
        } = progress;
        Self {
            received: received_bytes,
            total: total_bytes,
        }
    }
}
