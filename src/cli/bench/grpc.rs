//! A connection to the leader of a real cluster.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use seshat::proto::kv;
use seshat::proto::kv::kv_service_client::KvServiceClient;
use seshat::proto::kv::pipeline_command::Command;
use seshat::proto::kv::pipeline_result::Result as Answered;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::target::{Answer, Ask, Outcome, Refused, Stream, Target};
use crate::cli::client::Client;
use crate::cli::failure::{Applied, Failure, Hope, Refusal};

/// One TCP connection, which clients share.
#[derive(Debug, Clone)]
pub(super) struct Link(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    endpoints: Vec<String>,
    timeout: Duration,
    current: RwLock<Current>,
    /// Held by whoever looks for the leader, so that one does it for all.
    looking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone)]
struct Current {
    client: KvServiceClient<Channel>,
    /// How many connections there were before.
    number: u64,
    /// Whether it is believed to lead to the leader.
    good: bool,
}

impl Link {
    /// Finds the leader and connects to it.
    ///
    /// # Errors
    ///
    /// There is none within `timeout`.
    pub(super) async fn new(endpoints: &[String], timeout: Duration) -> Result<Self, Failure> {
        let client = find(endpoints, timeout).await?;
        Ok(Self(Arc::new(Inner {
            endpoints: endpoints.to_vec(),
            timeout,
            current: RwLock::new(Current {
                client,
                number: 0,
                good: true,
            }),
            looking: tokio::sync::Mutex::new(()),
        })))
    }

    fn peek(&self) -> Current {
        let current = self.0.current.read();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The connection to the leader: a new one, if the last is no good.
    async fn current(&self) -> Result<Current, Refused> {
        let current = self.peek();
        if current.good {
            return Ok(current);
        }
        let _looking = self.0.looking.lock().await;
        let current = self.peek();
        if current.good {
            return Ok(current);
        }
        let client = find(&self.0.endpoints, self.0.timeout).await;
        let client = client.map_err(|failure| Refused {
            kind: "no_leader",
            message: failure.message().to_owned(),
            applied: Applied::No,
        })?;
        let current = Current {
            client,
            number: current.number + 1,
            good: true,
        };
        let slot = self.0.current.write();
        *slot.unwrap_or_else(PoisonError::into_inner) = current.clone();
        Ok(current)
    }

    /// Gives the connection `number` up, unless what went wrong says nothing about it.
    fn doubt(&self, number: u64, refusal: &Refusal) {
        if refusal.hope == Hope::Nowhere || refusal.kind == "overloaded" {
            return;
        }
        let current = self.0.current.write();
        let mut current = current.unwrap_or_else(PoisonError::into_inner);
        if current.number == number {
            current.good = false;
        }
    }
}

async fn find(
    endpoints: &[String],
    timeout: Duration,
) -> Result<KvServiceClient<Channel>, Failure> {
    let client = Client::new(endpoints.iter().cloned(), timeout);
    Ok(client.find_leader().await?.kv())
}

impl Target for Link {
    type Stream = Pipeline;

    async fn call(&self, ask: Ask) -> Outcome {
        let Current {
            mut client, number, ..
        } = self.current().await?;
        let called = tokio::time::timeout(self.0.timeout, call(&mut client, ask)).await;
        let refusal = match called {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(status)) => Refusal::from(status),
            Err(_) => Refusal::timeout(true),
        };
        self.doubt(number, &refusal);
        Err(refusal.into())
    }

    async fn open(&self, window: usize) -> Result<Pipeline, Refused> {
        let Current {
            mut client, number, ..
        } = self.current().await?;
        let (requests, sending) = mpsc::channel(window.max(1));
        let opening = client.pipeline(ReceiverStream::new(sending));
        let refusal = match tokio::time::timeout(self.0.timeout, opening).await {
            Ok(Ok(response)) => {
                return Ok(Pipeline {
                    link: self.clone(),
                    number,
                    requests,
                    responses: response.into_inner(),
                    sent: 0,
                    answered: 0,
                });
            }
            Ok(Err(status)) => Refusal::from(status),
            Err(_) => Refusal::timeout(true),
        };
        self.doubt(number, &refusal);
        Err(refusal.into())
    }
}

