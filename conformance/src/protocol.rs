//! The protocol between the conformance runner and a client program.
//!
//! Both write each message after its length, see [`read()`] and [`write()`].

#[allow(
    missing_docs,
    reason = "the comments of the schema are on what it defines"
)]
mod descriptor;

/// The packages, as the generator names them.
pub mod conformance {
    /// Package `seshat.conformance.v1`.
    pub mod v1;
}

use std::io;

use bytes::{Bytes, BytesMut};
use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

pub use conformance::v1::*;
pub use descriptor::FILE_DESCRIPTOR_SET;

/// Longest message that either side accepts.
const MAX_BYTES: u64 = 256 << 20;

/// The next message of `input`; `None` at its end.
///
/// # Errors
///
/// The input fails, ends within a message, or is no message.
pub async fn read<M: Message + Default>(
    input: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<M>> {
    let Some(length) = read_varint(input).await? else {
        return Ok(None);
    };
    if length > MAX_BYTES {
        return Err(invalid(format!("a message of {length} bytes")));
    }
    let mut bytes = BytesMut::zeroed(length.try_into().map_err(invalid)?);
    input.read_exact(&mut bytes).await?;
    M::decode(Bytes::from(bytes)).map(Some).map_err(invalid)
}

async fn read_varint(input: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<u64>> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = match input.read_u8().await {
            Ok(byte) => byte,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && shift == 0 => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(Some(value));
        }
    }
    Err(invalid("the length of a message is no varint"))
}

fn invalid(error: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

/// Writes `message`, and flushes.
///
/// # Errors
///
/// The output fails.
pub async fn write(
    output: &mut (impl AsyncWrite + Unpin),
    message: &impl Message,
) -> io::Result<()> {
    output
        .write_all(&message.encode_length_delimited_to_vec())
        .await?;
    output.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read_until_the_end() {
        let messages = [0, 1, 300, 70_000].map(|length| Echoed {
            binary: vec![7; length].into(),
            json: String::new(),
        });
        let mut bytes = Vec::new();
        for message in &messages {
            write(&mut bytes, message).await.unwrap();
        }
        let mut input = bytes.as_slice();
        for message in messages {
            assert_eq!(read(&mut input).await.unwrap(), Some(message));
        }
        assert_eq!(read::<Echoed>(&mut input).await.unwrap(), None);
        assert!(read::<Echoed>(&mut &bytes[..bytes.len() - 1]).await.is_ok());
    }

    #[tokio::test]
    async fn an_input_that_ends_within_a_message_or_is_none_is_an_error() {
        for input in [&[0x80][..], &[2, 8], &[1, 0xff], &[0xff; 11]] {
            assert!(read::<Echoed>(&mut &*input).await.is_err(), "{input:?}");
        }
    }
}
