//! An acknowledged write is in the agreed log, at the acknowledged index.

use seshat::kv::Command;

use super::{Verdict, safe};
use crate::clients::Acknowledged;
use crate::clusters::Clusters;

pub(crate) fn check(acknowledged: &[Acknowledged], clusters: &Clusters) -> Verdict {
    for write in acknowledged {
        let expected = &write.write;
        let found = clusters.log(write.cluster).command(write.index);
        let kept = matches!(found, Some(Command::Write { write, .. }) if write == expected);
        safe(kept, "acknowledged_writes_are_kept", || {
            format!("{write:?}, but the log holds {found:?}")
        })?;
    }
    Ok(())
}
