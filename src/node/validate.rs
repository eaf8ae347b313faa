//! The check of well-formed messages against the state of a node.
//!
//! raft-rs trusts its peers: it panics on a heartbeat that commits past the end of the log, and an answer
//! that acknowledges entries which the leader never had makes it lose the follower for ever. Peers that run
//! this code never send either. But a peer can be broken, replayed or foreign, and must not stop this node.
//!
//! Nor may a single message exhaust a limited resource. Terms and indices never decrease, and raft-rs
//! stops at their end: after one heartbeat of the last term no leader could ever be elected. So a message
//! may be ahead of the state of this node, because a node may have been away for years or may have just
//! started without any state. But one message may only be so far ahead that many thousands of them are
//! needed to reach the end.

use raft::eraftpb::{Message, MessageType};
use raft::{Raft, Storage};

use super::StepError;
use crate::types::{LogIndex, RaftId, Term};

/// Maximum lead of a message's term over its receiver's. With ten elections a second, which is more than
/// possible, this takes thirteen years.
const MAX_TERM_LEAD: Term = 1 << 32;

/// Maximum lead of a message's indices over its receiver's log. With a million writes a second this takes
/// nine years.
const MAX_INDEX_LEAD: LogIndex = 1 << 48;

/// Refuses a message that is too far ahead, that raft-rs would panic on, or that it would never recover
/// from. `message` is a `name` and comes from `from`. It has passed the checks of
/// [`PeerMessage::into_raft`](crate::wire::PeerMessage::into_raft), so no term in it is past its own.
pub(super) fn validate<S: Storage>(
    raft: &Raft<S>,
    (name, from): (&'static str, RaftId),
    message: &Message,
) -> Result<(), StepError> {
    let last_index = raft.raft_log.last_index();
    let metadata = message.get_snapshot().get_metadata();
    let last_entry = message.entries.last().map_or(0, |entry| entry.index);
    let ahead = [
        ("term", message.term, raft.term, MAX_TERM_LEAD),
        ("index", message.index, last_index, MAX_INDEX_LEAD),
        ("entry", last_entry, last_index, MAX_INDEX_LEAD),
        ("commit index", message.commit, last_index, MAX_INDEX_LEAD),
        ("hint", message.reject_hint, last_index, MAX_INDEX_LEAD),
        (
            "wanted snapshot",
            message.request_snapshot,
            last_index,
            MAX_INDEX_LEAD,
        ),
        ("snapshot", metadata.index, last_index, MAX_INDEX_LEAD),
    ];
    for (what, value, known, lead) in ahead {
        if value > known.saturating_add(lead) {
            return Err(StepError::TooFarAhead {
                message: name,
                from,
                what,
                value,
                known,
            });
        }
    }
    contradiction(raft, message).map_err(|reason| StepError::OutOfPlace {
        message: name,
        from,
        reason,
    })
}

fn contradiction<S: Storage>(raft: &Raft<S>, message: &Message) -> Result<(), String> {
    // raft-rs drops a message of an older term, or answers it without reading the rest.
    if message.term < raft.term {
        return Ok(());
    }
    let last_index = raft.raft_log.last_index();
    match message.get_msg_type() {
        // RaftLog::commit_to: "to_commit … is out of range".
        MessageType::MsgHeartbeat if message.commit > last_index => Err(format!(
            "commits up to {}, but the log ends at {last_index}",
            message.commit
        )),
        // Progress::maybe_update would accept it, and later rejections would be ignored as stale.
        MessageType::MsgAppendResponse if !message.reject && message.index > last_index => {
            Err(format!(
                "claims to hold entry {}, but the log ends at {last_index}",
                message.index
            ))
        }
        // Progress::update_committed would accept it for ever.
        MessageType::MsgAppendResponse | MessageType::MsgHeartbeatResponse
            if message.commit > last_index =>
        {
            Err(format!(
                "claims that entry {} is committed, but the log ends at {last_index}",
                message.commit
            ))
        }
        // Progress::maybe_decr_to would make the follower wait for that snapshot, which may never be made.
        MessageType::MsgAppendResponse if message.request_snapshot > last_index => Err(format!(
            "asks for a snapshot up to {}, but the log ends at {last_index}",
            message.request_snapshot
        )),
        // Raft::restore installs it over committed entries.
        MessageType::MsgSnapshot
            if message.get_snapshot().get_metadata().index == raft.raft_log.committed
                && !raft.raft_log.match_term(
                    raft.raft_log.committed,
                    message.get_snapshot().get_metadata().term,
                ) =>
        {
            Err("ends at the committed entry, but in another term".to_owned())
        }
        // Raft::step_follower campaigns at the request of any sender, past every lease.
        MessageType::MsgTimeoutNow if message.from != raft.leader_id => {
            Err("its sender is not the leader".to_owned())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use raft::raw_node::RawNode;

    use super::*;
    use crate::node::{MemoryStorage, RaftOptions};
    use crate::proto::raft as proto;
    use crate::types::{ClusterMembership, NodeId};
    use crate::wire::PeerMessage;

    fn raft_id_of(id: u16) -> RaftId {
        RaftId::new(NodeId::new(id).expect("a node id"), 1)
    }

    /// Node 2 in term 1, whose log ends at 1, or at 0 if it has just started.
    fn receiver(storage: MemoryStorage) -> RawNode<MemoryStorage> {
        let config = RaftOptions::default().raft_config(raft_id_of(2), storage.applied());
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        RawNode::new(&config, storage, &logger).expect("a server")
    }

    fn bootstrapped() -> MemoryStorage {
        let voters = [1, 2, 3].map(raft_id_of);
        MemoryStorage::bootstrap(&voters, ClusterMembership::default())
    }

    /// One message of every type, in `term`, with `index` in every index field.
    fn messages(term: Term, index: LogIndex) -> Vec<(&'static str, PeerMessage)> {
        let (from, to, cluster_id) = (raft_id_of(1).get(), raft_id_of(2).get(), 7);
        let vote = |last_log_index, commit_index, pre_vote| {
            PeerMessage::RequestVote(proto::RequestVoteRequest {
                term,
                candidate_id: from,
                last_log_index,
                last_log_term: 1,
                pre_vote,
                commit_index,
                commit_term: u64::from(commit_index > 0),
                campaign: proto::CampaignKind::Election.into(),
                cluster_id,
                to,
                ..proto::RequestVoteRequest::default()
            })
        };
        let vote_reply = |pre_vote| {
            PeerMessage::RequestVoteReply(proto::RequestVoteResponse {
                term,
                vote_granted: false,
                pre_vote,
                voter_id: from,
                commit_index: index,
                commit_term: 1,
                cluster_id,
                to,
            })
        };
        let append = |prev_log_index, leader_commit, entries| {
            PeerMessage::AppendEntries(proto::AppendEntriesRequest {
                term,
                leader_id: from,
                prev_log_index,
                prev_log_term: 1,
                entries,
                leader_commit,
                cluster_id,
                to,
            })
        };
        let append_reply = |rejected, hint, commit_index, request_snapshot| {
            PeerMessage::AppendEntriesReply(proto::AppendEntriesResponse {
                term,
                success: false,
                follower_id: from,
                index: rejected,
                reject_hint_index: hint,
                reject_hint_term: u64::from(hint > 0),
                commit_index,
                request_snapshot,
                cluster_id,
                to,
            })
        };
        let entry = proto::Entry {
            term: 1,
            index,
            ..proto::Entry::default()
        };
        vec![
            ("vote: last", vote(index, 0, false)),
            ("pre-vote: last", vote(index, 0, true)),
            ("vote: commit", vote(index, index, false)),
            ("vote reply: commit", vote_reply(false)),
            ("pre-vote reply: commit", vote_reply(true)),
            ("append: previous", append(index, 1, vec![])),
            ("append: commit", append(1, index, vec![])),
            ("append: entry", append(index - 1, 1, vec![entry])),
            ("append reply: rejected", append_reply(index, 1, 1, 0)),
            ("append reply: hint", append_reply(1, index, 1, 0)),
            ("append reply: commit", append_reply(1, 1, index, 0)),
            ("append reply: snapshot", append_reply(1, 1, 1, index)),
            (
                "heartbeat: commit",
                PeerMessage::Heartbeat(proto::HeartbeatRequest {
                    term,
                    leader_id: from,
                    leader_commit: index,
                    read_context: Bytes::new(),
                    cluster_id,
                    to,
                }),
            ),
            (
                "heartbeat reply: commit",
                PeerMessage::HeartbeatReply(proto::HeartbeatResponse {
                    term,
                    follower_id: from,
                    commit_index: index,
                    read_context: Bytes::new(),
                    cluster_id,
                    to,
                    watched: false,
                }),
            ),
            (
                "snapshot: last",
                PeerMessage::InstallSnapshot(proto::InstallSnapshotRequest {
                    term,
                    leader_id: from,
                    last_included_index: index,
                    last_included_term: 1,
                    done: true,
                    conf_state: Some(proto::ConfState {
                        voters: [1, 2, 3].map(|id| raft_id_of(id).get()).to_vec(),
                        ..proto::ConfState::default()
                    }),
                    cluster_id,
                    to,
                    ..proto::InstallSnapshotRequest::default()
                }),
            ),
        ]
    }

    /// Whether `message` is refused because it is too far ahead.
    fn is_too_far(receiver: &RawNode<MemoryStorage>, message: PeerMessage) -> bool {
        let message = message.into_raft().expect("well formed");
        let verdict = validate(&receiver.raft, ("it", raft_id_of(1)), &message);
        matches!(verdict, Err(StepError::TooFarAhead { .. }))
    }

    #[test]
    fn no_index_of_any_message_is_too_far_ahead() {
        for storage in [bootstrapped(), MemoryStorage::empty()] {
            let receiver = receiver(storage);
            let farthest = receiver.raft.raft_log.last_index() + MAX_INDEX_LEAD;
            for (what, message) in messages(2, farthest) {
                assert!(!is_too_far(&receiver, message), "{what}");
            }
            for (what, message) in messages(2, farthest + 1) {
                assert!(is_too_far(&receiver, message), "{what}");
            }
        }
    }

    #[test]
    fn no_term_of_any_message_is_too_far_ahead() {
        let timeout_now = |term| {
            let message = PeerMessage::TimeoutNow(proto::TimeoutNowRequest {
                term,
                leader_id: raft_id_of(1).get(),
                cluster_id: 7,
                to: raft_id_of(2).get(),
            });
            ("timeout now", message)
        };
        for storage in [bootstrapped(), MemoryStorage::empty()] {
            let receiver = receiver(storage);
            let farthest = receiver.raft.term + MAX_TERM_LEAD;
            let all = |term| messages(term, 2).into_iter().chain([timeout_now(term)]);
            for (what, message) in all(farthest) {
                assert!(!is_too_far(&receiver, message), "{what}");
            }
            for (what, message) in all(farthest + 1) {
                assert!(is_too_far(&receiver, message), "{what}");
            }
        }
    }

    /// A leader accepts no answer that names entries which it does not hold.
    #[test]
    fn an_answer_claims_nothing_past_the_log() {
        let receiver = receiver(bootstrapped());
        let term = receiver.raft.term;
        for (what, message) in messages(term, 2) {
            let message = message.into_raft().expect("well formed");
            let refused = validate(&receiver.raft, ("it", raft_id_of(1)), &message).is_err();
            let claims = [
                "append reply: commit",
                "append reply: snapshot",
                "heartbeat: commit",
                "heartbeat reply: commit",
            ];
            assert_eq!(refused, claims.contains(&what), "{what}");
        }
    }
}
