//! How what a process puts out reaches the others: messages, snapshots, and calls with their
//! replies.

use rand::Rng;
use seshat::kv::StateMachine;
use seshat::node::{Call, CallId, OutgoingSnapshot, PeerMessage, Reply};
use seshat::proto::raft::InstallSnapshotRequest;
use seshat::types::{NodeId, NodeState, NodeStatus, Offer, RaftId};

use seshat::wire::{SnapshotAssembly, SnapshotChunks, SnapshotHeader, WireError};

use crate::process::{Input, Life};
use crate::world::World;

/// Milliseconds after which it is known that a snapshot has not arrived.
const SNAPSHOT_TIMEOUT: u64 = 200;
/// Bytes of a snapshot in one chunk: a few pairs.
const CHUNK_BYTES: usize = 64;
/// Milliseconds after which it is known that a call has failed.
const CALL_FAILS_AFTER: u64 = 50;

impl World {
    /// Sends a message of `from`.
    pub(crate) fn send(&mut self, from: RaftId, message: PeerMessage) {
        let to = message.envelope().expect("made by a node").to;
        let arrivals = self.arrivals(from.node_id(), to.node_id());
        self.trace.line(
            self.now,
            format_args!(
                "{from} sends {} to {to}, arriving in {arrivals:?}",
                message.name()
            ),
        );
        if arrivals.is_empty() && self.rng.gen_bool(0.1) {
            let process = self.processes.get_mut(&from.node_id());
            process.expect("it sends").member.report_unreachable(to);
        }
        for delay in arrivals {
            let message = Input::Message {
                message: message.clone(),
                sent_at: self.now,
            };
            self.schedule_input(delay, to.node_id(), None, message);
        }
    }

    /// Sends a snapshot of `from`, chunk by chunk. The transport always says how it went; sometimes
    /// it is wrong about a success, when the answer is lost.
    pub(crate) fn send_snapshot(&mut self, from: RaftId, life: Life, snapshot: OutgoingSnapshot) {
        let OutgoingSnapshot {
            header,
            state_machine,
        } = snapshot;
        let to = header.envelope().expect("made by a node").to;
        let mut chunks: Vec<_> = SnapshotChunks::new(header, state_machine, CHUNK_BYTES).collect();
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
        self.schedule_input(delay, from.node_id(), Some(life), report);
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

    /// Something happens to some chunk of a snapshot.
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
        header: SnapshotHeader,
        state_machine: StateMachine,
    ) {
        let process = self.processes.get_mut(&node).expect("every node lives");
        let outcome = process.member.install(header, state_machine);
        self.trace.line(
            self.now,
            format_args!("{node} takes a snapshot: {outcome:?}"),
        );
    }

    /// A message reaches `node`.
    pub(crate) fn deliver(&mut self, node: NodeId, message: PeerMessage, sent_at: u64) {
        self.note_follower(node, &message, sent_at);
        let name = message.name();
        let process = self.processes.get_mut(&node).expect("every node lives");
        let outcome = process.member.step(message);
        self.trace
            .line(self.now, format_args!("{node} takes {name}: {outcome:?}"));
    }

    /// Makes a call of the process `life` at `from`.
    pub(crate) fn call(&mut self, from: NodeId, life: Life, id: CallId, call: &Call) {
        let to = id.to;
        let arrivals = self.arrivals(from, to);
        if arrivals.is_empty() && self.rng.gen_bool(0.5) {
            let failed = Input::Reply {
                id,
                reply: Reply::Failed,
            };
            self.schedule_input(CALL_FAILS_AFTER, from, Some(life), failed);
        }
        for delay in arrivals {
            let call = Input::Call {
                from: (from, life),
                id,
                call: call.clone(),
            };
            self.schedule_input(delay, to, None, call);
        }
    }

    /// A call reaches `node`, which replies.
    pub(crate) fn answer_call(
        &mut self,
        from: (NodeId, Life),
        id: CallId,
        node: NodeId,
        call: Call,
    ) {
        let process = self.processes.get_mut(&node).expect("every node lives");
        let member = &mut process.member;
        let raft_id = member.raft_id();
        let meant = |offer: &Offer| offer.members.contains(&raft_id);
        let reply = match call {
            Call::Identify(by) => {
                member.asked(&by);
                Reply::Identified(wire_view(member.status()))
            }
            Call::Offer(ref offer) | Call::Start(ref offer) if !meant(offer) => Reply::Failed,
            Call::Offer(offer) => Reply::Offered {
                cluster_id: offer.cluster_id,
                accepted: member.offered(offer),
            },
            Call::Start(offer) => {
                member.start(offer.cluster_id, offer.coordinator);
                Reply::Started
            }
            Call::Yield { to, .. } if to != member.raft_id() => Reply::Failed,
            Call::Yield { claim, .. } => Reply::Yielded {
                attempt: claim.attempt,
                answer: member.yield_to(&claim),
            },
        };
        let (caller, life) = from;
        self.trace.line(
            self.now,
            format_args!("{node} replies to {caller}: {reply:?}"),
        );
        for delay in self.arrivals(node, caller) {
            let reply = Input::Reply {
                id,
                reply: reply.clone(),
            };
            self.schedule_input(delay, caller, Some(life), reply);
        }
    }

    /// When the copies of something sent now arrive.
    fn arrivals(&mut self, from: NodeId, to: NodeId) -> Vec<u64> {
        let alone = |node| self.processes[node].alone_until > self.now;
        if [from, to].iter().any(alone) {
            return Vec::new();
        }
        self.network.arrivals(&mut self.rng, from, to)
    }
}

/// What becomes of a chunk on its way.
#[derive(Debug)]
#[expect(dead_code, reason = "shown in the trace")]
enum ChunkFault {
    CutBefore(usize),
    Lost(usize),
    Doubled(usize),
    Damaged(usize),
}

/// Puts a snapshot together, as the receiver does.
fn assemble(
    chunks: Vec<InstallSnapshotRequest>,
) -> Result<(SnapshotHeader, StateMachine), WireError> {
    let Some(first) = chunks.first() else {
        return Err(WireError::new("InstallSnapshotRequest", "data", "no chunk"));
    };
    let mut assembly = SnapshotAssembly::new(first, u64::MAX)?;
    for chunk in chunks {
        assembly.add(chunk)?;
    }
    assembly.finish()
}

/// What a status becomes on its way over the wire: an outside process says that it is fresh.
fn wire_view(mut status: NodeStatus) -> NodeStatus {
    if status.state == NodeState::Outside {
        status.state = NodeState::Fresh;
        status.cluster_id = None;
    }
    status
}
