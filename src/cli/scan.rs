//! `seshat scan`.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::process::ExitCode;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use seshat::client::{Client, Entry, KeyRange, Scan};

use super::entry::{Json, insert, insert_lifetime};
use super::failure::Failure;
use super::options::{ClientOptions, key};
use super::tell;
use super::word::Word;

const HELP: &str = "\
Prints a line for each key, in ascending order of the bytes: key, tab, value. What
has spaces, quotes or control characters is quoted, as seshat txn takes it:
  user/1<TAB>Gilgamesh
  user/2<TAB>\"two words\"
With --json:
  {\"key\":\"user/1\",\"value\":\"Gilgamesh\",\"revision\":41}
A key or a value that is not UTF-8 comes as \"key_base64\" or \"value_base64\"
instead. A key with a TTL has \"ttl_ms\", as it was set; one of a session has its
\"owner\": see seshat session list --help. With --count --json: {\"count\":2}

All lines show one moment: every write that was acknowledged before, and none that
comes later. If the node is lost on the way, or the output is not read for 60 s, the
command fails after the lines that it has printed. With --resume it goes on behind
the last key, at a later moment, and standard error says so.

Examples:
  seshat scan user/
  seshat scan --start 2026-01 --end 2026-02 --keys-only
  seshat scan --json | jq -r .key

Exit codes:
  0  all is printed, or the reader has had enough, as head has
  2  the command line is faulty
  3  the cluster cannot be reached, refused the read, or it could not be printed, or
     only a part of it";

/// Bytes that are printed at once.
const CHUNK_BYTES: usize = 64 << 10;

/// List the keys of a range and their values.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP, next_line_help = true)]
pub(crate) struct Args {
    /// Beginning of the keys: any bytes [default: every key]
    #[arg(conflicts_with_all = ["start", "end"])]
    prefix: Option<OsString>,

    /// First key that is listed [default: the first one]
    #[arg(long, value_name = "KEY", value_parser = key())]
    start: Option<OsString>,

    /// First key that is not listed any more [default: none]
    #[arg(long, value_name = "KEY", value_parser = key())]
    end: Option<OsString>,

    /// Most keys that are listed or counted
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,

    /// List the keys without their values
    #[arg(long)]
    keys_only: bool,

    /// Print only the number of keys
    #[arg(long, conflicts_with_all = ["keys_only", "resume"])]
    count: bool,

    /// Go on at a later moment when the node is lost on the way
    #[arg(long)]
    resume: bool,

    #[command(flatten)]
    pub(crate) client: ClientOptions,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        self.client.run(async |cluster| {
            let client = self.client.for_parts(cluster.client());
            match self.count {
                true => self.count(&client).await,
                false => self.list(&client).await,
            }
        })?;
        Ok(ExitCode::SUCCESS)
    }

    async fn count(&self, client: &Client) -> Result<(), Failure> {
        let count = self.scan(client).count().await?;
        match self.client.json {
            true => self.client.print(Json(&json!({ "count": count }))),
            false => self.client.print(count),
        }
    }

    async fn list(&self, client: &Client) -> Result<(), Failure> {
        let mut entries = self.scan(client).stream();
        if self.resume {
            entries = entries.resuming();
        }
        let mut lines = Vec::new();
        let mut outcome = Ok(());
        while let Some(entry) = entries.next().await {
            match entry {
                Ok(entry) => self.add(&mut lines, &entry),
                Err(error) => outcome = Err(error),
            }
            if lines.len() >= CHUNK_BYTES {
                self.client.write(std::mem::take(&mut lines)).await?;
            }
        }
        self.client.write(lines).await?;
        if !entries.is_consistent() {
            tell("the node was lost on the way: the lines show more than one moment");
        }
        Ok(outcome?)
    }

    fn scan<'a>(&self, client: &'a Client) -> Scan<'a> {
        let scan = client.scan_range(self.range());
        let scan = match self.limit {
            Some(limit) => scan.limit(limit),
            None => scan,
        };
        match self.keys_only {
            true => scan.keys_only(),
            false => scan,
        }
    }

    fn range(&self) -> KeyRange {
        let bytes = |key: &OsStr| Bytes::copy_from_slice(key.as_encoded_bytes());
        match (&self.prefix, &self.start, &self.end) {
            (Some(prefix), ..) => KeyRange::prefix(bytes(prefix)),
            (None, Some(start), Some(end)) => KeyRange::from(bytes(start)..bytes(end)),
            (None, Some(start), None) => KeyRange::from(bytes(start)..),
            (None, None, Some(end)) => KeyRange::from(..bytes(end)),
            (None, None, None) => KeyRange::from(..),
        }
    }

    /// Adds the line of an entry.
    fn add(&self, lines: &mut Vec<u8>, entry: &Entry) {
        let Entry { key, value, .. } = entry;
        // Writing to memory does not fail.
        let _ = match (self.client.json, self.keys_only) {
            (true, _) => writeln!(lines, "{}", Json(&self.json(entry))),
            (false, true) => writeln!(lines, "{}", Word(key)),
            (false, false) => writeln!(lines, "{}\t{}", Word(key), Word(value)),
        };
    }

    fn json(&self, entry: &Entry) -> Value {
        let mut object = Map::new();
        insert(&mut object, "key", &entry.key);
        if !self.keys_only {
            insert(&mut object, "value", &entry.value);
        }
        object.insert("revision".to_owned(), entry.revision.into());
        insert_lifetime(&mut object, entry);
        Value::Object(object)
    }
}
