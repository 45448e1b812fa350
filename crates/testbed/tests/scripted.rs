//! What a scripted server can be made to do, seen from a plain connection.

#![allow(clippy::unwrap_used, reason = "a test and its helpers")]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use bson::oid::ObjectId;
use bson::{Bson, Document, RawDocumentBuf, rawdoc};
use bytes::BytesMut;
use mongo_wire::{DocumentList, DocumentSequence, Flags, Limits, Message, OpMsg, OpQuery, decode};
use testbed::connection::{CommandFailed, Connection, read_some};
use testbed::scripted::{Answer, HelloScript, ScriptedServer};

const PATIENCE: Duration = Duration::from_secs(20);

fn standalone() -> ScriptedServer {
    ScriptedServer::start(|_| HelloScript::standalone()).unwrap()
}

fn connect(server: &ScriptedServer) -> Connection {
    Connection::open(&server.address(), PATIENCE).unwrap()
}

/// A connection on which a test writes and reads messages of its own.
struct Wire {
    stream: TcpStream,
    bytes: BytesMut,
}

impl Wire {
    fn open(server: &ScriptedServer) -> Self {
        let stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream,
            bytes: BytesMut::new(),
        }
    }

    fn send(&mut self, message: impl Into<Message>) {
        let mut bytes = BytesMut::new();
        message
            .into()
            .encode(&mut bytes, &Limits::default())
            .unwrap();
        self.stream.write_all(&bytes).unwrap();
    }

    fn read(&mut self) -> Message {
        loop {
            if let Some(message) = decode(&mut self.bytes, &Limits::default()).unwrap() {
                return message;
            }
            let mut chunk = [0; 4096];
            let count = read_some(&mut self.stream, &mut chunk).unwrap();
            assert_ne!(count, 0, "the server closed the connection");
            self.bytes.extend_from_slice(&chunk[..count]);
        }
    }

    fn read_msg(&mut self) -> OpMsg {
        let Message::Msg(message) = self.read() else {
            panic!("an OP_MSG is expected")
        };
        message
    }
}

fn msg(request_id: i32, body: RawDocumentBuf) -> OpMsg {
    OpMsg::new(request_id, body.into())
}

#[test]
fn hello_shows_the_deployment_that_the_script_names() {
    let service = ObjectId::new();
    let hosts = ["a:1", "b:2"];
    let cases: [(HelloScript, &str, Bson); 6] = [
        (
            HelloScript::standalone().with("maxWireVersion", 8),
            "maxWireVersion",
            8.into(),
        ),
        (HelloScript::mongos(), "msg", "isdbgrid".into()),
        (
            HelloScript::primary("rs", "a:1", &hosts),
            "isWritablePrimary",
            true.into(),
        ),
        (
            HelloScript::secondary("rs", "a:1", &hosts),
            "secondary",
            true.into(),
        ),
        (
            HelloScript::secondary("rs", "a:1", &hosts),
            "setName",
            "rs".into(),
        ),
        (
            HelloScript::load_balanced(service),
            "serviceId",
            service.into(),
        ),
    ];
    for (script, key, value) in cases {
        let server = ScriptedServer::start(|_| script).unwrap();
        let reply = connect(&server)
            .run_command("admin", &rawdoc! { "hello": 1 })
            .unwrap();
        assert_eq!(
            Document::try_from(&*reply).unwrap().get(key),
            Some(&value),
            "{reply:?}"
        );
    }
}

#[test]
fn commands_are_answered_once_then_always_and_recorded() {
    let server = standalone();
    server.once(
        "find",
        Answer::error(11600, "InterruptedAtShutdown", &["Retryable"]),
    );
    server.always("find", |received| {
        Answer::reply(rawdoc! { "ok": 1, "on": received.database.as_str() })
    });
    let mut connection = connect(&server);
    let find = rawdoc! { "find": "c" };
    let error = connection.run_command("db", &find).unwrap_err();
    let failed: &CommandFailed = error.downcast_ref().unwrap();
    assert_eq!(failed.code, 11600);
    for _ in 0..2 {
        assert_eq!(
            connection
                .run_command("db", &find)
                .unwrap()
                .get_str("on")
                .unwrap(),
            "db"
        );
    }
    let error = connection
        .run_command("db", &rawdoc! { "unknown": 1 })
        .unwrap_err();
    assert_eq!(error.downcast_ref::<CommandFailed>().unwrap().code, 59);
    assert_eq!(server.received_named("find").len(), 3);
    let received = server.received();
    assert_eq!(received.len(), 4);
    assert!(received.iter().all(|received| received.connection == 1));
}

