//! What a client knows of one of its requests.

use std::time::Duration;

/// A moment of a test.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// An event that happened before another one has the lower number.
    pub number: u64,
    /// The time since the beginning.
    pub time: Duration,
}

/// A key that is bound: the number that is its value, and the revision of the write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    pub value: u64,
    pub revision: u64,
}

/// What is true of a key at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    Missing,
    /// It is bound, to whatever value.
    Bound,
    Value(u64),
    Version(Version),
}

impl Fact {
    /// Whether this is true of a key that is bound to `version`, or missing.
    pub fn holds(self, version: Option<Version>) -> bool {
        match self {
            Self::Missing => version.is_none(),
            Self::Bound => version.is_some(),
            Self::Value(value) => version.is_some_and(|it| it.value == value),
            Self::Version(wanted) => version == Some(wanted),
        }
    }

    /// What a read has found.
    pub fn found(version: Option<Version>) -> Self {
        version.map_or(Self::Missing, Self::Version)
    }

    /// The version that a read has found, if this is the result of a read.
    pub fn read(self) -> Option<Option<Version>> {
        match self {
            Self::Missing => Some(None),
            Self::Version(version) => Some(Some(version)),
            Self::Bound | Self::Value(_) => None,
        }
    }
}

/// A request: if all conditions hold, it carries out its writes. No two requests write the same value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Before it was sent.
    pub start: Moment,
    pub conditions: Vec<(String, Fact)>,
    /// `None` removes the key.
    pub writes: Vec<(String, Option<u64>)>,
    /// How long what it writes is bound at least. `None`: for ever.
    pub ttl: Option<Duration>,
    /// Whether it may have seen a moment before its start: it is the news of a watch.
    pub is_late: bool,
    /// `None`: the outcome is not known. It may be carried out once, at any time after its start.
    pub told: Option<Told>,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// After it came.
    pub end: Moment,
    /// The place of the request in the order of all writes. Of a read: the last write that it saw.
    pub revision: u64,
    /// Whether all conditions held.
    pub succeeded: bool,
    /// What was true before its own writes.
    pub seen: Vec<(String, Fact)>,
}

impl Record {
    /// A request that was sent at `start`, and does nothing yet.
    pub fn new(start: Moment) -> Self {
        Self {
            start,
            conditions: Vec::new(),
            writes: Vec::new(),
            ttl: None,
            is_late: false,
            told: None,
        }
    }

    /// A read of `key`, which was answered.
    pub fn read(
        key: &str,
        start: Moment,
        end: Moment,
        found: Option<Version>,
        revision: u64,
    ) -> Self {
        let seen = vec![(key.to_owned(), Fact::found(found))];
        Self {
            told: Some(Told {
                end,
                revision,
                succeeded: true,
                seen,
            }),
            ..Self::new(start)
        }
    }

    /// A write of `key`, with the moment and the revision of its answer, if one came.
    pub fn write(key: &str, start: Moment, value: u64, answer: Option<(Moment, u64)>) -> Self {
        let mut record = Self {
            writes: vec![(key.to_owned(), Some(value))],
            ..Self::new(start)
        };
        if let Some((end, revision)) = answer {
            record.is_done(end, revision);
        }
        record
    }

    /// It was carried out, and nothing else was seen.
    pub fn is_done(&mut self, end: Moment, revision: u64) {
        self.told = Some(Told {
            end,
            revision,
            succeeded: true,
            seen: Vec::new(),
        });
    }

    /// Whether it has an entry in the log of its own.
    pub fn is_write(&self) -> bool {
        !self.writes.is_empty()
    }

    /// The value that it writes to `key`; `Some(None)` if it removes the key.
    pub fn writes(&self, key: &str) -> Option<Option<u64>> {
        let mut writes = self.writes.iter();
        writes.find(|(it, _)| it == key).map(|(_, value)| *value)
    }

    /// Whether it is known to have succeeded.
    pub fn succeeded(&self) -> bool {
        self.told.as_ref().is_some_and(|told| told.succeeded)
    }
}
