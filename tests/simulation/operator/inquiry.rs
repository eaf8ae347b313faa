//! The operator's requests to a node, and how that node finds an answer: it asks the others for their
//! status, waits until all have answered or some time is over, and then decides.

use std::collections::{BTreeMap, BTreeSet};

use rand::Rng;
use seshat::cluster::Answer;
use seshat::kv::Command;
use seshat::types::{Answering, ClusterId, NodeId, NodeStatus};

use super::judgement::{self, Order};
use crate::delivery::wire_view;
use crate::invariants::Verdict;
use crate::process::{Incarnation, Input};
use crate::world::World;

/// The name of an inquiry.
pub(crate) type InquiryId = u64;

/// Milliseconds for which a node waits for the statuses of the others.
const TEST_TIMEOUT: u64 = 1_000;
/// The same before a recovery, and the pause between two questions to a node that does not answer.
const RECOVERY_TIMEOUT: u64 = 2_000;
const PAUSE: u64 = 300;

/// Milliseconds for which answers count after the node has begun to ask, as in its services: if it was so slow
/// that more have passed, no answer counts.
const MAX_AGE: u64 = TEST_TIMEOUT + 200;

/// Milliseconds within which no process need have noticed that another one has ended.
const UNSEEN: u64 = 450;

/// The request of the operator.
#[derive(Debug, Clone)]
pub(super) enum Wish {
    /// To see the status of the cluster.
    Look,
    /// To add or remove a member.
    Change(Command),
    /// A cluster without these initial members.
    Form(BTreeSet<NodeId>),
    /// A new cluster of the state of the asked node.
    Recover(Order),
}

/// A question of the operator that a node is about to answer.
#[derive(Debug)]
pub(super) struct Inquiry {
    wish: Wish,
    began: u64,
    /// When the node began to ask.
    asked: u64,
    /// The process that was asked, once it has been.
    incarnation: Option<Incarnation>,
    /// The cluster that it took part in then.
    begun_in: Option<ClusterId>,
    others: BTreeSet<NodeId>,
    heard: BTreeMap<NodeId, NodeStatus>,
}

impl World {
    /// The operator asks `node`.
    pub(super) fn ask_node(&mut self, node: NodeId, wish: Wish) {
        self.operator.asked += 1;
        let id = self.operator.asked;
        let inquiry = Inquiry {
            wish,
            began: self.now,
            asked: self.now,
            incarnation: None,
            begun_in: None,
            others: BTreeSet::new(),
            heard: BTreeMap::new(),
        };
        self.operator.inquiries.insert(id, inquiry);
        let delay = self.rng.gen_range(1..20);
        self.schedule_input(delay, node, None, Input::Operator(id));
    }

    /// The question has reached `node`.
    pub(crate) fn asked_by_operator(&mut self, node: NodeId, id: InquiryId) -> Verdict {
        let Some(process) = self.processes.get_mut(&node) else {
            return Ok(());
        };
        let Some(inquiry) = self.operator.inquiries.get_mut(&id) else {
            return Ok(());
        };
        if let Wish::Form(without) = &inquiry.wish {
            let formed = process.replica.form_without(without.clone());
            self.trace
                .line(self.now, format_args!("{node} forms without: {formed:?}"));
            self.summary.obeyed.forms += u64::from(formed.is_ok());
            self.operator.inquiries.remove(&id);
            return Ok(());
        }
        if let Some(incarnation) = inquiry.incarnation {
            if incarnation == process.incarnation {
                self.question(node, incarnation, id);
            }
            return Ok(());
        }
        let own = process.status();
        let nodes = process.replica.nodes().ids();
        let mut others: BTreeSet<_> = nodes.chain(judgement::known(&own)).collect();
        others.remove(&node);
        let incarnation = process.incarnation;
        (inquiry.asked, inquiry.begun_in) = (self.now, own.cluster_id);
        (inquiry.incarnation, inquiry.others) = (Some(incarnation), others);
        let max_wait = match inquiry.wish {
            Wish::Recover(_) => RECOVERY_TIMEOUT,
            _ => TEST_TIMEOUT,
        };
        let repeat = matches!(inquiry.wish, Wish::Recover(_));
        self.question(node, incarnation, id);
        let mut again = PAUSE;
        while repeat && again < max_wait {
            self.schedule_input(again, node, Some(incarnation), Input::Operator(id));
            again += PAUSE;
        }
        self.schedule_input(max_wait, node, Some(incarnation), Input::Conclude(id));
        Ok(())
    }

