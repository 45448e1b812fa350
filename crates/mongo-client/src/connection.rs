//! One byte stream to one server: messages in order, nothing half-read ever reused.
//!
//! A connection is *busy* from the first byte of a request to the last byte of its last reply.
//! Dropping a future in between leaves it busy, and a busy connection is closed, never checked in.

mod connect;
mod eyeballs;
mod handshake;
mod receive_buffer;
mod socks5;
#[cfg(feature = "tls")]
mod tls;
mod transport;

use std::io::ErrorKind;
use std::sync::Arc;

use bson::RawDocument;
use bson::oid::ObjectId;
use bytes::BytesMut;
use mongo_topology::HelloReply;
use mongo_uri::ServerAddress;
use mongo_wire::{CommandBody, CommandReply, Compressor, Document, Flags, Limits, Message, OpMsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub(crate) use connect::{ConnectFailure, Connector, within};
pub use handshake::DriverInfo;
pub(crate) use handshake::{Environment, Handshake, Metadata};
pub(crate) use transport::Transport;

use receive_buffer::ReceiveBuffer;

use crate::auth::Proof;
use crate::error::{Error, IoAction, Result, Violation};
use crate::session::{ClusterClock, ClusterTime};

/// Bytes that the buffer of requests keeps from one to the next.
const KEPT_TO_SEND: usize = 64 * 1024;

/// What a connection speaks over.
pub(crate) trait ByteStream:
    tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Sync + Unpin
{
}

impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Sync + Unpin> ByteStream for T {}

/// What a server without TLS does when it dies, and one that requires TLS does always.
#[derive(Debug, thiserror::Error)]
#[error(
    "the server ended the connection instead of answering the first hello; if it requires TLS, add \
     tls=true to the connection string"
)]
struct HungUp;

/// An open connection; see the [module](self).
pub(crate) struct Connection {
    server: ServerAddress,
    stream: Box<dyn ByteStream>,
    /// Neither encrypted nor local, so that the server may refuse it for that.
    is_plain: bool,
    received: ReceiveBuffer,
    to_send: BytesMut,
    limits: Limits,
    /// What goes beside every command, such as the declaration of a server API; a document.
    declared: Option<Document>,
    /// What requests are compressed with, those that may be; replies come as the server likes.
    compressor: Option<Compressor>,
    last_request_id: i32,
    /// The request or reply that the next reply must answer, while the connection is busy.
    awaited: Option<Awaited>,
    hello: Option<HelloReply>,
    /// How it was authenticated.
    proof: Option<Proof>,
    /// The deployment's time, as it was when a command was last sent here.
    cluster_time: Option<Arc<ClusterTime>>,
}

#[derive(Clone, Copy)]
struct Awaited {
    response_to: i32,
    exhaust_allowed: bool,
}

impl Connection {
    fn new(server: ServerAddress, stream: Box<dyn ByteStream>) -> Self {
        Self {
            server,
            stream,
            is_plain: false,
            received: ReceiveBuffer::default(),
            to_send: BytesMut::new(),
            limits: Limits::default(),
            declared: None,
            compressor: None,
            last_request_id: 0,
            awaited: None,
            hello: None,
            proof: None,
            cluster_time: None,
        }
    }

    /// What the server said of itself when the connection was opened.
    pub(crate) fn hello(&self) -> Option<&HelloReply> {
        self.hello.as_ref()
    }

    /// What goes beside every command, whatever the operation.
    pub(crate) fn declared(&self) -> Option<&RawDocument> {
        self.declared.as_ref().map(Document::as_raw)
    }

    /// `maxWireVersion` of this connection's own handshake.
    pub(crate) fn max_wire_version(&self) -> i32 {
        self.hello
            .as_ref()
            .map_or(0, |hello| hello.wire_versions.max)
    }

    /// The service behind a load balancer that this connection reached.
    pub(crate) fn service_id(&self) -> Option<ObjectId> {
        self.hello.as_ref()?.service_id
    }

