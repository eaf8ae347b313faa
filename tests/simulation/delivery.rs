//! The delivery of a process's output: messages, and calls with their replies.

use rand::Rng;
use seshat::node::{Call, CallId, PeerMessage, Reply};
use seshat::types::{Answering, NodeId, NodeState, NodeStatus, Offer, RaftId};

use crate::process::{Incarnation, Input};
use crate::sabotage::Sabotage;
use crate::setting::ENTRY_BYTES;
use crate::world::World;

/// Milliseconds for which messages wait for their link before the next ones are dropped.
pub(crate) const QUEUE: u64 = 300;
/// Milliseconds after which the failure of a call is known.
const CALL_FAILS_AFTER: u64 = 50;
/// Milliseconds after which it is known that a process hangs.
const CALL_HANGS_AFTER: u64 = 3_000;

impl World {
    /// Sends a message of `from`.
    pub(crate) fn send(&mut self, from: RaftId, message: PeerMessage) {
        let to = message.envelope().expect("made by a node").to;
        if !self.knows_the_way(from.node_id(), to.node_id(), &message) {
            return;
        }
        let arrivals = self.arrivals(from.node_id(), to.node_id());
        self.trace.line(
            self.now,
            format_args!(
                "{from} sends {} to {to}, arriving in {arrivals:?}",
                described(&message)
            ),
        );
        if arrivals.is_empty()
            && self.rng.gen_bool(0.1)
            && let Some(process) = self.processes.get_mut(&from.node_id())
        {
            process.replica.report_unreachable(to);
        }
        let Some(queued) = self.queue(from.node_id(), to.node_id(), &message) else {
            // The queue of the peer is full.
            if let Some(process) = self.processes.get_mut(&from.node_id()) {
                process.replica.report_unreachable(to);
            }
            return;
        };
        let held_up = queued + self.held_up(to.node_id());
        for delay in arrivals {
            let delay = self.in_order(from.node_id(), to.node_id(), &message, delay + held_up);
            let message = Input::Message {
                message: message.clone(),
                sent_at: self.now,
            };
            self.schedule_input(delay, to.node_id(), None, message);
        }
    }

    /// Milliseconds for which a message waits behind others of its link; `None` if too much waits there.
    /// A message without entries overtakes them.
    fn queue(&mut self, from: NodeId, to: NodeId, message: &PeerMessage) -> Option<u64> {
        let (Some(bandwidth), PeerMessage::AppendEntries(request)) =
            (self.setting.bandwidth, message)
        else {
            return Some(0);
        };
        let entries = u64::try_from(request.entries.len()).expect("small");
        let now = self.now;
        let link = self.links.entry((from, to)).or_default();
        let free_at = (*link).max(now) + entries * ENTRY_BYTES / bandwidth;
        if *link > now && free_at > now + QUEUE {
            return None;
        }
        *link = free_at;
        Some(free_at - now)
    }

    /// The arrival time of a message that travels for so many milliseconds: on a stream no message
    /// overtakes another.
    fn in_order(&mut self, from: NodeId, to: NodeId, message: &PeerMessage, delay: u64) -> u64 {
        let streams = matches!(
            message,
            PeerMessage::AppendEntries(_) | PeerMessage::AppendEntriesReply(_)
        );
        if self.setting.reorders_appends || !streams {
            return delay;
        }
        let now = self.now;
        let last = self.streams.entry((from, to)).or_default();
        *last = (*last).max(now + delay);
        *last - now
    }

    /// Whether the process has an address for the receiver: it knows the members, and the processes that
    /// still take part. A reply returns on the connection of its request.
    fn knows_the_way(&self, from: NodeId, to: NodeId, message: &PeerMessage) -> bool {
        let is_reply = matches!(
            message,
            PeerMessage::RequestVoteReply(_)
                | PeerMessage::AppendEntriesReply(_)
                | PeerMessage::HeartbeatReply(_)
        );
        let process = self.processes.get(&from);
        is_reply || process.is_some_and(|it| it.replica.nodes().contains(to))
    }

    /// A message reaches `node`.
    pub(crate) fn deliver(&mut self, node: NodeId, message: PeerMessage, sent_at: u64) {
        self.note_follower(node, &message, sent_at);
        let name = message.name();
        let Some(process) = self.processes.get_mut(&node) else {
            return;
        };
        let outcome = process.replica.step(message);
        self.trace
            .line(self.now, format_args!("{node} takes {name}: {outcome:?}"));
    }

