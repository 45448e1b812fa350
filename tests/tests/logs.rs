//! What a client logs: the specifications' messages and fields, cut off and with secrets left out.

#![allow(clippy::unwrap_used, reason = "a test and its helpers")]

use bson::{RawArrayBuf, RawDocumentBuf, cstr, rawdoc};
use integration_tests::logbook::{self, Record};
use integration_tests::{own_database, shared_client, shared_set, within};
use mongo_client::{Client, ClientOptions};
use testbed::scripted::{Answer, HelloScript, ScriptedServer};
use tracing::Level;

fn messages(records: &[Record]) -> Vec<&str> {
    records.iter().map(Record::message).collect()
}

/// The records of commands of this name, in pairs of a start and an end.
fn commands(client: &Client, name: &str) -> Vec<Record> {
    let mut records = logbook::of(client.topology_id(), "::command");
    records.retain(|record| record.fields["commandName"] == name);
    records
}

fn insert(count: usize) -> RawDocumentBuf {
    let mut command = rawdoc! { "insert": "things" };
    let documents: RawArrayBuf = (0..count).map(|_| rawdoc! { "x": "y" }).collect();
    command.append(cstr!("documents"), documents);
    command
}

/// Prose test 1 of Command Logging and Monitoring.
#[tokio::test(flavor = "multi_thread")]
async fn documents_are_cut_off_at_a_thousand_characters() {
    logbook::open();
    let client = shared_client().await;
    let database = own_database(&client);
    within(database.run_command(&insert(100))).await.unwrap();
    let records = commands(&client, "insert");
    assert_eq!(messages(&records), ["Command started", "Command succeeded"]);
    assert_eq!(records[0].fields["command"].len(), 1_003);
    assert!(
        records[0].fields["command"].starts_with(r#"{"insert":"things","documents":[{"x":"y"},"#)
    );
    assert!(records[0].fields["command"].ends_with("..."));
    assert!(records[1].fields["reply"].len() <= 1_003);
    within(database.run_command(&rawdoc! { "find": "things" }))
        .await
        .unwrap();
    assert_eq!(commands(&client, "find")[1].fields["reply"].len(), 1_003);
}

/// Prose test 2; the third is `logs/json.rs`'s own.
#[tokio::test(flavor = "multi_thread")]
async fn documents_are_cut_off_where_the_caller_says() {
    logbook::open();
    drop(shared_client().await);
    let options = ClientOptions::parse(&shared_set().uri()).unwrap();
    let client = Client::with_options(options.max_log_document_length(5)).unwrap();
    within(client.run_admin_command(&rawdoc! { "hello": true }))
        .await
        .unwrap();
    let records = commands(&client, "hello");
    assert_eq!(records[0].fields["command"], r#"{"hel..."#);
    assert_eq!(records[1].fields["reply"].len(), 8);
    within(client.run_admin_command(&rawdoc! { "notARealCommand": true }))
        .await
        .unwrap_err();
    let records = commands(&client, "notARealCommand");
    assert_eq!(messages(&records), ["Command started", "Command failed"]);
    assert!(records[1].fields["failure"].contains("CommandNotFound"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commands_records_say_where_and_as_what_it_was_sent() {
    logbook::open();
    let client = shared_client().await;
    within(client.run_admin_command(&rawdoc! { "ping": 1 }))
        .await
        .unwrap();
    let records = commands(&client, "ping");
    let (host, port) = shared_set().addresses()[0]
        .split_once(':')
        .map(|(h, p)| (h.to_owned(), p.to_owned()))
        .unwrap();
    for record in &records {
        assert_eq!(record.level, Level::DEBUG);
        for (field, expected) in [
            ("databaseName", "admin"),
            ("serverHost", &*host),
            ("serverPort", &*port),
        ] {
            assert_eq!(record.fields[field], expected);
        }
        for field in [
            "requestId",
            "operationId",
            "driverConnectionId",
            "serverConnectionId",
        ] {
            assert!(
                record.fields[field].parse::<i64>().unwrap() > 0,
                "{field}: {record:?}"
            );
        }
        assert!(!record.fields.contains_key("serviceId"), "{record:?}");
    }
    assert!(records[1].fields["durationMS"].parse::<f64>().unwrap() > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_not_logged() {
    logbook::open();
    let server = ScriptedServer::start(|_| HelloScript::standalone()).unwrap();
    let secret = rawdoc! { "secret": "open sesame" };
    server.always("saslContinue", {
        let secret = secret.clone();
        move |_| {
            let mut reply = rawdoc! { "ok": 0, "code": 18, "codeName": "AuthenticationFailed" };
            reply.append(cstr!("errmsg"), "not open sesame");
            reply.append(cstr!("payload"), secret.clone());
            Answer::reply(reply)
        }
    });
    let client = Client::new(&server.uri()).unwrap();
    for mut command in [
        rawdoc! { "saslContinue": 1 },
        rawdoc! { "hello": 1, "speculativeAuthenticate": {} },
        rawdoc! { "isMaster": 1, "speculativeAuthenticate": {} },
        rawdoc! { "ismaster": 1, "speculativeAuthenticate": {} },
    ] {
        command.append(cstr!("payload"), secret.clone());
        let name = command
            .iter()
            .next()
            .unwrap()
            .unwrap()
            .0
            .as_str()
            .to_owned();
        let _ = within(client.run_admin_command(&command)).await;
        let records = commands(&client, &name);
        assert_eq!(records[0].fields["command"], "{}");
        assert!(!format!("{records:?}").contains("sesame"), "{records:?}");
        match records[1].fields.get("reply") {
            Some(reply) => assert_eq!(reply, "{}"),
            None => assert!(records[1].fields["failure"].contains("18"), "{records:?}"),
        }
    }
    // What opens a connection, with credentials, is no command: it is not logged at all.
    let uri = server.uri().replace("mongodb://", "mongodb://user:sesame@");
    let client = Client::new(&uri).unwrap();
    let _ = within(client.run_admin_command(&rawdoc! { "ping": 1 }))
        .await
        .unwrap_err();
    assert!(logbook::of(client.topology_id(), "::command").is_empty());
    let all = logbook::of(client.topology_id(), "");
    assert!(
        !all.is_empty() && !format!("{all:?}").contains("sesame"),
        "{all:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_life_is_told_from_its_first_check_to_its_end() {
    logbook::open();
    let server = ScriptedServer::start(|_| HelloScript::standalone()).unwrap();
    let uri = format!(
        "{}?maxPoolSize=5&maxIdleTimeMS=9000&waitQueueTimeoutMS=700",
        server.uri()
    );
    let client = Client::new(&uri).unwrap();
    within(client.run_admin_command(&rawdoc! { "ping": 1 }))
        .await
        .unwrap();
    within(client.shutdown()).await;
    let topology = logbook::of(client.topology_id(), "::topology");
    assert_eq!(
        messages(&topology),
        [
            "Starting topology monitoring",
            "Topology description changed",
            "Starting server monitoring",
            "Server heartbeat started",
            "Server heartbeat succeeded",
            "Topology description changed",
            "Stopped server monitoring",
            "Topology description changed",
            "Stopped topology monitoring",
        ]
    );
    assert!(topology[4].fields["reply"].starts_with('{'), "{topology:?}");
    assert_eq!(topology[4].fields["awaited"], "false");
    let pool = logbook::of(client.topology_id(), "::connection");
    assert_eq!(
        messages(&pool),
        [
            "Connection pool created",
            "Connection pool ready",
            "Connection checkout started",
            "Connection created",
            "Connection ready",
            "Connection checked out",
            "Connection checked in",
            // For endSessions.
            "Connection checkout started",
            "Connection checked out",
            "Connection checked in",
            "Connection closed",
            "Connection pool closed",
        ]
    );
    for (field, expected) in [
        ("maxPoolSize", "5"),
        ("maxIdleTimeMS", "9000"),
        ("waitQueueTimeoutMS", "700"),
    ] {
        assert_eq!(pool[0].fields[field], expected);
    }
    assert_eq!(pool[10].fields["reason"], "Connection pool was closed");
    let selection = logbook::of(client.topology_id(), "::server_selection");
    let names = messages(&selection);
    assert_eq!(names.first(), Some(&"Server selection started"));
    assert_eq!(names.last(), Some(&"Server selection succeeded"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_waits_in_vain_says_so_once() {
    logbook::open();
    let client = Client::new("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=1200").unwrap();
    within(client.run_admin_command(&rawdoc! { "ping": 1 }))
        .await
        .unwrap_err();
    let records = logbook::of(client.topology_id(), "::server_selection");
    let told: Vec<_> = records
        .iter()
        .map(|record| (record.message(), record.level))
        .collect();
    assert_eq!(
        told,
        [
            ("Server selection started", Level::DEBUG),
            (
                "Waiting for suitable server to become available",
                Level::INFO
            ),
            ("Server selection failed", Level::DEBUG),
        ]
    );
    for record in &records {
        assert_eq!(record.fields["operation"], "ping");
        assert!(
            record.fields.contains_key("selector")
                && record.fields.contains_key("topologyDescription")
        );
    }
    assert!(records[1].fields["remainingTimeMS"].parse::<u64>().unwrap() <= 1_200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_cannot_be_opened_says_why() {
    logbook::open();
    let server = ScriptedServer::start(|_| HelloScript::standalone()).unwrap();
    server.always("hello", |received| {
        if received.connection == 1 {
            Answer::reply(rawdoc! { "ok": 1, "isWritablePrimary": true, "maxWireVersion": 17 })
        } else {
            Answer::error(11_600, "InterruptedAtShutdown", &[])
        }
    });
    let uri = format!("{}?serverSelectionTimeoutMS=2000", server.uri());
    let client = Client::new(&uri).unwrap();
    within(client.run_admin_command(&rawdoc! { "ping": 1 }))
        .await
        .unwrap_err();
    let records = logbook::of(client.topology_id(), "::connection");
    for (message, reason) in [
        (
            "Connection closed",
            "An error occurred while using the connection",
        ),
        (
            "Connection checkout failed",
            "An error occurred while trying to establish a new connection",
        ),
    ] {
        let record = records
            .iter()
            .find(|record| record.message() == message)
            .unwrap();
        assert_eq!(record.fields["reason"], reason);
        assert!(record.fields["error"].contains("11600"), "{record:?}");
    }
}
