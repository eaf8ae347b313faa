//! The parts of a node's status.

use super::{STATUS, raft_ids};
use crate::proto::raft::{
    Answering as ProtoAnswering, Following as ProtoFollowing, MissedMember, Reach as ProtoReach,
    SnapshotProgress as ProtoProgress,
};
use crate::types::{
    Answering, Following, Missed, NodeId, RaftId, Reach, SnapshotId, SnapshotProgress,
};
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

impl From<Reach> for ProtoReach {
    fn from(reach: Reach) -> Self {
        let Reach {
            as_of,
            reached,
            missed,
        } = reach;
        Self {
            as_of_index: as_of,
            reached: reached.into_iter().map(RaftId::get).collect(),
            missed: missed.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<ProtoReach> for Reach {
    type Error = WireError;

    fn try_from(reach: ProtoReach) -> Result<Self, WireError> {
        let ProtoReach {
            as_of_index,
            reached,
            missed,
        } = reach;
        STATUS.that(
            as_of_index <= MAX_INDEX,
            "reach",
            format_args!("{as_of_index} is past {MAX_INDEX}"),
        )?;
        let missed = missed.into_iter().map(Missed::try_from);
        Ok(Self {
            as_of: as_of_index,
            reached: raft_ids("reach", reached)?,
            missed: missed.collect::<Result<_, _>>()?,
        })
    }
}

impl From<Missed> for MissedMember {
    fn from(missed: Missed) -> Self {
        let Missed {
            node,
            answering,
            asks,
        } = missed;
        let (answering, other) = match answering {
            Answering::Silent => (ProtoAnswering::Unspecified, 0),
            Answering::Hung => (ProtoAnswering::Hung, 0),
            Answering::Refusing => (ProtoAnswering::Refusing, 0),
            Answering::NotGrpc => (ProtoAnswering::NotGrpc, 0),
            Answering::ClientPort => (ProtoAnswering::ClientPort, 0),
            Answering::OtherService => (ProtoAnswering::OtherService, 0),
            Answering::OtherNode(other) => (ProtoAnswering::OtherNode, other.into()),
        };
        Self {
            node_id: node.into(),
            answering: answering.into(),
            other_node_id: other,
            asks,
        }
    }
}

impl TryFrom<MissedMember> for Missed {
    type Error = WireError;

    fn try_from(missed: MissedMember) -> Result<Self, WireError> {
        let MissedMember {
            node_id,
            answering,
            other_node_id,
            asks,
        } = missed;
        let node = |id| {
            let fault = |error| WireError::new(STATUS.0, "reach", format!("{error}"));
            NodeId::try_from(id).map_err(fault)
        };
        let answering = match ProtoAnswering::try_from(answering) {
            Ok(ProtoAnswering::Unspecified) | Err(_) => Answering::Silent,
            Ok(ProtoAnswering::Hung) => Answering::Hung,
            Ok(ProtoAnswering::Refusing) => Answering::Refusing,
            Ok(ProtoAnswering::NotGrpc) => Answering::NotGrpc,
            Ok(ProtoAnswering::ClientPort) => Answering::ClientPort,
            Ok(ProtoAnswering::OtherService) => Answering::OtherService,
            Ok(ProtoAnswering::OtherNode) => Answering::OtherNode(node(other_node_id)?),
        };
        Ok(Self {
            node: node(node_id)?,
            answering,
            asks,
        })
    }
}
