//! The watches of this server, and what it does so that those of its followers are in time.
//!
//! A follower learns of a commit with the leader's next append or heartbeat, which may be a heartbeat
//! interval later. That is soon enough, unless clients watch there. So each follower says in its answers to
//! heartbeats whether it is watched, and while one is, the leader tells all of each commit at once.

use super::RaftNode;
use crate::error::{Reason, Refusal};
use crate::node::{MemoryStorage, Retired};
use crate::types::{ClusterId, RaftId};
use crate::watch::{NoWatch, View, WatchId, WatchSpec};
use crate::wire::PeerMessage;

impl<W> RaftNode<W> {
    /// Begins a watch. Its messages leave with [`output`](Self::output).
    ///
    /// # Errors
    ///
    /// [`Reason::Overloaded`] if there are too many, [`Reason::NoQuorum`] without a leader.
    pub fn open_watch(&mut self, spec: WatchSpec) -> Result<WatchId, Refusal> {
        let view = view(self.raw.store(), self.cluster_id);
        let is_led = self.is_led();
        self.watches.open(spec, &view, is_led).map_err(|why| {
            Refusal::not_applied(match why {
                NoWatch::TooMany { limit } => Reason::Overloaded {
                    what: "watches",
                    limit: u64::try_from(limit).unwrap_or(u64::MAX),
                },
                NoWatch::Unled => Reason::NoQuorum,
            })
        })
    }

    /// Ends a watch.
    pub fn close_watch(&mut self, id: WatchId) {
        self.watches.close(id);
    }

    /// Notes that the client of a watch has taken a bundle of messages.
    pub fn watch_taken(&mut self, id: WatchId) {
        self.watches.taken(id);
    }

    /// Whether there are more messages for watches than the last [`output`](Self::output) had.
    pub fn has_watch_output(&self) -> bool {
        self.watches.is_ready()
    }

    /// Counts one tick. `takes_part` is whether this server still takes part in its cluster.
    pub(in crate::node) fn tick_watches(&mut self, takes_part: bool) {
        let is_led = takes_part && self.is_led();
        self.watches.tick(is_led);
    }

    /// Hands out messages for watches.
    pub(super) fn serve_watches(&mut self) {
        let view = view(self.raw.store(), self.cluster_id);
        let bundles = self.watches.output(&view);
        let bundles = bundles.into_iter().map(|(id, messages)| (id, Ok(messages)));
        self.output.watches.extend(bundles);
        let unled = Refusal::not_applied(Reason::NoQuorum);
        let ended = self.watches.take_ended().into_iter();
        let ended = ended.map(|id| (id, Err(unled.clone())));
        self.output.watches.extend(ended);
        let retired = self.watches.take_retired().map(Retired::History);
        self.output.retired.extend(retired);
    }

    /// Sends the whole state to the watches.
    pub(super) fn reset_watches(&mut self) {
        let view = view(self.raw.store(), self.cluster_id);
        self.watches.reset(&view);
    }

    /// Takes over the watches of the server of the former cluster.
    pub(super) fn take_watches_of(&mut self, former: &mut Self) {
        std::mem::swap(&mut self.watches, &mut former.watches);
        self.reset_watches();
    }

    /// Tells the leader whether this server is watched.
    pub(super) fn show_watched(&self, message: &mut PeerMessage) {
        if let PeerMessage::HeartbeatReply(reply) = message {
            reply.watched = self.watches.is_watched();
        }
    }

    /// Notes whether a follower is watched.
    pub(super) fn hear_watched(&mut self, follower: RaftId, watched: bool) {
        if self.leads_in.is_none() {
            return;
        }
        if watched {
            self.watched.insert(follower);
        } else {
            self.watched.remove(&follower);
        }
        let followers = self.raw.raft.prs();
        self.watched
            .retain(|follower| followers.get(follower.get()).is_some());
        self.raw.raft.skip_bcast_commit(self.watched.is_empty());
    }

    /// Forgets which followers are watched, at the beginning and the end of leadership.
    pub(super) fn forget_watched(&mut self) {
        self.watched.clear();
        self.raw.raft.skip_bcast_commit(true);
    }
}

/// Whether the sender of `message` is watched, if it says that.
pub(super) fn is_watched(message: &PeerMessage) -> Option<bool> {
    match message {
        PeerMessage::HeartbeatReply(reply) => Some(reply.watched),
        _ => None,
    }
}

fn view(storage: &MemoryStorage, cluster_id: ClusterId) -> View<'_> {
    let state = storage.state_machine();
    View {
        state,
        applied: match storage.applied() {
            0 => 0,
            index => state.revisions().at(index),
        },
        cluster_id,
    }
}
