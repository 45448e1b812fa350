//! What the client does with servers that no real one can be made to be: the scripted server.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it measured"
)]

use std::time::{Duration, Instant};

use bson::{RawDocumentBuf, rawdoc};
use integration_tests::batch::{self, event};
use integration_tests::defects::beside;
use integration_tests::{PATIENCE, id_of, in_time, within};
use mongo_client::change_stream::{StreamError, StreamEvent};
use mongo_client::{ChangeStream, Client, Error, Misuse};
use testbed::scripted::{Answer, HelloScript, Received, ScriptedServer};

/// A primary that opens a change stream with an empty batch.
fn primary() -> ScriptedServer {
    let server = ScriptedServer::start(|me| HelloScript::primary("rs0", me, &[me])).unwrap();
    server.always("aggregate", |_| Answer::reply(batch::first(77, [])));
    server
}

async fn watch(server: &ScriptedServer) -> (Client, ChangeStream) {
    let client = Client::new(&server.uri()).unwrap();
    let stream = client
        .database("test")
        .collection("things")
        .watch()
        .into_future();
    let stream = within(stream).await.unwrap();
    (client, stream)
}

fn named(received: &[Received], name: &str) -> usize {
    received
        .iter()
        .filter(|command| command.name == name)
        .count()
}

/// D4: one element of a batch is no BSON.
#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_event_is_one_error_with_its_offset_behind_the_events_before_it() {
    let server = primary();
    let mut reply = batch::next(77, [event(1), event(2)]).into_bytes();
    // The second event's length now reaches beyond the batch.
    let marker = b"\x031\0";
    let at = reply
        .windows(3)
        .position(|window| window == marker)
        .unwrap()
        + marker.len();
    reply[at..at + 4].copy_from_slice(&1_000_000_i32.to_le_bytes());
    let reply = RawDocumentBuf::from_bytes(reply).unwrap();
    server.once("getMore", Answer::reply(reply));
    server.always("getMore", |_| Answer::silence());
    let (_client, mut stream) = watch(&server).await;

    assert_eq!(id_of(&within(stream.next_raw()).await.unwrap().unwrap()), 1);
    let error = within(stream.next_raw()).await.unwrap().unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains(&at.to_string()),
        "{message} does not name offset {at}"
    );
    assert!(within(stream.next_raw()).await.is_none());
    assert!(!stream.is_alive());
    let received = server
        .wait_for(PATIENCE, |all| named(all, "killCursors") == 1)
        .unwrap();
    let aggregates = named(&received, "aggregate");
    beside("D4", format_args!("{error}; aggregates: {aggregates}"));
    assert_eq!(aggregates, 1);
}

/// D9: an event without `_id`.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_without_a_token_is_an_error_and_the_stream_is_closed() {
    let server = primary();
    let nameless = rawdoc! { "operationType": "insert" };
    server.once(
        "getMore",
        Answer::reply(batch::next(77, [event(1), nameless, event(3)])),
    );
    server.always("getMore", |_| Answer::silence());
    let (_client, mut stream) = watch(&server).await;

    assert_eq!(id_of(&within(stream.next_raw()).await.unwrap().unwrap()), 1);
    let error = within(stream.next_raw()).await.unwrap().unwrap_err();
    assert!(
        matches!(
            error,
            Error::ChangeStream {
                error: StreamError::MissingResumeToken,
                ..
            }
        ),
        "{error}"
    );
    assert!(within(stream.next_raw()).await.is_none());
    server
        .wait_for(PATIENCE, |all| named(all, "killCursors") == 1)
        .unwrap();
    assert!(!stream.is_alive());
    beside("D9", format_args!("{error}; the stream is closed"));
}

