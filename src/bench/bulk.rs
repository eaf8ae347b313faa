//! The bulk work before and after a run: many keys are written, read back, or removed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::BenchError;
use super::ledger::{Ledger, Sent};
use super::target::{Ask, Outcome, Refused, Stream, Target};
use super::wrong::WrongAnswers;

/// Most commands of one batch.
const MAX_BATCH: usize = 100;
/// Most bytes of values of one batch.
const MAX_BATCH_BYTES: usize = 1 << 20;
/// Batches in flight on one stream.
const WINDOW: usize = 8;
/// Pause before the next attempt after a refusal.
const PAUSE: Duration = Duration::from_millis(50);

/// The work on a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// Writes it.
    Write,
    /// Reads it. The ledger checks the value.
    Read,
    /// Reads it. It must be missing.
    ReadMissing,
    /// Removes it. The answer is not checked.
    Remove,
}

/// Does `task` for all of `numbers`. Refused ones are retried, for as long as some succeed within
/// `timeout`.
///
/// # Errors
///
/// None succeeded for that long, or a refusal is permanent.
pub(super) async fn each<T: Target>(
    task: Task,
    numbers: &[u32],
    targets: &[T],
    ledger: &Arc<Ledger>,
    wrong: &Arc<WrongAnswers>,
    timeout: Duration,
) -> Result<(), BenchError> {
    let share = numbers.len().div_ceil(targets.len().max(1)).max(1);
    let mut workers = JoinSet::new();
    for (numbers, target) in numbers.chunks(share).zip(targets) {
        let worker = Worker {
            task,
            ledger: Arc::clone(ledger),
            wrong: Arc::clone(wrong),
            timeout,
        };
        workers.spawn(worker.all(numbers.to_vec(), target.clone()));
    }
    while let Some(worker) = workers.join_next().await {
        match worker {
            Ok(done) => done?,
            // A worker is cancelled only together with all others, after an error.
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }
    Ok(())
}

struct Worker {
    task: Task,
    ledger: Arc<Ledger>,
    wrong: Arc<WrongAnswers>,
    timeout: Duration,
}

impl Worker {
    async fn all(self, mut numbers: Vec<u32>, target: impl Target) -> Result<(), BenchError> {
        let mut began = Instant::now();
        while !numbers.is_empty() {
            let before = numbers.len();
            let refused = match target.open(WINDOW).await {
                Ok(mut stream) => self.some(&mut numbers, &mut stream).await,
                Err(refused) => Some(refused),
            };
            if numbers.len() < before {
                began = Instant::now();
            }
            let Some(refused) = refused else {
                continue;
            };
            let late = began.elapsed() >= self.timeout;
            if late || matches!(refused.kind, "full" | "too_large" | "invalid_request") {
                return Err(self.failed(numbers.len(), &refused));
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Works off `numbers` on one stream. Returns why it ended early, if it did; unfinished numbers
    /// remain.
    async fn some(&self, numbers: &mut Vec<u32>, stream: &mut impl Stream) -> Option<Refused> {
        let size = self.ledger.values().size();
        let batch = (MAX_BATCH_BYTES / size.max(1)).clamp(1, MAX_BATCH);
        let mut flight: VecDeque<Vec<(u32, Sent)>> = VecDeque::with_capacity(WINDOW);
        let mut refused = None;
        loop {
            while refused.is_none() && flight.len() < WINDOW && !numbers.is_empty() {
                let from = numbers.len().saturating_sub(batch);
                let some = numbers.split_off(from);
                let (asks, sent): (_, Vec<_>) = some.iter().map(|&number| self.ask(number)).unzip();
                match stream.send(asks).await {
                    Ok(()) => flight.push_back(sent),
                    Err(why) => {
                        numbers.extend(some);
                        refused = Some(why);
                    }
                }
            }
            let Some(oldest) = flight.pop_front() else {
                return refused;
            };
            let outcomes = stream.answers().await;
            for ((number, sent), outcome) in oldest.into_iter().zip(outcomes) {
                self.settle(number, sent, &outcome);
                if let Err(why) = outcome {
                    numbers.push(number);
                    refused = Some(why);
                }
            }
        }
    }

    fn ask(&self, number: u32) -> (Ask, (u32, Sent)) {
        let (ask, sent) = match self.task {
            Task::Write => self.ledger.set(number),
            Task::Read | Task::ReadMissing => self.ledger.get(number),
            Task::Remove => self.ledger.del(number),
        };
        (ask, (number, sent))
    }

    fn settle(&self, number: u32, sent: Sent, outcome: &Outcome) {
        let judged = match self.task {
            Task::Write | Task::Read => self.ledger.settle(sent, outcome),
            Task::ReadMissing => self.ledger.settle_missing(number, outcome),
            Task::Remove => Ok(()),
        };
        if let Err(wrong) = judged {
            self.wrong.add(wrong);
        }
    }

    fn failed(&self, left: usize, refused: &Refused) -> BenchError {
        let what = match self.task {
            Task::Write => "the keys cannot be written before the run",
            Task::Read | Task::ReadMissing => "the keys cannot be read back after the run",
            Task::Remove => "the keys cannot be removed after the run",
        };
        BenchError::Unserved {
            kind: refused.kind,
            message: format!("{what}: {left} are left: {}", refused.message),
        }
    }
}
