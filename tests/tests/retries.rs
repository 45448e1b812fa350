//! Commands that are sent again: Retryable Reads and Client Backpressure.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it measured"
)]

use std::time::{Duration, Instant};

use bson::{RawArrayBuf, RawDocumentBuf, cstr, rawdoc};
use integration_tests::batch;
use integration_tests::fail_point::FailPoint;
use integration_tests::recorder::Recorder;
use integration_tests::{own_database, shared_client, shared_set, within};
use mongo_client::events::CmapEvent;
use mongo_client::sdam::ServerType;
use mongo_client::{Client, ClientOptions, Error, Event};
use testbed::scripted::{Answer, HelloScript, ScriptedServer};

const OVERLOAD: [&str; 2] = ["SystemOverloadedError", "RetryableError"];

/// A client of the shared set with this application name and more options.
async fn heard(name: &str, options: &str, jitter: Option<f64>) -> (Client, Recorder) {
    let uri = tokio::task::spawn_blocking(|| shared_set().uri()).await;
    let uri = format!("{}&appName={name}{options}", uri.unwrap());
    let recorder = Recorder::default();
    let mut given = ClientOptions::parse(&uri)
        .unwrap()
        .on_event(recorder.listener());
    if let Some(jitter) = jitter {
        given = given.jitter(move || jitter);
    }
    (Client::with_options(given).unwrap(), recorder)
}

