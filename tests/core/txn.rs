//! The notation of transactions in scripts.

use seshat::kv::{Condition, KeyTest, Lifetime, Operation, SetLifetime, Txn};
use seshat::types::{ClientId, WallTime};

use crate::cluster::Result;

/// A transaction of the conditions `tests` and of two branches, each with parts between semicolons. A
/// condition is `a` (it exists), `!a` (it is missing), `a=1` (its value), `a@7` (its revision), or `a held@7` (lock a is held under that token). An
/// operation is `set a=1`, `get a` or `del a`. A lifetime follows the value: `set a=1 for 5000` (milliseconds),
/// `set a=1 of 7` (a session), or `set a=1 kept`.
pub(crate) fn parse(tests: &str, success: &str, failure: &str) -> Result<Txn> {
    Ok(Txn {
        conditions: parts(tests).map(condition).collect::<Result<_>>()?,
        success: parts(success).map(operation).collect::<Result<_>>()?,
        failure: parts(failure).map(operation).collect::<Result<_>>()?,
    })
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(';')
        .map(str::trim)
        .filter(|part| !part.is_empty())
}

fn condition(text: &str) -> Result<Condition> {
    if let Some((name, token)) = text.split_once(" held@") {
        let token: u64 = token.parse()?;
        return Ok(Condition::Held {
            name: name.into(),
            token: WallTime::FIRST.micros() + token,
        });
    }
    let (key, test) = if let Some(key) = text.strip_prefix('!') {
        (key, KeyTest::Exists(false))
    } else if let Some((key, value)) = text.split_once('=') {
        (key, KeyTest::Value(value.to_owned().into()))
    } else if let Some((key, revision)) = text.split_once('@') {
        let revision: u64 = revision.parse()?;
        let revision = match revision {
            0 => 0,
            _ => WallTime::FIRST.micros() + revision,
        };
        (key, KeyTest::Revision(revision))
    } else {
        (text, KeyTest::Exists(true))
    };
    let key = key.to_owned().into();
    Ok(Condition::Key { key, test })
}

fn operation(text: &str) -> Result<Operation> {
    let (verb, rest) = text.split_once(' ').ok_or("no operation")?;
    match (verb, rest.split_once('=')) {
        ("set", Some((key, value))) => {
            let words: Vec<_> = value.split(' ').collect();
            let (value, lifetime) = match words.as_slice() {
                [value] => (value, SetLifetime::default()),
                [value, "for", ttl] => (value, SetLifetime::To(Lifetime::Ttl(ttl.parse()?))),
                [value, "of", owner] => {
                    let owner = ClientId(owner.parse()?);
                    (value, SetLifetime::To(Lifetime::Owner(owner)))
                }
                [value, "kept"] => (value, SetLifetime::Keep),
                _ => return Err(format!("no lifetime: {text}").into()),
            };
            Ok(Operation::Set {
                key: key.to_owned().into(),
                value: (*value).to_owned().into(),
                lifetime,
            })
        }
        ("get", None) => Ok(Operation::Get(rest.to_owned().into())),
        ("del", None) => Ok(Operation::Delete(rest.to_owned().into())),
        _ => Err(format!("no operation: {text}").into()),
    }
}
