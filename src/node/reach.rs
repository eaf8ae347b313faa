//! Which members a process reaches, at the addresses that the cluster has agreed on.
//!
//! Raft uses a path only while there is a leader at one end of it: no process calls the leader at its
//! address, and followers do not talk to one another. So a wrong address or a cut link would show only
//! when the leader is lost and the others need the path. Therefore each process that takes part asks
//! every other member for its identity, now and then, and reports which of them answer.
//!
//! One answer is valid for three of the longest election timeouts, and there is a question in each, so
//! that a single slow or lost answer makes no difference. A member has one such question at a time to
//! answer, and questions for other purposes count. Answers from a former address do not count.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::RaftOptions;
use crate::types::{Answering, ClusterMembership, Conf, LogIndex, Missed, NodeId, RaftId, Reach};

/// Longest election timeouts for which an answer is valid.
const GOOD_TIMEOUTS: u64 = 3;

/// Which members a process reaches, according to its recent attempts.
#[derive(Debug)]
pub(super) struct Reaching {
    me: NodeId,
    /// Ticks between two questions, and the timeout of one: the longest election timeout.
    pace: u64,
    /// Ticks after which a failed question is repeated: the shortest election timeout.
    retry: u64,
    now: u64,
    followed: Arc<Conf>,
    members: Arc<ClusterMembership>,
    as_of: LogIndex,
    others: BTreeMap<NodeId, Other>,
    shown: Arc<Reach>,
}

/// Another member.
#[derive(Debug)]
struct Other {
    addr: String,
    /// When it was first known at this address.
    since: u64,
    ask_at: u64,
    /// The process that answered there last, and when.
    answered: Option<(RaftId, u64)>,
    /// What answered instead at the last failed question.
    found: Answering,
    /// When a process of it last asked this one.
    asked_at: Option<u64>,
}

impl Reaching {
    /// The process of node `me` at its start.
    pub(super) fn new(me: NodeId, options: &RaftOptions) -> Self {
        let ticks = |ticks: usize| u64::try_from(ticks).unwrap_or(u64::MAX).max(1);
        Self {
            me,
            pace: ticks(options.election_max_ticks),
            retry: ticks(options.election_min_ticks),
            now: 0,
            followed: Arc::default(),
            members: Arc::default(),
            as_of: 0,
            others: BTreeMap::new(),
            shown: Arc::default(),
        }
    }

    /// Takes over the addresses of the `members`, and the voters and learners, when the log is applied up
    /// to `applied`.
    pub(super) fn follow(
        &mut self,
        members: &Arc<ClusterMembership>,
        conf: &Arc<Conf>,
        applied: LogIndex,
    ) {
        if Arc::ptr_eq(&self.followed, conf) && Arc::ptr_eq(&self.members, members) {
            return;
        }
        let first = self.followed.voters.is_empty();
        self.followed = Arc::clone(conf);
        if first || !Arc::ptr_eq(&self.members, members) {
            self.members = Arc::clone(members);
            self.as_of = applied;
        }
        let (me, now) = (self.me, self.now);
        self.others
            .retain(|node, it| members.get(*node).is_some_and(|info| info.addr == it.addr));
        for info in members.iter().filter(|info| info.id != me) {
            let other = self.others.entry(info.id).or_insert_with(|| Other {
                addr: info.addr.clone(),
                since: now,
                ask_at: now,
                answered: None,
                found: Answering::Silent,
                asked_at: None,
            });
            // Another process of that node may take part now.
            if !other.answered.is_some_and(|(id, _)| takes_part(conf, id)) {
                other.ask_at = now;
            }
        }
        self.show();
    }

    /// Counts one tick. Returns the nodes to ask for their identity.
    pub(super) fn tick(&mut self) -> Vec<NodeId> {
        self.now += 1;
        self.show();
        let due = self.others.iter().filter(|(_, it)| it.ask_at <= self.now);
        due.map(|(node, _)| *node).collect()
    }

    /// Records that `node` is asked.
    pub(super) fn asks(&mut self, node: NodeId) {
        if let Some(other) = self.others.get_mut(&node) {
            other.ask_at = self.now + self.pace;
        }
    }

