//! `seshat get`.

use std::ffi::OsString;
use std::process::ExitCode;

use bytes::Bytes;

use super::condition::insert;
use super::failure::Failure;
use super::options::{ClientOptions, key};
use super::pipes::print_value;

const HELP: &str = "\
Writes the bytes of the value and nothing else; on a terminal a newline follows.
With --json:
  {\"key\":\"greeting\",\"value\":\"hello\",\"revision\":41,\"applied_index\":42}
\"revision\" is that of the write that has bound the key: see seshat set --help.
A key or a value that is not UTF-8 comes as \"key_base64\" or \"value_base64\"
instead. A missing key prints nothing, with --json too.

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
        let found = self.client.run(async |cluster| {
            let found = cluster.client().get_with_index(key.clone()).await;
            Ok(found?)
        })?;
        let Some(value) = found.value else {
            return Ok(ExitCode::from(NO_SUCH_KEY));
        };
        if self.client.json {
            let mut object = serde_json::Map::new();
            insert(&mut object, "key", &key);
            insert(&mut object, "value", &value);
            object.insert("revision".to_owned(), found.revision.into());
            object.insert("applied_index".to_owned(), found.applied_index.into());
            self.client.print(serde_json::Value::Object(object))?;
        } else {
            print_value(value, self.client.time_left())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
