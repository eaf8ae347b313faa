//! The judgement as text for operators: one word and one sentence.

use super::change::no_spare;
use super::clocks;
use super::healed::PendingChange;
use super::paths::correct;
use super::phrases::{hung, nodes};
use super::recovery::{Obstacle, Way};
use super::{ClusterView, MemberState};
use crate::types::{Answering, NodeId, NodeState, NodeStatus, Role};

/// With less than one part in this many of the smallest bound free, the summary says so.
const LITTLE_FREE: u64 = 10;

/// The state of a cluster, as one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The initial members have not all found one another yet.
    Forming,
    /// Healed: any one member may be restarted now.
    Healthy,
    /// Every member takes part, but the cluster is too small to lose one.
    NoSpare,
    /// Every member answers, and the leader is about to make all of them voters.
    Healing,
    /// There is a leader, but some member does not answer, does not belong to the cluster, does not keep
    /// up, or does not reach all others.
    Degraded,
    /// There is no leader: reads and writes wait.
    NoQuorum,
    /// There can never be a leader again.
    Halted,
}

impl ClusterView<'_> {
    /// The state of the cluster as one word and one sentence.
    pub fn sum_up(&self) -> (State, String) {
        let (state, summary) = self.sum_up_troubles();
        let differing = self.differing_limits();
        let all = std::iter::once(summary)
            .chain(differing)
            .chain(self.nearly_full());
        (state, all.collect::<Vec<_>>().join("; "))
    }

    /// The limits that differ between members. This is normal while an operator changes them node by node.
    fn differing_limits(&self) -> Vec<String> {
        let limits = || {
            let views = self.parts();
            views.filter_map(|view| Some((view.raft_id.node_id(), view.limits?.named())))
        };
        let names = limits().next().map(|(_, named)| named);
        let names = names.into_iter().flatten().map(|(name, _)| name);
        let differing = names.enumerate().filter_map(|(at, name)| {
            let values = || limits().filter_map(|(node, named)| Some((named.get(at)?.1, node)));
            let (least, (most, other)) = (values().min()?.0, values().max()?);
            let smaller = values().filter(|(value, _)| *value == least);
            let smaller: Vec<_> = smaller.map(|(_, node)| node).collect();
            (least < most).then(|| {
                format!(
                    "{name} is {least} on {} and {most} on node {other}: the cluster keeps to the \
                     smaller, set it alike on every node",
                    nodes(&smaller)
                )
            })
        });
        differing.collect()
    }

    /// The members with the smallest memory bound of the state, if little of it is free: the leader refuses
    /// what would be more. A learner has its own step, which says if the state is too large for it.
    fn nearly_full(&self) -> Option<String> {
        let state = self.leader_view()?.state_bytes;
        let bounds = || {
            let votes = |view: &&NodeStatus| view.role != Some(Role::Learner);
            let views = self.parts().filter(votes);
            let views = views.filter(|view| view.max_state_bytes > 0);
            views.map(|view| (view.max_state_bytes, view.raft_id.node_id()))
        };
        let (least, _) = bounds().min()?;
        let smallest = bounds().filter(|(bound, _)| *bound == least);
        let smallest: Vec<_> = smallest.map(|(_, node)| node).collect();
        (least.saturating_sub(state) < least / LITTLE_FREE).then(|| {
            format!(
                "the state takes {state} of at most {least} bytes, the limits.max_state_bytes of {}: delete \
                 keys, or raise that there",
                nodes(&smallest)
            )
        })
    }

    fn sum_up_troubles(&self) -> (State, String) {
        if self.cluster.is_none() {
            return (State::Forming, self.forming());
        }
        if let Some(way) = self.halt() {
            return (State::Halted, self.halted(&way));
        }
        let left_over = self.left_over();
        if !left_over.is_empty() {
            let summary = format!(
                "halted: every member has lost its memory, and nothing can be recovered; a new cluster \
                 forms when you start {} again",
                nodes(&left_over)
            );
            return (State::Halted, summary);
        }
        let troubles = self.troubles();
        let steps = self.steps();
        let pending_changes = self.change_words(troubles.is_empty() && steps.is_empty());
        let all = [troubles.as_slice(), &steps, &pending_changes]
            .concat()
            .join("; ");
        if self.leader.is_none() {
            let why = match self.way() {
                // The others wait for something else than the rest of this cluster.
                Some(Err(why @ (Obstacle::Elsewhere { .. } | Obstacle::UnderWay(_)))) => {
                    why.to_string()
                }
                _ if all.is_empty() => "no leader yet, an election is under way".to_owned(),
                _ => all,
            };
            return (State::NoQuorum, format!("no quorum: {why}"));
        }
        if !troubles.is_empty() {
            return (State::Degraded, format!("degraded: {all}"));
        }
        if self.is_whole() {
            return match no_spare(self.survey.members().len()) {
                None => (State::Healthy, HEALTHY.to_owned()),
                Some(cost) => (State::NoSpare, format!("no spare: {cost}")),
            };
        }
        let unsure = self.unsure();
        let summary = match (
            steps.is_empty(),
            pending_changes.is_empty(),
            unsure.is_empty(),
        ) {
            (false, _, _) => format!("healing {all}"),
            (true, false, _) => format!("healing: {all}"),
            (true, true, false) => format!("healing: {}", unsure.join("; ")),
            (true, true, true) => "healing: the leader has just been elected".to_owned(),
        };
        (State::Healing, summary)
    }

    fn forming(&self) -> String {
        let survey = self.survey;
        let members = survey.members().ids();
        let (here, missing): (Vec<_>, Vec<_>) = members.partition(|id| self.view(*id).is_some());
        let own = self.view(survey.own());
        let awaits = own.map_or(&[][..], |own| own.awaits.as_slice());
        if !awaits.is_empty() {
            return former(&missing, awaits);
        }
        let differing = survey.views().find_map(|view| {
            let other = view.differs_from?;
            Some((view.raft_id.node_id(), other))
        });
        if let Some((node, other)) = differing {
            return format!(
                "forming: cluster.initial_members of nodes {other} and {node} differ: make them the same \
                 on every node, and start again those whose file has changed"
            );
        }
        let mistyped = self.mistyped();
        if !mistyped.is_empty() {
            return format!("forming: {}", mistyped.join("; "));
        }
        if missing.is_empty() {
            let views = here.iter().filter_map(|id| self.view(*id));
            if let Some(clocks) = clocks::wrong(views) {
                return format!("forming: {clocks}");
            }
            let coordinator = here.first().copied().unwrap_or(survey.own());
            if coordinator == survey.own() {
                return "forming: every initial member is there, the cluster is about to start"
                    .to_owned();
            }
            return format!(
                "forming: every initial member answers node {}; node {coordinator} starts the \
                 cluster when all of them answer it as well (if that lasts, look at the addresses in \
                 the file of node {coordinator}, and at its log)",
                survey.own()
            );
        }
        let waiting = format!("forming: waiting for {}", nodes(&missing));
        let misdirected = self.misdirected();
        if !misdirected.is_empty() {
            return format!("{waiting} ({})", misdirected.join("; "));
        }
        if here.len() <= missing.len() {
            return waiting;
        }
        let ids: Vec<_> = missing.iter().map(NodeId::to_string).collect();
        let they = if ids.len() == 1 { "it is" } else { "they are" };
        format!(
            "{waiting} (if {they} gone for good: seshat form --without {})",
            ids.join(",")
        )
    }

    /// The nodes that have lost their memory, and the command to go on. The text never asks an operator
    /// to state that a node is gone for good if something else answers at its address.
    fn halted(&self, way: &Way) -> String {
        let lost = format!(
            "halted: {} of {} lost their memory ({})",
            way.lost.len(),
            way.voters,
            nodes(&way.lost)
        );
        let mut silent = way.silent.iter();
        if silent.any(|id| self.survey.answering(*id) != Answering::Silent) {
            return format!("{lost}; {}", self.misdirected().join("; "));
        }
        let provided = match way.silent.as_slice() {
            [] => String::new(),
            silent => format!(" (if {} can never answer again)", nodes(silent)),
        };
        format!(
            "{lost}; what node {} still has can be recovered: {way}{provided}",
            way.from()
        )
    }

    /// What answers at the addresses of members that do not answer themselves.
    fn misdirected(&self) -> Vec<String> {
        let members = self.survey.members().iter();
        let answering = members.filter_map(|info| match self.member_state(info.id) {
            MemberState::Absent(Answering::Silent) => None,
            MemberState::Absent(Answering::Hung) if self.leader.is_none() => Some(hung(info.id)),
            MemberState::Absent(answering @ (Answering::Refusing | Answering::Hung)) => {
                Some(format!("node {} {answering}", info.id))
            }
            MemberState::Absent(answering) => Some(format!(
                "node {}: its address {} {answering}",
                info.id, info.addr
            )),
            _ => None,
        });
        answering.collect()
    }

    /// The processes that ask this one before there is a cluster, and do not answer it: this process has a
    /// wrong address for them.
    fn mistyped(&self) -> Vec<String> {
        let faults = self.survey.views().flat_map(|view| {
            let missed = view.reach.iter().flat_map(|reach| &reach.missed);
            let asking = missed.filter(|missed| missed.asks);
            asking.map(move |missed| (view.raft_id.node_id(), *missed))
        });
        let words = faults.map(|(here, missed)| {
            let (there, answering) = (missed.node, missed.answering);
            format!(
                "node {there} asks node {here}, which does not reach it: the address of node {there} in the \
                 file of node {here} {answering}; correct it there, and start node {here} again"
            )
        });
        words.collect()
    }

    /// The members that do not answer at their addresses and are alive nevertheless.
    fn at_wrong_addresses(&self, living: &[NodeId]) -> Vec<String> {
        let infos = living
            .iter()
            .filter_map(|id| self.survey.members().get(*id));
        let words = infos.map(|info| {
            let (id, addr, correct) = (info.id, &info.addr, correct(info));
            format!("node {id} runs, but its address {addr} does not answer{correct}")
        });
        words.collect()
    }

    /// The obstacles that keep members from taking part, and the leader from committing.
    fn troubles(&self) -> Vec<String> {
        let silent = self.those(|it| it == MemberState::Absent(Answering::Silent));
        let (living, silent): (Vec<_>, Vec<_>) = silent.into_iter().partition(|id| self.asks(*id));
        let elsewhere = self.those(|it| it == MemberState::Elsewhere);
        let behind = self.those(|it| it == MemberState::Behind);
        let mut troubles: Vec<_> = troubled(&silent, "does not answer", "do not answer")
            .into_iter()
            .chain(self.at_wrong_addresses(&living))
            .chain(self.misdirected())
            .collect();
        troubles.extend(self.missed());
        troubles.extend(troubled(
            &elsewhere,
            "belongs to another cluster",
            "belong to another cluster",
        ));
        troubles.extend(self.doubled().map(|[one, other]| {
            let node = one.node_id();
            let at = self.survey.members().get(node);
            let at = at.map_or_else(String::new, |info| format!(" ({})", info.addr));
            format!("node {node}{at}: two processes run under its id, {one} and {other}: stop one")
        }));
        if self.commits() == Some(false) {
            troubles.push("writes are not committed".to_owned());
        }
        troubles.extend(self.survey.members().ids().filter_map(|id| {
            let older = |what: &str| {
                Some(format!(
                    "node {id} runs an older version and {what}: start a newer one"
                ))
            };
            match self.member_state(id) {
                MemberState::TooOld => older("is not let in any more"),
                MemberState::CannotRead(index) => {
                    older(&format!("cannot read entry {index} of the leader's log"))
                }
                _ => None,
            }
        }));
        troubles.extend(troubled(
            &behind,
            "does not keep up with the leader's log",
            "do not keep up with the leader's log",
        ));
        troubles
    }

    /// The progress of the running members that do not take full part yet.
    fn steps(&self) -> Vec<String> {
        let step = |id: NodeId| {
            let what = match self.member_state(id) {
                MemberState::Absent(_)
                | MemberState::Elsewhere
                | MemberState::TooOld
                | MemberState::CannotRead(_)
                | MemberState::Behind
                | MemberState::Whole => return None,
                MemberState::Forming => "has not started yet".to_owned(),
                MemberState::Waiting | MemberState::CatchingUp(0) if self.knows_no_member(id) => {
                    let parts = self.parts().map(|view| view.raft_id.node_id());
                    let parts: Vec<_> = parts.collect();
                    format!(
                        "does not join, as it knows no node that takes part: list {} in its \
                         cluster.initial_members, and start it again",
                        nodes(&parts)
                    )
                }
                MemberState::Waiting => "waits to be let in".to_owned(),
                MemberState::CatchingUp(0) if self.has_not_joined(id) => {
                    "asked in, has not joined yet".to_owned()
                }
                MemberState::CatchingUp(percent) => {
                    let room = self.wants_room(id).unwrap_or_default();
                    format!("catching up {percent} %{room}")
                }
                MemberState::BecomingVoter => "being made a voter".to_owned(),
                MemberState::Leaderless => {
                    format!("does not follow node {} yet", self.leader?.node_id())
                }
            };
            Some(format!("node {id}: {what}"))
        };
        self.survey.members().ids().filter_map(step).collect()
    }

    /// Whether the process waits outside, because no process that it trusts has named the cluster.
    fn knows_no_member(&self, id: NodeId) -> bool {
        self.view(id).is_some_and(|view| view.unconfirmed)
    }

    /// The memory bound of the process, if the state exceeds it: then the process will hardly receive it.
    fn wants_room(&self, id: NodeId) -> Option<String> {
        let (leader, view) = (self.leader_view()?, self.view(id)?);
        let (state, room) = (leader.state_bytes, view.max_state_bytes);
        (room > 0 && state > room).then(|| {
            format!(
                " (the state takes {state} bytes, and its limits.max_state_bytes is {room}: raise that, \
                 and start it again)"
            )
        })
    }

    /// Whether the process still does not take part, whatever the leader has sent. A process whose
    /// configuration names no node of the cluster believes no leader.
    fn has_not_joined(&self, id: NodeId) -> bool {
        let outside = |view: &NodeStatus| {
            view.receiving.is_none() && matches!(view.state, NodeState::Fresh | NodeState::Outside)
        };
        self.survey.view(id).is_some_and(outside)
    }

    /// The other pending changes of the leader. "Not every voter knows of the last change" is shown only
    /// if nothing else is pending.
    fn change_words(&self, all_that_is_left: bool) -> Vec<String> {
        let pending_change = |pending_change| match pending_change {
            PendingChange::LetIn(id) => Some(format!("letting node {id} in")),
            PendingChange::Remove(id) => Some(format!("removing node {id}")),
            PendingChange::Forget(id) => {
                Some(format!("removing an earlier incarnation of node {id}"))
            }
            PendingChange::MakeKnown => all_that_is_left
                .then(|| "the last change of voters is being announced to every voter".to_owned()),
        };
        self.pending_changes()
            .into_iter()
            .filter_map(pending_change)
            .collect()
    }
}

const HEALTHY: &str = "healthy: every member takes part, and the cluster may lose any one of them";

fn troubled(those: &[NodeId], one: &str, many: &str) -> Option<String> {
    match those {
        [] => None,
        [_] => Some(format!("{} {one}", nodes(those))),
        _ => Some(format!("{} {many}", nodes(those))),
    }
}

/// Members of an earlier cluster may hold the last copies: their silence says little.
fn former(missing: &[NodeId], awaits: &[NodeId]) -> String {
    let ids = missing.iter().chain(awaits).map(NodeId::to_string);
    format!(
        "forming: waiting for {}; {} may still hold the data of a former cluster: start what is left \
         of it. Only if that is gone for good: seshat form --without {}",
        nodes(&[missing, awaits].concat()),
        nodes(awaits),
        ids.collect::<Vec<_>>().join(",")
    )
}
