//! `seshat watch`.

mod changes;
mod hook;

use std::ffi::{OsStr, OsString};
use std::future::{pending, ready};
use std::io::Write as _;
use std::pin::{Pin, pin};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use rustix::process::Signal;
use serde_json::{Map, Value, json};
use seshat::client::{Client, Entry, Error, Position, Update, Updates, Watch};
use seshat::types::ClusterId;
use tokio::time::sleep;

use super::entry::{Json, insert, insert_lifetime};
use super::failure::Failure;
use super::options::{ClientOptions, duration, key};
use super::pipes::reader_gone;
use super::process::{GRACE, Signals, ended_by};
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

--after goes on where an earlier watch has ended: it begins with the changes behind that
revision, then comes synced. Take the revision of its last synced, or that of a later line
less one, since other lines may have the same revision. The lines before the first synced
do not tell how far the watch has come. A node keeps the last changes only while it is watched, and
for a while afterwards. If some are missing, standard error tells, and the keys that were
set since come as they are now, perhaps without those that were removed. With --cluster it ends
if another cluster has taken the place of the one of that revision.

--exec runs a command in a shell instead: once for each line but synced, one at a time
and in order. It gets SESHAT_EVENT, as above, SESHAT_REVISION, SESHAT_KEY and
SESHAT_VALUE in its environment. Bytes that are not text come as SESHAT_KEY_BASE64 and
SESHAT_VALUE_BASE64. Of a value of more than 100 KiB, or 75 KiB if it is not text, only
the size comes, as SESHAT_VALUE_OMITTED: use seshat get, which finds the same cluster by
SESHAT_ENDPOINTS and SESHAT_CLUSTER. If the command fails, standard error tells, and the
watch goes on. When --timeout has passed, or at SIGINT and SIGTERM, the command that runs
gets SIGTERM, and SIGKILL after the grace period, with its process group.

Examples:
  seshat watch config/
  seshat watch --key leader --json | jq -r .value
  seshat watch --key ready | head -n 1        # wait until a key is there
  seshat watch config/ --exec 'systemctl reload app' --no-state
  seshat watch config/ --after 1795707939485452

Exit codes:
  0    the reader has had enough, as head has, or --timeout has passed
  2    the command line is faulty
  3    the cluster cannot be reached, refused the watch, or it could not be printed
  130  ended by SIGINT; 143 by SIGTERM";

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

    /// Begin with the changes behind this revision, up to which an earlier watch has printed all
    #[arg(long, value_name = "REVISION", conflicts_with = "no_state",
          value_parser = clap::value_parser!(u64).range(1..))]
    after: Option<u64>,

    /// Run this in a shell for each change, and print nothing
    #[arg(long, value_name = "COMMAND")]
    exec: Option<OsString>,

    /// How long that command may take to end when the watch ends
    #[arg(long, value_name = "DURATION", default_value = GRACE, value_parser = duration, requires = "exec")]
    grace: Duration,

    #[command(flatten)]
    pub(crate) client: ClientOptions,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        self.client.run(async |cluster| {
            let found = cluster.client().get_with_index(PROBED_KEY).await?;
            let client = cluster.client().with_timeout(PATIENCE);
            let mut watch = self.watch(&client).min_revision(found.applied_index);
            if let Some(after) = self.after {
                watch = watch.resume(position(after, found.applied_index, &client)?);
            }
            self.follow(watch.stream()).await
        })
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

    /// Tells every change, until there is a reason to stop.
    async fn follow(&self, mut updates: Updates) -> Result<ExitCode, Failure> {
        // Without a command, a signal ends this process at once.
        let signals = self.exec.as_ref().map(|_| Signals::new()).transpose()?;
        let mut stop = pin!(self.stop(signals));
        let mut news = News::new(self);
        let mut lines = Vec::new();
        loop {
            tokio::select! {
                biased;
                stop = &mut stop => return news.end(stop),
                Some(update) = updates.next() => {
                    for told in news.of(update?)? {
                        if let Some(stop) = self.tell(&mut lines, told, stop.as_mut()).await {
                            // What is late is the command, and no node.
                            news.is_begun = true;
                            return news.end(stop);
                        }
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

    /// Waits for a reason to stop. Standard output counts if it is used.
    async fn stop(&self, signals: Option<Signals>) -> Stop {
        let told = async {
            match signals {
                Some(mut signals) => Stop::Signal(signals.next().await),
                None => {
                    reader_gone().await;
                    Stop::ReaderGone
                }
            }
        };
        tokio::select! {
            biased;
            stop = told => stop,
            () = passed(self.client.time_left()) => Stop::Late,
        }
    }

    /// Adds a line, or runs the command until its end or `stop`.
    async fn tell(
        &self,
        lines: &mut Vec<u8>,
        told: Told,
        stop: Pin<&mut impl Future<Output = Stop>>,
    ) -> Option<Stop> {
        // Writing to memory does not fail.
        let _ = match (&self.exec, told, self.client.json) {
            (Some(command), Told::Change(change), _) => {
                let mut shell = hook::shell(command);
                shell.envs(self.client.environment());
                return hook::run(shell, &change, self.keys_only, self.grace, stop).await;
            }
            (Some(_), Told::Synced(_), _) => Ok(()),
            (None, told, true) => writeln!(lines, "{}", Json(&self.json(&told))),
            (None, told, false) => writeln!(lines, "{}", self.text(&told)),
        };
        None
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

/// The revision `after`, of the cluster of `client`, which is at `revision`.
fn position(after: u64, revision: u64, client: &Client) -> Result<Position, Failure> {
    if after > revision {
        return Err(Failure::precondition(format!(
            "revision {after} is of another cluster: this one is at revision {revision}"
        )));
    }
    let cluster = *client.watch_cluster().borrow();
    let unknown = || Failure::precondition("the node does not tell its cluster: use --cluster");
    Ok(Position {
        cluster_id: cluster.ok_or_else(unknown)?,
        revision: after,
    })
}

/// Waits for `time`; without one, for ever.
async fn passed(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time).await,
        None => pending().await,
    }
}

/// Why a watch ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// Standard output has no reader any more.
    ReaderGone,
    /// The time limit has passed.
    Late,
    Signal(Signal),
}

/// What the user is told of a watch.
#[derive(Debug)]
struct News {
    changes: Changes,
    shows_state: bool,
    /// The revision whose keys the user knows.
    after: Option<u64>,
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
            changes: args.after.map_or_else(Changes::default, Changes::since),
            shows_state: !args.no_state,
            after: args.after,
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
        if let (Update::Reset, Some(after)) = (&update, self.after) {
            tell(format_args!(
                "not all changes behind revision {after} are there: keys that were removed may not be told"
            ));
        }
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

    /// The outcome of a watch that ends.
    fn end(self, why: Stop) -> Result<ExitCode, Failure> {
        match (why, self.outage) {
            (Stop::Signal(signal), _) => Ok(ended_by(signal)),
            (Stop::Late, Some(error)) if !self.is_begun => Err(error.into()),
            (Stop::Late, None) if !self.is_begun => {
                Err(Failure::late("no node has sent the whole state in time"))
            }
            (Stop::Late | Stop::ReaderGone, _) => Ok(ExitCode::SUCCESS),
        }
    }
}
