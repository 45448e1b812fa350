//! Writes that servers know again: Retryable Writes, its prose tests by number.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use bson::{RawArrayBuf, RawDocument, RawDocumentBuf, rawdoc};
use integration_tests::fail_point::FailPoint;
use integration_tests::recorder::{Recorder, listen};
use integration_tests::{PATIENCE, own_database, ping, shared_client, shared_set, within};
use mongo_client::events::{CommandEvent, CommandStep};
use mongo_client::sdam::ServerType;
use mongo_client::{Client, ClientOptions, Database, Error, Event, SessionOptions};
use testbed::scripted::{Answer, HelloScript, ScriptedServer};

const LABEL: &str = "RetryableWriteError";
const NONE_DONE: &str = "NoWritesPerformed";

/// A client of the shared set with this application name and more options.
async fn heard(name: &str, options: &str) -> (Client, Recorder) {
    let uri = tokio::task::spawn_blocking(|| shared_set().uri()).await;
    let uri = uri.unwrap();
    listen(&format!(
        "{uri}&heartbeatFrequencyMS=500&appName={name}{options}"
    ))
}

fn primary() -> ScriptedServer {
    ScriptedServer::start(|me| HelloScript::primary("rs0", me, &[me])).unwrap()
}

fn insert(id: i32) -> RawDocumentBuf {
    rawdoc! { "insert": "things", "documents": [{ "_id": id }] }
}

fn labels(labels: &[&str]) -> RawArrayBuf {
    labels.iter().copied().collect()
}

fn number(command: &RawDocument) -> Option<i64> {
    command.get_i64("txnNumber").ok()
}

