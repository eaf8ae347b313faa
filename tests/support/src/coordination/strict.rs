//! A checker of strict serializability, for histories of requests that may read and write several keys.
//!
//! The revision in an answer claims a place for the request: all requests take effect one after the other, in
//! the order of their revisions. So no order has to be searched for. What remains to be checked:
//!
//! * Everything that a client saw was so at that place. A request of unknown outcome takes the place at which
//!   its value was seen, with all of its writes, and had to find its conditions true there. Without a reader it
//!   may have had no effect, or one that nobody saw.
//! * No two writes have the same place, and no value was seen with two revisions.
//! * The order respects time: a write has a higher revision than every request that ended before it began, and
//!   a read no lower one.
//! * If a request says that a condition did not hold, one did not.
//! * No key that was bound for a time is missing earlier.
//! * No watch has left out a change.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::record::{Fact, Record, Version};
use super::spans::Span;

/// The state before a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begins {
    /// All keys are missing.
    Empty,
    /// Not known: keys may be bound to values that no request of the history writes.
    Anywhere,
}

/// Whether `records` are strictly serializable, and fit what watches have shown; or why not. A request that removes
/// a key has to have a condition that names what it removes.
pub fn check(records: &[Record], spans: &[Span], begins: Begins) -> Result<(), String> {
    let places = Places::find(records, begins)?;
    places.are_given_once()?;
    places.follow_time()?;
    for (record, revision) in places.carried_out() {
        for span in spans {
            span.shows(record, revision)?;
        }
    }
    for record in records {
        fails_for_a_reason(record)?;
    }
    for (key, mut events) in places.events() {
        events.sort_by_key(|(place, _)| *place);
        let state = match begins {
            Begins::Empty => State::Known(None),
            Begins::Anywhere => State::Unknown,
        };
        let mut key = Key {
            name: key,
            state,
            used: false,
            places: &places,
        };
        for (_, event) in events {
            key.pass(event)?;
        }
    }
    Ok(())
}

/// The places of requests in the order of revisions.
struct Places<'a> {
    records: &'a [Record],
    /// The request that writes each value.
    writers: BTreeMap<u64, usize>,
    /// The revision of each request, if it has one.
    revisions: Vec<Option<u64>>,
    /// The versions of keys that no request has written.
    first: BTreeMap<&'a str, Version>,
}

impl<'a> Places<'a> {
    fn find(records: &'a [Record], begins: Begins) -> Result<Self, String> {
        let mut writers = BTreeMap::new();
        for (index, record) in records.iter().enumerate() {
            let values: BTreeSet<_> = record.writes.iter().filter_map(|(_, it)| *it).collect();
            for value in values {
                if writers.insert(value, index).is_some() {
                    return Err(format!("the history writes {value} twice"));
                }
            }
        }
        let revision = |record: &Record| record.told.as_ref().map(|told| told.revision);
        let mut places = Self {
            records,
            writers,
            revisions: records.iter().map(revision).collect(),
            first: BTreeMap::new(),
        };
        for (reader, key, version) in sightings(records) {
            match places.writers.get(&version.value).copied() {
                Some(writer) => places.place(writer, reader, key, version)?,
                None if begins == Begins::Anywhere => places.begin(key, version)?,
                None => return Err(format!("never written: {key} in {reader:?}")),
            }
        }
        Ok(places)
    }

    /// The request `writer` has written what `reader` has seen.
    fn place(
        &mut self,
        writer: usize,
        reader: &Record,
        key: &str,
        version: Version,
    ) -> Result<(), String> {
        let record = &self.records[writer];
        if record.writes(key) != Some(Some(version.value)) {
            return Err(format!("{record:?} wrote no {key}, which is in {reader:?}"));
        }
        if record.told.as_ref().is_some_and(|told| !told.succeeded) {
            return Err(format!("{record:?} wrote nothing, and {reader:?} saw it"));
        }
        let place = self.revisions[writer].get_or_insert(version.revision);
        if *place != version.revision {
            return Err(format!(
                "{record:?} has revision {place}, and {} in {reader:?}",
                version.revision
            ));
        }
        Ok(())
    }

