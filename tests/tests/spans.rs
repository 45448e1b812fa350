//! The spans of operations and commands: names, attributes, and what is in what.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and one tells another what it has found"
)]

use std::process::Command;

use bson::{RawArrayBuf, RawDocumentBuf, cstr, rawdoc};
use integration_tests::fail_point::FailPoint;
use integration_tests::spanbook::{self, Kept, parent_of};
use integration_tests::{insert, own_database, shared_client, shared_set, within};
use mongo_client::{Client, ClientOptions, TracingOptions};
use testbed::scripted::{Answer, HelloScript, ScriptedServer};
use tracing::{Instrument, Level, info_span};

/// A client of this deployment that has spans, with so many characters of each command.
fn traced(uri: &str, text: usize) -> Client {
    spanbook::open();
    let mut tracing = TracingOptions::default();
    tracing.enabled = Some(true);
    tracing.query_text_max_length = Some(text);
    let options = ClientOptions::parse(uri).unwrap();
    Client::with_options(options.tracing(tracing)).unwrap()
}

/// The same of the shared set, with an application name for fail points.
async fn traced_of_set(name: &str, text: usize) -> Client {
    let uri = tokio::task::spawn_blocking(|| shared_set().uri()).await;
    traced(&format!("{}&appName={name}", uri.unwrap()), text)
}

/// Name and parent's name of each span.
fn outline(spans: &[Kept]) -> Vec<(String, Option<String>)> {
    let line = |span: &Kept| (span.name().to_owned(), parent_of(span));
    spans.iter().map(line).collect()
}

fn line(name: &str, parent: impl Into<Option<&'static str>>) -> (String, Option<String>) {
    (name.to_owned(), parent.into().map(str::to_owned))
}

fn failing(name: &str, command: &str, code: i32, label: &str) -> RawDocumentBuf {
    let mut data = rawdoc! { "errorCode": code, "appName": name };
    data.append(cstr!("failCommands"), rawdoc_array(command));
    data.append(cstr!("errorLabels"), rawdoc_array(label));
    data
}

