//! The map of a client that watches is the range at every revision that it is told, in the order of
//! revisions, and in the end the range as its node has it.

use std::collections::BTreeMap;

use seshat::kv::Entry;
use seshat::node::RaftNode;
use seshat::types::{ClusterId, Key, LogIndex, Value};

use super::{Verdict, Violation, live, safe};
use crate::clusters::Clusters;
use crate::watches::Watcher;

const NAME: &str = "a_watch_shows_every_revision";

/// Whether the map is complete after `message`, if that came in order.
pub(crate) fn in_order(
    watcher: &Watcher,
    applied: Result<bool, String>,
    message: &str,
) -> Result<bool, Violation> {
    applied.map_err(|reason| Violation::safety(NAME, format!("{reason}: {message} to {watcher:?}")))
}

/// The map of a client that was just told a revision.
pub(crate) fn check(watcher: &Watcher, clusters: &Clusters) -> Verdict {
    let (Some(cluster), Some(at)) = (watcher.cluster, watcher.at) else {
        return Ok(());
    };
    let after = watcher.spec.after.filter(|(after, _)| *after == cluster);
    let after = after.map_or(0, |(_, revision)| revision);
    let least = after.max(watcher.spec.min_revision);
    safe(at >= least, NAME, || format!("before {least}: {watcher:?}"))?;
    let index = clusters.log(cluster).model.index(at);
    let expected = range(watcher, clusters, (cluster, index));
    safe(watcher.map == expected, NAME, || {
        format!("{watcher:?}, but the log has {expected:?} at index {index}")
    })
}

/// The map of a client that has taken everything that `raft` has for it.
pub(crate) fn finish<W>(watcher: &Watcher, raft: &RaftNode<W>, clusters: &Clusters) -> Verdict {
    let storage = raft.storage();
    let (cluster, applied) = (raft.cluster_id(), storage.applied());
    let revision = storage.state_machine().revisions().at(applied);
    let after = watcher.spec.after.filter(|(after, _)| *after == cluster);
    let after = after.map_or(0, |(_, revision)| revision);
    if applied == 0 || after.max(watcher.spec.min_revision) > revision {
        return Ok(());
    }
    let expected = range(watcher, clusters, (cluster, applied));
    let right = watcher.cluster == Some(cluster) && watcher.at.is_some() && watcher.map == expected;
    live(right, NAME, || {
        format!("{watcher:?} ends, but the log has {expected:?} at index {applied}")
    })
}

/// The range of a client, as the agreed log makes it.
fn range(
    watcher: &Watcher,
    clusters: &Clusters,
    (cluster, index): (ClusterId, LogIndex),
) -> BTreeMap<Key, Entry> {
    let model = &clusters.log(cluster).model;
    let keys = model.keys().filter(|key| watcher.spec.range.contains(key));
    let entries = keys.filter_map(|key| model.entry(key, index));
    let shown = entries.map(|entry| match watcher.spec.keys_only {
        true => Entry {
            value: Value::new(),
            ..entry
        },
        false => entry,
    });
    shown.map(|entry| (entry.key.clone(), entry)).collect()
}
