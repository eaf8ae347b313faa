//! `Pipeline`: many commands in flight on one stream.
//!
//! Two halves share a stream. One reads requests, in order, and submits each batch as soon as the
//! gate has room for it; the other sends the answers, in the order of the requests. Between them is a
//! queue, bounded in batches and in bytes: when it is full nothing more is read, and HTTP/2's flow
//! control holds the client back. So a client that does not read its answers costs a bounded amount
//! of memory and delays nobody but itself: what counts against the node's bounds counts only until
//! the outcomes are known, not until they are read.
//!
//! A stream that the node ends, because a request breaks a rule or the node shuts down, ends with a
//! status behind the answers of everything that was submitted. So what that status says of a write,
//! surely not applied, holds for all that was not answered.
//!
//! The commands of a stream keep their order because one task submits them, one batch after the
//! other, and the driver keeps the order of what one caller hands in. While there is no leader that
//! task waits, at most for the request timeout, and with it all that is behind.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::yield_now;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_stream::Stream;
use tonic::{Response, Status, Streaming};

use super::Host;
use super::front;
use super::operation::{self, Operation};
use crate::deadline::after;
use crate::driver::{Answer, BatchItem, Outcome, PendingBatch, Stopped};
use crate::error::{Reason, Refusal};
use crate::kv::{Command, Write};
use crate::proto::kv;
use crate::proto::kv::pipeline_command::Command as Asked;
use crate::proto::kv::pipeline_result::Result as Answered;
use crate::wire;

/// Batches of one stream that may wait for their answers.
const MAX_BATCHES: usize = 1024;
/// Commands of one batch.
const MAX_COMMANDS: usize = 4096;
/// Bytes of keys and values of one stream that may wait for their answers, and what one batch may
/// hold alone.
const MAX_BYTES: u32 = 16 << 20;
/// What a command counts for beside its key and value.
const COMMAND_BYTES: usize = 64;

/// Answers of one stream that may wait to be taken. What is taken at once is sent at once: each
/// answer for itself would cost a system call for each.
const MAX_ANSWERS: usize = 64;

/// The answers of one stream.
#[derive(Debug)]
pub struct Answers(mpsc::Receiver<Result<Ready, Status>>);

/// An answer that waits to be taken, and until then counts against the stream's bytes.
#[derive(Debug)]
struct Ready {
    response: kv::PipelineResponse,
    _bytes: OwnedSemaphorePermit,
}

impl Stream for Answers {
    type Item = Result<kv::PipelineResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let answer = ready!(self.0.poll_recv(context));
        Poll::Ready(answer.map(|answer| Ok(answer?.response)))
    }
}

/// Serves one stream until the client ends it or the node shuts down.
pub(super) fn serve(
    host: Host,
    requests: Streaming<kv::PipelineRequest>,
    context: Bytes,
) -> Result<Response<Answers>, Status> {
    if host.gate.is_closed() {
        return Err(host.refuse(&Refusal::not_applied(Reason::ShuttingDown)));
    }
    let (queue, queued) = mpsc::channel(MAX_BATCHES);
    let (answers, stream) = mpsc::channel(MAX_ANSWERS);
    tokio::spawn({
        let (host, answers) = (host.clone(), answers.clone());
        async move {
            let ended = tokio::select! {
                biased;
                // Nobody reads the answers any more.
                () = answers.closed() => return,
                ended = read(&host, requests, &context, &queue) => ended,
            };
            if let Err(status) = ended {
                let _ = queue.send(Err(status)).await;
            }
        }
    });
    tokio::spawn(async move {
        tokio::select! {
            biased;
            // What still waits for its turn is taken back.
            () = answers.closed() => {}
            () = answer(&host, queued, &answers) => {}
        }
    });
    Ok(Response::new(Answers(stream)))
}

/// What waits for its turn to be sent: a batch, or why the stream ends.
type Queued = Result<Submitted, Status>;

/// A batch on its way.
struct Submitted {
    id: u64,
    /// What each command is, or why it was refused before it was submitted.
    commands: Vec<Result<Kind, Refusal>>,
    /// The outcomes of those that were submitted.
    outcomes: Result<PendingBatch, Refusal>,
    deadline: Instant,
    _bytes: OwnedSemaphorePermit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Set,
    Delete,
    Read,
}

