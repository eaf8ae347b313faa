//! A read saw what the agreed log makes of its key at the index that the answer names.

use super::{Verdict, safe};
use crate::clients::Seen;
use crate::clusters::Clusters;

pub(crate) fn check(reads: &[Seen], clusters: &Clusters) -> Verdict {
    for read in reads {
        let bound = clusters.log(read.cluster).bound(&read.key, read.index);
        safe(bound == read.value.as_ref(), "reads_see_the_log", || {
            format!("{read:?}, but the log makes it {bound:?}")
        })?;
    }
    Ok(())
}
