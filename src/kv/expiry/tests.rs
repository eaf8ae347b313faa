//! Tests of what begins and ends by the clock.

use proptest::prelude::*;

use super::*;
use crate::kv::{
    Command, Entry, Found, KEY_TTL, LIVING_SESSION_MEMORY, MAX_LIVING_ANSWER_BYTES,
    MAX_LIVING_SESSIONS, MAX_REMEMBERED_BYTES, MAX_STEP, OperationResult, Query, SESSION_TTL,
    Stamp, Txn, Write, lifetime_memory, pair_memory,
};
use crate::types::{Revision, WallTime};

const BASE: Revision = WallTime::FIRST.micros();

/// A state and the index of its next command.
struct Log {
    state: StateMachine,
    next: LogIndex,
}

impl Log {
    fn new() -> Self {
        Self {
            state: StateMachine::default().with_revisions_from(Some(WallTime::FIRST)),
            next: 1,
        }
    }

    fn apply(&mut self, command: impl Into<Command>) -> Effect {
        let index = self.next;
        self.next += 1;
        self.state.apply(index, command.into()).effect
    }

    fn set(&mut self, key: &str, lifetime: SetLifetime) -> Effect {
        self.apply(txn(vec![set(key, lifetime)]))
    }

    fn open(&mut self, client_id: u64, ttl: Millis) -> Effect {
        let client_id = ClientId(client_id);
        self.apply(Command::OpenLivingSession { client_id, ttl })
    }

    fn clock(&mut self, step: Millis, renewed: &[u64]) {
        let renewed = renewed.iter().copied().map(ClientId).collect();
        let effect = self.apply(Command::Clock { step, renewed });
        assert_eq!(effect, Effect::ClockAdvanced);
    }

    /// Moves the clock by `millis`, in steps as large as possible.
    fn pass(&mut self, millis: Millis) {
        for _ in 0..millis / MAX_STEP {
            self.clock(MAX_STEP, &[]);
        }
        self.clock(millis % MAX_STEP, &[]);
    }

    fn has(&self, key: &str) -> bool {
        self.state.get(key.as_bytes()).is_some()
    }

    fn lives(&self, client_id: u64) -> bool {
        self.state.session_ttl(ClientId(client_id)).is_some()
    }
}

fn set(key: &str, lifetime: SetLifetime) -> Operation {
    Operation::Set {
        key: Key::from(key.to_owned()),
        value: Key::from("v"),
        lifetime,
    }
}

fn ttl(millis: Millis) -> SetLifetime {
    SetLifetime::To(Lifetime::Ttl(millis))
}

fn owner(client_id: u64) -> SetLifetime {
    SetLifetime::To(Lifetime::Owner(ClientId(client_id)))
}

fn txn(success: Vec<Operation>) -> Write {
    Write::Txn(Box::new(Txn {
        conditions: Vec::new(),
        success,
        failure: Vec::new(),
    }))
}

fn stamped(write: Write, client_id: u64, sequence: u64) -> Command {
    let stamp = Some(Stamp {
        client_id: ClientId(client_id),
        sequence,
        first_outstanding: 1,
    });
    Command::Write { write, stamp }
}

fn done(effect: &Effect) -> bool {
    matches!(effect, Effect::Txn(_))
}

#[test]
fn a_key_ends_when_its_ttl_has_been_counted_and_never_earlier() {
    let mut log = Log::new();
    log.clock(300, &[]);
    assert!(done(&log.set("k", ttl(1_000))));
    // The first step may hold time from before the write.
    log.pass(MAX_STEP + 999);
    assert!(log.has("k"));
    let entry = log.state.entry(b"k").expect("bound");
    assert_eq!(entry.lifetime, Lifetime::Ttl(1_000), "as it was set");
    log.clock(1, &[]);
    assert!(!log.has("k"));
    assert_eq!(log.state, {
        let now = log.state.clock().now();
        let revisions = log.state.revisions();
        let empty = StateMachine::default().with_revisions(revisions);
        empty.with_clock(now)
    });
}

#[test]
fn a_step_counts_as_500_ms_at_most() {
    let mut log = Log::new();
    log.clock(60_000, &[]);
    assert_eq!(log.state.clock().now(), MAX_STEP);
}

