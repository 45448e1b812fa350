//! `OP_MSG`: flags, sections in any order, an optional checksum (message/OP_MSG.md).

use std::{fmt, ops::BitOr};

use bytes::{BufMut, Bytes, BytesMut};
use nom::Offset;

use crate::{
    byte_str::ByteStr,
    compression::{self, Compressor, may_compress},
    document::{Document, DocumentList},
    error::{Breach, DecodeError, EncodeError, Field, Limit},
    frame::{self, Frame},
    header::{Header, OpCode},
    limits::Limits,
    parse::{self, Parsed},
};

const KIND_BODY: u8 = 0;
const KIND_SEQUENCE: u8 = 1;
const FLAGS_LEN: usize = 4;
const CHECKSUM_LEN: usize = 4;

/// `flagBits`. Bits 0 to 15 are required: a reader refuses those it does not know. Bits 16 to 31
/// are optional: unknown ones mean nothing and are kept as they came.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags(u32);

impl Flags {
    /// The message ends in a CRC-32C of all bytes before it.
    pub const CHECKSUM_PRESENT: Self = Self(1);
    /// Another message follows without a request: nothing may be sent before it came. In a
    /// request: no reply is wanted.
    pub const MORE_TO_COME: Self = Self(1 << 1);
    /// The sender takes replies with [`MORE_TO_COME`](Self::MORE_TO_COME).
    pub const EXHAUST_ALLOWED: Self = Self(1 << 16);

    const KNOWN_REQUIRED: u32 = Self::CHECKSUM_PRESENT.0 | Self::MORE_TO_COME.0;
    const REQUIRED: u32 = 0xffff;

    /// No flag.
    pub const fn empty() -> Self {
        Self(0)
    }

    /// Flags from the bits on the wire, unknown ones included.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The bits on the wire.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether all of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These flags and those.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These flags but not those.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    const fn unknown_required(self) -> u32 {
        self.0 & Self::REQUIRED & !Self::KNOWN_REQUIRED
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.with(other)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::CHECKSUM_PRESENT, "checksumPresent"),
            (Self::MORE_TO_COME, "moreToCome"),
            (Self::EXHAUST_ALLOWED, "exhaustAllowed"),
        ];
        write!(f, "Flags({:#x}", self.0)?;
        for (flag, name) in names {
            if self.contains(flag) {
                write!(f, " {name}")?;
            }
        }
        f.write_str(")")
    }
}

/// A part of an `OP_MSG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Section {
    /// Kind 0: the command or the reply itself; a message has exactly one.
    Body(Document),
    /// Kind 1: documents of one array field of the command, outside its body.
    DocumentSequence(DocumentSequence),
}

/// A kind 1 section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentSequence {
    /// The command's field these documents stand for: `documents`, `updates`, `deletes`, ...
    pub identifier: ByteStr,
    /// The documents; none is legal.
    pub documents: DocumentList,
}

impl DocumentSequence {
    /// A sequence under a name.
    pub fn new(identifier: impl Into<ByteStr>, documents: DocumentList) -> Self {
        Self {
            identifier: identifier.into(),
            documents,
        }
    }

    /// The section's size field: itself, the identifier with its zero, the documents.
    fn size(&self) -> usize {
        4 + self.identifier.len() + 1 + self.documents.as_bytes().len()
    }
}

/// An `OP_MSG` whose sections are slices of the buffer it was decoded from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpMsg {
    /// The sender's number for this message.
    pub request_id: i32,
    /// The message this one answers; 0 in a request.
    pub response_to: i32,
    /// Flags; [`encode`](Self::encode) writes a checksum when the flag for it is set.
    pub flags: Flags,
    /// The sections in the order of the wire.
    pub sections: Vec<Section>,
}

impl OpMsg {
    /// A message of one body section, without flags.
    pub fn new(request_id: i32, body: Document) -> Self {
        let sections = vec![Section::Body(body)];
        Self {
            request_id,
            response_to: 0,
            flags: Flags::empty(),
            sections,
        }
    }

    /// Makes it the answer to a message.
    #[must_use]
    pub fn in_response_to(mut self, request_id: i32) -> Self {
        self.response_to = request_id;
        self
    }

