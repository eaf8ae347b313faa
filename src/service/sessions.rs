//! `KvService`: sessions.

use tokio::time::{Instant, timeout_at};
use tonic::{Request, Response, Status};

use super::KvService;
use super::deadline::deadline;
use super::kv::astray;
use super::operation::{Operation, session_id};
use crate::driver::{Answer, Stopped};
use crate::error::{Applied, Reason, Refusal};
use crate::proto::kv;
use crate::types::ClientId;
use crate::wire;

impl KvService {
    pub(super) async fn answer_open_session(
        &self,
        request: Request<kv::OpenSessionRequest>,
    ) -> Result<Response<kv::OpenSessionResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let cluster = request.cluster_id;
        let operation = Operation::open_session(request);
        match self.serve(&metadata, cluster, operation).await? {
            Answer::SessionOpened { ttl, applied_index } => {
                Ok(Response::new(kv::OpenSessionResponse {
                    applied_index,
                    cluster_id: self.host().answering(cluster),
                    ttl: ttl.map(wire::duration),
                }))
            }
            _ => Err(astray()),
        }
    }

    pub(super) async fn answer_keep_alive(
        &self,
        request: Request<kv::KeepAliveRequest>,
    ) -> Result<Response<kv::KeepAliveResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let cluster = request.cluster_id;
        let deadline = deadline(&metadata, self.host().options.request_timeout);
        let outcome = match session_id(request.client_id) {
            Ok(client_id) => self.renew(cluster, client_id, deadline).await,
            Err(refusal) => Err(refusal),
        };
        match outcome.map_err(|refusal| self.host().refuse(&refusal))? {
            Answer::Renewed { ttl, revision } => Ok(Response::new(kv::KeepAliveResponse {
                ttl: Some(wire::duration(ttl)),
                revision,
                cluster_id: self.host().answering(cluster),
            })),
            _ => Err(astray()),
        }
    }

    pub(super) async fn answer_close_session(
        &self,
        request: Request<kv::CloseSessionRequest>,
    ) -> Result<Response<kv::CloseSessionResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let cluster = request.cluster_id;
        let operation = Operation::close_session(request);
        match self.serve(&metadata, cluster, operation).await? {
            Answer::SessionClosed {
                existed,
                applied_index,
            } => Ok(Response::new(kv::CloseSessionResponse {
                existed,
                revision: applied_index,
                cluster_id: self.host().answering(cluster),
            })),
            _ => Err(astray()),
        }
    }

    pub(super) async fn answer_list_sessions(
        &self,
        request: Request<kv::ListSessionsRequest>,
    ) -> Result<Response<kv::ListSessionsResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let cluster = request.cluster_id;
        let operation = Operation::list_sessions(request);
        match self.serve(&metadata, cluster, operation).await? {
            Answer::Sessions {
                sessions,
                more,
                revision,
            } => Ok(Response::new(kv::ListSessionsResponse {
                cluster_id: self.host().answering(cluster),
                ..wire::list_sessions_response(sessions, more, revision)
            })),
            _ => Err(astray()),
        }
    }

    /// Renews a session. No load refuses that: it needs no permit, and waits in a queue of its own.
    async fn renew(
        &self,
        cluster: Option<u64>,
        client_id: ClientId,
        deadline: Instant,
    ) -> Result<Answer, Refusal> {
        let attempt = || self.attempt_renewal(client_id, deadline);
        self.retry(cluster, deadline, attempt).await
    }

    async fn attempt_renewal(
        &self,
        client_id: ClientId,
        deadline: Instant,
    ) -> Result<Answer, Refusal> {
        match timeout_at(deadline, self.host().driver.keep_alive(client_id)).await {
            Ok(Ok(pending)) => self.outcome(pending, Applied::Unknown, deadline).await,
            Ok(Err(Stopped)) => Err(Refusal::not_applied(Reason::ShuttingDown)),
            Err(_) => Err(Refusal::not_applied(Reason::NoQuorum)),
        }
    }
}
