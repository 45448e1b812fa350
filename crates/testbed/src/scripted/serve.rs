//! The threads of a scripted server.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::sync::{Arc, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bson::{RawBsonRef, RawDocument, RawDocumentBuf};
use bytes::BytesMut;
use mongo_wire::{Document, Flags, Frame, Limits, Message, OpMsg, OpReply};

use super::{Answer, Received, Shared, State, Step, reset_on_drop};

/// How many bytes are read at once.
const READ_SIZE: usize = 16 * 1024;

/// Longer than any test waits for a gate.
const GATE_TIMEOUT: Duration = Duration::from_secs(600);

/// How often a connection that waits looks whether its client is still there.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Accepts connections until the server is dropped, and ends with their threads.
pub(super) fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    thread::scope(|scope| {
        for stream in listener.incoming() {
            if shared.state().closing {
                return;
            }
            // An accept that fails concerns one connection that is gone already.
            let Ok(stream) = stream else { continue };
            scope.spawn(move || handle(stream, shared));
        }
    });
}

fn handle(stream: TcpStream, shared: &Shared) {
    let Ok(handle) = stream.try_clone() else {
        return;
    };
    let number = shared.change(|state| {
        state.accepted += 1;
        state.open.insert(state.accepted, handle);
        // From here on a server that is dropped shuts the connection down; before, it says so.
        (!state.closing).then_some(state.accepted)
    });
    let Some(number) = number else { return };
    let mut connection = Connection {
        number,
        stream,
        shared,
        next_request_id: 1,
    };
    // A client that leaves or breaks the protocol ends its connection, which the test sees.
    let _ = connection.run();
    shared.change(|state| state.open.remove(&number));
}

struct Connection<'a> {
    number: u64,
    stream: TcpStream,
    shared: &'a Shared,
    next_request_id: i32,
}

