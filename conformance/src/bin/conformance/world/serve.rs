//! One call to a made-up node: its role and its faults decide what becomes of it.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use prost_reflect::{DynamicMessage, MethodDescriptor};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::body::Body;
use tonic::{Code, Status};

use super::fault::{Fault, Then};
use super::frames::{Deframer, frame};
use super::node::Shared;
use super::record::{Record, applied_by, keys_of};
use super::role::Kind;

/// A part of an answer, on its way to the client.
type Part = Result<Frame<Bytes>, Infallible>;

/// A call.
pub(super) struct Call {
    node: Arc<Shared>,
    /// Cuts the connection.
    cut: Arc<watch::Sender<()>>,
    method: MethodDescriptor,
    fault: Option<Fault>,
    /// Whether it names its deadline.
    has_deadline: bool,
    /// The place of its request among the records.
    record: usize,
    out: Out,
}

/// The answer.
struct Out {
    head: Option<oneshot::Sender<Response<Body>>>,
    parts: mpsc::UnboundedSender<Part>,
    body: Option<mpsc::UnboundedReceiver<Part>>,
}

impl Out {
    /// Begins the answer, unless it has begun.
    fn begin(&mut self) {
        let (Some(head), Some(mut body)) = (self.head.take(), self.body.take()) else {
            return;
        };
        let parts = futures_util::stream::poll_fn(move |context| body.poll_recv(context));
        let mut response = Response::new(Body::new(StreamBody::new(parts)));
        let grpc = HeaderValue::from_static("application/grpc");
        response
            .headers_mut()
            .insert(http::header::CONTENT_TYPE, grpc);
        let _ = head.send(response);
    }

    fn send(&mut self, part: Frame<Bytes>) {
        self.begin();
        // The client may have gone.
        let _ = self.parts.send(Ok(part));
    }

    /// Ends the answer with a status.
    fn end(&mut self, status: Status) {
        if let Some(head) = self.head.take() {
            let _ = head.send(status.into_http());
            return;
        }
        let mut trailers = HeaderMap::new();
        if status.add_header(&mut trailers).is_ok() {
            self.send(Frame::trailers(trailers));
        }
    }
}

