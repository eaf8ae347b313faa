//! `seshat get`.

use std::ffi::OsString;
use std::process::ExitCode;

use bytes::Bytes;
use serde_json::{Map, Value};
use seshat::client::{Client, Error};
use tonic::Code;

use super::entry::{Json, insert, insert_lifetime};
use super::failure::Failure;
use super::options::{ClientOptions, key};
use super::pipes::print_value;

const HELP: &str = "\
Writes the bytes of the value and nothing else; on a terminal a newline follows.
With --json:
  {\"key\":\"greeting\",\"value\":\"hello\",\"revision\":41,\"applied_index\":42}
\"revision\" is that of the write that has bound the key: see seshat set --help.
A key or a value that is not UTF-8 comes as \"key_base64\" or \"value_base64\"
instead. A key with a TTL has \"ttl_ms\", as it was set; one of a session has its
\"owner\": see seshat session list --help. A missing key prints nothing, with --json too.

The read is linearizable: it sees every write that was acknowledged before.

Examples:
  seshat get greeting
  seshat get photo > photo.jpg
  seshat get --json photo | jq -r .value_base64 | base64 -d

Exit codes:
  0  found
  1  no such key
  2  the command line is faulty
  3  the cluster cannot be reached, refused the read, or the value could not be
     written, or only a part of it. The reader may end early, as head does";

const NO_SUCH_KEY: u8 = 1;

/// Read the value of a key.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP, next_line_help = true)]
pub(crate) struct Args {
    /// The key: any bytes, at least one
    #[arg(value_parser = key())]
    key: OsString,

    #[command(flatten)]
    pub(crate) client: ClientOptions,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let key = Bytes::copy_from_slice(self.key.as_encoded_bytes());
        if self.client.json {
            return self.print_json(key);
        }
        let value = self
            .client
            .run(async |cluster| Ok(cluster.client().get(key.clone()).await?))?;
        let Some(value) = value else {
            return Ok(ExitCode::from(NO_SUCH_KEY));
        };
        print_value(value, self.client.time_left())?;
        Ok(ExitCode::SUCCESS)
    }

    fn print_json(&self, key: Bytes) -> Result<ExitCode, Failure> {
        let read = self
            .client
            .run(async |cluster| Ok(read(cluster.client(), key).await?))?;
        let Some(object) = read else {
            return Ok(ExitCode::from(NO_SUCH_KEY));
        };
        self.client.print(Json(&Value::Object(object)))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What `--json` shows of `key`. `None`: it is missing.
async fn read(client: &Client, key: Bytes) -> Result<Option<Map<String, Value>>, Error> {
    // A scan of this key alone tells its lifetime, too.
    let mut scan = client.scan_range(key.clone()..=key.clone()).stream();
    let (entry, applied_index) = match scan.next().await.transpose() {
        Ok(Some(entry)) => (entry, scan.revision().unwrap_or_default()),
        Ok(None) => return Ok(None),
        Err(Error::Refused(refusal)) if refusal.code == Code::Unimplemented => {
            return read_plainly(client, key).await;
        }
        Err(error) => return Err(error),
    };
    let mut object = json(&key, &entry.value, entry.revision);
    insert_lifetime(&mut object, &entry);
    object.insert("applied_index".to_owned(), applied_index.into());
    Ok(Some(object))
}

/// The same from a node that runs an older version: it knows no scans, and no lifetimes.
async fn read_plainly(client: &Client, key: Bytes) -> Result<Option<Map<String, Value>>, Error> {
    let found = client.get_with_index(key.clone()).await?;
    Ok(found.value.map(|value| {
        let mut object = json(&key, &value, found.revision);
        object.insert("applied_index".to_owned(), found.applied_index.into());
        object
    }))
}

fn json(key: &[u8], value: &[u8], revision: u64) -> Map<String, Value> {
    let mut object = Map::new();
    insert(&mut object, "key", key);
    insert(&mut object, "value", value);
    object.insert("revision".to_owned(), revision.into());
    object
}
