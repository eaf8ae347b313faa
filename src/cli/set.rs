//! `seshat set`.

use std::ffi::OsString;
use std::process::ExitCode;

use bytes::Bytes;
use serde_json::json;
use seshat::client::MAX_MESSAGE_BYTES;

use super::failure::Failure;
use super::options::{ClientOptions, key};
use super::pipes;

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
  3  the cluster cannot be reached, refused the write, or its outcome is unknown
  5  written, but that could not be printed: standard error says so";

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
            self.standard_input()?
        } else {
            Bytes::copy_from_slice(self.value.as_encoded_bytes())
        };
        let key = Bytes::copy_from_slice(self.key.as_encoded_bytes());
        let set = self
            .client
            .run(async |cluster| Ok(cluster.client().set(key, value).await?))?;
        self.client.print_done(
            format_args!("written at log index {}", set.applied_index),
            "OK",
            json!({ "applied_index": set.applied_index }),
        )?;
        Ok(ExitCode::SUCCESS)
    }

    /// Reads standard input to its end, or to the bound of the largest value that a node may accept.
    fn standard_input(&self) -> Result<Bytes, Failure> {
        let limit = u64::try_from(MAX_MESSAGE_BYTES).unwrap_or(u64::MAX);
        let value = pipes::read(limit, self.client.time_left())?;
        if value.len() > MAX_MESSAGE_BYTES {
            return Err(Failure::usage(
                "standard input holds more than any node accepts",
            ));
        }
        Ok(value.into())
    }
}