    /// Adds flags.
    #[must_use]
    pub fn with_flags(mut self, flags: Flags) -> Self {
        self.flags = self.flags.with(flags);
        self
    }

    /// Adds a document sequence after the sections there are.
    #[must_use]
    pub fn with_sequence(mut self, sequence: DocumentSequence) -> Self {
        self.sections.push(Section::DocumentSequence(sequence));
        self
    }

    /// The body section's document.
    ///
    /// # Panics
    /// When the caller took the body out of `sections`; a decoded message always has one.
    pub fn body(&self) -> &Document {
        self.find_body().expect("a message has a body section")
    }

    fn find_body(&self) -> Option<&Document> {
        self.sections.iter().find_map(|section| match section {
            Section::Body(body) => Some(body),
            Section::DocumentSequence(_) => None,
        })
    }

    /// The document sequences, in the order of the wire.
    pub fn sequences(&self) -> impl Iterator<Item = &DocumentSequence> {
        self.sections.iter().filter_map(|section| match section {
            Section::Body(_) => None,
            Section::DocumentSequence(sequence) => Some(sequence),
        })
    }

    /// A request's command: the first key of its body. In a reply this is just some key.
    pub fn command_name(&self) -> Option<&str> {
        self.find_body()?.first_key()
    }

    /// Whether another message follows this one unasked, or, in a request, no reply is wanted.
    pub const fn more_to_come(&self) -> bool {
        self.flags.contains(Flags::MORE_TO_COME)
    }

    /// Reads the sections of a frame.
    ///
    /// Checked here: flags, the checksum if there is one, section kinds and bounds, identifiers,
    /// the body's outer form. Not looked at: what is inside documents, and the documents of a
    /// sequence, whose lengths [`DocumentList::iter`] checks. Without a checksum the work
    /// therefore does not grow with the size of the message.
    ///
    /// # Errors
    /// When one of these checks fails.
    #[inline]
    pub fn from_frame(frame: &Frame, limits: &Limits) -> Result<Self, DecodeError> {
        let locate = |error| parse::locate(error, &frame.body, Header::LEN);
        let (input, flags) = flags(&frame.body).map_err(locate)?;
        let input = if flags.contains(Flags::CHECKSUM_PRESENT) {
            checked_content(frame, input).map_err(locate)?.1
        } else {
            input
        };
        let sections = sections(&frame.body, input, limits)?;
        let Header {
            request_id,
            response_to,
            ..
        } = frame.header;
        Ok(Self {
            request_id,
            response_to,
            flags,
            sections,
        })
    }

    /// Appends the message: `dst` grows by it or stays as it is.
    ///
    /// # Errors
    /// When a limit is exceeded, or when the message would break a rule that
    /// [`from_frame`](Self::from_frame) checks.
    pub fn encode(&self, dst: &mut BytesMut, limits: &Limits) -> Result<(), EncodeError> {
        let message_length = self.check(limits)?;
        let start = dst.len();
        dst.reserve(self.encoded_len());
        let (request_id, response_to) = (self.request_id, self.response_to);
        Header {
            message_length,
            request_id,
            response_to,
            op_code: OpCode::OP_MSG,
        }
        .put(dst);
        dst.put_u32_le(self.flags.bits());
        for section in &self.sections {
            put_section(section, dst);
        }
        if self.flags.contains(Flags::CHECKSUM_PRESENT) {
            dst.put_u32_le(crc32c::crc32c(&dst[start..]));
        }
        Ok(())
    }

    /// Appends the message inside an `OP_COMPRESSED`, unless the first key of its body names a
    /// command that is [never compressed](crate::NEVER_COMPRESSED). A checksum, if the flag is
    /// set, covers the plain message.
    ///
    /// # Errors
    /// As [`encode`](Self::encode), or when the compressor is not built in.
    pub fn encode_compressed(
        &self,
        dst: &mut BytesMut,
        compressor: Compressor,
        limits: &Limits,
    ) -> Result<(), EncodeError> {
        if !compressor.is_built_in() {
            return Err(EncodeError::NotBuiltIn(compressor));
        }
        if !self.command_name().is_none_or(may_compress) {
            return self.encode(dst, limits);
        }
        let mut plain = BytesMut::new();
        self.encode(&mut plain, limits)?;
        compression::put_compressed(&plain, compressor, dst, limits)
    }

