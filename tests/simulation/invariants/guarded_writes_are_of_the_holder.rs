//! A write that is guarded by a lock, and has succeeded, stands in the agreed log while the claim to which its token
//! was given held the lock.

use seshat::kv::Condition;

use super::tokens_ascend::Tokens;
use super::{Verdict, safe};
use crate::clusters::Clusters;
use crate::transactions::Carried;

pub(crate) fn check(told: &[Carried], tokens: &Tokens, clusters: &Clusters) -> Verdict {
    for txn in told.iter().filter(|txn| txn.outcome.succeeded) {
        let locks = &clusters.log(txn.cluster).model.locks;
        for condition in &txn.txn.conditions {
            let Condition::Held { name, token } = condition else {
                continue;
            };
            let held = locks.lock(name, txn.index.saturating_sub(1)).held();
            let given = tokens.holder(name, *token);
            let holds = held == given.map(|given| (given, *token)) && held.is_some();
            safe(holds, "guarded_writes_are_of_the_holder", || {
                format!("{txn:?}, but {held:?} held the lock, and {given:?} had the token")
            })?;
        }
    }
    Ok(())
}
