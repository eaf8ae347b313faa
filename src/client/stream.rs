//! The stream of a pipeline: the batches in flight on it, and their fate when it breaks.
//!
//! Batches stand in one queue, in the order in which they were sent, until they are answered; the node
//! answers in that order. `submit` puts a batch into the queue and on the stream under one lock. One task
//! reads the answers. If the stream belongs to a session, that task opens another one when it breaks, and
//! sends the batches in the queue again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Streaming};
use tracing::{Instrument as _, debug, debug_span};

use super::Client;
use super::batch::{Batch, reply};
use super::call::{Repeat, ended};
use super::call_error::{CallError, Retryability};
use super::error::{Applied, Error};
use super::nodes::Node;
use super::operation::Reply;
use crate::deadline::{after, since};
use crate::proto::kv;

/// State that submitters and the reading task share.
#[derive(Debug)]
pub(super) struct Stream {
    state: Mutex<State>,
    /// Notified when a batch was submitted while none was in flight, and when the stream was closed.
    woken: Notify,
}

#[derive(Debug, Default)]
struct State {
    in_flight: VecDeque<Batch>,
    /// The sender to the node, while there is a stream.
    requests: Option<mpsc::Sender<kv::PipelineRequest>>,
    last_id: u64,
    /// The cluster of the node that it was opened to.
    cluster: Option<u64>,
    /// Whether the pipeline was dropped: no batch follows.
    closed: bool,
    /// Why no batch can be submitted any more.
    over: Option<Error>,
}

impl State {
    fn send(&mut self, mut batch: Batch) {
        self.last_id = self.last_id.wrapping_add(1);
        batch.id = self.last_id;
        if let Some(requests) = &self.requests {
            batch.in_doubt |= batch.sent.is_some();
            batch.sent = Some(Instant::now());
            // The channel has room for all batches that may be in flight. If the stream has broken, the
            // task notices that and handles the batch.
            let _ = requests.try_send(batch.request(self.cluster));
        }
        self.in_flight.push_back(batch);
    }
}

/// A stream to one node.
struct Connection {
    node: Node,
    responses: Streaming<kv::PipelineResponse>,
}

/// Why the task stops reading answers.
enum End {
    /// Every batch was answered, and no batch will follow.
    Done,
    /// The stream broke, or its node cannot serve the batches in flight.
    Broken(CallError),
}

impl Stream {
    /// Opens a stream to the leader. If it `resumes`, every write that is submitted has a number.
    pub(super) async fn open(
        client: Client,
        window: usize,
        resumes: bool,
    ) -> Result<Arc<Self>, Error> {
        let (connection, requests) = connect(&client, client.deadline(), window).await?;
        let stream = Arc::new(Self {
            state: Mutex::new(State {
                requests: Some(requests),
                cluster: connection.node.cluster,
                ..State::default()
            }),
            woken: Notify::new(),
        });
        let reader = Reader {
            stream: Arc::clone(&stream),
            attempt_timeout: client.shared.options.attempt_timeout,
            heard: Instant::now(),
            client,
            window,
            resumes,
        };
        tokio::spawn(reader.run(connection).instrument(debug_span!("pipeline")));
        Ok(stream)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn submit(&self, batch: Batch) -> Result<(), Error> {
        let mut state = self.state();
        if let Some(error) = &state.over {
            return Err(error.clone());
        }
        let wakes = state.in_flight.is_empty();
        state.send(batch);
        drop(state);
        if wakes {
            self.woken.notify_one();
        }
        Ok(())
    }

    /// The stream has ended by `fault`: that tells whether the batches in flight may have been applied.
    fn ended(&self, fault: CallError) -> CallError {
        if fault.applied == Applied::No {
            let mut state = self.state();
            state.requests = None;
            for batch in &mut state.in_flight {
                batch.sent = None;
            }
        }
        fault
    }

    /// Closes the stream for submissions. Batches in flight are still answered.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.requests = None;
        drop(state);
        self.woken.notify_one();
    }
}

