//! `LockService`: locks, and the election of leaders.
//!
//! Its commands and reads go the way of those of [`KvService`]. Two calls wait: `Await` for a claim, and
//! `Observe` for the holder of a lock. They hold nothing of the node meanwhile. The driver signals the change
//! of exactly that claim or lock, and then they read it anew, linearizably: so a node that has lost the
//! leadership never answers from a state that is out of date.

use std::pin::Pin;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

use super::Host;
use super::deadline::deadline;
use super::kv::{KvService, astray, holding};
use super::operation::{Operation, numbered_twice};
use crate::driver::{Answer, Signal};
use crate::error::{Reason, Refusal};
use crate::kv::{ClaimId, ClaimState, LockName, Query};
use crate::proto::lock;
use crate::proto::lock::lock_service_server::LockService as Service;
use crate::wire;

/// Messages of one `Observe` that wait to be sent.
const MAX_MESSAGES: usize = 1;

/// `LockService` of one node.
#[derive(Debug, Clone)]
pub struct LockService {
    kv: KvService,
}

impl LockService {
    /// Serves for `host`.
    pub fn new(host: Host) -> Self {
        Self {
            kv: KvService::new(host),
        }
    }

    fn host(&self) -> &Host {
        self.kv.host()
    }

    fn refuse(&self, refusal: Refusal) -> Status {
        self.host().refuse(&refusal)
    }

    /// Reads until `query` is answered.
    async fn read(
        &self,
        cluster: Option<u64>,
        query: Query,
        deadline: Instant,
    ) -> Result<Answer, Refusal> {
        let (operation, context) = (Operation::Query(query), bytes::Bytes::new());
        self.kv
            .execute(cluster, &operation, &context, deadline)
            .await
    }

    /// The state of a claim as soon as it does not wait, or at the deadline.
    async fn awaited(
        &self,
        metadata: &MetadataMap,
        cluster: Option<u64>,
        name: LockName,
        id: ClaimId,
    ) -> Result<ClaimState, Refusal> {
        let host = self.host();
        let deadline = deadline(metadata, host.options.request_timeout);
        let mut signal = host.driver.lock_signals().claims.subscribe(id);
        loop {
            let name = LockName::clone(&name);
            let answer = self
                .read(cluster, Query::Claim { name, id }, deadline)
                .await?;
            let Answer::Claim { state, .. } = answer else {
                return Err(Refusal::unknown(Reason::NoQuorum));
            };
            if !matches!(state, ClaimState::Waiting(_)) {
                return Ok(state);
            }
            match timeout_at(deadline, self.changed(&mut signal)).await {
                Ok(changed) => changed?,
                Err(_) => return Ok(state),
            }
        }
    }

    /// Waits until the thing has changed, or this node has another role.
    ///
    /// # Errors
    ///
    /// The node shuts down.
    async fn changed<K: std::hash::Hash + Eq + Clone>(
        &self,
        signal: &mut Signal<K>,
    ) -> Result<(), Refusal> {
        let host = self.host();
        let mut status = host.driver.watch();
        status.mark_unchanged();
        tokio::select! {
            biased;
            () = host.admission.closed() => Err(Refusal::not_applied(Reason::ShuttingDown)),
            () = signal.changed() => Ok(()),
            _ = status.changed() => Ok(()),
        }
    }

    /// Sends who holds the lock, now and after each change.
    async fn observe_all(
        &self,
        cluster: Option<u64>,
        name: LockName,
        observed: &mpsc::Sender<Result<lock::ObserveResponse, Status>>,
    ) -> Result<(), Refusal> {
        let host = self.host();
        let mut signal = host
            .driver
            .lock_signals()
            .locks
            .subscribe(LockName::clone(&name));
        let mut shown = None;
        loop {
            let deadline = crate::deadline::after(host.options.request_timeout);
            let query = Query::Lock(LockName::clone(&name));
            let answer = self.read(cluster, query, deadline).await?;
            let Answer::Lock { lock, revision } = answer else {
                return Err(Refusal::unknown(Reason::NoQuorum));
            };
            let holder = lock.holder.map(lock::Holder::from);
            if shown.as_ref() != Some(&holder) {
                let response = lock::ObserveResponse {
                    holder: holder.clone(),
                    revision,
                    cluster_id: host.answering(cluster),
                };
                shown = Some(holder);
                if observed.send(Ok(response)).await.is_err() {
                    return Ok(());
                }
            }
            self.changed(&mut signal).await?;
        }
    }
}

