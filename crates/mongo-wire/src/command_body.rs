//! A command's body: the user's document and, beside it, what the client has to add.

use std::{ffi::CStr, fmt};

use bytes::{BufMut, BytesMut};

use crate::{
    document::Document,
    elements,
    error::{EncodeError, Limit},
    limits::Limits,
    op_msg::{self, Flags},
};

/// Puts elements such as `$db`, `lsid` or `$clusterTime` behind a command's own elements.
///
/// The command is never parsed, edited or serialised again: its elements are copied as they are,
/// so its name stays the first key, and a new length stands in front of all. Elements come in the
/// order of the calls. Nothing looks for a key that stands twice; where that can happen, ask
/// [`Document::contains_key`] first.
///
/// ```
/// use mongo_wire::{CommandBody, Document, Limits, OpMsg};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let ping = Document::from_bytes(&b"\x0f\0\0\0\x10ping\0\x01\0\0\0\0"[..])?;
/// let body = CommandBody::new(&ping).string(c"$db", "admin").into_document(&Limits::default())?;
///
/// assert_eq!(body.first_key(), Some("ping"));
/// let request = OpMsg::new(1, body);
/// # assert_eq!(request.command_name(), Some("ping"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct CommandBody<'a> {
    /// Length prefix and closing zero included.
    command: &'a [u8],
    /// The elements of the document that was added first: mostly the only addition, which is copied
    /// once, into the message.
    beside: &'a [u8],
    added: BytesMut,
}

impl<'a> CommandBody<'a> {
    /// A command with nothing beside it yet.
    pub fn new(command: &'a Document) -> Self {
        Self::of_bytes(command.as_bytes())
    }

    /// As [`new`](Self::new), of a raw document.
    #[cfg(feature = "bson")]
    pub fn of_raw(command: &'a bson::RawDocument) -> Self {
        Self::of_bytes(command.as_bytes())
    }

    fn of_bytes(command: &'a [u8]) -> Self {
        Self {
            command,
            beside: &[],
            added: BytesMut::new(),
        }
    }

    /// Adds a string.
    #[must_use]
    pub fn string(mut self, key: &CStr, value: &str) -> Self {
        self.key(elements::STRING, key);
        // A length that does not fit 31 bits makes the whole exceed every limit.
        self.added
            .put_u32_le(u32::try_from(value.len() + 1).unwrap_or(u32::MAX));
        self.added.put_slice(value.as_bytes());
        self.added.put_u8(0);
        self
    }

    /// Adds a document.
    #[must_use]
    pub fn document(mut self, key: &CStr, value: &Document) -> Self {
        self.key(elements::DOCUMENT, key);
        self.added.put_slice(value.as_bytes());
        self
    }

    /// Adds a 32-bit integer.
    #[must_use]
    pub fn int32(mut self, key: &CStr, value: i32) -> Self {
        self.key(elements::INT32, key);
        self.added.put_i32_le(value);
        self
    }

    /// Adds a 64-bit integer.
    #[must_use]
    pub fn int64(mut self, key: &CStr, value: i64) -> Self {
        self.key(elements::INT64, key);
        self.added.put_i64_le(value);
        self
    }

    /// Adds a boolean.
    #[must_use]
    pub fn boolean(mut self, key: &CStr, value: bool) -> Self {
        self.key(elements::BOOLEAN, key);
        self.added.put_u8(value.into());
        self
    }

    /// Adds all elements of a document, whatever their types, as they are.
    #[must_use]
    pub fn elements_of(mut self, document: &'a Document) -> Self {
        self.put_elements(document.as_bytes());
        self
    }

    /// As [`elements_of`](Self::elements_of), of a raw document.
    #[cfg(feature = "bson")]
    #[must_use]
    pub fn raw_elements_of(mut self, document: &'a bson::RawDocument) -> Self {
        self.put_elements(document.as_bytes());
        self
    }