    /// `node` asks all nodes that have not answered yet.
    fn question(&mut self, node: NodeId, incarnation: Incarnation, id: InquiryId) {
        let Some(inquiry) = self.operator.inquiries.get(&id) else {
            return;
        };
        let silent = inquiry.others.iter();
        let silent: Vec<_> = silent
            .filter(|other| !inquiry.heard.contains_key(other))
            .copied()
            .collect();
        for other in silent {
            if let Some(delay) = self.arrivals(node, other).first().copied() {
                let from = (node, incarnation);
                let question = Input::Question { from, inquiry: id };
                self.schedule_input(delay, other, None, question);
            }
        }
    }

    /// `node` reports its status.
    pub(crate) fn answer_question(
        &mut self,
        node: NodeId,
        from: (NodeId, Incarnation),
        id: InquiryId,
    ) {
        let Some(process) = self.processes.get(&node) else {
            return;
        };
        let status = wire_view(process.status());
        if let Some(delay) = self.arrivals(node, from.0).first().copied() {
            let inquiry = id;
            let answer = Input::Answer { inquiry, status };
            self.schedule_input(delay, from.0, Some(from.1), answer);
        }
    }

    /// `node` hears the status of another one.
    pub(crate) fn hear_answer(
        &mut self,
        node: NodeId,
        id: InquiryId,
        status: NodeStatus,
    ) -> Verdict {
        let Some(inquiry) = self.operator.inquiries.get_mut(&id) else {
            return Ok(());
        };
        inquiry.heard.insert(status.raft_id.node_id(), status);
        match inquiry
            .others
            .iter()
            .all(|it| inquiry.heard.contains_key(it))
        {
            true => self.conclude(node, id),
            false => Ok(()),
        }
    }

    /// `node` has heard enough, or waited long enough.
    pub(crate) fn conclude(&mut self, node: NodeId, id: InquiryId) -> Verdict {
        let Some(process) = self.processes.get(&node) else {
            return Ok(());
        };
        let Some(inquiry) = self.operator.inquiries.remove(&id) else {
            return Ok(());
        };
        // It looks at itself last.
        let own = process.status();
        let age = self.now - inquiry.asked;
        let is_old = age > MAX_AGE && !matches!(inquiry.wish, Wish::Recover(_));
        let answer = |other| match inquiry.heard.get(&other) {
            _ if is_old => Err(Answering::Hung),
            Some(heard) => Ok(heard.clone()),
            None => Err(self.found(node, other)),
        };
        let answers: BTreeMap<NodeId, Answer> = inquiry
            .others
            .iter()
            .map(|&other| (other, answer(other)))
            .collect();
        match inquiry.wish {
            Wish::Look => {
                let survey = judgement::survey(&process.replica, answers, inquiry.begun_in);
                self.decide(&judgement::look(&survey), inquiry.began)
            }
            Wish::Change(command) => {
                let survey = judgement::survey(&process.replica, answers, inquiry.begun_in);
                let allowed = judgement::may_change(&survey, &command);
                // A node decides one change after the other.
                let busy = self.operator.leaving.is_some();
                if busy && matches!(command, Command::RemoveMember(_)) {
                    return Ok(());
                }
                self.trace
                    .line(self.now, format_args!("{node}: {command:?}: {allowed:?}"));
                // A process that has just died counts as alive for a moment, for all others.
                let unseen = self.operator.last_loss > inquiry.began
                    && self.operator.last_loss + UNSEEN > self.now;
                if allowed.is_ok() && !unseen {
                    self.change_members(node, command);
                }
                Ok(())
            }
            Wish::Form(_) => Ok(()),
            Wish::Recover(order) => {
                // A node that accepts connections is there, whether it answers or not.
                let others = inquiry.others.iter().copied();
                let there = others.filter(|&other| self.takes_connections(node, other));
                let answered = inquiry.heard.keys().copied().chain(there).collect();
                let (order, heard) = self.as_sabotaged(&own, order, answers);
                self.recover(node, order, heard, answered)
            }
        }
    }
}
