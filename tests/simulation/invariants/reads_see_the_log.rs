//! A read saw what the agreed log makes of its key at the index that the answer names.

use super::equal_logs::Log;
use super::{Verdict, safe};
use crate::clients::Seen;

pub(crate) fn check(reads: &[Seen], log: &Log) -> Verdict {
    for read in reads {
        let bound = log.bound(&read.key, read.index);
        safe(bound == read.value.as_ref(), "reads_see_the_log", || {
            format!("{read:?}, but the log makes it {bound:?}")
        })?;
    }
    Ok(())
}
