//! Ranges of keys.

use std::ops::{Range, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};

use bytes::Bytes;

use crate::proto::kv;

/// A range of keys, in the order of their bytes: an interval such as `"a".."b"`, `"a"..="b"`, `"a"..`, `..`, or
/// a [prefix](Self::prefix). An interval that ends before it begins has no key.
///
/// ```
/// use seshat::client::KeyRange;
///
/// assert_eq!(KeyRange::prefix("user/"), KeyRange::from("user/".."user0"));
/// assert_eq!(KeyRange::prefix(""), KeyRange::from(..));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    start: Bytes,
    /// The first key behind the range. `None`: there is no such key.
    end: Option<Bytes>,
}

impl KeyRange {
    /// `key` alone.
    pub fn key(key: impl Into<Bytes>) -> Self {
        let start = key.into();
        let end = Some(behind(&start));
        Self { start, end }
    }

    /// Every key that begins with `prefix`; with an empty one, every key.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start = prefix.into();
        // The first key behind them ends with the last byte that can be increased, increased.
        let kept = start.iter().rposition(|byte| *byte < u8::MAX);
        let end = kept.and_then(|at| {
            let mut end = start.get(..=at)?.to_vec();
            let last = end.last_mut()?;
            *last += 1;
            Some(Bytes::from(end))
        });
        Self { start, end }
    }

    /// The keys of this range behind `key`.
    pub(super) fn after(&self, key: &[u8]) -> Self {
        Self {
            start: behind(key),
            end: self.end.clone(),
        }
    }
}

/// The first key behind `key`.
fn behind(key: &[u8]) -> Bytes {
    [key, &[0]].concat().into()
}

impl<K: Into<Bytes>> From<Range<K>> for KeyRange {
    fn from(range: Range<K>) -> Self {
        Self {
            start: range.start.into(),
            end: Some(range.end.into()),
        }
    }
}

impl<K: Into<Bytes>> From<RangeInclusive<K>> for KeyRange {
    fn from(range: RangeInclusive<K>) -> Self {
        let (start, end) = range.into_inner();
        Self::from(start.into()..behind(&end.into()))
    }
}

impl<K: Into<Bytes>> From<RangeFrom<K>> for KeyRange {
    fn from(range: RangeFrom<K>) -> Self {
        Self {
            start: range.start.into(),
            end: None,
        }
    }
}

impl<K: Into<Bytes>> From<RangeTo<K>> for KeyRange {
    fn from(range: RangeTo<K>) -> Self {
        Self::from(Bytes::new()..range.end.into())
    }
}

impl<K: Into<Bytes>> From<RangeToInclusive<K>> for KeyRange {
    fn from(range: RangeToInclusive<K>) -> Self {
        Self::from(Bytes::new()..=range.end.into())
    }
}

impl From<RangeFull> for KeyRange {
    fn from(_: RangeFull) -> Self {
        Self::from(Bytes::new()..)
    }
}

impl From<KeyRange> for kv::KeyRange {
    fn from(range: KeyRange) -> Self {
        let KeyRange { start, end } = range;
        let interval = kv::Interval { start, end };
        Self {
            range: Some(kv::key_range::Range::Interval(interval)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(start: &'static [u8], end: Option<&'static [u8]>) -> KeyRange {
        let (start, end) = (Bytes::from_static(start), end.map(Bytes::from_static));
        KeyRange { start, end }
    }

    #[test]
    fn a_prefix_ends_before_the_first_key_that_does_not_begin_with_it() {
        assert_eq!(KeyRange::prefix("ab"), interval(b"ab", Some(b"ac")));
        let prefix = |prefix: &'static [u8]| KeyRange::prefix(prefix);
        assert_eq!(prefix(b"a\xff\xff"), interval(b"a\xff\xff", Some(b"b")));
        assert_eq!(prefix(b"\xff"), interval(b"\xff", None));
        assert_eq!(prefix(b""), interval(b"", None));
    }

    #[test]
    fn ranges_are_those_of_the_language() {
        assert_eq!(KeyRange::from("a".."b"), interval(b"a", Some(b"b")));
        assert_eq!(KeyRange::from("a"..="b"), interval(b"a", Some(b"b\0")));
        assert_eq!(KeyRange::from("a".to_owned()..), interval(b"a", None));
        assert_eq!(KeyRange::from(.."b"), interval(b"", Some(b"b")));
        assert_eq!(KeyRange::from(..="b"), interval(b"", Some(b"b\0")));
        assert_eq!(KeyRange::from(..), interval(b"", None));
        let rest = KeyRange::from("a".."c").after(b"b");
        assert_eq!(rest, interval(b"b\0", Some(b"c")));
    }
}
