//! Transactions: conditions on keys, and operations that are carried out if all of them hold, or others if
//! one does not.
//!
//! A transaction is atomic and has one revision. Its conditions see the keys as they are before it; its
//! operations see the effects of those before them. All of its outcome is found before anything changes,
//! because an outcome that is too large to be answered, or to be remembered in a session, changes nothing.
//! Whether it is too large depends on the state, so every node decides that alike when it applies the
//! command, and the bounds are a part of the protocol.

use super::{Lifetime, LockName, SetLifetime};
use crate::types::{Key, Revision, Value};

/// Maximum number of conditions and operations of a transaction.
pub const MAX_TXN_OPERATIONS: usize = 128;
/// Maximum bytes of keys and values that a transaction reads.
pub const MAX_TXN_ANSWER_BYTES: usize = 2 << 20;
/// Maximum bytes of keys and values that a transaction in a session reads.
pub const MAX_REMEMBERED_BYTES: usize = 64 << 10;

/// A transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Txn {
    /// The conditions.
    pub conditions: Vec<Condition>,
    /// What is done if all conditions hold.
    pub success: Vec<Operation>,
    /// What is done if one does not.
    pub failure: Vec<Operation>,
}

/// A condition of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Tests a key.
    Key {
        /// The key.
        key: Key,
        /// The test.
        test: KeyTest,
    },
    /// Tests whether a lock is held under exactly this token.
    Held {
        /// The lock.
        name: LockName,
        /// The token.
        token: Revision,
    },
}

/// A test of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyTest {
    /// The key is bound, or is missing.
    Exists(bool),
    /// The write of this revision has bound the key. 0: the key is missing.
    Revision(Revision),
    /// The key is bound to this value.
    Value(Value),
}

/// One operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Binds `key` to `value`.
    Set {
        /// The key.
        key: Key,
        /// The value.
        value: Value,
        /// What becomes of its lifetime.
        lifetime: SetLifetime,
    },
    /// Reads a key.
    Get(Key),
    /// Removes a key.
    Delete(Key),
}

/// A key that is bound, and the write that has bound it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// The value.
    pub value: Value,
    /// Revision of the write. 0 at the first protocol level.
    pub revision: Revision,
    /// How long it stays bound.
    pub lifetime: Lifetime,
}

/// The outcome of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxnOutcome {
    /// Whether all conditions held.
    pub succeeded: bool,
    /// One for each operation that was carried out.
    pub results: Vec<OperationResult>,
}

/// The result of one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperationResult {
    /// The key was bound.
    Set,
    /// The key was read: its entry, if it is bound.
    Got(Option<Entry>),
    /// The key was removed, if it was bound.
    Deleted {
        /// Whether it was bound before.
        existed: bool,
    },
}

impl Operation {
    /// The key.
    pub fn key(&self) -> &Key {
        match self {
            Self::Set { key, .. } | Self::Get(key) | Self::Delete(key) => key,
        }
    }

    /// Whether it writes.
    pub fn writes(&self) -> bool {
        !matches!(self, Self::Get(_))
    }
}

impl Txn {
    /// The operations that are carried out if the conditions hold, or if they do not.
    pub fn branch(&self, succeeded: bool) -> &[Operation] {
        match succeeded {
            true => &self.success,
            false => &self.failure,
        }
    }

