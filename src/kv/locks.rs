//! Locks: each is held by one claim at a time, and the others wait in the order of the log.
//!
//! A *claim* is one `Acquire` of a session, under the number that the session gave it. So an `Acquire` that
//! arrives twice is the same claim, and two tasks of one client have two. A claim ends when it is released,
//! when its session ends, or when it has waited for as long as it wanted to; a broken connection ends none.
//! The *token* of a lock is the revision at which its claim began to hold it. Revisions never go back, so a
//! later holder has a higher token, and another resource can refuse an earlier one by it.
//!
//! This file knows neither the clock nor sessions. The state machine ends claims, and says which may hold a
//! lock: not one whose session is over, although it has not been removed yet.

use std::ops::{Bound, RangeInclusive};
use std::sync::Arc;

use imbl::{OrdMap, Vector};

use crate::types::{ClientId, Revision, Value};

/// Maximum number of locks that are held.
pub const MAX_LOCKS: usize = 65_536;
/// Maximum number of claims, of all locks together.
pub const MAX_CLAIMS: usize = 65_536;
/// Maximum bytes of the name of a lock.
pub const MAX_LOCK_NAME_BYTES: usize = 256;
/// Maximum bytes of the value of a claim.
pub const MAX_CLAIM_VALUE_BYTES: usize = 4096;
/// Memory of a claim beside the bytes of its name and its value: its parts of the nodes of three maps and of
/// its queue, and three allocations.
const CLAIM_MEMORY: usize = 512;

/// The name of a lock. At least 1 byte, at most [`MAX_LOCK_NAME_BYTES`].
pub type LockName = Arc<str>;

/// The identity of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimId {
    /// The session.
    pub client_id: ClientId,
    /// The number of its `Acquire` in the session.
    pub sequence: u64,
}

impl ClaimId {
    /// All claims that a session may have.
    fn all_of(client_id: ClientId) -> RangeInclusive<Self> {
        let claim = |sequence| Self {
            client_id,
            sequence,
        };
        claim(0)..=claim(u64::MAX)
    }
}

/// A claim to a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Its identity.
    pub id: ClaimId,
    /// The value that observers of the lock see while it holds the lock.
    pub value: Value,
    /// The clock at which it ends if it still waits, in milliseconds. `None`: never.
    pub deadline: Option<u64>,
}

/// The holder of a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its claim.
    pub claim: ClaimId,
    /// The revision at which it began to hold the lock.
    pub token: Revision,
    /// The value of the claim.
    pub value: Value,
}

/// The state of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimState {
    /// It holds the lock, under this token.
    Held(Revision),
    /// It waits, with so many claims ahead of it, the holder included.
    Waiting(u64),
    /// It has ended, or has never begun.
    Gone,
}

/// The place of a claim: the revision at which it began.
type Place = (LockName, Revision);

/// All claims to a lock, in ascending order of the revisions at which they began. A vector and no map, because it
/// tells the position of a claim without a count of those ahead.
type Queue = Vector<(Revision, Arc<Claim>)>;

/// A queue gives memory back when it shrinks to a power of two up to this length.
const SHORT_QUEUE: usize = 64;

/// All locks. A clone shares what neither copy changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Locks {
    /// Only locks with claims.
    queues: OrdMap<LockName, Queue>,
    places: OrdMap<ClaimId, Place>,
    /// The claim that holds each lock, and the token. A lock without an entry is free.
    holders: OrdMap<LockName, (Revision, Revision)>,
    memory: usize,
}

/// A claim that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The lock.
    pub name: LockName,
    /// The claim.
    pub claim: Arc<Claim>,
    /// Whether it held the lock, which is free now.
    pub held: bool,
}

/// Memory of a claim in bytes. An estimate, rather too high than too low.
pub const fn claim_memory(name: usize, value: usize) -> usize {
    name.saturating_add(value).saturating_add(CLAIM_MEMORY)
}

/// The position of the claim that began at `revision`. `Err`: where it would be.
fn position(queue: &Queue, revision: Revision) -> Result<usize, usize> {
    queue.binary_search_by(|(began, _)| {
        #[cfg(test)]
        tests::COMPARED.set(tests::COMPARED.get() + 1);
        began.cmp(&revision)
    })
}

impl Locks {
    /// Adds a claim that begins with the command of `revision`, and waits. A free lock then has to be
    /// [granted](Self::grant).
    pub fn add(&mut self, name: &LockName, claim: Claim, revision: Revision) {
        self.memory += claim_memory(name.len(), claim.value.len());
        self.places.insert(claim.id, (Arc::clone(name), revision));
        let queue = self.queues.entry(Arc::clone(name)).or_default();
        // A revision has one command, and a command makes one claim.
        let at = position(queue, revision).unwrap_or_else(|at| at);
        queue.insert(at, (revision, Arc::new(claim)));
    }

