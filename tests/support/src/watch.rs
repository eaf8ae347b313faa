//! The watches of nodes that a test makes up: their messages, and their end.

use seshat::proto::kv::watch_response::Message;
use seshat::proto::kv::{
    Cause, Entry, Event, WatchEvents, WatchProgress, WatchReset, WatchResponse, WatchState,
    WatchSynced,
};
use tokio::sync::mpsc;
use tonic::Status;

/// The cluster of the nodes, if nothing else is said.
pub const CLUSTER: u64 = 7;

/// What a watch gets: messages, and then an end.
#[derive(Debug)]
pub struct Feed {
    pub messages: Vec<Message>,
    pub end: End,
}

/// The end of a watch.
#[derive(Debug, Clone)]
pub enum End {
    /// None: it stays open, and nothing more comes.
    Silence,
    /// The answer ends as if it were whole.
    Short,
    Refused(Status),
}

/// The end of a node that goes away.
pub fn cut() -> End {
    End::Refused(Status::unavailable("the node goes away"))
}

impl Feed {
    /// Sends all of it, and calls `sent` after each message that the client has room for.
    pub async fn send(
        self,
        answers: mpsc::Sender<Result<WatchResponse, Status>>,
        mut sent: impl FnMut(),
    ) {
        for message in self.messages {
            let message = Some(message);
            if answers.send(Ok(WatchResponse { message })).await.is_err() {
                return;
            }
            sent();
        }
        match self.end {
            End::Silence => answers.closed().await,
            End::Short => {}
            End::Refused(status) => drop(answers.send(Err(status)).await),
        }
    }
}

pub fn entry(key: &'static str, value: &'static str, revision: u64) -> Entry {
    Entry {
        key: key.into(),
        value: value.into(),
        revision,
        ..Entry::default()
    }
}

pub fn reset() -> Message {
    Message::Reset(WatchReset {})
}

pub fn state(entries: &[Entry], deleted: &[&'static str]) -> Message {
    Message::State(WatchState {
        entries: entries.to_vec(),
        deleted: deleted.iter().map(|key| (*key).into()).collect(),
    })
}

pub fn synced_of(cluster_id: u64, revision: u64) -> Message {
    Message::Synced(WatchSynced {
        cluster_id,
        revision,
    })
}

pub fn synced(revision: u64) -> Message {
    synced_of(CLUSTER, revision)
}

pub fn progress(revision: u64) -> Message {
    Message::Progress(WatchProgress { revision })
}

/// All changes of a revision.
pub fn changes(revision: u64, events: &[Event]) -> Message {
    events_of(revision, events, false)
}

/// Changes of a revision, of which more follow.
pub fn part(revision: u64, events: &[Event]) -> Message {
    events_of(revision, events, true)
}

fn events_of(revision: u64, events: &[Event], more: bool) -> Message {
    Message::Events(WatchEvents {
        revision,
        events: events.to_vec(),
        more,
    })
}

pub fn set(key: &'static str, value: &'static str, revision: u64) -> Event {
    Event {
        cause: Cause::Set.into(),
        entry: Some(entry(key, value, revision)),
    }
}

pub fn deleted(key: &'static str, revision: u64) -> Event {
    Event {
        cause: Cause::Deleted.into(),
        entry: Some(entry(key, "", revision)),
    }
}

/// The state of a node that has nothing, at `revision`.
pub fn nothing(revision: u64) -> [Message; 2] {
    [reset(), synced(revision)]
}
