//! The answer to a transaction is its outcome according to the agreed log: one that writes, at its place;
//! one that only reads, after the entry that the answer names.

use super::{Verdict, safe};
use crate::clusters::Clusters;
use crate::transactions::Carried;

pub(crate) fn check(told: &[Carried], clusters: &Clusters) -> Verdict {
    for txn in told {
        let model = &clusters.log(txn.cluster).model;
        let before = match txn.txn.writes() {
            true => txn.index.saturating_sub(1),
            false => txn.index,
        };
        let outcome = model.outcome(&txn.txn, before, txn.index);
        safe(outcome == *txn.outcome, "transactions_see_the_log", || {
            format!("{txn:?}, but the log makes it {outcome:?}")
        })?;
    }
    Ok(())
}