async fn count(database: &Database) -> i32 {
    let count = rawdoc! { "count": "things" };
    let reply = within(database.run_command(&count)).await.unwrap();
    reply.document().as_raw().get_i32("n").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_write_has_the_next_number_of_its_session() {
    let (client, recorder) = heard("numbers", "").await;
    let database = own_database(&client);
    let session = client.start_session(SessionOptions::default()).unwrap();
    for id in 0..3 {
        let write = database
            .run_command(&insert(id))
            .as_write()
            .session(&session)
            .await;
        write.unwrap();
    }
    let update = rawdoc! {
        "findAndModify": "things", "query": { "_id": 0 }, "update": { "$set": { "a": 1 } },
    };
    let write = database.run_command(&update).as_write().session(&session);
    within(write).await.unwrap();
    // Neither a read nor a write that nobody calls repeatable takes one.
    within(database.run_command(&insert(7)).session(&session))
        .await
        .unwrap();
    // The next user of the session's place on the server goes on behind it.
    let id = session.id();
    session.end();
    drop(session);
    within(database.run_command(&insert(8)).as_write())
        .await
        .unwrap();
    let sent = recorder.sent("insert");
    let numbers: Vec<_> = sent.iter().map(|command| number(command)).collect();
    assert_eq!(numbers, [Some(1), Some(2), Some(3), None, Some(5)]);
    assert_eq!(number(&recorder.sent("findAndModify")[0]), Some(4));
    assert_eq!(sent[4].get_document("lsid").unwrap(), &*id);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_repeated_has_no_number_and_is_sent_once() {
    let unacknowledged = rawdoc! {
        "insert": "things", "documents": [{}], "writeConcern": { "w": 0 },
    };
    let own = rawdoc! { "insert": "things", "documents": [{}], "txnNumber": 7_i64 };
    let set: fn(&str) -> HelloScript = |me| HelloScript::primary("rs0", me, &[me]);
    let lone: fn(&str) -> HelloScript = |_| HelloScript::standalone();
    let without: fn(&str) -> HelloScript =
        |me| HelloScript::primary("rs0", me, &[me]).without("logicalSessionTimeoutMinutes");
    let scripts = [
        (set, "?retryWrites=false", insert(1), None),
        (lone, "", insert(1), None),
        (without, "", insert(1), None),
        (set, "", unacknowledged, None),
        (set, "", own, Some(7)),
    ];
    for (script, options, command, expected) in scripts {
        let server = ScriptedServer::start(script).unwrap();
        let (client, recorder) = listen(&format!("{}{options}", server.uri()));
        server.always("insert", |_| Answer::silence().then_close());
        let result = within(client.database("d").run_command(&command).as_write()).await;
        let sent = recorder.sent("insert");
        assert_eq!(sent.len(), 1, "{command:?}");
        assert_eq!(number(&sent[0]), expected, "{command:?}");
        if let Err(error) = result {
            assert!(!error.has_label(LABEL), "{error:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_lost_its_connection_is_repeated_once_with_its_number() {
    let control = shared_client().await;
    for (times, options, tries) in [(1, "", 2), (2, "", 2), (1, "&retryWrites=false", 1)] {
        let (client, recorder) = heard("cut", options).await;
        let database = own_database(&client);
        let data = rawdoc! {
            "failCommands": ["insert"], "closeConnection": true, "appName": "cut",
        };
        let fail_point = FailPoint::on(&control, Some(times), data).await;
        let result = within(database.run_command(&insert(1)).as_write()).await;
        within(fail_point.off()).await.unwrap();
        let sent = recorder.sent("insert");
        assert_eq!(sent.len(), tries, "{options}");
        let is_first = |key: &str| {
            sent.iter()
                .all(|one| one.get(key).unwrap() == sent[0].get(key).unwrap())
        };
        assert!(is_first("txnNumber") && is_first("lsid"), "{sent:?}");
        let done = i32::from(tries == 2 && times == 1);
        assert_eq!(count(&database).await, done);
        let Err(error) = result else {
            assert_eq!(done, 1);
            continue;
        };
        let is_labelled = tries == 2;
        assert_eq!(
            matches!(error, Error::RetryableWrite(_)),
            is_labelled,
            "{error:?}"
        );
        assert_eq!(error.has_label(LABEL), is_labelled);
        assert!(error.is_network() && error.server().is_some());
    }
}

/// What the server has done and could not say is not done twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_was_done_is_not_done_again() {
    let control = shared_client().await;
    let (client, recorder) = heard("done", "").await;
    let database = own_database(&client);
    within(database.run_command(&insert(1)).as_write())
        .await
        .unwrap();
    let data = rawdoc! {
        "failCommands": ["update"], "appName": "done",
        "writeConcernError": { "code": 91, "errmsg": "not safe" }, "errorLabels": [LABEL],
    };
    let fail_point = FailPoint::on(&control, Some(1), data).await;
    let add = rawdoc! {
        "update": "things", "updates": [{ "q": { "_id": 1 }, "u": { "$inc": { "a": 1 } } }],
    };
    let reply = within(database.run_command(&add).as_write()).await.unwrap();
    within(fail_point.off()).await.unwrap();
    assert!(reply.write_concern_error().unwrap().is_none());
    assert_eq!(recorder.sent("update").len(), 2);
    let find = rawdoc! { "find": "things", "filter": { "a": 1 } };
    let found = within(database.run_command(&find)).await.unwrap();
    assert_eq!(found.cursor().unwrap().batch.iter().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_of_many_documents_is_refused_for_its_number() {
    let client = shared_client().await;
    let database = own_database(&client);
    let update = rawdoc! {
        "update": "things", "updates": [{ "q": {}, "u": { "$set": { "a": 1 } }, "multi": true }],
    };
    let reply = within(database.run_command(&update).as_write()).await;
    let refused = match &reply {
        Err(error) => error.code(),
        Ok(reply) => {
            let errors = reply.document().as_raw().get_array("writeErrors").unwrap();
            let first = errors.into_iter().next().unwrap().unwrap();
            first.as_document().unwrap().get_i32("code").ok()
        }
    };
    // InvalidOptions: it cannot be retried.
    assert_eq!(refused, Some(72), "{reply:?}");
}

/// With a limit, as often as time allows.
#[tokio::test(flavor = "multi_thread")]
async fn with_a_time_limit_a_write_is_repeated_while_time_is_left() {
    let server = primary();
    let (client, recorder) = listen(&server.uri());
    let error = || Answer::error(6, "HostUnreachable", &[LABEL]);
    for _ in 0..4 {
        server.once("insert", error());
    }
    server.once("insert", Answer::ok());
    let command = insert(1);
    let write = client.database("d").run_command(&command).as_write();
    within(write.timeout(PATIENCE)).await.unwrap();
    assert_eq!(recorder.sent("insert").len(), 5);
    server.always("insert", |_| {
        let reply = rawdoc! { "ok": 0, "code": 6, "errorLabels": labels(&[LABEL]) };
        Answer::silence()
            .then_wait(Duration::from_millis(20))
            .then_reply(reply)
    });
    let command = insert(1);
    let write = client.database("d").run_command(&command).as_write();
    let error = within(write.timeout(Duration::from_secs(1)))
        .await
        .unwrap_err();
    assert!(error.is_operation_timeout(), "{error:?}");
    assert!(recorder.sent("insert").len() > 7);
}

/// The answer was in time, but there is none left for another try.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_passes_between_two_tries_is_told_as_what_it_is() {
    let server = primary();
    for command in ["insert", "find"] {
        server.always(command, |_| Answer::error(6, "HostUnreachable", &[LABEL]));
    }
    let limit = Duration::from_secs(1);
    let slow = move |event: &Event| {
        let failed = |event: &CommandEvent| matches!(event.step, CommandStep::Failed { .. });
        if matches!(event, Event::Command(event) if failed(event)) {
            std::thread::sleep(limit);
        }
    };
    let options = ClientOptions::parse(&server.uri()).unwrap().on_event(slow);
    let client = Client::with_options(options).unwrap();
    ping(&client).await.unwrap();
    let database = client.database("d");
    let (write, read) = (insert(1), rawdoc! { "find": "things" });
    let write = database.run_command(&write).as_write();
    let read = database.run_command(&read).as_read();
    for command in [write, read] {
        let error = within(command.timeout(limit)).await.unwrap_err();
        assert!(error.is_operation_timeout(), "{error:?}");
        assert_eq!(error.code(), Some(6), "{error:?}");
    }
    for command in ["insert", "find"] {
        assert_eq!(server.received_named(command).len(), 1);
    }
}

/// Servers before 4.4 do not say what may be repeated.
#[tokio::test(flavor = "multi_thread")]
async fn the_client_labels_the_errors_of_an_old_server() {
    for (wire_version, code, tries) in [(8, 91, 2), (8, 11_602, 2), (8, 2, 1), (9, 91, 1)] {
        let server = ScriptedServer::start(|me| {
            HelloScript::primary("rs0", me, &[me]).with("maxWireVersion", wire_version)
        });
        let server = server.unwrap();
        server.always("insert", move |_| Answer::error(code, "Some", &[]));
        let (client, recorder) = listen(&server.uri());
        let command = insert(1);
        let write = client.database("d").run_command(&command).as_write();
        let error = within(write).await.unwrap_err();
        assert_eq!(
            recorder.sent("insert").len(),
            tries,
            "{wire_version} {code}"
        );
        assert_eq!(error.code(), Some(code));
        assert_eq!(error.has_label(LABEL), tries == 2, "{wire_version} {code}");
    }
}

/// Prose test 1.
#[tokio::test(flavor = "multi_thread")]
async fn prose_1_a_storage_engine_that_knows_no_numbers_is_named() {
    let server = primary();
    server.always("insert", |_| {
        let message = "Transaction numbers are only allowed on a replica set member or mongos";
        Answer::reply(rawdoc! { "ok": 0, "code": 20, "errmsg": message })
    });
    let (client, _) = listen(&server.uri());
    let command = insert(1);
    let write = client.database("d").run_command(&command).as_write();
    let error = within(write).await.unwrap_err();
    assert_eq!(error.code(), Some(20));
    let words = "This MongoDB deployment does not support retryable writes. Please add \
                 retryWrites=false to your connection string.";
    assert_eq!(error.server_error().unwrap().message, words);
}

/// Prose test 2.
#[tokio::test(flavor = "multi_thread")]
async fn prose_2_a_cleared_pool_is_a_reason_to_try_again() {
    let control = shared_client().await;
    let (client, recorder) = heard("wcleared", "&maxPoolSize=1").await;
    let database = own_database(&client);
    within(client.run_admin_command(&rawdoc! { "ping": 1 }))
        .await
        .unwrap();
    let data = rawdoc! {
        "failCommands": ["insert"], "errorCode": 91, "blockConnection": true, "blockTimeMS": 1_000,
        "errorLabels": [LABEL], "appName": "wcleared",
    };
    let fail_point = FailPoint::on(&control, Some(1), data).await;
    let write = |id: i32| {
        let database = database.clone();
        tokio::spawn(async move {
            let insert = insert(id);
            database.run_command(&insert).as_write().await.map(drop)
        })
    };
    for write in [write(1), write(2)] {
        within(write).await.unwrap().unwrap();
    }
    within(fail_point.off()).await.unwrap();
    let pool = recorder.pool_events();
    assert!(recorder.check_out_failed_after_a_clear(), "{pool:?}");
    assert_eq!(recorder.sent("insert").len(), 3);
}

/// What an insert came to whose tries were answered so: the code, and whether it is an error.
async fn told_after(answers: Vec<RawDocumentBuf>, as_write: bool) -> (Option<i32>, bool) {
    let server = primary();
    for answer in &answers {
        server.once("insert", Answer::reply(answer.clone()));
    }
    let (client, recorder) = listen(&server.uri());
    let database = client.database("d");
    let command = insert(1);
    let command = database.run_command(&command);
    let result = match as_write {
        true => within(command.as_write()).await,
        false => within(command).await,
    };
    assert_eq!(recorder.sent("insert").len(), answers.len(), "{result:?}");
    match &result {
        Ok(reply) => (reply.write_concern_error().unwrap().unwrap().code, false),
        Err(error) => (error.code(), true),
    }
}

/// Prose tests 3 and 6, the latter also for commands of which nobody says that they write.
#[tokio::test(flavor = "multi_thread")]
async fn prose_3_and_6_the_last_failure_that_may_have_written_is_told() {
    const BUSY: [&str; 2] = ["RetryableError", "SystemOverloadedError"];
    const NONE: [&str; 3] = ["RetryableError", "SystemOverloadedError", NONE_DONE];
    let refused = |(code, own): &(i32, &[&str])| {
        rawdoc! { "ok": 0, "code": *code, "errmsg": "no", "errorLabels": labels(own) }
    };
    let mut all = tokio::task::JoinSet::new();
    for (answers, told) in [
        ([(91, &BUSY[..]), (10_107, &BUSY), (10_107, &BUSY)], 10_107),
        ([(91, &NONE[..]), (10_107, &NONE), (189, &NONE)], 91),
        ([(91, &BUSY[..]), (10_107, &NONE), (10_107, &NONE)], 91),
        ([(91, &NONE[..]), (10_107, &BUSY), (189, &NONE)], 10_107),
    ] {
        for as_write in [true, false] {
            let answers: Vec<_> = answers.iter().map(refused).collect();
            all.spawn(async move {
                let found = told_after(answers, as_write).await;
                assert_eq!(found, (Some(told), true));
            });
        }
    }
    let error = rawdoc! { "code": 91, "errmsg": "not safe" };
    let label = labels(&[LABEL]);
    let first = rawdoc! { "ok": 1, "n": 1, "writeConcernError": error, "errorLabels": label };
    let second = refused(&(10_107, &[LABEL, NONE_DONE]));
    assert_eq!(
        told_after(vec![first, second], true).await,
        (Some(91), false)
    );
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
}

/// Without a server for another try the first failure is told, also when that may not have written.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_first_try_met_is_told_when_no_server_is_left() {
    let server = primary();
    let (client, _) = listen(&format!("{}?serverSelectionTimeoutMS=2000", server.uri()));
    within(client.run_admin_command(&rawdoc! { "ping": 1 }))
        .await
        .unwrap();
    server.always("insert", |_| {
        Answer::error(11_600, "InterruptedAtShutdown", &[LABEL])
    });
    for hello in ["hello", "isMaster"] {
        server.always(hello, |_| Answer::silence().then_close());
    }
    let command = insert(1);
    let write = client.database("d").run_command(&command).as_write();
    let error = within(write).await.unwrap_err();
    assert_eq!(error.code(), Some(11_600), "{error:?}");
}

/// Prose tests 4 and 5, with routers that follow a script.
#[tokio::test(flavor = "multi_thread")]
async fn prose_4_and_5_another_router_is_tried_where_there_is_one() {
    for count in [2, 1] {
        let routers: Vec<_> = (0..count)
            .map(|_| ScriptedServer::start(|_| HelloScript::mongos()).unwrap())
            .collect();
        for router in &routers {
            router.once("insert", Answer::error(6, "HostUnreachable", &[LABEL]));
            router.always("insert", |_| Answer::ok());
        }
        let hosts: Vec<_> = routers.iter().map(ScriptedServer::address).collect();
        let (client, recorder) = listen(&format!("mongodb://{}/", hosts.join(",")));
        let mut changes = client.topology_changes();
        while client
            .topology()
            .servers
            .of_type(ServerType::Mongos)
            .count()
            < count
        {
            within(changes.next()).await.unwrap();
        }
        let command = insert(1);
        let write = client.database("d").run_command(&command).as_write();
        // Of two, both have failed; the only one does better the second time.
        assert_eq!(within(write).await.is_ok(), count == 1);
        assert_eq!(recorder.sent("insert").len(), 2);
        for router in &routers {
            assert_eq!(router.received_named("insert").len(), 2 / count);
        }
    }
}

/// A failover between the write and its repetition: a server that cannot know the write again.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_not_repeated_on_a_server_that_would_do_it_twice() {
    let server = primary();
    let (client, recorder) = listen(&format!("{}?heartbeatFrequencyMS=500", server.uri()));
    within(client.run_admin_command(&rawdoc! { "ping": 1 }))
        .await
        .unwrap();
    let address = server.address();
    let old = HelloScript::primary("rs0", &address, &[&address]);
    server.set_hello(old.without("logicalSessionTimeoutMinutes"));
    server.always("insert", |_| Answer::silence().then_close());
    let command = insert(1);
    let write = client.database("d").run_command(&command).as_write();
    let error = within(write).await.unwrap_err();
    let sent = recorder.sent("insert");
    assert_eq!(sent.len(), 1, "{error:?}");
    assert!(error.is_network(), "{error:?}");
}
