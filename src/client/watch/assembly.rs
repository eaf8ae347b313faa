//! The messages of nodes, put together to news that mislead no caller.
//!
//! The changes of one revision may come in several messages, and the connection may be lost between them. They are
//! passed on whole, so a caller stands at a revision at any time, or is told that it does not: between a reset or
//! a part of the state and the next `Synced`. After that the watch cannot go on elsewhere from a revision, and
//! begins again.

use super::update::{Event, Position, Update};
use crate::client::call_error::CallError;
use crate::client::options::MAX_MESSAGE_BYTES;
use crate::proto::kv;
use crate::proto::kv::watch_response::Message;

/// Most bytes of keys and values that one revision changes: no node accepts a larger transaction.
const MAX_REVISION_BYTES: usize = MAX_MESSAGE_BYTES;

/// What the caller has, and what it has not been told yet.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    /// Where the caller's map stands. `None`: it is incomplete.
    position: Option<Position>,
    /// The highest revision that the caller knows: it is not told of an earlier state.
    floor: u64,
    /// The changes of a revision, of which more follow.
    half: Option<Half>,
}

#[derive(Debug)]
struct Half {
    revision: u64,
    events: Vec<Event>,
    bytes: usize,
}

impl Assembly {
    /// For a caller whose map stands at `position`, and that knows of the revision `floor`.
    pub(super) fn new(position: Option<Position>, floor: u64) -> Self {
        Self {
            position,
            floor: position.map_or(floor, |position| floor.max(position.revision)),
            half: None,
        }
    }

    pub(super) fn position(&self) -> Option<Position> {
        self.position
    }

    /// The revision below which the caller is told of no state.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// Forgets what the lost connection has not completed.
    pub(super) fn cut_off(&mut self) {
        self.half = None;
    }

    /// Takes the next message of a connection. Returns what the caller is to be told, if that is complete.
    ///
    /// # Errors
    ///
    /// No node that works sends this here.
    pub(super) fn add(&mut self, message: kv::WatchResponse) -> Result<Option<Update>, CallError> {
        let message = message.message.ok_or_else(|| broken("an empty message"))?;
        match message {
            Message::Reset(kv::WatchReset {}) => {
                self.half = None;
                self.position = None;
                Ok(Some(Update::Reset))
            }
            Message::State(state) => Ok(Some(self.state(state))),
            Message::Synced(synced) => self.synced(synced).map(Some),
            Message::Events(events) => self.events(events),
            Message::Progress(kv::WatchProgress { revision }) => {
                self.advance(revision)?;
                Ok(Some(Update::Progress { revision }))
            }
        }
    }

    fn state(&mut self, state: kv::WatchState) -> Update {
        let kv::WatchState { entries, deleted } = state;
        self.half = None;
        self.position = None;
        let newest = entries.iter().map(|entry| entry.revision).max();
        self.floor = self.floor.max(newest.unwrap_or_default());
        Update::State {
            entries: entries.into_iter().map(Into::into).collect(),
            deleted,
        }
    }

    fn synced(&mut self, synced: kv::WatchSynced) -> Result<Update, CallError> {
        let kv::WatchSynced {
            cluster_id,
            revision,
        } = synced;
        if self.half.is_some() || revision < self.floor {
            return Err(broken("a state that is older than what was known"));
        }
        let position = Position {
            cluster_id,
            revision,
        };
        self.position = Some(position);
        self.floor = revision;
        Ok(Update::Synced { position })
    }

    fn events(&mut self, part: kv::WatchEvents) -> Result<Option<Update>, CallError> {
        let kv::WatchEvents {
            revision,
            events,
            more,
        } = part;
        let mut whole = match self.half.take() {
            Some(half) if half.revision == revision => half,
            None if self.position.is_some_and(|it| it.revision < revision) => Half {
                revision,
                events: Vec::new(),
                bytes: 0,
            },
            _ => return Err(broken("changes out of order")),
        };
        for event in events {
            let event = Event::try_from(event).map_err(broken)?;
            whole.bytes = whole.bytes.saturating_add(event.bytes());
            whole.events.push(event);
        }
        if more && whole.bytes > MAX_REVISION_BYTES {
            return Err(broken("more changes in one revision than a node accepts"));
        }
        if more {
            self.half = Some(whole);
            return Ok(None);
        }
        self.advance(revision)?;
        let events = whole.events;
        Ok(Some(Update::Events { revision, events }))
    }

    /// The caller's map stands at `revision`.
    fn advance(&mut self, revision: u64) -> Result<(), CallError> {
        match &mut self.position {
            Some(position) if self.half.is_none() && revision >= position.revision => {
                position.revision = revision;
                self.floor = self.floor.max(revision);
                Ok(())
            }
            _ => Err(broken("a revision out of order")),
        }
    }
}

