//! The results of runs.

use std::fmt;

use crate::living::Lives;
use crate::locks::Hands;

/// The result of one run, or of many together.
#[derive(Debug, Default, Clone)]
pub(crate) struct Summary {
    pub(crate) seeds: u64,
    pub(crate) acknowledged: u64,
    pub(crate) reads: u64,
    pub(crate) refused: u64,
    /// Of these, because the state was full.
    pub(crate) full: u64,
    /// Numbered writes, each counted once.
    pub(crate) numbered: u64,
    /// Repeated attempts of clients with a session.
    pub(crate) retries: u64,
    /// Copies of numbered writes in the log that changed nothing.
    pub(crate) suppressed: u64,
    /// Transactions that were answered, each counted once.
    pub(crate) transactions: u64,
    /// Of these, all conditions of which held, although there were some.
    pub(crate) conditional: u64,
    /// Revisions that clients who watch were told, each of which was compared with the log.
    pub(crate) watched: u64,
    pub(crate) terms: u64,
    pub(crate) entries: u64,
    pub(crate) snapshots: u64,
    /// How often a process has applied that its cluster speaks a higher protocol level.
    pub(crate) raised: u64,
    /// Snapshots that were broken off or refused at some chunk.
    pub(crate) broken_snapshots: u64,
    /// Snapshots that travelled chunk by chunk.
    pub(crate) transfers: u64,
    /// Writes in times of load.
    pub(crate) load: u64,
    /// Losses of single nodes, which the cluster had to bear.
    pub(crate) accidents: u64,
    /// Losses of several at once.
    pub(crate) disasters: u64,
    /// Processes that ended because they were removed.
    pub(crate) departed: u64,
    pub(crate) obeyed: Obeyed,
    pub(crate) restarts: Restarts,
    pub(crate) troubles: Troubles,
    /// Milliseconds from the start of a process until all members knew it in place of its earlier
    /// incarnation.
    pub(crate) heal_times: Vec<u64>,
    pub(crate) lives: Lives,
    pub(crate) hands: Hands,
    /// Bytes and hash of the trace. Of one run only.
    pub(crate) trace: (u64, u64),
}

/// Processes that were killed and restarted with empty memory.
#[derive(Debug, Default, Clone)]
pub(crate) struct Restarts {
    /// Of a cluster that was whole.
    pub(crate) healed: u64,
    /// The first of a run, of a cluster that may still have been forming.
    pub(crate) first: u64,
    /// Of the node that was healing, before the leader had added it.
    pub(crate) outside: u64,
    /// Of the node that was healing, when it took part and no process counted it as a voter.
    pub(crate) joiners: u64,
    /// Of the node that was healing, when it was a voter again and not all others knew.
    pub(crate) promoted: u64,
    /// Of a cluster that had not healed. Only if a run breaks the rule.
    pub(crate) ungated: u64,
    /// The number of all these that led, in the view of their nodes.
    pub(crate) leaders: u64,
}

/// The actions of the operator, after the status allowed or recommended them.
#[derive(Debug, Default, Clone)]
pub(crate) struct Obeyed {
    pub(crate) restarts: u64,
    pub(crate) additions: u64,
    pub(crate) removals: u64,
    pub(crate) forms: u64,
    pub(crate) recoveries: u64,
    /// Clocks that were set.
    pub(crate) clocks: u64,
}

/// The faults of processes that continued to run.
#[derive(Debug, Default, Clone)]
pub(crate) struct Troubles {
    pub(crate) slow: u64,
    pub(crate) frozen: u64,
    pub(crate) stalled: u64,
}

