//! The prose tests on a real server.

use std::time::Duration;

use bson::{Document, doc, rawdoc};
use integration_tests::{id_of, next, within};
use mongo_client::change_stream::{
    BackoffConfig, FullDocumentBeforeChangeType, FullDocumentType, StreamConfig,
};
use mongo_client::{Error, Watch};

use crate::deployment::{World, batch, document, stage, token};

fn code(error: &Error) -> Option<i32> {
    match error {
        Error::ChangeStream { error, .. } => error.code(),
        _ => None,
    }
}

/// Reads nothing ahead, so that the replies so far are those that were handed out.
fn plain(world: &World) -> Watch {
    world.collection.watch().prefetch(None)
}

pub(crate) async fn prose_01_token_follows_every_event(world: World) {
    let mut stream = plain(&world).batch_size(2).await.unwrap();
    world.insert(0..5).await;
    let mut tokens = Vec::new();
    for id in 0..5 {
        assert_eq!(id_of(&next(&mut stream).await), id);
        tokens.push(document(stream.resume_token()).unwrap());
    }
    let mut expected = Vec::new();
    for cursor in world.cursors() {
        let ids = batch(&cursor)
            .iter()
            .map(|event| id(event).clone())
            .collect::<Vec<_>>();
        let end = cursor.get_document("postBatchResumeToken").unwrap();
        if let Some((_, before)) = ids.split_last() {
            expected.extend_from_slice(before);
            expected.push(end.clone());
        }
    }
    assert_eq!(tokens, expected);
}

fn id(event: &Document) -> &Document {
    event.get_document("_id").unwrap()
}

pub(crate) async fn prose_02_event_without_id(world: World) {
    let without_id = rawdoc! { "$project": { "_id": 0 } };
    let mut stream = world
        .collection
        .watch()
        .pipeline([without_id])
        .await
        .unwrap();
    world.insert(0..1).await;
    let error = within(stream.next_raw()).await.unwrap().unwrap_err();
    assert_eq!(code(&error), Some(280), "{error}");
    assert!(within(stream.next_raw()).await.is_none());
    assert_eq!(world.sent("aggregate").len(), 1);
}

pub(crate) async fn prose_03_resumes_with_the_same_options(world: World) {
    let inserts = rawdoc! { "$match": { "operationType": "insert" } };
    let watch = plain(&world).pipeline([inserts]).batch_size(3);
    let watch = watch.full_document(FullDocumentType::UpdateLookup);
    let watch = watch.collation(rawdoc! { "locale": "en" }).comment("three");
    let mut stream = watch
        .max_await_time(Duration::from_millis(100))
        .await
        .unwrap();
    world.insert(0..1).await;
    assert_eq!(id_of(&next(&mut stream).await), 0);
    let token = document(stream.resume_token()).unwrap();

    world.fail_resumably(&["getMore"], 1).await;
    world.insert(1..2).await;
    assert_eq!(id_of(&next(&mut stream).await), 1);

    let aggregates = world.sent("aggregate");
    let [first, second] = &aggregates[..] else {
        panic!("{aggregates:?}")
    };
    let mut resumed = stage(second);
    assert_eq!(resumed.remove("resumeAfter"), Some(token.into()));
    assert_eq!(resumed, stage(first));
    for key in ["aggregate", "cursor", "collation", "comment", "$db"] {
        assert_eq!(first.get(key), second.get(key), "{key}");
        assert!(first.contains_key(key), "{key}");
    }
    let rest = |command: &Document| command.get_array("pipeline").unwrap()[1..].to_vec();
    assert_eq!(rest(first), rest(second));
}

pub(crate) async fn prose_04_aggregate_errors_are_final(world: World) {
    world.fail_resumably(&["aggregate"], 1).await;
    let error = within(world.collection.watch()).await.unwrap_err();
    assert_eq!(code(&error), Some(6), "{error}");
    assert_eq!(world.sent("aggregate").len(), 1);

    // The aggregate of a resume is final, too, where the specification is followed to the letter.
    let backoff = BackoffConfig {
        give_up_after: Duration::ZERO,
        ..BackoffConfig::default()
    };
    let config = StreamConfig {
        backoff,
        prefetch: None,
        ..StreamConfig::default()
    };
    let mut stream = world.collection.watch().config(config).await.unwrap();
    world.fail_resumably(&["getMore", "aggregate"], 2).await;
    let error = within(stream.next_raw()).await.unwrap().unwrap_err();
    assert_eq!(code(&error), Some(6), "{error}");
    assert!(within(stream.next_raw()).await.is_none());
    assert_eq!(world.sent("aggregate").len(), 3);
}

pub(crate) async fn prose_07_empty_first_batch_stays_open(world: World) {
    let mut stream = plain(&world).await.unwrap();
    world.insert(0..1).await;
    assert_eq!(id_of(&next(&mut stream).await), 0);
    let first = &world.cursors()[0];
    assert!(batch(first).is_empty());
    let cursor = first.get_i64("id").unwrap();
    assert_ne!(cursor, 0);
    for get_more in world.sent("getMore") {
        assert_eq!(get_more.get_i64("getMore").unwrap(), cursor);
    }
    assert_eq!(world.sent("killCursors"), []);
}