/// Opens a stream to the leader. Returns it and the sender of its requests.
async fn connect(
    client: &Client,
    deadline: Instant,
    window: usize,
) -> Result<(Connection, mpsc::Sender<kv::PipelineRequest>), Error> {
    let open = |node: Node| async move {
        let (requests, queue) = mpsc::channel(window);
        let responses = node
            .kv()
            .pipeline(node.open_ended(ReceiverStream::new(queue)))
            .await?;
        let responses = responses.into_inner();
        Ok(Response::new((Connection { node, responses }, requests)))
    };
    // Opening a stream changes nothing, so it may be repeated.
    client.call(deadline, Repeat::Read, open).await
}

/// The task that reads the answers.
struct Reader {
    stream: Arc<Stream>,
    client: Client,
    window: usize,
    resumes: bool,
    /// How long no answer may come while batches are in flight, before another node is tried.
    attempt_timeout: Duration,
    /// When the last answer came.
    heard: Instant,
}

impl Reader {
    async fn run(mut self, mut connection: Connection) {
        let backoff = self.client.shared.options.backoff;
        let mut pause = backoff.min;
        loop {
            let (fault, progress) = match self.read(&mut connection).await {
                (End::Done, _) => return,
                (End::Broken(fault), progress) => (fault, progress),
            };
            debug!(node = connection.node.address, %fault, "the stream broke");
            self.client.shared.note(&connection.node, &fault);
            if !self.resumes {
                return self.end(&connection.node, &fault);
            }
            self.stream.state().requests = None;
            if progress {
                pause = backoff.min;
            }
            let until = after(self.client.shared.jittered(pause));
            pause = backoff.longer(pause);
            match self.resume(&connection.node, until).await {
                Some(resumed) => connection = resumed,
                None => return,
            }
        }
    }

    /// Reads until the stream ends. Returns why, and whether any batch was answered on it.
    async fn read(&mut self, connection: &mut Connection) -> (End, bool) {
        let mut progress = false;
        loop {
            let looks_at = match self.look() {
                Ok(looks_at) => looks_at,
                Err(End::Broken(fault)) => {
                    self.attempt_timeout = self.attempt_timeout.saturating_mul(2);
                    return (End::Broken(fault), progress);
                }
                Err(end) => return (end, progress),
            };
            let too_long = async {
                match looks_at {
                    Some(time) => sleep_until(time).await,
                    None => std::future::pending().await,
                }
            };
            let message = tokio::select! {
                message = connection.responses.message() => message,
                () = self.stream.woken.notified() => continue,
                () = too_long => continue,
            };
            let delivered = match message {
                Ok(Some(response)) => self.deliver(connection, response),
                Ok(None) => Err(CallError::broken("the node ended the stream")),
                Err(status) => Err(self.stream.ended(CallError::of_stream(status))),
            };
            match delivered {
                Ok(()) => {
                    progress = true;
                    self.heard = Instant::now();
                    self.attempt_timeout = self.client.shared.options.attempt_timeout;
                }
                Err(fault) => return (End::Broken(fault), progress),
            }
        }
    }

    /// When the oldest batch in flight will have waited too long, if there is one.
    fn look(&self) -> Result<Option<Instant>, End> {
        let state = self.stream.state();
        let Some(oldest) = state.in_flight.front() else {
            return match state.closed {
                true => Err(End::Done),
                false => Ok(None),
            };
        };
        let limit = match (self.resumes, oldest.sent) {
            (true, Some(sent)) => {
                let heard = sent.max(self.heard);
                let share = oldest.deadline.saturating_duration_since(heard) / 3;
                since(heard, self.attempt_timeout.min(share))
            }
            _ => oldest.deadline,
        };
        match limit <= Instant::now() {
            true => Err(End::Broken(CallError::silence())),
            false => Ok(Some(limit)),
        }
    }