    /// The server's own number for this connection.
    pub(crate) fn server_connection_id(&self) -> Option<i64> {
        self.hello.as_ref()?.connection_id
    }

    /// The deployment's time, to be sent along: the newest that the clock knows.
    pub(crate) fn cluster_time(&mut self, clock: &ClusterClock) -> Option<&Arc<ClusterTime>> {
        clock.update(&mut self.cluster_time);
        self.cluster_time.as_ref()
    }

    /// Tells the clock what a reply says of the deployment's time.
    pub(crate) fn learn_cluster_time(&mut self, clock: &ClusterClock, received: &RawDocument) {
        if let Some(time) = clock.advance(received) {
            self.cluster_time = Some(time);
        }
    }

    /// The number that the next request will have.
    pub(crate) fn next_request_id(&self) -> i32 {
        self.last_request_id.wrapping_add(1)
    }

    /// True when every reply was read: the connection can be used by somebody else.
    pub(crate) fn is_reusable(&self) -> bool {
        self.awaited.is_none() && self.received.bytes.is_empty()
    }

    /// Whether the server sends another reply unasked.
    pub(crate) fn has_more_to_come(&self) -> bool {
        self.awaited.is_some()
    }

    /// Sends one command and reads its one reply, whatever the reply says.
    ///
    /// Dropping the future leaves the connection busy, so that it will be closed.
    pub(crate) async fn exchange(
        &mut self,
        command: &RawDocument,
        envelope: &RawDocument,
    ) -> Result<CommandReply> {
        self.send(command, envelope, Flags::empty()).await?;
        self.receive().await.map(|(reply, _)| reply)
    }

    /// Sends one command, whose body gets the envelope's elements after its own.
    pub(crate) async fn send(
        &mut self,
        command: &RawDocument,
        envelope: &RawDocument,
        flags: Flags,
    ) -> Result<()> {
        debug_assert!(
            self.awaited.is_none(),
            "a busy connection cannot take a request"
        );
        self.last_request_id = self.next_request_id();
        let request_id = self.last_request_id;
        let mut body = CommandBody::of_raw(command).raw_elements_of(envelope);
        if let Some(declared) = &self.declared {
            body = body.elements_of(declared);
        }
        self.to_send.clear();
        match self.compressor {
            Some(compressor) => {
                let body = body.into_document(&self.limits)?;
                let message = OpMsg::new(request_id, body).with_flags(flags);
                message.encode_compressed(&mut self.to_send, compressor, &self.limits)?;
            }
            None => {
                body.encode_message(request_id, flags, &mut self.to_send, &self.limits)?;
            }
        }
        self.awaited = Some(Awaited {
            response_to: request_id,
            exhaust_allowed: flags.contains(Flags::EXHAUST_ALLOWED),
        });
        let written = async {
            self.stream.write_all(&self.to_send).await?;
            // A TLS stream takes bytes that the socket has no room for, and reads without a thought
            // of them.
            self.stream.flush().await
        };
        let written = written.await;
        written.map_err(|source| self.io_error(IoAction::Send, source))?;
        if self.to_send.capacity() > KEPT_TO_SEND {
            self.to_send = BytesMut::new();
        }
        // Until here the connection was busy even so: half a request must not be followed by another.
        if flags.contains(Flags::MORE_TO_COME) {
            self.awaited = None;
        }
        Ok(())
    }

    /// Reads the next reply; true says that the server sends another one unasked.
    pub(crate) async fn receive(&mut self) -> Result<(CommandReply, bool)> {
        let message = self.read_message().await?;
        let Some(awaited) = self.awaited else {
            return Err(self.violation(Violation::UnexpectedMoreToCome));
        };
        let message = match message {
            Message::Msg(message) => message,
            other => return Err(self.violation(Violation::OpCode(other.op_code().0))),
        };
        if message.response_to != awaited.response_to {
            let expected = awaited.response_to;
            let found = message.response_to;
            return Err(self.violation(Violation::ResponseTo { expected, found }));
        }
        let more_to_come = message.more_to_come();
        if more_to_come && !awaited.exhaust_allowed {
            return Err(self.violation(Violation::UnexpectedMoreToCome));
        }
        // Each reply of a chain answers the reply before it.
        self.awaited = more_to_come.then_some(Awaited {
            response_to: message.request_id,
            exhaust_allowed: true,
        });
        Ok((CommandReply::new(message.body().clone()), more_to_come))
    }