impl Summary {
    pub(crate) fn add(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.acknowledged += other.acknowledged;
        self.reads += other.reads;
        self.refused += other.refused;
        self.full += other.full;
        self.numbered += other.numbered;
        self.retries += other.retries;
        self.suppressed += other.suppressed;
        self.transactions += other.transactions;
        self.conditional += other.conditional;
        self.watched += other.watched;
        self.terms += other.terms;
        self.entries += other.entries;
        self.snapshots += other.snapshots;
        self.raised += other.raised;
        self.broken_snapshots += other.broken_snapshots;
        self.transfers += other.transfers;
        self.load += other.load;
        self.accidents += other.accidents;
        self.disasters += other.disasters;
        self.departed += other.departed;
        self.obeyed.restarts += other.obeyed.restarts;
        self.obeyed.additions += other.obeyed.additions;
        self.obeyed.removals += other.obeyed.removals;
        self.obeyed.forms += other.obeyed.forms;
        self.obeyed.recoveries += other.obeyed.recoveries;
        self.obeyed.clocks += other.obeyed.clocks;
        self.restarts.healed += other.restarts.healed;
        self.restarts.first += other.restarts.first;
        self.restarts.outside += other.restarts.outside;
        self.restarts.joiners += other.restarts.joiners;
        self.restarts.promoted += other.restarts.promoted;
        self.restarts.ungated += other.restarts.ungated;
        self.restarts.leaders += other.restarts.leaders;
        self.troubles.slow += other.troubles.slow;
        self.troubles.frozen += other.troubles.frozen;
        self.troubles.stalled += other.troubles.stalled;
        self.heal_times.extend(other.heal_times);
        self.lives.opened += other.lives.opened;
        self.lives.renewed += other.lives.renewed;
        self.lives.ended += other.lives.ended;
        self.lives.neglected += other.lives.neglected;
        self.lives.keys += other.lives.keys;
        self.hands.granted += other.hands.granted;
        self.hands.waited += other.hands.waited;
        self.hands.occupied += other.hands.occupied;
        self.hands.written += other.hands.written;
        self.hands.fenced += other.hands.fenced;
        self.hands.copies += other.hands.copies;
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seeds,
            acknowledged,
            reads,
            refused,
            full,
            numbered,
            retries,
            suppressed,
            transactions,
            conditional,
            watched,
            terms,
            entries,
            snapshots,
            raised,
            broken_snapshots,
            transfers,
            load,
            accidents,
            disasters,
            departed,
            obeyed,
            restarts,
            troubles,
            heal_times,
            lives,
            hands,
            trace: _,
        } = self;
        let mut heal_times = heal_times.clone();
        heal_times.sort_unstable();
        let median = heal_times.get(heal_times.len() / 2).unwrap_or(&0);
        let worst = heal_times.last().unwrap_or(&0);
        writeln!(
            f,
            "{seeds} runs: {acknowledged} writes acknowledged, {reads} reads answered, {refused} \
             requests refused, {full} of them for want of room, {terms} terms, {entries} log entries, {snapshots} snapshots installed, \
             {broken_snapshots} broken at some chunk"
        )?;
        writeln!(
            f,
            "sessions: {numbered} numbered writes, {retries} retries and copies, {suppressed} \
             suppressed in the log; {transactions} transactions, {conditional} under conditions \
             that held; {watched} revisions told to watches"
        )?;
        let Lives {
            opened,
            renewed,
            ended,
            neglected,
            keys,
        } = lives;
        writeln!(
            f,
            "time: {opened} sessions opened, {renewed} renewals answered, {ended} ended, {neglected} neglected, \
             {keys} keys ended"
        )?;
        let Hands {
            granted,
            waited,
            occupied,
            written,
            fenced,
            copies,
        } = hands;
        writeln!(
            f,
            "locks: {granted} grants, {waited} claims waited, {occupied} did not, {written} guarded writes, {fenced} \
             fenced off, {copies} late copies"
        )?;
        writeln!(
            f,
            "restarts without memory: {} of a healed cluster, {} as the first of a run, {} ungated; \
             of the healing node: {} outside, {} as a learner, {} just promoted; {} of all led",
            restarts.healed,
            restarts.first,
            restarts.ungated,
            restarts.outside,
            restarts.joiners,
            restarts.promoted,
            restarts.leaders
        )?;
        let Obeyed {
            restarts: started_again,
            additions,
            removals,
            forms,
            recoveries,
            clocks,
        } = obeyed;
        writeln!(
            f,
            "wide: {load} writes under load, {transfers} snapshots in chunks, {accidents} losses \
             borne, {disasters} disasters; the operator: {started_again} restarts while healthy, \
             {additions} additions, {removals} removals ({departed} processes ended), {forms} \
             formed without others, {recoveries} recoveries, {clocks} clocks set; {raised} times a node learnt of a \
             raised protocol level"
        )?;
        writeln!(
            f,
            "troubles: {} slow nodes, {} frozen nodes, {} stalled clocks",
            troubles.slow, troubles.frozen, troubles.stalled
        )?;
        write!(
            f,
            "healed {} times, in {median} ms (median) to {worst} ms (worst)",
            heal_times.len()
        )
    }
}
