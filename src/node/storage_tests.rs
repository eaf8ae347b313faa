use bytes::Bytes;

use super::*;
use crate::kv::{Effect, Write, Written};
use crate::types::NodeId;

fn voter(node: u16) -> RaftId {
    RaftId::new(NodeId::new(node).expect("a node id"), 0xa)
}

fn voters() -> Vec<RaftId> {
    vec![voter(1), voter(2), voter(3)]
}

fn entry(index: LogIndex, term: Term) -> Entry {
    Entry {
        index,
        term,
        data: Bytes::from(vec![b'x'; 10]),
        ..Entry::default()
    }
}

fn typed(index: LogIndex, entry_type: EntryType, data: &'static [u8]) -> Entry {
    let mut entry = Entry {
        index,
        term: 1,
        data: Bytes::from_static(data),
        ..Entry::default()
    };
    entry.set_entry_type(entry_type);
    entry
}

fn set(key: &'static [u8], value: &'static [u8]) -> Command {
    Command::from(Write::Set {
        key: Bytes::from_static(key),
        value: Bytes::from_static(value),
    })
}

/// Entries 2 to `last` in term 1, all applied.
fn filled(last: LogIndex) -> MemoryStorage {
    let mut storage = MemoryStorage::bootstrap(&voters(), ClusterMembership::default());
    storage
        .append((2..=last).map(|index| entry(index, 1)).collect())
        .expect("no gap");
    for index in 2..=last {
        storage
            .apply(index, 1, None, &mut Changes::ignored())
            .expect("in order");
    }
    storage
}

fn bounds(storage: &MemoryStorage) -> (LogIndex, LogIndex) {
    (
        storage.first_index().expect("never fails"),
        storage.last_index().expect("never fails"),
    )
}

fn range(
    storage: &MemoryStorage,
    low: LogIndex,
    high: LogIndex,
    max_size: Option<u64>,
) -> raft::Result<Vec<LogIndex>> {
    let entries = storage.entries(low, high, max_size, GetEntriesContext::empty(false))?;
    Ok(entries.into_iter().map(|entry| entry.index).collect())
}

fn compacted() -> raft::Error {
    raft::Error::Store(raft::StorageError::Compacted)
}

fn unavailable() -> raft::Error {
    raft::Error::Store(raft::StorageError::Unavailable)
}

#[test]
fn a_cluster_starts_as_if_from_a_snapshot_at_index_1_and_term_1() {
    let storage = MemoryStorage::bootstrap(&voters(), ClusterMembership::default());
    let state = storage.initial_state().expect("never fails");
    assert_eq!((state.hard_state.term, state.hard_state.commit), (1, 1));
    assert_eq!(state.hard_state.vote, raft::INVALID_ID);
    assert_eq!(
        state.conf_state.voters,
        voters().iter().map(|id| id.get()).collect::<Vec<_>>()
    );
    assert_eq!(bounds(&storage), (2, 1));
    assert_eq!(storage.term(1), Ok(1));
    assert_eq!(storage.applied(), 1);
    assert_eq!(storage.log_entries(), 0);
}

#[test]
fn a_joiner_knows_nothing_but_begins_at_term_1() {
    let storage = MemoryStorage::empty();
    let state = storage.initial_state().expect("never fails");
    assert_eq!((state.hard_state.term, state.hard_state.commit), (1, 0));
    assert!(!state.initialized());
    assert_eq!(bounds(&storage), (1, 0));
    assert_eq!(storage.term(0), Ok(0));
    assert_eq!(storage.applied(), 0);
}

#[test]
fn the_hard_state_is_kept_as_raft_gives_it() {
    let mut storage = MemoryStorage::bootstrap(&voters(), ClusterMembership::default());
    let hard_state = HardState {
        term: 7,
        vote: voter(2).get(),
        commit: 1,
        ..HardState::default()
    };
    storage.set_hard_state(&hard_state);
    assert_eq!(
        storage.hard_state(),
        RaftHardState {
            version: FORMAT_VERSION,
            term: 7,
            vote: Some(voter(2)),
            commit: 1,
        }
    );
    storage.set_commit(5);
    let state = storage.initial_state().expect("never fails");
    assert_eq!(state.hard_state.vote, voter(2).get());
    assert_eq!(state.hard_state.commit, 5);
}

