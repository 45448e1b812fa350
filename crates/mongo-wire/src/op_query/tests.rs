use super::*;
use crate::{
    Message, decode,
    error::Limit,
    testing::{EMPTY, PING, document, frame, wire},
};

const ADMIN_CMD: &str = "61646d696e2e24636d6400";

fn read(op_code: OpCode, body: &str) -> Result<Message, DecodeError> {
    Message::from_frame(frame(op_code, body), &Limits::default())
}

#[test]
fn handshake_query_is_read_and_written_alike() {
    let plain = OpQuery {
        response_to: 9,
        ..OpQuery::command(7, "admin", document(PING))
    };
    let selecting = OpQuery {
        flags: 4,
        number_to_skip: 2,
        return_fields_selector: Some(document(EMPTY)),
        ..plain.clone()
    };
    let table = [
        (
            format!("00000000 {ADMIN_CMD} 00000000 ffffffff {PING}"),
            plain,
        ),
        (
            format!("04000000 {ADMIN_CMD} 02000000 ffffffff {PING} {EMPTY}"),
            selecting,
        ),
    ];
    for (bytes, query) in table {
        assert_eq!(
            read(OpCode::OP_QUERY, &bytes),
            Ok(Message::Query(query.clone()))
        );
        let mut written = BytesMut::new();
        query.encode(&mut written, &Limits::default()).unwrap();
        assert_eq!(written, wire(&frame(OpCode::OP_QUERY, &bytes)));
    }
}

#[test]
fn handshake_reply_is_read_and_written_alike() {
    let one = OpReply {
        flags: 8,
        ..OpReply::new(7, 9, &document(PING))
    };
    let none = OpReply {
        cursor_id: -2,
        documents: DocumentList::default(),
        ..one.clone()
    };
    let table = [
        (
            format!("08000000 0000000000000000 00000000 01000000 {PING}"),
            one,
        ),
        (
            "08000000 feffffffffffffff 00000000 00000000".to_owned(),
            none,
        ),
    ];
    for (bytes, reply) in table {
        assert_eq!(
            read(OpCode::OP_REPLY, &bytes),
            Ok(Message::Reply(reply.clone()))
        );
        let mut written = BytesMut::new();
        reply.encode(&mut written, &Limits::default()).unwrap();
        assert_eq!(written, wire(&frame(OpCode::OP_REPLY, &bytes)));
    }
}

#[test]
fn refused_queries_and_replies_tell_why() {
    let malformed = |offset, defect| DecodeError::Malformed { offset, defect };
    let truncated = |expected, left| Defect::Truncated { expected, left };
    let (query, reply) = (OpCode::OP_QUERY, OpCode::OP_REPLY);
    let numbers = "00000000 ffffffff";
    let table = [
        (
            "no flags",
            query,
            String::new(),
            malformed(16, truncated(Field::Flags, 0)),
        ),
        (
            "name without an end",
            query,
            "00000000 6161".into(),
            malformed(
                20,
                Defect::Unterminated {
                    expected: Field::FullCollectionName,
                    left: 2,
                },
            ),
        ),
        (
            "numberToSkip cut short",
            query,
            "00000000 6100 00".into(),
            malformed(22, truncated(Field::NumberToSkip, 1)),
        ),
        (
            "numberToReturn missing",
            query,
            "00000000 6100 00000000".into(),
            malformed(26, truncated(Field::NumberToReturn, 0)),
        ),
        (
            "no query",
            query,
            format!("00000000 6100 {numbers}"),
            malformed(30, truncated(Field::DocumentLength, 0)),
        ),
        (
            "bytes after the selector",
            query,
            format!("00000000 6100 {numbers} {EMPTY} {EMPTY} 00"),
            malformed(40, Defect::TrailingBytes { found: 1 }),
        ),
        (
            "cursor id cut short",
            reply,
            "00000000 000000".into(),
            malformed(20, truncated(Field::CursorId, 3)),
        ),
        (
            "more documents than announced",
            reply,
            format!("00000000 0000000000000000 00000000 01000000 {EMPTY} {EMPTY}"),
            malformed(
                32,
                Defect::DocumentCount {
                    expected: 1,
                    found: 2,
                },
            ),
        ),
        (
            "negative number of documents",
            reply,
            "00000000 0000000000000000 00000000 ffffffff".into(),
            malformed(
                32,
                Defect::DocumentCount {
                    expected: -1,
                    found: 0,
                },
            ),
        ),
        (
            "document beyond the reply",
            reply,
            "00000000 0000000000000000 00000000 01000000 06000000 00".into(),
            malformed(36, Defect::DocumentLength { left: 5, found: 6 }),
        ),
    ];
    for (name, op_code, bytes, error) in table {
        assert_eq!(read(op_code, &bytes), Err(error), "{name}");
    }
}

#[test]
fn queries_are_held_against_the_document_limit() {
    let limits = Limits {
        max_document_len: 14,
        ..Limits::default()
    };
    let mut query = BytesMut::new();
    OpQuery::command(1, "a", document(PING))
        .encode(&mut query, &Limits::default())
        .unwrap();
    let (limit, maximum, found) = (Limit::DocumentLength, 14, 15);
    let error = DecodeError::LimitExceeded {
        offset: 35,
        limit,
        maximum,
        found,
    };
    assert_eq!(decode(&mut query, &limits), Err(error));
}

#[test]
fn zero_byte_in_a_collection_name_is_not_written() {
    let mut dst = BytesMut::new();
    let query = OpQuery::command(1, "a\0b", document(PING));
    let error = EncodeError::ZeroByte {
        field: Field::FullCollectionName,
        offset: 1,
    };
    assert_eq!(query.encode(&mut dst, &Limits::default()), Err(error));
    assert!(dst.is_empty());
}