    /// Gives a free lock to the first claim that may hold it, under the token `revision`. Returns that claim.
    pub fn grant(
        &mut self,
        name: &LockName,
        revision: Revision,
        may_hold: impl Fn(&Claim) -> bool,
    ) -> Option<Arc<Claim>> {
        if self.holders.contains_key(name) {
            return None;
        }
        let mut queue = self.queues.get(name)?.iter();
        let (began, claim) = queue.find(|(_, claim)| may_hold(claim))?;
        let (began, claim) = (*began, Arc::clone(claim));
        self.holders.insert(Arc::clone(name), (began, revision));
        Some(claim)
    }

    /// Ends a claim. If it held the lock, that has to be [granted](Self::grant) anew.
    pub fn end(&mut self, id: ClaimId) -> Option<Ended> {
        let (name, began) = self.places.remove(&id)?;
        let claim = self.leave(&name, began)?;
        self.memory -= claim_memory(name.len(), claim.value.len());
        let held = self.holders.get(&name).is_some_and(|(by, _)| *by == began);
        if held {
            self.holders.remove(&name);
        }
        Some(Ended { name, claim, held })
    }

    /// Removes the claim that began at `began` from the queue of its lock.
    fn leave(&mut self, name: &LockName, began: Revision) -> Option<Arc<Claim>> {
        let queue = self.queues.get_mut(name)?;
        let (_, claim) = queue.remove(position(queue, began).ok()?);
        match queue.len() {
            0 => _ = self.queues.remove(name),
            len if len <= SHORT_QUEUE && len.is_power_of_two() => {
                *queue = queue.iter().cloned().collect();
            }
            _ => {}
        }
        Some(claim)
    }

    /// The claims of a session, in ascending order of their numbers.
    pub fn claims_of(&self, client_id: ClientId) -> impl Iterator<Item = ClaimId> {
        let claims = self.places.range(ClaimId::all_of(client_id));
        claims.map(|(id, _)| *id)
    }

    /// The state of a claim to the lock `name`.
    pub fn state(&self, name: &str, id: ClaimId) -> ClaimState {
        let place = self.places.get(&id).filter(|(of, _)| **of == *name);
        let Some((name, began)) = place else {
            return ClaimState::Gone;
        };
        match self.holders.get(name) {
            Some((by, token)) if by == began => ClaimState::Held(*token),
            _ => {
                let queue = self.queues.get(name);
                let ahead = queue.and_then(|queue| position(queue, *began).ok());
                let ahead = ahead.and_then(|ahead| u64::try_from(ahead).ok());
                ahead.map_or(ClaimState::Gone, ClaimState::Waiting)
            }
        }
    }

    /// The claim `id`, if it has not ended.
    pub fn claim(&self, id: ClaimId) -> Option<&Arc<Claim>> {
        let (name, began) = self.places.get(&id)?;
        self.at(name, *began)
    }

    /// The claim to the lock `name` that began at `began`.
    fn at(&self, name: &LockName, began: Revision) -> Option<&Arc<Claim>> {
        let queue = self.queues.get(name)?;
        let (_, claim) = queue.get(position(queue, began).ok()?)?;
        Some(claim)
    }

    /// The holder of the lock `name`. `None`: it is free.
    pub fn holder(&self, name: &str) -> Option<Holder> {
        let (name, (began, token)) = self.holders.get_key_value(name)?;
        let claim = self.at(name, *began)?;
        Some(Holder {
            claim: claim.id,
            token: *token,
            value: claim.value.clone(),
        })
    }

    /// The number of claims that wait for the lock `name`.
    pub fn waiting(&self, name: &str) -> u64 {
        if !self.holders.contains_key(name) {
            return 0;
        }
        let claims = self.queues.get(name).map_or(0, Vector::len);
        u64::try_from(claims.saturating_sub(1)).unwrap_or(u64::MAX)
    }

