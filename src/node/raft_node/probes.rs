//! How often a follower that lags behind is probed.
//!
//! raft-rs probes a follower with everything that it may lack, up to a whole append message, and
//! sends that again with each answer to a heartbeat, because the probe may have been lost. It counts
//! on a heartbeat a tick. But every round of reads is a heartbeat too, and there may be thousands in
//! a second: a follower that comes back after a pause would be sent the same append as often, and
//! the leader would do nothing else. So a probe is repeated at most once a tick.

use std::collections::BTreeSet;

use raft::ProgressState;
use raft::eraftpb::{Message, MessageType};

use super::RaftNode;

/// The followers whose answer to a heartbeat has had them probed in this tick.
#[derive(Debug, Default)]
pub(super) struct Probed(BTreeSet<u64>);

impl Probed {
    /// One tick has passed.
    pub(super) fn tick(&mut self) {
        self.0.clear();
    }
}

impl<W> RaftNode<W> {
    /// Gives `message` to raft-rs, and takes back the probe that it would repeat too early.
    pub(super) fn step_raft(&mut self, message: Message) -> raft::Result<()> {
        let raft = &mut self.raw.raft;
        let from = message.from;
        let probing = message.get_msg_type() == MessageType::MsgHeartbeatResponse
            && raft
                .prs()
                .get(from)
                .is_some_and(|progress| progress.state == ProgressState::Probe);
        let too_early = probing && !self.probed.0.insert(from);
        let emitted = raft.msgs.len();
        let stepped = self.raw.step(message);
        if too_early {
            let is_probe = |message: &Message| {
                message.to == from && message.get_msg_type() == MessageType::MsgAppend
            };
            let messages = &mut self.raw.raft.msgs;
            let later = messages.split_off(emitted.min(messages.len()));
            messages.extend(later.into_iter().filter(|message| !is_probe(message)));
        }
        stepped
    }
}
