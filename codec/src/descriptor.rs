//! The fields of a message that this version knows, and the search for others in an encoded message.

use tonic::Status;

/// Messages inside of each other that prost reads, at most.
const MAX_DEPTH: usize = 100;

/// A message type.
#[derive(Debug)]
pub struct Descriptor {
    /// Its full name.
    pub name: &'static str,
    /// Its fields.
    pub fields: &'static [Field],
}

/// A field of a message type.
#[derive(Debug)]
pub struct Field {
    number: u64,
    message: Option<&'static Descriptor>,
}

impl Field {
    /// A field of a scalar type.
    pub const fn scalar(number: u64) -> Self {
        Self {
            number,
            message: None,
        }
    }

    /// A field whose content is a message.
    pub const fn message(number: u64, message: &'static Descriptor) -> Self {
        Self {
            number,
            message: Some(message),
        }
    }
}

/// Why a message cannot be accepted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It has a field that this version does not know.
    Unknown { message: &'static str, number: u64 },
    /// It is no message that prost reads.
    Malformed,
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unknown { message, number } => Self::unimplemented(format!(
                "field {number} of {message} is not known to this version: the client is newer than the node"
            )),
            Fault::Malformed => Self::internal("malformed message"),
        }
    }
}

impl Descriptor {
    /// Looks for unknown fields in an encoded message of this type, and in the messages inside of it.
    ///
    /// The bytes are read once, and nothing is allocated.
    pub(crate) fn inspect(&'static self, bytes: &[u8]) -> Result<(), Fault> {
        self.inspect_at(MAX_DEPTH, bytes)
    }

    fn inspect_at(&'static self, depth: usize, mut bytes: &[u8]) -> Result<(), Fault> {
        while !bytes.is_empty() {
            let key = varint(&mut bytes).ok_or(Fault::Malformed)?;
            let number = key >> 3;
            let Some(field) = self.fields.iter().find(|field| field.number == number) else {
                let message = self.name;
                return Err(Fault::Unknown { message, number });
            };
            let content = content(key & 7, &mut bytes).ok_or(Fault::Malformed)?;
            if let (Some(message), Some(content)) = (field.message, content) {
                let depth = depth.checked_sub(1).ok_or(Fault::Malformed)?;
                message.inspect_at(depth, content)?;
            }
        }
        Ok(())
    }
}

/// Takes the value of a field from the beginning of `bytes`, and returns its content if it may be a message.
/// `None` if there is no such value. Groups are none: proto3 does not have them.
#[inline]
fn content<'a>(wire_type: u64, bytes: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    match wire_type {
        0 => varint(bytes).map(|_| None),
        1 => take(bytes, 8).map(|_| None),
        2 => {
            let length = varint(bytes)?;
            take(bytes, length).map(Some)
        }
        5 => take(bytes, 4).map(|_| None),
        _ => None,
    }
}

/// Takes `length` bytes from the beginning of `bytes`.
#[inline]
fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Option<&'a [u8]> {
    let length = usize::try_from(length).ok()?;
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

/// Takes a varint from the beginning of `bytes`.
#[inline]
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    match *bytes {
        // Almost every key and length.
        [byte @ ..0x80, rest @ ..] => {
            *bytes = rest;
            Some(u64::from(*byte))
        }
        _ => long_varint(bytes),
    }
}

fn long_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    static REQUEST: Descriptor = Descriptor {
        name: "Request",
        fields: &[
            Field::scalar(1),
            Field::message(2, &REQUEST),
            Field::scalar(16),
        ],
    };

    fn unknown(number: u64) -> Result<(), Fault> {
        let message = "Request";
        Err(Fault::Unknown { message, number })
    }

    #[test]
    fn known_fields_pass_however_they_are_encoded() {
        let encodings: [&[u8]; 7] = [
            &[],
            // Every wire type of a scalar, the same field twice, and a default value.
            &[0x08, 7, 0x09, 1, 2, 3, 4, 5, 6, 7, 8, 0x0d, 1, 2, 3, 4],
            &[0x0a, 2, 0xff, 0xff, 0x08, 0],
            // A number of two bytes.
            &[0x80, 0x01, 7],
            // The key, the length and the value longer than necessary.
            &[0x8a, 0x80, 0x00, 0x82, 0x00, 7, 7, 0x08, 0x87, 0x80, 0x00],
            // An empty message, and one in another.
            &[0x12, 0, 0x12, 4, 0x12, 2, 0x08, 7],
            // The largest varint.
            &[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1],
        ];
        for bytes in encodings {
            assert_eq!(REQUEST.inspect(bytes), Ok(()), "{bytes:x?}");
        }
    }

    #[test]
    fn an_unknown_field_is_found_wherever_it_is() {
        assert_eq!(REQUEST.inspect(&[0x38, 1]), unknown(7));
        assert_eq!(REQUEST.inspect(&[0x08, 7, 0x7a, 0]), unknown(15));
        assert_eq!(REQUEST.inspect(&[0xc0, 0x3e, 1]), unknown(1000));
        assert_eq!(
            REQUEST.inspect(&[0x12, 4, 0x12, 2, 0x18, 7, 0x08, 7]),
            unknown(3)
        );
        // The second message of two that prost merges.
        assert_eq!(REQUEST.inspect(&[0x12, 0, 0x12, 2, 0x18, 7]), unknown(3));
        // A scalar's content is no message.
        assert_eq!(REQUEST.inspect(&[0x0a, 2, 0x18, 7]), Ok(()));
    }

    #[test]
    fn bytes_that_are_no_message_are_malformed() {
        let endless = [0x08, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 1];
        let truncated: [&[u8]; 7] = [
            &[0x08],
            &[0x80],
            &[0x0a, 2, 1],
            &[0x0a, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1],
            &[0x09, 1, 2, 3],
            &[0x0d, 1],
            &endless,
        ];
        let groups: [&[u8]; 4] = [&[0x0b, 0x0c], &[0x0c], &[0x0e], &[0x0f]];
        for bytes in truncated.into_iter().chain(groups) {
            assert_eq!(REQUEST.inspect(bytes), Err(Fault::Malformed), "{bytes:x?}");
        }
    }

    #[test]
    fn the_depth_is_bounded() {
        let nested = |depth| {
            (1..depth).fold(vec![0x12, 0], |inner: Vec<u8>, _| {
                let length = u8::try_from(inner.len()).unwrap();
                [&[0x12, length][..], &inner].concat()
            })
        };
        assert_eq!(REQUEST.inspect(&nested(60)), Ok(()));
        assert_eq!(REQUEST.inspect_at(60, &nested(60)), Ok(()));
        assert_eq!(REQUEST.inspect_at(59, &nested(60)), Err(Fault::Malformed));
    }
}
