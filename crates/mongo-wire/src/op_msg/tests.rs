use super::*;
use crate::{
    Defect, Message, decode,
    testing::{EMPTY, PING, document, frame, hex, wire},
};

fn read(body: &str) -> Result<OpMsg, DecodeError> {
    OpMsg::from_frame(&frame(OpCode::OP_MSG, body), &Limits::default())
}

fn sequence(identifier: &str, documents: &[&str]) -> DocumentSequence {
    let documents: Vec<_> = documents.iter().map(|text| document(text)).collect();
    DocumentSequence::new(identifier, DocumentList::from_documents(&documents))
}

/// What the peer may send, and that writing it again gives the same bytes.
#[test]
fn accepted_messages_are_read_and_written_alike() {
    let body = || OpMsg::new(7, document(PING)).in_response_to(9);
    let documents_first = OpMsg {
        sections: vec![
            Section::DocumentSequence(sequence("documents", &[EMPTY, PING])),
            Section::Body(document(PING)),
        ],
        ..body()
    };
    let table = [
        ("one body", format!("00000000 00 {PING}"), body()),
        (
            "empty sequence",
            format!("00000000 00 {PING} 01 0c000000 7570646174657300 (updates)"),
            body().with_sequence(sequence("updates", &[])),
        ),
        (
            "sequence before the body",
            format!(
                "00000000 01 22000000 646f63756d656e747300 (documents) {EMPTY} {PING} 00 {PING}"
            ),
            documents_first,
        ),
        (
            "two sequences with distinct identifiers",
            format!("00000000 00 {PING} 01 0b000000 6100 (a) {EMPTY} 01 06000000 6200 (b)"),
            body()
                .with_sequence(sequence("a", &[EMPTY]))
                .with_sequence(sequence("b", &[])),
        ),
        (
            "sequence with an empty identifier",
            format!("00000000 00 {PING} 01 05000000 00"),
            body().with_sequence(sequence("", &[])),
        ),
        (
            "moreToCome",
            format!("02000000 00 {PING}"),
            body().with_flags(Flags::MORE_TO_COME),
        ),
        (
            "exhaustAllowed",
            format!("00000100 00 {PING}"),
            body().with_flags(Flags::EXHAUST_ALLOWED),
        ),
        (
            "unknown optional flags 17 and 31",
            format!("00000280 00 {PING}"),
            body().with_flags(Flags::from_bits(1 << 31 | 1 << 17)),
        ),
    ];
    for (name, bytes, message) in table {
        assert_eq!(read(&bytes).as_ref(), Ok(&message), "{name}");
        let mut written = BytesMut::new();
        message.encode(&mut written, &Limits::default()).unwrap();
        assert_eq!(written, wire(&frame(OpCode::OP_MSG, &bytes)), "{name}");
        assert_eq!(message.encoded_len(), written.len(), "{name}");
    }
}

