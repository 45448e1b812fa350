//! Clients behind a load balancer, which the scripted server is with all its services (Load
//! Balancers specification).

#![allow(clippy::unwrap_used, reason = "a test and its helpers")]

use std::time::Duration;

use bson::oid::ObjectId;
use bson::rawdoc;
use integration_tests::batch;
use integration_tests::recorder::{Recorder, listen, sent};
use integration_tests::{PATIENCE, in_time, within};
use mongo_client::events::{CloseReason, CmapEvent, CommandEvent};
use mongo_client::sdam::{ServerType, TopologyType};
use mongo_client::{Client, Error, Event};
use testbed::scripted::{Answer, HelloScript, Received, ScriptedServer};

/// The service that a connection reaches: two of them, by turns.
fn service(connection: u64) -> ObjectId {
    ObjectId::from_bytes([u8::try_from(connection % 2).unwrap() + 1; 12])
}

fn balancer() -> ScriptedServer {
    let server = ScriptedServer::start(|_| HelloScript::mongos()).unwrap();
    server.always("hello", |received| {
        Answer::reply(rawdoc! {
            "ok": 1, "isWritablePrimary": true, "msg": "isdbgrid", "maxWireVersion": 17,
            "serviceId": service(received.connection),
        })
    });
    server
}

fn client(server: &ScriptedServer, options: &str) -> (Client, Recorder) {
    listen(&format!("{}?loadBalanced=true{options}", server.uri()))
}

fn commands(events: &[Event]) -> Vec<CommandEvent> {
    let command = |event: &Event| match event {
        Event::Command(command) => Some(command.clone()),
        _ => None,
    };
    events.iter().filter_map(command).collect()
}

