//! Routes each reply, which the core sends like any other message, to the stream or call that waits for
//! it.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use super::pending_replies::PendingReplies;
use super::transfer::{Brought, Transfer};
use crate::proto::raft::{AppendEntriesResponse, HeartbeatResponse, RequestVoteResponse};
use crate::types::{RaftId, SnapshotProgress};

/// The sender of replies on one stream, to the leader that opened it.
pub(super) type Replies<T> = mpsc::Sender<Result<T, Status>>;

/// The pending replies, by kind.
#[derive(Debug, Default)]
pub(super) struct Routes {
    /// The open streams, by their leader.
    pub(super) appends: Arc<PendingReplies<RaftId, Replies<AppendEntriesResponse>>>,
    pub(super) heartbeats: Arc<PendingReplies<RaftId, Replies<HeartbeatResponse>>>,
    /// Calls that wait for the core's answer to a snapshot, by their leader.
    pub(super) snapshots: Arc<PendingReplies<RaftId, oneshot::Sender<AppendEntriesResponse>>>,
    /// Calls that wait for a vote. Not by term: a refused pre-vote carries the voter's term.
    pub(super) votes: Arc<PendingReplies<(RaftId, bool), oneshot::Sender<RequestVoteResponse>>>,
    /// The snapshot transfer that is coming in, if any.
    pub(super) transfer: Arc<PendingReplies<(), Transfer>>,
    /// The received part of a snapshot.
    pub(super) brought: Arc<Brought>,
}

/// A reply is dropped if no stream or call waits for it, or if too many replies wait to be sent: the next
/// one supersedes it.
impl Routes {
    /// Progress of the snapshot that is coming in, or that was when its connection broke.
    pub(super) fn receiving(&self) -> Option<SnapshotProgress> {
        let under_way = self.transfer.with((), |transfer| transfer.progress.get());
        under_way.or_else(|| self.brought.try_lock().ok()?.as_ref()?.progress())
    }

    pub(super) fn append_entries(&self, reply: AppendEntriesResponse) {
        let Ok(leader) = RaftId::try_from(reply.to) else {
            return;
        };
        match self.snapshots.take(leader).next() {
            // The call may have been cancelled meanwhile.
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
            // The call may have been cancelled meanwhile.
            let _ = call.send(reply);
        }
    }
}

/// Puts `reply` on the streams of `leader` that have room. There is one stream, unless a connection broke
/// silently or another process uses the leader's raft id.
fn put<T: Clone>(streams: &PendingReplies<RaftId, Replies<T>>, leader: RaftId, reply: T) {
    streams.each(leader, reply, |replies, reply| {
        let _ = replies.try_send(Ok(reply));
    });
}
