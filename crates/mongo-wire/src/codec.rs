//! [`Decoder`] and [`Encoder`] of tokio-util, for those who frame a stream with `Framed`.

use bytes::BytesMut;
use tokio_util::codec::{Decoder, Encoder};

use crate::{
    compression::Compressor,
    error::{DecodeError, EncodeError},
    frame::{self, Frame},
    limits::Limits,
    message::{self, Message},
    op_msg::OpMsg,
};

/// Why a framed stream stopped. After an error the connection is of no further use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The peer sent something unacceptable.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A message cannot be sent.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The stream failed, or ended within a message.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Messages over a stream.
#[derive(Clone, Debug, Default)]
pub struct MessageCodec {
    limits: Limits,
    compressor: Option<Compressor>,
}

impl MessageCodec {
    /// A codec that sends plain messages and takes plain and compressed ones.
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            compressor: None,
        }
    }

    /// From now on compresses what may be compressed; `None` stops that.
    pub const fn set_compressor(&mut self, compressor: Option<Compressor>) {
        self.compressor = compressor;
    }

    /// The limits, to be adapted to what the peer's `hello` says.
    pub const fn limits_mut(&mut self) -> &mut Limits {
        &mut self.limits
    }
}

impl Decoder for MessageCodec {
    type Item = Message;
    type Error = CodecError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Message>, CodecError> {
        let message = message::decode(src, &self.limits)?;
        make_room(message.is_none(), src, &self.limits)?;
        Ok(message)
    }
}

impl Encoder<&Message> for MessageCodec {
    type Error = CodecError;

    fn encode(&mut self, message: &Message, dst: &mut BytesMut) -> Result<(), CodecError> {
        match self.compressor {
            Some(compressor) => message.encode_compressed(dst, compressor, &self.limits)?,
            None => message.encode(dst, &self.limits)?,
        }
        Ok(())
    }
}

impl Encoder<Message> for MessageCodec {
    type Error = CodecError;

    fn encode(&mut self, message: Message, dst: &mut BytesMut) -> Result<(), CodecError> {
        self.encode(&message, dst)
    }
}

impl Encoder<OpMsg> for MessageCodec {
    type Error = CodecError;

    fn encode(&mut self, message: OpMsg, dst: &mut BytesMut) -> Result<(), CodecError> {
        self.encode(&Message::Msg(message), dst)
    }
}

/// Frames over a stream, nothing inside them looked at.
#[derive(Clone, Debug, Default)]
pub struct FrameCodec {
    limits: Limits,
}

impl FrameCodec {
    /// A codec with these limits.
    pub const fn new(limits: Limits) -> Self {
        Self { limits }
    }
}

impl Decoder for FrameCodec {
    type Item = Frame;
    type Error = CodecError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, CodecError> {
        let frame = Frame::decode(src, &self.limits)?;
        make_room(frame.is_none(), src, &self.limits)?;
        Ok(frame)
    }
}

impl Encoder<Frame> for FrameCodec {
    type Error = CodecError;

    fn encode(&mut self, frame: Frame, dst: &mut BytesMut) -> Result<(), CodecError> {
        Ok(frame.encode(dst, &self.limits)?)
    }
}

/// Room for the rest of an unfinished message at once, instead of growing towards it: its length
/// has been held against the limit.
fn make_room(unfinished: bool, src: &mut BytesMut, limits: &Limits) -> Result<(), CodecError> {
    if unfinished {
        let wanted = frame::bytes_wanted(src, limits)?;
        src.reserve(wanted);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{PING, document};

    #[test]
    fn messages_pass_a_codec_in_pieces() {
        let mut codec = MessageCodec::new(Limits::default());
        let mut bytes = BytesMut::new();
        codec
            .encode(OpMsg::new(1, document(PING)), &mut bytes)
            .unwrap();
        codec.set_compressor(Some(Compressor::Noop));
        codec
            .encode(OpMsg::new(2, document(PING)), &mut bytes)
            .unwrap();
        assert_eq!(bytes.len(), 36 + 45);
        let (mut src, mut ids) = (BytesMut::new(), Vec::new());
        for byte in bytes {
            src.extend_from_slice(&[byte]);
            ids.extend(
                codec
                    .decode(&mut src)
                    .unwrap()
                    .map(|message| message.request_id()),
            );
        }
        assert_eq!(ids, [1, 2]);
    }

    #[test]
    fn room_is_made_for_the_rest_of_a_message_within_the_limit() {
        let mut codec = FrameCodec::new(Limits {
            max_message_len: 5000,
            ..Limits::default()
        });
        let mut src = BytesMut::from(&5000_u32.to_le_bytes()[..]);
        assert!(codec.decode(&mut src).unwrap().is_none());
        assert!(src.capacity() >= 5000);
        let mut src = BytesMut::from(&5001_u32.to_le_bytes()[..]);
        let error = codec.decode(&mut src).unwrap_err();
        assert!(matches!(
            error,
            CodecError::Decode(DecodeError::LimitExceeded { .. })
        ));
    }

    #[test]
    fn stream_that_ends_within_a_message_is_an_error() {
        let mut codec = MessageCodec::default();
        let mut src = BytesMut::from(&[36, 0, 0, 0, 1][..]);
        assert!(matches!(codec.decode_eof(&mut src), Err(CodecError::Io(_))));
        assert!(codec.decode_eof(&mut BytesMut::new()).unwrap().is_none());
    }
}
