//! One stream shared by many subscribers, on a real replica set.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in helpers too"
)]

use std::sync::Arc;
use std::time::Duration;

use bson::rawdoc;
use futures_util::FutureExt as _;
use integration_tests::{id_of, insert, own_database, place, run, shared_client, within};
use mongo_client::change_stream::{EventFilter, OperationType};
use mongo_client::{
    Client, Database, Error, OnLag, SharedStream, SubscribeOptions, Subscription, SubscriptionError,
};
use testbed::replay::{Replay, ReplayServer};

async fn next(subscription: &mut Subscription) -> i32 {
    let event = within(subscription.next()).await.expect("it goes on");
    id_of(&event.unwrap())
}

fn of(database: &Database, collection: &str) -> EventFilter {
    let pattern = format!("{}.{collection}", database.name());
    EventFilter::default().include([pattern.parse().unwrap()])
}

#[tokio::test(flavor = "multi_thread")]
async fn each_subscriber_gets_what_its_filter_passes_and_a_slow_one_harms_itself_only() {
    let (_client, database, _) = place().await;
    let shared = SharedStream::new(within(database.watch()).await.unwrap());
    let odd = SubscribeOptions::default().filter(of(&database, "odd"));
    let mut odd_only = shared.subscribe(odd.clone());
    let mut slow = shared.subscribe(odd.clone().capacity(3, 1 << 20));
    let mut strict = shared.subscribe(odd.capacity(3, 1 << 20).on_lag(OnLag::Disconnect));
    let mut nothing = shared.subscribe(SubscribeOptions::default().filter(of(&database, "none")));
    // Events are handed round in this order: what the last has, all others have had.
    let mut all = shared.subscribe(SubscribeOptions::default());

    for id in 0..20 {
        let collection = if id % 2 == 0 { "even" } else { "odd" };
        insert(&database, collection, [id]).await;
        // A cancelled call loses nothing.
        let seen = match all.next().now_or_never() {
            Some(found) => id_of(&found.unwrap().unwrap()),
            None => next(&mut all).await,
        };
        assert_eq!(seen, id);
    }
    let odds: Vec<i32> = (0..20).filter(|id| id % 2 == 1).collect();
    for id in &odds {
        assert_eq!(next(&mut odd_only).await, *id);
    }

    for id in &odds[..3] {
        assert_eq!(next(&mut slow).await, *id);
    }
    let told = within(slow.next()).await.unwrap().unwrap_err();
    assert!(
        matches!(told, SubscriptionError::Lagged { missed: 7 }),
        "{told}"
    );
    for id in &odds[..3] {
        assert_eq!(next(&mut strict).await, *id);
    }
    let place = strict.resume_point().unwrap();
    let told = within(strict.next()).await.unwrap().unwrap_err();
    assert!(matches!(told, SubscriptionError::Disconnected), "{told}");
    assert!(within(strict.next()).await.is_none());

    // The slow one goes on where it is; the strict one, on its own, behind its last event.
    insert(&database, "odd", [21]).await;
    assert_eq!(next(&mut slow).await, 21);
    assert_eq!(next(&mut odd_only).await, 21);
    assert_eq!(next(&mut all).await, 21);
    assert!(strict.next().now_or_never().unwrap().is_none());
    let watch = database
        .watch()
        .resume_after(place.token)
        .filter(of(&database, "odd"));
    let mut own = within(watch).await.unwrap();
    for id in odds[3..].iter().chain(&[21]) {
        let event = within(own.next_raw()).await.unwrap().unwrap();
        assert_eq!(id_of(&event), *id);
    }

    // Nothing was for this one, and its place has moved on all the same.
    assert!(nothing.next().now_or_never().is_none());
    let token = nothing.resume_point().unwrap().token;
    let watch = database.watch().resume_after(token);
    let mut own = within(watch).await.unwrap();
    insert(&database, "none", [30]).await;
    assert_eq!(next(&mut nothing).await, 30);
    let event = within(own.next_raw()).await.unwrap().unwrap();
    assert_eq!(id_of(&event), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_is_the_same_for_all() {
    let (_client, database, collection) = place().await;
    insert(&database, "things", [0]).await;
    let shared = SharedStream::new(within(collection.watch()).await.unwrap());
    let subscribe = || shared.subscribe(SubscribeOptions::default());
    let (mut one, mut two) = (subscribe(), subscribe());
    run(&database, rawdoc! { "drop": "things" }).await;
    for subscription in [&mut one, &mut two] {
        for expected in [OperationType::Drop, OperationType::Invalidate] {
            let event = within(subscription.next()).await.unwrap().unwrap();
            assert_eq!(event.operation_type(), Some(expected));
        }
        assert!(subscription.resume_point().unwrap().after_invalidate);
        assert!(within(subscription.next()).await.is_none());
        assert!(within(subscription.next()).await.is_none());
    }
    assert!(
        within(subscribe().next()).await.is_none(),
        "who comes late hears it, too"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_reaches_all_of_them_once() {
    let (_client, _, _) = place().await;
    let client = shared_client().await;
    let database = own_database(&client);
    let shared = SharedStream::new(within(database.watch()).await.unwrap());
    let mut both = [(); 2].map(|()| shared.subscribe(SubscribeOptions::default()));
    insert(&database, "things", [1]).await;
    assert_eq!(next(&mut both[0]).await, 1);
    within(client.shutdown()).await;
    let mut errors = Vec::new();
    for subscription in &mut both {
        let error = loop {
            match within(subscription.next()).await.unwrap() {
                Ok(event) => assert_eq!(id_of(&event), 1),
                Err(SubscriptionError::Stream(error)) => break error,
                Err(error) => panic!("{error}"),
            }
        };
        assert!(within(subscription.next()).await.is_none());
        errors.push(error);
    }
    assert!(Arc::ptr_eq(&errors[0], &errors[1]));
    assert!(matches!(*errors[0], Error::Shutdown), "{}", errors[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_left_closes_the_stream() {
    let (_client, _, collection) = place().await;
    let stream = within(collection.watch()).await.unwrap();
    let observer = stream.observer();
    let shared = SharedStream::new(stream);
    let subscription = shared.subscribe(SubscribeOptions::default());
    drop(shared);
    assert!(observer.is_alive());
    drop(subscription);
    within(async {
        while observer.is_alive() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_subscribes_before_anybody_waits_misses_nothing() {
    // One batch, and then nothing more: who misses that waits in vain.
    let server = ReplayServer::start(&Replay::of_orders(3, 1)).unwrap();
    let client = Client::new(&server.uri()).unwrap();
    let stream = within(client.database("shop").watch()).await.unwrap();
    let observer = stream.observer();
    let shared = SharedStream::new(stream);
    within(async {
        while observer.position().batches < 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut late = shared.subscribe(SubscribeOptions::default());
    for id in 0..3 {
        assert_eq!(next(&mut late).await, id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_takes_too_long_does_not_end_it() {
    // Behind its batch each cursor waits longer than the limit; the next one begins anew.
    let server = ReplayServer::start(&Replay::of_orders(1, 1)).unwrap();
    let client = Client::new(&server.uri()).unwrap();
    let watch = client.database("shop").watch();
    let watch = watch.timeout(Duration::from_millis(60));
    // On a busy machine the opening may take too long as well, which is no concern of this test.
    let stream = loop {
        match within(watch.clone()).await {
            Ok(stream) => break stream,
            Err(error) => assert!(error.is_operation_timeout(), "{error}"),
        }
    };
    let shared = SharedStream::new(stream);
    let mut subscription = shared.subscribe(SubscribeOptions::default());
    for _ in 0..3 {
        assert_eq!(next(&mut subscription).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_event_for_a_subscriber_does_not_keep_the_reply_it_came_in() {
    let mut replay = Replay::of_orders(100, 1);
    replay.events[50] = rawdoc! { "_id": { "_data": "8265" }, "operationType": "delete" };
    let server = ReplayServer::start(&replay).unwrap();
    let client = Client::new(&server.uri()).unwrap();
    let stream = within(client.database("shop").watch()).await.unwrap();
    let shared = SharedStream::new(stream);
    let subscribe = |operation| {
        let filter = EventFilter::default().operations([operation]);
        shared.subscribe(SubscribeOptions::default().filter(filter))
    };
    for (mut subscription, is_alone) in [
        (subscribe(OperationType::Delete), true),
        (subscribe(OperationType::Insert), false),
    ] {
        let event = within(subscription.next()).await.unwrap().unwrap();
        assert_eq!(event.into_document().into_bytes().is_unique(), is_alone);
    }
}
