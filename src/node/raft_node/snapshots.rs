//! Outgoing and incoming snapshots.
//!
//! In raft-rs a snapshot is one message with all of its bytes. Here it is a header, which raft-rs sees,
//! and beside it the state machine, which raft-rs never sees. A leader clones the state machine, which
//! costs next to nothing, and the transport encodes it on another thread and in pieces. A follower gets a
//! state machine that was assembled on another thread, and hands out the one that it replaces. So no call
//! here takes longer for a large state than for a small one.

use std::mem;
use std::sync::Arc;

use raft::eraftpb::Snapshot;
use raft::{ProgressState, SnapshotStatus};

use super::RaftNode;
use crate::error::NotMe;
use crate::kv::StateMachine;
use crate::node::validate::validate;
use crate::node::{Event, NodeError, OutgoingSnapshot, Retired, StepError};
use crate::types::{LogIndex, RaftId, Term};
use crate::wire::InstallSnapshotHeader;

const NAME: &str = "InstallSnapshot";

/// The log may grow to this many times `compact_after_bytes` for a follower that is being sent a
/// snapshot: the entries written meanwhile must still exist when the snapshot has arrived. Otherwise the
/// follower would need the next snapshot, and under steady writes one after the other for ever.
const KEPT_FACTOR: usize = 4;

impl<W> RaftNode<W> {
    /// Hands out the snapshots that raft-rs wants to send, each of the whole current state.
    ///
    /// raft-rs recorded the applied index when it made its message, and more entries may have been
    /// applied since, so the message is updated to describe the state that goes with it. A higher index
    /// than raft-rs knows does no harm: the follower acknowledges it, and raft-rs accepts any
    /// acknowledgement at or past its own index as the arrival of the snapshot.
    pub(super) fn emit_snapshots(&mut self) -> Result<(), NodeError> {
        for mut message in mem::take(&mut self.outgoing) {
            // A message of a leadership that has ended meanwhile. Its progress has ended with it.
            if self.leads_in != Some(message.term) {
                continue;
            }
            // A receiver ignores, yet acknowledges, a snapshot that does not name it.
            if !self.raw.store().is_member(message.to) {
                self.raw
                    .report_snapshot(message.to, SnapshotStatus::Failure);
                continue;
            }
            let storage = self.raw.store();
            storage.describe(message.mut_snapshot());
            let state_machine = storage.state_machine().clone();
            if let Ok(to) = RaftId::try_from(message.to) {
                self.catching_up.insert(to);
                self.output.events.push(Event::SnapshotSent {
                    to,
                    index: storage.applied(),
                    keys: state_machine.len(),
                });
            }
            let header = InstallSnapshotHeader::from_raft(message, self.cluster_id)
                .map_err(NodeError::Emitted)?;
            self.output.snapshots.push(OutgoingSnapshot {
                header,
                state_machine,
            });
        }
        Ok(())
    }

    /// Notes that the transfer of a snapshot to `peer` has ended. Without this report raft-rs would never
    /// send to the peer again.
    pub fn report_snapshot(&mut self, peer: RaftId, delivered: bool) {
        let status = if delivered {
            SnapshotStatus::Finish
        } else {
            SnapshotStatus::Failure
        };
        self.raw.report_snapshot(peer.get(), status);
    }

    /// The lowest index behind which a follower that was sent a snapshot still needs the log. `None` if
    /// there is no such follower, or if the log has grown too large to wait for it. The usual tail begins
    /// behind `tail`.
    pub(super) fn kept_for_followers(&mut self, tail: LogIndex) -> Option<LogIndex> {
        let raw = &self.raw;
        // A follower that holds half of the usual tail has caught up. The number of entries in the tail
        // depends on their size.
        let middle = tail.midpoint(raw.store().applied());
        self.catching_up.retain(|to| {
            raw.raft.prs().get(to.get()).is_some_and(|progress| {
                progress.state == ProgressState::Snapshot || progress.matched < middle
            })
        });
        let limit = self.options.compact_after_bytes.saturating_mul(KEPT_FACTOR);
        if raw.store().applied_bytes() > limit {
            return None;
        }
        self.catching_up
            .iter()
            .filter_map(|to| raw.raft.prs().get(to.get()))
            .map(|progress| match progress.state {
                ProgressState::Snapshot => progress.pending_snapshot,
                ProgressState::Probe | ProgressState::Replicate => progress.matched,
            })
            // A follower that needs compacted entries needs another snapshot, and no entries before it.
            .filter(|&held| held >= raw.store().compacted())
            .min()
    }

