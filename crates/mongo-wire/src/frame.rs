//! The first level: a header and the bytes it announces, nothing inside looked at.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{
    error::{DecodeError, EncodeError, Limit},
    header::{self, Header, OpCode},
    limits::Limits,
};

/// One whole message as it came: what a proxy passes on without reading it.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// The header; its length is that of header and body together.
    pub header: Header,
    /// Everything after the header.
    pub body: Bytes,
}

impl Frame {
    /// A frame around a body; the header's length follows from it.
    ///
    /// # Errors
    /// When the message would be longer than [`Limits::max_message_len`].
    pub fn new(
        request_id: i32,
        response_to: i32,
        op_code: OpCode,
        body: Bytes,
        limits: &Limits,
    ) -> Result<Self, EncodeError> {
        let message_length = encoded_length(Header::LEN + body.len(), limits)?;
        Ok(Self {
            header: Header {
                message_length,
                request_id,
                response_to,
                op_code,
            },
            body,
        })
    }

    /// Takes one frame off the front of `src`, without a copy: `None` means "more bytes", and
    /// leaves `src` as it is.
    ///
    /// # Errors
    /// When the length is below 16 or above the limit; `src` keeps the bytes then.
    #[inline]
    pub fn decode(src: &mut BytesMut, limits: &Limits) -> Result<Option<Self>, DecodeError> {
        if bytes_wanted(src, limits)? > 0 {
            return Ok(None);
        }
        let head = src
            .first_chunk()
            .expect("nothing is wanted, so the header is there");
        let header = Header::parse(head, limits)?;
        let mut body = src.split_to(wire_len(&header)).freeze();
        body.advance(Header::LEN);
        Ok(Some(Self { header, body }))
    }

    /// Appends the frame, byte for byte as it came.
    ///
    /// # Errors
    /// When it is longer than [`Limits::max_message_len`].
    pub fn encode(&self, dst: &mut BytesMut, limits: &Limits) -> Result<(), EncodeError> {
        let message_length = encoded_length(self.len(), limits)?;
        dst.reserve(self.len());
        Header {
            message_length,
            ..self.header
        }
        .put(dst);
        dst.put_slice(&self.body);
        Ok(())
    }

    /// Bytes on the wire, header included.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a frame has at least its header"
    )]
    pub const fn len(&self) -> usize {
        Header::LEN + self.body.len()
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("header", &self.header)
            .field("body", &format_args!("{} bytes", self.body.len()))
            .finish()
    }
}

/// How many more bytes the first message in `src` needs, as far as can be said: with fewer than
/// four bytes the rest of a header, then the rest of the message. 0 means [`crate::decode`] has
/// all it needs.
///
/// # Errors
/// When the length in the first four bytes is below 16 or above the limit.
#[inline]
pub fn bytes_wanted(src: &[u8], limits: &Limits) -> Result<usize, DecodeError> {
    let Some(prefix) = src.first_chunk() else {
        return Ok(Header::LEN - src.len());
    };
    let length = header::message_length(*prefix, limits)?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    Ok(length.saturating_sub(src.len()))
}

#[inline]
fn wire_len(header: &Header) -> usize {
    usize::try_from(header.message_length).unwrap_or(usize::MAX)
}

/// A message's length, within the limit and the 31 bits of the field.
pub(crate) fn encoded_length(found: usize, limits: &Limits) -> Result<u32, EncodeError> {
    let ceiling = usize::try_from(i32::MAX).unwrap_or(usize::MAX);
    let maximum = limits.max_message_len.min(ceiling);
    if found > maximum {
        return Err(EncodeError::LimitExceeded {
            limit: Limit::MessageLength,
            maximum,
            found,
        });
    }
    Ok(u32::try_from(found).expect("31 bits at most"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Defect, Message, decode,
        testing::{frame, hex, wire},
    };

    #[test]
    fn lengths_outside_16_and_the_limit_are_refused_on_four_bytes() {
        let malformed = |found| {
            Err(DecodeError::Malformed {
                offset: 0,
                defect: Defect::MessageLength { found },
            })
        };
        let (limit, maximum) = (Limit::MessageLength, 48_000_000);
        let exceeded = |found| {
            Err(DecodeError::LimitExceeded {
                offset: 0,
                limit,
                maximum,
                found,
            })
        };
        let table = [
            ("10000000", Ok(12)),
            ("006cdc02", Ok(47_999_996)),
            ("0f000000", malformed(15)),
            ("00000000", malformed(0)),
            ("ffffffff", malformed(-1)),
            ("00000080", malformed(i32::MIN)),
            ("016cdc02", exceeded(48_000_001)),
            ("ffffff7f", exceeded(2_147_483_647)),
        ];
        for (bytes, expected) in table {
            let bytes = hex(bytes);
            assert_eq!(bytes_wanted(&bytes, &Limits::default()), expected);
            let decoded = decode(&mut BytesMut::from(&bytes[..]), &Limits::default());
            assert_eq!(decoded, expected.map(|_| None));
        }
    }

    #[test]
    fn wanted_bytes_shrink_to_nothing_as_they_come() {
        let bytes = wire(&frame(OpCode(2000), "0102030405"));
        let limits = Limits::default();
        for have in 0..4 {
            assert_eq!(bytes_wanted(&bytes[..have], &limits), Ok(16 - have));
        }
        for have in 4..21 {
            assert_eq!(bytes_wanted(&bytes[..have], &limits), Ok(21 - have));
        }
        assert_eq!(
            bytes_wanted(&[&bytes[..], b"next"].concat(), &limits),
            Ok(0)
        );
    }

    #[test]
    fn unfinished_message_leaves_the_buffer_alone() {
        let bytes = wire(&frame(OpCode(2000), "0102030405"));
        let mut src = BytesMut::from(&bytes[..20]);
        assert_eq!(decode(&mut src, &Limits::default()), Ok(None));
        assert_eq!(src, bytes[..20]);
    }

    #[test]
    fn unknown_opcodes_pass_through_byte_for_byte() {
        let opaque = frame(OpCode(2010), "ff00ff");
        let mut src = wire(&opaque);
        let sent = src.clone();
        let message = decode(&mut src, &Limits::default()).unwrap().unwrap();
        assert_eq!(message, Message::Opaque(opaque));
        let mut dst = BytesMut::new();
        message.encode(&mut dst, &Limits::default()).unwrap();
        assert_eq!(dst, sent);
    }

    #[test]
    fn header_without_a_body_is_a_frame() {
        let mut src = BytesMut::from(&hex("10000000 01000000 00000000 d0070000 99")[..]);
        let frame = Frame::decode(&mut src, &Limits::default())
            .unwrap()
            .unwrap();
        assert_eq!(
            (frame.len(), frame.body.len(), &src[..]),
            (16, 0, &[0x99][..])
        );
    }

    #[test]
    fn debug_shows_no_payload() {
        let shown = format!("{:?}", frame(OpCode(1234), "736563726574"));
        assert!(
            shown.ends_with("body: 6 bytes }") && !shown.contains("736563"),
            "{shown}"
        );
    }
}
