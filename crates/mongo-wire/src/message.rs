//! The second level: what a frame holds, as slices of it.

use bytes::BytesMut;

use crate::{
    compression::{self, Compressor, may_compress},
    error::{DecodeError, EncodeError},
    frame::Frame,
    header::OpCode,
    limits::Limits,
    op_msg::OpMsg,
    op_query::{OpQuery, OpReply},
};

/// One message, decompressed if it came compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Message {
    /// Requests and replies of every server since 3.6.
    Msg(OpMsg),
    /// The request of an old handshake.
    Query(OpQuery),
    /// The reply of an old handshake.
    Reply(OpReply),
    /// Anything else, to be passed on as it is.
    Opaque(Frame),
}

impl Message {
    /// Reads what a frame holds; the frame's bytes are shared, not copied, unless they have to be
    /// inflated. A frame of an opcode this crate does not read becomes [`Message::Opaque`].
    ///
    /// # Errors
    /// When the content is malformed, breaks the protocol or exceeds a limit.
    #[inline]
    pub fn from_frame(frame: Frame, limits: &Limits) -> Result<Self, DecodeError> {
        let frame = if frame.header.op_code == OpCode::OP_COMPRESSED {
            frame.decompress(limits)?
        } else {
            frame
        };
        match frame.header.op_code {
            OpCode::OP_MSG => OpMsg::from_frame(&frame, limits).map(Self::Msg),
            OpCode::OP_QUERY => OpQuery::from_frame(&frame, limits).map(Self::Query),
            OpCode::OP_REPLY => OpReply::from_frame(&frame, limits).map(Self::Reply),
            _ => Ok(Self::Opaque(frame)),
        }
    }

    /// Appends the message uncompressed; `dst` stays as it is on an error.
    ///
    /// # Errors
    /// When a limit is exceeded or the message would break a rule its reader enforces.
    pub fn encode(&self, dst: &mut BytesMut, limits: &Limits) -> Result<(), EncodeError> {
        match self {
            Self::Msg(message) => message.encode(dst, limits),
            Self::Query(message) => message.encode(dst, limits),
            Self::Reply(message) => message.encode(dst, limits),
            Self::Opaque(frame) => frame.encode(dst, limits),
        }
    }

    /// Appends the message inside an `OP_COMPRESSED`, unless its command is
    /// [never compressed](crate::NEVER_COMPRESSED) or it is opaque.
    ///
    /// In a reply no command is named, so whoever answers a `hello` decides for itself.
    ///
    /// # Errors
    /// As [`encode`](Self::encode), or when the compressor is not built in.
    pub fn encode_compressed(
        &self,
        dst: &mut BytesMut,
        compressor: Compressor,
        limits: &Limits,
    ) -> Result<(), EncodeError> {
        let may_compress = match self {
            Self::Msg(message) => return message.encode_compressed(dst, compressor, limits),
            Self::Query(message) => message.query.first_key().is_none_or(may_compress),
            Self::Reply(_) => true,
            Self::Opaque(_) => false,
        };
        if !compressor.is_built_in() {
            return Err(EncodeError::NotBuiltIn(compressor));
        }
        if !may_compress {
            return self.encode(dst, limits);
        }
        let mut plain = BytesMut::new();
        self.encode(&mut plain, limits)?;
        compression::put_compressed(&plain, compressor, dst, limits)
    }

    /// The opcode, of the content if the message came compressed.
    pub const fn op_code(&self) -> OpCode {
        match self {
            Self::Msg(_) => OpCode::OP_MSG,
            Self::Query(_) => OpCode::OP_QUERY,
            Self::Reply(_) => OpCode::OP_REPLY,
            Self::Opaque(frame) => frame.header.op_code,
        }
    }

    /// The sender's number for this message.
    pub const fn request_id(&self) -> i32 {
        match self {
            Self::Msg(message) => message.request_id,
            Self::Query(message) => message.request_id,
            Self::Reply(message) => message.request_id,
            Self::Opaque(frame) => frame.header.request_id,
        }
    }

    /// The message this one answers.
    pub const fn response_to(&self) -> i32 {
        match self {
            Self::Msg(message) => message.response_to,
            Self::Query(message) => message.response_to,
            Self::Reply(message) => message.response_to,
            Self::Opaque(frame) => frame.header.response_to,
        }
    }
}

impl From<OpMsg> for Message {
    fn from(message: OpMsg) -> Self {
        Self::Msg(message)
    }
}

/// Takes one message off the front of `src`: `None` means "more bytes" ([`bytes_wanted`] says how
/// many) and leaves `src` as it is.
///
/// The message's parts are slices of the bytes split off `src`.
///
/// # Errors
/// When the bytes are not an acceptable message. What is left in `src` then is unspecified, and
/// so is what a peer meant by it: close the connection. To keep the bytes of a refused message,
/// take the [`Frame`] first and read it with [`Message::from_frame`].
///
/// [`bytes_wanted`]: crate::bytes_wanted
pub fn decode(src: &mut BytesMut, limits: &Limits) -> Result<Option<Message>, DecodeError> {
    let Some(frame) = Frame::decode(src, limits)? else {
        return Ok(None);
    };
    Message::from_frame(frame, limits).map(Some)
}
