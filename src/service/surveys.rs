//! Rounds of questions to all members about their status. Concurrent callers share one round.
//!
//! Each `Status` call used to ask every member itself, and a few dozen at once were more than a member
//! answers at a time: it refused some, which looked as if it did not answer. So there is one round of
//! questions at a time. A caller joins the round in flight, or takes the result of the last one if that is
//! recent. A caller that is about to act on the answer, as it restarts, adds or removes a node, gets a round
//! that began after its call.
//!
//! No answer is older than `member_timeout` and [`RECENT`] together. If this node itself was so slow that it
//! delivers a round later, it asks again, or the answers count as not given.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use crate::cluster::{Answer, Survey, recovery};
use crate::deadline::after;
use crate::driver::{DriverHandle, Probe};
use crate::types::{Answering, ClusterId, NodeId, NodeState, NodeStatus};

/// How long after its beginning a round serves callers that do not need a fresh one.
const RECENT: Duration = Duration::from_millis(200);

/// How long a round waits for nodes that take part no more, once all other nodes have answered or timed
/// out: they may be gone for good.
const FORMER_MAX_WAIT: Duration = Duration::from_millis(200);

/// The rounds of questions of one node. Cheap to clone.
#[derive(Clone)]
pub(super) struct Surveys(Arc<Inner>);

impl std::fmt::Debug for Surveys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surveys").finish_non_exhaustive()
    }
}

struct Inner {
    driver: DriverHandle,
    probe: Arc<dyn Probe>,
    /// Longest wait for a member's answer.
    member_timeout: Duration,
    /// The last round that has begun.
    last: Mutex<Round>,
}

/// One round of questions.
#[derive(Clone)]
struct Round {
    /// The first is 1.
    number: u64,
    began: Instant,
    found: watch::Receiver<Found>,
}

#[derive(Default)]
struct Found {
    /// The cluster in which the asking node took part when the round began.
    begun_in: Option<ClusterId>,
    /// The answers of all nodes that are asked. A node that has not answered yet may never do so.
    answers: BTreeMap<NodeId, Answer>,
    /// The result, once all nodes have answered or timed out.
    survey: Option<Arc<Survey>>,
}

impl Round {
    /// A round that never took place.
    fn none() -> Self {
        Self {
            number: 0,
            began: Instant::now(),
            found: watch::channel(Found::default()).1,
        }
    }

    /// Whether the round has ended.
    fn is_over(&self) -> bool {
        let asking = self.found.has_changed().is_ok();
        !asking || self.found.borrow().survey.is_some()
    }

    /// Whether the result is recent, and still current for the asking node, whose status is `own` now.
    fn is_recent(&self, own: &NodeStatus) -> bool {
        let found = self.found.borrow();
        let survey = found.survey.as_ref();
        self.began.elapsed() <= RECENT && survey.is_some_and(|survey| survey.is_current(own))
    }

    async fn over(&mut self) {
        let _ = self.found.wait_for(|found| found.survey.is_some()).await;
    }
}

impl Surveys {
    /// Surveys of the node behind `driver`, which ask through `probe`. A member has `member_timeout` to
    /// answer.
    pub(super) fn new(
        driver: DriverHandle,
        probe: Arc<dyn Probe>,
        member_timeout: Duration,
    ) -> Self {
        Self(Arc::new(Inner {
            driver,
            probe,
            member_timeout,
            last: Mutex::new(Round::none()),
        }))
    }

    /// The status of the members, at most [`RECENT`] ago. Waits at most `max_wait` for a member that does not
    /// answer; if that is zero, no member is asked.
    pub(super) async fn recent(&self, max_wait: Duration) -> Arc<Survey> {
        if max_wait.is_zero() {
            return Arc::new(self.unanswered());
        }
        let round = {
            let mut last = self.last();
            if last.is_over() && !last.is_recent(&self.0.driver.status()) {
                *last = self.begin(last.number);
            }
            last.clone()
        };
        self.result(round, max_wait).await
    }

    /// The status of the members, asked from now on. Waits for the end of a round in flight, then at most
    /// `max_wait` for a member that does not answer.
    pub(super) async fn fresh(&self, max_wait: Duration) -> Arc<Survey> {
        let last = self.last().number;
        let round = self.after(last).await;
        self.result(round, max_wait).await
    }

