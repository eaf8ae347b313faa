//! The cluster as a target: one client for each connection.

use std::collections::VecDeque;

use seshat::client::{Answers, Client, Error, Operation, Pipeline, PipelineOptions, Reply};

use super::target::{Answer, Ask, Outcome, Refused, Stream, Target};

/// One connection to the leader.
impl Target for Client {
    type Stream = Batches;

    async fn call(&self, ask: Ask) -> Outcome {
        let reply = match ask {
            Ask::Set { key, value } => Reply::Written(self.set(key, value).await?),
            Ask::Get { key } => Reply::Found(self.get_with_index(key).await?),
            Ask::Del { key } => Reply::Deleted(self.delete(key).await?),
        };
        Ok(reply.into())
    }

    async fn open(&self, window: usize) -> Result<Batches, Refused> {
        let options = PipelineOptions::default().window(window);
        let pipeline = self.pipeline(options).await?;
        Ok(Batches {
            pipeline,
            flight: VecDeque::with_capacity(window),
        })
    }
}

/// A pipeline, and the answers in flight on it.
#[derive(Debug)]
pub(super) struct Batches {
    pipeline: Pipeline,
    flight: VecDeque<Answers>,
}

impl Stream for Batches {
    async fn send(&mut self, batch: Vec<Ask>) -> Result<(), Refused> {
        let operations = batch.into_iter().map(Operation::from);
        self.flight
            .push_back(self.pipeline.submit(operations).await?);
        Ok(())
    }

    async fn answers(&mut self) -> Vec<Outcome> {
        let Some(oldest) = self.flight.front_mut() else {
            return Vec::new();
        };
        let replies = oldest.await;
        self.flight.pop_front();
        let outcome = |reply: Result<Reply, Error>| Ok(reply?.into());
        replies.into_iter().map(outcome).collect()
    }
}

impl From<Ask> for Operation {
    fn from(ask: Ask) -> Self {
        match ask {
            Ask::Set { key, value } => Self::Set { key, value },
            Ask::Get { key } => Self::Get { key },
            Ask::Del { key } => Self::Delete { key },
        }
    }
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        match reply {
            Reply::Written(written) => Self::Set {
                applied_index: written.applied_index,
            },
            Reply::Found(found) => Self::Got { value: found.value },
            Reply::Deleted(deleted) => Self::Deleted {
                existed: deleted.existed,
            },
            _ => Self::Other,
        }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self {
            kind: error.kind(),
            message: error.to_string(),
            applied: error.applied(),
        }
    }
}
