use super::*;
use crate::kv::{
    Changes, Command, Condition, Found, Lifetime, Operation, Query, SetLifetime, Txn, Write,
};
use crate::types::{Key, ProtocolLevel, WallTime};

const BASE: Revision = WallTime::FIRST.micros();

/// A state with revisions, the number of commands that it has applied, and the changes of the last one.
struct Machine {
    state: StateMachine,
    index: LogIndex,
    changes: Vec<(String, ClaimId, bool)>,
}

fn id(client: u64, sequence: u64) -> ClaimId {
    ClaimId {
        client_id: ClientId(client),
        sequence,
    }
}

impl Machine {
    /// With the living sessions 1 to `sessions`, which have 10 s each.
    fn new(sessions: u64) -> Self {
        let state = StateMachine::default()
            .with_level(ProtocolLevel::SECOND)
            .with_revisions_from(Some(WallTime::FIRST));
        let mut machine = Self {
            state,
            index: 0,
            changes: Vec::new(),
        };
        for client in 1..=sessions {
            machine.open(client, 10_000);
        }
        machine
    }

    fn apply(&mut self, command: Command) -> Written {
        self.index += 1;
        let mut changes = Changes::ignored();
        let written = self.state.apply_noting(self.index, command, &mut changes);
        let locks = changes.take_locks();
        let locks = locks.map(|it| (it.name.to_string(), it.claim, it.of_holder));
        self.changes = locks.collect();
        written
    }

    fn open(&mut self, client: u64, ttl: Millis) {
        let client_id = ClientId(client);
        self.apply(Command::OpenLivingSession { client_id, ttl });
    }

    fn numbered(&mut self, id: ClaimId, write: Write) -> Written {
        let stamp = Stamp {
            client_id: id.client_id,
            sequence: id.sequence,
            first_outstanding: 1,
        };
        let stamp = Some(stamp);
        self.apply(Command::Write { write, stamp })
    }

    fn acquire(&mut self, id: ClaimId, max_wait: Option<Millis>) -> Effect {
        let acquire = Acquire {
            name: "a".into(),
            value: Value::from(id.client_id.to_string()),
            max_wait,
        };
        self.numbered(id, Write::Acquire(Box::new(acquire))).effect
    }

    fn release(&mut self, id: ClaimId) -> Effect {
        self.numbered(id, Write::Release("a".into())).effect
    }

    /// Advances the clock in steps.
    fn pass(&mut self, millis: Millis) {
        for _ in 0..millis / 500 {
            self.step(500, &[]);
        }
    }

    fn step(&mut self, step: Millis, renewed: &[u64]) {
        let renewed = renewed.iter().copied().map(ClientId).collect();
        self.apply(Command::Clock { step, renewed });
    }

    fn holder(&self) -> Option<ClaimId> {
        self.state.holder("a").map(|holder| holder.claim)
    }

    fn now(&self) -> Revision {
        BASE + self.index
    }
}

fn held(token: Revision) -> Effect {
    Effect::Claimed(ClaimState::Held(token))
}

fn waiting(ahead: u64) -> Effect {
    Effect::Claimed(ClaimState::Waiting(ahead))
}

#[test]
fn the_token_is_the_revision_at_which_a_claim_begins_to_hold() {
    let mut it = Machine::new(2);
    assert_eq!(it.acquire(id(1, 1), None), held(BASE + 3));
    assert_eq!(it.changes, [("a".to_owned(), id(1, 1), true)]);
    assert_eq!(it.acquire(id(2, 1), None), waiting(1));
    assert_eq!(it.changes, []);
    assert_eq!(it.release(id(1, 1)), Effect::Released);
    assert_eq!(
        it.changes,
        [
            ("a".to_owned(), id(1, 1), true),
            ("a".to_owned(), id(2, 1), true)
        ]
    );
    let holder = it.state.holder("a").unwrap();
    assert_eq!((holder.claim, holder.token), (id(2, 1), it.now()));
    assert_eq!(it.state.token("a"), Some(it.now()));
    let state = it.state.lock_state("a");
    assert_eq!((state.holder, state.waiting), (Some(holder), 0));
}

#[test]
fn a_repeated_acquire_is_the_same_claim_and_shows_its_present_state() {
    let mut it = Machine::new(2);
    let first = it.acquire(id(1, 1), None);
    assert_eq!(it.acquire(id(1, 1), None), first);
    assert_eq!(it.acquire(id(2, 1), None), waiting(1));
    it.release(id(1, 1));
    let token = it.now();
    assert_eq!(it.acquire(id(2, 1), None), held(token));
    assert_eq!(it.acquire(id(1, 1), None), Effect::Released);
    assert_eq!(it.state.locks().len(), 1);
}

