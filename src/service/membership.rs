//! Who is a member: what operators decide, and when they may.
//!
//! A decision is a command in the log like any write. Whoever leads then brings the processes that
//! take part in line with it, one at a time, and a decision is refused while an earlier one is not
//! carried out: each is judged by what the cluster can bear at that moment. What stands in the way of
//! a removal may be the very node that is to be removed, because it is dead or never came; that does
//! not count.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::admin::AdminService;
use crate::address::Address;
use crate::driver::Answer;
use crate::error::{Reason, Refusal};
use crate::kv::Command;
use crate::proto::admin::{
    AddMemberRequest, AddMemberResponse, RemoveMemberRequest, RemoveMemberResponse,
};
use crate::types::{
    ClusterMembership, LogIndex, NodeId, NodeInfo, NodeState, NodeStatus, RaftId, Role,
};
use crate::wire;

/// Most members that a cluster may have. Each one more costs every write another copy, and nine
/// survive four failures.
const MAX_MEMBERS: usize = 9;

/// Longest wait for what another member says of itself.
const MEMBER_TIMEOUT: Duration = Duration::from_secs(1);

/// Entries by which a member may be behind and still count as caught up.
const CAUGHT_UP_SLACK: LogIndex = 64;

impl AdminService {
    /// Makes a node a member, or changes the addresses of one.
    ///
    /// # Errors
    ///
    /// Why not, or that the outcome is unknown when `deadline` came first.
    pub(super) async fn add(
        &self,
        request: AddMemberRequest,
        deadline: Instant,
    ) -> Result<AddMemberResponse, Refusal> {
        let info = node_info(request)?;
        let _turn = self.turn.lock().await;
        self.view().await?.may_add(&info)?;
        let (applied_index, members) = self.decide(Command::AddMember(info), deadline).await?;
        Ok(AddMemberResponse {
            applied_index,
            members,
        })
    }

    /// Makes a node a member no longer.
    ///
    /// # Errors
    ///
    /// As for [`add`](Self::add).
    pub(super) async fn remove(
        &self,
        request: RemoveMemberRequest,
        deadline: Instant,
    ) -> Result<RemoveMemberResponse, Refusal> {
        let id = node_id(request.id)?;
        let _turn = self.turn.lock().await;
        self.view().await?.may_remove(id)?;
        let (applied_index, members) = self.decide(Command::RemoveMember(id), deadline).await?;
        Ok(RemoveMemberResponse {
            applied_index,
            members,
        })
    }

    /// The cluster as this node sees it, if it leads.
    async fn view(&self) -> Result<View, Refusal> {
        let driver = &self.host.driver;
        let own = driver.status();
        leads(&own)?;
        let others = self.others(own.raft_id.node_id(), MEMBER_TIMEOUT).await;
        let view = View {
            committed: own.commit_index,
            own: driver.status(),
            members: ClusterMembership::clone(&driver.members()),
            others,
        };
        leads(&view.own)?;
        Ok(view)
    }

    /// Puts the decision into the log and waits until it is applied: its index, and the members.
    async fn decide(
        &self,
        command: Command,
        deadline: Instant,
    ) -> Result<(LogIndex, Vec<u32>), Refusal> {
        let _pass = self.host.gate.enter(0)?;
        let driver = &self.host.driver;
        let outcome = driver.write(wire::encode_command(&command))?;
        let applied_index = match timeout_at(deadline, outcome).await {
            Ok(Ok(Ok(Answer::MembersDecided { applied_index }))) => applied_index,
            Ok(Ok(Err(refusal))) => return Err(refusal),
            Ok(Err(_)) => return Err(Refusal::unknown(Reason::ShuttingDown)),
            Ok(Ok(Ok(_))) | Err(_) => return Err(Refusal::unknown(Reason::NoQuorum)),
        };
        // The driver answers before it shows what it has applied.
        while driver.status().applied_index < applied_index && Instant::now() < deadline {
            tokio::task::yield_now().await;
        }
        let members = driver.members().ids().map(u32::from).collect();
        Ok((applied_index, members))
    }
}

fn leads(status: &NodeStatus) -> Result<(), Refusal> {
    let reason = match (status.state, status.role, status.leader) {
        (_, Some(Role::Leader), _) => return Ok(()),
        (NodeState::Started, _, None) => Reason::NoQuorum,
        (NodeState::Started, _, Some(leader)) => Reason::NotLeader {
            leader_id: Some(leader.node_id()),
        },
        (NodeState::Fresh | NodeState::Bound | NodeState::Outside, _, _) => Reason::Forming {
            waiting_for: "this node cannot decide who is a member".to_owned(),
        },
    };
    Err(Refusal::not_applied(reason))
}