    /// Longest wait for a member's answer.
    pub(super) fn member_timeout(&self) -> Duration {
        self.0.member_timeout
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Round> {
        self.0.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A round after the one numbered `last`, once that is over.
    async fn after(&self, last: u64) -> Round {
        loop {
            let mut round = {
                let mut current = self.last();
                if current.is_over() && current.number <= last {
                    *current = self.begin(current.number);
                }
                current.clone()
            };
            if round.number > last {
                return round;
            }
            round.over().await;
        }
    }

    /// The result of `round`, once it or `max_wait` is over. If this node itself was so slow that the answers
    /// are out of date by then, a later round replaces them, or they count as not given.
    async fn result(&self, mut round: Round, max_wait: Duration) -> Arc<Survey> {
        let deadline = after(max_wait);
        loop {
            let over = timeout_at(deadline, round.over()).await.is_ok();
            if round.began.elapsed() <= self.0.member_timeout.saturating_add(RECENT) {
                let found = round.found.borrow();
                return match &found.survey {
                    Some(survey) => Arc::clone(survey),
                    None => Arc::new(self.survey(found.answers.clone(), found.begun_in)),
                };
            }
            if !over || Instant::now() >= deadline {
                return Arc::new(self.unanswered());
            }
            round = self.after(round.number).await;
        }
    }

    /// The survey in which no other node has answered. It says nothing of their state.
    fn unanswered(&self) -> Survey {
        let begun_in = self.0.driver.status().cluster_id;
        self.survey(no_answers(&self.others()), begun_in)
    }

    /// The survey of these answers. The status of this node is taken last: the answers may be about a leader
    /// that it has followed meanwhile.
    fn survey(&self, answers: BTreeMap<NodeId, Answer>, begun_in: Option<ClusterId>) -> Survey {
        let driver = &self.0.driver;
        Survey::new(driver.status(), driver.members(), answers)
            .begun_in(begun_in)
            .with_nodes(&driver.nodes())
    }

    /// The round after the one numbered `last`.
    fn begin(&self, last: u64) -> Round {
        let others = self.others();
        let (publish, found) = watch::channel(Found {
            begun_in: self.0.driver.status().cluster_id,
            answers: no_answers(&others),
            survey: None,
        });
        let surveys = self.clone();
        tokio::spawn(async move { surveys.ask(others, publish).await });
        Round {
            number: last + 1,
            began: Instant::now(),
            found,
        }
    }

    async fn ask(&self, others: BTreeSet<NodeId>, publish: watch::Sender<Found>) {
        let probe = &self.0.probe;
        let mut asked: FuturesUnordered<_> = others
            .into_iter()
            .map(|node| async move {
                let answer = probe.identify(node, self.0.member_timeout).await;
                (node, answer.map_err(|error| error.answering()))
            })
            .collect();
        let mut awaited = self.parts();
        let enough = sleep(FORMER_MAX_WAIT);
        tokio::pin!(enough);
        loop {
            let (node, answer) = tokio::select! {
                biased;
                answer = asked.next() => match answer {
                    Some(answer) => answer,
                    None => break,
                },
                () = &mut enough, if awaited.is_empty() => break,
            };
            awaited.remove(&node);
            publish.send_modify(|found| {
                found.answers.insert(node, answer);
            });
        }
        publish.send_modify(|found| {
            let survey = self.survey(std::mem::take(&mut found.answers), found.begun_in);
            found.survey = Some(Arc::new(survey));
        });
    }

    /// All other nodes that may take part, as far as this node knows, or took part once.
    fn others(&self) -> BTreeSet<NodeId> {
        let mut others = self.parts();
        others.extend(self.0.driver.nodes().ids());
        others.remove(&self.0.driver.status().raft_id.node_id());
        others
    }

    /// All other nodes that may take part. While this node takes part in no cluster, these are all that it
    /// was told of.
    fn parts(&self) -> BTreeSet<NodeId> {
        let driver = &self.0.driver;
        let own = driver.status();
        let (members, nodes) = (driver.members(), driver.nodes());
        let told = nodes.ids().filter(|_| own.state != NodeState::Started);
        let known = members.ids().chain(told).chain(recovery::known(&own));
        known
            .filter(|node| *node != own.raft_id.node_id())
            .collect()
    }
}

/// The answers of nodes that have not answered yet: none of them is known to be silent.
fn no_answers(nodes: &BTreeSet<NodeId>) -> BTreeMap<NodeId, Answer> {
    let unknown = |node: &NodeId| (*node, Err(Answering::Hung));
    nodes.iter().map(unknown).collect()
}

/// A network in which no node answers.
#[cfg(test)]
pub(super) struct NoPeers;

#[cfg(test)]
impl Probe for NoPeers {
    fn identify(&self, node: NodeId, _: Duration) -> crate::driver::Identifying<'_> {
        let error = crate::error::RpcError::Unreachable {
            node,
            addr: String::new(),
            reason: "no process is there".to_owned(),
        };
        Box::pin(std::future::ready(Err(error)))
    }
}

#[cfg(test)]
mod tests {
    const MEMBER_TIMEOUT: Duration = Duration::from_secs(1);

    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;

    use super::*;
    use crate::cluster::{ClusterView, MemberState, State};
    use crate::driver::{Detached, Identifying};
    use crate::error::RpcError;
    use crate::types::{Conf, Following, RaftId, Role};

