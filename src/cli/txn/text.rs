//! A transaction as lines of text.

use bytes::Bytes;
use seshat::client::{Condition, Lifetime, Txn, TxnOperation};

use super::super::options::{lock_name, ttl as ttl_of};
use super::super::word::{Word, split};
use super::{LONGEST_SHOWN, MAX_OPERATIONS, size};

/// The tests of conditions.
const IF: &str = "if exists, missing, revision, value or held";

/// The form of a `set`.
const SET: &str = "set KEY VALUE [ttl DURATION | keep]";

/// The transaction in `input`.
///
/// # Errors
///
/// The fault, with the number of its line.
pub(super) fn parse(input: &[u8]) -> Result<Txn, String> {
    let mut txn = Txn::default();
    let mut part = Part::Conditions;
    for (line, number) in input.split(|byte| *byte == b'\n').zip(1_u64..) {
        let fault = |fault| format!("line {number}: {fault}");
        let words = split(line).map_err(fault)?;
        let words: Vec<_> = words.into_iter().map(Bytes::from).collect();
        if let [verb, rest @ ..] = words.as_slice() {
            (txn, part) = statement(txn, part, verb, rest).map_err(fault)?;
        }
        if size(&txn) > MAX_OPERATIONS {
            let rule = format!("more than {MAX_OPERATIONS} conditions and operations");
            return Err(fault(rule));
        }
    }
    match size(&txn) {
        0 => Err("no condition and no operation".to_owned()),
        _ => Ok(txn),
    }
}

/// The part of a transaction that a line belongs to.
#[derive(Clone, Copy)]
enum Part {
    Conditions,
    Success,
    Failure,
}

/// The transaction with one more line, and the part that the next line belongs to.
fn statement(txn: Txn, part: Part, verb: &[u8], rest: &[Bytes]) -> Result<(Txn, Part), String> {
    Ok(match (verb, part) {
        (b"if", Part::Conditions) => (txn.when(condition(rest)?), part),
        (b"if", _) => return Err("a condition is before all operations".to_owned()),
        (b"else", Part::Failure) => return Err("a second else".to_owned()),
        (b"else", _) if !rest.is_empty() => return Err("else is a line of its own".to_owned()),
        (b"else", _) => (txn, Part::Failure),
        (_, Part::Failure) => (txn.otherwise(operation(verb, rest)?), part),
        _ => (txn.then(operation(verb, rest)?), Part::Success),
    })
}

fn condition(words: &[Bytes]) -> Result<Condition, String> {
    let Some((test, rest)) = words.split_first() else {
        return Err(IF.to_owned());
    };
    match (&test[..], rest) {
        (b"exists", [tested]) => Ok(Condition::exists(key(tested)?)),
        (b"missing", [tested]) => Ok(Condition::missing(key(tested)?)),
        (b"revision", [tested, revision]) => {
            let revision = number(revision, "no revision")?;
            Ok(Condition::revision(key(tested)?, revision))
        }
        (b"value", [tested, value]) => Ok(Condition::value(key(tested)?, value.clone())),
        (b"held", [name, token]) => {
            let shown = || shown(name);
            let name = str::from_utf8(name).map_err(|_| format!("{}: no lock", shown()))?;
            let name = lock_name(name).map_err(str::to_owned)?;
            Ok(Condition::token(name, number(token, "no token")?))
        }
        (b"exists", _) => Err("if exists KEY".to_owned()),
        (b"missing", _) => Err("if missing KEY".to_owned()),
        (b"revision", _) => Err("if revision KEY REVISION".to_owned()),
        (b"value", _) => Err("if value KEY VALUE".to_owned()),
        (b"held", _) => Err("if held LOCK TOKEN".to_owned()),
        _ => Err(format!("{IF}, not {}", shown(test))),
    }
}

fn number(word: &[u8], fault: &str) -> Result<u64, String> {
    let number = str::from_utf8(word).ok().and_then(|it| it.parse().ok());
    number.ok_or_else(|| format!("{}: {fault}", shown(word)))
}

fn operation(verb: &[u8], words: &[Bytes]) -> Result<TxnOperation, String> {
    match (verb, words) {
        (b"set", [bound, value, lifetime @ ..]) => {
            let set = TxnOperation::set(key(bound)?, value.clone());
            Ok(set.lifetime(self::lifetime(lifetime)?))
        }
        (b"get", [read]) => Ok(TxnOperation::get(key(read)?)),
        (b"del", [removed]) => Ok(TxnOperation::delete(key(removed)?)),
        (b"set", _) => Err(SET.to_owned()),
        (b"get", _) => Err("get KEY".to_owned()),
        (b"del", _) => Err("del KEY".to_owned()),
        _ => Err(format!("if, set, get, del or else, not {}", shown(verb))),
    }
}