    /// The names of the locks that are held, behind `after`, in ascending order.
    pub fn names(&self, after: Option<&LockName>) -> impl Iterator<Item = &LockName> + use<'_> {
        let after = after.cloned().map_or(Bound::Unbounded, Bound::Excluded);
        let all = self.holders.range((after, Bound::Unbounded));
        all.map(|(name, _)| name)
    }

    /// The number of locks that are held.
    pub fn held(&self) -> usize {
        self.holders.len()
    }

    /// The number of claims.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is no claim.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Memory of all claims in bytes.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Every claim in the order of its lock's name, then of its beginning: the lock, the revision at which
    /// it began, and the token if it holds the lock.
    pub fn all(
        &self,
    ) -> impl Iterator<Item = (&LockName, Revision, &Arc<Claim>, Option<Revision>)> {
        self.queues.iter().flat_map(|(name, queue)| {
            let holder = self.holders.get(name);
            queue.iter().map(move |(began, claim)| {
                let holder = holder.filter(|(by, _)| by == began);
                (name, *began, claim, holder.map(|(_, token)| *token))
            })
        })
    }

    /// Restores a claim from a snapshot.
    pub fn restore(
        &mut self,
        name: &LockName,
        began: Revision,
        claim: Claim,
        token: Option<Revision>,
    ) {
        self.add(name, claim, began);
        if let Some(token) = token {
            self.holders.insert(Arc::clone(name), (began, token));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    thread_local! {
        /// Claims that [`position`] has compared.
        pub(super) static COMPARED: Cell<usize> = const { Cell::new(0) };
    }

    fn id(client: u64, sequence: u64) -> ClaimId {
        ClaimId {
            client_id: ClientId(client),
            sequence,
        }
    }

    fn claim(id: ClaimId) -> Claim {
        Claim {
            id,
            value: Value::from(id.client_id.to_string()),
            deadline: None,
        }
    }

    fn name(name: &str) -> LockName {
        name.into()
    }

    /// The claim `id` asks for `a` at `revision`.
    fn acquire(locks: &mut Locks, id: ClaimId, revision: Revision) -> ClaimState {
        locks.add(&name("a"), claim(id), revision);
        locks.grant(&name("a"), revision, |_| true);
        locks.state("a", id)
    }

    #[test]
    fn the_first_claim_holds_and_the_others_wait_in_their_order() {
        let mut locks = Locks::default();
        let (one, other, third) = (id(7, 1), id(8, 1), id(7, 2));
        assert_eq!(acquire(&mut locks, one, 10), ClaimState::Held(10));
        assert_eq!(acquire(&mut locks, other, 11), ClaimState::Waiting(1));
        assert_eq!(acquire(&mut locks, third, 12), ClaimState::Waiting(2));
        assert_eq!((locks.held(), locks.len(), locks.waiting("a")), (1, 3, 2));
        let ended = locks.end(one).unwrap();
        assert!(ended.held && ended.claim.id == one && &*ended.name == "a");
        assert_eq!(locks.holder("a"), None);
        let next = locks.grant(&name("a"), 20, |_| true);
        assert_eq!(next.map(|next| next.id), Some(other));
        assert_eq!(locks.state("a", other), ClaimState::Held(20));
        assert_eq!(locks.state("a", third), ClaimState::Waiting(1));
        assert_eq!(locks.state("a", one), ClaimState::Gone);
        let holder = locks.holder("a").unwrap();
        assert_eq!((holder.claim, holder.token), (other, 20));
        assert_eq!(holder.value, ClientId(8).to_string());
        assert_eq!(locks.grant(&name("a"), 21, |_| true), None, "it is held");
    }

    #[test]
    fn a_claim_that_stops_waiting_frees_nothing() {
        let mut locks = Locks::default();
        acquire(&mut locks, id(7, 1), 10);
        acquire(&mut locks, id(8, 1), 11);
        assert!(!locks.end(id(8, 1)).unwrap().held);
        assert_eq!(locks.end(id(8, 1)), None);
        assert_eq!(locks.state("a", id(7, 1)), ClaimState::Held(10));
        assert_eq!((locks.waiting("a"), locks.waiting("b")), (0, 0));
    }

    #[test]
    fn a_claim_that_may_not_hold_is_passed_over() {
        let mut locks = Locks::default();
        for (client, revision) in [(7, 10), (8, 11), (9, 12)] {
            acquire(&mut locks, id(client, 1), revision);
        }
        locks.end(id(7, 1));
        let over = |claim: &Claim| claim.id != id(8, 1);
        locks.grant(&name("a"), 20, over);
        assert_eq!(locks.state("a", id(9, 1)), ClaimState::Held(20));
        assert_eq!(locks.state("a", id(8, 1)), ClaimState::Waiting(0));
        assert!(!locks.end(id(8, 1)).unwrap().held);
        assert_eq!(locks.state("a", id(9, 1)), ClaimState::Held(20));
        locks.end(id(9, 1));
        assert_eq!(locks.grant(&name("a"), 21, |_| true), None);
        assert_eq!((locks.memory(), locks.is_empty()), (0, true));
    }

    #[test]
    fn a_claim_belongs_to_the_lock_that_it_names() {
        let mut locks = Locks::default();
        acquire(&mut locks, id(7, 1), 10);
        assert_eq!(locks.state("b", id(7, 1)), ClaimState::Gone);
        assert_eq!(locks.claim(id(7, 1)).map(|claim| claim.id), Some(id(7, 1)));
        assert_eq!(locks.claim(id(7, 2)), None);
        assert_eq!(locks.claims_of(ClientId(7)).collect::<Vec<_>>(), [id(7, 1)]);
        assert_eq!(locks.claims_of(ClientId(6)).count(), 0);
        assert_eq!(locks.memory(), claim_memory(1, 16));
    }

    #[test]
    fn names_are_listed_from_one_on() {
        let mut locks = Locks::default();
        for (sequence, it) in [(1, "b"), (2, "a"), (3, "ab")] {
            locks.add(&name(it), claim(id(7, sequence)), sequence);
            locks.grant(&name(it), sequence, |_| true);
        }
        let names = |after: Option<&str>| {
            let after = after.map(name);
            let names = locks.names(after.as_ref());
            names.map(|name| name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(None), ["a", "ab", "b"]);
        assert_eq!(names(Some("a")), ["ab", "b"]);
        assert_eq!(names(Some("b")), [""; 0]);
    }

    #[test]
    fn the_position_in_a_long_queue_is_found_without_a_count() {
        let mut locks = Locks::default();
        let all = 65_536;
        for sequence in 1..=all {
            locks.add(&name("a"), claim(id(7, sequence)), sequence);
        }
        locks.grant(&name("a"), all, |_| true);
        // Some leave, so that the numbers of the others tell no position.
        for sequence in (2..=all).filter(|sequence| sequence % 3 == 0) {
            locks.end(id(7, sequence));
        }
        for sequence in [2, 4, 32_768, 65_536] {
            COMPARED.set(0);
            let ahead = sequence - 1 - sequence / 3;
            let state = locks.state("a", id(7, sequence));
            assert_eq!(state, ClaimState::Waiting(ahead));
            let compared = COMPARED.get();
            assert!((1..=20).contains(&compared), "{compared} of {all}");
        }
        assert_eq!(locks.waiting("a"), all - 1 - all / 3);
    }

    #[test]
    fn a_queue_that_was_long_is_as_small_as_one_that_was_not() {
        let mut locks = Locks::default();
        for sequence in 1..=200 {
            locks.add(&name("a"), claim(id(7, sequence)), sequence);
        }
        for sequence in 1..=198 {
            locks.end(id(7, sequence));
        }
        let queue = locks.queues.get("a");
        assert!(queue.is_some_and(|queue| queue.is_inline() && queue.len() == 2));
        locks.end(id(7, 199));
        locks.end(id(7, 200));
        assert_eq!(locks, Locks::default());
    }

    proptest! {
        /// Any claims to a few locks end as in a list, in which the first one holds; and a copy that a
        /// snapshot restores is equal.
        #[test]
        fn a_lock_is_a_queue(steps in prop::collection::vec((0u64..12, 0u8..3, any::<bool>()), 0..60)) {
            let mut model: Vec<(LockName, ClaimId)> = Vec::new();
            let mut tokens = std::collections::BTreeMap::new();
            let mut locks = Locks::default();
            for (revision, (client, lock, adds)) in (1..).zip(steps) {
                let id = id(client, 1);
                let lock = name(["a", "b", "c"][usize::from(lock)]);
                if adds && !model.iter().any(|(_, other)| *other == id) {
                    model.push((lock.clone(), id));
                    locks.add(&lock, claim(id), revision);
                    locks.grant(&lock, revision, |_| true);
                } else {
                    model.retain(|(_, other)| *other != id);
                    if let Some(ended) = locks.end(id) {
                        locks.grant(&ended.name, revision, |_| true);
                    }
                }
                for (lock, id) in &model {
                    let mut ahead = model.iter().filter(|(name, _)| name == lock);
                    let ahead = ahead.position(|(_, other)| other == id).unwrap();
                    let state = locks.state(lock, *id);
                    let is_right = match ahead {
                        0 => matches!(state, ClaimState::Held(_)),
                        _ => state == ClaimState::Waiting(ahead.try_into().unwrap()),
                    };
                    prop_assert!(is_right, "{:?} with {} ahead", state, ahead);
                }
                for lock in ["a", "b", "c"] {
                    let first = model.iter().find(|(name, _)| **name == *lock);
                    let holder = locks.holder(lock);
                    prop_assert_eq!(first.map(|(_, id)| *id), holder.as_ref().map(|holder| holder.claim));
                    if let Some(holder) = holder {
                        let last = tokens.insert(lock, (holder.claim, holder.token));
                        let goes_on = last.is_none_or(|last| last.0 == holder.claim || last.1 < holder.token);
                        prop_assert!(goes_on, "tokens ascend");
                    }
                }
            }
            let mut copy = Locks::default();
            for (name, began, claim, token) in locks.all() {
                copy.restore(name, began, Claim::clone(claim), token);
            }
            prop_assert_eq!(copy, locks);
        }
    }
}
