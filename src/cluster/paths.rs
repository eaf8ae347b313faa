//! Whether the members reach one another, each at the address that the cluster has agreed on.
//!
//! While a leader leads, no other path is used: a wrong address of the leader itself, or a cut link
//! between two followers, changes nothing until the leader is lost. Then the remaining members need every
//! path between them to elect another leader, and to add the lost member back. So each member reports
//! which members it reaches. Versions that do not report this count as reaching all.

use super::ClusterView;
use super::phrases::nodes;
use crate::types::{Answering, Missed, NodeId, NodeInfo, NodeStatus};

/// The path from one member to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    /// The process that answers the survey has recently answered this member as well.
    Open,
    /// This member has not asked for long enough at the agreed address, or another process answered there
    /// last.
    Unsure,
    /// No answer has come for a while.
    Missed(Missed),
}

impl ClusterView<'_> {
    /// Whether every answering member reaches every other one.
    pub(super) fn all_reach_all(&self) -> bool {
        let mut paths = self.paths();
        paths.all(|(_, _, path)| path == Path::Open)
    }

    /// The paths between the answering members.
    fn paths(&self) -> impl Iterator<Item = (NodeId, NodeId, Path)> {
        let members = || self.survey.members().ids();
        let views = members().filter_map(|id| self.view(id));
        let from = views.filter(|view| self.takes_part(view));
        from.flat_map(move |from| {
            let to = members().filter_map(|id| self.view(id));
            let to = to.filter(|to| to.raft_id != from.raft_id);
            to.map(|to| {
                let (one, other) = (from.raft_id.node_id(), to.raft_id.node_id());
                (one, other, self.path(from, to))
            })
        })
    }

    fn path(&self, from: &NodeStatus, to: &NodeStatus) -> Path {
        let Some(reach) = from.reach.as_deref() else {
            return Path::Open;
        };
        let mut missed = reach.missed.iter();
        if let Some(missed) = missed.find(|missed| missed.node == to.raft_id.node_id()) {
            return Path::Missed(*missed);
        }
        // A process that has not applied the last change of an address still asks at the former one.
        let leaders = self.leader_view().and_then(|view| view.reach.as_deref());
        let agreed = leaders.is_none_or(|leaders| from.applied_index >= leaders.as_of);
        match agreed && reach.reached.contains(&to.raft_id) {
            true => Path::Open,
            false => Path::Unsure,
        }
    }

    /// The missing paths, as text. A member that no other member reaches most likely has a wrong address.
    /// A member that some reach has a right one.
    pub(super) fn missed(&self) -> Vec<String> {
        let missed = |to: NodeId| -> Vec<(NodeId, Missed)> {
            let paths = self.paths().filter(|(_, other, _)| *other == to);
            let missed = paths.filter_map(|(from, _, path)| match path {
                Path::Missed(missed) => Some((from, missed)),
                Path::Open | Path::Unsure => None,
            });
            missed.collect()
        };
        let members = self.survey.members();
        let all: Vec<_> = members.iter().map(|it| (it, missed(it.id))).collect();
        let mut words = Vec::new();
        for (to, missed) in &all {
            let others = self.paths().filter(|(_, other, _)| *other == to.id).count();
            if !missed.is_empty() && missed.len() == others {
                words.push(reached_by_no_member(to, missed));
                continue;
            }
            for (from, missed) in missed {
                let mutual = all.iter().any(|(other, by)| {
                    other.id == *from && by.iter().any(|(node, _)| *node == to.id)
                });
                match mutual {
                    true if *from < to.id => words.push(format!(
                        "{} do not reach each other: mend the network between them",
                        nodes(&[*from, to.id])
                    )),
                    true => {}
                    false => words.push(format!(
                        "node {from} does not reach node {}: {} {} from there",
                        to.id, to.addr, missed.answering
                    )),
                }
            }
        }
        words
    }

    /// Whether a member that does not answer has recently asked another one, and so is alive.
    pub(super) fn asks(&self, node: NodeId) -> bool {
        let reach = self.parts().filter_map(|view| view.reach.as_deref());
        let mut missed = reach.flat_map(|reach| &reach.missed);
        missed.any(|missed| missed.node == node && missed.asks)
    }

    /// The unsure paths, as text.
    pub(super) fn unsure(&self) -> Vec<String> {
        let members = self.survey.members().ids();
        let words = members.filter_map(|to| {
            let paths = self.paths().filter(|(_, other, _)| *other == to);
            let unsure = paths.filter(|(_, _, path)| *path == Path::Unsure);
            let from: Vec<_> = unsure.map(|(from, _, _)| from).collect();
            let have = if from.len() == 1 { "has" } else { "have" };
            let words = || format!("{} {have} not heard from node {to} yet", nodes(&from));
            (!from.is_empty()).then(words)
        });
        words.collect()
    }
}

fn reached_by_no_member(to: &NodeInfo, missed: &[(NodeId, Missed)]) -> String {
    let from: Vec<_> = missed.iter().map(|(from, _)| *from).collect();
    let does = if from.len() == 1 { "does" } else { "do" };
    let found = missed.iter().map(|(_, missed)| missed.answering);
    let telling = found.clone().find(|it| *it != Answering::Silent);
    format!(
        "{} {does} not reach node {}: its address {} {}{}",
        nodes(&from),
        to.id,
        to.addr,
        telling.unwrap_or(Answering::Silent),
        correct(to)
    )
}

/// The hint how to correct an address.
pub(super) fn correct(info: &NodeInfo) -> String {
    let NodeInfo {
        id, client_addr, ..
    } = info;
    format!(" (to correct it: seshat member add {id} HOST:PORT {client_addr})")
}
