//! A scan reads the range as the agreed log makes it after the entry that the answer names, however late its
//! other parts are read.

use seshat::kv::Entry;

use super::{Verdict, safe};
use crate::clusters::Clusters;
use crate::scans::Scanned;

pub(crate) fn check(told: &[Scanned], clusters: &Clusters) -> Verdict {
    for scanned in told {
        let Scanned {
            cluster,
            index,
            scan,
            ..
        } = scanned;
        let model = &clusters.log(*cluster).model;
        let keys = model.keys().filter(|key| scan.range.contains(key));
        let bound: Vec<_> = keys.filter_map(|key| model.entry(key, *index)).collect();
        let (entries, count, more) = scanned.read();
        let read = usize::try_from(count).unwrap_or(usize::MAX);
        let expected = bound
            .iter()
            .take(read)
            .cloned()
            .map(|entry| match scan.keys_only {
                true => Entry {
                    value: Default::default(),
                    ..entry
                },
                false => entry,
            });
        let as_counted = match scan.count_only {
            true => entries.is_empty(),
            false => entries.iter().cloned().eq(expected),
        };
        let right = as_counted && count <= scan.limit && more == (read < bound.len());
        safe(right, "scans_see_one_moment", || {
            format!("{scanned:?} reads {entries:?}, but the log has {bound:?}")
        })?;
    }
    Ok(())
}
