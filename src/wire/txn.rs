//! Transactions: in requests, in the log, in answers, and in remembered answers.

use std::sync::Arc;

use crate::kv::{
    Condition, Entry, KeyRange, KeyTest, MAX_TXN_OPERATIONS, Operation, OperationResult, Part,
    SessionInfo, Txn, TxnOutcome,
};
use crate::proto::kv as proto;
use crate::proto::kv::condition::Condition as Tested;
use crate::proto::kv::key_condition::Test;
use crate::proto::kv::key_range::Range;
use crate::proto::kv::operation::Operation as Asked;
use crate::proto::kv::operation_result::Result as Done;
use crate::types::{Key, Revision, Value};
use crate::wire::locks::lock_name;
use crate::wire::{WireError, time};

impl From<Txn> for proto::TxnCommand {
    fn from(txn: Txn) -> Self {
        let Txn {
            conditions,
            success,
            failure,
        } = txn;
        Self {
            conditions: conditions.into_iter().map(Into::into).collect(),
            success: success.into_iter().map(Into::into).collect(),
            failure: failure.into_iter().map(Into::into).collect(),
            session: None,
        }
    }
}

/// Without the session, which belongs to the command.
impl TryFrom<proto::TxnCommand> for Txn {
    type Error = WireError;

    fn try_from(command: proto::TxnCommand) -> Result<Self, WireError> {
        let proto::TxnCommand {
            conditions,
            success,
            failure,
            session: _,
        } = command;
        if conditions.len() + success.len() + failure.len() > MAX_TXN_OPERATIONS {
            let reason = format!("more than {MAX_TXN_OPERATIONS}");
            return Err(WireError::new("Txn", "conditions", reason));
        }
        Ok(Self {
            conditions: each(conditions)?,
            success: branch(success, "success")?,
            failure: branch(failure, "failure")?,
        })
    }
}

fn each<T, U: TryFrom<T, Error = WireError>>(all: Vec<T>) -> Result<Vec<U>, WireError> {
    all.into_iter().map(TryInto::try_into).collect()
}

/// The operations of a branch, which writes no key twice.
fn branch(
    operations: Vec<proto::Operation>,
    field: &'static str,
) -> Result<Vec<Operation>, WireError> {
    let operations: Vec<Operation> = each(operations)?;
    let mut written = std::collections::HashSet::new();
    let twice = operations
        .iter()
        .filter(|operation| operation.writes())
        .any(|operation| !written.insert(operation.key()));
    if twice {
        return Err(WireError::new("Txn", field, "a key is written twice"));
    }
    Ok(operations)
}

/// A key of the message `message`.
fn key(message: &'static str, key: Key) -> Result<Key, WireError> {
    if key.is_empty() {
        return Err(WireError::new(message, "key", "empty"));
    }
    Ok(key)
}

impl From<Condition> for proto::Condition {
    fn from(condition: Condition) -> Self {
        let condition = match condition {
            Condition::Key { key, test } => {
                let test = Some(match test {
                    KeyTest::Exists(exists) => Test::Exists(exists),
                    KeyTest::Revision(revision) => Test::Revision(revision),
                    KeyTest::Value(value) => Test::Value(value),
                });
                Tested::Key(proto::KeyCondition { key, test })
            }
            Condition::Held { name, token } => Tested::Lock(proto::HeldLock {
                name: name.to_string(),
                token,
            }),
        };
        Self {
            condition: Some(condition),
        }
    }
}

impl TryFrom<proto::Condition> for Condition {
    type Error = WireError;

    fn try_from(condition: proto::Condition) -> Result<Self, WireError> {
        match condition.condition {
            Some(Tested::Key(proto::KeyCondition { key: tested, test })) => {
                let test = match test {
                    Some(Test::Exists(exists)) => KeyTest::Exists(exists),
                    Some(Test::Revision(revision)) => KeyTest::Revision(revision),
                    Some(Test::Value(value)) => KeyTest::Value(value),
                    None => {
                        return Err(WireError::new("KeyCondition", "test", "missing or unknown"));
                    }
                };
                let key = key("KeyCondition", tested)?;
                Ok(Self::Key { key, test })
            }
            Some(Tested::Lock(proto::HeldLock { name, token })) => Ok(Self::Held {
                name: lock_name("HeldLock", &name)?,
                token,
            }),
            None => Err(WireError::new(
                "Condition",
                "condition",
                "missing or unknown",
            )),
        }
    }
}