#[test]
fn sequences_are_recorded_and_unacknowledged_commands_not_answered() {
    let server = standalone();
    let mut wire = Wire::open(&server);
    let document = rawdoc! { "_id": 1 }.into();
    let sequence = DocumentSequence::new("documents", DocumentList::from_documents([&document]));
    let insert = msg(1, rawdoc! { "insert": "c", "$db": "d" }).with_sequence(sequence);
    wire.send(insert.with_flags(Flags::MORE_TO_COME));
    wire.send(msg(2, rawdoc! { "ping": 1, "$db": "d" }));
    assert_eq!(wire.read_msg().response_to, 2);
    let insert = &server.received()[0];
    assert!(insert.more_to_come);
    assert_eq!(
        insert.sequences,
        [("documents".to_owned(), vec![rawdoc! { "_id": 1 }])]
    );
}

#[test]
fn a_legacy_hello_gets_a_legacy_reply() {
    let server = standalone();
    let mut wire = Wire::open(&server);
    let query = OpQuery::command(
        7,
        "admin",
        rawdoc! { "ismaster": 1, "helloOk": true }.into(),
    );
    wire.send(Message::Query(query));
    let Message::Reply(reply) = wire.read() else {
        panic!("an OP_REPLY is expected")
    };
    assert_eq!(reply.response_to, 7);
    let received = &server.received()[0];
    assert_eq!(
        (received.legacy, received.database.as_str()),
        (true, "admin")
    );
}

#[test]
fn a_waiting_hello_is_answered_when_the_script_changes() {
    let server = ScriptedServer::start(|_| HelloScript::standalone().streaming()).unwrap();
    let mut connection = connect(&server);
    let first = connection
        .run_command("admin", &rawdoc! { "hello": 1 })
        .unwrap();
    let version = first.get_document("topologyVersion").unwrap().to_owned();
    let wait = rawdoc! { "hello": 1, "topologyVersion": version, "maxAwaitTimeMS": 600_000_i64 };
    thread::scope(|scope| {
        let waiting = scope.spawn(|| connection.run_command("admin", &wait).unwrap());
        server
            .wait_for(PATIENCE, |received| received.len() == 2)
            .unwrap();
        server.set_hello(HelloScript::mongos().streaming());
        assert_eq!(waiting.join().unwrap().get_str("msg").unwrap(), "isdbgrid");
    });
}

#[test]
fn changes_of_hello_are_streamed_until_the_client_leaves() {
    let server = ScriptedServer::start(|_| HelloScript::standalone().streaming()).unwrap();
    let mut wire = Wire::open(&server);
    wire.send(msg(1, rawdoc! { "hello": 1, "$db": "admin" }));
    let first = wire.read_msg();
    let version = first
        .body()
        .as_raw()
        .get_document("topologyVersion")
        .unwrap()
        .to_owned();
    let hello = rawdoc! {
        "hello": 1,
        "topologyVersion": version,
        "maxAwaitTimeMS": 600_000,
        "$db": "admin",
    };
    wire.send(msg(2, hello).with_flags(Flags::EXHAUST_ALLOWED));
    let mut response_to = 2;
    for wire_version in [18, 19] {
        let changed = HelloScript::standalone()
            .streaming()
            .with("maxWireVersion", wire_version);
        server.set_hello(changed);
        let streamed = wire.read_msg();
        assert!(streamed.more_to_come());
        assert_eq!(streamed.response_to, response_to);
        assert_eq!(
            streamed.body().as_raw().get_i32("maxWireVersion").unwrap(),
            wire_version
        );
        response_to = streamed.request_id;
    }
    assert_eq!(server.open(), 1);
    drop(wire);
    assert!(
        server.wait_for_open(PATIENCE, 0),
        "a client that left is noticed in a wait too"
    );
}

