//! How often a lagging follower is probed.
//!
//! raft-rs probes a follower with all entries that it may lack, up to a whole append message, and sends
//! that again with each answer to a heartbeat, because the probe may have been lost. It assumes one
//! heartbeat a tick. But every round of reads is a heartbeat too, and there may be thousands a second: a
//! follower that comes back after a pause would be sent the same append as often, and the leader would do
//! nothing else. And a link may need longer than a tick for one append: then each append would wait
//! behind its own repetitions. So a probe is repeated after one tick, then after two, and so on, until
//! the follower has answered an append or is reported as unreachable, but no later than after the longest
//! election timeout.

use std::collections::BTreeMap;

use raft::ProgressState;
use raft::eraftpb::{Message, MessageType};

use super::RaftNode;

/// The followers that were probed after an answer to a heartbeat.
#[derive(Debug, Default)]
pub(super) struct Probed {
    now: u64,
    /// For each follower, when it may be probed again, and the last wait in ticks.
    waits: BTreeMap<u64, (u64, u64)>,
}

impl Probed {
    /// Counts one tick.
    pub(super) fn tick(&mut self) {
        self.now += 1;
    }

    /// Whether `follower` may be probed now. If so, the next probe has to wait longer.
    fn may_probe(&mut self, follower: u64, longest: u64) -> bool {
        let (next, waited) = self.waits.get(&follower).copied().unwrap_or_default();
        if self.now < next {
            return false;
        }
        let wait = waited.saturating_mul(2).clamp(1, longest.max(1));
        let next = self.now.saturating_add(wait);
        self.waits.insert(follower, (next, wait));
        true
    }

    /// Notes that `follower` has answered an append, or that messages to it were lost.
    pub(super) fn answered(&mut self, follower: u64) {
        self.waits.remove(&follower);
    }

    /// Forgets all followers.
    pub(super) fn forget(&mut self) {
        self.waits.clear();
    }
}

impl<W> RaftNode<W> {
    /// Steps `message` in raft-rs, and removes the probe that raft-rs repeats too early.
    pub(super) fn step_raft(&mut self, message: Message) -> raft::Result<()> {
        let raft = &mut self.raw.raft;
        let from = message.from;
        let probing = message.get_msg_type() == MessageType::MsgHeartbeatResponse
            && raft
                .prs()
                .get(from)
                .is_some_and(|progress| progress.state == ProgressState::Probe);
        let longest = u64::try_from(self.options.election_max_ticks).unwrap_or(u64::MAX);
        let too_early = probing && !self.probed.may_probe(from, longest);
        if message.get_msg_type() == MessageType::MsgAppendResponse {
            self.probed.answered(from);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: u64 = 10;

    /// The ticks among the next `ticks` in which `follower` is probed.
    fn probes(probed: &mut Probed, follower: u64, ticks: u64) -> Vec<u64> {
        let mut at = Vec::new();
        for tick in 0..ticks {
            // Rounds of reads are heartbeats too.
            let more = (0..3).filter(|_| probed.may_probe(follower, LONGEST));
            at.extend(more.map(|_| tick));
            probed.tick();
        }
        at
    }

    #[test]
    fn a_probe_is_repeated_ever_later_until_it_is_answered() {
        let mut probed = Probed::default();
        assert_eq!(probes(&mut probed, 2, 40), [0, 1, 3, 7, 15, 25, 35]);
        probed.answered(2);
        assert_eq!(probes(&mut probed, 2, 4), [0, 1, 3]);
        assert_eq!(probes(&mut probed, 3, 1), [0], "each for itself");
        probed.forget();
        assert_eq!(probes(&mut probed, 2, 1), [0]);
    }
}