    /// `key` was bound to `version` before the history.
    fn begin(&mut self, key: &'a str, version: Version) -> Result<(), String> {
        match self.first.entry(key) {
            Entry::Vacant(entry) => drop(entry.insert(version)),
            Entry::Occupied(entry) if *entry.get() == version => {}
            Entry::Occupied(entry) => {
                let first = entry.get();
                return Err(format!("{key} begins with {first:?} and with {version:?}"));
            }
        }
        Ok(())
    }

    /// The requests that have a place, with their revisions.
    fn placed(&self) -> impl Iterator<Item = (&'a Record, u64)> {
        let records = self.records.iter().zip(&self.revisions);
        records.filter_map(|(record, revision)| Some((record, (*revision)?)))
    }

    /// The requests that have a place and wrote there.
    fn carried_out(&self) -> impl Iterator<Item = (&'a Record, u64)> {
        // A request without an answer has a place because what it wrote was seen.
        let wrote = |record: &Record| record.told.as_ref().is_none_or(|told| told.succeeded);
        self.placed().filter(move |(record, _)| wrote(record))
    }

    /// The requests without a place.
    fn unplaced(&self) -> impl Iterator<Item = &'a Record> {
        let records = self.records.iter().zip(&self.revisions);
        records.filter_map(|(record, revision)| revision.is_none().then_some(record))
    }

    fn are_given_once(&self) -> Result<(), String> {
        let mut given: BTreeMap<u64, &Record> = BTreeMap::new();
        for (record, revision) in self.placed().filter(|(record, _)| record.is_write()) {
            if let Some(other) = given.insert(revision, record) {
                return Err(format!("one revision for {record:?} and {other:?}"));
            }
        }
        Ok(())
    }

    fn follow_time(&self) -> Result<(), String> {
        let begun = self.placed().filter(|(record, _)| !record.is_late);
        let mut begun: Vec<_> = begun.collect();
        begun.sort_by_key(|(record, _)| record.start);
        let ended = |(record, revision): (&'a Record, u64)| {
            Some((record.told.as_ref()?.end, revision, record))
        };
        let mut ended: Vec<_> = self.placed().filter_map(ended).collect();
        ended.sort_by_key(|(end, ..)| *end);
        let mut ended = ended.into_iter().peekable();
        let mut highest: Option<(u64, &Record)> = None;
        for (record, revision) in begun {
            while let Some((_, before, earlier)) = ended.next_if(|(end, ..)| *end < record.start) {
                if highest.is_none_or(|(highest, _)| highest < before) {
                    highest = Some((before, earlier));
                }
            }
            let Some((before, earlier)) = highest else {
                continue;
            };
            if revision < before || revision == before && record.is_write() {
                return Err(format!(
                    "{record:?} has revision {revision}, and began after {earlier:?}"
                ));
            }
        }
        Ok(())
    }

    /// The events of each key, with their places. A write of revision n has place 2n, what was seen
    /// directly before it 2n - 1, and what was seen directly after it 2n + 1.
    fn events(&self) -> BTreeMap<&'a str, Vec<(u64, Event<'a>)>> {
        let mut events: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for (key, version) in &self.first {
            let event = (version.revision * 2, Event::Began(*version));
            events.entry(key).or_default().push(event);
        }
        for (record, revision) in self.placed() {
            let seen_at = match record.is_write() {
                true => revision * 2 - 1,
                false => revision * 2 + 1,
            };
            let told = record.told.as_ref();
            // Its value was seen, or it says so.
            let succeeded = told.is_none_or(|told| told.succeeded);
            let tested = record.conditions.iter().filter(|_| succeeded);
            let seen = told.map_or(&[][..], |told| &told.seen);
            for (key, fact) in tested.chain(seen) {
                let event = (seen_at, Event::Seen(*fact, record));
                events.entry(key).or_default().push(event);
            }
            for (key, value) in record.writes.iter().filter(|_| succeeded) {
                let version = value.map(|value| Version { value, revision });
                let event = (revision * 2, Event::Written(version, record));
                events.entry(key).or_default().push(event);
            }
        }
        events
    }
}

