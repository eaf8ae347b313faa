//! The revisions in answers, as the log indices that most checks compare.

use seshat::node::{Answer, Outcome};
use seshat::types::{ClusterId, Revision};

use crate::invariants::equal_logs::Log;

/// The answer to a caller.
#[derive(Debug)]
pub(crate) struct Told<'a> {
    /// With the index in the log in place of its revision.
    pub(crate) outcome: Outcome,
    /// Its revision, if it has one.
    pub(crate) revision: Option<Revision>,
    pub(crate) now: u64,
    /// The cluster of the node that answers, and its log.
    pub(crate) cluster: ClusterId,
    pub(crate) log: &'a Log,
}

impl<'a> Told<'a> {
    /// `outcome`, at `now`, of a node in `cluster`.
    pub(crate) fn new(
        mut outcome: Outcome,
        now: u64,
        (cluster, log): (ClusterId, &'a Log),
    ) -> Self {
        let place = outcome.as_mut().ok().and_then(place);
        let revision = place.as_ref().map(|place| **place);
        if let Some(place) = place {
            *place = log.model.index(*place);
        }
        Self {
            outcome,
            revision,
            now,
            cluster,
            log,
        }
    }
}

impl Told<'_> {
    /// The revision as if a recovery skipped none.
    pub(crate) fn skip_nothing(&mut self) {
        let model = &self.log.model;
        self.revision = self
            .revision
            .map(|revision| model.unskipped(model.index(revision)));
    }
}

/// The revision in an answer.
fn place(answer: &mut Answer) -> Option<&mut Revision> {
    match answer {
        Answer::Set { applied_index }
        | Answer::Deleted { applied_index, .. }
        | Answer::Got { applied_index, .. }
        | Answer::GotEach { applied_index, .. }
        | Answer::SessionOpened { applied_index, .. }
        | Answer::SessionClosed { applied_index, .. }
        | Answer::Renewed {
            revision: applied_index,
            ..
        }
        | Answer::Sessions {
            revision: applied_index,
            ..
        }
        | Answer::Claim {
            revision: applied_index,
            ..
        }
        | Answer::Occupied {
            revision: applied_index,
            ..
        }
        | Answer::Released {
            revision: applied_index,
        }
        | Answer::Lock {
            revision: applied_index,
            ..
        }
        | Answer::Locks {
            revision: applied_index,
            ..
        }
        | Answer::Part {
            revision: applied_index,
            ..
        }
        | Answer::Txn {
            revision: applied_index,
            ..
        } => Some(applied_index),
        // Operators count log indices.
        Answer::MembersDecided { .. } => None,
    }
}
