//! `seshat watch`.

mod changes;
mod hook;

use std::ffi::{OsStr, OsString};
use std::future::{pending, ready};
use std::io::Write as _;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use seshat::client::{Client, Entry, Error, Update, Updates, Watch};
use seshat::types::ClusterId;
use tokio::time::sleep;

use super::entry::{insert, insert_lifetime};
use super::failure::Failure;
use super::options::{ClientOptions, key};
use super::pipes::reader_gone;
use super::tell;
use super::word::Word;
use changes::{Change, Changes, Told};

const HELP: &str = "\
Prints a line for each key, and then one for each change, as it comes. Revision, verb,
key and value have tabs between them; words are quoted as seshat txn takes them:
  41<TAB>set<TAB>user/1<TAB>Gilgamesh
  42<TAB>synced
  43<TAB>del<TAB>user/1
The lines before synced are the state, in any order: it shows every write that was
acknowledged before the command. With --json:
  {\"event\":\"set\",\"key\":\"user/1\",\"value\":\"Gilgamesh\",\"revision\":41}
  {\"event\":\"synced\",\"revision\":42,\"cluster_id\":\"5f0c2d9e71a4b863\"}
  {\"event\":\"delete\",\"key\":\"user/1\",\"revision\":43}
The event of a removal tells its cause: delete, expire (the TTL has passed),
session_end (its session has ended), or remove (not known). A key or a value that is
not UTF-8 comes as \"key_base64\" or \"value_base64\" instead; \"ttl_ms\" and \"owner\" are
those of seshat scan.

Any node serves a watch. If it is lost, the command goes on at another one, and no
change is missing or told twice; standard error tells if no node serves. Where changes
come faster than they are read, a key that changes again and again has fewer lines: the
last one is always there. Such lines, and those of changes of long ago after an outage,
come in any order up to the next synced, and removals have its revision.

--exec runs a command in a shell instead: once for each line but synced, one at a time
and in order. It gets SESHAT_EVENT, as above, SESHAT_REVISION, SESHAT_KEY and
SESHAT_VALUE in its environment. Bytes that are not text come as SESHAT_KEY_BASE64 and
SESHAT_VALUE_BASE64. Of a value of more than 100 KiB only the size comes, as
SESHAT_VALUE_OMITTED: use seshat get. If the command fails, standard error tells, and
the watch goes on.

Examples:
  seshat watch config/
  seshat watch --key leader --json | jq -r .value
  seshat watch --key ready | head -n 1        # wait until a key is there
  seshat watch config/ --exec 'systemctl reload app' --no-state

Exit codes:
  0  the reader has had enough, as head has, or --timeout has passed
  2  the command line is faulty
  3  the cluster cannot be reached, refused the watch, or it could not be printed";

/// Bytes that are printed at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Longest time without a node that serves before the user is told.
const PATIENCE: Duration = Duration::from_secs(5);

/// A key that is read only to learn how far the cluster is. It may have any value or none.
const PROBED_KEY: &[u8] = b"\0";

/// Print the keys of a range, and every change of them.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP, next_line_help = true)]
pub(crate) struct Args {
    /// Beginning of the keys: any bytes [default: every key]
    #[arg(conflicts_with = "key")]
    prefix: Option<OsString>,

    /// Watch this key alone
    #[arg(long, value_name = "KEY", value_parser = key())]
    key: Option<OsString>,

    /// Leave out the values
    #[arg(long)]
    keys_only: bool,

    /// Begin with the next change
    #[arg(long)]
    no_state: bool,

    /// Run this in a shell for each change, and print nothing
    #[arg(long, value_name = "COMMAND")]
    exec: Option<OsString>,

    #[command(flatten)]
    pub(crate) client: ClientOptions,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        self.client.run(async |cluster| {
            let found = cluster.client().get_with_index(PROBED_KEY).await?;
            let client = cluster.client().with_timeout(PATIENCE);
            let watch = self.watch(&client).min_revision(found.applied_index);
            self.follow(watch.stream()).await
        })?;
        Ok(ExitCode::SUCCESS)
    }

    fn watch<'a>(&self, client: &'a Client) -> Watch<'a> {
        let bytes = |key: &OsStr| Bytes::copy_from_slice(key.as_encoded_bytes());
        let watch = match (&self.prefix, &self.key) {
            (_, Some(key)) => client.watch_key(bytes(key)),
            (Some(prefix), None) => client.watch(bytes(prefix)),
            (None, None) => client.watch(""),
        };
        match self.keys_only {
            true => watch.keys_only(),
            false => watch,
        }
    }

    /// Tells every change, until standard output has no reader any more or the time limit passes.
    async fn follow(&self, mut updates: Updates) -> Result<(), Failure> {
        let mut news = News::new(self);
        let mut lines = Vec::new();
        let mut reader_gone = pin!(self.reader_gone());
        let mut over = pin!(passed(self.client.time_left()));
        loop {
            tokio::select! {
                biased;
                () = &mut reader_gone => return Ok(()),
                () = &mut over => return news.end(),
                Some(update) = updates.next() => {
                    for told in news.of(update?)? {
                        self.tell(&mut lines, told).await?;
                    }
                    if lines.len() < CHUNK_BYTES {
                        continue;
                    }
                }
                // No more is there now.
                () = ready(()), if !lines.is_empty() => {}
            }
            self.client.write(std::mem::take(&mut lines)).await?;
        }
    }

    /// Waits until standard output has no reader any more, if it is used.
    async fn reader_gone(&self) {
        match self.exec {
            Some(_) => pending().await,
            None => reader_gone().await,
        }
    }

    /// Adds a line, or runs the command.
    async fn tell(&self, lines: &mut Vec<u8>, told: Told) -> Result<(), Failure> {
        // Writing to memory does not fail.
        let _ = match (&self.exec, told, self.client.json) {
            (Some(command), Told::Change(change), _) => {
                return hook::run(command, &change, self.keys_only).await;
            }
            (Some(_), Told::Synced(_), _) => Ok(()),
            (None, told, true) => writeln!(lines, "{}", self.json(&told)),
            (None, told, false) => writeln!(lines, "{}", self.text(&told)),
        };
        Ok(())
    }

    fn text(&self, told: &Told) -> String {
        match told {
            Told::Synced(position) => format!("{}\tsynced", position.revision),
            Told::Change(change) => {
                let (revision, verb, key) = (change.revision(), change.verb(), Word(change.key()));
                match change {
                    Change::Set(Entry { value, .. }) if !self.keys_only => {
                        format!("{revision}\t{verb}\t{key}\t{}", Word(value))
                    }
                    _ => format!("{revision}\t{verb}\t{key}"),
                }
            }
        }
    }

    fn json(&self, told: &Told) -> Value {
        let change = match told {
            Told::Change(change) => change,
            Told::Synced(position) => {
                let cluster_id = ClusterId(position.cluster_id).to_string();
                let revision = position.revision;
                return json!({ "event": "synced", "revision": revision, "cluster_id": cluster_id });
            }
        };
        let mut object = Map::new();
        object.insert("event".to_owned(), change.event().into());
        insert(&mut object, "key", change.key());
        if let Change::Set(Entry { value, .. }) = change
            && !self.keys_only
        {
            insert(&mut object, "value", value);
        }
        object.insert("revision".to_owned(), change.revision().into());
        if let Change::Set(entry) = change {
            insert_lifetime(&mut object, entry);
        }
        Value::Object(object)
    }
}

