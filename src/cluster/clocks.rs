//! The clocks that keep a cluster from forming, in words.

use crate::types::{NodeStatus, ProtocolLevel};

/// What is wrong with the clocks of the processes `views`, whose first one coordinates. `None` if nothing
/// is, and if one of them runs a version that tells no time: then the cluster has no revisions.
pub(super) fn wrong<'a>(mut views: impl Iterator<Item = &'a NodeStatus> + Clone) -> Option<String> {
    let all = views.clone();
    let coordinator = views.next()?;
    if all.clone().any(|it| it.level == ProtocolLevel::FIRST) {
        return None;
    }
    let node = |status: &NodeStatus| status.raft_id.node_id();
    if let Some(lost) = all.clone().find(|it| it.time.is_none()) {
        return Some(format!(
            "the clock of node {} is wrong: it is before 2026, or after 2199. Set it",
            node(lost)
        ));
    }
    let agrees = |other: &NodeStatus| {
        let times = coordinator.time.zip(other.time);
        times.is_some_and(|(own, other)| own.agrees_with(other))
    };
    let differing = all.into_iter().find(|it| !agrees(it))?;
    Some(format!(
        "the clocks of nodes {} and {} differ by more than an hour: set the wrong one",
        node(coordinator),
        node(differing)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{NodeId, RaftId, WallTime};

    const HOUR: u64 = 3_600_000_000;

    fn views(times: &[Option<u64>]) -> Vec<NodeStatus> {
        let views = times.iter().zip(1..).map(|(time, id)| NodeStatus {
            level: ProtocolLevel::SECOND,
            time: time.and_then(|later| WallTime::new(WallTime::FIRST.micros() + later)),
            ..NodeStatus::fresh(RaftId::new(NodeId::new(id).unwrap(), 1))
        });
        views.collect()
    }

    fn said(times: &[Option<u64>]) -> Option<String> {
        wrong(views(times).iter())
    }

    #[test]
    fn the_nodes_with_wrong_clocks_are_named() {
        assert_eq!(said(&[Some(0), Some(HOUR), Some(5)]), None);
        let differ = said(&[Some(0), Some(1), Some(HOUR + 1)]).unwrap();
        assert!(
            differ.starts_with("the clocks of nodes 1 and 3 differ"),
            "{differ}"
        );
        let lost = said(&[Some(0), None, Some(0)]).unwrap();
        assert!(lost.starts_with("the clock of node 2 is wrong"), "{lost}");
        let mut views = views(&[Some(0), None]);
        views[1].level = ProtocolLevel::FIRST;
        assert_eq!(wrong(views.iter()), None, "it tells no time");
        assert_eq!(wrong(std::iter::empty()), None);
    }
}
