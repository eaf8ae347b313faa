//! `seshat del`.

use std::ffi::OsString;
use std::process::ExitCode;

use bytes::Bytes;
use serde_json::json;

use super::failure::Failure;
use super::options::{ClientOptions, key};

const HELP: &str = "\
Prints \"deleted\", or \"no such key\", which is no error: afterwards the key is
missing either way. With --json:
  {\"existed\":true,\"applied_index\":43}

A removal whose outcome is unknown is not tried again: see seshat set --help.

Examples:
  seshat del greeting
  seshat del --json greeting | jq .existed

Exit codes:
  0  the key is missing now
  2  the command line is faulty
  3  the cluster cannot be reached, refused the removal, or its outcome is unknown
  5  removed, but that could not be printed: standard error says so";

/// Remove a key.
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
        let deleted = self
            .client
            .run(async |cluster| Ok(cluster.client().delete(key).await?))?;
        let text = match deleted.existed {
            true => "deleted",
            false => "no such key",
        };
        self.client.print_done(
            format_args!("{text}, at log index {}", deleted.applied_index),
            text,
            json!({
                "existed": deleted.existed,
                "applied_index": deleted.applied_index,
            }),
        )?;
        Ok(ExitCode::SUCCESS)
    }
}