#[test]
fn the_last_write_decides_the_lifetime() {
    let mut log = Log::new();
    log.open(7, 3_600_000);
    for (key, next) in [
        ("longer", ttl(60_000)),
        ("for ever", SetLifetime::default()),
        ("owned", owner(7)),
    ] {
        log.set(key, ttl(1_000));
        log.set(key, next);
    }
    log.set("set", ttl(1_000));
    let (key, value) = (Key::from("set"), Key::from("v"));
    log.apply(Write::Set { key, value });
    log.set("set again", ttl(1_000));
    log.apply(txn(vec![Operation::Delete("set again".into())]));
    log.apply(txn(vec![set("set again", SetLifetime::default())]));
    log.set("removed", owner(7));
    let key = Key::from("removed");
    log.apply(Write::Delete { key });
    log.pass(10_000);
    let left = log.state.sorted_pairs().into_iter();
    let left: Vec<_> = left.map(|(key, _)| key).collect();
    let expected: [&[u8]; 5] = [b"for ever", b"longer", b"owned", b"set", b"set again"];
    assert_eq!(left, expected);
    let lifetimes = ["for ever", "longer", "owned", "set"].map(|key| {
        let entry = log.state.entry(key.as_bytes());
        entry.map(|entry| entry.lifetime)
    });
    let owned = Lifetime::Owner(ClientId(7));
    assert_eq!(
        lifetimes.map(Option::unwrap),
        [
            Lifetime::Unlimited,
            Lifetime::Ttl(60_000),
            owned,
            Lifetime::Unlimited
        ]
    );
    let living = log.state.sessions().living().get(ClientId(7));
    assert_eq!(living.map(|it| it.owned.len()), Some(1));
}

#[test]
fn a_kept_lifetime_goes_on_and_does_not_begin_again() {
    let mut log = Log::new();
    log.open(7, 2_000);
    log.set("timed", ttl(2_000));
    log.set("owned", owner(7));
    log.pass(2_000);
    for key in ["timed", "owned", "missing"] {
        assert!(done(&log.set(key, SetLifetime::Keep)));
    }
    log.pass(MAX_STEP);
    let has = ["timed", "owned", "missing"].map(|key| log.has(key));
    assert_eq!(has, [false, false, true]);
}

#[test]
fn a_transaction_reads_the_lifetimes_that_it_sets() {
    let mut log = Log::new();
    log.open(7, 2_000);
    log.set("kept", owner(7));
    let get = |key: &'static str| Operation::Get(key.into());
    let effect = log.apply(txn(vec![
        set("a", ttl(5_000)),
        get("a"),
        set("kept", SetLifetime::Keep),
        get("kept"),
        set("new", SetLifetime::Keep),
        get("new"),
    ]));
    let Effect::Txn(it) = effect else { panic!() };
    let read = it.results.iter().filter_map(|result| match result {
        OperationResult::Got(entry) => entry.as_ref().map(|entry| entry.lifetime),
        _ => None,
    });
    let expected = [
        Lifetime::Ttl(5_000),
        Lifetime::Owner(ClientId(7)),
        Lifetime::Unlimited,
    ];
    assert!(read.eq(expected));
}

#[test]
fn a_session_ends_with_its_keys_unless_it_is_renewed() {
    let mut log = Log::new();
    log.open(7, 2_000);
    log.open(8, 2_000);
    log.set("of 7", owner(7));
    log.set("of 8", owner(8));
    log.pass(2_000);
    log.clock(0, &[7, 9]);
    // Opening it again does not renew it.
    assert_eq!(
        log.open(8, 60_000),
        Effect::SessionOpened { ttl: Some(2_000) }
    );
    log.pass(MAX_STEP);
    let alive = (log.lives(7), log.has("of 7"), log.lives(8), log.has("of 8"));
    assert_eq!(alive, (true, true, false, false));
    log.pass(2_000 - MAX_STEP);
    assert!(!log.lives(7) && !log.has("of 7"));
    assert!(log.state.sessions().living().is_empty());
}

/// It was asked for before the time came that the step counts.
#[test]
fn a_renewal_counts_in_the_step_that_reaches_the_deadline() {
    let mut log = Log::new();
    for client_id in [7, 8] {
        log.open(client_id, 2_000);
        log.set(&format!("of {client_id}"), owner(client_id));
    }
    log.pass(2_000);
    log.clock(MAX_STEP, &[7, 7]);
    let has = (log.has("of 7"), log.has("of 8"));
    assert_eq!(
        (log.lives(7), log.lives(8), has),
        (true, false, (true, false))
    );
    let living = log.state.sessions().living().get(ClientId(7));
    assert_eq!(living.map(|it| it.deadline), Some(4_500));
    // The next one comes too late for another session, which was over before.
    log.open(8, 2_000);
    log.pass(2_000);
    log.state.clock.advance(MAX_STEP);
    log.clock(1, &[7, 8]);
    assert!(!log.lives(7) && !log.lives(8));
}