impl From<Operation> for proto::Operation {
    fn from(operation: Operation) -> Self {
        let operation = match operation {
            Operation::Set {
                key,
                value,
                lifetime,
            } => Asked::Set(proto::SetOperation {
                key,
                value,
                lifetime: time::asked(lifetime),
            }),
            Operation::Get(key) => Asked::Get(proto::GetOperation { key }),
            Operation::Delete(key) => Asked::Delete(proto::DeleteOperation { key }),
        };
        Self {
            operation: Some(operation),
        }
    }
}

impl TryFrom<proto::Operation> for Operation {
    type Error = WireError;

    fn try_from(operation: proto::Operation) -> Result<Self, WireError> {
        match operation.operation {
            Some(Asked::Set(proto::SetOperation {
                key: bound,
                value,
                lifetime,
            })) => Ok(Self::Set {
                key: key("SetOperation", bound)?,
                value,
                lifetime: time::lifetime(lifetime)?,
            }),
            Some(Asked::Get(proto::GetOperation { key: read })) => {
                Ok(Self::Get(key("GetOperation", read)?))
            }
            Some(Asked::Delete(proto::DeleteOperation { key: removed })) => {
                Ok(Self::Delete(key("DeleteOperation", removed)?))
            }
            None => Err(WireError::new(
                "Operation",
                "operation",
                "missing or unknown",
            )),
        }
    }
}

impl From<Entry> for proto::Entry {
    fn from(entry: Entry) -> Self {
        let Entry {
            key,
            value,
            revision,
            lifetime,
        } = entry;
        let (ttl, owner) = time::entry_fields(lifetime);
        Self {
            key,
            value,
            revision,
            ttl,
            owner,
        }
    }
}

impl TryFrom<proto::Entry> for Entry {
    type Error = WireError;

    fn try_from(entry: proto::Entry) -> Result<Self, WireError> {
        let proto::Entry {
            key,
            value,
            revision,
            ttl,
            owner,
        } = entry;
        Ok(Self {
            key,
            value,
            revision,
            lifetime: time::entry_lifetime(ttl, owner)?,
        })
    }
}

impl From<OperationResult> for proto::OperationResult {
    fn from(result: OperationResult) -> Self {
        let result = match result {
            OperationResult::Set => Done::Set(proto::SetResult {}),
            OperationResult::Got(entry) => Done::Get(proto::GetResult {
                entry: entry.map(Into::into),
            }),
            OperationResult::Deleted { existed } => Done::Delete(proto::DeleteResult { existed }),
        };
        Self {
            result: Some(result),
        }
    }
}

impl TryFrom<proto::OperationResult> for OperationResult {
    type Error = WireError;

    fn try_from(result: proto::OperationResult) -> Result<Self, WireError> {
        match result.result {
            Some(Done::Set(proto::SetResult {})) => Ok(Self::Set),
            Some(Done::Get(proto::GetResult { entry })) => {
                Ok(Self::Got(entry.map(Entry::try_from).transpose()?))
            }
            Some(Done::Delete(proto::DeleteResult { existed })) => Ok(Self::Deleted { existed }),
            None => Err(WireError::new(
                "OperationResult",
                "result",
                "missing or unknown",
            )),
        }
    }
}