    fn node(id: u16) -> NodeId {
        NodeId::new(id).unwrap()
    }

    /// Node `id` of a healed cluster of three that node 1 leads.
    fn status(id: u16) -> NodeStatus {
        let incarnations: Vec<_> = (1..=3).map(|id| RaftId::new(node(id), 1)).collect();
        let leads = id == 1;
        NodeStatus {
            state: NodeState::Started,
            cluster_id: Some(ClusterId(7)),
            role: Some(if leads { Role::Leader } else { Role::Follower }),
            leader: Some(incarnations[0]),
            members_known: leads,
            following: leads.then(|| {
                Arc::new(Following {
                    acknowledged_by: incarnations.clone(),
                    ..Following::default()
                })
            }),
            conf: Arc::new(Conf {
                voters: incarnations,
                learners: Vec::new(),
                members: (1..=3).map(node).collect(),
            }),
            ..NodeStatus::fresh(RaftId::new(node(id), 1))
        }
    }

    /// Members that answer after 5 ms, three of them at a time at most, as a node refuses more
    /// questions than it has capacity for. One of them may be silent. The machine of the asking node may
    /// stand still during the first answer.
    struct Members {
        silent: Option<NodeId>,
        stall: Mutex<Option<Duration>>,
        asked: AtomicUsize,
        answering: AtomicUsize,
    }

    const AT_A_TIME: usize = 3;

    impl Probe for Members {
        fn identify(&self, node: NodeId, timeout: Duration) -> Identifying<'_> {
            Box::pin(async move {
                self.asked.fetch_add(1, Ordering::Relaxed);
                let gone = |reason: &str| RpcError::Unreachable {
                    node,
                    addr: String::new(),
                    reason: reason.to_owned(),
                };
                if self.silent == Some(node) {
                    tokio::time::sleep(timeout).await;
                    return Err(gone("silent"));
                }
                if self.answering.fetch_add(1, Ordering::Relaxed) >= AT_A_TIME {
                    self.answering.fetch_sub(1, Ordering::Relaxed);
                    return Err(gone("too many questions"));
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
                let stall = self.stall.lock().unwrap().take();
                if let Some(stall) = stall {
                    tokio::time::advance(stall).await;
                }
                self.answering.fetch_sub(1, Ordering::Relaxed);
                Ok(status(node.get()))
            })
        }
    }

    /// Node 1, which asks these members.
    fn asking(silent: Option<u16>) -> (Surveys, Arc<Members>, Detached) {
        let members = Arc::new(Members {
            silent: silent.map(node),
            stall: Mutex::new(None),
            asked: AtomicUsize::new(0),
            answering: AtomicUsize::new(0),
        });
        let (driver, detached) = DriverHandle::detached(status(1), 1);
        let all: crate::types::ClusterMembership = [1, 2, 3].map(node).into();
        detached.members.send_replace(Arc::new(all));
        let probe: Arc<Members> = Arc::clone(&members);
        (
            Surveys::new(driver, probe, MEMBER_TIMEOUT),
            members,
            detached,
        )
    }

    fn state(survey: &Survey) -> State {
        ClusterView::new(survey).sum_up().0
    }

    /// Whether `survey` says nothing of any other member, not even that it is silent.
    fn is_unanswered(survey: &Survey) -> bool {
        let view = ClusterView::new(survey);
        let mut others = [2, 3].map(|id| view.member_state(node(id))).into_iter();
        others.all(|it| it == MemberState::Absent(Answering::Hung))
    }

    impl Members {
        /// The number of questions since the last call.
        fn asked(&self) -> usize {
            self.asked.swap(0, Ordering::Relaxed)
        }
    }

    /// Seen: of 200 `Status` calls at once, 70 % said that a healthy cluster was not.
    #[tokio::test(start_paused = true)]
    async fn two_hundred_callers_at_once_share_one_round_without_a_false_alarm() {
        let (surveys, members, _node) = asking(None);
        let all = (0..200).map(|_| surveys.recent(MEMBER_TIMEOUT));
        let found = join_all(all).await;
        assert!(found.iter().all(|survey| state(survey) == State::Healthy));
        assert_eq!(members.asked(), 2, "each member once");
    }

