//! What streams do where the application decides: lost history, invalidate events, large events;
//! on real servers.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it measured"
)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bson::{RawDocumentBuf, Timestamp, doc, rawdoc};
use integration_tests::recorder::{self, Recorder};
use integration_tests::{id_of, insert, next, own_database, run, shared_client, within};
use mongo_client::change_stream::{
    ErrorClass, FullDocumentBeforeChangeType, GapCause, HistoryLost, OnInvalidate, OperationType,
    Oversize, RawEvent, StreamEvent,
};
use mongo_client::uri::{ReadPreference, ReadPreferenceMode};
use mongo_client::{ChangeStream, Client, ClientOptions, Database, Error, Watch};
use testbed::cluster::{ReplicaSet, ReplicaSetOptions};
use testbed::mongod::ServerVersion;
use testbed::proxy::Direction;
use tokio::sync::mpsc;

fn kind(event: &RawEvent) -> OperationType {
    event.operation_type().unwrap()
}

/// A secondary has no more of the history than what happened since it was first synced.
#[tokio::test(flavor = "multi_thread")]
async fn lost_history_is_an_error_or_a_gap_with_both_ends() {
    let start = || ReplicaSet::start(2).unwrap();
    let set = tokio::task::spawn_blocking(start).await.unwrap();
    let client = Client::new(&set.uri()).unwrap();
    let database = client.database("test");
    let things = database.collection("things");
    insert(&database, "things", [1]).await;
    let long_ago = Timestamp {
        time: 1,
        increment: 1,
    };
    let watch = || {
        let secondary = ReadPreference::from(ReadPreferenceMode::Secondary);
        let watch = things.watch().read_preference(secondary);
        watch.start_at_operation_time(long_ago)
    };

    let error = within(watch()).await.unwrap_err();
    println!("{error}");
    assert_eq!(error.class(), ErrorClass::Permanent);
    let Error::ChangeStream { error, .. } = error else {
        panic!()
    };
    assert!(error.is_history_lost());

    let (published, mut gaps) = mpsc::unbounded_channel();
    let listener = move |event: &StreamEvent| {
        if let StreamEvent::Gap(gap) = event {
            let _ = published.send(gap.clone());
        }
    };
    let watch_on = watch()
        .history_lost(HistoryLost::FromNow)
        .on_event(listener);
    let mut stream = within(watch_on).await.unwrap();
    let gap = gaps.try_recv().unwrap();
    println!("{gap:?}");
    assert_eq!(gap.cause, GapCause::HistoryLost);
    assert_eq!(gap.from.cluster_time, Some(long_ago));
    assert!(gap.from.cluster_time < gap.to.cluster_time);
    insert(&database, "things", [2]).await;
    assert_eq!(id_of(&next(&mut stream).await), 2);
    let position = stream.position();
    assert_eq!((position.gaps, position.last_gap), (1, Some(gap.clone())));
    assert!(gaps.try_recv().is_err(), "told once");

    // The end that was reported is a place to start at.
    let time = gap.to.cluster_time.unwrap();
    let from = watch().history_lost(HistoryLost::FromTime(time));
    let mut stream = within(from).await.unwrap();
    assert_eq!(id_of(&next(&mut stream).await), 2);
    let to = stream.position().last_gap.unwrap().to;
    assert_eq!(to.cluster_time, Some(time));

    // One that is out of reach itself is no way out.
    let error = within(watch().history_lost(HistoryLost::FromTime(long_ago))).await;
    let Err(Error::ChangeStream { error, .. }) = error else {
        panic!("{error:?}")
    };
    assert!(error.is_history_lost());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_behind_drops_and_renames_and_misses_nothing() {
    let client = shared_client().await;
    let database = own_database(&client);
    let things = database.collection("things");
    let watch = || things.watch().on_invalidate(OnInvalidate::Continue);
    let mut stream = within(watch()).await.unwrap();
    insert(&database, "things", [1]).await;
    run(&database, rawdoc! { "drop": "things" }).await;
    insert(&database, "things", [2]).await;
    let name = database.name();
    let rename = rawdoc! {
        "renameCollection": format!("{name}.things"), "to": format!("{name}.others"),
    };
    client.run_admin_command(&rename).await.unwrap();
    insert(&database, "things", [3]).await;

    use OperationType::{Drop, Insert, Invalidate, Rename};
    let (mut saved, mut token) = (None, None);
    for expected in [Insert, Drop, Invalidate, Insert, Rename, Invalidate, Insert] {
        let event = next(&mut stream).await;
        assert_eq!(kind(&event), expected);
        let point = stream.resume_point().unwrap();
        assert_eq!(point.after_invalidate, expected == Invalidate);
        if expected == Invalidate && saved.is_none() {
            (saved, token) = (Some(point), event.token());
        }
    }
    assert!(stream.is_alive());

    // What was saved behind the first invalidate event starts another stream there.
    let point = saved.unwrap();
    let mut stream = within(watch().start_after(point.token.clone()))
        .await
        .unwrap();
    for expected in [Insert, Rename, Invalidate, Insert] {
        assert_eq!(kind(&next(&mut stream).await), expected);
    }
    let refused = within(things.watch().resume_after(token.unwrap())).await;
    let Err(Error::ChangeStream { error, .. }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(error.code(), Some(260), "resumeAfter cannot do that");
}

/// A set of the only version here that splits events.
async fn splitting() -> Client {
    static SET: OnceLock<ReplicaSet> = OnceLock::new();
    let uri = tokio::task::spawn_blocking(|| {
        let set = SET.get_or_init(|| {
            let mut options = ReplicaSetOptions::new(1);
            options.version = ServerVersion::V6_0;
            options.start().expect("6.0.27 starts")
        });
        set.uri()
    });
    Client::new(&uri.await.unwrap()).unwrap()
}

/// Makes one event with three images of about 10 MB, between two small ones.
async fn large_event(database: &Database) {
    let large = |letter: &str| letter.repeat(10 << 20);
    let document = rawdoc! { "_id": 1, "value": large("q") };
    run(
        database,
        rawdoc! { "insert": "things", "documents": [document] },
    )
    .await;
    let change = doc! { "q": { "_id": 1 }, "u": { "$set": { "value": large("z") } } };
    let update = doc! { "update": "things", "updates": [change] };
    insert(database, "things", [2]).await;
    run(database, RawDocumentBuf::try_from(&update).unwrap()).await;
    insert(database, "things", [3]).await;
}

async fn with_images(database: &Database) -> Watch {
    let images =
        rawdoc! { "create": "things", "changeStreamPreAndPostImages": { "enabled": true } };
    run(database, images).await;
    let required = FullDocumentBeforeChangeType::Required;
    database
        .collection("things")
        .watch()
        .full_document_before_change(required)
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_too_large_fail_or_are_joined_or_are_left_out() {
    let client = splitting().await;
    let database = own_database(&client);
    let _ = with_images(&database).await;
    let watch = || {
        let required = FullDocumentBeforeChangeType::Required;
        let things = database.collection("things");
        things.watch().full_document_before_change(required)
    };
    let mut failing = within(watch()).await.unwrap();
    let mut joining = within(watch().oversize(Oversize::Join { limit: 64 << 20 }))
        .await
        .unwrap();
    let mut skipping = within(watch().oversize(Oversize::Skip)).await.unwrap();
    let mut limited = within(watch().oversize(Oversize::Join { limit: 1 << 20 }))
        .await
        .unwrap();
    large_event(&database).await;

    for stream in [&mut failing, &mut joining, &mut skipping, &mut limited] {
        assert_eq!(id_of(&next(stream).await), 1);
        assert_eq!(id_of(&next(stream).await), 2);
    }
    let error = within(failing.next_raw()).await.unwrap().unwrap_err();
    println!("{error}");
    let Error::ChangeStream { error, .. } = error else {
        panic!()
    };
    assert!(error.is_event_too_large());
    let error = within(limited.next_raw()).await.unwrap().unwrap_err();
    println!("{error}");
    let Error::ChangeStream { error, .. } = error else {
        panic!()
    };
    assert!(error.is_event_too_large());

    let event = next(&mut joining).await;
    check_joined(&event);
    assert_eq!(joining.resume_token(), event.token());
    assert_eq!(id_of(&next(&mut joining).await), 3);
    assert_eq!(joining.position().gaps, 0);

    assert_eq!(id_of(&next(&mut skipping).await), 3);
    let gap = skipping.position().last_gap.unwrap();
    assert_eq!(gap.cause, GapCause::Oversize);
    assert!(gap.from.cluster_time < gap.to.cluster_time);
    assert_eq!(gap.to.cluster_time, event.cluster_time());
}

fn check_joined(event: &RawEvent) {
    assert_eq!(kind(event), OperationType::Update);
    assert_eq!(id_of(event), 1);
    let document = event.document();
    assert!(document.get("splitEvent").unwrap().is_none());
    let before = document.get_document("fullDocumentBeforeChange").unwrap();
    assert_eq!(before.get_str("value").unwrap().len(), 10 << 20);
    let description = document.get_document("updateDescription").unwrap();
    let updated = description.get_document("updatedFields").unwrap();
    assert!(updated.get_str("value").unwrap().starts_with("zzz"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_in_the_middle_of_a_group_loses_and_repeats_nothing() {
    let client = splitting().await;
    let database = own_database(&client);
    let (published, mut interruptions) = mpsc::unbounded_channel();
    let watch = with_images(&database).await.on_event(move |event| {
        if let StreamEvent::Interrupted { .. } = event {
            let _ = published.send(());
        }
    });
    // One event a reply, so that the second getMore behind the small ones is in the group.
    let watch = watch.batch_size(1).prefetch(None);
    let mut stream = within(watch.oversize(Oversize::Join { limit: 64 << 20 }))
        .await
        .unwrap();
    large_event(&database).await;
    for id in [1, 2] {
        assert_eq!(id_of(&next(&mut stream).await), id);
    }
    let point = stream.resume_token();
    let fail = |mode: RawDocumentBuf| {
        let command = rawdoc! {
            "configureFailPoint": "failCommand", "mode": mode, "data": {
                "failCommands": ["getMore"], "errorCode": 6,
                "errorLabels": ["ResumableChangeStreamError"],
            },
        };
        let client = client.clone();
        async move { client.run_admin_command(&command).await.unwrap() }
    };
    // The first fragment gets through, the second does not.
    fail(rawdoc! { "skip": 1 }).await;
    let interrupted = async {
        within(interruptions.recv()).await.unwrap();
        let off = rawdoc! { "configureFailPoint": "failCommand", "mode": "off" };
        client.run_admin_command(&off).await.unwrap();
    };
    let (event, ()) = tokio::join!(next(&mut stream), interrupted);
    check_joined(&event);
    assert_ne!(stream.resume_token(), point);
    assert_eq!(id_of(&next(&mut stream).await), 3);
    assert_eq!(stream.position().gaps, 0);
}

/// Three members of the only version here that splits events, behind proxies, and a client of theirs
/// that is known by its name.
async fn splitting_set() -> (Arc<ReplicaSet>, Client, Recorder) {
    let set = tokio::task::spawn_blocking(|| {
        let mut options = ReplicaSetOptions::new(3);
        options.version = ServerVersion::V6_0;
        options.proxied = true;
        options.start().expect("6.0.27 starts")
    });
    let set = Arc::new(set.await.unwrap());
    let recorder = Recorder::default();
    let uri = format!("{}&appName=reader", set.uri());
    let options = ClientOptions::parse(&uri).unwrap();
    let client = Client::with_options(options.on_event(recorder.listener())).unwrap();
    (set, client, recorder)
}

/// A stream that gets one fragment with each reply and stands before the group of a large event.
/// When it is interrupted, it says how often the server was asked for the group.
async fn before_the_group(
    database: &Database,
    recorder: &Recorder,
) -> (ChangeStream, mpsc::UnboundedReceiver<usize>) {
    let (published, interruptions) = mpsc::unbounded_channel();
    let before = Arc::new(AtomicUsize::new(0));
    let (listener, standing) = (recorder.clone(), Arc::clone(&before));
    let watch = with_images(database).await.on_event(move |event| {
        if let StreamEvent::Interrupted { .. } = event {
            let asked = listener.sent("getMore").len();
            let _ = published.send(asked - standing.load(Ordering::SeqCst));
        }
    });
    let join = Oversize::Join { limit: 64 << 20 };
    let watch = watch.batch_size(1).prefetch(None).oversize(join);
    let mut stream = within(watch).await.unwrap();
    large_event(database).await;
    for id in [1, 2] {
        assert_eq!(id_of(&next(&mut stream).await), id);
    }
    before.store(recorder.sent("getMore").len(), Ordering::SeqCst);
    (stream, interruptions)
}

/// What follows is all that came behind the group, each event once.
async fn goes_on_behind_the_group(
    stream: &mut ChangeStream,
    set: &Arc<ReplicaSet>,
    database: &Database,
) {
    assert_eq!(id_of(&next(stream).await), 3);
    // Past the client, which need not have heard of a new primary.
    let (set, name) = (Arc::clone(set), database.name().to_owned());
    let write = move || {
        let insert = rawdoc! {
            "insert": "things", "documents": [{ "_id": 4 }], "writeConcern": { "w": "majority" },
        };
        set.primary().unwrap().run_command(&name, &insert).unwrap();
    };
    tokio::task::spawn_blocking(write).await.unwrap();
    assert_eq!(id_of(&next(stream).await), 4);
    assert_eq!(stream.position().gaps, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_cut_anywhere_in_a_group_loses_and_repeats_nothing() {
    let (set, client, recorder) = splitting_set().await;
    // The first fragment has some 10.5 MB, and the last one as many.
    for (megabytes, fragment) in [(5, 1), (11, 2), (20, 2)] {
        let database = own_database(&client);
        let (mut stream, mut interruptions) = before_the_group(&database, &recorder).await;
        let cutting = Arc::clone(&set);
        let cut = move || {
            let proxy = cutting.primary().unwrap().proxy().unwrap();
            proxy.cut_after(Direction::ToClient, megabytes * 1_000_000);
        };
        tokio::task::spawn_blocking(cut).await.unwrap();
        let (event, asked) = tokio::join!(next(&mut stream), within(interruptions.recv()));
        check_joined(&event);
        assert_eq!(asked, Some(fragment), "cut after {megabytes} MB");
        goes_on_behind_the_group(&mut stream, &set, &database).await;
        within(stream.close()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_killed_in_the_middle_of_a_group_loses_and_repeats_nothing() {
    let (set, client, recorder) = splitting_set().await;
    let database = own_database(&client);
    let (mut stream, mut interruptions) = before_the_group(&database, &recorder).await;
    let asked = recorder.sent("getMore").len();
    // The first fragment gets through, and the server is at the second for ever.
    let hang = rawdoc! {
        "configureFailPoint": "failCommand", "mode": { "skip": 1 }, "data": {
            "failCommands": ["getMore"], "appName": "reader",
            "blockConnection": true, "blockTimeMS": 600_000,
        },
    };
    client.run_admin_command(&hang).await.unwrap();
    let killing = async {
        recorder
            .wait_for(|events| recorder::sent(events, "getMore").len() == asked + 2)
            .await;
        let set = Arc::clone(&set);
        let kill = move || set.primary().unwrap().kill().unwrap();
        tokio::task::spawn_blocking(kill).await.unwrap();
    };
    let (event, ()) = tokio::join!(next(&mut stream), killing);
    check_joined(&event);
    assert_eq!(within(interruptions.recv()).await, Some(2));
    goes_on_behind_the_group(&mut stream, &set, &database).await;
}
