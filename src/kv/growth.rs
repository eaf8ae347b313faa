//! By how much a command may enlarge the state, before it is applied.

use super::lifetimes::lifetime_memory;
use super::living::LIVING_SESSION_MEMORY;
use super::map::pair_memory;
use super::{Command, Lifetime, Operation, SetLifetime, StateMachine, Verdict, Write};
use crate::types::{ClientId, Key, Value};

impl StateMachine {
    /// Upper bound of the additional memory that `command` takes, if it is applied next, in bytes.
    /// Sessions that do not live count as nothing, and so do answers: they have bounds of their own.
    pub fn growth(&self, command: &Command) -> usize {
        match command {
            Command::Write {
                stamp: Some(stamp), ..
            } if self.verdict(stamp) != Verdict::New => 0,
            Command::Write {
                write: Write::Set { key, value },
                ..
            } => self.growth_by_set(key, value),
            Command::Write {
                write: Write::Txn(txn),
                ..
            } => {
                let growth = [true, false].map(|succeeded| self.growth_by(txn.branch(succeeded)));
                growth.into_iter().max().unwrap_or(0)
            }
            Command::Write {
                write: Write::Acquire(acquire),
                ..
            } => Self::growth_by_claim(acquire),
            Command::OpenLivingSession { client_id, .. } => self.growth_by_living(*client_id),
            Command::Write {
                write: Write::Delete { .. } | Write::Release(_),
                ..
            }
            | Command::OpenSession(_)
            | Command::CloseSession(_)
            | Command::Clock { .. }
            | Command::AddMember(_)
            | Command::RemoveMember(_)
            | Command::RaiseLevel { .. } => 0,
        }
    }

    fn growth_by(&self, operations: &[Operation]) -> usize {
        let growth = operations.iter().map(|operation| match operation {
            Operation::Set {
                key,
                value,
                lifetime,
            } => self.growth_by_set(key, value) + self.growth_by_lifetime(key, *lifetime),
            Operation::Get(_) | Operation::Delete(_) => 0,
        });
        growth.sum()
    }

    fn growth_by_set(&self, key: &Key, value: &Value) -> usize {
        let bound = self.get(key);
        let bound = bound.map_or(0, |bound| pair_memory(key.len(), bound.len()));
        pair_memory(key.len(), value.len()).saturating_sub(bound)
    }

    /// Upper bound of the additional memory of a lifetime that a write of `key` begins.
    fn growth_by_lifetime(&self, key: &Key, lifetime: SetLifetime) -> usize {
        match lifetime {
            SetLifetime::To(Lifetime::Ttl(_) | Lifetime::Owner(_)) if self.limit(key).is_none() => {
                lifetime_memory(key.len())
            }
            _ => 0,
        }
    }

    /// Upper bound of the additional memory of a living session that is opened.
    fn growth_by_living(&self, client_id: ClientId) -> usize {
        match self.sessions.living().get(client_id) {
            Some(_) => 0,
            None => LIVING_SESSION_MEMORY,
        }
    }
}
