//! Watches at a process: it has some only while it takes part in a cluster.

use super::Replica;
use crate::error::Refusal;
use crate::node::RaftNode;
use crate::watch::{WatchId, WatchSpec};

impl<W> Replica<W> {
    /// Begins a watch, see [`RaftNode::open_watch`].
    ///
    /// # Errors
    ///
    /// As for [`RaftNode::open_watch`], and [`Reason::Forming`](crate::error::Reason::Forming) if the process
    /// takes part in no cluster.
    pub fn open_watch(&mut self, spec: WatchSpec) -> Result<WatchId, Refusal> {
        match &mut self.raft {
            Some(raft) => raft.open_watch(spec),
            None => Err(Refusal::not_applied(self.forming())),
        }
    }

    /// Ends a watch.
    pub fn close_watch(&mut self, id: WatchId) {
        if let Some(raft) = &mut self.raft {
            raft.close_watch(id);
        }
    }

    /// Notes that the client of a watch has taken a bundle of messages.
    pub fn watch_taken(&mut self, id: WatchId) {
        if let Some(raft) = &mut self.raft {
            raft.watch_taken(id);
        }
    }

    /// Whether the next [`output`](Self::output) has messages for watches.
    pub fn has_watch_output(&self) -> bool {
        self.raft.as_ref().is_some_and(RaftNode::has_watch_output)
    }
}
