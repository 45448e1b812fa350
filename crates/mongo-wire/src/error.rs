//! Errors, sorted by blame. Offsets count from a message's first header byte, or from a
//! document's first byte where a document was given alone.

use std::fmt;

use crate::{byte_str::ByteStr, compression::Compressor};

/// Why bytes are not a message this crate accepts.
///
/// Offsets of a message that came compressed count in the plain message rebuilt from it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes are not what they claim to be.
    #[error("malformed at byte {offset}: {defect}")]
    Malformed {
        /// Where it stands.
        offset: usize,
        /// What was expected and what stood there.
        defect: Defect,
    },
    /// The bytes are well formed and break a rule of the protocol.
    #[error("protocol violation at byte {offset}: {breach}")]
    Violation {
        /// Where it stands.
        offset: usize,
        /// The rule, with what was expected and found.
        breach: Breach,
    },
    /// The peer asks for more memory than [`Limits`](crate::Limits) grant.
    #[error("limit exceeded at byte {offset}: {limit} at most {maximum}, found {found}")]
    LimitExceeded {
        /// Where the size stands.
        offset: usize,
        /// Which limit.
        limit: Limit,
        /// Its value.
        maximum: usize,
        /// What the peer asked for.
        found: usize,
    },
    /// A valid message that this build cannot read.
    #[error("incompatible at byte {offset}: compressor {compressor} is not built in")]
    Incompatible {
        /// Where the compressor's id stands.
        offset: usize,
        /// The compressor whose cargo feature is off.
        compressor: Compressor,
    },
}

impl DecodeError {
    /// Where the offending bytes start.
    pub const fn offset(&self) -> usize {
        match self {
            Self::Malformed { offset, .. }
            | Self::Violation { offset, .. }
            | Self::LimitExceeded { offset, .. }
            | Self::Incompatible { offset, .. } => *offset,
        }
    }
}

/// Bytes that are not what they claim to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Defect {
    /// The input ends within a field.
    #[error("expected {expected}, found {left} bytes")]
    Truncated {
        /// The field.
        expected: Field,
        /// Bytes that were left for it.
        left: usize,
    },
    /// `messageLength` is smaller than a header.
    #[error("expected a message length of at least 16, found {found}")]
    MessageLength {
        /// The declared length.
        found: i32,
    },
    /// A document's length prefix does not fit the bytes around it.
    #[error("expected a document length of 5 to {left}, found {found}")]
    DocumentLength {
        /// Bytes from the document's start to the end of what holds it.
        left: usize,
        /// The declared length.
        found: i32,
    },
    /// A document does not end in a zero byte.
    #[error("expected a document's closing zero, found {found:#04x}")]
    DocumentEnd {
        /// The byte in its place.
        found: u8,
    },
    /// A document sequence's size does not fit the message.
    #[error("expected a sequence size of 5 to {left}, found {found}")]
    SequenceLength {
        /// Bytes from the size field to the end of the sections.
        left: usize,
        /// The declared size.
        found: i32,
    },
    /// A cstring has no closing zero.
    #[error("expected a zero byte that ends {expected}, found none in {left} bytes")]
    Unterminated {
        /// The field.
        expected: Field,
        /// Bytes searched.
        left: usize,
    },
    /// Text is not UTF-8.
    #[error("expected UTF-8 in {expected}, found {found:#04x}")]
    NotUtf8 {
        /// The field.
        expected: Field,
        /// The first byte that does not belong.
        found: u8,
    },
    /// A BSON element has an unknown type.
    #[error("expected a BSON element type, found {found:#04x}")]
    ElementType {
        /// The type byte.
        found: u8,
    },
    /// Something other than a document stands in a batch.
    #[error("expected a document (BSON type 0x03) in the batch, found type {found:#04x}")]
    BatchElement {
        /// The type byte.
        found: u8,
    },
    /// A BSON value's length does not fit its document.
    #[error("expected a value length of {minimum} to {left}, found {found}")]
    ValueLength {
        /// The smallest length this type allows.
        minimum: usize,
        /// Bytes left in the document.
        left: usize,
        /// The declared length.
        found: i64,
    },
    /// Bytes stand where the message should have ended.
    #[error("expected the end, found {found} more bytes")]
    TrailingBytes {
        /// How many.
        found: usize,
    },
    /// `numberReturned` differs from the documents that follow.
    #[error("expected {expected} documents, found {found}")]
    DocumentCount {
        /// `numberReturned`.
        expected: i32,
        /// Documents in the reply.
        found: usize,
    },
    /// `uncompressedSize` is negative.
    #[error("expected an uncompressed size of at least 0, found {found}")]
    UncompressedSize {
        /// The declared size.
        found: i32,
    },
    /// The payload is not what the compressor writes.
    #[error("expected {compressor} data, found something else")]
    Corrupt {
        /// The compressor named in the message.
        compressor: Compressor,
    },
    /// The payload inflates to another length than `uncompressedSize`.
    #[error("expected {expected} bytes after inflation, found {found}")]
    InflatedLength {
        /// `uncompressedSize`.
        expected: usize,
        /// What the payload holds.
        found: Inflated,
    },
}

/// How much a compressed payload turned out to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inflated {
    /// Exactly this many bytes.
    Exactly(usize),
    /// More than were declared; inflation stopped there.
    More,
}

impl fmt::Display for Inflated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(len) => write!(f, "{len}"),
            Self::More => f.write_str("more"),
        }
    }
}

