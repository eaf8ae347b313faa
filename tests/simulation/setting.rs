//! The settings that the seed decides once for a whole run: the number of nodes and their distances, the
//! bounds, the load, and the losses of whole groups of nodes.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::StdRng;
use seshat::node::RaftOptions;
use seshat::types::{ClusterMembership, NodeId, NodeInfo, ProtocolLevel};

use crate::delivery::QUEUE;
use crate::sabotage::Sabotage;
use crate::world::{HowMany, TICK};

/// The size of an entry of a client's write in a message.
pub(crate) const ENTRY_BYTES: u64 = 40;
/// The share of the bound on the log that the writes of one tick of load may take while a snapshot is
/// under way.
const KEPT_BYTES: u64 = 200;

/// The world of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Three nodes at equal distances, one loss of memory at a time, and no operator.
    Narrow,
    /// Three to seven nodes, an operator, load, tiny bounds, and losses of whole groups.
    Wide,
}

/// The settings of a whole run.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) scope: Scope,
    /// Nodes 1 to this one form the cluster.
    pub(crate) founders: u16,
    /// Nodes 1 to this one may become members.
    pub(crate) nodes: u16,
    pub(crate) raft: RaftOptions,
    /// Bytes of a snapshot in one chunk.
    pub(crate) chunk_bytes: usize,
    /// Milliseconds from the middle of the network to a node.
    pub(crate) distances: BTreeMap<NodeId, u64>,
    /// Whether appends, and the answers to them, overtake one another.
    pub(crate) reorders_appends: bool,
    /// Bytes of entries that a link carries in a millisecond, if that is bounded.
    pub(crate) bandwidth: Option<u64>,
    /// A node that is slow for the whole run, and the longest work on each input in milliseconds.
    pub(crate) sluggish: Option<(NodeId, u64)>,
    /// Writes in each tick of a time of load, if there are such times.
    pub(crate) load: Option<u64>,
    /// Whether the operator writes the present members into the files of all nodes after each change.
    pub(crate) rewrites_files: bool,
    /// Whether a node stores the last members that it knew.
    pub(crate) remembers: bool,
    /// Ticks for which a process waits for news of survivors before it helps to form a cluster.
    pub(crate) formation_wait_ticks: u64,
    /// Nodes that are switched off in the beginning.
    pub(crate) late: Vec<NodeId>,
    /// Nodes that lose their memory at once, at any cost, and the times.
    pub(crate) disaster: Option<(u64, Vec<NodeId>)>,
    /// Milliseconds for which a survivor of such a loss hangs afterwards.
    pub(crate) hangs: Option<u64>,
    /// The time from which on new processes have a newer version, which speaks a higher protocol level.
    pub(crate) upgraded_at: Option<u64>,
    /// A node whose clock is wrong until the operator sets it: so many milliseconds ahead, or not credible.
    pub(crate) lying: Option<(NodeId, Option<u64>)>,
    /// Milliseconds for which a run has faults.
    pub(crate) faulty: u64,
    /// Milliseconds after the last fault by which the cluster must have healed.
    pub(crate) calm: u64,
}

pub(crate) fn node_id(id: u16) -> NodeId {
    NodeId::new(id).expect("not 0")
}

/// The address of the node.
pub(crate) fn node_info(id: NodeId) -> NodeInfo {
    NodeInfo {
        id,
        addr: format!("n{id}:7379"),
        client_addr: format!("n{id}:6379"),
    }
}

fn one_of<T: Copy>(rng: &mut StdRng, among: &[T]) -> T {
    among[rng.gen_range(0..among.len())]
}

impl Setting {
    /// Three nodes that bounds cut into small pieces.
    pub(crate) fn narrow() -> Self {
        Self {
            scope: Scope::Narrow,
            founders: 3,
            nodes: 3,
            // Small bounds, so that batches are cut and logs compacted all the time.
            raft: RaftOptions {
                max_append_bytes: 256,
                max_inflight_appends: 4,
                max_read_batch: 3,
                compact_after_entries: 40,
                compact_keep_entries: 10,
                ..RaftOptions::default()
            },
            chunk_bytes: 64,
            distances: BTreeMap::new(),
            reorders_appends: true,
            bandwidth: None,
            sluggish: None,
            load: None,
            rewrites_files: true,
            remembers: false,
            formation_wait_ticks: 0,
            late: Vec::new(),
            disaster: None,
            hangs: None,
            upgraded_at: None,
            lying: None,
            faulty: 60_000,
            calm: 10_000,
        }
    }

