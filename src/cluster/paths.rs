//! Whether the members reach one another, each at the address that the cluster has agreed on.
//!
//! While a leader leads, nobody else has to be reached: an address of its own that is wrong, or a cut
//! link between two followers, changes nothing until the leader is lost. Then those who are left need
//! every path between them to elect another one, and to let the lost one in again. So each member says
//! whom it reaches. Versions that do not say so are believed to reach everybody.

use super::Picture;
use super::words::nodes;
use crate::types::{Answering, Missed, NodeId, NodeInfo, NodeStatus};

/// How a member reaches another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    /// The very process that answers has lately answered it as well.
    Open,
    /// It has not asked it for long enough at its address, or another process has answered there last.
    Unsure,
    /// No answer has come for a while.
    Missed(Missed),
}

impl Picture<'_> {
    /// Whether every member that answers reaches every other one.
    pub(super) fn all_reach_all(&self) -> bool {
        let mut paths = self.paths();
        paths.all(|(_, _, path)| path == Path::Open)
    }

    /// From whom to whom there is a path, of the members that answer.
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
        // Who has not applied yet what has changed an address asks at a former one.
        let leaders = self.leader_view().and_then(|view| view.reach.as_deref());
        let agreed = leaders.is_none_or(|leaders| from.applied_index >= leaders.as_of);
        match agreed && reach.reached.contains(&to.raft_id) {
            true => Path::Open,
            false => Path::Unsure,
        }
    }

    /// Who does not reach whom, in words. A member that nobody reaches has a wrong address, most likely;
    /// one that some reach has a right one.
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
                words.push(reached_by_nobody(to, missed));
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

    /// Whether a member that does not answer has lately asked another one: so it lives.
    pub(super) fn asks(&self, node: NodeId) -> bool {
        let reach = self.parts().filter_map(|view| view.reach.as_deref());
        let mut missed = reach.flat_map(|reach| &reach.missed);
        missed.any(|missed| missed.node == node && missed.asks)
    }

    /// Who is not sure yet that it reaches whom, in words.
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

fn reached_by_nobody(to: &NodeInfo, missed: &[(NodeId, Missed)]) -> String {
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

/// How an address is corrected.
pub(super) fn correct(info: &NodeInfo) -> String {
    let NodeInfo {
        id, client_addr, ..
    } = info;
    format!(" (to correct it: seshat member add {id} HOST:PORT {client_addr})")
}