#[test]
fn entries_come_by_range_and_at_least_one() {
    let storage = filled(6);
    assert_eq!(range(&storage, 2, 7, None), Ok(vec![2, 3, 4, 5, 6]));
    assert_eq!(range(&storage, 3, 5, None), Ok(vec![3, 4]));
    assert_eq!(range(&storage, 4, 4, None), Ok(vec![]));
    let size = u64::try_from(size_in_message(&entry(2, 1))).expect("small");
    assert_eq!(range(&storage, 2, 7, Some(0)), Ok(vec![2]));
    assert_eq!(range(&storage, 2, 7, Some(2 * size)), Ok(vec![2, 3]));
    assert_eq!(range(&storage, 2, 7, Some(3 * size - 1)), Ok(vec![2, 3]));
}

#[test]
fn entries_before_the_log_are_compacted_and_later_ones_unavailable() {
    let mut storage = filled(6);
    let _ = storage.compact(4).expect("applied");
    assert_eq!(range(&storage, 4, 6, None), Err(compacted()));
    assert_eq!(range(&storage, 5, 8, None), Err(unavailable()));
    assert_eq!(range(&storage, 6, 5, None), Err(unavailable()));
    assert_eq!(storage.term(3), Err(compacted()));
    assert_eq!(storage.term(4), Ok(1));
    assert_eq!(storage.term(6), Ok(1));
    assert_eq!(storage.term(7), Err(unavailable()));
    assert_eq!(storage.entry(4), None);
    assert_eq!(storage.entry(7), None);
}

#[test]
fn an_append_replaces_what_conflicts() {
    let mut storage = filled(3);
    storage
        .append(vec![entry(4, 1), entry(5, 1), entry(6, 1)])
        .expect("no gap");
    storage
        .append(vec![entry(5, 2), entry(6, 2), entry(7, 2)])
        .expect("no gap");
    let terms: Vec<_> = (2..=7).map(|index| storage.term(index)).collect();
    assert_eq!(terms, [Ok(1), Ok(1), Ok(1), Ok(2), Ok(2), Ok(2)]);
    storage.append(vec![entry(5, 3)]).expect("no gap");
    assert_eq!(bounds(&storage), (2, 5));
    assert_eq!(storage.applied_bytes(), 2 * memory_of(&entry(2, 1)));
    storage.append(vec![]).expect("nothing to do");
    assert_eq!(bounds(&storage), (2, 5));
}

#[test]
fn an_append_leaves_no_gap_and_does_not_touch_what_was_cut() {
    let mut storage = filled(4);
    let _ = storage.compact(3).expect("applied");
    let gap = |index| {
        Err(StorageError::Gap {
            index,
            first_index: 4,
            last_index: 4,
        })
    };
    assert_eq!(storage.append(vec![entry(6, 1)]), gap(6));
    assert_eq!(storage.append(vec![entry(3, 1)]), gap(3));
    assert_eq!(storage.append(vec![entry(5, 1)]), Ok(()));
}

#[test]
fn only_the_applied_part_of_the_log_can_be_cut() {
    let mut storage = filled(6);
    storage.append(vec![entry(7, 2)]).expect("no gap");
    assert_eq!(
        storage.compact(7).err(),
        Some(StorageError::CompactUnapplied {
            index: 7,
            applied: 6
        })
    );
    assert!(storage.compact(1).is_ok());
    assert_eq!(bounds(&storage), (2, 7));
    assert!(storage.compact(6).is_ok());
    assert_eq!(bounds(&storage), (7, 7));
    assert!(storage.compact(5).is_ok());
    assert_eq!(bounds(&storage), (7, 7));
    assert_eq!(storage.log_entries(), 1);
    assert_eq!((storage.applied_entries(), storage.applied_bytes()), (0, 0));
    storage
        .apply(7, 2, None, &mut Changes::ignored())
        .expect("in order");
    assert_eq!(storage.applied_entries(), 1);
    assert_eq!(storage.applied_bytes(), memory_of(&entry(7, 2)));
}

#[test]
fn a_log_that_is_cut_whole_still_knows_its_end() {
    let mut storage = filled(6);
    let _ = storage.compact(6).expect("applied");
    assert_eq!(bounds(&storage), (7, 6));
    assert_eq!(storage.term(6), Ok(1));
    assert_eq!(storage.applied_bytes(), 0);
    storage.append(vec![entry(7, 2)]).expect("no gap");
    assert_eq!(bounds(&storage), (7, 7));
}

#[test]
fn the_excess_is_what_no_bound_allows_to_keep_and_has_been_applied() {
    let mut storage = filled(11);
    let size = memory_of(&entry(2, 1));
    assert_eq!(storage.excess(10, 10 * size), None);
    assert_eq!(storage.excess(4, usize::MAX), Some(7));
    assert_eq!(storage.excess(usize::MAX, 3 * size), Some(8));
    assert_eq!(storage.excess(0, 0), Some(11));
    storage
        .append((12..=15).map(|index| entry(index, 1)).collect())
        .expect("no gap");
    assert_eq!(storage.excess(0, 0), Some(11), "12 to 15 are not applied");
    assert_eq!(storage.excess(10, 10 * size), None, "nor do they count");
}

