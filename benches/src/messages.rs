//! Replies with batches of change events, as long as is wanted.

use bytes::{BufMut, Bytes, BytesMut};
use mongo_wire::{Compressor, Document, Flags, Frame, Header, Limits, Message, OpCode, OpMsg};
use testbed::replay::{Replay, get_more_reply, order};

/// The sizes of messages, in bytes, and what they are called in tables.
pub const SIZES: [(usize, &str); 3] = [(200, "200 B"), (600_000, "600 KB"), (16_000_000, "16 MB")];

/// The reply to a getMore with so many events of 600 bytes.
#[must_use]
pub fn reply(events: i32) -> Document {
    get_more_reply(&Replay::of_orders(events, 0).events)
}

/// A message of about this many bytes.
///
/// # Panics
/// Never: the sizes are within the limits.
#[must_use]
pub fn message(size: usize, flags: Flags) -> OpMsg {
    let per_event = order(0).as_bytes().len() + 6;
    let events = size.saturating_sub(100) / per_event;
    let body = reply(i32::try_from(events).expect("a few thousand"));
    OpMsg::new(7, body).in_response_to(6).with_flags(flags)
}

/// A message's bytes.
///
/// # Panics
/// Never, for messages made here.
#[must_use]
pub fn wire(message: &OpMsg) -> BytesMut {
    let mut wire = BytesMut::new();
    message
        .encode(&mut wire, &Limits::default())
        .expect("within the limits");
    wire
}

/// A message as a frame, compressed or not.
///
/// # Panics
/// Never, for messages made here.
#[must_use]
pub fn frame(message: &OpMsg, compressor: Option<Compressor>) -> Frame {
    let mut wire = BytesMut::new();
    let message = Message::from(message.clone());
    let limits = Limits::default();
    match compressor {
        Some(compressor) => message.encode_compressed(&mut wire, compressor, &limits),
        None => message.encode(&mut wire, &limits),
    }
    .expect("within the limits");
    Frame::decode(&mut wire, &limits)
        .ok()
        .flatten()
        .expect("a whole message")
}

/// So many messages of this size one after the other, made without writing what decoding does not
/// read: pages that nobody touches cost nothing, and setting up does not outweigh the measurement.
///
/// # Panics
/// Never: the sizes are within the limits.
#[must_use]
pub fn hollow_stream(size: usize, count: usize) -> BytesMut {
    const BEFORE_BODY: usize = Header::LEN + 5;
    let word = |number: usize| u32::try_from(number).expect("it fits");
    let header = Header {
        message_length: word(size),
        request_id: 7,
        response_to: 6,
        op_code: OpCode::OP_MSG,
    };
    let mut start = BytesMut::from(&header.to_bytes()[..]);
    start.put_slice(&[0; 5]);
    start.put_u32_le(word(size - BEFORE_BODY));
    let start: Bytes = start.freeze();
    let mut stream = BytesMut::zeroed(size * count);
    for message in stream.chunks_exact_mut(size) {
        message[..start.len()].copy_from_slice(&start);
        // Touches the page of the closing zero.
        message[size - 1] = 0;
    }
    stream
}
