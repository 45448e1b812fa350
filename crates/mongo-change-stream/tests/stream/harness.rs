//! A machine and a reader in virtual time, and the replies they are fed.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use bson::{Bson, Document, Timestamp, doc};
use mongo_change_stream::{
    Action, BatchReader, ChangeStreamMachine, Failure, FailureKind, Input, Prefetch, ResumeToken,
    StreamBatch, StreamConfig, StreamError, StreamEvent, WatchOptions, WatchTarget,
};

/// Wire version of MongoDB 4.2, the last that does not label errors.
pub(crate) const WIRE_4_2: i32 = 8;
/// Wire version of MongoDB 6.0.
pub(crate) const WIRE_6_0: i32 = 17;

/// When every stream under test begins, so that two runs can be compared.
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can be had from nowhere else"
)]
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A stream under test: what it ordered is sorted into the fields as it comes.
pub(crate) struct Stream {
    pub(crate) machine: ChangeStreamMachine,
    pub(crate) reader: BatchReader,
    pub(crate) now: Instant,
    pub(crate) wire: i32,
    pub(crate) log: Vec<String>,
    pub(crate) command: Option<Command>,
    /// A reply is to be read that comes unasked.
    pub(crate) reading: bool,
    pub(crate) killed: Vec<Document>,
    pub(crate) events: Vec<StreamEvent>,
    pub(crate) delivered: Vec<StreamBatch>,
    /// Batches with events that were delivered and not taken up.
    pub(crate) waiting: usize,
    pub(crate) finished: Option<Result<(), StreamError>>,
}

/// The command under way.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    pub(crate) database: String,
    pub(crate) body: Document,
    pub(crate) deadline: Option<Duration>,
    pub(crate) exhaust: bool,
}

impl Command {
    pub(crate) fn is_get_more(&self) -> bool {
        self.body.contains_key("getMore")
    }

    /// The options inside `$changeStream`.
    pub(crate) fn stage(&self) -> &Document {
        let pipeline = self.body.get_array("pipeline").unwrap();
        pipeline[0]
            .as_document()
            .unwrap()
            .get_document("$changeStream")
            .unwrap()
    }
}

pub(crate) fn collection() -> WatchTarget {
    WatchTarget::Collection {
        database: "shop".into(),
        collection: "orders".into(),
    }
}

pub(crate) fn without_prefetch() -> StreamConfig {
    StreamConfig {
        prefetch: None,
        ..StreamConfig::default()
    }
}

impl Stream {
    pub(crate) fn open(options: WatchOptions) -> Self {
        Self::with(options, without_prefetch())
    }

    pub(crate) fn with(options: WatchOptions, config: StreamConfig) -> Self {
        Self::watching(collection(), &[], options, config)
    }

    pub(crate) fn watching(
        target: WatchTarget,
        pipeline: &[Document],
        options: WatchOptions,
        config: StreamConfig,
    ) -> Self {
        let pipeline = pipeline
            .iter()
            .map(|stage| stage.try_into().unwrap())
            .collect();
        let reader = BatchReader::new(&options);
        let machine = ChangeStreamMachine::new(target, pipeline, options, config, 1);
        let mut stream = Self {
            machine,
            reader,
            now: *EPOCH,
            wire: WIRE_6_0,
            log: Vec::new(),
            command: None,
            reading: false,
            killed: Vec::new(),
            events: Vec::new(),
            delivered: Vec::new(),
            waiting: 0,
            finished: None,
        };
        stream.drain();
        stream
    }

