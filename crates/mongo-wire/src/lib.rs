//! mongo-wire: MongoDB messages from bytes and back.

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
pub use error::{Breach, DecodeError, Defect, EncodeError, Field, Inflated, Limit};
pub use frame::{Frame, bytes_wanted};
pub use header::{Header, OpCode};
pub use limits::Limits;
pub use message::{Message, decode};
pub use op_msg::{DocumentSequence, Flags, OpMsg, Section};
pub use op_query::{OpQuery, OpReply};
#[cfg(feature = "bson")]
pub use reply::BatchIter;
pub use reply::{Batch, BatchDocuments, CommandReply, CursorReply, ReplyError, ServerError};

#[cfg(test)]
mod testing;