#[test]
fn a_renewal_makes_no_deadline_earlier() {
    let mut log = Log::new();
    log.open(7, 2_000);
    log.clock(0, &[7]);
    log.pass(2_000 + MAX_STEP - 1);
    assert!(log.lives(7));
}

#[test]
fn a_step_removes_1024_at_most_and_the_last_session_with_all_its_keys() {
    let mut log = Log::new();
    let keys = 2 * MAX_REMOVALS + 1;
    for at in 0..keys {
        log.set(&format!("{at:04}"), ttl(1_000));
    }
    let left = |log: &Log| log.state.len();
    for step in [500, 500, 500] {
        log.clock(step, &[]);
    }
    assert_eq!(left(&log), keys - MAX_REMOVALS);
    assert!(
        !log.has("1023") && log.has("1024"),
        "in the order of their bytes"
    );
    log.clock(0, &[]);
    assert_eq!((left(&log), log.state.clock().is_due()), (1, true));
    log.clock(0, &[]);
    assert_eq!((left(&log), log.state.clock().has_deadlines()), (0, false));

    for client_id in 1..=3 {
        log.open(client_id, 2_000);
        for at in 0..600 {
            log.set(&format!("{client_id}/{at}"), owner(client_id));
        }
    }
    log.pass(2_000);
    assert_eq!(left(&log), 1800);
    log.clock(MAX_STEP, &[]);
    let living = log.state.sessions().living();
    assert_eq!((left(&log), living.len()), (600, 1), "601, then 601 more");
    assert!(!log.lives(3), "it is over");
    assert_eq!(log.set("late", owner(3)), Effect::OwnerExpired(ClientId(3)));
    assert_eq!(log.open(3, 2_000), Effect::SessionExpired);
    assert_eq!(
        log.apply(Command::OpenSession(ClientId(3))),
        Effect::SessionExpired
    );
    let write = stamped(txn(vec![set("late", SetLifetime::default())]), 3, 1);
    assert_eq!(log.apply(write), Effect::SessionExpired);
    log.clock(0, &[3]);
    assert_eq!((left(&log), log.state.memory()), (0, 0));
}

#[test]
fn what_is_due_ends_in_the_order_of_deadlines_then_sessions_then_keys() {
    let mut log = Log::new();
    let until = |deadline| {
        Some(Limit::Ttl {
            ttl: 1_000,
            deadline,
        })
    };
    log.state.restore(b"a", b"", 0, until(400));
    log.state.restore(b"b", b"", 0, until(399));
    let session = LivingSession {
        ttl: 2_000,
        deadline: 400,
        ..LivingSession::default()
    };
    for id in [9, 8] {
        log.state
            .restore_living_session(ClientId(id), session.clone());
    }
    let clock = &mut log.state.clock;
    clock.advance(400);
    let due: Vec<_> = std::iter::from_fn(|| clock.take_due()).collect();
    let expected = [
        Mortal::Key("b".into()),
        Mortal::Session(ClientId(8)),
        Mortal::Session(ClientId(9)),
        Mortal::Key("a".into()),
    ];
    assert_eq!(due, expected);
}

#[test]
fn a_session_owns_1024_keys_at_most() {
    let mut log = Log::new();
    for client_id in [7, 8] {
        log.open(client_id, 2_000);
    }
    for at in 0..MAX_OWNED_KEYS {
        assert!(done(&log.set(&at.to_string(), owner(7))));
    }
    let more = || set("more", owner(7));
    assert_eq!(log.apply(txn(vec![more()])), Effect::TooManyOwned);
    assert!(!log.has("more"));
    // Its own keys again, and one less before one more.
    assert!(done(&log.set("0", owner(7))));
    assert!(done(&log.set("0", SetLifetime::Keep)));
    for operations in [
        vec![Operation::Delete("0".into()), more()],
        vec![set("more", ttl(1_000))],
        vec![set("more", owner(8))],
    ] {
        assert!(done(&log.apply(txn(operations))));
    }
    let owned = |id| {
        log.state
            .sessions()
            .living()
            .get(ClientId(id))
            .unwrap()
            .owned
            .len()
    };
    assert_eq!((owned(7), owned(8)), (MAX_OWNED_KEYS - 1, 1));
}

