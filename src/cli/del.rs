//! `seshat del`.

use std::ffi::OsString;
use std::process::ExitCode;

use bytes::Bytes;
use serde_json::json;
use seshat::client::{Conditional, Deleted};

use super::condition::{Held, print_unmet};
use super::failure::Failure;
use super::options::{ClientOptions, key};

const HELP: &str = "\
Prints \"deleted\", or \"no such key\", which is no error: afterwards the key is
missing either way. With --json:
  {\"existed\":true,\"applied_index\":43}

With a condition nothing is removed unless it holds; the output is as described in
seshat set --help.

A removal whose outcome is unknown is not tried again: see seshat set --help.

Examples:
  seshat del greeting
  seshat del --json greeting | jq .existed
  seshat del owner --if-revision 1764170000000042

Exit codes:
  0  the key is missing now
  1  not deleted: the condition does not hold
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

    /// Remove only if the key was bound by the write of this revision
    #[arg(long, group = "condition", value_name = "REVISION")]
    if_revision: Option<u64>,

    /// Remove only if this lock is held under this token: see seshat lock --help
    #[arg(long, group = "condition", num_args = 2, value_names = ["LOCK", "TOKEN"])]
    if_held: Option<Vec<String>>,

    #[command(flatten)]
    pub(crate) client: ClientOptions,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let key = Bytes::copy_from_slice(self.key.as_encoded_bytes());
        let lock = self.if_held.as_deref().map(Held::new).transpose()?;
        let outcome = self.client.run(async |cluster| {
            let delete = cluster.client().delete(key.clone());
            Ok(match (self.if_revision, &lock) {
                (Some(revision), _) => delete.if_revision(revision).await?,
                (None, Some(Held { name, token })) => delete.if_token(name, *token).await?,
                (None, None) => Conditional::Succeeded(delete.await?),
            })
        })?;
        let deleted = match outcome {
            Conditional::Succeeded(deleted) => deleted,
            Conditional::Failed(found) => {
                return print_unmet(&self.client, "deleted", &key, lock.as_ref(), &found);
            }
        };
        let text = match deleted.existed {
            true => "deleted",
            false => "no such key",
        };
        let Deleted {
            existed,
            applied_index,
            ..
        } = deleted;
        let json = match self.if_revision.is_some() || lock.is_some() {
            true => {
                json!({ "succeeded": true, "existed": existed, "applied_index": applied_index })
            }
            false => json!({ "existed": existed, "applied_index": applied_index }),
        };
        self.client.print_done(
            format_args!("{text}, at revision {applied_index}"),
            text,
            json,
        )?;
        Ok(ExitCode::SUCCESS)
    }
}
