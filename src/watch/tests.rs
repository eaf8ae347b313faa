//! Watches, as their clients see them.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::kv::{Cause, Command, Entry, KeyRange, Lifetime, Operation, SetLifetime, Txn, Write};
use crate::types::{Key, LogIndex, Value, WallTime};

const CLUSTER: ClusterId = ClusterId(7);
const BASE: Revision = WallTime::FIRST.micros();

type Map = BTreeMap<Key, (Value, Revision)>;

/// A node: its state, all its former states, and its watches.
struct Node {
    state: StateMachine,
    index: LogIndex,
    cluster_id: ClusterId,
    states: BTreeMap<Revision, Map>,
    watches: Watches,
}

impl Node {
    fn new(bounds: WatchBounds) -> Self {
        let state = StateMachine::default().with_revisions_from(Some(WallTime::FIRST));
        let mut node = Self {
            state,
            index: 0,
            cluster_id: CLUSTER,
            states: BTreeMap::new(),
            watches: Watches::new(bounds),
        };
        node.applied(None);
        node
    }

    /// Applies the next entry.
    fn applied(&mut self, command: Option<Command>) {
        self.index += 1;
        if let Some(command) = command {
            let changes = self.watches.changes();
            self.state.apply_noting(self.index, command, changes);
            self.watches.note();
        }
        let keys = self.state.sorted_pairs().into_iter();
        let entries = keys.filter_map(|(key, _)| self.state.entry(&key));
        let map = entries.map(|it| (it.key, (it.value, it.revision)));
        self.states.insert(self.revision(), map.collect());
    }

    fn set(&mut self, key: &str, value: &str) {
        let (key, value) = (key.to_owned().into(), value.to_owned().into());
        self.applied(Some(Write::Set { key, value }.into()));
    }

    fn delete(&mut self, key: &str) {
        let key = key.to_owned().into();
        self.applied(Some(Write::Delete { key }.into()));
    }

    fn revision(&self) -> Revision {
        BASE + self.index
    }

    fn view<'a>(state: &'a StateMachine, applied: Revision, cluster_id: ClusterId) -> View<'a> {
        View {
            state,
            applied,
            cluster_id,
        }
    }

    fn open(&mut self, spec: WatchSpec) -> Result<WatchId, NoWatch> {
        let view = Self::view(&self.state, BASE + self.index, self.cluster_id);
        self.watches.open(spec, &view, false)
    }

    fn reset(&mut self) {
        let view = Self::view(&self.state, BASE + self.index, self.cluster_id);
        self.watches.reset(&view);
    }

    fn turn(&mut self) -> Vec<(WatchId, Vec<WatchMessage>)> {
        let view = Self::view(&self.state, BASE + self.index, self.cluster_id);
        self.watches.output(&view)
    }

    /// The messages for the client of the only watch, which takes them all at once.
    fn messages(&mut self) -> Vec<WatchMessage> {
        let mut all = Vec::new();
        loop {
            for (id, messages) in self.turn() {
                all.extend(messages);
                self.watches.taken(id);
            }
            if !self.watches.is_ready() {
                return all;
            }
        }
    }
}

fn key(text: &str) -> Key {
    text.to_owned().into()
}

fn all() -> WatchSpec {
    of(KeyRange::prefix(Key::new()))
}

fn of(range: KeyRange) -> WatchSpec {
    WatchSpec {
        range,
        after: None,
        min_revision: 0,
        keys_only: false,
        progress_ticks: None,
    }
}

fn after(revision: Revision) -> WatchSpec {
    WatchSpec {
        after: Some((CLUSTER, revision)),
        ..all()
    }
}

fn entry(at: &str, value: &str, revision: Revision) -> Entry {
    Entry {
        key: key(at),
        value: value.to_owned().into(),
        revision: BASE + revision,
        lifetime: Lifetime::Unlimited,
    }
}

fn state(entries: Vec<Entry>) -> WatchMessage {
    let deleted = Vec::new();
    WatchMessage::State { entries, deleted }
}

fn synced(revision: Revision) -> WatchMessage {
    WatchMessage::Synced {
        cluster_id: CLUSTER,
        revision: BASE + revision,
    }
}

