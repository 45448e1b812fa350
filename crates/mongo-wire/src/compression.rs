//! `OP_COMPRESSED`: another message inside, compressed (compression/OP_COMPRESSED.md).

mod deflate;
mod inflate;

use std::fmt;

use bytes::{BufMut, BytesMut};

use crate::{
    error::{Breach, DecodeError, Defect, EncodeError, Field, Limit},
    frame::{self, Frame},
    header::{Header, OpCode},
    limits::Limits,
    parse::{self, Parsed, Problem},
};

/// `originalOpcode`, `uncompressedSize` and `compressorId`.
const PREFIX_LEN: usize = 9;

/// Commands that go uncompressed whatever was negotiated: handshakes and all that carries
/// secrets, so that the length of a compressed message tells nothing about them.
pub const NEVER_COMPRESSED: [&str; 12] = [
    "hello",
    "isMaster",
    "ismaster",
    "saslStart",
    "saslContinue",
    "getnonce",
    "authenticate",
    "createUser",
    "updateUser",
    "copydbSaslStart",
    "copydbgetnonce",
    "copydb",
];

/// Whether a command may be compressed, by its name.
pub fn may_compress(command_name: &str) -> bool {
    !NEVER_COMPRESSED.contains(&command_name)
}

/// A compression method. Every build knows all of them by name and id; it can use those whose
/// cargo features are on, which [`is_built_in`](Self::is_built_in) tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compressor {
    /// Id 0: the message as it is, for tests. Servers refuse it unless told otherwise.
    Noop,
    /// Id 1: the raw block format of Snappy, without its framing.
    Snappy,
    /// Id 2: the zlib format. The level matters only when writing.
    Zlib(ZlibLevel),
    /// Id 3: Zstandard, at the library's default level.
    Zstd,
}

impl Compressor {
    /// The compressor of a `compressorId`.
    pub const fn from_id(id: u8) -> Option<Self> {
        match id {
            0 => Some(Self::Noop),
            1 => Some(Self::Snappy),
            2 => Some(Self::Zlib(ZlibLevel::DEFAULT)),
            3 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The compressor of a name in a handshake's `compression` array; names are lower-case.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "noop" => Some(Self::Noop),
            "snappy" => Some(Self::Snappy),
            "zlib" => Some(Self::Zlib(ZlibLevel::DEFAULT)),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// `compressorId`.
    pub const fn id(self) -> u8 {
        match self {
            Self::Noop => 0,
            Self::Snappy => 1,
            Self::Zlib(_) => 2,
            Self::Zstd => 3,
        }
    }

    /// The name in handshakes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Noop => "noop",
            Self::Snappy => "snappy",
            Self::Zlib(_) => "zlib",
            Self::Zstd => "zstd",
        }
    }

    /// Whether this build can use it.
    pub const fn is_built_in(self) -> bool {
        match self {
            Self::Noop => true,
            Self::Snappy => cfg!(feature = "snappy"),
            Self::Zlib(_) => cfg!(feature = "zlib"),
            Self::Zstd => cfg!(feature = "zstd"),
        }
    }
}

