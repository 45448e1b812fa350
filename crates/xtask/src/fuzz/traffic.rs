//! Messages of a conversation with a real server, in both directions.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use anyhow::bail;
use bson::{RawDocumentBuf, rawdoc};
use bytes::BytesMut;
use mongo_wire::{
    CommandReply, Compressor, Document, DocumentList, DocumentSequence, Flags, Frame, Limits,
    Message, OpMsg, OpQuery,
};
use testbed::cluster::ReplicaSet;
use testbed::connection::read_some;

/// How long the server may take for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Every message of the conversation.
///
/// # Errors
/// There is no server, or it does not answer.
pub(super) fn record() -> anyhow::Result<Vec<Frame>> {
    let set = ReplicaSet::start(1)?;
    let mut tape = Tape::open(set.primary()?.address())?;
    tape.handshake()?;
    tape.writes()?;
    tape.change_stream()?;
    tape.failures()?;
    tape.compressed()?;
    Ok(tape.frames)
}

/// A connection that keeps what goes over it.
struct Tape {
    stream: TcpStream,
    received: BytesMut,
    frames: Vec<Frame>,
    next_id: i32,
}

impl Tape {
    fn open(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            received: BytesMut::new(),
            frames: Vec::new(),
            next_id: 1,
        })
    }

    fn handshake(&mut self) -> anyhow::Result<()> {
        let hello =
            rawdoc! { "isMaster": 1, "helloOk": true, "compression": ["snappy", "zlib", "zstd"] };
        let id = self.id();
        let query = OpQuery::command(id, "admin", hello.into());
        self.exchange(&Message::Query(query), None)?;
        self.ask(&rawdoc! { "hello": 1, "$db": "admin" })?;
        let id = self.id();
        let ping = Document::from(rawdoc! { "ping": 1, "$db": "admin" });
        let checked = OpMsg::new(id, ping).with_flags(Flags::CHECKSUM_PRESENT);
        self.exchange(&checked.into(), None)?;
        Ok(())
    }

    fn writes(&mut self) -> anyhow::Result<()> {
        self.ask(&rawdoc! { "create": "c", "$db": "d" })?;
        let documents: Vec<_> = (0..5)
            .map(|id| Document::from(rawdoc! { "_id": id }))
            .collect();
        let sequence = DocumentSequence::new("documents", DocumentList::from_documents(&documents));
        let insert = Document::from(rawdoc! { "insert": "c", "$db": "d" });
        let id = self.id();
        self.exchange(&OpMsg::new(id, insert).with_sequence(sequence).into(), None)?;
        let reply = self.ask(&rawdoc! { "find": "c", "batchSize": 2, "$db": "d" })?;
        let cursor = CommandReply::new(reply).cursor()?.id;
        self.ask(&rawdoc! { "getMore": cursor, "collection": "c", "$db": "d" })?;
        Ok(())
    }

    fn change_stream(&mut self) -> anyhow::Result<()> {
        let open = rawdoc! {
            "aggregate": "c", "pipeline": [{ "$changeStream": {} }], "cursor": {}, "$db": "d",
        };
        let cursor = CommandReply::new(self.ask(&open)?).cursor()?.id;
        self.ask(&rawdoc! { "insert": "c", "documents": [{ "_id": 9 }], "$db": "d" })?;
        let update = rawdoc! { "q": { "_id": 9 }, "u": { "$set": { "a": "b" } } };
        self.ask(&rawdoc! { "update": "c", "updates": [update], "$db": "d" })?;
        for _ in 0..2 {
            let more =
                rawdoc! { "getMore": cursor, "collection": "c", "maxTimeMS": 100, "$db": "d" };
            self.ask(&more)?;
        }
        self.ask(&rawdoc! { "killCursors": "c", "cursors": [cursor], "$db": "d" })?;
        Ok(())
    }

    fn failures(&mut self) -> anyhow::Result<()> {
        self.ask(&rawdoc! { "nothing": 1, "$db": "admin" })?;
        self.ask(&rawdoc! { "getMore": 7_i64, "collection": "c", "$db": "d" })?;
        self.ask(&rawdoc! {
            "insert": "c", "documents": [{ "_id": 9 }], "writeConcern": { "w": 3, "wtimeout": 1 },
            "$db": "d",
        })?;
        Ok(())
    }

    fn compressed(&mut self) -> anyhow::Result<()> {
        for id in 1..=3 {
            let request = OpMsg::new(self.id(), rawdoc! { "find": "c", "$db": "d" }.into());
            self.exchange(&request.into(), Compressor::from_id(id))?;
        }
        Ok(())
    }

    fn id(&mut self) -> i32 {
        self.next_id += 1;
        self.next_id
    }

    fn ask(&mut self, command: &RawDocumentBuf) -> anyhow::Result<Document> {
        let request = OpMsg::new(self.id(), Document::from(command.clone()));
        match self.exchange(&request.into(), None)? {
            Message::Msg(reply) => Ok(reply.body().clone()),
            other => bail!("the reply is no OP_MSG: {other:?}"),
        }
    }

    fn exchange(
        &mut self,
        request: &Message,
        compressor: Option<Compressor>,
    ) -> anyhow::Result<Message> {
        let limits = Limits::default();
        let mut wire = BytesMut::new();
        match compressor {
            Some(compressor) => request.encode_compressed(&mut wire, compressor, &limits)?,
            None => request.encode(&mut wire, &limits)?,
        }
        self.stream.write_all(&wire)?;
        self.frames.extend(Frame::decode(&mut wire, &limits)?);
        let frame = loop {
            if let Some(frame) = Frame::decode(&mut self.received, &limits)? {
                break frame;
            }
            let mut chunk = [0; 4_096];
            let count = read_some(&mut self.stream, &mut chunk)?;
            if count == 0 {
                bail!("the server closed the connection");
            }
            self.received.extend_from_slice(&chunk[..count]);
        };
        self.frames.push(frame.clone());
        Ok(Message::from_frame(frame, &limits)?)
    }
}