    /// Bytes this message takes on the wire, uncompressed.
    pub fn encoded_len(&self) -> usize {
        let checksum = if self.flags.contains(Flags::CHECKSUM_PRESENT) {
            CHECKSUM_LEN
        } else {
            0
        };
        let sections: usize = self.sections.iter().map(section_len).sum();
        Header::LEN + FLAGS_LEN + sections + checksum
    }

    /// All rules a reader would enforce; the message's length.
    fn check(&self, limits: &Limits) -> Result<u32, EncodeError> {
        let within = |limit, found| {
            let maximum = limits.maximum(limit);
            if found <= maximum {
                Ok(())
            } else {
                Err(EncodeError::LimitExceeded {
                    limit,
                    maximum,
                    found,
                })
            }
        };
        within(Limit::Sections, self.sections.len())?;
        check_flags(self.flags)?;
        let mut has_body = false;
        for (index, section) in self.sections.iter().enumerate() {
            match section {
                Section::Body(_) if has_body => {
                    return Err(EncodeError::Misuse(Breach::SecondBody));
                }
                Section::Body(body) => {
                    has_body = true;
                    within(Limit::DocumentLength, body.len())?;
                }
                Section::DocumentSequence(sequence) => {
                    check_identifier(&self.sections[..index], sequence)?;
                    within(Limit::DocumentLength, sequence.documents.longest())?;
                }
            }
        }
        if !has_body {
            return Err(EncodeError::Misuse(Breach::NoBody));
        }
        frame::encoded_length(self.encoded_len(), limits)
    }
}

/// Appends a message of one body, which `put_body` writes in so many bytes.
pub(crate) fn put_message(
    request_id: i32,
    flags: Flags,
    body_len: usize,
    dst: &mut BytesMut,
    limits: &Limits,
    put_body: impl FnOnce(&mut BytesMut),
) -> Result<(), EncodeError> {
    check_flags(flags)?;
    let checksum = if flags.contains(Flags::CHECKSUM_PRESENT) {
        CHECKSUM_LEN
    } else {
        0
    };
    let len = Header::LEN + FLAGS_LEN + 1 + body_len + checksum;
    let message_length = frame::encoded_length(len, limits)?;
    let start = dst.len();
    dst.reserve(len);
    Header {
        message_length,
        request_id,
        response_to: 0,
        op_code: OpCode::OP_MSG,
    }
    .put(dst);
    dst.put_u32_le(flags.bits());
    dst.put_u8(KIND_BODY);
    put_body(dst);
    if checksum > 0 {
        dst.put_u32_le(crc32c::crc32c(&dst[start..]));
    }
    Ok(())
}

fn check_flags(flags: Flags) -> Result<(), EncodeError> {
    match flags.unknown_required() {
        0 => Ok(()),
        found => Err(EncodeError::Misuse(Breach::RequiredFlags { found })),
    }
}

fn check_identifier(earlier: &[Section], sequence: &DocumentSequence) -> Result<(), EncodeError> {
    let identifier = &sequence.identifier;
    if let Some(offset) = identifier.bytes().position(|byte| byte == 0) {
        return Err(EncodeError::ZeroByte {
            field: Field::Identifier,
            offset,
        });
    }
    duplicate(earlier, identifier).map_or(Ok(()), |breach| Err(EncodeError::Misuse(breach)))
}

fn duplicate(earlier: &[Section], identifier: &ByteStr) -> Option<Breach> {
    let found = earlier.iter().any(|section| match section {
        Section::Body(_) => false,
        Section::DocumentSequence(sequence) => sequence.identifier == *identifier,
    });
    found.then(|| Breach::DuplicateIdentifier {
        identifier: identifier.clone(),
    })
}

fn section_len(section: &Section) -> usize {
    1 + match section {
        Section::Body(body) => body.len(),
        Section::DocumentSequence(sequence) => sequence.size(),
    }
}

