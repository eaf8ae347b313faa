//! The load: concurrent clients that follow the plan.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::task::JoinSet;

use super::ledger::{Ledger, Sent, Wrong};
use super::pace::{Due, Pace};
use super::plan::{Op, Pipelining, Plan};
use super::tally::Tally;
use super::target::{Ask, Outcome, Refused, Stream, Target};
use super::wrong::WrongAnswers;

/// Pause of a client after a refusal: a cluster that does not serve is asked less often.
const PAUSE: Duration = Duration::from_millis(20);

/// The state that all clients of a run share.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) plan: Plan,
    pub(super) ledger: Arc<Ledger>,
    pub(super) pace: Arc<Pace>,
    /// The end of the warm-up. Operations that are due later count.
    pub(super) start: Instant,
    pub(super) wrong: Arc<WrongAnswers>,
    /// Operations that have ended, including those of the warm-up.
    pub(super) over: AtomicU64,
}

impl Run {
    /// Runs the load on `targets`, and waits for its end.
    pub(super) async fn measure<T: Target>(
        self: &Arc<Self>,
        targets: &[T],
        empty: &Tally,
    ) -> Tally {
        let mut clients = JoinSet::new();
        for (number, target) in (0u64..).zip(targets.iter().cycle()).take(self.plan.clients) {
            let (run, target) = (Arc::clone(self), target.clone());
            let client = Client {
                rng: StdRng::seed_from_u64(self.plan.seed.wrapping_add(number)),
                tally: empty.clone(),
                run,
            };
            match self.plan.pipeline {
                None => clients.spawn(client.call(target)),
                Some(pipelining) => clients.spawn(client.stream(target, pipelining)),
            };
        }
        let mut all = empty.clone();
        while let Some(client) = clients.join_next().await {
            match client {
                Ok(tally) => all.merge(&tally),
                // A client is never cancelled.
                Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
            }
        }
        all
    }
}

/// One client.
struct Client {
    run: Arc<Run>,
    rng: StdRng,
    tally: Tally,
}

/// A command that waits for its answer.
struct Waiting {
    sent: Sent,
    due: Instant,
    bytes: usize,
}

impl Client {
    /// Makes one call after another.
    async fn call(mut self, target: impl Target) -> Tally {
        while let Some(due) = self.run.pace.next(1).await {
            let (ask, waiting) = self.ask(due, 0);
            let outcome = target.call(ask).await;
            self.settle(waiting, &outcome, Instant::now());
            if outcome.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
        }
        self.tally
    }

    /// Uses one stream after another: a new one when the old one has broken.
    async fn stream(mut self, target: impl Target, pipelining: Pipelining) -> Tally {
        loop {
            let ended = match target.open(pipelining.window).await {
                Ok(stream) => self.keep_busy(stream, pipelining).await,
                Err(refused) => self.wait_refused(&refused, pipelining.batch).await,
            };
            if ended {
                return self.tally;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Counts the operations that were due and could not be sent as refused. Returns whether the run is
    /// over.
    async fn wait_refused(&mut self, refused: &Refused, batch: usize) -> bool {
        let Some(due) = self.run.pace.next(batch).await else {
            return true;
        };
        for position in 0..batch {
            if self.run.pace.moment(due, position) >= self.run.start {
                self.tally.refused(refused);
            }
        }
        false
    }

    /// Keeps the window full until the run is over or the stream has broken. Returns whether the run is
    /// over.
    async fn keep_busy(&mut self, mut stream: impl Stream, pipelining: Pipelining) -> bool {
        let Pipelining { batch, window } = pipelining;
        let run = Arc::clone(&self.run);
        let mut flight: VecDeque<Vec<Waiting>> = VecDeque::with_capacity(window);
        let (mut over, mut broken) = (false, false);
        while !flight.is_empty() || !(over || broken) {
            tokio::select! {
                biased;
                due = run.pace.next(batch), if !over && !broken && flight.len() < window => {
                    let Some(due) = due else {
                        over = true;
                        continue;
                    };
                    let (asks, waiting): (_, Vec<_>) =
                        (0..batch).map(|position| self.ask(due, position)).unzip();
                    match stream.send(asks).await {
                        Ok(()) => flight.push_back(waiting),
                        Err(refused) => {
                            self.settle_all(waiting, &vec![Err(refused); batch]);
                            broken = true;
                        }
                    }
                }
                outcomes = stream.answers(), if !flight.is_empty() => {
                    if let Some(waiting) = flight.pop_front() {
                        self.settle_all(waiting, &outcomes);
                        broken |= outcomes.iter().any(Result::is_err);
                    }
                }
            }
        }
        over
    }

    fn settle_all(&mut self, waiting: Vec<Waiting>, outcomes: &[Outcome]) {
        let now = Instant::now();
        for (waiting, outcome) in waiting.into_iter().zip(outcomes) {
            self.settle(waiting, outcome, now);
        }
    }

    fn ask(&mut self, due: Due, position: usize) -> (Ask, Waiting) {
        let run = &self.run;
        let key = self.rng.gen_range(0..run.plan.keys);
        let (ask, sent) = match run.plan.op {
            Op::Set => run.ledger.set(key),
            Op::Get => run.ledger.get(key),
            Op::Del => run.ledger.del(key),
            Op::Mixed if self.rng.r#gen() => run.ledger.set(key),
            Op::Mixed => run.ledger.get(key),
        };
        let waiting = Waiting {
            sent,
            due: run.pace.moment(due, position),
            bytes: ask.bytes(),
        };
        (ask, waiting)
    }

    fn settle(&mut self, waiting: Waiting, outcome: &Outcome, now: Instant) {
        let run = &self.run;
        run.over.fetch_add(1, Ordering::Relaxed);
        if let Err(wrong) = run.ledger.settle(waiting.sent, outcome) {
            run.wrong(wrong);
        }
        if waiting.due < run.start {
            return;
        }
        match outcome {
            Ok(answer) => {
                let latency = now.saturating_duration_since(waiting.due);
                self.tally.answered(latency, waiting.bytes + answer.bytes());
            }
            Err(refused) => self.tally.refused(refused),
        }
    }
}

impl Run {
    /// Ends the run: one wrong answer makes its figures worthless.
    fn wrong(&self, wrong: Wrong) {
        self.wrong.add(wrong);
        self.pace.stop();
    }
}