fn failing(name: &str, commands: &[&str], code: i32, labels: &[&str]) -> RawDocumentBuf {
    let mut data = rawdoc! { "errorCode": code, "appName": name };
    let commands: RawArrayBuf = commands.iter().copied().collect();
    data.append(cstr!("failCommands"), commands);
    let labels: RawArrayBuf = labels.iter().copied().collect();
    data.append(cstr!("errorLabels"), labels);
    data
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_is_sent_again_once_and_nothing_else_is() {
    let control = shared_client().await;
    let (client, recorder) = heard("reads", "", None).await;
    let database = own_database(&client);
    let find = rawdoc! { "find": "things" };
    // HostUnreachable says nothing about the state that discovery keeps; 2 is BadValue.
    for (code, times, is_read, tries, is_ok) in [
        (6, 1, true, 2, true),
        (6, 2, true, 2, false),
        (6, 1, false, 1, false),
        (134, 1, true, 2, true),
        (2, 1, true, 1, false),
    ] {
        let before = recorder.sent("find").len();
        let data = failing("reads", &["find"], code, &[]);
        let fail_point = FailPoint::on(&control, Some(times), data).await;
        let command = database.run_command(&find);
        let command = if is_read { command.as_read() } else { command };
        let result = within(command).await;
        within(fail_point.off()).await.unwrap();
        assert_eq!(result.is_ok(), is_ok, "{code}: {result:?}");
        let sent = recorder.sent("find").split_off(before);
        assert_eq!(sent.len(), tries, "{code}");
        // The same session for each try.
        let lsid = |index: usize| sent[index].get_document("lsid").unwrap();
        assert_eq!(lsid(0), lsid(sent.len() - 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_lost_its_connection_is_sent_again_unless_told_not_to() {
    let control = shared_client().await;
    for (options, tries) in [("", 2), ("&retryReads=false", 1)] {
        let (client, recorder) = heard("lost", options, None).await;
        let database = own_database(&client);
        let find = rawdoc! { "find": "things" };
        let data = rawdoc! {
            "failCommands": ["find"], "closeConnection": true, "appName": "lost",
        };
        let fail_point = FailPoint::on(&control, Some(1), data).await;
        let result = within(database.run_command(&find).as_read()).await;
        within(fail_point.off()).await.unwrap();
        assert_eq!(result.is_ok(), tries == 2, "{result:?}");
        assert_eq!(recorder.sent("find").len(), tries);
    }
}

/// Retryable Reads, prose test 1: who waits for a connection of a pool that is cleared.
#[tokio::test(flavor = "multi_thread")]
async fn retryable_reads_prose_1_a_cleared_pool_is_a_reason_to_try_again() {
    let control = shared_client().await;
    let (client, recorder) = heard("cleared", "&maxPoolSize=1", None).await;
    let database = own_database(&client);
    within(database.run_command(&rawdoc! { "ping": 1 }))
        .await
        .unwrap();
    let data = rawdoc! {
        "failCommands": ["find"], "errorCode": 91, "blockConnection": true, "blockTimeMS": 1_000,
        "appName": "cleared",
    };
    let fail_point = FailPoint::on(&control, Some(1), data).await;
    let finds: Vec<_> = (0..2)
        .map(|_| {
            let database = database.clone();
            tokio::spawn(async move {
                let find = rawdoc! { "find": "things" };
                database.run_command(&find).as_read().await.map(drop)
            })
        })
        .collect();
    for find in finds {
        within(find).await.unwrap().unwrap();
    }
    within(fail_point.off()).await.unwrap();
    let pool = recorder.pool_events();
    assert!(recorder.check_out_failed_after_a_clear(), "{pool:?}");
    assert_eq!(recorder.sent("find").len(), 3);
}

/// Client Backpressure, prose test 1.
#[tokio::test(flavor = "multi_thread")]
async fn backpressure_prose_1_pauses_double_and_chance_shortens_them() {
    let control = shared_client().await;
    let mut took = Vec::new();
    for jitter in [0.0, 1.0] {
        let (client, recorder) = heard("pause", "", Some(jitter)).await;
        let database = own_database(&client);
        within(database.run_command(&rawdoc! { "ping": 1 }))
            .await
            .unwrap();
        let data = failing("pause", &["insert"], 2, &OVERLOAD);
        let fail_point = FailPoint::on(&control, None, data).await;
        let called = Instant::now();
        let insert = rawdoc! { "insert": "things", "documents": [{ "a": 1 }] };
        let error = within(database.run_command(&insert)).await.unwrap_err();
        took.push(called.elapsed());
        within(fail_point.off()).await.unwrap();
        assert!(
            OVERLOAD.iter().all(|label| error.has_label(label)),
            "{error}"
        );
        assert_eq!(recorder.sent("insert").len(), 3);
    }
    println!("without pauses {:?}, with them {:?}", took[0], took[1]);
    let pauses = Duration::from_millis(600);
    assert!(
        took[1] >= pauses && took[1] < took[0] + 2 * pauses,
        "{took:?}"
    );
}

/// Client Backpressure, prose tests 3 and 4, and the options that switch retries off.
#[tokio::test(flavor = "multi_thread")]
async fn backpressure_prose_3_and_4_an_overloaded_server_is_asked_a_bounded_number_of_times() {
    let control = shared_client().await;
    for (options, is_read, tries) in [
        ("", true, 3),
        ("&maxAdaptiveRetries=1", true, 2),
        ("&maxAdaptiveRetries=0", true, 1),
        ("&retryReads=false", true, 1),
        ("&retryWrites=false", true, 3),
        ("", false, 3),
        ("&retryWrites=false", false, 1),
        ("&retryReads=false", false, 1),
        ("&maxAdaptiveRetries=4", false, 5),
    ] {
        let (client, recorder) = heard("busy", options, Some(0.0)).await;
        let database = own_database(&client);
        let data = failing("busy", &["find"], 462, &OVERLOAD);
        let fail_point = FailPoint::on(&control, None, data).await;
        let find = rawdoc! { "find": "things" };
        let command = database.run_command(&find);
        let command = if is_read { command.as_read() } else { command };
        let error = within(command).await.unwrap_err();
        within(fail_point.off()).await.unwrap();
        assert!(
            OVERLOAD.iter().all(|label| error.has_label(label)),
            "{error}"
        );
        assert_eq!(recorder.sent("find").len(), tries, "{options} {is_read}");
    }
}

/// Prose test 5 needs a 9.0; a script does what it would do.
#[tokio::test(flavor = "multi_thread")]
async fn backpressure_prose_5_the_server_can_say_how_long_to_wait() {
    let server = ScriptedServer::start(|me| HelloScript::primary("rs0", me, &[me])).unwrap();
    server.always("insert", |_| {
        let mut reply = rawdoc! { "ok": 0.0, "code": 462, "errmsg": "busy", "baseBackoffMS": 50 };
        reply.append(
            cstr!("errorLabels"),
            OVERLOAD.into_iter().collect::<RawArrayBuf>(),
        );
        Answer::reply(reply)
    });
    let options = ClientOptions::parse(&server.uri()).unwrap().jitter(|| 1.0);
    let client = Client::with_options(options).unwrap();
    within(client.run_admin_command(&rawdoc! { "ping": 1 }))
        .await
        .unwrap();
    let insert = rawdoc! { "insert": "things", "documents": [{}] };
    let mut took = Vec::new();
    for _ in 0..3 {
        let called = Instant::now();
        within(client.database("d").run_command(&insert))
            .await
            .unwrap_err();
        took.push(called.elapsed());
    }
    // None is too early; that one takes longer may be the machine's fault.
    let quickest = took.iter().min().copied().unwrap();
    assert!(
        quickest >= Duration::from_millis(300) && quickest < Duration::from_millis(600),
        "{took:?}"
    );
}

/// Two routers of which one always fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_goes_to_another_router() {
    let routers: Vec<_> = (0..2)
        .map(|_| ScriptedServer::start(|_| HelloScript::mongos()).unwrap())
        .collect();
    routers[0].always("find", |_| Answer::error(6, "HostUnreachable", &[]));
    routers[1].always("find", |_| Answer::reply(batch::first(0, [])));
    // On a busy machine one may answer so much later that it would never be chosen.
    let uri = format!(
        "mongodb://{},{}/?localThresholdMS=60000",
        routers[0].address(),
        routers[1].address()
    );
    let client = Client::new(&uri).unwrap();
    let mut changes = client.topology_changes();
    let both = |client: &Client| {
        let topology = client.topology();
        topology.servers.of_type(ServerType::Mongos).count() == 2
    };
    while !both(&client) {
        within(changes.next()).await.unwrap();
    }
    let find = rawdoc! { "find": "things" };
    for _ in 0..20 {
        within(client.database("d").run_command(&find).as_read())
            .await
            .unwrap();
    }
    // Every second one met the bad router, and then the good one.
    assert!(!routers[0].received_named("find").is_empty());
    assert_eq!(routers[1].received_named("find").len(), 20);
}

/// A primary that is too busy, and a secondary that is not.
#[tokio::test(flavor = "multi_thread")]
async fn overload_goes_elsewhere_only_when_asked_to() {
    use mongo_client::uri::{ReadPreference, ReadPreferenceMode};
    for (options, to_secondary) in [("", 0), ("&enableOverloadRetargeting=true", 1)] {
        let primary = ScriptedServer::start(|me| HelloScript::primary("rs0", me, &[me])).unwrap();
        let secondary = ScriptedServer::start(|me| {
            HelloScript::secondary("rs0", me, &[me, &primary.address()])
        })
        .unwrap();
        let (first, second) = (primary.address(), secondary.address());
        primary.set_hello(HelloScript::primary("rs0", &first, &[&first, &second]));
        primary.always("find", |_| Answer::error(462, "Busy", &OVERLOAD));
        secondary.always("find", |_| Answer::ok());
        let uri = format!("mongodb://{first},{second}/?replicaSet=rs0{options}");
        let given = ClientOptions::parse(&uri).unwrap().jitter(|| 0.0);
        let client = Client::with_options(given).unwrap();
        let mut changes = client.topology_changes();
        while client
            .topology()
            .servers
            .of_type(ServerType::RsSecondary)
            .next()
            .is_none()
            || client.primary().is_none()
        {
            within(changes.next()).await.unwrap();
        }
        let preference = ReadPreference {
            mode: ReadPreferenceMode::PrimaryPreferred,
            ..ReadPreference::default()
        };
        let find = rawdoc! { "find": "things" };
        let result = within(
            client
                .database("d")
                .run_command(&find)
                .as_read()
                .read_preference(preference),
        )
        .await;
        assert_eq!(result.is_ok(), to_secondary == 1, "{result:?}");
        assert_eq!(secondary.received_named("find").len(), to_secondary);
    }
}

/// A state change inside the write concern error of a write that was done.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_change_in_a_write_concern_error_is_known_when_the_command_returns() {
    let server = ScriptedServer::start(|me| HelloScript::primary("rs0", me, &[me])).unwrap();
    server.always("insert", |_| {
        let error = rawdoc! { "code": 91, "codeName": "ShutdownInProgress", "errmsg": "bye" };
        Answer::reply(rawdoc! { "ok": 1.0, "n": 1, "writeConcernError": error })
    });
    let recorder = Recorder::default();
    let given = ClientOptions::parse(&server.uri())
        .unwrap()
        .on_event(recorder.listener());
    let client = Client::with_options(given).unwrap();
    let insert = rawdoc! { "insert": "things", "documents": [{}] };
    let reply = within(client.database("d").run_command(&insert))
        .await
        .unwrap();
    assert!(reply.write_concern_error().unwrap().is_some());
    let cleared = |event: &Event| {
        matches!(
            event,
            Event::Cmap {
                event: CmapEvent::PoolCleared { .. },
                ..
            }
        )
    };
    assert!(recorder.events().iter().any(cleared));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_first_try_met_is_told_when_there_is_too_little_time_for_another() {
    let slow = |me: &str| {
        let hello = rawdoc! {
            "ok": 1, "isWritablePrimary": true, "setName": "rs0", "hosts": [me], "me": me,
            "maxWireVersion": 17, "logicalSessionTimeoutMinutes": 30,
        };
        Answer::silence()
            .then_wait(Duration::from_millis(400))
            .then_reply(hello)
    };
    let server = ScriptedServer::start(|me| HelloScript::primary("rs0", me, &[me])).unwrap();
    let address = server.address();
    for hello in ["hello", "isMaster"] {
        let address = address.clone();
        server.always(hello, move |_| slow(&address));
    }
    let uri = format!("{}?heartbeatFrequencyMS=500", server.uri());
    let client = Client::new(&uri).unwrap();
    let mut changes = client.topology_changes();
    let fastest = |client: &Client| {
        let topology = client.topology();
        let server = topology.servers.iter().next().unwrap();
        server.round_trip().minimum
    };
    while fastest(&client) < Duration::from_millis(400) {
        within(changes.next()).await.unwrap();
    }
    within(client.run_admin_command(&rawdoc! { "ping": 1 }))
        .await
        .unwrap();
    server.always("find", |_| {
        let error = rawdoc! { "ok": 0, "code": 6, "errmsg": "unreachable" };
        Answer::silence()
            .then_wait(Duration::from_millis(500))
            .then_reply(error)
    });
    let find = rawdoc! { "find": "things" };
    let database = client.database("d");
    for is_read in [true, false] {
        let find = database
            .run_command(&find)
            .timeout(Duration::from_millis(850));
        let find = if is_read {
            find.as_read()
        } else {
            find.as_write()
        };
        let error = within(find).await.unwrap_err();
        assert!(error.is_operation_timeout() || !is_read, "{error}");
        assert_eq!(error.code(), Some(6), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_first_try_met_is_told_when_no_server_is_left_for_another() {
    let server = ScriptedServer::start(|me| HelloScript::primary("rs0", me, &[me])).unwrap();
    let uri = format!("{}?serverSelectionTimeoutMS=2000", server.uri());
    let client = Client::new(&uri).unwrap();
    within(client.run_admin_command(&rawdoc! { "ping": 1 }))
        .await
        .unwrap();
    server.always("find", |_| {
        Answer::error(11_600, "InterruptedAtShutdown", &[])
    });
    server.always("hello", |_| Answer::silence().then_close());
    server.always("isMaster", |_| Answer::silence().then_close());
    let find = rawdoc! { "find": "things" };
    let error = within(client.database("d").run_command(&find).as_read())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Server { .. }), "{error}");
    assert_eq!(error.code(), Some(11_600));
}
