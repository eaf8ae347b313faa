//! The values that each key may have, to find wrong answers.
//!
//! The ledger knows every write from the moment when it is sent. Writes of one key that are in flight at
//! the same time may take effect in any order, so a read may return any of them. But a write that ended
//! before another one was sent is overwritten once that one is acknowledged. Hence each key has a
//! *floor*: the lowest write that a read may still return, if it is sent now. A write whose outcome is
//! unknown never ends, and its key's floor does not rise above it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use seshat::client::Applied;

use super::target::{Answer, Ask, Outcome};
use super::values::Values;

/// The keys of a run.
#[derive(Debug)]
pub(super) struct Ledger {
    values: Values,
    keys: Vec<Mutex<Key>>,
}

/// The state of one key.
#[derive(Debug, Default)]
struct Key {
    /// Number of writes that were sent. The next one has the number after it.
    sent: u32,
    /// The writes that have not ended.
    open: Open,
    /// Removals that have not ended.
    removing: u32,
    /// The lowest write that a read may return. 0: the key may be missing.
    floor: u32,
    /// Log index of the latest acknowledged write.
    index: u64,
    /// Removals that found the key.
    removals: u32,
}

/// Writes of one key that have not ended, in two generations: the older ones, and those that were sent
/// while an older one was open. This is enough to know a lower bound of the open writes, even if some
/// write is always in flight.
#[derive(Debug, Default)]
struct Open {
    older: Generation,
    newer: Generation,
}

#[derive(Debug, Default)]
struct Generation {
    count: u32,
    /// The first write of the generation.
    lowest: u32,
}

impl Open {
    /// Notes that a write is sent. Returns the lowest one that may be in flight now.
    fn begin(&mut self, version: u32) -> u32 {
        let generation = match self.older.count {
            0 => &mut self.older,
            _ => &mut self.newer,
        };
        if generation.count == 0 {
            generation.lowest = version;
        }
        generation.count += 1;
        self.older.lowest
    }

    /// Notes that a write has ended.
    fn end(&mut self, version: u32) {
        if self.newer.count > 0 && version >= self.newer.lowest {
            self.newer.count -= 1;
            return;
        }
        self.older.count = self.older.count.saturating_sub(1);
        if self.older.count == 0 {
            self.older = std::mem::take(&mut self.newer);
        }
    }
}

/// A command that was sent, and the state of its key at that time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    key: u32,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Set {
        version: u32,
        /// The lowest write that may have been in flight, including this one.
        lowest_open: u32,
        index: u64,
    },
    Get {
        floor: u32,
    },
    Del,
}

/// A description, for people, of an answer that no correct cluster gives.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong(pub(super) String);

impl Ledger {
    /// A ledger of `keys` keys without writes.
    pub(super) fn new(values: Values, keys: u32) -> Self {
        Self {
            values,
            keys: (0..keys).map(|_| Mutex::default()).collect(),
        }
    }

    /// The keys and values of the run.
    pub(super) fn values(&self) -> &Values {
        &self.values
    }

    /// The next write of a key.
    pub(super) fn set(&self, number: u32) -> (Ask, Sent) {
        let (version, what) = self.with(number, |key| {
            key.sent = key.sent.saturating_add(1);
            let version = key.sent;
            let what = What::Set {
                version,
                lowest_open: key.open.begin(version),
                index: key.index,
            };
            (version, what)
        });
        let value = self.values.value(number, version);
        let key = self.values.key(number);
        (Ask::Set { key, value }, Sent { key: number, what })
    }

    /// A read of a key.
    pub(super) fn get(&self, number: u32) -> (Ask, Sent) {
        let floor = self.with(number, |key| key.floor);
        let what = What::Get { floor };
        let key = self.values.key(number);
        (Ask::Get { key }, Sent { key: number, what })
    }

    /// A removal of a key. A caller that removes keys must not write them at the same time.
    pub(super) fn del(&self, number: u32) -> (Ask, Sent) {
        self.with(number, |key| key.removing += 1);
        let (key, what) = (self.values.key(number), What::Del);
        (Ask::Del { key }, Sent { key: number, what })
    }