    /// All operations, of both branches.
    pub fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.success.iter().chain(&self.failure)
    }

    /// Whether it may write. Otherwise it is a read, and needs no entry in the log.
    pub fn writes(&self) -> bool {
        self.operations().any(Operation::writes)
    }

    /// The key and the length of the value of each condition of a key, and of each operation.
    pub fn parts(&self) -> impl Iterator<Item = (&Key, usize)> {
        let conditions = self.conditions.iter().filter_map(|condition| {
            let Condition::Key { key, test } = condition else {
                return None;
            };
            let value = match test {
                KeyTest::Value(value) => value.len(),
                KeyTest::Exists(_) | KeyTest::Revision(_) => 0,
            };
            Some((key, value))
        });
        conditions.chain(self.operations().map(|operation| {
            let value = match operation {
                Operation::Set { value, .. } => value.len(),
                Operation::Get(_) | Operation::Delete(_) => 0,
            };
            (operation.key(), value)
        }))
    }

    /// Renames the revisions in the conditions.
    pub fn rename_revisions(&mut self, rename: impl Fn(Revision) -> Revision) {
        for condition in &mut self.conditions {
            match condition {
                Condition::Key {
                    test: KeyTest::Revision(revision),
                    ..
                }
                | Condition::Held {
                    token: revision, ..
                } => *revision = rename(*revision),
                Condition::Key { .. } => {}
            }
        }
    }

    /// The number of its conditions and operations.
    pub fn len(&self) -> usize {
        self.conditions.len() + self.success.len() + self.failure.len()
    }

    /// Whether it has no condition and no operation.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all keys, values and names of locks.
    pub fn bytes(&self) -> usize {
        let parts = self.parts().map(|(key, value)| key.len() + value);
        let names = self.conditions.iter().map(|condition| match condition {
            Condition::Key { .. } => 0,
            Condition::Held { name, .. } => name.len(),
        });
        parts.sum::<usize>() + names.sum::<usize>()
    }

    /// The outcome as the write `revision` of a state in which `entry` finds the keys, and `token` the tokens
    /// of the locks that are held.
    pub(super) fn outcome(
        &self,
        revision: Revision,
        entry: impl Fn(&[u8]) -> Option<Entry>,
        token: impl Fn(&str) -> Option<Revision>,
    ) -> TxnOutcome {
        let succeeded = self.conditions.iter().all(|condition| match condition {
            Condition::Key { key, test } => test.holds(entry(key).as_ref()),
            Condition::Held { name, token: held } => token(name) == Some(*held),
        });
        let branch = self.branch(succeeded);
        let results = branch.iter().enumerate().map(|(at, operation)| {
            let key = operation.key();
            let earlier = branch.iter().take(at).rev();
            let bound = match earlier.clone().find(|it| it.writes() && it.key() == key) {
                Some(Operation::Set {
                    value, lifetime, ..
                }) => Some(Entry {
                    // Copies: an outcome may be remembered, and must not hold the entry of the log.
                    key: Key::copy_from_slice(key),
                    value: Value::copy_from_slice(value),
                    revision,
                    lifetime: match lifetime {
                        SetLifetime::To(lifetime) => *lifetime,
                        SetLifetime::Keep => {
                            entry(key).map_or(Lifetime::Unlimited, |it| it.lifetime)
                        }
                    },
                }),
                Some(_) => None,
                None => entry(key),
            };
            match operation {
                Operation::Set { .. } => OperationResult::Set,
                Operation::Get(_) => OperationResult::Got(bound),
                Operation::Delete(_) => OperationResult::Deleted {
                    existed: bound.is_some(),
                },
            }
        });
        TxnOutcome {
            succeeded,
            results: results.collect(),
        }
    }
}

impl KeyTest {
    fn holds(&self, entry: Option<&Entry>) -> bool {
        match self {
            Self::Exists(exists) => entry.is_some() == *exists,
            Self::Revision(0) => entry.is_none(),
            Self::Revision(revision) => entry.is_some_and(|it| it.revision == *revision),
            Self::Value(value) => entry.is_some_and(|it| it.value == value),
        }
    }
}

