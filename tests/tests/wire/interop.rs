//! A real mongod.

use bson::{RawDocumentBuf, rawdoc};
use mongo_wire::{
    Breach, CommandReply, DecodeError, Document, DocumentList, DocumentSequence, Flags, Frame,
    Limits, Message, OpCode, OpMsg, OpQuery,
};

use crate::peer::{Peer, assert_ok, compressors, encoded, opened};

fn ping() -> RawDocumentBuf {
    rawdoc! { "ping": 1, "$db": "admin" }
}

fn documents(count: i32) -> Vec<Document> {
    (0..count)
        .map(|id| Document::from(rawdoc! { "_id": id, "text": "event ".repeat(20) }))
        .collect()
}

fn sequence(identifier: &str, documents: &[Document]) -> DocumentSequence {
    DocumentSequence::new(identifier, DocumentList::from_documents(documents))
}

/// An insert whose documents stand beside the command.
fn insert(peer: &mut Peer, collection: &str, documents: &[Document]) -> OpMsg {
    let command = rawdoc! { "insert": collection, "$db": "wire" };
    peer.request(command)
        .with_sequence(sequence("documents", documents))
}

/// Puts documents into a new collection.
fn filled(peer: &mut Peer, collection: &str, count: i32) {
    let request = insert(peer, collection, &documents(count));
    let reply = peer.run(request);
    assert_eq!(reply.body().as_raw().get_i32("n").unwrap(), count);
}

fn stored(peer: &mut Peer, collection: &str) -> Vec<Document> {
    let find =
        rawdoc! { "find": collection, "sort": { "_id": 1 }, "batchSize": 10_000, "$db": "wire" };
    let batch = peer.run_command(find).cursor().unwrap().batch;
    batch.documents().collect::<Result<_, _>>().unwrap()
}

#[test]
fn checksummed_request_gets_a_checksummed_reply() {
    let mut peer = Peer::connect();
    let request = peer.request(ping()).with_flags(Flags::CHECKSUM_PRESENT);
    peer.send_message(&request.into(), None);
    let frame = peer.read_frame().unwrap();
    let reply = opened(frame.clone());
    assert!(reply.flags.contains(Flags::CHECKSUM_PRESENT));
    assert_ok(&reply);

    let mut body = frame.body.to_vec();
    body[10] ^= 1;
    let damaged = Frame {
        body: body.into(),
        ..frame
    };
    let error = Message::from_frame(damaged, &Limits::default()).unwrap_err();
    let is_checksum = matches!(
        error,
        DecodeError::Violation {
            breach: Breach::Checksum { .. },
            ..
        }
    );
    assert!(is_checksum, "{error}");
}

#[test]
fn wrong_checksum_drops_the_connection() {
    let mut peer = Peer::connect();
    let request = peer.request(ping()).with_flags(Flags::CHECKSUM_PRESENT);
    let mut bytes = encoded(&request.into(), None);
    *bytes.last_mut().unwrap() ^= 1;
    peer.send(&bytes);
    assert_eq!(peer.read_frame(), None);
}

#[test]
fn every_compressor_works_both_ways() {
    for compressor in compressors() {
        let mut peer = Peer::connect();
        peer.negotiate(compressor);
        let collection = compressor.name();
        for flags in [Flags::empty(), Flags::CHECKSUM_PRESENT] {
            let request = insert(&mut peer, collection, &documents(500)).with_flags(flags);
            let bytes = encoded(&request.into(), Some(compressor));
            assert!(
                bytes.len() < 20_000,
                "{} bytes by {compressor}",
                bytes.len()
            );
            peer.send(&bytes);
            let frame = peer.read_frame().unwrap();
            assert_eq!(frame.compressor().map(|c| c.id()), Some(compressor.id()));
            assert_ok(&opened(frame));

            let find = rawdoc! { "find": collection, "batchSize": 1_000, "$db": "wire" };
            let request = peer.request(find).with_flags(flags);
            peer.send_message(&request.into(), Some(compressor));
            let frame = peer.read_frame().unwrap();
            assert_eq!(frame.compressor().map(|c| c.id()), Some(compressor.id()));
            let reply = CommandReply::new(opened(frame).body().clone());
            let batch = reply.cursor().unwrap().batch;
            assert_eq!(
                batch.documents().collect::<Result<Vec<_>, _>>(),
                Ok(documents(500))
            );
            peer.run_command(rawdoc! { "drop": collection, "$db": "wire" });
        }
    }
}

