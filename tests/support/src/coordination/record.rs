//! What a client knows of one of its requests.

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
    /// The moment before it was sent.
    pub start: u64,
    pub conditions: Vec<(String, Fact)>,
    /// `None` removes the key.
    pub writes: Vec<(String, Option<u64>)>,
    /// `None`: the outcome is not known. It may be carried out once, at any time after its start.
    pub told: Option<Told>,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The moment after it came.
    pub end: u64,
    /// The place of the request in the order of all writes. Of a read: the last write that it saw.
    pub revision: u64,
    /// Whether all conditions held.
    pub succeeded: bool,
    /// What was true before its own writes.
    pub seen: Vec<(String, Fact)>,
}

impl Record {
    /// A read of `key`, which was answered.
    pub fn read(key: &str, start: u64, end: u64, found: Option<Version>, revision: u64) -> Self {
        let seen = vec![(key.to_owned(), Fact::found(found))];
        Self {
            start,
            conditions: Vec::new(),
            writes: Vec::new(),
            told: Some(Told {
                end,
                revision,
                succeeded: true,
                seen,
            }),
        }
    }

    /// A write of `key`, with the moment and the revision of its answer, if one came.
    pub fn write(key: &str, start: u64, value: u64, answer: Option<(u64, u64)>) -> Self {
        let told = |(end, revision)| Told {
            end,
            revision,
            succeeded: true,
            seen: Vec::new(),
        };
        Self {
            start,
            conditions: Vec::new(),
            writes: vec![(key.to_owned(), Some(value))],
            told: answer.map(told),
        }
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