    /// The index up to which the log may be compacted so that all entries behind `kept` stay, and the
    /// usual tail, which begins behind `tail`. The log is compacted by at least a tail's length at a
    /// time, or it would be compacted with each answer of a follower.
    pub(super) fn excess_before(&self, kept: LogIndex, tail: LogIndex) -> LogIndex {
        let storage = self.raw.store();
        let length = storage.applied().saturating_sub(tail);
        let index = kept.min(tail);
        match index > storage.compacted().saturating_add(length) {
            true => index,
            false => storage.compacted(),
        }
    }

    /// Takes a snapshot of the leader: its header, and the state machine that came with it.
    ///
    /// # Errors
    ///
    /// [`StepError`]: the snapshot is dropped, and nothing has changed.
    pub fn install(
        &mut self,
        header: InstallSnapshotHeader,
        state_machine: StateMachine,
    ) -> Result<(), StepError> {
        if state_machine.level() > self.options.level {
            let error = StepError::Unreadable {
                from: header.envelope()?.from,
                index: header.last_included_index(),
                reason: format!(
                    "the snapshot is of protocol level {}, and this version speaks {}",
                    state_machine.level(),
                    self.options.level
                ),
            };
            self.output
                .retired
                .push(Retired::StateMachine(Box::new(state_machine)));
            return Err(error);
        }
        let stepped = self.step_snapshot(header);
        let pending = self.raw.snap().map(place);
        let replaced = match &stepped {
            // raft-rs will hand this one back.
            Ok(place) if pending == Some(*place) => {
                let incoming = self.incoming.replace((*place, state_machine));
                incoming.map(|(_, state_machine)| state_machine)
            }
            // raft-rs has ignored it.
            _ => Some(state_machine),
        };
        let replaced = replaced.map(Box::new).map(Retired::StateMachine);
        self.output.retired.extend(replaced);
        self.settle();
        stepped.map(|_| ())
    }

    /// Steps a snapshot in raft-rs. Returns its last index and term.
    fn step_snapshot(
        &mut self,
        header: InstallSnapshotHeader,
    ) -> Result<(LogIndex, Term), StepError> {
        let envelope = header.envelope()?;
        if (envelope.to, envelope.cluster_id) != (self.raft_id, self.cluster_id) {
            return Err(StepError::NotMe(NotMe {
                raft_id: self.raft_id,
                cluster_id: Some(self.cluster_id),
            }));
        }
        let out_of_place = |reason: String| StepError::OutOfPlace {
            message: NAME,
            from: envelope.from,
            reason,
        };
        let message = header.into_raft()?;
        validate(&self.raw.raft, (NAME, envelope.from), &message)?;
        let place = place(message.get_snapshot());
        let stepped = self.raw.step(message);
        stepped.map_err(|error| out_of_place(error.to_string()))?;
        Ok(place)
    }

    /// Replaces the whole state by a snapshot that raft-rs has accepted.
    pub(super) fn restore(&mut self, snapshot: &Snapshot) -> Result<(), NodeError> {
        let (index, term) = place(snapshot);
        let state_machine = self
            .incoming
            .take_if(|(place, _)| *place == (index, term))
            .map(|(_, state_machine)| state_machine)
            .ok_or_else(|| NodeError::Apply {
                index,
                reason: "raft restored a snapshot that it was not given".to_owned(),
            })?;
        self.output.events.push(Event::SnapshotInstalled {
            index,
            term,
            keys: state_machine.len(),
        });
        self.conf_index = index;
        let (replaced, cut) = self.raw.mut_store().install(snapshot, state_machine);
        let replaced = Retired::StateMachine(Box::new(replaced));
        self.output.retired.push(replaced);
        self.retire_log(cut);
        self.conf = Arc::new(self.raw.store().conf());
        self.reset_watches();
        Ok(())
    }
}

/// Last index that a snapshot covers, and its term.
fn place(snapshot: &Snapshot) -> (LogIndex, Term) {
    let metadata = snapshot.get_metadata();
    (metadata.index, metadata.term)
}
