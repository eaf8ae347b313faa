//! The requests of clients that share locks, and their answers.

use super::*;
use crate::locks::{About, Act, Asked, guarded};

impl Clients {
    /// The next request about a lock, to `node`.
    pub(crate) fn lock(&mut self, node: NodeId, calm: bool, now: u64) -> (Waiter, Request) {
        let sessions = self.living.believed(now);
        match self.locking.act(&sessions, calm, now) {
            Act::Command(asked, command) => {
                let waiter = self.wait(Bytes::new(), What::Lock(asked), node, now);
                (waiter, Request::Write(command))
            }
            Act::Read(asked, query) => {
                let waiter = self.wait(Bytes::new(), What::Lock(asked), node, now);
                (waiter, Request::Read(query))
            }
            Act::Write(name, token, claim) => {
                let txn = Box::new(guarded(name, token, encode(self.next + 1)));
                let waiter = self.wait(Bytes::new(), What::Txn(txn.clone()), node, now);
                self.locking.guards(waiter, claim);
                (waiter, Request::Write(Write::Txn(txn).into()))
            }
        }
    }

    /// A request about a lock was answered.
    pub(super) fn told_lock(
        &mut self,
        (waiter, asked): (Waiter, Asked),
        before: Before,
        told: &Told<'_>,
    ) -> Verdict {
        if let (Ok(_), Some(revision)) = (&told.outcome, told.revision) {
            let reads = matches!(asked.about, About::Claim(_) | About::Lock);
            if reads {
                let index = told.log.model.index(revision);
                answers_follow_time::check(before.floor, (told.cluster, index), waiter)?;
            }
            self.told_revision(revision, None, reads.then_some(before.highest))?;
        }
        self.locking.told(waiter, asked, told, &mut self.living)
    }

    /// `waiter` is told that it holds a lock, whatever its real outcome; later answers to it do not count.
    pub(crate) fn granted_early(&mut self, waiter: Waiter, told: &Told<'_>) -> Verdict {
        let Some(pending) = self.pending.get_mut(&waiter) else {
            return Ok(());
        };
        let What::Lock(asked) = pending.what.clone() else {
            return Ok(());
        };
        pending.told_early = true;
        self.locking.told(waiter, asked, told, &mut self.living)
    }
}