impl fmt::Display for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How hard zlib tries: -1 (its default) or 0 (none) to 9 (most), `zlibCompressionLevel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ZlibLevel(i8);

impl ZlibLevel {
    /// The library's own choice.
    pub const DEFAULT: Self = Self(-1);

    /// A level, if it is one of -1 to 9.
    pub fn new(level: i32) -> Option<Self> {
        i8::try_from(level)
            .ok()
            .filter(|level| (-1..=9).contains(level))
            .map(Self)
    }

    /// The level.
    pub const fn get(self) -> i8 {
        self.0
    }
}

impl Default for ZlibLevel {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Frame {
    /// The compressor named in an `OP_COMPRESSED` frame; `None` for other frames, and for ids
    /// nobody defined.
    pub fn compressor(&self) -> Option<Compressor> {
        if self.header.op_code != OpCode::OP_COMPRESSED {
            return None;
        }
        Compressor::from_id(*self.body.get(PREFIX_LEN - 1)?)
    }

    /// The plain message inside an `OP_COMPRESSED` frame; any other frame comes back as it is.
    ///
    /// The size the peer declares is held against the limits first, inflation never goes beyond
    /// it, and the payload must hold exactly that much.
    ///
    /// # Errors
    /// When a field is cut short, the declared size exceeds a limit or is wrong, the payload is
    /// corrupt, the message inside is compressed again, or the compressor is unknown or not
    /// built in.
    pub fn decompress(self, limits: &Limits) -> Result<Self, DecodeError> {
        if self.header.op_code != OpCode::OP_COMPRESSED {
            return Ok(self);
        }
        let Prefix {
            op_code,
            size,
            compressor,
        } = prefix(&self.body, limits)
            .map(|(_, prefix)| prefix)
            .map_err(|error| parse::locate(error, &self.body, Header::LEN))?;
        let id_offset = Header::LEN + PREFIX_LEN - 1;
        if !compressor.is_built_in() {
            return Err(DecodeError::Incompatible {
                offset: id_offset,
                compressor,
            });
        }
        let payload = self.body.slice(PREFIX_LEN..);
        let body = inflate::inflate(compressor, &payload, size).map_err(|defect| {
            let offset = Header::LEN + PREFIX_LEN;
            DecodeError::Malformed { offset, defect }
        })?;
        let message_length = u32::try_from(Header::LEN + size).unwrap_or(u32::MAX);
        Ok(Self {
            header: Header {
                message_length,
                op_code,
                ..self.header
            },
            body,
        })
    }

    /// The frame inside an `OP_COMPRESSED` one.
    ///
    /// # Errors
    /// When the frame is compressed already, the compressor is not built in or the result is
    /// longer than the limit.
    pub fn compress(&self, compressor: Compressor, limits: &Limits) -> Result<Self, EncodeError> {
        if self.header.op_code == OpCode::OP_COMPRESSED {
            return Err(EncodeError::Misuse(Breach::NestedCompression));
        }
        frame::encoded_length(self.len(), limits)?;
        let payload = deflate::deflate(compressor, &self.body)?;
        let body_len = PREFIX_LEN + payload.len();
        let message_length = frame::encoded_length(Header::LEN + body_len, limits)?;
        let mut body = BytesMut::with_capacity(body_len);
        put_body(
            self.header.op_code,
            self.body.len(),
            compressor,
            &payload,
            &mut body,
        );
        let op_code = OpCode::OP_COMPRESSED;
        let header = Header {
            message_length,
            op_code,
            ..self.header
        };
        Ok(Self {
            header,
            body: body.freeze(),
        })
    }
}

/// Appends a plain message, as it stands on the wire, in compressed form.
///
/// One that grows beyond the limit when compressed stays plain, as any peer accepts that.
pub(crate) fn put_compressed(
    plain: &[u8],
    compressor: Compressor,
    dst: &mut BytesMut,
    limits: &Limits,
) -> Result<(), EncodeError> {
    let (head, body) = plain.split_first_chunk().expect("a message has a header");
    let header = Header::parse(head, limits).expect("the message was just written");
    let payload = deflate::deflate(compressor, body)?;
    let len = Header::LEN + PREFIX_LEN + payload.len();
    let Ok(message_length) = frame::encoded_length(len, limits) else {
        dst.put_slice(plain);
        return Ok(());
    };
    dst.reserve(len);
    Header {
        message_length,
        op_code: OpCode::OP_COMPRESSED,
        ..header
    }
    .put(dst);
    put_body(header.op_code, body.len(), compressor, &payload, dst);
    Ok(())
}

/// Appends what follows the header of an `OP_COMPRESSED`.
fn put_body(
    op_code: OpCode,
    size: usize,
    compressor: Compressor,
    payload: &[u8],
    dst: &mut BytesMut,
) {
    dst.put_i32_le(op_code.0);
    dst.put_u32_le(u32::try_from(size).expect("a message's length fits 31 bits"));
    dst.put_u8(compressor.id());
    dst.put_slice(payload);
}

struct Prefix {
    op_code: OpCode,
    size: usize,
    compressor: Compressor,
}

fn prefix<'a>(body: &'a [u8], limits: &Limits) -> Parsed<'a, Prefix> {
    let (size_at, op_code) = parse::int32(Field::OriginalOpcode, body)?;
    let op_code = OpCode(op_code);
    if op_code == OpCode::OP_COMPRESSED {
        return parse::fail(body, Breach::NestedCompression);
    }
    let (id_at, found) = parse::int32(Field::UncompressedSize, size_at)?;
    let Ok(size) = usize::try_from(found) else {
        return parse::fail(size_at, Defect::UncompressedSize { found });
    };
    for (limit, found) in [
        (Limit::InflatedLength, size),
        (Limit::MessageLength, size.saturating_add(Header::LEN)),
    ] {
        let maximum = limits.maximum(limit);
        if found > maximum {
            return parse::fail(
                size_at,
                Problem::Limit {
                    limit,
                    maximum,
                    found,
                },
            );
        }
    }
    let (payload, id) = parse::byte(Field::CompressorId, id_at)?;
    match Compressor::from_id(id) {
        Some(compressor) => Ok((
            payload,
            Prefix {
                op_code,
                size,
                compressor,
            },
        )),
        None => parse::fail(id_at, Breach::UnknownCompressor { found: id }),
    }
}

#[cfg(test)]
mod tests;
