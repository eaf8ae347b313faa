//! `seshat txn`.

mod json;
mod text;

use std::fmt::Write as _;
use std::process::ExitCode;

use seshat::client::{Client, Error, Txn, TxnCall, TxnOperation, TxnOutcome, TxnResult};

use super::entry::Json;
use super::failure::{Failure, UNMET};
use super::options::ClientOptions;
use super::word::Word;

const HELP: &str = r#"Standard input has one condition or operation on each line, and comments:
  if exists KEY              # the conditions, before all operations
  if missing KEY
  if revision KEY REVISION   # bound by the write of this revision
  if value KEY VALUE         # bound to exactly this value
  if held LOCK TOKEN         # the lock is held under exactly this token
  set KEY VALUE              # carried out if all conditions hold
  set KEY VALUE ttl 30s      # removed after this time, unless it is written again
  set KEY VALUE keep         # keeps the TTL that is running
  get KEY
  del KEY
  else
  get KEY                    # carried out if a condition does not hold
Words with spaces are quoted. 'Single quotes' take all as it is; "double quotes" know
\\ \" \n \r \t, and \xff for any byte. All is done at once or not at all; conditions
see the keys as they are before, operations see those before them.

Prints whether the conditions held, and a line for each operation. Words are quoted
as above where they need to be. Without a write it is a read of several keys.

Input that begins with { is JSON: the fields conditions, success and failure of
seshat.kv.v1.TxnRequest, as protobuf writes them. Keys and values are base64:
  {"conditions":[{"key":{"key":"azE=","exists":true}}],"success":[{"get":{"key":"azE="}}]}
With --json the answer is a seshat.kv.v1.TxnResponse in the same form:
  {"succeeded":true,"results":[{"get":{"entry":{"key":"azE=","value":"dg==",
  "revision":"41"}}}],"revision":"42"}

A transaction whose outcome is unknown is not tried again: see seshat set --help.

Examples:
  printf '%s\n' 'if missing owner' 'set owner node-1' 'else' 'get owner' | seshat txn
  seshat txn < move.txn

Exit codes:
  0  the conditions hold, and their operations are carried out
  1  a condition does not hold, and the operations after else are carried out
  2  the command line or standard input is faulty
  3  the cluster cannot be reached, refused the transaction, or its outcome is unknown
  5  carried out, but that could not be printed: standard error says so"#;

/// Most conditions and operations: a node accepts no more.
const MAX_OPERATIONS: usize = 128;

/// Longest part of a faulty word that is shown.
const LONGEST_SHOWN: usize = 40;

/// Test conditions, and read and write several keys at once.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP, next_line_help = true)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) client: ClientOptions,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let input = self.client.standard_input()?;
        let txn = match input.trim_ascii_start().first() {
            Some(b'{') => json::parse(&input),
            _ => text::parse(&input),
        };
        let txn = txn.map_err(|fault| Failure::usage(format!("standard input: {fault}")))?;
        let outcome = self
            .client
            .run(async |cluster| Ok(carry_out(cluster.client(), &txn).await?))?;
        let carried_out = match outcome.succeeded {
            true => &txn.success,
            false => &txn.failure,
        };
        let (text, json) = (text(carried_out, &outcome), json::answer(&outcome));
        if carried_out.iter().any(is_write) {
            let done = format_args!("revision {}", outcome.revision);
            self.client.print_done(done, text, json)?;
        } else {
            let printed = match self.client.json {
                true => self.client.print(Json(&json)),
                false => self.client.print(text),
            };
            printed.map_err(|failure| match outcome.succeeded {
                true => failure,
                false => failure.unmet(),
            })?;
        }
        Ok(match outcome.succeeded {
            true => ExitCode::SUCCESS,
            false => ExitCode::from(UNMET),
        })
    }
}

async fn carry_out(client: &Client, txn: &Txn) -> Result<TxnOutcome, Error> {
    let Txn {
        conditions,
        success,
        failure,
        ..
    } = txn.clone();
    let call = conditions.into_iter().fold(client.txn(), TxnCall::when);
    let call = success.into_iter().fold(call, TxnCall::then);
    failure.into_iter().fold(call, TxnCall::otherwise).await
}

/// The number of conditions and operations.
fn size(txn: &Txn) -> usize {
    let operations = txn.success.len().saturating_add(txn.failure.len());
    txn.conditions.len().saturating_add(operations)
}

fn is_write(operation: &TxnOperation) -> bool {
    !matches!(operation, TxnOperation::Get { .. })
}

/// The outcome in words: a line for the conditions, and one for each operation.
fn text(operations: &[TxnOperation], outcome: &TxnOutcome) -> String {
    let mut text = match outcome.succeeded {
        true => format!("succeeded at revision {}", outcome.revision),
        false => format!("a condition does not hold at revision {}", outcome.revision),
    };
    for (operation, result) in operations.iter().zip(&outcome.results) {
        let (verb, key) = match operation {
            TxnOperation::Set { key, .. } => ("set", key),
            TxnOperation::Get { key, .. } => ("get", key),
            TxnOperation::Delete { key, .. } => ("del", key),
            // This version sends no other.
            _ => continue,
        };
        // Writing to a string does not fail.
        let _ = write!(text, "\n{verb} {}: ", Word(key));
        let _ = match result {
            TxnResult::Written => write!(text, "OK"),
            TxnResult::Found(Some(entry)) => {
                let value = Word(&entry.value);
                write!(text, "{value} (revision {})", entry.revision)
            }
            TxnResult::Deleted { existed: true } => write!(text, "deleted"),
            _ => write!(text, "no such key"),
        };
    }
    text
}