#[tonic::async_trait]
impl Service for LockService {
    #[tracing::instrument(level = "debug", skip_all)]
    async fn acquire(
        &self,
        request: Request<lock::AcquireRequest>,
    ) -> Result<Response<lock::AcquireResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let cluster = request.cluster_id;
        let operation = Operation::acquire(request);
        let response = match self.kv.serve(&metadata, cluster, operation).await? {
            Answer::Claim { state, .. } => wire::acquire_response(state),
            Answer::Occupied { holder, .. } => wire::occupied_response(*holder),
            // An earlier copy of the Release has arrived first.
            Answer::Released { .. } => wire::acquire_response(ClaimState::Gone),
            _ => return Err(self.refuse(numbered_twice())),
        };
        Ok(Response::new(lock::AcquireResponse {
            cluster_id: self.host().answering(cluster),
            ..response
        }))
    }

    #[tracing::instrument(level = "debug", skip_all)]
    async fn r#await(
        &self,
        request: Request<lock::AwaitRequest>,
    ) -> Result<Response<lock::AwaitResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let cluster = request.cluster_id;
        let claim = Operation::claim(request);
        let (name, id) = claim.map_err(|refusal| self.refuse(refusal))?;
        let state = self.awaited(&metadata, cluster, name, id).await;
        let state = state.map_err(|refusal| self.refuse(refusal))?;
        Ok(Response::new(lock::AwaitResponse {
            cluster_id: self.host().answering(cluster),
            ..wire::await_response(state)
        }))
    }

    #[tracing::instrument(level = "debug", skip_all)]
    async fn release(
        &self,
        request: Request<lock::ReleaseRequest>,
    ) -> Result<Response<lock::ReleaseResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let cluster = request.cluster_id;
        let operation = Operation::release(request);
        match self.kv.serve(&metadata, cluster, operation).await? {
            Answer::Released { revision } => Ok(Response::new(lock::ReleaseResponse {
                revision,
                cluster_id: self.host().answering(cluster),
            })),
            _ => Err(self.refuse(numbered_twice())),
        }
    }

    #[tracing::instrument(level = "debug", skip_all)]
    async fn inspect(
        &self,
        request: Request<lock::InspectRequest>,
    ) -> Result<Response<lock::InspectResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let cluster = request.cluster_id;
        let operation = Operation::lock("InspectRequest", &request.name);
        let Answer::Lock { lock, revision } = self.kv.serve(&metadata, cluster, operation).await?
        else {
            return Err(astray());
        };
        Ok(Response::new(lock::InspectResponse {
            holder: lock.holder.map(Into::into),
            waiting: lock.waiting,
            revision,
            cluster_id: self.host().answering(cluster),
        }))
    }

    type ObserveStream = Pin<Box<dyn Stream<Item = Result<lock::ObserveResponse, Status>> + Send>>;

    #[tracing::instrument(level = "debug", skip_all)]
    async fn observe(
        &self,
        request: Request<lock::ObserveRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        let lock::ObserveRequest { name, cluster_id } = request.into_inner();
        let name = Operation::lock_name("ObserveRequest", &name);
        let name = name.map_err(|refusal| self.refuse(refusal))?;
        let (observed, messages) = mpsc::channel(MAX_MESSAGES);
        let service = self.clone();
        let observing = async move {
            let ended = tokio::select! {
                biased;
                // The client does not read any more.
                () = observed.closed() => return,
                ended = service.observe_all(cluster_id, name, &observed) => ended,
            };
            if let Err(refusal) = ended {
                let _ = observed.send(Err(service.refuse(refusal))).await;
            }
        };
        tokio::spawn(observing.in_current_span());
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }

    #[tracing::instrument(level = "debug", skip_all)]
    async fn list_locks(
        &self,
        request: Request<lock::ListLocksRequest>,
    ) -> Result<Response<lock::ListLocksResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let cluster = request.cluster_id;
        let operation = Operation::locks(&request, self.host().options.max_grpc_message_bytes);
        let Answer::Locks { page, revision } = self.kv.serve(&metadata, cluster, operation).await?
        else {
            return Err(astray());
        };
        let holds = self.kv.holds(page.bytes());
        let holds = holds.map_err(|refusal| self.refuse(refusal))?;
        let response = lock::ListLocksResponse {
            revision,
            cluster_id: self.host().answering(cluster),
            ..wire::list_locks_response(*page)
        };
        Ok(holding(response, holds))
    }
}
