//! The codec by which a node reads the requests of clients: a request with a field that this version does not
//! know is refused.
//!
//! Protobuf drops unknown fields in silence. A node would then execute a request of a newer client without
//! the part that it does not know, for example a write without its lifetime. The generated servers of the
//! services for clients use [`RequestCodec`]. Messages between nodes, and answers that a client reads, keep
//! the rule of protobuf.
//!
//! prost alone decides whether a message is well formed. `descriptor.rs` looks for unknown fields in the bytes
//! themselves, because their length does not show them: an encoding may be shorter than the one that prost
//! writes.

mod descriptor;

use std::marker::PhantomData;

use bytes::{Buf, Bytes};
use prost::{DecodeError, Message};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstEncoder};

pub use descriptor::{Descriptor, Field};

/// A request of a service for clients.
pub trait Request: Message + Default + Send + 'static {
    /// The fields that this version knows.
    const DESCRIPTOR: &'static Descriptor;
}

/// Reads a request of the type `R`.
///
/// # Errors
///
/// `INTERNAL` if the bytes of `message` are not well formed, as tonic's own codec says; `UNIMPLEMENTED` if the request, or a
/// message in it, has a field that this version does not know. The message of the status names that field.
pub fn decode<R: Request>(mut message: impl Buf) -> Result<R, Status> {
    if message.chunk().len() < message.remaining() {
        // tonic gives all bytes in one chunk; other buffers may not.
        let whole: Bytes = message.copy_to_bytes(message.remaining());
        return decode(whole);
    }
    let inspected = R::DESCRIPTOR.inspect(message.chunk());
    let request = R::decode(message).map_err(malformed)?;
    inspected?;
    Ok(request)
}

fn malformed(error: DecodeError) -> Status {
    Status::internal(error.to_string())
}

/// The codec of a generated server: reads requests by [`decode`], and writes answers as prost does.
#[derive(Debug)]
pub struct RequestCodec<A, R>(ProstCodec<A, R>);

impl<A, R> Default for RequestCodec<A, R> {
    fn default() -> Self {
        Self(ProstCodec::default())
    }
}

impl<A: Message + Send + 'static, R: Request> Codec for RequestCodec<A, R> {
    type Encode = A;
    type Decode = R;
    type Encoder = ProstEncoder<A>;
    type Decoder = RequestDecoder<R>;

    fn encoder(&mut self) -> Self::Encoder {
        self.0.encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        RequestDecoder(PhantomData)
    }
}

/// The decoder of [`RequestCodec`].
#[derive(Debug)]
pub struct RequestDecoder<R>(PhantomData<R>);

impl<R: Request> Decoder for RequestDecoder<R> {
    type Item = R;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<R>, Status> {
        decode(message).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Buf as _;
    use tonic::Code;

    use super::*;

    /// A request as this version knows it.
    #[derive(Clone, PartialEq, Message)]
    struct Older {
        #[prost(int32, tag = "1")]
        number: i32,
        #[prost(uint32, repeated, tag = "2")]
        list: Vec<u32>,
        #[prost(message, optional, boxed, tag = "3")]
        inner: Option<Box<Older>>,
    }

    static OLDER: Descriptor = Descriptor {
        name: "Older",
        fields: &[
            Field::scalar(1),
            Field::scalar(2),
            Field::message(3, &OLDER),
        ],
    };

    impl Request for Older {
        const DESCRIPTOR: &'static Descriptor = &OLDER;
    }

    fn read(bytes: &[u8]) -> Result<Older, (Code, String)> {
        let chunks = bytes.split_at(bytes.len() / 2);
        let [whole, parted] =
            [decode(bytes), decode(chunks.0.chain(chunks.1))].map(|read: Result<Older, Status>| {
                read.map_err(|status| (status.code(), status.message().to_owned()))
            });
        assert_eq!(whole, parted);
        whole
    }

    #[test]
    fn a_request_is_read_whole_or_not_at_all() {
        let inner = Older {
            number: -7,
            list: vec![1, 2],
            inner: None,
        };
        let request = Older {
            inner: Some(Box::new(inner)),
            ..Older::default()
        };
        let mut bytes = request.encode_to_vec();
        assert_eq!(read(&bytes), Ok(request));
        bytes.extend([0x20, 1]);
        let (code, message) = read(&bytes).unwrap_err();
        assert_eq!(code, Code::Unimplemented);
        assert_eq!(
            message,
            "field 4 of Older is not known to this version: the client is newer than the node"
        );
    }

    /// These encodings are so much shorter than prost's that their lengths are equal.
    #[test]
    fn an_unknown_field_does_not_hide_in_a_short_encoding() {
        // -1 in 5 bytes instead of 10.
        let negative = [0x08, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x25, 1, 2, 3, 4];
        let read_by_prost = Older::decode(&negative[..]).unwrap();
        assert_eq!(read_by_prost.encoded_len(), negative.len());
        assert_eq!(read(&negative).unwrap_err().0, Code::Unimplemented);
        // A list of one number, not packed, and a field of another message type.
        assert_eq!(read(&[0x10, 7]).unwrap().list, [7]);
    }

    #[test]
    fn prost_decides_whether_a_request_is_well_formed() {
        for malformed in [
            // A string where a number is, the number 0, a group that does not end, too few bytes.
            &[0x0a, 1, 7][..],
            &[0x00, 7],
            &[0x23],
            &[0x20],
            &[0x12, 0x80],
        ] {
            let expected = Older::decode(malformed).unwrap_err().to_string();
            let expected = (Code::Internal, expected);
            assert_eq!(read(malformed), Err(expected), "{malformed:x?}");
        }
    }
}