fn invalid(field: &'static str, rule: impl Into<String>) -> Refusal {
    let rule = rule.into();
    Refusal::not_applied(Reason::InvalidRequest { field, rule })
}

fn not_now(rule: impl Into<String>) -> Refusal {
    let rule = rule.into();
    Refusal::not_applied(Reason::FailedPrecondition { rule })
}

fn node_id(id: u32) -> Result<NodeId, Refusal> {
    NodeId::try_from(id).map_err(|error| invalid("id", error.to_string()))
}

fn address(field: &'static str, text: &str) -> Result<Address, Refusal> {
    let address: Address = text
        .parse()
        .map_err(|problem| invalid(field, format!("{text:?} {problem}; expected host:port")))?;
    if address.is_unspecified() {
        let rule = format!("{text:?} leads nowhere from another machine");
        return Err(invalid(field, rule));
    }
    Ok(address)
}

/// The node that a request names, with addresses that it can have.
fn node_info(request: AddMemberRequest) -> Result<NodeInfo, Refusal> {
    let AddMemberRequest {
        id,
        addr,
        client_addr,
    } = request;
    let id = node_id(id)?;
    if address("addr", &addr)? == address("client_addr", &client_addr)? {
        return Err(invalid("client_addr", "it is addr as well"));
    }
    Ok(NodeInfo {
        id,
        addr,
        client_addr,
    })
}

/// The cluster as its leader sees it.
struct View {
    /// What was committed before the others were asked.
    committed: LogIndex,
    own: NodeStatus,
    members: ClusterMembership,
    /// What the other members that have answered say of themselves.
    others: BTreeMap<NodeId, NodeStatus>,
}

impl View {
    fn may_add(&self, info: &NodeInfo) -> Result<(), Refusal> {
        self.addresses_are_free(info)?;
        match self.members.get(info.id) {
            Some(member) if member == info => Ok(()),
            Some(_) => self.is_finished(Some(info.id)),
            None if self.members.len() >= MAX_MEMBERS => Err(not_now(format!(
                "a cluster has at most {MAX_MEMBERS} members"
            ))),
            None if !self.own.members_known => Err(not_now(
                "an earlier change of members is not finished: not every member knows of it",
            )),
            None => self.is_finished(None),
        }
    }

    fn may_remove(&self, id: NodeId) -> Result<(), Refusal> {
        if !self.members.contains(id) {
            return Err(invalid("id", format!("node {id} is no member")));
        }
        let left: Vec<_> = self.members.ids().filter(|left| *left != id).collect();
        if left.is_empty() {
            return Err(not_now("the last member cannot be removed"));
        }
        self.is_finished(Some(id))?;
        let able = left.iter().filter(|left| self.is_able(**left)).count();
        if able <= left.len() / 2 {
            return Err(not_now(format!(
                "without node {id}, {able} of {} members would be there and caught up, which is no \
                 majority",
                left.len()
            )));
        }
        Ok(())
    }

    /// Whether a member votes, answers and holds what is committed.
    fn is_able(&self, member: NodeId) -> bool {
        member == self.own.raft_id.node_id()
            || self.others.get(&member).is_some_and(|view| {
                view.state == NodeState::Started
                    && view.cluster_id == self.own.cluster_id
                    && self.own.conf.voters.contains(&view.raft_id)
                    && view.last_index + CAUGHT_UP_SLACK >= self.committed
            })
    }

    /// Whether earlier changes are carried out, whatever the state of the node `besides`.
    fn is_finished(&self, besides: Option<NodeId>) -> Result<(), Refusal> {
        let conf = &self.own.conf;
        let counts = |node: &NodeId| Some(*node) != besides;
        let unfinished = |node: NodeId, what: &str| {
            let rule = format!("an earlier change of members is not finished: node {node} {what}");
            Err(not_now(rule))
        };
        let voters: BTreeSet<_> = conf.voters.iter().map(|id| id.node_id()).collect();
        let mut learners = conf.learners.iter().map(|id| id.node_id());
        if let Some(node) = learners.find(counts) {
            return unfinished(node, "is catching up");
        }
        let mut missing = self.members.ids().filter(|node| !voters.contains(node));
        if let Some(node) = missing.find(counts) {
            return unfinished(node, "does not vote yet");
        }
        let mut leaving = voters.iter().filter(|node| !self.members.contains(**node));
        if let Some(node) = leaving.find(|node| counts(node)) {
            return unfinished(*node, "still votes");
        }
        let voters: BTreeSet<RaftId> = conf.voters.iter().copied().collect();
        let mut others = self.others.iter().filter(|(node, _)| counts(node));
        let ignorant = others.find(|(_, view)| {
            let knows = view.conf.voters.iter().copied().collect::<BTreeSet<_>>() == voters;
            voters.contains(&view.raft_id) && !knows
        });
        match ignorant {
            Some((node, _)) => unfinished(*node, "does not know of it yet"),
            None => Ok(()),
        }
    }

