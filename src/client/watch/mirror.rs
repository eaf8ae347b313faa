//! A copy of a range that follows its changes.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Updates;
use super::update::{Event, Position, Update};
use crate::client::{Entry, Error};

/// A copy of a range of keys that follows its changes: see [`Watch::mirror`](super::Watch::mirror).
///
/// It shows the range as it was at one [revision](Self::position), at any time: while a new state arrives, it shows
/// the former one. It does not change between two calls of [`changed`](Self::changed).
///
/// ```no_run
/// # async fn example(client: seshat::client::Client) -> Result<(), seshat::client::Error> {
/// let mut config = client.watch("config/").mirror().await?;
/// loop {
///     println!("limits: {:?}", config.get("config/limits").map(|entry| &entry.value));
///     config.changed().await?;
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Mirror {
    updates: Updates,
    copy: Copy,
    disconnected: Option<Error>,
}

impl Mirror {
    pub(super) async fn of(updates: Updates) -> Result<Self, Error> {
        let mut mirror = Self {
            updates,
            copy: Copy::default(),
            disconnected: None,
        };
        while mirror.copy.position.is_none() {
            mirror.follow().await?;
            if let Some(error) = mirror.disconnected {
                return Err(error);
            }
        }
        Ok(mirror)
    }

    /// Waits until a key has changed, and shows the range as it is then. Returns at a later moment without having
    /// shown every change in between, if several have come. May be dropped at any time, and called again.
    ///
    /// # Errors
    ///
    /// The watch has ended, because no node will ever serve it. What the mirror shows stays as it is.
    pub async fn changed(&mut self) -> Result<(), Error> {
        while !self.follow().await? {}
        Ok(())
    }

    /// The entry of `key`, if it is bound.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<&Entry> {
        self.copy.shown.get(key.as_ref())
    }

    /// All entries, in ascending order of their keys.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.copy.shown.values()
    }

    /// The moment that it shows.
    pub fn position(&self) -> Position {
        self.copy.position.unwrap_or(NOWHERE)
    }

    /// Why no node serves the watch at the moment, so that what it shows gets old. Known while
    /// [`changed`](Self::changed) is awaited.
    pub fn disconnected(&self) -> Option<&Error> {
        self.disconnected.as_ref()
    }

    /// Takes the next news. Returns whether something has changed.
    async fn follow(&mut self) -> Result<bool, Error> {
        let Some(update) = self.updates.next().await else {
            return Err(Error::invalid("the watch has ended"));
        };
        match update? {
            Update::Disconnected(error) => {
                self.disconnected = Some(error);
                Ok(false)
            }
            update => {
                self.disconnected = None;
                Ok(self.copy.apply(update))
            }
        }
    }
}

/// No mirror stands here, because it is given out only once it is complete.
const NOWHERE: Position = Position {
    cluster_id: 0,
    revision: 0,
};

/// The map of a mirror.
#[derive(Debug, Default)]
struct Copy {
    /// The range at `position`.
    shown: BTreeMap<Bytes, Entry>,
    position: Option<Position>,
    /// What the state has brought since, until it is complete.
    coming: Option<Coming>,
}

#[derive(Debug, Default)]
struct Coming {
    /// Whether it takes the place of all that is shown.
    resets: bool,
    changes: BTreeMap<Bytes, Option<Entry>>,
}

impl Copy {
    /// Returns whether what is shown has changed.
    fn apply(&mut self, update: Update) -> bool {
        match update {
            Update::Reset => {
                self.coming = Some(Coming {
                    resets: true,
                    ..Coming::default()
                });
                false
            }
            Update::State { entries, deleted } => {
                let changes = &mut self.coming.get_or_insert_default().changes;
                let entries = entries.iter().map(kept);
                changes.extend(entries.map(|entry| (entry.key.clone(), Some(entry))));
                let deleted = deleted.iter().map(|key| Bytes::copy_from_slice(key));
                changes.extend(deleted.map(|key| (key, None)));
                false
            }
            Update::Synced { position } => {
                self.position = Some(position);
                self.coming.take().is_some_and(|coming| self.show(coming))
            }
            Update::Events { revision, events } => {
                self.advance(revision);
                let mut changed = false;
                for event in events {
                    changed |= self.shows_event(event);
                }
                changed
            }
            Update::Progress { revision } => {
                self.advance(revision);
                false
            }
            Update::Disconnected(_) => false,
        }
    }

    fn advance(&mut self, revision: u64) {
        if let Some(position) = &mut self.position {
            position.revision = revision;
        }
    }

    fn show(&mut self, coming: Coming) -> bool {
        let Coming { resets, changes } = coming;
        if resets {
            let present = changes.into_iter();
            let present = present.filter_map(|(key, entry)| Some((key, entry?)));
            let present: BTreeMap<_, _> = present.collect();
            let changed = present != self.shown;
            self.shown = present;
            return changed;
        }
        let mut changed = false;
        for (key, entry) in changes {
            changed |= self.set(key, entry);
        }
        changed
    }

    fn shows_event(&mut self, event: Event) -> bool {
        match event {
            Event::Set(entry) => {
                let entry = kept(&entry);
                self.set(entry.key.clone(), Some(entry))
            }
            Event::Removed { key, .. } => self.set(key, None),
        }
    }

    fn set(&mut self, key: Bytes, entry: Option<Entry>) -> bool {
        match entry {
            Some(entry) => self.shown.insert(key, entry.clone()).as_ref() != Some(&entry),
            None => self.shown.remove(&key).is_some(),
        }
    }
}

/// A copy of an entry, to be kept for long: the entry itself holds the memory of its whole message.
fn kept(entry: &Entry) -> Entry {
    Entry {
        key: Bytes::copy_from_slice(&entry.key),
        value: Bytes::copy_from_slice(&entry.value),
        ..entry.clone()
    }
}
