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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ClusterId;
    use crate::wire::txn::tests::entry;

    #[test]
    fn each_message_has_its_form() {
        let state = WatchMessage::State {
            entries: vec![entry()],
            deleted: vec!["d".into()],
        };
        let synced = WatchMessage::Synced {
            cluster_id: ClusterId(3),
            revision: 7,
        };
        let events = WatchMessage::Events {
            revision: 7,
            events: Vec::new(),
            more: true,
        };
        for (message, expected) in [
            (WatchMessage::Reset, Message::Reset(proto::WatchReset {})),
            (
                state,
                Message::State(proto::WatchState {
                    entries: vec![entry().into()],
                    deleted: vec!["d".into()],
                }),
            ),
            (
                synced,
                Message::Synced(proto::WatchSynced {
                    cluster_id: 3,
                    revision: 7,
                }),
            ),
            (
                events,
                Message::Events(proto::WatchEvents {
                    revision: 7,
                    events: Vec::new(),
                    more: true,
                }),
            ),
            (
                WatchMessage::Progress { revision: 7 },
                Message::Progress(proto::WatchProgress { revision: 7 }),
            ),
        ] {
            assert_eq!(watch_response(message).message, Some(expected));
        }
    }

    #[test]
    fn an_event_tells_its_cause() {
        for (cause, expected) in [
            (Cause::Set, proto::Cause::Set),
            (Cause::Deleted, proto::Cause::Deleted),
            (Cause::Expired, proto::Cause::Expired),
            (Cause::SessionEnded, proto::Cause::SessionEnded),
        ] {
            let entry = entry();
            let event = proto::Event::from(Event { cause, entry });
            assert_eq!(event.cause(), expected);
            assert_eq!(event.entry, Some(self::entry().into()));
        }
    }
}