impl From<TxnOutcome> for proto::TxnOutcome {
    fn from(outcome: TxnOutcome) -> Self {
        let TxnOutcome { succeeded, results } = outcome;
        Self {
            succeeded,
            results: results.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<proto::TxnOutcome> for TxnOutcome {
    type Error = WireError;

    fn try_from(outcome: proto::TxnOutcome) -> Result<Self, WireError> {
        let proto::TxnOutcome { succeeded, results } = outcome;
        Ok(Self {
            succeeded,
            results: each(results)?,
        })
    }
}

/// The answer to a read of a key, at the revision `applied_index`. Without the cluster.
pub fn get_response(
    found: Option<(Value, Revision)>,
    applied_index: Revision,
) -> proto::GetResponse {
    let (value, revision) = found.unzip();
    proto::GetResponse {
        value,
        applied_index,
        cluster_id: None,
        revision: revision.unwrap_or(0),
    }
}

/// The answer to a transaction. Without the cluster.
pub fn txn_response(outcome: Arc<TxnOutcome>, revision: Revision) -> proto::TxnResponse {
    let proto::TxnOutcome { succeeded, results } = Arc::unwrap_or_clone(outcome).into();
    proto::TxnResponse {
        succeeded,
        results,
        revision,
        cluster_id: None,
    }
}

impl TryFrom<proto::KeyRange> for KeyRange {
    type Error = WireError;

    fn try_from(range: proto::KeyRange) -> Result<Self, WireError> {
        match range.range {
            Some(Range::Key(it)) => Ok(Self::key(key("KeyRange", it)?)),
            Some(Range::Prefix(prefix)) => Ok(Self::prefix(prefix)),
            Some(Range::Interval(proto::Interval { start, end })) => Ok(Self::interval(start, end)),
            None => Err(WireError::new("KeyRange", "range", "missing or unknown")),
        }
    }
}

/// A part of the answer to a scan at `revision`. Without the count and the cluster.
pub fn scan_response(part: Part, revision: Revision) -> proto::ScanResponse {
    let Part {
        entries,
        count: _,
        more,
    } = part;
    proto::ScanResponse {
        entries: entries.into_iter().map(Into::into).collect(),
        revision,
        count: 0,
        more,
        cluster_id: None,
    }
}

impl From<SessionInfo> for proto::SessionInfo {
    fn from(info: SessionInfo) -> Self {
        let SessionInfo {
            client_id,
            ttl,
            remaining,
            owned_keys,
        } = info;
        Self {
            client_id: client_id.0,
            ttl: Some(time::duration(ttl)),
            remaining: Some(time::duration(remaining)),
            owned_keys: u64::try_from(owned_keys).unwrap_or(u64::MAX),
        }
    }
}

/// A page of the living sessions at `revision`. Without the cluster.
pub fn list_sessions_response(
    sessions: Vec<SessionInfo>,
    more: bool,
    revision: Revision,
) -> proto::ListSessionsResponse {
    proto::ListSessionsResponse {
        sessions: sessions.into_iter().map(Into::into).collect(),
        more,
        revision,
        cluster_id: None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::kv::Lifetime;
    use crate::types::ClientId;

    pub(in crate::wire) fn entry() -> Entry {
        Entry {
            key: "k".into(),
            value: "v".into(),
            revision: 7,
            lifetime: Lifetime::Unlimited,
        }
    }

    #[test]
    fn conditions_and_both_branches_have_one_bound_together() {
        let key = || Key::from("k");
        let accepted = |conditions, success, failure| {
            let condition = Condition::Key {
                key: key(),
                test: KeyTest::Exists(true),
            };
            let txn = Txn {
                conditions: vec![condition; conditions],
                success: vec![Operation::Get(key()); success],
                failure: vec![Operation::Get(key()); failure],
            };
            Txn::try_from(proto::TxnCommand::from(txn)).is_ok()
        };
        let most = MAX_TXN_OPERATIONS;
        for (conditions, success, failure) in [
            (most, 0, 0),
            (0, most, 0),
            (0, 0, most),
            (most - 20, 10, 10),
        ] {
            assert!(accepted(conditions, success, failure));
            assert!(!accepted(conditions + 1, success, failure));
            assert!(!accepted(conditions, success + 1, failure));
            assert!(!accepted(conditions, success, failure + 1));
        }
    }

    #[test]
    fn a_part_of_a_scan_has_its_entries_and_whether_there_are_more() {
        let part = Part {
            entries: vec![entry()],
            count: 0,
            more: true,
        };
        let response = scan_response(part, 9);
        assert_eq!(response.entries, [entry().into()]);
        assert_eq!((response.revision, response.more), (9, true));
    }

    #[test]
    fn a_page_of_sessions_has_each_with_its_times() {
        let info = SessionInfo {
            client_id: ClientId(7),
            ttl: 2_500,
            remaining: 1_250,
            owned_keys: 3,
        };
        let page = list_sessions_response(vec![info], true, 9);
        let session = proto::SessionInfo {
            client_id: 7,
            ttl: Some(time::duration(2_500)),
            remaining: Some(time::duration(1_250)),
            owned_keys: 3,
        };
        assert_eq!(page.sessions, [session]);
        assert_eq!((page.more, page.revision), (true, 9));
    }
}