fn put_section(section: &Section, dst: &mut BytesMut) {
    match section {
        Section::Body(body) => {
            dst.put_u8(KIND_BODY);
            dst.put_slice(body.as_bytes());
        }
        Section::DocumentSequence(sequence) => {
            dst.put_u8(KIND_SEQUENCE);
            let size = u32::try_from(sequence.size()).expect("the message length was checked");
            dst.put_u32_le(size);
            dst.put_slice(sequence.identifier.as_bytes());
            dst.put_u8(0);
            dst.put_slice(sequence.documents.as_bytes());
        }
    }
}

#[inline]
fn flags(input: &[u8]) -> Parsed<'_, Flags> {
    let (rest, bits) = parse::uint32(Field::Flags, input)?;
    let flags = Flags::from_bits(bits);
    match flags.unknown_required() {
        0 => Ok((rest, flags)),
        found => parse::fail(input, Breach::RequiredFlags { found }),
    }
}

/// What stands between the flags and the checksum, once the checksum has been verified.
fn checked_content<'a>(frame: &Frame, input: &'a [u8]) -> Parsed<'a, &'a [u8]> {
    let content_len = input.len().saturating_sub(CHECKSUM_LEN);
    let (content, tail) = input.split_at(content_len);
    let (rest, found) = parse::uint32(Field::Checksum, tail)?;
    let covered = &frame.body[..frame.body.len() - CHECKSUM_LEN];
    let expected = crc32c::crc32c_append(crc32c::crc32c(&frame.header.to_bytes()), covered);
    if found != expected {
        return parse::fail(tail, Breach::Checksum { expected, found });
    }
    Ok((rest, content))
}

/// All sections; `input` lies within `body`.
#[inline]
fn sections(body: &Bytes, mut input: &[u8], limits: &Limits) -> Result<Vec<Section>, DecodeError> {
    // Most messages are one body: growing ahead of the first push would waste the room.
    let mut sections = Vec::with_capacity(1);
    let mut has_body = false;
    while !input.is_empty() {
        let offset = Header::LEN + body.offset(input);
        limits.check(Limit::Sections, sections.len() + 1, offset)?;
        let (rest, section) = section(body, input, limits)
            .map_err(|error| parse::locate(error, body, Header::LEN))?;
        let breach = match &section {
            Section::Body(_) if has_body => Some(Breach::SecondBody),
            Section::Body(_) => {
                has_body = true;
                None
            }
            Section::DocumentSequence(sequence) => duplicate(&sections, &sequence.identifier),
        };
        if let Some(breach) = breach {
            return Err(DecodeError::Violation { offset, breach });
        }
        sections.push(section);
        input = rest;
    }
    if has_body {
        return Ok(sections);
    }
    let offset = Header::LEN + body.offset(input);
    Err(DecodeError::Violation {
        offset,
        breach: Breach::NoBody,
    })
}

#[inline]
fn section<'a>(body: &Bytes, input: &'a [u8], limits: &Limits) -> Parsed<'a, Section> {
    let (rest, kind) = parse::byte(Field::SectionKind, input)?;
    match kind {
        KIND_BODY => {
            let (rest, document) = parse::document(rest, limits.max_document_len)?;
            Ok((rest, Section::Body(Document::within(body, document))))
        }
        KIND_SEQUENCE => {
            let (rest, sequence) = sequence(body, rest)?;
            Ok((rest, Section::DocumentSequence(sequence)))
        }
        found => parse::fail(input, Breach::SectionKind { found }),
    }
}

/// A sequence after its kind byte.
fn sequence<'a>(body: &Bytes, input: &'a [u8]) -> Parsed<'a, DocumentSequence> {
    let (rest, content) = parse::sequence_content(input)?;
    let (documents, identifier) = parse::cstring(Field::Identifier, content)?;
    let identifier = ByteStr::within(body, identifier);
    let documents = DocumentList::within(body, documents, Header::LEN);
    Ok((
        rest,
        DocumentSequence {
            identifier,
            documents,
        },
    ))
}

#[cfg(test)]
mod tests;
