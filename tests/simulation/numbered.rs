//! Clients with sessions: they number their writes, have several under way, and send everything again,
//! even writes that were acknowledged long ago.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::Rng;
use rand::rngs::StdRng;
use seshat::error::{Reason, Refusal};
use seshat::kv::{Command, Effect, OperationResult, Stamp, TxnOutcome, Write};
use seshat::node::Answer;
use seshat::types::{ClientId, LogIndex};

use crate::clients::{Before, KEYS, encode};
use crate::invariants::{Violation, numbered_writes_apply_once, room_is_refused_to_growth_alone};
use crate::revisions::Told;
use crate::transactions::Transactions;

/// Clients with a session.
const SESSIONS: u64 = 3;
/// Writes that a client has under way at most.
const OUTSTANDING: usize = 6;
/// How far back a client goes to repeat acknowledged writes.
const MEMORY: usize = 40;
/// Keys that are removed as well. Their histories are not checked for linearizability, because a missing
/// key does not show which removal it comes from; everything else is checked.
pub(crate) const REMOVED_KEYS: u64 = 2;
/// A client writes its session and its number, so that its value identifies a write.
const BASE: u64 = 1_000_000;

/// The session of a client, and the number of its write.
pub(crate) type Number = (u64, u64);

/// The number of the write that writes `value`, if it has one.
pub(crate) fn number_of(value: u64) -> Option<Number> {
    (value >= BASE).then_some((value / BASE, value % BASE))
}

/// A request, sent once or repeatedly.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Attempt {
    Open(u64),
    Write(Number),
}

/// The effect of a write, and its index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) index: LogIndex,
    /// Without the revisions of entries that it has read: a recovered cluster may give others to them.
    pub(crate) effect: Effect,
}

/// A numbered write, from its first attempt on.
#[derive(Debug)]
pub(crate) struct Numbered {
    pub(crate) write: Write,
    /// As it was first sent.
    stamp: Stamp,
    pub(crate) start: u64,
    /// What had been told by then.
    pub(crate) before: Before,
    pub(crate) done: Option<Done>,
}

/// One client.
#[derive(Debug, Default)]
struct Session {
    open: bool,
    /// Number 1 first.
    writes: Vec<Numbered>,
    /// The highest that it has sent.
    first_outstanding: u64,
}

impl Session {
    fn outstanding(&self) -> Vec<u64> {
        let writes = (1..).zip(&self.writes);
        let waiting = writes.filter(|(_, write)| write.done.is_none());
        waiting.map(|(number, _)| number).collect()
    }

    fn get(&mut self, sequence: u64) -> &mut Numbered {
        &mut self.writes[usize::try_from(sequence - 1).expect("small")]
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    /// Clients before this one have given up.
    first: u64,
    sessions: BTreeMap<u64, Session>,
    /// Repeated attempts.
    pub(crate) retries: u64,
}

impl Sessions {
    /// The next request of some client.
    pub(crate) fn ask(
        &mut self,
        rng: &mut StdRng,
        now: u64,
        before: Before,
        transactions: &mut Transactions,
    ) -> (Attempt, Command) {
        let client = self.first + rng.gen_range(1..=SESSIONS);
        let session = self.sessions.entry(client).or_default();
        if !session.open || rng.gen_bool(0.02) {
            let open = Command::OpenSession(ClientId(client));
            return (Attempt::Open(client), open);
        }
        let outstanding = session.outstanding();
        let next = u64::try_from(session.writes.len()).expect("small") + 1;
        let first_outstanding = outstanding.first().copied().unwrap_or(next);
        let sequence = if outstanding.len() < OUTSTANDING && rng.gen_bool(0.5) {
            let stamp = Stamp {
                client_id: ClientId(client),
                sequence: next,
                first_outstanding,
            };
            session.writes.push(Numbered {
                write: transactions.instead_of(draw(rng, (client, next))),
                stamp,
                start: now,
                before,
                done: None,
            });
            next
        } else {
            self.retries += 1;
            let recent = session.writes.len().saturating_sub(MEMORY);
            let any = (1..next).skip(recent).collect();
            let among = if outstanding.is_empty() || rng.gen_bool(0.3) {
                any
            } else {
                outstanding
            };
            match among.len() {
                // It has not written yet.
                0 => {
                    let open = Command::OpenSession(ClientId(client));
                    return (Attempt::Open(client), open);
                }
                len => among[rng.gen_range(0..len)],
            }
        };
        let write = session.get(sequence);
        let mut stamp = write.stamp;
        let write = write.write.clone();
        // Sent again, with what the client knows now, or byte for byte.
        if first_outstanding <= sequence && rng.gen_bool(0.5) {
            stamp.first_outstanding = first_outstanding;
        }
        session.first_outstanding = session.first_outstanding.max(stamp.first_outstanding);
        let stamp = Some(stamp);
        let command = Command::Write { write, stamp };
        (Attempt::Write((client, sequence)), command)
    }

