//! The calls of operators: the status of the cluster, and changes of its members.
//!
//! A change is requested once. If its outcome is unknown, the error says so, and the status shows the
//! result.

use std::time::Duration;

use tokio::time::timeout;
use tracing::{Instrument as _, debug_span};

use super::builder::endpoint;
use super::call::{Repeat, attempt, ended};
use super::nodes::{Answer, Node, Purpose};
use super::one_cluster::unserved;
use super::search::Search;
use super::{Applied, Client, Error};
use crate::proto::admin::{
    AddMemberRequest, AddMemberResponse, ClusterState, FormRequest, FormResponse, RecoverRequest,
    RecoverResponse, RemoveMemberRequest, RemoveMemberResponse, StatusRequest, StatusResponse,
    TransferLeadershipRequest, TransferLeadershipResponse,
};

/// Once one node has answered, how long to wait for a node that knows more.
const EXTRA_WAIT: Duration = Duration::from_millis(1_500);

/// The API of a cluster for operators.
#[derive(Debug, Clone)]
pub struct Admin {
    client: Client,
}

/// One node, and its view of the cluster.
#[derive(Debug, Clone)]
pub struct AdminNode {
    client: Client,
    node: Node,
    view: StatusResponse,
}

impl Admin {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// The best view of the cluster that is available: the leader's, or else that of the endpoint that
    /// knows most.
    ///
    /// # Errors
    ///
    /// No endpoint answered in time.
    pub async fn status(&self) -> Result<StatusResponse, Error> {
        self.look(|node| view(node, false)).await
    }

    /// As [`status`](Self::status), but every node asks the members anew for this call. For a caller that
    /// is about to restart a member.
    ///
    /// # Errors
    ///
    /// As for [`status`](Self::status).
    pub async fn fresh_status(&self) -> Result<StatusResponse, Error> {
        self.look(|node| view(node, true)).await
    }

    async fn look<F, Fut>(&self, view: F) -> Result<StatusResponse, Error>
    where
        F: Fn(Node) -> Fut + Sync,
        Fut: Future<Output = Answer<StatusResponse>> + Send,
    {
        let client = &self.client;
        let deadline = client.deadline();
        let mut search = Search::with_attempt_timeout(
            &client.shared,
            client.limit,
            deadline,
            client.limit.timeout,
            &view,
        );
        let first = self.next_view(&mut search);
        let (_, mut best) = first.instrument(debug_span!("status")).await?;
        let more = async {
            while !best.healed && !is_leaders_view(&best) {
                let Ok((_, view)) = self.next_view(&mut search).await else {
                    break;
                };
                if knowledge(&view) > knowledge(&best) {
                    best = view;
                }
            }
        };
        // After the timeout, the best view so far is the answer.
        let _ = timeout(EXTRA_WAIT, more).await;
        Ok(best)
    }

