//! Pipelines: many commands in flight on one stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout_at;

use super::Client;
use super::batch::Batch;
use super::error::{Applied, Error};
use super::numbers::{MAX_OUTSTANDING, Numbers};
use super::operation::{Operation, Reply};
use super::stream::Stream;

/// Most batches in flight: a node accepts no more on one stream.
const MAX_WINDOW: usize = 1024;

/// Most commands in a batch: a node accepts no more.
const MAX_COMMANDS: usize = 4096;

/// The settings of a [`Pipeline`].
#[derive(Debug, Clone, Copy)]
pub struct PipelineOptions {
    window: usize,
}

impl Default for PipelineOptions {
    fn default() -> Self {
        Self { window: 64 }
    }
}

impl PipelineOptions {
    /// Batches that may be in flight: 1 to 1024. Default: 64.
    #[must_use]
    pub fn window(mut self, batches: usize) -> Self {
        self.window = batches.clamp(1, MAX_WINDOW);
        self
    }
}

/// A stream of batches of commands. The commands take effect in the order of submission, and a read sees
/// every write before it. A command that fails has no effect on later commands.
///
/// Without a session, the pipeline ends with its connection and with the leadership of its node. Every
/// write in flight then has an unknown outcome; open another pipeline to continue. In a session, the
/// pipeline finds the new leader and sends the unanswered batches again, in order and until the deadline
/// of each. A write that was already applied is not applied again. So a batch that a node refused may
/// take effect after later ones, and a read that is sent again may see writes that were submitted after
/// it. If that matters, wait for the answer before you submit more.
///
/// An overloaded node refuses single commands: the caller should slow down.
///
/// When the pipeline is dropped, batches in flight are still answered.
#[derive(Debug)]
pub struct Pipeline {
    client: Client,
    numbers: Option<Arc<Numbers>>,
    window: Arc<Semaphore>,
    stream: Arc<Stream>,
}

impl Pipeline {
    pub(super) async fn open(
        client: Client,
        numbers: Option<Arc<Numbers>>,
        options: PipelineOptions,
    ) -> Result<Self, Error> {
        let resumes = numbers.is_some();
        let stream = Stream::open(client.clone(), options.window, resumes).await?;
        Ok(Self {
            client,
            numbers,
            window: Arc::new(Semaphore::new(options.window)),
            stream,
        })
    }

    /// Puts a batch on the stream, as soon as the window has room for it. The answers come later: one for
    /// each command, in order.
    ///
    /// If this future is dropped before it completes, the batch is not submitted.
    ///
    /// # Errors
    ///
    /// The batch was not sent: the pipeline has ended, its session is lost, the window stayed full until the
    /// deadline, or the batch has no command, more than 4096, or more than 1024 writes in a session.
    pub async fn submit(
        &self,
        batch: impl IntoIterator<Item = Operation>,
    ) -> Result<Answers, Error> {
        let deadline = self.client.deadline();
        let operations: Vec<_> = batch.into_iter().collect();
        if operations.is_empty() || operations.len() > MAX_COMMANDS {
            let message = format!("a batch has 1 to {MAX_COMMANDS} commands");
            return Err(Error::invalid(message));
        }
        let room = async {
            let permit = Arc::clone(&self.window).acquire_owned().await.ok();
            let Some(numbers) = &self.numbers else {
                return Ok((permit, Vec::new()));
            };
            let writes = operations.iter().filter(|it| it.is_write()).count();
            let writes = u64::try_from(writes).unwrap_or(u64::MAX);
            if writes > MAX_OUTSTANDING {
                let message = format!("a session has at most {MAX_OUTSTANDING} writes in flight");
                return Err(Error::invalid(message));
            }
            Ok((permit, numbers.next(writes).await?))
        };
        let Ok(room) = timeout_at(deadline, room).await else {
            return Err(Error::Deadline {
                message: "the pipeline is full".to_owned(),
                applied: Applied::No,
                last: None,
            });
        };
        let (permit, numbers) = room?;
        let writes = operations.iter().map(Operation::is_write).collect();
        let (answers, answered) = oneshot::channel();
        self.stream
            .submit(Batch::new(operations, numbers, answers, deadline, permit))?;
        Ok(Answers { answered, writes })
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.stream.close();
    }
}

/// The answers to one batch: one for each command, in order.
///
/// The batch is executed even if this is dropped.
#[derive(Debug)]
#[must_use = "the answers say what was applied"]
pub struct Answers {
    answered: oneshot::Receiver<Vec<Result<Reply, Error>>>,
    writes: Vec<bool>,
}

impl Future for Answers {
    type Output = Vec<Result<Reply, Error>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answered).poll(context).map(|answers| {
            answers.unwrap_or_else(|_| {
                // The runtime has ended.
                let lost = self.writes.iter().map(|write| {
                    Err(Error::Unreachable {
                        message: "the pipeline was abandoned".to_owned(),
                        applied: match write {
                            true => Applied::Unknown,
                            false => Applied::No,
                        },
                    })
                });
                lost.collect()
            })
        })
    }
}
