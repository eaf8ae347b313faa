//! What only an operator may decide: to form the cluster although initial members are missing, and
//! to make a new cluster of what one node still has.
//!
//! The core decides what one process can know. Here is what takes a look at the others: a cluster
//! may be given up only if no majority of it may live. A node that answers with another life, or
//! belongs to nothing, has surely lost what it knew. One that does not answer may be alive, and
//! serve with others of its kind, so those must be too few to do so without this node.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};

use super::Host;
use super::admin::duration;
use crate::deadline::after;
use crate::driver::{Probe, Recovery};
use crate::error::{Reason, Refusal};
use crate::proto::admin;
use crate::types::{ClusterId, NodeId, NodeState, NodeStatus, Role};

/// Longest wait for the cluster to start.
pub(super) const FORM_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest wait for one answer of another node.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a node that does not answer is asked again, before a recovery believes that it is
/// silent: longer than the pause between two attempts to connect.
const SILENCE: Duration = Duration::from_secs(2);

/// Pause between two questions to a node that does not answer.
const PAUSE: Duration = Duration::from_millis(100);

fn invalid(field: &'static str, rule: String) -> Refusal {
    Refusal::not_applied(Reason::InvalidRequest { field, rule })
}

fn not_now(rule: String) -> Refusal {
    Refusal::not_applied(Reason::FailedPrecondition { rule })
}

/// Forms the cluster without the members that an operator vouches for, and waits until it runs.
pub(super) async fn form(
    host: &Host,
    request: admin::FormRequest,
    caller_gives_up: Instant,
) -> Result<admin::FormResponse, Refusal> {
    let admin::FormRequest { without, timeout } = request;
    let timeout = duration("timeout", timeout, FORM_TIMEOUT)?;
    let deadline = caller_gives_up.min(after(timeout));
    let without = without
        .into_iter()
        .map(NodeId::try_from)
        .collect::<Result<BTreeSet<_>, _>>()
        .map_err(|error| invalid("without", error.to_string()))?;
    let mut status = host.driver.watch();
    host.driver.form_without(without).await?;
    let ended =
        status.wait_for(|status| matches!(status.state, NodeState::Started | NodeState::Outside));
    let Ok(ended) = timeout_at(deadline, ended).await else {
        return Err(Refusal::not_applied(Reason::Forming {
            waiting_for: "not every node that is not vouched for has answered and accepted in time"
                .to_owned(),
        }));
    };
    let ended = ended.map_err(|_| Refusal::not_applied(Reason::ShuttingDown))?;
    match (ended.state, ended.cluster_id) {
        (NodeState::Started, Some(ClusterId(cluster_id))) => Ok(admin::FormResponse { cluster_id }),
        (_, cluster_id) => Err(not_now(match cluster_id {
            Some(id) => format!("cluster {id} is running without this node"),
            None => "another cluster is running without this node".to_owned(),
        })),
    }
}

/// Makes a new cluster of what this node has, or says what that would be.
pub(super) async fn recover(
    host: &Host,
    probe: &dyn Probe,
    request: admin::RecoverRequest,
) -> Result<admin::RecoverResponse, Refusal> {
    let admin::RecoverRequest {
        cluster_id,
        dry_run,
    } = request;
    let cluster_id = ClusterId(cluster_id);
    // First, so that an operator who asks the wrong node hears of that and nothing else.
    host.driver.recover(cluster_id, true).await?;
    let own = host.driver.status();
    let views = ask_others(probe, &own).await;
    let survivors = judge(&own, cluster_id, &views).map_err(not_now)?;
    let Recovery {
        old,
        new,
        term,
        commit_index,
        last_index,
        keys,
    } = host.driver.recover(cluster_id, dry_run).await?;
    Ok(admin::RecoverResponse {
        new_cluster_id: new.map(|id| id.0),
        cluster_id: old.0,
        term,
        commit_index,
        last_log_index: last_index,
        keys,
        other_survivors: survivors.into_iter().map(u32::from).collect(),
    })
}

