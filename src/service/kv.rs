//! `KvService`: reads and writes.
//!
//! A request ends in one of three ways. It gets its answer. Or it can never succeed here, because another
//! node leads or the request is invalid: then it is refused at once. Or no leader can decide now (the
//! cluster forms, elects, or transfers leadership): then it waits here, not applied and safe to submit
//! again, until that changes or its caller's deadline comes. So the first write of a new user succeeds as
//! soon as the cluster has formed, and a write during an election takes a little longer. Ten thousand
//! waiting requests cost nothing meanwhile: the node wakes them when a leader can decide again, and none
//! asks before.
//!
//! Once a write has had its turn and got no answer, its outcome is unknown, and it is never submitted
//! again here. A write that had no turn in time is taken back, surely not applied.

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::Host;
use super::deadline::deadline;
use super::holds::Holds;
use super::operation::{Operation, numbered_twice};
use super::parts::Parts;
use super::scan::{self, Copied};
use super::waiting::decided;
use super::{trace, watch};
use crate::driver::{Answer, Pending, Stopped};
use crate::error::{Applied, Reason, Refusal};
use crate::proto::kv;
use crate::proto::kv::kv_service_server::KvService as Service;
use crate::wire;

/// Size of a value in bytes from which its answer counts until it is sent.
const COUNTED_FROM: usize = 1024;

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

    /// The node behind the service.
    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    pub(super) async fn serve(
        &self,
        metadata: &MetadataMap,
        cluster: Option<u64>,
        operation: Result<Operation, Refusal>,
    ) -> Result<Answer, Status> {
        let outcome = match operation {
            Ok(operation) => {
                let deadline = deadline(metadata, self.host.options.request_timeout);
                let context = trace::context(metadata);
                self.execute(cluster, &operation, &context, deadline).await
            }
            // A request that is too large here may be small enough for the cluster that it names.
            Err(refusal) => Err(self.host.is_for_us(cluster).err().unwrap_or(refusal)),
        };
        outcome.map_err(|refusal| self.host.refuse(&refusal))
    }

    /// Whether an answer of `bytes` of keys and values fits into one message. The same bound holds in a
    /// pipeline.
    fn fits(&self, bytes: usize) -> Result<(), Refusal> {
        let max = self.host.options.max_grpc_message_bytes / 2;
        if bytes <= max {
            return Ok(());
        }
        Err(Refusal::not_applied(Reason::TooLarge {
            what: "response",
            limit: u64::try_from(max).unwrap_or(u64::MAX),
            node_id: None,
        }))
    }

    /// The hold of an answer with a value of `bytes`, until it is sent. `None` for a small value, which
    /// takes less than the call itself.
    pub(super) fn holds(&self, bytes: usize) -> Result<Option<Holds>, Refusal> {
        if bytes < COUNTED_FROM {
            return Ok(None);
        }
        let holds = Holds::default();
        holds.add(self.host.account.try_hold(bytes)?);
        Ok(Some(holds))
    }

    /// The parts of an answer to a scan, which has `permit` for a copy of the state.
    fn parts(
        &self,
        cluster: Option<u64>,
        answer: Answer,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<Response<Parts<kv::ScanResponse>>, Status> {
        let Answer::Part {
            part,
            state,
            revision,
        } = answer
        else {
            return Err(astray());
        };
        let (part, scan) = *part;
        let copied = state.zip(permit);
        let copied = copied.map(|(state, permit)| Copied::new(state, self.host.clone(), permit));
        let rest = copied.map(|copied| (scan, copied));
        Ok(scan::answer(
            self.host.clone(),
            cluster,
            part,
            rest,
            revision,
        ))
    }

    /// Carries out an operation, once it is admitted.
    pub(super) async fn execute(
        &self,
        cluster: Option<u64>,
        operation: &Operation,
        context: &Bytes,
        deadline: Instant,
    ) -> Result<Answer, Refusal> {
        let _permit = self.host.admission.enter(operation.bytes())?;
        let attempt = || self.attempt(operation, context, deadline);
        self.retry(cluster, deadline, attempt).await
    }

    /// Attempts it until the outcome is one that waiting would not change, or until the deadline.
    pub(super) async fn retry<F: Future<Output = Result<Answer, Refusal>>>(
        &self,
        cluster: Option<u64>,
        deadline: Instant,
        attempt: impl Fn() -> F,
    ) -> Result<Answer, Refusal> {
        let mut decides = None;
        let mut refusal = Refusal::not_applied(Reason::NoQuorum);
        // A request that is submitted after the deadline could only end as unknown.
        while Instant::now() < deadline {
            // Checked at each attempt: while it waits, a node may join another cluster than expected.
            self.host.is_for_us(cluster)?;
            refusal = match attempt().await {
                Err(refusal) if self.host.may_end(&refusal) => refusal,
                outcome => return outcome,
            };
            if self.host.admission.is_closed() {
                return Err(Refusal::not_applied(Reason::ShuttingDown));
            }
            let Some(decides) = &mut decides else {
                // A change since the attempt would not wake us: try again before waiting.
                let mut watch = self.host.driver.watch_decides();
                watch.mark_unchanged();
                decides = Some(watch);
                continue;
            };
            tokio::select! {
                biased;
                () = self.host.admission.closed() => {}
                _ = timeout_at(deadline, decided(decides)) => {}
                leader = self.host.lookout.led_elsewhere() => {
                    let leader_id = Some(leader);
                    return Err(Refusal::not_applied(Reason::NotLeader { leader_id }));
                }
            }
        }
        if refusal == Refusal::not_applied(Reason::NoQuorum) && self.host.lookout.is_cut_off() {
            return Err(Refusal::not_applied(Reason::CutOff));
        }
        Err(refusal)
    }

    async fn attempt(
        &self,
        operation: &Operation,
        context: &Bytes,
        deadline: Instant,
    ) -> Result<Answer, Refusal> {
        let driver = &self.host.driver;
        let (pending, applied) = match operation {
            Operation::Command(command) => (
                driver.write_traced(wire::encode_command(command), context.clone())?,
                Applied::Unknown,
            ),
            Operation::Query(query) => (driver.read(query.clone())?, Applied::No),
        };
        self.outcome(pending, applied, deadline).await
    }

    /// The outcome of a request. `applied` tells whether one without an answer was applied.
    pub(super) async fn outcome(
        &self,
        mut pending: Pending,
        applied: Applied,
        deadline: Instant,
    ) -> Result<Answer, Refusal> {
        let reason = match timeout_at(deadline, &mut pending).await {
            Ok(Ok(outcome)) => return outcome,
            Ok(Err(Stopped)) => Reason::ShuttingDown,
            Err(_) if pending.withdraw() => return Err(self.host.driver.no_turn()),
            Err(_) => Reason::NoQuorum,
        };
        Err(Refusal { reason, applied })
    }
}