fn cleared(recorder: &Recorder) -> Vec<CmapEvent> {
    let mut events = recorder.pool_events();
    events.retain(|event| matches!(event, CmapEvent::PoolCleared { .. }));
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_monitor_and_every_connection_says_what_it_expects() {
    let server = balancer();
    let (client, recorder) = client(&server, "");
    let topology = client.topology();
    assert_eq!(topology.topology_type, TopologyType::LoadBalanced);
    let server_type = topology.servers.iter().next().unwrap().server_type();
    assert_eq!(server_type, ServerType::LoadBalancer);
    within(client.run_admin_command(&rawdoc! { "ping": 1 }))
        .await
        .unwrap();
    let received = server.received();
    let hellos: Vec<_> = received.iter().filter(|one| one.is_hello()).collect();
    assert_eq!(hellos.len(), 1, "of the pool's one connection");
    assert_eq!(hellos[0].name, "hello");
    assert!(!hellos[0].legacy);
    assert!(hellos[0].body.get_bool("loadBalanced").unwrap());
    let ping = received.iter().find(|one| one.name == "ping").unwrap();
    assert!(
        ping.body.get_document("lsid").is_ok(),
        "sessions are always there"
    );
    for command in commands(&recorder.events()) {
        assert_eq!(command.service_id, Some(service(1)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_names_no_service_is_refused_in_fixed_words() {
    let server = ScriptedServer::start(|_| HelloScript::mongos()).unwrap();
    let (client, recorder) = client(&server, "&serverSelectionTimeoutMS=1000");
    let error = within(client.run_admin_command(&rawdoc! { "ping": 1 }))
        .await
        .unwrap_err();
    let words = "Driver attempted to initialize in load balancing mode, but the server does not \
                 support this mode.";
    assert!(error.to_string().contains(words), "{error}");
    assert!(matches!(error, Error::Violation { .. }), "{error:?}");
    assert_eq!(cleared(&recorder), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn options_that_contradict_it_are_refused() {
    for options in ["replicaSet=rs0", "directConnection=true"] {
        let uri = format!("mongodb://localhost/?loadBalanced=true&{options}");
        assert!(matches!(Client::new(&uri), Err(Error::Uri(_))), "{options}");
    }
    let error = Client::new("mongodb://a,b/?loadBalanced=true");
    assert!(matches!(error, Err(Error::Uri(_))));
}

/// A state change and a broken connection each cost one service its connections, and never the
/// load balancer its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_failing_service_loses_its_own_connections_only() {
    let server = balancer();
    let (client, recorder) = client(&server, "&retryReads=false");
    // Two connections, to both services: the first is busy while the second is opened.
    server.once(
        "ping",
        Answer::silence()
            .then_hold("both")
            .then_reply(rawdoc! { "ok": 1 }),
    );
    let other = client.clone();
    let held = tokio::spawn(async move {
        other
            .run_admin_command(&rawdoc! { "ping": 1 })
            .await
            .map(drop)
    });
    let held_is_there = |all: &[Received]| all.iter().any(|one| one.name == "ping");
    let server = tokio::task::spawn_blocking(move || {
        server.wait_for(PATIENCE, held_is_there).unwrap();
        server
    });
    let server = server.await.unwrap();
    server.once("ping", Answer::error(11_600, "InterruptedAtShutdown", &[]));
    within(client.run_admin_command(&rawdoc! { "ping": 1 }))
        .await
        .unwrap_err();
    server.release("both");
    within(held).await.unwrap().unwrap();
    let first = CmapEvent::PoolCleared {
        service_id: Some(service(2)),
        interrupt_in_use: false,
    };
    assert_eq!(cleared(&recorder), [first]);
    assert_eq!(
        client
            .topology()
            .servers
            .iter()
            .next()
            .unwrap()
            .server_type(),
        ServerType::LoadBalancer
    );
    // The other service's connection is as good as before.
    within(client.run_admin_command(&rawdoc! { "ping": 1 }))
        .await
        .unwrap();
    assert_eq!(server.accepted(), 2);
    server.once("ping", Answer::silence().then_close());
    within(client.run_admin_command(&rawdoc! { "ping": 1 }))
        .await
        .unwrap_err();
    let cleared = cleared(&recorder);
    assert_eq!(cleared.len(), 2, "{cleared:?}");
    assert!(
        matches!(cleared[1], CmapEvent::PoolCleared { service_id, .. } if service_id == Some(service(1))),
        "{cleared:?}"
    );
}

/// "Initial Handshake Errors": before the hello is answered nothing is cleared, after it the one
/// service is.
#[tokio::test(flavor = "multi_thread")]
async fn how_far_a_connection_had_come_decides_what_its_failure_costs() {
    let server = balancer();
    server.once("hello", Answer::silence().then_close());
    let (client, recorder) = client(&server, "&serverSelectionTimeoutMS=1000");
    let first = within(client.run_admin_command(&rawdoc! { "ping": 1 })).await;
    // A server that did not get as far as its hello is taken for overloaded, and asked again.
    first.unwrap();
    assert_eq!(server.accepted(), 2);
    assert_eq!(cleared(&recorder), []);

    let uri = format!(
        "{}?loadBalanced=true&authMechanism=PLAIN&authSource=$external",
        server.uri()
    );
    let uri = uri.replace("mongodb://", "mongodb://user:secret@");
    let (client, recorder) = listen(&uri);
    server.always("saslStart", |_| {
        Answer::error(18, "AuthenticationFailed", &[])
    });
    within(client.run_admin_command(&rawdoc! { "ping": 1 }))
        .await
        .unwrap_err();
    let cleared = cleared(&recorder);
    assert!(
        matches!(
            cleared[..],
            [CmapEvent::PoolCleared {
                service_id: Some(_),
                ..
            }]
        ),
        "{cleared:?}"
    );
}

/// No news will come of a load balancer, so there is no use in waiting for any.
#[tokio::test(flavor = "multi_thread")]
async fn a_way_that_is_closed_fails_the_operation_at_once() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let uri = format!(
        "mongodb://127.0.0.1:1/?loadBalanced=true&proxyHost=127.0.0.1&proxyPort={}",
        closed.port()
    );
    let client = Client::new(&uri).unwrap();
    let ping = rawdoc! { "ping": 1 };
    let ping = client.run_admin_command(&ping).as_read();
    let error = in_time(Duration::from_secs(5), ping).await.unwrap_err();
    assert!(matches!(error, Error::Proxy { .. }), "{error}");
}

fn in_use(recorder: &Recorder) -> usize {
    let events = recorder.pool_events();
    let count = |is: fn(&CmapEvent) -> bool| events.iter().filter(|event| is(event)).count();
    count(|event| matches!(event, CmapEvent::CheckedOut { .. }))
        - count(|event| matches!(event, CmapEvent::CheckedIn { .. }))
}

/// A cursor keeps its connection until it is closed, whatever its getMore came to; a connection
/// that broke reaches nothing any more, so that nothing is killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_keeps_its_connection_until_it_is_closed() {
    for (answer, killed, reasons) in [
        (Answer::error(7, "HostNotFound", &[]), 1, vec![]),
        (Answer::silence().then_close(), 0, vec![CloseReason::Error]),
    ] {
        let server = balancer();
        server.always("find", |_| Answer::reply(batch::first(7, [])));
        server.once("getMore", answer);
        let (client, recorder) = client(&server, "");
        let command = rawdoc! { "find": "things" };
        let database = client.database("test");
        let mut cursor = within(database.run_cursor_command(&command)).await.unwrap();
        assert_eq!(in_use(&recorder), 1);
        within(cursor.next()).await.unwrap().unwrap_err();
        assert_eq!(in_use(&recorder), 1);
        within(cursor.close()).await;
        assert_eq!(in_use(&recorder), 0);
        assert_eq!(server.received_named("killCursors").len(), killed);
        let closed = |event: &CmapEvent| match event {
            CmapEvent::ConnectionClosed { reason, .. } => Some(*reason),
            _ => None,
        };
        let closed: Vec<_> = recorder.pool_events().iter().filter_map(closed).collect();
        assert_eq!(closed, reasons);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_in_vain_is_told_what_the_connections_are_in_use_for() {
    let server = balancer();
    for opens in ["find", "aggregate"] {
        server.always(opens, |_| Answer::reply(batch::first(7, [])));
    }
    server.always("getMore", |_| Answer::silence());
    server.always("sleep", |_| Answer::silence());
    let (client, recorder) = client(&server, "&maxPoolSize=3&waitQueueTimeoutMS=50");
    let database = client.database("test");
    let command = rawdoc! { "find": "things" };
    let _cursor = within(database.run_cursor_command(&command)).await.unwrap();
    let _stream = within(database.watch()).await.unwrap();
    let busy = database.clone();
    let sleeper = tokio::spawn(async move {
        let sleep = rawdoc! { "sleep": 1 };
        busy.run_command(&sleep).await.map(drop)
    });
    recorder
        .wait_for(|events| sent(events, "sleep").len() == 1)
        .await;
    let ping = rawdoc! { "ping": 1 };
    let error = within(client.run_admin_command(&ping)).await.unwrap_err();
    let words = "maxPoolSize: 3, connections in use by cursors: 2, connections in use by \
                 transactions: 0, connections in use by other operations: 1";
    assert!(error.to_string().contains(words), "{error}");
    sleeper.abort();
}

/// A change stream keeps its connection: its getMores and its killCursors go where its cursor is.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_stream_stays_on_its_connection() {
    let server = balancer();
    server.always("aggregate", |_| Answer::reply(batch::first(7, [])));
    server.always("getMore", |_| {
        Answer::silence()
            .then_wait(Duration::from_millis(5))
            .then_reply(batch::next(7, []))
    });
    let (client, recorder) = client(&server, "");
    let things = client.database("test").collection("things");
    let mut stream = within(things.watch().prefetch(None)).await.unwrap();
    for _ in 0..3 {
        within(client.run_admin_command(&rawdoc! { "ping": 1 }))
            .await
            .unwrap();
        assert!(within(stream.next_if_any()).await.unwrap().is_none());
    }
    within(stream.close()).await;
    let received = server.received();
    let of = |name: &str| {
        let named = received.iter().filter(|one| one.name == name);
        named.map(|one| one.connection).collect::<Vec<_>>()
    };
    let its = of("aggregate")[0];
    assert!(of("getMore").len() >= 3 && of("getMore").iter().all(|one| *one == its));
    assert_eq!(of("killCursors"), [its]);
    assert!(of("ping").iter().all(|one| *one != its));
    let checked_out = recorder.pool_events();
    let checked_out = checked_out
        .iter()
        .filter(|event| matches!(event, CmapEvent::CheckedOut { .. }));
    // One for the stream, and for each ping.
    assert_eq!(checked_out.count(), 4);
}