/// Waits for `time`; without one, for ever.
async fn passed(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time).await,
        None => pending().await,
    }
}

/// What the user is told of a watch.
#[derive(Debug)]
struct News {
    changes: Changes,
    shows_state: bool,
    /// Whether a time limit ends the wait for the state.
    is_limited: bool,
    /// Whether the whole state has come.
    is_begun: bool,
    /// Why no node serves.
    outage: Option<Error>,
}

impl News {
    fn new(args: &Args) -> Self {
        Self {
            changes: Changes::default(),
            shows_state: !args.no_state,
            is_limited: args.client.time_left().is_some(),
            is_begun: false,
            outage: None,
        }
    }

    /// What the user is told because of `update`. An outage is told on standard error.
    ///
    /// # Errors
    ///
    /// No node has sent the whole state in time.
    fn of(&mut self, update: Update) -> Result<Vec<Told>, Failure> {
        let is_synced = matches!(update, Update::Synced { .. });
        if let Update::Disconnected(error) = &update {
            match (self.is_begun, self.is_limited) {
                (true, _) => tell(format_args!(
                    "changes are late, no node serves the watch: {error}"
                )),
                (false, true) => {}
                (false, false) => return Err(error.clone().into()),
            }
            self.outage = Some(error.clone());
        } else if is_synced && self.outage.take().is_some() && self.is_begun {
            tell("a node serves the watch again");
        }
        let mut told = self.changes.of(update);
        if !self.is_begun && !self.shows_state {
            told.retain(|told| matches!(told, Told::Synced(_)));
        }
        self.is_begun |= is_synced;
        Ok(told)
    }

    /// The outcome when the time limit has passed.
    fn end(self) -> Result<(), Failure> {
        match (self.is_begun, self.outage) {
            (true, _) => Ok(()),
            (false, Some(error)) => Err(error.into()),
            (false, None) => Err(Failure::late("no node has sent the whole state in time")),
        }
    }
}