impl Connection<'_> {
    fn run(&mut self) -> Result<()> {
        self.stream.set_nodelay(true)?;
        let mut bytes = BytesMut::new();
        let mut chunk = vec![0; READ_SIZE];
        loop {
            while let Some(frame) = Frame::decode(&mut bytes, &Limits::default())? {
                let compressed = frame.compressor().is_some();
                let message = Message::from_frame(frame, &Limits::default())?;
                let received = self.receive(&message, compressed)?;
                self.shared
                    .change(|state| state.received.push(received.clone()));
                if self.answer(&received)?.is_break() {
                    return Ok(());
                }
            }
            let count = self.stream.read(&mut chunk)?;
            if count == 0 {
                return Ok(());
            }
            bytes.extend_from_slice(&chunk[..count]);
        }
    }

    fn receive(&self, message: &Message, compressed: bool) -> Result<Received> {
        let (body, legacy) = match message {
            Message::Msg(message) => (message.body(), false),
            Message::Query(query) => (&query.query, true),
            _ => bail!("a request is an OP_MSG or an OP_QUERY"),
        };
        let mut received = Received {
            connection: self.number,
            at: Instant::now(),
            name: body.first_key().context("a command has a name")?.to_owned(),
            database: body.as_raw().get_str("$db").unwrap_or_default().to_owned(),
            body: body.to_raw_document_buf(),
            sequences: Vec::new(),
            request_id: message.request_id(),
            exhaust_allowed: false,
            more_to_come: false,
            compressed,
            legacy,
        };
        match message {
            Message::Msg(message) => {
                received.exhaust_allowed = message.flags.contains(Flags::EXHAUST_ALLOWED);
                received.more_to_come = message.more_to_come();
                for sequence in message.sequences() {
                    let mut documents = Vec::new();
                    for document in &sequence.documents {
                        documents.push(document?.to_raw_document_buf());
                    }
                    received
                        .sequences
                        .push((sequence.identifier.to_string(), documents));
                }
            }
            Message::Query(query) => {
                let namespace = query.full_collection_name.as_str();
                namespace
                    .split('.')
                    .next()
                    .unwrap_or_default()
                    .clone_into(&mut received.database);
            }
            _ => {}
        }
        Ok(received)
    }

    fn answer(&mut self, received: &Received) -> Result<ControlFlow<()>> {
        let key = if received.is_hello() {
            "hello"
        } else {
            received.name.as_str()
        };
        let scripted = self.shared.change(|state| state.next_answer(key));
        let answer = match scripted {
            Some(Scripted::Once(answer)) => answer,
            // Called without the lock, so that it may use the server.
            Some(Scripted::Always(respond)) => respond(received),
            None if received.is_hello() => {
                self.say_hello(received)?;
                return Ok(ControlFlow::Continue(()));
            }
            None if received.more_to_come => Answer::silence(),
            None => default_answer(&received.name),
        };
        let mut response_to = received.request_id;
        for step in answer.steps {
            match step {
                Step::Reply {
                    document,
                    more_to_come,
                } => {
                    response_to = self.send(received, document, response_to, more_to_come)?;
                }
                Step::Raw(bytes) => self.stream.write_all(&bytes)?,
                Step::Wait(time) => drop(self.wait(time, |_| false)?),
                Step::Hold(gate) => {
                    drop(self.wait(GATE_TIMEOUT, |state| state.released.contains(&gate))?);
                }
                Step::Close => return Ok(ControlFlow::Break(())),
                Step::Reset => {
                    reset_on_drop(&self.stream);
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Answers a hello at once, or when the script changes if the client knows the latest; streams
    /// the changes, until the connection ends, to a client that allows it.
    fn say_hello(&mut self, received: &Received) -> Result<()> {
        let mut known = known_version(&received.body);
        let max_await = integer(&received.body, "maxAwaitTimeMS");
        let max_await = Duration::from_millis(u64::try_from(max_await.unwrap_or(0)).unwrap_or(0));
        let mut response_to = received.request_id;
        loop {
            let state = self.wait(max_await, |state| {
                !state.hello.is_streaming() || known != Some(state.hello_version)
            })?;
            let reply = state.hello.reply(self.number, state.hello_version)?;
            let more = state.hello.is_streaming() && known.is_some() && received.exhaust_allowed;
            known = known.map(|_| state.hello_version);
            drop(state);
            response_to = self.send(received, reply, response_to, more)?;
            if !more {
                return Ok(());
            }
        }
    }

    /// Waits as [`Shared::wait`] does; fails when the client or the server leaves meanwhile.
    fn wait(
        &self,
        timeout: Duration,
        mut reached: impl FnMut(&State) -> bool,
    ) -> Result<MutexGuard<'_, State>> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let (state, accepted) = self.shared.wait(left.min(LOOK_INTERVAL), &mut reached);
            if state.closing {
                bail!("the server is closing");
            }
            if accepted || left <= LOOK_INTERVAL {
                return Ok(state);
            }
            drop(state);
            self.stream.set_nonblocking(true)?;
            let peeked = self.stream.peek(&mut [0; 1]);
            self.stream.set_nonblocking(false)?;
            match peeked {
                Ok(1..) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                _ => bail!("the client has left"),
            }
        }
    }

    /// Sends a reply in the form that the request had; returns its request id.
    fn send(
        &mut self,
        received: &Received,
        document: RawDocumentBuf,
        response_to: i32,
        more_to_come: bool,
    ) -> Result<i32> {
        let request_id = self.next_request_id;
        self.next_request_id = request_id.wrapping_add(1);
        let mut bytes = BytesMut::new();
        let document = Document::from(document);
        if received.legacy {
            OpReply::new(request_id, response_to, &document)
                .encode(&mut bytes, &Limits::default())?;
        } else {
            let flags = if more_to_come {
                Flags::MORE_TO_COME
            } else {
                Flags::empty()
            };
            OpMsg::new(request_id, document)
                .in_response_to(response_to)
                .with_flags(flags)
                .encode(&mut bytes, &Limits::default())?;
        }
        self.stream.write_all(&bytes)?;
        Ok(request_id)
    }
}

/// An answer that the test gave.
enum Scripted {
    Once(Answer),
    Always(super::Responder),
}

impl State {
    fn next_answer(&mut self, command: &str) -> Option<Scripted> {
        if let Some(answer) = self
            .once
            .get_mut(command)
            .and_then(|queue| queue.pop_front())
        {
            return Some(Scripted::Once(answer));
        }
        self.always
            .get(command)
            .map(|respond| Scripted::Always(Arc::clone(respond)))
    }
}

fn default_answer(command: &str) -> Answer {
    match command {
        "ping" | "endSessions" | "killCursors" => Answer::ok(),
        _ => Answer::error(59, "CommandNotFound", &[]),
    }
}

/// The counter of the topologyVersion that a client sent.
fn known_version(body: &RawDocument) -> Option<i64> {
    integer(body.get_document("topologyVersion").ok()?, "counter")
}

/// An integer of whichever width.
fn integer(document: &RawDocument, key: &str) -> Option<i64> {
    match document.get(key).ok()?? {
        RawBsonRef::Int32(value) => Some(value.into()),
        RawBsonRef::Int64(value) => Some(value),
        _ => None,
    }
}
