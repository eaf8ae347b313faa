//! What a process asks others outside of Raft, what they answer, and who asks it.

use std::sync::Arc;

use super::Member;
use crate::node::{Call, CallId, RaftNode, Reply};
use crate::types::{Introduction, NodeId, NodeStatus};

impl<W> Member<W> {
    /// Asks `nodes` who they are.
    pub(super) fn ask(&mut self, nodes: impl IntoIterator<Item = NodeId>) {
        for to in nodes {
            let question = self.call(to, Call::Identify(self.introduction()));
            self.questions.ask(question);
        }
    }

    /// Makes `call` to the node `to`.
    pub(super) fn call(&mut self, to: NodeId, call: Call) -> CallId {
        let number = self.formation.next_call();
        let id = CallId { to, number };
        self.output.calls.push((id, call));
        id
    }

    /// Who this process is, for whom it asks.
    pub fn introduction(&self) -> Introduction {
        match &self.raft {
            Some(_) => Introduction {
                members: Arc::clone(self.directory.members()),
                ..self.formation.introduction()
            },
            None => self.formation.introduction(),
        }
    }

    /// How the process stands. `joined_at` and `receiving` are for the shell to fill in.
    pub fn status(&self) -> NodeStatus {
        let raft = self.raft.as_ref();
        let storage = raft.map(RaftNode::storage);
        let keys = storage.map_or(0, |storage| storage.state_machine().len());
        let bytes = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        NodeStatus {
            raft_id: self.options.raft_id,
            state: self.formation.state(),
            cluster_id: self.formation.cluster_id(),
            recovered_from: storage
                .map(|storage| Arc::clone(storage.state_machine().recovered_from()))
                .unwrap_or_default(),
            role: raft.map(RaftNode::role),
            term: raft.map_or(0, RaftNode::term),
            leader: raft.and_then(RaftNode::leader),
            commit_index: raft.map_or(0, RaftNode::commit_index),
            applied_index: storage.map_or(0, |storage| storage.applied()),
            keys: u64::try_from(keys).unwrap_or(u64::MAX),
            state_bytes: storage.map_or(0, |storage| bytes(storage.state_machine().memory())),
            max_state_bytes: bytes(self.options.raft.max_state_bytes),
            joined_at: None,
            last_index: raft.map_or(0, RaftNode::last_index),
            last_term: raft.map_or(0, RaftNode::last_term),
            awaits: match raft {
                Some(_) => Vec::new(),
                None => self.formation.awaits(),
            },
            conf: raft.map(|raft| Arc::clone(raft.conf())).unwrap_or_default(),
            members_known: raft.is_some_and(RaftNode::members_are_known),
            receiving: None,
            recovery: self.claims.attempt(),
            following: raft.and_then(RaftNode::following),
            doubled: self.reconciler.doubles(),
            level: self.options.raft.level,
            cluster_level: raft.map(RaftNode::level).unwrap_or_default(),
            unreadable: raft.and_then(RaftNode::unreadable),
        }
    }

    /// Another process asks this one who it is.
    pub fn asked(&mut self, by: &Introduction) {
        if self.raft.is_none() {
            self.formation.asked(by);
            self.follow_formation();
        }
    }

    /// A reply to a call of this process has come.
    pub fn replied(&mut self, call: CallId, reply: Reply) {
        if self.raft.is_some() {
            match reply {
                Reply::Identified(status) => {
                    let Some(age) = self.questions.answered(call) else {
                        return;
                    };
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
                Reply::Offered { .. } | Reply::Started | Reply::Stranger(_) | Reply::Failed => {}
            }
            return;
        }
        self.formation.replied(call, reply);
        self.follow_formation();
    }
}
