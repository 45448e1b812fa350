//! Change streams against a real replica set.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it measured"
)]

use std::time::Duration;

use bson::{RawDocumentBuf, Timestamp, cstr, rawdoc};
use futures_util::{FutureExt as _, TryStreamExt as _};
use integration_tests::{PATIENCE, id_of, insert, own_database, place, run, shared_client, within};
use mongo_client::change_stream::{
    ChangeEvent, EventFilter, FullDocumentType, NamespacePattern, OperationType, RawEvent,
    ResumeToken, StreamError,
};
use mongo_client::{ChangeStream, Client, Error};

async fn ids<T>(stream: &mut ChangeStream<T>, count: usize) -> Vec<i32> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let event = within(stream.next_raw()).await.expect("the stream goes on");
        seen.push(id_of(&event.unwrap()));
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_a_database_and_the_cluster_each_show_what_is_theirs() {
    let (client, database, collection) = place().await;
    let other = own_database(&client);
    let mut narrow = collection.watch().await.unwrap();
    let mut wide = database.watch().await.unwrap();
    // Other tests write to the same cluster.
    let (one, two) = (database.name(), other.name());
    let theirs = rawdoc! { "$match": { "ns.db": { "$in": [one, two] } } };
    let mut widest = client.watch().pipeline([theirs]).await.unwrap();

    insert(&database, "things", [1]).await;
    insert(&database, "others", [2]).await;
    insert(&other, "things", [3]).await;
    insert(&database, "things", [4]).await;

    assert_eq!(ids(&mut narrow, 2).await, [1, 4]);
    assert_eq!(ids(&mut wide, 3).await, [1, 2, 4]);
    assert_eq!(ids(&mut widest, 4).await, [1, 2, 3, 4]);
}

