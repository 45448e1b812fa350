//! Cursors of `run_cursor_command`: batches, options, closing, and futures that are dropped.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bson::{RawArrayBuf, RawDocumentBuf, cstr, rawdoc};
use integration_tests::batch;
use integration_tests::fail_point::FailPoint;
use integration_tests::recorder::{Counts, Recorder, heard, replies, sent};
use integration_tests::{PATIENCE, in_time, own_database, shared_client, within};
use mongo_client::uri::{ReadPreference, ReadPreferenceMode};
use mongo_client::{Client, Cursor, CursorType, Database, Error, Misuse, TimeoutMode};
use testbed::scripted::{Answer, HelloScript, Received, ScriptedServer};

async fn fill(database: &Database, count: i32) {
    integration_tests::insert(database, "things", 0..count).await;
}

fn find(batch_size: i32) -> RawDocumentBuf {
    rawdoc! { "find": "things", "sort": { "_id": 1 }, "batchSize": batch_size }
}

/// A client that is listened to, and its cursor of five documents, two at a time.
async fn cursor_of_five(options: &str) -> (Client, Recorder, Cursor) {
    let (client, recorder) = heard(options).await;
    let database = own_database(&client);
    fill(&database, 5).await;
    let command = find(2);
    let cursor = within(database.run_cursor_command(&command)).await.unwrap();
    (client, recorder, cursor)
}

