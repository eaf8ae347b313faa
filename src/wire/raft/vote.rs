//! Votes and pre-votes (paper, section 5.2; dissertation, section 9.6).

use std::mem;

use bytes::Bytes;
use raft::CAMPAIGN_TRANSFER;
use raft::eraftpb::{Message, MessageType};

use super::not_carried;
use crate::proto::raft::{CampaignKind, RequestVoteRequest, RequestVoteResponse};
use crate::types::ClusterId;
use crate::wire::WireError;
use crate::wire::check::Check;

pub(super) const REQUEST: Check = Check("RequestVoteRequest");
pub(super) const RESPONSE: Check = Check("RequestVoteResponse");

/// The output of `Raft::campaign`.
pub(super) fn request_from_raft(
    message: &mut Message,
    cluster_id: ClusterId,
    pre_vote: bool,
) -> Result<RequestVoteRequest, WireError> {
    let campaign = match mem::take(&mut message.context) {
        context if context.is_empty() => CampaignKind::Election,
        context if context == CAMPAIGN_TRANSFER => CampaignKind::Transfer,
        context => {
            let reason = format!("unknown kind of campaign {context:?}");
            return Err(not_carried("context", reason));
        }
    };
    // `RaftCore::send` sets both from the same number.
    let priority = mem::take(&mut message.priority);
    if mem::take(&mut message.deprecated_priority) != deprecated_priority(priority) {
        let reason = format!("is not what priority {priority} makes it");
        return Err(not_carried("deprecated_priority", reason));
    }
    Ok(RequestVoteRequest {
        term: mem::take(&mut message.term),
        candidate_id: mem::take(&mut message.from),
        last_log_index: mem::take(&mut message.index),
        last_log_term: mem::take(&mut message.log_term),
        pre_vote,
        commit_index: mem::take(&mut message.commit),
        commit_term: mem::take(&mut message.commit_term),
        priority,
        campaign: campaign.into(),
        cluster_id: cluster_id.0,
        to: mem::take(&mut message.to),
    })
}

/// The input of `Raft::step` for a vote request.
pub(super) fn request_into_raft(request: RequestVoteRequest) -> Result<Message, WireError> {
    let RequestVoteRequest {
        term,
        candidate_id,
        last_log_index,
        last_log_term,
        pre_vote,
        commit_index,
        commit_term,
        priority,
        campaign,
        cluster_id: _,
        to,
    } = request;
    let last = ("last_log_index", last_log_index);
    REQUEST.log_position(last, ("last_log_term", last_log_term), term)?;
    let committed = ("commit_index", commit_index);
    REQUEST.log_position(committed, ("commit_term", commit_term), last_log_term)?;
    REQUEST.that(
        commit_index <= last_log_index,
        "commit_index",
        format_args!("{commit_index} is past the candidate's last entry {last_log_index}"),
    )?;
    let context = match CampaignKind::try_from(campaign) {
        Ok(CampaignKind::Election) => Bytes::new(),
        // A transfer skips the pre-vote (`Raft::step_follower`, MsgTimeoutNow).
        Ok(CampaignKind::Transfer) if !pre_vote => Bytes::from_static(CAMPAIGN_TRANSFER),
        Ok(CampaignKind::Transfer) => {
            let reason = "a transfer of leadership asks for no pre-vote";
            return Err(WireError::new(REQUEST.0, "campaign", reason));
        }
        Ok(CampaignKind::Unspecified) | Err(_) => {
            let reason = format!("unknown kind of campaign {campaign}");
            return Err(WireError::new(REQUEST.0, "campaign", reason));
        }
    };
    Ok(Message {
        msg_type: if pre_vote {
            MessageType::MsgRequestPreVote
        } else {
            MessageType::MsgRequestVote
        },
        to,
        from: candidate_id,
        term,
        log_term: last_log_term,
        index: last_log_index,
        commit: commit_index,
        commit_term,
        context,
        deprecated_priority: deprecated_priority(priority),
        priority,
        ..Message::default()
    })
}

/// The output of `Raft::step` for a vote request. Only a refusal includes the voter's commit position.
pub(super) fn response_from_raft(
    message: &mut Message,
    cluster_id: ClusterId,
    pre_vote: bool,
) -> RequestVoteResponse {
    RequestVoteResponse {
        term: mem::take(&mut message.term),
        vote_granted: !mem::take(&mut message.reject),
        pre_vote,
        voter_id: mem::take(&mut message.from),
        commit_index: mem::take(&mut message.commit),
        commit_term: mem::take(&mut message.commit_term),
        cluster_id: cluster_id.0,
        to: mem::take(&mut message.to),
    }
}

/// The input of `Raft::step_candidate`.
pub(super) fn response_into_raft(response: RequestVoteResponse) -> Result<Message, WireError> {
    let RequestVoteResponse {
        term,
        vote_granted,
        pre_vote,
        voter_id,
        commit_index,
        commit_term,
        cluster_id: _,
        to,
    } = response;
    let committed = ("commit_index", commit_index);
    RESPONSE.log_position(committed, ("commit_term", commit_term), term)?;
    RESPONSE.that(
        !vote_granted || commit_index == 0,
        "commit_index",
        format_args!("{commit_index} goes with a granted vote"),
    )?;
    Ok(Message {
        msg_type: if pre_vote {
            MessageType::MsgRequestPreVoteResponse
        } else {
            MessageType::MsgRequestVoteResponse
        },
        to,
        from: voter_id,
        term,
        commit: commit_index,
        commit_term,
        reject: !vote_granted,
        ..Message::default()
    })
}

