use bytes::Bytes;

use super::*;
use crate::{
    Document, Flags, Inflated, Message, OpMsg, OpQuery, decode,
    testing::{PING, document, frame, hex, wire},
};

/// Flags and one body section with `{ping: 1}`: what the payloads below hold.
const PLAIN: &str = "00000000 00 0f000000 10 70696e6700 01000000 00";
/// `originalOpcode` 2013, `uncompressedSize` 20.
const HEAD: &str = "dd070000 14000000";

fn read(body: &str) -> Result<Message, DecodeError> {
    decode(
        &mut wire(&frame(OpCode::OP_COMPRESSED, body)),
        &Limits::default(),
    )
    .map(|message| message.expect("a whole message"))
}

fn ping() -> Message {
    OpMsg::new(7, document(PING)).in_response_to(9).into()
}

/// The same payload in each format, stored without compression so that it can be read here.
const PAYLOADS: [(Compressor, &str); 4] = [
    (Compressor::Noop, PLAIN),
    (
        Compressor::Snappy,
        "14 4c 00000000 00 0f000000 10 70696e6700 01000000 00",
    ),
    (
        Compressor::Zlib(ZlibLevel::DEFAULT),
        "7801 01 1400 ebff 00000000 00 0f000000 10 70696e6700 01000000 00 0ffc01cf",
    ),
    (
        Compressor::Zstd,
        "28b52ffd 20 14 a10000 00000000 00 0f000000 10 70696e6700 01000000 00",
    ),
];

fn built_in() -> impl Iterator<Item = (Compressor, &'static str)> {
    PAYLOADS
        .into_iter()
        .filter(|(compressor, _)| compressor.is_built_in())
}

#[test]
fn payloads_written_by_hand_are_read() {
    for (compressor, payload) in built_in() {
        let body = format!("{HEAD} {:02x} {payload}", compressor.id());
        assert_eq!(read(&body), Ok(ping()), "{compressor}");
    }
}

#[test]
fn declared_size_must_be_exact() {
    for (compressor, payload) in built_in() {
        let id = compressor.id();
        for declared in [0_u8, 1, 19, 21, 255] {
            let body = format!("dd070000 {declared:02x}000000 {id:02x} {payload}");
            let Err(DecodeError::Malformed { offset: 25, defect }) = read(&body) else {
                panic!("{compressor} with size {declared}");
            };
            let Defect::InflatedLength { expected, found } = defect else {
                panic!("{compressor} with size {declared}: {defect:?}");
            };
            assert_eq!(expected, usize::from(declared));
            assert!(matches!(found, Inflated::Exactly(20) | Inflated::More));
        }
    }
}

#[test]
fn damaged_payloads_are_corrupt() {
    for (compressor, payload) in built_in().skip(1) {
        let payload = hex(payload);
        for kept in 0..payload.len() {
            let mut body = hex(&format!("{HEAD} {:02x}", compressor.id()));
            body.extend_from_slice(&payload[..kept]);
            let result = opened(body);
            assert!(
                matches!(result, Err(DecodeError::Malformed { offset: 25, .. })),
                "{kept}"
            );
        }
        let mut body = hex(&format!("{HEAD} {:02x}", compressor.id()));
        body.extend_from_slice(&payload);
        body.push(7);
        let result = opened(body);
        assert!(
            matches!(result, Err(DecodeError::Malformed { offset: 25, .. })),
            "{result:?}"
        );
    }
}

fn opened(body: Vec<u8>) -> Result<Frame, DecodeError> {
    let limits = Limits::default();
    let frame = Frame::new(7, 9, OpCode::OP_COMPRESSED, Bytes::from(body), &limits).unwrap();
    frame.decompress(&limits)
}

#[test]
fn refused_envelopes_tell_why() {
    let malformed = |offset, defect| DecodeError::Malformed { offset, defect };
    let violation = |offset, breach| DecodeError::Violation { offset, breach };
    let truncated = |expected, left| Defect::Truncated { expected, left };
    let table = [
        (
            "no opcode",
            "dd07",
            malformed(16, truncated(Field::OriginalOpcode, 2)),
        ),
        (
            "no size",
            "dd070000 140000",
            malformed(20, truncated(Field::UncompressedSize, 3)),
        ),
        (
            "no id",
            "dd070000 14000000",
            malformed(24, truncated(Field::CompressorId, 0)),
        ),
        (
            "compressed again",
            "dc070000 14000000 00",
            violation(16, Breach::NestedCompression),
        ),
        (
            "negative size",
            "dd070000 ffffffff 00",
            malformed(20, Defect::UncompressedSize { found: -1 }),
        ),
        (
            "size beyond the limit",
            "dd070000 016cdc02 00",
            DecodeError::LimitExceeded {
                offset: 20,
                limit: Limit::InflatedLength,
                maximum: 47_999_984,
                found: 48_000_001,
            },
        ),
        (
            "unknown compressor",
            "dd070000 14000000 04",
            violation(24, Breach::UnknownCompressor { found: 4 }),
        ),
    ];
    for (name, body, error) in table {
        assert_eq!(read(body), Err(error), "{name}");
    }
}

#[test]
fn rebuilt_message_is_held_against_the_message_limit_too() {
    let limits = Limits {
        max_message_len: 60,
        ..Limits::default()
    };
    let compressed = frame(OpCode::OP_COMPRESSED, "dd070000 2d000000 00");
    let (limit, maximum, found) = (Limit::MessageLength, 60, 61);
    let error = DecodeError::LimitExceeded {
        offset: 20,
        limit,
        maximum,
        found,
    };
    assert_eq!(compressed.decompress(&limits), Err(error));
}

