//! The calls of a process to others outside of Raft, their answers, and questions of others.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Replica;
use crate::node::{Call, CallId, Reply};
use crate::types::{Answering, Introduction, NodeId, RaftId, Role};

impl<W> Replica<W> {
    /// Asks `nodes` for their identity and status.
    pub(super) fn ask(&mut self, nodes: impl IntoIterator<Item = NodeId>) {
        for to in nodes.into_iter().collect::<BTreeSet<_>>() {
            let question = self.call(to, Call::Identify(self.introduction()));
            self.questions.ask(question);
            self.reaching.asks(to);
        }
    }

    /// Makes `call` to the node `to`.
    pub(super) fn call(&mut self, to: NodeId, call: Call) -> CallId {
        let number = self.formation.next_call();
        let id = CallId { to, number };
        self.output.calls.push((id, call));
        id
    }

    /// The introduction of this process for its questions. It names all nodes that take part, and so
    /// itself even if it is no longer a member: members that have lost their memory have to find the
    /// state that it still has.
    pub fn introduction(&self) -> Introduction {
        match &self.raft {
            Some(_) => Introduction {
                members: Arc::clone(self.directory.parts()),
                ..self.formation.introduction()
            },
            None => self.formation.introduction(),
        }
    }

    /// Another process asks this one for its identity.
    pub fn asked(&mut self, by: &Introduction) {
        if let Some(raft) = &self.raft {
            if by.cluster_id.is_none_or(|id| id == raft.cluster_id()) {
                self.reaching.asked_by(by.raft_id.node_id());
            }
            self.met(by.raft_id);
        } else {
            self.formation.asked(by);
            self.follow_formation();
        }
    }

    /// Notes that the process `asking` has asked. If it goes on asking and takes no part, a leader asks
    /// back at its node's address: if another process answers there, the node has two.
    fn met(&mut self, asking: RaftId) {
        let Some(raft) = self.raft.as_ref() else {
            return;
        };
        let conf = Arc::clone(raft.conf());
        let takes_part = conf.voters.contains(&asking) || conf.learners.contains(&asking);
        let node = asking.node_id();
        if raft.role() != Role::Leader || takes_part || !conf.members.contains(&node) {
            return;
        }
        if !self.reconciler.goes_on_asking(asking) {
            return;
        }
        if node == self.raft_id().node_id() {
            self.look_for_doubles(self.raft_id());
        } else {
            self.ask([node]);
        }
        self.look_for_doubles(asking);
    }

    /// Takes the reply to a call of this process.
    pub fn replied(&mut self, call: CallId, reply: Reply) {
        if let Reply::Identified(status) = &reply
            && status.raft_id.node_id() == call.to
        {
            self.agreed.heard(status);
        }
        if self.raft.is_some() {
            match reply {
                Reply::Identified(status) => {
                    let Some(age) = self.questions.answered(call) else {
                        return;
                    };
                    self.reaching.answered(call.to, status.raft_id, age);
                    self.heard_of_claimant(&status);
                    self.reconciler.heard(call.to, &status, age);
                    self.look_at(&status);
                    self.departure.heard(call.to, &status);
                    self.reconcile();
                    self.depart();
                }
                Reply::Yielded { attempt, answer } => {
                    self.answered_claim(call.to, attempt, answer);
                }
                Reply::Misdirected(answering) => self.missed(call, answering),
                Reply::Failed => self.missed(call, Answering::Silent),
                Reply::Offered { .. } | Reply::Started => {}
            }
            return;
        }
        self.formation.replied(call, reply);
        self.follow_formation();
    }

    /// Notes that a call has failed. If it was a question, `answering` is what answers at the address of
    /// the asked node.
    fn missed(&mut self, call: CallId, answering: Answering) {
        if let Some(age) = self.questions.answered(call) {
            self.reaching.failed(call.to, answering, age);
        }
    }
}
