//! What change streams share with other operations: sessions, read concern, time limits, retries.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use bson::{RawDocument, RawDocumentBuf, rawdoc};
use integration_tests::batch::{self, event};
use integration_tests::fail_point::FailPoint;
use integration_tests::recorder::heard;
use integration_tests::{id_of, in_time, insert, own_database, ping, shared_client, within};
use mongo_client::uri::{ReadConcern, ReadConcernLevel};
use mongo_client::{Client, ClientOptions, Error, Misuse, SessionOptions};
use testbed::scripted::{Answer, HelloScript, ScriptedServer};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn lsid(command: &RawDocument) -> Option<RawDocumentBuf> {
    command.get_document("lsid").ok().map(ToOwned::to_owned)
}

fn max_time(command: &RawDocument) -> Option<i64> {
    command.get_i64("maxTimeMS").ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_keeps_one_session_through_its_resumes_and_gives_it_back_at_its_end() {
    let (client, recorder) = heard("&appName=kept").await;
    let control = shared_client().await;
    let database = own_database(&client);
    insert(&database, "things", [0]).await;
    let mut stream = within(database.collection("things").watch()).await.unwrap();
    insert(&database, "things", [1]).await;
    assert_eq!(id_of(&within(stream.next_raw()).await.unwrap().unwrap()), 1);
    let data = rawdoc! {
        "failCommands": ["getMore"], "errorCode": 189, "appName": "kept",
        "errorLabels": ["ResumableChangeStreamError"],
    };
    let fail_point = FailPoint::on(&control, Some(1), data).await;
    insert(&database, "things", [2]).await;
    assert_eq!(id_of(&within(stream.next_raw()).await.unwrap().unwrap()), 2);
    // Whether the getMore under way had been sent before the fail point was on, is open.
    insert(&database, "things", [3]).await;
    assert_eq!(id_of(&within(stream.next_raw()).await.unwrap().unwrap()), 3);
    within(fail_point.off()).await.unwrap();
    let aggregates = recorder.sent("aggregate");
    assert_eq!(aggregates.len(), 2);
    let own = lsid(&aggregates[0]);
    assert!(own.is_some());
    for sent in aggregates.iter().chain(&recorder.sent("getMore")) {
        assert_eq!(lsid(sent), own);
    }
    let ping = rawdoc! { "ping": 1 };
    within(client.run_admin_command(&ping)).await.unwrap();
    assert_ne!(lsid(&recorder.sent("ping")[0]), own);
    // The drop ends the stream, and its session is free before anybody has read to the end.
    let drop_it = rawdoc! { "drop": "things" };
    within(database.run_command(&drop_it)).await.unwrap();
    while within(stream.next_raw()).await.is_some() {}
    let free = [(); 2].map(|()| client.start_session(SessionOptions::default()).unwrap());
    // The drop's own session may have been given back later than the stream's.
    assert!(free.iter().any(|session| Some(session.id()) == own));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_callers_session_and_read_concern_go_with_the_stream() {
    let (client, recorder) = heard("&readConcernLevel=majority").await;
    let database = own_database(&client);
    let session = client.start_session(SessionOptions::default()).unwrap();
    let ping = rawdoc! { "ping": 1 };
    within(client.run_admin_command(&ping).session(&session))
        .await
        .unwrap();
    let seen = session.operation_time().unwrap();
    let mut stream = within(database.watch().session(&session)).await.unwrap();
    let none = within(database.watch().read_concern(ReadConcern::default()))
        .await
        .unwrap();
    drop(none);
    let level = ReadConcern::new(ReadConcernLevel::Majority);
    drop(within(database.watch().read_concern(level)).await.unwrap());
    let sent = recorder.sent("aggregate");
    assert_eq!(lsid(&sent[0]), Some(session.id()));
    let concern = |index: usize| sent[index].get_document("readConcern").ok();
    let causal = rawdoc! { "level": "majority", "afterClusterTime": seen };
    assert_eq!(concern(0), Some(&*causal));
    assert_eq!(concern(1), None);
    assert_eq!(concern(2), Some(&*rawdoc! { "level": "majority" }));
    within(stream.close()).await;
    // Ended while the stream goes on, the session serves it to its end.
    let mut stream = within(database.watch().session(&session)).await.unwrap();
    session.end();
    insert(&database, "things", [1]).await;
    assert_eq!(id_of(&within(stream.next_raw()).await.unwrap().unwrap()), 1);
    let refused = within(database.watch().session(&session)).await;
    assert!(matches!(refused, Err(Error::Misuse(Misuse::Session(_)))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_not_longer_than_the_wait_is_refused() {
    let client = shared_client().await;
    for await_time in [ms(200), ms(300)] {
        let watch = client.watch().timeout(ms(200)).max_await_time(await_time);
        let refused = within(watch).await.unwrap_err();
        assert!(
            matches!(refused, Error::Misuse(Misuse::Timeout { .. })),
            "{refused}"
        );
    }
    let endless = client.watch().timeout(Duration::ZERO).max_await_time(ms(1));
    within(within(endless).await.unwrap().close()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_covers_the_opening() {
    let control = shared_client().await;
    let (client, recorder) = heard("&appName=opening").await;
    // Or it would have to cover the discovery, too.
    ping(&client).await.unwrap();
    let database = own_database(&client);
    let data = rawdoc! {
        "failCommands": ["aggregate"], "blockConnection": true, "blockTimeMS": 2_000,
        "appName": "opening",
    };
    let fail_point = FailPoint::on(&control, Some(1), data).await;
    let error = within(database.watch().timeout(ms(1_000))).await;
    let error = error.unwrap_err();
    within(fail_point.off()).await.unwrap();
    assert!(error.is_operation_timeout(), "{error}");
    assert!(max_time(&recorder.sent("aggregate")[0]).unwrap() <= 1_000);
}

/// Behind a call that took too long, the next one resumes, and then asks for more.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_takes_too_long_fails_and_the_next_one_resumes() {
    let control = shared_client().await;
    for prefetch in [None, Some(Default::default())] {
        let (client, recorder) = heard("&appName=lapse").await;
        let database = own_database(&client);
        insert(&database, "things", [0]).await;
        let watch = database.watch().timeout(ms(1_200)).max_await_time(ms(10));
        let mut stream = within(watch.prefetch(prefetch)).await.unwrap();
        let data = rawdoc! {
            "failCommands": ["getMore"], "blockConnection": true, "blockTimeMS": 2_000,
            "appName": "lapse",
        };
        let fail_point = FailPoint::on(&control, Some(1), data).await;
        let called = Instant::now();
        let error = in_time(ms(2_000), stream.next()).await;
        let (error, took) = (error.unwrap().unwrap_err(), called.elapsed());
        within(fail_point.off()).await.unwrap();
        assert!(error.is_operation_timeout(), "{error}");
        assert!(took >= ms(350), "{took:?}");
        assert!(stream.is_alive());
        assert_eq!(
            recorder.sent("aggregate").len(),
            1,
            "it waits for the next call"
        );
        let before = recorder.sent("getMore").len();
        assert!(within(stream.next_if_any()).await.unwrap().is_none());
        let aggregates = recorder.sent("aggregate");
        assert_eq!(aggregates.len(), 2);
        assert!(max_time(&aggregates[1]).unwrap() <= 1_200);
        assert_eq!(lsid(&aggregates[0]), lsid(&aggregates[1]));
        let sent = recorder.sent("getMore");
        assert!(sent.len() > before);
        assert!(
            sent.iter()
                .all(|sent| max_time(sent).is_some_and(|time| time <= 10))
        );
        // Nothing was lost, and each call has its own time.
        insert(&database, "things", [1]).await;
        assert_eq!(id_of(&within(stream.next_raw()).await.unwrap().unwrap()), 1);
        let idle = within(stream.next()).await.unwrap().unwrap_err();
        assert!(idle.is_operation_timeout(), "nothing has happened: {idle}");
        insert(&database, "things", [2]).await;
        assert_eq!(id_of(&within(stream.next_raw()).await.unwrap().unwrap()), 2);
        within(stream.close()).await;
        let killed = recorder.sent("killCursors").pop().unwrap();
        assert!(max_time(&killed).unwrap() > 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_wait_no_time_is_sent_with_a_get_more() {
    let (client, recorder) = heard("").await;
    let database = own_database(&client);
    let mut stream = within(database.watch().timeout(ms(5_000))).await.unwrap();
    insert(&database, "things", [1]).await;
    assert_eq!(id_of(&within(stream.next_raw()).await.unwrap().unwrap()), 1);
    assert!(max_time(&recorder.sent("aggregate")[0]).is_some());
    assert!(
        recorder
            .sent("getMore")
            .iter()
            .all(|sent| max_time(sent).is_none())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_the_resume_behind_a_lapse_is_told() {
    let control = shared_client().await;
    let (client, _) = heard("&appName=told&retryReads=false").await;
    ping(&client).await.unwrap();
    let database = own_database(&client);
    let watch = database
        .watch()
        .timeout(ms(1_000))
        .max_await_time(ms(10))
        .prefetch(None);
    let mut stream = within(watch).await.unwrap();
    let idle = within(stream.next()).await.unwrap().unwrap_err();
    assert!(idle.is_operation_timeout(), "{idle}");
    let data = rawdoc! { "failCommands": ["aggregate"], "errorCode": 189, "appName": "told" };
    let fail_point = FailPoint::on(&control, Some(1), data).await;
    let error = within(stream.next()).await.unwrap().unwrap_err();
    within(fail_point.off()).await.unwrap();
    assert!(matches!(error, Error::ChangeStream { .. }), "{error}");
    assert!(within(stream.next()).await.is_none() && !stream.is_alive());
}

/// The same getMore again, no resume.
#[tokio::test(flavor = "multi_thread")]
async fn a_busy_server_is_asked_for_the_same_batch_again() {
    let server = ScriptedServer::start(|me| HelloScript::primary("rs0", me, &[me])).unwrap();
    server.once("aggregate", Answer::reply(batch::first(7, [])));
    let labels = [
        "SystemOverloadedError",
        "RetryableError",
        "ResumableChangeStreamError",
    ];
    for _ in 0..2 {
        server.once("getMore", Answer::error(462, "Busy", &labels));
    }
    server.once("getMore", Answer::reply(batch::next(7, [event(1)])));
    server.always("getMore", |_| Answer::silence());
    let options = ClientOptions::parse(&server.uri()).unwrap().jitter(|| 0.1);
    let client = Client::with_options(options).unwrap();
    let things = client.database("d").collection("things");
    let mut stream = within(things.watch()).await.unwrap();
    assert_eq!(id_of(&within(stream.next_raw()).await.unwrap().unwrap()), 1);
    assert_eq!(server.received_named("aggregate").len(), 1);
}