#[test]
fn more_replies_follow_one_another() {
    let server = standalone();
    let answer = Answer::silence()
        .then_reply_with_more(rawdoc! { "n": 1 })
        .then_reply(rawdoc! { "n": 2 });
    server.once("getMore", answer);
    let mut wire = Wire::open(&server);
    wire.send(msg(5, rawdoc! { "getMore": 1_i64, "$db": "d" }));
    let (first, last) = (wire.read_msg(), wire.read_msg());
    assert_eq!((first.response_to, first.more_to_come()), (5, true));
    assert_eq!(
        (last.response_to, last.more_to_come()),
        (first.request_id, false)
    );
}

#[test]
fn an_answer_can_be_late_held_or_missing() {
    let server = standalone();
    let pause = Duration::from_millis(50);
    server.once(
        "ping",
        Answer::silence()
            .then_wait(pause)
            .then_reply(rawdoc! { "ok": 1 }),
    );
    server.once(
        "ping",
        Answer::silence()
            .then_hold("gate")
            .then_reply(rawdoc! { "ok": 1 }),
    );
    server.once("ping", Answer::silence());
    let ping = rawdoc! { "ping": 1 };
    let mut connection = connect(&server);
    let begun = Instant::now();
    connection.run_command("admin", &ping).unwrap();
    assert!(begun.elapsed() >= pause);
    thread::scope(|scope| {
        scope.spawn(|| connection.run_command("admin", &ping).unwrap());
        server
            .wait_for(PATIENCE, |received| received.len() == 2)
            .unwrap();
        server.release("gate");
    });
    let mut impatient = Connection::open(&server.address(), pause).unwrap();
    assert!(impatient.run_command("admin", &ping).is_err());
    // The silence is for the impatient one, however late its command is read.
    server
        .wait_for(PATIENCE, |received| received.len() == 3)
        .unwrap();
    connection.run_command("admin", &ping).unwrap();
}

#[test]
fn a_connection_can_get_raw_bytes_and_an_end() {
    let server = standalone();
    server.once(
        "a",
        Answer::silence().then_raw(&b"nonsense"[..]).then_close(),
    );
    server.once("b", Answer::silence().then_reset());
    let mut closed = Wire::open(&server);
    closed.send(msg(1, rawdoc! { "a": 1 }));
    let mut rest = Vec::new();
    closed.stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"nonsense");
    let mut reset = Wire::open(&server);
    reset.send(msg(1, rawdoc! { "b": 1 }));
    let error = read_some(&mut reset.stream, &mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let mut open = Wire::open(&server);
    open.send(msg(1, rawdoc! { "ping": 1 }));
    open.read();
    server.close_connections();
    assert_eq!(read_some(&mut open.stream, &mut [0; 1]).unwrap(), 0);
    assert!(server.wait_for_open(PATIENCE, 0));
    assert_eq!(server.accepted(), 3);
}

#[test]
fn what_was_received_is_told_when_waiting_is_in_vain() {
    let server = standalone();
    connect(&server)
        .run_command("admin", &rawdoc! { "ping": 1 })
        .unwrap();
    let error = server
        .wait_for(Duration::from_millis(1), |_| false)
        .unwrap_err();
    assert!(error.to_string().contains("ping"), "{error}");
}

#[test]
fn dropping_the_server_ends_its_connections() {
    let server = standalone();
    server.once("ping", Answer::silence().then_hold("never"));
    let mut wire = Wire::open(&server);
    wire.send(msg(1, rawdoc! { "ping": 1 }));
    server
        .wait_for(PATIENCE, |received| received.len() == 1)
        .unwrap();
    drop(server);
    assert_eq!(read_some(&mut wire.stream, &mut [0; 1]).unwrap(), 0);
}
