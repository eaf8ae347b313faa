//! `Pipeline`: many commands in flight on one stream.
//!
//! Two tasks share a stream. One reads requests, in order, and submits each batch as soon as admission
//! control has capacity for it; the other sends the answers, in the order of the requests. Between them is a
//! queue, bounded in batches and, with all that the answers hold, in bytes. When it is full, no request is
//! read, and HTTP/2's flow control holds the client back. So a client that does not read its answers costs a
//! bounded amount of memory and delays only itself: unread answers count in its own account, and take no
//! capacity of admission control.
//!
//! The node ends a stream when a request breaks a rule or the node shuts down. The status comes after the
//! answers of everything that was submitted. So the statement of that status about writes, surely not
//! applied, holds for all that was not answered.
//!
//! The commands of a stream keep their order because one task submits them, one batch after the
//! other, and the driver keeps the order of one caller. While there is no leader that task waits, at most
//! for the request timeout, and so do all requests behind.

mod answers;
mod budget;
mod copies;

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::timeout;
use tonic::{Response, Status, Streaming};
use tracing::Instrument as _;

use super::Host;
use super::operation::Operation;
use super::router;
use crate::deadline::after;
use crate::driver::BatchItem;
use crate::error::{Reason, Refusal};
use crate::kv::{Command, Query, Write};
use crate::proto::kv;
use crate::proto::kv::pipeline_command::Command as Asked;
use crate::wire;

pub(super) use answers::Answers;

use answers::{Kind, MAX_ANSWERS, Queued, Submitted};
use budget::{Budget, COMMAND_BYTES};

/// Batches of one stream that may wait for their answers.
const MAX_BATCHES: usize = 1024;
/// Commands of one batch.
const MAX_COMMANDS: usize = 4096;

/// Serves one stream until the client ends it or the node shuts down.
pub(super) fn serve(
    host: Host,
    requests: Streaming<kv::PipelineRequest>,
    context: Bytes,
) -> Result<Response<Answers>, Status> {
    if host.admission.is_closed() {
        return Err(host.refuse(&Refusal::not_applied(Reason::ShuttingDown)));
    }
    let (queue, queued) = mpsc::channel(MAX_BATCHES);
    let (answers, stream) = mpsc::channel(MAX_ANSWERS);
    let budget = Arc::new(Budget::new(&host));
    let reading = {
        let (host, answers, budget) = (host.clone(), answers.clone(), Arc::clone(&budget));
        async move {
            let ended = tokio::select! {
                biased;
                // The client does not read the answers any more.
                () = answers.closed() => return,
                ended = read(&host, requests, &context, &budget, &queue) => ended,
            };
            if let Err(status) = ended {
                let _ = queue.send(Err(status)).await;
            }
        }
    };
    let sending = async move {
        tokio::select! {
            biased;
            // Dropping the queue cancels the commands that still wait for their turn.
            () = answers.closed() => {}
            () = answers::send(&host, queued, &budget, &answers) => {}
        }
    };
    tokio::spawn(reading.in_current_span());
    tokio::spawn(sending.in_current_span());
    let answers = Answers::new(stream);
    let holds = answers.holds();
    let mut response = Response::new(answers);
    response.extensions_mut().insert(holds);
    Ok(response)
}

