//! `seshat set`.

use std::ffi::OsString;
use std::io::Read as _;
use std::process::ExitCode;

use bytes::Bytes;
use serde_json::json;
use seshat::client::MAX_MESSAGE_BYTES;

use super::failure::Failure;
use super::options::{ClientOptions, key};
use super::print;

const HELP: &str = "\
Prints OK once a majority of the nodes holds the write. With --json:
  {\"applied_index\":42}

A write that the leader surely did not apply is tried again until the timeout. A
write whose outcome is unknown is not: the error says so, and in JSON has
\"applied\":\"unknown\".

Examples:
  seshat set greeting hello
  seshat set photo - < photo.jpg
  seshat set --json greeting hello
  seshat set greeting -- --json       # a value that looks like a flag

Exit codes:
  0  written
  2  the command line is faulty
  3  the cluster cannot be reached, refused the write, or its outcome is unknown";

/// Bind a key to a value.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP, next_line_help = true)]
pub(crate) struct Args {
    /// The key: any bytes, at least one
    #[arg(value_parser = key())]
    key: OsString,

    /// The value: any bytes; - reads them from standard input, all and unchanged
    #[arg(allow_negative_numbers = true)]
    value: OsString,

    #[command(flatten)]
    pub(crate) client: ClientOptions,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let value = if self.value == "-" {
            standard_input()?
        } else {
            Bytes::copy_from_slice(self.value.as_encoded_bytes())
        };
        let key = Bytes::copy_from_slice(self.key.as_encoded_bytes());
        let set = self
            .client
            .run(async |cluster| Ok(cluster.client().set(key, value).await?))?;
        if self.client.json {
            print(json!({ "applied_index": set.applied_index }))?;
        } else {
            print("OK")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// All of standard input. What is larger than any node takes is not read to its end.
fn standard_input() -> Result<Bytes, Failure> {
    let limit = u64::try_from(MAX_MESSAGE_BYTES).unwrap_or(u64::MAX);
    let mut value = Vec::new();
    std::io::stdin()
        .lock()
        .take(limit.saturating_add(1))
        .read_to_end(&mut value)
        .map_err(|error| Failure::local(format!("cannot read standard input: {error}")))?;
    if value.len() > MAX_MESSAGE_BYTES {
        return Err(Failure::usage(
            "standard input holds more than any node accepts",
        ));
    }
    Ok(value.into())
}
