//! The changes that a command makes, for those who watch the state or wait for a lock.

use super::{Lifetime, LockChange};
use crate::types::{Key, Revision, Value};

/// Why a key changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A write bound it.
    Set,
    /// A write removed it.
    Deleted,
    /// Its TTL ended.
    Expired,
    /// The session that owned it ended.
    SessionEnded,
}

/// The change of a key. The value is shared with the map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Revision of the write.
    pub revision: Revision,
    /// The key.
    pub key: Key,
    /// The value that it is bound to from now on. `None`: it was removed.
    pub value: Option<Value>,
    /// How long it stays bound. Unlimited if it was removed.
    pub lifetime: Lifetime,
    /// Why it changed.
    pub cause: Cause,
}

impl Change {
    /// Bytes of the key and the value.
    pub fn bytes(&self) -> usize {
        let value = self.value.as_ref().map_or(0, Value::len);
        self.key.len().saturating_add(value)
    }
}

/// The changes that commands make, in their order. Those of keys are at most one a key and command, and are
/// not kept for a caller that needs none.
#[derive(Debug, Default)]
pub struct Changes {
    keys: Option<Vec<Change>>,
    locks: Vec<LockChange>,
}

impl Changes {
    /// Keeps the changes of keys.
    pub fn kept() -> Self {
        Self {
            keys: Some(Vec::new()),
            locks: Vec::new(),
        }
    }

    /// Keeps no changes of keys: these cost nothing.
    pub const fn ignored() -> Self {
        Self {
            keys: None,
            locks: Vec::new(),
        }
    }

    /// Whether changes of keys are kept.
    pub fn are_kept(&self) -> bool {
        self.keys.is_some()
    }

    /// Whether there is no change of a key.
    pub fn is_empty(&self) -> bool {
        self.keys.as_ref().is_none_or(Vec::is_empty)
    }

    /// Adds `change`.
    pub(super) fn push(&mut self, change: Change) {
        if let Some(changes) = &mut self.keys {
            changes.push(change);
        }
    }

    /// Adds the change of a lock.
    pub(super) fn push_lock(&mut self, change: LockChange) {
        self.locks.push(change);
    }

    /// Takes the changes of keys out.
    pub fn take(&mut self) -> impl Iterator<Item = Change> {
        self.keys.iter_mut().flat_map(|changes| changes.drain(..))
    }

    /// Takes the changes of locks out.
    pub fn take_locks(&mut self) -> impl Iterator<Item = LockChange> {
        self.locks.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Command, MAX_STEP, Operation, SetLifetime, Stamp, StateMachine, Txn, Write};
    use crate::types::{ClientId, WallTime};

    fn set(key: &str, value: &str) -> Write {
        let (key, value) = (key.to_owned().into(), value.to_owned().into());
        Write::Set { key, value }
    }

    fn delete(key: &str) -> Write {
        let key = key.to_owned().into();
        Write::Delete { key }
    }

    fn change(index: u64, key: &str, value: Option<&str>) -> Change {
        Change {
            revision: WallTime::FIRST.micros() + index,
            key: key.to_owned().into(),
            value: value.map(|value| value.to_owned().into()),
            lifetime: Lifetime::Unlimited,
            cause: match value {
                Some(_) => Cause::Set,
                None => Cause::Deleted,
            },
        }
    }

    /// Applies the commands from index 1 on.
    fn apply(commands: Vec<Command>, changes: &mut Changes) -> StateMachine {
        let mut state = StateMachine::default().with_revisions_from(Some(WallTime::FIRST));
        for (index, command) in (1..).zip(commands) {
            state.apply_noting(index, command, changes);
        }
        state
    }

