//! Decisions of an operator: to form the cluster although initial members are missing, and to recover a new
//! cluster from the state of one node.
//!
//! The core decides. This module asks the other nodes for it: the core has to know the present status of all
//! nodes, and which of them stay silent though they have been asked for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};

use super::Host;
use super::deadline::duration;
use crate::cluster::recovery::{self, Order};
use crate::cluster::{Answer, Answers};
use crate::deadline::after;
use crate::driver::{DriverHandle, Probe, Recovery};
use crate::error::{Reason, Refusal};
use crate::proto::admin;
use crate::types::{ClusterId, NodeId, NodeState, NodeStatus, Rank, WallTime};

/// Longest wait for the cluster to start.
pub(super) const FORM_TIMEOUT: Duration = Duration::from_secs(10);

/// Timeouts of an answer for which a silent node is asked again, before a recovery believes that it is
/// silent: longer than the pause between two attempts to connect.
const SILENCE_TIMEOUTS: u32 = 2;

/// Pause between two questions to a node that does not answer.
const PAUSE: Duration = Duration::from_millis(100);

/// Forms the cluster without the members that are gone as the operator states, and waits until it runs. On
/// timeout the statement is withdrawn.
#[tracing::instrument(level = "debug", skip_all)]
pub(super) async fn form(
    host: &Host,
    request: admin::FormRequest,
    caller_gives_up: Instant,
) -> Result<admin::FormResponse, Refusal> {
    let admin::FormRequest { without, timeout } = request;
    let timeout = duration("timeout", timeout, FORM_TIMEOUT)?;
    let deadline = caller_gives_up.min(after(timeout));
    let without = node_ids(without)?;
    let mut status = host.driver.watch();
    let statement = Statement::make(&host.driver, without).await?;
    let ended =
        status.wait_for(|status| matches!(status.state, NodeState::Started | NodeState::Outside));
    let Ok(ended) = timeout_at(deadline, ended).await else {
        if let Some(ClusterId(cluster_id)) = statement.withdraw().await? {
            return Ok(admin::FormResponse { cluster_id });
        }
        return Err(Refusal::not_applied(Reason::Forming {
            waiting_for: "not all of the other nodes have answered and accepted in time".to_owned(),
        }));
    };
    let ended = ended.map_err(|_| Refusal::not_applied(Reason::ShuttingDown))?;
    match (ended.state, ended.cluster_id) {
        (NodeState::Started, Some(ClusterId(cluster_id))) => Ok(admin::FormResponse { cluster_id }),
        (_, cluster_id) => Err(Refusal::precondition(match cluster_id {
            Some(id) => format!("cluster {id} is running without this node"),
            None => "another cluster is running without this node".to_owned(),
        })),
    }
}

/// The statement of an operator who waits for the cluster. It is withdrawn when the operator has gone
/// and the call is dropped: no cluster forms on a statement without an operator.
struct Statement<'a> {
    driver: &'a DriverHandle,
    without: BTreeSet<NodeId>,
    stands: bool,
}

impl<'a> Statement<'a> {
    async fn make(driver: &'a DriverHandle, without: BTreeSet<NodeId>) -> Result<Self, Refusal> {
        let mut statement = Self {
            driver,
            without,
            stands: true,
        };
        let made = driver.form_without(statement.without.clone()).await;
        statement.stands = made.is_ok();
        made.map(|()| statement)
    }

    /// Withdraws the statement. Returns the cluster that has formed nevertheless, if any.
    async fn withdraw(mut self) -> Result<Option<ClusterId>, Refusal> {
        let formed = self.driver.stop_forming(self.without.clone()).await;
        self.stands = false;
        formed
    }
}

impl Drop for Statement<'_> {
    /// The inbox of the driver may be full: a task waits for its room, one for each call that was dropped.
    fn drop(&mut self) {
        let (true, Ok(runtime)) = (self.stands, Handle::try_current()) else {
            return;
        };
        let (driver, without) = (self.driver.clone(), std::mem::take(&mut self.without));
        runtime.spawn(async move { driver.stop_forming(without).await });
    }
}

/// The nodes that the operator states are gone.
fn node_ids(without: Vec<u32>) -> Result<BTreeSet<NodeId>, Refusal> {
    let ids = without.into_iter().map(NodeId::try_from);
    ids.collect::<Result<_, _>>()
        .map_err(|error| Refusal::invalid("without", error.to_string()))
}

/// Recovers a new cluster from the state of this node, or in a dry run says what would be kept.
#[tracing::instrument(level = "debug", skip_all)]
pub(super) async fn recover(
    host: &Host,
    probe: &dyn Probe,
    request: admin::RecoverRequest,
) -> Result<admin::RecoverResponse, Refusal> {
    let admin::RecoverRequest {
        cluster_id,
        dry_run,
        without,
        incomplete,
    } = request;
    let order = Order {
        cluster_id: ClusterId(cluster_id),
        without: node_ids(without)?,
        incomplete,
    };
    let answers = ask_others(probe, &host.driver.status(), host.options.member_timeout).await;
    let recovery = host.driver.recover(order, answers, dry_run).await?;
    Ok(response(recovery))
}