/// What readers have found: the reader, the key, and its version.
fn sightings(records: &[Record]) -> impl Iterator<Item = (&Record, &str, Version)> {
    records.iter().flat_map(|record| {
        let seen = record.told.iter().flat_map(|told| &told.seen);
        seen.filter_map(move |(key, fact)| Some((record, key.as_str(), fact.read()??)))
    })
}

/// A request of which a condition did not hold has seen that.
fn fails_for_a_reason(record: &Record) -> Result<(), String> {
    let Some(told) = record.told.as_ref().filter(|told| !told.succeeded) else {
        return Ok(());
    };
    let may_fail = |(key, condition): &(String, Fact)| {
        let seen = told.seen.iter().find(|(it, _)| it == key);
        let found = seen.and_then(|(_, fact)| fact.read());
        found.is_none_or(|found| !condition.holds(found))
    };
    match record.conditions.iter().any(may_fail) {
        true => Ok(()),
        false => Err(format!("all conditions hold: {record:?}")),
    }
}

/// An event of a key.
#[derive(Debug, Clone, Copy)]
enum Event<'a> {
    /// It had this version before the history.
    Began(Version),
    Written(Option<Version>, &'a Record),
    Seen(Fact, &'a Record),
}

#[derive(Debug, Clone, Copy)]
enum State {
    Unknown,
    Known(Option<Version>),
}

/// A key at one place of the order.
struct Key<'a> {
    name: &'a str,
    state: State,
    /// Whether a request with an answer has written or seen it before this place.
    used: bool,
    places: &'a Places<'a>,
}

impl Key<'_> {
    fn pass(&mut self, event: Event<'_>) -> Result<(), String> {
        match event {
            Event::Began(version) if self.used => {
                return Err(format!("{} comes back: {version:?}", self.name));
            }
            Event::Began(version) => self.state = State::Known(Some(version)),
            Event::Written(version, by) => {
                self.state = State::Known(version);
                self.used |= by.told.is_some();
            }
            Event::Seen(fact, by) => {
                self.saw(fact, by)?;
                self.used |= by.told.is_some();
            }
        }
        Ok(())
    }

    fn saw(&mut self, fact: Fact, by: &Record) -> Result<(), String> {
        let State::Known(version) = self.state else {
            if fact == Fact::Missing {
                self.state = State::Known(None);
            }
            return Ok(());
        };
        if fact.holds(version) {
            return Ok(());
        }
        if let (Fact::Missing, Some(version)) = (fact, version)
            && (self.may_have_been_removed(version, by) || self.may_have_expired(version, by))
        {
            self.state = State::Known(None);
            return Ok(());
        }
        let name = self.name;
        Err(format!("{name} is {version:?}, not {fact:?}, for {by:?}"))
    }

    /// Whether a request of unknown outcome removes exactly `version`.
    fn may_have_been_removed(&self, version: Version, reader: &Record) -> bool {
        self.places.unplaced().any(|record| {
            let tests = |(key, fact): &(String, Fact)| {
                key == self.name
                    && matches!(fact, Fact::Value(_) | Fact::Version(_))
                    && fact.holds(Some(version))
            };
            let told = reader.told.as_ref();
            record.writes(self.name) == Some(None)
                && told.is_none_or(|told| record.start < told.end)
                && record.conditions.iter().any(tests)
        })
    }

    /// Whether the time of `version` was over before `reader` ended.
    fn may_have_expired(&self, version: Version, reader: &Record) -> bool {
        let Some(writer) = self.places.writers.get(&version.value) else {
            // It was bound before the history.
            return true;
        };
        let writer = &self.places.records[*writer];
        let told = reader.told.as_ref();
        writer.ttl.is_some_and(|ttl| {
            let end = writer.start.time + ttl;
            told.is_none_or(|told| end <= told.end.time)
        })
    }
}

#[cfg(test)]
#[path = "strict_tests.rs"]
mod tests;
