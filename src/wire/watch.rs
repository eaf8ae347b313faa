//! The messages of a watch.

use crate::kv::Cause;
use crate::proto::kv as proto;
use crate::proto::kv::watch_response::Message;
use crate::watch::{Event, WatchMessage};

/// A message of a watch.
pub fn watch_response(message: WatchMessage) -> proto::WatchResponse {
    let message = match message {
        WatchMessage::Reset => Message::Reset(proto::WatchReset {}),
        WatchMessage::State { entries, deleted } => Message::State(proto::WatchState {
            entries: entries.into_iter().map(Into::into).collect(),
            deleted,
        }),
        WatchMessage::Synced {
            cluster_id,
            revision,
        } => Message::Synced(proto::WatchSynced {
            cluster_id: cluster_id.0,
            revision,
        }),
        WatchMessage::Events {
            revision,
            events,
            more,
        } => Message::Events(proto::WatchEvents {
            revision,
            events: events.into_iter().map(Into::into).collect(),
            more,
        }),
        WatchMessage::Progress { revision } => Message::Progress(proto::WatchProgress { revision }),
    };
    proto::WatchResponse {
        message: Some(message),
    }
}

impl From<Event> for proto::Event {
    fn from(event: Event) -> Self {
        let Event { cause, entry } = event;
        let cause = match cause {
            Cause::Set => proto::Cause::Set,
            Cause::Deleted => proto::Cause::Deleted,
            Cause::Expired => proto::Cause::Expired,
            Cause::SessionEnded => proto::Cause::SessionEnded,
        };
        Self {
            cause: cause.into(),
            entry: Some(entry.into()),
        }
    }
}
