//! An acknowledged write stands in the agreed log, at the index that its caller was told.

use seshat::kv::{Command, Write};
use seshat::wire;

use super::equal_logs::Log;
use crate::clients::Acknowledged;

pub(crate) fn check(acknowledged: &[Acknowledged], log: &Log) {
    for write in acknowledged {
        let data = log.command(write.index);
        let data = data.unwrap_or_else(|| panic!("{write:?} is not in the log"));
        let expected = Command::from(Write::Set {
            key: write.key.clone(),
            value: write.value.clone(),
        });
        assert_eq!(
            wire::decode_command(data.clone()),
            Ok(expected),
            "{write:?}"
        );
    }
}
