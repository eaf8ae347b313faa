//! Requests of clients: their bounds, and their place in the log.

use raft::eraftpb::{Entry, Message, MessageType};

use super::RaftNode;
use crate::error::{Reason, Refusal};
use crate::kv::Query;
use crate::node::options::RaftOptions;
use crate::node::waiters::Sight;
use crate::node::{Input, Proposal, Room};
use crate::types::LogIndex;

impl<W> RaftNode<W> {
    /// Puts commands into the log, all in one message to each follower. Every waiter gets exactly one
    /// outcome, now or in a later output.
    pub fn propose(&mut self, proposals: Vec<Proposal<W>>) {
        self.submit(proposals.into_iter().map(Input::Write).collect());
    }

    /// Like [`propose`](Self::propose), with reads among the writes: each sees the map exactly as the
    /// writes before it leave it.
    pub fn submit(&mut self, inputs: Vec<Input<W>>) {
        if let Err(reason) = self.serves() {
            for input in inputs {
                let (Input::Write(Proposal { waiter, .. }) | Input::Read { waiter, .. }) = input;
                self.refuse(waiter, Refusal::not_applied(reason.clone()));
            }
            return;
        }
        let Admitted {
            entries,
            writers,
            reads,
            growth,
            requested_reads: _,
        } = self.admit(inputs);
        let proposed = self.put_into_log(entries, writers);
        let last = self.raw.raft.raft_log.last_index();
        if proposed {
            self.growth.push(last, growth);
        }
        for (index, query, waiter) in reads {
            // Writes that were refused after all have no place.
            let index = if proposed { index } else { last };
            self.waiters.place_read(index, query, waiter);
        }
        self.see_placed_reads();
        self.settle();
    }

    /// How many more requests the server takes now without a refusal for want of room. A server that does
    /// not lead refuses all at once, so it has room for all.
    pub fn room(&self) -> Room {
        if self.serves().is_err() {
            return Room::UNLIMITED;
        }
        let RaftOptions {
            max_pending_requests,
            max_uncommitted_bytes,
            ..
        } = self.options;
        let uncommitted = self.raw.raft.uncommitted_size();
        Room {
            requests: max_pending_requests.saturating_sub(self.waiters.len()),
            bytes: max_uncommitted_bytes.saturating_sub(uncommitted),
        }
    }

    /// Appends `entries`, one for each of `writers`. Returns whether that was possible.
    pub(super) fn put_into_log(&mut self, entries: Vec<Entry>, writers: Vec<W>) -> bool {
        if entries.is_empty() {
            return true;
        }
        let first = self.raw.raft.raft_log.last_index() + 1;
        let term = self.raw.raft.term;
        let mut message = Message {
            from: self.raft_id.get(),
            entries: entries.into(),
            ..Message::default()
        };
        message.set_msg_type(MessageType::MsgPropose);
        // It fails during a transfer of leadership: no leader serves until that has ended.
        let proposed = self.raw.step(message).is_ok();
        for (index, waiter) in (first..).zip(writers) {
            if proposed {
                self.waiters.push_write(index, term, waiter);
            } else {
                self.refuse(waiter, Refusal::not_applied(Reason::NoQuorum));
            }
        }
        proposed
    }

    /// The inputs that the bounds allow. The others are refused.
    fn admit(&mut self, inputs: Vec<Input<W>>) -> Admitted<W> {
        let mut uncommitted = self.raw.raft.uncommitted_size();
        let mut last = self.raw.raft.raft_log.last_index();
        let mut admitted = Admitted::default();
        let max_uncommitted = self.options.max_uncommitted_bytes;
        let max_pending = self.options.max_pending_requests;
        for input in inputs {
            let more = match &input {
                Input::Write(_) => 1,
                Input::Read { query, .. } => query.reads(),
            };
            let waiting = self.waiters.len() + admitted.requests() + more;
            let full =
                (waiting > max_pending).then(|| overload("max_pending_requests", max_pending));
            match (input, full) {
                (
                    Input::Write(Proposal { waiter, .. }) | Input::Read { waiter, .. },
                    Some(full),
                ) => {
                    self.refuse(waiter, Refusal::not_applied(full));
                }
                (Input::Read { query, waiter }, None) => {
                    admitted.requested_reads += query.reads();
                    admitted.reads.push((last, query, waiter));
                }
                (
                    Input::Write(Proposal {
                        command,
                        context,
                        waiter,
                    }),
                    None,
                ) => {
                    let with_it = uncommitted.saturating_add(command.len());
                    if with_it > max_uncommitted {
                        let full = overload("max_uncommitted_bytes", max_uncommitted);
                        self.refuse(waiter, Refusal::not_applied(full));
                        continue;
                    }
                    match self.growth_of(&command, admitted.growth) {
                        Ok(growth) => admitted.growth += growth,
                        Err(full) => {
                            self.refuse(waiter, Refusal::not_applied(full));
                            continue;
                        }
                    }
                    uncommitted = with_it;
                    last += 1;
                    admitted.entries.push(Entry {
                        data: command,
                        context,
                        ..Entry::default()
                    });
                    admitted.writers.push(waiter);
                }
            }
        }
        admitted
    }

    /// Reads, linearizably: the answer includes every write acknowledged before this call.
    pub fn read(&mut self, query: impl Into<Query>, waiter: W) {
        if let Err(reason) = self.serves() {
            self.refuse(waiter, Refusal::not_applied(reason));
        } else if self.waiters.len() >= self.options.max_pending_requests {
            let limit = self.options.max_pending_requests;
            let reason = overload("max_pending_requests", limit);
            self.refuse(waiter, Refusal::not_applied(reason));
        } else {
            self.waiters.push_read(Sight::Ahead(query.into()), waiter);
        }
    }
}

/// Inputs that the bounds allow.
struct Admitted<W> {
    entries: Vec<Entry>,
    /// The waiter of each entry.
    writers: Vec<W>,
    /// Reads, each with the index after which it looks.
    reads: Vec<(LogIndex, Query, W)>,
    /// The number of reads of clients that these are.
    requested_reads: usize,
    /// The possible growth of the state by the entries, in bytes.
    growth: usize,
}

impl<W> Default for Admitted<W> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            writers: Vec::new(),
            reads: Vec::new(),
            requested_reads: 0,
            growth: 0,
        }
    }
}

impl<W> Admitted<W> {
    /// Number of requests of clients.
    fn requests(&self) -> usize {
        self.writers.len() + self.requested_reads
    }
}

fn overload(what: &'static str, limit: usize) -> Reason {
    Reason::Overloaded {
        what,
        limit: u64::try_from(limit).unwrap_or(u64::MAX),
    }
}
