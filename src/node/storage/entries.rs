//! The entries of the log, in segments.
//!
//! A log may hold millions of entries, and the thread that compacts it has heartbeats to send. So the log
//! is never moved as a whole, neither when it grows nor when it is compacted: a segment is filled, and in
//! the end removed as a whole, to be freed by another thread. Each segment knows its size, so that a
//! compaction need not read every entry.

use std::collections::VecDeque;
use std::mem;

use raft::eraftpb::Entry;

/// Number of entries of each segment, except for the last one.
const SEGMENT: usize = 256;

/// Memory of an entry beside its data and context: itself, the reference count of its data, and the
/// overhead of an allocator for two allocations. With glibc, counting allocations, a leader's entries
/// took 8 to 23 bytes less than this estimate, whatever the size of their values.
const ENTRY_MEMORY: usize = size_of::<Entry>() + 64;

/// Memory of the context of an entry beside its bytes, if there is one.
const CONTEXT_MEMORY: usize = 48;

/// Memory of an entry in bytes. An estimate, rather too high than too low.
pub(super) fn memory_of(entry: &Entry) -> usize {
    let context = match entry.context.len() {
        0 => 0,
        len => len + CONTEXT_MEMORY,
    };
    entry.data.len() + context + ENTRY_MEMORY
}

/// Entries that were removed and take long to free.
#[derive(Debug, Default)]
#[must_use = "freeing them may take long"]
pub struct CutEntries(Vec<Vec<Entry>>);

impl CutEntries {
    /// Number of entries.
    pub(in crate::node) fn len(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }
}

#[derive(Debug)]
struct Segment {
    entries: Vec<Entry>,
    /// Memory of the entries in bytes.
    bytes: usize,
}

/// A queue of entries.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// All segments are full except the last.
    segments: VecDeque<Segment>,
    /// Number of entries at the beginning of the first segment that have been removed.
    cut: usize,
}

impl Entries {
    pub(super) fn len(&self) -> usize {
        let last = self.segments.back().map_or(0, |last| last.entries.len());
        let full = self.segments.len().saturating_sub(1) * SEGMENT;
        (full + last).saturating_sub(self.cut)
    }

    pub(super) fn get(&self, position: usize) -> Option<&Entry> {
        let position = position.checked_add(self.cut)?;
        let segment = self.segments.get(position / SEGMENT)?;
        segment.entries.get(position % SEGMENT)
    }

    /// The entries from `position` on.
    pub(super) fn iter_from(&self, position: usize) -> impl Iterator<Item = &Entry> {
        let position = position.saturating_add(self.cut);
        let mut segments = self.segments.iter().skip(position / SEGMENT);
        let first = segments.next().map(|first| first.entries.as_slice());
        let first = first.and_then(|first| first.get(position % SEGMENT..));
        let rest = segments.flat_map(|segment| &segment.entries);
        first.unwrap_or_default().iter().chain(rest)
    }

    /// All entries. A segment is freed when its last entry has been taken.
    pub(super) fn into_entries(self) -> impl Iterator<Item = Entry> {
        let segments = self.segments.into_iter();
        segments.flat_map(|segment| segment.entries).skip(self.cut)
    }

    pub(super) fn push(&mut self, entry: Entry) {
        let is_full = |last: &Segment| last.entries.len() >= SEGMENT;
        if self.segments.back().is_none_or(is_full) {
            self.segments.push_back(Segment {
                entries: Vec::with_capacity(SEGMENT),
                bytes: 0,
            });
        }
        if let Some(last) = self.segments.back_mut() {
            last.bytes += memory_of(&entry);
            last.entries.push(entry);
        }
    }

    /// Drops all but the first `len` entries.
    pub(super) fn truncate(&mut self, len: usize) {
        if len >= self.len() {
            return;
        }
        let kept = len + self.cut;
        self.segments.truncate(kept.div_ceil(SEGMENT));
        if let Some(last) = self.segments.back_mut()
            && !kept.is_multiple_of(SEGMENT)
        {
            let dropped = last.entries.drain(kept % SEGMENT..);
            last.bytes -= dropped.map(|entry| memory_of(&entry)).sum::<usize>();
        }
    }

