//! A write has a higher revision than every answer that had been told when it was asked for, and a read
//! none below: also when the cluster was recovered or has formed anew in between.
//!
//! A cluster of the first protocol level has no revisions.

use std::fmt::Debug;

use seshat::types::{Revision, WallTime};

use super::{Verdict, safe};

/// The highest revision that had been told at some moment, to any client.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Highest(Revision);

impl Highest {
    /// Another revision is told.
    pub(crate) fn raise(self, revision: Revision) -> Self {
        Self(self.0.max(revision))
    }
}

/// Whether it is a revision, not the log index of a cluster without any.
pub(crate) fn is_revision(revision: Revision) -> bool {
    revision >= WallTime::FIRST.micros()
}

/// `who` asked when revisions up to `highest` had been told, and is told `revision`.
pub(crate) fn check(
    Highest(highest): Highest,
    revision: Revision,
    writes: bool,
    who: impl Debug,
) -> Verdict {
    let follows = match writes {
        true => revision > highest,
        false => revision >= highest,
    };
    let holds = follows || !is_revision(revision);
    safe(holds, "revisions_follow_time", || {
        format!("{who:?} is told {revision}, and {highest} had been told before it asked")
    })
}
