//! The transport of snapshots. In the narrow world all chunks of one arrive together or not at all, now
//! and then with a fault in one of them. In the wide one they travel one by one, no faster than the
//! network, beside everything else.

use rand::Rng;
use seshat::kv::StateMachine;
use seshat::node::OutgoingSnapshot;
use seshat::proto::raft::InstallSnapshotRequest;
use seshat::types::{NodeId, RaftId};
use seshat::wire::{InstallSnapshotHeader, SnapshotAssembly, SnapshotChunks, WireError};

use crate::process::{Incarnation, Input, Receiving, TransferId};
use crate::setting::Scope;
use crate::world::{Happening, World};

/// Milliseconds after which it is known that a snapshot has not arrived.
const SNAPSHOT_TIMEOUT: u64 = 200;
/// Most milliseconds for making a chunk.
const CHUNK_TIME: u64 = 5;

/// Milliseconds for which a sender waits for the answer to its last chunk.
const TEST_TIMEOUT: u64 = 5_000;

/// A snapshot on its way, at its sender.
#[derive(Debug)]
pub(crate) struct Transfer {
    from: (NodeId, Incarnation),
    to: RaftId,
    chunks: SnapshotChunks,
    /// Arrival time of the last chunk: none overtakes another.
    arrives_at: u64,
}

impl World {
    /// Sends a snapshot of `from`.
    pub(crate) fn send_snapshot(
        &mut self,
        from: RaftId,
        incarnation: Incarnation,
        snapshot: OutgoingSnapshot,
    ) {
        if self.setting.scope == Scope::Narrow {
            return self.send_at_once(from, incarnation, snapshot);
        }
        let OutgoingSnapshot {
            header,
            state_machine,
        } = snapshot;
        let to = header.envelope().expect("made by a node").to;
        let transfer = Transfer {
            from: (from.node_id(), incarnation),
            to,
            chunks: SnapshotChunks::new(header, state_machine, self.setting.chunk_bytes),
            arrives_at: self.now,
        };
        self.trace.line(
            self.now,
            format_args!("{from} begins to send a snapshot to {to}"),
        );
        self.summary.transfers += 1;
        let id = self.summary.transfers;
        self.transfers.insert(id, transfer);
        self.schedule(0, Happening::Chunk(id));
    }

    /// The next chunk of a snapshot leaves, or is lost, which breaks the connection.
    pub(crate) fn send_chunk(&mut self, id: TransferId) {
        let Some(transfer) = self.transfers.get_mut(&id) else {
            return;
        };
        let ((from, incarnation), to) = (transfer.from, transfer.to);
        if self
            .processes
            .get(&from)
            .is_none_or(|it| it.incarnation != incarnation)
        {
            self.transfers.remove(&id);
            return;
        }
        let Some(chunk) = transfer.chunks.next() else {
            // The receiver has not confirmed its arrival.
            self.broken_off(id, 0);
            return;
        };
        let arrivals = self.arrivals(from, to.node_id());
        let Some(delay) = arrivals.first() else {
            self.broken_off(id, SNAPSHOT_TIMEOUT);
            return;
        };
        let Some(transfer) = self.transfers.get_mut(&id) else {
            return;
        };
        transfer.arrives_at = transfer.arrives_at.max(self.now + delay);
        let delay = transfer.arrives_at - self.now;
        let done = chunk.done;
        let chunk = Input::Chunk {
            transfer: id,
            chunk,
        };
        self.schedule_input(delay, to.node_id(), None, chunk);
        let pause = match done {
            true => delay + TEST_TIMEOUT,
            false => self.rng.gen_range(1..=CHUNK_TIME),
        };
        self.schedule(pause, Happening::Chunk(id));
    }

    /// A snapshot will not arrive. Its sender learns that after a while.
    fn broken_off(&mut self, id: TransferId, after: u64) {
        self.trace
            .line(self.now, format_args!("snapshot {id} is broken off"));
        self.summary.broken_snapshots += 1;
        self.report(id, after, false);
    }

    fn report(&mut self, id: TransferId, after: u64, delivered: bool) {
        let Some(Transfer { from, to, .. }) = self.transfers.remove(&id) else {
            return;
        };
        // The receiver notices that its connection is gone.
        if let Some(process) = self.processes.get_mut(&to.node_id()) {
            process.receiving.take_if(|it| it.transfer == id);
        }
        let report = Input::SnapshotReport { to, delivered };
        self.schedule_input(after, from.0, Some(from.1), report);
    }

    /// A chunk reaches `node`.
    pub(crate) fn receive_chunk(
        &mut self,
        node: NodeId,
        id: TransferId,
        chunk: InstallSnapshotRequest,
    ) {
        // Nothing arrives any more on a connection that is gone.
        let Some(transfer) = self.transfers.get(&id) else {
            return;
        };
        let from = transfer.from.0;
        let taken = self.take_chunk(node, id, chunk);
        match taken {
            Ok(None) => {}
            Ok(Some((header, state_machine))) => {
                self.install(node, header, state_machine);
                let answer = self.arrivals(node, from).first().copied();
                self.report(id, answer.unwrap_or(SNAPSHOT_TIMEOUT), answer.is_some());
            }
            Err(error) => {
                self.trace
                    .line(self.now, format_args!("{node} refuses a chunk: {error}"));
                self.broken_off(id, SNAPSHOT_TIMEOUT);
            }
        }
    }