fn response(recovery: Recovery) -> admin::RecoverResponse {
    let Recovery {
        old,
        new,
        term,
        kept,
        keys,
        others,
        without,
        time,
        revisions,
    } = recovery;
    let mut other_survivors: Vec<_> = others
        .iter()
        .map(|it| it.raft_id.node_id().into())
        .collect();
    other_survivors.sort_unstable();
    let compared = |rank: Rank| admin::RecoverySurvivor {
        id: rank.raft_id.node_id().into(),
        last_log_term: rank.last_term,
        last_log_index: rank.last_index,
        commit_index: rank.commit_index,
        votes: rank.votes,
    };
    admin::RecoverResponse {
        new_cluster_id: new.map(|id| id.0),
        cluster_id: old.0,
        term,
        commit_index: kept.commit_index,
        last_log_index: kept.last_index,
        keys,
        other_survivors,
        last_log_term: kept.last_term,
        votes: kept.votes,
        compared: others.into_iter().map(compared).collect(),
        without: without.into_iter().map(u32::from).collect(),
        time: time.map_or(0, WallTime::micros),
        commit_revision: revisions.at(kept.commit_index),
        last_log_revision: revisions.at(kept.last_index),
    }
}

/// The answers of all other nodes of the cluster of `own`: those that this node knows, and those that the
/// asked ones know.
async fn ask_others(probe: &dyn Probe, own: &NodeStatus, max_wait: Duration) -> Answers {
    let me = own.raft_id.node_id();
    let mut answers = BTreeMap::from([(me, Ok(own.clone()))]);
    loop {
        let views = answers.values().flatten();
        let known: BTreeSet<_> = views.flat_map(recovery::known).collect();
        let new = known.iter().filter(|node| !answers.contains_key(*node));
        let deadline = after(max_wait.saturating_mul(SILENCE_TIMEOUTS));
        let asked = new.map(|node| ask(probe, *node, max_wait, deadline));
        let new = join_all(asked).await;
        if new.is_empty() {
            answers.remove(&me);
            return answers.into_iter().collect();
        }
        answers.extend(new);
    }
}

/// The answer of `node`, asked again until `deadline`; afterwards what answers in its place.
async fn ask(
    probe: &dyn Probe,
    node: NodeId,
    max_wait: Duration,
    deadline: Instant,
) -> (NodeId, Answer) {
    loop {
        match probe.identify(node, max_wait).await {
            Ok(view) => return (node, Ok(view)),
            Err(error) if Instant::now() >= deadline => return (node, Err(error.answering())),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

#[cfg(test)]
mod tests {

    use tokio::task::JoinHandle;

    use super::*;
    use crate::driver::{Detached, Notice};
    use crate::types::RaftId;

    const TIMEOUT: Duration = Duration::from_secs(5);

    fn raft_id_of(id: u16) -> RaftId {
        RaftId::new(NodeId::new(id).unwrap(), 1)
    }

    /// The operator states that node 3 is gone.
    fn forms(host: &Host) -> JoinHandle<Result<admin::FormResponse, Refusal>> {
        let host = host.clone();
        let request = admin::FormRequest {
            without: vec![3],
            timeout: None,
        };
        tokio::spawn(async move { form(&host, request, after(TIMEOUT)).await })
    }

    async fn accept(driver: &mut Detached, outcome: Result<(), Refusal>) {
        let Some(Notice::Form { without, begun }) = driver.notices.recv().await else {
            panic!("no statement");
        };
        assert_eq!(without, [NodeId::new(3).unwrap()].into());
        begun.send(outcome).unwrap();
    }

    /// The driver hears that the statement is withdrawn, once.
    async fn withdrawn(driver: &mut Detached) {
        let notice = timeout_at(after(2 * TIMEOUT), driver.notices.recv()).await;
        let Ok(Some(Notice::StopForming { without, stopped })) = notice else {
            panic!("the statement stands: {notice:?}");
        };
        assert_eq!(without, [NodeId::new(3).unwrap()].into());
        let _ = stopped.send(Ok(None));
        is_left_alone(driver).await;
    }

    async fn is_left_alone(driver: &mut Detached) {
        let more = timeout_at(after(2 * TIMEOUT), driver.notices.recv()).await;
        assert!(more.is_err(), "{more:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_statement_ends_with_the_call_of_the_operator() {
        let (host, mut driver) = Host::detached();
        let call = forms(&host);
        accept(&mut driver, Ok(())).await;
        tokio::time::sleep(TIMEOUT / 2).await;
        host.driver.report_unreachable(raft_id_of(2)).await.unwrap();
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
        // The inbox was full.
        let first = driver.notices.recv().await;
        assert!(matches!(first, Some(Notice::Unreachable(_))), "{first:?}");
        withdrawn(&mut driver).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_operator_may_go_before_the_statement_is_heard() {
        let (host, mut driver) = Host::detached();
        let call = forms(&host);
        tokio::task::yield_now().await;
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
        let Some(Notice::Form { .. }) = driver.notices.recv().await else {
            panic!("no statement");
        };
        withdrawn(&mut driver).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_statement_is_withdrawn_once_and_not_if_it_was_refused() {
        let (host, mut driver) = Host::detached();
        let call = forms(&host);
        accept(&mut driver, Ok(())).await;
        withdrawn(&mut driver).await;
        let refusal = call.await.unwrap().unwrap_err();
        assert!(matches!(refusal.reason, Reason::Forming { .. }));

        let call = forms(&host);
        accept(&mut driver, Err(Refusal::precondition("no"))).await;
        assert!(call.await.unwrap().is_err());
        is_left_alone(&mut driver).await;
    }
}
