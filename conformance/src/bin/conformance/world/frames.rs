//! The messages in the body of a call, each after five bytes: whether it is compressed, and its length.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// Bytes before each message.
const HEAD: usize = 5;

/// Cuts a body into messages.
#[derive(Debug, Default)]
pub(crate) struct Deframer(BytesMut);

impl Deframer {
    /// Adds a part of the body.
    pub(crate) fn push(&mut self, part: &[u8]) {
        self.0.extend_from_slice(part);
    }

    /// The next message, if all of it has come.
    pub(crate) fn next(&mut self) -> Option<Bytes> {
        let length = self.0.get(1..HEAD)?;
        let length = u32::from_be_bytes(length.try_into().ok()?);
        let end = HEAD + usize::try_from(length).ok()?;
        if self.0.len() < end {
            return None;
        }
        let mut frame = self.0.split_to(end);
        frame.advance(HEAD);
        Some(frame.freeze())
    }
}

/// A message as it stands in a body.
pub(crate) fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEAD + message.len());
    frame.put_u8(0);
    frame.put_u32(message.len().try_into().unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_whole_however_the_body_is_cut() {
        let messages = [
            Bytes::new(),
            Bytes::from_static(b"ab"),
            Bytes::from(vec![7; 70_000]),
        ];
        let body: Vec<u8> = messages.iter().flat_map(|it| frame(it)).collect();
        for part in [1, 3, 5, 6, 1000, body.len()] {
            let mut deframer = Deframer::default();
            let mut found = Vec::new();
            for part in body.chunks(part) {
                deframer.push(part);
                found.extend(std::iter::from_fn(|| deframer.next()));
            }
            assert_eq!(found, messages, "in parts of {part} bytes");
        }
    }
}