/// Everybody who may have a part in the cluster of `own`, as far as that knows: one that was made a
/// member while this node was cut off is not known.
fn others(own: &NodeStatus) -> BTreeSet<NodeId> {
    let conf = &own.conf;
    let processes = conf.voters.iter().chain(&conf.learners);
    let members = conf.members.iter().copied();
    members
        .chain(processes.map(|process| process.node_id()))
        .filter(|&id| id != own.raft_id.node_id())
        .collect()
}

/// What the other nodes say of themselves; nothing of one that stays silent.
async fn ask_others(probe: &dyn Probe, own: &NodeStatus) -> BTreeMap<NodeId, Option<NodeStatus>> {
    let deadline = after(SILENCE);
    let asked = others(own).into_iter().map(|node| async move {
        loop {
            match probe.identify(node, ANSWER_TIMEOUT).await {
                Ok(view) if view.raft_id.node_id() == node => return (node, Some(view)),
                _ if Instant::now() >= deadline => return (node, None),
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    });
    join_all(asked).await.into_iter().collect()
}

/// Who else has state of the halted cluster, or why it may not be given up.
fn judge(
    own: &NodeStatus,
    cluster_id: ClusterId,
    views: &BTreeMap<NodeId, Option<NodeStatus>>,
) -> Result<Vec<NodeId>, String> {
    let heard = || {
        views
            .iter()
            .filter_map(|(id, view)| Some((*id, view.as_ref()?)))
    };
    let started = || heard().filter(|(_, view)| view.state == NodeState::Started);
    if let Some((id, elsewhere)) = started().find_map(|(id, view)| {
        let other = view.cluster_id.filter(|&other| other != cluster_id)?;
        Some((id, other))
    }) {
        return Err(format!(
            "node {id} takes part in cluster {elsewhere}, maybe made of what this one had: start \
             this node again to join it"
        ));
    }
    if let Some((id, leader)) = started().find_map(|(id, view)| Some((id, view.leader?))) {
        let leader = leader.node_id();
        return Err(format!(
            "the cluster is not halted: node {id} says that node {leader} leads it"
        ));
    }
    let voters = &own.conf.voters;
    let quorum = voters.len() / 2 + 1;
    let survivors: Vec<_> = started().map(|(id, _)| id).collect();
    // One of them may have become a voter without this node's knowledge.
    let votes =
        |view: &NodeStatus| view.role != Some(Role::Learner) || voters.contains(&view.raft_id);
    let voting: Vec<_> = started()
        .filter(|(_, view)| votes(view))
        .map(|(id, _)| id)
        .collect();
    if voting.len() + 1 >= quorum {
        return Err(format!(
            "the cluster is not halted: this node and {} can elect a leader",
            nodes(&voting)
        ));
    }
    let silent: Vec<_> = views
        .iter()
        .filter(|(_, view)| view.is_none())
        .map(|(id, _)| *id)
        .collect();
    if silent.len() + voting.len() >= quorum {
        let (verb, they) = match silent.as_slice() {
            [_] => ("does not answer", "it"),
            _ => ("do not answer", "they"),
        };
        return Err(format!(
            "{} {verb}: {they} may still serve without this node. Start as many of them again, \
             without their memory, that the rest of them cannot",
            nodes(&silent)
        ));
    }
    Ok(survivors)
}

/// `node 3`, `nodes 2 and 3`, `nodes 1, 2 and 3`.
fn nodes(ids: &[NodeId]) -> String {
    match ids {
        [] => "no other".to_owned(),
        [one] => format!("node {one}"),
        [all @ .., last] => {
            let all: Vec<_> = all.iter().map(NodeId::to_string).collect();
            format!("nodes {} and {last}", all.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::types::{Conf, RaftId};

    const CLUSTER: ClusterId = ClusterId(7);

    fn node(id: u16) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn life(id: u16, incarnation: u64) -> RaftId {
        RaftId::new(node(id), incarnation)
    }

    /// A follower in the first life of node `id`, in a cluster of first lives, that knows no leader.
    fn follower(id: u16, size: u16) -> NodeStatus {
        NodeStatus {
            state: NodeState::Started,
            cluster_id: Some(CLUSTER),
            role: Some(Role::Follower),
            conf: Arc::new(Conf {
                voters: (1..=size).map(|id| life(id, 1)).collect(),
                learners: Vec::new(),
                members: (1..=size).map(node).collect(),
            }),
            ..NodeStatus::fresh(life(id, 1))
        }
    }

    fn lost(id: u16) -> Option<NodeStatus> {
        Some(NodeStatus::fresh(life(id, 2)))
    }

    /// What node 1 of as many nodes decides that sees the others so.
    fn judged(views: &[Option<NodeStatus>]) -> Result<Vec<u16>, String> {
        let size = u16::try_from(views.len()).unwrap() + 1;
        let views = (2..).map(node).zip(views.iter().cloned()).collect();
        let survivors = judge(&follower(1, size), CLUSTER, &views)?;
        Ok(survivors.into_iter().map(NodeId::get).collect())
    }

    #[test]
    fn a_cluster_is_given_up_only_if_no_majority_may_live() {
        let alive = |id| Some(follower(id, 3));
        let alive_of_5 = |id| Some(follower(id, 5));
        assert_eq!(judged(&[lost(2), lost(3)]), Ok(vec![]));
        // Alone it decides nothing, and with this node it would; but it may be gone.
        assert_eq!(judged(&[lost(2), None]), Ok(vec![]));
        let error = judged(&[lost(2), alive(3)]).unwrap_err();
        assert!(error.contains("this node and node 3 can elect"), "{error}");
        let error = judged(&[None, None]).unwrap_err();
        assert!(
            error.starts_with("nodes 2 and 3 do not answer: they may"),
            "{error}"
        );

        let survivors = judged(&[lost(2), lost(3), lost(4), alive_of_5(5)]);
        assert_eq!(survivors, Ok(vec![5]));
        let survivors = judged(&[lost(2), lost(3), None, alive_of_5(5)]);
        assert_eq!(survivors, Ok(vec![5]));
        let error = judged(&[lost(2), None, None, alive_of_5(5)]).unwrap_err();
        assert!(error.starts_with("nodes 3 and 4 do not answer"), "{error}");
        let error = judged(&[lost(2), lost(3), alive_of_5(4), alive_of_5(5)]).unwrap_err();
        assert!(error.contains("nodes 4 and 5 can elect"), "{error}");
    }

    #[test]
    fn a_new_life_that_does_not_vote_yet_stops_nobody() {
        let learner = |id| NodeStatus {
            role: Some(Role::Learner),
            raft_id: life(id, 2),
            ..follower(id, 3)
        };
        assert_eq!(judged(&[lost(2), Some(learner(3))]), Ok(vec![3]));
        // One that has been promoted does, although this node does not know.
        let promoted = NodeStatus {
            role: Some(Role::Follower),
            ..learner(3)
        };
        assert!(judged(&[lost(2), Some(promoted)]).is_err());
    }

    #[test]
    fn a_cluster_is_not_given_up_while_somebody_follows_a_leader_or_after_another_did() {
        let follows = NodeStatus {
            leader: Some(life(3, 2)),
            ..follower(2, 5)
        };
        let error = judged(&[Some(follows), lost(3), lost(4), lost(5)]).unwrap_err();
        assert!(
            error.contains("node 2 says that node 3 leads it"),
            "{error}"
        );
        let recovered = NodeStatus {
            cluster_id: Some(ClusterId(8)),
            ..follower(2, 3)
        };
        let error = judged(&[Some(recovered), lost(3)]).unwrap_err();
        assert!(
            error.contains("node 2 takes part in cluster 0000000000000008"),
            "{error}"
        );
    }
}