/// Rules of the protocol that a well-formed message can break.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Breach {
    /// A section is neither a body nor a document sequence.
    #[error("expected section kind 0 or 1, found {found}")]
    SectionKind {
        /// The kind byte.
        found: u8,
    },
    /// One of the flag bits 0 to 15 is set and means nothing.
    #[error("expected no unknown required flag, found bits {found:#06x}")]
    RequiredFlags {
        /// The unknown required bits.
        found: u32,
    },
    /// The message has no body section.
    #[error("expected one body section, found none")]
    NoBody,
    /// The message has more than one body section.
    #[error("expected one body section, found a second")]
    SecondBody,
    /// Two document sequences have one identifier.
    #[error(
        "expected distinct sequence identifiers, found {:?} twice",
        start(identifier)
    )]
    DuplicateIdentifier {
        /// The identifier.
        identifier: ByteStr,
    },
    /// The message does not have the checksum it carries.
    #[error("expected CRC-32C {expected:#010x}, found {found:#010x}")]
    Checksum {
        /// Computed over the message.
        expected: u32,
        /// What the message carries.
        found: u32,
    },
    /// `OP_COMPRESSED` inside `OP_COMPRESSED`.
    #[error("expected a plain opcode inside OP_COMPRESSED, found OP_COMPRESSED")]
    NestedCompression,
    /// A compressor id nobody defined.
    #[error("expected compressor 0 to 3, found {found}")]
    UnknownCompressor {
        /// The id.
        found: u8,
    },
}

/// As much of a peer's text as a message to people needs.
fn start(text: &str) -> &str {
    let end = text
        .char_indices()
        .nth(40)
        .map_or(text.len(), |(end, _)| end);
    &text[..end]
}

/// Bounds of [`Limits`](crate::Limits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// [`Limits::max_message_len`](crate::Limits::max_message_len).
    MessageLength,
    /// [`Limits::max_document_len`](crate::Limits::max_document_len).
    DocumentLength,
    /// [`Limits::max_sections`](crate::Limits::max_sections).
    Sections,
    /// [`Limits::max_inflated_len`](crate::Limits::max_inflated_len).
    InflatedLength,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MessageLength => "message length",
            Self::DocumentLength => "document length",
            Self::Sections => "sections",
            Self::InflatedLength => "inflated length",
        })
    }
}

/// Fields of the format, as errors name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Field {
    /// `flagBits` of `OP_MSG`, `flags` of `OP_QUERY`, `responseFlags` of `OP_REPLY`.
    Flags,
    /// The CRC-32C at the end of `OP_MSG`.
    Checksum,
    /// A section's kind byte.
    SectionKind,
    /// The size of a document sequence.
    SequenceLength,
    /// The identifier of a document sequence.
    Identifier,
    /// A document's length prefix.
    DocumentLength,
    /// `originalOpcode` of `OP_COMPRESSED`.
    OriginalOpcode,
    /// `uncompressedSize` of `OP_COMPRESSED`.
    UncompressedSize,
    /// `compressorId` of `OP_COMPRESSED`.
    CompressorId,
    /// `fullCollectionName` of `OP_QUERY`.
    FullCollectionName,
    /// `numberToSkip` of `OP_QUERY`.
    NumberToSkip,
    /// `numberToReturn` of `OP_QUERY`.
    NumberToReturn,
    /// `cursorID` of `OP_REPLY`.
    CursorId,
    /// `startingFrom` of `OP_REPLY`.
    StartingFrom,
    /// `numberReturned` of `OP_REPLY`.
    NumberReturned,
    /// A BSON element's key.
    ElementKey,
    /// A BSON element's value.
    ElementValue,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flags => "4 bytes of flags",
            Self::Checksum => "4 bytes of checksum",
            Self::SectionKind => "a section kind byte",
            Self::SequenceLength => "4 bytes of sequence size",
            Self::Identifier => "a sequence identifier",
            Self::DocumentLength => "4 bytes of document length",
            Self::OriginalOpcode => "4 bytes of original opcode",
            Self::UncompressedSize => "4 bytes of uncompressed size",
            Self::CompressorId => "a compressor id byte",
            Self::FullCollectionName => "a full collection name",
            Self::NumberToSkip => "4 bytes of numberToSkip",
            Self::NumberToReturn => "4 bytes of numberToReturn",
            Self::CursorId => "8 bytes of cursor id",
            Self::StartingFrom => "4 bytes of startingFrom",
            Self::NumberReturned => "4 bytes of numberReturned",
            Self::ElementKey => "an element key",
            Self::ElementValue => "an element value",
        })
    }
}

/// Why a message cannot be written. The destination buffer is left as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The message is larger than the peer would take.
    #[error("{limit} at most {maximum}, found {found}")]
    LimitExceeded {
        /// Which limit.
        limit: Limit,
        /// Its value.
        maximum: usize,
        /// What the message needs.
        found: usize,
    },
    /// The message breaks a rule its reader would enforce.
    #[error("the message would break the protocol: {0}")]
    Misuse(Breach),
    /// A name or key contains a zero byte, which a cstring cannot hold.
    #[error("{field} contains a zero byte at {offset}")]
    ZeroByte {
        /// Where the text was to be written.
        field: Field,
        /// Where in the text the zero stands.
        offset: usize,
    },
    /// The compressor's cargo feature is off.
    #[error("compressor {0} is not built in")]
    NotBuiltIn(Compressor),
    /// The compression library refused the input.
    #[error("compressor {0} failed")]
    CompressionFailed(Compressor),
}