#[test]
fn closing_ends_a_session_of_either_kind() {
    let mut log = Log::new();
    log.open(7, 2_000);
    log.set("of 7", owner(7));
    log.apply(Command::OpenSession(ClientId(8)));
    let before = log.state.memory();
    let close = |log: &mut Log, id| log.apply(Command::CloseSession(ClientId(id)));
    for id in [7, 8] {
        assert_eq!(close(&mut log, id), Effect::SessionClosed { existed: true });
        assert_eq!(
            close(&mut log, id),
            Effect::SessionClosed { existed: false }
        );
    }
    assert!(before > 0 && !log.has("of 7"));
    assert_eq!(log.state.memory(), 0);
    assert!(!log.state.clock().has_deadlines());
}

#[test]
fn a_session_stays_what_it_was_opened_as() {
    let mut log = Log::new();
    log.apply(Command::OpenSession(ClientId(7)));
    assert_eq!(log.open(7, 2_000), Effect::SessionOpened { ttl: None });
    log.open(8, 2_000);
    let again = log.apply(Command::OpenSession(ClientId(8)));
    assert_eq!(again, Effect::SessionOpened { ttl: Some(2_000) });
    assert_eq!((log.lives(7), log.lives(8)), (false, true));
    assert_eq!(log.set("k", owner(7)), Effect::OwnerExpired(ClientId(7)));
}

#[test]
fn there_is_a_bound_on_living_sessions() {
    let mut log = Log::new();
    for client_id in 1..=u64::try_from(MAX_LIVING_SESSIONS).unwrap() {
        assert_ne!(log.open(client_id, 2_000), Effect::TooManySessions);
    }
    assert_eq!(log.open(u64::MAX, 2_000), Effect::TooManySessions);
    log.apply(Command::CloseSession(ClientId(1)));
    let opened = Effect::SessionOpened { ttl: Some(2_000) };
    assert_eq!(log.open(u64::MAX, 2_000), opened);
    assert_eq!(
        log.apply(Command::OpenSession(ClientId(1))),
        Effect::SessionOpened { ttl: None },
        "the others are apart"
    );
    assert_eq!(log.state.sessions().len(), 1);
}

#[test]
fn a_write_in_a_living_session_is_applied_once() {
    let mut log = Log::new();
    log.open(7, 2_000);
    let write = stamped(txn(vec![set("k", owner(9))]), 7, 1);
    let refused = Effect::OwnerExpired(ClientId(9));
    assert_eq!(log.apply(write.clone()), refused);
    log.open(9, 2_000);
    assert_eq!(log.apply(write), refused, "it is remembered");
    let write = stamped(txn(vec![set("k", owner(9))]), 7, 2);
    let first = log.apply(write.clone());
    assert!(done(&first));
    log.set("k", SetLifetime::default());
    assert_eq!(log.apply(write), first);
    log.pass(2_000 + MAX_STEP);
    assert!(log.has("k"));
}

/// Others make room for one another. Living sessions are never evicted.
#[test]
fn a_write_whose_answer_has_no_place_is_not_carried_out() {
    let mut log = Log::new();
    let value = Key::from(vec![0; MAX_REMEMBERED_BYTES - 1]);
    let key = Key::from("k");
    log.apply(Write::Set { key, value });
    let read = || {
        let mut operations = vec![set("w", SetLifetime::default())];
        operations.push(Operation::Get("k".into()));
        txn(operations)
    };
    let each = MAX_REMEMBERED_BYTES + 2 * 128 + 48;
    let fit = MAX_LIVING_ANSWER_BYTES / each;
    for client_id in 1..=u64::try_from(fit + 1).unwrap() {
        log.open(client_id, 2_000);
        log.apply(Write::Delete { key: "w".into() });
        let effect = log.apply(stamped(read(), client_id, 1));
        let carried_out = usize::try_from(client_id).unwrap() <= fit;
        assert_eq!(done(&effect), carried_out, "{effect:?}");
        assert_eq!(log.has("w"), carried_out);
    }
    let last = u64::try_from(fit + 1).unwrap();
    let left = MAX_LIVING_ANSWER_BYTES - fit * each;
    for sequence in 2..2 + u64::try_from(left / 48).unwrap() {
        let delete = Write::Delete { key: "w".into() };
        let effect = log.apply(stamped(delete, last, sequence));
        assert_eq!(effect, Effect::Deleted { existed: false });
    }
    let delete = Write::Delete { key: "k".into() };
    let refused = stamped(delete, last, 1000);
    assert_eq!(log.apply(refused.clone()), Effect::AnswersFull);
    assert!(log.has("k"));
    assert!(log.state.sessions().memory() <= MAX_LIVING_ANSWER_BYTES + fit * 1024);
    // A session that does not live has other room.
    log.apply(Command::OpenSession(ClientId(0)));
    assert!(done(&log.apply(stamped(read(), 0, 1))));
    // Nothing was remembered, so it may be carried out later.
    log.apply(Command::CloseSession(ClientId(1)));
    assert_eq!(log.apply(refused), Effect::Deleted { existed: true });
    for client_id in 2..=last {
        log.apply(Command::CloseSession(ClientId(client_id)));
    }
    assert_eq!(log.state.sessions().living().memory(), 0);
}

