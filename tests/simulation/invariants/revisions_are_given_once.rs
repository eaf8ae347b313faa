//! No two writes ever have one revision, in all clusters of a run: neither told to clients, nor in the
//! logs. A recovered cluster repeats the writes that it keeps.

use std::collections::BTreeMap;

use seshat::types::Revision;

use super::revisions_follow_time::is_revision;
use super::{Verdict, safe};
use crate::clients::Author;
use crate::clusters::Clusters;

const NAME: &str = "revisions_are_given_once";

/// The write to which each revision was given, as clients were told.
#[derive(Debug, Default)]
pub(crate) struct Given(BTreeMap<Revision, Author>);

impl Given {
    /// A client is told that `write` has `revision`.
    pub(crate) fn tell(&mut self, revision: Revision, write: Author) -> Verdict {
        if !is_revision(revision) {
            return Ok(());
        }
        let first = *self.0.entry(revision).or_insert(write);
        safe(first == write, NAME, || {
            format!("{write:?} was told {revision}, which {first:?} has")
        })
    }
}

/// The logs of all clusters.
pub(crate) fn check(clusters: &Clusters) -> Verdict {
    let mut given = BTreeMap::new();
    for (cluster, log) in clusters.logs() {
        for (index, revision, command) in log.commands() {
            if !is_revision(revision) {
                continue;
            }
            let (first, other, place) = *given.entry(revision).or_insert((cluster, command, index));
            safe(command == other, NAME, || {
                format!(
                    "{revision} is {other:?} at {place} of {first}, and {command:?} at {index} of \
                     {cluster}"
                )
            })?;
        }
    }
    Ok(())
}
