//! An answer never names an index before one that had been told when the request was made:
//! answers never go back in time. With the agreed log this is linearizability, for all clients and all
//! keys.

use std::fmt::Debug;

use seshat::types::{ClusterId, LogIndex};

use super::{Verdict, safe};

/// The highest index that had been told at some moment, and its cluster.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Floor(Option<(ClusterId, LogIndex)>);

impl Floor {
    /// Another index is told. Another cluster begins to count anew.
    pub(crate) fn raise(self, cluster: ClusterId, index: LogIndex) -> Self {
        match self.0 {
            Some((before, floor)) if before == cluster => Self(Some((cluster, floor.max(index)))),
            _ => Self(Some((cluster, index))),
        }
    }
}

/// The client `who` asked after the `floor` was answered, and gets the answer `at`.
pub(crate) fn check(floor: Floor, at: (ClusterId, LogIndex), who: impl Debug) -> Verdict {
    let Floor(Some((cluster, index))) = floor else {
        return Ok(());
    };
    let holds = cluster != at.0 || index <= at.1;
    safe(holds, "answers_follow_time", || {
        format!("{who:?} is told {at:?}, and {index} had been told before it asked")
    })
}