#[test]
fn a_release_that_overtakes_its_acquire_uses_up_the_number() {
    let mut it = Machine::new(1);
    assert_eq!(it.release(id(1, 1)), Effect::Released);
    assert_eq!(it.acquire(id(1, 1), None), Effect::Released);
    assert_eq!(it.holder(), None);
    assert!(matches!(it.acquire(id(1, 2), None), Effect::Claimed(_)));
    assert_eq!(it.release(id(1, 2)), Effect::Released);
    assert_eq!(it.release(id(1, 2)), Effect::Released, "again");
}

#[test]
fn a_release_of_another_lock_or_number_releases_nothing() {
    let mut it = Machine::new(1);
    it.acquire(id(1, 1), None);
    let other = it.numbered(id(1, 1), Write::Release("b".into()));
    assert_eq!(other.effect, Effect::Released);
    assert_eq!(it.holder(), Some(id(1, 1)));
    let key = Key::from_static(b"k");
    it.numbered(id(1, 2), Write::Delete { key });
    assert_eq!(it.release(id(1, 2)), Effect::Deleted { existed: false });
    assert_eq!(it.release(id(7, 1)), Effect::SessionExpired);
}

#[test]
fn a_claim_whose_number_is_forgotten_can_be_released() {
    let mut it = Machine::new(1);
    it.acquire(id(1, 1), None);
    let write = Write::Delete {
        key: Key::from_static(b"k"),
    };
    let stamp = Some(Stamp {
        client_id: ClientId(1),
        sequence: 9,
        first_outstanding: 9,
    });
    it.apply(Command::Write { write, stamp });
    assert_eq!(it.acquire(id(1, 1), None), Effect::SessionExpired);
    assert_eq!(it.holder(), Some(id(1, 1)));
    assert_eq!(it.release(id(1, 1)), Effect::Released);
    assert_eq!(it.holder(), None);
    let sessions = it.state.sessions().living();
    let answers = &sessions.get(ClientId(1)).unwrap().session.answers;
    assert_eq!(
        answers.keys().collect::<Vec<_>>(),
        [&9],
        "it stays forgotten"
    );
}

#[test]
fn a_claim_that_does_not_wait_is_told_who_holds_the_lock() {
    let mut it = Machine::new(2);
    let first = it.acquire(id(1, 1), Some(0));
    assert!(matches!(first, Effect::Claimed(ClaimState::Held(_))));
    let occupied = it.acquire(id(2, 1), Some(0));
    assert!(matches!(&occupied, Effect::Occupied(holder) if holder.claim == id(1, 1)));
    it.release(id(1, 1));
    assert_eq!(it.acquire(id(2, 1), Some(0)), occupied, "the first answer");
    assert_eq!(it.holder(), None);
}

#[test]
fn only_a_living_session_claims() {
    let mut it = Machine::new(0);
    assert_eq!(it.acquire(id(1, 1), None), Effect::SessionExpired);
    it.apply(Command::OpenSession(ClientId(1)));
    assert_eq!(it.acquire(id(1, 1), None), Effect::SessionDoesNotLive);
    assert_eq!(it.release(id(1, 1)), Effect::SessionDoesNotLive);
}

#[test]
fn the_lock_goes_on_when_the_session_of_its_holder_ends() {
    let mut it = Machine::new(3);
    for client in 1..=3 {
        it.acquire(id(client, 1), None);
    }
    it.apply(Command::CloseSession(ClientId(1)));
    assert_eq!(it.holder(), Some(id(2, 1)));
    assert_eq!(it.state.token("a"), Some(it.now()));
    // The others are renewed, and the holder is not.
    for _ in 0..21 {
        assert_eq!(it.holder(), Some(id(2, 1)));
        it.step(500, &[3]);
    }
    assert_eq!(it.holder(), Some(id(3, 1)));
    assert_eq!(it.state.token("a"), Some(it.now()));
    assert_eq!(it.state.locks().len(), 1);
}

#[test]
fn no_lock_goes_to_a_claim_that_ends_in_the_same_command() {
    let mut it = Machine::new(3);
    for client in 1..=3 {
        it.acquire(id(client, 1), None);
    }
    it.pass(10_000);
    it.step(0, &[3]);
    let of_second = |it: &Machine| it.changes.iter().any(|(_, id, _)| id.client_id.0 == 2);
    it.step(500, &[]);
    assert_eq!(it.holder(), Some(id(3, 1)), "the second is over as well");
    let mine: Vec<_> = it
        .changes
        .iter()
        .filter(|(_, id, _)| *id != id_of(2))
        .collect();
    assert_eq!(mine.len(), 2, "the first ends, and the third holds");
    assert!(of_second(&it), "it has ended");
    assert_eq!(it.state.locks().len(), 1);
}

