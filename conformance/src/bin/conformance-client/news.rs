//! The next news of a watch or of an observation.

use seshat::client::{Event as ClientEvent, Holder, Removal, Update as ClientUpdate};
use seshat_conformance::protocol::response::Outcome;
use seshat_conformance::protocol::update::Update as News;
use seshat_conformance::protocol::{Done, Entry, Event, Events, Failure, HolderIs, State, Update};

use crate::Answer;
use crate::convert::{entry, failure, invalid};
use crate::handles::{Handles, Stream};

/// Waits for the next news.
pub(crate) async fn next(name: &str, handles: &Handles) -> Answer {
    let next = async |stream| match stream {
        Stream::Watch(updates) => {
            let mut updates = updates.lock().await;
            loop {
                let update = updates
                    .next()
                    .await
                    .ok_or_else(ended)?
                    .map_err(|error| failure(&error))?;
                if let Some(update) = news(update) {
                    return Ok(Outcome::Update(Update {
                        update: Some(update),
                    }));
                }
            }
        }
        Stream::Observation(holders) => {
            let holder = holders.lock().await.next().await.ok_or_else(ended)?;
            Ok(Outcome::HolderIs(holder_is(
                holder.map_err(|error| failure(&error))?,
            )))
        }
    };
    handles.stream(name, next).await
}

fn ended() -> Failure {
    invalid("it has ended")
}

/// What is told to the runner; outages and progress are not.
fn news(update: ClientUpdate) -> Option<News> {
    Some(match update {
        ClientUpdate::Reset => News::Reset(Done {}),
        ClientUpdate::State {
            entries, deleted, ..
        } => News::State(State {
            entries: entries.into_iter().map(entry).collect(),
            deleted,
        }),
        ClientUpdate::Synced { position, .. } => News::Synced(position.revision),
        ClientUpdate::Events {
            revision, events, ..
        } => News::Events(Events {
            revision,
            events: events.into_iter().map(event).collect(),
        }),
        _ => return None,
    })
}

fn event(event: ClientEvent) -> Event {
    let (cause, entry) = match event {
        ClientEvent::Set(set) => ("set", entry(set)),
        ClientEvent::Removed {
            key,
            revision,
            cause,
            ..
        } => {
            let cause = match cause {
                Removal::Deleted => "deleted",
                Removal::Expired => "expired",
                Removal::SessionEnded => "session_ended",
                _ => "other",
            };
            (
                cause,
                Entry {
                    key,
                    revision,
                    ..Entry::default()
                },
            )
        }
        _ => ("other", Entry::default()),
    };
    Event {
        cause: cause.to_owned(),
        entry: Some(entry),
    }
}

fn holder_is(holder: Option<Holder>) -> HolderIs {
    match holder {
        Some(holder) => HolderIs {
            held: true,
            value: holder.value,
            token: holder.token,
        },
        None => HolderIs::default(),
    }
}
