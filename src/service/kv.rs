//! `KvService`: reads and writes.
//!
//! A request has one of three fates. It gets its answer. Or somebody else has to be asked, or it
//! can never succeed: then it is refused at once. Or there is nobody to decide right now (the
//! cluster forms, elects, or hands leadership over): then it waits here, not applied and safe to
//! submit again, until that changes or its caller's deadline comes. So the first write of a new
//! user simply succeeds as soon as the cluster has formed, and a write that meets an election
//! takes a little longer.
//!
//! Once a write was submitted and nothing was heard of it, nobody can say what became of it, and
//! it is never submitted again here.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::Host;
use super::deadline::deadline;
use super::operation::{Operation, numbered_twice};
use super::trace;
use crate::deadline::after;
use crate::driver::Answer;
use crate::error::{Applied, Reason, Refusal};
use crate::proto::kv;
use crate::proto::kv::kv_service_server::KvService as Service;
use crate::types::NodeState;
use crate::wire;

/// How often a waiting request is tried again although nothing seems to have changed: raft-rs gives
/// up a hand-over of leadership without a word.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// `KvService` of one node.
#[derive(Debug, Clone)]
pub struct KvService {
    host: Host,
}

impl KvService {
    /// Serves for `host`.
    pub fn new(host: Host) -> Self {
        Self { host }
    }

    async fn serve(
        &self,
        metadata: &MetadataMap,
        operation: Result<Operation, Refusal>,
    ) -> Result<Answer, Status> {
        let outcome = match operation {
            Ok(operation) => {
                let deadline = deadline(metadata, self.host.options.request_timeout);
                let context = trace::context(metadata);
                self.execute(&operation, &context, deadline).await
            }
            Err(refusal) => Err(refusal),
        };
        outcome.map_err(|refusal| self.host.refuse(&refusal))
    }

    /// Tries until there is an outcome that waiting would not change, or until the deadline.
    async fn execute(
        &self,
        operation: &Operation,
        context: &Bytes,
        deadline: Instant,
    ) -> Result<Answer, Refusal> {
        let _pass = self.host.gate.enter(operation.bytes())?;
        let mut status = None;
        let mut refusal = Refusal::not_applied(Reason::NoQuorum);
        // What is submitted after the deadline could only end as unknown.
        while Instant::now() < deadline {
            refusal = match self.attempt(operation, context, deadline).await {
                Err(refusal) if self.passes(&refusal) => refusal,
                outcome => return outcome,
            };
            if self.host.gate.is_closed() {
                return Err(Refusal::not_applied(Reason::ShuttingDown));
            }
            let Some(status) = &mut status else {
                // What has changed since the attempt would not wake us: try again before waiting.
                let mut watch = self.host.driver.watch();
                watch.mark_unchanged();
                status = Some(watch);
                continue;
            };
            let until = deadline.min(after(RETRY_INTERVAL));
            let _ = timeout_at(until, status.changed()).await;
        }
        Err(refusal)
    }

    /// Whether what stands in the way may pass by itself.
    fn passes(&self, refusal: &Refusal) -> bool {
        match (refusal.applied, &refusal.reason) {
            (Applied::No, Reason::NoQuorum | Reason::NotLeader { leader_id: None }) => true,
            (Applied::No, Reason::Forming { .. }) => {
                self.host.driver.status().state != NodeState::Outside
            }
            _ => false,
        }
    }

    async fn attempt(
        &self,
        operation: &Operation,
        context: &Bytes,
        deadline: Instant,
    ) -> Result<Answer, Refusal> {
        let driver = &self.host.driver;
        let (outcome, applied) = match operation {
            Operation::Command(command) => (
                driver.write_traced(wire::encode_command(command), context.clone())?,
                Applied::Unknown,
            ),
            Operation::Get(key) => (driver.read(key.clone())?, Applied::No),
        };
        let reason = match timeout_at(deadline, outcome).await {
            Ok(Ok(outcome)) => return outcome,
            Ok(Err(_)) => Reason::ShuttingDown,
            Err(_) => Reason::NoQuorum,
        };
        Err(Refusal { reason, applied })
    }
}

/// The core answers what it was asked; that it does is not in the types.
fn astray() -> Status {
    Status::internal("the node answered another question than the one it was asked")
}

#[tonic::async_trait]
impl Service for KvService {
    #[tracing::instrument(level = "debug", skip_all)]
    async fn set(
        &self,
        request: Request<kv::SetRequest>,
    ) -> Result<Response<kv::SetResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let operation = Operation::set(request, &self.host.options);
        match self.serve(&metadata, operation).await? {
            Answer::Set { applied_index } => Ok(Response::new(kv::SetResponse { applied_index })),
            _ => Err(self.host.refuse(&numbered_twice())),
        }
    }

    #[tracing::instrument(level = "debug", skip_all)]
    async fn get(
        &self,
        request: Request<kv::GetRequest>,
    ) -> Result<Response<kv::GetResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let operation = Operation::get(request, &self.host.options);
        match self.serve(&metadata, operation).await? {
            Answer::Got {
                value,
                applied_index,
            } => Ok(Response::new(kv::GetResponse {
                value,
                applied_index,
            })),
            _ => Err(astray()),
        }
    }

    #[tracing::instrument(level = "debug", skip_all)]
    async fn delete(
        &self,
        request: Request<kv::DeleteRequest>,
    ) -> Result<Response<kv::DeleteResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let operation = Operation::delete(request, &self.host.options);
        match self.serve(&metadata, operation).await? {
            Answer::Deleted {
                existed,
                applied_index,
            } => Ok(Response::new(kv::DeleteResponse {
                existed,
                applied_index,
            })),
            _ => Err(self.host.refuse(&numbered_twice())),
        }
    }

    #[tracing::instrument(level = "debug", skip_all)]
    async fn open_session(
        &self,
        request: Request<kv::OpenSessionRequest>,
    ) -> Result<Response<kv::OpenSessionResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let operation = Operation::open_session(request);
        match self.serve(&metadata, operation).await? {
            Answer::SessionOpened { applied_index } => {
                Ok(Response::new(kv::OpenSessionResponse { applied_index }))
            }
            _ => Err(astray()),
        }
    }

    type PipelineStream = super::pipeline::Answers;

    #[tracing::instrument(level = "debug", skip_all)]
    async fn pipeline(
        &self,
        request: Request<Streaming<kv::PipelineRequest>>,
    ) -> Result<Response<Self::PipelineStream>, Status> {
        let context = trace::context(request.metadata());
        super::pipeline::serve(self.host.clone(), request.into_inner(), context)
    }
}
