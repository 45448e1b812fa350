//! Follows a collection over one blocking socket of the standard library, with no async runtime at
//! all: what somebody with an event loop of their own has to bring.
//!
//! ```text
//! cargo run -p mongo-change-stream --example own_event_loop -- 127.0.0.1:27017 shop orders
//! ```
//!
//! It knows one address, which must be the primary's; finding it is `mongo-topology`'s business.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]
#![allow(
    clippy::disallowed_methods,
    reason = "whoever owns the loop owns the clock; the machine is told the time"
)]

use std::{
    env,
    error::Error,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    ops::ControlFlow,
    thread,
    time::{Duration, Instant},
};

use bson::rawdoc;
use bytes::BytesMut;
use mongo_change_stream::{
    Action, BatchReader, ChangeStreamMachine, Failure, FailureKind, Input, RawEvent, ResumeToken,
    StreamConfig, StreamError, StreamEvent, WatchOptions, WatchTarget,
};
use mongo_wire::{
    CommandBody, CommandReply, Document, Limits, Message, OpMsg, bytes_wanted, decode,
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [address, database, collection] = &arguments[..] else {
        return Err("usage: own_event_loop HOST:PORT DATABASE COLLECTION".into());
    };
    let target = WatchTarget::Collection {
        database: database.clone(),
        collection: collection.clone(),
    };
    follow(address, target, WatchOptions::default(), |event, _token| {
        println!("{event:?}");
        ControlFlow::Continue(())
    })?;
    Ok(())
}

/// Follows until `consume`, which gets each event and the token behind it, has enough, or the
/// stream ends.
///
/// # Errors
/// What ends the stream.
pub(crate) fn follow(
    address: &str,
    target: WatchTarget,
    options: WatchOptions,
    mut consume: impl FnMut(RawEvent, Option<ResumeToken>) -> ControlFlow<()>,
) -> Result<(), StreamError> {
    // One thing at a time: nothing is read ahead.
    let config = StreamConfig {
        prefetch: None,
        ..StreamConfig::default()
    };
    let mut reader = BatchReader::new(&options);
    let seed = u64::from(std::process::id());
    let mut machine = ChangeStreamMachine::new(target, Vec::new(), options, config, seed);
    let mut server = Server::new(address);
    loop {
        while let Some(action) = machine.poll_action() {
            match action {
                Action::Aggregate {
                    database,
                    command,
                    deadline,
                }
                | Action::GetMore {
                    database,
                    command,
                    deadline,
                    ..
                } => {
                    let outcome = server.run(&database, &command, deadline);
                    let outcome = match outcome {
                        Ok(reply) => Input::ReplyReceived {
                            reply,
                            max_wire_version: server.max_wire_version,
                        },
                        Err(error) => Input::CommandFailed {
                            failure: failed(error),
                        },
                    };
                    machine.handle(outcome, Instant::now());
                }
                Action::KillCursors { database, command } if server.stream.is_some() => {
                    // Whatever comes of it; a new connection is not worth it.
                    let _ = server.run(&database, &command, Duration::from_secs(1));
                }
                Action::Deliver(batch) => reader.push(batch),
                Action::Publish(StreamEvent::Interrupted { cause, delay, .. }) => {
                    println!("interrupted, resuming in {delay:?}: {cause}");
                }
                Action::Finish(result) => return result,
                _ => {}
            }
        }
        while let Some(event) = reader.next_event() {
            if consume(event?, reader.resume_token()).is_break() {
                machine.handle(Input::Close, Instant::now());
                break;
            }
        }
        for _ in 0..reader.poll_taken() {
            machine.handle(Input::BatchTaken, Instant::now());
        }
        machine.handle(Input::Demanded, Instant::now());
        if let Some(time) = machine.poll_timeout() {
            // Nothing else can happen in a loop with one socket and no command under way.
            thread::sleep(time.saturating_duration_since(Instant::now()));
            machine.handle_timeout(Instant::now());
        }
    }
}

fn failed(error: io::Error) -> Failure {
    let kind = match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => FailureKind::Timeout,
        io::ErrorKind::InvalidData => FailureKind::Protocol,
        _ => FailureKind::Network,
    };
    Failure::new(kind, error)
}

/// One server, connected when it is needed. After any failure the connection is closed: a reply
/// may still be on its way.
struct Server {
    address: String,
    stream: Option<TcpStream>,
    max_wire_version: i32,
    received: BytesMut,
    last_request: i32,
}

impl Server {
    fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            stream: None,
            max_wire_version: 0,
            received: BytesMut::new(),
            last_request: 0,
        }
    }

    fn run(&mut self, database: &str, command: &Document, limit: Duration) -> io::Result<Document> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect(limit)?,
        };
        let reply = self.exchange(&mut stream, database, command, limit)?;
        self.stream = Some(stream);
        Ok(reply)
    }

    fn connect(&mut self, limit: Duration) -> io::Result<TcpStream> {
        self.received.clear();
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_nodelay(true)?;
        let hello = rawdoc! { "isMaster": 1, "helloOk": true }.into();
        let reply = self.exchange(&mut stream, "admin", &hello, limit)?;
        let version = reply.as_raw().get_i32("maxWireVersion");
        self.max_wire_version = version.map_err(invalid)?;
        Ok(stream)
    }

    fn exchange(
        &mut self,
        stream: &mut TcpStream,
        database: &str,
        command: &Document,
        limit: Duration,
    ) -> io::Result<Document> {
        let limits = Limits::default();
        self.last_request = self.last_request.wrapping_add(1);
        let body = CommandBody::new(command).string(c"$db", database);
        let body = body.into_document(&limits).map_err(invalid)?;
        let mut request = BytesMut::new();
        let message = OpMsg::new(self.last_request, body);
        message.encode(&mut request, &limits).map_err(invalid)?;
        stream.write_all(&request)?;

        let deadline = Instant::now() + limit;
        loop {
            if let Some(message) = decode(&mut self.received, &limits).map_err(invalid)? {
                let Message::Msg(reply) = message else {
                    return Err(invalid("expected an OP_MSG"));
                };
                if reply.response_to != self.last_request {
                    return Err(invalid("the reply answers another request"));
                }
                return Ok(CommandReply::new(reply.body().clone()).into_document());
            }
            let wanted = bytes_wanted(&self.received, &limits).map_err(invalid)?;
            let left = deadline.saturating_duration_since(Instant::now());
            stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            let start = self.received.len();
            self.received.resize(start + wanted, 0);
            let read = stream.read(&mut self.received[start..]);
            self.received.truncate(start + read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                // The process was stopped and goes on.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
    }
}

fn invalid(error: impl Into<Box<dyn Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