    /// Bytes of the body.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a body is a document: at least five bytes"
    )]
    pub fn len(&self) -> usize {
        self.command.len() + self.beside.len() + self.added.len()
    }

    /// Appends the body to a buffer, which stays as it is on an error.
    ///
    /// # Errors
    /// When the body exceeds [`Limits::max_document_len`].
    pub fn encode(&self, dst: &mut BytesMut, limits: &Limits) -> Result<(), EncodeError> {
        let length = self.checked_len(limits)?;
        dst.reserve(self.len());
        self.put(length, dst);
        Ok(())
    }

    /// Appends an `OP_MSG` with this body and nothing else: the same as an [`OpMsg`](crate::OpMsg) of
    /// [`into_document`](Self::into_document), without a copy on the way. `dst` stays as it is on
    /// an error.
    ///
    /// # Errors
    /// When a limit is exceeded, or a required flag is set that nobody knows.
    pub fn encode_message(
        &self,
        request_id: i32,
        flags: Flags,
        dst: &mut BytesMut,
        limits: &Limits,
    ) -> Result<(), EncodeError> {
        let length = self.checked_len(limits)?;
        op_msg::put_message(request_id, flags, self.len(), dst, limits, |dst| {
            self.put(length, dst);
        })
    }

    /// The length, within the limit and the 31 bits of the field.
    fn checked_len(&self, limits: &Limits) -> Result<u32, EncodeError> {
        let found = self.len();
        let ceiling = usize::try_from(i32::MAX).unwrap_or(usize::MAX);
        let maximum = limits.max_document_len.min(ceiling);
        if found > maximum {
            return Err(EncodeError::LimitExceeded {
                limit: Limit::DocumentLength,
                maximum,
                found,
            });
        }
        Ok(u32::try_from(found).expect("31 bits at most"))
    }

    fn put(&self, length: u32, dst: &mut BytesMut) {
        dst.put_u32_le(length);
        dst.put_slice(elements_in(self.command));
        dst.put_slice(self.beside);
        dst.put_slice(&self.added);
        dst.put_u8(0);
    }

    fn put_elements(&mut self, document: &'a [u8]) {
        let elements = elements_in(document);
        if self.beside.is_empty() && self.added.is_empty() {
            self.beside = elements;
        } else {
            self.added.put_slice(elements);
        }
    }

    /// The body as a document of its own.
    ///
    /// # Errors
    /// When it exceeds [`Limits::max_document_len`].
    pub fn into_document(self, limits: &Limits) -> Result<Document, EncodeError> {
        let mut body = BytesMut::new();
        self.encode(&mut body, limits)?;
        Ok(Document::from_bytes(body).expect("length and closing zero were just written"))
    }

    fn key(&mut self, kind: u8, key: &CStr) {
        self.added.put_u8(kind);
        self.added.put_slice(key.to_bytes_with_nul());
    }
}

/// The bytes between the length prefix and the closing zero.
fn elements_in(document: &[u8]) -> &[u8] {
    &document[4..document.len() - 1]
}

impl fmt::Debug for CommandBody<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "CommandBody({} bytes, {} added)",
            self.len(),
            self.beside.len() + self.added.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OpMsg;
    use crate::testing::{EMPTY, PING, document, hex};

    #[test]
    fn added_elements_stand_behind_the_commands_own() {
        let ping = document(PING);
        let body = CommandBody::new(&ping)
            .string(c"s", "ab")
            .document(c"d", &document(EMPTY))
            .int32(c"i", 1)
            .int64(c"l", 2)
            .boolean(c"b", true)
            .elements_of(&document("08000000 0a 6e00 00"))
            .into_document(&Limits::default())
            .unwrap();
        let expected = hex("3a000000 10 70696e6700 01000000
            02 7300 03000000 616200  03 6400 05000000 00  10 6900 01000000
            12 6c00 0200000000000000  08 6200 01  0a 6e00  00");
        assert_eq!(body.as_bytes(), expected);
    }

    #[test]
    fn documents_are_added_in_the_order_of_the_calls() {
        let ping = document(PING);
        let [one, two] = ["080000000a610000", "080000000a620000"].map(document);
        let body = CommandBody::new(&ping).elements_of(&one).elements_of(&two);
        let body = body.int32(c"i", 1).into_document(&Limits::default());
        let expected = hex("1c000000 10 70696e6700 01000000 0a6100 0a6200 10 6900 01000000 00");
        assert_eq!(body.unwrap().as_bytes(), expected);
    }

    #[test]
    fn message_around_a_body_is_that_of_its_document() {
        let ping = document(PING);
        let limits = Limits::default();
        for flags in [
            Flags::empty(),
            Flags::CHECKSUM_PRESENT | Flags::EXHAUST_ALLOWED,
        ] {
            let body = CommandBody::new(&ping).int32(c"i", 1);
            let mut direct = BytesMut::new();
            body.encode_message(7, flags, &mut direct, &limits).unwrap();
            let mut expected = BytesMut::new();
            let message = OpMsg::new(7, body.into_document(&limits).unwrap());
            message
                .with_flags(flags)
                .encode(&mut expected, &limits)
                .unwrap();
            assert_eq!(direct, expected, "{flags:?}");
        }
        let body = CommandBody::new(&ping);
        let mut dst = BytesMut::from(&b"before"[..]);
        let unknown = Flags::from_bits(1 << 9);
        assert!(body.encode_message(7, unknown, &mut dst, &limits).is_err());
        let limits = Limits {
            max_message_len: 30,
            ..limits
        };
        assert!(
            body.encode_message(7, Flags::empty(), &mut dst, &limits)
                .is_err()
        );
        assert_eq!(dst, b"before"[..]);
    }

    #[test]
    fn body_beyond_the_limit_is_refused() {
        let ping = document(PING);
        let limits = Limits {
            max_document_len: 22,
            ..Limits::default()
        };
        let body = CommandBody::new(&ping).int32(c"i", 1);
        assert_eq!(
            body.clone().into_document(&limits).map(|body| body.len()),
            Ok(22)
        );
        let limits = Limits {
            max_document_len: 21,
            ..Limits::default()
        };
        let (limit, maximum, found) = (Limit::DocumentLength, 21, 22);
        let error = Err(EncodeError::LimitExceeded {
            limit,
            maximum,
            found,
        });
        assert_eq!(body.into_document(&limits), error);
        let limits = Limits {
            max_document_len: 14,
            ..Limits::default()
        };
        assert!(CommandBody::new(&ping).into_document(&limits).is_err());
    }
}