fn rawdoc_array(one: &str) -> RawArrayBuf {
    std::iter::once(one).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_try_of_an_operation_has_a_span_in_the_operations() {
    let client = traced_of_set("tries", 30).await;
    let control = shared_client().await;
    let database = client.database("spans-of-tries");
    let fail_point = FailPoint::on(&control, Some(1), failing("tries", "find", 6, "Odd")).await;
    let command = rawdoc! { "find": "things", "filter": { "x": 1 } };
    let find = database.run_command(&command).as_read();
    let request = info_span!("request");
    within(find.into_future().instrument(request.clone()))
        .await
        .unwrap();
    within(fail_point.off()).await.unwrap();

    let spans = spanbook::of(client.topology_id());
    let name = "find spans-of-tries.things";
    assert_eq!(
        outline(&spans),
        [
            line(name, "request"),
            line("find", Some("find spans-of-tries.things")),
            line("find", Some("find spans-of-tries.things"))
        ]
    );
    let [operation, failed, succeeded] = &spans[..] else {
        unreachable!("there are three")
    };
    for span in &spans {
        assert!(span.is_closed);
        assert_eq!(
            (span.level, span.target),
            (Level::INFO, "mongo_client::spans")
        );
        for (field, expected) in [
            ("otel.kind", "client"),
            ("db.system.name", "mongodb"),
            ("db.namespace", "spans-of-tries"),
            ("db.collection.name", "things"),
        ] {
            assert_eq!(span.field(field), Some(expected));
        }
    }
    assert_eq!(operation.field("db.operation.name"), Some("find"));
    assert_eq!(operation.field("db.operation.summary"), Some(name));
    // It has succeeded in the end.
    assert_eq!(operation.field("otel.status_code"), None);
    assert_eq!(operation.field("exception.message"), None);
    let addresses = shared_set().addresses();
    let (host, port) = addresses[0].split_once(':').unwrap();
    for command in [failed, succeeded] {
        for (field, expected) in [
            ("db.command.name", "find"),
            ("db.query.summary", name),
            ("db.query.text", r#"{"find":"things","filter":{"x"..."#),
            ("network.transport", "tcp"),
            ("server.address", host),
        ] {
            assert_eq!(command.field(field), Some(expected));
        }
        assert_eq!(command.numbers["server.port"].to_string(), port);
        assert!(command.numbers["db.mongodb.driver_connection_id"] > 0);
        assert!(command.numbers["db.mongodb.server_connection_id"] > 0);
        assert_eq!(command.field("db.mongodb.lsid").unwrap().len(), 36);
        // The only batch leaves no cursor behind.
        assert_eq!(command.field("db.mongodb.cursor_id"), None);
    }
    assert_eq!(failed.field("db.response.status_code"), Some("6"));
    assert_eq!(failed.field("otel.status_code"), Some("error"));
    assert_eq!(
        failed.field("exception.type"),
        Some("mongo_client::Error::Server")
    );
    let message = failed.field("exception.message").unwrap();
    assert!(
        failed
            .field("exception.stacktrace")
            .unwrap()
            .ends_with(message)
    );
    assert_eq!(failed.field("otel.status_description"), Some(message));
    for field in [
        "otel.status_code",
        "db.response.status_code",
        "exception.type",
    ] {
        assert_eq!(succeeded.field(field), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_write_has_the_same_number_in_each_span() {
    let client = traced_of_set("writes", 100).await;
    let control = shared_client().await;
    let data = failing("writes", "insert", 6, "RetryableWriteError");
    let fail_point = FailPoint::on(&control, Some(1), data).await;
    let command = rawdoc! { "insert": "things", "documents": [{ "_id": 1 }] };
    let insert = own_database(&client).run_command(&command).as_write();
    within(insert).await.unwrap();
    within(fail_point.off()).await.unwrap();

    let spans = spanbook::of(client.topology_id());
    let [_, failed, succeeded] = &spans[..] else {
        panic!("no operation of two tries: {:?}", outline(&spans));
    };
    assert_eq!(failed.field("db.response.status_code"), Some("6"));
    assert_eq!(succeeded.field("otel.status_code"), None);
    for field in ["db.mongodb.txn_number", "db.mongodb.lsid"] {
        assert!(failed.field(field).is_some(), "{failed:?}");
        assert_eq!(failed.field(field), succeeded.field(field));
    }
    // The number is part of what was sent, the session is not told twice.
    let text = succeeded.field("db.query.text").unwrap();
    assert!(
        text.contains("txnNumber") && !text.contains("lsid"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_has_operations_where_it_is_called() {
    let client = traced_of_set("cursor", 0).await;
    let database = own_database(&client);
    insert(
        &shared_client().await.database(database.name()),
        "things",
        1..=3,
    )
    .await;
    let command = rawdoc! { "find": "things", "batchSize": 1 };
    let find = database.run_cursor_command(&command).batch_size(1);
    let find = find.operation_name("findThings");
    let mut cursor = within(find).await.unwrap();
    let reading = async {
        for _ in 0..2 {
            within(cursor.next()).await.unwrap().unwrap();
        }
    };
    reading.instrument(info_span!("reading")).await;
    info_span!("leaving").in_scope(|| drop(cursor));

    let is_done = |spans: &[Kept]| spans.len() == 6 && spans.iter().all(|span| span.is_closed);
    let spans = spanbook::until(client.topology_id(), is_done).await;
    let name = |name: &str| format!("{name} {}.things", database.name());
    let parents: Vec<_> = spans
        .iter()
        .map(|span| (span.name().to_owned(), parent_of(span)))
        .collect();
    let expected = [
        (name("findThings"), None),
        ("find".to_owned(), Some(name("findThings"))),
        (name("getMore"), Some("reading".to_owned())),
        ("getMore".to_owned(), Some(name("getMore"))),
        (name("killCursors"), Some("leaving".to_owned())),
        ("killCursors".to_owned(), Some(name("killCursors"))),
    ];
    assert_eq!(parents, expected);
    assert_eq!(spans[0].field("db.operation.name"), Some("findThings"));
    let cursor = spans[1].numbers["db.mongodb.cursor_id"];
    for used in [&spans[3], &spans[5]] {
        assert_eq!(used.numbers["db.mongodb.cursor_id"], cursor);
        assert_eq!(used.field("db.query.text"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_has_operations_in_the_calls_that_wait_for_them() {
    let client = traced_of_set("stream", 0).await;
    let control = shared_client().await;
    let database = own_database(&client);
    let things = database.collection("things");
    let opening = things.watch().prefetch(None).into_future();
    let mut stream = within(opening.instrument(info_span!("opening")))
        .await
        .unwrap();
    let data = failing("stream", "getMore", 6, "ResumableChangeStreamError");
    let fail_point = FailPoint::on(&control, Some(1), data).await;
    let silent = control.database(database.name());
    let reading = async {
        insert(&silent, "things", [1]).await;
        within(stream.next_raw()).await.unwrap().unwrap();
    };
    reading.instrument(info_span!("reading")).await;
    within(fail_point.off()).await.unwrap();
    within(stream.close().instrument(info_span!("closing"))).await;

    let all_closed = |spans: &[Kept]| spans.iter().all(|span| span.is_closed);
    let spans = spanbook::until(client.topology_id(), all_closed).await;
    let operations: Vec<_> = spans
        .iter()
        .filter(|span| span.kind == "operation")
        .collect();
    let commands: Vec<_> = spans.iter().filter(|span| span.kind == "command").collect();
    let of = |name: &str| {
        let its = operations
            .iter()
            .filter(|span| span.field("db.operation.name") == Some(name));
        its.copied().collect::<Vec<_>>()
    };
    // A cursor is killed beside what the stream goes on with, so their order is not told.
    for operation in &operations {
        assert_eq!(operation.field("db.collection.name"), Some("things"));
        let its = |command: &&&Kept| command.parent == Some(operation.number);
        assert_eq!(commands.iter().filter(its).count(), 1, "{operation:?}");
    }
    assert_eq!(operations.len(), commands.len());
    let [opened, resumed] = of("aggregate")[..] else {
        panic!("not opened and resumed: {:?}", outline(&spans));
    };
    assert_eq!(parent_of(opened).as_deref(), Some("opening"));
    assert_eq!(parent_of(resumed).as_deref(), Some("reading"));
    let getting_more = of("getMore");
    assert!(
        getting_more
            .iter()
            .all(|span| parent_of(span).as_deref() == Some("reading"))
    );
    assert_eq!(getting_more[0].field("otel.status_code"), Some("error"));
    assert!(
        getting_more[1..]
            .iter()
            .all(|span| span.field("otel.status_code").is_none())
    );
    let killed = of("killCursors");
    let last = killed.last().unwrap();
    assert_eq!(parent_of(last).as_deref(), Some("closing"));
    let cursor = |command: &&Kept| command.numbers.get("db.mongodb.cursor_id").copied();
    let of_resumed = commands
        .iter()
        .find(|command| command.parent == Some(resumed.number));
    let of_last = commands
        .iter()
        .find(|command| command.parent == Some(last.number));
    assert_eq!(of_resumed.and_then(cursor), of_last.and_then(cursor));
    assert!(of_last.and_then(cursor).is_some());
}

/// A stream lives for months, and must not keep what called it once from ending.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_keeps_no_span_of_its_callers_open() {
    let client = traced_of_set("lasting", 0).await;
    let database = own_database(&client);
    let opening = database.collection("things").watch().into_future();
    let caller = info_span!(
        "caller",
        topologyId = i64::try_from(client.topology_id()).unwrap()
    );
    let mut stream = within(opening.instrument(caller.clone())).await.unwrap();
    insert(&database, "things", [1]).await;
    let next = stream.next_raw().instrument(caller.clone());
    within(next).await.unwrap().unwrap();
    drop(caller);
    let is_closed = |span: &Kept| span.kind == "caller" && span.is_closed;
    spanbook::until(client.topology_id(), |spans| spans.iter().any(is_closed)).await;
    assert!(stream.is_alive());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_sends_nothing_says_why() {
    let client = traced("mongodb://localhost:1/?serverSelectionTimeoutMS=20", 0);
    within(client.run_admin_command(&rawdoc! { "ping": 1 }))
        .await
        .unwrap_err();
    let spans = spanbook::of(client.topology_id());
    assert_eq!(outline(&spans), [line("ping admin", None)]);
    let ping = &spans[0];
    assert_eq!(ping.field("otel.status_code"), Some("error"));
    assert_eq!(
        ping.field("exception.type"),
        Some("mongo_client::Error::Selection")
    );
    assert!(
        ping.field("exception.message")
            .unwrap()
            .contains("localhost:1"),
        "{ping:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_nobody_waits_for_any_more_has_not_succeeded() {
    let server = ScriptedServer::start(|_| HelloScript::standalone()).unwrap();
    server.always("slow", |_| Answer::silence());
    let client = traced(&server.uri(), 0);
    let command = rawdoc! { "slow": 1 };
    let slow = client.run_admin_command(&command);
    let is_sent = spanbook::until(client.topology_id(), |spans| spans.len() == 2);
    tokio::select! {
        result = slow.into_future() => panic!("{result:?}"),
        _ = is_sent => {}
    }
    let spans = spanbook::of(client.topology_id());
    assert!(spans.iter().all(|span| span.is_closed));
    assert_eq!(spans[1].name(), "slow");
    assert_eq!(spans[1].field("otel.status_code"), Some("error"));
    // Nothing was met that could be shown.
    assert_eq!(spans[1].field("exception.type"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_not_in_spans() {
    let server = ScriptedServer::start(|_| HelloScript::standalone()).unwrap();
    for name in ["saslContinue", "createUser"] {
        server.always(name, |_| {
            let mut reply = rawdoc! { "ok": 0, "code": 18, "codeName": "AuthenticationFailed" };
            reply.append(cstr!("errmsg"), "not open sesame");
            Answer::reply(reply)
        });
    }
    let uri = server.uri();
    for client in [
        traced(&uri, 1_000),
        traced(&uri.replace("mongodb://", "mongodb://user:sesame@"), 1_000),
    ] {
        for command in [
            rawdoc! { "saslContinue": 1, "payload": "sesame" },
            rawdoc! { "createUser": "sesame", "pwd": "sesame" },
            rawdoc! { "hello": 1, "speculativeAuthenticate": { "payload": "sesame" } },
        ] {
            let _ = within(client.run_admin_command(&command)).await;
        }
        let spans = spanbook::of(client.topology_id());
        let operations = ["saslContinue admin", "createUser admin", "hello admin"];
        let names: Vec<_> = spans.iter().map(Kept::name).collect();
        assert_eq!(names, operations);
        let text = format!("{spans:?}");
        assert!(!text.contains("sesame"), "{text}");
        assert_eq!(spans[0].field("otel.status_code"), Some("error"));
    }
}

/// Both prose tests: this test in processes whose environment says something about spans.
#[tokio::test(flavor = "multi_thread")]
async fn the_environment_enables_spans_of_clients_that_say_nothing() {
    let enabled = "OTEL_RUST_INSTRUMENTATION_MONGODB_ENABLED";
    let length = "OTEL_RUST_INSTRUMENTATION_MONGODB_QUERY_TEXT_MAX_LENGTH";
    drop(shared_client().await);
    for (variables, spans, texts) in [
        (vec![], 0, 0),
        (vec![(enabled, "false"), (length, "1024")], 0, 0),
        (vec![(enabled, "true")], 2, 0),
        (vec![(enabled, "true"), (length, "1024")], 2, 1),
    ] {
        let mut child = Command::new(std::env::current_exe().unwrap());
        let name = "a_client_that_says_nothing_has_the_spans_that_the_environment_asks_for";
        child.args(["--exact", name, "--nocapture"]);
        child.env_remove(enabled).env_remove(length);
        child
            .env(URI, shared_set().uri())
            .envs(variables.iter().copied());
        let output = tokio::task::spawn_blocking(move || child.output()).await;
        let output = output.unwrap().unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        let expected = format!("{spans} spans, {texts} with text");
        assert!(told.contains(&expected), "{variables:?}: {told}");
    }
}

/// Where another process's deployment is.
const URI: &str = "SPANS_TEST_URI";

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_nothing_has_the_spans_that_the_environment_asks_for() {
    spanbook::open();
    let client = match std::env::var(URI) {
        Ok(uri) => Client::new(&uri).unwrap(),
        Err(_) => shared_client().await,
    };
    let find = rawdoc! { "find": "things" };
    within(own_database(&client).run_command(&find))
        .await
        .unwrap();
    let spans = spanbook::of(client.topology_id());
    let texts = spans
        .iter()
        .filter(|span| span.field("db.query.text").is_some());
    let texts = texts.count();
    println!("{} spans, {texts} with text", spans.len());
    assert!(texts <= spans.len() / 2);
    if std::env::var_os(URI).is_none() {
        assert!(spans.is_empty(), "nobody has asked for {spans:?}");
    }
}
