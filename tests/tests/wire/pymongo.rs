//! Vectors by PyMongo's own encoder, and our messages under its decoder.

use std::ffi::OsStr;
use std::fs;

use bson::rawdoc;
use bytes::BytesMut;
use mongo_wire::{
    Compressor, Document, DocumentList, DocumentSequence, Flags, Frame, Limits, Message, OpMsg,
    decode,
};
use serde_json::Value;

use crate::peer::{compressors, encoded, opened};
use crate::python::{python, script};

fn bytes_of(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap().trim();
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The message that the description describes, built with our own types.
fn built(says: &Value) -> OpMsg {
    let document = |hex| Document::from_bytes(bytes_of(hex)).unwrap();
    let id = i32::try_from(says["request_id"].as_i64().unwrap()).unwrap();
    let flags = u32::try_from(says["flags"].as_u64().unwrap()).unwrap();
    let message = OpMsg::new(id, document(&says["body"])).with_flags(Flags::from_bits(flags));
    let Some(identifier) = says["identifier"].as_str() else {
        return message;
    };
    let documents: Vec<_> = says["sequence"]
        .as_array()
        .unwrap()
        .iter()
        .map(document)
        .collect();
    let list = DocumentList::from_documents(&documents);
    message.with_sequence(DocumentSequence::new(identifier, list))
}

fn check(vector: &Value) {
    let (bytes, says) = (bytes_of(&vector["frame"]), &vector["says"]);
    let mut src = BytesMut::from(&bytes[..]);
    let frame = Frame::decode(&mut src.clone(), &Limits::default())
        .unwrap()
        .unwrap();
    let compressor = frame.compressor();
    assert_eq!(
        compressor.map(Compressor::name),
        says["compressor"].as_str()
    );

    let message = decode(&mut src, &Limits::default()).unwrap().unwrap();
    assert!(src.is_empty());
    let Message::Msg(message) = &message else {
        panic!("{message:?}")
    };
    assert_eq!(*message, built(says));
    assert_eq!(message.command_name(), says["command"].as_str());
    assert_eq!(
        message.body().as_raw().get_str("$db").unwrap(),
        says["database"]
    );
    // Keys, values and types are what a BSON library finds, too.
    message
        .body()
        .as_raw()
        .iter()
        .try_for_each(|element| element.map(drop))
        .unwrap();

    match compressor {
        None => assert_eq!(encoded(&message.clone().into(), None), bytes),
        // What a compressor writes is its own affair; that it opens to the same is not.
        Some(compressor) => {
            let again = encoded(&message.clone().into(), Some(compressor));
            let again = Frame::decode(&mut again.clone(), &Limits::default())
                .unwrap()
                .unwrap();
            let plain = |frame: Frame| frame.decompress(&Limits::default()).unwrap();
            assert_eq!(plain(again), plain(frame));
        }
    }
}

#[test]
fn messages_by_pymongo_say_here_what_they_say_there() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("vectors");
    python(&[script().as_ref(), OsStr::new("write"), file.as_ref()]);
    let vectors = fs::read_to_string(&file).unwrap();
    let vectors: Vec<Value> = vectors
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(vectors.len(), 40, "8 commands, plain and by 4 compressors");
    vectors.iter().for_each(check);
}

#[test]
fn replies_by_us_say_there_what_they_say_here() {
    let events = || (0..200).map(|id| rawdoc! { "_id": id, "text": "event ".repeat(20) });
    let bodies = [
        rawdoc! { "ok": 1 },
        rawdoc! { "cursor": { "id": 0_i64, "ns": "d.c", "nextBatch": events().collect::<bson::RawArrayBuf>() }, "ok": 1.0 },
    ];
    let mut sent = Vec::new();
    for (id, body) in (1..).zip(&bodies) {
        for flags in [Flags::empty(), Flags::MORE_TO_COME] {
            let message = OpMsg::new(id, body.clone().into())
                .in_response_to(-id)
                .with_flags(flags);
            let all = compressors().map(Some).into_iter().chain([None]);
            sent.extend(all.map(|compressor| encoded(&message.clone().into(), compressor)));
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("frames");
    fs::write(
        &file,
        sent.iter()
            .map(|frame| hex(frame) + "\n")
            .collect::<String>(),
    )
    .unwrap();
    let says = python(&[script().as_ref(), OsStr::new("read"), file.as_ref()]);
    assert_eq!(says.lines().count(), sent.len());

    for (bytes, line) in sent.iter().zip(says.lines()) {
        let says: Value = serde_json::from_str(line).unwrap();
        let frame = Frame::decode(&mut bytes.clone(), &Limits::default())
            .unwrap()
            .unwrap();
        let id = frame
            .compressor()
            .map(|compressor| u64::from(compressor.id()));
        assert_eq!(says["compressor"].as_u64(), id);
        let message = opened(frame);
        assert_eq!(says["request_id"], message.request_id);
        assert_eq!(says["response_to"], message.response_to);
        assert_eq!(says["flags"], message.flags.bits());
        assert_eq!(bytes_of(&says["body"]), message.body().as_bytes());
        let keys = message
            .body()
            .as_raw()
            .iter()
            .map(|element| element.unwrap().0.to_string());
        assert_eq!(says["keys"], Value::from_iter(keys));
    }
}
