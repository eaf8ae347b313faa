//! Writes log lines without ever blocking the process that logs.
//!
//! The reader of a node's log lines may stop reading, end, or run out of disk. None of that may affect
//! the node. So a line goes into a bounded queue, and a separate thread writes it. A line that finds the
//! queue full, or cannot be written, is lost and counted; as soon as a line can be written again, a
//! warning reports how many were lost.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait to be written.
const MAX_QUEUED_LINES: usize = 16_384;

/// Bytes of lines that may wait to be written.
const MAX_QUEUED_BYTES: usize = 8 << 20;

/// Shortest time between two warnings about lost lines.
const WARNING_INTERVAL: Duration = Duration::from_secs(1);

/// Longest wait for queued lines when the process ends.
const LAST_LINES_TIMEOUT: Duration = Duration::from_millis(500);

/// A task of the thread.
enum Task {
    Write(Vec<u8>),
    /// Answers once everything before it has been written.
    Flush(SyncSender<()>),
}

/// Bytes in the queue, and lines that were lost.
#[derive(Debug, Default)]
struct Counts {
    queued_bytes: AtomicUsize,
    lost: AtomicU64,
}

/// The sending end of the queue: one call of `write` is one line.
#[derive(Clone)]
pub(super) struct LineQueue {
    tasks: SyncSender<Task>,
    counts: Arc<Counts>,
}

/// Waits for the last lines: when dropped at the end of the process, it waits until they are written, but
/// for at most half a second.
#[derive(Debug)]
#[must_use = "dropped at once, it waits for nothing"]
pub struct LastLines {
    tasks: SyncSender<Task>,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Write(_) => "Write",
            Self::Flush(_) => "Flush",
        })
    }
}

/// Starts the thread that writes to `out`. `lost` is called on that thread with the number of lost lines,
/// once a line can be written again.
///
/// # Errors
///
/// The system cannot start a thread.
pub(super) fn start(
    out: impl Write + Send + 'static,
    lost: impl Fn(u64) + Send + 'static,
) -> io::Result<(LineQueue, LastLines)> {
    let (tasks, waiting) = sync_channel(MAX_QUEUED_LINES);
    let counts = Arc::new(Counts::default());
    let queue = LineQueue {
        tasks: tasks.clone(),
        counts: Arc::clone(&counts),
    };
    thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || write_all(&waiting, out, &counts, lost))?;
    Ok((queue, LastLines { tasks }))
}

fn write_all(waiting: &Receiver<Task>, mut out: impl Write, counts: &Counts, lost: impl Fn(u64)) {
    let mut warned_at: Option<Instant> = None;
    while let Ok(task) = waiting.recv() {
        let line = match task {
            Task::Write(line) => line,
            Task::Flush(done) => {
                // The process may not wait any more.
                let _ = out.flush();
                let _ = done.try_send(());
                continue;
            }
        };
        counts.queued_bytes.fetch_sub(line.len(), Ordering::Relaxed);
        if out.write_all(&line).is_err() {
            counts.lost.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let due = warned_at.is_none_or(|at| at.elapsed() >= WARNING_INTERVAL);
        if due && counts.lost.load(Ordering::Relaxed) > 0 {
            warned_at = Some(Instant::now());
            lost(counts.lost.swap(0, Ordering::Relaxed));
        }
    }
}

impl LineQueue {
    /// Puts a line into the queue, or counts it as lost. Never waits.
    fn put(&self, line: &[u8]) {
        let Counts { queued_bytes, lost } = &*self.counts;
        let before = queued_bytes.fetch_add(line.len(), Ordering::Relaxed);
        let fits = before.saturating_add(line.len()) <= MAX_QUEUED_BYTES;
        if !fits || self.tasks.try_send(Task::Write(line.to_vec())).is_err() {
            queued_bytes.fetch_sub(line.len(), Ordering::Relaxed);
            lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Write for LineQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LineQueue {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Drop for LastLines {
    fn drop(&mut self) {
        let (done, written) = sync_channel(1);
        if self.tasks.try_send(Task::Flush(done)).is_ok() {
            let _ = written.recv_timeout(LAST_LINES_TIMEOUT);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// An output that writes a line each time that the test allows it, or fails if the test says so.
    struct Gated {
        turns: Receiver<bool>,
        written: Arc<Mutex<Vec<String>>>,
    }

    impl Write for Gated {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            if self.turns.recv() != Ok(true) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let line = String::from_utf8(line.to_vec()).unwrap();
            self.written.lock().unwrap().push(line);
            Ok(self.written.lock().unwrap().last().unwrap().len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Log {
        queue: LineQueue,
        end: LastLines,
        turns: Sender<bool>,
        written: Arc<Mutex<Vec<String>>>,
        lost: Receiver<u64>,
    }

    fn log() -> Log {
        let (turns, turn) = channel();
        let written = Arc::default();
        let out = Gated {
            turns: turn,
            written: Arc::clone(&written),
        };
        let (tell, lost) = channel();
        let (queue, end) = start(out, move |count| {
            let _ = tell.send(count);
        })
        .unwrap();
        Log {
            queue,
            end,
            turns,
            written,
            lost,
        }
    }

    #[test]
    fn a_reader_that_does_not_read_costs_lines_and_never_time() {
        let mut log = log();
        let lines = MAX_QUEUED_LINES + 100;
        for _ in 0..lines {
            log.queue.write_all(b"line\n").unwrap();
        }
        // No line has been written so far: the thread holds at most one.
        for _ in 0..lines {
            log.turns.send(true).unwrap();
        }
        let lost = log.lost.recv().unwrap();
        assert!((99..=100).contains(&lost), "{lost}");
    }

    #[test]
    fn long_lines_are_bounded_by_their_bytes() {
        let mut log = log();
        let line = vec![b'x'; MAX_QUEUED_BYTES / 4];
        for _ in 0..8 {
            log.queue.write_all(&line).unwrap();
        }
        for _ in 0..8 {
            log.turns.send(true).unwrap();
        }
        let lost = log.lost.recv().unwrap();
        // Four fit, and a fifth one if the thread has taken the first already.
        assert!((3..=4).contains(&lost), "{lost}");
    }

    #[test]
    fn a_line_that_cannot_be_written_is_counted_and_told_of_later() {
        let mut log = log();
        for _ in 0..3 {
            log.queue.write_all(b"lost\n").unwrap();
            log.turns.send(false).unwrap();
        }
        log.queue.write_all(b"kept\n").unwrap();
        log.turns.send(true).unwrap();
        assert_eq!(log.lost.recv(), Ok(3));
        assert_eq!(*log.written.lock().unwrap(), ["kept\n"]);
    }

    #[test]
    fn the_last_lines_are_waited_for_unless_the_output_is_stuck() {
        let mut log = log();
        log.queue.write_all(b"last\n").unwrap();
        log.turns.send(true).unwrap();
        drop(log.end);
        assert_eq!(*log.written.lock().unwrap(), ["last\n"]);

        let mut stuck = self::log();
        stuck.queue.write_all(b"never\n").unwrap();
        // This would hang if the wait had no bound.
        drop(stuck.end);
        assert!(stuck.written.lock().unwrap().is_empty());
    }
}
