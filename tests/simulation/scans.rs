//! The scans of clients. A client reads a range in place of some of its reads. Some ask the node to keep its
//! state, and read the parts behind the first one when the run is over: by then the node has changed what
//! they share with it.

use bytes::Bytes;
use rand::Rng;
use rand::rngs::StdRng;
use seshat::kv::{Entry, KeyRange, MAX_PART_BYTES, Part, Query, Scan, StateMachine};
use seshat::types::{ClusterId, LogIndex};

/// Scans that may keep the state to the end of the run.
const MAX_KEPT: usize = 8;

/// A scan that was answered.
#[derive(Debug)]
pub(crate) struct Scanned {
    pub(crate) cluster: ClusterId,
    pub(crate) index: LogIndex,
    /// What was asked for.
    pub(crate) scan: Scan,
    /// The first part, and what is to be read behind it.
    first: Part,
    rest: Scan,
    /// The state that the node has kept for the rest.
    state: Option<Box<StateMachine>>,
}

impl Scanned {
    /// The answer `first` to `scan`, with the `rest` that is to be read.
    pub(crate) fn new(
        at: (ClusterId, LogIndex),
        scan: Scan,
        (first, rest): (Part, Scan),
        state: Option<Box<StateMachine>>,
    ) -> Self {
        Self {
            cluster: at.0,
            index: at.1,
            scan,
            first,
            rest,
            state,
        }
    }

    /// Whether it keeps the state of a node.
    fn keeps(&self) -> bool {
        self.state.is_some()
    }

    /// All entries that it reads, how many they are, and whether there are more in the range.
    pub(crate) fn read(&self) -> (Vec<Entry>, u64, bool) {
        let (mut part, mut rest) = (self.first.clone(), self.rest.clone());
        let (mut entries, mut count) = (std::mem::take(&mut part.entries), part.count);
        while let Some(state) = &self.state
            && !part.is_last(&rest)
        {
            part = state.scan(&mut rest);
            entries.append(&mut part.entries);
            count += part.count;
        }
        (entries, count, part.more)
    }
}

/// All scans.
#[derive(Debug, Default)]
pub(crate) struct Scans {
    pub(crate) told: Vec<Scanned>,
}

impl Scans {
    /// A range of the keys of clients.
    pub(crate) fn draw(&self, rng: &mut StdRng) -> Query {
        let key = |rng: &mut StdRng| {
            let letter = *[b'd', b'k'].get(rng.gen_range(0..2)).unwrap_or(&b'k');
            Bytes::from(vec![letter, b'0' + rng.gen_range(0..10u8)])
        };
        let range = match rng.gen_range(0..4) {
            0 => KeyRange::prefix(Bytes::new()),
            1 => KeyRange::prefix(Bytes::from_static(b"k")),
            2 => KeyRange::interval(key(rng), Some(key(rng))),
            _ => KeyRange::interval(key(rng), None),
        };
        let scan = Scan {
            range,
            limit: [u64::MAX, 1, 3, 7][rng.gen_range(0..4)],
            keys_only: rng.gen_bool(0.2),
            count_only: rng.gen_bool(0.1),
            part_bytes: [MAX_PART_BYTES, 1, 100][rng.gen_range(0..3)],
        };
        let kept = self.told.iter().filter(|it| it.keeps()).count();
        Query::Scan {
            scan: Box::new(scan),
            keeps: kept < MAX_KEPT && rng.gen_bool(0.5),
        }
    }
}