#[test]
fn compressors_that_are_not_built_in_are_refused_both_ways() {
    for (compressor, payload) in PAYLOADS {
        if compressor.is_built_in() {
            continue;
        }
        let error = DecodeError::Incompatible {
            offset: 24,
            compressor,
        };
        assert_eq!(
            read(&format!("{HEAD} {:02x} {payload}", compressor.id())),
            Err(error)
        );
        let mut dst = BytesMut::new();
        let result = ping().encode_compressed(&mut dst, compressor, &Limits::default());
        assert_eq!(result, Err(EncodeError::NotBuiltIn(compressor)));
        assert!(dst.is_empty());
    }
}

#[test]
fn compressed_messages_keep_numbers_and_come_back_whole() {
    for (compressor, _) in built_in() {
        for flags in [Flags::empty(), Flags::CHECKSUM_PRESENT] {
            let message = OpMsg::new(70, document(PING))
                .in_response_to(90)
                .with_flags(flags);
            let mut dst = BytesMut::from(&b"before"[..]);
            message
                .encode_compressed(&mut dst, compressor, &Limits::default())
                .unwrap();
            let mut dst = dst.split_off(6);
            let outer = Frame::decode(&mut dst.clone(), &Limits::default())
                .unwrap()
                .unwrap();
            assert_eq!(outer.header.op_code, OpCode::OP_COMPRESSED);
            assert_eq!(
                (outer.header.request_id, outer.header.response_to),
                (70, 90)
            );
            assert_eq!(outer.compressor(), Compressor::from_id(compressor.id()));
            assert_eq!(
                decode(&mut dst, &Limits::default()),
                Ok(Some(message.into()))
            );
        }
    }
}

#[test]
fn checksum_covers_the_plain_message() {
    let plain = OpMsg::new(7, document(PING)).with_flags(Flags::CHECKSUM_PRESENT);
    let mut bytes = BytesMut::new();
    plain.encode(&mut bytes, &Limits::default()).unwrap();
    let mut frame = Frame::decode(&mut bytes, &Limits::default())
        .unwrap()
        .unwrap();
    let good = frame
        .compress(Compressor::Noop, &Limits::default())
        .unwrap();
    assert_eq!(
        Message::from_frame(good, &Limits::default()),
        Ok(plain.into())
    );
    frame.header.request_id = 8;
    let bad = frame
        .compress(Compressor::Noop, &Limits::default())
        .unwrap();
    let result = Message::from_frame(bad, &Limits::default());
    let Err(DecodeError::Violation {
        offset: 36,
        breach: Breach::Checksum { .. },
    }) = result
    else {
        panic!("{result:?}");
    };
}

#[test]
fn commands_with_secrets_and_handshakes_stay_plain() {
    for name in NEVER_COMPRESSED {
        let mut bytes = vec![0; 4];
        bytes.extend(
            [0x10]
                .iter()
                .chain(name.as_bytes())
                .chain(&[0, 1, 0, 0, 0, 0]),
        );
        let len = u32::try_from(bytes.len()).unwrap();
        bytes[..4].copy_from_slice(&len.to_le_bytes());
        let command = Document::from_bytes(bytes).unwrap();
        let messages = [
            OpMsg::new(1, command.clone()).into(),
            Message::Query(OpQuery::command(1, "a", command)),
        ];
        for message in messages {
            let (mut plain, mut sent) = (BytesMut::new(), BytesMut::new());
            message.encode(&mut plain, &Limits::default()).unwrap();
            message
                .encode_compressed(&mut sent, Compressor::Noop, &Limits::default())
                .unwrap();
            assert_eq!(sent, plain, "{name}");
        }
    }
    assert!(may_compress("ping") && may_compress("getMore") && !may_compress("hello"));
}

#[test]
fn message_that_outgrows_the_limit_by_compression_goes_plain() {
    let limits = Limits {
        max_message_len: 36,
        ..Limits::default()
    };
    let mut dst = BytesMut::new();
    ping()
        .encode_compressed(&mut dst, Compressor::Noop, &limits)
        .unwrap();
    assert_eq!(decode(&mut dst, &limits), Ok(Some(ping())));
}

#[test]
fn frames_are_not_compressed_twice() {
    let once = frame(OpCode::OP_MSG, PLAIN)
        .compress(Compressor::Noop, &Limits::default())
        .unwrap();
    let twice = once.compress(Compressor::Noop, &Limits::default());
    assert_eq!(twice, Err(EncodeError::Misuse(Breach::NestedCompression)));
}

#[test]
fn names_and_ids_are_the_specifications() {
    for (id, name) in (0..).zip(["noop", "snappy", "zlib", "zstd"]) {
        let compressor = Compressor::from_id(id).unwrap();
        assert_eq!((compressor.id(), compressor.name()), (id, name));
        assert_eq!(Compressor::from_name(name), Some(compressor));
    }
    assert_eq!(
        (Compressor::from_id(4), Compressor::from_name("snoopy")),
        (None, None)
    );
}

#[test]
fn zlib_levels_are_minus_one_to_nine() {
    let levels: Vec<_> = (-3..12)
        .filter_map(ZlibLevel::new)
        .map(ZlibLevel::get)
        .collect();
    assert_eq!(levels, (-1..=9).collect::<Vec<_>>());
}
