//! `seshat locks`.

use std::fmt;
use std::process::ExitCode;

use serde_json::{Map, Value, json};
use seshat::client::{Client, Holder, LockInfo};
use seshat::types::ClientId;

use super::entry::{Json, insert};
use super::failure::Failure;
use super::options::{ClientOptions, lock_name};
use super::pipes::{reader_gone, write_line};
use super::render::table;
use super::word::Word;

const HELP: &str = "\
Lists the locks that are held, in ascending order of their names, with their fencing
tokens. WAITING is how many claims wait, VALUE what the holder tells of itself:
  LOCK               TOKEN  SESSION           WAITING  VALUE
  backup  1795707939485460  5f0c2d9e71a4b863        0  \"kv-1 pid 4711\"
With --json:
  {\"locks\":[{\"name\":\"backup\",\"waiting\":0,\"token\":1795707939485460,
   \"session\":\"5f0c2d9e71a4b863\",\"claim\":1,\"value\":\"kv-1 pid 4711\"},…]}
A value that is not UTF-8 comes as \"value_base64\". The number of a claim in its session
tells two claims of one session apart.

With a name it shows that lock alone. With --follow it prints a line for its holder, and
one for each change, until it is stopped or its reader is gone: token, tab, session, tab,
value; or \"free\". With --json, free is {\"token\":null}.

Examples:
  seshat locks
  seshat locks backup && echo 'a backup runs'
  seshat locks indexer --follow

Exit codes:
  0  shown
  1  the lock is free
  2  the command line is faulty
  3  the cluster cannot be reached, refused the read, or it could not be printed";

/// Exit code if the lock is free.
const FREE: u8 = 1;

/// Show who holds locks, or leads.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP, next_line_help = true)]
pub(crate) struct Args {
    /// The lock, or the election [default: all locks that are held]
    #[arg(value_parser = lock_name)]
    name: Option<String>,

    /// Show each change
    #[arg(long, requires = "name")]
    follow: bool,

    #[command(flatten)]
    pub(crate) client: ClientOptions,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        self.client.run(async |cluster| match &self.name {
            None => {
                let locks = cluster.client().locks().await?;
                self.print(&locks)?;
                Ok(ExitCode::SUCCESS)
            }
            Some(name) if self.follow => {
                let client = self.client.for_parts(cluster.client());
                tokio::select! {
                    followed = self.follow(&client, name) => followed?,
                    () = reader_gone() => {}
                }
                Ok(ExitCode::SUCCESS)
            }
            Some(name) => {
                let lock = cluster.client().inspect_lock(name).await?;
                if lock.holder.is_none() {
                    return Ok(ExitCode::from(FREE));
                }
                self.print(&[lock])?;
                Ok(ExitCode::SUCCESS)
            }
        })
    }

    fn print(&self, locks: &[LockInfo]) -> Result<(), Failure> {
        match self.client.json {
            true => {
                let locks: Value = locks.iter().map(to_json).collect();
                self.client.print(Json(&json!({ "locks": locks })))
            }
            false => self.client.print(to_text(locks)),
        }
    }

    async fn follow(&self, client: &Client, name: &str) -> Result<(), Failure> {
        let mut holders = client.observe(name);
        while let Some(holder) = holders.next().await {
            let holder = holder?;
            let holder = holder.as_ref().map(Shown);
            let line = match (self.client.json, holder) {
                (true, Some(holder)) => Json(&holder.json()).to_string(),
                (true, None) => json!({ "token": null }).to_string(),
                (false, Some(Shown(holder))) => {
                    let session = ClientId(holder.client_id);
                    format!("{}\t{session}\t{}", holder.token, Word(&holder.value))
                }
                (false, None) => "free".to_owned(),
            };
            write_line(line).await?;
        }
        Ok(())
    }
}

/// A holder, as users see it.
pub(super) struct Shown<'a>(pub(super) &'a Holder);

impl Shown<'_> {
    pub(super) fn json(&self) -> Value {
        let mut object = Map::new();
        self.insert(&mut object);
        Value::Object(object)
    }

    fn insert(&self, object: &mut Map<String, Value>) {
        let Self(holder) = self;
        object.insert("token".to_owned(), holder.token.into());
        let session = ClientId(holder.client_id).to_string();
        object.insert("session".to_owned(), session.into());
        object.insert("claim".to_owned(), holder.claim.into());
        insert(object, "value", &holder.value);
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(holder) = self;
        let session = ClientId(holder.client_id);
        let (token, value) = (holder.token, Word(&holder.value));
        write!(f, "session {session} under token {token}: {value}")
    }
}

fn to_json(lock: &LockInfo) -> Value {
    let mut object = Map::new();
    object.insert("name".to_owned(), lock.name.as_str().into());
    object.insert("waiting".to_owned(), lock.waiting.into());
    if let Some(holder) = &lock.holder {
        Shown(holder).insert(&mut object);
    }
    Value::Object(object)
}

fn to_text(locks: &[LockInfo]) -> String {
    let header = ["LOCK", "TOKEN", "SESSION", "WAITING", "VALUE"].map(str::to_owned);
    let rows = locks.iter().filter_map(|lock| {
        let holder = lock.holder.as_ref()?;
        Some([
            Word(lock.name.as_bytes()).to_string(),
            holder.token.to_string(),
            ClientId(holder.client_id).to_string(),
            lock.waiting.to_string(),
            Word(&holder.value).to_string(),
        ])
    });
    table(&std::iter::once(header).chain(rows).collect::<Vec<_>>())
}