    /// Makes a call of `incarnation` at `from`.
    pub(crate) fn call(&mut self, from: NodeId, incarnation: Incarnation, id: CallId, call: &Call) {
        let to = id.to;
        let arrivals = self.arrivals(from, to);
        if arrivals.is_empty() && self.rng.gen_bool(0.5) {
            let failed = Input::Reply {
                id,
                reply: Reply::Failed,
            };
            self.schedule_input(CALL_FAILS_AFTER, from, Some(incarnation), failed);
        }
        if matches!(call, Call::Identify(_)) && !arrivals.is_empty() && self.hangs(to) {
            let (after, reply) = match self.found(from, to) {
                Answering::Silent => (CALL_FAILS_AFTER, Reply::Failed),
                found => (CALL_HANGS_AFTER, Reply::Misdirected(found)),
            };
            self.schedule_input(after, from, Some(incarnation), Input::Reply { id, reply });
        }
        for delay in arrivals {
            let call = Input::Call {
                from: (from, incarnation),
                id,
                call: call.clone(),
            };
            self.schedule_input(delay, to, None, call);
        }
    }

    /// A call reaches `node`, which replies.
    pub(crate) fn answer_call(
        &mut self,
        from: (NodeId, Incarnation),
        id: CallId,
        node: NodeId,
        call: Call,
    ) {
        let Some(process) = self.processes.get_mut(&node) else {
            return;
        };
        process.asked_by.insert(from.0);
        let replica = &mut process.replica;
        let raft_id = replica.raft_id();
        let desired = |offer: &Offer| offer.members.contains(&raft_id);
        let reply = match call {
            Call::Identify(by) => {
                if self.plan.sabotage != Some(Sabotage::Forgets) {
                    replica.asked(&by);
                }
                Reply::Identified(Box::new(wire_view(replica.status())))
            }
            Call::Offer(ref offer) | Call::Start(ref offer) if !desired(offer) => Reply::Failed,
            Call::Offer(offer) => Reply::Offered {
                cluster_id: offer.cluster_id,
                accepted: replica.offered(offer),
            },
            Call::Start(offer) => {
                replica.start(offer.cluster_id, offer.coordinator);
                Reply::Started
            }
            Call::Yield { to, .. } if to != replica.raft_id() => Reply::Failed,
            Call::Yield { claim, .. } => Reply::Yielded {
                attempt: claim.attempt,
                answer: replica.yield_to(&claim),
            },
        };
        let (caller, incarnation) = from;
        self.trace.line(
            self.now,
            format_args!("{node} replies to {caller}: {reply:?}"),
        );
        for delay in self.arrivals(node, caller) {
            let reply = Input::Reply {
                id,
                reply: reply.clone(),
            };
            self.schedule_input(delay, caller, Some(incarnation), reply);
        }
    }

    /// The arrival times of the copies of a message that is sent now.
    pub(crate) fn arrivals(&mut self, from: NodeId, to: NodeId) -> Vec<u64> {
        if !self.is_reachable(from) || !self.is_reachable(to) {
            return Vec::new();
        }
        let distance = self.setting.distance(from, to);
        let mut arrivals = self.network.arrivals(&mut self.rng, from, to);
        arrivals.iter_mut().for_each(|delay| *delay += distance);
        arrivals
    }

    /// Whether the node is on and on the network.
    pub(crate) fn is_reachable(&self, node: NodeId) -> bool {
        let process = self.processes.get(&node);
        process.is_some_and(|process| process.alone_until <= self.now)
    }
}

/// The name of a message, and the position of an append.
fn described(message: &PeerMessage) -> String {
    let name = message.name();
    match message {
        PeerMessage::AppendEntries(it) => {
            format!(
                "{name} behind {} of {}",
                it.prev_log_index,
                it.entries.len()
            )
        }
        PeerMessage::AppendEntriesReply(it) => {
            let outcome = if it.success { "holds" } else { "refuses" };
            format!("{name} {outcome} {}", it.index)
        }
        _ => name.to_owned(),
    }
}

/// The conversion of a status on the wire: an outside process reports that it is fresh.
pub(crate) fn wire_view(mut status: NodeStatus) -> NodeStatus {
    if status.state == NodeState::Outside {
        status.state = NodeState::Fresh;
        status.cluster_id = None;
    }
    status
}