/// Reads requests and submits them, in order.
#[tracing::instrument(level = "debug", skip_all)]
async fn read(
    host: &Host,
    mut requests: Streaming<kv::PipelineRequest>,
    context: &Bytes,
    budget: &Budget,
    queue: &mpsc::Sender<Queued>,
) -> Result<(), Status> {
    let mut closed = pin!(host.admission.closed());
    loop {
        let request = tokio::select! {
            biased;
            () = &mut closed => {
                return Err(host.refuse(&Refusal::not_applied(Reason::ShuttingDown)));
            }
            request = requests.message() => request.map_err(|status| no_request(status, host))?,
        };
        let Some(kv::PipelineRequest {
            id,
            commands,
            cluster_id: cluster,
        }) = request
        else {
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
        let submitted = submit(host, (id, cluster), operations, context, budget).await;
        if queue.send(Ok(submitted)).await.is_err() {
            return Ok(());
        }
        // A batch keeps the thread busy for a millisecond: other tasks run first now.
        yield_now().await;
    }
}

/// The status of tonic for a message that is no request, with the detail that every refusal has.
fn no_request(status: Status, host: &Host) -> Status {
    router::refused(&status, host.options.max_grpc_message_bytes).unwrap_or(status)
}

fn operation(command: kv::PipelineCommand, host: &Host) -> Result<Operation, Refusal> {
    let named = match &command.command {
        Some(Asked::Set(request)) => request.cluster_id,
        Some(Asked::Get(request)) => request.cluster_id,
        Some(Asked::Delete(request)) => request.cluster_id,
        Some(Asked::Txn(request)) => request.cluster_id,
        None => None,
    };
    if named.is_some() {
        return Err(Refusal::not_applied(Reason::InvalidRequest {
            field: "cluster_id",
            rule: "in a pipeline the PipelineRequest names the cluster".to_owned(),
        }));
    }
    match command.command {
        Some(Asked::Set(request)) => Operation::set(request, &host.options),
        Some(Asked::Get(request)) => Operation::get(request, &host.options),
        Some(Asked::Delete(request)) => Operation::delete(request, &host.options),
        Some(Asked::Txn(request)) => Operation::txn(request, &host.options),
        None => Err(Refusal::not_applied(Reason::InvalidRequest {
            field: "command",
            rule: "one of set, get, delete and txn".to_owned(),
        })),
    }
}

async fn submit(
    host: &Host,
    (id, cluster): (u64, Option<u64>),
    operations: Vec<Result<Operation, Refusal>>,
    context: &Bytes,
    budget: &Budget,
) -> Submitted {
    let asked = || operations.iter().flatten();
    let bytes: usize = asked().map(Operation::bytes).sum();
    let reads = asked().map(Operation::reads).sum();
    let held = bytes.saturating_add(operations.len().saturating_mul(COMMAND_BYTES));
    let (held, room) = budget.reserve(held, reads).await;
    let (mut commands, mut items) = (Vec::new(), Vec::new());
    for operation in operations {
        commands.push(operation.map(|operation| {
            let (kind, item) = match operation {
                Operation::Command(command) => (kind(&command), write(&command, context)),
                Operation::Query(query) => {
                    let kind = match &query {
                        Query::Txn(_) => Kind::ReadTxn,
                        _ => Kind::Read,
                    };
                    (kind, BatchItem::Read(query))
                }
            };
            items.push(item);
            kind
        }));
    }
    let led_elsewhere = leader_decides(host).await.err();
    let permit = host.admission.admit(items.len(), bytes).await;
    let deadline = after(host.options.request_timeout);
    if let Some(refusal) = host.is_for_us(cluster).err().or(led_elsewhere) {
        commands.fill(Err(refusal));
        items.clear();
    }
    let outcomes = permit.and_then(|permit| host.driver.batch(items, room, permit));
    Submitted {
        id,
        cluster,
        commands,
        outcomes,
        deadline,
        held,
    }
}

fn kind(command: &Command) -> Kind {
    match command {
        Command::Write {
            write: Write::Delete { .. },
            ..
        } => Kind::Delete,
        Command::Write {
            write: Write::Txn(_),
            ..
        } => Kind::Txn,
        _ => Kind::Set,
    }
}

fn write(command: &Command, context: &Bytes) -> BatchItem {
    BatchItem::Write {
        command: wire::encode_command(command),
        context: context.clone(),
    }
}

/// Waits while this node knows no leader that can decide, at most for the request timeout.
///
/// # Errors
///
/// Another member leads, as the other nodes say.
async fn leader_decides(host: &Host) -> Result<(), Refusal> {
    let max_wait = host.options.request_timeout;
    let mut decides = host.driver.watch_decides();
    tokio::select! {
        biased;
        () = host.admission.closed() => {}
        _ = timeout(max_wait, decides.wait_for(|decides| *decides)) => {}
        leader = host.lookout.led_elsewhere() => {
            let leader_id = Some(leader);
            return Err(Refusal::not_applied(Reason::NotLeader { leader_id }));
        }
    }
    Ok(())
}