#[test]
fn lifetimes_and_living_sessions_count_in_memory() {
    let mut log = Log::new();
    let open = Command::OpenLivingSession {
        client_id: ClientId(7),
        ttl: 2_000,
    };
    assert_eq!(log.state.growth(&open), LIVING_SESSION_MEMORY);
    log.apply(open.clone());
    assert_eq!(log.state.memory(), LIVING_SESSION_MEMORY);
    assert_eq!(log.state.growth(&open), 0);
    for lifetime in [owner(7), ttl(1_000)] {
        let write = Command::from(txn(vec![set("k", lifetime)]));
        assert_eq!(
            log.state.growth(&write),
            pair_memory(1, 1) + lifetime_memory(1)
        );
        log.apply(write.clone());
        assert_eq!(
            log.state.memory(),
            LIVING_SESSION_MEMORY + pair_memory(1, 1) + lifetime_memory(1)
        );
        assert_eq!(log.state.growth(&write), 0);
        log.apply(txn(vec![Operation::Delete("k".into())]));
    }
    let clock = Command::Clock {
        step: 1,
        renewed: vec![ClientId(7)],
    };
    assert_eq!(log.state.growth(&clock), 0);
    assert_eq!(log.state.growth(&Command::CloseSession(ClientId(7))), 0);
    assert_eq!(log.state.memory(), LIVING_SESSION_MEMORY);
}

#[test]
fn a_page_lists_the_sessions_that_live() {
    let mut log = Log::new();
    log.clock(100, &[]);
    for (client_id, ttl) in [(3, 2_000), (1, 4_000), (2, 60_000)] {
        log.open(client_id, ttl);
    }
    log.set("k", owner(2));
    log.pass(2_000);
    let page = |log: &Log, after, limit| {
        let after = ClientId(after);
        let query = Query::Sessions { after, limit };
        assert_eq!(query.bytes(), 0);
        let found = log.state.find(&query, log.next - 1);
        let (it, more) = log.state.session_page(after, limit);
        assert_eq!(found, Found::Sessions(it.clone(), more));
        let shown = |it: SessionInfo| (it.client_id.0, it.ttl, it.remaining, it.owned_keys);
        (it.into_iter().map(shown).collect::<Vec<_>>(), more)
    };
    let one = (1, 4_000, 2_500, 0);
    let (two, three) = ((2, 60_000, 58_500, 1), (3, 2_000, 500, 0));
    assert_eq!(page(&log, 0, 10), (vec![one, two, three], false));
    assert_eq!(page(&log, 0, 3), (vec![one, two, three], false));
    assert_eq!(page(&log, 0, 2), (vec![one, two], true));
    assert_eq!(page(&log, 2, 10), (vec![three], false));
    assert_eq!(page(&log, 3, 10), (vec![], false));
    // One that is over does not live, also before it is removed.
    log.state.clock.advance(500);
    assert!(!page(&log, 1, 1).1);
    assert_eq!(page(&log, 2, 10), (vec![], false));
}

#[test]
fn a_key_that_is_not_bound_has_no_lifetime() {
    let mut log = Log::new();
    log.open(7, 2_000);
    let before = log.state.clone();
    log.state.begin_lifetime(b"k", Limit::Owner(ClientId(7)));
    log.state.end_lifetime(b"k");
    assert_eq!(log.state, before);
}

