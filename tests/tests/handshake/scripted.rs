//! What a real server cannot be made to show: what the client says, and servers that cheat.

use integration_tests::{PATIENCE, in_time, ping, within};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bson::oid::ObjectId;
use bson::spec::BinarySubtype;
use bson::{Binary, RawBsonRef, RawDocument, RawDocumentBuf, doc, rawdoc};
use integration_tests::recorder::{Counts, Recorder, listen};
use mongo_client::events::CmapEvent;
use mongo_client::uri::AuthMechanism;
use mongo_client::{
    AuthFailure, AuthenticationError, Client, ClientOptions, DriverInfo, Error, Event, ScramFault,
};
use testbed::scripted::{Answer, HelloScript, Received, ScriptedServer};

fn primary() -> ScriptedServer {
    ScriptedServer::start(|me| HelloScript::primary("rs0", me, &[me])).unwrap()
}

fn client(server: &ScriptedServer, userinfo: &str, options: &str) -> Client {
    let address = server.address();
    Client::new(&format!("mongodb://{userinfo}{address}/?{options}")).unwrap()
}

fn authentication(result: Result<(), Error>) -> AuthenticationError {
    match result {
        Err(Error::Authentication(error)) => *error,
        other => panic!("{other:?}"),
    }
}

fn binary(payload: &str) -> Binary {
    Binary {
        subtype: BinarySubtype::Generic,
        bytes: payload.as_bytes().to_vec(),
    }
}

fn sasl(payload: &str, done: bool) -> RawDocumentBuf {
    rawdoc! { "conversationId": 1, "payload": binary(payload), "done": done, "ok": 1.0 }
}

fn payload(command: &RawDocument) -> String {
    let Some(RawBsonRef::Binary(binary)) = command.get("payload").unwrap() else {
        panic!("{command:?}")
    };
    String::from_utf8(binary.bytes.to_vec()).unwrap()
}

fn has(received: &Received, key: &str) -> bool {
    received.body.get(key).unwrap().is_some()
}

