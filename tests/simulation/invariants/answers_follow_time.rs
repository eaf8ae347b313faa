//! Whoever asks is told of no place in the log before those that had been told by then: answers
//! never go back in time. With the agreed log this is linearizability, whoever asks and whatever
//! the key.

use std::fmt::Debug;

use seshat::types::{ClusterId, LogIndex};

use super::{Verdict, safe};

/// What had been told at some moment: the cluster, and the highest index.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Floor(Option<(ClusterId, LogIndex)>);

impl Floor {
    /// Something is told as well. Another cluster begins to count anew.
    pub(crate) fn raise(self, cluster: ClusterId, index: LogIndex) -> Self {
        match self.0 {
            Some((before, floor)) if before == cluster => Self(Some((cluster, floor.max(index)))),
            _ => Self(Some((cluster, index))),
        }
    }
}

/// `who` asked when the `floor` had been told, and is told `at`.
pub(crate) fn check(floor: Floor, at: (ClusterId, LogIndex), who: impl Debug) -> Verdict {
    let Floor(Some((cluster, index))) = floor else {
        return Ok(());
    };
    let holds = cluster != at.0 || index <= at.1;
    safe(holds, "answers_follow_time", || {
        format!("{who:?} is told {at:?}, and {index} had been told before it asked")
    })
}