    /// The settings that the seed draws.
    pub(crate) fn wide(rng: &mut StdRng, disasters: HowMany) -> Self {
        let sizes: &[u16] = match disasters {
            // So that there is more than one survivor.
            HowMany::Often => &[5, 7],
            HowMany::Drawn | HowMany::Never => &[3, 3, 3, 3, 5, 5, 7],
        };
        let founders = one_of(rng, sizes);
        let nodes = (founders + rng.gen_range(0..=2)).min(7);
        let keep = one_of(rng, &[5, 10, 50, 300]);
        // Over real streams they do not. If they do here, each one that arrives too early is refused.
        let reorders_appends = rng.gen_bool(0.2);
        let far = rng.gen_bool(0.5);
        // As little as each follower can work with.
        let (bytes, inflight): (&[_], &[_]) = match (far, reorders_appends) {
            (true, true) => (&[512, 4 << 10, 64 << 10], &[4, 8]),
            (true, false) => (&[256, 512, 4 << 10, 64 << 10], &[4, 32, 128]),
            (false, true) => (&[128, 256, 4 << 10], &[2, 4]),
            (false, false) => (&[128, 256, 4 << 10, 64 << 10], &[2, 4, 32, 128]),
        };
        let raft = RaftOptions {
            max_append_bytes: one_of(rng, bytes),
            max_inflight_appends: one_of(rng, inflight),
            max_uncommitted_bytes: one_of(rng, &[64 << 10, 64 << 10, 4 << 20]),
            max_pending_requests: one_of(rng, &[20, 200, 5_000, 65_536]),
            max_read_batch: one_of(rng, &[16, 64, 4096]),
            compact_after_entries: keep * one_of(rng, &[2, 4]),
            compact_after_bytes: one_of(rng, &[4 << 10, 64 << 10, 64 << 20]),
            compact_keep_entries: keep,
            ..RaftOptions::default()
        };
        let distance = |rng: &mut StdRng| match far {
            true => one_of(rng, &[0, 1, 5, 20, 40]),
            false => 0,
        };
        let mut setting = Self {
            scope: Scope::Wide,
            founders,
            nodes,
            raft,
            chunk_bytes: one_of(rng, &[64, 256, 4 << 10]),
            distances: (1..=nodes).map(|id| (node_id(id), distance(rng))).collect(),
            reorders_appends,
            bandwidth: one_of(rng, &[None, None, Some(20), Some(100)]),
            sluggish: rng.gen_bool(0.3).then(|| {
                let node = node_id(rng.gen_range(1..=nodes));
                // If it leads, each other node answers each append, and it has to keep up with the clients.
                (node, rng.gen_range(1..=4).min(12 / u64::from(nodes)))
            }),
            load: rng.gen_bool(0.25).then(|| one_of(rng, &[20, 60, 150, 300])),
            rewrites_files: rng.gen_bool(0.5),
            remembers: rng.gen_bool(0.5),
            formation_wait_ticks: 32,
            late: Self::draw_late(rng, founders),
            disaster: Self::draw_disaster(rng, nodes, disasters),
            hangs: None,
            upgraded_at: None,
            lying: None,
            faulty: 20_000,
            calm: 24_000,
        };
        // Load that is too much at once is carried in the end.
        let most = 2 * setting.carried();
        setting.load = setting.load.map(|load| load.min(most));
        setting
    }

    /// So few that the rest can form the cluster without them.
    fn draw_late(rng: &mut StdRng, founders: u16) -> Vec<NodeId> {
        if rng.gen_bool(0.8) {
            return Vec::new();
        }
        let most = (founders - 1) / 2;
        let late = (1..=founders).filter(|_| rng.gen_bool(0.4)).map(node_id);
        late.take(usize::from(most)).collect()
    }

    fn draw_disaster(
        rng: &mut StdRng,
        nodes: u16,
        how_many: HowMany,
    ) -> Option<(u64, Vec<NodeId>)> {
        let share = match how_many {
            HowMany::Never => return None,
            HowMany::Drawn if rng.gen_bool(0.6) => return None,
            HowMany::Drawn => one_of(rng, &[0.4, 0.6, 0.8, 1.0]),
            HowMany::Often => 0.6,
        };
        let hit = (1..=nodes).filter(|_| rng.gen_bool(share)).map(node_id);
        let hit = hit.collect();
        Some((rng.gen_range(2_000..16_000), hit))
    }

