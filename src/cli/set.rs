//! `seshat set`.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use seshat::client::{Conditional, Error, Set, Written};

use super::condition::{Held, print_unmet};
use super::failure::Failure;
use super::options::{ClientOptions, key, ttl};

const HELP: &str = "\
Prints OK once a majority of the nodes holds the write. With --json:
  {\"applied_index\":42}
The index is the revision of the write: later writes have higher ones.

With a condition nothing is written unless it holds. If it does not, the command
says so and exits with 1. With --json it prints one of
  {\"succeeded\":true,\"applied_index\":42}
  {\"succeeded\":false,\"key\":\"greeting\",\"value\":\"hi\",\"revision\":41,\"applied_index\":42}
The second shows what the key is bound to. A missing key has no \"value\" and revision 0;
bytes that are not UTF-8 come as \"key_base64\" or \"value_base64\".

A key with a TTL is removed when that has passed since its last write. A write
without a TTL binds it for ever.

A write that the leader surely did not apply is tried again until the timeout. A
write whose outcome is unknown is not: the error says so, and in JSON has
\"applied\":\"unknown\".

Examples:
  seshat set greeting hello
  seshat set photo - < photo.jpg
  seshat set --json greeting hello
  seshat set greeting -- --json       # a value that looks like a flag
  seshat set owner node-1 --if-absent
  seshat set token/7 ada --ttl 30m
  seshat set greeting hi --if-revision $(seshat get --json greeting | jq .revision)

Exit codes:
  0  written
  1  not written: the condition does not hold
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

    /// Remove the key after this time, such as 30s, 5m or 7d: 1s to 3650d, and a little
    /// more, never less
    #[arg(long, verbatim_doc_comment, value_name = "DURATION", value_parser = ttl)]
    ttl: Option<Duration>,

    /// Write only if the key is missing
    #[arg(long, group = "condition")]
    if_absent: bool,

    /// Write only if the key was bound by the write of this revision; 0: if it is missing
    #[arg(long, group = "condition", value_name = "REVISION")]
    if_revision: Option<u64>,

    /// Write only if the key is bound to exactly this value
    #[arg(
        long,
        group = "condition",
        value_name = "VALUE",
        allow_negative_numbers = true
    )]
    if_value: Option<OsString>,

    /// Write only if this lock is held under this token: see seshat lock --help
    #[arg(long, group = "condition", num_args = 2, value_names = ["LOCK", "TOKEN"])]
    if_held: Option<Vec<String>>,

    #[command(flatten)]
    pub(crate) client: ClientOptions,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let value = if self.value == "-" {
            self.client.standard_input()?
        } else {
            Bytes::copy_from_slice(self.value.as_encoded_bytes())
        };
        let key = Bytes::copy_from_slice(self.key.as_encoded_bytes());
        let lock = self.if_held.as_deref().map(Held::new).transpose()?;
        let outcome = self.client.run(async |cluster| {
            let set = cluster.client().set(key.clone(), value);
            Ok(self.write(set, lock.as_ref()).await?)
        })?;
        let applied_index = match outcome {
            Conditional::Succeeded(written) => written.applied_index,
            Conditional::Failed(found) => {
                return print_unmet(&self.client, "written", &key, lock.as_ref(), &found);
            }
        };
        let json = match self.has_condition() {
            true => json!({ "succeeded": true, "applied_index": applied_index }),
            false => json!({ "applied_index": applied_index }),
        };
        let done = format_args!("written at revision {applied_index}");
        self.client.print_done(done, "OK", json)?;
        Ok(ExitCode::SUCCESS)
    }

    fn has_condition(&self) -> bool {
        let found = self.if_absent || self.if_revision.is_some() || self.if_value.is_some();
        found || self.if_held.is_some()
    }

    /// Makes the write, on its condition if it has one.
    async fn write(
        &self,
        set: Set<'_>,
        lock: Option<&Held>,
    ) -> Result<Conditional<Written>, Error> {
        let set = match self.ttl {
            Some(ttl) => set.ttl(ttl),
            None => set,
        };
        if let Some(Held { name, token }) = lock {
            return set.if_token(name, *token).await;
        }
        match (self.if_absent, self.if_revision, &self.if_value) {
            (true, _, _) => set.if_absent().await,
            (_, Some(revision), _) => set.if_revision(revision).await,
            (_, _, Some(value)) => {
                let value = Bytes::copy_from_slice(value.as_encoded_bytes());
                set.if_value(value).await
            }
            (false, None, None) => Ok(Conditional::Succeeded(set.await?)),
        }
    }
}