#[test]
fn refused_messages_tell_offset_expectation_and_finding() {
    let malformed = |offset, defect| DecodeError::Malformed { offset, defect };
    let violation = |offset, breach| DecodeError::Violation { offset, breach };
    let truncated = |expected, left| Defect::Truncated { expected, left };
    let duplicate = Breach::DuplicateIdentifier {
        identifier: "a".into(),
    };
    let table = [
        (
            "no flags",
            "0000".into(),
            malformed(16, truncated(Field::Flags, 2)),
        ),
        (
            "required flag 2",
            format!("04000000 00 {PING}"),
            violation(16, Breach::RequiredFlags { found: 4 }),
        ),
        (
            "required flags 2 and 15 beside known ones",
            format!("02800100 00 {PING}"),
            violation(16, Breach::RequiredFlags { found: 0x8000 }),
        ),
        (
            "no section",
            "00000000".into(),
            violation(20, Breach::NoBody),
        ),
        (
            "sequence but no body",
            "00000000 01 06000000 6100".into(),
            violation(27, Breach::NoBody),
        ),
        (
            "second body",
            format!("00000000 00 {PING} 00 {EMPTY}"),
            violation(36, Breach::SecondBody),
        ),
        (
            "section kind 2",
            format!("00000000 00 {PING} 02 {EMPTY}"),
            violation(36, Breach::SectionKind { found: 2 }),
        ),
        (
            "identifier twice",
            format!("00000000 00 {PING} 01 06000000 6100 01 06000000 6100"),
            violation(43, duplicate),
        ),
        (
            "body beyond the message",
            "00000000 00 06000000 00".into(),
            malformed(21, Defect::DocumentLength { left: 5, found: 6 }),
        ),
        (
            "body shorter than a document can be",
            "00000000 00 04000000".into(),
            malformed(21, Defect::DocumentLength { left: 4, found: 4 }),
        ),
        (
            "body of negative length",
            "00000000 00 ffffffff 00".into(),
            malformed(21, Defect::DocumentLength { left: 5, found: -1 }),
        ),
        (
            "body length cut short",
            "00000000 00 0500".into(),
            malformed(21, truncated(Field::DocumentLength, 2)),
        ),
        (
            "body without its closing zero",
            "00000000 00 05000000 01".into(),
            malformed(25, Defect::DocumentEnd { found: 1 }),
        ),
        (
            "sequence size cut short",
            format!("00000000 00 {PING} 01 0600"),
            malformed(37, truncated(Field::SequenceLength, 2)),
        ),
        (
            "sequence beyond the message",
            format!("00000000 00 {PING} 01 07000000 6100"),
            malformed(37, Defect::SequenceLength { left: 6, found: 7 }),
        ),
        (
            "sequence that leaves bytes over",
            format!("00000000 00 {PING} 01 06000000 6100 07"),
            violation(43, Breach::SectionKind { found: 7 }),
        ),
        (
            "sequence without room for an identifier",
            format!("00000000 00 {PING} 01 04000000"),
            malformed(37, Defect::SequenceLength { left: 4, found: 4 }),
        ),
        (
            "identifier without an end",
            format!("00000000 00 {PING} 01 06000000 6161"),
            malformed(
                41,
                Defect::Unterminated {
                    expected: Field::Identifier,
                    left: 2,
                },
            ),
        ),
        (
            "identifier that is not UTF-8",
            format!("00000000 00 {PING} 01 07000000 61ff00"),
            malformed(
                42,
                Defect::NotUtf8 {
                    expected: Field::Identifier,
                    found: 0xff,
                },
            ),
        ),
        (
            "checksum flag without a checksum",
            "01000000 0000".into(),
            malformed(20, truncated(Field::Checksum, 2)),
        ),
    ];
    for (name, bytes, error) in table {
        assert_eq!(read(&bytes), Err(error), "{name}");
    }
}

/// What the checksum covers: header with the final length, flags, one body.
const CHECKSUMMED: &str = "28000000 07000000 09000000 dd070000 01000000 00 \
    0f000000 10 70696e6700 01000000 00";

#[test]
fn checksum_is_written_and_verified() {
    let message = OpMsg::new(7, document(PING))
        .in_response_to(9)
        .with_flags(Flags::CHECKSUM_PRESENT);
    let mut written = BytesMut::new();
    message.encode(&mut written, &Limits::default()).unwrap();
    let (covered, checksum) = written.split_at(36);
    assert_eq!(covered, hex(CHECKSUMMED));
    assert_eq!(checksum, bitwise_crc32c(covered).to_le_bytes());
    assert_eq!(
        decode(&mut written, &Limits::default()),
        Ok(Some(Message::Msg(message)))
    );
}

#[test]
fn one_wrong_bit_anywhere_fails_the_checksum() {
    let message = OpMsg::new(7, document(PING)).with_flags(Flags::CHECKSUM_PRESENT);
    let mut good = BytesMut::new();
    message.encode(&mut good, &Limits::default()).unwrap();
    // Bits of the length, the opcode and the flag itself change what the message is.
    for position in (4..12).chain(18..40) {
        let mut bad = good.clone();
        bad[position] ^= 0x10;
        let result = decode(&mut bad, &Limits::default());
        let Err(DecodeError::Violation {
            offset: 36,
            breach: Breach::Checksum { .. },
        }) = result
        else {
            panic!("byte {position}: {result:?}");
        };
    }
}

#[test]
fn sequence_documents_are_checked_as_they_are_read() {
    let bytes = format!("00000000 00 {PING} 01 15000000 6100 {EMPTY} {EMPTY} 09000000 00");
    let message = read(&bytes).unwrap();
    let documents: Vec<_> = message
        .sequences()
        .next()
        .unwrap()
        .documents
        .iter()
        .collect();
    let defect = Defect::DocumentLength { left: 5, found: 9 };
    assert_eq!(
        documents,
        [
            Ok(document(EMPTY)),
            Ok(document(EMPTY)),
            Err(DecodeError::Malformed { offset: 53, defect })
        ]
    );
}