    /// Directs the run to what shows that a rule is broken.
    pub(crate) fn direct(&mut self, sabotage: Option<Sabotage>) {
        match sabotage {
            // All but one lose their memory.
            Some(sabotage @ (Sabotage::HungIsSilent | Sabotage::NoneSkipped)) => {
                let survivor = node_id(self.founders);
                let others = self.node_ids().into_iter().filter(|it| *it != survivor);
                self.disaster = Some((8_000, others.collect()));
                if sabotage == Sabotage::HungIsSilent {
                    self.hangs = Some(11_000);
                }
            }
            // All founders do, and only members that were added later are left.
            Some(Sabotage::Forgets) => {
                self.nodes = self.founders + 2;
                self.rewrites_files = false;
                self.disaster = Some((14_000, self.membership().ids().collect()));
            }
            _ => {}
        }
    }

    /// The protocol level of a process that begins at `now`.
    pub(crate) fn level(&self, now: u64) -> ProtocolLevel {
        match self.upgraded_at {
            Some(at) if at > now => ProtocolLevel::FIRST,
            _ => ProtocolLevel::CURRENT,
        }
    }

    /// All nodes that may be members.
    pub(crate) fn node_ids(&self) -> Vec<NodeId> {
        (1..=self.nodes).map(node_id).collect()
    }

    /// The initial members.
    pub(crate) fn membership(&self) -> ClusterMembership {
        (1..=self.founders)
            .map(|id| node_info(node_id(id)))
            .collect()
    }

    /// The least milliseconds of a message between two nodes.
    pub(crate) fn distance(&self, from: NodeId, to: NodeId) -> u64 {
        let distance = |node| self.distances.get(&node).copied().unwrap_or(0);
        distance(from) + distance(to)
    }

    /// Writes in a tick that reach the farthest and slowest node.
    fn carried(&self) -> u64 {
        let nodes = self.node_ids();
        let links = nodes
            .iter()
            .flat_map(|from| nodes.iter().map(move |to| (from, to)));
        let farthest = links.map(|(from, to)| self.distance(*from, *to)).max();
        let round_trip = 2 * farthest.unwrap_or(0) + 15;
        let in_append = (self.raft.max_append_bytes / ENTRY_BYTES).max(1);
        let inflight = u64::try_from(self.raft.max_inflight_appends).expect("small");
        // A slow node takes so many inputs in a tick.
        let inputs = self.sluggish.map_or(100, |(_, each)| TICK / (each + 1) / 2);
        // A process that refuses an append which came too early gets one at a time until it has taken
        // one.
        let inflight = if self.reorders_appends { 1 } else { inflight };
        let appended = in_append * (inflight * TICK / round_trip).min(inputs);
        let Some(bandwidth) = self.bandwidth else {
            return appended.max(1);
        };
        // A process that has taken a snapshot, refused an append that came too early, or missed one
        // because the queue of its link was full, is probed until it has taken one: with the same append
        // in each tick. If the link takes longer than a tick for one, each waits behind its own
        // repetitions, and only one in all that time makes progress.
        let repeats = in_append * ENTRY_BYTES > bandwidth * TICK;
        let probed = match repeats {
            true => in_append * TICK / (round_trip + QUEUE),
            false => appended,
        };
        // An append that finds the queue full is sent again, with everything behind it: half of a full
        // link is that.
        let link = bandwidth * TICK / ENTRY_BYTES / 2;
        appended.min(probed).min(link).max(1)
    }

    /// Writes in a tick that the slowest node can take beside a snapshot of its own: a third of its
    /// input, and the writes that the leader keeps for it while the snapshot is under way.
    pub(crate) fn bearable_load(&self) -> u64 {
        let kept = u64::try_from(self.raft.compact_after_bytes).expect("small") / KEPT_BYTES;
        let pending = u64::try_from(self.raft.max_pending_requests).expect("small");
        let wanted = self.load.unwrap_or(100).min(self.carried() / 3);
        wanted.min(kept).min(pending / 2).max(1)
    }

    /// By this time the cluster serves again after the last fault.
    pub(crate) fn served(&self) -> u64 {
        self.faulty + self.calm / 3
    }

    /// The end of the run.
    pub(crate) fn end(&self) -> u64 {
        self.faulty + self.calm
    }
}
