//! Heartbeats (paper, section 5.2; for reads: dissertation, section 6.4) and `TimeoutNow`, the order to
//! campaign (dissertation, section 3.10).

use std::mem;

use raft::eraftpb::{Message, MessageType};

use crate::proto::raft::{HeartbeatRequest, HeartbeatResponse, TimeoutNowRequest};
use crate::types::ClusterId;
use crate::wire::WireError;
use crate::wire::check::Check;

pub(super) const REQUEST: Check = Check("HeartbeatRequest");
pub(super) const RESPONSE: Check = Check("HeartbeatResponse");
pub(super) const TIMEOUT_NOW: Check = Check("TimeoutNowRequest");

/// The output of `RaftCore::send_heartbeat`.
pub(super) fn request_from_raft(message: &mut Message, cluster_id: ClusterId) -> HeartbeatRequest {
    HeartbeatRequest {
        term: mem::take(&mut message.term),
        leader_id: mem::take(&mut message.from),
        leader_commit: mem::take(&mut message.commit),
        read_context: mem::take(&mut message.context),
        cluster_id: cluster_id.0,
        to: mem::take(&mut message.to),
    }
}

/// The input of `Raft::handle_heartbeat`. It panics if the commit is past the log, which only the node
/// can check.
pub(super) fn request_into_raft(request: HeartbeatRequest) -> Result<Message, WireError> {
    let HeartbeatRequest {
        term,
        leader_id,
        leader_commit,
        read_context,
        cluster_id: _,
        to,
    } = request;
    REQUEST.index("leader_commit", leader_commit)?;
    Ok(Message {
        msg_type: MessageType::MsgHeartbeat,
        to,
        from: leader_id,
        term,
        commit: leader_commit,
        context: read_context,
        ..Message::default()
    })
}

/// The output of `Raft::handle_heartbeat`.
pub(super) fn response_from_raft(
    message: &mut Message,
    cluster_id: ClusterId,
) -> HeartbeatResponse {
    HeartbeatResponse {
        term: mem::take(&mut message.term),
        follower_id: mem::take(&mut message.from),
        commit_index: mem::take(&mut message.commit),
        read_context: mem::take(&mut message.context),
        cluster_id: cluster_id.0,
        to: mem::take(&mut message.to),
        // raft-rs does not know of it: the node sets it, and reads it.
        watched: false,
    }
}

/// The input of `Raft::handle_heartbeat_response`.
pub(super) fn response_into_raft(response: HeartbeatResponse) -> Result<Message, WireError> {
    let HeartbeatResponse {
        term,
        follower_id,
        commit_index,
        read_context,
        cluster_id: _,
        to,
        watched: _,
    } = response;
    RESPONSE.index("commit_index", commit_index)?;
    Ok(Message {
        msg_type: MessageType::MsgHeartbeatResponse,
        to,
        from: follower_id,
        term,
        commit: commit_index,
        context: read_context,
        ..Message::default()
    })
}

/// The output of `Raft::send_timeout_now`.
pub(super) fn timeout_now_from_raft(
    message: &mut Message,
    cluster_id: ClusterId,
) -> TimeoutNowRequest {
    TimeoutNowRequest {
        term: mem::take(&mut message.term),
        leader_id: mem::take(&mut message.from),
        cluster_id: cluster_id.0,
        to: mem::take(&mut message.to),
    }
}

/// The input of `Raft::step_follower`, which makes it campaign. It is only an envelope.
pub(super) fn timeout_now_into_raft(request: TimeoutNowRequest) -> Message {
    let TimeoutNowRequest {
        term,
        leader_id,
        cluster_id: _,
        to,
    } = request;
    Message {
        msg_type: MessageType::MsgTimeoutNow,
        to,
        from: leader_id,
        term,
        ..Message::default()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::wire::{MAX_INDEX, PeerMessage};

    const CLUSTER: ClusterId = ClusterId(0xC0FFEE);

    #[test]
    fn a_round_for_reads_carries_its_context_there_and_back() {
        for msg_type in [MessageType::MsgHeartbeat, MessageType::MsgHeartbeatResponse] {
            let message = Message {
                msg_type,
                from: 1 << 48,
                to: 2 << 48,
                term: 7,
                commit: 40,
                context: Bytes::from_static(b"reads 17"),
                ..Message::default()
            };
            let typed = PeerMessage::from_raft(message.clone(), CLUSTER).unwrap();
            assert_eq!(typed.into_raft().unwrap(), message);
        }
    }

    #[test]
    fn a_heartbeat_with_an_index_has_no_typed_form() {
        let message = Message {
            msg_type: MessageType::MsgHeartbeat,
            index: 3,
            ..Message::default()
        };
        let error = PeerMessage::from_raft(message, CLUSTER).unwrap_err();
        assert_eq!((error.message, error.field), ("eraftpb.Message", "index"));
    }

    #[test]
    fn a_commit_that_raft_rs_cannot_compute_with_is_refused() {
        let request = HeartbeatRequest {
            leader_commit: MAX_INDEX + 1,
            ..HeartbeatRequest::default()
        };
        assert_eq!(
            request_into_raft(request).unwrap_err().field,
            "leader_commit"
        );
        let response = HeartbeatResponse {
            commit_index: MAX_INDEX + 1,
            ..HeartbeatResponse::default()
        };
        assert_eq!(
            response_into_raft(response).unwrap_err().field,
            "commit_index"
        );
    }
}
