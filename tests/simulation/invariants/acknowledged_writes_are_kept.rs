//! An acknowledged write stands in the agreed log, at the index that its caller was told.

use seshat::kv::{Command, Write};

use super::equal_logs::Log;
use super::{Verdict, safe};
use crate::clients::Acknowledged;

pub(crate) fn check(acknowledged: &[Acknowledged], log: &Log) -> Verdict {
    for write in acknowledged {
        let expected = Write::Set {
            key: write.key.clone(),
            value: write.value.clone(),
        };
        let found = log.command(write.index);
        let kept = matches!(found, Some(Command::Write { write, .. }) if *write == expected);
        safe(kept, "acknowledged_writes_are_kept", || {
            format!("{write:?}, but the log holds {found:?}")
        })?;
    }
    Ok(())
}