fn events(revision: Revision, events: &[(Cause, Entry)]) -> WatchMessage {
    let events = events.iter().cloned();
    let events = events.map(|(cause, entry)| Event { cause, entry });
    WatchMessage::Events {
        revision: BASE + revision,
        events: events.collect(),
        more: false,
    }
}

#[test]
fn a_client_gets_the_state_and_then_every_change() {
    let mut node = Node::new(WatchBounds::default());
    node.set("a", "1");
    node.set("b", "1");
    let id = node.open(all()).expect("a watch");
    let first = [
        WatchMessage::Reset,
        state(vec![entry("a", "1", 2), entry("b", "1", 3)]),
        synced(3),
    ];
    assert_eq!(node.messages(), first);
    node.set("a", "2");
    node.delete("missing");
    node.delete("b");
    let set = (Cause::Set, entry("a", "2", 4));
    let deleted = (Cause::Deleted, entry("b", "", 6));
    let changes = [events(4, &[set]), events(6, &[deleted])];
    assert_eq!(node.messages(), changes);
    assert!(node.watches.is_watched());
    node.watches.close(id);
    node.set("a", "3");
    assert!(!node.watches.is_ready() && !node.watches.is_watched());
}

#[test]
fn in_a_cluster_without_revisions_keys_have_none() {
    let mut node = Node::new(WatchBounds::default());
    node.state = StateMachine::default();
    node.open(all()).expect("a watch");
    node.messages();
    node.set("a", "1");
    let [WatchMessage::Events { events, .. }] = &node.messages()[..] else {
        panic!("one change");
    };
    assert_eq!(Some(&events[0].entry), node.state.entry(b"a").as_ref());
    assert_eq!(events[0].entry.revision, 0);
}

#[test]
fn the_changes_of_a_transaction_have_one_revision() {
    let mut node = Node::new(WatchBounds::default());
    node.set("gone", "1");
    node.open(all()).expect("a watch");
    node.messages();
    let set = |name: &str| Operation::Set {
        key: key(name),
        value: Value::from("v"),
        lifetime: SetLifetime::default(),
    };
    let txn = Txn {
        conditions: Vec::new(),
        success: vec![
            set("a"),
            Operation::Get(key("a")),
            Operation::Delete(key("missing")),
            Operation::Delete(key("gone")),
        ],
        failure: vec![set("never")],
    };
    node.applied(Some(Write::Txn(Box::new(txn)).into()));
    let expected = [
        (Cause::Set, entry("a", "v", 3)),
        (Cause::Deleted, entry("gone", "", 3)),
    ];
    assert_eq!(node.messages(), [events(3, &expected)]);
}

#[test]
fn only_the_range_is_watched_and_keys_alone_if_asked() {
    let mut node = Node::new(WatchBounds::default());
    node.set("job/1", "x");
    node.set("k", "x");
    node.open(WatchSpec {
        keys_only: true,
        ..of(KeyRange::prefix(key("job/")))
    })
    .expect("a watch");
    let first = [
        WatchMessage::Reset,
        state(vec![entry("job/1", "", 2)]),
        synced(3),
    ];
    assert_eq!(node.messages(), first);
    node.set("job", "x");
    node.set("job/2", "x");
    let set = (Cause::Set, entry("job/2", "", 5));
    assert_eq!(node.messages(), [events(5, &[set])]);
}

#[test]
fn a_client_goes_on_where_it_stands() {
    let mut node = Node::new(WatchBounds::default());
    node.set("a", "1");
    let first = node.open(all()).expect("a watch");
    node.set("a", "2");
    node.set("b", "1");
    node.messages();
    node.watches.close(first);
    node.open(after(BASE + 3)).expect("a watch");
    let missed = (Cause::Set, entry("b", "1", 4));
    assert_eq!(node.messages(), [events(4, &[missed]), synced(4)]);
    for unknown in [
        after(BASE + 1),
        after(0),
        WatchSpec {
            after: Some((ClusterId(8), BASE + 3)),
            ..all()
        },
    ] {
        let id = node.open(unknown).expect("a watch");
        assert_eq!(node.messages()[0], WatchMessage::Reset);
        node.watches.close(id);
    }
}

