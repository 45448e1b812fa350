//! Saved places: what is acknowledged is behind them, and they start no other stream.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in helpers too"
)]

use bson::rawdoc;
use integration_tests::batch;
use integration_tests::fail_point::FailPoint;
use integration_tests::{
    id_of, insert, next_id, own_database, place, run, shared_client, shared_set, within,
};
use mongo_client::change_stream::{
    Checkpoint, CheckpointTracker, IdentityMismatch, OnInvalidate, OperationType,
};
use mongo_client::checkpoint::{CheckpointFailure, CheckpointStore, CollectionStore, FileStore};
use mongo_client::{ChangeStream, Client, Error};
use testbed::cluster::ReplicaSet;
use testbed::scripted::{Answer, HelloScript, ScriptedServer};

/// Whatever the store: an application that acknowledges out of order and dies, again and again,
/// deals with every event, and repeats none that lies before its checkpoint.
async fn deals_with_everything(store: &impl CheckpointStore) {
    let (_client, database, collection) = place().await;
    assert_eq!(store.load().await.unwrap(), None);
    // The start of the first stream is saved before anything happens.
    let stream = within(collection.watch().resume_from(None)).await.unwrap();
    store.save(&stream.checkpoint().unwrap()).await.unwrap();
    drop(stream);
    insert(&database, "things", 0..40).await;

    let mut dealt_with = Vec::new();
    let mut random = fastrand::Rng::with_seed(7);
    while dealt_with.len() < 40 {
        let saved = store.load().await.unwrap();
        let watch = collection.watch().resume_from(saved.clone());
        let mut stream = within(watch).await.unwrap();
        let mut tracker = CheckpointTracker::new(saved.map(|saved| saved.point));
        let mut open = Vec::new();
        for _ in 0..random.usize(1..8).min(40 - dealt_with.len()) {
            let id = next_id(&mut stream).await;
            if open.is_empty() {
                assert_eq!(usize::try_from(id).unwrap(), dealt_with.len());
            }
            open.push((id, tracker.begin(&stream.resume_point().unwrap())));
        }
        random.shuffle(&mut open);
        // Some are acknowledged before the application dies.
        let survivors = random.usize(0..=open.len());
        let mut done = Vec::new();
        for (id, ticket) in open.drain(..survivors) {
            done.push(id);
            if let Some(point) = tracker.acknowledge(ticket) {
                store.save(&stream.checkpoint_at(point)).await.unwrap();
            }
        }
        // What lies before the mark does not come again.
        done.sort_unstable();
        let first = i32::try_from(dealt_with.len()).unwrap();
        let run = done
            .iter()
            .zip(first..)
            .take_while(|(id, expected)| *id == expected);
        dealt_with.extend(run.map(|(id, _)| *id));
    }
    assert_eq!(dealt_with, (0..40).collect::<Vec<_>>());
    let saved = store.load().await.unwrap();
    let mut stream = within(collection.watch().resume_from(saved)).await.unwrap();
    insert(&database, "things", [40]).await;
    assert_eq!(next_id(&mut stream).await, 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_keeps_a_place() {
    let folder = tempfile::tempdir().unwrap();
    deals_with_everything(&FileStore::new(folder.path().join("a"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_keeps_a_place() {
    let client = shared_client().await;
    let collection = own_database(&client).collection("checkpoints");
    let store = CollectionStore::new(collection.clone(), "a");
    deals_with_everything(&store).await;
    // Another name is another checkpoint; what is no checkpoint is said to be none.
    assert_eq!(
        CollectionStore::new(collection.clone(), "b")
            .load()
            .await
            .unwrap(),
        None
    );
    let stranger = rawdoc! { "insert": "checkpoints", "documents": [{ "_id": "c" }] };
    run(collection.database(), stranger).await;
    let error = CollectionStore::new(collection, "c")
        .load()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("no checkpoint"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_keeps_a_place_although_a_connection_breaks() {
    let (control, _, watched) = place().await;
    let stream = within(watched.watch().resume_from(None)).await.unwrap();
    let place = stream.checkpoint().unwrap();
    let uri = format!("{}&appName=breaks", shared_set().uri());
    let client = Client::new(&uri).unwrap();
    let store = CollectionStore::new(own_database(&client).collection("checkpoints"), "a");
    let data = rawdoc! {
        "failCommands": ["update", "find"], "closeConnection": true, "appName": "breaks",
    };
    let fail_point = FailPoint::on(&control, Some(1), data.clone()).await;
    within(store.save(&place)).await.unwrap();
    within(fail_point.off()).await.unwrap();
    let fail_point = FailPoint::on(&control, Some(1), data).await;
    assert_eq!(within(store.load()).await.unwrap(), Some(place));
    within(fail_point.off()).await.unwrap();
}

fn mismatch(result: mongo_client::Result<ChangeStream>) -> IdentityMismatch {
    let Err(Error::Checkpoint(failure)) = result else {
        panic!("{result:?}")
    };
    let CheckpointFailure::Foreign(mismatch) = *failure else {
        panic!("{failure}")
    };
    mismatch
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_another_stream_is_refused_before_it_is_used() {
    let (_client, database, collection) = place().await;
    let stream = within(collection.watch().resume_from(None)).await.unwrap();
    let saved = stream.checkpoint().unwrap();
    assert!(saved.identity.deployment.is_some());
    assert_eq!(saved.identity.replica_set.as_deref(), Some("rs0"));

    let watch = database.watch().resume_from(saved.clone());
    assert_eq!(mismatch(within(watch).await).what, "target");
    let stage = rawdoc! { "$match": { "operationType": "insert" } };
    let watch = collection
        .watch()
        .pipeline([stage])
        .resume_from(saved.clone());
    assert_eq!(mismatch(within(watch).await).what, "pipeline");

    // Another set of the same name.
    let set = tokio::task::spawn_blocking(|| ReplicaSet::start(1).unwrap())
        .await
        .unwrap();
    let client = Client::new(&set.uri()).unwrap();
    let same = client.database(database.name()).collection("things");
    let watch = same.watch().resume_from(saved.clone());
    assert_eq!(mismatch(within(watch).await).what, "deployment");

    // A stream that was opened without `resume_from` does not know whose it is.
    let plain = within(same.watch()).await.unwrap().checkpoint().unwrap();
    assert_eq!(plain.identity.deployment, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_behind_an_invalidate_event_remembers_the_option_it_needs() {
    let (_client, database, collection) = place().await;
    insert(&database, "things", [1]).await;
    let mut stream = within(collection.watch().resume_from(None)).await.unwrap();
    run(&database, rawdoc! { "drop": "things" }).await;
    while let Some(event) = within(stream.next_raw()).await {
        event.unwrap();
    }
    let saved = stream.checkpoint().unwrap();
    // As a store would keep it.
    let saved = Checkpoint::from_document(&saved.to_document()).unwrap();
    assert!(saved.point.after_invalidate);
    insert(&database, "things", [2]).await;
    let watch = collection.watch().on_invalidate(OnInvalidate::Continue);
    let mut stream = within(watch.resume_from(saved)).await.unwrap();
    let event = within(stream.next_raw()).await.unwrap().unwrap();
    assert_eq!(event.operation_type(), Some(OperationType::Insert));
    assert_eq!(id_of(&event), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_was_reached_directly_tells_the_cluster_too() {
    let server = ScriptedServer::start(|_| HelloScript::mongos()).unwrap();
    let cluster = bson::oid::ObjectId::new();
    server.always("find", move |_| {
        let version = rawdoc! { "_id": 1, "clusterId": cluster };
        Answer::reply(batch::first(0, [version]))
    });
    server.always("aggregate", |_| {
        let cursor = rawdoc! {
            "id": 7_i64, "ns": "shop.orders", "firstBatch": [],
            "postBatchResumeToken": { "_data": "8265" },
        };
        Answer::reply(rawdoc! { "cursor": cursor, "ok": 1.0 })
    });
    server.always("getMore", |_| Answer::silence());
    let uri = format!("mongodb://{}/?directConnection=true", server.address());
    let client = Client::new(&uri).unwrap();
    let watch = client.database("shop").collection("orders").watch();
    let stream = within(watch.resume_from(None)).await.unwrap();
    let identity = stream.checkpoint().unwrap().identity;
    assert_eq!(identity.deployment, Some(cluster.to_hex()));
}