    /// An attempt was answered; returns the write, if this is its first answer.
    pub(crate) fn told(
        &mut self,
        attempt: Attempt,
        told: &Told<'_>,
    ) -> Result<Option<&Numbered>, Violation> {
        let outcome = &told.outcome;
        let number = match attempt {
            Attempt::Open(client) | Attempt::Write((client, _)) if client <= self.first => {
                return Ok(None);
            }
            Attempt::Open(client) => {
                room_is_refused_to_growth_alone::check(None, outcome)?;
                if let Ok(Answer::SessionOpened { .. }) = outcome {
                    self.sessions.entry(client).or_default().open = true;
                }
                return Ok(None);
            }
            Attempt::Write(number) => number,
        };
        let session = self.sessions.entry(number.0).or_default();
        let forgotten = number.1 < session.first_outstanding;
        let write = session.get(number.1);
        room_is_refused_to_growth_alone::check(Some(&write.write), outcome)?;
        let (index, effect) = match (&write.write, outcome) {
            (Write::Set { .. }, Ok(Answer::Set { applied_index })) => (*applied_index, Effect::Set),
            (
                Write::Delete { .. },
                &Ok(Answer::Deleted {
                    existed,
                    applied_index,
                }),
            ) => (applied_index, Effect::Deleted { existed }),
            (Write::Txn(_), Ok(Answer::Txn { outcome, revision })) => {
                (*revision, Effect::Txn(outcome.clone()))
            }
            (Write::Txn(_), Err(refusal)) if let Some(owner) = expired_owner(refusal, number) => {
                let effect = Effect::OwnerExpired(owner);
                (told.log.once.index(number), effect)
            }
            (_, Err(refusal)) => {
                // Sessions are not given up here: only numbers that the client has given up expire.
                let expired = matches!(refusal.reason, Reason::SessionExpired { .. });
                let in_vain = expired && !forgotten;
                return match in_vain {
                    true => Err(numbered_writes_apply_once::expired(number)),
                    false => Ok(None),
                };
            }
            (_, Ok(answer)) => return Err(numbered_writes_apply_once::astray(number, answer)),
        };
        told.log.once.check(number, index, &effect)?;
        let done = Done {
            index,
            effect: without_revisions(effect),
        };
        if let Some(first) = &write.done {
            numbered_writes_apply_once::same(number, first, &done)?;
            return Ok(None);
        }
        write.done = Some(done);
        Ok(Some(write))
    }

    /// Every write, with its number.
    pub(crate) fn writes(&self) -> impl Iterator<Item = (Number, &Numbered)> {
        self.sessions.iter().flat_map(|(&client, session)| {
            let writes = (1..).zip(&session.writes);
            writes.map(move |(sequence, write)| ((client, sequence), write))
        })
    }

    /// Acknowledged writes may be lost: all clients begin anew.
    pub(crate) fn begin_anew(&mut self) {
        self.first += SESSIONS;
    }
}

/// The owner that the refusal of this write names. The session of the write never expires.
fn expired_owner(refusal: &Refusal, number: Number) -> Option<ClientId> {
    match refusal.reason {
        Reason::SessionNotLiving { client_id } if client_id.0 != number.0 => Some(client_id),
        _ => None,
    }
}

fn without_revisions(effect: Effect) -> Effect {
    let Effect::Txn(outcome) = effect else {
        return effect;
    };
    let mut outcome = TxnOutcome::clone(&outcome);
    for result in &mut outcome.results {
        if let OperationResult::Got(Some(entry)) = result {
            entry.revision = 0;
        }
    }
    Effect::Txn(outcome.into())
}

/// The effect of the write with this number.
fn draw(rng: &mut StdRng, (client, sequence): Number) -> Write {
    let removed = |rng: &mut StdRng| Bytes::from(format!("d{}", rng.gen_range(0..REMOVED_KEYS)));
    let value = encode(client * BASE + sequence);
    match rng.gen_range(0..10) {
        0 | 1 => Write::Delete { key: removed(rng) },
        2 | 3 => Write::Set {
            key: removed(rng),
            value,
        },
        _ => Write::Set {
            key: Bytes::from(format!("k{}", rng.gen_range(0..KEYS))),
            value,
        },
    }
}