    #[test]
    fn each_key_that_a_command_binds_or_removes_is_a_change() {
        let txn = Txn {
            conditions: Vec::new(),
            success: vec![
                Operation::Delete("b".into()),
                Operation::Get("a".into()),
                Operation::Delete("missing".into()),
                Operation::Set {
                    key: "c".into(),
                    value: "3".into(),
                    lifetime: SetLifetime::default(),
                },
            ],
            failure: vec![Operation::Delete("a".into())],
        };
        let commands = [
            set("a", "1"),
            set("b", "1"),
            set("a", "1"),
            delete("missing"),
            Write::Txn(Box::new(txn)),
            delete("a"),
        ];
        let mut changes = Changes::kept();
        let commands: Vec<Command> = commands.map(Command::from).into();
        let state = apply(commands.clone(), &mut changes);
        let expected = [
            change(1, "a", Some("1")),
            change(2, "b", Some("1")),
            change(3, "a", Some("1")),
            change(5, "b", None),
            change(5, "c", Some("3")),
            change(6, "a", None),
        ];
        assert!(!changes.is_empty());
        assert_eq!(changes.take().collect::<Vec<_>>(), expected);
        assert!(changes.is_empty() && changes.are_kept());
        // A caller that needs none has the same state.
        let mut ignored = Changes::ignored();
        assert_eq!(apply(commands, &mut ignored), state);
        assert!(ignored.is_empty() && !ignored.are_kept());
        assert_eq!(ignored.take().count(), 0);
    }

    #[test]
    fn a_write_that_was_applied_before_is_no_change() {
        let numbered = Command::Write {
            write: set("a", "1"),
            stamp: Some(Stamp {
                client_id: ClientId(7),
                sequence: 1,
                first_outstanding: 1,
            }),
        };
        let commands = vec![
            numbered.clone(),
            Command::OpenSession(ClientId(7)),
            numbered.clone(),
            numbered,
        ];
        let mut changes = Changes::kept();
        apply(commands, &mut changes);
        let changes: Vec<_> = changes.take().collect();
        assert_eq!(changes, [change(3, "a", Some("1"))]);
    }

    #[test]
    fn a_removal_tells_its_cause() {
        let set = |key: &'static str, lifetime| Operation::Set {
            key: key.into(),
            value: "1".into(),
            lifetime: SetLifetime::To(lifetime),
        };
        let txn = Txn {
            conditions: Vec::new(),
            success: vec![
                set("a", Lifetime::Ttl(1_000)),
                set("b", Lifetime::Owner(ClientId(7))),
                set("c", Lifetime::Owner(ClientId(8))),
            ],
            failure: Vec::new(),
        };
        let open = |id| Command::OpenLivingSession {
            client_id: ClientId(id),
            ttl: 2_000,
        };
        let mut commands = vec![
            open(7),
            open(8),
            Write::Txn(Box::new(txn)).into(),
            Command::CloseSession(ClientId(7)),
        ];
        commands.extend((0..5).map(|_| Command::Clock {
            step: MAX_STEP,
            renewed: Default::default(),
        }));
        let mut changes = Changes::kept();
        apply(commands, &mut changes);
        let changes: Vec<_> = changes.take().collect();
        let bound = changes.iter().take(3).map(|it| it.lifetime);
        let lifetimes = [
            Lifetime::Ttl(1_000),
            Lifetime::Owner(ClientId(7)),
            Lifetime::Owner(ClientId(8)),
        ];
        assert!(bound.eq(lifetimes));
        let gone = |index, key, cause| Change {
            cause,
            ..change(index, key, None)
        };
        let removals = [
            gone(4, "b", Cause::SessionEnded),
            gone(7, "a", Cause::Expired),
            gone(9, "c", Cause::SessionEnded),
        ];
        assert_eq!(changes[3..], removals);
    }

    #[test]
    fn a_value_is_shared_with_the_map() {
        let mut changes = Changes::kept();
        let commands = vec![set("key", "value").into(), delete("key").into()];
        let state = apply(commands[..1].to_vec(), &mut changes);
        let change = changes.take().next().expect("one");
        let value = state.get(b"key").expect("bound");
        assert_eq!(
            change.value.as_ref().map(|it| it.as_ptr()),
            Some(value.as_ptr())
        );
        assert_eq!(change.bytes(), 8);
        apply(commands, &mut changes);
        assert_eq!(changes.take().last().expect("the removal").bytes(), 3);
    }
}
