//! A read saw the entry of its key, with its revision, according to the agreed log at the index in the
//! answer.

use super::{Verdict, safe};
use crate::clients::Seen;
use crate::clusters::Clusters;

pub(crate) fn check(reads: &[Seen], clusters: &Clusters) -> Verdict {
    for read in reads {
        let model = &clusters.log(read.cluster).model;
        let entry = model.entry(&read.key, read.index);
        let bound = entry.map(|entry| (entry.value, entry.revision));
        safe(bound == read.found, "reads_see_the_log", || {
            format!("{read:?}, but the log makes it {bound:?}")
        })?;
    }
    Ok(())
}
