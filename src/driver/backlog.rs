//! The requests of clients that wait for a turn of the driver.
//!
//! Every request is split into its commands here, so that a batch of thousands need not be taken as a
//! whole: a turn takes as many commands as it may, in equal parts from all waiting sources
//! ([`FairQueue`]), and the rest of a batch waits like all other commands. A command whose caller has
//! gone is dropped, and was surely not applied.

use std::sync::Arc;

use bytes::Bytes;

use super::batch::{BatchItem, Waiter};
use super::fair::{FairQueue, Source};
use super::handle::Request;
use super::runs::{MAX_RUN, Runs};
use crate::kv::Query;
use crate::node::{Input, Proposal, Room};

/// Cost of a command beside its bytes: the fixed work of a command takes about as long as this many bytes.
const COMMAND_COST: usize = 1024;

/// Cost of one turn of a source: so small that many sources have a part in every turn of the driver.
const QUANTUM: usize = 16 * COMMAND_COST;

/// A command that waits for its turn.
struct Waiting {
    what: What,
    waiter: Waiter,
}

enum What {
    Write {
        command: Bytes,
        context: Bytes,
    },
    /// A read that keeps its place among the writes of its batch.
    PlacedRead(Query),
    Read(Query),
}

impl What {
    /// The number of commands that it is.
    fn commands(&self) -> usize {
        match self {
            Self::Write { .. } => 1,
            Self::PlacedRead(query) | Self::Read(query) => query.reads(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Write { command, context } => command.len().saturating_add(context.len()),
            Self::PlacedRead(query) | Self::Read(query) => query.bytes(),
        }
    }
}

impl Waiting {
    fn with_cost(self) -> (usize, Self) {
        let fixed = COMMAND_COST.saturating_mul(self.what.commands());
        (fixed.saturating_add(self.what.bytes()), self)
    }
}

/// The commands of one turn.
#[derive(Default)]
pub(super) struct Turn {
    /// Writes, and reads that have a place among them.
    pub(super) inputs: Vec<Input<Waiter>>,
    /// Reads without a batch.
    pub(super) reads: Vec<(Query, Waiter)>,
}

/// The requests that wait for a turn.
pub(super) struct Backlog {
    queue: FairQueue<Waiting>,
    /// The number of commands in `queue`.
    commands: usize,
    max_commands: usize,
    /// Maximum number of commands that are taken as one.
    max_run: usize,
    /// Whether the last turn left commands that the next one can take.
    goes_on: bool,
}

impl Backlog {
    /// An empty backlog that accepts requests until `max_commands` commands wait. No turn may have less room
    /// than for `max_run` commands if it is the only one.
    pub(super) fn new(max_commands: usize, max_run: usize) -> Self {
        Self {
            queue: FairQueue::new(QUANTUM),
            commands: 0,
            max_commands,
            max_run: max_run.min(MAX_RUN),
            goes_on: false,
        }
    }

    /// Whether another request fits.
    pub(super) fn has_place(&self) -> bool {
        self.commands < self.max_commands
    }

    /// Whether a turn would take a command.
    pub(super) fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// Notes that the core has room again.
    pub(super) fn go_on(&mut self) {
        self.goes_on = !self.queue.is_empty();
    }

    /// Appends a request of `source`.
    pub(super) fn push(&mut self, source: Source, request: Request) {
        match request {
            Request::Write {
                command,
                context,
                waiter,
            } => self.wait(source, What::Write { command, context }, waiter),
            Request::Read { query, waiter } => self.wait(source, What::Read(query), waiter),
            Request::Batch { items, batch } => {
                self.commands += items.len();
                let parts = Runs::of(items, self.max_run).map(|(place, item)| {
                    let what = match item {
                        BatchItem::Write { command, context } => What::Write { command, context },
                        BatchItem::Read(query) => What::PlacedRead(query),
                    };
                    let waiter = Waiter::part(Arc::clone(&batch), place, what.commands());
                    Waiting { what, waiter }.with_cost()
                });
                self.queue.extend(source, parts);
            }
        }
    }

    fn wait(&mut self, source: Source, what: What, waiter: Waiter) {
        self.commands += what.commands();
        let waiting = Waiting { what, waiter };
        self.queue.extend(source, [waiting.with_cost()]);
    }

