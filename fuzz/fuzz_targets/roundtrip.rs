//! Encode, split anywhere, decode: the same messages, plain and compressed.
#![no_main]

use arbitrary::Arbitrary;
use bytes::BytesMut;
use fuzz::limits;
use libfuzzer_sys::fuzz_target;
use mongo_wire::{
    CommandBody, Compressor, Document, DocumentList, DocumentSequence, Flags, Frame, Message,
    OpMsg, OpQuery, OpReply, Section, ZlibLevel, bytes_wanted, decode,
};

#[derive(Arbitrary, Debug)]
struct Plan {
    messages: Vec<Shape>,
    compressor: Option<Method>,
    splits: Vec<u8>,
}

#[derive(Arbitrary, Debug)]
struct Shape {
    request_id: i32,
    response_to: i32,
    bits: u32,
    kind: Kind,
}

#[derive(Arbitrary, Debug)]
enum Kind {
    Msg {
        body: Elements,
        database: Option<String>,
        body_at: u8,
        sequences: Vec<Sequence>,
    },
    Query {
        name: String,
        skip: i32,
        take: i32,
        query: Elements,
        selector: Option<Elements>,
    },
    Reply {
        cursor_id: i64,
        from: i32,
        documents: Vec<Elements>,
    },
}

#[derive(Arbitrary, Debug)]
struct Sequence {
    identifier: String,
    documents: Vec<Elements>,
}

/// The bytes between a document's length and its closing zero; the codec reads none of them.
#[derive(Arbitrary, Debug)]
struct Elements {
    bytes: Vec<u8>,
    /// Makes it long enough to be worth compressing.
    repeat: u8,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Method {
    Noop,
    Snappy,
    Zlib(u8),
    Zstd,
}

impl Method {
    fn compressor(self) -> Compressor {
        match self {
            Self::Noop => Compressor::Noop,
            Self::Snappy => Compressor::Snappy,
            Self::Zlib(level) => {
                Compressor::Zlib(ZlibLevel::new(i32::from(level % 11) - 1).expect("-1 to 9"))
            }
            Self::Zstd => Compressor::Zstd,
        }
    }
}

impl Elements {
    fn document(&self) -> Document {
        let bytes = self.bytes.repeat(usize::from(self.repeat % 16) + 1);
        let len = u32::try_from(bytes.len() + 5).expect("inputs are short");
        Document::from_bytes([&len.to_le_bytes()[..], &bytes, &[0]].concat()).expect("well formed")
    }
}

fn list(documents: &[Elements]) -> DocumentList {
    let documents: Vec<_> = documents.iter().map(Elements::document).collect();
    DocumentList::from_documents(&documents)
}

impl Shape {
    fn message(&self) -> Message {
        match &self.kind {
            Kind::Msg {
                body,
                database,
                body_at,
                sequences,
            } => {
                let body = body_of(&body.document(), database.as_deref());
                let mut message = OpMsg::new(self.request_id, body)
                    .in_response_to(self.response_to)
                    .with_flags(Flags::from_bits(self.bits));
                message.sections.extend(sequences.iter().map(|sequence| {
                    let documents = list(&sequence.documents);
                    let identifier = sequence.identifier.as_str();
                    Section::DocumentSequence(DocumentSequence::new(identifier, documents))
                }));
                let last = message.sections.len() - 1;
                message.sections.swap(0, usize::from(*body_at) % (last + 1));
                Message::Msg(message)
            }
            Kind::Query {
                name,
                skip,
                take,
                query,
                selector,
            } => {
                let mut message = OpQuery::command(self.request_id, name, query.document());
                message.response_to = self.response_to;
                message.flags = self.bits;
                message.number_to_skip = *skip;
                message.number_to_return = *take;
                message.return_fields_selector = selector.as_ref().map(Elements::document);
                Message::Query(message)
            }
            Kind::Reply {
                cursor_id,
                from,
                documents,
            } => {
                let mut message =
                    OpReply::new(self.request_id, self.response_to, &Document::empty());
                message.flags = self.bits;
                message.cursor_id = *cursor_id;
                message.starting_from = *from;
                message.documents = list(documents);
                Message::Reply(message)
            }
        }
    }
}

/// The command with the envelope beside it: the key in front stays in front.
fn body_of(command: &Document, database: Option<&str>) -> Document {
    let Some(database) = database else {
        return command.clone();
    };
    let body = CommandBody::new(command)
        .string(c"$db", database)
        .int64(c"n", 7);
    match body.into_document(&limits()) {
        Ok(body) => {
            if let Some(key) = command.first_key() {
                assert_eq!(body.first_key(), Some(key));
            }
            body
        }
        Err(_) => command.clone(),
    }
}

/// Writes the message or leaves the buffer alone.
fn encode(message: &Message, compressor: Option<Compressor>, wire: &mut BytesMut) -> bool {
    let before = wire.clone();
    let written = match compressor {
        Some(compressor) => message.encode_compressed(wire, compressor, &limits()),
        None => message.encode(wire, &limits()),
    };
    match written {
        Ok(()) => true,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert_eq!(*wire, before);
            false
        }
    }
}

fn decode_all(src: &mut BytesMut, found: &mut Vec<Message>) {
    loop {
        let wanted = bytes_wanted(src, &limits()).expect("it was encoded within the limits");
        match decode(src, &limits()).expect("what was encoded is accepted") {
            Some(message) => found.push(message),
            None => {
                assert!(wanted > 0);
                return;
            }
        }
        assert_eq!(wanted, 0);
    }
}

fuzz_target!(|plan: Plan| {
    let compressor = plan.compressor.map(Method::compressor);
    let (mut wire, mut sent) = (BytesMut::new(), Vec::new());
    for message in plan.messages.iter().map(Shape::message) {
        if encode(&message, compressor, &mut wire) {
            sent.push(message);
        }
    }

    let (mut src, mut received) = (BytesMut::new(), Vec::new());
    let mut rest = &wire[..];
    for at in &plan.splits {
        let (piece, after) = rest.split_at(usize::from(*at).min(rest.len()));
        rest = after;
        src.extend_from_slice(piece);
        decode_all(&mut src, &mut received);
    }
    src.extend_from_slice(rest);
    decode_all(&mut src, &mut received);
    assert_eq!(received, sent);
    assert!(src.is_empty());

    // The frames alone, put into the envelope and taken out of it.
    let mut plain = BytesMut::new();
    sent.iter().for_each(|message| {
        message
            .encode(&mut plain, &limits())
            .expect("written before")
    });
    while let Some(frame) = Frame::decode(&mut plain, &limits()).expect("written by us") {
        let Some(compressor) = compressor else { break };
        if let Ok(compressed) = frame.compress(compressor, &limits()) {
            assert_eq!(compressed.compressor(), Some(compressor).map(id_only));
            assert_eq!(compressed.decompress(&limits()), Ok(frame));
        }
    }
});

/// The level does not travel.
fn id_only(compressor: Compressor) -> Compressor {
    Compressor::from_id(compressor.id()).expect("a known id")
}
