//! A recovered cluster decides each acknowledged transaction that its survivor held as the lost cluster
//! did, although the revisions behind the survivor's commit index are others now.

use super::{Verdict, safe};
use crate::model::Model;
use crate::transactions::Carried;

/// These were acknowledged, and the log of the recovered cluster holds them.
pub(crate) fn check<'a>(told: impl Iterator<Item = &'a Carried>, model: &Model) -> Verdict {
    for txn in told.filter(|it| it.txn.writes()) {
        let again = model.outcome(&txn.txn, txn.index - 1, txn.index);
        let alike = again.succeeded == txn.outcome.succeeded;
        safe(alike, "a_recovery_decides_alike", || {
            format!("{txn:?}, and after the recovery {again:?}")
        })?;
    }
    Ok(())
}