async fn call(client: &mut KvServiceClient<Channel>, ask: Ask) -> Result<Answer, Status> {
    Ok(match ask {
        Ask::Set { key, value } => {
            let session = None;
            let request = kv::SetRequest {
                key,
                value,
                session,
            };
            set(client.set(request).await?.into_inner())
        }
        Ask::Get { key } => got(client.get(kv::GetRequest { key }).await?.into_inner()),
        Ask::Del { key } => {
            let request = kv::DeleteRequest { key, session: None };
            deleted(client.delete(request).await?.into_inner())
        }
    })
}

fn set(response: kv::SetResponse) -> Answer {
    let applied_index = response.applied_index;
    Answer::Set { applied_index }
}

fn got(response: kv::GetResponse) -> Answer {
    let value = response.value;
    Answer::Got { value }
}

fn deleted(response: kv::DeleteResponse) -> Answer {
    let existed = response.existed;
    Answer::Deleted { existed }
}

/// A stream of the connection `number`.
#[derive(Debug)]
pub(super) struct Pipeline {
    link: Link,
    number: u64,
    requests: mpsc::Sender<kv::PipelineRequest>,
    responses: Streaming<kv::PipelineResponse>,
    sent: u64,
    answered: u64,
}

impl Stream for Pipeline {
    fn send(&mut self, batch: Vec<Ask>) -> Result<(), Refused> {
        let request = kv::PipelineRequest {
            id: self.sent,
            commands: batch.into_iter().map(command).collect(),
        };
        self.sent += 1;
        self.requests
            .try_send(request)
            .map_err(|_| self.broken(ended()))
    }

    async fn answers(&mut self) -> Result<Vec<Outcome>, Refused> {
        let response = match self.responses.message().await {
            Ok(Some(response)) => response,
            Ok(None) => return Err(self.broken(ended())),
            Err(status) => return Err(self.broken(status)),
        };
        let expected = self.answered;
        self.answered += 1;
        if response.id != expected {
            return Ok(Vec::new());
        }
        let results = response.results.into_iter();
        Ok(results.map(|result| self.outcome(result)).collect())
    }
}

impl Pipeline {
    fn outcome(&self, result: kv::PipelineResult) -> Outcome {
        let error = match result.result {
            Some(Answered::Set(response)) => return Ok(set(response)),
            Some(Answered::Get(response)) => return Ok(got(response)),
            Some(Answered::Delete(response)) => return Ok(deleted(response)),
            Some(Answered::Error(error)) => error,
            None => kv::PipelineError::default(),
        };
        let code = i32::try_from(error.code).map_or(Code::Unknown, Code::from);
        let status = Status::new(code, error.message);
        let refusal = match error.detail {
            Some(detail) => Refusal::typed(&status, detail),
            None => Refusal::from(status),
        };
        self.link.doubt(self.number, &refusal);
        Err(refusal.into())
    }

    /// The stream is over, and nobody knows what became of what was under way on it.
    fn broken(&self, status: Status) -> Refused {
        let refusal = Refusal::from(status);
        self.link.doubt(self.number, &refusal);
        Refused {
            applied: Applied::Unknown,
            ..refusal.into()
        }
    }
}

fn ended() -> Status {
    Status::unavailable("the node has ended the stream")
}

fn command(ask: Ask) -> kv::PipelineCommand {
    let session = None;
    let command = match ask {
        Ask::Set { key, value } => Command::Set(kv::SetRequest {
            key,
            value,
            session,
        }),
        Ask::Get { key } => Command::Get(kv::GetRequest { key }),
        Ask::Del { key } => Command::Delete(kv::DeleteRequest { key, session }),
    };
    let command = Some(command);
    kv::PipelineCommand { command }
}