#[test]
fn commands_are_applied_in_log_order_only() {
    let mut storage = MemoryStorage::bootstrap(&voters(), ClusterMembership::default());
    assert_eq!(
        storage.apply(2, 1, Some(set(b"k", b"v")), &mut Changes::ignored()),
        Ok(Some(Written {
            effect: Effect::Set,
            revision: 2,
        }))
    );
    let out_of_order = |index| Err(StorageError::ApplyOutOfOrder { index, applied: 2 });
    assert_eq!(
        storage.apply(2, 1, Some(set(b"k", b"w")), &mut Changes::ignored()),
        out_of_order(2)
    );
    assert_eq!(
        storage.apply(4, 1, Some(set(b"k", b"w")), &mut Changes::ignored()),
        out_of_order(4)
    );
    assert_eq!(storage.apply(3, 1, None, &mut Changes::ignored()), Ok(None));
    assert_eq!(storage.applied(), 3);
    assert_eq!(storage.state_machine().get(b"k"), Some(&b"v"[..]));
}

#[test]
fn a_snapshot_holds_the_state_machine_at_the_applied_index() {
    let mut leader = filled(4);
    leader
        .append(vec![entry(5, 3), entry(6, 3)])
        .expect("no gap");
    leader
        .apply(5, 3, Some(set(b"k", b"v")), &mut Changes::ignored())
        .expect("in order");
    leader.set_commit(6);
    let snapshot = leader.snapshot(0, voter(2).get()).expect("a member asks");
    assert_eq!(snapshot.get_metadata().index, 5, "applied, not committed");
    assert_eq!(snapshot.get_metadata().term, 3);
    assert!(snapshot.data.is_empty(), "the state machine goes beside it");

    let mut follower = filled(3);
    let before = follower.state_machine().clone();
    let (replaced, cut) = follower.install(&snapshot, leader.state_machine().clone());
    assert_eq!(replaced, before);
    assert_eq!(cut.len(), 2);
    assert_eq!(bounds(&follower), (6, 5));
    assert_eq!(follower.term(5), Ok(3));
    assert_eq!(follower.applied(), 5);
    assert_eq!(follower.hard_state().commit, 5);
    assert_eq!(follower.applied_bytes(), 0);
    assert_eq!(follower.state_machine(), leader.state_machine());
    assert_eq!(follower.snapshot_metadata(), leader.snapshot_metadata());
    assert_eq!(
        follower.snapshot_metadata(),
        SnapshotMetadata {
            last_included_index: 5,
            last_included_term: 3,
            voters: voters(),
            learners: vec![],
        }
    );
}

#[test]
fn a_snapshot_waits_until_its_receiver_is_a_member_and_its_index_applied() {
    let mut storage = filled(4);
    let non_member = voter(9).get();
    let wait = Err(raft::Error::Store(
        raft::StorageError::SnapshotTemporarilyUnavailable,
    ));
    assert_eq!(storage.snapshot(0, non_member), wait);
    assert_eq!(storage.snapshot(5, voter(1).get()), wait);
    assert!(storage.snapshot(4, voter(1).get()).is_ok());
    storage.set_conf_state(ConfState {
        voters: vec![voter(1).get()],
        learners: vec![non_member],
        ..ConfState::default()
    });
    assert!(storage.snapshot(0, non_member).is_ok());
    assert_eq!(storage.snapshot_metadata().learners, [voter(9)]);
}

#[test]
fn entries_show_what_they_hold() {
    let mut storage = MemoryStorage::bootstrap(&voters(), ClusterMembership::default());
    storage
        .append(vec![
            typed(2, EntryType::EntryNormal, b""),
            typed(3, EntryType::EntryNormal, b"cmd"),
            typed(4, EntryType::EntryConfChange, b"cc"),
            typed(5, EntryType::EntryConfChangeV2, b""),
        ])
        .expect("no gap");
    let payloads: Vec<_> = (2..=5)
        .map(|index| {
            let shown = storage.entry(index).expect("in the log");
            assert_eq!((shown.version, shown.index, shown.term), (1, index, 1));
            shown.payload
        })
        .collect();
    assert_eq!(
        payloads,
        [
            EntryPayload::Empty,
            EntryPayload::Command(Bytes::from_static(b"cmd")),
            EntryPayload::ConfChange(Bytes::from_static(b"cc")),
            EntryPayload::ConfChange(Bytes::new()),
        ]
    );
}