#[test]
fn a_node_that_is_behind_waits() {
    let mut node = Node::new(WatchBounds::default());
    node.open(after(BASE + 3)).expect("a watch");
    let min_revision = BASE + 3;
    let at_least = WatchSpec {
        min_revision,
        ..of(KeyRange::key(key("z")))
    };
    let gone = node.open(at_least.clone()).expect("a watch");
    node.watches.close(gone);
    node.open(at_least).expect("a watch");
    node.set("a", "1");
    assert_eq!(node.messages(), []);
    node.set("a", "2");
    let now = [synced(3), WatchMessage::Reset, synced(3)];
    assert_eq!(node.messages(), now);
    // Another cluster has other revisions.
    node.open(after(BASE + 9)).expect("a watch");
    assert_eq!(node.messages(), []);
    node.cluster_id = ClusterId(8);
    node.reset();
    let resets = node.messages();
    let resets = resets.iter().filter(|it| **it == WatchMessage::Reset);
    assert_eq!(resets.count(), 3);
}

#[test]
fn a_node_without_a_state_waits_for_one() {
    let mut watches = Watches::new(WatchBounds::default());
    let state = StateMachine::default();
    let empty = Node::view(&state, 0, CLUSTER);
    watches.open(all(), &empty, true).expect("a watch");
    assert_eq!(watches.output(&empty), []);
    let installed = Node::view(&state, BASE, CLUSTER);
    watches.reset(&installed);
    assert_eq!(watches.output(&installed).len(), 1);
}

#[test]
fn a_slow_client_gets_the_keys_that_have_changed_and_at_last_the_range() {
    let mut node = Node::new(WatchBounds {
        waiting_bytes: 4 * (CHANGE_BYTES + 2),
        ..WatchBounds::default()
    });
    let id = node.open(all()).expect("a watch");
    // It takes none of its first two bundles.
    assert_eq!(node.turn().len(), 1);
    node.set("a", "1");
    assert_eq!(node.turn().len(), 1);
    for value in ["2", "3", "4", "5", "6", "7"] {
        node.set("a", value);
    }
    node.set("b", "1");
    node.delete("b");
    assert!(node.turn().is_empty());
    node.watches.taken(id);
    let changed = WatchMessage::State {
        entries: vec![entry("a", "7", 8)],
        deleted: vec![key("b")],
    };
    assert_eq!(node.turn(), [(id, vec![changed, synced(10)])]);
    for name in ["aa", "bb", "cc", "dd", "ee"] {
        node.set(name, "1");
    }
    node.watches.taken(id);
    let bundles = node.turn();
    assert_eq!(bundles[0].1[0], WatchMessage::Reset);
    assert_eq!(bundles[0].1[2], synced(15));
    assert_eq!(node.watches.held, node.watches.watchers[&id].held());
    node.watches.taken(id);
    node.watches.taken(id);
    assert_eq!(node.watches.held, 0);
}

#[test]
fn all_clients_together_hold_no_more_than_the_bound() {
    let mut node = Node::new(WatchBounds {
        all_waiting_bytes: 10 * (CHANGE_BYTES + 2),
        ..WatchBounds::default()
    });
    for _ in 0..5 {
        node.open(all()).expect("a watch");
    }
    node.turn();
    let mut most = 0;
    for name in 10..40 {
        node.set(&name.to_string(), "");
        most = most.max(node.watches.held);
    }
    assert!(most > 5 * (CHANGE_BYTES + 2) && most <= 10 * (CHANGE_BYTES + 2));
}