fn broken(why: &str) -> CallError {
    CallError::broken(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Entry;
    use crate::client::watch::Removal;

    const CLUSTER: u64 = 7;

    fn entry(key: &'static str, revision: u64) -> kv::Entry {
        kv::Entry {
            key: key.into(),
            value: format!("{key}@{revision}").into(),
            revision,
            ..kv::Entry::default()
        }
    }

    fn events(revision: u64, keys: &[&'static str], more: bool) -> Message {
        let event = |key: &&'static str| kv::Event {
            cause: kv::Cause::Set.into(),
            entry: Some(entry(key, revision)),
        };
        Message::Events(kv::WatchEvents {
            revision,
            events: keys.iter().map(event).collect(),
            more,
        })
    }

    fn state(keys: &[(&'static str, u64)]) -> Message {
        let entries = keys.iter().map(|(key, revision)| entry(key, *revision));
        Message::State(kv::WatchState {
            entries: entries.collect(),
            deleted: Vec::new(),
        })
    }

    fn synced(revision: u64) -> Message {
        let cluster_id = CLUSTER;
        Message::Synced(kv::WatchSynced {
            cluster_id,
            revision,
        })
    }

    fn progress(revision: u64) -> Message {
        Message::Progress(kv::WatchProgress { revision })
    }

    fn reset() -> Message {
        Message::Reset(kv::WatchReset {})
    }

    fn add(assembly: &mut Assembly, message: Message) -> Result<Option<Update>, CallError> {
        assembly.add(kv::WatchResponse {
            message: Some(message),
        })
    }

    fn at(revision: u64) -> Option<Position> {
        let cluster_id = CLUSTER;
        Some(Position {
            cluster_id,
            revision,
        })
    }

    /// For a caller that stands at revision 5.
    fn at_five() -> Assembly {
        Assembly::new(at(5), 0)
    }

    #[test]
    fn the_changes_of_a_revision_come_whole() {
        let mut watch = at_five();
        for part in [events(6, &["a"], true), events(6, &["b"], true)] {
            assert!(add(&mut watch, part).unwrap().is_none());
            assert_eq!(watch.position(), at(5), "it goes on from there elsewhere");
        }
        let Some(Update::Events {
            revision,
            events: all,
        }) = add(&mut watch, events(6, &["c"], false)).unwrap()
        else {
            panic!("no events");
        };
        let keys: Vec<_> = all.iter().map(|event| event.key().clone()).collect();
        assert_eq!(
            (revision, keys),
            (6, ["a", "b", "c"].map(Into::into).into())
        );
        assert_eq!((watch.position(), watch.floor()), (at(6), 6));
    }

    #[test]
    fn half_of_a_revision_is_forgotten() {
        let mut watch = at_five();
        add(&mut watch, events(6, &["a"], true)).unwrap();
        watch.cut_off();
        // Elsewhere they come again.
        let again = add(&mut watch, events(6, &["a"], false)).unwrap();
        assert!(matches!(again, Some(Update::Events { events, .. }) if events.len() == 1));

        for instead in [state(&[("a", 7)]), reset()] {
            let mut watch = at_five();
            add(&mut watch, events(6, &["a"], true)).unwrap();
            add(&mut watch, instead).unwrap();
            assert_eq!(watch.position(), None);
            add(&mut watch, synced(7)).unwrap();
            let next = add(&mut watch, events(8, &["b"], false)).unwrap();
            assert!(matches!(next, Some(Update::Events { events, .. }) if events.len() == 1));
        }
    }

    #[test]
    fn a_map_that_has_a_part_of_the_state_stands_nowhere() {
        for first in [reset(), state(&[("a", 9), ("b", 2)])] {
            let mut watch = at_five();
            add(&mut watch, first).unwrap();
            assert_eq!(watch.position(), None);
            watch.cut_off();
            assert_eq!(watch.position(), None);
        }
        let mut watch = at_five();
        add(&mut watch, state(&[("a", 9), ("b", 2)])).unwrap();
        assert_eq!(watch.floor(), 9, "the caller has seen this");
        add(&mut watch, synced(9)).unwrap();
        assert_eq!(watch.position(), at(9));
    }

    #[test]
    fn a_state_is_never_older_than_what_the_caller_knows() {
        let mut watch = Assembly::new(at(5), 3);
        assert_eq!(watch.floor(), 5);
        add(&mut watch, reset()).unwrap();
        assert!(add(&mut watch, synced(4)).is_err());

        // A caller that waits for its own write gets the changes before it, too.
        let mut watch = Assembly::new(at(5), 8);
        assert_eq!(watch.floor(), 8);
        add(&mut watch, events(6, &["a"], false)).unwrap();
        assert_eq!((watch.position(), watch.floor()), (at(6), 8));
        assert!(add(&mut watch, synced(7)).is_err());
        add(&mut watch, synced(8)).unwrap();
    }

    #[test]
    fn what_is_out_of_order_ends_a_connection() {
        let mut incomplete = Assembly::default();
        for message in [events(6, &["a"], false), progress(6)] {
            assert!(add(&mut incomplete, message).is_err());
        }
        let half = || {
            let mut watch = at_five();
            add(&mut watch, events(6, &["a"], true)).unwrap();
            watch
        };
        for message in [synced(6), progress(6), events(7, &["a"], false)] {
            assert!(add(&mut half(), message.clone()).is_err(), "{message:?}");
        }
        for message in [events(5, &["a"], false), progress(4), synced(4)] {
            assert!(add(&mut at_five(), message.clone()).is_err(), "{message:?}");
        }
        assert!(at_five().add(kv::WatchResponse { message: None }).is_err());
        let event = kv::Event::default();
        let no_key = kv::WatchEvents {
            revision: 6,
            events: vec![event],
            more: false,
        };
        assert!(add(&mut at_five(), Message::Events(no_key)).is_err());
        for message in [progress(5), synced(5), progress(9)] {
            assert!(add(&mut at_five(), message).is_ok());
        }
    }

    #[test]
    fn an_unknown_cause_is_a_removal() {
        let event = |cause| {
            let entry = Some(entry("k", 3));
            Event::try_from(kv::Event { cause, entry }).unwrap()
        };
        assert_eq!(event(1), Event::Set(Entry::from(entry("k", 3))));
        for (cause, why) in [
            (2, Removal::Deleted),
            (3, Removal::Expired),
            (4, Removal::SessionEnded),
            (0, Removal::Other),
            (99, Removal::Other),
        ] {
            let removed = Event::Removed {
                key: "k".into(),
                revision: 3,
                cause: why,
            };
            assert_eq!(event(cause), removed);
        }
    }
}
