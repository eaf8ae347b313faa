//! The answers that clients of locks get, and what they believe.

use seshat::error::Reason;
use seshat::kv::ClaimState;

use super::*;
use crate::invariants::{Verdict, a_believed_holder_holds, waiters_end_once};
use crate::living::Living;
use crate::model::locks::Notice;
use crate::revisions::Told;

impl Locking {
    /// `waiter` was answered.
    pub(crate) fn told(
        &mut self,
        waiter: Waiter,
        asked: Asked,
        told: &Told<'_>,
        living: &mut Living,
    ) -> Verdict {
        let answer = match &told.outcome {
            Ok(answer) => answer,
            Err(refusal) => {
                let expired = matches!(refusal.reason, Reason::SessionExpired { .. });
                return match asked.about {
                    // Also a late copy of an Acquire is refused so.
                    About::Release(id) if expired => {
                        living.expired(id.client_id.0, told.cluster, told.now)
                    }
                    _ => Ok(()),
                };
            }
        };
        self.learn(waiter, &asked, answer, (told, living))?;
        let index = told.revision.map(|revision| told.log.model.index(revision));
        self.told.push(Answered {
            cluster: told.cluster,
            index: index.unwrap_or_default(),
            asked,
            answer: answer.clone(),
        });
        Ok(())
    }

    fn learn(
        &mut self,
        waiter: Waiter,
        asked: &Asked,
        answer: &Answer,
        (told, living): (&Told<'_>, &mut Living),
    ) -> Verdict {
        let name = &asked.name;
        let highest = &asked.highest;
        match (asked.about, answer) {
            (About::Acquire(id) | About::Claim(id), Answer::Claim { state, .. }) => {
                if let ClaimState::Held(token) = *state {
                    let held = (name, id, token);
                    self.tokens.tell(told.cluster, held, highest)?;
                }
                if living.is_held(id.client_id.0, told.cluster, told.now) {
                    self.told_state(id, *state, told, living)?;
                }
            }
            (About::Acquire(id), Answer::Occupied { holder, .. }) => {
                self.hands.occupied += 1;
                let held = (name, holder.claim, holder.token);
                // It may be the answer to an earlier attempt.
                self.tokens.tell(told.cluster, held, &Highest::new())?;
                self.claims.remove(&id);
            }
            (About::Release(id), Answer::Released { .. }) => {
                self.claims.remove(&id);
            }
            // A late copy.
            (About::Acquire(_), Answer::Released { .. }) => {}
            (About::Lock, Answer::Lock { lock, .. }) => {
                if let Some(holder) = &lock.holder {
                    let held = (name, holder.claim, holder.token);
                    self.tokens.tell(told.cluster, held, highest)?;
                }
            }
            _ => return Err(waiters_end_once::no_answer(waiter, &told.outcome)),
        }
        Ok(())
    }

    /// The client of the claim, which believes that its session lives, is told this.
    fn told_state(
        &mut self,
        id: ClaimId,
        state: ClaimState,
        told: &Told<'_>,
        living: &Living,
    ) -> Verdict {
        let Some(claim) = self.claims.get_mut(&id) else {
            return Ok(());
        };
        match (claim.stage, state) {
            (Stage::Asked, ClaimState::Waiting(_)) => {
                self.hands.waited += 1;
                claim.stage = Stage::Waits;
            }
            (Stage::Asked | Stage::Waits, ClaimState::Held(token)) => {
                claim.stage = Stage::Holds(token);
                let name = claim.name.clone();
                self.believes((name, id, token), told, living)?;
            }
            (Stage::Asked | Stage::Waits, ClaimState::Gone) => {
                self.claims.remove(&id);
            }
            _ => {}
        }
        Ok(())
    }

    /// The client of the claim `id` believes from now on that it holds its lock.
    fn believes(
        &mut self,
        (name, id, token): (LockName, ClaimId, Revision),
        told: &Told<'_>,
        living: &Living,
    ) -> Verdict {
        let mut others = self.claims.iter().filter(|(other, claim)| {
            let session = other.client_id.0;
            **other != id
                && claim.name == name
                && matches!(claim.stage, Stage::Holds(_))
                && living.is_held(session, told.cluster, told.now)
        });
        let other = others.next().map(|(other, _)| *other);
        let lock = told.log.model.locks.lock(&name, LogIndex::MAX);
        a_believed_holder_holds::begins(&name, (id, token), lock.held(), other)?;
        if self.held.len() == MEMORY {
            self.held.pop_front();
        }
        self.held.push_back((name, token));
        Ok(())
    }

    /// This has become of claims in the log of `cluster`, as some node has applied it.
    pub(crate) fn noticed(
        &mut self,
        cluster: ClusterId,
        notices: Vec<Notice>,
        (living, now): (&Living, u64),
    ) -> Verdict {
        for notice in notices {
            match notice {
                Notice::Granted(name, id, token) => {
                    self.hands.granted += 1;
                    let at = (cluster, name.clone(), token);
                    self.granted.insert(at, now);
                    self.tokens.grant(name, id, token)?;
                }
                Notice::Ended(id) if living.is_held(id.client_id.0, cluster, now) => {
                    self.ended(id)?;
                }
                Notice::Ended(_) => {}
            }
        }
        Ok(())
    }

    /// The claim, of a session that its client holds, has ended.
    fn ended(&self, id: ClaimId) -> Verdict {
        let Some(claim) = self.claims.get(&id) else {
            return Ok(());
        };
        let ends = match claim.stage {
            Stage::Holds(_) => false,
            Stage::Asked | Stage::Waits => claim.max_wait.is_some(),
            Stage::Released => true,
        };
        match ends {
            true => Ok(()),
            false => Err(a_believed_holder_holds::ended(id)),
        }
    }

    /// The transaction of `waiter` was answered.
    pub(crate) fn told_txn(
        &mut self,
        (waiter, txn, succeeded): (Waiter, &Txn, bool),
        told: &Told<'_>,
        living: &Living,
    ) -> Verdict {
        let mut conditions = txn.conditions.iter();
        if !conditions.any(|it| matches!(it, Condition::Held { .. })) {
            return Ok(());
        }
        match succeeded {
            true => self.hands.written += 1,
            false => self.hands.fenced += 1,
        }
        let Some(id) = self.guarded.remove(&waiter).filter(|_| !succeeded) else {
            return Ok(());
        };
        let claim = self.claims.get(&id);
        let holds = claim.is_some_and(|claim| matches!(claim.stage, Stage::Holds(_)));
        match holds && living.is_held(id.client_id.0, told.cluster, told.now) {
            true => Err(a_believed_holder_holds::refused(id)),
            false => Ok(()),
        }
    }
}
