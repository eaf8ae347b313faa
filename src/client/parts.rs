//! The parts of a scan, and what becomes of it when its node is lost.
//!
//! The first part comes with an ordinary call: it is repeated until a leader answers. The other parts follow on
//! the stream of that answer, as fast as they are taken. If the stream breaks before its end, what is left can
//! only be read at a later moment: then the scan ends, unless it was told to resume.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tonic::{Request, Response, Status, Streaming};
use tracing::{Instrument as _, debug, debug_span};

use super::call::{Repeat, ended};
use super::call_error::{CallError, Retryability, or_older};
use super::nodes::Node;
use super::{Client, Entry, Error, KeyRange};
use crate::deadline::after;
use crate::proto::kv;

/// What is still to be read.
#[derive(Debug, Clone)]
pub(super) struct Query {
    pub(super) range: KeyRange,
    /// At least 1. `None`: all.
    pub(super) limit: Option<u64>,
    pub(super) keys_only: bool,
    pub(super) count_only: bool,
}

/// A part of what is read.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) entries: Vec<Entry>,
    pub(super) revision: u64,
    /// The number of keys that the call has read, in its last part.
    pub(super) count: u64,
    pub(super) more: bool,
    pub(super) is_last: bool,
}

impl From<kv::ScanResponse> for Part {
    fn from(response: kv::ScanResponse) -> Self {
        let kv::ScanResponse {
            entries,
            revision,
            count,
            more,
            cluster_id: _,
        } = response;
        Self {
            entries: entries.into_iter().map(Entry::from).collect(),
            revision,
            count,
            more,
            // Only the last part tells the count, and without a key there is one part.
            is_last: count > 0 || !more,
        }
    }
}

impl Query {
    fn request(&self, node: &Node) -> Request<kv::ScanRequest> {
        let mut request = node.open_ended(kv::ScanRequest {
            range: Some(self.range.clone().into()),
            limit: self.limit.unwrap_or_default(),
            keys_only: self.keys_only,
            count_only: self.count_only,
            cluster_id: node.cluster,
        });
        // Shorter than the wait for the answer: a node without room for another scan says so in time.
        request.set_timeout(node.time_left() * 9 / 10);
        request
    }

    /// Leaves what is behind `part`.
    fn advance(&mut self, part: &Part) {
        if let Some(last) = part.entries.last() {
            self.range = self.range.after(&last.key);
        }
        let read = u64::try_from(part.entries.len()).unwrap_or(u64::MAX);
        self.limit = self.limit.map(|limit| limit.saturating_sub(read));
    }
}

/// Reads part after part.
pub(super) struct Reader {
    client: Client,
    query: Query,
    resumes: bool,
    /// How long a node may take for a part before a scan that resumes asks another one.
    attempt_timeout: Duration,
    answer: Option<Answer>,
}

/// The answer of one node, which goes on.
struct Answer {
    node: Node,
    parts: Streaming<kv::ScanResponse>,
}

impl Reader {
    pub(super) fn new(client: &Client, query: Query) -> Self {
        Self {
            client: client.for_streams(),
            query,
            resumes: false,
            attempt_timeout: client.shared.options.attempt_timeout,
            answer: None,
        }
    }

    /// Goes on with another answer when one is cut off.
    pub(super) fn resume(&mut self) {
        self.resumes = true;
    }

    /// All entries, and the number of keys.
    pub(super) async fn whole(mut self) -> Result<(Vec<Entry>, u64), Error> {
        let mut entries = Vec::new();
        loop {
            let part = self.part().instrument(debug_span!("scan")).await?;
            entries.extend(part.entries);
            if part.is_last {
                return Ok((entries, part.count));
            }
        }
    }

    /// The next part.
    pub(super) async fn next(mut self) -> (Self, Result<Part, Error>) {
        let part = self.part().instrument(debug_span!("scan")).await;
        (self, part)
    }

    async fn part(&mut self) -> Result<Part, Error> {
        let deadline = self.client.deadline();
        let response = match self.answer.take() {
            None => self.begin(deadline).await?,
            Some(answer) => self.go_on(answer, deadline).await?,
        };
        let part = Part::from(response);
        self.query.advance(&part);
        Ok(part)
    }

    /// Asks the leader for what is to be read, and returns the first part.
    async fn begin(&mut self, deadline: Instant) -> Result<kv::ScanResponse, Error> {
        let query = &self.query;
        let begin = |node: Node| {
            let request = query.request(&node);
            async move {
                let parts = node.kv().scan(request).await;
                let parts = parts.map_err(|status| or_older(status, OLDER_VERSION))?;
                let mut parts = parts.into_inner();
                let first = parts.message().await?;
                let first = first.ok_or_else(|| Status::unavailable(CUT_SHORT))?;
                Ok(Response::new((Answer { node, parts }, first)))
            }
        };
        let (answer, first) = self.client.call(deadline, Repeat::Read, begin).await?;
        self.answer = Some(answer);
        Ok(first)
    }

    /// Returns the next part of `answer`, or of another one, if it breaks and the scan resumes.
    async fn go_on(
        &mut self,
        mut answer: Answer,
        deadline: Instant,
    ) -> Result<kv::ScanResponse, Error> {
        let begun = Instant::now();
        let until = match self.resumes {
            true => deadline.min(after(self.attempt_timeout)),
            false => deadline,
        };
        let fault = match timeout_at(until, answer.parts.message()).await {
            Ok(Ok(Some(part))) => {
                self.answer = Some(answer);
                return Ok(part);
            }
            Ok(Ok(None)) => CallError::broken(CUT_SHORT),
            Ok(Err(status)) => CallError::from(status),
            Err(_) => CallError::silence(),
        };
        let (node, fault) = (answer.node, fault.of_read());
        debug!(node = node.address, %fault, "a scan was cut off");
        let given = until.saturating_duration_since(begun);
        self.client.note(&node, &fault, given);
        if fault.retryability != Retryability::Later {
            return Err(ended(&node, fault));
        }
        if !self.resumes {
            return Err(interrupted(&node, fault));
        }
        if fault.silent {
            self.attempt_timeout = self.attempt_timeout.saturating_mul(2);
        }
        self.begin(deadline).await
    }
}

const CUT_SHORT: &str = "the answer ends before its last part";

fn interrupted(node: &Node, fault: CallError) -> Error {
    let address = &node.address;
    let message = format!("the scan was cut off, begin it again: {address}: {fault}");
    let answered = fault.answered();
    let last = answered.then(|| Box::new(fault.refusal(address)));
    Error::Interrupted { message, last }
}

/// The message of the refusal of a node that does not know scans.
const OLDER_VERSION: &str = "this node runs an older version, which knows no scans (not applied)";