/// The form in which raft-rs repeats a priority for peers that predate `priority` (`RaftCore::send`).
fn deprecated_priority(priority: i64) -> u64 {
    u64::try_from(priority).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::PeerMessage;
    use crate::wire::{MAX_INDEX, MAX_TERM};

    const CLUSTER: ClusterId = ClusterId(0xC0FFEE);

    fn campaign() -> Message {
        Message {
            msg_type: MessageType::MsgRequestVote,
            from: 1 << 48,
            to: 2 << 48,
            term: 9,
            log_term: 8,
            index: 100,
            commit: 90,
            commit_term: 7,
            context: Bytes::from_static(CAMPAIGN_TRANSFER),
            deprecated_priority: 3,
            priority: 3,
            ..Message::default()
        }
    }

    fn typed() -> RequestVoteRequest {
        match PeerMessage::from_raft(campaign(), CLUSTER).unwrap() {
            PeerMessage::RequestVote(request) => request,
            other => panic!("{other:?}"),
        }
    }

    fn refusal() -> RequestVoteResponse {
        RequestVoteResponse {
            term: 9,
            vote_granted: false,
            pre_vote: true,
            voter_id: 2 << 48,
            commit_index: 90,
            commit_term: 7,
            cluster_id: CLUSTER.0,
            to: 1 << 48,
        }
    }

    #[test]
    fn a_campaign_to_take_over_carries_its_kind_and_priority() {
        let request = typed();
        assert_eq!(request.campaign(), CampaignKind::Transfer);
        assert_eq!(request.priority, 3);
        assert_eq!(request_into_raft(request).unwrap(), campaign());
    }

    #[test]
    fn a_negative_priority_has_no_deprecated_form() {
        let message = Message {
            priority: -3,
            deprecated_priority: 0,
            ..campaign()
        };
        let typed = PeerMessage::from_raft(message.clone(), CLUSTER).unwrap();
        assert_eq!(typed.into_raft().unwrap(), message);
    }

    #[test]
    fn a_campaign_that_has_no_typed_form_is_an_error() {
        let unknown = Message {
            context: Bytes::from_static(b"CampaignElection"),
            ..campaign()
        };
        let error = PeerMessage::from_raft(unknown, CLUSTER).unwrap_err();
        assert_eq!(error.field, "context");
        let two_priorities = Message {
            deprecated_priority: 4,
            ..campaign()
        };
        let error = PeerMessage::from_raft(two_priorities, CLUSTER).unwrap_err();
        assert_eq!(error.field, "deprecated_priority");
    }

    #[test]
    fn a_request_that_breaks_a_rule_is_refused() {
        type Spoil = fn(&mut RequestVoteRequest);
        let spoils: [(&str, Spoil); 12] = [
            ("last_log_index", |r| r.last_log_index = MAX_INDEX + 1),
            ("last_log_term", |r| r.last_log_term = 0),
            ("last_log_term", |r| r.last_log_index = 0),
            ("last_log_term", |r| r.last_log_term = r.term + 1),
            ("commit_index", |r| r.commit_index = MAX_INDEX + 1),
            ("commit_index", |r| r.commit_index = r.last_log_index + 1),
            ("commit_term", |r| r.commit_term = 0),
            ("commit_term", |r| r.commit_term = r.last_log_term + 1),
            ("campaign", |r| r.campaign = 0),
            ("campaign", |r| r.campaign = 3),
            ("campaign", |r| r.pre_vote = true),
            ("term", |r| r.term = MAX_TERM + 1),
        ];
        for (field, spoil) in spoils {
            let mut request = typed();
            spoil(&mut request);
            let error = PeerMessage::RequestVote(request).into_raft().unwrap_err();
            assert_eq!((error.message, error.field), ("RequestVoteRequest", field));
        }
    }

    #[test]
    fn a_refused_pre_vote_says_how_far_the_voter_is() {
        let message = response_into_raft(refusal()).unwrap();
        assert_eq!(message.msg_type, MessageType::MsgRequestPreVoteResponse);
        assert!(message.reject);
        assert_eq!((message.commit, message.commit_term), (90, 7));
    }

    #[test]
    fn a_response_that_breaks_a_rule_is_refused() {
        type Spoil = fn(&mut RequestVoteResponse);
        let spoils: [(&str, Spoil); 5] = [
            ("commit_index", |r| r.vote_granted = true),
            ("commit_index", |r| r.commit_index = MAX_INDEX + 1),
            ("commit_term", |r| r.commit_index = 0),
            ("commit_term", |r| r.commit_term = 0),
            ("commit_term", |r| r.commit_term = r.term + 1),
        ];
        for (field, spoil) in spoils {
            let mut response = refusal();
            spoil(&mut response);
            let error = PeerMessage::RequestVoteReply(response)
                .into_raft()
                .unwrap_err();
            assert_eq!((error.message, error.field), ("RequestVoteResponse", field));
        }
    }
}
