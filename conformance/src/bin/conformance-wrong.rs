//! Wrong clients, for the tests of the runner: the client program for Rust behind something that breaks a promise.
//! The variable `WRONG` of the environment says which.

use std::collections::BTreeMap;
use std::io;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use seshat_conformance::protocol::request::Action;
use seshat_conformance::protocol::response::Outcome;
use seshat_conformance::protocol::{self, Applied, Entry, Failure, Request, Response};
use tokio::io::{BufReader, BufWriter};
use tokio::process::{ChildStdin, Command};
use tokio::sync::mpsc;

/// Added to the id of a request that is sent a second time.
const SECOND: u64 = 1 << 40;

type Asked = Arc<Mutex<BTreeMap<u64, Request>>>;

#[tokio::main]
async fn main() -> io::Result<()> {
    let wrong = std::env::var("WRONG").unwrap_or_default();
    let right = std::env::current_exe()?.with_file_name("conformance-client");
    let mut child = Command::new(right)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::Error::other("no pipes"));
    };
    let (requests, to_send) = mpsc::unbounded_channel();
    tokio::spawn(send(to, to_send));
    let asked = Asked::default();
    let answering = tokio::spawn(answer(from, asked.clone(), requests.clone(), wrong.clone()));
    let mut input = BufReader::new(tokio::io::stdin());
    while let Some(request) = protocol::read::<Request>(&mut input).await? {
        let is_set = matches!(request.action, Some(Action::Set(_)));
        match wrong.as_str() {
            "ends" if is_set => return Ok(()),
            "hangs" if is_set => continue,
            _ => {}
        }
        all(&asked).insert(request.id, request.clone());
        let _ = requests.send(request);
    }
    drop(requests);
    answering.abort();
    Ok(())
}

fn all(asked: &Asked) -> std::sync::MutexGuard<'_, BTreeMap<u64, Request>> {
    asked.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn send(mut to: ChildStdin, mut requests: mpsc::UnboundedReceiver<Request>) {
    while let Some(request) = requests.recv().await {
        if protocol::write(&mut to, &request).await.is_err() {
            return;
        }
    }
}

/// Passes the responses on, each as it is wrong.
async fn answer(
    from: tokio::process::ChildStdout,
    asked: Asked,
    requests: mpsc::UnboundedSender<Request>,
    wrong: String,
) -> io::Result<()> {
    let mut from = BufReader::new(from);
    let mut output = BufWriter::new(tokio::io::stdout());
    while let Some(mut response) = protocol::read::<Response>(&mut from).await? {
        let is_second = response.id >= SECOND;
        response.id %= SECOND;
        let request = all(&asked).get(&response.id).cloned();
        if wrong == "repeats"
            && !is_second
            && let Some(Request {
                id,
                action: Some(Action::Set(set)),
            }) = request
            && is_unknown(&response)
        {
            let action = Some(Action::Set(set));
            let _ = requests.send(Request {
                id: id + SECOND,
                action,
            });
            continue;
        }
        if let Some(outcome) = &mut response.outcome {
            falsify(outcome, &wrong);
        }
        protocol::write(&mut output, &response).await?;
        if wrong == "answers twice" {
            protocol::write(&mut output, &response).await?;
        }
    }
    Ok(())
}

fn is_unknown(response: &Response) -> bool {
    let unknown = i32::from(Applied::Unknown);
    matches!(&response.outcome, Some(Outcome::Failure(failure)) if failure.applied == unknown)
}

/// Makes an outcome wrong.
fn falsify(outcome: &mut Outcome, wrong: &str) {
    match (wrong, outcome) {
        ("knows no doubt", Outcome::Failure(Failure { applied, .. })) => {
            *applied = Applied::No.into()
        }
        ("knows no empty value", Outcome::Got(got)) => {
            got.entry = got.entry.take().filter(|entry| !entry.value.is_empty());
        }
        ("rounds", Outcome::Got(got)) => got.entry.iter_mut().for_each(round),
        ("loses the last", Outcome::Scanned(scanned)) => drop(scanned.entries.pop()),
        _ => {}
    }
}

/// The number as a language without integers of 64 bits has it.
fn round(entry: &mut Entry) {
    const EXACT: u64 = 1 << 53;
    if entry.revision > EXACT {
        entry.revision &= !1;
    }
}
