//! Messages and replies that no healthy server sends, and rare ones.

use bson::{RawDocumentBuf, rawdoc};
use bytes::{Bytes, BytesMut};
use mongo_wire::{
    Compressor, Document, DocumentList, DocumentSequence, Flags, Frame, Limits, Message, OpCode,
    OpMsg, OpQuery, OpReply, Section,
};

/// Frames of every kind that the codec reads.
pub(super) fn frames() -> Vec<Frame> {
    let ping = || Document::from(rawdoc! { "ping": 1, "$db": "admin" });
    let sequence = |name: &str, count: usize| {
        let documents = vec![Document::from(rawdoc! { "_id": 1 }); count];
        DocumentSequence::new(name, DocumentList::from_documents(&documents))
    };
    let mut body_last = OpMsg::new(3, ping()).with_sequence(sequence("documents", 2));
    body_last.sections.reverse();
    let everything = OpMsg::new(4, ping())
        .with_sequence(sequence("updates", 0))
        .with_sequence(sequence("deletes", 3))
        .with_flags(Flags::CHECKSUM_PRESENT | Flags::EXHAUST_ALLOWED);
    let mut twice = OpMsg::new(5, ping());
    twice.sections.push(Section::Body(ping()));
    let query = OpQuery {
        return_fields_selector: Some(Document::empty()),
        ..OpQuery::command(6, "admin", ping())
    };
    let messages: [Message; 7] = [
        OpMsg::new(1, ping()).into(),
        OpMsg::new(2, ping())
            .in_response_to(1)
            .with_flags(Flags::MORE_TO_COME)
            .into(),
        body_last.into(),
        everything.into(),
        twice.into(),
        Message::Query(query),
        Message::Reply(OpReply::new(7, 6, &Document::from(rawdoc! { "ok": 1 }))),
    ];
    let mut frames: Vec<Frame> = messages.iter().filter_map(frame).collect();
    let noop = frames
        .iter()
        .filter_map(|frame| frame.compress(Compressor::Noop, &limits()).ok());
    frames.extend(noop.collect::<Vec<_>>());
    frames.extend(Frame::new(
        8,
        0,
        OpCode(2_010),
        Bytes::from_static(b"???"),
        &limits(),
    ));
    frames
}

/// The elements of replies with everything the reader looks for.
pub(super) fn replies() -> Vec<Vec<u8>> {
    let time = bson::Timestamp {
        time: 1,
        increment: 2,
    };
    let cursor = |batch: &str| {
        let mut cursor = RawDocumentBuf::new();
        cursor.append(bson::cstr!("id"), 5_i64);
        cursor.append(bson::cstr!("ns"), "d.c");
        let events: bson::RawArrayBuf = [
            rawdoc! { "_id": { "_data": "82" } },
            rawdoc! { "_id": { "_data": "83" } },
        ]
        .into_iter()
        .collect();
        match batch {
            "first" => cursor.append(bson::cstr!("firstBatch"), events),
            _ => cursor.append(bson::cstr!("nextBatch"), events),
        }
        cursor.append(
            bson::cstr!("postBatchResumeToken"),
            rawdoc! { "_data": "83" },
        );
        cursor
    };
    let replies = [
        rawdoc! { "cursor": cursor("first"), "ok": 1.0, "operationTime": time },
        rawdoc! { "cursor": cursor("next"), "ok": 1, "$clusterTime": { "clusterTime": time } },
        rawdoc! {
            "ok": 0, "errmsg": "not primary", "code": 10107, "codeName": "NotWritablePrimary",
            "errorLabels": ["RetryableWriteError", "ResumableChangeStreamError"],
        },
        rawdoc! { "ok": true, "writeConcernError": { "code": 64, "errmsg": "timed out" } },
        rawdoc! { "$err": "not master", "code": 10107_i64 },
    ];
    replies
        .iter()
        .map(|reply| reply.as_bytes()[4..reply.as_bytes().len() - 1].to_vec())
        .collect()
}

fn limits() -> Limits {
    Limits::default()
}

/// The message as a frame; `None` for one that the encoder refuses.
fn frame(message: &Message) -> Option<Frame> {
    let mut wire = BytesMut::new();
    message.encode(&mut wire, &limits()).ok()?;
    Frame::decode(&mut wire, &limits()).ok()?
}