    /// Records that the process `id` has answered at the address of `node`, asked `age` ticks ago.
    pub(super) fn answered(&mut self, node: NodeId, id: RaftId, age: u64) {
        if id.node_id() != node {
            self.failed(node, Answering::OtherNode(id.node_id()), age);
            return;
        }
        let (now, pace) = (self.now, self.pace);
        if let Some(other) = self.asked(node, age) {
            other.answered = Some((id, now));
            other.ask_at = now + pace;
            self.show();
        }
    }

    /// Records that a question to `node`, asked `age` ticks ago, has failed, and what answered instead.
    pub(super) fn failed(&mut self, node: NodeId, answering: Answering, age: u64) {
        let (now, retry) = (self.now, self.retry);
        if let Some(other) = self.asked(node, age) {
            other.found = answering;
            other.ask_at = now + retry;
        }
    }

    /// `node`, if it was asked at its present address, `age` ticks ago.
    fn asked(&mut self, node: NodeId, age: u64) -> Option<&mut Other> {
        let asked_at = self.now.saturating_sub(age);
        let other = self.others.get_mut(&node);
        other.filter(|other| other.since < asked_at)
    }

    /// Records that `node` has asked this process, and so is alive.
    pub(super) fn asked_by(&mut self, node: NodeId) {
        if let Some(other) = self.others.get_mut(&node) {
            other.asked_at = Some(self.now);
        }
    }

    /// The members that the process reaches.
    pub(super) fn shown(&self) -> &Arc<Reach> {
        &self.shown
    }

    fn show(&mut self) {
        let good = self.pace.saturating_mul(GOOD_TIMEOUTS);
        let since = |at: u64| self.now.saturating_sub(at);
        let mut reach = Reach {
            as_of: self.as_of,
            ..Reach::default()
        };
        for (&node, other) in &self.others {
            match other.answered {
                Some((id, at)) if since(at) <= good => reach.reached.push(id),
                None if since(other.since) <= good => {}
                _ => reach.missed.push(Missed {
                    node,
                    answering: other.found,
                    // Shorter than the validity of an answer: a member that has died is no longer heard
                    // of before it counts as missed.
                    asks: other
                        .asked_at
                        .is_some_and(|at| since(at) <= self.pace + self.retry),
                }),
            }
        }
        if *self.shown != reach {
            self.shown = Arc::new(reach);
        }
    }
}