#[test]
fn a_copy_holds_still() {
    let mut log = Log::new();
    log.open(7, 2_000);
    log.set("of 7", owner(7));
    log.set("timed", ttl(1_000));
    let copy = log.state.clone();
    let same = copy.clone();
    log.pass(10_000);
    assert!(log.state.is_empty());
    assert_eq!(copy, same);
    assert_eq!(copy.len(), 2);
}

#[test]
fn the_end_of_a_lifetime_that_is_not_there_changes_nothing() {
    let mut log = Log::new();
    log.apply(txn(vec![set("k", SetLifetime::To(Lifetime::Unlimited))]));
    let before = log.state.clone();
    log.state.end_lifetime(b"k");
    assert_eq!(log.state, before);
}

#[test]
fn the_ranges_are_those_of_the_protocol() {
    assert_eq!(KEY_TTL, 1_000..=315_360_000_000);
    assert_eq!(SESSION_TTL, 2_000..=3_600_000);
}

/// The same state, as simple as possible: every step removes all that is due.
#[derive(Default)]
struct Naive {
    now: Millis,
    keys: BTreeMap<Key, Bound>,
    /// TTL and deadline.
    living: BTreeMap<u64, (Millis, Millis)>,
    usual: std::collections::BTreeSet<u64>,
}

#[derive(Clone)]
struct Bound {
    revision: Revision,
    lifetime: Lifetime,
    deadline: Option<Millis>,
}

impl Naive {
    fn lives(&self, id: u64) -> bool {
        self.living
            .get(&id)
            .is_some_and(|(_, until)| self.now < *until)
    }

    fn apply(&mut self, revision: Revision, step: &Step) -> Effect {
        match step {
            Step::Txn(operations) => return self.txn(revision, operations),
            Step::Open(id, ttl) => {
                if self.usual.contains(id) {
                    return Effect::SessionOpened { ttl: None };
                }
                let until = self.now + 500 + ttl;
                let (ttl, _) = *self.living.entry(*id).or_insert((*ttl, until));
                return Effect::SessionOpened { ttl: Some(ttl) };
            }
            Step::OpenUsual(id) => {
                return match self.living.get(id) {
                    Some((ttl, _)) => Effect::SessionOpened { ttl: Some(*ttl) },
                    None => {
                        self.usual.insert(*id);
                        Effect::SessionOpened { ttl: None }
                    }
                };
            }
            Step::Close(id) => {
                let existed = self.usual.remove(id) | self.living.remove(id).is_some();
                self.keys
                    .retain(|_, it| it.lifetime != Lifetime::Owner(ClientId(*id)));
                return Effect::SessionClosed { existed };
            }
            Step::Clock(step, renewed) => {
                let alive = renewed.iter().filter(|id| self.lives(**id));
                let alive: Vec<_> = alive.collect();
                self.now += (*step).min(500);
                for id in alive {
                    let (ttl, until) = self.living[id];
                    self.living.insert(*id, (ttl, until.max(self.now + ttl)));
                }
            }
        }
        let now = self.now;
        self.living.retain(|_, (_, until)| now < *until);
        let living = &self.living;
        self.keys.retain(|_, it| match it.lifetime {
            Lifetime::Owner(owner) => living.contains_key(&owner.0),
            _ => it.deadline.is_none_or(|until| now < until),
        });
        Effect::ClockAdvanced
    }

    fn txn(&mut self, revision: Revision, operations: &[Operation]) -> Effect {
        for operation in operations {
            if let Operation::Set { lifetime, .. } = operation
                && let SetLifetime::To(Lifetime::Owner(owner)) = lifetime
                && !self.lives(owner.0)
            {
                return Effect::OwnerExpired(*owner);
            }
        }
        let mut results = Vec::new();
        for operation in operations {
            let key = operation.key();
            let bound = self.keys.get(key).cloned();
            results.push(match operation {
                Operation::Get(_) => OperationResult::Got(bound.map(|it| Entry {
                    key: key.clone(),
                    value: "v".into(),
                    revision: it.revision,
                    lifetime: it.lifetime,
                })),
                Operation::Delete(_) => OperationResult::Deleted {
                    existed: self.keys.remove(key).is_some(),
                },
                Operation::Set { lifetime, .. } => {
                    let (lifetime, deadline) = match (lifetime, bound) {
                        (SetLifetime::To(Lifetime::Ttl(ttl)), _) => {
                            (Lifetime::Ttl(*ttl), Some(self.now + 500 + ttl))
                        }
                        (SetLifetime::To(lifetime), _) => (*lifetime, None),
                        (SetLifetime::Keep, None) => (Lifetime::Unlimited, None),
                        (SetLifetime::Keep, Some(it)) => (it.lifetime, it.deadline),
                    };
                    let bound = Bound {
                        revision,
                        lifetime,
                        deadline,
                    };
                    self.keys.insert(key.clone(), bound);
                    OperationResult::Set
                }
            });
        }
        Effect::Txn(std::sync::Arc::new(crate::kv::TxnOutcome {
            succeeded: true,
            results,
        }))
    }
}

