//! The answers of a stream: made in the order of the requests, and counted until they are sent.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_stream::Stream;
use tonic::Status;

use super::super::holds::Holds;
use super::super::{Host, operation};
use super::budget::Budget;
use super::copies::Copies;
use crate::driver::{Answer, Answered, Held, Outcome, PendingBatch, Stopped};
use crate::error::{Reason, Refusal};
use crate::proto::kv;
use crate::proto::kv::pipeline_result::Result as Said;
use crate::wire;

/// Answers of one stream that may wait to be sent. Answers that wait together are sent together: sent one
/// by one, each would cost a system call.
pub(super) const MAX_ANSWERS: usize = 64;

/// The answers of one stream.
#[derive(Debug)]
pub struct Answers {
    ready: mpsc::Receiver<Result<Ready, Status>>,
    /// Attaches their holds to their bytes.
    holds: Holds,
}

/// An answer that waits to be sent.
#[derive(Debug)]
pub(super) struct Ready {
    response: kv::PipelineResponse,
    /// The bytes that it holds: for its commands and results, and for its values.
    held: (Held, Option<Held>),
}

impl Answers {
    pub(super) fn new(ready: mpsc::Receiver<Result<Ready, Status>>) -> Self {
        Self {
            ready,
            holds: Holds::default(),
        }
    }

    /// The holds that go with the bytes of the answers.
    pub(super) fn holds(&self) -> Holds {
        self.holds.clone()
    }
}

impl Stream for Answers {
    type Item = Result<kv::PipelineResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let ready = ready!(self.ready.poll_recv(context));
        Poll::Ready(ready.map(|ready| {
            let Ready {
                response,
                held: (held, values),
            } = ready?;
            self.holds.add(held);
            if let Some(values) = values {
                self.holds.add(values);
            }
            Ok(response)
        }))
    }
}

/// An entry of the queue: a batch, or why the stream ends.
pub(super) type Queued = Result<Submitted, Status>;

/// A batch that was submitted.
pub(super) struct Submitted {
    pub(super) id: u64,
    /// The cluster that the batch names.
    pub(super) cluster: Option<u64>,
    /// The kind of each command, or why it was refused before it was submitted.
    pub(super) commands: Vec<Result<Kind, Refusal>>,
    /// The outcomes of the commands that were submitted.
    pub(super) outcomes: Result<PendingBatch, Refusal>,
    pub(super) deadline: Instant,
    /// The bytes that its commands and their answers hold.
    pub(super) held: Held,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Set,
    Delete,
    Txn,
    Read,
    /// A transaction that writes nothing.
    ReadTxn,
}

/// Sends the answers, in order.
#[tracing::instrument(level = "debug", skip_all)]
pub(super) async fn send(
    host: &Host,
    mut queued: mpsc::Receiver<Queued>,
    budget: &Budget,
    answers: &mpsc::Sender<Result<Ready, Status>>,
) {
    while let Some(next) = queued.recv().await {
        let Submitted {
            id,
            cluster,
            commands,
            outcomes: pending,
            deadline,
            held,
        } = match next {
            Ok(batch) => batch,
            Err(status) => {
                let _ = answers.send(Err(status)).await;
                return;
            }
        };
        let (outcomes, values) = match pending {
            Ok(pending) => outcomes(host, pending, deadline).await,
            Err(refusal) => (Err(refusal), None),
        };
        if let Ok(outcomes) = &outcomes {
            budget.learn(outcomes);
        }
        let results = results(host, commands, outcomes);
        let response = kv::PipelineResponse {
            id,
            results,
            cluster_id: host.answering(cluster),
        };
        let held = (held, values);
        if answers.send(Ok(Ready { response, held })).await.is_err() {
            return;
        }
    }
}

/// The outcomes of the commands of a batch, at its deadline at the latest, and the bytes that their
/// values hold.
async fn outcomes(
    host: &Host,
    mut pending: PendingBatch,
    deadline: Instant,
) -> (Result<Vec<Outcome>, Refusal>, Option<Held>) {
    let answered = match timeout_at(deadline, &mut pending).await {
        Ok(answered) => answered,
        Err(_) => pending.withdraw(&host.driver.no_turn()),
    };
    match answered {
        Ok(Answered { outcomes, values }) => (Ok(outcomes), Some(values)),
        Err(Stopped) => (Err(Refusal::unknown(Reason::ShuttingDown)), None),
    }
}