    /// The next view. If the client was told a cluster, views of other clusters are skipped.
    async fn next_view<'a, F, Fut>(
        &self,
        search: &mut Search<'a, StatusResponse, F>,
    ) -> Result<(Node, StatusResponse), Error>
    where
        F: Fn(Node) -> Fut + Sync,
        Fut: Future<Output = Answer<StatusResponse>> + Send + 'a,
    {
        let mut unrelated = None;
        loop {
            match (search.next().await, unrelated) {
                (Ok((node, view)), _) => {
                    match self.client.shared.other_than_told(view.cluster_id) {
                        None => return Ok((node, view)),
                        Some(other) => unrelated = Some((node.address, other)),
                    }
                }
                (Err(error), None) => return Err(error),
                (Err(_), Some((address, other))) => {
                    let message = format!(
                        "{address}: this is cluster {other:016x}, not the one that is asked"
                    );
                    return Err(unserved(message, address, other));
                }
            }
        }
    }

    /// The node `id`: it is one of the endpoints, or one of them knows its client address.
    ///
    /// # Errors
    ///
    /// The node is not a member, the node does not answer, or no endpoint does.
    pub async fn node(&self, id: u16) -> Result<AdminNode, Error> {
        let client = &self.client;
        let deadline = client.deadline();
        let ask = |node| view(node, false);
        let mut search = Search::with_attempt_timeout(
            &client.shared,
            client.limit,
            deadline,
            client.limit.timeout,
            &ask,
        );
        let mut known = None;
        loop {
            let (node, view) = match self.next_view(&mut search).await {
                Ok(answer) => answer,
                Err(error) => return Err(not_found(id, known, error)),
            };
            if view.answered_by == u32::from(id) {
                let client = client.clone();
                return Ok(AdminNode { client, node, view });
            }
            let member = view.members.iter().find(|it| it.id == u32::from(id));
            let address = member.and_then(|member| endpoint(&member.client_addr).ok());
            if let Some(address) = &address {
                search.add(address);
            }
            if address.is_some() || known.is_none() {
                known = Some(address);
            }
        }
    }

    /// The status that the node at the client address `address` gives without asking any other member. It
    /// may be another node than the one that should have this address.
    ///
    /// # Errors
    ///
    /// It does not answer in time, or is not a node that serves clients.
    pub async fn at(&self, address: &str) -> Result<StatusResponse, Error> {
        let address = endpoint(address).map_err(Error::invalid)?;
        let node = self
            .client
            .shared
            .node(Purpose::Calls, &address, self.client.deadline());
        let node = node.map_err(|fault| Error::invalid(fault.message))?;
        let alone = |node: Node| {
            let request = node.request(StatusRequest {
                member_timeout: Some(prost_types::Duration::default()),
                fresh: false,
            });
            async move { node.admin().status(request).await }
        };
        let answer = attempt(&node, &alone).await;
        answer.map_err(|fault| ended(&node, fault.of_read()))
    }

    /// Transfers leadership to the node `to`, or to the best caught-up voter.
    ///
    /// # Errors
    ///
    /// Leadership may have changed if the error says [`Applied::Unknown`].
    pub async fn transfer_leadership(
        &self,
        to: Option<u16>,
    ) -> Result<TransferLeadershipResponse, Error> {
        let transfer = |node: Node| {
            let request = node.request(TransferLeadershipRequest {
                to: to.map(u32::from),
                timeout: most_of(&node),
                cluster_id: node.cluster,
            });
            async move { node.admin().transfer_leadership(request).await }
        };
        let span = debug_span!("transfer_leadership");
        self.decide(transfer).instrument(span).await
    }

    /// Adds the node `id` as a member, or changes its addresses. Returns once that is decided; the node
    /// takes part later, when the status says that the cluster is healed.
    ///
    /// # Errors
    ///
    /// It may have been decided if the error says [`Applied::Unknown`].
    pub async fn add_member(
        &self,
        id: u16,
        addr: &str,
        client_addr: &str,
    ) -> Result<AddMemberResponse, Error> {
        let add = |node: Node| {
            let request = node.request(AddMemberRequest {
                id: id.into(),
                addr: addr.to_owned(),
                client_addr: client_addr.to_owned(),
                cluster_id: node.cluster,
            });
            async move { node.admin().add_member(request).await }
        };
        self.decide(add).instrument(debug_span!("add_member")).await
    }

    /// Removes the member `id`. Returns once that is decided. If fewer than three members would be left,
    /// so that a restart of any one of them halts the cluster or loses all data, the call is refused
    /// unless you set `accept_no_spare`.
    ///
    /// # Errors
    ///
    /// It may have been decided if the error says [`Applied::Unknown`].
    pub async fn remove_member(
        &self,
        id: u16,
        accept_no_spare: bool,
    ) -> Result<RemoveMemberResponse, Error> {
        let remove = |node: Node| {
            let request = node.request(RemoveMemberRequest {
                id: id.into(),
                accept_no_spare,
                cluster_id: node.cluster,
            });
            async move { node.admin().remove_member(request).await }
        };
        let span = debug_span!("remove_member");
        self.decide(remove).instrument(span).await
    }

    async fn decide<T, F, Fut>(&self, make: F) -> Result<T, Error>
    where
        T: Send,
        F: Fn(Node) -> Fut + Sync,
        Fut: Future<Output = Answer<T>> + Send,
    {
        let deadline = self.client.deadline();
        self.client.call(deadline, Repeat::Unsafe, make).await
    }
}