/// The lifetime of a key, from the words behind its value.
fn lifetime(words: &[Bytes]) -> Result<Lifetime, String> {
    match words {
        [] => Ok(Lifetime::Unlimited),
        [keep] if keep == "keep" => Ok(Lifetime::Keep),
        [verb, duration] if verb == "ttl" => {
            let ttl = str::from_utf8(duration).map_err(|_| "no duration".to_owned());
            let ttl = ttl
                .and_then(ttl_of)
                .map_err(|fault| format!("{}: {fault}", shown(duration)))?;
            Ok(Lifetime::Ttl(ttl))
        }
        _ => Err(SET.to_owned()),
    }
}

fn key(key: &Bytes) -> Result<Bytes, String> {
    match key.is_empty() {
        true => Err("a key has at least one byte".to_owned()),
        false => Ok(key.clone()),
    }
}

/// The beginning of a word, for people.
fn shown(word: &[u8]) -> String {
    match word.get(..LONGEST_SHOWN) {
        Some(beginning) if word.len() > LONGEST_SHOWN => format!("{}…", Word(beginning)),
        _ => Word(word).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_line_is_a_condition_or_an_operation() {
        let input =
            b"# move\n\nif exists k\nif missing 'a b'\r\nif revision k 7\nif value k \"\\xff\"\n\
            if held 'my lock' 7\nset k v\n get k\ndel k\nset l v ttl 1m # soon\nelse # then not\nset k ''\nset k v keep\nget l";
        let expected = Txn::default()
            .when(Condition::exists("k"))
            .when(Condition::missing("a b"))
            .when(Condition::revision("k", 7))
            .when(Condition::value("k", &b"\xff"[..]))
            .when(Condition::token("my lock", 7))
            .then(TxnOperation::set("k", "v"))
            .then(TxnOperation::get("k"))
            .then(TxnOperation::delete("k"))
            .then(TxnOperation::set("l", "v").ttl(Duration::from_secs(60)))
            .otherwise(TxnOperation::set("k", ""))
            .otherwise(TxnOperation::set("k", "v").keep_lifetime())
            .otherwise(TxnOperation::get("l"));
        assert_eq!(parse(input), Ok(expected));
        assert_eq!(
            parse(b"else\nget \xfe\0"),
            Ok(Txn::default().otherwise(TxnOperation::get(&b"\xfe\0"[..])))
        );
    }

    #[test]
    fn a_fault_has_the_number_of_its_line() {
        for (input, fault) in [
            ("", "no condition and no operation"),
            (" \n# k\nelse", "no condition and no operation"),
            (
                "get k\n\nfoo k",
                "line 3: if, set, get, del or else, not foo",
            ),
            (
                "\x1b[2J",
                "line 1: if, set, get, del or else, not \"\\x1b[2J\"",
            ),
            ("if", "line 1: if exists, missing, revision, value or held"),
            (
                "if k",
                "line 1: if exists, missing, revision, value or held, not k",
            ),
            ("if held k", "line 1: if held LOCK TOKEN"),
            ("if held k v", "line 1: v: no token"),
            (
                "if held '' 7",
                "line 1: a lock has a name of 1 to 256 bytes",
            ),
            ("if held \"\\xff\" 7", "line 1: \"\\xff\": no lock"),
            ("if exists", "line 1: if exists KEY"),
            ("if missing a b", "line 1: if missing KEY"),
            ("if revision k", "line 1: if revision KEY REVISION"),
            ("if revision k -1", "line 1: -1: no revision"),
            ("if value k", "line 1: if value KEY VALUE"),
            ("set k", "line 1: set KEY VALUE [ttl DURATION | keep]"),
            ("set k v w", "line 1: set KEY VALUE [ttl DURATION | keep]"),
            (
                "set k v keep it",
                "line 1: set KEY VALUE [ttl DURATION | keep]",
            ),
            (
                "set k v ttl 1s keep",
                "line 1: set KEY VALUE [ttl DURATION | keep]",
            ),
            ("set k v ttl 0s", "line 1: 0s: not between 1s and 3650d"),
            ("set '' v keep", "line 1: a key has at least one byte"),
            ("get", "line 1: get KEY"),
            ("del k l", "line 1: del KEY"),
            ("get ''", "line 1: a key has at least one byte"),
            (
                "get k\nif exists k",
                "line 2: a condition is before all operations",
            ),
            (
                "else\nif exists k",
                "line 2: a condition is before all operations",
            ),
            ("else\nget k\nelse", "line 3: a second else"),
            ("else get k", "line 1: else is a line of its own"),
            ("set k 'v\nw'", "line 1: a single quote is not closed"),
        ] {
            assert_eq!(parse(input.as_bytes()), Err(fault.to_owned()), "{input:?}");
        }
        let long = parse("x".repeat(100).as_bytes()).unwrap_err();
        assert!(
            long.ends_with(&format!("not {}…", "x".repeat(40))),
            "{long}"
        );
        let many = "get k\n".repeat(10_000);
        let fault = parse(many.as_bytes()).unwrap_err();
        assert_eq!(fault, "line 129: more than 128 conditions and operations");
    }
}