/// One result for each command.
fn results(
    host: &Host,
    commands: Vec<Result<Kind, Refusal>>,
    outcomes: Result<Vec<Outcome>, Refusal>,
) -> Vec<kv::PipelineResult> {
    let mut copies = Copies::of(outcomes.as_deref().unwrap_or_default());
    let (mut outcomes, failure) = match outcomes {
        Ok(outcomes) => (outcomes.into_iter(), Refusal::unknown(Reason::NoQuorum)),
        Err(failure) => (Vec::new().into_iter(), failure),
    };
    let results = commands.into_iter().map(|command| {
        let said = command.and_then(|kind| {
            let outcome = outcomes.next().unwrap_or_else(|| Err(failure.clone()));
            let answer = outcome.map_err(|refusal| of_kind(refusal, kind))?;
            said(kind, answer, &mut copies)
        });
        let result = said.unwrap_or_else(|refusal| Said::Error(error(host, &refusal)));
        kv::PipelineResult {
            result: Some(result),
        }
    });
    results.collect()
}

/// A read was surely not applied, as it has no effect.
fn of_kind(refusal: Refusal, kind: Kind) -> Refusal {
    match kind {
        Kind::Set | Kind::Delete | Kind::Txn => refusal,
        Kind::Read | Kind::ReadTxn => Refusal::not_applied(refusal.reason),
    }
}

/// What the client is told. A short value becomes one of `copies`.
fn said(kind: Kind, answer: Answer, copies: &mut Copies) -> Result<Said, Refusal> {
    match (kind, answer) {
        (Kind::Set, Answer::Set { applied_index }) => Ok(Said::Set(kv::SetResponse {
            applied_index,
            cluster_id: None,
        })),
        (
            Kind::Delete,
            Answer::Deleted {
                existed,
                applied_index,
            },
        ) => Ok(Said::Delete(kv::DeleteResponse {
            existed,
            applied_index,
            cluster_id: None,
        })),
        (
            Kind::Read,
            Answer::Got {
                found,
                applied_index,
            },
        ) => {
            let found = found.map(|(pair, revision)| (copies.value(pair), revision));
            Ok(Said::Get(wire::get_response(found, applied_index)))
        }
        (Kind::Txn | Kind::ReadTxn, Answer::Txn { outcome, revision }) => {
            Ok(Said::Txn(wire::txn_response(outcome, revision)))
        }
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
    use bytes::Bytes;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::kv::Pair;

    fn answer() -> impl Strategy<Value = Answer> {
        let value = prop_oneof![0..20_usize, 1000..1050_usize]
            .prop_flat_map(|bytes| prop::collection::vec(any::<u8>(), bytes).prop_map(Bytes::from));
        let index = any::<u64>();
        prop_oneof![
            index.prop_map(|applied_index| Answer::Set { applied_index }),
            (any::<bool>(), index).prop_map(|(existed, applied_index)| Answer::Deleted {
                existed,
                applied_index,
            }),
            (prop::option::of((value, index)), index).prop_map(|(found, applied_index)| {
                let pair = |value: Bytes| Pair::new(b"", &value, 0, false);
                Answer::Got {
                    found: found.map(|(value, revision)| (pair(value), revision)),
                    applied_index,
                }
            }),
            index.prop_map(|applied_index| {
                let ttl = None;
                Answer::SessionOpened { ttl, applied_index }
            }),
        ]
    }

    /// The kind of what is answered like that, and the answer as a client reads it.
    fn read(result: kv::PipelineResult) -> (Kind, Answer) {
        let sent = Bytes::from(result.encode_to_vec());
        match kv::PipelineResult::decode(sent).unwrap().result.unwrap() {
            Said::Set(kv::SetResponse { applied_index, .. }) => {
                (Kind::Set, Answer::Set { applied_index })
            }
            Said::Delete(kv::DeleteResponse {
                existed,
                applied_index,
                ..
            }) => (
                Kind::Delete,
                Answer::Deleted {
                    existed,
                    applied_index,
                },
            ),
            Said::Get(kv::GetResponse {
                value,
                applied_index,
                revision,
                ..
            }) => (
                Kind::Read,
                Answer::Got {
                    found: value.map(|value| (Pair::new(b"", &value, 0, false), revision)),
                    applied_index,
                },
            ),
            Said::Txn(answer) => panic!("{answer:?}"),
            Said::Error(error) => panic!("{error:?}"),
        }
    }

    proptest! {
        #[test]
        fn an_answer_reaches_the_client_if_it_is_one_to_what_was_asked(
            kind in prop::sample::select(vec![Kind::Set, Kind::Delete, Kind::Read]),
            answer in answer(),
        ) {
            let mut copies = Copies::of(&[Ok(answer.clone())]);
            let fits = matches!(
                (kind, &answer),
                (Kind::Set, Answer::Set { .. })
                    | (Kind::Delete, Answer::Deleted { .. })
                    | (Kind::Read, Answer::Got { .. })
            );
            match said(kind, answer.clone(), &mut copies) {
                Ok(said) => {
                    prop_assert!(fits);
                    let result = kv::PipelineResult { result: Some(said) };
                    prop_assert_eq!(read(result), (kind, answer));
                }
                Err(refusal) => {
                    prop_assert!(!fits);
                    prop_assert_eq!(refusal, operation::numbered_twice());
                }
            }
        }
    }
}
