//! What a peer may make this process hold in memory.

use crate::error::{DecodeError, Limit};

/// Upper bounds that are checked before anything is allocated or inflated.
///
/// The defaults are the protocol's own; a client lowers or raises them to what the `hello` reply
/// of that connection says (`maxMessageSizeBytes`, `maxBsonObjectSize`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a whole message, header included; also of a message rebuilt from `OP_COMPRESSED`.
    pub max_message_len: usize,
    /// Bytes of one BSON document. The default leaves 16 KiB above 16 MiB, as servers do for
    /// what they add to a user's document. The documents of a sequence are held against it when
    /// they are written, but not when they are read: the message's length bounds them.
    pub max_document_len: usize,
    /// Sections of one `OP_MSG`; the commands that use sequences need at most three.
    pub max_sections: usize,
    /// The largest `uncompressedSize` of an `OP_COMPRESSED`, which excludes the header.
    pub max_inflated_len: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_len: 48_000_000,
            max_document_len: 16 * 1024 * 1024 + 16 * 1024,
            max_sections: 64,
            max_inflated_len: 48_000_000 - 16,
        }
    }
}

impl Limits {
    #[inline]
    pub(crate) const fn maximum(&self, limit: Limit) -> usize {
        match limit {
            Limit::MessageLength => self.max_message_len,
            Limit::DocumentLength => self.max_document_len,
            Limit::Sections => self.max_sections,
            Limit::InflatedLength => self.max_inflated_len,
        }
    }

    #[inline]
    pub(crate) fn check(
        &self,
        limit: Limit,
        found: usize,
        offset: usize,
    ) -> Result<(), DecodeError> {
        let maximum = self.maximum(limit);
        if found <= maximum {
            return Ok(());
        }
        Err(DecodeError::LimitExceeded {
            offset,
            limit,
            maximum,
            found,
        })
    }
}
