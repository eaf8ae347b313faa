//! A client that believes that it holds a lock does hold it, and no other client believes so: the client was told
//! so, believes that its session lives, and has not released the lock.

use seshat::kv::{ClaimId, LockName};
use seshat::types::Revision;

use super::{Verdict, Violation, safe};

const NAME: &str = "a_believed_holder_holds";

/// The client of `claim` begins to believe. `holder` is the one of the agreed log, and `other` another claim
/// whose client believes so.
pub(crate) fn begins(
    name: &LockName,
    claim: (ClaimId, Revision),
    holder: Option<(ClaimId, Revision)>,
    other: Option<ClaimId>,
) -> Verdict {
    let holds = other.is_none() && holder == Some(claim);
    safe(holds, NAME, || {
        format!(
            "the client of {claim:?} believes that it holds {name}, and so does {other:?}; {holder:?} does"
        )
    })
}

/// The claim has ended in the log of its cluster, and its client believes that it has not.
pub(crate) fn ended(claim: ClaimId) -> Violation {
    Violation::safety(NAME, format!("{claim:?} has ended"))
}

/// A write was refused that is guarded by the lock of `claim`, whose client believes that it holds it.
pub(crate) fn refused(claim: ClaimId) -> Violation {
    Violation::safety(
        NAME,
        format!("a write of {claim:?}, the holder, was refused"),
    )
}
