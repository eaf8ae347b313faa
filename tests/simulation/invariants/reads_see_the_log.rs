//! A read saw the value of its key according to the agreed log at the index in the answer.

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
