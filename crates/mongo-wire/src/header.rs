//! The standard message header: four little-endian 32-bit integers in front of every message.

use std::fmt;

use bytes::{BufMut, BytesMut};
use nom::{Parser, number::complete::le_i32};

use crate::{
    error::{DecodeError, Defect, Limit},
    limits::Limits,
};

/// What a message is; an open set, so that a proxy can pass on what it does not know.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpCode(pub i32);

impl OpCode {
    /// Reply to an [`OP_QUERY`](Self::OP_QUERY), removed from servers in 5.1.
    pub const OP_REPLY: Self = Self(1);
    /// The oldest handshake's request; servers still take it for `hello` and `isMaster`.
    pub const OP_QUERY: Self = Self(2004);
    /// Another message inside, compressed.
    pub const OP_COMPRESSED: Self = Self(2012);
    /// Every request and reply of servers since 3.6.
    pub const OP_MSG: Self = Self(2013);

    /// The specification's name, if this is one of the four that the crate reads.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::OP_REPLY => Some("OP_REPLY"),
            Self::OP_QUERY => Some("OP_QUERY"),
            Self::OP_COMPRESSED => Some("OP_COMPRESSED"),
            Self::OP_MSG => Some("OP_MSG"),
            _ => None,
        }
    }
}

impl fmt::Display for OpCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "opcode {}", self.0),
        }
    }
}

impl fmt::Debug for OpCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The 16 bytes in front of every message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the whole message, these 16 included.
    pub message_length: u32,
    /// The sender's number for this message.
    pub request_id: i32,
    /// The `request_id` this message answers; 0 in a request. In an exhaust chain each reply
    /// answers the reply before it.
    pub response_to: i32,
    /// What follows.
    pub op_code: OpCode,
}

impl Header {
    /// Bytes of a header on the wire.
    pub const LEN: usize = 16;

    /// Reads a header and holds its length against the limits.
    ///
    /// # Errors
    /// A length below 16 is malformed, one above [`Limits::max_message_len`] exceeds the limit.
    #[inline]
    pub fn parse(bytes: &[u8; Self::LEN], limits: &Limits) -> Result<Self, DecodeError> {
        let message_length = message_length(bytes[..4].try_into().expect("four bytes"), limits)?;
        let (_, (request_id, response_to, op_code)) = (le_i32::<_, ()>, le_i32, le_i32)
            .parse(&bytes[4..])
            .expect("twelve bytes are there");
        Ok(Self {
            message_length,
            request_id,
            response_to,
            op_code: OpCode(op_code),
        })
    }

    /// The header as it stands on the wire.
    #[inline]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[0..4].copy_from_slice(&self.message_length.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.request_id.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.response_to.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.op_code.0.to_le_bytes());
        bytes
    }

    /// Appends the header to a buffer.
    pub(crate) fn put(&self, dst: &mut BytesMut) {
        dst.put_slice(&self.to_bytes());
    }
}

/// Checks the first four bytes of a message.
#[inline]
pub(crate) fn message_length(bytes: [u8; 4], limits: &Limits) -> Result<u32, DecodeError> {
    let found = i32::from_le_bytes(bytes);
    let length = match u32::try_from(found) {
        Ok(length) if length >= 16 => length,
        _ => {
            let defect = Defect::MessageLength { found };
            return Err(DecodeError::Malformed { offset: 0, defect });
        }
    };
    let len = usize::try_from(length).unwrap_or(usize::MAX);
    limits.check(Limit::MessageLength, len, 0)?;
    Ok(length)
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Header")
            .field("message_length", &self.message_length)
            .field("request_id", &self.request_id)
            .field("response_to", &self.response_to)
            .field("op_code", &self.op_code)
            .field("hex", &Hex(self.to_bytes()))
            .finish()
    }
}

/// Sixteen bytes as hexadecimal, in the four groups of the header's fields.
struct Hex([u8; Header::LEN]);

impl fmt::Debug for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let gap = if index > 0 && index % 4 == 0 { " " } else { "" };
            write!(f, "{gap}{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::hex;

    const BYTES: &str = "24000000 07000000 f7ffffff dd070000";

    #[test]
    fn header_is_four_little_endian_numbers() {
        let bytes = *hex(BYTES).first_chunk().unwrap();
        let header = Header::parse(&bytes, &Limits::default()).unwrap();
        let expected = Header {
            message_length: 36,
            request_id: 7,
            response_to: -9,
            op_code: OpCode::OP_MSG,
        };
        assert_eq!(header, expected);
        assert_eq!(header.to_bytes(), bytes);
    }

    #[test]
    fn debug_shows_the_fields_and_their_bytes() {
        let bytes = *hex(BYTES).first_chunk().unwrap();
        let shown = format!("{:?}", Header::parse(&bytes, &Limits::default()).unwrap());
        assert!(shown.contains("op_code: OP_MSG"), "{shown}");
        assert!(
            shown.contains("hex: 24000000 07000000 f7ffffff dd070000"),
            "{shown}"
        );
        assert_eq!(OpCode(2000).to_string(), "opcode 2000");
    }
}