    /// Records the outcome of a command.
    ///
    /// # Errors
    ///
    /// The answer is wrong.
    pub(super) fn settle(&self, sent: Sent, outcome: &Outcome) -> Result<(), Wrong> {
        let number = sent.key;
        match (sent.what, outcome) {
            (What::Get { floor }, Ok(Answer::Got { value })) => {
                self.check(number, floor, value.as_ref())
            }
            (What::Get { .. }, Err(_)) => Ok(()),
            (
                What::Set {
                    version,
                    lowest_open,
                    index,
                },
                Ok(Answer::Set { applied_index }),
            ) => {
                let newer = *applied_index > index;
                self.with(number, |key| {
                    key.open.end(version);
                    if *applied_index > key.index {
                        key.index = *applied_index;
                        key.floor = key.floor.max(lowest_open);
                    }
                });
                let wrong = || format!("was written at log index {applied_index}, behind {index}");
                newer
                    .then_some(())
                    .ok_or_else(|| self.wrong(number, wrong()))
            }
            (What::Del, Ok(Answer::Deleted { existed })) => self.removed(number, *existed),
            // If a write may still be applied, its end is unknown.
            (_, Err(refused)) if refused.applied == Applied::Unknown => Ok(()),
            (What::Set { version, .. }, Err(_)) => {
                self.with(number, |key| key.open.end(version));
                Ok(())
            }
            (What::Del, Err(_)) => {
                self.with(number, |key| key.removing = key.removing.saturating_sub(1));
                Ok(())
            }
            (_, Ok(_)) => Err(self.wrong(number, "got the answer to another command")),
        }
    }

    fn check(&self, number: u32, floor: u32, value: Option<&Bytes>) -> Result<(), Wrong> {
        let Some(value) = value else {
            return match floor {
                0 => Ok(()),
                _ => Err(self.wrong(number, "is missing, although a write was acknowledged")),
            };
        };
        let version = self.values.version(number, value);
        let version =
            version.map_err(|wrong| self.wrong(number, format!("holds a value that {wrong}")))?;
        let sent = self.with(number, |key| key.sent);
        if version > sent {
            return Err(self.wrong(number, "holds a value that was not written yet"));
        }
        if version < floor {
            return Err(self.wrong(
                number,
                format!(
                    "holds write {version}, although write {floor} or a later one was acknowledged"
                ),
            ));
        }
        Ok(())
    }

    fn removed(&self, number: u32, existed: bool) -> Result<(), Wrong> {
        let wrong = self.with(number, |key| {
            key.removing = key.removing.saturating_sub(1);
            key.removals = key.removals.saturating_add(u32::from(existed));
            match (existed, key.removals) {
                (true, removals) if removals > key.sent => {
                    Some("was removed more often than it was written")
                }
                // A removal by another client would be counted, or would be in flight.
                (false, 0) if key.floor > 0 && key.removing == 0 => {
                    Some("was not there to be removed, although a write was acknowledged")
                }
                _ => None,
            }
        });
        wrong.map_or(Ok(()), |wrong| Err(self.wrong(number, wrong)))
    }

    /// The keys whose reads can be checked: those with an acknowledged write and no removal.
    pub(super) fn known(&self) -> Vec<u32> {
        self.numbers(|key| key.floor > 0 && key.removals == 0)
    }

    /// The keys that are surely gone: removed as often as written.
    pub(super) fn gone(&self) -> Vec<u32> {
        self.numbers(|key| key.removals > 0 && key.removals >= key.sent)
    }

    /// The keys that may exist.
    pub(super) fn written(&self) -> Vec<u32> {
        self.numbers(|key| key.sent > 0)
    }

    /// Checks the read of a key that is surely gone.
    ///
    /// # Errors
    ///
    /// The key exists.
    pub(super) fn settle_missing(&self, number: u32, outcome: &Outcome) -> Result<(), Wrong> {
        match outcome {
            Ok(Answer::Got { value: Some(_) }) => {
                Err(self.wrong(number, "is there, although it was removed"))
            }
            _ => Ok(()),
        }
    }

    fn numbers(&self, wanted: impl Fn(&Key) -> bool) -> Vec<u32> {
        let numbered = (0u32..).zip(&self.keys);
        numbered
            .filter(|(_, key)| wanted(&locked(key)))
            .map(|(number, _)| number)
            .collect()
    }

    fn with<T>(&self, number: u32, change: impl FnOnce(&mut Key) -> T) -> T {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        match self.keys.get(at) {
            Some(key) => change(&mut locked(key)),
            // Such a key is never requested.
            None => change(&mut Key::default()),
        }
    }

    fn wrong(&self, number: u32, what: impl std::fmt::Display) -> Wrong {
        let key = self.values.key(number);
        Wrong(format!("{} {what}", String::from_utf8_lossy(&key)))
    }
}