/// Reads requests and submits them, in order.
async fn read(
    host: &Host,
    mut requests: Streaming<kv::PipelineRequest>,
    context: &Bytes,
    queue: &mpsc::Sender<Queued>,
) -> Result<(), Status> {
    let budget = Arc::new(Semaphore::new(
        usize::try_from(MAX_BYTES).unwrap_or(usize::MAX),
    ));
    let mut closed = pin!(host.gate.closed());
    loop {
        let request = tokio::select! {
            biased;
            () = &mut closed => {
                return Err(host.refuse(&Refusal::not_applied(Reason::ShuttingDown)));
            }
            request = requests.message() => request.map_err(|status| no_request(status, host))?,
        };
        let Some(kv::PipelineRequest { id, commands }) = request else {
            return Ok(());
        };
        if commands.is_empty() || commands.len() > MAX_COMMANDS {
            let rule = format!("1 to {MAX_COMMANDS} in a batch, not {}", commands.len());
            let field = "commands";
            let reason = Reason::InvalidRequest { field, rule };
            return Err(host.refuse(&Refusal::not_applied(reason)));
        }
        let operations: Vec<_> = commands
            .into_iter()
            .map(|command| operation(command, host))
            .collect();
        let bytes: usize = operations
            .iter()
            .map(|operation| operation.as_ref().map_or(0, Operation::bytes) + COMMAND_BYTES)
            .sum();
        let held = u32::try_from(bytes).unwrap_or(MAX_BYTES).min(MAX_BYTES);
        let Ok(permit) = Arc::clone(&budget).acquire_many_owned(held).await else {
            return Ok(());
        };
        let submitted = submit(host, id, operations, context, bytes, permit).await;
        if queue.send(Ok(submitted)).await.is_err() {
            return Ok(());
        }
        // A batch keeps the thread busy for a millisecond: others come first now.
        yield_now().await;
    }
}

/// What tonic says of bytes that are no request, with the detail that every refusal has.
fn no_request(status: Status, host: &Host) -> Status {
    front::reason(&status, host.options.max_grpc_message_bytes)
        .map_or(status, |reason| host.refuse(&Refusal::not_applied(reason)))
}

fn operation(command: kv::PipelineCommand, host: &Host) -> Result<Operation, Refusal> {
    match command.command {
        Some(Asked::Set(request)) => Operation::set(request, &host.options),
        Some(Asked::Get(request)) => Operation::get(request, &host.options),
        Some(Asked::Delete(request)) => Operation::delete(request, &host.options),
        None => Err(Refusal::not_applied(Reason::InvalidRequest {
            field: "command",
            rule: "one of set, get and delete".to_owned(),
        })),
    }
}

async fn submit(
    host: &Host,
    id: u64,
    operations: Vec<Result<Operation, Refusal>>,
    context: &Bytes,
    bytes: usize,
    permit: OwnedSemaphorePermit,
) -> Submitted {
    let (mut commands, mut items) = (Vec::new(), Vec::new());
    for operation in operations {
        commands.push(operation.map(|operation| {
            let (kind, item) = match operation {
                Operation::Command(command) => (kind(&command), write(&command, context)),
                Operation::Get(key) => (Kind::Read, BatchItem::Read(key)),
            };
            items.push(item);
            kind
        }));
    }
    somebody_decides(host).await;
    let pass = host.gate.admit(items.len(), bytes).await;
    let deadline = after(host.options.request_timeout);
    let outcomes = pass.and_then(|pass| host.driver.batch(items, pass));
    Submitted {
        id,
        commands,
        outcomes,
        deadline,
        _bytes: permit,
    }
}

fn kind(command: &Command) -> Kind {
    match command {
        Command::Write {
            write: Write::Delete { .. },
            ..
        } => Kind::Delete,
        _ => Kind::Set,
    }
}

fn write(command: &Command, context: &Bytes) -> BatchItem {
    BatchItem::Write {
        command: wire::encode_command(command),
        context: context.clone(),
    }
}

/// Waits while nobody can decide, at most for the request timeout.
async fn somebody_decides(host: &Host) {
    let patience = host.options.request_timeout;
    let mut decides = host.driver.watch_decides();
    tokio::select! {
        biased;
        () = host.gate.closed() => {}
        _ = timeout(patience, decides.wait_for(|decides| *decides)) => {}
    }
}

/// Sends the answers, in order.
async fn answer(
    host: &Host,
    mut queued: mpsc::Receiver<Queued>,
    answers: &mpsc::Sender<Result<Ready, Status>>,
) {
    while let Some(next) = queued.recv().await {
        let batch = match next {
            Ok(batch) => batch,
            Err(status) => {
                let _ = answers.send(Err(status)).await;
                return;
            }
        };
        let outcomes = match batch.outcomes {
            Ok(pending) => outcomes(host, pending, batch.deadline).await,
            Err(refusal) => Err(refusal),
        };
        let results = results(host, batch.commands, outcomes);
        let answer = Ready {
            response: kv::PipelineResponse {
                id: batch.id,
                results,
            },
            _bytes: batch._bytes,
        };
        if answers.send(Ok(answer)).await.is_err() {
            return;
        }
    }
}

