//! MongoDB's wire protocol, from bytes to messages and back, without IO.
//!
//! For authors of proxies, sniffers, fake servers and clients: bytes go in, messages come out as
//! slices of them, and the other way round. The crate opens no socket, reads no clock, owns no
//! thread and knows no cluster; it edits no document and decides nothing about sessions or `$db`.
//!
//! # The format
//!
//! ```text
//! every message         0         4         8         12        16
//!                       | length  | request | response| opcode  | what the opcode says ...
//!                       |         | id      | to      |         |
//!
//! OP_MSG         2013   | flags   | section | section | ... | CRC-32C, if flag 0 is set |
//!
//!   section, kind 0     | 00 | document                       |   the body, exactly one
//!   section, kind 1     | 01 | size    | identifier 00 | document | document | ... |
//!
//! OP_COMPRESSED  2012   | opcode  | size    | id | compressed bytes of another message |
//!                       | inside  | inflated|    | without its header                  |
//!
//! document              | length  | elements ... | 00 |
//! ```
//!
//! All numbers are little-endian. Section order is free; a CRC covers everything before it and,
//! in a compressed message, the plain message. `OP_QUERY` and `OP_REPLY` are read and written for
//! the handshakes of old peers. Any other opcode passes through as it is.
//!
//! # Three levels, each usable alone
//!
//! 1. [`Frame`]: header and bytes. [`Frame::decode`] cuts the stream, [`Frame::encode`] gives the
//!    same bytes back; [`Frame::decompress`] and [`Frame::compress`] change the envelope.
//! 2. [`Message`]: sections as slices, from [`decode`] or [`Message::from_frame`].
//! 3. [`CommandReply`]: answers to single questions about a reply (is it ok, which error, which
//!    cursor and batch), reading no further than each needs.
//!
//! # The loop
//!
//! Put what the socket gives behind a [`BytesMut`](bytes::BytesMut), call [`decode`] until it
//! says `None`, read more ([`bytes_wanted`] says how much). After an error close the connection.
//!
//! ```
//! use bytes::BytesMut;
//! use mongo_wire::{CommandReply, Document, Limits, Message, OpMsg, decode};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let limits = Limits::default();
//!
//! // {ok: 1}, as a server would send it.
//! let body = Document::from_bytes(&b"\x0d\0\0\0\x10ok\0\x01\0\0\0\0"[..])?;
//! let mut wire = BytesMut::new();
//! OpMsg::new(12, body).in_response_to(7).encode(&mut wire, &limits)?;
//!
//! let mut received = BytesMut::new();
//! for piece in wire.chunks(10) {
//!     received.extend_from_slice(piece);
//!     while let Some(message) = decode(&mut received, &limits)? {
//!         let Message::Msg(message) = message else { continue };
//!         assert_eq!(message.response_to, 7);
//!         assert!(CommandReply::new(message.body().clone()).is_ok()?);
//!     }
//! }
//! assert!(received.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! # What is checked, and when
//!
//! | When | What |
//! |---|---|
//! | first four bytes | length of at least 16 and within [`Limits`], before anything is reserved |
//! | inflating | declared size within [`Limits`], exact length, no nesting, nothing left over |
//! | decoding `OP_MSG` | required flags, checksum if present, section kinds and bounds, one body, distinct identifiers, each body's length and closing zero |
//! | decoding `OP_QUERY`, `OP_REPLY` | every field, and the length and closing zero of every document |
//! | iterating a sequence or a batch | each document's length and closing zero, as it is reached |
//! | asking a [`CommandReply`] | the elements up to the one asked for |
//! | never | what stands inside documents; that is for whoever reads them |
//!
//! Without a checksum, decoding an `OP_MSG` therefore costs the same whatever its size: one split
//! of the buffer and one list of sections. A slice keeps the buffer it came from alive;
//! [`Document::detached`] cuts a small one loose.
//!
//! Nothing a peer sends makes this crate panic. Errors are sorted by blame ([`DecodeError`]) and
//! tell the offset, what was expected and what stood there. `Debug` prints headers in hexadecimal
//! and lengths, never payloads.
//!
//! # Features
//!
//! | Feature | Default | Adds |
//! |---|---|---|
//! | `bson` | yes | views as `bson::RawDocument`: [`Document`], [`Batch`], timestamps; extended JSON |
//! | `codec` | | `MessageCodec` and `FrameCodec`, Decoders and Encoders of tokio-util |
//! | `snappy`, `zlib`, `zstd` | | the compressors; noop is always there |

mod byte_str;
#[cfg(feature = "codec")]
mod codec;
mod command_body;
mod compression;
mod document;
mod elements;
mod error;
mod frame;
mod header;
#[cfg(feature = "bson")]
mod json;
mod limits;
mod message;
mod op_msg;
mod op_query;
mod parse;
mod reply;

pub use byte_str::ByteStr;
#[cfg(feature = "codec")]
pub use codec::{CodecError, FrameCodec, MessageCodec};
pub use command_body::CommandBody;
pub use compression::{Compressor, NEVER_COMPRESSED, ZlibLevel, may_compress};
pub use document::{Document, DocumentList, DocumentListIter};
#[cfg(feature = "bson")]
pub use elements::{Element, Elements, Fault};
pub use error::{Breach, DecodeError, Defect, EncodeError, Field, Inflated, Limit};
pub use frame::{Frame, bytes_wanted};
pub use header::{Header, OpCode};
#[cfg(feature = "bson")]
pub use json::{Json, JsonError};
pub use limits::Limits;
pub use message::{Message, decode};
pub use op_msg::{DocumentSequence, Flags, OpMsg, Section};
pub use op_query::{OpQuery, OpReply};
#[cfg(feature = "bson")]
pub use reply::BatchIter;
pub use reply::{Batch, BatchDocuments, CommandReply, CursorReply, ReplyError, ServerError};

#[cfg(test)]
mod testing;

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