    /// The whole snapshot, if this was its last chunk.
    fn take_chunk(
        &mut self,
        node: NodeId,
        id: TransferId,
        chunk: InstallSnapshotRequest,
    ) -> Result<Option<(InstallSnapshotHeader, StateMachine)>, WireError> {
        let Some(process) = self.processes.get_mut(&node) else {
            return Ok(None);
        };
        let going_on = |receiving: &Receiving| receiving.transfer == id;
        let (total, bytes) = (chunk.total_size, chunk.data.len());
        let mut receiving = match process.receiving.take() {
            Some(receiving) if going_on(&receiving) => receiving,
            // A new one replaces an old one.
            _ if chunk.offset == 0 => Receiving {
                transfer: id,
                assembly: SnapshotAssembly::new(&chunk, usize::MAX)?,
                received: 0,
                total,
            },
            other => {
                process.receiving = other;
                return Err(WireError::new("InstallSnapshotRequest", "offset", "not 0"));
            }
        };
        let done = chunk.done;
        receiving.assembly.add(chunk)?;
        receiving.received += u64::try_from(bytes).expect("small");
        if done {
            return receiving.assembly.finish().map(Some);
        }
        process.receiving = Some(receiving);
        Ok(None)
    }

    /// Sends all chunks of a snapshot at once. The transport always reports the outcome; sometimes it is
    /// wrong about a success, when the answer is lost.
    fn send_at_once(&mut self, from: RaftId, incarnation: Incarnation, snapshot: OutgoingSnapshot) {
        let OutgoingSnapshot {
            header,
            state_machine,
        } = snapshot;
        let to = header.envelope().expect("made by a node").to;
        let mut chunks: Vec<_> =
            SnapshotChunks::new(header, state_machine, self.setting.chunk_bytes).collect();
        let fault = (!self.calm && self.rng.gen_bool(0.3)).then(|| self.spoil(&mut chunks));
        let mut arrivals = self.arrivals(from.node_id(), to.node_id());
        let assembled = assemble(chunks);
        self.trace.line(
            self.now,
            format_args!(
                "{from} sends a snapshot to {to}, arriving in {arrivals:?}, {fault:?}: {:?}",
                assembled.as_ref().err()
            ),
        );
        if assembled.is_err() {
            self.summary.broken_snapshots += 1;
            arrivals.clear();
        }
        let delivered = !arrivals.is_empty() && self.rng.gen_bool(0.8);
        let delay = arrivals.iter().max().copied().unwrap_or(SNAPSHOT_TIMEOUT) + 1;
        let report = Input::SnapshotReport { to, delivered };
        self.schedule_input(delay, from.node_id(), Some(incarnation), report);
        if let Ok((header, state_machine)) = assembled {
            for delay in arrivals {
                let snapshot = Input::Snapshot {
                    header: header.clone(),
                    state_machine: state_machine.clone(),
                };
                self.schedule_input(delay, to.node_id(), None, snapshot);
            }
        }
    }

    /// A chunk of a snapshot gets a fault.
    fn spoil(&mut self, chunks: &mut Vec<InstallSnapshotRequest>) -> ChunkFault {
        let at = self.rng.gen_range(0..chunks.len());
        match self.rng.gen_range(0..4) {
            0 => {
                chunks.truncate(at);
                ChunkFault::CutBefore(at)
            }
            1 => {
                chunks.remove(at);
                ChunkFault::Lost(at)
            }
            2 => {
                let chunk = chunks[at].clone();
                chunks.insert(at, chunk);
                ChunkFault::Doubled(at)
            }
            _ => {
                let mut data = chunks[at].data.to_vec();
                let byte = self.rng.gen_range(0..data.len());
                data[byte] ^= 1 << self.rng.gen_range(0..8);
                chunks[at].data = data.into();
                ChunkFault::Damaged(at)
            }
        }
    }

    /// A snapshot has reached `node`.
    pub(crate) fn install(
        &mut self,
        node: NodeId,
        header: InstallSnapshotHeader,
        state_machine: StateMachine,
    ) {
        let Some(process) = self.processes.get_mut(&node) else {
            return;
        };
        let outcome = process.replica.install(header, state_machine);
        self.trace.line(
            self.now,
            format_args!("{node} takes a snapshot: {outcome:?}"),
        );
    }
}

/// The fate of a chunk under way.
#[derive(Debug)]
#[expect(dead_code, reason = "shown in the trace")]
enum ChunkFault {
    CutBefore(usize),
    Lost(usize),
    Doubled(usize),
    Damaged(usize),
}

/// Assembles a snapshot, as the receiver does.
fn assemble(
    chunks: Vec<InstallSnapshotRequest>,
) -> Result<(InstallSnapshotHeader, StateMachine), WireError> {
    let Some(first) = chunks.first() else {
        return Err(WireError::new("InstallSnapshotRequest", "data", "no chunk"));
    };
    let mut assembly = SnapshotAssembly::new(first, usize::MAX)?;
    for chunk in chunks {
        assembly.add(chunk)?;
    }
    assembly.finish()
}
