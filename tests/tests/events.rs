//! What a client's listener hears, and what pools do that it hears of.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bson::{RawDocumentBuf, rawdoc};
use integration_tests::recorder::{Counts, listen};
use integration_tests::{PATIENCE, ping, shared_client, shared_set, within};
use mongo_client::events::{
    CheckOutFailure, CloseReason, CmapEvent, CommandEvent, CommandFailure, CommandStep,
};
use mongo_client::sdam::SdamEvent;
use mongo_client::{Client, ClientOptions, Event};
use testbed::scripted::{Answer, HelloScript, ScriptedServer};

fn commands(events: &[Event]) -> Vec<CommandEvent> {
    let command = |event: &Event| match event {
        Event::Command(event) => Some(event.clone()),
        _ => None,
    };
    events.iter().filter_map(command).collect()
}

fn standalone() -> ScriptedServer {
    ScriptedServer::start(|_| HelloScript::standalone()).expect("a server starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_heard_of_as_it_is_sent_and_as_it_is_answered() {
    shared_client().await;
    let (client, recorder) = listen(&shared_set().uri());
    let ping = rawdoc! { "ping": 1, "comment": "heard" };
    let reply = within(client.run_admin_command(&ping)).await.unwrap();
    let refused = within(client.run_admin_command(&rawdoc! { "nonsense": 1 })).await;
    refused.unwrap_err();

    let events = commands(&recorder.events());
    let [started, succeeded, _, failed] = events.as_slice() else {
        panic!("{events:#?}");
    };
    assert_eq!(started.command_name, "ping");
    assert_eq!(started.database, "admin");
    assert_eq!(started.connection, 1);
    assert_eq!(started.server.to_string(), shared_set().addresses()[0]);
    assert!(started.server_connection.is_some());
    assert_eq!(started.request_id, succeeded.request_id);
    assert_eq!(started.operation_id, succeeded.operation_id);
    let CommandStep::Started { command } = &started.step else {
        panic!("{started:?}");
    };
    assert_eq!(command.get_str("comment").unwrap(), "heard");
    assert_eq!(command.get_str("$db").unwrap(), "admin");
    let CommandStep::Succeeded { reply: heard, .. } = &succeeded.step else {
        panic!("{succeeded:?}");
    };
    assert_eq!(heard.as_bytes(), reply.document().as_bytes());
    let CommandStep::Failed { failure, .. } = &failed.step else {
        panic!("{failed:?}");
    };
    let CommandFailure::Server(error) = failure else {
        panic!("{failure:?}");
    };
    assert_eq!(error.code, Some(59));
    assert_ne!(failed.operation_id, succeeded.operation_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_carries_secrets_is_not_heard() {
    let server = standalone();
    server.always("saslStart", |_| {
        let mut reply = rawdoc! { "ok": 0.0, "code": 18, "codeName": "AuthenticationFailed" };
        reply.append(bson::cstr!("errmsg"), "hunter2 is wrong");
        Answer::reply(reply)
    });
    server.always("createUser", |_| {
        Answer::reply(rawdoc! { "ok": 1.0, "echo": "hunter2" })
    });
    server.always("hello", |_| {
        Answer::reply(HELLO.with(|hello| hello.clone()))
    });
    let (client, recorder) = listen(&server.uri());
    for command in [
        rawdoc! { "saslStart": 1, "payload": "hunter2" },
        rawdoc! { "createUser": "me", "pwd": "hunter2" },
        rawdoc! { "hello": 1, "speculativeAuthenticate": { "payload": "hunter2" } },
    ] {
        // What comes of it is no matter.
        let _ = within(client.run_admin_command(&command)).await;
    }
    let events = commands(&recorder.events());
    assert_eq!(events.len(), 6);
    for event in events {
        assert!(event.is_redacted, "{event:?}");
        match &event.step {
            CommandStep::Started { command } => assert_eq!(*command, RawDocumentBuf::new()),
            CommandStep::Succeeded { reply, .. } => {
                assert_eq!(reply.as_bytes(), RawDocumentBuf::new().as_bytes());
            }
            CommandStep::Failed { failure, .. } => {
                let CommandFailure::Server(error) = failure else {
                    panic!("{failure:?}");
                };
                assert_eq!(error.code, Some(18));
                assert_eq!(error.code_name.as_deref(), Some("AuthenticationFailed"));
            }
            other => panic!("{other:?}"),
        }
        assert!(!format!("{event:?}").contains("hunter2"), "{event:?}");
    }
}

/// A bug report wants to know how everything stands when something happens.
#[tokio::test(flavor = "multi_thread")]
async fn a_listener_may_display_the_client() {
    let server = standalone();
    server.always("ping", |_| Answer::ok());
    let (known, displayed) = (OnceLock::<Client>::new(), AtomicUsize::new(0));
    let shared = Arc::new((known, displayed));
    let options = ClientOptions::parse(&server.uri()).unwrap();
    let options = options.on_event({
        let shared = Arc::clone(&shared);
        move |_| {
            let (known, displayed) = &*shared;
            if let Some(client) = known.get()
                && client.to_string().contains("pool of")
            {
                displayed.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let client = Client::with_options(options).unwrap();
    shared.0.set(client.clone()).unwrap();
    let pings: Vec<_> = (0..20)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { ping(&client).await })
        })
        .collect();
    for ping in pings {
        within(ping).await.unwrap().unwrap();
    }
    // Of each ping and its connection: two events of the command, three of the pool.
    assert!(shared.1.load(Ordering::Relaxed) >= 100);
    within(client.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_given_up_or_cut_off_has_failed() {
    let server = standalone();
    server.always("slow", |_| Answer::silence());
    server.always("cut", |_| Answer::silence().then_close());
    let (client, recorder) = listen(&server.uri());
    let command = rawdoc! { "slow": 1 };
    let slow = client.run_admin_command(&command);
    let received = async {
        let heard = |events: &[Event]| !commands(events).is_empty();
        recorder.wait_for(heard).await;
    };
    tokio::select! {
        result = slow => panic!("{result:?}"),
        () = received => {}
    }
    within(client.run_admin_command(&rawdoc! { "cut": 1 }))
        .await
        .unwrap_err();
    let events = commands(&recorder.events());
    let [_, given_up, _, cut] = events.as_slice() else {
        panic!("{events:#?}");
    };
    let failure = |event: &CommandEvent| match &event.step {
        CommandStep::Failed { failure, .. } => failure.clone(),
        other => panic!("{other:?}"),
    };
    assert!(!given_up.is_redacted);
    assert_eq!(failure(given_up), CommandFailure::Cancelled);
    assert!(matches!(failure(cut), CommandFailure::Client(_)));
    // Both connections are closed: nobody knows what would come over them next.
    recorder
        .wait_for(|events| Counts::of(events).closed == 2)
        .await;
    let reasons = recorder
        .pool_events()
        .into_iter()
        .filter_map(|event| match event {
            CmapEvent::ConnectionClosed { reason, .. } => Some(reason),
            _ => None,
        });
    assert_eq!(Vec::from_iter(reasons), [CloseReason::Error; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn discovery_and_pools_are_heard_of_from_beginning_to_end() {
    let server = standalone();
    let (client, recorder) = listen(&server.uri());
    within(client.run_admin_command(&rawdoc! { "ping": 1 }))
        .await
        .unwrap();
    within(client.shutdown()).await;
    let closed = |event: &Event| {
        let pool = CmapEvent::PoolClosed;
        matches!(event, Event::Cmap { event, .. } if *event == pool)
    };
    let events = recorder.wait_for(|events| events.iter().any(closed)).await;
    let sdam: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Sdam { event, .. } => Some(event),
            _ => None,
        })
        .collect();
    assert_eq!(sdam.first(), Some(&&SdamEvent::TopologyOpening));
    assert_eq!(sdam.last(), Some(&&SdamEvent::TopologyClosed));
    let succeeded = |event: &&SdamEvent| matches!(event, SdamEvent::HeartbeatSucceeded { .. });
    assert!(sdam.iter().any(succeeded));
    let pool = recorder.pool_events();
    assert!(matches!(pool.first(), Some(CmapEvent::PoolCreated { .. })));
    assert!(pool.contains(&CmapEvent::PoolReady));
    assert_eq!(pool.last(), Some(&CmapEvent::PoolClosed));
}

thread_local! {
    /// What a server that works says of itself.
    static HELLO: RawDocumentBuf = rawdoc! {
        "ismaster": true, "isWritablePrimary": true, "minWireVersion": 0, "maxWireVersion": 21,
        "maxBsonObjectSize": 16_777_216, "maxMessageSizeBytes": 48_000_000,
        "maxWriteBatchSize": 100_000, "ok": 1.0,
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overloaded_server_is_tried_again_later_and_not_given_up() {
    static REFUSED: AtomicUsize = AtomicUsize::new(0);
    let server = standalone();
    server.always("hello", |hello| {
        let hello_reply = HELLO.with(|hello| hello.clone());
        // Only connections for commands offer compressors.
        let is_monitor = !matches!(hello.body.get("compression"), Ok(Some(_)));
        if is_monitor || REFUSED.fetch_add(1, Ordering::Relaxed) >= 3 {
            return Answer::reply(hello_reply);
        }
        Answer::silence().then_close()
    });
    let uri = format!("{}?maxAdaptiveRetries=3", server.uri());
    let (client, recorder) = listen(&uri);
    within(client.run_admin_command(&rawdoc! { "ping": 1 }))
        .await
        .unwrap();
    let pool = recorder.pool_events();
    let cleared = |event: &CmapEvent| matches!(event, CmapEvent::PoolCleared { .. });
    assert!(!pool.iter().any(cleared), "{pool:?}");
    let failed = pool.iter().filter(|event| {
        let reason = CheckOutFailure::ConnectionError;
        matches!(event, CmapEvent::CheckOutFailed { reason: r, .. } if *r == reason)
    });
    assert_eq!(failed.count(), 3);
    let created = |event: &&CmapEvent| matches!(event, CmapEvent::ConnectionCreated { .. });
    assert_eq!(pool.iter().filter(created).count(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_is_filled_ahead_of_need_and_idle_connections_are_replaced() {
    let server = standalone();
    let uri = format!("{}?minPoolSize=3&maxIdleTimeMS=200", server.uri());
    let (_client, recorder) = listen(&uri);
    let idle = |event: &Event| {
        let reason = CloseReason::Idle;
        matches!(event, Event::Cmap { event: CmapEvent::ConnectionClosed { reason: r, .. }, .. }
            if *r == reason)
    };
    let events = recorder
        .wait_for(|events| events.iter().filter(|event| idle(event)).count() >= 3)
        .await;
    let counts = Counts::of(&events);
    assert!(counts.created >= 3 && counts.checks_out_started == 0);
    let created = counts.created;
    recorder
        .wait_for(|events| Counts::of(events).created > created)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_maximum_means_a_connection_for_everybody() {
    const TASKS: usize = 120;
    let server = standalone();
    server.always("slow", |_| {
        Answer::silence()
            .then_hold("enough")
            .then_reply(rawdoc! { "ok": 1.0 })
    });
    let uri = format!("{}?maxPoolSize=0&maxConnecting=20", server.uri());
    let client = Client::new(&uri).unwrap();
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                client
                    .run_admin_command(&rawdoc! { "slow": 1 })
                    .await
                    .map(drop)
            })
        })
        .collect();
    let all = |received: &[testbed::scripted::Received]| {
        let slow = received.iter().filter(|received| received.name == "slow");
        slow.count() == TASKS
    };
    server.wait_for(PATIENCE, all).unwrap();
    server.release("enough");
    for task in tasks {
        within(task).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiter_times_out_while_all_connections_are_in_use() {
    let server = standalone();
    server.always("slow", |_| Answer::silence());
    let uri = format!("{}?maxPoolSize=1&waitQueueTimeoutMS=100", server.uri());
    let (client, recorder) = listen(&uri);
    let slow = {
        let client = client.clone();
        tokio::spawn(async move {
            client
                .run_admin_command(&rawdoc! { "slow": 1 })
                .await
                .map(drop)
        })
    };
    recorder
        .wait_for(|events| Counts::of(events).commands_started == 1)
        .await;
    let error = within(client.run_admin_command(&rawdoc! { "ping": 1 }))
        .await
        .unwrap_err();
    let message = error.to_string();
    assert!(message.contains("waitQueueTimeoutMS"), "{message}");
    let failed = recorder.pool_events().into_iter().any(|event| {
        let reason = CheckOutFailure::Timeout;
        matches!(event, CmapEvent::CheckOutFailed { reason: r, .. } if r == reason)
    });
    assert!(failed);
    slow.abort();
}
