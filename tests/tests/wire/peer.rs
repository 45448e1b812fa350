//! A connection to a real server with nothing on it but the codec.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;

use bson::{RawDocumentBuf, rawdoc};
use bytes::BytesMut;
use integration_tests::{PATIENCE, shared_set};
use mongo_wire::{CommandReply, Compressor, Document, Frame, Limits, Message, OpMsg};
use testbed::connection::read_some;

pub(crate) fn address() -> String {
    shared_set().primary().unwrap().address().to_owned()
}

pub(crate) struct Peer {
    stream: TcpStream,
    received: BytesMut,
    last_id: i32,
}

impl Peer {
    pub(crate) fn connect() -> Self {
        let stream = TcpStream::connect(address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream,
            received: BytesMut::new(),
            last_id: 0,
        }
    }

    /// A request with a number of its own.
    pub(crate) fn request(&mut self, command: RawDocumentBuf) -> OpMsg {
        self.last_id += 1;
        OpMsg::new(self.last_id, Document::from(command))
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub(crate) fn send_message(&mut self, message: &Message, compressor: Option<Compressor>) {
        let bytes = encoded(message, compressor);
        self.send(&bytes);
    }

    /// The next frame as it stands on the wire; `None` when the server hangs up.
    pub(crate) fn read_frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = Frame::decode(&mut self.received, &Limits::default()).unwrap() {
                return Some(frame);
            }
            let mut chunk = vec![0; 64 * 1024];
            match read_some(&mut self.stream, &mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no answer: {error}"),
            }
        }
    }

    pub(crate) fn read(&mut self) -> OpMsg {
        let frame = self.read_frame().expect("the server hung up");
        opened(frame)
    }

    /// Sends a request, and takes the reply that answers it and says ok.
    pub(crate) fn run(&mut self, request: OpMsg) -> OpMsg {
        let id = request.request_id;
        self.send_message(&request.into(), None);
        let reply = self.read();
        assert_eq!(reply.response_to, id);
        assert_ok(&reply);
        reply
    }

    pub(crate) fn run_command(&mut self, command: RawDocumentBuf) -> CommandReply {
        let request = self.request(command);
        CommandReply::new(self.run(request).body().clone())
    }

    /// Agrees with the server on one compressor.
    pub(crate) fn negotiate(&mut self, compressor: Compressor) {
        let name = compressor.name();
        let reply = self.run_command(rawdoc! { "hello": 1, "compression": [name], "$db": "admin" });
        let agreed = reply.document().as_raw().get_array("compression").unwrap();
        let agreed: Vec<_> = agreed
            .into_iter()
            .map(|name| name.unwrap().as_str().unwrap())
            .collect();
        assert_eq!(agreed, [name]);
    }
}

pub(crate) fn encoded(message: &Message, compressor: Option<Compressor>) -> BytesMut {
    let mut bytes = BytesMut::new();
    let limits = Limits::default();
    match compressor {
        Some(compressor) => message
            .encode_compressed(&mut bytes, compressor, &limits)
            .unwrap(),
        None => message.encode(&mut bytes, &limits).unwrap(),
    }
    bytes
}

pub(crate) fn opened(frame: Frame) -> OpMsg {
    match Message::from_frame(frame, &Limits::default()).unwrap() {
        Message::Msg(message) => message,
        other => panic!("an OP_MSG is due: {other:?}"),
    }
}

pub(crate) fn assert_ok(reply: &OpMsg) {
    let reply = CommandReply::new(reply.body().clone());
    assert_eq!(reply.server_error().unwrap(), None);
}

pub(crate) fn compressors() -> [Compressor; 3] {
    ["snappy", "zlib", "zstd"].map(|name| Compressor::from_name(name).unwrap())
}
