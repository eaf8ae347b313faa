//! The revisions in answers, as the log indices that the other checks of answers compare.

use seshat::kv::Revisions;
use seshat::node::{Answer, Outcome};
use seshat::types::{LogIndex, Revision, WallTime};

/// `outcome` with log indices in the place of revisions. `revisions` are those of the node that answers.
pub(crate) fn in_log(outcome: Outcome, revisions: Revisions) -> Outcome {
    let index = |revision| index_of(revision, revisions);
    Ok(match outcome? {
        Answer::Set { applied_index } => Answer::Set {
            applied_index: index(applied_index),
        },
        Answer::Deleted {
            existed,
            applied_index,
        } => Answer::Deleted {
            existed,
            applied_index: index(applied_index),
        },
        Answer::SessionOpened { applied_index } => Answer::SessionOpened {
            applied_index: index(applied_index),
        },
        Answer::Got {
            found,
            applied_index,
        } => Answer::Got {
            found,
            applied_index: index(applied_index),
        },
        other @ (Answer::Txn { .. } | Answer::MembersDecided { .. }) => other,
    })
}

/// A remembered answer may be from before the cluster had revisions: then it names its log index.
fn index_of(revision: Revision, revisions: Revisions) -> LogIndex {
    match revision < WallTime::FIRST.micros() {
        true => revision,
        false => revision.saturating_sub(revisions.base),
    }
}