pub(crate) async fn prose_08_failed_kill_cursors_is_invisible(world: World) {
    let mut stream = plain(&world).await.unwrap();
    world.fail_resumably(&["getMore", "killCursors"], 2).await;
    world.insert(0..1).await;
    assert_eq!(id_of(&next(&mut stream).await), 0);
    world.wait_for_sent("killCursors", 1).await;
    assert_eq!(world.sent("aggregate").len(), 2);
    // The fail point is used up: the next cursor is killed when the stream is closed.
    within(stream.close()).await;
    assert_eq!(world.sent("killCursors").len(), 2);
}

pub(crate) async fn prose_11_used_up_batch_gives_its_end(world: World) {
    let watch = plain(&world).max_await_time(Duration::from_millis(50));
    let mut stream = watch.await.unwrap();
    let end = || {
        let last = world.cursors().pop().unwrap();
        last.get_document("postBatchResumeToken").ok().cloned()
    };
    assert_eq!(document(stream.resume_token()), end());
    assert!(end().is_some());
    assert!(within(stream.next_if_any()).await.unwrap().is_none());
    assert_eq!(document(stream.resume_token()), end());
    world.insert(0..1).await;
    next(&mut stream).await;
    assert_eq!(document(stream.resume_token()), end());
}

pub(crate) async fn prose_13_middle_of_a_batch_gives_the_last_id(world: World) {
    let mut stream = plain(&world).await.unwrap();
    world.insert(0..3).await;
    for _ in 0..2 {
        let event = next(&mut stream).await;
        assert_eq!(stream.resume_token(), event.token());
    }
}

pub(crate) async fn prose_14_unread_first_batch_gives_the_option(world: World) {
    let mut stream = plain(&world).await.unwrap();
    world.insert(0..3).await;
    let first = next(&mut stream).await;
    let (token, time) = (first.token().unwrap(), first.cluster_time().unwrap());
    drop(stream);
    for (watch, expected) in [
        (
            plain(&world).start_after(token.clone()),
            Some(token.clone()),
        ),
        (
            plain(&world).resume_after(token.clone()),
            Some(token.clone()),
        ),
        (plain(&world).start_at_operation_time(time), None),
    ] {
        let stream = watch.await.unwrap();
        let opened = world.cursors().pop().unwrap();
        assert!(!batch(&opened).is_empty(), "{opened}");
        assert_eq!(stream.resume_token(), expected);
    }
}

/// The end of what has happened, as a stream's saved token.
async fn end(world: &World) -> mongo_client::change_stream::ResumeToken {
    let mut stream = plain(world).await.unwrap();
    world.insert(100..101).await;
    next(&mut stream).await;
    let last = world.cursors().pop().unwrap();
    token(id(batch(&last).last().unwrap()))
}

pub(crate) async fn prose_17_start_after_is_kept_without_results(world: World) {
    let start = end(&world).await;
    let before = world.sent("aggregate").len();
    let mut stream = plain(&world).start_after(start).await.unwrap();
    world.fail_resumably(&["getMore"], 1).await;
    assert!(within(stream.next_if_any()).await.unwrap().is_none());
    let resumed = world.wait_for_sent("aggregate", before + 2).await;
    let resumed = stage(resumed.last().unwrap());
    assert!(resumed.contains_key("startAfter"), "{resumed}");
    assert!(!resumed.contains_key("resumeAfter"), "{resumed}");
    world.insert(0..1).await;
    assert_eq!(id_of(&next(&mut stream).await), 0);
}

pub(crate) async fn prose_18_start_after_becomes_resume_after(world: World) {
    let start = end(&world).await;
    let before = world.sent("aggregate").len();
    let mut stream = plain(&world).start_after(start).await.unwrap();
    world.insert(0..1).await;
    assert_eq!(id_of(&next(&mut stream).await), 0);
    let token = document(stream.resume_token()).unwrap();
    world.fail_resumably(&["getMore"], 1).await;
    world.insert(1..2).await;
    assert_eq!(id_of(&next(&mut stream).await), 1);
    let aggregates = world.sent("aggregate");
    assert_eq!(aggregates.len(), before + 2);
    assert_eq!(
        stage(&aggregates[before + 1]),
        doc! { "resumeAfter": token }
    );
}

pub(crate) async fn prose_19_large_events_are_split(world: World) {
    let images = doc! { "collMod": "things", "changeStreamPreAndPostImages": { "enabled": true } };
    integration_tests::run(&world.database, crate::deployment::raw(&images)).await;
    let large = |letter: &str| letter.repeat(10 * 1024 * 1024);
    let document = rawdoc! { "_id": 1, "value": large("q") };
    let insert = rawdoc! { "insert": "things", "documents": [document] };
    integration_tests::run(&world.database, insert).await;

    let watch = world.collection.watch();
    let watch = watch.pipeline([rawdoc! { "$changeStreamSplitLargeEvent": {} }]);
    let watch = watch.full_document_before_change(FullDocumentBeforeChangeType::Required);
    let mut stream = watch.await.unwrap();
    let change = doc! { "$set": { "value": large("z") } };
    integration_tests::run(&world.database, crate::deployment::update(1, change)).await;

    for fragment in [1, 2] {
        let event = next(&mut stream).await;
        let split = event.document().get_document("splitEvent").unwrap();
        assert_eq!(
            split,
            &*rawdoc! { "fragment": fragment, "of": 2 },
            "fragment {fragment}"
        );
    }
}
