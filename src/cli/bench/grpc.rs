//! The cluster as a target: one client for each connection.

use std::collections::VecDeque;

use seshat::client::{
    Answers, Builder, Client, Error, Operation, Pipeline, PipelineOptions, Reply,
};

use super::target::{Answer, Ask, Outcome, Refused, Stream, Target};
use crate::cli::failure::Failure;
use crate::cli::options::one_cluster;

/// A key that is read only to connect. It may have any value or none.
const PROBED_KEY: &[u8] = b"\0";

/// One connection to the leader. Clients share it.
#[derive(Debug, Clone)]
pub(super) struct Link(Client);

impl Link {
    /// Finds the leader, and connects to it. All endpoints must belong to one cluster.
    ///
    /// # Errors
    ///
    /// The cluster does not answer in time, or there are several.
    pub(super) async fn new(builder: Builder) -> Result<Self, Failure> {
        let client = builder.build()?;
        one_cluster(&client).await?;
        client.get(PROBED_KEY).await?;
        Ok(Self(client))
    }

    /// The cluster of the connection.
    pub(super) fn cluster(&self) -> Option<u64> {
        *self.0.watch_cluster().borrow()
    }
}

impl Target for Link {
    type Stream = Batches;

    async fn call(&self, ask: Ask) -> Outcome {
        let reply = match ask {
            Ask::Set { key, value } => Reply::Written(self.0.set(key, value).await?),
            Ask::Get { key } => Reply::Found(self.0.get_with_index(key).await?),
            Ask::Del { key } => Reply::Deleted(self.0.delete(key).await?),
        };
        Ok(reply.into())
    }

    async fn open(&self, window: usize) -> Result<Batches, Refused> {
        let options = PipelineOptions::default().window(window);
        let pipeline = self.0.pipeline(options).await?;
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