#[test]
fn handshakes_stay_uncompressed() {
    let mut peer = Peer::connect();
    for compressor in compressors() {
        peer.negotiate(compressor);
        let hello = peer.request(rawdoc! { "hello": 1, "$db": "admin" });
        let bytes = encoded(&hello.clone().into(), Some(compressor));
        assert_eq!(bytes, encoded(&hello.into(), None));
        peer.send(&bytes);
        assert_ok(&peer.read());
    }
}

#[test]
fn document_sequences_are_taken_wherever_they_stand() {
    let mut peer = Peer::connect();
    filled(&mut peer, "sequence_last", 100);
    assert_eq!(stored(&mut peer, "sequence_last"), documents(100));

    let mut request = insert(&mut peer, "sequence_first", &documents(100));
    request.sections.reverse();
    assert_eq!(request.sections.len(), 2);
    peer.run(request);
    assert_eq!(stored(&mut peer, "sequence_first"), documents(100));

    let update = rawdoc! { "q": { "_id": 3 }, "u": { "$set": { "text": "new" } } };
    let updates = sequence("updates", &[Document::from(update)]);
    let command = rawdoc! { "update": "sequence_last", "$db": "wire" };
    let request = peer.request(command).with_sequence(updates);
    let reply = peer.run(request);
    assert_eq!(reply.body().as_raw().get_i32("nModified").unwrap(), 1);
}

#[test]
fn empty_sequence_is_a_message_that_the_server_answers() {
    let mut peer = Peer::connect();
    let request = insert(&mut peer, "nothing", &[]);
    peer.send_message(&request.into(), None);
    let reply = CommandReply::new(peer.read().body().clone());
    let error = reply.server_error().unwrap().unwrap();
    assert_eq!(error.code_name.as_deref(), Some("InvalidLength"), "{error}");
    peer.run_command(ping());
}

/// Reads an exhaust chain to its end; each reply must answer the one before.
fn chain(peer: &mut Peer, request: OpMsg) -> Vec<OpMsg> {
    let mut answered = request.request_id;
    peer.send_message(&request.into(), None);
    let mut replies = Vec::new();
    loop {
        let reply = peer.read();
        assert_eq!(reply.response_to, answered, "reply {}", replies.len());
        assert_ok(&reply);
        answered = reply.request_id;
        let more = reply.more_to_come();
        replies.push(reply);
        if !more {
            return replies;
        }
    }
}

#[test]
fn exhaust_get_more_is_a_chain_of_replies() {
    let mut peer = Peer::connect();
    filled(&mut peer, "exhaust", 10);
    let find = rawdoc! { "find": "exhaust", "batchSize": 2, "$db": "wire" };
    let cursor = peer.run_command(find).cursor().unwrap().id;
    let more =
        rawdoc! { "getMore": cursor, "collection": "exhaust", "batchSize": 2, "$db": "wire" };
    let request = peer.request(more).with_flags(Flags::EXHAUST_ALLOWED);
    let replies = chain(&mut peer, request);
    let cursors: Vec<_> = replies
        .iter()
        .map(|reply| CommandReply::new(reply.body().clone()).cursor().unwrap())
        .collect();
    let count: usize = cursors
        .iter()
        .map(|cursor| cursor.batch.iter().count())
        .sum();
    assert_eq!(count, 8);
    assert!(replies.len() >= 4);
    assert!(
        cursors
            .iter()
            .rev()
            .skip(1)
            .all(|before| before.id == cursor)
    );
    assert_eq!(cursors.last().unwrap().id, 0);
    // The chain is over: the connection takes requests again.
    peer.run_command(ping());
}

