//! How a reply, which the core sends like any other message, finds the stream or the call that asked.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use super::desk::Desk;
use super::transfer::{Brought, Transfer};
use crate::proto::raft::{AppendEntriesResponse, HeartbeatResponse, RequestVoteResponse};
use crate::types::{RaftId, SnapshotProgress};

/// Replies on their way to the leader that waits for them on a stream.
pub(super) type Replies<T> = mpsc::Sender<Result<T, Status>>;

/// Where each kind of reply goes.
#[derive(Debug, Default)]
pub(super) struct Routes {
    /// The open streams, by their leader.
    pub(super) appends: Arc<Desk<RaftId, Replies<AppendEntriesResponse>>>,
    pub(super) heartbeats: Arc<Desk<RaftId, Replies<HeartbeatResponse>>>,
    /// Calls that wait for what the core says to a snapshot, by their leader.
    pub(super) snapshots: Arc<Desk<RaftId, oneshot::Sender<AppendEntriesResponse>>>,
    /// Calls that wait for a vote. Not by term: a refused pre-vote carries the voter's term.
    pub(super) votes: Arc<Desk<(RaftId, bool), oneshot::Sender<RequestVoteResponse>>>,
    /// The snapshot that is coming in, if any.
    pub(super) transfer: Arc<Desk<(), Transfer>>,
    /// What has come of it.
    pub(super) brought: Arc<Brought>,
}

/// A reply is dropped where nobody waits any more, and where too many wait to be sent: the next one
/// says more.
impl Routes {
    /// How far the snapshot has come that is coming in, or was when its connection broke.
    pub(super) fn receiving(&self) -> Option<SnapshotProgress> {
        let under_way = self.transfer.with((), |transfer| transfer.progress.get());
        under_way.or_else(|| self.brought.try_lock().ok()?.as_ref()?.progress())
    }

    pub(super) fn append_entries(&self, reply: AppendEntriesResponse) {
        let Ok(leader) = RaftId::try_from(reply.to) else {
            return;
        };
        match self.snapshots.take(leader).next() {
            // The call may have been given up meanwhile.
            Some(call) => {
                let _ = call.send(reply);
            }
            None => put(&self.appends, leader, reply),
        }
    }

    pub(super) fn heartbeat(&self, reply: HeartbeatResponse) {
        if let Ok(leader) = RaftId::try_from(reply.to) {
            put(&self.heartbeats, leader, reply);
        }
    }

    pub(super) fn request_vote(&self, reply: RequestVoteResponse) {
        let Ok(candidate) = RaftId::try_from(reply.to) else {
            return;
        };
        for call in self.votes.take((candidate, reply.pre_vote)) {
            // The call may have been given up meanwhile.
            let _ = call.send(reply);
        }
    }
}

/// Puts `reply` on the streams of `leader` that have room. There is one, unless a connection broke
/// without a word or somebody else uses the leader's name.
fn put<T: Clone>(streams: &Desk<RaftId, Replies<T>>, leader: RaftId, reply: T) {
    streams.each(leader, reply, |replies, reply| {
        let _ = replies.try_send(Ok(reply));
    });
}
