//! `AdminService`: shows the state of the cluster and changes it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::Host;
use super::deadline::{deadline, duration};
use super::describe::describe;
use super::leadership::transfer_leadership;
use super::operator;
use super::refusals::with_message;
use crate::deadline::after;
use crate::driver::Probe;
use crate::error::{Reason, Refusal};
use crate::proto::admin;
use crate::proto::admin::admin_service_server::AdminService as Service;
use crate::types::NodeId;

/// Longest wait for a new leader.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(10);

/// `AdminService` of one node.
#[derive(Clone)]
pub struct AdminService {
    pub(super) host: Host,
    probe: Arc<dyn Probe>,
    /// Held during a change of members: one at a time.
    pub(super) turn: Arc<Mutex<()>>,
}

impl std::fmt::Debug for AdminService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminService")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl AdminService {
    /// Serves for `host`, and asks the other members through `probe`.
    pub fn new(host: Host, probe: Arc<dyn Probe>) -> Self {
        Self {
            host,
            probe,
            turn: Arc::default(),
        }
    }

    async fn transfer(
        &self,
        request: admin::TransferLeadershipRequest,
        caller_gives_up: Instant,
    ) -> Result<admin::TransferLeadershipResponse, Status> {
        let refuse = |refusal: Refusal| self.host.refuse(&refusal);
        self.host.is_for_us(request.cluster_id).map_err(refuse)?;
        let to = request
            .to
            .map(NodeId::try_from)
            .transpose()
            .map_err(|error| refuse(Refusal::invalid("to", error.to_string())))?;
        let timeout = duration("timeout", request.timeout, TRANSFER_TIMEOUT).map_err(refuse)?;
        let deadline = caller_gives_up.min(after(timeout));
        let max_wait = self.host.options.transfer_timeout;
        let taken =
            transfer_leadership(&self.host.driver, std::iter::repeat(to), max_wait, deadline).await;
        match taken {
            Ok(taken) if to.is_none_or(|to| to == taken.leader) => {
                Ok(admin::TransferLeadershipResponse {
                    leader_id: taken.leader.into(),
                    term: taken.term,
                })
            }
            Ok(taken) => Err(refuse(Refusal::not_applied(Reason::NotLeader {
                leader_id: Some(taken.leader),
            }))),
            Err(refusal) if refusal.reason == Reason::NoQuorum => {
                let message = format!("{} ({})", not_taken(to), refusal.applied);
                Err(with_message(&refusal, None, message))
            }
            Err(refusal) => Err(refuse(refusal)),
        }
    }
}

fn not_taken(to: Option<NodeId>) -> String {
    match to {
        Some(to) => format!(
            "node {to} has not taken over leadership in time: it must be up, connected and caught up"
        ),
        None => {
            "no other node has taken over leadership in time: more than half of the nodes must \
                 be up and connected"
                .to_owned()
        }
    }
}

#[tonic::async_trait]
impl Service for AdminService {
    #[tracing::instrument(level = "debug", skip_all)]
    async fn status(
        &self,
        request: Request<admin::StatusRequest>,
    ) -> Result<Response<admin::StatusResponse>, Status> {
        let admin::StatusRequest {
            member_timeout,
            fresh,
        } = request.into_inner();
        let longest = self.host.options.member_timeout;
        let max_wait = duration("member_timeout", member_timeout, longest)
            .map_err(|refusal| self.host.refuse(&refusal))?;
        let survey = match fresh {
            true => self.host.surveys.fresh(max_wait).await,
            false => self.host.surveys.recent(max_wait).await,
        };
        Ok(Response::new(describe(&survey)))
    }

    #[tracing::instrument(level = "debug", skip_all)]
    async fn transfer_leadership(
        &self,
        request: Request<admin::TransferLeadershipRequest>,
    ) -> Result<Response<admin::TransferLeadershipResponse>, Status> {
        let caller_gives_up = deadline(request.metadata(), TRANSFER_TIMEOUT);
        let response = self.transfer(request.into_inner(), caller_gives_up).await?;
        Ok(Response::new(response))
    }

    #[tracing::instrument(level = "debug", skip_all)]
    async fn add_member(
        &self,
        request: Request<admin::AddMemberRequest>,
    ) -> Result<Response<admin::AddMemberResponse>, Status> {
        let gives_up = deadline(request.metadata(), self.host.options.request_timeout);
        let response = self.add(request.into_inner(), gives_up).await;
        let response = response.map_err(|refusal| self.host.refuse(&refusal));
        response.map(Response::new)
    }

    #[tracing::instrument(level = "debug", skip_all)]
    async fn remove_member(
        &self,
        request: Request<admin::RemoveMemberRequest>,
    ) -> Result<Response<admin::RemoveMemberResponse>, Status> {
        let gives_up = deadline(request.metadata(), self.host.options.request_timeout);
        let response = self.remove(request.into_inner(), gives_up).await;
        let response = response.map_err(|refusal| self.host.refuse(&refusal));
        response.map(Response::new)
    }

    #[tracing::instrument(level = "debug", skip_all)]
    async fn form(
        &self,
        request: Request<admin::FormRequest>,
    ) -> Result<Response<admin::FormResponse>, Status> {
        let caller_gives_up = deadline(request.metadata(), operator::FORM_TIMEOUT);
        let formed = operator::form(&self.host, request.into_inner(), caller_gives_up).await;
        formed
            .map(Response::new)
            .map_err(|refusal| self.host.refuse(&refusal))
    }

    #[tracing::instrument(level = "debug", skip_all)]
    async fn recover(
        &self,
        request: Request<admin::RecoverRequest>,
    ) -> Result<Response<admin::RecoverResponse>, Status> {
        let recovered = operator::recover(&self.host, &*self.probe, request.into_inner()).await;
        recovered
            .map(Response::new)
            .map_err(|refusal| self.host.refuse(&refusal))
    }
}