/// D5: every getMore fails with a resumable error.
#[tokio::test(flavor = "multi_thread")]
async fn resumes_without_progress_back_off() {
    let server = primary();
    let labels = ["ResumableChangeStreamError"];
    server.always("getMore", move |_| {
        Answer::error(11_602, "InterruptedDueToReplStateChange", &labels)
    });
    let (client, mut stream) = watch(&server).await;
    let opened = Instant::now();

    let limit = Duration::from_secs(4);
    assert!(
        tokio::time::timeout(limit, stream.next_raw())
            .await
            .is_err(),
        "it goes on trying"
    );
    let since = |command: &Received| command.at.saturating_duration_since(opened);
    let mut aggregates = server.received_named("aggregate");
    // On a busy machine the limit may be noticed late.
    aggregates.retain(|command| since(command) < limit);
    let first = aggregates
        .iter()
        .filter(|c| since(c) < Duration::from_secs(1))
        .count();
    let later = aggregates.len() - first;
    let ours = format!("{first} aggregates in the first second, {later} in the next three");
    beside("D5", ours);
    assert!(first <= 10, "{first} aggregates in the first second");
    assert!(later <= 3, "{later} aggregates in three seconds");
    assert!(aggregates.len() >= 3, "it does try again");
    drop(stream);
    within(client.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_to_another_request_is_refused_and_the_connection_closed() {
    // A whole OP_MSG {ok: 1} that answers request 12345.
    let body = rawdoc! { "ok": 1.0 }.into_bytes();
    let mut bytes = Vec::new();
    let length = i32::try_from(21 + body.len()).unwrap();
    for field in [length, 1, 12_345, 2013, 0] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(&body);

    let server = primary();
    server.once("find", Answer::silence().then_raw(bytes));
    let client = Client::new(&server.uri()).unwrap();
    let find = rawdoc! { "find": "things" };
    let error = within(client.run_admin_command(&find)).await.unwrap_err();
    assert!(error.to_string().contains("12345"), "{error}");

    let pinged = within(client.run_admin_command(&rawdoc! { "ping": 1 })).await;
    pinged.unwrap();
    let connection = |name: &str| server.received_named(name)[0].connection;
    assert_ne!(connection("find"), connection("ping"));
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_bytes_are_one_error_and_no_panic() {
    for (what, bytes) in [
        (
            "a length below the header's",
            vec![15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
        (
            "a length above the limit",
            vec![255, 255, 255, 127, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
        ("text", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
    ] {
        let server = primary();
        server.once("find", Answer::silence().then_raw(bytes));
        let client = Client::new(&server.uri()).unwrap();
        let find = rawdoc! { "find": "things" };
        let error = within(client.run_admin_command(&find)).await.unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{what}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_silent_is_given_up_and_the_stream_resumes() {
    let server = primary();
    server.once("getMore", Answer::reply(batch::next(77, [event(1)])));
    server.once("getMore", Answer::silence());
    server.always("getMore", |_| Answer::reply(batch::next(77, [event(2)])));
    let client = Client::new(&server.uri()).unwrap();
    let config = mongo_client::change_stream::StreamConfig {
        get_more_margin: Duration::from_millis(900),
        ..Default::default()
    };
    let collection = client.database("test").collection("things");
    let watch = collection
        .watch()
        .config(config)
        .max_await_time(Duration::from_millis(100));
    let mut stream = within(watch.into_future()).await.unwrap();

    assert_eq!(id_of(&within(stream.next_raw()).await.unwrap().unwrap()), 1);
    let next = in_time(Duration::from_secs(2), stream.next_raw()).await;
    assert_eq!(id_of(&next.unwrap().unwrap()), 2);
    let aggregates = server.received_named("aggregate");
    assert_eq!(aggregates.len(), 2);
    let stage = aggregates[1]
        .body
        .get_array("pipeline")
        .unwrap()
        .get_document(0)
        .unwrap();
    let resumed = stage
        .get_document("$changeStream")
        .unwrap()
        .get_document("resumeAfter")
        .unwrap();
    assert_eq!(resumed.get_str("_data").unwrap(), "00000001");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_server_that_answers_at_once_makes_no_busy_loop() {
    let server = primary();
    server.always("getMore", |_| Answer::reply(batch::next(77, [])));
    let (_client, mut stream) = watch(&server).await;
    let limit = Duration::from_secs(1);
    assert!(
        tokio::time::timeout(limit, stream.next_raw())
            .await
            .is_err()
    );
    let asked = server.received_named("getMore").len();
    println!("{asked} getMores in a second to a server that never waits");
    assert!(asked <= 60, "{asked} getMores in a second");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aggregate_that_is_never_answered_is_given_up() {
    let server = primary();
    server.once("getMore", Answer::error(43, "CursorNotFound", &[]));
    server.always("getMore", |_| Answer::reply(batch::next(77, [event(1)])));
    server.once("aggregate", Answer::reply(batch::first(77, [])));
    server.once("aggregate", Answer::silence());
    let client = Client::new(&server.uri()).unwrap();
    let config = mongo_client::change_stream::StreamConfig {
        aggregate_limit: Duration::from_secs(1),
        ..Default::default()
    };
    let watch = client.database("test").watch().config(config);
    let mut stream = within(watch.into_future()).await.unwrap();
    assert_eq!(id_of(&within(stream.next_raw()).await.unwrap().unwrap()), 1);
    assert!(server.received_named("aggregate").len() >= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_task_is_gone_says_so() {
    let server = primary();
    let client = Client::new(&server.uri()).unwrap();
    server.once("getMore", Answer::error(43, "CursorNotFound", &[]));
    server.always("getMore", |_| Answer::silence());
    let watch = client.database("test").watch();
    let watch = watch.on_event(|event| {
        assert!(
            !matches!(event, StreamEvent::Interrupted { .. }),
            "a listener that panics"
        );
    });
    let mut stream = within(watch.into_future()).await.unwrap();
    let error = within(stream.next_raw()).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Misuse(Misuse::TaskGone)), "{error}");
    assert!(!stream.is_alive());
    assert!(within(stream.next_raw()).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_kills_the_cursors_of_open_and_of_dropped_streams() {
    let server = primary();
    server.always("getMore", |_| Answer::silence());
    let client = Client::new(&server.uri()).unwrap();
    let mut streams = Vec::new();
    for _ in 0..6 {
        streams.push(
            within(client.database("test").watch().into_future())
                .await
                .unwrap(),
        );
    }
    let mut kept = streams.split_off(3);
    drop(streams);
    within(client.shutdown()).await;
    assert_eq!(server.received_named("killCursors").len(), 6);
    let error = within(kept[0].next_raw()).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Shutdown), "{error}");
}

#[test]
fn a_client_whose_runtime_has_ended_refuses_at_once() {
    let server = primary();
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let first = runtime();
    let ping = rawdoc! { "ping": 1 };
    let client = first.block_on(async {
        let client = Client::new(&server.uri()).unwrap();
        client.run_admin_command(&ping).await.unwrap();
        client
    });
    drop(first);
    let accepted = server.accepted();
    let error = runtime()
        .block_on(within(client.run_admin_command(&ping)))
        .unwrap_err();
    assert!(matches!(error, Error::Shutdown), "{error}");
    assert_eq!(server.accepted(), accepted, "nothing is even tried");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_is_used_up_is_an_error_in_time() {
    let server = primary();
    server.always("getMore", |_| Answer::silence());
    let uri = format!(
        "{}?maxPoolSize=1&serverSelectionTimeoutMS=2000",
        server.uri()
    );
    let client = Client::new(&uri).unwrap();
    let mut stream = within(client.database("test").watch().into_future())
        .await
        .unwrap();
    let ping = rawdoc! { "ping": 1 };
    let error = within(client.run_admin_command(&ping)).await.unwrap_err();
    assert!(matches!(error, Error::NoConnection { .. }), "{error}");
    within(stream.close()).await;
    within(client.run_admin_command(&ping)).await.unwrap();
}

#[test]
fn a_future_dropped_outside_its_runtime_leaves_the_pool_sound() {
    let server = primary();
    server.always("find", |_| Answer::silence());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let (find, ping) = (rawdoc! { "find": "things" }, rawdoc! { "ping": 1 });
    let uri = format!("{}?maxPoolSize=1", server.uri());
    let client = runtime.block_on(async { Client::new(&uri).unwrap() });
    let mut half_run = client.run_admin_command(&find).into_future();
    runtime.block_on(async {
        let limit = Duration::from_millis(300);
        assert!(tokio::time::timeout(limit, &mut half_run).await.is_err());
    });
    let waiting = client.clone();
    let waiter = runtime.spawn(async move { waiting.run_admin_command(&ping).await.map(drop) });
    drop(half_run);
    runtime.block_on(within(waiter)).unwrap().unwrap();
}
