//! Rules of locks that are broken on purpose.

use seshat::kv::{ClaimState, Command, Condition, Write};
use seshat::node;
use seshat::types::NodeId;

use super::Sabotage;
use crate::clients::Waiter;
use crate::invariants::Verdict;
use crate::process::Process;
use crate::revisions::Told;
use crate::world::{SILENCE, World};

/// Milliseconds between two renewals by the harness.
const RENEWS_EVERY: u64 = 200;

impl World {
    /// A process that believes that it leads grants a lock that it sees free, as soon as it is asked.
    pub(crate) fn grant_early(
        &mut self,
        node: NodeId,
        waiter: Waiter,
        command: &Command,
    ) -> Verdict {
        let Command::Write {
            write: Write::Acquire(acquire),
            ..
        } = command
        else {
            return Ok(());
        };
        let leader = self.processes.get(&node).and_then(Process::leads);
        let Some(raft) = leader.filter(|_| self.plan.sabotage == Some(Sabotage::GrantsEarly))
        else {
            return Ok(());
        };
        let state = raft.storage().state_machine();
        if state.holder(&acquire.name).is_some() {
            return Ok(());
        }
        let token = state.revisions().at(raft.last_index() + 1);
        let answer = node::Answer::Claim {
            state: ClaimState::Held(token),
            revision: token,
        };
        let cluster = raft.cluster_id();
        let log = self.clusters.log(cluster);
        let told = Told::new(Ok(answer), self.now, (cluster, log));
        self.clients.granted_early(waiter, &told)
    }

    /// The session of every client is renewed, whether or not the client is still there.
    pub(crate) fn renew_for_all(&mut self, node: NodeId) {
        let leader = self.processes.get(&node).and_then(Process::leads);
        let Some(raft) = leader.filter(|_| self.plan.sabotage == Some(Sabotage::RenewsForAll))
        else {
            return;
        };
        let living = raft.storage().state_machine().sessions().living();
        let sessions: Vec<_> = living.iter().map(|(client_id, _)| *client_id).collect();
        let due =
            self.now >= self.renewed_at + RENEWS_EVERY && self.now < self.setting.end() - SILENCE;
        for client_id in sessions.into_iter().filter(|_| due) {
            self.renewed_at = self.now;
            let waiter = self.clients.decide(node, self.now);
            if let Some(process) = self.processes.get_mut(&node) {
                process.keep_alives.push((client_id, waiter));
            }
        }
    }
}

/// `command` with a number of its own for each attempt to claim a lock.
pub(super) fn renumbered(command: Command, waiter: Waiter) -> Command {
    match command {
        Command::Write {
            write: write @ Write::Acquire(_),
            stamp: Some(mut stamp),
        } => {
            stamp.sequence = waiter + 1_000;
            stamp.first_outstanding = stamp.sequence;
            let stamp = Some(stamp);
            Command::Write { write, stamp }
        }
        other => other,
    }
}

/// `command` without conditions about locks.
pub(super) fn unguarded(mut command: Command) -> Command {
    if let Command::Write {
        write: Write::Txn(txn),
        ..
    } = &mut command
    {
        let others = |condition: &Condition| !matches!(condition, Condition::Held { .. });
        txn.conditions.retain(others);
    }
    command
}
