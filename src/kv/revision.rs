//! Revisions: the numbers of the writes, which clients may keep.
//!
//! A client compares revisions that it stored elsewhere, to guard another resource for example. So they must
//! never go back, although a cluster that lost all memory forms anew with an empty log. A revision is the
//! log index plus a *base*, and the base of a cluster is the time of its formation in microseconds: a later
//! cluster begins higher, unless an earlier one took more than a write a microsecond for all its life.
//!
//! A recovered cluster keeps the revisions up to the survivor's commit index. The lost majority may have
//! decided and acknowledged other entries behind it, under the next revisions. So these are skipped.

use std::ops::RangeInclusive;

use crate::types::{LogIndex, Revision, WallTime};

/// Revisions that a recovery skips if the time is not above the last revision. Then the cluster is younger
/// than the error of its clocks, so a lost majority has given fewer behind the survivor's.
const SKIPPED: Revision = 1 << 28;
/// Revisions that a recovery skips at least. The lost part of the cluster has given fewer behind the last one
/// that the survivor knows to be committed.
const MARGIN: Revision = 1 << 20;

/// How revisions follow from log indices. A cluster of the first protocol level has no base, and its keys
/// have no revisions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Revisions {
    /// Revision of a command minus its log index. 0 at the first protocol level.
    pub base: Revision,
    /// Revision of all keys that were bound before the cluster had revisions.
    pub oldest: Revision,
}

impl Revisions {
    /// The revision of the command at `index`.
    pub fn at(&self, index: LogIndex) -> Revision {
        self.base.saturating_add(index)
    }

    /// The revision to be stored with a key that the command at `index` binds. 0 at the first protocol
    /// level, where members that restored a snapshot do not know it.
    pub(super) fn stored(&self, index: LogIndex) -> Revision {
        match self.base {
            0 => 0,
            _ => self.at(index),
        }
    }

    /// The revision of a key with which `stored` is stored.
    pub(super) fn of_key(&self, stored: Revision) -> Revision {
        stored.max(self.oldest)
    }

    /// Gives the command at `index` the revision `first`, if there are no revisions yet. All keys that were
    /// bound before have it as well.
    pub fn begin(&mut self, index: LogIndex, first: Revision) {
        if self.base == 0
            && let Some(base) = first.checked_sub(index)
            && base > 0
        {
            *self = Self {
                base,
                oldest: first,
            };
        }
    }

    /// The revision of the same command after `commands` have been given those of `now`.
    pub fn renamed(
        &self,
        revision: Revision,
        commands: RangeInclusive<LogIndex>,
        now: &Self,
    ) -> Revision {
        match revision.checked_sub(self.base) {
            Some(index) if self.base != 0 && commands.contains(&index) => now.at(index),
            _ => revision,
        }
    }

    /// A revision that a lost part of the cluster has not given, although it may have given some after
    /// `given`: the time `now`, at least 2^20 above `given`; or, if the time is not above `given`, 2^28 above
    /// it.
    pub fn above(given: Revision, now: Option<WallTime>) -> Revision {
        match now.map(WallTime::micros).filter(|now| *now > given) {
            Some(now) => now.max(given.saturating_add(MARGIN)),
            None => given.saturating_add(SKIPPED),
        }
    }

    /// Gives the command after `last` a revision [`above`](Self::above) that of `last`.
    pub(super) fn skip(&mut self, last: LogIndex, now: Option<WallTime>) {
        if self.base != 0 {
            let next = Self::above(self.at(last), now);
            self.base = next.saturating_sub(last.saturating_add(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Revision = WallTime::FIRST.micros();

    #[test]
    fn without_a_base_keys_have_no_revision() {
        let revisions = Revisions::default();
        assert_eq!(revisions.at(7), 7);
        assert_eq!(revisions.of_key(revisions.stored(7)), 0);
    }

    #[test]
    fn older_keys_have_the_revision_with_which_revisions_begin() {
        let mut revisions = Revisions::default();
        let old = revisions.stored(3);
        revisions.begin(7, BASE);
        assert_eq!(revisions.at(7), BASE);
        assert_eq!(revisions.of_key(old), BASE);
        assert_eq!(revisions.of_key(revisions.stored(8)), BASE + 1);
        let begun = revisions;
        revisions.begin(9, 2 * BASE);
        assert_eq!(revisions, begun, "they begin once");
        let mut none = Revisions::default();
        none.begin(7, 7);
        assert_eq!(none, Revisions::default(), "no base");
    }

    #[test]
    fn a_recovery_goes_on_at_the_time_or_far_above_the_last_revision() {
        let begun = Revisions {
            base: BASE,
            oldest: 0,
        };
        let given = BASE + 10;
        let next = |now| {
            let mut revisions = begun;
            revisions.skip(10, now);
            revisions.at(11)
        };
        let later = WallTime::new(given + (1 << 20) + 1);
        assert_eq!(next(later), given + (1 << 20) + 1);
        assert_eq!(next(WallTime::new(given + 1)), given + (1 << 20));
        assert_eq!(next(WallTime::new(given)), given + (1 << 28));
        assert_eq!(next(None), given + (1 << 28));
        let mut none = Revisions::default();
        none.skip(10, later);
        assert_eq!(none, Revisions::default());
    }

    #[test]
    fn only_commands_that_have_another_revision_now_are_renamed() {
        let begun = Revisions {
            base: BASE,
            oldest: 0,
        };
        let mut now = begun;
        now.skip(10, WallTime::new(2 * BASE));
        let renamed = |revision| begun.renamed(revision, 11..=12, &now);
        assert_eq!(renamed(BASE + 11), now.at(11));
        assert_eq!(renamed(BASE + 12), now.at(12));
        for other in [0, 11, BASE + 10, BASE + 13] {
            assert_eq!(renamed(other), other);
        }
        let none = Revisions::default();
        assert_eq!(none.renamed(11, 11..=12, &now), 11, "there were none");
    }
}
