//! Commands, pools and errors of the client against a real replica set.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it measured"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bson::oid::ObjectId;
use bson::{Bson, cstr, rawdoc};
use integration_tests::recorder::{Counts, Recorder};
use integration_tests::{
    PATIENCE, in_time, own_database, shared_client, shared_set, why_unreachable, within,
};
use mongo_client::{Client, ClientOptions, Error, Misuse};
use testbed::scripted::{Answer, HelloScript, Received, ScriptedServer};
use tokio::runtime::Handle;

#[tokio::test(flavor = "multi_thread")]
async fn a_command_goes_out_as_it_is_and_its_reply_comes_back_as_it_is() {
    let client = shared_client().await;
    let database = own_database(&client);
    let mut command = rawdoc! { "insert": "things" };
    command.append(
        cstr!("documents"),
        [rawdoc! { "_id": 1 }]
            .into_iter()
            .collect::<bson::RawArrayBuf>(),
    );
    let reply = within(database.run_command(&command)).await.unwrap();
    assert_eq!(reply.document().as_raw().get_i32("n").unwrap(), 1);

    let reply = within(database.run_command(&rawdoc! { "find": "things" }))
        .await
        .unwrap();
    let cursor = reply.cursor().unwrap();
    assert_eq!(&*cursor.namespace, format!("{}.things", database.name()));
    assert_eq!(cursor.batch.iter().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_command_names_server_code_and_reason() {
    let client = shared_client().await;
    let error = within(client.run_admin_command(&rawdoc! { "nonsense": 1 }))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(59));
    let message = error.to_string();
    let address = shared_set().addresses().remove(0);
    assert!(
        message.starts_with(&address) && message.contains("CommandNotFound"),
        "{message}"
    );
    // The connection is as good as before.
    within(client.run_admin_command(&rawdoc! { "ping": 1 }))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_survives_200_tasks_that_are_cancelled_at_random() {
    let set = shared_client().await;
    drop(set);
    let recorder = Recorder::default();
    let uri = format!("{}&maxPoolSize=10", shared_set().uri());
    let client = Client::with_options(
        ClientOptions::parse(&uri)
            .unwrap()
            .on_event(recorder.listener()),
    )
    .unwrap();
    let (done, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let tasks: Vec<_> = (0..200)
        .map(|seed| {
            let client = client.clone();
            let (done, dropped) = (Arc::clone(&done), Arc::clone(&dropped));
            tokio::spawn(async move {
                let mut random = fastrand::Rng::with_seed(seed);
                for round in 0..10 {
                    let token = i32::try_from(seed * 100 + round).unwrap();
                    let command = rawdoc! { "echo": token, "comment": token };
                    // Half of them are in no hurry; the others are dropped after a few polls.
                    let polls = random.bool().then(|| random.u32(0..64));
                    let soon = async {
                        match polls {
                            Some(polls) => {
                                for _ in 0..polls {
                                    tokio::task::yield_now().await;
                                }
                            }
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        biased;
                        reply = client.run_admin_command(&command) => {
                            // Nobody gets somebody else's answer.
                            let reply = reply.unwrap();
                            let echo = reply.document().as_raw().get_document("echo").unwrap();
                            assert_eq!(echo.get_i32("echo").unwrap(), token);
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                        () = soon => {
                            dropped.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        within(task).await.unwrap();
    }
    let (done, dropped) = (
        done.load(Ordering::Relaxed),
        dropped.load(Ordering::Relaxed),
    );
    println!("{done} answered, {dropped} cancelled");
    assert!(
        done > 100 && dropped > 100,
        "{done} answered, {dropped} cancelled"
    );
    // All ten connections can still be had, at once.
    let all = (0..10).map(|_| {
        let client = client.clone();
        tokio::spawn(async move {
            client
                .run_admin_command(&rawdoc! { "ping": 1 })
                .await
                .map(drop)
        })
    });
    for ping in all.collect::<Vec<_>>() {
        within(ping).await.unwrap().unwrap();
    }
    // Whatever has begun has its end, once nobody is left.
    within(client.shutdown()).await;
    let events = recorder
        .wait_for(|events| Counts::of(events).everything_has_ended())
        .await;
    let counts = Counts::of(&events);
    println!("{counts:?}");
    assert!(counts.checks_out_started >= done, "{counts:?}");
    assert!(counts.commands_started >= done, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_that_is_nobody_and_a_name_that_is_none_each_say_so() {
    for (uri, address, cause) in [
        (
            "mongodb://127.0.0.1:1/?appName=nobody",
            "127.0.0.1:1",
            "refused",
        ),
        (
            "mongodb://no-such-host.invalid/?appName=none",
            "no-such-host.invalid:27017",
            "looking up the host name",
        ),
    ] {
        // A resolver may take seconds to say no.
        let (_, message) = in_time(Duration::from_secs(25), why_unreachable(uri)).await;
        assert!(
            message.contains(address) && message.contains(cause),
            "{message}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_server_that_is_not_there_is_quiet() {
    let client = Client::new("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=2000").unwrap();
    let mut changes = client.topology_changes();
    let mut news = 0;
    let command = rawdoc! { "ping": 1 };
    let waiting = client.run_admin_command(&command).into_future();
    tokio::pin!(waiting);
    loop {
        tokio::select! {
            result = &mut waiting => {
                assert!(matches!(result, Err(Error::Selection { .. })), "{result:?}");
                break;
            }
            _ = changes.next() => news += 1,
        }
    }
    // A check every half second, and what it takes to get started.
    assert!(
        (2..=8).contains(&news),
        "{news} descriptions in two seconds"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_yet_is_refused_before_anything_is_sent() {
    let uri = "mongodb://user@localhost/?authMechanism=GSSAPI";
    let error = Client::new(uri).unwrap_err();
    assert!(
        matches!(error, Error::Misuse(Misuse::Unsupported { .. })),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_option_without_effect_is_warned_of() {
    let uri = "mongodb://localhost/?w=1";
    let client = Client::new(uri).unwrap();
    let options: Vec<_> = client
        .warnings()
        .iter()
        .map(|w| w.option.as_str())
        .collect();
    assert_eq!(options, ["w, journal or wTimeoutMS"]);
    let obeyed = "readConcernLevel=majority&retryWrites=true&timeoutMS=100&maxAdaptiveRetries=1\
        &enableOverloadRetargeting=true";
    let client = Client::new(&format!("mongodb://localhost/?{obeyed}")).unwrap();
    assert!(client.warnings().is_empty(), "{:?}", client.warnings());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_shutdown_everything_is_refused_and_no_connection_is_left() {
    let server = ScriptedServer::start(|me| HelloScript::primary("rs0", me, &[me])).unwrap();
    let client = Client::new(&server.uri()).unwrap();
    within(client.run_admin_command(&rawdoc! { "ping": 1 }))
        .await
        .unwrap();
    within(client.shutdown()).await;
    let refused = within(client.run_admin_command(&rawdoc! { "ping": 1 })).await;
    assert!(matches!(refused, Err(Error::Shutdown)), "{refused:?}");
    assert!(server.wait_for_open(PATIENCE, 0));
    // Dropping the last handle does the same.
    let client = Client::new(&server.uri()).unwrap();
    within(client.run_admin_command(&rawdoc! { "ping": 1 }))
        .await
        .unwrap();
    drop(client);
    assert!(server.wait_for_open(PATIENCE, 0));
}

#[tokio::test]
async fn a_shutdown_leaves_no_task_behind_whatever_a_server_withholds() {
    let server = ScriptedServer::start(|_| HelloScript::standalone()).unwrap();
    let streams = rawdoc! {
        "ok": 1, "helloOk": true, "isWritablePrimary": true, "maxWireVersion": 17,
        "topologyVersion": { "processId": ObjectId::new(), "counter": 1_i64 },
    };
    // To the monitor; nobody else hears anything: neither it again, nor who measures round trips,
    // nor the operation that waits for a connection.
    server.once("hello", Answer::reply(streams));
    server.always("hello", |_| Answer::silence());
    let before = Handle::current().metrics().num_alive_tasks();
    let client = Client::new(&format!("{}?minPoolSize=1", server.uri())).unwrap();
    let waiting = client.clone();
    let waiting =
        tokio::spawn(async move { waiting.run_admin_command(&rawdoc! { "ping": 1 }).await });
    let hellos = |all: &[Received]| all.iter().filter(|one| one.is_hello()).count() >= 4;
    let received = tokio::task::spawn_blocking(move || {
        server.wait_for(PATIENCE, hellos).unwrap();
        server
    });
    let server = received.await.unwrap();
    in_time(Duration::from_secs(2), client.shutdown()).await;
    let refused = within(waiting).await.unwrap();
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(Handle::current().metrics().num_alive_tasks(), before);
    assert!(server.wait_for_open(PATIENCE, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_that_no_server_can_mean_are_refused_or_not_believed() {
    for (field, value, refused) in [
        ("maxMessageSizeBytes", Bson::Int32(1), true),
        ("maxMessageSizeBytes", Bson::Int32(0), false),
        ("maxMessageSizeBytes", Bson::Int32(-1), false),
        ("maxMessageSizeBytes", Bson::Int64(u32::MAX.into()), false),
        ("maxMessageSizeBytes", Bson::Int64(i64::MAX), false),
        ("maxBsonObjectSize", Bson::Int32(-1), false),
        ("maxBsonObjectSize", Bson::Int64(i64::MAX), false),
        ("maxWriteBatchSize", Bson::Int32(0), false),
    ] {
        let hello = HelloScript::standalone().with(field, value.clone());
        let server = ScriptedServer::start(|_| hello).unwrap();
        let client = Client::new(&server.uri()).unwrap();
        let result = within(client.run_admin_command(&rawdoc! { "ping": 1 })).await;
        match result {
            Ok(_) => assert!(!refused, "{field}: {value}"),
            Err(error) => {
                assert!(
                    refused && error.to_string().contains(field),
                    "{field}: {value}: {error}"
                );
            }
        }
    }
}

/// A reply that says it is 4 GB long is refused, not made room for.
#[tokio::test(flavor = "multi_thread")]
async fn a_huge_size_that_is_announced_makes_no_reply_welcome() {
    let hello = HelloScript::standalone().with("maxMessageSizeBytes", i32::MAX);
    let server = ScriptedServer::start(|_| hello).unwrap();
    let mut header = Vec::new();
    for number in [i32::MAX - 1, 1, 2, 2013] {
        header.extend(number.to_le_bytes());
    }
    server.once("ping", Answer::silence().then_raw(header));
    let client = Client::new(&server.uri()).unwrap();
    let error = within(client.run_admin_command(&rawdoc! { "ping": 1 }))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_up_on_the_first_hello_may_want_tls_which_is_said() {
    for answer in [
        Answer::silence().then_close(),
        Answer::silence().then_reset(),
    ] {
        let server = ScriptedServer::start(|_| HelloScript::standalone()).unwrap();
        server.always("hello", move |_| answer.clone());
        let (_, message) = why_unreachable(&format!("{}?appName=plain", server.uri())).await;
        assert!(message.contains("tls=true"), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_shows_its_whole_state_for_a_bug_report() {
    let server = ScriptedServer::start(|_| HelloScript::standalone()).unwrap();
    let hello = rawdoc! { "ok": 1, "isWritablePrimary": true, "maxWireVersion": 17 };
    // To the monitor and to the pool; the check that follows the failure finds nothing out.
    server.once("hello", Answer::reply(hello.clone()));
    server.once("hello", Answer::reply(hello));
    server.always("hello", |_| Answer::silence());
    let uri = server.uri().replace("mongodb://", "mongodb://user:sesame@");
    let client = Client::new(&uri).unwrap();
    within(client.run_admin_command(&rawdoc! { "ping": 1 }))
        .await
        .unwrap_err();
    let address = server.address();
    let shown = client.to_string();
    println!("{shown}");
    for part in [
        format!("topology {}: ", client.topology_id()),
        format!("pool of {address}: paused, generation 1, 0 connections in use, 0 idle"),
        "cleared last because of: ".to_owned(),
    ] {
        assert!(shown.contains(&part), "{part}: {shown}");
    }
    assert!(!shown.contains("sesame"), "{shown}");
    within(client.shutdown()).await;
    assert!(client.to_string().contains("(shut down): "), "{client}");
}
