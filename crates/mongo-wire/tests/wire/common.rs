//! Strategies for messages, shared by the property tests.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use mongo_wire::{
    Compressor, Document, DocumentList, DocumentSequence, Flags, Frame, Limits, Message, OpCode,
    OpMsg, OpQuery, OpReply, Section,
};
use proptest::{collection::vec, prelude::*};

pub(crate) fn limits() -> Limits {
    Limits::default()
}

pub(crate) fn compressors() -> Vec<Compressor> {
    (0..4)
        .filter_map(Compressor::from_id)
        .filter(|one| one.is_built_in())
        .collect()
}

pub(crate) fn encoded(message: &Message) -> BytesMut {
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes, &limits()).unwrap();
    bytes
}

/// A document around the bytes of its elements.
pub(crate) fn around(elements: &[u8]) -> Vec<u8> {
    let len = u32::try_from(elements.len() + 5).unwrap();
    [&len.to_le_bytes()[..], elements, &[0]].concat()
}

fn element() -> impl Strategy<Value = Vec<u8>> {
    let scalar = prop_oneof![
        any::<i32>().prop_map(|value| (0x10, value.to_le_bytes().to_vec())),
        any::<i64>().prop_map(|value| (0x12, value.to_le_bytes().to_vec())),
        any::<bool>().prop_map(|value| (0x08, vec![value.into()])),
        "[a-z]{0,40}".prop_map(|value| {
            let len = u32::try_from(value.len() + 1).unwrap();
            (0x02, [&len.to_le_bytes(), value.as_bytes(), &[0]].concat())
        }),
        Just((0x0a, Vec::new())),
        Just((0x03, around(&[]))),
    ];
    ("[a-zA-Z$]{1,8}", scalar)
        .prop_map(|(key, (kind, value))| [&[kind], key.as_bytes(), &[0], &value].concat())
}

pub(crate) fn document() -> impl Strategy<Value = Document> {
    vec(element(), 0..6)
        .prop_map(|elements| Document::from_bytes(around(&elements.concat())).unwrap())
}

fn list(range: std::ops::Range<usize>) -> impl Strategy<Value = DocumentList> {
    vec(document(), range).prop_map(|documents| DocumentList::from_documents(&documents))
}

fn sequences() -> impl Strategy<Value = Vec<DocumentSequence>> {
    vec(("[a-z]{0,9}", list(0..4)), 0..4).prop_map(|sequences| {
        let mut seen = BTreeSet::new();
        let distinct = sequences
            .into_iter()
            .filter(|(name, _)| seen.insert(name.clone()));
        distinct
            .map(|(name, documents)| DocumentSequence::new(name, documents))
            .collect()
    })
}

pub(crate) fn op_msg() -> impl Strategy<Value = OpMsg> {
    let flags = prop_oneof![
        Just(0),
        any::<u16>().prop_map(|optional| u32::from(optional) << 16),
        0..4_u32
    ];
    (
        any::<(i32, i32)>(),
        flags,
        document(),
        sequences(),
        any::<prop::sample::Index>(),
    )
        .prop_map(
            |((request_id, response_to), flags, body, sequences, place)| {
                let mut sections: Vec<_> = sequences
                    .into_iter()
                    .map(Section::DocumentSequence)
                    .collect();
                sections.insert(place.index(sections.len() + 1), Section::Body(body));
                OpMsg {
                    request_id,
                    response_to,
                    flags: Flags::from_bits(flags),
                    sections,
                }
            },
        )
}

fn op_query() -> impl Strategy<Value = OpQuery> {
    let numbers = any::<(i32, i32, u32, i32, i32)>();
    (
        numbers,
        "[a-z]{1,9}[.][$]cmd",
        document(),
        prop::option::of(document()),
    )
        .prop_map(|(numbers, name, query, return_fields_selector)| OpQuery {
            request_id: numbers.0,
            response_to: numbers.1,
            flags: numbers.2,
            full_collection_name: name.into(),
            number_to_skip: numbers.3,
            number_to_return: numbers.4,
            query,
            return_fields_selector,
        })
}

fn op_reply() -> impl Strategy<Value = OpReply> {
    (any::<(i32, i32, u32, i64, i32)>(), list(0..3)).prop_map(|(numbers, documents)| OpReply {
        request_id: numbers.0,
        response_to: numbers.1,
        flags: numbers.2,
        cursor_id: numbers.3,
        starting_from: numbers.4,
        documents,
    })
}

fn opaque() -> impl Strategy<Value = Frame> {
    (any::<(i32, i32)>(), 2005..2011_i32, vec(any::<u8>(), 0..40)).prop_map(
        |((request_id, response_to), op_code, body)| {
            let body = Bytes::from(body);
            Frame::new(request_id, response_to, OpCode(op_code), body, &limits()).unwrap()
        },
    )
}

pub(crate) fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        6 => op_msg().prop_map(Message::Msg),
        1 => op_query().prop_map(Message::Query),
        1 => op_reply().prop_map(Message::Reply),
        1 => opaque().prop_map(Message::Opaque),
    ]
}

/// A frame whose header is right and whose body is anything.
pub(crate) fn arbitrary_frame() -> impl Strategy<Value = BytesMut> {
    let op_code = prop_oneof![
        Just(OpCode::OP_MSG),
        Just(OpCode::OP_COMPRESSED),
        Just(OpCode::OP_QUERY),
        Just(OpCode::OP_REPLY),
    ];
    // Small numbers are likelier than chance would have them: lengths, kinds and ids are small.
    let byte = prop_oneof![3 => Just(0), 2 => 0..32_u8, 1 => any::<u8>()];
    (op_code, vec(byte, 0..200)).prop_map(|(op_code, mut body)| {
        if op_code == OpCode::OP_COMPRESSED && body.len() > 8 {
            body[..4].copy_from_slice(&2013_i32.to_le_bytes());
            let id = body[8] % 4;
            body[6..9].copy_from_slice(&[0, 0, id]);
        }
        let frame = Frame::new(1, 2, op_code, Bytes::from(body), &limits()).unwrap();
        let mut bytes = BytesMut::new();
        frame.encode(&mut bytes, &limits()).unwrap();
        bytes
    })
}

/// A valid message, plain or compressed, with a few bytes overwritten, inserted or cut out.
pub(crate) fn mutated_message() -> impl Strategy<Value = BytesMut> {
    let mutation = (any::<prop::sample::Index>(), any::<u8>(), 0..3_u8);
    let compressor = prop::sample::select(compressors());
    (message(), prop::option::of(compressor), vec(mutation, 1..6)).prop_map(
        |(message, compressor, mutations)| {
            let mut bytes = BytesMut::new();
            match compressor {
                Some(compressor) => message.encode_compressed(&mut bytes, compressor, &limits()),
                None => message.encode(&mut bytes, &limits()),
            }
            .unwrap();
            let mut bytes = bytes.to_vec();
            for (place, byte, kind) in mutations {
                // The length is set right below; changing the rest of the header is no fun.
                let place = 12 + place.index(bytes.len() - 12);
                match kind {
                    0 => bytes[place] = byte,
                    1 => bytes.insert(place, byte),
                    _ if bytes.len() > 20 => drop(bytes.remove(place)),
                    _ => {}
                }
            }
            let len = u32::try_from(bytes.len()).unwrap();
            bytes[..4].copy_from_slice(&len.to_le_bytes());
            BytesMut::from(&bytes[..])
        },
    )
}
