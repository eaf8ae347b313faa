//! Calls: reads, writes, transactions, scans and pipelines.

use bytes::Bytes;
use seshat::client::{
    self, Conditional, ConditionalWrite, Lifetime, Operation as PipelineOperation, PipelineOptions,
    Reply, TxnOperation, TxnResult,
};
use seshat_conformance::protocol::condition::Test;
use seshat_conformance::protocol::lifetime::Lifetime as OneOf;
use seshat_conformance::protocol::operation::Operation as Asked;
use seshat_conformance::protocol::operation_result::Result as Came;
use seshat_conformance::protocol::response::Outcome;
use seshat_conformance::protocol::{
    self, Answers, Condition, Deleted, Done, Failure, Got, NotHeld, Operation, OperationResult,
    Scanned, TxnDone, Written,
};

use crate::Answer;
use crate::convert::{duration, entry, failure, found, invalid};
use crate::handles::{At, Handles};

/// Reads a key.
pub(crate) async fn get(get: protocol::Get, handles: &Handles) -> Answer {
    let key = get.key;
    let read = async |at| {
        match at {
            At::Client(client) => client.get_with_index(key.clone()).await,
            At::Session(session) => session.get_with_index(key.clone()).await,
        }
        .map_err(|error| failure(&error))
    };
    let entry = found(key.clone(), handles.call(get.caller, read).await?);
    Ok(Outcome::Got(Got { entry }))
}

/// Binds a key.
pub(crate) async fn set(set: protocol::Set, handles: &Handles) -> Answer {
    let protocol::Set {
        caller,
        key,
        value,
        condition,
        lifetime,
    } = set;
    let lifetime = lifetime_of(lifetime, handles)?;
    let test = condition.map(|it| test_of(it, handles)).transpose()?;
    handles
        .call(caller, async |at| {
            let write = match &at {
                At::Client(client) => client.set(key.clone(), value),
                At::Session(session) => session.set(key.clone(), value),
            }
            .lifetime(lifetime);
            let write = match test {
                None => {
                    let written = write.await.map_err(|error| failure(&error))?;
                    return Ok(Outcome::Written(Written {
                        revision: written.applied_index,
                    }));
                }
                Some(client::Condition::Exists { exists: false, .. }) => write.if_absent(),
                Some(client::Condition::Revision { revision, .. }) => write.if_revision(revision),
                Some(client::Condition::Value { value, .. }) => write.if_value(value),
                Some(client::Condition::Held { name, token }) => write.if_token(name, token),
                Some(_) => return Err(invalid("a write has no such condition")),
            };
            let written = |it: client::Written| {
                Outcome::Written(Written {
                    revision: it.applied_index,
                })
            };
            conditional(key, write, written).await
        })
        .await
}

/// Removes a key.
pub(crate) async fn delete(delete: protocol::Delete, handles: &Handles) -> Answer {
    let protocol::Delete {
        caller,
        key,
        condition,
    } = delete;
    let test = condition.map(|it| test_of(it, handles)).transpose()?;
    handles
        .call(caller, async |at| {
            let write = match &at {
                At::Client(client) => client.delete(key.clone()),
                At::Session(session) => session.delete(key.clone()),
            };
            let removed = |it: client::Deleted| {
                Outcome::Deleted(Deleted {
                    existed: it.existed,
                    revision: it.applied_index,
                })
            };
            let write = match test {
                None => return write.await.map(removed).map_err(|error| failure(&error)),
                Some(client::Condition::Revision { revision, .. }) => write.if_revision(revision),
                Some(client::Condition::Value { value, .. }) => write.if_value(value),
                Some(client::Condition::Held { name, token }) => write.if_token(name, token),
                Some(_) => return Err(invalid("a removal has no such condition")),
            };
            conditional(key, write, removed).await
        })
        .await
}

async fn conditional<T>(
    key: Bytes,
    write: ConditionalWrite<'_, T>,
    succeeded: impl FnOnce(T) -> Outcome,
) -> Answer {
    Ok(match write.await.map_err(|error| failure(&error))? {
        Conditional::Succeeded(done) => succeeded(done),
        Conditional::Failed(other) => Outcome::NotHeld(NotHeld {
            found: found(key, other),
        }),
    })
}

/// Carries out a transaction.
pub(crate) async fn txn(txn: protocol::Txn, handles: &Handles) -> Answer {
    let protocol::Txn {
        caller,
        conditions,
        success,
        failure: otherwise,
    } = txn;
    let conditions: Vec<_> = conditions
        .into_iter()
        .map(|it| test_of(it, handles))
        .collect::<Result<_, _>>()?;
    let branch = |operations: Vec<Operation>| -> Result<Vec<_>, Failure> {
        operations
            .into_iter()
            .map(|it| txn_operation(it, handles))
            .collect()
    };
    let (success, otherwise) = (branch(success)?, branch(otherwise)?);
    let carry_out = async |at| {
        let mut call = match &at {
            At::Client(client) => client.txn(),
            At::Session(session) => session.txn(),
        };
        for condition in conditions {
            call = call.when(condition);
        }
        for operation in success {
            call = call.then(operation);
        }
        for operation in otherwise {
            call = call.otherwise(operation);
        }
        call.await.map_err(|error| failure(&error))
    };
    let outcome = handles.call(caller, carry_out).await?;
    let results = outcome.results.into_iter().map(|result| match result {
        TxnResult::Written => Ok(Came::Set(Done {})),
        TxnResult::Found(found) => Ok(Came::Get(Got {
            entry: found.map(entry),
        })),
        TxnResult::Deleted { existed } => Ok(Came::Existed(existed)),
        _ => Err(invalid("a result of another kind")),
    });
    let results = results.map(|it| Ok(OperationResult { result: Some(it?) }));
    Ok(Outcome::TxnDone(TxnDone {
        succeeded: outcome.succeeded,
        results: results.collect::<Result<_, Failure>>()?,
        revision: outcome.revision,
    }))
}