    /// Gives the oldest batch its answers.
    ///
    /// # Errors
    ///
    /// The answer does not fit, or the batch has to be sent again.
    fn deliver(
        &self,
        connection: &Connection,
        response: kv::PipelineResponse,
    ) -> Result<(), CallError> {
        let mut state = self.stream.state();
        let fits = |batch: &Batch| {
            batch.id == response.id && batch.operations.len() == response.results.len()
        };
        if !state.in_flight.front().is_some_and(fits) {
            return Err(CallError::broken("an answer to nothing that was asked"));
        }
        let Some(mut batch) = state.in_flight.pop_front() else {
            return Ok(());
        };
        let results = batch.operations.iter().zip(response.results);
        let results: Vec<_> = results
            .map(|(operation, result)| match reply(operation, result) {
                Err(fault) if !operation.is_write() => Err(fault.of_read()),
                result => result,
            })
            .collect();
        let faults = || results.iter().filter_map(|result| result.as_ref().err());
        // For `Overloaded` the caller has to slow down; the stream goes on.
        let moves = |fault: &&CallError| {
            fault.retryability == Retryability::Later && fault.ends_leadership()
        };
        let left = faults().find(moves).cloned();
        // If another cluster answers, there is no leader to which the writes may be sent again.
        let is_over = |fault: &CallError| !self.resumes || fault.is_other_cluster();
        if let Some(fault) = &left
            && !is_over(fault)
            && Instant::now() < batch.deadline
        {
            let refused = |result: &Result<Reply, CallError>| {
                let applied = result.as_ref().err().map(|fault| fault.applied);
                applied == Some(Applied::No)
            };
            if results.iter().all(refused) {
                batch.sent = None;
            }
            state.in_flight.push_front(batch);
            return Err(fault.clone());
        }
        let in_doubt = batch.in_doubt;
        let answers = batch.operations.iter().zip(results);
        let answers = answers.map(|(operation, result)| {
            result.map_err(|fault| {
                let error = ended(&connection.node, fault);
                match in_doubt && operation.is_write() {
                    true => error.in_doubt(),
                    false => error,
                }
            })
        });
        let answers = answers.collect();
        if let Some(fault) = left
            && state.over.is_none()
        {
            // Batches in flight will still be answered; no batch may follow.
            self.client.shared.note(&connection.node, &fault);
            state.over = Some(ended(&connection.node, fault.of_read()));
            state.closed = true;
            state.requests = None;
        }
        drop(state);
        let _ = batch.answers.send(answers);
        Ok(())
    }

    /// Ends the pipeline: the stream will not be opened again.
    fn end(&self, node: &Node, fault: &CallError) {
        let mut state = self.stream.state();
        state.over = Some(ended(node, fault.clone().of_read()));
        state.requests = None;
        let lost = std::mem::take(&mut state.in_flight);
        drop(state);
        for batch in lost {
            batch.fail(node, fault);
        }
    }

    /// Opens another stream, not before `until`, and sends the batches in flight again. `None` if there
    /// are none and the pipeline is closed.
    async fn resume(&self, node: &Node, until: Instant) -> Option<Connection> {
        sleep_until(until).await;
        loop {
            let deadline = loop {
                match self.oldest_deadline(node) {
                    Some(deadline) => break deadline,
                    None if self.stream.state().closed => return None,
                    None => self.stream.woken.notified().await,
                }
            };
            let Ok((connection, requests)) = connect(&self.client, deadline, self.window).await
            else {
                // The oldest batch has reached its deadline now, unless the search ended early because no
                // node will ever serve.
                sleep_until(deadline.min(after(self.attempt_timeout))).await;
                continue;
            };
            let mut state = self.stream.state();
            state.requests = Some(requests);
            for batch in std::mem::take(&mut state.in_flight) {
                state.send(batch);
            }
            if state.closed {
                state.requests = None;
            }
            return Some(connection);
        }
    }

    /// Fails the batches whose deadline has passed. Returns the deadline of the first one left.
    fn oldest_deadline(&self, node: &Node) -> Option<Instant> {
        let mut late = Vec::new();
        let mut state = self.stream.state();
        let now = Instant::now();
        while let Some(batch) = state.in_flight.pop_front_if(|it| it.deadline <= now) {
            late.push(batch);
        }
        let deadline = state.in_flight.front().map(|batch| batch.deadline);
        drop(state);
        for batch in late {
            batch.fail(node, &CallError::silence());
        }
        deadline
    }
}
