//! A batch of a pipeline: its request, and its answers.

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::call::ended;
use super::error::{Applied, Error};
use super::fault::Fault;
use super::nodes::Node;
use super::numbers::Number;
use super::pipeline::{Operation, Reply};
use crate::proto::kv;
use crate::proto::kv::pipeline_command::Command;
use crate::proto::kv::pipeline_result::Result as Answered;

/// A batch that was submitted.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) operations: Vec<Operation>,
    /// One number for each write, if the pipeline has a session.
    pub(super) numbers: Vec<Number>,
    pub(super) answers: oneshot::Sender<Vec<Result<Reply, Error>>>,
    pub(super) deadline: Instant,
    /// When it was sent last, unless that attempt surely had no effect.
    pub(super) sent: Option<Instant>,
    /// Whether an earlier attempt may have been applied.
    pub(super) in_doubt: bool,
    pub(super) id: u64,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Batch {
    pub(super) fn new(
        operations: Vec<Operation>,
        numbers: Vec<Number>,
        answers: oneshot::Sender<Vec<Result<Reply, Error>>>,
        deadline: Instant,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self {
            operations,
            numbers,
            answers,
            deadline,
            sent: None,
            in_doubt: false,
            id: 0,
            _permit: permit,
        }
    }

    /// The request for the batch, for `cluster`.
    pub(super) fn request(&self, cluster: Option<u64>) -> kv::PipelineRequest {
        let mut numbers = self.numbers.iter();
        let mut stamp = || numbers.next().map(Number::stamp);
        let commands = self.operations.iter().cloned().map(|operation| {
            let command = match operation {
                Operation::Set { key, value } => Command::Set(kv::SetRequest {
                    key,
                    value,
                    session: stamp(),
                    cluster_id: None,
                }),
                Operation::Get { key } => Command::Get(kv::GetRequest {
                    key,
                    cluster_id: None,
                }),
                Operation::Delete { key } => Command::Delete(kv::DeleteRequest {
                    key,
                    session: stamp(),
                    cluster_id: None,
                }),
            };
            kv::PipelineCommand {
                command: Some(command),
            }
        });
        kv::PipelineRequest {
            id: self.id,
            commands: commands.collect(),
            cluster_id: cluster,
        }
    }

    /// Fails every command with `fault` of `node`. A write that was sent may have been applied.
    pub(super) fn fail(self, node: &Node, fault: &Fault) {
        let sent = self.in_doubt || self.sent.is_some();
        let answers = self.operations.iter().map(|operation| {
            let applied = match operation.is_write() && sent {
                true => Applied::Unknown,
                false => Applied::No,
            };
            let fault = fault.clone();
            Err(ended(node, Fault { applied, ..fault }))
        });
        let answers = answers.collect();
        // The caller may have dropped the receiver.
        let _ = self.answers.send(answers);
    }
}

/// The answer to `operation`.
pub(super) fn reply(operation: &Operation, result: kv::PipelineResult) -> Result<Reply, Fault> {
    match (operation, result.result) {
        (Operation::Set { .. }, Some(Answered::Set(set))) => Ok(Reply::Written(set.into())),
        (Operation::Get { .. }, Some(Answered::Get(get))) => Ok(Reply::Found(get.into())),
        (Operation::Delete { .. }, Some(Answered::Delete(delete))) => {
            Ok(Reply::Deleted(delete.into()))
        }
        (_, Some(Answered::Error(error))) => Err(Fault::from(error)),
        _ => Err(Fault {
            applied: Applied::Unknown,
            ..Fault::broken("an answer to nothing that was asked")
        }),
    }
}
