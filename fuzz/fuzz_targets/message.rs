//! Messages: whatever is accepted is what stood on the wire, down to the last byte.
#![no_main]

use bytes::{Bytes, BytesMut};
use fuzz::{frames, limits};
use libfuzzer_sys::fuzz_target;
use mongo_wire::{
    Breach, DecodeError, Document, Frame, Message, MessageCodec, OpCode, OpMsg, decode,
};
use tokio_util::codec::Decoder as _;

/// Asks a message everything that can be asked.
fn read(message: &Message) {
    assert!(!format!("{message:?}").is_empty());
    let documents: Vec<Document> = match message {
        Message::Msg(message) => {
            read_sections(message);
            vec![message.body().clone()]
        }
        Message::Query(query) => {
            let selector = query.return_fields_selector.clone();
            [query.query.clone()].into_iter().chain(selector).collect()
        }
        Message::Reply(reply) => reply
            .documents
            .iter()
            .map(|found| found.expect("checked"))
            .collect(),
        _ => Vec::new(),
    };
    for document in documents {
        let key = document.first_key().map(str::to_owned);
        if let Some(key) = key {
            assert_eq!(document.contains_key(&key), Ok(true));
            let _ = document.embedded(&key);
        }
        let _ = document.contains_key("none");
        assert_eq!(
            Document::from_bytes(document.clone().into_bytes()),
            Ok(document)
        );
    }
}

fn read_sections(message: &OpMsg) {
    let _ = (message.command_name(), message.more_to_come());
    for sequence in message.sequences() {
        let length: usize = sequence
            .documents
            .iter()
            .flatten()
            .map(|document| document.len())
            .sum();
        assert!(length <= sequence.documents.as_bytes().len());
        let broken = sequence.documents.iter().filter(Result::is_err).count();
        assert!(broken <= 1, "an error ends the iteration");
    }
}

/// The frame's last four bytes made to hold the checksum that a reader expects.
fn with_checksum(frame: &Frame, checksum: u32) -> Frame {
    let mut body = frame.body.to_vec();
    let at = body.len() - 4;
    body[at..].copy_from_slice(&checksum.to_le_bytes());
    Frame {
        header: frame.header,
        body: Bytes::from(body),
    }
}

fn check(frame: Frame) {
    let mut message = Message::from_frame(frame.clone(), &limits());
    let mut frame = frame;
    if let Err(DecodeError::Violation {
        breach: Breach::Checksum { expected, .. },
        ..
    }) = &message
        && frame.header.op_code == OpCode::OP_MSG
    {
        frame = with_checksum(&frame, *expected);
        message = Message::from_frame(frame.clone(), &limits());
    }
    let message = match message {
        Ok(message) => message,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    read(&message);
    let plain = frame.decompress(&limits()).expect("it was read");
    assert_eq!(message.op_code(), plain.header.op_code);
    let mut wire = BytesMut::new();
    message
        .encode(&mut wire, &limits())
        .expect("what was read can be written");
    assert_eq!(frames(&wire), [plain.clone()]);
    assert_eq!(wire.len(), plain.len());
    assert_eq!(
        decode(&mut wire.clone(), &limits()),
        Ok(Some(message.clone()))
    );
    assert_eq!(
        MessageCodec::new(limits()).decode(&mut wire).ok(),
        Some(Some(message))
    );
}

fuzz_target!(|data: &[u8]| {
    frames(data).into_iter().for_each(check);
});