fn locked(key: &Mutex<Key>) -> MutexGuard<'_, Key> {
    key.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::target::Refused;

    fn ledger() -> Ledger {
        Ledger::new(Values::new(1, 32), 4)
    }

    fn value(ask: &Ask) -> Bytes {
        match ask {
            Ask::Set { value, .. } => value.clone(),
            _ => panic!("{ask:?}"),
        }
    }

    fn acknowledged(applied_index: u64) -> Outcome {
        Ok(Answer::Set { applied_index })
    }

    fn got(value: Option<Bytes>) -> Outcome {
        Ok(Answer::Got { value })
    }

    fn lost() -> Outcome {
        Err(Refused {
            kind: "timeout",
            message: String::new(),
            applied: Applied::Unknown,
        })
    }

    /// Writes a value, and has it acknowledged. Returns the value.
    fn write(ledger: &Ledger, index: u64) -> Bytes {
        let (ask, sent) = ledger.set(0);
        assert_eq!(ledger.settle(sent, &acknowledged(index)), Ok(()));
        value(&ask)
    }

    fn read(ledger: &Ledger, value: Option<&Bytes>) -> bool {
        let (_, sent) = ledger.get(0);
        ledger.settle(sent, &got(value.cloned())).is_ok()
    }

    #[test]
    fn a_read_gives_the_last_acknowledged_write() {
        let ledger = ledger();
        assert!(read(&ledger, None));
        let first = write(&ledger, 1);
        assert!(read(&ledger, Some(&first)));
        assert!(!read(&ledger, None), "a lost write");
        let second = write(&ledger, 2);
        assert!(read(&ledger, Some(&second)));
        assert!(!read(&ledger, Some(&first)), "a stale read");
        let other = ledger.values().value(1, 1);
        assert!(!read(&ledger, Some(&other)), "the value of another key");
        let future = ledger.values().value(0, 3);
        assert!(
            !read(&ledger, Some(&future)),
            "a value that was never written"
        );
        assert!(!read(&ledger, Some(&second.slice(..31))), "a short value");
    }

    #[test]
    fn a_read_that_was_sent_before_a_write_was_acknowledged_may_miss_it() {
        let ledger = ledger();
        let first = write(&ledger, 1);
        let (_, before) = ledger.get(0);
        let second = write(&ledger, 2);
        assert!(ledger.settle(before, &got(Some(first))).is_ok());
        assert!(ledger.settle(before, &got(Some(second))).is_ok());
    }

    #[test]
    fn writes_under_way_at_once_may_take_effect_in_any_order() {
        let ledger = ledger();
        let zeroth = write(&ledger, 1);
        let (one, one_sent) = ledger.set(0);
        let (two, two_sent) = ledger.set(0);
        ledger.settle(two_sent, &acknowledged(2)).unwrap();
        ledger.settle(one_sent, &acknowledged(3)).unwrap();
        assert!(read(&ledger, Some(&value(&one))));
        assert!(read(&ledger, Some(&value(&two))));
        assert!(!read(&ledger, Some(&zeroth)));
    }

    #[test]
    fn a_write_of_unknown_outcome_may_take_effect_at_any_time() {
        let ledger = ledger();
        let zeroth = write(&ledger, 1);
        let (unknown, sent) = ledger.set(0);
        ledger.settle(sent, &lost()).unwrap();
        assert!(read(&ledger, Some(&zeroth)));
        write(&ledger, 2);
        assert!(read(&ledger, Some(&value(&unknown))));
        assert!(!read(&ledger, Some(&zeroth)));
    }

    /// As on a busy stream: each write is sent before the previous one is acknowledged.
    #[test]
    fn old_writes_are_stale_even_if_some_write_is_always_under_way() {
        let ledger = ledger();
        let (first, mut before) = ledger.set(0);
        for index in 1..10 {
            let (_, next) = ledger.set(0);
            ledger.settle(before, &acknowledged(index)).unwrap();
            before = next;
        }
        assert!(!read(&ledger, Some(&value(&first))));
        assert!(!read(&ledger, Some(&ledger.values().value(0, 6))));
        assert!(read(&ledger, Some(&ledger.values().value(0, 9))));
        assert!(read(&ledger, Some(&ledger.values().value(0, 10))));
    }

    #[test]
    fn log_indices_grow() {
        let ledger = ledger();
        write(&ledger, 7);
        let (_, sent) = ledger.set(0);
        assert!(ledger.settle(sent, &acknowledged(7)).is_err());
    }

    #[test]
    fn a_key_is_removed_once() {
        let removed = |existed| Ok(Answer::Deleted { existed });
        let ledger = ledger();
        write(&ledger, 1);
        let ((_, one), (_, two)) = (ledger.del(0), ledger.del(0));
        assert!(ledger.settle(one, &removed(false)).is_ok(), "the other did");
        assert!(ledger.settle(two, &removed(true)).is_ok());
        let (_, three) = ledger.del(0);
        assert!(ledger.settle(three, &removed(true)).is_err());
        assert_eq!((ledger.gone(), ledger.known()), (vec![0], vec![]));

        let ledger = Ledger::new(Values::new(1, 32), 1);
        write(&ledger, 1);
        let (_, one) = ledger.del(0);
        assert!(ledger.settle(one, &removed(false)).is_err(), "a lost write");
    }
}