fn id_of(client: u64) -> ClaimId {
    id(client, 1)
}

#[test]
fn a_claim_waits_as_long_as_it_wants_to_and_not_longer() {
    let mut it = Machine::new(2);
    it.acquire(id(1, 1), None);
    assert_eq!(it.acquire(id(2, 1), Some(1_000)), waiting(1));
    it.step(500, &[1, 2]);
    it.step(500, &[1, 2]);
    assert_eq!(it.state.claim_state("a", id(2, 1)), ClaimState::Waiting(1));
    it.step(500, &[1, 2]);
    assert_eq!(it.changes, [("a".to_owned(), id(2, 1), false)]);
    assert_eq!(it.state.claim_state("a", id(2, 1)), ClaimState::Gone);
    let repeated = it.acquire(id(2, 1), Some(1_000));
    assert_eq!(repeated, Effect::Claimed(ClaimState::Gone));
    assert_eq!(it.holder(), Some(id(1, 1)));
}

#[test]
fn a_claim_that_holds_the_lock_does_not_end_by_its_wait() {
    let mut it = Machine::new(2);
    it.acquire(id(1, 1), Some(1_000));
    it.acquire(id(2, 1), Some(1_000));
    it.release(id(1, 1));
    assert_eq!(it.holder(), Some(id(2, 1)));
    for _ in 0..10 {
        it.step(500, &[1, 2]);
    }
    assert_eq!(it.holder(), Some(id(2, 1)));
    assert!(it.state.clock().has_deadlines(), "of the sessions");
}

#[test]
fn a_session_that_is_over_holds_nothing_before_it_is_removed() {
    let mut it = Machine::new(1);
    it.acquire(id(1, 1), None);
    let token = it.state.token("a").unwrap();
    // So many keys are due before it that its end is left to the next command.
    it.state.clock.advance(500);
    for _ in 0..20 {
        it.state.clock.advance(500);
    }
    assert!(it.state.clock().is_due());
    assert_eq!((it.holder(), it.state.token("a")), (None, None));
    assert_eq!(it.state.claim_state("a", id(1, 1)), ClaimState::Gone);
    let guarded = Txn {
        conditions: vec![Condition::Held {
            name: "a".into(),
            token,
        }],
        success: vec![Operation::Get(Key::from_static(b"k"))],
        failure: Vec::new(),
    };
    assert!(!it.state.outcome(&guarded, it.now()).succeeded);
}

#[test]
fn a_lock_goes_to_no_claim_that_is_over_before_it_is_removed() {
    // The second claim is over by its own wish, or with its session.
    for (max_wait, session_ttl) in [(Some(2_000), 10_000), (None, 2_000)] {
        let mut it = Machine::new(1);
        it.open(2, session_ttl);
        it.open(3, 10_000);
        it.acquire(id(1, 1), None);
        it.acquire(id(2, 1), max_wait);
        it.acquire(id(3, 1), None);
        // So many keys are due before it that its end is left to the next command.
        for _ in 0..5 {
            it.state.clock.advance(500);
        }
        assert!(it.state.clock().is_due());
        it.release(id(1, 1));
        assert_eq!(it.holder(), Some(id(3, 1)));
    }
}

#[test]
fn a_release_whose_answer_finds_no_room_changes_nothing() {
    let mut it = Machine::new(1);
    it.acquire(id(1, 1), None);
    it.state.sessions.living_mut().answer_bytes = crate::kv::MAX_LIVING_ANSWER_BYTES;
    let before = it.state.clone();
    assert_eq!(it.release(id(1, 2)), Effect::AnswersFull);
    assert_eq!(it.state, before);
    assert_eq!(
        it.release(id(1, 1)),
        Effect::Released,
        "its answer has room"
    );
}

#[test]
fn a_session_owns_a_bounded_number_of_keys_and_claims_together() {
    let mut it = Machine::new(1);
    let owned = |key: u64| {
        let operation = Operation::Set {
            key: Key::from(key.to_string()),
            value: Value::new(),
            lifetime: SetLifetime::To(Lifetime::Owner(ClientId(1))),
        };
        Command::from(Write::Txn(Box::new(Txn {
            conditions: Vec::new(),
            success: vec![operation],
            failure: Vec::new(),
        })))
    };
    it.acquire(id(1, 1), None);
    for key in 1..1024 {
        assert!(matches!(it.apply(owned(key)).effect, Effect::Txn(_)));
    }
    assert_eq!(it.apply(owned(1024)).effect, Effect::TooManyOwned);
    assert_eq!(it.acquire(id(1, 2), None), Effect::TooManyOwned);
    it.release(id(1, 1));
    assert!(matches!(it.apply(owned(1024)).effect, Effect::Txn(_)));
}