    /// The commands of the next turn: at most `max_commands`, until they have `max_bytes`, and no more
    /// than the core has `room` for. The others wait.
    pub(super) fn turn(&mut self, max_commands: usize, max_bytes: usize, room: Room) -> Turn {
        let mut turn = Turn::default();
        let (mut commands, mut bytes) = (0, 0);
        self.goes_on = false;
        while commands < room.requests {
            if commands >= max_commands || bytes >= max_bytes {
                self.goes_on = !self.queue.is_empty();
                break;
            }
            let left = room.bytes.saturating_sub(bytes);
            let mut is_full = false;
            let fits = |Waiting { what, .. }: &Waiting| {
                let with_it = commands.saturating_add(what.commands());
                is_full = with_it > max_commands;
                !is_full && with_it <= room.requests && what.bytes() <= left
            };
            let Some(Waiting { what, waiter }) = self.queue.pop_if(fits) else {
                self.goes_on = is_full;
                break;
            };
            self.commands -= what.commands();
            if !waiter.take_up() {
                continue;
            }
            commands += what.commands();
            match what {
                What::Write { command, context } => {
                    bytes += command.len().saturating_add(context.len());
                    turn.inputs.push(Input::Write(Proposal {
                        command,
                        context,
                        waiter,
                    }));
                }
                What::PlacedRead(query) => turn.inputs.push(Input::Read { query, waiter }),
                What::Read(query) => turn.reads.push((query, waiter)),
            }
        }
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::{Batch, Pending, PendingBatch};
    use super::super::unread::{Unread, ValueRoom};
    use super::*;

    const ANY: usize = usize::MAX;

    fn batch(backlog: &mut Backlog, source: u64, size: usize) -> PendingBatch {
        let item = |_| BatchItem::Write {
            command: Bytes::from("12345678"),
            context: Bytes::new(),
        };
        let room = ValueRoom::new(Unread::new(0).reader().account(0).hold(0), 0);
        let (batch, pending) = Batch::new(size, room, ());
        let items = (0..size).map(item).collect();
        backlog.push(Source(source), Request::Batch { items, batch });
        pending
    }

    fn read(backlog: &mut Backlog, source: u64) -> Pending {
        let (waiter, pending) = Waiter::one();
        let query = Query::Get("k".into());
        backlog.push(Source(source), Request::Read { query, waiter });
        pending
    }

    fn taken(turn: &Turn) -> (usize, usize) {
        (turn.inputs.len(), turn.reads.len())
    }

    #[test]
    fn a_turn_takes_a_part_of_each_batch_and_single_requests() {
        let mut backlog = Backlog::new(ANY, ANY);
        let _batches: Vec<_> = (1..=4)
            .flat_map(|source| [source; 64])
            .map(|source| batch(&mut backlog, source, 4096))
            .collect();
        let _alone = read(&mut backlog, 5);
        let turn = backlog.turn(1024, ANY, Room::UNLIMITED);
        assert_eq!(taken(&turn), (1023, 1));
        assert!(backlog.goes_on());
    }

    #[test]
    fn many_requests_of_one_connection_keep_no_other_waiting() {
        let mut backlog = Backlog::new(ANY, ANY);
        let _many: Vec<_> = (0..10_000).map(|_| read(&mut backlog, 1)).collect();
        let _one = batch(&mut backlog, 2, 1);
        let turn = backlog.turn(64, ANY, Room::UNLIMITED);
        assert_eq!(taken(&turn), (1, 63));
    }

    #[test]
    fn commands_wait_until_the_core_has_room() {
        let mut backlog = Backlog::new(ANY, ANY);
        let _batch = batch(&mut backlog, 1, 10);
        let room = |requests, bytes| Room { requests, bytes };
        assert_eq!(taken(&backlog.turn(ANY, ANY, room(3, ANY))), (3, 0));
        assert!(!backlog.goes_on(), "the core has to answer first");
        assert_eq!(taken(&backlog.turn(ANY, ANY, room(ANY, 17))), (2, 0));
        assert!(!backlog.goes_on());
        backlog.go_on();
        assert!(backlog.goes_on());
        assert_eq!(taken(&backlog.turn(ANY, 9, Room::UNLIMITED)), (2, 0));
        assert!(backlog.goes_on());
        assert_eq!(taken(&backlog.turn(ANY, ANY, Room::UNLIMITED)), (3, 0));
        assert!(!backlog.goes_on());
    }

    /// The number of gets of each query that the turn takes.
    fn gets(turn: &Turn) -> Vec<usize> {
        let inputs = turn.inputs.iter().map(|input| match input {
            Input::Read { query, .. } => query.reads(),
            Input::Write(_) => panic!("no writes here"),
        });
        inputs.collect()
    }

    #[test]
    fn a_run_counts_with_its_gets_and_waits_until_there_is_room_for_all_of_them() {
        let mut backlog = Backlog::new(40, 8);
        let room = ValueRoom::new(Unread::new(0).reader().account(0).hold(0), 0);
        let (batch, _pending) = Batch::new(40, room, ());
        let items = vec![BatchItem::Read(Query::Get("k".into())); 40];
        backlog.push(Source(1), Request::Batch { items, batch });
        assert!(!backlog.has_place(), "40 commands wait");
        let requests = |requests| Room {
            requests,
            bytes: ANY,
        };
        assert_eq!(gets(&backlog.turn(ANY, ANY, requests(20))), [8, 8]);
        assert!(!backlog.goes_on(), "the core has to answer first");
        assert_eq!(gets(&backlog.turn(10, ANY, Room::UNLIMITED)), [8]);
        assert!(backlog.goes_on(), "the next turn has room for it");
        assert!(backlog.has_place());
        assert_eq!(gets(&backlog.turn(ANY, ANY, Room::UNLIMITED)), [8, 8]);
    }

    #[test]
    fn a_caller_that_has_gone_takes_no_turn() {
        let mut backlog = Backlog::new(ANY, ANY);
        drop(batch(&mut backlog, 1, 4096));
        drop(read(&mut backlog, 1));
        let late = read(&mut backlog, 1);
        assert!(late.withdraw());
        let _there = read(&mut backlog, 1);
        let turn = backlog.turn(1, ANY, Room::UNLIMITED);
        assert_eq!(taken(&turn), (0, 1));
    }

    #[test]
    fn it_is_as_long_as_it_may_be() {
        let mut backlog = Backlog::new(2, ANY);
        let _first = read(&mut backlog, 1);
        assert!(backlog.has_place());
        let _second = read(&mut backlog, 1);
        assert!(!backlog.has_place());
    }
}
