//! The tokens of a lock ascend over the whole run, across clusters that are recovered or form anew: a claim that
//! begins to hold a lock has a higher token than any that a client was told before.
//!
//! A claim that a recovery keeps keeps its token, although the lost majority may have told others.

use std::collections::BTreeMap;

use seshat::kv::{ClaimId, LockName};
use seshat::types::{ClusterId, Revision};

use super::{Verdict, safe};

const NAME: &str = "tokens_ascend";

/// The highest token of a lock that clients had been told at some moment, in each cluster.
pub(crate) type Highest = BTreeMap<ClusterId, Revision>;

/// The tokens of all locks, in all clusters of a run.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    granted: BTreeMap<(LockName, Revision), ClaimId>,
    told: BTreeMap<LockName, Highest>,
}

impl Tokens {
    /// The highest tokens of the lock `name` that clients have been told.
    pub(crate) fn highest(&self, name: &LockName) -> Highest {
        self.told.get(name).cloned().unwrap_or_default()
    }

    /// The claim to which a token was given.
    pub(crate) fn holder(&self, name: &LockName, token: Revision) -> Option<ClaimId> {
        self.granted.get(&(name.clone(), token)).copied()
    }

    /// The agreed log grants `name` to `claim`.
    pub(crate) fn grant(&mut self, name: LockName, claim: ClaimId, token: Revision) -> Verdict {
        let highest = self.highest(&name).into_values().max().unwrap_or_default();
        let key = (name, token);
        let holds = match self.granted.get(&key) {
            Some(holder) => *holder == claim,
            None => token > highest,
        };
        safe(holds, NAME, || {
            let holder = self.granted.get(&key);
            format!("{claim:?} gets {key:?}, {highest} was told, and {holder:?} had it")
        })?;
        self.granted.insert(key, claim);
        Ok(())
    }

    /// A client, which asked when these were the `highest`, is told in `cluster` that `claim` holds `name`.
    pub(crate) fn tell(
        &mut self,
        cluster: ClusterId,
        (name, claim, token): (&LockName, ClaimId, Revision),
        highest: &Highest,
    ) -> Verdict {
        let floor = highest.get(&cluster).copied().unwrap_or_default();
        let holder = self.holder(name, token);
        let holds = token >= floor && holder.is_none_or(|holder| holder == claim);
        safe(holds, NAME, || {
            format!(
                "a client is told that {claim:?} holds {name} under {token}; {floor} had been told, and {holder:?} \
                 has the token"
            )
        })?;
        let told = self.told.entry(name.clone()).or_default();
        let told = told.entry(cluster).or_default();
        *told = token.max(*told);
        Ok(())
    }
}
