//! Time limits of whole operations (Client Side Operations Timeout), and what holds without them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::error::Error as _;
use std::time::{Duration, Instant};

use bson::{RawDocument, RawDocumentBuf, rawdoc};
use integration_tests::batch;
use integration_tests::fail_point::FailPoint;
use integration_tests::recorder::{heard, listen};
use integration_tests::{PATIENCE, in_time, own_database, ping, shared_client, within};
use mongo_client::change_stream::Prefetch;
use mongo_client::events::{CommandFailure, CommandStep};
use mongo_client::{Client, CursorType, Error, Event, SessionOptions, TimeoutMode};
use testbed::replay::{Replay, ReplayServer};
use testbed::scripted::{Answer, HelloScript, ScriptedServer};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn primary() -> ScriptedServer {
    ScriptedServer::start(|me| HelloScript::primary("rs0", me, &[me])).unwrap()
}

fn max_time(command: &RawDocument) -> Option<i64> {
    command.get_i64("maxTimeMS").ok()
}

/// Blocks these commands of clients with this name.
fn blocking(name: &str, command: &str, time: Duration) -> RawDocumentBuf {
    rawdoc! {
        "failCommands": [command], "blockConnection": true, "appName": name,
        "blockTimeMS": i32::try_from(time.as_millis()).unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_told_what_is_left_and_only_then() {
    let (client, recorder) = heard("").await;
    let ping = rawdoc! { "ping": 1 };
    within(client.run_admin_command(&ping)).await.unwrap();
    within(client.run_admin_command(&ping).timeout(ms(5_000)))
        .await
        .unwrap();
    within(client.run_admin_command(&ping).timeout(Duration::ZERO))
        .await
        .unwrap();
    let mut options = SessionOptions::default();
    options.default_timeout = Some(ms(3_000));
    let session = client.start_session(options).unwrap();
    within(client.run_admin_command(&ping).session(&session))
        .await
        .unwrap();
    let (limited, second) = heard("&timeoutMS=2000").await;
    // Without a limit first, so that none has to cover the discovery.
    within(limited.run_admin_command(&ping).timeout(Duration::ZERO))
        .await
        .unwrap();
    within(limited.run_admin_command(&ping)).await.unwrap();
    within(limited.run_admin_command(&ping).timeout(ms(9_000)))
        .await
        .unwrap();
    let mut sent = recorder.sent("ping");
    sent.extend(second.sent("ping"));
    let times: Vec<_> = sent.iter().map(|sent| max_time(sent)).collect();
    let limits = [
        None,
        Some(5_000),
        None,
        Some(3_000),
        None,
        Some(2_000),
        Some(9_000),
    ];
    assert_eq!(times.len(), limits.len());
    for (found, limit) in times.into_iter().zip(limits) {
        let fits = match (found, limit) {
            (Some(found), Some(limit)) => found <= limit && found > limit / 2,
            (found, limit) => found == limit,
        };
        assert!(fits, "{found:?} for {limit:?}");
    }
}

/// The server answers nothing more, and the stream's own limit is long.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_closed_within_a_limit_of_its_own() {
    let server = primary();
    server.always("aggregate", |_| Answer::reply(batch::first(41, [])));
    for silent in ["getMore", "killCursors"] {
        server.always(silent, |_| Answer::silence());
    }
    let client = Client::new(&server.uri()).unwrap();
    let watch = client.watch().timeout(ms(60_000));
    let mut stream = within(watch.into_future()).await.unwrap();
    let called = Instant::now();
    within(stream.close_within(ms(300))).await;
    assert!(called.elapsed() < ms(2_000));
    assert!(!stream.is_alive());
    let killed = server.received_named("killCursors");
    assert!(max_time(&killed[0].body).unwrap() <= 300);
}

/// No answer, an answer that says so, a write concern that says so, a write that says so.
#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_be_late_is_one_error_with_its_reason() {
    let server = primary();
    let expired = || rawdoc! { "code": 50, "codeName": "MaxTimeMSExpired", "errmsg": "late" };
    server.always("silent", |_| Answer::silence());
    server.always("refused", |_| Answer::error(50, "MaxTimeMSExpired", &[]));
    server.always("concern", move |_| {
        Answer::reply(rawdoc! { "ok": 1.0, "writeConcernError": expired() })
    });
    server.always("write", move |_| {
        Answer::reply(rawdoc! { "ok": 1.0, "writeErrors": [expired()] })
    });
    let (client, recorder) = listen(&server.uri());
    // Only the silence needs a limit that passes; answers are in time for theirs.
    for (name, code, limit) in [
        ("silent", None, ms(400)),
        ("refused", Some(50), PATIENCE),
        ("concern", Some(50), PATIENCE),
        ("write", Some(50), PATIENCE),
    ] {
        let mut command = RawDocumentBuf::new();
        command.append(bson::raw::CString::try_from(name).unwrap(), 1);
        let command = client.run_admin_command(&command).timeout(limit);
        let error = in_time(ms(2_000), command).await.unwrap_err();
        assert!(error.is_operation_timeout(), "{name}: {error}");
        assert_eq!(error.code(), code, "{name}");
        let source = error.source().unwrap().to_string();
        let message = error.to_string();
        assert!(
            message.contains("timeoutMS") && message.contains(&source),
            "{message}"
        );
    }
    // Without a limit, the same are what they are.
    let refused = rawdoc! { "refused": 1 };
    let error = within(client.run_admin_command(&refused))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Server { .. }), "{error}");
    within(client.run_admin_command(&rawdoc! { "concern": 1 }))
        .await
        .unwrap();
    let failures: Vec<_> = recorder
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::Command(event) => match event.step {
                CommandStep::Failed { failure, .. } => Some(failure),
                _ => None,
            },
            _ => None,
        })
        .collect();
    assert!(
        matches!(failures[0], CommandFailure::TimedOut(limit) if limit <= ms(400)),
        "{failures:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_limit_of_the_socket_is_published_as_one_and_gives_way_to_the_whole() {
    let server = primary();
    server.always("slow", |_| {
        Answer::silence()
            .then_wait(ms(600))
            .then_reply(rawdoc! { "ok": 1.0 })
    });
    let (client, recorder) = listen(&format!("{}?socketTimeoutMS=200", server.uri()));
    let slow = rawdoc! { "slow": 1 };
    let error = within(client.run_admin_command(&slow)).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert!(!error.is_operation_timeout());
    let timed_out = |event: &Event| {
        let failure = CommandFailure::TimedOut(ms(200));
        matches!(event, Event::Command(event)
            if matches!(&event.step, CommandStep::Failed { failure: found, .. } if *found == failure))
    };
    assert!(recorder.events().iter().any(timed_out));
    // 3 and more: the socket's limit does not hold beside the operation's, even if that is none.
    within(client.run_admin_command(&slow).timeout(ms(5_000)))
        .await
        .unwrap();
    within(client.run_admin_command(&slow).timeout(Duration::ZERO))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_covers_selection_and_the_shorter_of_two_limits_holds() {
    for (options, timeout) in [
        ("serverSelectionTimeoutMS=10000", Some(ms(200))),
        ("serverSelectionTimeoutMS=200", Some(ms(10_000))),
        ("serverSelectionTimeoutMS=200", Some(Duration::ZERO)),
        ("serverSelectionTimeoutMS=10000&timeoutMS=200", None),
    ] {
        let client = Client::new(&format!("mongodb://127.0.0.1:1/?{options}")).unwrap();
        let ping = rawdoc! { "ping": 1 };
        let command = client.run_admin_command(&ping);
        let command = match timeout {
            Some(timeout) => command.timeout(timeout),
            None => command,
        };
        let called = Instant::now();
        let error = in_time(ms(2_000), command).await.unwrap_err();
        let took = called.elapsed();
        assert!(took >= ms(200), "{options}: {took:?}");
        let Error::OperationTimeout {
            source: Some(source),
            ..
        } = &error
        else {
            panic!("{error}");
        };
        assert!(matches!(**source, Error::Selection { .. }), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_covers_waiting_for_a_connection_and_the_older_one_gives_way() {
    let server = primary();
    server.always("slow", |_| {
        Answer::silence()
            .then_hold("enough")
            .then_reply(rawdoc! { "ok": 1.0 })
    });
    let (client, _) = listen(&format!(
        "{}?maxPoolSize=1&waitQueueTimeoutMS=50",
        server.uri()
    ));
    let slow = {
        let client = client.clone();
        tokio::spawn(async move {
            client
                .run_admin_command(&rawdoc! { "slow": 1 })
                .await
                .map(drop)
        })
    };
    server
        .wait_for(PATIENCE, |received| {
            received.iter().any(|r| r.name == "slow")
        })
        .unwrap();
    let ping = rawdoc! { "ping": 1 };
    let called = Instant::now();
    let error = within(client.run_admin_command(&ping).timeout(ms(400)))
        .await
        .unwrap_err();
    assert!(called.elapsed() >= ms(400), "{:?}", called.elapsed());
    assert!(error.is_operation_timeout(), "{error}");
    let error = within(client.run_admin_command(&ping)).await.unwrap_err();
    assert!(matches!(error, Error::WaitQueueTimeout { .. }), "{error}");
    server.release("enough");
    within(slow).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_covers_opening_a_connection() {
    let server = primary();
    let (client, _) = listen(&server.uri());
    let mut changes = client.topology_changes();
    while client.primary().is_none() {
        within(changes.next()).await.unwrap();
    }
    for hello in ["hello", "isMaster"] {
        server.always(hello, |_| Answer::silence());
    }
    let ping = rawdoc! { "ping": 1 };
    let ping = client.run_admin_command(&ping).timeout(ms(300));
    let error = in_time(ms(2_000), ping).await.unwrap_err();
    assert!(error.is_operation_timeout(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_is_tried_as_often_as_there_is_time_for() {
    let control = shared_client().await;
    let (client, recorder) = heard("&appName=often").await;
    let database = own_database(&client);
    let find = rawdoc! { "find": "things" };
    within(database.run_command(&find)).await.unwrap();
    let data = rawdoc! { "failCommands": ["find"], "errorCode": 6, "appName": "often" };
    let fail_point = FailPoint::on(&control, Some(4), data).await;
    let result = within(database.run_command(&find).as_read().timeout(ms(10_000))).await;
    within(fail_point.off()).await.unwrap();
    result.unwrap();
    let sent = recorder.sent("find").split_off(1);
    assert_eq!(sent.len(), 5);
    let times: Vec<_> = sent.iter().map(|sent| max_time(sent).unwrap()).collect();
    assert!(times.is_sorted_by(|one, two| one >= two), "{times:?}");

    // Each try takes a while, and then there is no time any more.
    let mut data = blocking("often", "find", ms(60));
    data.append(bson::cstr!("errorCode"), 6);
    let fail_point = FailPoint::on(&control, None, data).await;
    let error = within(database.run_command(&find).as_read().timeout(ms(2_000)))
        .await
        .unwrap_err();
    within(fail_point.off()).await.unwrap();
    assert!(error.is_operation_timeout(), "{error}");
    assert!(recorder.sent("find").len() > 5 + 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_a_cursor_is_for_its_whole_life_and_a_batch_that_is_here_is_still_read() {
    let control = shared_client().await;
    let (client, recorder) = heard("&appName=life").await;
    let database = own_database(&client);
    integration_tests::insert(&database, "things", 0..4).await;
    let data = blocking("life", "getMore", ms(750));
    let fail_point = FailPoint::on(&control, None, data).await;
    let find = rawdoc! { "find": "things", "batchSize": 1 };
    let cursor = database
        .run_cursor_command(&find)
        .batch_size(1)
        .timeout(ms(2_000));
    let mut cursor = within(cursor).await.unwrap();
    let mut read = 0;
    let error = loop {
        match within(cursor.next()).await {
            Some(Ok(_)) => read += 1,
            other => break other.unwrap().unwrap_err(),
        }
    };
    within(fail_point.off()).await.unwrap();
    assert!(error.is_operation_timeout(), "{error}");
    assert!((1..4).contains(&read), "{read}");
    assert!(max_time(&recorder.sent("find")[0]).is_some());
    for sent in recorder.sent("getMore") {
        assert_eq!(max_time(&sent), None);
    }
    // To close it, there is time again.
    within(cursor.close()).await;
    let killed = recorder.sent("killCursors").pop().unwrap();
    assert!(max_time(&killed).unwrap() > 300, "{killed:?}");
    assert_eq!(recorder.replies("killCursors").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_each_call_begins_anew() {
    let control = shared_client().await;
    let (client, recorder) = heard("&appName=call").await;
    let database = own_database(&client);
    integration_tests::insert(&database, "things", 0..4).await;
    let data = blocking("call", "getMore", ms(600));
    let fail_point = FailPoint::on(&control, None, data).await;
    let find = rawdoc! { "find": "things", "batchSize": 1 };
    let cursor = database
        .run_cursor_command(&find)
        .batch_size(1)
        .timeout(ms(1_600))
        .timeout_mode(TimeoutMode::Iteration);
    let mut cursor = within(cursor).await.unwrap();
    for _ in 0..4 {
        within(cursor.next()).await.unwrap().unwrap();
    }
    within(fail_point.off()).await.unwrap();
    assert_eq!(max_time(&recorder.sent("find")[0]), None);
    assert_eq!(recorder.sent("getMore").len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_waits_is_told_the_shorter_time() {
    let (client, recorder) = heard("").await;
    let database = own_database(&client);
    let create = rawdoc! { "create": "things", "capped": true, "size": 4_096 };
    within(database.run_command(&create)).await.unwrap();
    integration_tests::insert(&database, "things", 0..1).await;
    let find = rawdoc! { "find": "things", "tailable": true, "awaitData": true };
    let tail = |timeout| {
        database
            .run_cursor_command(&find)
            .cursor_type(CursorType::TailableAwait)
            .max_await_time(ms(100))
            .timeout(timeout)
    };
    let mut cursor = within(tail(ms(1_500))).await.unwrap();
    within(cursor.next()).await.unwrap().unwrap();
    let called = Instant::now();
    let error = in_time(ms(3_000), cursor.next()).await;
    let error = error.unwrap().unwrap_err();
    assert!(error.is_operation_timeout(), "{error}");
    assert!(called.elapsed() >= ms(600), "{:?}", called.elapsed());
    let asked: Vec<_> = recorder
        .sent("getMore")
        .iter()
        .filter_map(|sent| max_time(sent))
        .collect();
    assert_eq!(asked.len(), recorder.sent("getMore").len());
    assert!(
        asked.len() > 2 && asked[0] == 100 && *asked.last().unwrap() <= 100,
        "{asked:?}"
    );
    assert!(max_time(&recorder.sent("find")[0]).unwrap() > 500);
}

#[tokio::test]
async fn the_time_of_a_streams_call_begins_when_it_waits() {
    let limit = ms(600);
    let server = ReplayServer::start(&Replay::of_orders(1, 2)).unwrap();
    let client = Client::new(&server.uri()).unwrap();
    // The discovery has its own time.
    ping(&client).await.unwrap();
    let watch = client.database("shop").watch().timeout(limit);
    let mut stream = within(watch.prefetch(Some(Prefetch::new(1, 1 << 20))))
        .await
        .unwrap();
    // One batch waits; the time that the opening had is long over.
    while stream.position().batches < 2 {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(limit).await;
    within(stream.next_raw()).await.unwrap().unwrap();
    // The task hears that the batch was taken, and that there is a call, in one go.
    within(stream.next_raw()).await.unwrap().unwrap();

    // A call that has found nothing leaves nothing of its time to the next one.
    assert!(within(stream.next_if_any()).await.unwrap().is_none());
    tokio::time::sleep(limit).await;
    let called = Instant::now();
    let error = within(futures_util::StreamExt::next(&mut stream)).await;
    let error = error.unwrap().unwrap_err();
    assert!(error.is_operation_timeout(), "{error}");
    assert!(called.elapsed() >= limit, "{:?}", called.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_who_the_deployment_is_counts_as_part_of_the_opening() {
    let server = primary();
    server.always("replSetGetConfig", |_| Answer::silence());
    let client = Client::new(&server.uri()).unwrap();
    let watch = client.database("shop").watch().timeout(ms(300));
    let error = within(watch.resume_from(None)).await.unwrap_err();
    assert!(error.is_operation_timeout(), "{error}");
}