#[derive(Debug, PartialEq, serde::Deserialize)]
struct Thing {
    #[serde(rename = "_id")]
    id: i32,
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_read_as_the_type_asked_for() {
    let (_client, database, collection) = place().await;
    let stream = collection.watch().await.unwrap();
    let mut stream = stream.with_type::<ChangeEvent<Thing>>();
    insert(&database, "things", [7]).await;

    let event = within(stream.try_next()).await.unwrap().expect("an event");
    assert_eq!(event.operation_type, OperationType::Insert);
    assert_eq!(event.full_document.present(), Some(Thing { id: 7 }));
    assert_eq!(event.ns.unwrap().coll.as_deref(), Some("things"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_another_shape_is_an_error_and_the_stream_goes_on() {
    #[derive(Debug, serde::Deserialize)]
    struct Picky {
        #[serde(rename = "documentKey")]
        _key: Thing,
    }
    let (_client, database, collection) = place().await;
    let mut stream = collection.watch().await.unwrap().with_type::<Picky>();
    run(
        &database,
        rawdoc! { "insert": "things", "documents": [{ "_id": "text" }] },
    )
    .await;
    insert(&database, "things", [1]).await;

    let error = within(stream.next()).await.unwrap().unwrap_err();
    assert!(
        matches!(
            error,
            Error::ChangeStream {
                error: StreamError::Event(_),
                ..
            }
        ),
        "{error}"
    );
    within(stream.next()).await.unwrap().unwrap();
    assert!(stream.is_alive());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_news_the_token_still_moves() {
    for prefetch in [None, Some(mongo_client::change_stream::Prefetch::default())] {
        let (client, _database, collection) = place().await;
        let watch = collection.watch().prefetch(prefetch);
        let mut stream = watch
            .max_await_time(Duration::from_millis(50))
            .await
            .unwrap();
        let before = stream
            .resume_token()
            .expect("6.0 gives a token with every reply");

        // Elsewhere something happens, here nothing does.
        insert(&own_database(&client), "elsewhere", [1]).await;
        let mut after = before.clone();
        for _ in 0..100 {
            assert!(within(stream.next_if_any()).await.unwrap().is_none());
            after = stream.resume_token().unwrap();
            if after != before {
                break;
            }
        }
        assert_ne!(after, before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_starts_another_stream_behind_its_event() {
    let (_client, database, collection) = place().await;
    let mut stream = collection.watch().await.unwrap();
    insert(&database, "things", 0..10).await;
    assert_eq!(ids(&mut stream, 4).await, [0, 1, 2, 3]);
    let token = stream.resume_token().unwrap();
    stream.close().await;

    // Through bytes, as somebody would save it.
    let saved = token.as_bytes().to_vec();
    let token = ResumeToken::from_bytes(saved).unwrap();
    let mut again = collection
        .watch()
        .resume_after(token.clone())
        .await
        .unwrap();
    assert_eq!(again.resume_token(), Some(token.clone()));
    assert_eq!(ids(&mut again, 6).await, [4, 5, 6, 7, 8, 9]);
    let mut again = collection.watch().start_after(token).await.unwrap();
    assert_eq!(ids(&mut again, 6).await, [4, 5, 6, 7, 8, 9]);
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_handed_out_whole_with_the_token_behind_them() {
    let (_client, database, collection) = place().await;
    let mut stream = collection.watch().batch_size(4).await.unwrap();
    insert(&database, "things", 0..10).await;
    let mut seen = Vec::new();
    while seen.len() < 10 {
        let batch = within(stream.next_batch())
            .await
            .expect("the stream goes on")
            .unwrap();
        assert!(batch.len() <= 4);
        assert_eq!(stream.resume_token().as_ref(), batch.resume_token());
        let key = |key: &bson::RawDocument| key.get_i32("_id").unwrap();
        seen.extend(
            batch
                .events()
                .map(|event| key(event.document_key().unwrap())),
        );
    }
    assert_eq!(seen, (0..10).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_time_starts_a_stream_with_what_happened_since() {
    let (_client, database, collection) = place().await;
    insert(&database, "things", [1]).await;
    let reply = database.run_command(&rawdoc! { "ping": 1 }).await.unwrap();
    let now = reply.operation_time().expect("a replica set has a clock");
    let next = Timestamp {
        time: now.time,
        increment: now.increment + 1,
    };
    insert(&database, "things", [2, 3]).await;

    let mut stream = collection
        .watch()
        .start_at_operation_time(next)
        .await
        .unwrap();
    assert_eq!(ids(&mut stream, 2).await, [2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_collection_ends_the_stream_behind_its_last_event() {
    let (_client, database, collection) = place().await;
    let mut stream = collection.watch().await.unwrap();
    insert(&database, "things", [1]).await;
    run(&database, rawdoc! { "drop": "things" }).await;

    let mut seen = Vec::new();
    while let Some(event) = within(stream.next_raw()).await {
        assert!(stream.is_alive() || seen.len() == 2);
        seen.push(event.unwrap().operation_type().unwrap());
    }
    assert_eq!(
        seen,
        [
            OperationType::Insert,
            OperationType::Drop,
            OperationType::Invalidate
        ]
    );
    assert!(!stream.is_alive());
    assert!(within(stream.next_raw()).await.is_none());
    assert!(within(stream.next_if_any()).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_option_is_taken_by_the_server() {
    let (_client, database, collection) = place().await;
    insert(&database, "things", [1]).await;
    let watch = collection
        .watch()
        .full_document(FullDocumentType::UpdateLookup);
    let watch = watch
        .batch_size(1)
        .max_await_time(Duration::from_millis(100));
    let watch = watch
        .collation(rawdoc! { "locale": "en" })
        .comment("a comment");
    let mut stream = watch.show_expanded_events(true).await.unwrap();
    let change = rawdoc! { "q": { "_id": 1 }, "u": { "$set": { "a": 1 } } };
    run(
        &database,
        rawdoc! { "update": "things", "updates": [change] },
    )
    .await;

    let event = within(stream.next()).await.unwrap().unwrap();
    assert_eq!(event.operation_type, OperationType::Update);
    let full = event
        .full_document
        .present()
        .expect("the document was looked up");
    assert_eq!(full.get_i32("a").unwrap(), 1);
    assert!(event.collection_uuid.is_some(), "expanded events carry it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_refuses_is_one_error_that_says_so() {
    let (_client, _database, collection) = place().await;
    for (stage, code) in [
        (rawdoc! { "$nonsense": {} }, 40324),
        (rawdoc! { "$out": "elsewhere" }, 20),
    ] {
        let error = within(collection.watch().pipeline([stage]).into_future())
            .await
            .unwrap_err();
        let Error::ChangeStream { error, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(error.code(), Some(code), "{error}");
    }
}

/// Cursors with this comment, in use or not.
async fn cursors(client: &Client, comment: &str) -> usize {
    let ops = rawdoc! { "$currentOp": { "allUsers": true, "idleCursors": true } };
    let found = rawdoc! { "$match": { "cursor.originatingCommand.comment": comment } };
    let mut command = rawdoc! { "aggregate": 1 };
    command.append(
        cstr!("pipeline"),
        [ops, found].into_iter().collect::<bson::RawArrayBuf>(),
    );
    command.append(cstr!("cursor"), rawdoc! {});
    let reply = client.run_admin_command(&command).await.unwrap();
    reply.cursor().unwrap().batch.iter().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_kills_the_cursor_also_while_a_get_more_waits() {
    let (client, _database, collection) = place().await;
    let mut stream = collection.watch().comment("to be closed").await.unwrap();
    // A cursor that is just being taken up by a `getMore` may be shown neither as idle nor in use.
    within(async { while cursors(&client, "to be closed").await != 1 {} }).await;
    within(stream.close()).await;
    // The server may take a moment to let go of a `getMore` whose cursor was killed.
    within(async { while cursors(&client, "to be closed").await > 0 {} }).await;
    assert!(!stream.is_alive());
    assert!(within(stream.next_raw()).await.is_none());
    within(stream.close()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_handle_or_its_opening_leaves_no_cursor_behind() {
    let (client, _database, collection) = place().await;
    let watch = || collection.watch().comment("to be dropped");
    drop(watch().await.unwrap());
    for microseconds in [0, 200, 500, 1_000, 2_000] {
        let limit = Duration::from_micros(microseconds);
        // Whether it opens in time or not: it is dropped.
        let _ = tokio::time::timeout(limit, watch().into_future()).await;
    }
    // When no task is left, nothing more can be sent that opens a cursor.
    within(client.shutdown()).await;
    let client = shared_client().await;
    let gone = async { while cursors(&client, "to be dropped").await > 0 {} };
    within(gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_next_loses_and_repeats_nothing() {
    const EVENTS: i32 = 300;
    for prefetch in [None, Some(mongo_client::change_stream::Prefetch::default())] {
        let (_client, database, collection) = place().await;
        let mut stream = collection
            .watch()
            .prefetch(prefetch)
            .batch_size(7)
            .await
            .unwrap();
        let writing = tokio::spawn(async move {
            for id in 0..EVENTS {
                insert(&database, "things", [id]).await;
            }
        });
        let mut random = fastrand::Rng::with_seed(42);
        let (mut seen, mut cancelled) = (Vec::new(), 0);
        let reading = async {
            while seen.len() < usize::try_from(EVENTS).unwrap() {
                // Dropped after its first poll, or somewhere later.
                let next = if random.bool() {
                    tokio::task::yield_now().await;
                    stream.next_raw().now_or_never()
                } else {
                    let limit = Duration::from_micros(random.u64(0..1_500));
                    tokio::time::timeout(limit, stream.next_raw()).await.ok()
                };
                match next {
                    Some(event) => seen.push(id_of(&event.unwrap().unwrap())),
                    None => {
                        cancelled += 1;
                        assert!(stream.is_alive());
                        assert!(stream.resume_token().is_some());
                    }
                }
            }
        };
        tokio::time::timeout(PATIENCE * 3, reading)
            .await
            .expect("this hangs");
        writing.await.unwrap();
        assert_eq!(seen, (0..EVENTS).collect::<Vec<_>>());
        assert!(cancelled > 100, "only {cancelled} calls were cancelled");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_position_is_readable_from_another_task_while_next_waits() {
    let (_client, database, collection) = place().await;
    let mut stream = collection.watch().await.unwrap();
    let observer = stream.observer();
    let waiting = tokio::spawn(async move {
        let event = stream.next_raw().await.unwrap().unwrap();
        (id_of(&event), stream)
    });
    assert!(observer.is_alive());
    assert!(observer.resume_token().is_some());
    assert_eq!(observer.position().events, 0);
    insert(&database, "things", [5]).await;
    let (id, stream) = within(waiting).await.unwrap();
    assert_eq!(id, 5);
    assert_eq!(observer.position().events, 1);
    assert_eq!(observer.resume_token(), stream.resume_token());
}

/// A cluster's history is read through many filters, and each keeps what it says.
#[tokio::test(flavor = "multi_thread")]
async fn a_filter_keeps_exactly_what_it_says() {
    let client = shared_client().await;
    let (one, two) = (own_database(&client), own_database(&client));
    let (first, second) = (one.name().to_owned(), two.name().to_owned());
    let reply = one.run_command(&rawdoc! { "ping": 1 }).await.unwrap();
    let start = reply.operation_time().unwrap();
    let names = [
        "orders", "orders2", "Orders", "a.b", "a+b", "tmp_1", "tmpx1", "\u{fc}",
    ];
    for (id, name) in (0..).zip(names) {
        insert(&one, name, [id]).await;
        insert(&two, name, [id]).await;
    }
    let change = rawdoc! { "q": { "_id": 0 }, "u": { "$set": { "a": 1 } } };
    run(&one, rawdoc! { "update": "orders", "updates": [change] }).await;
    run(&one, rawdoc! { "drop": "tmp_1" }).await;
    run(&two, rawdoc! { "dropDatabase": 1 }).await;
    let end = one.run_command(&rawdoc! { "ping": 1 }).await.unwrap();
    let end = end.operation_time().unwrap();
    // So that tokens move past it.
    insert(&own_database(&client), "sentinel", [1]).await;

    let only_ours = format!("{first}*");
    let tests = |patterns: &[String]| -> Vec<NamespacePattern> {
        patterns
            .iter()
            .map(|pattern| pattern.parse().unwrap())
            .collect()
    };
    let ours = || EventFilter::default().include(tests(&[first.clone(), second.clone()]));
    let all = read_through(&client, ours(), start, end).await;
    assert!(all.len() > 2 * names.len() + 3, "{}", all.len());
    use OperationType::{Drop, DropDatabase, Insert, Update};
    let filters = [
        EventFilter::default().include(tests(&[format!("{first}.orders")])),
        EventFilter::default().include(tests(&[format!("{first}.orders*")])),
        EventFilter::default().include(tests(&[format!("{first}.a+*"), format!("{second}.a.b")])),
        EventFilter::default().include(tests(&[format!("{second}.tmp_*")])),
        EventFilter::default().include(tests(&[format!("{first}.\u{fc}*")])),
        EventFilter::default().include(tests(std::slice::from_ref(&second))),
        ours().exclude(tests(&[format!("{first}.a*"), second.clone()])),
        ours().exclude(tests(&[only_ours])),
        ours().operations([Update, Drop]),
        ours().operations([DropDatabase]),
        EventFilter::default()
            .include(tests(std::slice::from_ref(&first)))
            .exclude(tests(&[format!("{first}.tmp*")]))
            .operations([Insert]),
    ];
    for filter in filters {
        let kept = read_through(&client, filter.clone(), start, end).await;
        let expected: Vec<_> = all
            .iter()
            .filter(|event| filter.matches(event.view()))
            .collect();
        assert_eq!(kept.iter().collect::<Vec<_>>(), expected, "{filter:?}");
        assert!(kept.len() < all.len(), "{filter:?}");
    }

    let filter = ours()
        .operations([Insert])
        .only_fields(["fullDocument._id"]);
    let event = read_through(&client, filter, start, end)
        .await
        .swap_remove(0);
    let keys: Vec<_> = event
        .document()
        .iter()
        .map(|element| element.unwrap().0.as_str())
        .collect();
    assert_eq!(
        keys,
        ["_id", "operationType", "clusterTime", "fullDocument", "ns"]
    );
}

async fn read_through(
    client: &Client,
    filter: EventFilter,
    start: Timestamp,
    end: Timestamp,
) -> Vec<RawEvent> {
    let watch = client.watch().filter(filter).start_at_operation_time(start);
    let stream = watch
        .max_await_time(Duration::from_millis(20))
        .await
        .unwrap();
    let mut stream = stream.with_type::<RawDocumentBuf>();
    let mut events = Vec::new();
    // Behind the end once nothing is found there.
    loop {
        match within(stream.next_if_any()).await.unwrap() {
            Some(event) => events.push(RawEvent::from(mongo_wire::Document::from(event))),
            None if stream.position().cluster_time > Some(end) => return events,
            None => {}
        }
    }
}