/// Reads the keys of a range.
pub(crate) async fn scan(scan: protocol::Scan, handles: &Handles) -> Answer {
    let protocol::Scan {
        caller,
        prefix,
        limit,
        keys_only,
        count_only,
    } = scan;
    let read = async |at| {
        let At::Client(client) = at else {
            return Err(invalid("a scan belongs to no session"));
        };
        let mut scan = client.scan(prefix);
        if limit > 0 {
            scan = scan.limit(limit);
        }
        if keys_only {
            scan = scan.keys_only();
        }
        if count_only {
            let count = scan.count().await.map_err(|error| failure(&error))?;
            return Ok(Scanned {
                entries: Vec::new(),
                count,
            });
        }
        let entries = scan.collect().await.map_err(|error| failure(&error))?;
        Ok(Scanned {
            entries: entries.into_iter().map(entry).collect(),
            count: 0,
        })
    };
    Ok(Outcome::Scanned(handles.call(caller, read).await?))
}

/// Sends commands on one stream.
pub(crate) async fn pipeline(pipeline: protocol::Pipeline, handles: &Handles) -> Answer {
    let operations: Vec<_> = pipeline
        .commands
        .into_iter()
        .map(command)
        .collect::<Result<_, Failure>>()?;
    let keys: Vec<_> = operations.iter().map(key_of).collect();
    let send = async |at| {
        // As many in flight as there are: all are sent before the first answer is waited for.
        let options = PipelineOptions::default().window(operations.len());
        let pipeline = match at {
            At::Client(client) => client.pipeline(options).await,
            At::Session(session) => session.pipeline(options).await,
        };
        let pipeline = pipeline.map_err(|error| failure(&error))?;
        let mut submitted = Vec::new();
        for operation in operations {
            submitted.push(pipeline.submit([operation]).await);
        }
        let mut results = Vec::new();
        for (answers, key) in submitted.into_iter().zip(keys) {
            results.push(match answers {
                Ok(answers) => answers.await.into_iter().next().map(|it| result(it, key)),
                Err(error) => Some(Came::Failure(failure(&error))),
            });
        }
        Ok(results)
    };
    let results = handles.call(pipeline.caller, send).await?;
    let results = results.into_iter().map(|result| OperationResult { result });
    Ok(Outcome::Answers(Answers {
        results: results.collect(),
    }))
}

fn result(reply: Result<Reply, client::Error>, key: Bytes) -> Came {
    match reply {
        Ok(Reply::Written(_)) => Came::Set(Done {}),
        Ok(Reply::Found(it)) => Came::Get(Got {
            entry: found(key, it),
        }),
        Ok(Reply::Deleted(it)) => Came::Existed(it.existed),
        Ok(_) => Came::Failure(invalid("a reply of another kind")),
        Err(error) => Came::Failure(failure(&error)),
    }
}

fn command(operation: Operation) -> Result<PipelineOperation, Failure> {
    Ok(match operation.operation {
        Some(Asked::Set(set)) => PipelineOperation::set(set.key, set.value),
        Some(Asked::Get(get)) => PipelineOperation::get(get.key),
        Some(Asked::Delete(delete)) => PipelineOperation::delete(delete.key),
        None => return Err(invalid("a command of no kind")),
    })
}

fn key_of(operation: &PipelineOperation) -> Bytes {
    match operation {
        PipelineOperation::Set { key, .. }
        | PipelineOperation::Get { key }
        | PipelineOperation::Delete { key } => key.clone(),
        _ => Bytes::new(),
    }
}

fn txn_operation(operation: Operation, handles: &Handles) -> Result<TxnOperation, Failure> {
    Ok(match operation.operation {
        Some(Asked::Set(set)) => {
            let lifetime = lifetime_of(set.lifetime, handles)?;
            TxnOperation::set(set.key, set.value).lifetime(lifetime)
        }
        Some(Asked::Get(get)) => TxnOperation::get(get.key),
        Some(Asked::Delete(delete)) => TxnOperation::delete(delete.key),
        None => return Err(invalid("an operation of no kind")),
    })
}

fn lifetime_of(
    lifetime: Option<protocol::Lifetime>,
    handles: &Handles,
) -> Result<Lifetime, Failure> {
    Ok(match lifetime.and_then(|it| it.lifetime) {
        None => Lifetime::Unlimited,
        Some(OneOf::Ttl(ttl)) => Lifetime::Ttl(duration(ttl)?),
        Some(OneOf::Owner(session)) => Lifetime::Owner(handles.session_id(&session)?),
        Some(OneOf::Keep(_)) => Lifetime::Keep,
    })
}

fn test_of(condition: Condition, handles: &Handles) -> Result<client::Condition, Failure> {
    let key = condition.key;
    Ok(match condition.test {
        Some(Test::Exists(true)) => client::Condition::exists(key),
        Some(Test::Exists(false)) => client::Condition::missing(key),
        Some(Test::Revision(revision)) => client::Condition::revision(key, revision),
        Some(Test::Value(value)) => client::Condition::value(key, value),
        Some(Test::Held(lock)) => {
            let (name, token) = handles.token(&lock)?;
            client::Condition::token(name, token)
        }
        Some(Test::Token(token)) => client::Condition::token(token.name, token.token),
        None => return Err(invalid("a condition of no kind")),
    })
}
