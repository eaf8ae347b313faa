//! Which well-formed messages contradict what a node holds.
//!
//! raft-rs trusts its peers: it panics on a heartbeat that commits past the end of the log, and an
//! answer that claims entries which the leader never had makes it lose the follower for ever. Peers
//! that run this code never send either, but a peer can be broken, replayed or not one of ours, and
//! it must not take this node along.

use raft::eraftpb::{Message, MessageType};
use raft::{Raft, Storage};

/// Refuses, with the reason, what raft-rs would panic on or never recover from. `message` has
/// passed the checks of [`PeerMessage::into_raft`](crate::wire::PeerMessage::into_raft).
pub(super) fn judge<S: Storage>(raft: &Raft<S>, message: &Message) -> Result<(), String> {
    // raft-rs drops what is older than its term, or answers it without a look at the rest.
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
        // Progress::maybe_update would believe it, and later rejections would be ignored as stale.
        MessageType::MsgAppendResponse if !message.reject && message.index > last_index => {
            Err(format!(
                "claims to hold entry {}, but the log ends at {last_index}",
                message.index
            ))
        }
        // Raft::restore installs it over what is committed.
        MessageType::MsgSnapshot
            if message.get_snapshot().get_metadata().index == raft.raft_log.committed
                && !raft.raft_log.match_term(
                    raft.raft_log.committed,
                    message.get_snapshot().get_metadata().term,
                ) =>
        {
            Err("ends at the committed entry, but in another term".to_owned())
        }
        // Raft::step_follower campaigns on anybody's word, past every lease.
        MessageType::MsgTimeoutNow if message.from != raft.leader_id => {
            Err("its sender is not the leader".to_owned())
        }
        _ => Ok(()),
    }
}