#[derive(Debug, Clone)]
enum Step {
    Txn(Vec<Operation>),
    Open(u64, Millis),
    OpenUsual(u64),
    Close(u64),
    Clock(Millis, Vec<u64>),
}

fn command(step: Step) -> Command {
    match step {
        Step::Txn(operations) => txn(operations).into(),
        Step::Open(id, ttl) => Command::OpenLivingSession {
            client_id: ClientId(id),
            ttl,
        },
        Step::OpenUsual(id) => Command::OpenSession(ClientId(id)),
        Step::Close(id) => Command::CloseSession(ClientId(id)),
        Step::Clock(step, renewed) => Command::Clock {
            step,
            renewed: renewed.into_iter().map(ClientId).collect(),
        },
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || "[a-d]";
    let lifetime = prop_oneof![
        Just(SetLifetime::default()),
        (1_000..2_000u64).prop_map(ttl),
        (1..4u64).prop_map(owner),
        Just(SetLifetime::Keep),
    ];
    let operation = prop_oneof![
        3 => (key(), lifetime).prop_map(|(key, lifetime)| set(&key, lifetime)),
        1 => key().prop_map(|key| Operation::Delete(key.into())),
        1 => key().prop_map(|key| Operation::Get(key.into())),
    ];
    let operations = prop::collection::vec(operation, 1..4).prop_map(|mut operations| {
        let mut written = std::collections::BTreeSet::new();
        operations.retain(|it| !it.writes() || written.insert(it.key().clone()));
        operations
    });
    let id = || 1..4u64;
    let renewed = prop::collection::vec(id(), 0..3);
    let step = prop_oneof![
        4 => operations.prop_map(Step::Txn),
        2 => (id(), 2_000..3_000u64).prop_map(|(id, ttl)| Step::Open(id, ttl)),
        1 => id().prop_map(Step::OpenUsual),
        1 => id().prop_map(Step::Close),
        4 => (0..700u64, renewed).prop_map(|(step, renewed)| Step::Clock(step, renewed)),
    ];
    prop::collection::vec(step, 0..80)
}

proptest! {
    /// Every effect, every key with its lifetime, and every session are as in the naive model.
    #[test]
    fn it_agrees_with_a_naive_model(steps in steps()) {
        let (mut log, mut naive) = (Log::new(), Naive::default());
        for step in steps {
            let expected = naive.apply(BASE + log.next, &step);
            let effect = log.apply(command(step));
            prop_assert_eq!(effect, expected);
            let entries = log.state.sorted_pairs().into_iter();
            let entries = entries.filter_map(|(key, _)| log.state.entry(&key));
            let entries: Vec<_> = entries.map(|it| (it.key, it.revision, it.lifetime)).collect();
            let expected: Vec<_> = naive
                .keys
                .iter()
                .map(|(key, it)| (key.clone(), it.revision, it.lifetime))
                .collect();
            prop_assert_eq!(entries, expected);
            let living = log.state.sessions().living().iter();
            let living: Vec<_> = living
                .map(|(id, it)| (id.0, (it.ttl, it.deadline)))
                .collect();
            let expected: Vec<_> = naive.living.iter().map(|(id, it)| (*id, *it)).collect();
            prop_assert_eq!(living, expected);
            let all: usize = naive.keys.values().filter(|it| it.lifetime != Lifetime::Unlimited).count();
            prop_assert_eq!(log.state.lifetimes().iter().count(), all);
            let ends = naive.living.len() + naive.keys.values().filter(|it| it.deadline.is_some()).count();
            prop_assert_eq!(log.state.clock().has_deadlines(), ends > 0);
        }
    }
}
