//! Two processes of one node: the same machine's program started twice, or two machines with one id.
//!
//! One life of a node replaces another when the node is started again, and the former one is never
//! seen again. One that is seen again was not the end of the other: both live, and each would be
//! let in in the place of the other, for ever. So a node that has rivals is replaced at most once in
//! an interval, which grows, and the log and the status name both.

use std::collections::{BTreeMap, VecDeque};

use crate::types::{NodeId, RaftId};

/// Former lives of a node that are remembered.
const MAX_FORMER: usize = 8;
/// Ticks between two replacements of a node that has rivals: at first, and at most.
const FIRST_TICKS: u64 = 100;
const LAST_TICKS: u64 = 6_400;
/// Ticks after which rivals of whom only one has been seen since are forgotten.
const FORGOTTEN_TICKS: u64 = 3_000;

/// The lives of a node that have been seen.
#[derive(Debug)]
struct Lives {
    present: RaftId,
    /// Since when.
    since: u64,
    former: VecDeque<RaftId>,
    rivalry: Option<Rivalry>,
}

#[derive(Debug)]
struct Rivalry {
    of: [RaftId; 2],
    /// When one was last seen after the other.
    seen_at: u64,
    /// The present interval, and when it ends.
    interval: u64,
    until: u64,
}

/// The nodes that have been seen, and which of them have rivals.
#[derive(Debug, Default)]
pub(super) struct Rivals {
    nodes: BTreeMap<NodeId, Lives>,
}

impl Rivals {
    /// At `asked_at` this was not yet known: `life` lives at `now`. Whether that makes it the rival of
    /// another life, and this is news.
    pub(super) fn seen(&mut self, life: RaftId, asked_at: u64, now: u64) -> bool {
        let lives = self.nodes.entry(life.node_id()).or_insert_with(|| Lives {
            present: life,
            since: now,
            former: VecDeque::new(),
            rivalry: None,
        });
        // An answer to a question of before the present life was seen may be of before its beginning.
        if lives.present == life || asked_at < lives.since {
            return false;
        }
        let other = std::mem::replace(&mut lives.present, life);
        lives.since = now;
        let again = lives.former.contains(&life);
        lives
            .former
            .retain(|former| *former != life && *former != other);
        lives.former.push_front(other);
        lives.former.truncate(MAX_FORMER);
        if !again {
            return false;
        }
        match &mut lives.rivalry {
            Some(rivalry) => {
                rivalry.of = [other, life];
                rivalry.seen_at = now;
                false
            }
            none => {
                *none = Some(Rivalry {
                    of: [other, life],
                    seen_at: now,
                    interval: FIRST_TICKS,
                    until: now + FIRST_TICKS,
                });
                true
            }
        }
    }

    /// Forgets what is over.
    pub(super) fn tick(&mut self, now: u64) {
        for lives in self.nodes.values_mut() {
            let over = |rivalry: &mut Rivalry| now - rivalry.seen_at > FORGOTTEN_TICKS;
            lives.rivalry.take_if(over);
        }
    }

    /// Whether another life of `node` may be let in, or given up, now.
    pub(super) fn may_replace(&self, node: NodeId, now: u64) -> bool {
        let rivalry = self.nodes.get(&node).and_then(|it| it.rivalry.as_ref());
        rivalry.is_none_or(|rivalry| rivalry.until <= now)
    }

    /// A life of `node` is let in.
    pub(super) fn replaced(&mut self, node: NodeId, now: u64) {
        let lives = self.nodes.get_mut(&node);
        if let Some(rivalry) = lives.and_then(|lives| lives.rivalry.as_mut()) {
            rivalry.interval = (2 * rivalry.interval).min(LAST_TICKS);
            rivalry.until = now + rivalry.interval;
        }
    }

    /// The rivals, two of each node that has some.
    pub(super) fn all(&self) -> impl Iterator<Item = [RaftId; 2]> {
        let rivalries = self.nodes.values().filter_map(|it| it.rivalry.as_ref());
        rivalries.map(|rivalry| rivalry.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> NodeId {
        NodeId::new(3).expect("a node id")
    }

    fn life(incarnation: u64) -> RaftId {
        RaftId::new(node(), incarnation)
    }

    #[test]
    fn a_node_that_is_started_again_and_again_has_no_rivals() {
        let mut rivals = Rivals::default();
        for n in 1..100 {
            assert!(!rivals.seen(life(n), n, n));
            // A late answer of the life before.
            assert!(!rivals.seen(life(n - 1), n - 1, n));
        }
        assert!(rivals.may_replace(node(), 100));
        assert_eq!(rivals.all().count(), 0);
    }

    #[test]
    fn a_life_that_is_seen_again_is_a_rival_and_is_let_in_ever_more_rarely() {
        let mut rivals = Rivals::default();
        let (mut news, mut replaced) = (0, Vec::new());
        for now in 1..10_000 {
            if now % 5 == 0 {
                news += u32::from(rivals.seen(life(now / 5 % 2), now, now));
            }
            if news > 0 && rivals.may_replace(node(), now) {
                rivals.replaced(node(), now);
                replaced.push(now);
            }
            rivals.tick(now);
        }
        assert_eq!(news, 1);
        assert_eq!(replaced.len(), 6, "{replaced:?}");
        let mut both: Vec<_> = rivals.all().flatten().collect();
        both.sort_unstable();
        assert_eq!(both, [life(0), life(1)]);

        // One of them is stopped.
        for now in 10_000..=10_000 + FORGOTTEN_TICKS {
            rivals.seen(life(1), now, now);
            rivals.tick(now);
        }
        assert_eq!(rivals.all().count(), 0);
        assert!(rivals.may_replace(node(), 20_000));
    }
}