#[test]
fn a_write_in_several_parts_says_so() {
    let mut node = Node::new(WatchBounds {
        part_bytes: 1,
        ..WatchBounds::default()
    });
    node.open(all()).expect("a watch");
    node.messages();
    let sets = ["a", "b"].map(|name| Operation::Set {
        key: key(name),
        value: Value::from("v"),
        lifetime: SetLifetime::default(),
    });
    let txn = Txn {
        conditions: Vec::new(),
        success: sets.to_vec(),
        failure: Vec::new(),
    };
    node.applied(Some(Write::Txn(Box::new(txn)).into()));
    let more = |message: &WatchMessage| matches!(message, WatchMessage::Events { more: true, .. });
    let messages = node.messages();
    assert_eq!(messages.iter().map(more).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn progress_is_told_while_nothing_changes_and_a_leader_is_heard() {
    let mut node = Node::new(WatchBounds::default());
    let progress_ticks = Some(3);
    let id = node.open(WatchSpec {
        progress_ticks,
        ..of(KeyRange::key(key("k")))
    });
    let id = id.expect("a watch");
    node.messages();
    node.set("other", "");
    let mut ticks = |led, count: usize| -> Vec<_> {
        let each = (0..count).map(|_| {
            node.watches.tick(led);
            node.messages()
        });
        each.collect::<Vec<_>>().concat()
    };
    let progress = WatchMessage::Progress { revision: BASE + 2 };
    assert_eq!(ticks(true, 2), []);
    assert_eq!(ticks(true, 1), std::slice::from_ref(&progress));
    assert_eq!(ticks(true, 6), [progress.clone(), progress]);
    assert_eq!(ticks(false, 9), []);
    node.watches.close(id);
    assert!(node.watches.timers.is_empty());
}

#[test]
fn without_a_leader_watches_end_and_none_begins() {
    let mut node = Node::new(WatchBounds {
        patience_ticks: 3,
        ..WatchBounds::default()
    });
    let id = node.open(all()).expect("a watch");
    node.turn();
    assert!(!node.watches.is_ready());
    for led in [false, false, true, false, false] {
        node.watches.tick(led);
        assert_eq!(node.watches.take_ended(), []);
    }
    node.watches.tick(false);
    assert!(node.watches.is_ready(), "the client is to be told");
    assert_eq!(node.watches.take_ended(), [id]);
    assert!(!node.watches.is_ready());
    assert_eq!(node.open(all()), Err(NoWatch::Unled));
    node.watches.tick(true);
    assert!(node.open(all()).is_ok());
}

#[test]
fn there_is_a_bound_of_watches() {
    let mut node = Node::new(WatchBounds {
        watches: 2,
        ..WatchBounds::default()
    });
    let id = node.open(all()).expect("a watch");
    assert!(node.open(all()).is_ok());
    assert_eq!(node.open(all()), Err(NoWatch::TooMany { limit: 2 }));
    node.watches.close(id);
    assert!(node.open(all()).is_ok());
}

#[test]
fn the_history_begins_with_the_first_watch_and_ends_some_time_after_the_last() {
    let mut node = Node::new(WatchBounds {
        patience_ticks: 1,
        ..WatchBounds::default()
    });
    assert!(!node.watches.changes().are_kept());
    let id = node.open(all()).expect("a watch");
    assert!(node.watches.changes().are_kept());
    node.watches.close(id);
    for _ in 0..KEPT_PATIENCES {
        node.watches.tick(true);
        assert!(node.watches.changes().are_kept());
    }
    node.watches.tick(true);
    assert!(!node.watches.changes().are_kept());
    assert!(node.watches.take_retired().is_some());
    assert!(node.watches.take_retired().is_none(), "it was taken");
}

#[test]
fn a_turn_serves_watches_in_turns_and_ends_at_its_bound() {
    let mut node = Node::new(WatchBounds {
        turn_bytes: 1,
        part_bytes: 1,
        ..WatchBounds::default()
    });
    for name in ["a", "b", "c"] {
        node.set(name, "");
    }
    let ids = [(); 3].map(|()| node.open(all()).expect("a watch"));
    let turns: Vec<_> = (0..6).map(|_| node.turn()).collect();
    let served: Vec<_> = turns.concat().into_iter().map(|(id, _)| id).collect();
    assert_eq!(served, [ids, ids].concat());
    assert!(!node.watches.is_ready(), "each has two on their way");
}

/// So many watches of everything, whose clients have it.
fn synced_watches(node: &mut Node, count: usize) {
    for _ in 0..count {
        node.open(all()).expect("a watch");
    }
    node.messages();
}

#[test]
fn changes_that_take_exactly_the_bound_wait_as_changes() {
    let mut node = Node::new(WatchBounds {
        waiting_bytes: 2 * (CHANGE_BYTES + 2),
        ..WatchBounds::default()
    });
    synced_watches(&mut node, 1);
    node.set("a", "1");
    node.set("b", "1");
    let are_events = |message: &WatchMessage| matches!(message, WatchMessage::Events { .. });
    assert!(node.messages().iter().all(are_events));
    for key in ["a", "b", "c"] {
        node.set(key, "2");
    }
    assert!(!node.messages().iter().any(are_events), "only their keys");
}

#[test]
fn a_turn_ends_when_its_bytes_are_spent_exactly() {
    let mut node = Node::new(WatchBounds::default());
    synced_watches(&mut node, 2);
    node.watches.bounds.turn_bytes = CHANGE_BYTES + 2;
    node.set("a", "1");
    assert_eq!([node.turn().len(), node.turn().len()], [1, 1]);
}

#[test]
fn a_turn_counts_what_it_compares_for_a_client_that_resumes() {
    let mut node = Node::new(WatchBounds::default());
    synced_watches(&mut node, 1);
    let spec = WatchSpec {
        after: Some((node.cluster_id, node.revision())),
        ..of(KeyRange::key(key("b")))
    };
    node.set("a", "1");
    node.messages();
    node.watches.bounds.turn_bytes = 1;
    for _ in 0..2 {
        node.open(spec.clone()).expect("a watch");
    }
    assert_eq!([node.turn().len(), node.turn().len()], [1, 1]);
}

#[test]
fn a_turn_has_a_bounded_number_of_bundles() {
    let mut node = Node::new(WatchBounds {
        turn_bytes: usize::MAX,
        ..WatchBounds::default()
    });
    synced_watches(&mut node, TURN_BUNDLES + 1);
    node.set("a", "1");
    assert_eq!([node.turn().len(), node.turn().len()], [TURN_BUNDLES, 1]);
}

#[test]
fn what_waits_for_a_client_takes_no_room_from_its_own_messages() {
    let mut node = Node::new(WatchBounds {
        all_waiting_bytes: 1000,
        part_bytes: 400,
        ..WatchBounds::default()
    });
    synced_watches(&mut node, 1);
    for key in ["a", "b", "c"] {
        node.set(key, &"v".repeat(99 - CHANGE_BYTES));
    }
    let bundles = node.turn();
    let messages = bundles.first().map(|(_, messages)| messages.len());
    assert_eq!((bundles.len(), messages), (1, Some(3)));
}

#[test]
fn what_is_on_its_way_counts_and_each_client_gets_one_entry_at_least() {
    let mut node = Node::new(WatchBounds {
        all_waiting_bytes: 1000,
        part_bytes: 400,
        ..WatchBounds::default()
    });
    for name in ["a", "b", "c"] {
        node.set(name, &"v".repeat(300));
    }
    let ids = [(); 4].map(|()| node.open(all()).expect("a watch"));
    let entries = |node: &mut Node| -> Vec<_> {
        let bundles = node.turn().into_iter();
        let sizes =
            bundles.map(|(id, messages)| (id, messages.iter().map(WatchMessage::bytes).sum()));
        sizes.collect::<Vec<(_, usize)>>()
    };
    // Each gets one, and none a second one.
    assert_eq!(entries(&mut node), ids.map(|id| (id, 301)));
    assert_eq!(entries(&mut node), []);
    assert!(node.watches.held > 4 * 300 && !node.watches.is_ready());
    node.watches.taken(ids[1]);
    assert_eq!(entries(&mut node), [(ids[1], 301)]);
    // A client that goes makes room.
    for id in [ids[0], ids[2], ids[3]] {
        node.watches.close(id);
    }
    node.watches.taken(ids[1]);
    assert_eq!(entries(&mut node), [(ids[1], 301)]);
    node.watches.taken(ids[1]);
    assert_eq!(node.watches.held, 0);
}

/// A client that applies all messages to a map.
#[derive(Debug)]
struct Client {
    id: WatchId,
    spec: WatchSpec,
    map: Map,
    /// The revision at which the map is complete.
    at: Option<Revision>,
    bundles: usize,
}

impl Client {
    fn apply(&mut self, message: WatchMessage, node: &Node) {
        let value = |entry: &Entry| (entry.value.clone(), entry.revision);
        match message {
            WatchMessage::Reset => {
                self.map.clear();
                self.at = None;
            }
            WatchMessage::State { entries, deleted } => {
                self.at = None;
                for it in entries {
                    self.map.insert(it.key.clone(), value(&it));
                }
                for key in deleted {
                    self.map.remove(&key);
                }
            }
            WatchMessage::Synced {
                cluster_id,
                revision,
            } => {
                assert_eq!(cluster_id, node.cluster_id);
                assert!(revision >= self.spec.min_revision);
                self.complete(revision, node);
            }
            WatchMessage::Progress { revision } => self.complete(revision, node),
            WatchMessage::Events {
                revision,
                events,
                more,
            } => {
                assert!(self.at.is_none_or(|at| at < revision), "{events:?}");
                for Event { cause, entry } in events {
                    assert_eq!(entry.revision, revision);
                    match cause {
                        Cause::Set => self.map.insert(entry.key.clone(), value(&entry)),
                        Cause::Deleted | Cause::Expired | Cause::SessionEnded => {
                            self.map.remove(&entry.key)
                        }
                    };
                }
                match more {
                    true => self.at = None,
                    false => self.complete(revision, node),
                }
            }
        }
    }

    /// Checks that its map is the range at `revision`.
    fn complete(&mut self, revision: Revision, node: &Node) {
        assert!(self.at.is_none_or(|at| at <= revision));
        self.at = Some(revision);
        let (_, state) = node.states.range(..=revision).next_back().expect("a state");
        let range = state
            .iter()
            .filter(|(key, _)| self.spec.range.contains(key));
        let range = range.map(|(key, (value, at))| match self.spec.keys_only {
            true => (key.clone(), (Value::new(), *at)),
            false => (key.clone(), (value.clone(), *at)),
        });
        assert_eq!(self.map, range.collect::<Map>(), "{:?}", self.spec.range);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Set(u8, u8),
    Delete(u8),
    Txn(Vec<(u8, bool)>),
    Empty,
    Turn,
    Take(usize),
    Open(KeyRange, bool, u64),
    Reopen(usize),
    Close(usize),
    Reset,
    Recover,
    Tick,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let range = prop_oneof![
        3 => Just(KeyRange::prefix(Key::new())),
        1 => (0..12u8).prop_map(|it| KeyRange::key(name(it))),
        1 => (0..12u8, 0..12u8).prop_map(|(a, b)| KeyRange::interval(name(a), Some(name(b)))),
    ];
    let step = prop_oneof![
        8 => (0..12u8, 0..9u8).prop_map(|(key, value)| Step::Set(key, value)),
        3 => (0..12u8).prop_map(Step::Delete),
        1 => prop::collection::btree_map(0..12u8, any::<bool>(), 1..6)
            .prop_map(|it| Step::Txn(it.into_iter().collect())),
        1 => Just(Step::Empty),
        6 => Just(Step::Turn),
        8 => any::<usize>().prop_map(Step::Take),
        1 => (range, any::<bool>(), 0..4u64).prop_map(|(it, keys, min)| Step::Open(it, keys, min)),
        1 => any::<usize>().prop_map(Step::Reopen),
        1 => any::<usize>().prop_map(Step::Close),
        1 => prop_oneof![4 => Just(Step::Tick), 1 => Just(Step::Reset), 1 => Just(Step::Recover)],
    ];
    prop::collection::vec(step, 1..200)
}

fn name(it: u8) -> Key {
    key(&"k".repeat(usize::from(it % 4) + 1))
        .iter()
        .chain(&[it])
        .copied()
        .collect()
}

/// Runs the steps. Returns the node, and its clients after they have taken everything.
fn run(bounds: WatchBounds, steps: Vec<Step>) -> (Node, Vec<Client>) {
    let mut node = Node::new(bounds);
    let mut clients: Vec<Client> = Vec::new();
    for step in steps {
        take_step(step, &mut node, &mut clients);
        let watchers = node.watches.watchers.values();
        assert_eq!(
            watchers.clone().map(Watcher::held).sum::<usize>(),
            node.watches.held
        );
        assert!(watchers.map(Watcher::waiting).sum::<usize>() <= bounds.all_waiting_bytes);
    }
    loop {
        turn(&mut node, &mut clients);
        if clients.iter().all(|client| client.bundles == 0) {
            return (node, clients);
        }
        for client in &mut clients {
            take(client, &mut node.watches);
        }
    }
}

fn take(client: &mut Client, watches: &mut Watches) {
    if client.bundles > 0 {
        client.bundles -= 1;
        watches.taken(client.id);
    }
}

fn turn(node: &mut Node, clients: &mut [Client]) {
    for (id, messages) in node.turn() {
        let mut clients = clients.iter_mut();
        let client = clients.find(|it| it.id == id).expect("a client");
        client.bundles += 1;
        assert!(client.bundles <= 2);
        for message in messages {
            client.apply(message, node);
        }
    }
}

fn take_step(step: Step, node: &mut Node, clients: &mut Vec<Client>) {
    let set = |key, value: u8| Operation::Set {
        key,
        value: vec![value; usize::from(value) * 9].into(),
        lifetime: SetLifetime::default(),
    };
    let chosen = |it: usize, clients: &[Client]| it.checked_rem(clients.len());
    match step {
        Step::Set(key, value) => {
            let success = vec![set(name(key), value)];
            node.applied(Some(txn(success)));
        }
        Step::Delete(key) => node.applied(Some(Write::Delete { key: name(key) }.into())),
        Step::Txn(keys) => {
            let writes = keys.into_iter().map(|(key, sets)| match sets {
                true => set(name(key), key),
                false => Operation::Delete(name(key)),
            });
            node.applied(Some(txn(writes.collect())));
        }
        Step::Empty => node.applied(None),
        Step::Turn => turn(node, clients),
        Step::Take(it) => {
            if let Some(it) = chosen(it, clients) {
                take(&mut clients[it], &mut node.watches);
            }
        }
        Step::Open(range, keys_only, ahead) => {
            let spec = WatchSpec {
                range,
                after: None,
                min_revision: node.revision() - 2 + ahead,
                keys_only,
                progress_ticks: Some(2),
            };
            open_client(spec, Map::new(), node, clients);
        }
        Step::Reopen(it) => {
            if let Some(it) = chosen(it, clients) {
                let Client {
                    id, spec, map, at, ..
                } = clients.remove(it);
                node.watches.close(id);
                let after = at.map(|at| (node.cluster_id, at));
                let spec = WatchSpec { after, ..spec };
                open_client(spec, map, node, clients);
            }
        }
        Step::Close(it) => {
            if let Some(it) = chosen(it, clients) {
                let client = clients.remove(it);
                node.watches.close(client.id);
            }
        }
        Step::Reset => node.reset(),
        Step::Recover => {
            node.cluster_id = ClusterId(node.cluster_id.0 + 1);
            node.reset();
            // Its clients know their cluster.
            for client in clients {
                client.at = None;
            }
        }
        Step::Tick => node.watches.tick(true),
    }
}

fn txn(success: Vec<Operation>) -> Command {
    Write::Txn(Box::new(Txn {
        conditions: Vec::new(),
        success,
        failure: Vec::new(),
    }))
    .into()
}

fn open_client(spec: WatchSpec, map: Map, node: &mut Node, clients: &mut Vec<Client>) {
    clients.push(Client {
        id: node.open(spec.clone()).expect("a watch"),
        at: spec.after.map(|(_, at)| at),
        spec,
        map,
        bundles: 0,
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever is written, and however slowly a client takes its messages: its map is the range at every
    /// revision that it is told, and it gets to the last one.
    #[test]
    fn the_map_of_a_client_is_the_range_at_every_revision_that_it_is_told(
        steps in steps(),
        history in prop_oneof![Just(0), Just(400), Just(4000)],
        waiting in prop_oneof![Just(100), Just(300), Just(2000)],
        everything in prop_oneof![Just(600), Just(100_000)],
        part in prop_oneof![Just(1), Just(200), Just(1000)],
    ) {
        let bounds = WatchBounds {
            history_bytes: history,
            waiting_bytes: waiting,
            all_waiting_bytes: everything,
            part_bytes: part,
            turn_bytes: 1000,
            ..WatchBounds::default()
        };
        let (node, clients) = run(bounds, steps);
        let last = node.revision();
        for mut client in clients {
            if client.spec.min_revision <= last {
                prop_assert!(client.at.is_some(), "{:?}", client);
                client.complete(last, &node);
            }
        }
    }
}