    /// Seen: `forming`, right after the asked node had formed its cluster and served a write.
    #[tokio::test(start_paused = true)]
    async fn a_round_serves_no_longer_than_the_node_stands_where_it_stood() {
        let (surveys, members, node) = asking(None);
        let whole = status(1);
        let outside = NodeStatus::fresh(whole.raft_id);
        node.status.send_replace(outside);
        surveys.recent(MEMBER_TIMEOUT).await;
        assert_eq!(members.asked(), 2);
        node.status.send_replace(whole);
        let found = surveys.recent(MEMBER_TIMEOUT).await;
        assert_eq!(state(&found), State::Healthy);
        assert_eq!(members.asked(), 2, "anew");
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_serves_for_a_moment() {
        let (surveys, members, _node) = asking(None);
        surveys.recent(MEMBER_TIMEOUT).await;
        tokio::time::sleep(RECENT / 2).await;
        surveys.recent(MEMBER_TIMEOUT).await;
        assert_eq!(members.asked(), 2);
        tokio::time::sleep(RECENT).await;
        surveys.recent(MEMBER_TIMEOUT).await;
        assert_eq!(members.asked(), 2, "a second round");
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_without_time_gets_the_status_of_the_node_alone() {
        let (surveys, members, _node) = asking(None);
        let alone = surveys.recent(Duration::ZERO).await;
        assert!(alone.view(node(1)).is_some());
        assert!(is_unanswered(&alone), "no node may be taken for dead");
        assert_eq!(members.asked(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_needs_a_fresh_answer_gets_a_round_that_begins_after_the_call() {
        let (surveys, members, _node) = asking(None);
        surveys.recent(MEMBER_TIMEOUT).await;
        assert_eq!(members.asked(), 2);
        surveys.fresh(MEMBER_TIMEOUT).await;
        assert_eq!(members.asked(), 2, "the recent one does not do");

        let under_way = surveys.fresh(MEMBER_TIMEOUT);
        let later = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let all = (0..200).map(|_| surveys.fresh(MEMBER_TIMEOUT));
            join_all(all).await
        };
        let (_, found) = tokio::join!(under_way, later);
        assert!(found.iter().all(|survey| state(survey) == State::Healthy));
        assert_eq!(
            members.asked(),
            4,
            "the one under way, and one for all others"
        );
    }

    /// Seen: a node was paused, and then showed an operator how the others had been seconds ago.
    #[tokio::test(start_paused = true)]
    async fn a_node_that_stood_still_asks_again_or_knows_nothing_of_the_others() {
        let stall = 5 * MEMBER_TIMEOUT;
        for (max_wait, time_left) in [(MEMBER_TIMEOUT, false), (2 * stall, true)] {
            let (surveys, members, _node) = asking(None);
            *members.stall.lock().unwrap() = Some(stall);
            let found = surveys.recent(max_wait).await;
            assert_eq!(members.asked(), if time_left { 4 } else { 2 });
            assert_eq!(state(&found) == State::Healthy, time_left);
            assert_eq!(is_unanswered(&found), !time_left);
            assert!(found.view(node(1)).is_some());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn two_hundred_whose_round_is_out_of_date_join_one_other() {
        let (surveys, members, _node) = asking(None);
        let stall = 5 * MEMBER_TIMEOUT;
        *members.stall.lock().unwrap() = Some(stall);
        let all = (0..200).map(|_| surveys.recent(2 * stall));
        let found = join_all(all).await;
        assert!(found.iter().all(|survey| state(survey) == State::Healthy));
        assert_eq!(members.asked(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_with_little_time_gets_no_outdated_status() {
        let (surveys, members, _node) = asking(Some(3));
        let stall = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            tokio::time::advance(5 * MEMBER_TIMEOUT).await;
        };
        let (found, ()) = tokio::join!(surveys.recent(Duration::from_millis(50)), stall);
        assert!(is_unanswered(&found), "member 2 answered long ago");
        assert_eq!(members.asked(), 2);
    }

    /// Without a leader, nodes that took part once are asked as well.
    #[tokio::test(start_paused = true)]
    async fn a_survey_does_not_wait_long_for_a_node_that_takes_part_no_more() {
        let (surveys, members, detached) = asking(Some(4));
        let all: crate::types::ClusterMembership = [1, 2, 3, 4].map(node).into();
        detached.nodes.send_replace(Arc::new(all));
        let begun = Instant::now();
        let found = surveys.recent(MEMBER_TIMEOUT).await;
        assert_eq!(begun.elapsed(), FORMER_MAX_WAIT);
        assert_eq!(state(&found), State::Healthy);
        assert_eq!(members.asked(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_member_is_waited_for_as_long_as_the_caller_likes() {
        let (surveys, members, _node) = asking(Some(3));
        let begun = Instant::now();
        let max_wait = Duration::from_millis(50);
        let found = surveys.recent(max_wait).await;
        assert_eq!(begun.elapsed(), max_wait);
        assert_eq!(state(&found), State::Degraded);
        assert!(found.view(node(2)).is_some(), "it has answered");
        // The round goes on, and serves callers that wait longer.
        let found = surveys.recent(MEMBER_TIMEOUT).await;
        assert_eq!(begun.elapsed(), MEMBER_TIMEOUT);
        assert_eq!(state(&found), State::Degraded);
        assert_eq!(members.asked(), 2);
    }
}