    /// Takes actions until there are none.
    pub(crate) fn drain(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            assert!(
                self.finished.is_none(),
                "an action after Finish: {action:?}"
            );
            self.log.push(format!("{action:?}"));
            match action {
                Action::Aggregate {
                    database,
                    command,
                    deadline,
                } => {
                    self.order(Command {
                        database: database.into(),
                        body: decode(&command),
                        deadline: Some(deadline),
                        exhaust: false,
                    });
                }
                Action::GetMore {
                    database,
                    command,
                    deadline,
                    exhaust,
                } => {
                    let deadline = Some(deadline);
                    self.order(Command {
                        database: database.into(),
                        body: decode(&command),
                        deadline,
                        exhaust,
                    });
                }
                Action::KillCursors { database, command } => {
                    let mut command = decode(&command);
                    command.insert("$db", database.as_str());
                    self.note(&command);
                    self.killed.push(command);
                }
                Action::ReadReply { .. } => {
                    assert!(self.command.is_none() && !self.reading);
                    self.reading = true;
                }
                Action::Unbind => (self.command, self.reading) = (None, false),
                Action::Deliver(batch) => {
                    self.delivered.push(batch.clone());
                    self.waiting += usize::from(!batch.is_empty());
                    self.reader.push(batch);
                }
                Action::Publish(event) => self.events.push(event),
                Action::Finish(result) => self.finished = Some(result),
                other => panic!("an action nobody knows: {other:?}"),
            }
        }
    }

    /// Adds to the last action's line what the command says.
    fn note(&mut self, command: &Document) {
        let line = self.log.last_mut().expect("the action that ordered it");
        line.push_str(&command.to_string());
    }

    fn order(&mut self, command: Command) {
        assert!(self.command.is_none(), "two commands at once: {command:?}");
        self.note(&command.body);
        self.command = Some(command);
    }

    pub(crate) fn handle(&mut self, input: Input) {
        self.machine.handle(input, self.now);
        self.drain();
    }

    pub(crate) fn reply(&mut self, reply: &Document) {
        (self.command, self.reading) = (None, false);
        let max_wire_version = self.wire;
        self.handle(Input::ReplyReceived {
            reply: encode(reply),
            max_wire_version,
        });
    }

    /// A reply behind which the server sends another one unasked.
    pub(crate) fn streamed(&mut self, reply: &Document) {
        (self.command, self.reading) = (None, false);
        let max_wire_version = self.wire;
        self.handle(Input::StreamedReplyReceived {
            reply: encode(reply),
            max_wire_version,
        });
    }

    pub(crate) fn fail(&mut self, kind: FailureKind) {
        (self.command, self.reading) = (None, false);
        self.handle(Input::CommandFailed {
            failure: Failure::from(kind),
        });
    }

    pub(crate) fn demand(&mut self) {
        self.handle(Input::Demanded);
    }

    pub(crate) fn close(&mut self) {
        self.handle(Input::Close);
    }

    /// Lets time pass, with every time-out on the way.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(timeout) = self
            .machine
            .poll_timeout()
            .filter(|timeout| *timeout <= end)
        {
            self.now = self.now.max(timeout);
            self.machine.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    /// The command under way, which must be an `aggregate`.
    pub(crate) fn aggregate(&self) -> &Command {
        let command = self.command.as_ref().expect("no command under way");
        assert!(
            !command.is_get_more(),
            "expected an aggregate, found {command:?}"
        );
        command
    }

    /// The command under way, which must be a `getMore`.
    pub(crate) fn get_more(&self) -> &Command {
        let command = self.command.as_ref().expect("no command under way");
        assert!(
            command.is_get_more(),
            "expected a getMore, found {command:?}"
        );
        command
    }

    /// The next event, after telling the machine that its batch was taken up.
    pub(crate) fn next(&mut self) -> Option<Result<Document, StreamError>> {
        let event = self.reader.next_event();
        for _ in 0..self.reader.poll_taken() {
            self.waiting -= 1;
            self.handle(Input::BatchTaken);
        }
        event.map(|event| event.map(|event| Document::try_from(event.document()).unwrap()))
    }

    /// The number in the reader's token, as [`token`] made it.
    pub(crate) fn token(&self) -> Option<String> {
        let token = self.reader.resume_token()?;
        Some(token.as_raw().get_str("t").unwrap().to_owned())
    }

    pub(crate) fn error(&self) -> &StreamError {
        match &self.finished {
            Some(Err(error)) => error,
            other => panic!("expected an error, found {other:?}"),
        }
    }
}

/// The start options a stage carries.
pub(crate) fn start_of(stage: &Document) -> Vec<(String, Bson)> {
    let keys = ["resumeAfter", "startAfter", "startAtOperationTime"];
    keys.iter()
        .filter_map(|key| Some(((*key).to_owned(), stage.get(key)?.clone())))
        .collect()
}

pub(crate) fn resume_after(name: &str) -> Vec<(String, Bson)> {
    vec![("resumeAfter".into(), Bson::Document(doc! { "t": name }))]
}

pub(crate) fn start_after(name: &str) -> Vec<(String, Bson)> {
    vec![("startAfter".into(), Bson::Document(doc! { "t": name }))]
}

pub(crate) fn token(name: &str) -> ResumeToken {
    ResumeToken::from_bytes(bson::serialize_to_vec(&doc! { "t": name }).unwrap()).unwrap()
}

pub(crate) fn event(name: &str) -> Document {
    doc! { "_id": { "t": name }, "operationType": "insert", "fullDocument": { "name": name } }
}

pub(crate) const OPERATION_TIME: Timestamp = Timestamp {
    time: 77,
    increment: 7,
};

/// A reply of a server that names the end of each batch.
pub(crate) fn batch(id: i64, events: &[&str], end: &str) -> Document {
    let mut reply = batch_without_end(id, events);
    reply
        .get_document_mut("cursor")
        .unwrap()
        .insert("postBatchResumeToken", doc! { "t": end });
    reply
}

/// A reply of a server that does not.
pub(crate) fn batch_without_end(id: i64, events: &[&str]) -> Document {
    let events: Vec<_> = events.iter().map(|name| event(name)).collect();
    doc! {
        "cursor": { "id": id, "ns": "shop.orders", "nextBatch": events },
        "operationTime": OPERATION_TIME,
        "ok": 1.0,
    }
}

/// A batch whose last event is an invalidate named `end`.
pub(crate) fn invalidated(id: i64, events: &[&str], end: &str) -> Document {
    let events = [events, &[end]].concat();
    let mut reply = batch(id, &events, end);
    let cursor = reply.get_document_mut("cursor").unwrap();
    let last = cursor.get_array_mut("nextBatch").unwrap().last_mut();
    let last = last.unwrap().as_document_mut().unwrap();
    last.insert("operationType", "invalidate");
    reply
}

pub(crate) fn server_error(code: i32, labels: &[&str]) -> Document {
    doc! { "ok": 0.0, "errmsg": "no", "code": code, "codeName": "No", "errorLabels": labels }
}

pub(crate) fn resumable() -> Document {
    server_error(189, &["ResumableChangeStreamError"])
}

pub(crate) fn encode(document: &Document) -> mongo_wire::Document {
    mongo_wire::Document::from_bytes(bson::serialize_to_vec(document).unwrap()).unwrap()
}

fn decode(command: &mongo_wire::Document) -> Document {
    Document::try_from(command.as_raw()).unwrap()
}

pub(crate) fn prefetch(batches: usize, bytes: usize) -> StreamConfig {
    StreamConfig {
        prefetch: Some(Prefetch::new(batches, bytes)),
        ..StreamConfig::default()
    }
}
