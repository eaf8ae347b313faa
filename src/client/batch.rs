//! A batch of a pipeline: its request, and its answers.

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::call::ended;
use super::call_error::CallError;
use super::error::{Applied, Error};
use super::nodes::Node;
use super::numbers::Number;
use super::operation::{Operation, Reply};
use super::txn::OLDER_VERSION;
use crate::proto::kv;
use crate::proto::kv::error_detail::Reason;
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
                Operation::Txn(txn) => {
                    let session = txn.is_write().then(&mut stamp).flatten();
                    Command::Txn(txn.request(session, None))
                }
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

    /// Fails every command with `fault` of `node`. A write may have been applied if the batch was sent, and no node
    /// has told that this had no effect.
    pub(super) fn fail(self, node: &Node, fault: &CallError) {
        let sent = self.in_doubt || self.sent.is_some();
        let answers = self.operations.iter().map(|operation| {
            let applied = match operation.is_write() && sent {
                true => Applied::Unknown,
                false => Applied::No,
            };
            let fault = fault.clone();
            Err(ended(node, CallError { applied, ..fault }))
        });
        let answers = answers.collect();
        // The caller may have dropped the receiver.
        let _ = self.answers.send(answers);
    }
}

/// The answer to `operation`.
pub(super) fn reply(operation: &Operation, result: kv::PipelineResult) -> Result<Reply, CallError> {
    match (operation, result.result) {
        (Operation::Set { .. }, Some(Answered::Set(set))) => Ok(Reply::Written(set.into())),
        (Operation::Get { .. }, Some(Answered::Get(get))) => Ok(Reply::Found(get.into())),
        (Operation::Delete { .. }, Some(Answered::Delete(delete))) => {
            Ok(Reply::Deleted(delete.into()))
        }
        (Operation::Txn(txn), Some(Answered::Txn(response))) => {
            txn.outcome(response).map(Reply::Txn).ok_or_else(astray)
        }
        (Operation::Txn(_), Some(Answered::Error(error))) => {
            let fault = CallError::from(error);
            match &fault.reason {
                // Without a command that it knows, a node sees none.
                Some(Reason::InvalidRequest(invalid)) if invalid.field == "command" => {
                    let message = OLDER_VERSION.to_owned();
                    Err(CallError { message, ..fault })
                }
                _ => Err(fault),
            }
        }
        (_, Some(Answered::Error(error))) => Err(CallError::from(error)),
        _ => Err(astray()),
    }
}

fn astray() -> CallError {
    CallError {
        applied: Applied::Unknown,
        ..CallError::broken("an answer to nothing that was asked")
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::super::{Deleted, Found, Written};
    use super::*;

    fn operation() -> impl Strategy<Value = Operation> {
        let (key, value) = (Bytes::from_static(b"k"), Bytes::from_static(b"v"));
        let set = Operation::Set {
            key: key.clone(),
            value,
        };
        let get = Operation::Get { key: key.clone() };
        prop::sample::select(vec![set, get, Operation::Delete { key }])
    }

    /// An answer of a node, what it means, and whether it is one to `operation`.
    type Case = (Answered, Reply, fn(&Operation) -> bool);

    fn answered() -> impl Strategy<Value = Case> {
        let value = prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from);
        let rest = (
            any::<u64>(),
            any::<bool>(),
            any::<Option<u64>>(),
            any::<u64>(),
        );
        (0..3, rest, prop::option::of(value)).prop_map(
            |(kind, (applied_index, existed, cluster_id, revision), value)| -> Case {
                match kind {
                    0 => (
                        Answered::Set(kv::SetResponse {
                            applied_index,
                            cluster_id,
                        }),
                        Reply::Written(Written { applied_index }),
                        |asked| matches!(asked, Operation::Set { .. }),
                    ),
                    1 => (
                        Answered::Delete(kv::DeleteResponse {
                            existed,
                            applied_index,
                            cluster_id,
                        }),
                        Reply::Deleted(Deleted {
                            existed,
                            applied_index,
                        }),
                        |asked| matches!(asked, Operation::Delete { .. }),
                    ),
                    _ => (
                        Answered::Get(kv::GetResponse {
                            value: value.clone(),
                            applied_index,
                            cluster_id,
                            revision,
                        }),
                        Reply::Found(Found {
                            value,
                            applied_index,
                            revision,
                        }),
                        |asked| matches!(asked, Operation::Get { .. }),
                    ),
                }
            },
        )
    }

    proptest! {
        #[test]
        fn an_answer_is_taken_as_what_it_says_if_it_is_one_to_what_was_asked(
            operation in operation(),
            (answered, expected, fits) in answered(),
        ) {
            let sent = kv::PipelineResult { result: Some(answered) }.encode_to_vec();
            let result = kv::PipelineResult::decode(Bytes::from(sent)).unwrap();
            match reply(&operation, result) {
                Ok(said) => prop_assert!(fits(&operation) && said == expected, "{:?}", said),
                Err(fault) => {
                    prop_assert!(!fits(&operation));
                    prop_assert_eq!(fault.applied, Applied::Unknown);
                }
            }
        }
    }
}
