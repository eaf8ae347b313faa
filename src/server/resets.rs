//! Counts the calls that a client cancels.
//!
//! HTTP/2 lets a client open and reset streams as fast as it can send, and the streams that it has reset
//! do not count among its concurrent streams. hyper and h2 treat a reset in different ways, depending on
//! the state of its stream. So resets are counted here, where they arrive.

/// Bytes of a frame before its payload.
const HEADER: usize = 9;

/// The type of a frame that resets a stream.
const RST_STREAM: u8 = 3;

/// Follows the frames of a connection.
#[derive(Debug)]
pub(super) struct ResetCounter {
    /// Bytes up to the next frame header.
    skip: usize,
    /// The bytes of that header that have arrived.
    header: Vec<u8>,
}

impl ResetCounter {
    /// A counter for a connection whose first frame follows `skip` bytes.
    pub(super) fn new(skip: usize) -> Self {
        Self {
            skip,
            header: Vec::with_capacity(HEADER),
        }
    }

    /// Counts the RST_STREAM frames whose headers end in `bytes`, the next bytes of the connection.
    pub(super) fn count(&mut self, mut bytes: &[u8]) -> u32 {
        let mut resets = 0;
        while !bytes.is_empty() {
            let wanted = match self.skip {
                0 => HEADER - self.header.len(),
                skip => skip,
            };
            let (part, rest) = bytes.split_at(wanted.min(bytes.len()));
            bytes = rest;
            if self.skip > 0 {
                self.skip -= part.len();
                continue;
            }
            self.header.extend_from_slice(part);
            if let [a, b, c, kind, _, _, _, _, _] = self.header[..] {
                let length = u32::from_be_bytes([0, a, b, c]);
                self.skip = usize::try_from(length).unwrap_or(usize::MAX);
                self.header.clear();
                resets += u32::from(kind == RST_STREAM);
            }
        }
        resets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_are_counted_however_the_bytes_come() {
        let frame = |kind: u8, payload: &[u8]| {
            let length = u8::try_from(payload.len()).unwrap();
            [&[0, 0, length, kind, 0, 0, 0, 0, 1], payload].concat()
        };
        let cancel = [0, 0, 0, 8];
        // A payload that looks like a frame is not one.
        let frames = [
            frame(4, &[]),
            frame(1, &frame(RST_STREAM, &cancel)),
            frame(RST_STREAM, &cancel),
            frame(0, &[RST_STREAM; 200]),
            frame(RST_STREAM, &cancel),
        ];
        let bytes = [b"preface".to_vec(), frames.concat()].concat();
        for size in 1..=bytes.len() {
            let mut counter = ResetCounter::new("preface".len());
            let counted = bytes.chunks(size).map(|part| counter.count(part));
            assert_eq!(counted.sum::<u32>(), 2, "{size} bytes at a time");
        }
    }
}