fn takes_part(conf: &Conf, id: RaftId) -> bool {
    conf.voters.contains(&id) || conf.learners.contains(&id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NodeInfo;

    const PACE: u64 = 10;
    const RETRY: u64 = 5;

    fn node(id: u16) -> NodeId {
        NodeId::new(id).expect("a node id")
    }

    fn raft_id_of(id: u16, incarnation: u64) -> RaftId {
        RaftId::new(node(id), incarnation)
    }

    fn members(addr_of_2: &str) -> Arc<ClusterMembership> {
        let info = |id: u16, addr: &str| NodeInfo {
            id: node(id),
            addr: addr.to_owned(),
            client_addr: String::new(),
        };
        Arc::new([info(1, "a:1"), info(2, addr_of_2)].into_iter().collect())
    }

    fn conf(incarnation_of_2: u64) -> Arc<Conf> {
        Arc::new(Conf {
            voters: vec![raft_id_of(1, 1), raft_id_of(2, incarnation_of_2)],
            ..Conf::default()
        })
    }

    /// Node 1, which knows node 2.
    fn reaching() -> Reaching {
        let options = RaftOptions {
            election_min_ticks: 5,
            election_max_ticks: 10,
            ..RaftOptions::default()
        };
        let mut reaching = Reaching::new(node(1), &options);
        reaching.follow(&members("b:1"), &conf(1), 7);
        reaching
    }

    /// Whether node 2 is asked in the next tick.
    fn tick(reaching: &mut Reaching) -> bool {
        let asked = reaching.tick();
        for node in &asked {
            reaching.asks(*node);
        }
        asked == [node(2)]
    }

    /// The next ticks in which node 2, which does not answer, is asked.
    fn asked(reaching: &mut Reaching, ticks: u64) -> Vec<u64> {
        (1..=ticks).filter(|_| tick(reaching)).collect()
    }

    fn missed(reaching: &Reaching) -> Vec<(Answering, bool)> {
        let missed = reaching.shown().missed.iter();
        missed.map(|it| (it.answering, it.asks)).collect()
    }

    #[test]
    fn a_member_is_asked_once_in_an_election_timeout() {
        let mut reaching = reaching();
        assert_eq!(asked(&mut reaching, 3 * PACE), [1, 11, 21]);
        reaching.answered(node(2), raft_id_of(2, 1), 0);
        assert_eq!(asked(&mut reaching, PACE), [PACE]);
        reaching.failed(node(2), Answering::Silent, 0);
        assert_eq!(asked(&mut reaching, PACE), [RETRY]);
        // Asked for another purpose.
        reaching.answered(node(2), raft_id_of(2, 1), 0);
        asked(&mut reaching, PACE - 1);
        reaching.asks(node(2));
        assert_eq!(asked(&mut reaching, PACE), [PACE]);
    }

    #[test]
    fn a_single_answer_that_is_lost_makes_no_difference() {
        let mut reaching = reaching();
        let before = (reaching.shown().reached.clone(), missed(&reaching));
        assert_eq!(before, (vec![], vec![]), "not known yet");
        tick(&mut reaching);
        reaching.answered(node(2), raft_id_of(2, 1), 0);
        for _ in 0..GOOD_TIMEOUTS * PACE {
            assert_eq!(reaching.shown().reached, [raft_id_of(2, 1)]);
            assert!(missed(&reaching).is_empty());
            tick(&mut reaching);
        }
        reaching.failed(node(2), Answering::NotGrpc, 0);
        tick(&mut reaching);
        assert!(reaching.shown().reached.is_empty());
        assert_eq!(missed(&reaching), [(Answering::NotGrpc, false)]);
        reaching.answered(node(2), raft_id_of(2, 1), 0);
        assert_eq!(reaching.shown().reached, [raft_id_of(2, 1)]);
        assert!(missed(&reaching).is_empty());
    }

    #[test]
    fn an_answer_at_a_former_address_does_not_count() {
        let mut reaching = reaching();
        tick(&mut reaching);
        reaching.answered(node(2), raft_id_of(2, 1), 0);
        assert_eq!(reaching.shown().as_of, 7);
        reaching.follow(&members("elsewhere:1"), &conf(1), 9);
        assert_eq!(reaching.shown().as_of, 9);
        assert!(reaching.shown().reached.is_empty());
        reaching.answered(node(2), raft_id_of(2, 1), 0);
        assert!(reaching.shown().reached.is_empty(), "asked before");
        assert!(tick(&mut reaching), "asked at once");
        reaching.answered(node(2), raft_id_of(2, 1), 1);
        assert!(reaching.shown().reached.is_empty(), "asked before");
        reaching.answered(node(2), raft_id_of(2, 1), 0);
        assert_eq!(reaching.shown().reached, [raft_id_of(2, 1)]);
    }

    #[test]
    fn a_new_incarnation_is_asked_at_once_and_another_node_is_none() {
        let mut reaching = reaching();
        tick(&mut reaching);
        reaching.answered(node(2), raft_id_of(2, 1), 0);
        reaching.follow(&members("b:1"), &conf(1), 9);
        assert!(!tick(&mut reaching));
        let same_members = Arc::clone(&reaching.members);
        reaching.follow(&same_members, &conf(2), 9);
        assert!(tick(&mut reaching), "asked at once");
        reaching.answered(node(2), raft_id_of(3, 1), 0);
        for _ in 0..=GOOD_TIMEOUTS * PACE {
            tick(&mut reaching);
        }
        let other = Answering::OtherNode(node(3));
        assert_eq!(missed(&reaching), [(other, false)]);
    }

    /// A member that dies is not reported as alive once it is missed, however late it has asked.
    #[test]
    fn a_node_that_asks_runs() {
        let mut reaching = reaching();
        tick(&mut reaching);
        reaching.answered(node(2), raft_id_of(2, 1), 0);
        asked(&mut reaching, PACE);
        reaching.asked_by(node(2));
        asked(&mut reaching, (GOOD_TIMEOUTS - 1) * PACE);
        assert!(missed(&reaching).is_empty());
        tick(&mut reaching);
        assert_eq!(missed(&reaching), [(Answering::Silent, false)], "it died");
        reaching.asked_by(node(2));
        tick(&mut reaching);
        assert_eq!(missed(&reaching), [(Answering::Silent, true)]);
    }
}
