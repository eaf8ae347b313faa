//! The client program for Rust: a thin layer over the public API of `seshat::client`.

mod calls;
mod convert;
mod echo;
mod handles;
mod news;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use seshat_conformance::protocol::request::Action;
use seshat_conformance::protocol::response::Outcome;
use seshat_conformance::protocol::{self, Applied, Done, Failure, Kind, Request, Response};
use tokio::io::{BufReader, BufWriter};
use tokio::sync::{mpsc, watch};

use handles::Handles;

/// The outcome of an action; a failure, too, is one.
type Answer = Result<Outcome, Failure>;

/// The requests that are under way, and what cancels them.
#[derive(Debug, Default)]
struct UnderWay(Mutex<BTreeMap<u64, watch::Sender<bool>>>);

impl UnderWay {
    fn begin(&self, id: u64) -> watch::Receiver<bool> {
        let (cancel, cancelled) = watch::channel(false);
        self.lock().insert(id, cancel);
        cancelled
    }

    fn end(&self, id: u64) {
        self.lock().remove(&id);
    }

    fn cancel(&self, id: u64) {
        if let Some(cancel) = self.lock().get(&id) {
            cancel.send_replace(true);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, watch::Sender<bool>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let (responses, mut done) = mpsc::unbounded_channel::<Response>();
    let writer = tokio::spawn(async move {
        let mut output = BufWriter::new(tokio::io::stdout());
        while let Some(response) = done.recv().await {
            protocol::write(&mut output, &response).await?;
        }
        io::Result::Ok(())
    });
    let mut input = BufReader::new(tokio::io::stdin());
    let (handles, under_way) = (Arc::<Handles>::default(), Arc::<UnderWay>::default());
    while let Some(Request { id, action }) = protocol::read(&mut input).await? {
        let (handles, under_way, responses) = (
            Arc::clone(&handles),
            Arc::clone(&under_way),
            responses.clone(),
        );
        let mut cancelled = under_way.begin(id);
        tokio::spawn(async move {
            let answer = tokio::select! {
                // Dropping its future is how a caller cancels a call.
                _ = cancelled.wait_for(|cancelled| *cancelled) => Err(cancellation()),
                answer = carry_out(action, &handles, &under_way) => answer,
            };
            under_way.end(id);
            let outcome = Some(answer.unwrap_or_else(Outcome::Failure));
            // The runner may have gone.
            let _ = responses.send(Response { id, outcome });
        });
    }
    // Clients that go on would answer requests that no case waits for.
    handles.close_all();
    drop(responses);
    // What is still under way has no reader any more.
    writer.abort();
    Ok(())
}

async fn carry_out(action: Option<Action>, handles: &Handles, under_way: &UnderWay) -> Answer {
    let Some(action) = action else {
        return Err(convert::invalid("a request without an action"));
    };
    match action {
        Action::Echo(echo) => echo::echo(&echo),
        Action::Connect(connect) => handles.connect(connect),
        Action::Close(close) => handles.close(&close.handle).await,
        Action::Cancel(cancel) => {
            under_way.cancel(cancel.request);
            Ok(Outcome::Done(Done {}))
        }
        Action::Get(get) => calls::get(get, handles).await,
        Action::Set(set) => calls::set(set, handles).await,
        Action::Delete(delete) => calls::delete(delete, handles).await,
        Action::Txn(txn) => calls::txn(txn, handles).await,
        Action::Scan(scan) => calls::scan(scan, handles).await,
        Action::Pipeline(pipeline) => calls::pipeline(pipeline, handles).await,
        Action::OpenSession(open) => handles.open_session(open).await,
        Action::Lock(lock) => handles.lock(lock).await,
        Action::AwaitLost(lost) => handles.lost(&lost.handle).await,
        Action::Watch(watch) => handles.watch(watch),
        Action::Observe(observe) => handles.observe(observe),
        Action::Next(next) => news::next(&next.handle, handles).await,
    }
}

fn cancellation() -> Failure {
    Failure {
        // A write that was sent may have been applied.
        applied: Applied::Unknown.into(),
        kind: Kind::Cancelled.into(),
        reason: String::new(),
        message: "the caller cancelled it".to_owned(),
    }
}
