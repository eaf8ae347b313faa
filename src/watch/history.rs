//! The last changes of the state.

use std::collections::VecDeque;
use std::sync::Arc;

use super::CHANGE_BYTES;
use crate::kv::Change;
use crate::types::Revision;

/// All changes after one revision, up to the present state. Bounded in bytes: the oldest make room.
#[derive(Debug, Default)]
pub struct History {
    /// No change after this revision is missing.
    since: Revision,
    changes: VecDeque<Arc<Change>>,
    bytes: usize,
    max_bytes: usize,
}

impl History {
    /// The history from `since` on, of at most `max_bytes` bytes.
    pub(super) fn new(since: Revision, max_bytes: usize) -> Self {
        Self {
            since,
            max_bytes,
            ..Self::default()
        }
    }

    /// Adds the next change.
    pub(super) fn push(&mut self, change: Arc<Change>) {
        self.bytes = self.bytes.saturating_add(held(&change));
        self.changes.push_back(change);
        while self.bytes > self.max_bytes
            && let Some(oldest) = self.changes.pop_front()
        {
            self.bytes = self.bytes.saturating_sub(held(&oldest));
            self.since = oldest.revision;
        }
    }

    /// The changes after `revision`. `None` if one of them may be missing.
    pub(super) fn after(&self, revision: Revision) -> Option<impl Iterator<Item = &Arc<Change>>> {
        let known = revision >= self.since;
        let first = || self.changes.partition_point(|it| it.revision <= revision);
        known.then(|| self.changes.range(first()..))
    }
}

/// Bytes that a change holds.
pub(super) fn held(change: &Change) -> usize {
    change.bytes().saturating_add(CHANGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Cause, Lifetime};
    use crate::types::Key;

    fn change(revision: Revision, bytes: usize) -> Arc<Change> {
        Arc::new(Change {
            revision,
            key: Key::from(vec![b'k'; bytes]),
            value: None,
            lifetime: Lifetime::Unlimited,
            cause: Cause::Deleted,
        })
    }

    fn revisions(history: &History, after: Revision) -> Option<Vec<Revision>> {
        Some(history.after(after)?.map(|it| it.revision).collect())
    }

    #[test]
    fn it_goes_back_to_where_it_began_or_as_far_as_its_bytes() {
        let mut history = History::new(5, 3 * (CHANGE_BYTES + 10));
        assert_eq!(revisions(&history, 4), None);
        assert_eq!(revisions(&history, 5), Some(vec![]));
        for revision in [7, 8, 8] {
            history.push(change(revision, 10));
        }
        assert_eq!(revisions(&history, 4), None);
        assert_eq!(revisions(&history, 5), Some(vec![7, 8, 8]));
        assert_eq!(revisions(&history, 7), Some(vec![8, 8]));
        assert_eq!(revisions(&history, 9), Some(vec![]));
        history.push(change(9, 10));
        assert_eq!(revisions(&history, 6), None, "7 is missing");
        assert_eq!(revisions(&history, 7), Some(vec![8, 8, 9]));
        history.push(change(10, 1));
        assert_eq!(revisions(&history, 7), None, "a part of 8 is missing");
        assert_eq!(revisions(&history, 8), Some(vec![9, 10]));
        history.push(change(11, 1000));
        assert_eq!(revisions(&history, 10), None);
        assert_eq!(revisions(&history, 11), Some(vec![]), "too large to keep");
    }
}