#[test]
fn locks_are_listed_page_by_page() {
    let mut it = Machine::new(1);
    for (sequence, name) in [(1, "a"), (2, "b"), (3, "c")] {
        let acquire = Acquire {
            name: name.into(),
            value: Value::from_static(b"12345"),
            max_wait: None,
        };
        it.numbered(id(1, sequence), Write::Acquire(Box::new(acquire)));
    }
    let page = |after: Option<&str>, limit, bytes| {
        let after = after.map(LockName::from);
        let page = it.state.lock_page(after.as_ref(), limit, bytes);
        let names: Vec<_> = page
            .locks
            .iter()
            .map(|(name, _)| name.to_string())
            .collect();
        (names.join(""), page.bytes(), page.more)
    };
    assert_eq!(page(None, 9, 99), ("abc".to_owned(), 18, false));
    assert_eq!(page(None, 2, 99), ("ab".to_owned(), 12, true));
    assert_eq!(page(Some("b"), 2, 99), ("c".to_owned(), 6, false));
    assert_eq!(page(None, 9, 12), ("ab".to_owned(), 12, true));
    assert_eq!(page(None, 9, 1), ("a".to_owned(), 6, true), "one at least");
}

#[test]
fn a_number_counts_once_however_its_answer_changes() {
    let mut it = Machine::new(2);
    let counted = |it: &Machine| it.state.sessions().memory();
    let before = counted(&it);
    it.acquire(id(1, 1), None);
    let one = counted(&it);
    assert!(one > before);
    it.release(id(1, 1));
    it.release(id(1, 1));
    assert_eq!(counted(&it), one);
    it.acquire(id(2, 1), None);
    it.acquire(id(1, 2), Some(0));
    assert!(counted(&it) > one + (one - before) * 2, "the holder counts");
    for client in [1, 2] {
        let client_id = ClientId(client);
        it.apply(Command::CloseSession(client_id));
    }
    assert_eq!(counted(&it), 0);
}

#[test]
fn queries_find_claims_and_locks() {
    let mut it = Machine::new(1);
    it.acquire(id(1, 1), None);
    let name = || LockName::from("a");
    let claim = Query::Claim {
        name: name(),
        id: id(1, 1),
    };
    let locks = Query::Locks {
        after: Some(name()),
        limit: 9,
        bytes: 99,
    };
    let queries = [&claim, &Query::Lock(name()), &locks];
    assert_eq!(queries.map(Query::bytes), [1, 1, 1]);
    let found = queries.map(|query| it.state.find(query, it.index));
    let expected = [
        Found::Claim(ClaimState::Held(it.now())),
        Found::Lock(Box::new(it.state.lock_state("a"))),
        Found::Locks(LockPage::default()),
    ];
    assert_eq!(found, expected);
}

#[test]
fn the_number_and_the_memory_of_all_claims_are_bounded() {
    let mut it = Machine::new(1);
    let acquire = Acquire {
        name: "a".into(),
        value: Value::from_static(b"12345"),
        max_wait: None,
    };
    let stamp = Some(Stamp {
        client_id: ClientId(1),
        sequence: 1,
        first_outstanding: 1,
    });
    let write = Write::Acquire(Box::new(acquire));
    let command = Command::Write { write, stamp };
    let (growth, before) = (it.state.growth(&command), it.state.locks().memory());
    for sequence in 1..=65_536 {
        let claim = Claim {
            id: id(9, sequence),
            value: Value::new(),
            deadline: None,
        };
        it.state.restore_claim(&"b".into(), sequence, claim, None);
    }
    assert_eq!(it.apply(command.clone()).effect, Effect::TooManyClaims);
    let mut ended = Freed::new();
    it.state
        .end_claim(id(9, 1), &mut ended, &mut Changes::ignored());
    let full = it.state.locks().memory();
    it.apply(Command::Write {
        write: Write::Acquire(Box::new(Acquire {
            name: "a".into(),
            value: Value::from_static(b"12345"),
            max_wait: None,
        })),
        stamp: stamp.map(|stamp| Stamp {
            sequence: 2,
            ..stamp
        }),
    });
    assert_eq!(it.state.locks().memory() - full, growth);
    assert_eq!(before, 0);
}

#[test]
fn a_holder_is_not_told_when_its_name_could_not_be_remembered() {
    let mut it = Machine::new(2);
    it.acquire(id(1, 1), None);
    let holder = Holder {
        claim: id(1, 1),
        token: 1,
        value: Value::from(vec![0; crate::kv::MAX_LIVING_ANSWER_BYTES]),
    };
    let occupied = Effect::Occupied(Box::new(holder));
    assert_eq!(it.state.sessions().with_room(occupied), Effect::AnswersFull);
}