#[test]
fn exhaust_change_stream_sends_events_unasked() {
    let mut writer = Peer::connect();
    writer.run_command(rawdoc! { "create": "streamed", "$db": "wire" });
    let mut peer = Peer::connect();
    let open = rawdoc! {
        "aggregate": "streamed", "pipeline": [{ "$changeStream": {} }], "cursor": {}, "$db": "wire",
    };
    let cursor = peer.run_command(open).cursor().unwrap().id;
    let more = rawdoc! { "getMore": cursor, "collection": "streamed", "$db": "wire" };
    let request = peer.request(more).with_flags(Flags::EXHAUST_ALLOWED);
    let mut answered = request.request_id;
    peer.send_message(&request.into(), None);
    let (mut sent, mut seen) = (0, 0);
    while seen < 3 {
        if sent == seen {
            writer.run_command(
                rawdoc! { "insert": "streamed", "documents": [{ "_id": sent }], "$db": "wire" },
            );
            sent += 1;
        }
        let reply = peer.read();
        assert_eq!(reply.response_to, answered);
        assert!(reply.more_to_come());
        answered = reply.request_id;
        let cursor = CommandReply::new(reply.body().clone()).cursor().unwrap();
        assert!(cursor.post_batch_resume_token.is_some());
        seen += i32::try_from(cursor.batch.iter().count()).unwrap();
    }
}

#[test]
fn unknown_required_flags_drop_the_connection_and_optional_ones_do_not() {
    for bit in [2, 7, 15] {
        let mut peer = Peer::connect();
        let mut bytes = encoded(&peer.request(ping()).into(), None);
        bytes[16..20].copy_from_slice(&(1_u32 << bit).to_le_bytes());
        peer.send(&bytes);
        assert_eq!(peer.read_frame(), None, "bit {bit}");
    }
    let mut peer = Peer::connect();
    let request = peer.request(ping()).with_flags(Flags::from_bits(1 << 31));
    peer.run(request);
}

#[test]
fn request_with_more_to_come_is_not_answered() {
    let mut peer = Peer::connect();
    let request = insert(&mut peer, "unanswered", &documents(3)).with_flags(Flags::MORE_TO_COME);
    let mut body = request.body().to_raw_document_buf();
    body.append(bson::cstr!("writeConcern"), rawdoc! { "w": 0 });
    let mut request = request;
    request.sections[0] = mongo_wire::Section::Body(body.into());
    peer.send_message(&request.into(), None);
    // The next reply answers this one.
    assert_eq!(stored(&mut peer, "unanswered"), documents(3));
}

#[test]
fn oldest_handshake_is_a_query_and_its_reply() {
    let mut peer = Peer::connect();
    let query = OpQuery::command(77, "admin", rawdoc! { "isMaster": 1 }.into());
    peer.send_message(&Message::Query(query), None);
    let frame = peer.read_frame().unwrap();
    assert_eq!(frame.header.op_code, OpCode::OP_REPLY);
    let Message::Reply(reply) = Message::from_frame(frame.clone(), &Limits::default()).unwrap()
    else {
        panic!("{frame:?}");
    };
    assert_eq!(reply.response_to, 77);
    let documents: Vec<_> = reply.documents.iter().collect::<Result<_, _>>().unwrap();
    assert_eq!(documents.len(), 1);
    assert!(CommandReply::new(documents[0].clone()).is_ok().unwrap());
    let again = encoded(&Message::Reply(reply), None);
    assert_eq!(
        again[16..],
        frame.body,
        "it is written as the server wrote it"
    );
}