/// What became of the commands of a batch, at the latest at its deadline.
async fn outcomes(
    host: &Host,
    mut pending: PendingBatch,
    deadline: Instant,
) -> Result<Vec<Outcome>, Refusal> {
    let outcomes = match timeout_at(deadline, &mut pending).await {
        Ok(outcomes) => outcomes,
        Err(_) => pending.withdraw(&host.driver.no_turn()),
    };
    outcomes.map_err(|Stopped| Refusal::unknown(Reason::ShuttingDown))
}

/// One result for each command.
fn results(
    host: &Host,
    commands: Vec<Result<Kind, Refusal>>,
    outcomes: Result<Vec<Outcome>, Refusal>,
) -> Vec<kv::PipelineResult> {
    let (mut outcomes, failure) = match outcomes {
        Ok(outcomes) => (outcomes.into_iter(), Refusal::unknown(Reason::NoQuorum)),
        Err(failure) => (Vec::new().into_iter(), failure),
    };
    let mut room = host.options.max_grpc_message_bytes / 2;
    let results = commands.into_iter().map(|command| {
        let outcome = command.and_then(|kind| {
            let outcome = outcomes.next().unwrap_or_else(|| Err(failure.clone()));
            let answer = outcome.map_err(|refusal| of_kind(refusal, kind))?;
            answered(kind, fits(answer, &mut room, host)?)
        });
        let result = match outcome {
            Ok(answered) => answered,
            Err(refusal) => Answered::Error(error(host, &refusal)),
        };
        kv::PipelineResult {
            result: Some(result),
        }
    });
    results.collect()
}

/// A read has no effect, whatever became of it.
fn of_kind(refusal: Refusal, kind: Kind) -> Refusal {
    match kind {
        Kind::Set | Kind::Delete => refusal,
        Kind::Read => Refusal::not_applied(refusal.reason),
    }
}

/// Values that together are larger than a message may be cannot be answered in one.
fn fits(answer: Answer, room: &mut usize, host: &Host) -> Result<Answer, Refusal> {
    if let Answer::Got {
        value: Some(value), ..
    } = &answer
    {
        // The first always fits: a single value does.
        let first = *room == host.options.max_grpc_message_bytes / 2;
        if value.len() > *room && !first {
            return Err(Refusal::not_applied(Reason::TooLarge {
                what: "response",
                limit: u64::try_from(host.options.max_grpc_message_bytes / 2).unwrap_or(u64::MAX),
            }));
        }
        *room = room.saturating_sub(value.len().max(1));
    }
    Ok(answer)
}

fn answered(kind: Kind, answer: Answer) -> Result<Answered, Refusal> {
    match (kind, answer) {
        (Kind::Set, Answer::Set { applied_index }) => {
            Ok(Answered::Set(kv::SetResponse { applied_index }))
        }
        (
            Kind::Delete,
            Answer::Deleted {
                existed,
                applied_index,
            },
        ) => Ok(Answered::Delete(kv::DeleteResponse {
            existed,
            applied_index,
        })),
        (
            Kind::Read,
            Answer::Got {
                value,
                applied_index,
            },
        ) => Ok(Answered::Get(kv::GetResponse {
            value,
            applied_index,
        })),
        _ => Err(operation::numbered_twice()),
    }
}

fn error(host: &Host, refusal: &Refusal) -> kv::PipelineError {
    let status = host.refuse(refusal);
    kv::PipelineError {
        code: u32::try_from(i32::from(status.code())).unwrap_or(0),
        message: status.message().to_owned(),
        detail: Some(host.detail(refusal)),
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn an_answer_counts_until_it_is_taken() {
        let budget = Arc::new(Semaphore::new(10));
        let (answers, stream) = mpsc::channel(MAX_ANSWERS);
        for id in 0..3 {
            let bytes = Arc::clone(&budget).acquire_many_owned(2).await.unwrap();
            let response = kv::PipelineResponse {
                id,
                results: Vec::new(),
            };
            let ready = Ready {
                response,
                _bytes: bytes,
            };
            answers.send(Ok(ready)).await.unwrap();
        }
        drop(answers);
        let mut stream = Answers(stream);
        for id in 0..3 {
            assert_eq!(
                budget.available_permits(),
                4 + 2 * usize::try_from(id).unwrap()
            );
            assert_eq!(stream.next().await.unwrap().unwrap().id, id);
        }
        assert_eq!(budget.available_permits(), 10);
        assert!(stream.next().await.is_none());
    }
}