/// Only application connections, which are known by what they offer, have anything to do with
/// authentication.
fn assert_monitors_do_not_authenticate(server: &ScriptedServer, speculates: bool) {
    let received = server.received();
    for hello in received.iter().filter(|received| received.is_hello()) {
        let is_application = has(hello, "compression");
        assert_eq!(
            has(hello, "speculativeAuthenticate"),
            is_application && speculates
        );
        assert!(is_application || !has(hello, "saslSupportedMechs"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_sends_user_and_password_once_the_hello_is_over() {
    let server = primary();
    server.always("saslStart", |_| Answer::reply(sasl("", true)));
    let client = client(&server, "user:pencil@", "authMechanism=PLAIN");
    ping(&client).await.unwrap();
    let started = server.received_named("saslStart");
    assert_eq!(started.len(), 1);
    assert_eq!(payload(&started[0].body), "\0user\0pencil");
    assert_eq!(started[0].database, "$external");
    assert_monitors_do_not_authenticate(&server, false);
}

#[tokio::test(flavor = "multi_thread")]
async fn x509_takes_its_answer_from_the_hello_or_asks() {
    let server = primary();
    server.always("authenticate", |_| Answer::ok());
    let asking = client(&server, "", "authMechanism=MONGODB-X509");
    ping(&asking).await.unwrap();
    let asked = server.received_named("authenticate");
    assert_eq!((asked.len(), asked[0].database.as_str()), (1, "$external"));
    assert!(!has(&asked[0], "user"));
    assert_monitors_do_not_authenticate(&server, true);

    let me = server.address();
    let answer = doc! { "dbname": "$external", "user": "CN=client" };
    let hello = HelloScript::primary("rs0", &me, &[&me]);
    server.set_hello(hello.with("speculativeAuthenticate", answer));
    ping(&client(&server, "", "authMechanism=MONGODB-X509"))
        .await
        .unwrap();
    assert_eq!(server.received_named("authenticate").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_hello_carries_the_first_message_and_sasl_start_repeats_it() {
    let server = primary();
    server.always("saslStart", |_| {
        Answer::error(18, "AuthenticationFailed", &[])
    });
    let options = "authMechanism=SCRAM-SHA-256&authSource=db&compressors=snappy,zlib";
    let client = client(&server, "user:pencil@", options);
    let error = authentication(ping(&client).await);
    assert_eq!(error.mechanism, AuthMechanism::ScramSha256);
    assert_monitors_do_not_authenticate(&server, true);
    let received = server.received();
    let hello = received.iter().find(|r| has(r, "compression")).unwrap();
    let speculation = hello.body.get_document("speculativeAuthenticate").unwrap();
    assert_eq!(speculation.get_str("db").unwrap(), "db");
    let started = &server.received_named("saslStart")[0];
    assert_eq!(started.database, "db");
    assert_eq!(payload(speculation), payload(&started.body));
    assert!(payload(speculation).starts_with("n,,n=user,r="));
    // Each connection has a nonce of its own.
    authentication(ping(&client).await);
    let again = server.received_named("saslStart");
    assert_ne!(payload(&again[0].body), payload(&again[1].body));
}

#[tokio::test(flavor = "multi_thread")]
async fn hellos_and_authentication_are_never_compressed() {
    let server = primary();
    let me = server.address();
    let hello = HelloScript::primary("rs0", &me, &[&me]);
    // The server's order is not the client's.
    server.set_hello(hello.with("compression", vec!["zlib", "snappy", "zstd"]));
    server.always("saslStart", |_| Answer::reply(sasl("", true)));
    let options = "authMechanism=PLAIN&compressors=snappy,zlib";
    let client = client(&server, "user:pencil@", options);
    ping(&client).await.unwrap();
    // One that the application sends is not either.
    within(client.run_admin_command(&rawdoc! { "hello": 1 }))
        .await
        .unwrap();
    let received = server.received();
    for received in &received {
        assert_eq!(
            received.compressed,
            received.name == "ping",
            "{}",
            received.name
        );
    }
    assert!(received.iter().any(|received| received.compressed));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_cause_no_storm_and_leave_nobody_waiting() {
    let server = primary();
    server.always("saslStart", |_| {
        Answer::error(18, "AuthenticationFailed", &[])
    });
    let recorder = Recorder::default();
    let address = server.address();
    let uri = format!("mongodb://user:wrong@{address}/?heartbeatFrequencyMS=60000");
    let options = ClientOptions::parse(&uri).unwrap();
    let client = Client::with_options(options.on_event(recorder.listener())).unwrap();
    let started = Instant::now();
    let pings: Vec<_> = (0..50)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { ping(&client).await })
        })
        .collect();
    let all = async {
        for ping in pings {
            let error = authentication(ping.await.unwrap());
            assert!(matches!(error.failure, AuthFailure::Refused(_)));
        }
    };
    in_time(Duration::from_secs(5), all).await;
    // maxConnecting is 2, and the first failure answers whoever waits, also while another attempt
    // is under way.
    recorder
        .wait_for(|events| {
            let counts = Counts::of(events);
            counts.created == counts.closed
        })
        .await;
    let attempts = server.received_named("saslStart").len();
    assert!(
        (1..=6).contains(&attempts),
        "{attempts} attempts for 50 commands"
    );
    println!(
        "{attempts} attempts for 50 commands, {:?}",
        started.elapsed()
    );
    // The server is known not to work, and why.
    let known = client.topology().to_string();
    assert!(
        known.contains("SCRAM-SHA-1 failed") && !known.contains("wrong"),
        "{known}"
    );
    // Later operations try again, once each.
    for _ in 0..3 {
        authentication(ping(&client).await);
    }
    assert_eq!(server.received_named("saslStart").len(), attempts + 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_stream_ends_when_it_cannot_authenticate() {
    let server = primary();
    server.always("saslStart", |_| {
        Answer::error(18, "AuthenticationFailed", &[])
    });
    let client = client(&server, "user:wrong@", "");
    let error = within(client.watch().into_future()).await.unwrap_err();
    assert!(error.to_string().contains("SCRAM-SHA-1 failed"), "{error}");
    assert!(server.received_named("saslStart").len() <= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_shuts_down_while_it_authenticates_is_tried_again_for_a_read() {
    let server = primary();
    server.once("saslStart", Answer::error(91, "ShutdownInProgress", &[]));
    server.once("saslStart", Answer::error(91, "ShutdownInProgress", &[]));
    server.always("saslStart", |_| Answer::reply(sasl("", true)));
    let client = client(&server, "user:pencil@", "authMechanism=PLAIN");
    // Whether another command may run again is for its sender to say.
    let error = ping(&client).await.unwrap_err();
    assert_eq!(error.code(), Some(91), "{error}");
    let ping = rawdoc! { "ping": 1 };
    within(client.run_admin_command(&ping).as_read())
        .await
        .unwrap();
    assert_eq!(server.received_named("saslStart").len(), 3);
}

/// The refusal is no news of the server, by its topologyVersion. Whoever waits when the pool is
/// cleared for another reason has to try again, and is not told of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_clears_no_pool_does_not_explain_a_later_clear() {
    let server =
        ScriptedServer::start(|me| HelloScript::primary("rs0", me, &[me]).streaming()).unwrap();
    let known = rawdoc! { "processId": ObjectId::from_bytes(*b"scripted srv"), "counter": 0_i64 };
    let refusal = rawdoc! { "ok": 0.0, "code": 11_602, "topologyVersion": known };
    server.once("saslStart", Answer::reply(refusal));
    server.always("saslStart", |_| Answer::reply(sasl("", true)));
    server.once("ping", Answer::silence().then_hold("cut").then_close());
    server.always("ping", |_| Answer::ok());
    let address = server.address();
    let uri = format!("mongodb://user:pencil@{address}/?authMechanism=PLAIN&maxPoolSize=1");
    let (client, recorder) = listen(&uri);
    authentication(ping(&client).await);
    let ping = || {
        let client = client.clone();
        tokio::spawn(async move { ping(&client).await })
    };
    let cut = ping();
    let is_sent = |events: &[Event]| Counts::of(events).commands_started == 1;
    recorder.wait_for(is_sent).await;
    let waiting = ping();
    let is_waiting = |events: &[Event]| Counts::of(events).checks_out_started == 3;
    recorder.wait_for(is_waiting).await;
    server.release("cut");
    cut.await.unwrap().unwrap_err();
    waiting.await.unwrap().unwrap();
    let is_cleared = |event: &CmapEvent| matches!(event, CmapEvent::PoolCleared { .. });
    let cleared = recorder.pool_events().into_iter().filter(is_cleared);
    assert_eq!(cleared.count(), 1);
}

/// Before the hello is answered it would be a sign of overload, which clears nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_up_while_it_authenticates_has_its_pool_cleared() {
    let server = primary();
    server.once("saslStart", Answer::silence().then_close());
    server.always("saslStart", |_| Answer::reply(sasl("", true)));
    let recorder = Recorder::default();
    let uri = format!(
        "mongodb://user:pencil@{}/?authMechanism=PLAIN",
        server.address()
    );
    let options = ClientOptions::parse(&uri).unwrap();
    let client = Client::with_options(options.on_event(recorder.listener())).unwrap();
    let error = ping(&client).await.unwrap_err();
    assert!(error.is_network(), "{error}");
    ping(&client).await.unwrap();
    assert_eq!(server.received_named("saslStart").len(), 2);
    let events = recorder.pool_events();
    let cleared = |event: &CmapEvent| matches!(event, CmapEvent::PoolCleared { .. });
    assert!(events.iter().any(cleared), "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_know_the_password_is_not_trusted() {
    let server = primary();
    server.always("saslStart", |received| {
        let first = payload(&received.body);
        let nonce = first.rsplit_once("r=").unwrap().1;
        let message = format!("r={nonce}more,s={},i=4096", BASE64.encode("salt"));
        Answer::reply(sasl(&message, false))
    });
    let forged = format!("v={}", BASE64.encode([7; 32]));
    server.always("saslContinue", move |_| Answer::reply(sasl(&forged, true)));
    let client = client(&server, "user:pencil@", "authMechanism=SCRAM-SHA-256");
    let error = authentication(ping(&client).await);
    assert_eq!(
        error.failure,
        AuthFailure::Scram(ScramFault::ServerSignature)
    );
    assert!(server.received_named("ping").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_credentials_a_hello_that_fails_is_an_authentication_that_fails() {
    let server = primary();
    server.always("hello", |received| {
        if received.body.get("saslSupportedMechs").unwrap().is_some() {
            return Answer::error(11, "UserNotFound", &[]);
        }
        Answer::reply(rawdoc! { "isWritablePrimary": true, "maxWireVersion": 17, "ok": 1.0 })
    });
    let client = client(&server, "nobody:x@", "directConnection=true");
    let error = authentication(ping(&client).await);
    assert_eq!(error.user.as_deref(), Some("nobody"));
}

#[tokio::test(flavor = "multi_thread")]
async fn mechanisms_nobody_has_heard_of_are_no_error() {
    let server = primary();
    let me = server.address();
    let hello = HelloScript::primary("rs0", &me, &[&me]);
    server.set_hello(hello.with("saslSupportedMechs", vec!["UNHEARD-OF"]));
    server.always("saslStart", |_| {
        Answer::error(18, "AuthenticationFailed", &[])
    });
    let error = authentication(ping(&client(&server, "u:p@", "")).await);
    assert_eq!(error.mechanism, AuthMechanism::ScramSha1);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrapping_libraries_are_told_on_new_connections() {
    let server = primary();
    let client = client(&server, "", "");
    ping(&client).await.unwrap();
    let library = DriverInfo {
        name: "library".to_owned(),
        ..DriverInfo::default()
    };
    client.append_metadata(library).unwrap();
    // The pool's connection stays, and a second one says more.
    let hellos = || {
        let received = server.received().into_iter();
        received.filter(|received| has(received, "compression"))
    };
    assert_eq!(hellos().count(), 1);
    server.once(
        "ping",
        Answer::silence()
            .then_hold("both")
            .then_reply(rawdoc! { "ok": 1.0 }),
    );
    let held = {
        let client = client.clone();
        tokio::spawn(async move { ping(&client).await })
    };
    server
        .wait_for(PATIENCE, |received| {
            received.iter().filter(|r| r.name == "ping").count() == 2
        })
        .unwrap();
    ping(&client).await.unwrap();
    server.release("both");
    held.await.unwrap().unwrap();
    let names: Vec<_> = hellos()
        .map(|hello| {
            let client = hello.body.get_document("client").unwrap();
            let driver = client.get_document("driver").unwrap();
            driver.get_str("name").unwrap().to_owned()
        })
        .collect();
    assert_eq!(names, ["mongo-client", "mongo-client|library"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_arbiter_is_not_asked_to_authenticate() {
    let server = ScriptedServer::start(|me| {
        HelloScript::secondary("rs0", me, &[me])
            .with("secondary", false)
            .with("arbiterOnly", true)
    })
    .unwrap();
    let client = client(&server, "user:pencil@", "directConnection=true");
    ping(&client).await.unwrap();
    assert!(server.received_named("saslStart").is_empty());
}