    /// Removes the first `count` entries. Returns their memory in bytes, and the entries.
    pub(super) fn cut(&mut self, count: usize) -> (usize, CutEntries) {
        let mut end = self.cut + count.min(self.len());
        let (mut bytes, mut gone) = (0, Vec::new());
        while end >= SEGMENT
            && let Some(segment) = self.segments.pop_front()
        {
            bytes += segment.bytes;
            gone.push(segment.entries);
            end -= SEGMENT;
            self.cut = 0;
        }
        if let Some(first) = self.segments.front_mut() {
            let part = first.entries.iter_mut().take(end).skip(self.cut);
            let part: Vec<_> = part.map(mem::take).collect();
            let size = part.iter().map(memory_of).sum::<usize>();
            first.bytes -= size;
            bytes += size;
            gone.push(part);
        }
        self.cut = end;
        (bytes, CutEntries(gone))
    }

    /// The number of entries that have to be removed to lose at least `entries` of them and `bytes` of
    /// memory. All if they are fewer.
    pub(super) fn prefix(&self, entries: usize, bytes: usize) -> usize {
        let (mut count, mut size) = (0, 0);
        let mut cut = self.cut;
        for segment in &self.segments {
            let held = segment.entries.len() - cut;
            if count + held < entries || size + segment.bytes < bytes {
                count += held;
                size += segment.bytes;
            } else {
                for entry in segment.entries.iter().skip(cut) {
                    if count >= entries && size >= bytes {
                        return count;
                    }
                    count += 1;
                    size += memory_of(entry);
                }
            }
            cut = 0;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64) -> Entry {
        let len = usize::try_from(index % 7).expect("small");
        Entry {
            index,
            data: vec![b'x'; len].into(),
            ..Entry::default()
        }
    }

    fn indices(entries: &Entries, position: usize) -> Vec<u64> {
        let entries = entries.iter_from(position);
        entries.map(|entry| entry.index).collect()
    }

    /// After any operations it equals a plain queue.
    #[test]
    fn it_behaves_like_a_queue() {
        let mut entries = Entries::default();
        let mut queue = VecDeque::new();
        let mut next = 0;
        for round in 0..200_usize {
            for _ in 0..(round * 37) % 600 {
                entries.push(entry(next));
                queue.push_back(next);
                next += 1;
            }
            if round % 3 == 0 {
                let len = queue.len() - queue.len().min((round * 13) % 300);
                entries.truncate(len);
                queue.truncate(len);
            }
            let count = (round * 91) % 700;
            let bytes: usize = queue
                .iter()
                .take(count)
                .map(|index| memory_of(&entry(*index)))
                .sum();
            let all: usize = queue.iter().map(|index| memory_of(&entry(*index))).sum();
            let prefix = entries.prefix(count.min(queue.len()), 0);
            assert_eq!(prefix, count.min(queue.len()));
            if bytes > 0 && bytes < all {
                assert_eq!(entries.prefix(0, bytes), count);
                assert_eq!(entries.prefix(0, bytes - 1), count);
                assert_eq!(entries.prefix(0, bytes + 1), count + 1);
            }
            let (cut_bytes, cut) = entries.cut(count);
            assert_eq!(cut_bytes, bytes);
            let cut = cut
                .0
                .iter()
                .flatten()
                .filter(|entry| !entry.data.is_empty());
            let gone = queue.drain(..count.min(queue.len()));
            assert_eq!(cut.count(), gone.filter(|index| index % 7 > 0).count());
            assert_eq!(entries.len(), queue.len());
            let held: usize = entries.segments.iter().map(|segment| segment.bytes).sum();
            let expected = queue
                .iter()
                .map(|index| memory_of(&entry(*index)))
                .sum::<usize>();
            assert_eq!(held, expected);
            for position in [0, 1, 255, 256, 300, queue.len()] {
                let rest: Vec<_> = queue.iter().skip(position).copied().collect();
                assert_eq!(indices(&entries, position), rest);
                let at = entries.get(position).map(|entry| entry.index);
                assert_eq!(at, queue.get(position).copied());
            }
        }
    }

    #[test]
    fn removed_entries_are_not_copied() {
        let mut entries = Entries::default();
        (0..1_000).for_each(|index| entries.push(entry(index)));
        let (_, cut) = entries.cut(600);
        let lengths: Vec<_> = cut.0.iter().map(Vec::len).collect();
        assert_eq!(lengths, [SEGMENT, SEGMENT, 600 - 2 * SEGMENT]);
        assert_eq!(cut.len(), 600);
        let rest = entries.into_entries().map(|entry| entry.index);
        assert!(rest.eq(600..1_000));
    }
}
