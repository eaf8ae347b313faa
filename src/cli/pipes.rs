//! Standard input and standard output with a time limit.
//!
//! Reading an empty pipe or writing a full one blocks the thread, and cannot be cancelled. So where there is
//! a time limit a thread of its own does that, and is abandoned when time is up: it ends with the process.

use std::fmt::Display;
use std::future::pending;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::Interest;
use tokio::net::unix::pipe;

use super::failure::Failure;

/// Shortest time to write an answer: one that has arrived just in time is written to a pipe that is read.
const SHORTEST: Duration = Duration::from_millis(100);

/// Reads standard input to its end, but no more than one byte beyond `limit`. `time_left` limits the time;
/// `None`: no limit.
pub(crate) fn read(limit: u64, time_left: Option<Duration>) -> Result<Vec<u8>, Failure> {
    let read = move || {
        let mut input = Vec::new();
        let mut some = io::stdin().lock().take(limit.saturating_add(1));
        some.read_to_end(&mut input)?;
        Ok(input)
    };
    within(time_left, read).map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => Failure::late("standard input did not end in time"),
        _ => Failure::local(format!("cannot read standard input: {error}")),
    })
}

/// Writes `text` and a newline to standard output. `time_left` limits the time; `None`: no limit.
pub(crate) fn print(text: impl Display, time_left: Option<Duration>) -> Result<(), Failure> {
    write(format!("{text}\n").into(), time_left)
}

/// Writes a value to standard output as [`print`] does, with a newline behind it on a terminal only.
pub(crate) fn print_value(value: Bytes, time_left: Option<Duration>) -> Result<(), Failure> {
    match io::stdout().is_terminal() {
        true => write([&value, b"\n".as_slice()].concat().into(), time_left),
        false => write(value, time_left),
    }
}

/// Writes `bytes` to standard output. `time_left` limits the time; `None`: no limit.
pub(crate) fn write(bytes: Bytes, time_left: Option<Duration>) -> Result<(), Failure> {
    let write = move || {
        let mut stdout = io::stdout().lock();
        stdout.write_all(&bytes)?;
        stdout.flush()
    };
    within(time_left.map(|left| left.max(SHORTEST)), write).map_err(Failure::stdout)
}

/// Waits until the reader of the pipe at standard output is gone. Never ends for anything else than a pipe.
pub(crate) async fn reader_gone() {
    let watched = async {
        let stdout = io::stdout().as_fd().try_clone_to_owned()?;
        // Nothing is written by it, so the pipe may stay one that blocks.
        let pipe = pipe::Sender::from_owned_fd_unchecked(stdout)?;
        while !pipe.ready(Interest::ERROR).await?.is_error() {}
        Ok::<_, io::Error>(())
    };
    if watched.await.is_err() {
        pending().await
    }
}

/// Writes `line` and a newline to standard output, however long that takes. Connections are served meanwhile.
pub(crate) async fn write_line(line: String) -> Result<(), Failure> {
    let written = tokio::task::spawn_blocking(move || print(line, None)).await;
    written.unwrap_or_else(|error| Err(Failure::local(error.to_string())))
}

fn within<T: Send + 'static>(
    time_left: Option<Duration>,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let Some(time_left) = time_left else {
        return work();
    };
    let (done, result) = mpsc::sync_channel(1);
    thread::Builder::new().spawn(move || {
        let _ = done.send(work());
    })?;
    let late = |_| Err(io::ErrorKind::TimedOut.into());
    result.recv_timeout(time_left).unwrap_or_else(late)
}