    async fn read_message(&mut self) -> Result<Message> {
        loop {
            let bytes = &mut self.received.bytes;
            let received = bytes.len();
            let decoded = mongo_wire::decode(bytes, &self.limits);
            let left = bytes.len();
            if let Some(message) = decoded.map_err(|source| self.malformed(source))? {
                self.received.passed(received - left);
                return Ok(message);
            }
            let wanted = mongo_wire::bytes_wanted(&self.received.bytes, &self.limits)
                .map_err(|source| self.malformed(source))?;
            self.received.make_room(wanted);
            match self.stream.read_buf(&mut self.received.bytes).await {
                Ok(0) if self.is_unheard() => {
                    return Err(self.hung_up(ErrorKind::UnexpectedEof));
                }
                Ok(0) => return Err(self.violation(Violation::ClosedEarly)),
                Ok(_) => {}
                Err(source) if source.kind() == ErrorKind::ConnectionReset && self.is_unheard() => {
                    return Err(self.hung_up(ErrorKind::ConnectionReset));
                }
                Err(source) => return Err(self.io_error(IoAction::Receive, source)),
            }
        }
    }

    /// Whether nothing has ever been heard over a stream that is not encrypted.
    fn is_unheard(&self) -> bool {
        self.is_plain && self.last_request_id <= 1 && self.received.bytes.is_empty()
    }

    /// The server ended the connection instead of answering the first hello.
    fn hung_up(&self, kind: ErrorKind) -> Error {
        self.io_error(IoAction::Handshake, std::io::Error::new(kind, HungUp))
    }

    fn io_error(&self, action: IoAction, source: std::io::Error) -> Error {
        Error::of_stream(&self.server, action, source)
    }

    fn violation(&self, violation: Violation) -> Error {
        Error::Violation {
            server: self.server.clone(),
            violation,
        }
    }

    fn malformed(&self, source: mongo_wire::DecodeError) -> Error {
        Error::Malformed {
            server: self.server.clone(),
            source,
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("server", &self.server)
            .field("busy", &self.awaited.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;
    use tokio::io::BufWriter;

    use super::*;

    /// As a TLS stream may, when its socket's buffer is full: it takes bytes that it has not sent.
    #[tokio::test(start_paused = true)]
    async fn a_command_is_sent_to_its_end_though_the_stream_would_hold_bytes_back() {
        for flags in [Flags::empty(), Flags::MORE_TO_COME] {
            let (ours, mut theirs) = tokio::io::duplex(1 << 20);
            let stream = Box::new(BufWriter::with_capacity(1 << 20, ours));
            let mut connection = Connection::new(ServerAddress::tcp("h", 1), stream);
            let comment = "x".repeat(100_000);
            let command = rawdoc! { "ping": 1, "comment": comment };
            let envelope = rawdoc! { "$db": "d" };
            let sent = connection.send(&command, &envelope, flags).await;
            sent.unwrap();
            let mut received = BytesMut::new();
            let message = async {
                loop {
                    theirs.read_buf(&mut received).await.unwrap();
                    let decoded = mongo_wire::decode(&mut received, &Limits::default());
                    if let Some(message) = decoded.unwrap() {
                        return message;
                    }
                }
            };
            let limit = std::time::Duration::from_secs(60);
            let message = tokio::time::timeout(limit, message).await;
            assert!(matches!(message.unwrap(), Message::Msg(_)));
        }
    }
}