    /// No two members listen at one address.
    fn addresses_are_free(&self, info: &NodeInfo) -> Result<(), Refusal> {
        for (field, text) in [("addr", &info.addr), ("client_addr", &info.client_addr)] {
            let wanted = address(field, text)?;
            let taken = |other: &&NodeInfo| {
                let theirs = [&other.addr, &other.client_addr];
                other.id != info.id && theirs.iter().any(|addr| addr.parse() == Ok(wanted.clone()))
            };
            if let Some(other) = self.members.iter().find(taken) {
                return Err(invalid(
                    field,
                    format!("it is an address of node {}", other.id),
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::types::{ClusterId, Conf};

    fn node(id: u16) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn life(id: u16) -> RaftId {
        RaftId::new(node(id), 1)
    }

    fn info(id: u16) -> NodeInfo {
        NodeInfo {
            id: node(id),
            addr: format!("kvstore-{id}:7379"),
            client_addr: format!("kvstore-{id}:6379"),
        }
    }

    fn conf(members: &[u16], voters: &[u16]) -> Arc<Conf> {
        Arc::new(Conf {
            voters: voters.iter().copied().map(life).collect(),
            learners: Vec::new(),
            members: members.iter().copied().map(node).collect(),
        })
    }

    fn status(id: u16, conf: &Arc<Conf>) -> NodeStatus {
        NodeStatus {
            state: NodeState::Started,
            cluster_id: Some(ClusterId(7)),
            role: Some(if id == 1 {
                Role::Leader
            } else {
                Role::Follower
            }),
            leader: Some(life(1)),
            last_index: 1000,
            commit_index: 1000,
            applied_index: 1000,
            members_known: id == 1,
            conf: Arc::clone(conf),
            ..NodeStatus::fresh(life(id))
        }
    }

    /// Node 1 leads the members, of whom `answering` are alive.
    fn view(members: &[u16], voters: &[u16], answering: &[u16]) -> View {
        let conf = conf(members, voters);
        let others = answering.iter().filter(|id| **id != 1);
        View {
            committed: 1000,
            own: status(1, &conf),
            members: members.iter().copied().map(info).collect(),
            others: others.map(|&id| (node(id), status(id, &conf))).collect(),
        }
    }

    fn why(outcome: Result<(), Refusal>) -> String {
        outcome.map_or_else(|refusal| refusal.reason.to_string(), |()| "ok".to_owned())
    }

    const ALL: [u16; 3] = [1, 2, 3];

    #[test]
    fn a_node_is_added_to_a_cluster_that_is_whole() {
        let add = |view: View| why(view.may_add(&info(4)));
        assert_eq!(add(view(&ALL, &ALL, &ALL)), "ok");
        assert_eq!(
            add(view(&ALL, &ALL, &[1, 2])),
            "ok",
            "a dead one is enough reason"
        );

        let unfinished = "not now: an earlier change of members is not finished: ";
        assert_eq!(
            add(view(&[1, 2, 3, 5], &ALL, &ALL)),
            format!("{unfinished}node 5 does not vote yet")
        );
        assert_eq!(
            add(view(&[1, 2], &ALL, &ALL)),
            format!("{unfinished}node 3 still votes")
        );
        let mut learner = view(&ALL, &ALL, &ALL);
        Arc::make_mut(&mut learner.own.conf).learners.push(life(3));
        assert_eq!(add(learner), format!("{unfinished}node 3 is catching up"));
        let mut unknown = view(&ALL, &ALL, &ALL);
        unknown.own.members_known = false;
        assert_eq!(
            add(unknown),
            format!("{unfinished}not every member knows of it")
        );
    }

    #[test]
    fn members_are_bounded() {
        let nine = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        let whole = view(&nine, &nine, &nine);
        let why = why(whole.may_add(&info(10)));
        assert_eq!(why, "not now: a cluster has at most 9 members");
        assert!(whole.may_add(&info(9)).is_ok(), "is one already");
    }

    #[test]
    fn a_member_may_be_added_again_and_may_move() {
        let same = view(&[1, 2, 3, 4], &ALL, &ALL);
        assert_eq!(why(same.may_add(&info(4))), "ok", "decided, not yet done");
        let moved = NodeInfo {
            addr: "elsewhere:7379".to_owned(),
            ..info(3)
        };
        let dead = view(&ALL, &ALL, &[1, 2]);
        assert_eq!(why(dead.may_add(&moved)), "ok");
    }

    #[test]
    fn addresses_are_addresses_and_of_one_node() {
        let request = |id: u32, addr: &str, client_addr: &str| AddMemberRequest {
            id,
            addr: addr.to_owned(),
            client_addr: client_addr.to_owned(),
        };
        let judged = |request| {
            let whole = view(&ALL, &ALL, &ALL);
            why(node_info(request).and_then(|info| whole.may_add(&info)))
        };
        assert_eq!(judged(request(4, "d:1", "d:2")), "ok");
        for (request, problem) in [
            (
                request(0, "d:1", "d:2"),
                "id: 0 is no node id: node ids are 1 to 65535",
            ),
            (
                request(4, "d", "d:2"),
                "addr: \"d\" has no port; expected host:port",
            ),
            (
                request(4, "d:1", "0.0.0.0:2"),
                "client_addr: \"0.0.0.0:2\" leads nowhere from another machine",
            ),
            (request(4, "d:1", "D:1"), "client_addr: it is addr as well"),
            (
                request(4, "kvstore-2:6379", "d:2"),
                "addr: it is an address of node 2",
            ),
            (
                request(4, "d:1", "KVSTORE-3:7379"),
                "client_addr: it is an address of node 3",
            ),
        ] {
            assert_eq!(judged(request), problem);
        }
    }

    #[test]
    fn a_member_is_removed_if_the_others_can_decide() {
        let remove = |view: View, id: u16| why(view.may_remove(node(id)));
        assert_eq!(remove(view(&ALL, &ALL, &ALL), 3), "ok");
        assert_eq!(remove(view(&ALL, &ALL, &ALL), 1), "ok", "the leader");
        assert_eq!(remove(view(&ALL, &ALL, &ALL), 4), "id: node 4 is no member");
        assert_eq!(
            remove(view(&[1], &[1], &[1]), 1),
            "not now: the last member cannot be removed"
        );
        assert_eq!(
            remove(view(&ALL, &ALL, &[1, 2]), 2),
            "not now: without node 2, 1 of 2 members would be there and caught up, which is no \
             majority"
        );
        let mut behind = view(&ALL, &ALL, &ALL);
        behind.others.get_mut(&node(2)).unwrap().last_index = 9;
        assert!(remove(behind, 3).contains("1 of 2 members"));
    }

    #[test]
    fn a_node_that_is_dead_or_never_came_does_not_stand_in_the_way_of_its_own_removal() {
        let remove = |view: View, id: u16| why(view.may_remove(node(id)));
        assert_eq!(remove(view(&ALL, &ALL, &[1, 2]), 3), "ok", "it is dead");
        let never_came = || view(&[1, 2, 3, 4], &ALL, &ALL);
        assert_eq!(remove(never_came(), 4), "ok");
        assert!(remove(never_came(), 3).contains("node 4 does not vote yet"));

        // Two of five are dead, and neither knows of the last change.
        let five = [1, 2, 3, 4, 5];
        let mut dead = view(&five, &five, &ALL);
        dead.own.members_known = false;
        assert_eq!(remove(dead, 4), "ok");

        // It was started again and is on its way back in.
        let mut back = view(&ALL, &ALL, &ALL);
        let again = RaftId::new(node(3), 2);
        Arc::make_mut(&mut back.own.conf).learners.push(again);
        back.others.get_mut(&node(3)).unwrap().raft_id = again;
        assert_eq!(why(back.may_remove(node(3))), "ok");
        assert!(why(back.may_remove(node(2))).contains("node 3 is catching up"));
    }

    #[test]
    fn whoever_lives_has_to_know_of_the_last_change() {
        let mut view = view(&ALL, &ALL, &ALL);
        view.others.get_mut(&node(2)).unwrap().conf = conf(&ALL, &[1, 2, 3, 4]);
        assert!(why(view.may_remove(node(3))).contains("node 2 does not know of it yet"));
        assert_eq!(why(view.may_remove(node(2))), "ok");
    }
}