async fn ids(cursor: &mut Cursor) -> Vec<i32> {
    let mut ids = Vec::new();
    while let Some(document) = within(cursor.next()).await {
        ids.push(document.unwrap().get_i32("_id").unwrap());
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn every_document_comes_once_and_the_options_go_with_each_batch() {
    let (client, recorder) = heard("").await;
    let database = own_database(&client);
    fill(&database, 10).await;
    let command = find(2);
    let mut cursor = within(
        database
            .run_cursor_command(&command)
            .batch_size(3)
            .comment("why"),
    )
    .await
    .unwrap();
    assert_eq!(ids(&mut cursor).await, (0..10).collect::<Vec<_>>());
    assert!(!cursor.is_alive());
    assert_eq!(recorder.sent("find").len(), 1);
    assert!(recorder.sent("find")[0].get("comment").unwrap().is_none());
    let sent = recorder.sent("getMore");
    assert_eq!(sent.len(), 3);
    for sent in &sent {
        assert_eq!(sent.get_str("collection").unwrap(), "things");
        assert_eq!(sent.get_i64("batchSize").unwrap(), 3);
        assert!(sent.get("maxTimeMS").unwrap().is_none());
        assert_eq!(sent.get_str("comment").unwrap(), "why");
        assert_eq!(sent.get_str("$db").unwrap(), database.name());
    }
    within(cursor.close()).await;
    assert!(recorder.sent("killCursors").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_of_the_database_is_gone_on_with_as_the_server_names_it() {
    let (client, recorder) = heard("").await;
    let database = own_database(&client);
    for name in ["a.b", "c", "d"] {
        integration_tests::insert(&database, name, 0..1).await;
    }
    let command = rawdoc! { "listCollections": 1, "cursor": { "batchSize": 1 } };
    let mut cursor = within(database.run_cursor_command(&command).batch_size(1))
        .await
        .unwrap();
    let mut names = Vec::new();
    while let Some(document) = within(cursor.next()).await {
        names.push(document.unwrap().get_str("name").unwrap().to_owned());
    }
    names.sort();
    assert_eq!(names, ["a.b", "c", "d"]);
    let collection = recorder.sent("getMore")[0]
        .get_str("collection")
        .unwrap()
        .to_owned();
    assert_eq!(collection, "$cmd.listCollections");
    let command = rawdoc! { "find": "a.b", "batchSize": 0 };
    let mut cursor = within(database.run_cursor_command(&command)).await.unwrap();
    assert_eq!(ids(&mut cursor).await, [0]);
    let sent = recorder.sent("getMore").pop().unwrap();
    assert_eq!(sent.get_str("collection").unwrap(), "a.b");
    assert!(sent.get("batchSize").unwrap().is_none() && sent.get("comment").unwrap().is_none());
    assert!(sent.get("maxTimeMS").unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_cursor_is_an_error() {
    let client = shared_client().await;
    let error = within(
        client
            .database("admin")
            .run_cursor_command(&rawdoc! { "ping": 1 }),
    )
    .await;
    assert!(matches!(error, Err(Error::Reply { .. })), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_and_dropping_kill_the_cursor_on_its_server() {
    let (client, recorder) = heard("").await;
    let database = own_database(&client);
    fill(&database, 5).await;
    let command = find(2);
    let mut cursor = within(database.run_cursor_command(&command)).await.unwrap();
    within(cursor.close()).await;
    assert!(!cursor.is_alive() && within(cursor.next()).await.is_none());
    let id = |index: usize| {
        let replies = recorder.replies("find");
        replies[index]
            .get_document("cursor")
            .unwrap()
            .get_i64("id")
            .unwrap()
    };
    let killed = |index: usize| {
        let reply = &recorder.replies("killCursors")[index];
        let killed = reply.get_array("cursorsKilled").unwrap();
        killed
            .into_iter()
            .next()
            .unwrap()
            .unwrap()
            .as_i64()
            .unwrap()
    };
    assert_eq!(killed(0), id(0));

    let cursor = within(database.run_cursor_command(&command)).await.unwrap();
    drop(cursor);
    recorder
        .wait_for(|events| replies(events, "killCursors").len() == 2)
        .await;
    assert_eq!(killed(1), id(1));
    let lsid = |name: &str| {
        recorder.sent(name)[1]
            .get_document("lsid")
            .unwrap()
            .to_owned()
    };
    assert_eq!(lsid("find"), lsid("killCursors"));
    within(client.shutdown()).await;
    let counts = Counts::of(&recorder.events());
    assert!(counts.everything_has_ended(), "{counts:?}");
}

/// Dropped in the middle of a batch that is on its way, again and again.
#[tokio::test(flavor = "multi_thread")]
async fn dropped_futures_lose_and_repeat_nothing() {
    let client = shared_client().await;
    let database = own_database(&client);
    fill(&database, 300).await;
    let command = find(3);
    let mut cursor = within(database.run_cursor_command(&command).batch_size(3))
        .await
        .unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let (mut ids, mut dropped) = (Vec::new(), 0);
    loop {
        let patience = random.u8(0..4);
        let soon = async {
            for _ in 0..patience {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            next = cursor.next() => match next {
                Some(document) => ids.push(document.unwrap().get_i32("_id").unwrap()),
                None => break,
            },
            () = soon => dropped += 1,
        }
    }
    assert_eq!(ids, (0..300).collect::<Vec<_>>());
    assert!(dropped > 10, "{dropped}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tailable_cursor_waits_for_what_is_to_come() {
    let (client, recorder) = heard("").await;
    let database = own_database(&client);
    let create = rawdoc! { "create": "things", "capped": true, "size": 4_096 };
    within(database.run_command(&create)).await.unwrap();
    fill(&database, 1).await;
    let command = rawdoc! { "find": "things", "tailable": true, "awaitData": true };
    let tail = database
        .run_cursor_command(&command)
        .cursor_type(CursorType::TailableAwait)
        .max_await_time(Duration::from_millis(100));
    let mut cursor = within(tail).await.unwrap();
    within(cursor.next()).await.unwrap().unwrap();
    assert_eq!(within(cursor.next_if_any()).await.unwrap(), None);
    assert!(cursor.is_alive());
    let asked = recorder.sent("getMore");
    assert_eq!(asked.len(), 1, "one at most");
    assert_eq!(asked[0].get_i64("maxTimeMS").unwrap(), 100);
    let next = tokio::spawn(async move { (cursor.next().await, cursor) });
    recorder
        .wait_for(|events| sent(events, "getMore").len() > 3)
        .await;
    let second = rawdoc! { "insert": "things", "documents": [{ "_id": 7 }] };
    within(database.run_command(&second)).await.unwrap();
    let (document, mut cursor) = within(next).await.unwrap();
    assert_eq!(document.unwrap().unwrap().get_i32("_id").unwrap(), 7);
    within(cursor.close()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_limit_of_a_cursor_that_cannot_be_kept_is_refused() {
    let client = shared_client().await;
    let database = own_database(&client);
    let second = Duration::from_secs(1);
    let command = find(2);
    let plain = || database.run_cursor_command(&command);
    let tailable = || plain().cursor_type(CursorType::TailableAwait);
    for refused in [
        plain().timeout_mode(TimeoutMode::Iteration),
        plain().timeout(second).max_await_time(second / 2),
        tailable()
            .timeout(second)
            .timeout_mode(TimeoutMode::CursorLifetime),
        tailable().timeout(second).max_await_time(second),
        plain()
            .cursor_type(CursorType::Tailable)
            .timeout(second)
            .max_await_time(second / 2),
    ] {
        let text = format!("{refused:?}");
        let error = within(refused).await.unwrap_err();
        assert!(
            matches!(error, Error::Misuse(Misuse::Timeout { .. })),
            "{text}: {error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_ends_the_cursor_and_it_is_still_killed() {
    let (_client, recorder, mut cursor) = cursor_of_five("&appName=cursors").await;
    let control = shared_client().await;
    for _ in 0..2 {
        within(cursor.next()).await.unwrap().unwrap();
    }
    let data = rawdoc! { "failCommands": ["getMore"], "errorCode": 11_601, "appName": "cursors" };
    let fail_point = FailPoint::on(&control, Some(1), data).await;
    let error = within(cursor.next()).await.unwrap().unwrap_err();
    within(fail_point.off()).await.unwrap();
    assert_eq!(error.code(), Some(11_601));
    assert!(
        matches!(
            error,
            Error::Server {
                max_wire_version: 17..,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(!cursor.is_alive() && within(cursor.next()).await.is_none());
    assert_eq!(recorder.sent("getMore").len(), 1);
    within(cursor.close()).await;
    assert_eq!(recorder.replies("killCursors").len(), 1);
}

/// A getMore is no retryable read, but an overloaded server has not begun with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_a_busy_server_refused_is_asked_for_again() {
    let (_client, recorder, mut cursor) = cursor_of_five("&appName=busy").await;
    let control = shared_client().await;
    let labels = ["SystemOverloadedError", "RetryableError"];
    let mut data = rawdoc! { "failCommands": ["getMore"], "errorCode": 462, "appName": "busy" };
    data.append(
        cstr!("errorLabels"),
        labels.into_iter().collect::<RawArrayBuf>(),
    );
    let fail_point = FailPoint::on(&control, Some(2), data).await;
    assert_eq!(ids(&mut cursor).await, (0..5).collect::<Vec<_>>());
    within(fail_point.off()).await.unwrap();
    let sent = recorder.sent("getMore");
    let cursors: Vec<_> = sent
        .iter()
        .map(|sent| sent.get_i64("getMore").unwrap())
        .collect();
    assert_eq!(cursors, [cursors[0]; 3]);
}

fn things(ids: std::ops::Range<i32>) -> impl Iterator<Item = RawDocumentBuf> {
    ids.map(|id| rawdoc! { "_id": id })
}

/// Two members; the cursor is on the secondary.
#[tokio::test(flavor = "multi_thread")]
async fn all_that_concerns_a_cursor_goes_to_its_own_server() {
    let primary = ScriptedServer::start(|me| HelloScript::primary("rs0", me, &[me])).unwrap();
    let secondary =
        ScriptedServer::start(|me| HelloScript::secondary("rs0", me, &[me, &primary.address()]))
            .unwrap();
    let (first, second) = (primary.address(), secondary.address());
    primary.set_hello(HelloScript::primary("rs0", &first, &[&first, &second]));
    static NEXT: AtomicI64 = AtomicI64::new(0);
    secondary.always("find", |_| Answer::reply(batch::first(41, things(0..2))));
    secondary.always("getMore", |_| {
        // The server may give the cursor another number.
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = i32::try_from(next + 2).unwrap();
        Answer::reply(batch::next(42 + next, things(id..id + 1)))
    });
    let client = Client::new(&format!("mongodb://{first},{second}/?replicaSet=rs0")).unwrap();
    let preference = ReadPreference {
        mode: ReadPreferenceMode::Secondary,
        ..ReadPreference::default()
    };
    let database = client.database("d");
    let command = rawdoc! { "find": "things" };
    let find = database
        .run_cursor_command(&command)
        .read_preference(preference)
        .comment(1);
    let mut cursor = within(find).await.unwrap();
    for id in 0..5 {
        let document = within(cursor.next()).await.unwrap().unwrap();
        assert_eq!(document.get_i32("_id").unwrap(), id);
    }
    within(cursor.close()).await;
    let asked: Vec<_> = secondary
        .received_named("getMore")
        .iter()
        .map(|received| received.body.get_i64("getMore").unwrap())
        .collect();
    assert_eq!(asked, [41, 42, 43]);
    let killed = &secondary.received_named("killCursors")[0].body;
    let killed = killed
        .get_array("cursors")
        .unwrap()
        .into_iter()
        .next()
        .unwrap()
        .unwrap();
    assert_eq!(killed.as_i64(), Some(44));
    for name in ["getMore", "killCursors", "find"] {
        assert!(primary.received_named(name).is_empty(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comment_is_not_sent_to_a_server_that_does_not_know_it() {
    let server = ScriptedServer::start(|me| {
        HelloScript::primary("rs0", me, &[me]).with("maxWireVersion", 8)
    })
    .unwrap();
    server.always("find", |_| Answer::reply(batch::first(41, [])));
    server.always("getMore", |_| Answer::reply(batch::next(0, [])));
    let client = Client::new(&server.uri()).unwrap();
    let command = rawdoc! { "find": "things" };
    let find = client
        .database("d")
        .run_cursor_command(&command)
        .comment("why");
    let mut cursor = within(find).await.unwrap();
    assert!(within(cursor.next()).await.is_none());
    assert!(
        server.received_named("getMore")[0]
            .body
            .get("comment")
            .unwrap()
            .is_none()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_that_is_given_up_kills_the_cursor_all_the_same() {
    let (_client, recorder, mut cursor) = cursor_of_five("").await;
    tokio::select! {
        biased;
        () = cursor.close() => {}
        () = std::future::ready(()) => {}
    }
    let is_killed = |events: &[mongo_client::Event]| replies(events, "killCursors").len() == 1;
    recorder.wait_for(is_killed).await;
}

/// The server has no such cursor: there is nothing to kill.
#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_the_server_does_not_know_is_not_killed() {
    let server = ScriptedServer::start(|me| HelloScript::primary("rs0", me, &[me])).unwrap();
    server.always("find", |_| Answer::reply(batch::first(41, [])));
    server.always("getMore", |_| Answer::error(43, "CursorNotFound", &[]));
    let client = Client::new(&server.uri()).unwrap();
    let command = rawdoc! { "find": "things" };
    let database = client.database("d");
    let mut cursor = within(database.run_cursor_command(&command)).await.unwrap();
    let error = within(cursor.next()).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Some(43));
    within(cursor.close()).await;
    assert_eq!(server.received_named("killCursors").len(), 0);
}

/// Whatever is wrong with a cursor's server, closing the cursor does not wait for it for long.
#[tokio::test(flavor = "multi_thread")]
async fn closing_gives_a_silent_server_up() {
    let server = ScriptedServer::start(|me| HelloScript::primary("rs0", me, &[me])).unwrap();
    server.always("find", |_| Answer::reply(batch::first(41, [])));
    server.always("killCursors", |_: &Received| Answer::silence());
    let client = Client::new(&server.uri()).unwrap();
    let command = rawdoc! { "find": "things" };
    let database = client.database("d");
    let find = database
        .run_cursor_command(&command)
        .timeout(Duration::from_secs(1));
    let mut cursor = within(find).await.unwrap();
    in_time(Duration::from_secs(2), cursor.close()).await;
    let killed = server.received_named("killCursors");
    assert!(killed[0].body.get_i64("maxTimeMS").unwrap() <= 1_000);

    let find = database
        .run_cursor_command(&command)
        .timeout(Duration::from_secs(60));
    let mut cursor = within(find).await.unwrap();
    let closing = cursor.close_within(Duration::from_secs(1));
    in_time(Duration::from_secs(2), closing).await;
    let killed = server.received_named("killCursors");
    assert!(killed[1].body.get_i64("maxTimeMS").unwrap() <= 1_000);

    // In the background it takes some seconds at most, for which a shutdown can wait.
    let find = database
        .run_cursor_command(&command)
        .timeout(Duration::from_secs(60));
    drop(within(find).await.unwrap());
    let is_killed = |received: &[Received]| {
        let killed = received.iter().filter(|one| one.name == "killCursors");
        killed.count() == 3
    };
    server.wait_for(PATIENCE, is_killed).unwrap();
    let killed = server.received_named("killCursors");
    assert!(killed[2].body.get_i64("maxTimeMS").unwrap() <= 5_000);
}

/// The first call is given up, and the batch comes when its time is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_has_its_own_time_for_what_an_earlier_one_has_begun() {
    let limit = Duration::from_secs(1);
    let server = ScriptedServer::start(|me| HelloScript::primary("rs0", me, &[me])).unwrap();
    server.always("find", |_| Answer::reply(batch::first(41, [])));
    let late = Answer::silence().then_hold("late");
    server.once(
        "getMore",
        late.then_reply(batch::next(41, [rawdoc! { "_id": 7 }])),
    );
    server.once("getMore", Answer::silence());
    let client = Client::new(&server.uri()).unwrap();
    let command = rawdoc! { "find": "things" };
    let database = client.database("d");
    let find = database
        .run_cursor_command(&command)
        .timeout_mode(TimeoutMode::Iteration)
        .timeout(limit);
    let mut cursor = within(find).await.unwrap();
    tokio::select! {
        biased;
        next = cursor.next() => panic!("nothing was sent yet: {next:?}"),
        () = asked(&server) => {}
    }
    tokio::time::sleep(limit).await;
    let (next, ()) =
        within(async { tokio::join!(biased; cursor.next(), async { server.release("late") }) })
            .await;
    assert_eq!(next.unwrap().unwrap().get_i32("_id").unwrap(), 7);

    let error = within(cursor.next()).await.unwrap().unwrap_err();
    let Error::OperationTimeout { source, .. } = error else {
        panic!("{error:?}");
    };
    assert!(
        matches!(source.as_deref(), Some(Error::Timeout { .. })),
        "{source:?}"
    );
}

/// Waits until the server has been asked for a batch.
async fn asked(server: &ScriptedServer) {
    while server.received_named("getMore").is_empty() {
        tokio::task::yield_now().await;
    }
}