/// The response `answer`, with the holds of its bytes.
pub(super) fn holding<T>(answer: T, holds: Option<Holds>) -> Response<T> {
    let mut response = Response::new(answer);
    if let Some(holds) = holds {
        response.extensions_mut().insert(holds);
    }
    response
}

/// The core answers the question that it was asked, but the types do not show that.
pub(super) fn astray() -> Status {
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
        let cluster = request.cluster_id;
        let operation = Operation::set(request, &self.host.options);
        match self.serve(&metadata, cluster, operation).await? {
            Answer::Set { applied_index } => Ok(Response::new(kv::SetResponse {
                applied_index,
                cluster_id: self.host.answering(cluster),
            })),
            _ => Err(self.host.refuse(&numbered_twice())),
        }
    }

    #[tracing::instrument(level = "debug", skip_all)]
    async fn get(
        &self,
        request: Request<kv::GetRequest>,
    ) -> Result<Response<kv::GetResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let cluster = request.cluster_id;
        let operation = Operation::get(request, &self.host.options);
        match self.serve(&metadata, cluster, operation).await? {
            Answer::Got {
                found,
                applied_index,
            } => {
                let bytes = found.as_ref().map_or(0, |(pair, _)| pair.value().len());
                let holds = self.holds(bytes);
                let holds = holds.map_err(|refusal| self.host.refuse(&refusal))?;
                let found = found.map(|(pair, revision)| (pair.into_value(), revision));
                let answer = kv::GetResponse {
                    cluster_id: self.host.answering(cluster),
                    ..wire::get_response(found, applied_index)
                };
                Ok(holding(answer, holds))
            }
            _ => Err(astray()),
        }
    }

    #[tracing::instrument(level = "debug", skip_all)]
    async fn delete(
        &self,
        request: Request<kv::DeleteRequest>,
    ) -> Result<Response<kv::DeleteResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let cluster = request.cluster_id;
        let operation = Operation::delete(request, &self.host.options);
        match self.serve(&metadata, cluster, operation).await? {
            Answer::Deleted {
                existed,
                applied_index,
            } => Ok(Response::new(kv::DeleteResponse {
                existed,
                applied_index,
                cluster_id: self.host.answering(cluster),
            })),
            _ => Err(self.host.refuse(&numbered_twice())),
        }
    }

    #[tracing::instrument(level = "debug", skip_all)]
    async fn txn(
        &self,
        request: Request<kv::TxnRequest>,
    ) -> Result<Response<kv::TxnResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let cluster = request.cluster_id;
        let operation = Operation::txn(request, &self.host.options);
        let writes = matches!(operation, Ok(Operation::Command(_)));
        match self.serve(&metadata, cluster, operation).await? {
            Answer::Txn { outcome, revision } => {
                let holds = self.fits(outcome.bytes());
                let holds = holds.and_then(|()| self.holds(outcome.bytes()));
                let holds = holds.map_err(|refusal| match writes {
                    true => Refusal::unknown(refusal.reason),
                    false => refusal,
                });
                let holds = holds.map_err(|refusal| self.host.refuse(&refusal))?;
                let answer = kv::TxnResponse {
                    cluster_id: self.host.answering(cluster),
                    ..wire::txn_response(outcome, revision)
                };
                Ok(holding(answer, holds))
            }
            _ => Err(self.host.refuse(&numbered_twice())),
        }
    }

    type ScanStream = Parts<kv::ScanResponse>;

    #[tracing::instrument(level = "debug", skip_all)]
    async fn scan(
        &self,
        request: Request<kv::ScanRequest>,
    ) -> Result<Response<Self::ScanStream>, Status> {
        let (metadata, _, request) = request.into_parts();
        let cluster = request.cluster_id;
        let deadline = deadline(&metadata, self.host.options.request_timeout);
        let operation = |keeps| Operation::scan(request.clone(), &self.host.options, keeps);
        let refuse = |refusal| self.host.refuse(&refusal);
        let reading = self.host.scans.reading(deadline).await.map_err(refuse)?;
        let first = self.serve(&metadata, cluster, operation(false)).await?;
        drop(reading);
        let Answer::Part { part, .. } = &first else {
            return Err(astray());
        };
        if part.0.is_last(&part.1) {
            return self.parts(cluster, first, None);
        }
        let permit = self.host.scans.copy(deadline).await.map_err(refuse)?;
        let _reading = self.host.scans.reading(deadline).await.map_err(refuse)?;
        // The state of this answer counts: the parts show one moment.
        let answer = self.serve(&metadata, cluster, operation(true)).await?;
        self.parts(cluster, answer, Some(permit))
    }

    type WatchStream = Parts<kv::WatchResponse>;

    #[tracing::instrument(level = "debug", skip_all)]
    async fn watch(
        &self,
        request: Request<kv::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (metadata, _, request) = request.into_parts();
        let deadline = deadline(&metadata, self.host.options.request_timeout);
        let watch = watch::serve(self.host.clone(), request, deadline).await;
        watch.map_err(|refusal| self.host.refuse(&refusal))
    }

    #[tracing::instrument(level = "debug", skip_all)]
    async fn open_session(
        &self,
        request: Request<kv::OpenSessionRequest>,
    ) -> Result<Response<kv::OpenSessionResponse>, Status> {
        self.answer_open_session(request).await
    }

    #[tracing::instrument(level = "debug", skip_all)]
    async fn keep_alive(
        &self,
        request: Request<kv::KeepAliveRequest>,
    ) -> Result<Response<kv::KeepAliveResponse>, Status> {
        self.answer_keep_alive(request).await
    }

    #[tracing::instrument(level = "debug", skip_all)]
    async fn close_session(
        &self,
        request: Request<kv::CloseSessionRequest>,
    ) -> Result<Response<kv::CloseSessionResponse>, Status> {
        self.answer_close_session(request).await
    }

    #[tracing::instrument(level = "debug", skip_all)]
    async fn list_sessions(
        &self,
        request: Request<kv::ListSessionsRequest>,
    ) -> Result<Response<kv::ListSessionsResponse>, Status> {
        self.answer_list_sessions(request).await
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::task::{JoinSet, yield_now};
    use tokio::time::advance;

    use super::*;
    use crate::driver::{Detached, Outcome};

    const WAITING: usize = 1000;
    const MAX_WAIT: Duration = Duration::from_secs(5);

    fn all_read(host: &Host) -> JoinSet<Result<Answer, Refusal>> {
        let mut callers = JoinSet::new();
        for _ in 0..WAITING {
            let kv = KvService::new(host.clone());
            callers.spawn(async move {
                let operation = Operation::Query(crate::types::Key::from("k").into());
                let deadline = Instant::now() + MAX_WAIT;
                kv.execute(None, &operation, &Bytes::new(), deadline).await
            });
        }
        callers
    }

    /// How often the driver is asked within `time`, if it always answers `outcome`.
    async fn asked(driver: &mut Detached, outcome: &Outcome, time: Duration) -> usize {
        let until = Instant::now() + time;
        let mut asked = 0;
        loop {
            // A caller that was answered may ask again.
            yield_now().await;
            match driver.answer_all(outcome) {
                0 if Instant::now() >= until => return asked,
                0 => advance(Duration::from_millis(10)).await,
                some => asked += some,
            }
        }
    }

    fn no_quorum() -> Outcome {
        Err(Refusal::not_applied(Reason::NoQuorum))
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_wait_ask_again_when_a_leader_decides_and_not_before() {
        let (host, mut driver) = Host::detached();
        let mut callers = all_read(&host);
        let moment = Duration::from_secs(2);
        // Twice each: a change after the first attempt would not wake the caller.
        assert_eq!(asked(&mut driver, &no_quorum(), moment).await, 2 * WAITING);
        // The node can decide, and cannot at once again.
        driver.decides.send_replace(true);
        assert_eq!(asked(&mut driver, &no_quorum(), moment).await, WAITING);
        driver.decides.send_replace(false);
        assert_eq!(asked(&mut driver, &no_quorum(), moment / 4).await, 0);
        driver.decides.send_replace(true);
        let answer = Answer::Got {
            found: None,
            applied_index: 7,
        };
        let asked = asked(&mut driver, &Ok(answer.clone()), moment).await;
        assert_eq!(asked, WAITING);
        while let Some(outcome) = callers.join_next().await {
            assert_eq!(outcome.unwrap(), Ok(answer.clone()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_wait_keep_their_deadline() {
        let (host, mut driver) = Host::detached();
        let begin = Instant::now();
        let mut callers = all_read(&host);
        assert_eq!(
            asked(&mut driver, &no_quorum(), MAX_WAIT).await,
            2 * WAITING
        );
        while let Some(outcome) = callers.join_next().await {
            assert_eq!(outcome.unwrap(), no_quorum());
        }
        let waited = begin.elapsed();
        assert!(waited < MAX_WAIT + Duration::from_millis(100), "{waited:?}");
    }
}