impl AdminNode {
    /// The node's view of the cluster when it was found.
    pub fn view(&self) -> &StatusResponse {
        &self.view
    }

    /// Forms a new cluster although the initial members `without` are missing: see `seshat form`. This
    /// node must have the lowest id of those that are there.
    ///
    /// # Errors
    ///
    /// The cluster may form if the error says [`Applied::Unknown`].
    pub async fn form(&self, without: &[u16]) -> Result<FormResponse, Error> {
        let form = |node: Node| {
            let request = node.request(FormRequest {
                without: without.iter().copied().map(u32::from).collect(),
                timeout: most_of(&node),
            });
            async move { node.admin().form(request).await }
        };
        self.once(true, form).await
    }

    /// Makes a new cluster from the state that this node still has of a halted one: see `seshat recover`.
    /// A dry run changes nothing.
    ///
    /// # Errors
    ///
    /// The old cluster may have been given up if the error says [`Applied::Unknown`].
    pub async fn recover(&self, request: RecoverRequest) -> Result<RecoverResponse, Error> {
        let recover = |node: Node| {
            let request = node.request(request.clone());
            async move { node.admin().recover(request).await }
        };
        let changes = !request.dry_run;
        self.once(changes, recover).await
    }

    /// The node's view of the cluster; it asks the members anew for this call.
    ///
    /// # Errors
    ///
    /// It does not answer in time.
    pub async fn status(&self) -> Result<StatusResponse, Error> {
        self.once(false, |node| view(node, true)).await
    }

    /// Makes a call once. `changes` says whether the call may change anything.
    async fn once<T, F, Fut>(&self, changes: bool, make: F) -> Result<T, Error>
    where
        F: Fn(Node) -> Fut + Sync,
        Fut: Future<Output = Answer<T>> + Send,
    {
        let node = self.node.clone().until(self.client.deadline());
        let made = attempt(&node, &make).await;
        made.map_err(|mut fault| {
            if !changes {
                fault.applied = Applied::No;
            }
            ended(&node, fault)
        })
    }
}

/// A little less time than the call has, so that the node itself can report the reason of a timeout.
fn most_of(node: &Node) -> Option<prost_types::Duration> {
    (node.time_left() * 4 / 5).try_into().ok()
}

/// Asks one node for its view of the cluster. With `fresh` it asks the members anew for this.
async fn view(node: Node, fresh: bool) -> Answer<StatusResponse> {
    // Part of a short timeout only, so that members which answer are shown. The node bounds this by its
    // own timeout, which suits the distances between the members.
    let member_timeout = node.time_left() / 2;
    let request = StatusRequest {
        member_timeout: member_timeout.try_into().ok(),
        fresh,
    };
    node.admin().status(node.request(request)).await
}

fn is_leaders_view(view: &StatusResponse) -> bool {
    view.leader_id == Some(view.answered_by)
        && matches!(
            view.state(),
            ClusterState::Healthy
                | ClusterState::NoSpare
                | ClusterState::Healing
                | ClusterState::Degraded
        )
}

/// Orders views: views with a leader first, then by term, then the leader's own view first.
fn knowledge(view: &StatusResponse) -> impl Ord + use<> {
    let own = view.leader_id == Some(view.answered_by);
    (
        view.leader_id.is_some(),
        view.term,
        own,
        view.cluster_id.is_some(),
    )
}

/// `known` is the answer of the endpoints: `None` if none answered, `Some(None)` if none knows a client
/// address of the member.
fn not_found(id: u16, known: Option<Option<String>>, error: Error) -> Error {
    let message = match known {
        None => return error,
        Some(None) => format!("node {id} is no member of this cluster"),
        Some(Some(address)) => format!("node {id} does not answer at {address}: {error}"),
    };
    Error::Unreachable {
        message,
        applied: Applied::No,
    }
}
