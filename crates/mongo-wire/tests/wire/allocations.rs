//! What decoding costs in memory, counted by an allocator.

use allocation_counter::measure;
use bytes::{Bytes, BytesMut};
use mongo_wire::{CommandReply, Document, Limits, Message, OpMsg, decode};
use proptest::prelude::*;

use crate::common::{self, around, compressors, limits};

fn blob(len: usize) -> Document {
    let data = vec![7; len];
    let size = u32::try_from(len).unwrap().to_le_bytes();
    let elements = [&b"\x05blob\0"[..], &size, &[0], &data].concat();
    Document::from_bytes(around(&elements)).unwrap()
}

#[test]
fn decoding_allocates_the_section_list_whatever_the_size() {
    for len in [200, 600_000, 16_000_000] {
        let message = Message::from(OpMsg::new(1, blob(len)));
        let mut src = BytesMut::new();
        for _ in 0..2 {
            message.encode(&mut src, &limits()).unwrap();
        }
        // The first split makes the buffer shared, which is one small allocation a buffer.
        let first = measure(|| assert!(decode(&mut src, &limits()).unwrap().is_some()));
        assert!(
            first.count_total <= 2 && first.bytes_total < 256,
            "{len}: {first:?}"
        );
        let mut wire = BytesMut::new();
        message.encode(&mut wire, &limits()).unwrap();
        let second = measure(|| assert!(decode(&mut src, &limits()).unwrap().is_some()));
        assert_eq!(second.count_total, 1, "{len}: {second:?}");
        assert!(second.bytes_total <= 128, "{len}: {second:?}");
    }
}

#[test]
fn unfinished_messages_cost_nothing() {
    let mut src = BytesMut::from(&40_000_000_u32.to_le_bytes()[..]);
    src.extend_from_slice(&[0; 400]);
    let counted = measure(|| assert!(decode(&mut src, &limits()).unwrap().is_none()));
    assert_eq!(counted.count_total, 0);
}

fn reply(events: usize) -> CommandReply {
    let event = blob(600);
    let mut array = Vec::new();
    for index in 0..events {
        array.extend([&[3], index.to_string().as_bytes(), &[0], event.as_bytes()].concat());
    }
    let batch = [&b"\x04nextBatch\0"[..], &around(&array)].concat();
    let rest = b"\x02ns\0\x04\0\0\0d.c\0\x12id\0\0\0\0\0\0\0\0\0";
    let cursor = around(&[&batch[..], rest].concat());
    let elements = [&b"\x03cursor\0"[..], &cursor, b"\x10ok\0\x01\0\0\0"].concat();
    // One clone makes the buffer shared, as one that was split off a stream's buffer is.
    let bytes = Bytes::from(around(&elements));
    CommandReply::new(Document::from_bytes(bytes.clone()).unwrap())
}

#[test]
fn reading_a_reply_and_its_events_allocates_nothing() {
    let reply = reply(1000);
    let counted = measure(|| {
        assert!(reply.is_ok().unwrap());
        assert!(reply.server_error().unwrap().is_none());
        let cursor = reply.cursor().unwrap();
        assert_eq!(cursor.namespace, "d.c");
        assert_eq!(cursor.batch.documents().filter(Result::is_ok).count(), 1000);
        #[cfg(feature = "bson")]
        assert_eq!(cursor.batch.iter().filter(Result::is_ok).count(), 1000);
    });
    assert_eq!(counted.count_total, 0, "{counted:?}");
}

/// What a decompressor needs for itself; zstd's state is outside this allocator.
const STATE: u64 = 128 * 1024;

fn assert_bounded(mut src: BytesMut, limits: &Limits) {
    let counted = measure(|| drop(decode(&mut src, limits)));
    let bound = STATE + u64::try_from(limits.max_inflated_len).unwrap();
    assert!(counted.bytes_max <= bound, "{counted:?}");
}

proptest! {
    #[test]
    fn hostile_bytes_allocate_no_more_than_the_limits(
        frame in common::arbitrary_frame(),
        damaged in common::mutated_message(),
    ) {
        let limits = Limits { max_inflated_len: 1 << 12, ..limits() };
        assert_bounded(frame, &limits);
        assert_bounded(damaged, &limits);
    }
}

#[test]
fn bombs_are_refused_before_they_unfold() {
    let message = Message::from(OpMsg::new(1, blob(4_000_000)));
    let limits = Limits {
        max_inflated_len: 1 << 20,
        ..limits()
    };
    for compressor in compressors() {
        let mut bomb = BytesMut::new();
        message
            .encode_compressed(&mut bomb, compressor, &common::limits())
            .unwrap();
        // With its true size it exceeds the limit; with a lie it holds more than it declares.
        assert_bounded(bomb.clone(), &limits);
        assert!(decode(&mut bomb.clone(), &limits).is_err());
        bomb[20..24].copy_from_slice(&(1_u32 << 20).to_le_bytes());
        assert_bounded(bomb.clone(), &limits);
        assert!(decode(&mut bomb, &limits).is_err());
    }
}