impl TxnOutcome {
    /// Bytes of the keys and values that were read.
    pub fn bytes(&self) -> usize {
        let results = self.results.iter().map(|result| match result {
            OperationResult::Got(Some(entry)) => entry.key.len() + entry.value.len(),
            OperationResult::Set | OperationResult::Got(None) | OperationResult::Deleted { .. } => {
                0
            }
        });
        results.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::Query;
    use crate::types::ProtocolLevel;

    fn bytes(text: &str) -> Key {
        text.to_owned().into()
    }

    fn set(key: &str, value: &str) -> Operation {
        Operation::Set {
            key: bytes(key),
            value: bytes(value),
            lifetime: SetLifetime::default(),
        }
    }

    fn got(value: &str, revision: Revision) -> OperationResult {
        OperationResult::Got(Some(bound("a", value, revision)))
    }

    fn bound(key: &str, value: &str, revision: Revision) -> Entry {
        Entry {
            key: bytes(key),
            value: bytes(value),
            revision,
            lifetime: Lifetime::Unlimited,
        }
    }

    /// The outcome as the write 9 of a state that binds `a` to 1 by the write 7.
    fn outcome(test: Option<(&str, KeyTest)>, success: Vec<Operation>) -> TxnOutcome {
        let conditions = test.into_iter().map(|(key, test)| Condition::Key {
            key: bytes(key),
            test,
        });
        let txn = Txn {
            conditions: conditions.collect(),
            success,
            failure: vec![Operation::Get(bytes("b"))],
        };
        let entry = |key: &[u8]| (key == b"a").then(|| bound("a", "1", 7));
        txn.outcome(9, entry, |_| None)
    }

    #[test]
    fn each_test_holds_for_the_key_as_it_is() {
        use KeyTest::{Exists, Revision, Value};
        let holds = |key, test| outcome(Some((key, test)), Vec::new()).succeeded;
        for (key, exists) in [("a", true), ("b", false)] {
            assert!(holds(key, Exists(exists)), "{key}");
            assert!(!holds(key, Exists(!exists)), "{key}");
            assert_eq!(holds(key, Revision(0)), !exists, "0 is missing: {key}");
            assert_eq!(holds(key, Revision(7)), exists, "{key}");
            assert_eq!(holds(key, Value(bytes("1"))), exists, "{key}");
            assert!(!holds(key, Value(bytes(""))), "{key}");
            for other in [6, 8, 9] {
                assert!(!holds(key, Revision(other)), "{key} {other}");
            }
        }
    }

    #[test]
    fn a_lock_is_held_under_its_own_token_alone() {
        let holds = |name: &str, token| {
            let name = name.into();
            let txn = Txn {
                conditions: vec![Condition::Held { name, token }],
                success: Vec::new(),
                failure: Vec::new(),
            };
            assert_eq!((txn.len(), txn.bytes(), txn.is_empty()), (1, 1, false));
            assert_eq!(txn.parts().count(), 0);
            let token = |name: &str| (name == "a").then_some(7);
            txn.outcome(9, |_| None, token).succeeded
        };
        assert!(holds("a", 7));
        assert!(!holds("a", 6) && !holds("a", 8) && !holds("b", 7) && !holds("b", 0));
    }

    #[test]
    fn one_condition_that_does_not_hold_selects_the_other_branch() {
        let condition = |exists| Condition::Key {
            key: bytes("a"),
            test: KeyTest::Exists(exists),
        };
        for (conditions, succeeded) in [
            (vec![], true),
            (vec![condition(true), condition(true)], true),
            (vec![condition(true), condition(false)], false),
            (vec![condition(false), condition(true)], false),
        ] {
            let txn = Txn {
                conditions,
                success: vec![set("b", "2")],
                failure: vec![Operation::Get(bytes("a"))],
            };
            let outcome = txn.outcome(9, |_| Some(bound("a", "1", 7)), |_| None);
            let result = match succeeded {
                true => OperationResult::Set,
                false => got("1", 7),
            };
            assert_eq!(outcome.succeeded, succeeded);
            assert_eq!(outcome.results, [result]);
        }
    }

    #[test]
    fn an_operation_sees_those_before_it_and_conditions_see_none() {
        let get = || Operation::Get(bytes("a"));
        let delete = || Operation::Delete(bytes("a"));
        let existed = |existed| OperationResult::Deleted { existed };
        let old = Some(("a", KeyTest::Value(bytes("1"))));
        let results = |operations| {
            let outcome = outcome(old.clone(), operations);
            assert!(outcome.succeeded);
            outcome.results
        };
        let set_it = || set("a", "2");
        assert_eq!(
            results(vec![get(), set_it(), get(), get()]),
            [got("1", 7), OperationResult::Set, got("2", 9), got("2", 9)]
        );
        assert_eq!(
            results(vec![delete(), get()]),
            [existed(true), OperationResult::Got(None)]
        );
        assert_eq!(results(vec![set_it(), get()])[1], got("2", 9));
        let other = Operation::Delete(bytes("b"));
        assert_eq!(
            results(vec![set_it(), other]),
            [OperationResult::Set, existed(false)]
        );
    }

    #[test]
    fn an_outcome_holds_copies_and_not_the_entry_of_the_log() {
        let value = bytes("2");
        let set = Operation::Set {
            key: bytes("a"),
            value: value.clone(),
            lifetime: SetLifetime::default(),
        };
        let outcome = outcome(None, vec![set, Operation::Get(bytes("a"))]);
        assert_eq!(outcome.results[1], got("2", 9));
        let shared = outcome.results.iter().any(|result| {
            matches!(result, OperationResult::Got(Some(entry)) if entry.value.as_ptr() == value.as_ptr())
        });
        assert!(!shared);
    }

    #[test]
    fn its_length_is_that_of_its_conditions_and_of_both_branches() {
        let get = || Operation::Get(bytes("k"));
        let test = || Condition::Key {
            key: bytes("k"),
            test: KeyTest::Exists(true),
        };
        for (conditions, success, failure) in
            [(0, 0, 0), (2, 0, 0), (0, 2, 0), (0, 0, 2), (2, 4, 8)]
        {
            let txn = Txn {
                conditions: (0..conditions).map(|_| test()).collect(),
                success: (0..success).map(|_| get()).collect(),
                failure: (0..failure).map(|_| get()).collect(),
            };
            let length = conditions + success + failure;
            assert_eq!((txn.len(), txn.is_empty()), (length, length == 0));
        }
    }

    #[test]
    fn bytes_are_those_of_keys_and_values() {
        let txn = Txn {
            conditions: vec![
                Condition::Key {
                    key: bytes("k"),
                    test: KeyTest::Value(bytes("22")),
                },
                Condition::Key {
                    key: bytes("k"),
                    test: KeyTest::Revision(7),
                },
            ],
            success: vec![set("four", "five!"), Operation::Get(bytes("k"))],
            failure: vec![Operation::Delete(bytes("ab"))],
        };
        assert_eq!(txn.bytes(), 3 + 1 + 9 + 1 + 2);
        assert_eq!(Query::Txn(Box::new(txn.clone())).bytes(), txn.bytes());
        assert_eq!(Query::Get(bytes("abc")).bytes(), 3);
        assert!(txn.writes());
        let outcome = TxnOutcome {
            succeeded: true,
            results: vec![
                got("four", 7),
                OperationResult::Set,
                OperationResult::Got(None),
                OperationResult::Deleted { existed: true },
                got("", 7),
            ],
        };
        assert_eq!(outcome.bytes(), 1 + 4 + 1);
    }

    #[test]
    fn a_transaction_that_only_reads_is_a_query_of_the_second_level() {
        let read = vec![Operation::Get(bytes("k"))];
        let txn = Txn {
            conditions: Vec::new(),
            success: read.clone(),
            failure: read,
        };
        assert!(!txn.writes());
        assert_eq!(Query::Txn(Box::new(txn)).level(), ProtocolLevel::SECOND);
        assert_eq!(Query::from(bytes("k")).level(), ProtocolLevel::FIRST);
    }

    #[test]
    fn only_revisions_are_renamed() {
        let condition = |test| Condition::Key {
            key: bytes("k"),
            test,
        };
        let held = |token| Condition::Held {
            name: "a".into(),
            token,
        };
        let mut txn = Txn {
            conditions: vec![
                condition(KeyTest::Revision(7)),
                condition(KeyTest::Exists(true)),
                held(7),
            ],
            success: Vec::new(),
            failure: Vec::new(),
        };
        txn.rename_revisions(|revision| revision + 1);
        let renamed = [
            condition(KeyTest::Revision(8)),
            condition(KeyTest::Exists(true)),
            held(8),
        ];
        assert_eq!(txn.conditions, renamed);
    }
}
