//! Exhaust mode and cancellation at random, on real servers.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it measured"
)]

use std::sync::Arc;
use std::time::Duration;

use bson::rawdoc;
use futures_util::FutureExt as _;
use integration_tests::batch::{self, event};
use integration_tests::defects::beside;
use integration_tests::fail_point::FailPoint;
use integration_tests::recorder::heard;
use integration_tests::{
    PATIENCE, id_of, insert, next_id, own_database, ping, shared_client, shared_set, within,
};
use mongo_client::change_stream::{Prefetch, StreamEvent};
use mongo_client::{ChangeStream, Client, Watch};
use testbed::cluster::ReplicaSet;
use testbed::scripted::{Answer, HelloScript, ScriptedServer};

#[tokio::test(flavor = "multi_thread")]
async fn one_get_more_brings_every_batch_and_the_connection_is_not_used_again() {
    let (client, recorder) = heard("").await;
    let database = own_database(&client);
    let watch = database.collection("things").watch().exhaust(true);
    let mut stream = within(watch.max_await_time(Duration::from_millis(100)))
        .await
        .unwrap();
    for id in 0..30 {
        insert(&database, "things", [id]).await;
        assert_eq!(next_id(&mut stream).await, id);
    }
    // Empty replies come unasked, too, and move the token.
    let before = stream.resume_token().unwrap();
    insert(&database, "others", [1]).await;
    while stream.resume_token().unwrap() == before {
        assert!(within(stream.next_if_any()).await.unwrap().is_none());
    }
    assert_eq!(recorder.sent("getMore").len(), 1);
    within(stream.close()).await;
    assert_eq!(recorder.sent("killCursors").len(), 1);
    // Whatever the server still sends, commands go on over sound connections.
    for _ in 0..20 {
        ping(&client).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_window_holds_while_the_server_sends_unasked() {
    const WINDOW: u8 = 3;
    let client = shared_client().await;
    let database = own_database(&client);
    let watch = database
        .collection("things")
        .watch()
        .exhaust(true)
        .batch_size(1);
    let mut stream = within(watch.prefetch(Some(Prefetch::new(WINDOW.into(), 1 << 20))))
        .await
        .unwrap();
    insert(&database, "things", 0..200).await;
    assert_eq!(next_id(&mut stream).await, 0);
    // The consumer takes its time, and commands are answered meanwhile: first until the window is
    // full, behind the opening batch and the one being read, then long enough to receive them all.
    let begun = stream.position().batches;
    while stream.position().batches < 2 + u64::from(WINDOW) {
        ping(&client).await.unwrap();
    }
    for _ in 0..20 {
        ping(&client).await.unwrap();
    }
    // One reply more may have been under way.
    let received = stream.position().batches - begun;
    assert!(received <= u64::from(WINDOW) + 1, "{received} batches");
    for id in 1..200 {
        assert_eq!(next_id(&mut stream).await, id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_works_through_a_failover() {
    let set = tokio::task::spawn_blocking(|| ReplicaSet::start(3).unwrap());
    let set = Arc::new(set.await.unwrap());
    let client = Client::new(&set.uri()).unwrap();
    let database = client.database("test");
    let watch = database.collection("things").watch().exhaust(true);
    let mut stream = within(watch).await.unwrap();
    insert(&database, "things", [0]).await;
    assert_eq!(next_id(&mut stream).await, 0);
    let killed = Arc::clone(&set);
    let kill = move || {
        let old = killed.primary().unwrap();
        old.kill().unwrap();
        killed.wait_for_new_primary(old).unwrap();
    };
    tokio::task::spawn_blocking(kill).await.unwrap();
    let insert = rawdoc! { "insert": "things", "documents": [{ "_id": 1 }] };
    let again = async {
        while let Err(error) = database.run_command(&insert).await {
            assert!(error.is_network() || error.code().is_some(), "{error}");
        }
    };
    within(again).await;
    assert_eq!(next_id(&mut stream).await, 1);
}

/// A server that has a change stream, whose events are for the test to send.
fn server() -> ScriptedServer {
    let server = ScriptedServer::start(|me| HelloScript::primary("rs0", me, &[me])).unwrap();
    server.always("aggregate", |_| Answer::reply(batch::first(7, [])));
    server
}

async fn watch(server: &ScriptedServer) -> ChangeStream {
    let client = Client::new(&server.uri()).unwrap();
    let watch = client.database("test").watch().exhaust(true);
    within(watch).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_stream_or_stops_is_asked_as_usual() {
    let server = server();
    // None unasked, then two, then one, then silence.
    server.once("getMore", Answer::reply(batch::next(7, [event(1)])));
    let chain = Answer::silence()
        .then_reply_with_more(batch::next(7, [event(2)]))
        .then_reply_with_more(batch::next(7, [event(3)]));
    server.once("getMore", chain.then_reply(batch::next(7, [event(4)])));
    server.once("getMore", Answer::reply(batch::next(7, [event(5)])));
    server.always("getMore", |_| Answer::silence());
    let mut stream = watch(&server).await;
    for id in 1..=5 {
        assert_eq!(next_id(&mut stream).await, id);
    }
    let asked = server.wait_for(PATIENCE, |all| {
        all.iter()
            .filter(|command| command.name == "getMore")
            .count()
            == 4
    });
    let asked = asked
        .unwrap()
        .into_iter()
        .filter(|command| command.name == "getMore");
    assert!(asked.into_iter().all(|command| command.exhaust_allowed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_ends_for_want_of_time_is_begun_again() {
    let server = server();
    let overloaded = rawdoc! {
        "ok": 0.0, "code": 462, "errmsg": "too busy",
        "errorLabels": ["SystemOverloadedError", "RetryableError"], "baseBackoffMS": 1,
    };
    let chain = Answer::silence().then_reply_with_more(batch::next(7, [event(1)]));
    server.once("getMore", chain.then_reply(overloaded));
    server.once("getMore", Answer::reply(batch::next(7, [event(2)])));
    server.always("getMore", |_| Answer::silence());
    let mut stream = watch(&server).await;
    // Without another getMore nothing comes before that of the chain is given up.
    let soon = Duration::from_secs(5);
    for id in 1..=2 {
        let event = tokio::time::timeout(soon, stream.next_raw()).await;
        assert_eq!(id_of(&event.unwrap().unwrap().unwrap()), id);
    }
    assert_eq!(stream.position().gaps, 0);
}

/// Reads while writes go on, dropping calls of `next()` at random. The events that were written,
/// and those that were read, each in its turn.
async fn cancel_at_random(
    watch: impl Fn(Watch) -> Watch,
    cancellations: u32,
    seed: u64,
) -> (i32, i32) {
    let client = shared_client().await;
    let database = own_database(&client);
    let mut stream = within(watch(database.collection("things").watch()))
        .await
        .unwrap();
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let writing = tokio::spawn(async move {
        let mut next = 0;
        while stopped.try_recv().is_err() {
            insert(&database, "things", next..next + 20).await;
            next += 20;
        }
        next
    });
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut seen, mut cancelled) = (0, 0);
    let mut accept = |event: mongo_client::change_stream::RawEvent| {
        assert_eq!(id_of(&event), seen, "seed {seed}");
        seen += 1;
    };
    while cancelled < cancellations {
        // Before its first poll, after it, after a few, or somewhere in between.
        let found = match random.u8(0..4) {
            0 => {
                drop(stream.next_raw());
                cancelled += 1;
                continue;
            }
            1 => stream.next_raw().now_or_never(),
            2 => {
                let polls = random.u8(1..4);
                let wait = async {
                    for _ in 0..polls {
                        tokio::task::yield_now().await;
                    }
                };
                tokio::select! { biased; event = stream.next_raw() => Some(event), () = wait => None }
            }
            _ => {
                let limit = Duration::from_micros(random.u64(0..400));
                tokio::time::timeout(limit, stream.next_raw()).await.ok()
            }
        };
        match found {
            Some(event) => accept(event.unwrap().unwrap()),
            None => {
                cancelled += 1;
                assert!(stream.is_alive() && stream.resume_token().is_some());
            }
        }
    }
    stop.send(()).unwrap();
    let written = writing.await.unwrap();
    while seen_less_than(&mut accept, &mut stream, written).await {}
    (written, seen)
}

/// Reads one event, unless all were.
async fn seen_less_than(
    accept: &mut impl FnMut(mongo_client::change_stream::RawEvent),
    stream: &mut ChangeStream,
    written: i32,
) -> bool {
    if stream.position().events >= u64::try_from(written).unwrap() {
        return false;
    }
    accept(within(stream.next_raw()).await.unwrap().unwrap());
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_cancelled_calls_lose_and_repeat_nothing() {
    let ways: [fn(Watch) -> Watch; 4] = [
        |watch| watch,
        |watch| watch.prefetch(None).batch_size(7),
        |watch| watch.exhaust(true).batch_size(3),
        |watch| watch.prefetch(None).exhaust(true),
    ];
    let cancelled = 2_500;
    for (seed, way) in (1..).zip(ways) {
        let (written, read) = cancel_at_random(way, cancelled, seed).await;
        beside(
            "D2",
            format_args!("{cancelled} cancelled calls, {written} events written, {read} read"),
        );
        assert_eq!(read, written);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exhaust_resumes_behind_what_was_received() {
    let uri = tokio::task::spawn_blocking(|| shared_set().uri())
        .await
        .unwrap();
    let client = Client::new(&format!("{uri}&appName=interrupted")).unwrap();
    let control = shared_client().await;
    let database = own_database(&client);
    let (resumed, mut resumes) = tokio::sync::mpsc::unbounded_channel();
    let watch = database.collection("things").watch().exhaust(true);
    let watch = watch.on_event(move |event| {
        if let StreamEvent::Resumed { .. } = event {
            let _ = resumed.send(());
        }
    });
    let mut stream = within(watch).await.unwrap();
    for id in 0..3 {
        // The server goes through its commands for what it sends unasked, too.
        let data = rawdoc! {
            "failCommands": ["getMore"], "errorCode": 6, "appName": "interrupted",
            "errorLabels": ["ResumableChangeStreamError"],
        };
        let fail_point = FailPoint::on(&control, Some(1), data).await;
        insert(&database, "things", [id]).await;
        assert_eq!(next_id(&mut stream).await, id);
        within(resumes.recv()).await.unwrap();
        fail_point.off().await.unwrap();
    }
}