#[test]
fn limits_are_checked_before_the_bytes_are_taken() {
    let exceeded = |offset, limit, maximum, found| {
        Some(DecodeError::LimitExceeded {
            offset,
            limit,
            maximum,
            found,
        })
    };
    let two = frame(
        OpCode::OP_MSG,
        &format!("00000000 00 {PING} 01 06000000 6100"),
    );
    let limits = Limits {
        max_sections: 1,
        ..Limits::default()
    };
    assert_eq!(
        OpMsg::from_frame(&two, &limits).err(),
        exceeded(36, Limit::Sections, 1, 2)
    );
    let limits = Limits {
        max_document_len: 14,
        ..Limits::default()
    };
    assert_eq!(
        OpMsg::from_frame(&two, &limits).err(),
        exceeded(21, Limit::DocumentLength, 14, 15)
    );
    let limits = Limits {
        max_message_len: 42,
        ..Limits::default()
    };
    assert_eq!(
        decode(&mut wire(&two), &limits).err(),
        exceeded(0, Limit::MessageLength, 42, 43)
    );
}

#[test]
fn messages_a_peer_would_refuse_are_not_written() {
    let message = || OpMsg::new(1, document(PING));
    let exceeded = |limit, maximum, found| EncodeError::LimitExceeded {
        limit,
        maximum,
        found,
    };
    let defaults = Limits::default;
    let table = [
        (
            "no body",
            OpMsg {
                sections: Vec::new(),
                ..message()
            },
            defaults(),
            EncodeError::Misuse(Breach::NoBody),
        ),
        (
            "two bodies",
            OpMsg {
                sections: [message().sections, message().sections].concat(),
                ..message()
            },
            defaults(),
            EncodeError::Misuse(Breach::SecondBody),
        ),
        (
            "identifier twice",
            message()
                .with_sequence(sequence("a", &[]))
                .with_sequence(sequence("a", &[])),
            defaults(),
            EncodeError::Misuse(Breach::DuplicateIdentifier {
                identifier: "a".into(),
            }),
        ),
        (
            "zero in an identifier",
            message().with_sequence(sequence("a\0", &[])),
            defaults(),
            EncodeError::ZeroByte {
                field: Field::Identifier,
                offset: 1,
            },
        ),
        (
            "unknown required flag",
            message().with_flags(Flags::from_bits(8)),
            defaults(),
            EncodeError::Misuse(Breach::RequiredFlags { found: 8 }),
        ),
        (
            "message too long",
            message(),
            Limits {
                max_message_len: 35,
                ..defaults()
            },
            exceeded(Limit::MessageLength, 35, 36),
        ),
        (
            "document too long",
            message(),
            Limits {
                max_document_len: 14,
                ..defaults()
            },
            exceeded(Limit::DocumentLength, 14, 15),
        ),
        (
            "document of a sequence too long",
            message().with_sequence(sequence("a", &[EMPTY, &secret_text()])),
            Limits {
                max_document_len: 19,
                ..defaults()
            },
            exceeded(Limit::DocumentLength, 19, 20),
        ),
        (
            "too many sections",
            message().with_sequence(sequence("a", &[])),
            Limits {
                max_sections: 1,
                ..defaults()
            },
            exceeded(Limit::Sections, 1, 2),
        ),
    ];
    for (name, message, limits, error) in table {
        let mut dst = BytesMut::from(&b"before"[..]);
        assert_eq!(
            message.encode(&mut dst, &limits),
            Err(error.clone()),
            "{name}"
        );
        assert_eq!(&dst[..], b"before", "{name}");
        let result = message.encode_compressed(&mut dst, Compressor::Noop, &limits);
        assert_eq!((result, &dst[..]), (Err(error), &b"before"[..]), "{name}");
    }
}

/// `{k: "secret!"}`, 20 bytes.
fn secret_text() -> String {
    "14000000 02 6b00 08000000 73656372657421 00 00".to_owned()
}

#[test]
fn debug_shows_lengths_and_no_payload() {
    let secret = document(&secret_text());
    let message = OpMsg::new(1, secret).with_flags(Flags::MORE_TO_COME);
    let shown = format!("{message:?}");
    assert!(
        shown.contains("Document(20 bytes)") && shown.contains("0x2 moreToCome"),
        "{shown}"
    );
    assert!(
        !shown.contains("secret") && !shown.contains("115"),
        "{shown}"
    );
}

/// CRC-32C (Castagnoli, reflected polynomial 0x82f63b78), a bit at a time.
fn bitwise_crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
        }
    }
    !crc
}

#[test]
fn the_reference_checksum_is_castagnolis() {
    assert_eq!(bitwise_crc32c(b"123456789"), 0xe306_9283);
}
