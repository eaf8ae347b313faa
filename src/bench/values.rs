//! Keys and values that can be told apart: each value shows the key that it was written for, the number
//! of the write, and whether a byte of it is wrong.

use bytes::{BufMut as _, Bytes, BytesMut};
use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};

/// Smallest value: its identification takes this many bytes.
pub(crate) const MIN_VALUE_BYTES: usize = 16;

/// The keys and values of one run. Two runs have no key in common, so they may go on at once.
#[derive(Debug)]
pub(super) struct Values {
    prefix: String,
    tag: u64,
    /// The bytes after the identification, the same in every value.
    filler: Vec<u8>,
}

impl Values {
    /// `run` is random and unique to this run.
    pub(super) fn new(run: u64, size: usize) -> Self {
        let mut filler = vec![0; size.saturating_sub(MIN_VALUE_BYTES)];
        StdRng::seed_from_u64(run).fill_bytes(&mut filler);
        Self {
            prefix: format!("bench-{:08x}-", run >> 32),
            tag: run,
            filler,
        }
    }

    /// The common prefix of all keys of the run.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The key with this number.
    pub(super) fn key(&self, number: u32) -> Bytes {
        let mut key = BytesMut::with_capacity(self.prefix.len() + 8);
        key.put_slice(self.prefix.as_bytes());
        for shift in (0..8).rev() {
            let digit = (number >> (shift * 4)) & 0xf;
            let digit = char::from_digit(digit, 16)
                .map_or(b'0', |digit| u8::try_from(digit).unwrap_or(b'0'));
            key.put_u8(digit);
        }
        key.freeze()
    }

    /// The value that write number `version` binds the key `number` to.
    pub(super) fn value(&self, number: u32, version: u32) -> Bytes {
        let mut value = BytesMut::with_capacity(self.size());
        value.put_u32(number);
        value.put_u32(version);
        value.put_u64(self.mark(number, version));
        value.put_slice(&self.filler);
        value.freeze()
    }

    /// The number of the write of key `number` that wrote `value`.
    ///
    /// # Errors
    ///
    /// No write has written it. The text describes the fault.
    pub(super) fn version(&self, number: u32, value: &[u8]) -> Result<u32, String> {
        if value.len() != self.size() {
            let (size, found) = (self.size(), value.len());
            return Err(format!("has {found} bytes instead of {size}"));
        }
        let (Some((key, rest)), true) = (value.split_first_chunk::<4>(), value.len() >= 16) else {
            return Err("is no value of this run".to_owned());
        };
        let (Some((version, rest)), key) =
            (rest.split_first_chunk::<4>(), u32::from_be_bytes(*key))
        else {
            return Err("is no value of this run".to_owned());
        };
        let version = u32::from_be_bytes(*version);
        match rest.split_first_chunk::<8>() {
            Some((mark, filler))
                if u64::from_be_bytes(*mark) == self.mark(key, version)
                    && filler == self.filler.as_slice() => {}
            _ => return Err("holds bytes that were never written".to_owned()),
        }
        if key != number {
            return Err(format!("was written for the key number {key}"));
        }
        Ok(version)
    }

    /// Bytes of a value.
    pub(super) fn size(&self) -> usize {
        self.filler.len() + MIN_VALUE_BYTES
    }

    /// A number that identifies one write of one key of one run (the finalizer of SplitMix64).
    fn mark(&self, number: u32, version: u32) -> u64 {
        let mut mark = self.tag ^ (u64::from(number) << 32 | u64::from(version));
        mark = (mark ^ (mark >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mark = (mark ^ (mark >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mark ^ (mark >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_names_its_key_and_its_write() {
        for size in [16, 17, 64, 1000] {
            let values = Values::new(7, size);
            let value = values.value(3, 9);
            assert_eq!(value.len(), size);
            assert_eq!(values.version(3, &value), Ok(9));
            assert!(values.version(4, &value).is_err());
            assert!(Values::new(8, size).version(3, &value).is_err());
            assert!(values.version(3, &value.slice(1..)).is_err());
            for at in 0..size {
                let mut spoiled = value.to_vec();
                spoiled[at] ^= 1;
                assert!(values.version(3, &spoiled).is_err(), "{at}");
            }
        }
    }

    #[test]
    fn keys_differ_by_number_and_by_run() {
        let values = Values::new(0x0123_4567_89ab_cdef, 16);
        assert_eq!(values.key(0xbeef), "bench-01234567-0000beef");
        assert_ne!(values.key(1), values.key(2));
    }
}