impl Call {
    /// Answers a request. What the node does for it goes on when the client does not wait any more.
    pub(super) async fn answer(
        node: Arc<Shared>,
        cut: Arc<watch::Sender<()>>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Infallible> {
        let name = request.uri().path().rsplit('/').next().unwrap_or_default();
        let Ok(method) = node.script.schema.method(name) else {
            return Ok(Status::unimplemented("a made-up node has no such method").into_http());
        };
        let (head, answered) = oneshot::channel();
        let (parts, body) = mpsc::unbounded_channel();
        let out = Out {
            head: Some(head),
            parts,
            body: Some(body),
        };
        let call = Self {
            node,
            cut,
            method,
            fault: None,
            has_deadline: false,
            record: 0,
            out,
        };
        tokio::spawn(call.run(request));
        match answered.await {
            Ok(response) => Ok(response),
            // The connection is cut, or the call hangs.
            Err(_) => std::future::pending().await,
        }
    }

    async fn run(mut self, request: Request<Incoming>) {
        let (head, incoming) = request.into_parts();
        self.has_deadline = head.headers.contains_key("grpc-timeout");
        if self.method.is_client_streaming() {
            self.takes_up(None);
            let requests = self.passing(incoming);
            return self.serve(Request::from_parts(head, requests), None).await;
        }
        let Ok(body) = incoming.collect().await else {
            return;
        };
        let bytes = body.to_bytes();
        let message = self.decoded(&bytes);
        self.takes_up(message.clone());
        let body = Body::new(http_body_util::Full::new(bytes));
        self.serve(Request::from_parts(head, body), message.as_ref())
            .await;
    }

    fn decoded(&self, body: &[u8]) -> Option<DynamicMessage> {
        let mut deframer = Deframer::default();
        deframer.push(body);
        DynamicMessage::decode(self.method.input(), deframer.next()?).ok()
    }

    /// Records the request, and takes its fault.
    fn takes_up(&mut self, message: Option<DynamicMessage>) {
        let message = message.unwrap_or_else(|| DynamicMessage::new(self.method.input()));
        let keys = keys_of(&message);
        let mut state = self.node.script.lock();
        let name = &self.node.name;
        self.fault = Fault::take(&mut state.faults, name, self.method.name(), &keys);
        self.record = state.records.len();
        if !self.method.is_client_streaming() {
            state
                .records
                .push(record(name, self.method.name(), message, self.has_deadline));
        }
        drop(state);
        self.node.script.changed();
    }

    /// The requests of a stream, which are recorded as they pass.
    fn passing(&self, incoming: Incoming) -> Body {
        let (node, method) = (Arc::clone(&self.node), self.method.clone());
        let has_deadline = self.has_deadline;
        let mut deframer = Deframer::default();
        let passing = incoming.map_frame(move |part| {
            if let Some(bytes) = part.data_ref() {
                deframer.push(bytes);
            }
            while let Some(message) = deframer.next() {
                if let Ok(message) = DynamicMessage::decode(method.input(), message) {
                    let record = record(&node.name, method.name(), message, has_deadline);
                    node.script.lock().records.push(record);
                    node.script.changed();
                }
            }
            part
        });
        Body::new(passing)
    }

    async fn serve(mut self, request: Request<Body>, message: Option<&DynamicMessage>) {
        let role = self.node.role.borrow().clone();
        let Some(role) = role else { return };
        if self.strikes_at(0) && self.strike().await {
            return;
        }
        if self.fault.is_none()
            && let Some(refusal) = role.refusal(self.method.name(), message)
        {
            return self.out.end(refusal);
        }
        let Ok(answer) = role.cluster.call(request).await;
        self.pass(answer).await;
    }

    /// Whether the fault comes before so many messages of the true answer have come.
    fn strikes_at(&self, come: usize) -> bool {
        let at = |fault: &Fault| fault.after + usize::from(fault.apply) == come;
        self.fault.as_ref().is_some_and(at)
    }

    /// Does what the fault says. Returns whether the call has ended.
    async fn strike(&mut self) -> bool {
        let Some(fault) = self.fault.take() else {
            return false;
        };
        for message in &fault.answer {
            self.out.send(Frame::data(frame(message)));
        }
        match fault.then {
            Then::End => self.out.end(Status::ok("")),
            Then::Cut => drop(self.cut.send(())),
            Then::Refuse(status) => self.out.end(status),
            Then::Garbage => {
                self.out.send(Frame::data(frame(&[0xff; 3])));
                self.out.end(Status::ok(""));
            }
            Then::Hang => {
                if !fault.answer.is_empty() {
                    self.out.begin();
                }
                let mut released = self.node.script.released.subscribe();
                released.mark_unchanged();
                return released.changed().await.is_err();
            }
        }
        true
    }

    /// Passes the true answer on.
    async fn pass(mut self, answer: Response<Body>) {
        let (head, mut body) = answer.into_parts();
        let refused = Status::from_header_map(&head.headers).filter(|it| it.code() != Code::Ok);
        if self.method.is_server_streaming() && refused.is_none() {
            self.out.begin();
        }
        let mut deframer = Deframer::default();
        let mut come = 0;
        loop {
            let part = tokio::select! {
                biased;
                part = body.frame() => part,
                status = self.leads_no_more() => return self.out.end(status),
            };
            match part {
                Some(Ok(part)) if part.is_data() => {
                    deframer.push(part.data_ref().map_or(&[][..], |it| it));
                }
                // The end.
                part => {
                    self.note_refusal();
                    if self.fault.is_some() && self.strike().await {
                        return;
                    }
                    return match (refused, part) {
                        (Some(status), _) => self.out.end(status),
                        (None, Some(Ok(trailers))) => self.out.send(trailers),
                        (None, _) => self.out.end(Status::ok("")),
                    };
                }
            }
            while let Some(message) = deframer.next() {
                come += 1;
                self.note(&message);
                // The message that is applied and not answered comes late, if the call is released.
                if self.fault.as_ref().is_some_and(|it| it.apply)
                    && self.strikes_at(come)
                    && self.strike().await
                {
                    return;
                }
                self.out.send(Frame::data(frame(&message)));
                if self.strikes_at(come) && self.strike().await {
                    return;
                }
            }
        }
    }

    /// Notes what the true cluster has applied.
    fn note(&self, answer: &[u8]) {
        let Ok(answer) = DynamicMessage::decode(self.method.output(), answer) else {
            return;
        };
        let revisions = applied_by(&answer);
        let mut state = self.node.script.lock();
        let record = match self.method.is_client_streaming() {
            false => state.records.get_mut(self.record),
            true => {
                let id = answer.get_field_by_name("id");
                let answered = |it: &&mut Record| it.message.get_field_by_name("id") == id;
                let mut records = state.records.iter_mut().rev();
                records.find(|it| it.method == self.method.name() && answered(it))
            }
        };
        if let Some(record) = record {
            record.answered = true;
            record.revisions.extend(revisions);
        }
        drop(state);
        self.node.script.changed();
    }

    /// Notes that the true cluster has refused it, unless it has answered.
    fn note_refusal(&self) {
        if !self.method.is_client_streaming()
            && let Some(record) = self.node.script.lock().records.get_mut(self.record)
        {
            record.answered = true;
        }
        self.node.script.changed();
    }

    /// Waits until calls that only a leader serves end because the node leads no more.
    async fn leads_no_more(&self) -> Status {
        let mut role = self.node.role.subscribe();
        if matches!(self.method.name(), "Await" | "Observe" | "Pipeline") {
            let refuses = |kind: &Kind| matches!(kind, Kind::Refusing(_));
            let changed = role.wait_for(|it| it.as_ref().is_some_and(|it| refuses(&it.kind)));
            if let Ok(role) = changed.await
                && let Some(Kind::Refusing(status)) = role.as_ref().map(|it| &it.kind)
            {
                return status.clone();
            }
        }
        std::future::pending().await
    }
}

fn record(node: &str, method: &str, message: DynamicMessage, has_deadline: bool) -> Record {
    Record {
        node: node.to_owned(),
        method: method.to_owned(),
        keys: keys_of(&message),
        message,
        has_deadline,
        answered: false,
        revisions: Vec::new(),
    }
}
